# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways of requests through egress gateways, as values: from what a module asks for, or from anybody's objects. Pure.

client's sidecar --route of the mesh--> Service of the gateway --Gateway, route of the gateway--> external service
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..istio.choice import ANYWHERE, fqdn, rule_for
from ..istio.egress import EgressGateway, Endpoint, Origination, Part
from ..istio.listeners import Listener, listeners_of
from ..objects.kinds import (
    DESTINATION_RULE,
    GATEWAY,
    NETWORK_POLICY,
    SERVICE_ENTRY,
    VIRTUAL_SERVICE,
    Manifest,
    Ref,
    Resource,
    ref_of,
)

if TYPE_CHECKING:
    from .view import MeshView

HTTP = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB")
TCP = ("TCP", "MONGO", "REDIS", "MYSQL")
TLS = ("HTTPS", "TLS")

_KINDS: Mapping[Part, Resource] = {
    "originating_rule": DESTINATION_RULE,
    "first_hop_rule": DESTINATION_RULE,
    "gateway": GATEWAY,
    "service_entry": SERVICE_ENTRY,
    "direct_virtual_service": VIRTUAL_SERVICE,
    "virtual_service": VIRTUAL_SERVICE,
    "network_policy": NETWORK_POLICY,
}
_FILES = {"certificate": "clientCertificate", "private_key": "privateKey", "ca_certificate": "caCertificates", "crl": "caCrl"}


@dataclass(frozen=True)
class EgressPath:
    """One external host behind an egress gateway."""

    where: str
    """How a module's messages refer to it; empty for what was found in objects."""
    host: str
    gateway: EgressGateway
    objects: Mapping[Part, Ref]
    """The objects that make it, as far as there are any."""
    mode: str = ""
    """Of the TLS that the gateway originates; empty where nothing asks for it."""
    credential_name: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    """Option (`certificate`, `private_key`, `ca_certificate`, `crl`) to a path in the gateway's pods."""
    server_mode: str = "ISTIO_MUTUAL"
    """The TLS mode of the gateway's server for the host; empty for plain text."""
    http_port: int = 80
    tls_port: int = 443
    protocol: str = "HTTP"
    mesh_port_name: str = "http"
    tls_port_name: str = "https"
    resolution: str = "DNS"
    endpoints: tuple[Endpoint, ...] = ()
    addresses: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    """The namespaces of the clients, where they are known."""
    viewers: tuple[str, ...] = (ANYWHERE,)
    """The namespaces for which the way is looked at."""
    subset: str = ""
    direct_tls: bool = False
    prevent_bypass: bool = False
    asked: bool = False
    """Whether a module's arguments ask for it."""
    refs: frozenset[Ref] = frozenset()
    """The objects that belong to it alone."""

    @property
    def is_tcp(self) -> bool:
        return self.protocol == "TCP"

    @property
    def home(self) -> str:
        """The namespace of the ServiceEntry, where istiod looks for rules, too."""
        ref = self.objects.get("service_entry") or self.objects["virtual_service"]
        return ref.namespace


def path_of(one: Origination, manifests: Iterable[Manifest]) -> EgressPath:
    """What a module asks for."""
    clients = tuple(one.client_namespaces)
    return EgressPath(
        where=one.where,
        host=one.host,
        gateway=one.gateway,
        objects={part: _KINDS[part].ref(target.namespace, target.name) for part, target in one.objects.items() if part != "network_policy"},
        mode=one.mode,
        credential_name=one.credential_name or "",
        files=one.files.given if one.files else {},
        http_port=one.http_port,
        tls_port=one.tls_port,
        protocol=one.protocol,
        mesh_port_name=one.mesh_port_name,
        tls_port_name=one.tls_port_name,
        resolution=one.resolution,
        endpoints=one.endpoints,
        addresses=one.addresses,
        clients=clients,
        viewers=clients or (ANYWHERE,),
        subset=one.subset,
        direct_tls=one.direct_tls,
        prevent_bypass=one.prevent_bypass,
        asked=True,
        refs=frozenset(ref_of(made) for made in manifests),
    )


