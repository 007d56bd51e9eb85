# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with an ingress Gateway: by itself, beside the cluster's other Gateways, and with the credentials that it names.

Beyond istiod's admission rules these are things that istiod admits and then drops, or that proxies refuse, or that do nothing:
pilot/pkg/model/gateway.go (mergeGateways), pilot/pkg/networking/core/listener.go (BuildListenerTLSContext).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from ..problems import Problem
from ..tls.names import NoHost, read
from .admission import HTTP_PROTOCOLS, PROTOCOL_VERSIONS, gateway_problems
from .admission_routes import virtual_service_problems
from .choice import age, title
from .credential import decode, read_as_istiod
from .ingress import (
    HTTPS_PORT,
    REDIRECT_PORT,
    VERIFYING_MODES,
    IngressGateway,
    RoutedHosts,
    Server,
    bare,
    gateway_manifest,
    is_sni,
    required_credentials,
    routed_hosts,
    selects,
    virtual_services,
)
from .names import label_problems
from .reference import Lookup, ca_problems, namespace_problems, pair_problems
from .workload import Workload, pod_port, services_of

Manifest = Mapping[str, Any]
Found = Iterator[Problem]
SecretKey = tuple[Literal["Secret", "ConfigMap"], str, str]
"""(kind, namespace, name)"""

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
        yield from _references(server)
        yield from _tls(server)
        yield from _hosts(server)
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
            yield _shared(servers[0], [server.where for server in servers[1:]])


def _shared_with_others(gateway: IngressGateway, others: Sequence[Manifest]) -> Found:
    certificates = _by_certificate(gateway)
    sharing: dict[tuple[int, str, str], list[str]] = {}
    for manifest in others if certificates else ():
        for other in _servers(manifest):
            tls: Manifest = other.get("tls") or {}
            hosts = [str(host) for host in other.get("hosts") or ()]
            for text in {tls.get("credentialName"), *(tls.get("credentialNames") or ())}:
                key = (*_manifest_place(other), str(text))
                own = {name for server in certificates.get(key, ()) for name in server.names}
                # a host that both have is a conflict already
                if own and _protocol(other) == "https" and own.isdisjoint(bare(host) for host in hosts):
                    sharing.setdefault(key, []).append(f"{title(manifest)} ({_some(hosts)})")
    for key, found in sharing.items():
        yield _shared(certificates[key][0], found)


def _shared(server: Server, sharing: Sequence[str]) -> Problem:
    """Browsers send requests for a second host over the HTTP/2 connection to the first, where its routes are unknown."""
    return Problem(
        "shared_certificate",
        server.where,
        f"the credential is also that of {_some(sharing)} on port {server.port}: where the certificate covers both, browsers reuse the HTTP/2 "
        "connection of one for the other's hosts and get 404 or 421",
        "put the hosts into one server, or give each its own certificate",
        "warning",
    )


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


# --- other Gateways -------------------------------------------------------------------------------------------------------


def host_conflicts(
    gateway: IngressGateway, live: Iterable[Manifest], workloads: Collection[Workload] = (), services: Iterable[Manifest] = ()
) -> tuple[Problem, ...]:
    """What other Gateways already do with the same workloads, hosts and ports. `live` are the cluster's Gateways, `workloads` those that
    this one selects; without them, selectors that do not contradict each other count as overlapping. `services` are those in front of the
    workloads, which decide what port of theirs a Gateway's port is.
    """
    everything = list(live)
    own = [one for one in everything if _is(one, gateway)]
    mine = own[0] if own else gateway_manifest(gateway)
    others = sorted((one for one in everything if not _is(one, gateway) and _overlaps(gateway, one, workloads)), key=age)
    in_front = [(workload, services_of(workload, services)) for workload in workloads]
    return (*_conflicts(gateway, mine, others, in_front), *_shared_with_others(gateway, others))


def ports_of_others(gateway: IngressGateway, live: Iterable[Manifest], workloads: Collection[Workload] = ()) -> frozenset[int]:
    """The other ports on which Gateways serve the same workloads: whether one of them is a port of ours is for Services to tell."""
    own = {REDIRECT_PORT if server.http_redirect else server.port for server in gateway.servers} | {
        server.port for server in gateway.servers
    }
    others = (one for one in live if not _is(one, gateway) and _overlaps(gateway, one, workloads))
    return frozenset(_manifest_place(server)[0] for one in others for server in _servers(one)) - own


