# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for an ingress Gateway and its VirtualServices, and the reading of the credentials that it names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from ..istio.destinations import ServiceKey, destinations, unknown
from ..istio.ingress import IngressGateway, gateway_owner
from ..istio.reference import Lookup
from ..objects.kinds import CONFIG_MAP, DESTINATION_RULE, GATEWAY, SECRET, SERVICE, SERVICE_ENTRY, VIRTUAL_SERVICE, Ref, Resource, ref_of
from ..objects.ownership import owned_by, owner_of
from ..objects.plan import Plan, Unit, plan_apply, plan_delete
from ..problems import Problem
from .client import ApiError, Cluster
from .reconcile import GETS_AT_MOST, read

Manifest = Mapping[str, Any]
SecretKey = tuple[Literal["Secret", "ConfigMap"], str, str]
"""(kind, namespace, name)"""


def owned_selector(gateway_name: str) -> str:
    """Selects the objects that belong to a Gateway of this name."""
    return owned_by(gateway_owner(gateway_name))


def plan_present(
    wanted: Sequence[Manifest], live: Mapping[Ref, Manifest | None], owned: Iterable[Manifest], *, prune: bool, force: bool
) -> Unit:
    """Applies `wanted` (the Gateway first, then its VirtualServices), and deletes VirtualServices of `owned` that are no longer among them.

    Routes are written before the Gateway, so that a new host is routed from the moment it is served, and deleted after it, so that a host
    is no longer served when its routes go: at no time does a host that is served lack its routes, which would be a 404.
    """
    gateway, *routes = wanted
    names = {ref_of(manifest) for manifest in routes}
    plans = [_guarded(manifest, live.get(ref_of(manifest)), force=force) for manifest in routes]
    plans.append(plan_apply(gateway, live.get(ref_of(gateway)), force=force))
    if prune:
        left = [manifest for manifest in owned if ref_of(manifest) not in names]
        plans += [plan_delete(ref_of(one), VIRTUAL_SERVICE, one, reason="is no longer among the routes") for one in left]
    return Unit(tuple(plans))


def _guarded(manifest: Manifest, live: Manifest | None, *, force: bool) -> Plan:
    """An apply that does not take over what belongs to another Gateway of ours, which the field manager alone would not notice."""
    plan = plan_apply(manifest, live, force=force)
    owner, ours = owner_of(live), owner_of(manifest)
    if force or owner in (None, ours):
        return plan
    problem = Problem(
        "belongs_to_another",
        str(plan.ref),
        f"expected an object of {ours}, found one that belongs to {owner}",
        "give the route another name, or set force_conflicts to take the object over",
    )
    return Plan(plan.ref, "unchanged", problems=(problem,))


def plan_absent(name: str, namespace: str, gateway: Manifest | None, owned: Iterable[Manifest], *, force: bool) -> Unit:
    """Deletes the Gateway and then its VirtualServices: see `plan_present` for the order."""
    plans = [plan_delete(GATEWAY.ref(namespace, name), GATEWAY, gateway, force=force)]
    plans += [plan_delete(ref_of(manifest), VIRTUAL_SERVICE, manifest) for manifest in owned]
    return Unit(tuple(plans))


def read_credentials(
    cluster: Cluster, lookups: Sequence[Lookup], namespaces: Sequence[str], notes: list[str]
) -> dict[SecretKey, dict[str, Any] | None]:
    """Every object that the lookups name, None where there is none; what this user may not read is left out, with a note."""
    wanted: dict[tuple[str, str], list[str]] = {}
    for lookup in lookups:
        for namespace in [lookup.namespace] if lookup.namespace else namespaces:
            names = wanted.setdefault((lookup.kind, namespace), [])
            names += [name for name in lookup.names if name not in names]
    found: dict[SecretKey, dict[str, Any] | None] = {}
    for (kind, namespace), names in wanted.items():
        resource = SECRET if kind == "Secret" else CONFIG_MAP
        # one by one, where a Role may name some of them only
        groups = [names] if len(names) > GETS_AT_MOST else [[name] for name in names]
        refused = []
        for group in groups:
            try:
                answers = read(cluster, [(resource, Ref(kind, namespace, name)) for name in group])
            except ApiError as error:
                if not error.missing_verb:
                    raise
                refused += group
                continue
            for ref, answer in answers.items():
                found["Secret" if kind == "Secret" else "ConfigMap", namespace, ref.name] = answer
        if refused:
            shown = ", ".join(refused[:4]) + (f" and {len(refused) - 4} more" if len(refused) > 4 else "")
            notes.append(f"{kind}s in {namespace} that the servers need were not checked: this user may not read {shown}")
    return found


def services_in_front(cluster: Cluster, namespaces: Iterable[str], notes: list[str]) -> list[dict[str, Any]]:
    """The Services of the namespaces in which a gateway's workloads run; what may not be listed is left out, with a note."""
    found: list[dict[str, Any]] = []
    for namespace in namespaces:
        try:
            found += cluster.list(SERVICE, namespace)
        except ApiError as error:
            if not error.missing_verb:
                raise
            notes.append(
                f"which ports the gateway's pods listen on, and who else does, was not checked: this user may not list services in {namespace}"
            )
    return found


Targets = tuple[dict[ServiceKey, "Manifest | None"], "list[dict[str, Any]] | None", "list[dict[str, Any]] | None"]
"""Services, None for what does not exist; ServiceEntries and DestinationRules, None where not all of them may be read."""


def read_destinations(cluster: Cluster, gateway: IngressGateway, notes: list[str]) -> Targets:
    """What the gateway's routes lead to: Services by name, and the rest only where it decides."""
    services: dict[ServiceKey, Manifest | None] = {}
    by_namespace: dict[str, list[str]] = {}
    for namespace, name in dict.fromkeys(one.service for one in destinations(gateway) if one.service):
        by_namespace.setdefault(namespace, []).append(name)
    for namespace, names in by_namespace.items():
        try:
            answers = read(cluster, [(SERVICE, Ref("Service", namespace, name)) for name in names])
        except ApiError as error:
            if not error.missing_verb:
                raise
            notes.append(f"Services in {namespace} that routes name were not checked: this user may not {error.missing_verb} them")
            continue
        services.update({(namespace, ref.name): answer for ref, answer in answers.items()})
    entries = _all(cluster, SERVICE_ENTRY, notes) if unknown(destinations(gateway), services) else None
    rules = _all(cluster, DESTINATION_RULE, notes) if any(one.subset for one in destinations(gateway)) else None
    return services, entries, rules


def _all(cluster: Cluster, resource: Resource, notes: list[str]) -> list[dict[str, Any]] | None:
    try:
        return list(cluster.list(resource, None))
    except ApiError as error:
        if not error.missing_verb:
            raise
        notes.append(f"{resource.plural} were not checked: this user may not {error.missing_verb} those of the whole cluster")
        return None
