# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of those who hold a port that the sandbox needs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.sandbox import ports
from ansible_collections.meshops.istio.sandbox.progress import Failure


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("0100007F:1F90", ("127.0.0.1", 8080)),
        ("0B00007F:01BB", ("127.0.0.11", 443)),
        ("00000000:0050", ("0.0.0.0", 80)),  # noqa: S104
        ("00000000000000000000000001000000:0016", ("::1", 22)),
        ("0000000000000000FFFF00000100007F:0016", ("127.0.0.1", 22)),
    ],
)
def test_addresses_are_read_as_the_kernel_writes_them(written: str, meant: tuple[str, int]) -> None:
    assert ports.decode_address(written) == meant


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_a_held_port_is_named_with_its_holder(address: str) -> None:
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Failure) as caught:
            ports.require_free([(("127.0.0.1", port), "the client's sidecar"), (("127.0.0.1", port), "httpbin")])
    told = str(caught.value)
    assert f"{address}:{port} is held by pid {os.getpid()}: " in told
    assert Path(sys.argv[0]).name in told or "python" in told
    assert "needed for: the client's sidecar, httpbin" in told


def test_another_process_is_named_with_its_command() -> None:
    script = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script, "canary"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        port = int(other.stdout.readline())
        (told,) = ports.holders(("127.0.0.1", port))
        other.communicate()
    assert told.startswith(f"127.0.0.1:{port} is held by pid {other.pid}: ")
    assert sys.executable in told


def test_free_ports_are_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        # another address of the loopback is another place
        ports.require_free([(("127.0.0.99", port), "something else")])
    ports.require_free([(("127.0.0.1", port), "something")])


def test_a_privileged_port_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ports.socket, "socket", Refusing)
    told = ports.trouble_with(("127.0.0.11", 443))
    assert told is not None
    assert "run as root" in told
    assert "net.ipv4.ip_unprivileged_port_start=80" in told
