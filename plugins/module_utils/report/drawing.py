# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is drawn: a host's way, the timeline of certificates, and a certificate's lifetime, as SVG in the page. Pure.

Places along a line are percentages and text has a size in pixels, so that a drawing is as wide as the screen and stays readable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .markup import Markup, joined, tag
from .model import STATES, Certificate, Host, Stage, worst
from .words import NODES, STATE, left

_ICONS = {
    "client": "M-8-7h16v10h-16zM-3 7h6M0 3v4",
    "workload": "M-8-4 0-8 8-4v8L0 8-8 4zM-8-4 0 0l8-4M0 0v8",
    "sidecar": "M-8-8h7v16h-7zM1-3h7v6H1z",
    "gateway": "M-9 8V-2a9 9 0 0 1 18 0V8M-4 8V-1a4 4 0 0 1 8 0V8",
    "certificate": "M-8-7h16v11h-16zM-4-3h8M-4 0h4M3 3v6l2-1.5L7 9V3",
    "route": "M-8 6V2a4 4 0 0 1 4-4h10M3-6l4 4-4 4M-8 6h0",
    "service": "M-9 0a9 9 0 1 0 18 0a9 9 0 1 0-18 0M-9 0h18M0-9c5 5 5 13 0 18M0-9c-5 5-5 13 0 18",
}
_MARKS = {
    "broken": "M-3-3 3 3M3-3-3 3",
    "doubtful": "M0-4v4.500M0 3.500v.4",
    "unknown": "M-2-2a2 2 0 1 1 2.500 2q-.5.3-.5 1M0 3.500v.4",
    "right": "M-3 0-1 2.500 3-2.500",
}
_LONGEST = 22
"""Characters of a name below a station; a tooltip shows it whole."""


def symbols() -> Markup:
    """What the drawings refer to, once in a page."""
    icons = [tag("path", id=f"i-{name}", d=path, class_="icon") for name, path in _ICONS.items()]
    marks = [tag("g", tag("circle", r=8), tag("path", d=path), id=f"m-{state}", class_=f"mark {state}") for state, path in _MARKS.items()]
    return tag("svg", tag("defs", icons, marks), width=0, height=0, class_="defs", aria_hidden="true")


def mark(state: str) -> Markup:
    """The sign of a state, beside text that names it."""
    return tag("svg", tag("use", href=f"#m-{state}"), class_="sign", viewBox="-9 -9 18 18", aria_hidden="true")


@dataclass(frozen=True)
class Station:
    """A place on a host's way."""

    icon: str
    name: str
    state: str
    """A state, or empty where nothing was looked at."""
    what: str
    """The object there, else empty."""


def stations(host: Host) -> tuple[Station, ...]:
    return tuple(_station(icon, name, _of(host, stages)) for icon, (name, stages) in NODES[host.direction].items())


def _of(host: Host, names: Sequence[str]) -> list[Stage]:
    return sorted((stage for stage in host.stages if stage.name in names), key=lambda stage: STATES.index(stage.state))


def _station(icon: str, name: str, stages: Sequence[Stage]) -> Station:
    if not stages:
        return Station(icon, name, "", "")
    objects = dict.fromkeys(one.partition(" ")[2] for stage in stages for one in stage.objects)
    what = stages[0].what.partition(" ")[0].rstrip(":") if stages[0].name == "handshake" else next(iter(objects), "")
    return Station(icon, name, stages[0].state, what)


def way(host: Host) -> Markup:
    """The stations of a way side by side; what lies behind the first that breaks is drawn as not reached."""
    found = stations(host)
    middle = 50 / len(found)
    broken = _breaks_at(found)
    places = [middle + 2 * middle * number for number in range(len(found))]
    lines = [
        tag("line", x1=f"{places[number]:g}%", x2=f"{places[number + 1]:g}%", y1=30, y2=30, class_="cut" if number >= broken else "flow")
        for number in range(len(found) - 1)
    ]
    nodes = [
        _node(one, place, one.icon == "client" and one.state == "broken" and broken > 0) for one, place in zip(found, places, strict=True)
    ]
    said = ", ".join(f"{one.name} {_said(one.state)}" for one in found)
    return tag("svg", lines, nodes, class_="way", role="img", aria_label=f"The way of {host.name}: {said}", width="100%", height=92)


def _breaks_at(found: Sequence[Station]) -> int:
    """The first station that breaks, or how many there are. What a client sees is the break itself only where no other station breaks."""
    broken = [number for number, one in enumerate(found) if one.state == "broken"]
    causes = [number for number in broken if found[number].icon != "client"]
    return next(iter(causes or broken), len(found))


