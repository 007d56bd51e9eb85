# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report says, as frozen values, before any format. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Literal

State = Literal["broken", "doubtful", "unknown", "right"]
"""The worst first."""
STATES: tuple[State, ...] = ("broken", "doubtful", "unknown", "right")
Severity = Literal["error", "warning", "hint"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "hint")
Direction = Literal["ingress", "egress"]
DIRECTIONS: tuple[Direction, ...] = ("ingress", "egress")
Role = Literal["leaf", "chain", "trusted"]
ROLES: tuple[Role, ...] = ("leaf", "chain", "trusted")
_COMMON_NAME = re.compile(r"(?:^|,)CN=((?:\\.|[^,\\])+)")


@dataclass(frozen=True)
class Source:
    """Where an object stands that was read from a file."""

    file: str
    line: int
    """Counted from 1."""


@dataclass(frozen=True)
class Finding:
    cluster: str
    number: int
    """Its position among the cluster's."""
    id: str
    code: str
    severity: Severity
    title: str
    objects: tuple[str, ...]
    """`Kind namespace/name`, the first to look at first."""
    evidence: tuple[str, ...]
    remedy: str
    explained_by: tuple[str, ...] = ()
    """IDs of findings of which this is a symptom."""
    suppressed: str = ""
    """Why it is not to be told; empty where it is."""
    sources: tuple[Source | None, ...] = ()
    """Of each object; empty where none was read from a file."""
    is_new: bool = False
    """Whether an earlier result did not have it."""

    @property
    def located(self) -> tuple[tuple[str, Source | None], ...]:
        """Its objects with their sources."""
        return tuple(zip(self.objects, self.sources or (None,) * len(self.objects), strict=True))


@dataclass(frozen=True)
class Comparison:
    """With an earlier result of the same cluster."""

    new: int
    gone: tuple[Finding, ...]
    unchanged: int


@dataclass(frozen=True)
class Stage:
    name: str
    state: State
    what: str
    objects: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    """IDs."""


@dataclass(frozen=True)
class Host:
    """A host that is served, or an external service behind an egress gateway."""

    cluster: str
    name: str
    direction: Direction
    state: State
    verdict: str
    stages: tuple[Stage, ...]
    findings: tuple[int, ...] = ()
    """Positions among the cluster's findings."""


@dataclass(frozen=True)
class Place:
    """Where a certificate stands."""

    cluster: str
    object: str
    role: Role


@dataclass(frozen=True)
class Certificate:
    """One certificate, wherever it stands: several clusters may have it."""

    fingerprint: str
    serial: str
    subject: str
    names: tuple[str, ...]
    issuer: str
    issued_by: str
    """The fingerprint of its issuer, where that is known; else empty."""
    not_before: datetime
    not_after: datetime
    key: str
    is_ca: bool
    places: tuple[Place, ...]
    used_by: tuple[str, ...]
    hosts: tuple[str, ...]
    days_left: int
    """Whole days, rounded down; negative once it has ended."""
    min_remaining_days: float = 0
    pem: str = ""
    """Only where it was asked for."""

    @property
    def clusters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(place.cluster for place in self.places))

    @property
    def is_used(self) -> bool:
        return bool(self.used_by)

    @property
    def state(self) -> State:
        """Nothing breaks where nothing uses it."""
        if not self.is_used or self.days_left >= self.min_remaining_days:
            return "right" if self.days_left >= 0 or self.is_used else "unknown"
        return "broken" if self.days_left < 0 else "doubtful"

    @property
    def label(self) -> str:
        """What to call it: its names, else its common name, else its subject."""
        if self.names:
            return ", ".join(self.names[:3]) + (f" and {len(self.names) - 3} more" if len(self.names) > 3 else "")
        return common_name(self.subject)


def common_name(subject: str) -> str:
    """Of a name as RFC 4514 has it; the whole where it has none."""
    found = _COMMON_NAME.search(subject)
    return re.sub(r"\\(.)", r"\1", found[1]) if found else subject


def worst(states: Iterable[State]) -> State:
    """Of several; right where there are none."""
    return min(states, key=STATES.index, default="right")


@dataclass(frozen=True)
class Handshake:
    cluster: str
    host: str
    place: str
    """address:port"""
    served: str
    """Fingerprint of what was presented; empty where nothing was."""
    right: bool
    failure: str
    at: datetime


