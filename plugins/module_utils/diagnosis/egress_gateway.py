# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an egress gateway is there and listens: its Service, its workloads, and the kind of routes on it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..istio.workload import UNPRIVILEGED, skipping_pods
from ..objects.kinds import POD, SERVICE
from .egress_case import Case, each_path, service_of, workloads_of
from .readings import spec_of
from .rule import Found, Rule


def gateway_service(case: Case) -> Iterator[Found]:
    gateway = case.path.gateway
    key = (gateway.namespace, gateway.service)
    workloads = workloads_of(case)
    selector = ", ".join(f"{name}={value}" for name, value in gateway.selector.items())
    if workloads is not None and not workloads:
        yield case.found(
            "no_gateway_workload",
            case.at("gateway", "spec.selector", "gateway.selector"),
            f"no pod or WorkloadEntry in {gateway.namespace} matches {selector}",
            "install an egress gateway (Istio's default profile has none), or correct "
            + case.word("gateway.selector and gateway.namespace", "the selector"),
            cause=f"{gateway.namespace} {selector}",
        )
    if not case.view.snapshot.knows(SERVICE, *key):
        return
    service = service_of(case)
    if service is None:
        yield case.found(
            "gateway_service_missing",
            case.at("virtual_service", "", "gateway.service"),
            f"expected the Service {'/'.join(key)} in front of the gateway, found none",
            f"correct {case.word('gateway.service and gateway.namespace', 'the destination of the route')}, or install the gateway",
            cause="/".join(key),
        )
        return
    spec = spec_of(service)
    wanted = spec.get("selector") or {}
    if workloads and wanted and not any(wanted.items() <= workload.labels.items() for workload in workloads):
        yield case.found(
            "service_selects_others",
            case.service_at("gateway.service"),
            f"the Service {'/'.join(key)} selects none of the workloads that match {selector}",
            "give the selector and the Service of the same gateway",
        )
    ports = {port.get("port"): port for port in spec.get("ports") or ()}
    if gateway.port not in ports:
        yield case.found(
            "gateway_port_missing",
            case.service_at("gateway.port"),
            f"the Service {'/'.join(key)} has no port {gateway.port}, only {', '.join(map(str, ports)) or 'none'}: sidecars would answer 503",
            f"use one of its ports in {case.word('gateway.port', 'the route')}, or add the port to the Service",
        )


def skipped(case: Case) -> Iterator[Found]:
    """For what a module asks for: the rule about all Gateways is in `listeners.py`."""
    gateway, service = case.path.gateway, service_of(case)
    skipping = skipping_pods(gateway.port, workloads_of(case) or (), [service] if service else []) if case.path.asked else ()
    for workload, target in skipping[:1]:
        others = f" and {len(skipping) - 1} more" if len(skipping) > 1 else ""
        yield case.found(
            "privileged_target_port",
            case.service_at("gateway.port"),
            f"the Service {gateway.namespace}/{gateway.service} maps port {gateway.port} to the pods' port {target}, and the pod "
            f"{workload.name}{others} has {UNPRIVILEGED}, so istiod skips that port",
            f"map port {gateway.port} to a targetPort above 1023, or drop {UNPRIVILEGED} and set the sysctl net.ipv4.ip_unprivileged_port_start to "
            "0, as Istio's chart `gateway` does",
            "warning",
        )


_SERVICE = each_path(gateway_service)

RULES = (
    Rule(
        "MIT0511",
        "no_gateway_workload",
        "error",
        "There is no egress gateway",
        "No pod and no WorkloadEntry in the Service's namespace matches the Gateway's selector. Requests get 503.",
        "Install an egress gateway (Istio's default profile has none), or correct the selector.",
        _SERVICE,
        (POD,),
        may_come=True,
    ),
    Rule(
        "MIT0512",
        "gateway_service_missing",
        "error",
        "The egress gateway has no Service",
        "Sidecars are led to a Service that does not exist, and answer 503.",
        "Correct the name of the Service, or install the gateway.",
        _SERVICE,
        (SERVICE,),
        may_come=True,
    ),
    Rule(
        "MIT0513",
        "service_selects_others",
        "error",
        "The Service and the Gateway are of different pods",
        "The Service leads to pods on which the Gateway's servers are not.",
        "Give the selector of the Gateway and the Service of the same gateway.",
        _SERVICE,
        (SERVICE, POD),
    ),
    Rule(
        "MIT0514",
        "gateway_port_missing",
        "error",
        "The egress gateway's Service does not have the port",
        "Sidecars have no cluster for the port, and answer 503.",
        "Use one of the Service's ports in the route, or add the port to the Service.",
        _SERVICE,
        (SERVICE,),
    ),
)
