# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where routes lead, and whether the gateway's servers look at them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..istio.choice import rule_for
from ..istio.destinations import Destination, destination_problems
from ..istio.listeners import TERMINATING, Listener, listeners_of
from ..istio.names import matches
from ..objects.kinds import DESTINATION_RULE, GATEWAY, SERVICE, SERVICE_ENTRY, VIRTUAL_SERVICE, Manifest, ref_of
from .egress_paths import Leg, legs, whole
from .listeners import some
from .readings import spec_of
from .rule import Found, Rule
from .view import MeshView

_ANY: tuple[dict[str, Any], ...] = ({},)
_SEEN = {"http": "HTTP", "tls": "TLS", "tcp": "TCP"}


def _named(gateway: Manifest) -> str:
    return f"{gateway['metadata'].get('namespace', '')}/{gateway['metadata']['name']}"


def destinations(view: MeshView) -> Iterator[Found]:
    """Targets of routes at gateways."""
    told: set[tuple[str, str, str]] = set()
    for gateway in view.gateways:
        selector = spec_of(gateway).get("selector") or {}
        proxies = view.home_of(selector) or (view.snapshot.root_namespace,)
        servers = [one.number for one in listeners_of(gateway)]
        for route in view.routes_of_gateway.get(_named(gateway), ()):
            namespace = route["metadata"].get("namespace", "")
            found = [_destination(leg, servers) for leg in legs(route, _named(gateway), view.snapshot.domain)]
            for problem in destination_problems(
                found,
                view.known,
                proxy_namespaces=proxies,
                route_namespace=namespace,
                rules=view.rules if view.rules_are_complete else None,
            ):
                key = (problem.code, str(ref_of(route)), problem.where)
                if key not in told:
                    told.add(key)
                    yield Found(problem.code, ref_of(route), problem.where, problem.message, problem.remedy, problem.severity)


def _destination(leg: Leg, servers: Sequence[int]) -> Destination:
    return Destination(leg.field, leg.host, leg.host, leg.port or next(iter(servers), 443), bool(leg.port), leg.subset or None)


def subsets_in_mesh(view: MeshView) -> Iterator[Found]:
    """Subsets that routes of sidecars name; the first hop to an egress gateway is judged with its path."""
    first_hops = {(path.objects["virtual_service"], path.gateway.host) for path in view.paths}
    for route in view.snapshot.of(VIRTUAL_SERVICE) if view.rules_are_complete else ():
        namespace = route["metadata"].get("namespace", "")
        for leg in legs(route, "mesh", view.snapshot.domain):
            if not leg.subset or (ref_of(route), leg.host) in first_hops:
                continue
            home = (view.service_key(leg.host) or (namespace, ""))[0]
            merged = rule_for(view.rules, namespace, leg.host, home)
            if merged is None or leg.subset not in merged.subsets:
                has = (
                    f"its DestinationRule has {', '.join(sorted(merged.subsets)) or 'none'}"
                    if merged
                    else "there is no DestinationRule for it"
                )
                yield Found(
                    "destination_subset",
                    ref_of(route),
                    leg.field,
                    f"the route goes to the subset {leg.subset} of {leg.host}, and {has}: requests will be answered with 503",
                    "add the subset to a DestinationRule for the host, or leave it out",
                )


def unused_kinds(view: MeshView) -> Iterator[Found]:
    """A server looks at one kind of routes: `http` or `tcp` where it terminates TLS, `tls` where it passes it on."""
    for gateway in view.gateways:
        servers = listeners_of(gateway)
        for route in view.routes_of_gateway.get(_named(gateway), ()):
            hosts = [str(host).lower() for host in spec_of(route).get("hosts") or ()]
            mine = [one for one in servers if any(matches(host, name) for host in hosts for name in one.names)] or list(servers)
            wanted = {one.route_kind for one in mine if not one.redirects} - {None}
            unused = [kind for kind in ("http", "tls", "tcp") if kind not in wanted and _applies(route, kind, _named(gateway))]
            terminating = [one for one in mine if one.protocol in ("HTTPS", "TLS") and one.mode in TERMINATING]
            if unused and wanted and terminating:
                yield _unused(gateway, route, unused, terminating[0])


def _unused(gateway: Manifest, route: Manifest, unused: Sequence[str], server: Listener) -> Found:
    used = str(server.route_kind)
    return Found(
        "tls_routes_on_terminating_server",
        ref_of(route),
        f"spec.{unused[0]}",
        f"its {' and '.join(unused)} routes never apply on Gateway {_named(gateway)}, which terminates {server.mode} and then sees {_SEEN[used]}",
        f"use {used} routes, or bind the VirtualService to a Gateway with mode PASSTHROUGH",
        others=(ref_of(gateway),),
    )


