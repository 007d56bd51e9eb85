# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rule about ways through egress gateways is given: one of them, and the mesh. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..istio.choice import fqdn
from ..istio.egress import Part
from ..istio.workload import Workload, pod_port
from ..objects.kinds import GATEWAY, SERVICE, Manifest, Ref, ref_of
from .egress_paths import EgressPath, legs
from .readings import spec_of
from .rule import Found, Severity
from .view import MeshView

Place = tuple[Ref, str, str]
"""(object, field, argument of a module)"""


@dataclass(frozen=True)
class Case:
    path: EgressPath
    view: MeshView

    @property
    def viewers(self) -> tuple[str, ...]:
        return self.path.viewers

    def made(self, part: Part) -> Manifest | None:
        """The object as it will be."""
        ref = self.path.objects.get(part)
        return self.view.snapshot.objects.get(ref) if ref else None

    def at(self, part: Part, field: str = "", argument: str = "") -> Place:
        ref = self.path.objects.get(part) or self.path.objects["virtual_service"]
        return ref, field, argument

    def service_at(self, argument: str) -> Place:
        return SERVICE.ref(self.path.gateway.namespace, self.path.gateway.service), "spec", argument

    def owns(self, manifest: Manifest | None) -> bool:
        return manifest is not None and ref_of(manifest) in self.path.refs

    def word(self, argument: str, field: str) -> str:
        """What the user changes: an argument of the module, or a field of the object."""
        return argument if self.path.asked else field

    def found(self, code: str, place: Place, message: str, remedy: str, severity: Severity | None = None, cause: str = "") -> Found:
        ref, field, argument = place
        where = f"{self.path.where}: {argument or ref}" if self.path.asked else ""
        others = tuple(other for other in dict.fromkeys(self.path.objects.values()) if other != ref)
        return Found(code, ref, field, message, remedy, severity, others, where, cause)


def each_path(rule: Callable[[Case], Iterator[Found]]) -> Callable[[MeshView], Iterator[Found]]:
    """A rule about one way, as a rule about the mesh."""

    def check(view: MeshView) -> Iterator[Found]:
        for path in view.paths:
            yield from rule(Case(path, view))

    check.__name__ = rule.__name__
    check.__doc__ = rule.__doc__
    return check


def clients_of(viewer: str) -> str:
    return f"the clients in {viewer}" if viewer else "clients"


def destinations(case: Case, gateway: str) -> Iterator[Mapping[str, Any]]:
    """Where the path's VirtualService sends HTTP and TCP of its host that arrives over a gateway."""
    for leg in legs(case.made("virtual_service"), gateway, case.view.snapshot.domain):
        if leg.kind != "tls":
            yield {"host": leg.host, "port": {"number": leg.port} if leg.port else {}, "subset": leg.subset}


def gateway_name(case: Case) -> str:
    ref = case.path.objects.get("gateway") or GATEWAY.ref("", "")
    return f"{ref.namespace}/{ref.name}"


def workloads_of(case: Case) -> list[Workload] | None:
    """The gateway's workloads; None where they were not read."""
    gateway, snapshot = case.path.gateway, case.view.snapshot
    from ..objects.kinds import POD

    if not snapshot.knows(POD, gateway.namespace):
        return None
    return [workload for workload in case.view.selected(gateway.selector) if workload.namespace == gateway.namespace]


def gateway_labels(case: Case) -> dict[str, str]:
    labels = dict(case.path.gateway.selector)
    for workload in workloads_of(case) or ():
        labels.update(workload.labels)
    return labels


def service_of(case: Case) -> Manifest | None:
    return case.view.snapshot.get(SERVICE, case.path.gateway.namespace, case.path.gateway.service)


def pod_ports_of(case: Case, number: int) -> set[int | str]:
    """The ports that the gateway's proxies listen on for a Gateway's port."""
    service = service_of(case)
    services = [service] if service else []
    return {pod_port(number, services, workload.ports) for workload in workloads_of(case) or ()} or {pod_port(number, services)}


def whole_host(case: Case, host: str, namespace: str) -> str:
    return fqdn(host, namespace, case.view.snapshot.domain)


def servers_of(manifest: Manifest | None) -> list[Mapping[str, Any]]:
    return list(spec_of(manifest).get("servers") or ())
