# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.live.side_by_side import Halted, side_by_side


def test_results_and_errors_are_in_the_order_of_the_jobs() -> None:
    gate = threading.Event()

    def first(sleep: Callable[[float], None]) -> str:
        gate.wait(10)
        return "first"

    def second(sleep: Callable[[float], None]) -> str:
        gate.set()  # ends before the first one
        raise ValueError("second")

    found = side_by_side([first, second, lambda sleep: "third"], 2)
    assert (found[0], found[2]) == ("first", "third")
    assert isinstance(found[1], ValueError)
    assert side_by_side([], 5) == []


def test_no_more_jobs_than_allowed_are_at_work_and_as_many_as_allowed_are() -> None:
    lock, at_work, most = threading.Lock(), 0, 0
    together = threading.Barrier(3)

    def job(sleep: Callable[[float], None]) -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        together.wait(10)  # breaks, and fails the job, unless three are at work at once
        with lock:
            at_work -= 1

    assert side_by_side([job] * 9, 3) == [None] * 9
    assert most == 3


def test_a_signal_ends_the_jobs_that_wait() -> None:
    ended: list[type[BaseException]] = []
    waiting, over = threading.Semaphore(0), threading.Event()

    class Stop(BaseException):
        pass

    def stop(number: int, frame: Any) -> None:
        raise Stop

    def job(sleep: Callable[[float], None]) -> None:
        waiting.release()
        try:
            sleep(1000)
        except Halted as halted:
            ended.append(type(halted))
            if len(ended) == 2:
                over.set()
            raise

    def interrupt() -> None:
        waiting.acquire()
        waiting.acquire()
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(Stop):
            side_by_side([job] * 9, 2)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert over.wait(10)
    assert ended == [Halted] * 2, "a job began after the signal"
