# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ends of certificates as an iCalendar file (RFC 5545). Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .markup import calendar
from .model import Certificate, Report
from .words import breaks

_WIDTH = 75
"""Octets of a line, its end aside."""


def as_calendar(report: Report, digest: str) -> str:
    """An event for the end of every certificate that something uses; the same certificate keeps its event, so that a calendar does not fill up."""
    stamp = report.looked_at
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//meshops//istio gateway TLS//EN", "CALSCALE:GREGORIAN", "METHOD:PUBLISH"]
    lines += ["X-WR-CALNAME:Ends of gateway certificates", f"X-MESHOPS-CONTENT:{digest}"]
    for one in report.certificates:
        if one.is_used and stamp is not None:
            lines += _event(one, f"{stamp:%Y%m%dT%H%M%SZ}")
    lines.append("END:VCALENDAR")
    return "".join(f"{folded}\r\n" for line in lines for folded in _folded(line))


def _event(one: Certificate, stamp: str) -> Iterator[str]:
    places = "\n".join(f"{place.cluster}: {place.object}" for place in one.places)
    about = f"Breaks: {breaks(one)}\n{places}\nSubject: {one.subject}\nIssuer: {one.issuer}\nSHA-256: {one.fingerprint}"
    yield from ("BEGIN:VEVENT", f"UID:{one.fingerprint.replace(':', '')}@meshops.istio", f"DTSTAMP:{stamp}")
    yield f"DTSTART:{one.not_after:%Y%m%dT%H%M%SZ}"
    yield f"SUMMARY:{calendar(f'Certificate ends: {one.label}')}"
    yield f"DESCRIPTION:{calendar(about)}"
    yield from ("TRANSP:TRANSPARENT", f"CATEGORIES:{'CA' if one.is_ca else 'CERTIFICATE'}", "END:VEVENT")


def _folded(line: str) -> Iterator[str]:
    """Lines of at most 75 octets, cut between characters; what follows begins with a space."""
    part, size = "", 0
    for character in line:
        octets = len(character.encode())
        if size + octets > _WIDTH:
            yield part
            part, size = " ", 1
        part, size = part + character, size + octets
    yield part
