# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates in the page: when each ends and what breaks then, and who issued whom. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .drawing import lifetime, mark, timeline
from .markup import Markup, joined, tag
from .model import STATES, Certificate, Report, common_name
from .words import LATER, SPANS, STATE, breaks, counted, day, left, listed, shown, span_of

_OPEN = ("Ended", "Within a week", "Within 30 days")
_LEAVES = 12
"""So many certificates of one issuer are shown without asking."""
_ROLES = {"leaf": "presented", "chain": "sent with it", "trusted": "trusted"}


def section(report: Report) -> Markup | None:
    found = report.certificates
    if not found:
        return None
    by_span: dict[str, list[Certificate]] = {}
    for one in found:
        by_span.setdefault(span_of(one), []).append(one)
    small = len(found) <= 15
    groups = [
        tag(
            "details",
            tag("summary", name, tag("span", len(by_span[name]), class_="n")),
            [_row(one, report) for one in by_span[name]],
            class_="group",
            open=(name in _OPEN and len(by_span[name]) <= 50) or small,
        )
        for name in (*(name for __, name in SPANS), LATER)
        if name in by_span
    ]
    nothing = tag("p", "No certificate matches.", class_="empty nothing", hidden=True)
    rows = tag("div", groups, class_="rows")
    return tag(
        "section",
        tag("h2", "Certificates and when they end", id="certificates"),
        timeline(found),
        rows,
        nothing,
        aria_labelledby="certificates",
    )


def anchor(fingerprint: str) -> str:
    return f"c-{fingerprint.replace(':', '')[:16]}"


def _row(one: Certificate, report: Report) -> Markup:
    effect = breaks(one)
    note = f"{'breaks' if one.days_left >= 0 else 'broken'}: {effect}" if one.is_used else effect
    summary = tag(
        "summary",
        mark(one.state),
        tag(
            "span",
            one.label,
            tag("span", f" ({STATE[one.state]})", class_="hide"),
            tag("span", note, class_="note") if effect != one.label else None,
            class_="name",
        ),
        tag(
            "span",
            tag("span", listed(one.clusters, 1), class_="badge") if report.is_of_several else None,
            lifetime(one),
            tag("span", left(one.days_left), class_="ends"),
            tag("span", day(one.not_after), class_="date small"),
            class_="tail",
        ),
    )
    clusters = " ".join(str(report.numbers[name]) for name in one.clusters)
    return tag(
        "details",
        summary,
        _facts(one, report.is_of_several),
        class_=f"row {one.state}",
        id=anchor(one.fingerprint),
        data_s=one.state,
        data_c=clusters,
    )


def _facts(one: Certificate, several: bool) -> Markup:
    places = [f"{place.cluster + ': ' if several else ''}{place.object} ({_ROLES[place.role]})" for place in one.places]
    facts: dict[str, Markup | str | None] = {
        "Subject": one.subject,
        "Names": ", ".join(one.names) or None,
        "Issuer": tag("a", one.issuer, href=f"#{anchor(one.issued_by)}") if one.issued_by else one.issuer,
        "Valid": f"{shown(one.not_before)} to {shown(one.not_after)}",
        "Key": one.key + (", a CA" if one.is_ca else ""),
        "Serial number": tag("code", one.serial),
        "SHA-256": tag("code", one.fingerprint),
        "Stands in": joined([tag("div", place) for place in places]),
        "Used by": joined([tag("div", user) for user in one.used_by]) or "nothing",
        "Hosts": ", ".join(one.hosts) or None,
    }
    lines = [joined(tag("dt", name), tag("dd", value)) for name, value in facts.items() if value is not None]
    pem = tag("pre", one.pem, tabindex=0, aria_label="Certificate in PEM") if one.pem else None
    return tag("div", tag("dl", lines), pem, class_="inside")


# --- chains


def chains_section(report: Report) -> Markup | None:
    """Trees of who issued whom, from what stands in the credentials. An issuer that is in none is named, too."""
    found = report.certificates
    if not found:
        return None
    known = {one.fingerprint for one in found}
    issued: dict[str, list[Certificate]] = {}
    missing: dict[str, list[Certificate]] = {}
    roots: list[Certificate] = []
    for one in found:
        if one.issued_by in known:
            issued.setdefault(one.issued_by, []).append(one)
        elif one.is_ca and one.issuer == one.subject:
            roots.append(one)
        else:
            missing.setdefault(one.issuer, []).append(one)
    trees = [_tree(one, issued, frozenset()) for one in roots]
    trees += [
        tag(
            "li",
            tag("span", f"{common_name(name)} "),
            tag("span", "in no credential", class_="badge"),
            _below(children, issued, frozenset()),
        )
        for name, children in sorted(missing.items())
    ]
    note = tag("p", "From the issuer to what it issued, as far as the credentials hold it.", class_="soft small")
    return tag(
        "section",
        tag("h2", "Chains", id="chains"),
        note,
        tag("div", tag("ul", trees, class_="tree"), class_="card"),
        aria_labelledby="chains",
    )


def _tree(one: Certificate, issued: Mapping[str, Sequence[Certificate]], above: frozenset[str]) -> Markup:
    text = (mark(one.state), tag("a", one.label, href=f"#{anchor(one.fingerprint)}"))
    ends = tag("span", f" {left(one.days_left)}", class_="soft small")
    children = issued.get(one.fingerprint, ()) if one.fingerprint not in above else ()
    return tag("li", text, ends, _below(children, issued, above | {one.fingerprint}) if children else None)


def _below(children: Sequence[Certificate], issued: Mapping[str, Sequence[Certificate]], above: frozenset[str]) -> Markup:
    branch = tag("ul", [_tree(one, issued, above) for one in children])
    if len(children) <= _LEAVES:
        return branch
    worst = _worst(children)
    wrong = f", {worst}" if worst else ""
    return tag("details", tag("summary", f"issued {counted(len(children), 'certificate')}{wrong}", class_="soft small"), branch)


def _worst(children: Iterable[Certificate]) -> str:
    states = [one.state for one in children]
    return ", ".join(f"{states.count(state)} {STATE[state]}" for state in STATES if state != "right" and state in states)
