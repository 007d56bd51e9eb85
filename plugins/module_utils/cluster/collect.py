# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster as a snapshot for diagnosis: one LIST a kind, and where that is not allowed one for each namespace that may be read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ..istio.reference_grants import named_in
from ..istio.snapshot import EVERYWHERE, ROOT_NAMESPACE, Coverage, Snapshot
from ..istio.usage import gateway_api_uses, uses
from ..istio.workload import Workload, has_ended, workload_of
from ..objects.kinds import (
    API_GATEWAY,
    AUTHORIZATION_POLICY,
    BACKEND_TLS_POLICY,
    CONFIG_MAP,
    DESTINATION_RULE,
    GATEWAY,
    HTTP_ROUTE,
    LISTENER_SET,
    NAMESPACE,
    NETWORK_POLICY,
    POD,
    REFERENCE_GRANT,
    SECRET,
    SERVICE,
    SERVICE_ENTRY,
    SIDECAR,
    VIRTUAL_SERVICE,
    WORKLOAD_ENTRY,
    Manifest,
    Resource,
)
from .client import CONNECTIONS, Cluster
from .mesh import mesh_config
from .reviews import may_list_secrets
from .seen import Seen, read_names
from .surroundings import listed

KINDS = (
    GATEWAY,
    VIRTUAL_SERVICE,
    DESTINATION_RULE,
    SERVICE_ENTRY,
    WORKLOAD_ENTRY,
    SIDECAR,
    AUTHORIZATION_POLICY,
    NETWORK_POLICY,
    SERVICE,
    POD,
    NAMESPACE,
    SECRET,
    API_GATEWAY,
    LISTENER_SET,
    HTTP_ROUTE,
    BACKEND_TLS_POLICY,
    REFERENCE_GRANT,
)
_NOT_ALLOWED = "this user may not list them"


def collect(cluster: Cluster, namespaces: Sequence[str] | None, notes: list[str]) -> Snapshot:
    """Everything that diagnosis looks at; with `namespaces` only what is there. `notes` get what could not be read beside objects."""
    seen = Seen({}, {})
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        asked = {kind: threads.submit(_list, cluster, kind, namespaces) for kind in KINDS}
        answers = {kind: answer.result() for kind, answer in asked.items()}
    for kind, (items, coverage) in answers.items():
        seen.add(kind, items, coverage)
        seen.read[kind.key] = coverage
    narrow = [kind for kind, (__, coverage) in answers.items() if coverage.why == _NOT_ALLOWED and kind.namespaced and namespaces is None]
    for kind in narrow:  # where gateways run much can be said without the rest
        _list_places(cluster, kind, [ROOT_NAMESPACE], seen)
    workloads = _gateways_of(Snapshot(seen.objects, seen.read))
    homes = sorted({one.namespace for one in workloads})
    for kind in narrow:
        _list_places(cluster, kind, [place for place in homes if place != ROOT_NAMESPACE], seen)
    _read_credentials(cluster, Snapshot(seen.objects, seen.read), homes, seen)
    unread: list[str] = []
    mesh = mesh_config(cluster, ROOT_NAMESPACE, workloads, unread)
    notes += [f"not read: {what}" for what in unread]
    if mesh is None:
        notes.append("meshConfig was not read, so that discoverySelectors and outboundTrafficPolicy are not known")
    reviews = {
        account: may_list_secrets(cluster, *account) for account in sorted({(one.namespace, one.service_account) for one in workloads})
    }
    allowed = {account: answer for account, answer in reviews.items() if answer is not None}
    if len(allowed) < len(reviews):
        notes.append("whether the gateways' service accounts may list Secrets was not asked: this user may not create SubjectAccessReviews")
    return Snapshot(seen.objects, seen.read, allowed, mesh, ROOT_NAMESPACE)


def _list(cluster: Cluster, kind: Resource, namespaces: Sequence[str] | None) -> tuple[Sequence[Manifest] | None, Coverage]:
    if namespaces is None or not kind.namespaced:
        found = listed(cluster, kind)
        return found, EVERYWHERE if found is not None else Coverage(why=_NOT_ALLOWED)
    items: list[Manifest] = []
    places = []
    for place in dict.fromkeys(namespaces):
        if (part := listed(cluster, kind, place)) is not None:
            items += part
            places.append(place)
    why = "only some namespaces were asked for" if len(places) == len(set(namespaces)) else _NOT_ALLOWED
    return items if places else None, Coverage(namespaces=frozenset(places), why=why)


def _list_places(cluster: Cluster, kind: Resource, places: Collection[str], seen: Seen) -> None:
    for place in dict.fromkeys(places):
        found = listed(cluster, kind, place)
        if found is not None:
            seen.add(kind, found, Coverage(namespaces=frozenset({place})))
    seen.read[kind.key] = replace(seen.read[kind.key], why=_NOT_ALLOWED)


def _gateways_of(snapshot: Snapshot) -> list[Workload]:
    """The pods and machines that a Gateway selects."""
    selectors = {tuple(sorted(((gateway.get("spec") or {}).get("selector") or {}).items())) for gateway in snapshot.of(GATEWAY)} - {()}
    items = [item for item in (*snapshot.of(POD), *snapshot.of(WORKLOAD_ENTRY)) if not has_ended(item)]
    return [one for one in map(workload_of, items) if any(set(selector) <= one.labels.items() for selector in selectors)]


def _read_credentials(cluster: Cluster, snapshot: Snapshot, homes: Sequence[str], seen: Seen) -> None:
    """What Gateways name and no LIST showed: Secrets one by one, and ConfigMaps with CAs."""
    wanted: dict[Resource, list[tuple[str, str]]] = {SECRET: [], CONFIG_MAP: []}
    of_istio = uses(snapshot.of(GATEWAY), snapshot.of(DESTINATION_RULE))
    of_api = gateway_api_uses(snapshot.of(API_GATEWAY), snapshot.of(LISTENER_SET), snapshot.of(BACKEND_TLS_POLICY))
    for use in (*of_istio, *of_api):
        kind = SECRET if use.lookup.kind == "Secret" else CONFIG_MAP
        for place in (use.lookup.namespace,) if use.lookup.namespace else homes:
            wanted[kind] += [(place, name) for name in use.lookup.names if not snapshot.knows(kind, place, name)]
    for gateway in snapshot.of(GATEWAY):
        wanted[SECRET] += [
            (ref.namespace, ref.name) for ref in named_in(gateway, str) if not snapshot.knows(SECRET, ref.namespace, ref.name)
        ]
    for kind, names in wanted.items():
        read_names(cluster, kind, names, seen)
