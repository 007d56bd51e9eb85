# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Python process that imports once what a program needs, and forks for every run of it: to start Python and to import takes a second."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FORK = r"""
import gc, json, os, signal, sys


def supervise(order):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        for number, name in (1, "output"), (2, "errors"):
            os.dup2(os.open(order["place"] + "." + name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        return run(order)
    print(pid, flush=True)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(order["place"] + ".tmp", "w") as file:
        file.write(str(code))
    os.rename(order["place"] + ".tmp", order["place"] + ".code")
    os._exit(0)


gc.freeze()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while line := sys.stdin.readline():
    if not os.fork():
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        supervise(json.loads(line))
        break
"""


class Forker:
    """`program` is Python's source: it imports, and defines `run(order)`, which each run calls in a process of its own."""

    def __init__(self, python: str | Path, program: str, environment: Mapping[str, str], directory: Path | None = None) -> None:
        self._process = subprocess.Popen(
            [str(python), "-c", program + _FORK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=directory,
            text=True,
            start_new_session=True,
        )
        self._directory = tempfile.TemporaryDirectory(prefix="meshops-tests-")
        atexit.register(self.stop)

    def stop(self) -> None:
        """It ends when nothing more is asked of it, and removes what it has made: Ansible has a directory for temporary files."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._directory.cleanup()

    def start(self, **order: Any) -> Forked:
        place = Path(self._directory.name) / os.urandom(8).hex()
        asked, answers = self._process.stdin, self._process.stdout
        assert asked and answers
        asked.write(json.dumps({**order, "place": str(place)}) + "\n")
        asked.flush()
        return Forked(int(answers.readline()), place)


class Forked:
    """A run under way."""

    def __init__(self, pid: int, place: Path) -> None:
        self._pid = pid
        self._place = place

    @property
    def has_ended(self) -> bool:
        return self._place.with_suffix(".code").exists()

    @property
    def output(self) -> str:
        """What it has printed so far, and its errors after that."""
        files = (self._place.with_suffix(suffix) for suffix in (".output", ".errors"))
        return "".join(file.read_text() for file in files if file.exists())

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def wait(self, seconds: float = 120.0) -> int:
        deadline = time.monotonic() + seconds
        while not self.has_ended:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                raise AssertionError(f"it did not end within {seconds:.0f} s: {self.output}")
            time.sleep(0.01)
        return int(self._place.with_suffix(".code").read_text())