@dataclass(frozen=True)
class Cluster:
    name: str
    error: str = ""
    """Why it could not be looked at; empty where it was."""
    looked_at: datetime | None = None
    findings: tuple[Finding, ...] = ()
    suppressed: tuple[Finding, ...] = ()
    hosts: tuple[Host, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    handshakes: tuple[Handshake, ...] | None = None
    """None where none were asked for."""
    not_looked_at: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    compared: Comparison | None = None
    """None where nothing earlier was known."""

    @property
    def state(self) -> State:
        if self.error:
            return "unknown"
        if any(one.severity == "error" for one in self.findings) or any(one.state == "broken" for one in self.hosts):
            return "broken"
        doubts = any(one.severity == "warning" for one in self.findings) or any(one.state in ("doubtful", "unknown") for one in self.hosts)
        return "doubtful" if doubts else "right"

    def count(self, severity: Severity) -> int:
        return sum(one.severity == severity for one in self.findings)

    def affected(self, finding: Finding) -> tuple[Host, ...]:
        """The hosts that a finding concerns."""
        return self._affected.get(finding.number, ())

    @cached_property
    def _affected(self) -> Mapping[int, tuple[Host, ...]]:
        found: dict[int, list[Host]] = {}
        for host in self.hosts:
            for number in host.findings:
                found.setdefault(number, []).append(host)
        return {number: tuple(hosts) for number, hosts in found.items()}

    def symptoms(self, finding: Finding) -> tuple[Finding, ...]:
        """What handshakes and proxies showed that this finding explains: symptoms of hosts or objects that it concerns, too."""
        mine = set(finding.objects)
        return tuple(one for one in self._explained.get(finding.id, ()) if not mine.isdisjoint(one.objects))

    @cached_property
    def _explained(self) -> Mapping[str, Sequence[Finding]]:
        found: dict[str, list[Finding]] = {}
        for one in self.findings:
            for cause in dict.fromkeys(one.explained_by):
                found.setdefault(cause, []).append(one)
        return found

    def concerned(self, finding: Finding) -> tuple[str, ...]:
        """The names of the hosts that a finding or one of its symptoms concerns."""
        return tuple(dict.fromkeys(host.name for one in (finding, *self.symptoms(finding)) for host in self.affected(one)))


@dataclass(frozen=True)
class Report:
    clusters: tuple[Cluster, ...] = field(default=())
    """By name."""

    @property
    def is_of_several(self) -> bool:
        """Whether it has to be said of which cluster something is told."""
        return len(self.clusters) > 1

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Positions of the clusters, by name."""
        return {one.name: number for number, one in enumerate(self.clusters)}

    def cluster(self, host: Host) -> Cluster:
        return self.clusters[self.numbers[host.cluster]]

    @cached_property
    def looked_at(self) -> datetime | None:
        """When the last cluster was looked at; None where none was."""
        return max((one.looked_at for one in self.clusters if one.looked_at), default=None)

    @cached_property
    def reached(self) -> tuple[Cluster, ...]:
        return tuple(one for one in self.clusters if not one.error)

    @cached_property
    def not_reached(self) -> tuple[Cluster, ...]:
        return tuple(one for one in self.clusters if one.error)

    @cached_property
    def hosts(self) -> tuple[Host, ...]:
        """The worst first."""
        found = [host for one in self.clusters for host in one.hosts]
        return tuple(sorted(found, key=lambda host: (STATES.index(host.state), host.direction == "egress", host.name, host.cluster)))

    @cached_property
    def causes(self) -> tuple[tuple[Cluster, Finding], ...]:
        """The findings, errors first, without symptoms that another finding explains."""
        found = []
        for cluster in self.clusters:
            explained = {symptom for one in cluster.findings for symptom in cluster.symptoms(one)}
            found += [(cluster, one) for one in cluster.findings if one not in explained]
        return tuple(sorted(found, key=lambda pair: (SEVERITIES.index(pair[1].severity), pair[1].id, pair[0].name, pair[1].number)))

    @cached_property
    def certificates(self) -> tuple[Certificate, ...]:
        """The first that ends first; one that several clusters have is there once."""
        merged: dict[str, Certificate] = {}
        for cluster in self.clusters:
            for one in cluster.certificates:
                merged[one.fingerprint] = _merged(merged.get(one.fingerprint), one)
        return tuple(sorted(merged.values(), key=lambda one: (one.not_after, one.fingerprint)))

    @cached_property
    def compared(self) -> tuple[Comparison, ...]:
        return tuple(one.compared for one in self.clusters if one.compared)

    @cached_property
    def gone(self) -> tuple[Finding, ...]:
        """What earlier results had and these have not, errors first."""
        found = [each for one in self.compared for each in one.gone]
        return tuple(sorted(found, key=lambda one: (SEVERITIES.index(one.severity), one.id, one.cluster, one.objects)))

    @cached_property
    def handshakes(self) -> tuple[Handshake, ...]:
        """Those that failed first."""
        found = [shaken for one in self.clusters for shaken in one.handshakes or ()]
        return tuple(sorted(found, key=lambda shaken: (shaken.right, shaken.host, shaken.cluster, shaken.place)))

    def count(self, severity: Severity) -> int:
        """Causes of a severity."""
        return sum(one.severity == severity for __, one in self.causes)


def _merged(one: Certificate | None, other: Certificate) -> Certificate:
    if one is None:
        return other
    return replace(
        one,
        issued_by=one.issued_by or other.issued_by,
        places=(*one.places, *other.places),
        used_by=_union(one.used_by, other.used_by),
        hosts=_union(one.hosts, other.hosts),
        days_left=min(one.days_left, other.days_left),
        min_remaining_days=max(one.min_remaining_days, other.min_remaining_days),
    )


def _union(one: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({*one, *other}))
