# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects that carry a request from a client through the egress gateway to an external service.

    client --HTTP or TCP--> sidecar ==ISTIO_MUTUAL==> egress gateway ==TLS of the external service's own==> external service

The gateway's servers for HTTP (protocol HTTPS) and for TCP (protocol TLS) share its port: istiod makes one listener of both, whose filter
chains are told apart by the SNI of the first hop. A TCP service needs no port of its own at the gateway.

Each service has objects of its own, the Gateway and the first hop's rule included, so that services come and go without touching
each other. istiod puts them together: Gateways for the same pods and port become one listener with a filter chain per host
(`mergeGateways`), and DestinationRules of one host, namespace and `exportTo` become one rule with all their subsets
(`mergeDestinationRule`). That is why the first hop's TLS settings stand in a subset and not in the rule, whose own settings count
only for the oldest, and why that rule has no `exportTo` option: rules whose `exportTo` differ are not merged, and subsets get lost.

The first hop's rule lives in the gateway's namespace: istiod looks for rules in the client's namespace, then in the destination
Service's, then in the root namespace, so there every client finds it. The originating rule lives there too, and is shown to nobody
else: sidecars that see it originate nothing (`credentialName`) or wait 15 s for files that they do not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..objects.ownership import metadata
from .egress import ObjectName, Origination, Part

NETWORKING = "networking.istio.io/v1"
Manifest = Mapping[str, Any]

