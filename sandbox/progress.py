# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people see while they wait, and how a failure is told."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


class Failure(Exception):
    """Something that the user must know about and can do something about; shown as it stands, without a traceback."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Clock:
    """One line per step with the seconds since the start."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def elapsed(self) -> float:
        return time.monotonic() - self.start

    def lap(self, text: str) -> None:
        say(f"{self.elapsed():6.1f} s  {text}")


class Ticker:
    """A line that is rewritten on a terminal; elsewhere a new line every ten seconds."""

    def __init__(self, every: float = 10.0) -> None:
        self.terminal = sys.stderr.isatty()
        self.every = 0.2 if self.terminal else every
        self.last = time.monotonic() - self.every
        self.shown = False

    def tell(self, line: Callable[[], str]) -> None:
        now = time.monotonic()
        if now - self.last < self.every:
            return
        self.last = now
        self.shown = True
        if self.terminal:
            print(f"\r\033[K{line()[:150]}", end="", file=sys.stderr, flush=True)
        else:
            say(line())

    def close(self) -> None:
        if self.terminal and self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
