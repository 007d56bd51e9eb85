# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a proxy's log tells: when, and which updates it refused. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..tls.facts import rfc3339
from .proxy import Rejection
from .proxy_dump import time_of


@dataclass(frozen=True)
class Line:
    """One line of a proxy's log."""

    proxy: str
    time: datetime | None
    text: str

    def as_result(self) -> dict[str, Any]:
        return {"proxy": self.proxy, "time": rfc3339(self.time) if self.time else None, "line": self.text}


_TIME_IN_LINE = re.compile(r'(?:^\[?|"(?:start_time|time)":\s*")(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))')


_REFUSED = re.compile(r"(?:config for (?P<type>\S+)|config update|config) rejected: (?P<detail>.+?)(?:\tthread=\d+)?$")


def line_time(text: str) -> datetime | None:
    """When a line was written, where it says so: Istio's default access logs (text, JSON) and the agent's own lines do."""
    found = _TIME_IN_LINE.search(text)
    moment = time_of(found[1]) if found else None
    return moment.astimezone(UTC) if moment else None


def refusals(lines: Sequence[Line]) -> list[Rejection]:
    """What the log says about refused updates, each once with the last time."""
    last: dict[tuple[str, str], Line] = {}
    for line in lines:
        found = _REFUSED.search(line.text)
        if found:
            last[((found["type"] or "configuration").rpartition(".")[2].lower(), found["detail"].strip())] = line
    return [Rejection(what, detail, rfc3339(line.time) if line.time else None) for (what, detail), line in last.items()]


def is_refusal(text: str) -> bool:
    return "rejected: " in text and bool(_REFUSED.search(text))