KINDS: tuple[tuple[str, str], ...] = (
    (NETWORKING, "DestinationRule"),
    (NETWORKING, "Gateway"),
    (NETWORKING, "ServiceEntry"),
    (NETWORKING, "VirtualService"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
)
"""Every kind of which `manifests` makes objects, for pruning."""


def manifests(
    origination: Origination, *, labels: Mapping[str, str] | None = None, annotations: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The objects of one service, in the order in which traffic never breaks; they are removed in the reverse order.

    1. Originating rule: before the gateway knows the service, so that it never sends plaintext to the TLS port.
    2. First hop's rule and Gateway: nobody uses subset and listener yet, and whoever does later finds them.
    3. ServiceEntry: the gateway gets its cluster, without which the route would answer 503. Until the route follows, sidecars send
       requests where they went before, to the service itself, past the gateway.
    4. The SNI route, and then the route through the gateway: from here on clients use what is ready.
    5. NetworkPolicies: the direct way is closed only when the other one is open.
    """

    def made(api_version: str, kind: str, target: ObjectName, spec: Mapping[str, Any]) -> dict[str, Any]:
        head = metadata(target.name, target.namespace, owner=origination.owner, labels=labels, annotations=annotations)
        return {"apiVersion": api_version, "kind": kind, "metadata": head, "spec": dict(spec)}

    def istio(kind: str, part: Part, spec: Mapping[str, Any]) -> dict[str, Any]:
        return made(NETWORKING, kind, origination.objects[part], spec)

    objects = [
        istio("DestinationRule", "originating_rule", _originating_rule(origination)),
        istio("DestinationRule", "first_hop_rule", _first_hop_rule(origination)),
        istio("Gateway", "gateway", _gateway(origination)),
        istio("ServiceEntry", "service_entry", _service_entry(origination)),
    ]
    if origination.direct_tls:
        objects.append(istio("VirtualService", "direct_virtual_service", _direct_route(origination)))
    objects.append(istio("VirtualService", "virtual_service", _route(origination)))
    if origination.prevent_bypass:
        name = origination.objects["network_policy"].name
        objects += [
            made("networking.k8s.io/v1", "NetworkPolicy", ObjectName(client, name), _network_policy(origination))
            for client in origination.client_namespaces
        ]
    return objects


def namespaces(originations: Iterable[Origination]) -> tuple[str, ...]:
    """Every namespace that holds objects of these services."""
    found: dict[str, None] = {}
    for origination in originations:
        found.update(dict.fromkeys(target.namespace for part, target in origination.objects.items() if part != "network_policy"))
        found.update(dict.fromkeys(origination.client_namespaces))
    return tuple(found)


def _originating_rule(origination: Origination) -> dict[str, Any]:
    tls: dict[str, Any] = {"mode": origination.mode, "sni": origination.sni}
    if origination.credential_name:
        tls["credentialName"] = origination.credential_name
    if origination.files:
        fields = {"certificate": "clientCertificate", "private_key": "privateKey", "ca_certificate": "caCertificates", "crl": "caCrl"}
        tls.update({fields[option]: path for option, path in origination.files.given.items()})
    if origination.subject_alt_names:
        tls["subjectAltNames"] = list(origination.subject_alt_names)
    return {
        "host": origination.host,
        "exportTo": list(origination.rule_export_to),
        "trafficPolicy": {"portLevelSettings": [_aging(origination, _port_level(origination, origination.tls_port, tls))]},
    }


def _aging(origination: Origination, settings: dict[str, Any]) -> dict[str, Any]:
    """With a bound on the age of connections: for HTTP too it is one of TCP (istiod's pilot/pkg/networking/core/cluster_traffic_policy.go)."""
    if origination.max_connection_age is None:
        return settings
    pool = settings.get("connectionPool") or {}
    return {**settings, "connectionPool": {**pool, "tcp": {"maxConnectionDuration": f"{origination.max_connection_age}s"}}}


def _first_hop_rule(origination: Origination) -> dict[str, Any]:
    tls = {"mode": "ISTIO_MUTUAL", "sni": origination.host}
    settings = _port_level(origination, origination.gateway.port, tls)
    return {
        "host": origination.gateway.host,
        "subsets": [{"name": origination.subset, "trafficPolicy": {"portLevelSettings": [settings]}}],
    }


def _port_level(origination: Origination, port: int, tls: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {"port": {"number": port}, "tls": dict(tls)}
    if origination.protocol in ("HTTP2", "GRPC"):
        # both TLS ports are HTTPS to istiod, hence HTTP/1.1 unless told; gRPC needs HTTP/2 all the way
        settings["connectionPool"] = {"http": {"h2UpgradePolicy": "UPGRADE"}}
    return settings


def _gateway(origination: Origination) -> dict[str, Any]:
    # with HTTPS the gateway would read HTTP from what it decrypts
    protocol = "TLS" if origination.is_tcp else "HTTPS"
    return {
        "selector": dict(origination.gateway.selector),
        "servers": [
            {
                "port": {"number": origination.gateway.port, "name": protocol.lower(), "protocol": protocol},
                "hosts": [origination.host],
                "tls": {"mode": "ISTIO_MUTUAL"},
            }
        ],
    }


def _service_entry(origination: Origination) -> dict[str, Any]:
    ports = [{"number": origination.http_port, "name": origination.mesh_port_name, "protocol": origination.protocol}]
    if origination.tls_port != origination.http_port:
        protocol = "TLS" if origination.is_tcp else "HTTPS"
        ports.append({"number": origination.tls_port, "name": origination.tls_port_name, "protocol": protocol})
    spec: dict[str, Any] = {
        "hosts": [origination.host],
        "location": "MESH_EXTERNAL",
        "ports": ports,
        "resolution": origination.resolution,
    }
    if origination.addresses:
        spec["addresses"] = list(origination.addresses)
    if origination.endpoints:
        spec["endpoints"] = []
        for endpoint in origination.endpoints:
            item: dict[str, Any] = {"address": endpoint.address}
            for key, value in (("ports", dict(endpoint.ports)), ("labels", dict(endpoint.labels)), ("locality", endpoint.locality)):
                if value:
                    item[key] = value
            if endpoint.weight is not None:
                item["weight"] = endpoint.weight
            spec["endpoints"].append(item)
    return _shown_to(spec, origination, "service_entry")


def _direct_route(origination: Origination) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "hosts": [origination.host],
        "gateways": ["mesh"],
        "tls": [
            {
                "match": [{"port": origination.tls_port, "sniHosts": [origination.host]}],
                "route": [{"destination": {"host": origination.host, "port": {"number": origination.tls_port}}}],
            }
        ],
    }
    return _shown_to(spec, origination, "direct_virtual_service")


def _route(origination: Origination) -> dict[str, Any]:
    gateway = str(origination.objects["gateway"])
    first_hop = {"host": origination.gateway.host, "subset": origination.subset, "port": {"number": origination.gateway.port}}
    spec: dict[str, Any] = {
        "hosts": [origination.host],
        "gateways": ["mesh", gateway],
        "tcp" if origination.is_tcp else "http": [
            {"match": [{"gateways": ["mesh"], "port": origination.http_port}], "route": [{"destination": first_hop}]},
            {
                "match": [{"gateways": [gateway], "port": origination.gateway.port}],
                "route": [{"destination": {"host": origination.host, "port": {"number": origination.tls_port}}}],
            },
        ],
    }
    return _shown_to(spec, origination, "virtual_service")


def _shown_to(spec: dict[str, Any], origination: Origination, part: Part) -> dict[str, Any]:
    """`exportTo` as asked for, and the gateway's namespace with it: the gateway needs to see the service and its route, too."""
    if not origination.export_to:
        return spec
    home = origination.objects[part].namespace
    # istiod refuses a namespace that is named twice, once as "."
    entries = list(dict.fromkeys("." if entry == home else entry for entry in origination.export_to))
    gateway = "." if origination.gateway.namespace == home else origination.gateway.namespace
    if "*" not in entries and gateway not in entries:
        entries.append(gateway)
    return {**spec, "exportTo": entries}


def _network_policy(origination: Origination) -> dict[str, Any]:
    """Egress of every pod of the namespace: cluster DNS, istiod, the gateway; everything else is closed.

    Policies add up, so other traffic is let through by policies of one's own. Ports are those of pods, which is why the gateway's are
    left open: policies are enforced after the Service's port was translated.
    """

    def to(namespace: str, pods: Mapping[str, str], *ports: tuple[str, int | str]) -> dict[str, Any]:
        rule: dict[str, Any] = {
            "to": [
                {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                    "podSelector": {"matchLabels": dict(pods)},
                }
            ]
        }
        if ports:
            rule["ports"] = [{"protocol": protocol, "port": port} for protocol, port in ports]
        return rule

    dns, control_plane, gateway = origination.dns, origination.control_plane, origination.gateway
    return {
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [
            to(dns.namespace, dns.labels, *(dns.ports or (("UDP", dns.port), ("TCP", dns.port)))),
            *_caches(dns.caches),
            to(control_plane.namespace, control_plane.labels, ("TCP", control_plane.port)),
            to(gateway.namespace, gateway.selector),
        ],
    }


def _caches(addresses: Sequence[str]) -> list[dict[str, Any]]:
    """Caches run on the node's own network, where no labels of pods reach them."""
    if not addresses:
        return []
    blocks = [{"ipBlock": {"cidr": f"{address}/{128 if ':' in address else 32}"}} for address in addresses]
    return [{"to": blocks, "ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}]
