# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of renewals, and what the cluster, the CA and the files say, as the values that `due.py` decides by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, time, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..arguments import duration
from ..problems import Problem, Rejected
from .calendar import DAYS, Calendar, Freeze, Window
from .due import Advice, Offer, Policy, Served, Span

SPANS = ("min_remaining", "spread", "emergency_remaining")
Options = Mapping[str, Any]


def policy_of(options: Options, where: str) -> Policy:
    """`min_remaining`, `spread`, `emergency_remaining`, `windows` and `freezes`. Raises Rejected with everything that is wrong."""
    problems: list[Problem] = []
    spans: dict[str, Span] = {}
    for name in SPANS:
        try:
            spans[name] = span(str(options[name]), f"{where}{name}")
        except Rejected as rejected:
            problems += rejected.problems
    windows, freezes = [], []
    for number, window in enumerate(options.get("windows") or ()):
        try:
            windows.append(_window(window, f"{where}windows[{number}]"))
        except Rejected as rejected:
            problems += rejected.problems
    for number, freeze in enumerate(options.get("freezes") or ()):
        try:
            freezes.append(_freeze(freeze, f"{where}freezes[{number}]"))
        except Rejected as rejected:
            problems += rejected.problems
    if problems:
        raise Rejected(problems)
    return Policy(**spans, calendar=Calendar(tuple(windows), tuple(freezes)))


def span(text: str, where: str) -> Span:
    """`30d` is a time, `33%` a share of the certificate's lifetime."""
    found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%", text.strip())
    if not found:
        return duration(text, where=where)
    share = float(found[1]) / 100
    if share >= 1:
        message = f"expected less than 100%, found {text.strip()}"
        raise Rejected(Problem("invalid_duration", where, message, "name a part of the certificate's lifetime, such as 33%"))
    return share


def served_of(facts: Options | None) -> Served | None:
    """From what `istio_tls_credential_info` shows of a credential; None where there is no certificate."""
    certificate = (facts or {}).get("certificate") or {}
    if "not_after" not in certificate:
        return None
    return Served(
        _moment(certificate["not_before"]),
        _moment(certificate["not_after"]),
        tuple(certificate.get("sans") or ()),
        certificate["fingerprint_sha256"],
    )


def advice_of(renewal_info: Options | None) -> Advice | None:
    """From RFC 9773's `RenewalInfo`; None where there is none, or it makes no sense."""
    window = (renewal_info or {}).get("suggestedWindow") or {}
    try:
        start, end = _moment(window["start"]), _moment(window["end"])
    except (KeyError, TypeError, ValueError):
        return None
    if end <= start:  # RFC 9773, section 4.2: to be treated as if the server had none
        return None
    return Advice(start, end, str((renewal_info or {}).get("explanationURL") or ""))


def offer_of(certificate: Options | None) -> Offer | None:
    """From what `community.crypto.x509_certificate_info` shows of a file; None where there is none."""
    if not certificate:
        return None
    return Offer(
        _compact(certificate["not_before"]), _compact(certificate["not_after"]), str(certificate["fingerprints"]["sha256"]).lower()
    )


def _moment(text: str) -> datetime:
    """RFC 3339, with as many digits of a second as there may be."""
    found = datetime.fromisoformat(re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", str(text).strip()))
    if found.tzinfo is None:
        raise ValueError(text)
    return found.astimezone(UTC)


def _compact(text: str) -> datetime:
    """`20260131120000Z`, as community.crypto writes times."""
    return datetime.strptime(str(text), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


# --- the calendar -------------------------------------------------------------------------------------------------------


def _window(options: Options, where: str) -> Window:
    zone = _zone(options.get("timezone"), where)
    days = [str(day).strip().lower()[:3] for day in options.get("days") or DAYS]
    if unknown := [day for day in days if day not in DAYS]:
        message = f"expected days of the week, such as mon, found {', '.join(unknown)}"
        raise Rejected(Problem("invalid_window", f"{where}.days", message, f"name any of {', '.join(DAYS)}"))
    start, end = _clock(options.get("from", "00:00"), f"{where}.from"), _clock(options.get("until", "00:00"), f"{where}.until")
    return Window(frozenset(DAYS.index(day) for day in days), start, end, zone)


def _clock(text: Any, where: str) -> time:
    """A time of day. YAML 1.1 reads an unquoted 10:00 as 600, a number of base 60."""
    given = str(text).strip()
    found = re.fullmatch(r"([0-9]{1,2}):([0-9]{2})", given)
    hours, minutes = (int(found[1]), int(found[2])) if found else divmod(int(given), 60) if re.fullmatch(r"[0-9]{1,4}", given) else (-1, 0)
    if (hours, minutes) == (24, 0):
        return time()
    if not (0 <= hours < 24 and 0 <= minutes < 60):
        raise Rejected(
            Problem("invalid_window", where, f"expected a time of day such as '09:00', found {given!r}", "write hours and minutes")
        )
    return time(hours, minutes)


def _freeze(options: Options, where: str) -> Freeze:
    zone = _zone(options.get("timezone"), where)
    start, end = (_day_or_moment(options.get(name), zone, f"{where}.{name}") for name in ("from", "until"))
    if end <= start:
        message = f"expected an end after the beginning, found {options['from']} until {options['until']}"
        raise Rejected(Problem("invalid_freeze", where, message, "correct from or until; a day alone means its beginning"))
    return Freeze(start, end, str(options.get("reason") or ""))


def _day_or_moment(given: Any, zone: tzinfo, where: str) -> datetime:
    try:
        found = datetime.fromisoformat(str(given).strip())
    except ValueError:
        message = f"expected a day or a time such as 2026-12-18 or 2026-12-18T18:00, found {given!r}"
        raise Rejected(
            Problem("invalid_freeze", where, message, "write it as RFC 3339; without a zone it is in that of timezone")
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)


def _zone(name: Any, where: str) -> tzinfo:
    if name in (None, "", "UTC"):
        return UTC
    try:
        return ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        message = f"expected a time zone that this machine knows, such as Europe/Zurich, found {str(name)!r}"
        raise Rejected(
            Problem("invalid_window", f"{where}.timezone", message, "correct it, or install the Python package tzdata")
        ) from None
