# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong and what to do, in the page: one card a cause. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .drawing import breaks_at, mark
from .markup import Markup, joined, tag
from .model import Cluster, Finding, Host, Report
from .words import FINDINGS, OF_SEVERITY, SEVERITY, counted, listed, standing

_CHIPS = 8


def section(report: Report) -> Markup:
    number, several = report.numbers, report.is_of_several
    cards = [card(cluster, one, number[cluster.name], several) for cluster, one in report.causes]
    urgent = [made for made, (__, one) in zip(cards, report.causes, strict=True) if one.severity != "hint"]
    hints = cards[len(urgent) :]
    more = tag("details", tag("summary", counted(len(hints), "hint")), hints, class_="group") if hints else None
    urgent += [_unexplained(one, number[one.cluster], several) for one in unexplained(report)]
    title = "What to do"
    calm = tag("p", "There is nothing to do.", class_="soft") if not urgent else None
    nothing = tag("p", "No finding matches.", class_="empty nothing", hidden=True)
    return tag("section", tag("h2", title, id="findings"), calm, urgent, more, nothing, aria_labelledby="findings")


def gone_section(report: Report) -> Markup | None:
    """What is no longer there since the last time."""
    if not report.gone:
        return None
    items = [
        tag(
            "li",
            tag("b", f"{one.id} {one.title}"),
            f" ({one.cluster})" if report.is_of_several else "",
            f": {one.evidence[0] if one.evidence else ', '.join(one.objects)}",
        )
        for one in report.gone
    ]
    inner = tag("details", tag("summary", counted(len(items), "finding")), tag("ul", items, class_="dots"), class_="card")
    return tag("section", tag("h2", "Gone since the last time", id="gone"), inner, aria_labelledby="gone")


def unexplained(report: Report) -> list[Host]:
    """Hosts that break, of which no problem tells."""

    def told(host: Host) -> bool:
        return any(report.cluster(host).findings[number].severity == "error" for number in host.findings)

    return [host for host in report.hosts if host.state == "broken" and not told(host)]


def _unexplained(host: Host, number: int, several: bool) -> Markup:
    return tag(
        "article",
        tag(
            "div",
            mark("broken"),
            tag("h3", tag("span", "Problem: ", class_="hide"), f"{host.name} breaks at the {breaks_at(host)}"),
            tag("span", host.cluster, class_="badge") if several else None,
            class_="head",
        ),
        tag("p", _sentence(next((one.what for one in host.stages if one.state == "broken"), host.verdict)), class_="evidence small"),
        class_="card finding broken",
        data_s="broken",
        data_c=number,
    )


def anchor(cluster: int, one: Finding) -> str:
    return f"f-{cluster}-{one.number}"


def card(cluster: Cluster, one: Finding, number: int, several: bool) -> Markup:
    state = OF_SEVERITY[one.severity]
    symptoms = cluster.symptoms(one)
    return tag(
        "article",
        tag(
            "div",
            mark(state),
            tag("h3", tag("span", f"{SEVERITY[one.severity].capitalize()}: ", class_="hide"), one.title),
            tag("span", "new", class_="badge") if one.is_new else None,
            tag("span", cluster.name, class_="badge") if several else None,
            tag("a", one.id, href=f"{FINDINGS}#{one.id.lower()}", class_="badge", rel="noreferrer"),
            class_="head",
        ),
        _hits(cluster.concerned(one)),
        tag("p", tag("span", one.evidence[0] if one.evidence else ""), class_="evidence small"),
        tag("div", tag("b", "To do"), tag("p", _sentence(one.remedy)), class_="do"),
        _more(one, symptoms, number),
        class_=f"card finding {state}",
        id=anchor(number, one),
        data_s=state,
        data_c=number,
    )


def _hits(names: Sequence[str]) -> Markup | None:
    if not names:
        return None
    return tag("p", "Concerns ", tag("b", listed(names, _CHIPS)), class_="hits")


def _more(one: Finding, symptoms: Sequence[Finding], number: int) -> Markup | None:
    """Everything that was found, and what it looks like from outside."""
    rest = one.evidence[1:]
    lines = [tag("li", each, id=name) for each, name in _symptoms(symptoms, number)]
    if not rest and not lines and len(one.objects) < 2 and not one.sources:
        return None
    heads = [counted(len(one.evidence), "place")] if rest else []
    heads += [f"seen in {counted(len(lines), 'handshake or proxy', 'handshakes and proxies')}"] if lines else []
    inner = joined(
        tag("ul", [tag("li", each) for each in rest], class_="dots small evidence") if rest else None,
        tag("p", "Seen:", class_="soft small") if lines else None,
        tag("ul", lines, class_="dots small evidence") if lines else None,
        tag("p", f"Objects: {', '.join(standing(*each) for each in one.located)}", class_="soft small evidence"),
        tag("p", f"Rule: {one.code}", class_="soft small"),
    )
    return tag("details", tag("summary", _sentence(", ".join(heads) or "details").rstrip(".")), inner, class_="more")


def _symptoms(symptoms: Sequence[Finding], number: int) -> Iterator[tuple[str, str | None]]:
    """(what was seen, its anchor where it is the first of a finding)."""
    for one in symptoms:
        for at, each in enumerate(one.evidence):
            yield f"{each} ({one.id})", None if at else anchor(number, one)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "!", "?")) else ".")
