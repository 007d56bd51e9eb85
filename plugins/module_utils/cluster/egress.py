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

from ..istio.credential import decode
from ..istio.egress import EgressGateway, Origination
from ..istio.egress_objects import KINDS, manifests, namespaces
from ..istio.egress_service import lookups, needs_authorization
from ..istio.egress_view import Snapshot
from ..istio.mesh_namespace import dataplane
from ..istio.ownership import MANAGED_BY, MANAGED_BY_LABEL, OWNER_LABEL
from ..istio.workload import Workload
from .client import CONNECTIONS, ApiError, Cluster
from .reconcile import Plan, Unit, plan_apply, plan_delete, read, with_kind
from .resources import (
    AUTHORIZATION_POLICY,
    CONFIG_MAP,
    POD,
    SECRET,
    SERVICE,
    SIDECAR,
    SUBJECT_ACCESS_REVIEW,
    WORKLOAD_ENTRY,
    Ref,
    Resource,
    ref_of,
    resource_of,
)
from .surroundings import has_proxies, if_allowed, list_in, mesh_config, namespace_labels
from .workloads import has_ended, workload_of

Manifest = Mapping[str, Any]


@dataclass
class Live:
    """What was read of the kinds that originations are made of."""

    objects: dict[Ref, Manifest] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    """What could not be read, in words."""

    def of(self, kind: str) -> list[Manifest]:
        return [item for ref, item in self.objects.items() if ref.kind == kind]

    def owned_by(self, owner: str) -> list[Manifest]:
        return [item for item in self.objects.values() if _owner(item) == owner]


def _owner(item: Manifest) -> str | None:
    labels = (item.get("metadata") or {}).get("labels") or {}
    return labels.get(OWNER_LABEL) if labels.get(MANAGED_BY_LABEL) == MANAGED_BY else None


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
        for found, unread in threads.map(lambda resource: _everything(cluster, resource, places, wanted.get(resource.kind, ())), kinds):
            live.objects.update({ref_of(item): item for item in found})
            live.unread += unread
    return live


def _everything(cluster: Cluster, resource: Resource, places: Sequence[str], refs: Sequence[Ref]) -> tuple[list[Manifest], list[str]]:
    try:
        return [with_kind(item, resource) for item in cluster.list(resource)], []
    except ApiError as error:
        if error.status == 404:
            return [], [f"{resource.plural}: the cluster does not serve {resource.api_version}"]
        if not error.missing_verb:
            raise
    found: list[Manifest] = []
    unread = [f"{resource.plural} of other namespaces than {', '.join(places)} (this login may not list those of the whole cluster)"]
    for place in places:
        try:
            found += [with_kind(item, resource) for item in cluster.list(resource, place)]
        except ApiError as error:
            if not error.missing_verb:
                raise
            mine = [ref for ref in refs if ref.namespace == place]
            unread.append(f"{resource.plural} in {place} but those named by this call (this login may not list them)")
            found += [item for item in read(cluster, [(resource, ref) for ref in mine]).values() if item is not None]
    return found, unread


def take_snapshot(cluster: Cluster, originations: Sequence[Origination], live: Live) -> Snapshot:
    """The facts for `check_set`; what may not be read is left out, and `check_set` says so."""
    gateways: list[EgressGateway] = []
    for one in originations:
        if one.gateway not in gateways:
            gateways.append(one.gateway)
    workloads, workloads_unread = _workloads(cluster, gateways)
    root = originations[0].control_plane.namespace
    clients = dict.fromkeys(client for one in originations if not one.absent for client in one.client_namespaces)
    labels = namespace_labels(cluster, [*clients, *namespaces(originations), *(gateway.namespace for gateway in gateways)])
    injected = {client: has_proxies(cluster, client) for client in clients if dataplane(labels.get(client) or {}) != "sidecar"}
    unread = [f"pods and WorkloadEntries in {client} (whether they have sidecars)" for client, answer in injected.items() if answer is None]
    reviewed = {(one.namespace, one.service_account) for one in workloads} if any(map(needs_authorization, originations)) else set()
    return Snapshot(
        service_entries=live.of("ServiceEntry"),
        gateways=live.of("Gateway"),
        destination_rules=live.of("DestinationRule"),
        virtual_services=live.of("VirtualService"),
        network_policies=live.of("NetworkPolicy"),
        services=_services(cluster, gateways),
        workloads=None if workloads_unread else workloads,
        secret_keys=_secret_keys(cluster, originations),
        may_list_secrets={account: answer for account in sorted(reviewed) if (answer := _may_list_secrets(cluster, *account)) is not None},
        sidecars=list_in(cluster, SIDECAR, [root, *clients]),
        authorization_policies=list_in(cluster, AUTHORIZATION_POLICY, [root, *(gateway.namespace for gateway in gateways)]),
        namespaces=labels,
        injected={client: answer for client, answer in injected.items() if answer is not None},
        mesh=mesh_config(cluster, root),
        root_namespace=root,
        unread=(*live.unread, *unread),
    )