def _applies(route: Manifest, kind: str, gateway: str) -> bool:
    spec, namespace = spec_of(route), route["metadata"].get("namespace", "")
    return any(
        gateway in whole(match.get("gateways") or spec.get("gateways"), namespace)
        for rule in spec.get(kind) or ()
        for match in rule.get("match") or _ANY
    )


def unserved(view: MeshView) -> Iterator[Found]:
    """VirtualServices of which no host is one of their Gateway's servers: requests get 404, or no listener at all."""
    for gateway in view.gateways:
        servers = listeners_of(gateway)
        for route in view.routes_of_gateway.get(_named(gateway), ()) if servers else ():
            namespace = route["metadata"].get("namespace", "")
            hosts = [str(host).lower() for host in spec_of(route).get("hosts") or ()]
            names = [served for one in servers for served in one.hosts]
            if hosts and not any(_serves(served, host, namespace) for served in names for host in hosts):
                yield Found(
                    "host_not_served",
                    ref_of(route),
                    "spec.hosts",
                    f"no server of Gateway {_named(gateway)} takes {some(hosts)} from namespace {namespace}: its hosts are {some(names)}",
                    "add the host to a server of the Gateway, or correct one of the two",
                    others=(ref_of(gateway),),
                )


def _serves(served: str, host: str, namespace: str) -> bool:
    place, separator, name = served.rpartition("/")
    return matches(name, host) and (not separator or place == namespace)


def missing_gateways(view: MeshView) -> Iterator[Found]:
    for named, routes in view.routes_of_gateway.items():
        namespace, __, name = named.partition("/")
        if (
            named == "mesh"
            or name == "mesh"
            or view.snapshot.get(GATEWAY, namespace, name)
            or not view.snapshot.knows(GATEWAY, namespace, name)
        ):
            continue
        for route in routes:
            yield Found(
                "gateway_not_found",
                ref_of(route),
                "spec.gateways",
                f"expected a Gateway {named}, found none: no gateway serves the route",
                f"make the Gateway, or correct the name; a Gateway of another namespace is named in full, namespace/{name}",
                cause=named,
            )


RULES = (
    Rule(
        "MIT0401",
        "destination_missing",
        "warning",
        "A route leads to a host that istiod does not know",
        "There is no Service and no ServiceEntry of the name. Requests get 503. A name without dots is a Service of the route's own namespace; "
        "`name.namespace` is not completed.",
        "Make the Service or ServiceEntry, or correct the host.",
        destinations,
        (VIRTUAL_SERVICE, GATEWAY, SERVICE, SERVICE_ENTRY),
        may_come=True,
    ),
    Rule(
        "MIT0402",
        "destination_port",
        "warning",
        "A route leads to a port that the Service does not have",
        "Requests get 503. The port of a route is the Service's `port`, not its `targetPort`.",
        "Use one of the Service's ports.",
        destinations,
        (VIRTUAL_SERVICE, GATEWAY, SERVICE),
        may_come=True,
    ),
    Rule(
        "MIT0403",
        "destination_subset",
        "warning",
        "A route leads to a subset that no DestinationRule has",
        "Envoy has no cluster for it: requests get 503.",
        "Add the subset to a DestinationRule for the host, or leave it out of the route.",
        destinations,
        (VIRTUAL_SERVICE, DESTINATION_RULE),
        may_come=True,
        also=(subsets_in_mesh,),
    ),
    Rule(
        "MIT0404",
        "tls_routes_on_terminating_server",
        "error",
        "Routes of a kind that the server does not look at",
        "A server that terminates TLS sees HTTP or TCP afterwards: `tls` routes never apply there. With `tls` routes alone it gets no listener.",
        "Use http (or tcp) routes, or mode PASSTHROUGH.",
        unused_kinds,
        (VIRTUAL_SERVICE, GATEWAY),
    ),
    Rule(
        "MIT0406",
        "host_not_served",
        "warning",
        "No server of the Gateway takes a route's hosts",
        "A VirtualService applies where its hosts and those of the Gateway's servers have a name in common, and where the server takes hosts from "
        "its namespace. Otherwise the routes are never used: 404.",
        "Add the host to a server of the Gateway, or correct one of the two.",
        unserved,
        (VIRTUAL_SERVICE, GATEWAY),
        may_come=True,
    ),
    Rule(
        "MIT0405",
        "gateway_not_found",
        "warning",
        "A VirtualService names a Gateway that does not exist",
        "No gateway serves the routes.",
        "Make the Gateway, or correct its name (namespace/name).",
        missing_gateways,
        (VIRTUAL_SERVICE, GATEWAY),
        may_come=True,
    ),
)
