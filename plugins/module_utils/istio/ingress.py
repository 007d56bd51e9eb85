# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A secure ingress Gateway with the VirtualServices that route its hosts: values, and the manifests they stand for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..objects.ownership import metadata, owner_value
from ..tls.names import split_namespace
from .names import is_address, matches, subset_of
from .reference import Lookup, Reference, server_lookups

API_VERSION = "networking.istio.io/v1"
HTTPS_PORT = 443
REDIRECT_PORT = 80

PASSTHROUGH_MODES = ("PASSTHROUGH", "AUTO_PASSTHROUGH")
VERIFYING_MODES = ("MUTUAL", "OPTIONAL_MUTUAL")
"""Modes in which the server looks at client certificates with a CA of the user's."""

RouteKind = Literal["http", "tls", "tcp"]
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Route:
    """One rule: what of a server's traffic goes where."""

    where: str
    """The argument, for example `servers[1].routes[0]`."""
    name: str
    """The VirtualService's name; routes with one name are the rules of one VirtualService, in their order."""
    hosts: tuple[str, ...]
    rule: Mapping[str, Any]
    """The rule in the API's form, without what follows from the server: SNI hosts, and the port where it is needed."""


@dataclass(frozen=True)
class Server:
    """One TLS server of the Gateway."""

    where: str
    """The argument, for example `servers[1] (httpbin.example.com)`."""
    hosts: tuple[str, ...]
    """In the API's form: `httpbin.example.com`, `*.example.com`, `*`, or one of these behind `namespace/`, `./` or `*/`."""
    port: int
    port_name: str
    protocol: Literal["HTTPS", "TLS"]
    tls: Mapping[str, Any]
    """In the API's form."""
    bind: str | None = None
    http_redirect: bool = False
    credentials: tuple[Reference, ...] = ()
    ca_credential: Reference | None = None
    routes: tuple[Route, ...] = ()

    @property
    def mode(self) -> str:
        return str(self.tls["mode"])

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts without their namespaces."""
        return tuple(dict.fromkeys(bare(host) for host in self.hosts))

    @property
    def route_kind(self) -> RouteKind | None:
        """What istiod looks for in VirtualServices for such a server; None where it routes by itself."""
        if self.mode == "AUTO_PASSTHROUGH":
            return None
        if self.mode == "PASSTHROUGH":
            return "tls"
        # `tls` routes on a server that terminates TLS give no listener at all: https://github.com/istio/istio/issues/37293
        return "http" if self.protocol == "HTTPS" else "tcp"


@dataclass(frozen=True)
class IngressGateway:
    """A Gateway and its routes."""

    name: str
    namespace: str
    selector: Mapping[str, str]
    servers: tuple[Server, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """The owner label's value, by which the routes that belong to this Gateway are found."""
        return gateway_owner(self.name)


def gateway_owner(gateway_name: str) -> str:
    return owner_value("gateway", gateway_name)


def bare(host: str) -> str:
    """A host without the namespace before its slash."""
    return split_namespace(host)[1]


def allowed_from(host: str) -> str | None:
    """The namespace whose VirtualServices may use a host, `.` for the Gateway's own; None where all may."""
    namespace = split_namespace(host)[0]
    return None if namespace == "*" else namespace


def slug(host: str) -> str:
    """A host as a part of a name: `*.example.com` -> `wildcard.example.com`, `*` -> `any`."""
    name = bare(host).lower()
    name = "any" if name == "*" else name.replace("*", "wildcard", 1)
    return re.sub(r"[^a-z0-9.]+", "-", name).strip("-.")


def route_name(gateway_name: str, host: str) -> str:
    """The default name of a host's VirtualService: `<gateway>-<host>`."""
    name = f"{gateway_name}-{slug(host)}"
    if len(name) <= 253:
        return name
    return f"{name[:242].rstrip('.-')}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def port_names(ports: Sequence[tuple[str, int, str, str | None]], taken: Iterable[str] = ()) -> list[str]:
    """A name for each port, given as (protocol, number, first host, bind): the same whatever the order of the servers.

    Names must differ within a Gateway, because istiod calls the routes of an HTTPS server after its port, and they hold no dots, because
    it takes those names apart at their dots.
    """
    used = set(taken)
    names = []
    for protocol, number, host, bind in ports:
        name = "-".join([protocol.lower(), str(number), *([slug(bind)] if bind else []), slug(host)]).replace(".", "-")
        unique, count = name, 2
        while unique in used:
            unique, count = f"{name}-{count}", count + 1
        used.add(unique)
        names.append(unique)
    return names


# --- manifests ----------------------------------------------------------------------------------------------------------


def manifests(gateway: IngressGateway) -> list[Manifest]:
    """The Gateway, then its VirtualServices in the order in which their routes are listed."""
    return [gateway_manifest(gateway), *virtual_services(gateway)]


def gateway_manifest(gateway: IngressGateway) -> Manifest:
    return _object(gateway, "Gateway", gateway.name, {"selector": dict(gateway.selector), "servers": _servers(gateway)})


