# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to wait for something: attempts with a pause between them, until one is good or the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(
    attempt: Callable[[], bool | None],
    *,
    timeout: float,
    delay: float | Callable[[], float],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Makes attempts until one answers True, which is the answer; False where the time is over.

    `timeout` and `delay`, or what it returns after each attempt, are seconds. At least one attempt is made, and none begins later than `timeout`
    after the first; but one that answers None is followed by another whatever the time: it is half good, and the next one decides.
    """
    started = clock()
    while True:
        good = attempt()
        pause = delay() if callable(delay) else delay
        if good or (good is False and clock() - started + pause >= timeout):
            return bool(good)
        sleep(pause)


def growing(first: float, most: float) -> Callable[[], float]:
    """Pauses, each twice as long as the one before, up to `most` seconds: for what mostly comes at once."""
    following = first

    def pause() -> float:
        nonlocal following
        now, following = following, min(2 * following, most)
        return now

    return pause
