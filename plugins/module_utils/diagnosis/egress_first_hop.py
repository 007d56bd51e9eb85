# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether clients' requests reach the egress gateway: the route in the mesh, the first hop's rule, and who sees them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..istio.choice import is_shown, rule_for, title
from ..istio.egress import Part
from ..istio.names import subset_of
from ..objects.kinds import DESTINATION_RULE, GATEWAY, SERVICE_ENTRY, VIRTUAL_SERVICE, Manifest, ref_of
from .egress_case import Case, clients_of, destinations, each_path, pod_ports_of, servers_of
from .listeners import some
from .rule import Found, Rule


def first_hop(case: Case) -> Iterator[Found]:
    path, view = case.path, case.view
    port, subset = path.gateway.port, path.subset
    for target in destinations(case, "mesh") if path.asked else ():
        port, subset = target["port"].get("number", port), target["subset"]
    for viewer in case.viewers:
        merged = rule_for(view.rules, viewer, path.gateway.host, path.gateway.namespace)
        if subset and (merged is None or subset not in merged.subsets):
            yield _subset_missing(case, viewer, subset, [] if merged is None else [title(rule) for rule in merged.rules])
            continue
        if merged is None or path.server_mode != "ISTIO_MUTUAL":
            continue
        mine = path.objects.get("first_hop_rule")
        brought_by = merged.subsets[subset][0] if subset else merged.rules[0]
        later = mine if path.asked and ref_of(brought_by) != mine else None
        if not path.asked and subset in merged.ignored:
            later = ref_of(merged.ignored[subset])
        if later:
            yield case.found(
                "subset_taken",
                (later, "spec.subsets", ""),
                f"the subset {subset} of {path.gateway.host} comes from the older {title(brought_by)}, and istiod ignores the later one",
                f"delete that rule, or choose another name for {case.word('the service', 'the subset')}",
            )
            if not path.asked:
                continue
        tls = merged.tls(port, subset or None) or {}
        if tls.get("mode") != "ISTIO_MUTUAL":
            if tls or path.asked:  # without settings sidecars use the mesh's own TLS where they can
                yield case.found(
                    "first_hop_not_mutual",
                    case.at("first_hop_rule"),
                    f"{clients_of(viewer)} reach the gateway's port {port} with TLS mode {tls.get('mode', 'none')}, and it expects ISTIO_MUTUAL",
                    f"set ISTIO_MUTUAL for port {port} in the subset {subset}",
                )
            continue
        sni = tls.get("sni") or f"outbound_.{port}_.{subset}_.{path.gateway.host}"
        hosts = _gateway_hosts(case, port)
        if sni not in hosts and not any(subset_of(sni, host) for host in hosts):
            yield case.found(
                "first_hop_sni",
                case.at("first_hop_rule"),
                f"{clients_of(viewer)} send the SNI {sni} to the gateway, whose hosts on port {port} are {some(hosts) or 'none'}",
                f"make sni of the first hop a host of the Gateway: {path.host}",
            )


def _subset_missing(case: Case, viewer: str, subset: str, others: Sequence[str]) -> Found:
    path = case.path
    mine = path.objects.get("first_hop_rule")
    at = case.at("first_hop_rule")
    having = _rules_with_subset(case, subset)
    if str(mine) in others and (path.asked or not having):
        return case.found(
            "subset_missing",
            at,
            f"the route sends {clients_of(viewer)} to the subset {subset} of {path.gateway.host}, which no DestinationRule has: 503",
            "name the same subset in the route and in the rule",
        )
    if others:
        return case.found(
            "first_hop_rule_shadowed",
            at if path.asked or not having else (having[0], "", ""),
            f"for {clients_of(viewer)} istiod uses {', '.join(others)} instead, which has no subset {subset}: 503",
            f"move the rule for {path.gateway.host} to namespace {path.gateway.namespace}, or give it the same exportTo, so that istiod merges both",
        )
    if not path.asked and not having:
        return case.found(
            "subset_missing",
            case.at("virtual_service"),
            f"the route sends {clients_of(viewer)} to the subset {subset} of {path.gateway.host}, which no DestinationRule has: 503",
            f"add the subset {subset} to a DestinationRule for {path.gateway.host}, or leave it out of the route",
        )
    if mine is None or not path.asked:
        at = (having[0], "", "")
    return case.found(
        "first_hop_rule_invisible",
        at,
        f"{clients_of(viewer)} do not see it: istiod looks in the client's namespace, in {path.gateway.namespace}, and in "
        f"{case.view.snapshot.root_namespace}",
        f"keep it in {path.gateway.namespace}",
    )


def _rules_with_subset(case: Case, subset: str) -> list[Any]:
    """The rules for the gateway's Service, wherever they are, that have a subset."""
    return [
        ref_of(rule)
        for rule in case.view.rules_for(case.path.gateway.host)
        if any(one.get("name") == subset for one in (rule.get("spec") or {}).get("subsets") or ())
    ]


def _gateway_hosts(case: Case, port: int) -> Sequence[str]:
    """The hosts of the gateway's servers on the port, or on the one of the pods that it comes to."""
    if not case.path.asked:
        return case.view.hosts_on(case.path.gateway.selector, port)
    ports = pod_ports_of(case, port)
    return [
        host.split("/")[-1]
        for server in servers_of(case.made("gateway"))
        if server["port"]["number"] == port or not pod_ports_of(case, server["port"]["number"]).isdisjoint(ports)
        for host in server.get("hosts") or ()
    ]