def _servers(gateway: IngressGateway) -> list[Manifest]:
    """The user's servers at their positions, then the plain HTTP servers that redirect to them: one for each address bound to."""
    made = [_server(server) for server in gateway.servers]
    redirected: dict[str | None, dict[str, None]] = {}
    for server in gateway.servers:
        if server.http_redirect:
            redirected.setdefault(server.bind, {}).update(dict.fromkeys(server.hosts))
    for bind, hosts in redirected.items():
        (name,) = port_names([("http", REDIRECT_PORT, "redirect", bind)], [server.port_name for server in gateway.servers])
        redirect: Manifest = {
            "hosts": list(hosts),
            "port": {"number": REDIRECT_PORT, "name": name, "protocol": "HTTP"},
            "tls": {"httpsRedirect": True},
        }
        made.append({**redirect, "bind": bind} if bind else redirect)
    return made


def _server(server: Server) -> Manifest:
    made: Manifest = {
        "hosts": list(server.hosts),
        "port": {"number": server.port, "name": server.port_name, "protocol": server.protocol},
        "tls": dict(server.tls),
    }
    return {**made, "bind": server.bind} if server.bind else made


@dataclass(frozen=True)
class RoutedHosts:
    """One VirtualService: its routes with their servers, grouped by the kind of rule."""

    name: str
    hosts: tuple[str, ...]
    rules: Mapping[RouteKind, tuple[tuple[Server, Route], ...]]


def routed_hosts(gateway: IngressGateway) -> list[RoutedHosts]:
    """The gateway's routes, those of one name together; of routes whose hosts differ the first one's hosts count (see the checks)."""
    grouped: dict[str, list[tuple[Server, Route]]] = {}
    for server in gateway.servers:
        for route in server.routes:
            grouped.setdefault(route.name, []).append((server, route))
    return [
        RoutedHosts(
            name,
            widest(pairs[0][1].hosts),
            {
                kind: rules
                for kind in ("http", "tls", "tcp")
                if (rules := tuple((server, route) for server, route in pairs if server.route_kind == kind))
            },
        )
        for name, pairs in grouped.items()
    ]


def widest(hosts: Sequence[str]) -> tuple[str, ...]:
    """The hosts without those that a wildcard among them covers: a VirtualService may not have both."""
    return tuple(host for host in hosts if not any(other != host and subset_of(host, other) for other in hosts))


def virtual_services(gateway: IngressGateway) -> list[Manifest]:
    made = []
    for group in routed_hosts(gateway):
        spec: Manifest = {"hosts": list(group.hosts), "gateways": [f"{gateway.namespace}/{gateway.name}"]}
        for kind, rules in group.rules.items():
            spec[kind] = [_rule(kind, route, _port_to_match(server, route, gateway)) for server, route in rules]
        made.append(_object(gateway, "VirtualService", group.name, spec))
    return made


def _rule(kind: RouteKind, route: Route, port: int | None) -> Manifest:
    rule = dict(route.rule)
    on_port = {"port": port} if port else {}
    if kind == "tls":
        return {"match": [{"sniHosts": list(widest(route.hosts)), **on_port}], **rule}
    if on_port:
        return {**rule, "match": [{**match, **on_port} for match in rule.get("match") or [{}]]}
    return rule


def _port_to_match(server: Server, route: Route, gateway: IngressGateway) -> int | None:
    """The port that keeps a route to its own server.

    istiod lets a VirtualService serve its hosts on every port of the Gateway: without this, a route meant for a MUTUAL server on one
    port would answer on a SIMPLE server of the same host on another one too.
    """
    for other in gateway.servers:
        if other.port != server.port and any(matches(host, name) for host in route.hosts for name in other.names):
            return server.port
    return None


def _object(gateway: IngressGateway, kind: str, name: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": metadata(name, gateway.namespace, owner=gateway.owner, labels=gateway.labels, annotations=gateway.annotations),
        "spec": spec,
    }


# --- what the gateway's workloads need -----------------------------------------------------------------------------------


def required_credentials(gateway: IngressGateway) -> tuple[Lookup, ...]:
    """Every Secret (and ConfigMap) that istiod will look up for the Gateway's servers, each once, with the first argument that asks for it."""
    found: dict[tuple[Any, ...], Lookup] = {}
    for server in gateway.servers:
        if server.mode not in ("SIMPLE", *VERIFYING_MODES):
            continue
        ca = (server.ca_credential, server.where) if server.ca_credential else None
        pairs = [(reference, server.where) for reference in server.credentials]
        for lookup in server_lookups(pairs, ca, verifies_clients=server.mode in VERIFYING_MODES):
            found.setdefault((lookup.role, lookup.kind, lookup.names, lookup.namespace), lookup)
    return tuple(found.values())


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def is_sni(host: str) -> bool:
    """Whether clients can ask for the host in SNI: they send no addresses."""
    return not is_address(bare(host))
