# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts, egress services and clusters in the page: whose way is whole, and where it breaks. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .drawing import breaks_at, mark, way
from .findings import anchor
from .markup import Markup, joined, tag
from .model import Cluster, Host, Report, Stage, worst
from .words import SEVERITY, STATE, counted, shown, state_of

_OPEN = 6
"""So many broken ways are shown opened."""
_CELLS = 20_000
"""A matrix with more is cut down to the hosts with which something is wrong."""


def section(report: Report) -> Markup | None:
    if not report.hosts:
        return None
    several = report.is_of_several
    rows = [_row(one, report.cluster(one), report.numbers[one.cluster], at < _OPEN, several) for at, one in enumerate(report.hosts)]
    parts: list[Markup] = []
    wrong = [made for made, one in zip(rows, report.hosts, strict=True) if one.state != "right"]
    if wrong:
        parts.append(tag("div", wrong, class_="rows"))
    if right := rows[len(wrong) :]:
        title = f"{counted(len(right), 'host')} with nothing wrong" if wrong else counted(len(right), "host")
        group = tag("details", tag("summary", title), right, class_="group", open=not wrong and len(right) <= 12)
        parts.append(tag("div", group, class_="rows"))
    nothing = tag("p", "No host matches.", class_="empty nothing", hidden=True)
    return tag("section", tag("h2", "Hosts and egress services", id="hosts"), parts, nothing, aria_labelledby="hosts")


def _row(host: Host, cluster: Cluster, number: int, early: bool, several: bool) -> Markup:
    kind = "egress" if host.direction == "egress" else "ingress"
    note = STATE[host.state] + (f" at the {breaks_at(host)}" if host.state != "right" else "")
    summary = tag(
        "summary",
        mark(host.state),
        tag("span", host.name, class_="name"),
        tag(
            "span",
            tag("span", note, class_="note state"),
            tag("span", kind, class_="badge"),
            tag("span", host.cluster, class_="badge") if several else None,
            class_="tail",
        ),
    )
    told = [cluster.findings[position] for position in host.findings]
    links = [tag("a", f"{one.id} {one.title}", href=f"#{anchor(number, one)}") for one in told]
    inside = tag(
        "div",
        way(host),
        tag("ol", [_stage(one) for one in host.stages], class_="stages"),
        tag("p", "Findings: ", _between(links), class_="small") if links else None,
        class_="inside",
    )
    opened = early and host.state == "broken"
    return tag("details", summary, inside, class_=f"row {host.state}", open=opened, data_s=host.state, data_c=number)


def _between(links: Sequence[Markup]) -> Markup:
    return joined([joined("; " if at else "", one) for at, one in enumerate(links)])


def _stage(one: Stage) -> Markup:
    said = tag("span", f" ({STATE[one.state]})", class_="hide")
    return tag("li", mark(one.state), tag("b", one.name, said), tag("span", one.what), class_=one.state)


# --- clusters


def clusters_section(report: Report) -> Markup | None:
    if not report.is_of_several and not report.not_reached:
        return None
    rows = [_cluster(one, number) for number, one in enumerate(report.clusters)]
    return tag(
        "section",
        tag("h2", "Clusters", id="clusters"),
        tag("div", rows, class_="rows"),
        _matrix(report),
        aria_labelledby="clusters",
    )


def _cluster(one: Cluster, number: int) -> Markup:
    state = "unknown" if one.error else one.state
    broken = sum(host.state == "broken" for host in one.hosts)
    told = [counted(one.count(severity), SEVERITY[severity]) for severity in ("error", "warning") if one.count(severity)]
    hosts = counted(len(one.hosts), "host") + (f", {broken} broken" if broken else "")
    notes = [one.error] if one.error else [hosts, *told, f"looked at {shown(one.looked_at)}"]
    name = tag("span", one.name, class_="name")
    return tag(
        "div",
        mark(state),
        name,
        tag("span", tag("span", state_of(one), class_="note state"), tag("span", "; ".join(notes), class_="note"), class_="tail wide"),
        class_=f"row flat {state}",
        data_s=state,
        data_c=number,
        data_x="1",
    )


def _matrix(report: Report) -> Markup | None:
    """Hosts by clusters: which host is served where, and how it is there."""
    if len(report.reached) < 2:
        return None
    by_host: dict[str, dict[str, Host]] = {}
    for host in report.hosts:  # the worst first, so that the worst way to a host counts
        by_host.setdefault(host.name, {}).setdefault(host.cluster, host)
    names = sorted(by_host, key=lambda name: (all(one.state == "right" for one in by_host[name].values()), name))
    note = None
    if len(names) * len(report.clusters) > _CELLS:
        whole = len(names)
        names = [name for name in names if any(one.state != "right" for one in by_host[name].values())]
        names = names[: max(_CELLS // len(report.clusters), 1)]
        note = tag(
            "p", f"{len(names)} of {counted(whole, 'host')} are shown, those with which something is wrong first.", class_="soft small"
        )
    head = tag("tr", tag("th", "Host", scope="col"), [tag("th", one.name, scope="col") for one in report.clusters])
    rows = [_line(name, by_host[name], report.clusters) for name in names]
    caption = tag("caption", "Hosts by clusters", class_="hide")
    table = tag("table", caption, tag("thead", head), tag("tbody", rows), class_="matrix")
    return joined(
        tag("h3", "Hosts by clusters", class_="matrix-title"),
        note,
        tag("div", table, class_="scroll", tabindex=0, role="region", aria_label="Hosts by clusters"),
    )


def _line(name: str, found: Mapping[str, Host], clusters: Sequence[Cluster]) -> Markup:
    cells = []
    for one in clusters:
        host = found.get(one.name)
        if host is not None:
            cells.append(
                tag(
                    "td",
                    mark(host.state),
                    tag("span", STATE[host.state], class_="hide"),
                    title=f"{name} in {one.name}: {STATE[host.state]}",
                )
            )
        elif one.error:
            cells.append(tag("td", "?", tag("span", " not looked at", class_="hide"), class_="soft", title=f"{one.name} was not looked at"))
        else:
            cells.append(
                tag("td", "\u00b7", tag("span", " not served", class_="hide"), class_="soft", title=f"{name} is not served in {one.name}")
            )
    served = " ".join(str(at) for at, one in enumerate(clusters) if one.name in found)
    return tag("tr", tag("th", name, scope="row"), cells, data_s=worst(host.state for host in found.values()), data_c=served, data_x="1")
