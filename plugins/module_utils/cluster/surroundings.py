# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is around a gateway: labels of namespaces, Sidecars, AuthorizationPolicies. What a login may not read is None."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..istio.workload import has_ended, has_proxy
from ..objects.kinds import NAMESPACE, POD, WORKLOAD_ENTRY, Ref, Resource, with_kind
from .client import ApiError, Cluster
from .reconcile import read

Manifest = Mapping[str, Any]
_LISTS_AT_MOST = 4
"""Namespaces that are listed one by one; more cost less in one LIST of the whole cluster."""


def if_allowed(ask: Callable[[], Any]) -> Any:
    """The answer, or None where this user may not ask."""
    try:
        return ask()
    except ApiError as error:
        if error.missing_verb:
            return None
        raise


def list_in(cluster: Cluster, resource: Resource, places: Iterable[str]) -> list[dict[str, Any]] | None:
    """The objects of a kind in some namespaces; none where the cluster does not know the kind, None where one may not be read."""
    places = dict.fromkeys(places)
    found = listed(cluster, resource) if len(places) > _LISTS_AT_MOST else None
    if found is not None:
        return [item for item in found if item["metadata"]["namespace"] in places]
    found = []
    for place in places:
        more = listed(cluster, resource, place)
        if more is None:
            return None
        found += more
    return found


def listed(cluster: Cluster, resource: Resource, place: str | None = None) -> list[dict[str, Any]] | None:
    """The objects of a kind in a namespace, or in all of them; none where the cluster does not know the kind, None where they may not be read."""
    try:
        return [with_kind(item, resource) for item in cluster.list(resource, place)]
    except ApiError as error:
        if error.status == 404:
            return []
        if error.missing_verb:
            return None
        raise


def namespace_labels(cluster: Cluster, names: Iterable[str]) -> dict[str, Mapping[str, str] | None]:
    """Labels by name: None for a namespace that does not exist, no key for one that could not be read."""
    refs = [Ref("Namespace", "", name) for name in dict.fromkeys(names)]
    answer: dict[Ref, Manifest | None] = if_allowed(lambda: read(cluster, [(NAMESPACE, ref) for ref in refs])) or {}
    return {ref.name: None if item is None else item["metadata"].get("labels") or {} for ref, item in answer.items()}


def has_proxies(cluster: Cluster, namespace: str) -> bool | None:
    """Whether a pod of the namespace has a sidecar, or a machine belongs to it (WorkloadEntry); None where that could not be read."""
    pods = listed(cluster, POD, namespace)
    if any(not has_ended(pod) and has_proxy(pod) for pod in pods or ()):
        return True
    machines = listed(cluster, WORKLOAD_ENTRY, namespace)
    return True if machines else None if pods is None or machines is None else False
