# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads how pods reach the cluster's DNS, for `prevent_bypass`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..istio.cluster_dns import CACHE, DNS_PORT, USUAL_PORTS, cache_addresses, pod_ports
from ..istio.egress import Origination, PodGroup
from ..objects.kinds import CONFIG_MAP, DAEMON_SET, SERVICE, Ref, Resource
from .client import Cluster
from .reconcile import read
from .surroundings import if_allowed, list_in


def with_dns(cluster: Cluster, originations: Sequence[Origination], notes: list[str]) -> tuple[Origination, ...]:
    """The services with the DNS as it is; those that close nothing, or whose `dns.port` says otherwise, as they are."""
    known: dict[str, PodGroup] = {}
    found = []
    for one in originations:
        if one.prevent_bypass and not one.absent:
            key = repr(one.dns)
            if key not in known:
                known[key] = _as_it_is(cluster, one.dns, notes)
            one = replace(one, dns=known[key])
        found.append(one)
    return tuple(found)


def _as_it_is(cluster: Cluster, dns: PodGroup, notes: list[str]) -> PodGroup:
    if dns.port == DNS_PORT:
        services = list_in(cluster, SERVICE, [dns.namespace])
        if services is None:
            shown = ", ".join(dict.fromkeys(str(port) for __, port in USUAL_PORTS))
            notes.append(
                f"services in {dns.namespace} may not be listed by this login: prevent_bypass lets the DNS pods' ports {shown} through; "
                "set dns.port to the one that they listen on"
            )
        dns = replace(dns, ports=USUAL_PORTS if services is None else pod_ports(services, dns.labels))
    answers = [_of_the_cache(cluster, resource, dns.namespace) for resource in (DAEMON_SET, CONFIG_MAP)]
    if all(not readable for readable, __ in answers):
        notes.append(
            f"whether {dns.namespace} has a {CACHE} (NodeLocal DNSCache) could not be read: prevent_bypass does not let it through"
        )
    return replace(dns, caches=cache_addresses(*(item for __, item in answers)))


def _of_the_cache(cluster: Cluster, resource: Resource, namespace: str) -> tuple[bool, Mapping[str, Any] | None]:
    """Whether it could be read, and what is there."""
    ref = Ref(resource.kind, namespace, CACHE)
    answer = if_allowed(lambda: read(cluster, [(resource, ref)]))
    return answer is not None, (answer or {}).get(ref)
