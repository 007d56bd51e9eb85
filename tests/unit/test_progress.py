# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines every few seconds, and only where somebody listens."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from ansible_collections.meshops.istio.plugins.module_utils import progress
from ansible_collections.meshops.istio.plugins.module_utils.progress import heard, tell


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said(clock: Clock) -> Iterator[list[str]]:
    lines: list[str] = []
    with heard(lines.append, clock):
        yield lines


def test_a_short_call_says_nothing(said: list[str], clock: Clock) -> None:
    for number in range(100):
        clock.now += 0.04
        tell("objects written", number, 100, clock)
    assert said == []


def test_a_long_one_says_every_few_seconds_how_far_it_is(said: list[str], clock: Clock) -> None:
    for number in range(1, 101):
        clock.now += 0.2
        tell("objects written", number, 100, clock)
    assert [line.partition(",")[0] for line in said] == [f"objects written: {number} of 100" for number in (25, 50, 75, 100)]
    assert said[0] == "objects written: 25 of 100, after 5 s"


def test_what_has_no_number_and_what_has_no_end(said: list[str], clock: Clock) -> None:
    clock.now += progress.EVERY
    tell("rollout of Deployment a/b (1 of 2 pods)", clock=clock)
    clock.now += progress.EVERY
    tell("attempts at shop.example.com", 7, clock=clock)
    assert said == ["rollout of Deployment a/b (1 of 2 pods), after 5 s", "attempts at shop.example.com: 7, after 10 s"]


def test_threads_that_tell_at_once_make_one_line(said: list[str], clock: Clock) -> None:
    clock.now += progress.EVERY
    threads = [threading.Thread(target=tell, args=("objects written", number, 8, clock)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 1


def test_nobody_is_spoken_to_before_and_after(clock: Clock) -> None:
    lines: list[str] = []
    clock.now += 60
    tell("before", clock=clock)
    with pytest.raises(ZeroDivisionError), heard(lines.append, clock):
        raise ZeroDivisionError
    clock.now += 60
    tell("after", clock=clock)
    assert lines == []
