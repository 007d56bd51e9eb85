# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When renewals may happen: windows that recur every week, and freezes from one moment to another. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_STEPS = 1000
"""So many freezes and windows are gone through before a calendar counts as never open."""


@dataclass(frozen=True)
class Window:
    """Every week, on some days, from one time of day to another; one that ends before it begins passes midnight."""

    days: frozenset[int]
    """Monday is 0."""
    start: time
    end: time
    zone: tzinfo

    def around(self, moment: datetime, days: int) -> Iterator[tuple[datetime, datetime]]:
        """(beginning, end) in UTC of those that begin from the day before `moment` until so many days after it."""
        first = moment.astimezone(self.zone).date() - timedelta(days=1)
        for offset in range(days + 2):
            day = first + timedelta(days=offset)
            if day.weekday() in self.days:
                last = day if self.start < self.end else day + timedelta(days=1)
                yield self._at(day, self.start), self._at(last, self.end)

    def _at(self, day: date, clock: time) -> datetime:
        return datetime.combine(day, clock, self.zone).astimezone(UTC)


@dataclass(frozen=True)
class Freeze:
    """Nothing is renewed from `start` until `end` (aware)."""

    start: datetime
    end: datetime
    reason: str = ""

    def __str__(self) -> str:
        return f"renewals are frozen until {self.end.astimezone(UTC):%Y-%m-%d %H:%M} UTC{f' ({self.reason})' if self.reason else ''}"


@dataclass(frozen=True)
class Calendar:
    """Without windows, all the time but the freezes."""

    windows: Sequence[Window] = ()
    freezes: Sequence[Freeze] = ()

    def closed(self, moment: datetime) -> str:
        """What keeps renewals from happening at a moment, as a clause; empty where nothing does."""
        freeze = self._freeze(moment)
        if freeze:
            return str(freeze)
        return "" if not self.windows or self._in_window(moment) else "no renewal window is open"

    def opens(self, moment: datetime) -> datetime | None:
        """The first moment from `moment` on at which renewals may happen; None where there seems to be none."""
        for __ in range(_STEPS):
            freeze = self._freeze(moment)
            if freeze:
                moment = freeze.end
            elif not self.windows or self._in_window(moment):
                return moment
            else:
                coming = [start for window in self.windows for start, __ in window.around(moment, 8) if start > moment]
                if not coming:
                    return None
                moment = min(coming)
        return None

    def _freeze(self, moment: datetime) -> Freeze | None:
        return next((freeze for freeze in self.freezes if freeze.start <= moment < freeze.end), None)

    def _in_window(self, moment: datetime) -> bool:
        return any(start <= moment < end for window in self.windows for start, end in window.around(moment, 0))
