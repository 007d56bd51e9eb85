# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that only OpenSSL needs to read lie in no directory, and in no file that stays open."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.memory_file import unnamed_file
from ansible_collections.meshops.istio.tests.unit.live.servers import Pki, listening

HAS_MEMFD = hasattr(os, "memfd_create")


def descriptors() -> set[str]:
    return set(os.listdir("/dev/fd"))  # noqa: PTH208 - the names alone


@pytest.mark.parametrize("memfd", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_the_file_is_gone_afterwards(memfd: bool, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif not HAS_MEMFD:
        pytest.skip("this system has no memory files")
    before = descriptors()
    try:
        with unnamed_file(b"content") as path:
            assert Path(path).read_bytes() == b"content" and not os.get_inheritable(int(path.rpartition("/")[2]))
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert descriptors() == before


def test_more_than_a_pipe_holds_is_refused_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    before = descriptors()
    with pytest.raises(ValueError, match="too long"), unnamed_file(bytes(10_000_000)):
        pass
    assert descriptors() == before


def test_what_cannot_be_written_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    before = descriptors()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"), unnamed_file(b"content"):
        pass
    assert descriptors() == before


ASK = """
import json, sys
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import connect
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import SECRET
connect({"kubeconfig": json.load(sys.stdin)}).get(SECRET, "n", "a")
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at open files as Linux shows them")
def test_a_client_key_is_in_no_file_of_a_process_that_is_killed(tmp_path: Path) -> None:
    """While the API server hangs: what a killed process leaves is what lies in directories then, and what it holds open is seen in /proc."""
    pki = Pki()
    user = {
        "client-certificate-data": base64.b64encode(pki.server.pem).decode(),
        "client-key-data": base64.b64encode(pki.server.key()).decode(),
    }
    with listening(lambda connection: (arrived.append(connection.recv(1)), connection.recv(1 << 20), connection.recv(1))) as server:
        arrived: list[bytes] = []
        config = {
            "clusters": [
                {
                    "name": "a",
                    "cluster": {
                        "server": f"https://127.0.0.1:{server.port}",
                        "certificate-authority-data": base64.b64encode(pki.root.pem).decode(),
                    },
                }
            ],
            "users": [{"name": "a", "user": user}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "current-context": "a",
        }
        environment = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
        process = subprocess.Popen(
            [sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        )
        try:
            assert process.stdin
            process.stdin.write(json.dumps(config).encode())
            process.stdin.close()
            while not arrived:
                assert process.poll() is None
                time.sleep(0.02)
            opened = [str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
        finally:
            process.kill()
            process.wait(30)
    assert any(name.startswith("socket:") for name in opened), "it was asking"
    assert [name for name in opened if "memfd:" in name or name.endswith("(deleted)")] == []
    assert list(tmp_path.rglob("*")) == []
