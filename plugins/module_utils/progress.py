# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What long work says of itself while it is under way, where somebody listens: a line every few seconds.

Whoever works tells how far it is as often as it likes. A module as a process of its own cannot speak before it ends, so nobody listens there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

EVERY = 5.0
"""Seconds between two lines, and before the first."""


@dataclass
class _Listener:
    say: Callable[[str], None]
    began: float
    last: float
    lock: threading.Lock = field(default_factory=threading.Lock)


_listener: _Listener | None = None  # of the one call that this process is working at


@contextmanager
def heard(say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Within it, `say` is given the lines."""
    global _listener
    now = clock()
    _listener = _Listener(say, now, now)
    try:
        yield
    finally:
        _listener = None


def tell(what: str, done: int | None = None, total: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
    """`Secrets written` and how many of how many, or `attempt 7 at shop.example.com`. From any thread."""
    listener = _listener
    if listener is None:
        return
    with listener.lock:
        now = clock()
        if now - listener.last < EVERY:
            return
        listener.last = now
    count = "" if done is None else f": {done}" if total is None else f": {done} of {total}"
    listener.say(f"{what}{count}, after {now - listener.began:.0f} s")
