# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs beside the sandbox is started once, replaced when it should be, and told beforehand."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.sandbox import extra, layout, lifecycle, processes
from ansible_collections.meshops.istio.sandbox.progress import Failure

LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    records = tmp_path / "run" / "processes"
    for module, names in ((processes, ("STATE", "RUN", "LOGS", "RECORDS")), (extra, ("RECORDS",)), (layout, ("STATE",))):
        for name in names:
            place = {"STATE": tmp_path, "RUN": tmp_path / "run", "LOGS": tmp_path / "logs", "RECORDS": records}[name]
            monkeypatch.setattr(module, name, place)
    monkeypatch.setattr(lifecycle, "locked", contextlib.nullcontext)
    monkeypatch.setattr(lifecycle, "require_running", lambda: None)
    yield tmp_path
    processes.stop(processes.records(), grace=0)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def run(port: int, *reads: Path, check: bool = False, more: str = "") -> str:
    argv = [sys.executable, "-S", "-c", LISTEN + more, str(port)]
    return extra.run("partner", argv, [f"127.0.0.1:{port}"], [str(path) for path in reads], check=check)


def test_an_equal_one_is_left_alone_and_another_replaces_it(state: Path, port: int) -> None:
    assert run(port, check=True) == "started"
    assert processes.records() == []
    assert run(port) == "started"
    [first] = processes.records()
    assert run(port, check=True) == run(port) == "unchanged"
    assert processes.records() == [first]
    assert run(port, more="; 1", check=True) == "replaced"
    assert processes.records() == [first]
    assert run(port, more="; 1") == "replaced"
    assert not processes.is_alive(first)


def test_it_is_started_anew_when_a_file_was_written_since(state: Path, port: int) -> None:
    certificate = state / "tls.crt"
    certificate.write_text("first")
    past = time.time() - 60
    os.utime(certificate, (past, past))
    assert run(port, certificate) == "started"
    assert run(port, certificate) == "unchanged"
    certificate.write_text("second")
    assert run(port, certificate, check=True) == "replaced"
    assert run(port, certificate) == "replaced"
    with pytest.raises(Failure, match=r"expected to read .*none\.crt, which is no file"):
        run(port, state / "none.crt")


def test_it_is_stopped_once(state: Path, port: int) -> None:
    run(port)
    [record] = processes.records()
    assert extra.stop_named("partner", check=True) == "stopped"
    assert processes.is_alive(record)
    assert extra.stop_named("partner") == "stopped"
    assert not processes.is_alive(record)
    assert extra.stop_named("partner") == "unchanged"
    with pytest.raises(Failure, match="etcd is a part of the sandbox"):
        extra.stop_named("etcd")
