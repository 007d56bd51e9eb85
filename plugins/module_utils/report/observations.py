# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was proven by handshakes, what was not looked at, and what is not to be told, in the page. Pure."""

from __future__ import annotations

import re

from .drawing import mark
from .markup import Markup, joined, tag
from .model import Handshake, Report
from .words import counted, shown

_FEW = 6
_RULES = re.compile(r"(.*): ((?:MIT\d{4}(?:, )?)+)", re.DOTALL)


def handshakes_section(report: Report) -> Markup | None:
    found = report.handshakes
    if not found:
        return None
    number, several = report.numbers, report.is_of_several
    heads = ("Host", "Address", "Presented", *(("Cluster",) if several else ()), "When")
    table = tag(
        "table",
        tag("caption", "Handshakes and what they proved", class_="hide"),
        tag("thead", tag("tr", [tag("th", head, scope="col") for head in heads])),
        tag("tbody", [_handshake(one, number[one.cluster], several) for one in found]),
    )
    good = sum(one.right for one in found)
    said = f"{good} of {counted(len(found), 'handshake')} got the certificate that the Secret has."
    region = tag("div", table, class_="scroll", tabindex=0, role="region", aria_label="Handshakes")
    nothing = tag("p", "No handshake matches.", class_="empty nothing", hidden=True)
    return tag("section", tag("h2", "Proven by handshakes", id="handshakes"), tag("p", said), region, nothing, aria_labelledby="handshakes")


def _handshake(one: Handshake, cluster: int, several: bool) -> Markup:
    state = "right" if one.right else "broken"
    served = tag("code", f"{one.served[:23]}\u2026", title=one.served) if one.served else one.failure or "nothing"
    also = " (another certificate than the Secret has)" if one.served and not one.right else None
    return tag(
        "tr",
        tag("th", mark(state), " ", one.host, scope="row"),
        tag("td", one.place),
        tag("td", served, also),
        tag("td", one.cluster) if several else None,
        tag("td", shown(one.at), class_="when"),
        data_s=state,
        data_c=cluster,
    )


def unseen_section(report: Report) -> Markup | None:
    """What nothing can be concluded from."""
    several = report.is_of_several
    lines = {f"{one.name}: not looked at: {one.error}" for one in report.not_reached}
    for one in report.clusters:
        lines |= {f"{one.name}: {each}" if several else each for each in (*one.not_looked_at, *one.notes)}
    if not lines:
        return None
    items = [tag("li", _with_rules(line)) for line in sorted(lines)]
    inner = tag(
        "details", tag("summary", counted(len(items), "thing")), tag("ul", items, class_="dots"), class_="card", open=len(items) <= 5
    )
    return tag("section", tag("h2", "Not looked at", id="unseen"), inner, aria_labelledby="unseen")


def _with_rules(line: str) -> Markup | str:
    """A reason; the rules that could not be asked for it are many, and shown on demand."""
    found = _RULES.fullmatch(line)
    if not found or found[2].count(",") < _FEW:
        return line
    rules = tag("details", tag("summary", counted(found[2].count(",") + 1, "rule"), class_="soft small"), found[2], class_="small")
    return joined(found[1], rules)


def suppressed_section(report: Report) -> Markup | None:
    found = [one for cluster in report.clusters for one in cluster.suppressed]
    if not found:
        return None
    items = [
        tag("li", tag("b", f"{one.id} {one.title}"), f" ({one.cluster}): {', '.join(one.objects)}. Reason: {one.suppressed}")
        for one in found
    ]
    inner = tag("details", tag("summary", counted(len(items), "finding")), tag("ul", items, class_="dots"), class_="card")
    return tag("section", tag("h2", "Not to be told", id="suppressed"), inner, aria_labelledby="suppressed")
