# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What originations need of the cluster: the live objects, the facts for their checks, and plans.

Every kind costs one LIST, however many services there are: of the whole cluster where that is allowed, because others' objects matter to
the checks; else of the namespaces in question; else one GET for each object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ..diagnosis.originations import lookups, needs_authorization
from ..istio.egress import EgressGateway, Origination
from ..istio.egress_objects import KINDS, manifests, namespaces
from ..istio.mesh_namespace import dataplane
from ..istio.snapshot import EVERYWHERE, Coverage, Snapshot
from ..istio.workload import Workload, has_ended, has_proxy, workload_of
from ..objects.kinds import (
    API_GATEWAY,
    AUTHORIZATION_POLICY,
    CONFIG_MAP,
    LISTENER_SET,
    NAMESPACE,
    POD,
    SECRET,
    SERVICE,
    SIDECAR,
    WORKLOAD_ENTRY,
    Kind,
    Ref,
    Resource,
    ref_of,
    resource_of,
    with_kind,
)
from ..objects.ownership import owner_of
from ..objects.plan import Plan, Unit, plan_apply, plan_delete
from .client import CONNECTIONS, ApiError, Cluster
from .mesh import mesh_config
from .reconcile import read
from .reviews import may_list_secrets
from .seen import Seen, read_names
from .surroundings import list_in, listed
from .usage import list_of_gateway_api

Manifest = Mapping[str, Any]


@dataclass
class Live:
    """What was read of the kinds that originations are made of."""

    objects: dict[Ref, Manifest] = field(default_factory=dict)
    read: dict[Kind, Coverage] = field(default_factory=dict)

    @property
    def unread(self) -> list[str]:
        """What could not be read, in words."""
        return [why for coverage in self.read.values() for why in coverage.why.split("; ") if why]

    def of(self, kind: str) -> list[Manifest]:
        return [item for ref, item in self.objects.items() if ref.kind == kind]

    def owned_by(self, owner: str) -> list[Manifest]:
        return [item for item in self.objects.values() if owner_of(item) == owner]


def read_live(cluster: Cluster, originations: Sequence[Origination]) -> Live:
    """The live objects of every kind in question, everybody's where that is allowed."""
    wanted: dict[str, list[Ref]] = {}
    for one in originations:
        for made in manifests(one):
            wanted.setdefault(made["kind"], []).append(ref_of(made))
    live = Live()
    places = namespaces(originations)
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        kinds = [resource_of({"apiVersion": api_version, "kind": kind}) for api_version, kind in KINDS]
        answers = threads.map(lambda resource: _everything(cluster, resource, places, wanted.get(resource.kind, ())), kinds)
        for resource, (found, coverage) in zip(kinds, answers, strict=True):
            live.objects.update({ref_of(item): item for item in found})
            live.read[resource.key] = coverage
    return live


def _everything(cluster: Cluster, resource: Resource, places: Sequence[str], refs: Sequence[Ref]) -> tuple[list[Manifest], Coverage]:
    try:
        return [with_kind(item, resource) for item in cluster.list(resource)], EVERYWHERE
    except ApiError as error:
        if error.status == 404:
            return [], Coverage(everywhere=True, why=f"{resource.plural}: the cluster does not serve {resource.api_version}")
        if not error.missing_verb:
            raise
    found: list[Manifest] = []
    whole: list[str] = []
    named: list[Ref] = []
    unread = [f"{resource.plural} of other namespaces than {', '.join(places)} (this user may not list those of the whole cluster)"]
    for place in places:
        try:
            found += [with_kind(item, resource) for item in cluster.list(resource, place)]
            whole.append(place)
        except ApiError as error:
            if not error.missing_verb:
                raise
            mine = [ref for ref in refs if ref.namespace == place]
            unread.append(f"{resource.plural} in {place} but those named by this call (this user may not list them)")
            found += [item for item in read(cluster, [(resource, ref) for ref in mine]).values() if item is not None]
            named += mine
    names = frozenset((ref.namespace, ref.name) for ref in named)
    return found, Coverage(namespaces=frozenset(whole), names=names, why="; ".join(unread))


def take_snapshot(cluster: Cluster, originations: Sequence[Origination], live: Live) -> Snapshot:
    """The facts for `check_set`; what may not be read is left out, and `check_set` says so."""
    gateways: list[EgressGateway] = []
    for one in originations:
        if one.gateway not in gateways:
            gateways.append(one.gateway)
    seen = Seen(dict(live.objects), dict(live.read))
    root = originations[0].control_plane.namespace
    clients = dict.fromkeys(client for one in originations if not one.absent for client in one.client_namespaces)
    read_names(
        cluster, NAMESPACE, [("", name) for name in (*clients, *namespaces(originations), *(one.namespace for one in gateways))], seen
    )
    read_names(cluster, SERVICE, [(one.namespace, one.service) for one in gateways], seen)
    workloads = _read_workloads(cluster, gateways, seen)
    labels = {name: (seen.get(NAMESPACE, "", name) or {}).get("metadata", {}).get("labels") or {} for name in clients}
    for client in clients:
        if dataplane(labels[client]) != "sidecar":
            _read_proxies(cluster, client, seen)
    _read_credentials(cluster, originations, seen)
    places = dict.fromkeys((root, *clients))
    seen.add(SIDECAR, list_in(cluster, SIDECAR, places), Coverage(namespaces=frozenset(places)))
    places = dict.fromkeys((root, *(gateway.namespace for gateway in gateways)))
    seen.add(AUTHORIZATION_POLICY, list_in(cluster, AUTHORIZATION_POLICY, places), Coverage(namespaces=frozenset(places)))
    notes: list[str] = []
    _read_gateway_api(cluster, gateways, seen, notes)
    reviewed = {(one.namespace, one.service_account) for one in workloads} if any(map(needs_authorization, originations)) else set()
    return Snapshot(
        seen.objects,
        seen.read,
        may_list_secrets={account: answer for account in sorted(reviewed) if (answer := may_list_secrets(cluster, *account)) is not None},
        mesh=mesh_config(cluster, root, workloads, notes),
        root_namespace=root,
        notes=tuple(notes),
    )


