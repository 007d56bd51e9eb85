# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with an ingress Gateway by itself. What it meets in the cluster is in `diagnosis/`.

Beyond istiod's admission rules these are things that istiod admits and then drops, or that proxies refuse, or that do nothing:
pilot/pkg/model/gateway.go (mergeGateways), pilot/pkg/networking/core/listener.go (BuildListenerTLSContext).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..problems import Problem
from ..tls.names import NoHost, read
from .admission import PROTOCOL_VERSIONS, gateway_problems
from .admission_routes import virtual_service_problems
from .ingress import (
    HTTPS_PORT,
    REDIRECT_PORT,
    VERIFYING_MODES,
    IngressGateway,
    RoutedHosts,
    Server,
    gateway_manifest,
    is_sni,
    routed_hosts,
    virtual_services,
)
from .meeting_servers import shared
from .names import label_problems
from .reference import ca_problems, namespace_problems, pair_problems

Manifest = Mapping[str, Any]
Found = Iterator[Problem]

_SPKI = re.compile(r"[A-Za-z0-9+/]{43}=")
_HASH = re.compile(r"[0-9a-fA-F]{64}|[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){31}")
_SHOWN = 3


# --- the Gateway by itself ------------------------------------------------------------------------------------------------


def problems(gateway: IngressGateway) -> tuple[Problem, ...]:
    """Everything that can be told without a cluster."""
    return tuple(_problems(gateway))


def _problems(gateway: IngressGateway) -> Found:
    count = len(gateway.servers)
    yield from gateway_problems(
        gateway_manifest(gateway),
        f"Gateway {gateway.namespace}/{gateway.name}",
        lambda index: gateway.servers[index].where if index < count else "http_redirect",
    )
    yield from _selector(gateway)
    yield from _same_hosts(gateway)
    yield from _redirects(gateway)
    for server in gateway.servers:
        yield from server_problems(server)
    yield from _shared_certificates(gateway)
    for group, manifest in zip(routed_hosts(gateway), virtual_services(gateway), strict=True):
        yield from _routes_of_one_name(group)
        if any(isinstance(read(host), NoHost) for host in group.hosts):
            continue  # told as the server's, which has it too
        rules = group.rules
        yield from virtual_service_problems(
            manifest,
            f"VirtualService {gateway.namespace}/{group.name}",
            lambda kind, index, rules=rules: rules[kind][index][1].where,  # type: ignore[misc]
        )


def server_problems(server: Server) -> tuple[Problem, ...]:
    """What is wrong with one server, whoever made it."""
    return (*_references(server), *_tls(server), *_hosts(server))


def _selector(gateway: IngressGateway) -> Found:
    where = f"Gateway {gateway.namespace}/{gateway.name}: selector"
    if not gateway.selector:
        yield Problem(
            "selector_empty", where, "an empty selector is for every gateway of the mesh", "name the labels of the workloads", "warning"
        )
    yield from label_problems(gateway.selector, where)


def _same_hosts(gateway: IngressGateway) -> Found:
    """istiod drops a whole server when one of its hosts was on the port before; proxies refuse what it does not notice."""
    seen: dict[tuple[int, str | None, str], Server] = {}
    for server in gateway.servers:
        for name in server.names:
            first = seen.setdefault((server.port, server.bind, name), server)
            if first is not server:
                yield Problem(
                    "duplicate_host",
                    server.where,
                    f"host {name} is on port {server.port} in {first.where} already: istiod would drop this server with all its hosts",
                    "keep the host in one of the two, or use another port",
                )


def _redirects(gateway: IngressGateway) -> Found:
    redirecting = [server for server in gateway.servers if server.http_redirect]
    for server in gateway.servers:
        for other in redirecting:
            if server.port == REDIRECT_PORT and server.bind == other.bind:
                yield Problem(
                    "redirect_port_taken",
                    server.where,
                    f"expected port {REDIRECT_PORT} to be free for the redirect of {other.where}, found this TLS server",
                    "use another port for it, or leave out http_redirect",
                )
                break
    for server in redirecting:
        if server.port != HTTPS_PORT:
            yield Problem(
                "redirect_to_other_port",
                server.where,
                f"proxies redirect plain HTTP to port {HTTPS_PORT}, and this server is on {server.port}",
                f"use port {HTTPS_PORT}, or leave out http_redirect",
                "warning",
            )