_InFront = Sequence[tuple[Workload, Sequence[Manifest]]]
"""Workloads, each with the Services in front of it."""


def _same_port(one: int, other: int, in_front: _InFront) -> bool:
    """Whether two ports of Gateways are one in the pods."""
    return one == other or any(
        pod_port(one, services, workload.ports) == pod_port(other, services, workload.ports) for workload, services in in_front
    )


def _is(manifest: Manifest, gateway: IngressGateway) -> bool:
    return bool(manifest["metadata"]["name"] == gateway.name and manifest["metadata"].get("namespace") == gateway.namespace)


def _overlaps(gateway: IngressGateway, other: Manifest, workloads: Collection[Workload]) -> bool:
    selector: Mapping[str, str] = (other.get("spec") or {}).get("selector") or {}
    if workloads:
        return any(selects(selector, workload.labels) for workload in workloads)
    return all(gateway.selector.get(key, value) == value for key, value in selector.items())


def _conflicts(gateway: IngressGateway, mine: Manifest, others: Sequence[Manifest], in_front: _InFront) -> Found:
    redirects = {server.bind or "" for server in gateway.servers if server.http_redirect}
    for other in others:
        younger = age(other) > age(mine)
        namespace = other["metadata"].get("namespace", "")
        for theirs in _servers(other):
            is_http = _protocol(theirs) in HTTP_PROTOCOLS
            hosts = [str(host) for host in theirs.get("hosts") or ()]
            number, bind = _manifest_place(theirs)
            for server in gateway.servers:
                if bind != (server.bind or "") or not _same_port(number, server.port, in_front):
                    continue
                if is_http or not theirs.get("tls"):
                    yield _port_conflict(server.where, (server.port, number), other, ("plain text", "TLS"), younger)
                elif common := sorted({bare(host) for host in hosts} & set(server.names)):
                    compared = {_with_namespace(host, gateway.namespace) for host in server.hosts}
                    noticed = not compared.isdisjoint(_with_namespace(host, namespace) for host in hosts)
                    yield _same_host(server, number, other, common, noticed, younger)
            if bind in redirects and _same_port(number, REDIRECT_PORT, in_front):
                if not is_http:
                    yield _port_conflict("http_redirect", (REDIRECT_PORT, number), other, (_protocol(theirs).upper(), "HTTP"), younger)
                elif not (theirs.get("tls") or {}).get("httpsRedirect"):
                    yield from _redirected_hosts(gateway, other, {bare(host) for host in hosts}, bind)


def _redirected_hosts(gateway: IngressGateway, other: Manifest, served: Collection[str], bind: str) -> Found:
    for server in gateway.servers:
        common = [name for name in server.names if name in served]
        if server.http_redirect and (server.bind or "") == bind and common:
            message = f"{title(other)} serves {_some(common)} in plain HTTP: with http_redirect its requests are redirected too"
            remedy = "leave out http_redirect, or take the host from that Gateway"
            yield Problem("redirect_of_served_host", server.where, message, remedy, "warning")


def _with_namespace(host: str, namespace: str) -> str:
    """A host as istiod compares it: `./x` is `<namespace>/x`, `*/x` is `x`."""
    prefix, separator, name = host.partition("/")
    if not separator:
        return host
    return name if prefix == "*" else f"{namespace if prefix == '.' else prefix}/{name}"


def _also(number: int, theirs: int) -> str:
    """Says how two ports can be one."""
    return "" if number == theirs else f" (port {theirs}, which in the gateway's pods is the same as {number})"


def _same_host(server: Server, number: int, other: Manifest, common: Sequence[str], noticed: bool, younger: bool) -> Problem:
    shown = _some(common)
    if not noticed:
        effect = "istiod does not notice, because one of them names a namespace, and proxies refuse the whole listener"
    elif younger:
        effect = f"this Gateway is the older one, so that istiod drops that server of {title(other)} with all its hosts"
    else:
        effect = "that Gateway is the older one, so that istiod drops this server with all its hosts"
    return Problem(
        "host_conflict",
        server.where,
        f"{title(other)} serves {shown} on port {server.port} too{_also(server.port, number)}: {effect}",
        "keep the host in one Gateway, or use another port, or another selector",
        "warning",
    )


def _port_conflict(where: str, ports: tuple[int, int], other: Manifest, what: tuple[str, str], younger: bool) -> Problem:
    theirs, ours = what
    port = ports[0]
    loser = title(other) if younger else "this Gateway"
    also = _also(*ports)
    message = (
        f"port {port}{also} is for {theirs} in {title(other)} and for {ours} here: istiod drops the one of {loser}, which is the younger"
    )
    return Problem("port_conflict", where, message, "use another port", "warning")


