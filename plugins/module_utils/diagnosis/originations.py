# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module that makes originations checks before it writes: the rules over the cluster as it will be, for what concerns its objects.

None of this is checked at admission: each object is valid by itself, and the set answers 503, sends plaintext, or verifies nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ..istio.egress import Origination
from ..istio.egress_objects import manifests
from ..istio.mesh_namespace import dataplane
from ..istio.reference import Lookup, ca_lookup, pair_lookup, parse_reference
from ..istio.snapshot import Coverage, Snapshot
from ..objects.kinds import (
    AUTHORIZATION_POLICY,
    DESTINATION_RULE,
    GATEWAY,
    NAMESPACE,
    NETWORK_POLICY,
    SERVICE,
    SERVICE_ENTRY,
    SIDECAR,
    VIRTUAL_SERVICE,
    Manifest,
    Ref,
    Resource,
    ref_of,
)
from ..objects.ownership import owner_of
from ..problems import Problem
from . import egress_surroundings
from .diagnose import run, severity_of
from .egress_case import Case, workloads_of
from .egress_paths import EgressPath, path_of
from .rule import Found
from .table import RULES
from .view import MeshView

MAY_COME = frozenset(code for rule in RULES if rule.may_come for code in (rule.code, *rule.aliases))
"""What an earlier task of the same play may be about to make: no fault in check mode."""
_ARGUMENTS = {"credentialName": "credential_name"}
_KINDS: tuple[Resource, ...] = (DESTINATION_RULE, GATEWAY, SERVICE_ENTRY, VIRTUAL_SERVICE, NETWORK_POLICY)
_ONLY_OURS = ("bypass_possible",)
"""Hints for others, which a module that is told what to do does not repeat."""
_CODES = {"host_conflict": "gateway_host_taken", "port_conflict": "gateway_port_plaintext"}


@dataclass(frozen=True)
class Checked:
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()


def lookups(one: Origination) -> tuple[Lookup, ...]:
    """What istiod reads for the gateway. In mode SIMPLE it asks for the CA alone."""
    if not one.credential_name:
        return ()
    reference = parse_reference(one.credential_name, "credential_name")
    return (*(pair_lookup(reference, "credential_name") if one.mode == "MUTUAL" else ()), *ca_lookup(reference, "credential_name"))


def needs_authorization(one: Origination) -> bool:
    """istiod reviews access to Secrets that hold a key; those with a CA alone it gives to every proxy of the namespace."""
    return any(lookup.role == "pair" for lookup in lookups(one))


def check_set(originations: Sequence[Origination], snapshot: Snapshot, objects: Mapping[str, Sequence[Manifest]] | None = None) -> Checked:
    """What is wrong with these services in this cluster, and what could not be looked at.

    `objects` are the manifests by owner (`Origination.owner`); those of `manifests` unless given. Services to be removed are looked at
    as if they were gone.
    """
    units = {one.owner: [] if one.absent else list((objects or {}).get(one.owner) or manifests(one)) for one in originations}
    present = [one for one in originations if not one.absent]
    desired = [made for one in units.values() for made in one]
    kept = {ref_of(made) for made in desired}
    removed = [ref for ref, item in snapshot.objects.items() if owner_of(item) in units and ref not in kept]
    paths = tuple(path_of(one, units[one.owner]) for one in present)
    domain = present[0].gateway.cluster_domain if present else snapshot.domain
    view = MeshView(
        replace(_readable(snapshot), domain=domain).with_desired(desired, removed),
        originations=paths,
        before=snapshot,
        about=frozenset(kept),
    )
    notes = dict.fromkeys(_notes(present, view))
    for path in paths:
        for verdict in egress_surroundings.verdicts(Case(path, view)):
            if verdict.open:
                notes[f"{', '.join(verdict.open)}: it depends on the request whether the gateway lets it pass"] = None
    found = run(view, about=kept)
    return Checked(tuple(dict.fromkeys(_problems(found, paths))), tuple(notes))


def _readable(snapshot: Snapshot) -> Snapshot:
    """Our own objects are there, whatever else could be read: the rules about them run."""
    return replace(snapshot, read={**{resource.key: Coverage() for resource in _KINDS}, **snapshot.read})


