# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an ingress Gateway's routes go, and whether anything is there: a host, port or subset that istiod does not know is a 503. Pure.

From istiod's pkg/config/host and pilot/pkg/networking/core/route (GetDestinationCluster): only a name without dots is a Service of the
route's own namespace; `name.namespace` is not completed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..problems import Problem
from .choice import Rules, fqdn, rule_for
from .ingress import IngressGateway
from .names import subset_of

Manifest = Mapping[str, Any]
ServiceKey = tuple[str, str]
"""(namespace, name)"""
_CLUSTER_SET = ".clusterset.local"
"""Services of several clusters, which have no Service of that name in this one."""


@dataclass(frozen=True)
class Destination:
    """One target of a route."""

    where: str
    given: str
    """The host as the user wrote it."""
    host: str
    """The host as istiod completes it."""
    port: int
    """The port that is asked for: without one that of the server."""
    names_port: bool
    subset: str | None = None

    @property
    def service(self) -> ServiceKey | None:
        """The Service of this cluster that the host is a name of, if it has that form."""
        parts = self.host.split(".")
        return (parts[1], parts[0]) if len(parts) > 2 and parts[2] == "svc" and not self.host.endswith(_CLUSTER_SET) else None


def destinations(gateway: IngressGateway) -> tuple[Destination, ...]:
    """Every target of the gateway's routes, each once, with the first route that names it."""
    found: dict[tuple[Any, ...], Destination] = {}
    for server in gateway.servers:
        for route in server.routes:
            for one in route.rule.get("route") or ():
                target = one.get("destination") or {}
                given, port = str(target.get("host") or ""), (target.get("port") or {}).get("number")
                host = fqdn(given, gateway.namespace).rstrip(".")
                made = Destination(route.where, given, host, port or server.port, bool(port), target.get("subset"))
                found.setdefault((made.host, made.port, made.names_port, made.subset), made)
    return tuple(found.values())


@dataclass(frozen=True)
class Known:
    """What istiod knows of services."""

    services: Mapping[ServiceKey, Manifest | None]
    """Those that were looked up, None for what does not exist."""
    hosts: frozenset[str] | None = None
    """Of all ServiceEntries, in lower case; None where not all of them could be read, and then nothing is said that depends on them."""

    def has_entry(self, host: str) -> bool:
        return host in (self.hosts or ()) or any(subset_of(host, wildcard) for wildcard in self._wildcards)

    @cached_property
    def _wildcards(self) -> tuple[str, ...]:
        return tuple(host for host in self.hosts or () if host.startswith("*"))


def hosts_of(entries: Iterable[Manifest] | None) -> frozenset[str] | None:
    """The hosts of ServiceEntries."""
    if entries is None:
        return None
    return frozenset(str(host).lower() for entry in entries for host in (entry.get("spec") or {}).get("hosts") or ())


def unknown(found: Iterable[Destination], services: Mapping[ServiceKey, Manifest | None]) -> tuple[Destination, ...]:
    """Destinations that no Service answers to, so that only a ServiceEntry may; without those whose Service could not be looked at."""
    return tuple(
        one
        for one in found
        if not one.host.endswith(_CLUSTER_SET) and (one.service is None or (one.service in services and services[one.service] is None))
    )


def destination_problems(
    found: Sequence[Destination], known: Known, *, rules: Rules | None, proxy_namespaces: Sequence[str], route_namespace: str
) -> tuple[Problem, ...]:
    """Routes that lead nowhere, as warnings: what they lead to may come later, or be known from another cluster of the mesh. Without `rules`
    nothing is said of subsets."""
    problems = list(_hosts(found, known))
    problems += [problem for one in found if (problem := _port(one, known.services))]
    if rules is not None:
        problems += _subsets(found, rules, proxy_namespaces, route_namespace)
    return tuple(problems)


def _hosts(found: Sequence[Destination], known: Known) -> Iterator[Problem]:
    for one in unknown(found, known.services) if known.hosts is not None else ():
        if known.has_entry(one.host):
            continue
        if one.service:
            what = f"no Service {one.service[0]}/{one.service[1]} in this cluster and no ServiceEntry for {one.host}"
            remedy = f"make it, or correct the host ({one.given}); a Service of another cluster of the mesh needs nothing here"
        else:
            what = f"no ServiceEntry for {one.host}"
            name, __, namespace = one.host.partition(".")
            full = f"; a Service is named in full, {name}.{namespace}.svc.cluster.local" if namespace and "." not in namespace else ""
            remedy = f"make a ServiceEntry, or correct the host{full}"
        message = f"the route goes to {one.given}, and there is {what}: requests will be answered with 503"
        yield Problem("destination_missing", one.where, message, remedy, "warning")


def _port(one: Destination, services: Mapping[ServiceKey, Manifest | None]) -> Problem | None:
    spec = ((services.get(one.service) if one.service else None) or {}).get("spec") or {}
    ports = [port.get("port") for port in spec.get("ports") or ()]
    if not ports or one.port in ports or (not one.names_port and len(ports) == 1):
        return None
    what = f"port {one.port}" if one.names_port else f"no port, which stands for the server's own ({one.port}) where a Service has several"
    return Problem(
        "destination_port",
        one.where,
        f"the route goes to {one.given} with {what}, and that Service has {', '.join(map(str, ports))}: requests will be answered with 503",
        "set the destination's port to one of the Service's (its `port`, not its `targetPort`)",
        "warning",
    )


def _subsets(found: Sequence[Destination], rules: Rules, proxies: Sequence[str], route_namespace: str) -> Iterator[Problem]:
    for one in found:
        for viewer in proxies if one.subset else ():
            rule = rule_for(rules, viewer, one.host, one.service[0] if one.service else route_namespace)
            if rule is None or one.subset not in rule.subsets:
                named = ", ".join(sorted(rule.subsets)) if rule else ""
                has = f"its DestinationRule has {named or 'none'}" if rule else f"no DestinationRule for {one.host} is shown to {viewer}"
                yield Problem(
                    "destination_subset",
                    one.where,
                    f"the route goes to the subset {one.subset} of {one.given}, and {has}: requests will be answered with 503",
                    "add the subset to a DestinationRule for the host, or leave it out",
                    "warning",
                )
                break