def _services(cluster: Cluster, gateways: Iterable[EgressGateway]) -> dict[tuple[str, str], Manifest | None]:
    refs = dict.fromkeys(Ref("Service", gateway.namespace, gateway.service) for gateway in gateways)
    found: dict[tuple[str, str], Manifest | None] = {}
    for ref in refs:
        answer = if_allowed(lambda ref=ref: read(cluster, [(SERVICE, ref)]))  # type: ignore[misc]
        if answer is not None:
            found[(ref.namespace, ref.name)] = answer[ref]
    return found


def _workloads(cluster: Cluster, gateways: Iterable[EgressGateway]) -> tuple[list[Workload], bool]:
    """Pods and WorkloadEntries of the gateways, and whether some could not be read."""
    found: list[Workload] = []
    unread = False
    for gateway in gateways:
        for resource in (POD, WORKLOAD_ENTRY):
            # the labels of the proxy on a machine are in the WorkloadEntry's spec, where the API cannot select by them
            selector = ",".join(f"{key}={value}" for key, value in sorted(gateway.selector.items())) if resource is POD else ""
            try:
                items = list(cluster.list(resource, gateway.namespace, label_selector=selector))
            except ApiError as error:
                if error.status != 404 and not error.missing_verb:
                    raise
                unread = unread or bool(error.missing_verb)
                continue
            workloads = [workload_of(item, resource) for item in items if not has_ended(item)]
            found += [one for one in workloads if gateway.selector.items() <= one.labels.items() and one not in found]
    return found, unread


def _secret_keys(cluster: Cluster, originations: Iterable[Origination]) -> dict[tuple[str, str], frozenset[str] | None]:
    """Which keys of the credentials are not empty. Up to eight Secrets of a namespace by name, more by one LIST."""
    groups: dict[tuple[Resource, str], dict[Ref, None]] = {}
    for one in originations:
        for lookup in lookups(one):
            resource = CONFIG_MAP if lookup.kind == "ConfigMap" else SECRET
            place = lookup.namespace or one.gateway.namespace
            groups.setdefault((resource, place), {}).update(dict.fromkeys(Ref(lookup.kind, place, name) for name in lookup.names))
    found: dict[tuple[str, str], frozenset[str] | None] = {}
    for (resource, __), refs in groups.items():
        answer = if_allowed(lambda resource=resource, refs=refs: read(cluster, [(resource, ref) for ref in refs]))  # type: ignore[misc]
        for ref in refs:
            one_answer = answer or if_allowed(lambda resource=resource, ref=ref: read(cluster, [(resource, ref)]))  # type: ignore[misc]
            if one_answer is not None:
                found[(ref.namespace, ref.name)] = _keys(one_answer[ref])
    return found


def _keys(item: Manifest | None) -> frozenset[str] | None:
    if item is None:
        return None
    data = (item.get("data") or {}) if item["kind"] == "ConfigMap" else decode(item)
    return frozenset(key for key, value in data.items() if value)


def _may_list_secrets(cluster: Cluster, namespace: str, service_account: str) -> bool | None:
    """The question that istiod asks before it serves a credential to a gateway; None where this login may not ask it."""
    review = {
        "apiVersion": SUBJECT_ACCESS_REVIEW.api_version,
        "kind": SUBJECT_ACCESS_REVIEW.kind,
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{service_account}",
            "resourceAttributes": {"namespace": namespace, "verb": "list", "resource": "secrets"},
        },
    }
    answer = if_allowed(lambda: cluster.create(SUBJECT_ACCESS_REVIEW, review))
    return None if answer is None else bool((answer.get("status") or {}).get("allowed"))


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
        if item is None or _owner(item) == one.owner:
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
