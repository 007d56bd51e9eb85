# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the egress gateway listens for a service: its Service, its workloads, and other Gateways for the same pods."""

from __future__ import annotations

from collections.abc import Iterator

from ..problems import Problem, Severity
from .choice import age, title
from .egress_view import TLS, Case, Manifest, gateway_labels, owner_of, pod_ports_of, service_of, workloads_of
from .workload import UNPRIVILEGED, skipping_pods


def listener(case: Case) -> Iterator[Problem]:
    """istiod's mergeGateways: one TLS server for a host and port, the oldest; no TLS server on a port that serves plaintext."""
    one = case.one
    labels = gateway_labels(case)
    ports = pod_ports_of(case, one.gateway.port)
    mine = case.view.gateways.get(str(one.objects["gateway"]))
    for other in case.view.other_gateways:
        older = mine is None or age(other) < age(mine)
        spec = other.get("spec") or {}
        if not (spec.get("selector") or {}).items() <= labels.items():
            continue
        for server in spec.get("servers") or ():
            number = (server.get("port") or {}).get("number")
            if server.get("bind") or number is None or pod_ports_of(case, number).isdisjoint(ports):
                continue
            severity: Severity = "error" if older else "warning"
            consequence = "istiod drops the later one" + (", which is this one" if older else "")
            same = [host for host in server.get("hosts") or () if host.split("/")[-1] == one.host]
            if str(server["port"].get("protocol", "")).upper() not in TLS:
                yield case.problem(
                    "gateway_port_plaintext",
                    f"Gateway {one.objects['gateway']}",
                    f"{title(other)} serves {server['port'].get('protocol')} without TLS on port {number} of the same pods: {consequence}",
                    "use another gateway.port of the gateway's Service",
                    severity,
                )
            elif same:
                if all("/" in host and not host.startswith("*/") for host in same):
                    consequence = "istiod does not notice, because that one names a namespace, and the gateway refuses the whole listener"
                    severity = "error"
                yield case.problem(
                    "gateway_host_taken",
                    f"Gateway {one.objects['gateway']}",
                    f"{title(other)} serves {one.host} on port {number} of the same pods, too: {consequence}",
                    f"take {one.host} out of that Gateway, or delete it",
                    severity,
                )


def gateway_service(case: Case) -> Iterator[Problem]:
    gateway = case.one.gateway
    key = (gateway.namespace, gateway.service)
    workloads = workloads_of(case)
    selector = ", ".join(f"{name}={value}" for name, value in gateway.selector.items())
    if workloads is not None and not workloads:
        yield case.problem(
            "no_gateway_workload",
            "gateway.selector",
            f"no pod or WorkloadEntry in {gateway.namespace} matches {selector}",
            "install an egress gateway (Istio's default profile has none), or correct gateway.selector and gateway.namespace",
        )
    if key not in case.view.snapshot.services:
        return
    service = service_of(case)
    if service is None:
        yield case.problem(
            "gateway_service_missing",
            "gateway.service",
            f"expected the Service {'/'.join(key)} in front of the gateway, found none",
            "correct gateway.service and gateway.namespace, or install the gateway",
        )
        return
    spec = service.get("spec") or {}
    wanted = spec.get("selector") or {}
    if workloads and wanted and not any(wanted.items() <= workload.labels.items() for workload in workloads):
        yield case.problem(
            "service_selects_others",
            "gateway.service",
            f"the Service {'/'.join(key)} selects none of the workloads that match {selector}",
            "give the selector and the Service of the same gateway",
        )
    ports = {port.get("port"): port for port in spec.get("ports") or ()}
    if gateway.port not in ports:
        yield case.problem(
            "gateway_port_missing",
            "gateway.port",
            f"the Service {'/'.join(key)} has no port {gateway.port}, only {', '.join(map(str, ports)) or 'none'}: sidecars would answer 503",
            "use one of its ports in gateway.port, or add the port to the Service",
        )
    yield from _skipped(case, service)


def _skipped(case: Case, service: Manifest) -> Iterator[Problem]:
    gateway = case.one.gateway
    skipping = skipping_pods(gateway.port, workloads_of(case) or (), [service])
    for workload, target in skipping[:1]:
        others = f" and {len(skipping) - 1} more" if len(skipping) > 1 else ""
        yield case.problem(
            "privileged_target_port",
            "gateway.port",
            f"the Service {gateway.namespace}/{gateway.service} maps port {gateway.port} to the pods' port {target}, and the pod "
            f"{workload.name}{others} has {UNPRIVILEGED}, so istiod skips that port",
            f"map port {gateway.port} to a targetPort above 1023, or drop {UNPRIVILEGED} and set the sysctl net.ipv4.ip_unprivileged_port_start to "
            "0, as Istio's chart `gateway` does",
            "warning",
        )


def unused_tls_routes(case: Case) -> Iterator[Problem]:
    used, seen = ("tcp", "TCP") if case.one.is_tcp else ("http", "HTTP")
    for route in case.view.routes_of_gateway.get(str(case.one.objects["gateway"]), ()):
        spec = route.get("spec") or {}
        unused = [section for section in ("http", "tls", "tcp") if section != used and spec.get(section)]
        if unused:
            yield case.problem(
                "tls_routes_on_terminating_server",
                title(route),
                f"its {' and '.join(unused)} routes never apply on Gateway {case.one.objects['gateway']}, which terminates ISTIO_MUTUAL and then sees {seen}",
                f"use {used} routes, or bind the VirtualService to a Gateway with mode PASSTHROUGH",
                "error" if owner_of(route) == case.one.owner else "warning",
            )
