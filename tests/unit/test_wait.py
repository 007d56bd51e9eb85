# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.wait import growing, until


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("answers", "timeout", "good", "attempts", "seconds"),
    [
        ([True], 0, True, 1, 0),
        ([False], 0, False, 1, 0),
        ([False, False, True], 10, True, 3, 4),
        ([False] * 9, 6, False, 3, 4),  # a fourth would begin at the very end
        ([False] * 9, 7, False, 4, 6),
        ([None, None, True], 0, True, 3, 4),  # half good: another one follows, whatever the time
        ([None, False], 0, False, 2, 2),
    ],
)
def test_attempts_until_one_is_good_or_the_time_is_over(
    answers: list[bool | None], timeout: float, good: bool, attempts: int, seconds: float
) -> None:
    time, said = Time(), list[bool | None]()
    coming: Iterator[bool | None] = iter(answers)

    def attempt() -> bool | None:
        said.append(next(coming))
        return said[-1]

    assert until(attempt, timeout=timeout, delay=2, clock=time.clock, sleep=time.sleep) is good
    assert (len(said), time.now) == (attempts, seconds)


def test_pauses_grow_and_the_time_is_kept() -> None:
    time, begun = Time(), list[float]()

    def attempt() -> bool:
        begun.append(time.now)
        return False

    assert not until(attempt, timeout=15, delay=growing(1, 4), clock=time.clock, sleep=time.sleep)
    assert begun == [0, 1, 3, 7, 11]  # the next one would begin at the very end


def test_what_an_attempt_raises_ends_the_waiting() -> None:
    def attempt() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        until(attempt, timeout=10, delay=1)
