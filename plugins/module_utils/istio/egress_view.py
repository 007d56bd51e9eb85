# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rule about originations is given: one of them, its objects, and its cluster as it will be. The rules are in `egress_first_hop.py`,
`egress_gateway.py`, `egress_service.py` and `egress_surroundings.py`; `egress_checks.py` asks them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..problems import Problem, Severity
from .choice import ANYWHERE, Rules
from .egress import Origination, Part
from .ownership import MANAGED_BY, MANAGED_BY_LABEL, OWNER_LABEL
from .workload import Workload, pod_port

Manifest = Mapping[str, Any]

HTTP = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB")
TCP = ("TCP", "MONGO", "REDIS", "MYSQL")
TLS = ("HTTPS", "TLS")


@dataclass(frozen=True)
class Snapshot:
    """What the cluster holds, as far as it could be read: None, or a missing key, stands for what could not, and is told as a note."""

    service_entries: Sequence[Manifest] | None = None
    gateways: Sequence[Manifest] | None = None
    destination_rules: Sequence[Manifest] | None = None
    virtual_services: Sequence[Manifest] | None = None
    network_policies: Sequence[Manifest] | None = None
    services: Mapping[tuple[str, str], Manifest | None] = field(default_factory=dict)
    """(namespace, name) of gateways' Services; None for one that does not exist."""
    workloads: Sequence[Workload] | None = None
    secret_keys: Mapping[tuple[str, str], frozenset[str] | None] = field(default_factory=dict)
    """(namespace, name) of Secrets, and of ConfigMaps that hold a CA, to the keys that are not empty; None for one that does not exist."""
    may_list_secrets: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    """(namespace, service account) to the answer of the SubjectAccessReview that istiod asks."""
    sidecars: Sequence[Manifest] | None = None
    authorization_policies: Sequence[Manifest] | None = None
    namespaces: Mapping[str, Mapping[str, str] | None] = field(default_factory=dict)
    """Labels by name; None for one that does not exist."""
    injected: Mapping[str, bool] = field(default_factory=dict)
    """Whether something in a namespace has a proxy though the namespace asks for none: a pod, or a machine (WorkloadEntry)."""
    mesh: Mapping[str, Any] | None = None
    """meshConfig."""
    root_namespace: str = "istio-system"
    unread: tuple[str, ...] = ()
    """What else could not be read, in words, for example `VirtualServices outside of istio-system`."""


@dataclass(frozen=True)
class Checked:
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """The cluster as it will be: the desired objects and everybody else's."""

    snapshot: Snapshot
    rules: Rules
    routes: Mapping[str, Sequence[Manifest]]
    """VirtualServices by host, the oldest first."""
    routes_of_gateway: Mapping[str, Sequence[Manifest]]
    gateways: Mapping[str, Manifest]
    """By namespace/name."""
    other_gateways: Sequence[Manifest]
    """Those that this call does not make; the hosts of its own are distinct already."""
    service_entries: Mapping[str, Sequence[Manifest]]
    live: Mapping[tuple[str, str, str], Manifest]
    originations: Sequence[Origination]


@dataclass(frozen=True)
class Case:
    """One origination, its objects, and the view."""

    one: Origination
    objects: Mapping[Part, Manifest]
    view: View

    @property
    def viewers(self) -> tuple[str, ...]:
        return self.one.client_namespaces or (ANYWHERE,)

    def problem(self, code: str, what: str, message: str, remedy: str, severity: Severity = "error") -> Problem:
        return Problem(code, f"{self.one.where}: {what}", message, remedy, severity)


def key_of(manifest: Manifest) -> tuple[str, str, str]:
    return manifest["kind"], manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"]


def owner_of(manifest: Manifest) -> str | None:
    labels = manifest["metadata"].get("labels") or {}
    return labels.get(OWNER_LABEL) if labels.get(MANAGED_BY_LABEL) == MANAGED_BY else None


def clients_of(viewer: str) -> str:
    return f"the clients in {viewer}" if viewer else "clients"


def destinations(route: Manifest | None, *, gateway: str) -> Iterator[Mapping[str, Any]]:
    """Where a VirtualService's HTTP and TCP routes send what arrives over a gateway (`mesh`: from sidecars)."""
    spec = (route or {}).get("spec") or {}
    for rule in (*(spec.get("http") or ()), *(spec.get("tcp") or ())):
        matches: Sequence[Mapping[str, Any]] = rule.get("match") or ({},)
        if any(gateway in (match.get("gateways") or spec.get("gateways") or ("mesh",)) for match in matches):
            yield from (target["destination"] for target in rule.get("route") or () if "destination" in target)


def workloads_of(case: Case) -> list[Workload] | None:
    """The gateway's workloads; None where they were not read."""
    gateway = case.one.gateway
    if case.view.snapshot.workloads is None:
        return None
    return [
        workload
        for workload in case.view.snapshot.workloads
        if workload.namespace == gateway.namespace and gateway.selector.items() <= workload.labels.items()
    ]


def gateway_labels(case: Case) -> dict[str, str]:
    labels = dict(case.one.gateway.selector)
    for workload in workloads_of(case) or ():
        labels.update(workload.labels)
    return labels


def service_of(case: Case) -> Manifest | None:
    return case.view.snapshot.services.get((case.one.gateway.namespace, case.one.gateway.service))


def pod_ports_of(case: Case, number: int) -> set[int | str]:
    """The ports that the gateway's proxies listen on for a Gateway's port."""
    service = service_of(case)
    services = [service] if service else []
    return {pod_port(number, services, workload.ports) for workload in workloads_of(case) or ()} or {pod_port(number, services)}
