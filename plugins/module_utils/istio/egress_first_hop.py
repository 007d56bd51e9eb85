# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether clients' requests reach the egress gateway: the route in the mesh, the first hop's rule, and who sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..problems import Problem
from .choice import is_shown, rule_for, title
from .egress import Part
from .egress_view import Case, Manifest, clients_of, destinations, owner_of
from .names import subset_of


def first_hop(case: Case) -> Iterator[Problem]:
    one, view = case.one, case.view
    port, subset = one.gateway.port, one.subset
    for target in destinations(case.objects.get("virtual_service"), gateway="mesh"):
        port, subset = (target.get("port") or {}).get("number", port), target.get("subset", "")
    for viewer in case.viewers:
        merged = rule_for(view.rules, viewer, one.gateway.host, one.gateway.namespace)
        mine = one.objects["first_hop_rule"]
        if merged is None or subset not in merged.subsets:
            yield _subset_missing(case, viewer, subset, [] if merged is None else [title(rule) for rule in merged.rules])
            continue
        brought_by, __ = merged.subsets[subset]
        if owner_of(brought_by) != one.owner:
            yield case.problem(
                "subset_taken",
                f"DestinationRule {mine}",
                f"the subset {subset} of {one.gateway.host} comes from the older {title(brought_by)}, and istiod ignores the later one",
                "delete that rule, or choose another name for the service",
            )
        tls = merged.tls(port, subset) or {}
        if tls.get("mode") != "ISTIO_MUTUAL":
            yield case.problem(
                "first_hop_not_mutual",
                f"DestinationRule {mine}",
                f"{clients_of(viewer)} reach the gateway's port {port} with TLS mode {tls.get('mode', 'none')}, and it expects ISTIO_MUTUAL",
                f"set ISTIO_MUTUAL for port {port} in the subset {subset}",
            )
            continue
        sni = tls.get("sni") or f"outbound_.{port}_.{subset}_.{one.gateway.host}"
        hosts = _gateway_hosts(case, port)
        if not any(subset_of(sni, host) for host in hosts):
            yield case.problem(
                "first_hop_sni",
                f"DestinationRule {mine}",
                f"{clients_of(viewer)} send the SNI {sni} to the gateway, whose hosts on port {port} are {', '.join(hosts) or 'none'}",
                f"make sni of the first hop a host of the Gateway: {one.host}",
            )


def _subset_missing(case: Case, viewer: str, subset: str, others: Sequence[str]) -> Problem:
    one = case.one
    mine = one.objects["first_hop_rule"]
    what = f"DestinationRule {mine}"
    if f"DestinationRule {mine}" in others:
        return case.problem(
            "subset_missing",
            what,
            f"the route sends {clients_of(viewer)} to the subset {subset} of {one.gateway.host}, which no DestinationRule has: 503",
            "name the same subset in the route and in the rule",
        )
    if others:
        return case.problem(
            "first_hop_rule_shadowed",
            what,
            f"for {clients_of(viewer)} istiod uses {', '.join(others)} instead, which has no subset {subset}: 503",
            f"move the rule for {one.gateway.host} to namespace {one.gateway.namespace}, or give it the same exportTo, so that istiod merges both",
        )
    return case.problem(
        "first_hop_rule_invisible",
        what,
        f"{clients_of(viewer)} do not see it: istiod looks in the client's namespace, in {one.gateway.namespace}, and in "
        f"{case.view.snapshot.root_namespace}",
        f"keep it in {one.gateway.namespace}",
    )


def _gateway_hosts(case: Case, port: int) -> list[str]:
    servers = (case.objects.get("gateway", {}).get("spec") or {}).get("servers") or ()
    return [host.split("/")[-1] for server in servers if server["port"]["number"] == port for host in server.get("hosts") or ()]


def mesh_route(case: Case) -> Iterator[Problem]:
    """Of several VirtualServices for a host, sidecars use the oldest that has a route for the port."""
    one = case.one
    mine = one.objects["virtual_service"]
    for viewer in case.viewers:
        older = True
        for route in case.view.routes.get(one.host, ()):
            if owner_of(route) == one.owner:
                older = False
                continue
            if not is_shown(route, viewer) or not _routes_mesh(route, one.http_port, "tcp" if one.is_tcp else "http"):
                continue
            consequence = "istiod uses the older one, so requests go past the gateway" if older else "istiod ignores it from now on"
            yield case.problem(
                "route_taken",
                f"VirtualService {mine}",
                f"{title(route)} routes {one.host} for {clients_of(viewer)}, too: {consequence}",
                "delete that VirtualService, or take this host out of it",
                "error" if older else "warning",
            )


def _routes_mesh(route: Manifest, port: int, section: str) -> bool:
    spec = route.get("spec") or {}
    empty: Sequence[Mapping[str, Any]] = ({},)
    matches = [match for rule in spec.get(section) or () for match in rule.get("match") or empty]
    gateways = spec.get("gateways") or ("mesh",)
    return any("mesh" in (match.get("gateways") or gateways) and match.get("port", port) == port for match in matches)


def visibility(case: Case) -> Iterator[Problem]:
    one = case.one
    parts: tuple[Part, ...] = ("service_entry", "virtual_service", "direct_virtual_service")
    for part in parts:
        made = case.objects.get(part)
        if made is None:
            continue
        wanting = [] if part == "direct_virtual_service" or is_shown(made, one.gateway.namespace) else ["the gateway"]
        wanting += [clients_of(client) for client in one.client_namespaces if not is_shown(made, client)]
        if wanting:
            yield case.problem(
                "not_shown",
                title(made),
                f"{' and '.join(wanting)} cannot see it, with exportTo {list(made['spec'].get('exportTo') or ())}",
                "add their namespaces to export_to",
            )
