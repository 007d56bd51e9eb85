# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""External services that an egress gateway reaches over TLS, as values.

`egress_arguments.py` reads them from a module's arguments, `egress_objects.py` makes manifests of them, and `diagnosis/originations.py` says what
is wrong with the set in its cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..objects.ownership import owner_value

Mode = Literal["MUTUAL", "SIMPLE"]
Resolution = Literal["DNS", "DNS_ROUND_ROBIN", "STATIC", "NONE"]
Protocol = Literal["HTTP", "HTTP2", "GRPC", "TCP"]
Part = Literal[
    "originating_rule", "first_hop_rule", "gateway", "service_entry", "direct_virtual_service", "virtual_service", "network_policy"
]

PORT_NAMES: Mapping[bool, tuple[str, str]] = {False: ("http", "https"), True: ("tcp", "tls")}
"""The names of a ServiceEntry's port for clients and its port for TLS, by whether the protocol is TCP; endpoints map them to ports of their own."""

NAME_PATTERNS: Mapping[Part, str] = {
    "originating_rule": "originate-mtls-for-{name}",
    "first_hop_rule": "egressgateway-for-{name}",
    "gateway": "egress-{name}",
    "service_entry": "{name}",
    "direct_virtual_service": "{name}",
    "virtual_service": "direct-{name}-through-egress-gateway",
    "network_policy": "{name}-only-through-egress-gateway",
}
"""How the objects of one service are called unless `objects` says otherwise; apart from the Gateway's they are the walkthrough's names.

The originating rule keeps its name in mode SIMPLE, so that a change of mode is one update and not a deletion and a creation.
"""


@dataclass(frozen=True)
class PodGroup:
    """Some pods of one namespace, by their labels."""

    namespace: str
    labels: Mapping[str, str]
    port: int
    ports: tuple[tuple[str, int | str], ...] = ()
    """(protocol, port or its name) of the pods, where they were found out; instead of `port`."""
    caches: tuple[str, ...] = ()
    """Addresses of caches on the node, for the DNS."""


@dataclass(frozen=True)
class EgressGateway:
    """The gateway workloads that originate TLS, and the Service in front of them; shared by any number of services."""

    selector: Mapping[str, str] = field(default_factory=lambda: {"istio": "egressgateway"})
    service: str = "istio-egressgateway"
    namespace: str = "istio-system"
    """The namespace of the gateway's pods and of its Service: it decides where credentials are looked up."""
    port: int = 443
    """The Service's port for the mesh; istiod translates it into the port that the pods listen on."""
    cluster_domain: str = "cluster.local"

    @property
    def host(self) -> str:
        return f"{self.service}.{self.namespace}.svc.{self.cluster_domain}"


@dataclass(frozen=True)
class CertificateFiles:
    """Paths inside the gateway's pods."""

    certificate: str | None = None
    private_key: str | None = None
    ca_certificate: str | None = None
    crl: str | None = None

    @property
    def given(self) -> dict[str, str]:
        paths = {
            "certificate": self.certificate,
            "private_key": self.private_key,
            "ca_certificate": self.ca_certificate,
            "crl": self.crl,
        }
        return {option: path for option, path in paths.items() if path}


@dataclass(frozen=True)
class Endpoint:
    """Where the service really is."""

    address: str
    ports: Mapping[str, int] = field(default_factory=dict)
    """Port name of the ServiceEntry (one of `PORT_NAMES`) to the endpoint's own port."""
    labels: Mapping[str, str] = field(default_factory=dict)
    locality: str | None = None
    weight: int | None = None


@dataclass(frozen=True)
class ObjectName:
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Origination:
    """One external service: clients speak HTTP or some protocol over TCP, the egress gateway speaks TLS for them."""

    where: str
    """How messages refer to it, for example `services[3] (nginx)`."""
    name: str
    host: str
    namespace: str
    gateway: EgressGateway
    mode: Mode
    objects: Mapping[Part, ObjectName]
    """Name and namespace of each object; the network policies' namespaces are `client_namespaces`."""
    sni: str
    subject_alt_names: tuple[str, ...]
    """The names of which the server's certificate must hold one; empty: any name that chains to the CA will do."""
    credential_name: str | None = None
    files: CertificateFiles | None = None
    http_port: int = 80
    """Where clients connect to, also with protocol TCP; only then it may be `tls_port`, too."""
    tls_port: int = 443
    protocol: Protocol = "HTTP"
    """What clients speak on `http_port`."""
    resolution: Resolution = "DNS"
    endpoints: tuple[Endpoint, ...] = ()
    addresses: tuple[str, ...] = ()
    """What clients' DNS answers for the host: sidecars tell TCP services on one port apart by them."""
    export_to: tuple[str, ...] = ()
    """Who sees the ServiceEntry and the VirtualServices; empty: the whole mesh."""
    rule_export_to: tuple[str, ...] = (".",)
    """Who sees the originating rule."""
    client_namespaces: tuple[str, ...] = ()
    direct_tls: bool = False
    prevent_bypass: bool = False
    max_connection_age: int | None = None
    """Seconds after which the gateway ends a connection to the server: a rotated client certificate is in use everywhere by then."""
    absent: bool = False
    """To be removed: only name, namespaces and the names of objects count then."""
    dns: PodGroup = field(default_factory=lambda: PodGroup("kube-system", {"k8s-app": "kube-dns"}, 53))
    control_plane: PodGroup = field(default_factory=lambda: PodGroup("istio-system", {"app": "istiod"}, 15012))

    @property
    def owner(self) -> str:
        """The owner label's value. The namespace is a part of it: the originating rules of all namespaces share the gateway's."""
        return owner_value("origination", f"{self.namespace}.{self.name}")

    @property
    def is_tcp(self) -> bool:
        return self.protocol == "TCP"

    @property
    def mesh_port_name(self) -> str:
        return PORT_NAMES[self.is_tcp][0]

    @property
    def tls_port_name(self) -> str:
        """The name of the port that the gateway connects to."""
        return self.mesh_port_name if self.http_port == self.tls_port else PORT_NAMES[self.is_tcp][1]

    @property
    def subset(self) -> str:
        """The first hop's subset; every service has one of its own, because istiod merges rules of one host by their subsets."""
        return self.name