def _problems(found: Sequence[Found], paths: Sequence[EgressPath]) -> Iterator[Problem]:
    """In the order of the services, each with the argument that asks for it."""
    by_ref: dict[Ref, list[EgressPath]] = {}
    for path in paths:
        for ref in dict.fromkeys((*path.refs, *path.objects.values())):
            by_ref.setdefault(ref, []).append(path)
    placed: list[tuple[int, Problem]] = []
    told: set[tuple[str, frozenset[Ref]]] = set()
    for one in sorted(found, key=lambda one: not one.argument and one.ref not in by_ref):  # what is ours first
        mine = next((path for ref in (one.ref, *one.others) for path in by_ref.get(ref, ())), None)
        pair = (one.code, frozenset((one.ref, *one.others)))
        is_ours = bool(one.argument) or one.ref in by_ref
        if one.code in _ONLY_OURS or mine is None or (not is_ours and pair in told):
            continue
        told.add(pair)
        where = one.argument or f"{mine.where}: {_ARGUMENTS.get(one.field.rpartition('.')[2]) or one.ref}"
        severity: Literal["error", "warning"] = "error" if is_ours and severity_of(one) == "error" else "warning"
        placed.append((paths.index(mine), Problem(_CODES.get(one.code, one.code), where, one.message, one.remedy, severity)))
    yield from (problem for __, problem in sorted(placed, key=lambda pair: pair[0]))


def _notes(originations: Sequence[Origination], view: MeshView) -> Iterator[str]:
    snapshot = view.snapshot
    yield from _notes_by_kind(originations, snapshot)
    clients = {client for one in originations for client in one.client_namespaces}
    unlabelled = sorted(client for client in clients if not snapshot.knows(NAMESPACE, "", client))
    if unlabelled:
        yield f"Namespaces were not read: whether pods in {', '.join(unlabelled)} get a sidecar was not looked at"
    if snapshot.mesh is None:
        yield "meshConfig was not read: whether its discoverySelectors leave a namespace out was not looked at"
    if any(workloads_of(Case(path, view)) is None for path in view.originations):
        yield "the gateway's workloads were not read: their service account and mounts were not looked at"
    for one, path in zip(originations, view.originations, strict=True):
        if not snapshot.knows(SERVICE, one.gateway.namespace, one.gateway.service):
            yield f"Service {one.gateway.namespace}/{one.gateway.service} was not read: its ports were not looked at"
        for lookup in lookups(one):
            place = lookup.namespace or one.gateway.namespace
            unknown = [name for name in lookup.names if not view.knows_credential(lookup.kind, place, name)]
            for name in unknown[:1]:
                yield f"{lookup.kind} {place}/{name} was not read: whether it holds what istiod needs was not looked at"
        for workload in workloads_of(Case(path, view)) or () if needs_authorization(one) else ():
            account = (workload.namespace, workload.service_account)
            if view.may_list_secrets(account) is None:
                yield f"whether the service account {'/'.join(account)} may list Secrets was not asked (SubjectAccessReview not allowed)"
    for client in sorted(clients):
        labels = view.labels_of(client)
        if labels is not None and dataplane(labels) != "sidecar" and view.has_proxies(client) is None:
            yield f"not read: pods and WorkloadEntries in {client} (whether they have sidecars)"
    yield from (f"not read: {what}" for what in snapshot.notes)
    for resource in (DESTINATION_RULE, GATEWAY, NETWORK_POLICY, SERVICE_ENTRY, VIRTUAL_SERVICE):
        yield from (f"not read: {why}" for why in snapshot.coverage(resource).why.split("; ") if why and _is_read(snapshot, resource))


def _notes_by_kind(originations: Sequence[Origination], snapshot: Snapshot) -> Iterator[str]:
    of_others = "collisions with those of others were not looked for"
    questions = [
        (GATEWAY, "Gateways", of_others),
        (DESTINATION_RULE, "DestinationRules", of_others),
        (VIRTUAL_SERVICE, "VirtualServices", of_others),
        (SERVICE_ENTRY, "ServiceEntries", of_others),
    ]
    if any(one.prevent_bypass for one in originations):
        questions.append((NETWORK_POLICY, "NetworkPolicies", "whether another one opens what prevent_bypass closes was not looked at"))
    questions.append((SIDECAR, "Sidecars", "whether they hide the route from clients was not looked at"))
    questions.append((AUTHORIZATION_POLICY, "AuthorizationPolicies", "whether they refuse requests at the gateway was not looked at"))
    yield from (f"{name} were not read: {what}" for resource, name, what in questions if not _is_read(snapshot, resource))


def _is_read(snapshot: Snapshot, resource: Resource) -> bool:
    coverage = snapshot.coverage(resource)
    return coverage.everywhere or bool(coverage.namespaces or coverage.names)
