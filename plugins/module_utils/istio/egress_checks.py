# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with originations in their cluster: the objects as they will be, next to everybody else's, looked at as istiod does.

None of this is checked at admission: each object is valid by itself, and the set answers 503, sends plaintext, or verifies nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..problems import Problem
from .choice import age, arrange, fqdn
from .egress import Origination, Part
from .egress_first_hop import first_hop, mesh_route, visibility
from .egress_gateway import gateway_service, listener, unused_tls_routes
from .egress_objects import manifests
from .egress_service import (
    authorization,
    credential,
    files,
    lookups,
    needs_authorization,
    originating,
    plaintext_endpoint,
    resolution,
    service_entry,
    visible_rules,
)
from .egress_surroundings import (
    clients_without_proxy,
    direct_tls_blocked,
    foreign_names,
    hiding_sidecars,
    other_policies,
    refusing_policies,
    undiscovered,
    verdicts,
)
from .egress_tcp import shared_port, starts_in_plaintext
from .egress_view import Case, Checked, Manifest, Snapshot, View, key_of, owner_of

MAY_COME = ("credential_missing", "gateway_service_missing", "no_gateway_workload", "file_not_mounted")
"""Codes of what an earlier task of the same play may be about to make: no fault in check mode."""


def check_set(originations: Sequence[Origination], snapshot: Snapshot, objects: Mapping[str, Sequence[Manifest]] | None = None) -> Checked:
    """What is wrong with these services in this cluster, and what could not be looked at.

    `objects` are the manifests by owner (`Origination.owner`); those of `manifests` unless given. Services to be removed are looked at
    as if they were gone.
    """
    units = {one.owner: [] if one.absent else (objects or {}).get(one.owner) or manifests(one) for one in originations}
    originations = [one for one in originations if not one.absent]
    view = _view(originations, snapshot, units)
    problems: list[Problem] = []
    notes: dict[str, None] = dict.fromkeys(_notes(originations, snapshot))
    for one in originations:
        case = Case(one, _by_part(one, units[one.owner]), view)
        for policies in {verdict.open for verdict in verdicts(case) if verdict.open}:
            notes[f"{', '.join(policies)}: it depends on the request whether the gateway lets it pass"] = None
        for rule in RULES:
            problems += rule(case)
    return Checked(tuple(dict.fromkeys(problems)), tuple(notes))


def _by_part(one: Origination, objects: Iterable[Manifest]) -> dict[Part, Manifest]:
    kinds: dict[Part, str] = {
        "originating_rule": "DestinationRule",
        "first_hop_rule": "DestinationRule",
        "gateway": "Gateway",
        "service_entry": "ServiceEntry",
        "direct_virtual_service": "VirtualService",
        "virtual_service": "VirtualService",
    }
    named = {(made["kind"], made["metadata"]["namespace"], made["metadata"]["name"]): made for made in objects}
    found = {part: named.get((kind, one.objects[part].namespace, one.objects[part].name)) for part, kind in kinds.items()}
    return {part: made for part, made in found.items() if made is not None}


