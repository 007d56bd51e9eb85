# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the gateways that serve a credential are reached, and which proxies they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..cluster.client import ApiError, Cluster
from ..cluster.proxies import proxies_in_pods
from ..cluster.workloads import Workloads, find_workloads
from ..istio.proxy import Source, Unread
from ..istio.served import Served
from ..istio.workload import services_of
from ..live.envoy import check_url, source_at
from ..objects.kinds import NODE, POD, SERVICE
from ..problems import Problem, Rejected

Manifest = Mapping[str, Any]
Selector = tuple[tuple[str, str], ...]
_ADDRESS = re.compile(
    r"\[(?P<v6>[0-9A-Fa-f:.]+)\](?::(?P<port6>\d+))?|(?P<host>[^:\[\]/]+)(?::(?P<port>\d+))?|(?P<bare6>[0-9A-Fa-f:]+:[0-9A-Fa-f:.]+)"
)


WAYS: dict[str, dict[str, Any]] = {
    # see plugins/doc_fragments/ways.py
    "addresses": {"type": "list", "elements": "str", "default": []},
    "ports": {"type": "dict"},
    "admin_urls": {"type": "list", "elements": "str", "default": []},
}


def way_problems(params: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with these options, and with `request_timeout`."""
    problems = [problem for url in params["admin_urls"] for problem in check_url(url)]
    for port, there in (params["ports"] or {}).items():
        if not re.fullmatch(r"[0-9]{1,5}", str(there).strip()):
            found = f"expected a port that stands for {port}, found {there!r}"
            problems.append(Problem("invalid_request", "ports", found, "give its number"))
    return [*problems, *seconds_problems(params, "request_timeout")]


def seconds_problems(params: Mapping[str, Any], *names: str) -> list[Problem]:
    """Times in which nothing could happen."""
    return [
        Problem("invalid_request", name, f"expected more than 0 seconds, found {params[name]:g}", "give the seconds")
        for name in names
        if params[name] <= 0
    ]


@dataclass(frozen=True)
class Address:
    """Where gateways are reached; without a port it is the server's own, or what `ports` makes of it."""

    host: str
    port: int | None = None


def read_address(text: str, where: str) -> Address:
    """`203.0.113.7`, `gateway.example.com:8443`, `[2001:db8::1]:443`. Raises Rejected."""
    found = _ADDRESS.fullmatch(text.strip())
    port = int(found["port"] or found["port6"] or 0) if found else 0
    if not found or port > 65535:
        raise Rejected(
            Problem("invalid_address", where, f"expected an address, or address:port, found {text!r}", "write it as 203.0.113.7:443")
        )
    return Address(found["v6"] or found["host"] or found["bare6"], port or None)


@dataclass
class Surroundings:
    """Gateways' workloads and the ways to them, each looked for once in a call."""

    cluster: Cluster
    namespaces: Sequence[str]
    """Where proxies are looked for when the cluster may not be listed as a whole."""
    addresses: Sequence[Address] = ()
    ports: Mapping[str, int] = field(default_factory=dict)
    """Port of a server -> port at which it is reached at the addresses."""
    admin_urls: Sequence[str] = ()
    request_timeout: float = 30.0
    notes: list[str] = field(default_factory=list)
    _workloads: dict[Selector, Workloads] = field(default_factory=dict)
    _services: dict[str, list[Manifest]] = field(default_factory=dict)
    _nodes: list[str] | None = None

    def workloads(self, selector: Selector) -> Workloads:
        if selector not in self._workloads:
            self._workloads[selector] = find_workloads(self.cluster, dict(selector), self.namespaces, self.notes)
        return self._workloads[selector]

    def places(self, server: Served) -> list[tuple[str, int]]:
        """(address, port) of every way to a server."""
        if self.addresses:
            return [(one.host, one.port or int(self.ports.get(str(server.port), server.port))) for one in self.addresses]
        found: dict[tuple[str, int], None] = {}
        for workload in self.workloads(server.selector).workloads:
            for service in services_of(workload, self._services_in(workload.namespace)):
                found.update(dict.fromkeys(self._ways(service, server.port)))
        return list(found)

    def proxies(self, selectors: Iterable[Selector]) -> list[Source]:
        """Every proxy that can be asked: Pods through the API server, and those at `admin_urls`."""
        sources: dict[str, Source] = {}
        for selector in dict.fromkeys(selectors):
            for namespace in self._namespaces_with_pods(selector):
                try:
                    found, __ = proxies_in_pods(self.cluster, namespace, dict(selector), timeout=self.request_timeout)
                except ApiError as error:
                    if not error.missing_verb:
                        raise
                    self.notes.append(f"proxies in {namespace} were not asked: this user may not {error.missing_verb} them")
                    continue
                sources.update({source.name: as_far_as_allowed(source) for source in found})
        return [*sources.values(), *(source_at(url, timeout=self.request_timeout) for url in dict.fromkeys(self.admin_urls))]

    def counts(self, selectors: Iterable[Selector]) -> dict[str, int]:
        """How many proxies each selector stands for."""
        return {
            ",".join(f"{key}={value}" for key, value in selector) or "(every gateway)": len(self.workloads(selector).workloads)
            for selector in dict.fromkeys(selectors)
        }

    def _namespaces_with_pods(self, selector: Selector) -> list[str]:
        return sorted({one.namespace for one in self.workloads(selector).workloads if one.mounts is not None})

    def _services_in(self, namespace: str) -> list[Manifest]:
        if namespace not in self._services:
            try:
                self._services[namespace] = list(self.cluster.list(SERVICE, namespace))
            except ApiError as error:
                if not error.missing_verb:
                    raise
                self.notes.append(
                    f"Services in {namespace} were not looked at: this user may not {error.missing_verb} them; give addresses"
                )
                self._services[namespace] = []
        return self._services[namespace]

    def _ways(self, service: Manifest, number: int) -> list[tuple[str, int]]:
        """The ways to a Service's port: load balancers and external addresses, else node ports."""
        spec, status = service.get("spec") or {}, service.get("status") or {}
        port: Manifest | None = next((one for one in spec.get("ports") or () if one.get("port") == number), None)
        if port is None:
            return []
        balancers = [one.get("ip") or one.get("hostname") for one in (status.get("loadBalancer") or {}).get("ingress") or ()]
        outside = [str(one) for one in (*balancers, *(spec.get("externalIPs") or ())) if one]
        if outside or not port.get("nodePort"):
            return [(address, number) for address in outside]
        local = spec.get("externalTrafficPolicy") == "Local"
        return [(address, int(port["nodePort"])) for address in self._node_addresses(service if local else None)]

    def _node_addresses(self, service: Manifest | None) -> list[str]:
        """One address of each node; with `service` only of those that run its Pods, since the others drop what comes."""
        try:
            nodes = list(self.cluster.list(NODE))
            if service is not None:
                selector = ",".join(f"{key}={value}" for key, value in (service["spec"].get("selector") or {}).items())
                pods = self.cluster.list(POD, service["metadata"]["namespace"], label_selector=selector)
                running = {(pod.get("spec") or {}).get("nodeName") for pod in pods}
                nodes = [node for node in nodes if node["metadata"]["name"] in running]
        except ApiError as error:
            if not error.missing_verb:
                raise
            self.notes.append(f"nodes were not looked at: this user may not {error.missing_verb} them; give addresses")
            return []
        found = []
        for node in nodes:
            known = {one.get("type"): one.get("address") for one in (node.get("status") or {}).get("addresses") or ()}
            if address := known.get("ExternalIP") or known.get("InternalIP"):
                found.append(str(address))
        return found


def as_far_as_allowed(source: Source) -> Source:
    """A proxy that this user may not ask is one that cannot be read: less is proven then, and nothing fails."""

    def page(path: str) -> bytes:
        try:
            return source.page(path)
        except ApiError as error:
            if not error.missing_verb:
                raise
            raise Unread(str(error)) from None

    return replace(source, page=page)


def surroundings_of(cluster: Cluster, namespaces: Sequence[str], params: Mapping[str, Any], notes: list[str]) -> Surroundings:
    """What the options name. Raises Rejected for an address that is none."""
    addresses = [read_address(text, f"addresses[{number}]") for number, text in enumerate(params["addresses"])]
    ports = {str(port): int(there) for port, there in (params["ports"] or {}).items()}
    return Surroundings(cluster, namespaces, addresses, ports, params["admin_urls"], params["request_timeout"], notes)