# --- workloads and credentials --------------------------------------------------------------------------------------------


def workload_problems(gateway: IngressGateway, namespaces: Collection[str], *, complete: bool) -> tuple[Problem, ...]:
    """Whether there is a proxy at all; `complete` says whether all of the cluster was looked at."""
    if namespaces or not complete:
        return ()
    selector = ", ".join(f"{key}={value}" for key, value in gateway.selector.items())
    return (
        Problem(
            "no_workloads",
            "selector",
            f"no Pod and no WorkloadEntry has the labels {selector}: nothing will serve this Gateway, and its credentials were not looked at",
            "correct the selector, or start the gateway",
            "warning",
        ),
    )


def credential_problems(
    gateway: IngressGateway, namespaces: Collection[str], live: Mapping[SecretKey, Manifest | None]
) -> tuple[Problem, ...]:
    """Credentials that istiod would not find, or not be able to use, for the gateway's workloads in `namespaces`.

    `live` holds what was looked up, None for what does not exist; what could not be looked at is not in it. All of it are warnings: a
    credential may come after its Gateway.
    """
    return tuple(_credential_problems(gateway, sorted(namespaces), live))


def _credential_problems(gateway: IngressGateway, namespaces: Sequence[str], live: Mapping[SecretKey, Manifest | None]) -> Found:
    for server in gateway.servers:
        references = [(reference, f"{server.where}: credential {reference.text}") for reference in server.credentials]
        if server.ca_credential:
            references.append((server.ca_credential, f"{server.where}: ca_cert_credential_name"))
        for reference, where in references:
            for problem in namespace_problems(reference, where, namespaces):
                yield Problem(problem.code, problem.where, problem.message, problem.remedy, "warning")
    missing: set[SecretKey] = set()
    for lookup in required_credentials(gateway):
        for namespace in [lookup.namespace] if lookup.namespace else namespaces:
            keys: list[SecretKey] = [(lookup.kind, namespace, name) for name in lookup.names]
            if any(key not in live for key in keys):
                continue
            existing = next((key for key in keys if live[key] is not None), None)
            if existing is None and keys[-1] not in missing:
                missing.add(keys[-1])
                yield _missing(lookup, namespace, gateway, live)
            elif existing and (fault := _fault(lookup, live[existing] or {})):
                yield Problem("credential_incomplete", lookup.where, f"{_shown(existing)} {fault[0]}", fault[1], "warning")


def _missing(lookup: Lookup, namespace: str, gateway: IngressGateway, live: Mapping[SecretKey, Manifest | None]) -> Problem:
    name = lookup.names[-1]
    if lookup.role == "pair" or lookup.kind == "ConfigMap":
        effect = "handshakes will be reset until it exists" if lookup.role == "pair" else "every client will be refused until it exists"
    else:
        effect = "there is no CA to verify clients with, and handshakes will be reset"
    message = f"no {lookup.kind} {' or '.join(lookup.names)} in namespace {namespace}, where the gateway's workloads run: {effect}"
    remedy = f"make {name} there, for example with istio_tls_credential"
    if gateway.namespace != namespace and live.get((lookup.kind, gateway.namespace, name)) is not None:
        remedy = f"move the one in {gateway.namespace} there: istiod looks where the workloads run, not where the Gateway object is"
    return Problem("credential_missing", lookup.where, message, remedy, "warning")


def _fault(lookup: Lookup, live: Manifest) -> tuple[str, str] | None:
    """(what is missing, the remedy) in an object that exists."""
    data = {key: value.encode() for key, value in (live.get("data") or {}).items()} if lookup.kind == "ConfigMap" else decode(live)
    reading = read_as_istiod(data)
    held = ", ".join(sorted(data)) or "none"
    if lookup.role == "pair" and not reading.private_key:
        return f"has no certificate with its key for istiod (keys: {held})", "store them as tls.crt and tls.key, or as cert and key"
    if lookup.role == "ca" and not reading.ca_certificate:
        return f"has no CA to verify clients with (keys: {held})", f"store it as ca.crt or cacert there, or as cacert in {lookup.names[0]}"
    return None


def _shown(key: SecretKey) -> str:
    return f"{key[0]} {key[1]}/{key[2]}"
