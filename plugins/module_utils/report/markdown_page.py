# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report in Markdown, for a ticket, a merge request or a chat. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .drawing import breaks_at
from .findings import unexplained
from .markup import markdown
from .model import Report
from .words import FINDINGS, SEVERITY, STATE, breaks, counted, day, headline, left, standing, state_of, subject, summary

_SHOWN = 20
_ENDING = 90
"""Days within which certificates are listed; the others are counted."""


def as_markdown(report: Report, digest: str) -> str:
    return "\n".join(line for part in (_top, _findings, _gone, _clusters, _hosts, _certificates, _unseen) for line in part(report)) + (
        f"\n<!-- meshops-content {digest} -->\n"
    )


def _top(report: Report) -> Iterator[str]:
    yield from (f"# Gateway TLS: {markdown(headline(report).lower())}", "", markdown(summary(report)), "")
    yield from (markdown(subject(report)), "")


def _findings(report: Report) -> Iterator[str]:
    several = report.is_of_several
    told = [(cluster, one) for cluster, one in report.causes if one.severity != "hint"]
    lost = unexplained(report)
    if told or lost:
        yield from ("## What to do", "")
    for cluster, one in told:
        place = f" ({markdown(cluster.name)})" if several else ""
        hosts = cluster.concerned(one)
        kind = f"New {SEVERITY[one.severity]}" if one.is_new else SEVERITY[one.severity].capitalize()
        yield f"### {kind}: {markdown(one.title)}{place}"
        yield ""
        if hosts:
            yield from (f"Concerns {_some(hosts)}.", "")
        yield from (f"- {markdown(each)}" for each in one.evidence[:_SHOWN])
        if len(one.evidence) > _SHOWN:
            yield f"- and {len(one.evidence) - _SHOWN} more places"
        if any(one.sources):
            yield f"- stands in {', '.join(markdown(standing(*each)) for each in one.located if each[1])}"
        yield from ("", f"**To do:** {markdown(one.remedy)} ([{one.id}]({FINDINGS}#{one.id.lower()}))", "")
    for host in lost:
        place = f" ({markdown(host.cluster)})" if several else ""
        yield from (f"### Problem: {markdown(host.name)} breaks at the {breaks_at(host)}{place}", "", markdown(host.verdict), "")


def _gone(report: Report) -> Iterator[str]:
    if report.gone:
        yield from ("## Gone since the last time", "")
        for one in report.gone[:_SHOWN]:
            place = f" ({markdown(one.cluster)})" if report.is_of_several else ""
            yield f"- {markdown(one.title)}{place}: {markdown(one.evidence[0] if one.evidence else ', '.join(one.objects))} ({one.id})"
        if len(report.gone) > _SHOWN:
            yield f"- and {len(report.gone) - _SHOWN} more"
        yield ""


def _clusters(report: Report) -> Iterator[str]:
    if not report.is_of_several and not report.not_reached:
        return
    rows = [
        (one.name, state_of(one), one.error or f"{len(one.hosts)} hosts, {one.count('error')} problems, {one.count('warning')} warnings")
        for one in report.clusters
    ]
    yield from ("## Clusters", "", *_table(("cluster", "state", "what"), rows), "")


def _hosts(report: Report) -> Iterator[str]:
    rows = []
    for one in report.hosts:
        at = f" at the {breaks_at(one)}" if one.state != "right" else ""
        rows.append((one.name, one.cluster, one.direction, STATE[one.state] + at))
    if rows:
        yield from ("## Hosts and egress services", "", *_table(("host", "cluster", "", "state"), rows), "")


def _certificates(report: Report) -> Iterator[str]:
    found = [one for one in report.certificates if one.is_used and one.days_left < _ENDING]
    later = sum(one.is_used for one in report.certificates) - len(found)
    if not found and not later:
        return
    yield from (f"## Certificates that end within {_ENDING} days", "")
    rows = [(day(one.not_after), left(one.days_left), one.label, breaks(one)) for one in found]
    if rows:
        yield from (*_table(("ends", "", "certificate", "breaks"), rows), "")
    yield from (f"{counted(later, 'certificate')} in use {'ends' if later == 1 else 'end'} later.", "")


def _unseen(report: Report) -> Iterator[str]:
    lines = [f"{one.name}: {each}" for one in report.clusters for each in (*one.not_looked_at, *one.notes)]
    if lines:
        yield from ("## Not looked at", "", *(f"- {markdown(line)}" for line in lines), "")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"**{markdown(name)}**" for name in names[:_SHOWN]) + more


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    yield from (f"| {' | '.join(markdown(cell) for cell in row)} |" for row in rows)