def _references(server: Server) -> Found:
    for reference in server.credentials:
        yield from pair_problems(reference, f"{server.where}: credential {reference.text}")
        yield from namespace_problems(reference, f"{server.where}: credential {reference.text}")
    if server.ca_credential:
        where = f"{server.where}: ca_cert_credential_name"
        yield from ca_problems(server.ca_credential, where)
        yield from namespace_problems(server.ca_credential, where)
        if not server.credentials and server.mode in VERIFYING_MODES:
            remedy = "name the credential of the pair too, or give ca_certificates"
            yield Problem("ca_credential_with_files", where, "istiod reads a CA credential only together with a credential", remedy)


def _tls(server: Server) -> Found:
    tls, where, mode = server.tls, server.where, server.mode
    lowest, highest = tls.get("minProtocolVersion"), tls.get("maxProtocolVersion")
    if (
        lowest in PROTOCOL_VERSIONS[1:]
        and highest in PROTOCOL_VERSIONS[1:]
        and PROTOCOL_VERSIONS.index(lowest) > PROTOCOL_VERSIONS.index(highest)
    ):
        yield Problem("protocol_versions", where, f"no version is from {lowest} to {highest}", "exchange the two")
    for field, pattern, form in (
        ("verifyCertificateSpki", _SPKI, "the base64 SHA-256 of a public key (44 characters)"),
        ("verifyCertificateHash", _HASH, "the hexadecimal SHA-256 of a certificate (64 digits, or 32 pairs with colons)"),
    ):
        for value in tls.get(field) or ():
            if not pattern.fullmatch(value):
                message = f"expected {form} in {field}, found {value!r}: proxies would refuse the whole listener"
                yield Problem("certificate_digest", where, message, "compute it with openssl as Envoy's documentation shows")
    checks = [
        field for field in ("caCertCredentialName", "subjectAltNames", "verifyCertificateSpki", "verifyCertificateHash") if tls.get(field)
    ]
    if mode not in (*VERIFYING_MODES, "ISTIO_MUTUAL") and checks:
        message = f"mode {mode} asks clients for no certificate: {', '.join(checks)} will have no effect"
        yield Problem("client_checks_without_clients", where, message, "set mode to MUTUAL, or leave that out", "warning")
    digests = [field for field in ("verifyCertificateSpki", "verifyCertificateHash") if tls.get(field)]
    if digests and not server.credentials and mode in (*VERIFYING_MODES, "ISTIO_MUTUAL"):
        message = f"istiod applies {', '.join(digests)} only together with a credential"
        yield Problem(
            "digests_without_credential", where, f"{message}: clients would not be checked", "use a credential, or leave that out"
        )
    if mode not in ("SIMPLE", *VERIFYING_MODES):
        unused = [field for field in ("minProtocolVersion", "maxProtocolVersion", "cipherSuites") if tls.get(field)]
        if unused:
            message = f"{', '.join(unused)} will have no effect with mode {mode}"
            yield Problem("protocol_settings_unused", where, message, "leave that out, or set mode to SIMPLE or MUTUAL", "warning")


def _hosts(server: Server) -> Found:
    for host in server.hosts:
        if not is_sni(host):
            message = f"clients send no address as SNI, so that nothing will ever match {host}"
            yield Problem("host_is_address", server.where, message, "name the domain that clients ask for, or use '*'", "warning")


def _routes_of_one_name(group: RoutedHosts) -> Found:
    routes = [route for rules in group.rules.values() for __, route in rules]
    for route in routes[1:]:
        if set(route.hosts) != set(routes[0].hosts):
            yield Problem(
                "route_hosts_differ",
                route.where,
                f"expected the hosts of {routes[0].where} ({', '.join(routes[0].hosts)}), because both are VirtualService {group.name}, "
                f"found {', '.join(route.hosts)}",
                "give one of them another name",
            )


def _by_certificate(gateway: IngressGateway) -> dict[tuple[int, str, str], list[Server]]:
    """The servers that speak HTTP/2, by port, address and credential."""
    found: dict[tuple[int, str, str], list[Server]] = {}
    for server in gateway.servers:
        if server.route_kind == "http":
            for reference in server.credentials:
                found.setdefault((*_place(server), reference.text), []).append(server)
    return found


def _shared_certificates(gateway: IngressGateway) -> Found:
    for servers in _by_certificate(gateway).values():
        if len(servers) > 1:
            yield shared(servers[0].where, servers[0].port, [server.where for server in servers[1:]])


def _some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:_SHOWN]) + (f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else "")


def _servers(manifest: Manifest) -> Sequence[Manifest]:
    return (manifest.get("spec") or {}).get("servers") or ()


def _protocol(server: Manifest) -> str:
    return str((server.get("port") or {}).get("protocol")).lower()


def _place(server: Server) -> tuple[int, str]:
    return server.port, server.bind or ""


def _manifest_place(server: Manifest) -> tuple[int, str]:
    return (server.get("port") or {}).get("number", 0), server.get("bind") or ""