def mesh_route(case: Case) -> Iterator[Found]:
    """Of several VirtualServices for a host, sidecars use the oldest that has a route for the port."""
    path = case.path
    for viewer in case.viewers:
        older = True
        for route in case.view.routes.get(path.host, ()):
            if case.owns(route):
                older = False
                continue
            if not is_shown(route, viewer) or not _routes_mesh(route, path.http_port, "tcp" if path.is_tcp else "http"):
                continue
            consequence = "istiod uses the older one, so requests go past the gateway" if older else "istiod ignores it from now on"
            yield case.found(
                "route_taken",
                case.at("virtual_service"),
                f"{title(route)} routes {path.host} for {clients_of(viewer)}, too: {consequence}",
                "delete that VirtualService, or take this host out of it",
                "error" if older else "warning",
            )


def _routes_mesh(route: Manifest, port: int, section: str) -> bool:
    spec = route.get("spec") or {}
    empty: Sequence[Mapping[str, Any]] = ({},)
    matches = [match for rule in spec.get(section) or () for match in rule.get("match") or empty]
    gateways = spec.get("gateways") or ("mesh",)
    return any("mesh" in (match.get("gateways") or gateways) and match.get("port", port) == port for match in matches)


def visibility(case: Case) -> Iterator[Found]:
    path = case.path
    parts: tuple[Part, ...] = ("service_entry", "virtual_service", "direct_virtual_service")
    for part in parts:
        made = case.made(part)
        if made is None:
            continue
        wanting = [] if part == "direct_virtual_service" or is_shown(made, path.gateway.namespace) else ["the gateway"]
        wanting += [clients_of(client) for client in path.clients if not is_shown(made, client)]
        if wanting:
            yield case.found(
                "not_shown",
                case.at(part, "spec.exportTo"),
                f"{' and '.join(wanting)} cannot see it, with exportTo {list(made['spec'].get('exportTo') or ())}",
                f"add their namespaces to {case.word('export_to', 'its exportTo')}",
            )


_FIRST_HOP, _MESH_ROUTE, _VISIBILITY = each_path(first_hop), each_path(mesh_route), each_path(visibility)
_RULES_AND_ROUTES = (VIRTUAL_SERVICE, DESTINATION_RULE)

RULES = (
    Rule(
        "MIT0501",
        "subset_missing",
        "error",
        "A route through the egress gateway names a subset that no DestinationRule has",
        "Sidecars have no cluster for the subset, and answer 503. Nothing refuses such a route when it is written.",
        "Name the same subset in the VirtualService and in the DestinationRule of the gateway's Service.",
        _FIRST_HOP,
        _RULES_AND_ROUTES,
    ),
    Rule(
        "MIT0502",
        "first_hop_rule_shadowed",
        "error",
        "Another DestinationRule is used for the egress gateway's Service",
        "istiod takes the rule of the client's namespace, else of the Service's, else of the root namespace, and merges only rules with the "
        "same exportTo. The rule that it takes has no such subset, so clients get 503.",
        "Move the rule to the gateway's namespace, or give both rules the same exportTo.",
        _FIRST_HOP,
        _RULES_AND_ROUTES,
    ),
    Rule(
        "MIT0503",
        "first_hop_rule_invisible",
        "error",
        "Clients do not see the DestinationRule of the first hop",
        "istiod looks for rules in the client's namespace, in the Service's and in the root namespace only. Clients get 503.",
        "Keep the rule in the namespace of the gateway's Service.",
        _FIRST_HOP,
        _RULES_AND_ROUTES,
    ),
    Rule(
        "MIT0504",
        "subset_taken",
        "error",
        "An older DestinationRule has the same subset",
        "Of two subsets with one name istiod keeps that of the older rule, and ignores the other.",
        "Delete the older rule, or choose another name.",
        _FIRST_HOP,
        _RULES_AND_ROUTES,
    ),
    Rule(
        "MIT0505",
        "first_hop_not_mutual",
        "error",
        "Clients do not speak the mesh's mutual TLS to the egress gateway",
        "The gateway's server has mode ISTIO_MUTUAL, and clients come with another mode or in plain text: every connection is reset.",
        "Set mode ISTIO_MUTUAL for the port in the subset of the gateway's DestinationRule.",
        _FIRST_HOP,
        (*_RULES_AND_ROUTES, GATEWAY),
    ),
    Rule(
        "MIT0506",
        "first_hop_sni",
        "error",
        "The SNI of the first hop is no host of the Gateway",
        "With ISTIO_MUTUAL the SNI defaults to the name of the cluster (`outbound_.443_.subset_.host`). The gateway finds no filter chain for "
        "it and closes the connection.",
        "Set `sni` in the DestinationRule of the gateway's Service to a host of the Gateway.",
        _FIRST_HOP,
        (*_RULES_AND_ROUTES, GATEWAY),
    ),
    Rule(
        "MIT0507",
        "route_taken",
        "error",
        "Another VirtualService routes the same host in the mesh",
        "Sidecars use the oldest VirtualService that has a route for the port. If that is another one, requests go past the gateway.",
        "Delete the other VirtualService, or take the host out of it.",
        _MESH_ROUTE,
        (VIRTUAL_SERVICE,),
    ),
    Rule(
        "MIT0508",
        "not_shown",
        "error",
        "exportTo hides an object from the gateway or from clients",
        "A ServiceEntry or VirtualService counts only for the namespaces that its exportTo names.",
        "Add the namespaces to exportTo.",
        _VISIBILITY,
        (SERVICE_ENTRY, VIRTUAL_SERVICE),
    ),
)