# --- found in objects


@dataclass(frozen=True)
class Leg:
    """One destination of a route."""

    kind: str
    """`http`, `tls` or `tcp`"""
    field: str
    match: Mapping[str, Any]
    host: str
    """Whole."""
    port: int | None
    subset: str


def legs(route: Manifest | None, gateway: str, domain: str = "cluster.local") -> Iterator[Leg]:
    """Where a VirtualService sends what arrives over a gateway (`namespace/name`, or `mesh`: from sidecars)."""
    spec = (route or {}).get("spec") or {}
    namespace = ((route or {}).get("metadata") or {}).get("namespace", "")
    for kind in ("http", "tls", "tcp"):
        for index, rule in enumerate(spec.get(kind) or ()):
            matches: Sequence[Mapping[str, Any]] = rule.get("match") or ({},)
            match = next((one for one in matches if gateway in whole(one.get("gateways") or spec.get("gateways"), namespace)), None)
            for position, target in enumerate(rule.get("route") or ()) if match is not None else ():
                destination = target.get("destination") or {}
                yield Leg(
                    kind,
                    f"spec.{kind}[{index}].route[{position}].destination",
                    match or {},
                    fqdn(str(destination.get("host") or ""), namespace, domain).rstrip("."),
                    (destination.get("port") or {}).get("number"),
                    str(destination.get("subset") or ""),
                )


def whole(gateways: Sequence[str] | None, namespace: str) -> tuple[str, ...]:
    """A route's Gateways as `namespace/name`, and `mesh`."""
    return tuple(name if name == "mesh" or "/" in name else f"{namespace}/{name}" for name in gateways or ("mesh",))


def find_paths(view: MeshView) -> Iterator[EgressPath]:
    for route in view.snapshot.of(VIRTUAL_SERVICE):
        hosts = [str(host).lower() for host in (route.get("spec") or {}).get("hosts") or ()]
        seen: set[tuple[str, str]] = set()
        for leg in legs(route, "mesh", view.snapshot.domain):
            if leg.host in hosts or view.service_key(leg.host) is None:
                continue
            for host in hosts:
                gateway = _gateway_behind(view, leg.host, host)
                if gateway is not None and (host, leg.host) not in seen and "*" not in host:
                    seen.add((host, leg.host))
                    yield _found(view, route, leg, host, gateway)


def _gateway_behind(view: MeshView, service_host: str, host: str) -> Manifest | None:
    """The Gateway that serves the host on the pods of a Service, and that a route for the host names."""
    bound = [name for route in view.routes.get(host, ()) for name in whole((route.get("spec") or {}).get("gateways"), _home(route))]
    candidates = [found for name in dict.fromkeys(bound) if (found := view.snapshot.get(GATEWAY, *name.partition("/")[::2])) is not None]
    candidates.sort(key=lambda one: not any(host in server.names for server in listeners_of(one)))
    namespace = (view.service_key(service_host) or ("", ""))[0]
    for gateway in candidates:
        selector = (gateway.get("spec") or {}).get("selector") or {}
        pods = [pod for pod in view.selected(selector) if pod.namespace == namespace]
        service = view.service(service_host)
        wanted = ((service or {}).get("spec") or {}).get("selector") or {}
        if service is None or not pods:
            agrees = all(selector.get(key, value) == value for key, value in wanted.items())
        else:
            agrees = any(wanted.items() <= pod.labels.items() for pod in pods)
        if agrees:
            return gateway
    return next((gateway for gateway in candidates if _leads_out(view, gateway, host)), None)


def _leads_out(view: MeshView, gateway: Manifest, host: str) -> bool:
    """Whether a route at the Gateway leads to the host itself, as none to a Service of the mesh does."""
    named = f"{_home(gateway)}/{gateway['metadata']['name']}"
    return view.service_key(host) is None and any(leg.host == host for leg in _gateway_legs(view, named, host))


def _home(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("namespace", ""))


