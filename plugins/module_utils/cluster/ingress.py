# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an ingress Gateway meets in the cluster: its workloads, other Gateways, credentials, and what its routes lead to."""

from __future__ import annotations

from collections.abc import Sequence

from ..istio.destinations import destinations
from ..istio.ingress import IngressGateway, gateway_manifest, required_credentials
from ..istio.ingress_surroundings import waypoint_problems
from ..istio.reference_grants import named_in
from ..istio.snapshot import EVERYWHERE, Coverage, Snapshot
from ..istio.waypoints import waypoint_of
from ..objects.kinds import (
    API_GATEWAY,
    AUTHORIZATION_POLICY,
    CONFIG_MAP,
    DESTINATION_RULE,
    GATEWAY,
    LISTENER_SET,
    NAMESPACE,
    POD,
    REFERENCE_GRANT,
    SECRET,
    SERVICE,
    SERVICE_ENTRY,
    WORKLOAD_ENTRY,
)
from ..problems import Problem
from .client import Cluster
from .gateways import read_credentials, read_destinations, services_in_front
from .mesh import mesh_config
from .observe import list_where_allowed
from .seen import Seen
from .surroundings import list_in, namespace_labels
from .usage import list_of_gateway_api
from .workloads import find_workloads

ROOT_NAMESPACE = "istio-system"
"""Where gateways usually run; looked at where the whole cluster may not be."""


def take_snapshot(cluster: Cluster, gateway: IngressGateway, notes: list[str]) -> tuple[Snapshot, list[str]]:
    """The facts for `check_gateway`, and the namespaces in which the workloads run. What may not be read is left out, with a note."""
    seen = Seen({}, {})
    workloads = find_workloads(cluster, gateway.selector, [ROOT_NAMESPACE, gateway.namespace], notes)
    whole = Coverage(everywhere=workloads.complete, namespaces=frozenset(workloads.namespaces))
    for resource in (POD, WORKLOAD_ENTRY):
        seen.add(resource, [item for item in workloads.items if item["kind"] == resource.kind], whole)
    before = len(notes)
    gateways = list_where_allowed(cluster, GATEWAY, gateway.namespace, notes)
    seen.add(GATEWAY, gateways, EVERYWHERE if len(notes) == before else Coverage(namespaces=frozenset({gateway.namespace})))
    _read_credentials(cluster, gateway, workloads.namespaces, seen, notes)
    for place in workloads.namespaces:
        before = len(notes)
        services = services_in_front(cluster, [place], notes)
        seen.add(SERVICE, services, Coverage(namespaces=frozenset({place}) if len(notes) == before else frozenset()))
    _read_destinations(cluster, gateway, seen, notes)
    _read_gateway_api(cluster, gateway, workloads.namespaces, seen, notes)
    policies = list_in(cluster, AUTHORIZATION_POLICY, [ROOT_NAMESPACE, *workloads.namespaces])
    if policies is None:
        notes.append("AuthorizationPolicies were not checked: this user may not list them where the gateway runs")
    seen.add(AUTHORIZATION_POLICY, policies, Coverage(namespaces=frozenset({ROOT_NAMESPACE, *workloads.namespaces})))
    unread: list[str] = []
    mesh = mesh_config(cluster, ROOT_NAMESPACE, workloads.workloads, unread)
    notes += [f"not read: {what}" for what in unread]
    if (mesh or {}).get("discoverySelectors"):
        labels = namespace_labels(cluster, [gateway.namespace, *workloads.namespaces])
        found = [{"metadata": {"name": name, "labels": dict(given)}} for name, given in labels.items() if given is not None]
        seen.add(NAMESPACE, found, Coverage(names=frozenset(("", name) for name in labels)))
    return Snapshot(seen.objects, seen.read, mesh=mesh, root_namespace=ROOT_NAMESPACE), workloads.namespaces


def _read_credentials(cluster: Cluster, gateway: IngressGateway, namespaces: Sequence[str], seen: Seen, notes: list[str]) -> None:
    needed = required_credentials(gateway)
    live = read_credentials(cluster, needed, namespaces, notes)
    missing = [lookup for lookup in needed if all(live.get(("Secret", place, lookup.names[-1])) is None for place in namespaces)]
    if missing and gateway.namespace not in namespaces:
        live = {**read_credentials(cluster, missing, [gateway.namespace], []), **live}  # the usual wrong place
    for kind, resource in (("Secret", SECRET), ("ConfigMap", CONFIG_MAP)):
        mine = {key: item for key, item in live.items() if key[0] == kind}
        found = [item for item in mine.values() if item is not None]
        seen.add(resource, found, Coverage(names=frozenset((place, name) for __, place, name in mine)))


def _read_destinations(cluster: Cluster, gateway: IngressGateway, seen: Seen, notes: list[str]) -> None:
    services, entries, rules = read_destinations(cluster, gateway, notes)
    seen.add(SERVICE, [item for item in services.values() if item is not None], Coverage(names=frozenset(services)))
    seen.add(SERVICE_ENTRY, entries, EVERYWHERE)
    seen.add(DESTINATION_RULE, rules, EVERYWHERE)


def _read_gateway_api(cluster: Cluster, gateway: IngressGateway, namespaces: Sequence[str], seen: Seen, notes: list[str]) -> None:
    for resource in (API_GATEWAY, LISTENER_SET):
        before = len(notes)
        found = list_of_gateway_api(cluster, resource, notes)
        if len(notes) == before:
            seen.add(resource, found, EVERYWHERE)
        if not found:
            break
    named = list(named_in(gateway_manifest(gateway), str))
    elsewhere = sorted({one.namespace for one in named} - set(namespaces))
    if gateway.namespace in namespaces and elsewhere:
        grants = list_in(cluster, REFERENCE_GRANT, elsewhere)
        if grants is None:
            notes.append(f"ReferenceGrants in {', '.join(elsewhere)} were not checked: this user may not list them")
        seen.add(REFERENCE_GRANT, grants, Coverage(namespaces=frozenset(elsewhere)))
    elif named:
        seen.add(REFERENCE_GRANT, (), Coverage(namespaces=frozenset(namespaces)))


def passed_waypoints(cluster: Cluster, gateway: IngressGateway, snapshot: Snapshot) -> tuple[Problem, ...]:
    """Policies that a waypoint applies, and that the gateway's requests go past."""
    targets = dict.fromkeys(one.service for one in destinations(gateway) if one.service)
    services = {key: snapshot.get(SERVICE, *key) for key in targets}
    labels = namespace_labels(cluster, sorted({namespace for (namespace, __), found in services.items() if found}))
    with_waypoint = [
        place
        for (place, __), found in services.items()
        if found and waypoint_of(found["metadata"].get("labels") or {}, place, labels.get(place) or {})
    ]
    policies = list_in(cluster, AUTHORIZATION_POLICY, with_waypoint) if with_waypoint else []
    return tuple(waypoint_problems(gateway, services, labels, policies or ()))
