# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What around an ingress Gateway keeps requests from it: AuthorizationPolicies, and namespaces that istiod does not read. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..problems import Problem
from .authorization import Refusal, Request, judge
from .ingress import IngressGateway
from .mesh_namespace import is_discovered
from .workload import Workload, pod_port, services_of

Manifest = Mapping[str, Any]


def authorization_problems(
    gateway: IngressGateway,
    workloads: Collection[Workload],
    policies: Collection[Manifest],
    services: Collection[Manifest],
    root_namespace: str,
) -> tuple[Problem, ...]:
    """Policies that refuse whatever clients from outside the mesh ask a server for; each with the first server that it refuses."""
    found: dict[Refusal, str] = {}
    for server in gateway.servers:
        hosts = server.names if server.route_kind == "http" else ()
        for workload in workloads:
            ports = pod_port(server.port, services_of(workload, services), workload.ports) if services else None
            for refusal in judge(policies, workload, Request(hosts, ports, in_mesh=False), root_namespace).refusals:
                found.setdefault(refusal, server.where)
    return tuple(
        Problem(
            "authorization_refuses",
            where,
            f"{', '.join(refusal.policies)} applies to the gateway's workloads and {refusal.reason}: every client will get 403 (RBAC: access denied)",
            "allow the server's hosts there with an AuthorizationPolicy, or give that one a selector that leaves the gateway out",
            "warning",
        )
        for refusal, where in found.items()
    )


def discovery_problems(
    places: Iterable[str], labels: Mapping[str, Mapping[str, str] | None], mesh: Mapping[str, Any] | None
) -> tuple[Problem, ...]:
    """Namespaces that meshConfig's discoverySelectors leave out; nothing is said about what could not be read."""
    return tuple(
        Problem(
            "namespace_not_discovered",
            f"namespace {place}",
            f"meshConfig.discoverySelectors leaves {place} out: istiod reads no object there, neither Gateways and routes nor Secrets",
            f"give {place} the labels that they ask for, or add it to discoverySelectors",
            "warning",
        )
        for place in dict.fromkeys(places)
        if mesh is not None and labels.get(place) is not None and not is_discovered(labels[place] or {}, mesh)
    )
