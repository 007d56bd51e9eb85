# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Long-running processes: started in a session of their own, recorded, found again, stopped, and reported when they die.

A process is recognised by its id together with the time at which it started (and the boot), never by its id alone. Whatever carries our mark
in its environment is found too, so that a sandbox whose records are lost is still cleaned up.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .layout import LOGS, RUN, STATE
from .progress import Failure

RECORDS = RUN / "processes"
MARK = "MESHOPS_SANDBOX"
GRACE = 8.0
"""Seconds between SIGTERM and SIGKILL."""


@dataclass(frozen=True)
class Component:
    """Something to run."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path = RUN
    ports: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Record:
    """Something that was started."""

    name: str
    pid: int
    started: str
    """Identifies the process together with `pid`: the boot and the start time in ticks."""
    command: tuple[str, ...]
    ports: tuple[tuple[str, int], ...] = ()

    @property
    def log(self) -> Path:
        return LOGS / f"{self.name}.log"


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command's name: state, parent, group, session, ...; None when gone or a zombie.

    A zombie whose threads still end holds its ports yet, so it counts as alive.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" and int(fields[17]) <= 1 else fields


def identity(pid: int) -> str | None:
    fields = stat(pid)
    return f"{boot()}:{fields[19]}" if fields else None


def is_alive(record: Record) -> bool:
    return identity(record.pid) == record.started


def start(component: Component) -> Record:
    """Runs it with its output appended to its log; it outlives us."""
    LOGS.mkdir(parents=True, exist_ok=True)
    RECORDS.mkdir(parents=True, exist_ok=True)
    component.directory.mkdir(parents=True, exist_ok=True)
    program = shutil.which(component.command[0])
    if program is None:
        raise Failure(f"{component.name}: {component.command[0]} is not there, or is no program")
    # appended to, because Envoy opens the same file once more through /dev/stdout
    with (LOGS / f"{component.name}.log").open("ab") as log:
        process = subprocess.Popen(
            [str(Path(program).absolute()), *component.command[1:]],
            cwd=component.directory,
            env={**os.environ, "TMPDIR": str(RUN / "tmp"), **component.environment, MARK: str(STATE)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = identity(process.pid) or f"{boot()}:0"
    record = Record(component.name, process.pid, started, tuple(component.command), tuple(component.ports))
    (RECORDS / f"{record.name}.json").write_text(json.dumps(asdict(record)))
    process.returncode = 0  # it is not ours to wait for: it goes on after we end
    return record


def records() -> list[Record]:
    """All that was started and not stopped, in the order of the start."""
    found = []
    for path in sorted(RECORDS.glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
        try:
            data = json.loads(path.read_text())
            ports = tuple((host, port) for host, port in data["ports"])
            found.append(Record(data["name"], data["pid"], data["started"], tuple(data["command"]), ports))
        except (ValueError, KeyError, TypeError):
            path.unlink()  # half written: its process is still found by its mark
    return found


def last_lines(log: Path, count: int = 15) -> str:
    try:
        with log.open("rb") as opened:
            opened.seek(max(0, log.stat().st_size - 16384))
            lines = opened.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return "    (no log)"
    return "\n".join(f"    {line[:300]}" for line in lines) or "    (its log is empty)"


def obituary(record: Record) -> str:
    return f"{record.name} (pid {record.pid}) is not running any more. The last lines of {record.log}:\n{last_lines(record.log)}"


def wait_for(what: str, check: Callable[[], bool], needs: Iterable[Record] = (), seconds: float = 60.0) -> None:
    """Until `check` holds; fails early when a process that it needs has died, and tells the end of its log."""
    needs = list(needs)
    deadline = time.monotonic() + seconds
    while not check():
        for record in needs:
            if not is_alive(record):
                raise Failure(f"while waiting for {what}: {obituary(record)}")
        if time.monotonic() > deadline:
            tails = "\n".join(f"The last lines of {record.log}:\n{last_lines(record.log)}" for record in needs)
            raise Failure(f"{what} did not come about within {seconds:.0f} s. {tails}")
        time.sleep(0.05)


def _everyone() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _is_marked(pid: int) -> bool:
    try:
        return f"{MARK}={STATE}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _family(record: Record) -> list[int]:
    """The process and its children: all in its session. The number of a session is not given away while a member lives, so with the
    leader gone its members are those that started after it; with somebody else under the leader's number there are none."""
    now = identity(record.pid)
    if now not in (None, record.started) or not record.started.startswith(boot()):
        return []
    ticks = int(record.started.rpartition(":")[2])
    members = []
    for pid in _everyone():
        fields = stat(pid)
        if fields and int(fields[3]) == record.pid and int(fields[19]) >= ticks:
            members.append(pid)
    return members


def strays() -> list[int]:
    """Processes of this sandbox that no record knows."""
    known = {pid for record in records() for pid in _family(record)}
    return [pid for pid in _everyone() if pid not in known and stat(pid) and _is_marked(pid)]


def _signal(pid: int, started: str, number: int) -> None:
    """The process behind the handle cannot change between the look at it and the signal."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if identity(pid) == started:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def end(pids: Iterable[int], grace: float) -> None:
    alive = {pid: started for pid in pids if (started := identity(pid))}
    for pid, started in alive.items():
        _signal(pid, started, signal.SIGTERM)
    deadline = time.monotonic() + grace
    killed = False
    while alive := {pid: started for pid, started in alive.items() if identity(pid) == started}:
        if time.monotonic() > deadline:
            if killed:
                raise Failure(f"these processes do not end, not even after SIGKILL: {sorted(alive)}")
            for pid, started in alive.items():
                _signal(pid, started, signal.SIGKILL)
            killed, deadline = True, time.monotonic() + 10
        time.sleep(0.02)


def stop(stopped: Sequence[Record], grace: float = GRACE) -> None:
    """All of them at once, with their children."""
    end([pid for record in stopped for pid in _family(record)], grace)
    # children that were being started meanwhile
    end([pid for record in stopped for pid in _family(record)], 0)
    for record in stopped:
        (RECORDS / f"{record.name}.json").unlink(missing_ok=True)


def stop_strays() -> int:
    found = strays()
    end(found, 3)
    return len(found)