def _found(view: MeshView, route: Manifest, leg: Leg, host: str, gateway: Manifest) -> EgressPath:
    namespace, service = view.service_key(leg.host) or ("", "")
    ports = [port.get("port") for port in ((view.service(leg.host) or {}).get("spec") or {}).get("ports") or ()]
    number = leg.port or (ports[0] if len(ports) == 1 else 443)
    named = f"{_home(gateway)}/{gateway['metadata']['name']}"
    inner = next((each for each in _gateway_legs(view, named, host)), None)
    server = _server_for(gateway, host)
    entry = next(iter(view.service_entries.get(host, ())), None)
    spec: Mapping[str, Any] = (entry or {}).get("spec") or {}
    declared = {port.get("number"): port for port in spec.get("ports") or ()}
    tls_port = (inner.port if inner else None) or next(iter(declared), 443)
    http_port = leg.match.get("port") or next((n for n, port in declared.items() if n != tls_port), 80)
    merged = rule_for(view.rules, namespace, inner.host if inner else host, _home(entry or route))
    tls = (merged.tls(tls_port, (inner.subset if inner else "") or None) if merged else None) or {}
    first = rule_for(view.rules, _viewer(view, route), leg.host, namespace)
    objects: dict[Part, Ref] = {"virtual_service": ref_of(route), "gateway": ref_of(gateway)}
    if entry is not None:
        objects["service_entry"] = ref_of(entry)
    if merged is not None:
        objects["originating_rule"] = ref_of(merged.policy_from or merged.rules[0])
    if first is not None:
        objects["first_hop_rule"] = ref_of(first.subsets[leg.subset][0] if leg.subset in first.subsets else first.rules[0])
    return EgressPath(
        where="",
        host=host,
        gateway=EgressGateway(
            dict((gateway.get("spec") or {}).get("selector") or {}), service, namespace, int(number), view.snapshot.domain
        ),
        objects=objects,
        mode=str(tls.get("mode") or "") if tls.get("mode") in ("SIMPLE", "MUTUAL") else "",
        credential_name=str(tls.get("credentialName") or ""),
        files={option: str(tls[name]) for option, name in _FILES.items() if tls.get(name)},
        server_mode=(server.mode or "") if server else "ISTIO_MUTUAL",
        http_port=int(http_port),
        tls_port=int(tls_port),
        protocol="TCP" if leg.kind == "tcp" else "TLS" if leg.kind == "tls" else "HTTP",
        mesh_port_name=str((declared.get(http_port) or {}).get("name") or ""),
        tls_port_name=str((declared.get(tls_port) or {}).get("name") or ""),
        resolution=str(spec.get("resolution") or ("NONE" if entry is not None else "DNS")),
        endpoints=tuple(Endpoint(str(each.get("address") or ""), dict(each.get("ports") or {})) for each in spec.get("endpoints") or ()),
        addresses=tuple(spec.get("addresses") or ()),
        viewers=_viewers(view, route),
        subset=leg.subset,
        refs=frozenset({ref_of(route), *([ref_of(entry)] if entry is not None else ())}),
    )


def _gateway_legs(view: MeshView, gateway: str, host: str) -> Iterator[Leg]:
    for route in view.routes.get(host, ()):
        yield from legs(route, gateway, view.snapshot.domain)


def _server_for(gateway: Manifest, host: str) -> Listener | None:
    servers = listeners_of(gateway)
    return next((one for one in servers if host in one.names), None) or next((one for one in servers if one.mode == "ISTIO_MUTUAL"), None)


def _viewer(view: MeshView, route: Manifest) -> str:
    return _viewers(view, route)[0]


def _viewers(view: MeshView, route: Manifest) -> tuple[str, ...]:
    """Whose sidecars follow the route: of the namespaces that it is shown to, else of its own, unless only a gateway or istiod lives there."""
    export_to = [str(place) for place in (route.get("spec") or {}).get("exportTo") or ()]
    named = tuple(place for place in export_to if place not in (".", "*"))
    if named and "*" not in export_to:
        return named
    home = _home(route)
    return (ANYWHERE,) if home == view.snapshot.root_namespace and "." not in export_to else (home,)
