# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a credential is due for renewal, why, and when it will be. Pure.

The moment is computed from the certificate that is served and from the credential's name alone, so that every run, wherever it runs, comes to the same
one, and of a thousand certificates that were issued on one day not all are due on one day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from ..tls.facts import rfc3339
from ..tls.names import address, normalise, pattern_covers
from .calendar import Calendar

Span: TypeAlias = "timedelta | float"
"""A time, or a share of the certificate's lifetime: 0.33 is a third."""
Outcome = Literal["due", "not_due", "deferred", "waiting", "failed"]
FALLBACK = 1 / 3
"""The share of its lifetime at which a certificate is renewed that does not live as long as `min_remaining`."""


@dataclass(frozen=True)
class Policy:
    """When a credential is to be renewed."""

    min_remaining: Span = FALLBACK
    spread: Span = 0.0
    """How much earlier it may be renewed; how much of it a credential takes follows from its name."""
    emergency_remaining: Span = 0.0
    """With less than this left it is renewed whatever the calendar says."""
    calendar: Calendar = field(default_factory=Calendar)


@dataclass(frozen=True)
class Advice:
    """The CA's renewal information (RFC 9773): the time in which it wants the certificate renewed."""

    start: datetime
    end: datetime
    explanation: str = ""
    """URL of a page for people."""


@dataclass(frozen=True)
class Served:
    """The certificate in a credential's Secret."""

    not_before: datetime
    not_after: datetime
    names: tuple[str, ...] = ()
    """Its subject alternative names, as text."""
    fingerprint: str = ""

    @property
    def lifetime(self) -> timedelta:
        return self.not_after - self.not_before


@dataclass(frozen=True)
class Offer:
    """What lies ready in files."""

    not_before: datetime
    not_after: datetime
    fingerprint: str


@dataclass(frozen=True)
class Decision:
    outcome: Outcome
    """`deferred`: due, and the calendar is closed; `waiting`: due, and nothing newer is offered; `failed`: the same, and little time is left."""
    reason: str
    """A clause."""
    until: datetime | None = None
    """When that changes by itself, where that is known."""

    @property
    def is_due(self) -> bool:
        return self.outcome == "due"


def fraction(key: str) -> float:
    """A number from 0 up to 1 that depends on a text alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64


def length(span: Span, lifetime: timedelta) -> timedelta:
    return span if isinstance(span, timedelta) else lifetime * span


def renewal_time(key: str, served: Served, policy: Policy, advice: Advice | None = None) -> tuple[datetime, str]:
    """When a certificate is due, and what says so.

    By the policy it is due `min_remaining` before its end, and earlier by its part of `spread`, which takes at most half of the time before that. The
    CA's advice takes the place of the spread: a moment in the time that it names, but not later than `min_remaining` says.
    """
    least, says = length(policy.min_remaining, served.lifetime), "min_remaining"
    if least >= served.lifetime:
        least, says = served.lifetime * FALLBACK, "a third of its lifetime, for it does not live as long as min_remaining"
    latest = served.not_after - least
    if advice:
        chosen = advice.start + (advice.end - advice.start) * fraction(key)
        return (chosen, "the CA's renewal information") if chosen < latest else (latest, says)
    spread = min(length(policy.spread, served.lifetime), (served.lifetime - least) / 2)
    return latest - spread * fraction(key), says if not spread else f"{says} and its part of spread"


def uncovered(hosts: Sequence[str], names: Sequence[str]) -> list[str]:
    """The hosts that a certificate with these names does not cover."""

    def is_covered(host: str) -> bool:
        name = normalise(host)
        if name is None:
            return False
        number = address(name)
        if number is not None:
            return any(address(each) == number for each in names)
        return any(pattern_covers(each, name) for each in names)

    return [host for host in hosts if not is_covered(host)]


def decide(
    key: str,
    served: Served | None,
    policy: Policy,
    now: datetime,
    *,
    hosts: Sequence[str] = (),
    advice: Advice | None = None,
    from_files: bool = False,
    offer: Offer | None = None,
) -> Decision:
    """What is to be done about one credential. `key` is its namespace and name. `from_files`: another program makes the certificates, and `offer` is
    the one that lies ready."""
    if served is None:
        return Decision("due", "the Secret does not exist or holds no certificate that can be read")
    at, says = renewal_time(key, served, policy, advice)
    lost = uncovered(hosts, served.names)
    is_newer = from_files and offer is not None and offer.fingerprint != served.fingerprint and offer.not_before >= served.not_before
    if is_newer and offer:
        why = f"the files hold a certificate that was issued {rfc3339(offer.not_before)}, after the one that is served"
    elif lost:
        why = f"the certificate does not cover {', '.join(lost)}"
    elif now >= at:
        why = _why(served, now, at, says, advice)
    else:
        return Decision("not_due", f"{_left(served, now)}; due {rfc3339(at)} by {says}", at)
    return _now_or_later(why, served, policy, now, advice, urgent=_urged(served, now, advice), missing=from_files and not is_newer)


def _now_or_later(
    why: str, served: Served, policy: Policy, now: datetime, advice: Advice | None, *, urgent: bool, missing: bool
) -> Decision:
    door = served.not_after - length(policy.emergency_remaining, served.lifetime)
    emergency = urgent or now >= door
    if missing:
        later = "the files hold none that is newer: see why the program that writes them does not"
        return Decision("failed", f"{why}, and {later}") if emergency else Decision("waiting", f"{why}; {later}", door)
    closed = policy.calendar.closed(now)
    if not closed:
        return Decision("due", why)
    if emergency:
        for_what = f"the CA wanted it renewed by {rfc3339(advice.end)}" if urgent and advice else "less than emergency_remaining is left"
        return Decision("due", f"{why}; renewed although {closed}, for {for_what}")
    opens = policy.calendar.opens(now)
    return Decision("deferred", f"{why}; {closed}", min(filter(None, (opens, door))))


def _urged(served: Served, now: datetime, advice: Advice | None) -> bool:
    """Whether the CA wanted it renewed in the first half of its life, and that time has passed: it may be about to be revoked."""
    return advice is not None and advice.end <= now and advice.end < served.not_before + served.lifetime / 2


def _left(served: Served, now: datetime) -> str:
    if now >= served.not_after:
        return f"it expired {rfc3339(served.not_after)}"
    rest = served.not_after - now
    return f"{rest.days} days remain" if rest.days > 1 else f"{rest.total_seconds() / 3600:.0f} hours remain"


def _why(served: Served, now: datetime, at: datetime, says: str, advice: Advice | None) -> str:
    by = f"due since {rfc3339(at.astimezone(UTC))} by {says}"
    more = f" ({advice.explanation})" if advice and advice.explanation and says.startswith("the CA") else ""
    return f"{_left(served, now)}; {by}{more}"
