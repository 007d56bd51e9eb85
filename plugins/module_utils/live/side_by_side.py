# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs that mostly wait, in threads of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from ..progress import tell

T = TypeVar("T")

_LISTEN_SECONDS = 0.2  # a signal may interrupt another thread than this one, which then hears of it when it wakes up

Sleep = Callable[[float], None]


class Halted(Exception):
    """The caller was stopped, and so is the job."""


def side_by_side(jobs: Sequence[Callable[[Sleep], T]], at_most: int) -> list[T | Exception]:
    """What each job returned or raised, in the order of the jobs. Each is given a function to wait with, which ends it when the caller is
    stopped (by a signal, for example).

    The threads do not keep the process from ending: a job that is in the middle of a request ends with its time-out, or with the process.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[int, T | Exception]] = queue.SimpleQueue()
    halt = threading.Event()
    for number in range(len(jobs)):
        waiting.put(number)

    def sleep(seconds: float) -> None:
        if halt.wait(seconds):
            raise Halted

    def work() -> None:
        while not halt.is_set():
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                ended.put((number, jobs[number](sleep)))
            except Exception as error:  # the caller judges it
                ended.put((number, error))

    found: dict[int, T | Exception] = {}
    try:
        for __ in range(min(at_most, len(jobs))):
            threading.Thread(target=work, daemon=True).start()
        while len(found) < len(jobs):
            try:
                number, outcome = ended.get(timeout=_LISTEN_SECONDS)
            except queue.Empty:
                continue
            found[number] = outcome
            tell("probes made", len(found), len(jobs))
    finally:
        halt.set()
    return [found[number] for number in range(len(jobs))]
