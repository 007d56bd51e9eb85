# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a report says what all formats say: states, counts, dates, and the one sentence that stands first. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from .model import Certificate, Cluster, Host, Report, Severity, Source, State, worst

FINDINGS = "https://github.com/meshops/istio/blob/main/docs/problems.md"
STATE: dict[State, str] = {"broken": "broken", "doubtful": "doubtful", "unknown": "not known", "right": "right"}
OF_SEVERITY: dict[Severity, State] = {"error": "broken", "warning": "doubtful", "hint": "right"}
SEVERITY: dict[Severity, str] = {"error": "problem", "warning": "warning", "hint": "hint"}
NODES = {
    "ingress": {
        "client": ("Client", ("handshake",)),
        "gateway": ("Gateway", ("server", "gateway")),
        "certificate": ("Certificate", ("credential",)),
        "route": ("Route", ("route",)),
        "workload": ("Workload", ("destination",)),
    },
    "egress": {
        "workload": ("Workload", ()),
        "sidecar": ("Sidecar", ("route to the gateway", "TLS to the gateway", "TLS of sidecars to outside", "what is around")),
        "gateway": ("Gateway", ("server of the gateway", "route of the gateway")),
        "certificate": ("Certificate", ("client credential",)),
        "service": ("Service", ("TLS of the gateway to outside", "the external service")),
    },
}
"""The drawn stations of a way, in order: what they are called, and the stages that they stand for."""
SPANS = ((0, "Ended"), (7, "Within a week"), (30, "Within 30 days"), (90, "Within 90 days"), (365, "Within a year"))
"""Days that are left at most (less than), and what that is called; everything else ends later."""
LATER = "Later"


def counted(number: int, word: str, plural: str = "") -> str:
    return f"{number:,} {word if number == 1 else plural or word + 's'}".replace(",", "\u202f")


def listed(texts: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(texts[:most])
    return f"{shown} and {len(texts) - most} more" if len(texts) > most else shown


def headline(report: Report) -> str:
    if not report.reached:
        return "No cluster was looked at"
    if report.count("error"):
        return counted(report.count("error"), "problem")
    if any(one.state == "broken" for one in report.hosts):
        return "Something is broken"
    return "Nothing is broken"


def subject(report: Report) -> str:
    """What was looked at, and when."""
    where = report.clusters[0].name if len(report.clusters) == 1 else counted(len(report.clusters), "cluster")
    return f"{where}, looked at {shown(report.looked_at)}"


def summary(report: Report) -> str:
    """What stands below the headline: a few sentences."""
    broken = [one for one in report.hosts if one.state == "broken"]
    sentences = []
    if report.hosts:
        of = counted(len(report.hosts), "host")
        if not broken:
            sentences.append(f"All {of} can be served as far as can be seen." if len(report.hosts) > 1 else "The one host can be served.")
        else:
            sentences.append(f"{len(broken)} of {of} {'is' if len(broken) == 1 else 'are'} broken: {listed(_names(broken), 8)}.")
    if report.count("warning"):
        sentences.append(f"{counted(report.count('warning'), 'warning')}.")
    if report.not_reached:
        of = counted(len(report.clusters), "cluster")
        was = "was" if len(report.not_reached) == 1 else "were"
        names = listed([one.name for one in report.not_reached])
        sentences.append(f"{len(report.not_reached)} of {of} {was} not looked at: {names}.")
    if report.compared:
        told = [f"{sum(one.new for one in report.compared)} new", f"{len(report.gone)} gone"]
        sentences.append(f"Findings since the last time: {', '.join(told)}, {sum(one.unchanged for one in report.compared)} as before.")
    return " ".join(sentences)


def standing(name: str, source: Source | None) -> str:
    """An object, and where it stands if it was read from a file."""
    return f"{name} ({source.file}, line {source.line})" if source else name


def _names(hosts: Sequence[Host]) -> list[str]:
    return list(dict.fromkeys(one.name for one in hosts))


def overall(report: Report) -> State:
    return worst(one.state for one in report.clusters)


def state_of(cluster: Cluster) -> str:
    return "not looked at" if cluster.error else STATE[cluster.state]


def day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")


def moment(when: datetime) -> str:
    """RFC 3339, in UTC."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def shown(when: datetime | None) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC") if when else "never"


def left(days: int) -> str:
    if days < 0:
        return "ended today" if days == -1 else f"ended {counted(-days - 1, 'day')} ago"
    return "ends today" if days == 0 else f"in {counted(days, 'day')}"


def span_of(certificate: Certificate) -> str:
    return next((name for most, name in SPANS if certificate.days_left < most), LATER)


def breaks(certificate: Certificate) -> str:
    """What breaks on the day on which a certificate ends."""
    if certificate.hosts:
        return listed(certificate.hosts)
    if not certificate.is_used:
        return "nothing uses it"
    if any(place.role == "trusted" for place in certificate.places):
        return "what is verified with it at " + listed(certificate.used_by)
    return listed(certificate.used_by)