def breaks_at(host: Host) -> str:
    """The name of the station that is in the worst state, as it stands in a sentence."""
    found = stations(host)
    worst = [one for one in found if one.state == host.state]
    return next((one.name for one in worst if one.icon != "client"), worst[0].name if worst else "way").lower()


def _said(state: str) -> str:
    return next((said for each, said in STATE.items() if each == state), "not looked at")


def _node(one: Station, place: float, only_seen: bool) -> Markup:
    """A client that sees what breaks elsewhere is marked, and not drawn as broken."""
    short = one.what if len(one.what) <= _LONGEST else one.what[: _LONGEST - 1] + "\u2026"
    return tag(
        "svg",
        tag("title", f"{one.name}: {one.what or 'nothing is known of it'}"),
        tag("circle", r=20),
        tag("use", href=f"#i-{one.icon}"),
        tag("use", href=f"#m-{one.state}", x=15, y=-15) if one.state else None,
        tag("text", one.name, y=42, class_="label"),
        tag("text", short, y=57, class_="what") if short else None,
        x=f"{place:g}%",
        y=30,
        class_=f"node {'seen' if only_seen else one.state or 'none'}",
    )


# --- certificates in time

_TICKS = ((0, "today"), (7, "1 week"), (30, "1 month"), (90, "3 months"), (365, "1 year"), (1825, "5 years"), (3650, "10 years"))
_TICK = {"today": " first", **dict.fromkeys(("1 week", "3 months", "5 years"), " far")}
"""Classes: the first begins at its place, and those that are far are not shown on a phone."""
_ENDED = 10.0
"""Percent of the width, on the left, for what has ended."""
_BEGIN = 3.0
"""Percent of the width at which today stands where nothing has ended."""
_BINS = 180


def timeline(certificates: Sequence[Certificate]) -> Markup:
    """When certificates end, on a line whose days become narrower with distance; columns are as high as there are certificates."""
    ended = any(one.days_left < 0 for one in certificates)
    today = _ENDED if ended else _BEGIN
    furthest = max([400, *(min(one.days_left, 3650) for one in certificates)])

    def place(days: float) -> float:
        return today + (97 - today) * math.log1p(min(days, furthest) / 5) / math.log1p(furthest / 5)

    bins: dict[int, list[Certificate]] = {}
    for one in certificates:
        at = _ENDED / 2 if one.days_left < 0 else place(one.days_left)
        bins.setdefault(round(at / 100 * _BINS), []).append(one)
    highest = max((len(group) for group in bins.values()), default=1)
    columns = [_column(number, group, highest) for number, group in sorted(bins.items())]
    axis = [
        tag("line", x1="0", x2="100%", y1=70, y2=70, class_="axis"),
        *(_tick(place(days), name) for days, name in _TICKS if days <= furthest and (days or not ended)),
        tag("text", "ended", x=f"{_ENDED / 2:g}%", y=86, class_="tick") if ended else None,
        tag("line", x1=f"{today:g}%", x2=f"{today:g}%", y1=4, y2=70, class_="now"),
    ]
    said = f"When {len(certificates)} certificates end; the list below has each"
    return tag("svg", axis, columns, class_="timeline", role="img", aria_label=said, width="100%", height=92)


def _tick(at: float, name: str) -> Markup:
    return joined(
        tag("line", x1=f"{at:.2f}%", x2=f"{at:.2f}%", y1=70, y2=74, class_="axis"),
        tag("text", name, x=f"{at:.2f}%", y=86, class_="tick" + _TICK.get(name, "")),
    )


def _column(number: int, group: Sequence[Certificate], highest: int) -> Markup:
    height = 8 + 50 * math.log1p(len(group)) / math.log1p(max(highest, 4))
    names = "; ".join(f"{one.label} {left(one.days_left)}" for one in group[:4]) + ("; \u2026" if len(group) > 4 else "")
    return tag(
        "rect",
        tag("title", names),
        x=f"{(number - 0.4) * 100 / _BINS:.2f}%",
        y=f"{70 - height:.1f}",
        width=f"{80 / _BINS:.2f}%",
        height=f"{height:.1f}",
        class_=worst(one.state for one in group),
    )


def lifetime(one: Certificate) -> Markup:
    """How much of its time a certificate has behind it."""
    whole = max((one.not_after - one.not_before).total_seconds(), 1)
    behind = min(max(1 - one.days_left * 86400 / whole, 0), 1)
    return tag(
        "svg",
        tag("rect", width="100%", height=4, y=4, rx=2, class_="track"),
        tag("rect", width=f"{behind * 100:.0f}%", height=4, y=4, rx=2, class_=f"gone {one.state}"),
        class_="life",
        width="100%",
        height=12,
        aria_hidden="true",
    )