def _view(originations: Sequence[Origination], snapshot: Snapshot, units: Mapping[str, Sequence[Manifest]]) -> View:
    desired: dict[tuple[str, str, str], dict[str, Any]] = {}
    live: dict[tuple[str, str, str], Manifest] = {}
    for objects in units.values():
        desired.update({key_of(made): dict(made) for made in objects})

    def merged(kind: str, items: Sequence[Manifest] | None) -> list[Manifest]:
        """Live objects with the desired ones in their place, without those that will be pruned."""
        kept: list[Manifest] = []
        for item in items or ():
            key = key_of({**item, "kind": kind})
            live[key] = item
            if key in desired:
                stamp = item["metadata"].get("creationTimestamp")
                desired[key]["metadata"] = {**desired[key]["metadata"], "creationTimestamp": stamp}
            elif owner_of(item) not in units:
                kept.append({**item, "kind": kind})
        return sorted([*kept, *(made for key, made in desired.items() if key[0] == kind)], key=age)

    routes: dict[str, list[Manifest]] = {}
    routes_of_gateway: dict[str, list[Manifest]] = {}
    for route in merged("VirtualService", snapshot.virtual_services):
        namespace = route["metadata"].get("namespace", "")
        spec = route.get("spec") or {}
        for host in spec.get("hosts") or ():
            routes.setdefault(fqdn(host, namespace), []).append(route)
        for gateway in spec.get("gateways") or ():
            routes_of_gateway.setdefault(gateway if "/" in gateway else f"{namespace}/{gateway}", []).append(route)
    service_entries: dict[str, list[Manifest]] = {}
    for entry in merged("ServiceEntry", snapshot.service_entries):
        for host in (entry.get("spec") or {}).get("hosts") or ():
            service_entries.setdefault(host.lower(), []).append(entry)
    domain = originations[0].gateway.cluster_domain if originations else "cluster.local"
    rules = arrange(merged("DestinationRule", snapshot.destination_rules), root_namespace=snapshot.root_namespace, domain=domain)
    gateways = merged("Gateway", snapshot.gateways)
    return View(
        snapshot=snapshot,
        rules=rules,
        routes=routes,
        routes_of_gateway=routes_of_gateway,
        gateways={f"{made['metadata'].get('namespace', '')}/{made['metadata']['name']}": made for made in gateways},
        other_gateways=[made for made in gateways if key_of(made) not in desired],
        service_entries=service_entries,
        live=live,
        originations=tuple(originations),
    )


def _notes(originations: Sequence[Origination], snapshot: Snapshot) -> tuple[str, ...]:
    notes = [
        f"{kind} were not read: collisions with those of others were not looked for"
        for kind, items in (
            ("Gateways", snapshot.gateways),
            ("DestinationRules", snapshot.destination_rules),
            ("VirtualServices", snapshot.virtual_services),
            ("ServiceEntries", snapshot.service_entries),
        )
        if items is None
    ]
    if any(one.prevent_bypass for one in originations) and snapshot.network_policies is None:
        notes.append("NetworkPolicies were not read: whether another one opens what prevent_bypass closes was not looked at")
    notes += [
        f"{kind} were not read: {question} was not looked at"
        for kind, items, question in (
            ("Sidecars", snapshot.sidecars, "whether they hide the route from clients"),
            ("AuthorizationPolicies", snapshot.authorization_policies, "whether they refuse requests at the gateway"),
        )
        if items is None
    ]
    unlabelled = sorted({client for one in originations for client in one.client_namespaces if client not in snapshot.namespaces})
    if unlabelled:
        notes.append(f"Namespaces were not read: whether pods in {', '.join(unlabelled)} get a sidecar was not looked at")
    if snapshot.mesh is None:
        notes.append("meshConfig was not read: whether its discoverySelectors leave a namespace out was not looked at")
    if snapshot.workloads is None:
        notes.append("the gateway's workloads were not read: their service account and mounts were not looked at")
    for one in originations:
        if (one.gateway.namespace, one.gateway.service) not in snapshot.services:
            notes.append(f"Service {one.gateway.namespace}/{one.gateway.service} was not read: its ports were not looked at")
        for lookup in lookups(one):
            place = lookup.namespace or one.gateway.namespace
            notes += [
                f"{lookup.kind} {place}/{name} was not read: whether it holds what istiod needs was not looked at"
                for name in lookup.names
                if (place, name) not in snapshot.secret_keys
            ][:1]
    for workload in snapshot.workloads or ():
        account = (workload.namespace, workload.service_account)
        if account not in snapshot.may_list_secrets and any(needs_authorization(one) for one in originations):
            notes.append(
                f"whether the service account {'/'.join(account)} may list Secrets was not asked (SubjectAccessReview not allowed)"
            )
    notes += [f"not read: {what}" for what in snapshot.unread]
    return tuple(dict.fromkeys(notes))


RULES: tuple[Callable[[Case], Iterator[Problem]], ...] = (
    first_hop,
    mesh_route,
    visibility,
    listener,
    gateway_service,
    unused_tls_routes,
    originating,
    credential,
    authorization,
    files,
    service_entry,
    plaintext_endpoint,
    resolution,
    starts_in_plaintext,
    shared_port,
    visible_rules,
    other_policies,
    direct_tls_blocked,
    foreign_names,
    hiding_sidecars,
    clients_without_proxy,
    refusing_policies,
    undiscovered,
)
