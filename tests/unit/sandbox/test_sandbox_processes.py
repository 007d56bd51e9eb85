# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of the sandbox: real ones, small."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.sandbox import processes
from ansible_collections.meshops.istio.sandbox.processes import Component, Record
from ansible_collections.meshops.istio.sandbox.progress import Failure

SLEEP = "import time; time.sleep(60)"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(processes, "STATE", tmp_path)
    monkeypatch.setattr(processes, "RUN", tmp_path / "run")
    monkeypatch.setattr(processes, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(processes, "RECORDS", tmp_path / "run" / "processes")
    yield tmp_path
    processes.stop(processes.records(), grace=0)
    processes.stop_strays()


def start(name: str, script: str, directory: Path) -> Record:
    return processes.start(Component(name, [sys.executable, "-S", "-c", script], directory=directory))


def gone(pid: int) -> bool:
    return processes.identity(pid) is None


def test_a_dead_component_is_reported_with_the_end_of_its_log(state: Path) -> None:
    record = start("istiod", "print('\\n'.join(f'line {n}' for n in range(40)), flush=True); raise SystemExit('no certificate')", state)
    with pytest.raises(Failure) as caught:
        processes.wait_for("istiod to be ready", lambda: False, [record], seconds=10)
    told = str(caught.value)
    assert "while waiting for istiod to be ready: istiod (pid " in told
    assert "no certificate" in told
    assert "line 39" in told
    assert "line 3\n" not in told


def test_what_never_comes_about_is_reported_with_the_end_of_the_log(state: Path) -> None:
    record = start("istiod", f"print('still waiting', flush=True); {SLEEP}", state)
    while "still waiting" not in processes.last_lines(state / "logs" / "istiod.log"):
        time.sleep(0.01)
    processes_log = f"The last lines of {state / 'logs' / 'istiod.log'}"
    with pytest.raises(Failure, match="did not come about within 0 s") as caught:
        processes.wait_for("istiod to be ready", lambda: False, [record], seconds=0.1)
    assert "still waiting" in str(caught.value)
    assert processes_log in str(caught.value)


def test_stop_ends_children_too_even_when_their_parent_is_dead(state: Path) -> None:
    forking = f"import os; child = os.fork(); open('child', 'w').write(str(os.getpid())) if not child else None; {SLEEP}"
    record = start("client", forking, state)
    while not (state / "child").is_file() or not (state / "child").read_text():
        time.sleep(0.01)
    child = int((state / "child").read_text())
    os.kill(record.pid, signal.SIGKILL)
    while not gone(record.pid):
        time.sleep(0.01)
    assert not gone(child)
    processes.stop([record])
    assert gone(child)
    assert processes.records() == []


def test_what_ignores_the_polite_signal_is_killed(state: Path) -> None:
    script = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('deaf', 'w').write('x'); {SLEEP}"
    record = start("etcd", script, state)
    while not (state / "deaf").is_file():
        time.sleep(0.01)
    processes.stop([record], grace=0.1)
    assert gone(record.pid)


def test_a_process_with_a_recycled_number_is_left_alone(state: Path) -> None:
    record = start("etcd", SLEEP, state)
    boot, __, ticks = record.started.rpartition(":")
    path = state / "run" / "processes" / "etcd.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"started": f"{boot}:{int(ticks) - 1}"}))
    (stale,) = processes.records()
    assert not processes.is_alive(stale)
    processes.stop([stale])
    assert processes.is_alive(record)
    # it carries the sandbox's mark, so that it is found all the same
    assert processes.strays() == [record.pid]
    assert processes.stop_strays() == 1
    assert gone(record.pid)


def test_records_survive_and_a_torn_one_does_no_harm(state: Path) -> None:
    first, second = start("etcd", SLEEP, state), start("kube-apiserver", SLEEP, state)
    assert processes.records() == [first, second]
    (state / "run" / "processes" / "istiod.json").write_text('{"name": "ist')
    assert processes.records() == [first, second]


def test_a_program_that_is_not_there_is_named(state: Path) -> None:
    with pytest.raises(Failure, match="pilot: /nonexistent/pilot is not there"):
        processes.start(Component("pilot", ["/nonexistent/pilot"], directory=state))


def test_logs_are_appended_to(state: Path) -> None:
    """Envoy opens the same file once more, through /dev/stdout."""
    start("client", "print('first', flush=True); open('/dev/stdout', 'a').write('second\\n'); print('third')", state)
    log = state / "logs" / "client.log"
    while "third" not in log.read_text():
        time.sleep(0.01)
    assert log.read_text() == "first\nsecond\nthird\n"
