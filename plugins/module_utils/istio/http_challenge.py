# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers to ACME's HTTP-01 challenges (RFC 8555, section 8.3) by the ingress gateway itself, without a server behind it. Pure.

istiod makes one virtual host of Envoy's for each domain in which a server's hosts and a VirtualService's hosts meet, and Envoy looks at the most
specific domain only. A route for `shop.example.com` beside others' routes for `*.example.com` would therefore take all of them away from that host for
as long as the challenge lasts. So the answer goes into the virtual host that takes the host's requests already: a VirtualService with the same domain,
bound to the same Gateway, whose routes istiod appends to those that are there
(`buildGatewayHTTPRouteConfig` and `SortVHostRoutes` in https://github.com/istio/istio/blob/master/pilot/pkg/networking/core). Where nothing takes the
host's plain HTTP requests yet, a Gateway of our own does.

A server that redirects to HTTPS redirects everything, the challenge too, and CAs follow that; so there the answer is given on HTTPS.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..objects.kinds import Manifest
from ..objects.ownership import metadata, owner_of, owner_value
from ..problems import Problem
from ..tls.names import NoHost, read, shown
from .ingress import API_VERSION, HTTPS_PORT
from .listeners import Listener, listeners_of
from .names import subset_of

PREFIX = "/.well-known/acme-challenge/"


@dataclass(frozen=True)
class Challenge:
    """What a CA asks for, and what it wants to read."""

    host: str
    token: str
    key_authorization: str

    @property
    def path(self) -> str:
        return PREFIX + self.token


@dataclass(frozen=True)
class Place:
    """Where an answer is given: a port, and the virtual host there."""

    gateway: str
    """`namespace/name`."""
    namespace: str
    """Of the VirtualService."""
    domain: str
    port: int
    scheme: str


@dataclass(frozen=True)
class Answers:
    """The objects that answer a credential's challenges, and where that can be seen."""

    manifests: tuple[dict[str, Any], ...]
    """The VirtualServices, then the Gateway, where one is needed."""
    places: tuple[tuple[Challenge, Place], ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Asked:
    """The module's arguments."""

    name: str
    namespace: str
    selector: Mapping[str, str]
    port: int
    challenges: tuple[Challenge, ...]

    @property
    def owner(self) -> str:
        return challenge_owner(self.name)

    @property
    def gateway(self) -> str:
        return f"{self.namespace}/{self.name}"


def challenge_owner(name: str) -> str:
    return owner_value("http-challenge", name)


def argument_problems(asked: Asked) -> Iterator[Problem]:
    for number, challenge in enumerate(asked.challenges):
        where = f"challenges[{number}]"
        if isinstance(read(challenge.host), NoHost):
            yield Problem("no_host", f"{where}: host", f"expected a host, found {shown(challenge.host)}", "write it like shop.example.com")
            continue
        where = f"{where} ({challenge.host})"
        if "*" in challenge.host:
            remedy = "prove this host with DNS-01"
            yield Problem("wildcard_challenge", where, "expected a host, found a wildcard, which no CA proves over HTTP", remedy)
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", challenge.token):
            message = "expected a token of letters, digits, '-' and '_', found something else (not shown)"
            yield Problem("invalid_request", f"{where}: token", message, "give the last part of the path that the CA asks for")
        elif not challenge.key_authorization.startswith(f"{challenge.token}.") or "\n" in challenge.key_authorization:
            message = "expected the token, a dot and a thumbprint, found something else (not shown)"
            yield Problem(
                "invalid_request",
                f"{where}: key_authorization",
                message,
                "give what the ACME server expects to read (RFC 8555, section 8.1)",
            )


def answers(asked: Asked, gateways: Iterable[Manifest], routes: Iterable[Manifest]) -> Answers:
    """`gateways` and `routes` are the cluster's Gateways and VirtualServices; our own for these challenges are left out of account."""
    servers = [
        server
        for gateway in gateways
        if owner_of(gateway) != asked.owner and _may_overlap(asked.selector, (gateway.get("spec") or {}).get("selector") or {})
        for server in listeners_of(gateway)
    ]
    bound = _bound([route for route in routes if owner_of(route) != asked.owner])
    places: list[tuple[Challenge, Place]] = []
    problems: list[Problem] = []
    for challenge in asked.challenges:
        found = _place(asked, challenge.host, servers, bound)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            places.append((challenge, found))
    return Answers((*_virtual_services(asked, places), *_own_gateway(asked, places)), tuple(places), tuple(problems))


Bound = Mapping[str, Sequence[tuple[str, Sequence[str]]]]
"""Gateway -> (namespace, hosts) of each VirtualService that is bound to it."""


def _bound(routes: Iterable[Manifest]) -> Bound:
    found: dict[str, list[tuple[str, Sequence[str]]]] = {}
    for route in routes:
        namespace, spec = str(route["metadata"].get("namespace", "")), route.get("spec") or {}
        hosts = [str(host).lower() for host in spec.get("hosts") or ()]
        for name in spec.get("gateways") or ():
            found.setdefault(name if "/" in name else f"{namespace}/{name}", []).append((namespace, hosts))
    return found


def _may_overlap(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return all(other.get(key, value) == value for key, value in one.items())


def _place(asked: Asked, host: str, servers: Sequence[Listener], bound: Bound) -> Place | Problem:
    plain = [(server, domain) for server in servers if server.is_http and server.number == asked.port for domain in _domains(server, bound)]
    best = _most_specific(host, [domain for __, domain in plain])
    if best is None:
        return Place(asked.gateway, asked.namespace, host, asked.port, "http")
    mine = [server for server, domain in plain if domain == best]
    if not any(server.redirects for server in mine):
        return _at(mine[0], best, "http")
    return _on_https(host, servers, bound)


def _on_https(host: str, servers: Sequence[Listener], bound: Bound) -> Place | Problem:
    secured = [server for server in servers if server.number == HTTPS_PORT and server.protocol in ("HTTPS", "TLS")]
    name = _most_specific(host, [name for server in secured for name in server.names])
    server = next((server for server in secured if name in server.names), None)
    where, remedy = f"challenge for {host}", "prove this host with DNS-01"
    if server is None or server.route_kind != "http":
        found = "found no server for it there" if server is None else f"found {server.gateway} {server.field}, which passes TLS on"
        return Problem(
            "challenge_redirected", where, f"plain HTTP is redirected to port {HTTPS_PORT}, expected an answer there, {found}", remedy
        )
    if server.mode == "MUTUAL":
        message = f"plain HTTP is redirected to {server.gateway} {server.field}, which asks for a client certificate, and the CA has none"
        return Problem("challenge_redirected", where, message, remedy)
    return _at(server, _most_specific(host, _domains(server, bound)) or host, "https")


def _at(server: Listener, domain: str, scheme: str) -> Place:
    gateway = f"{server.gateway.namespace}/{server.gateway.name}"
    namespace = next((each.partition("/")[0] for each in server.hosts if "/" in each and subset_of(domain, each.partition("/")[2])), "")
    return Place(gateway, namespace or server.gateway.namespace, domain, server.number, scheme)


def _domains(server: Listener, bound: Bound) -> list[str]:
    """The virtual hosts that istiod makes for a server."""
    found = [name for name in server.names if server.redirects]
    for namespace, hosts in bound.get(f"{server.gateway.namespace}/{server.gateway.name}", ()):
        for served in server.hosts:
            only, slash, name = served.rpartition("/")
            if slash and only != namespace:
                continue
            found += [name if subset_of(name, host) else host for host in hosts if subset_of(name, host) or subset_of(host, name)]
    return found


def _most_specific(host: str, domains: Iterable[str]) -> str | None:
    """The one that Envoy takes: the host itself, else the longest wildcard."""
    fitting = [
        domain for domain in domains if domain == host or (domain.startswith("*") and host.endswith(domain[1:]) and host != domain[2:])
    ]
    return max(fitting, key=lambda domain: (domain == host, len(domain)), default=None)


def _virtual_services(asked: Asked, places: Sequence[tuple[Challenge, Place]]) -> Iterator[dict[str, Any]]:
    grouped: dict[Place, list[Challenge]] = {}
    for challenge, place in places:
        grouped.setdefault(place, []).append(challenge)
    for place, challenges in grouped.items():
        rules = [
            {
                "match": [{"uri": {"exact": challenge.path}, "port": place.port}],
                "directResponse": {"status": 200, "body": {"string": challenge.key_authorization}},
            }
            for challenge in challenges
        ]
        spec = {"hosts": [place.domain], "gateways": [place.gateway], "http": rules}
        digest = hashlib.sha256(f"{place.gateway} {place.domain} {place.port}".encode()).hexdigest()[:10]
        name = f"{asked.name}-{digest}"
        yield _object("VirtualService", name, place.namespace, asked.owner, spec)


def _own_gateway(asked: Asked, places: Sequence[tuple[Challenge, Place]]) -> Iterator[dict[str, Any]]:
    hosts = list(dict.fromkeys(f"./{place.domain}" for __, place in places if place.gateway == asked.gateway))
    if hosts:
        server = {"hosts": hosts, "port": {"number": asked.port, "name": f"http-{asked.port}-challenge", "protocol": "HTTP"}}
        yield _object("Gateway", asked.name, asked.namespace, asked.owner, {"selector": dict(asked.selector), "servers": [server]})


def _object(kind: str, name: str, namespace: str, owner: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata(name, namespace, owner=owner), "spec": spec}


def probes_of(made: Answers) -> list[dict[str, Any]]:
    """Items of tls_probe's `probes` that ask for each challenge as a CA does."""
    return [
        {
            "name": f"challenge for {challenge.host}",
            "host": challenge.host,
            "scheme": place.scheme,
            "port": place.port,
            "path": challenge.path,
            **({"verify": False} if place.scheme == "https" else {}),
            "expect": {"status": [200], "text": challenge.key_authorization},
        }
        for challenge, place in made.places
    ]