def _read_gateway_api(cluster: Cluster, gateways: Iterable[EgressGateway], seen: Seen, notes: list[str]) -> None:
    """Gateways that may be on the same pods, and waypoints; and then the Services that decide about that."""
    for resource in (API_GATEWAY, LISTENER_SET):
        before = len(notes)
        found = list_of_gateway_api(cluster, resource, notes)
        if len(notes) == before:
            seen.add(resource, found, EVERYWHERE)
        if resource is API_GATEWAY and not found:
            break
    places = {ref.namespace for ref in seen.objects if ref.key == API_GATEWAY.key} & {gateway.namespace for gateway in gateways}
    for place in places:
        seen.add(SERVICE, listed(cluster, SERVICE, place), Coverage(namespaces=frozenset({place})))


def _read_workloads(cluster: Cluster, gateways: Iterable[EgressGateway], seen: Seen) -> list[Workload]:
    """Pods and WorkloadEntries of the gateways."""
    found: list[Workload] = []
    for gateway in gateways:
        unread = False
        for resource in (POD, WORKLOAD_ENTRY):
            # the labels of the proxy on a machine are in the WorkloadEntry's spec, where the API cannot select by them
            selector = ",".join(f"{key}={value}" for key, value in sorted(gateway.selector.items())) if resource is POD else ""
            try:
                items = [with_kind(item, resource) for item in cluster.list(resource, gateway.namespace, label_selector=selector)]
            except ApiError as error:
                if error.status != 404 and not error.missing_verb:
                    raise
                unread = unread or bool(error.missing_verb)
                continue
            mine = [item for item in items if gateway.selector.items() <= workload_of(item).labels.items()]
            seen.add(resource, mine, Coverage())
            found += [workload_of(item) for item in mine if not has_ended(item)]
        if not unread:
            for resource in (POD, WORKLOAD_ENTRY):
                seen.add(resource, (), Coverage(namespaces=frozenset({gateway.namespace})))
    return list({(one.namespace, one.name): one for one in found}.values())


def _read_proxies(cluster: Cluster, namespace: str, seen: Seen) -> None:
    """What may have a proxy in a namespace of clients; machines only where no pod has one."""
    pods = listed(cluster, POD, namespace)
    seen.add(POD, pods, Coverage(namespaces=frozenset({namespace})))
    if not any(not has_ended(pod) and has_proxy(pod) for pod in pods or ()):
        seen.add(WORKLOAD_ENTRY, listed(cluster, WORKLOAD_ENTRY, namespace), Coverage(namespaces=frozenset({namespace})))


def _read_credentials(cluster: Cluster, originations: Iterable[Origination], seen: Seen) -> None:
    names: dict[Resource, dict[tuple[str, str], None]] = {SECRET: {}, CONFIG_MAP: {}}
    for one in originations:
        for lookup in lookups(one):
            place = lookup.namespace or one.gateway.namespace
            names[CONFIG_MAP if lookup.kind == "ConfigMap" else SECRET].update({(place, name): None for name in lookup.names})
    for resource, wanted in names.items():
        read_names(cluster, resource, wanted, seen)


# --- plans


def plan_present(
    one: Origination, live: Live, *, labels: Mapping[str, str], annotations: Mapping[str, str], force: bool, prune: bool
) -> Unit:
    """Everything in the order in which traffic never breaks, and then what the service no longer has."""
    wanted = manifests(one, labels=labels, annotations=annotations)
    plans = [plan_apply(made, live.objects.get(ref_of(made)), force=force) for made in wanted]
    if prune:
        kept = {ref_of(made) for made in wanted}
        plans += _deletions([item for item in live.owned_by(one.owner) if ref_of(item) not in kept], "the service no longer has it")
    return Unit(tuple(plans))


def plan_absent(one: Origination, live: Live, *, force: bool, notes: list[str]) -> Unit:
    """Exactly what was made for the service; what something else made under the same names only with `force`."""
    mine = list(live.owned_by(one.owner))
    for made in manifests(one):
        item = live.objects.get(ref_of(made))
        if item is None or owner_of(item) == one.owner:
            continue
        if force:
            mine.append(item)
        else:
            notes.append(f"{ref_of(made)} was not made for this service and stays")
    return Unit(tuple(_deletions(mine, "state is absent", force=force)))


_REMOVAL = ("NetworkPolicy", "VirtualService", "ServiceEntry", "Gateway", "DestinationRule")


def _deletions(items: Iterable[Manifest], reason: str, *, force: bool = False) -> list[Plan]:
    """In the reverse of the order in which objects are made."""

    def last_made_first(item: Manifest) -> tuple[int, bool, str]:
        spec = item.get("spec") or {}
        made_earlier = "tls" in spec if item["kind"] == "VirtualService" else not spec.get("subsets")
        return _REMOVAL.index(item["kind"]), made_earlier, item["metadata"]["name"]

    return [plan_delete(ref_of(item), resource_of(item), item, force=force, reason=reason) for item in sorted(items, key=last_made_first)]
