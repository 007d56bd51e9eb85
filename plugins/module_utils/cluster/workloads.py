# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a gateway's proxies run: Pods, and WorkloadEntries for machines outside Kubernetes, that match its selector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..istio.workload import Workload, has_ended, workload_of
from ..objects.kinds import POD, WORKLOAD_ENTRY, Resource, with_kind
from .client import ApiError, Cluster

Manifest = Mapping[str, Any]


@dataclass
class Workloads:
    """What was found, and whether everything could be looked at."""

    workloads: list[Workload] = field(default_factory=list)
    items: list[Manifest] = field(default_factory=list)
    """The Pods and WorkloadEntries themselves."""
    namespaces: list[str] = field(default_factory=list)
    """Sorted, each once."""
    complete: bool = True

    @property
    def labels(self) -> list[Mapping[str, str]]:
        return [workload.labels for workload in self.workloads]


def find_workloads(cluster: Cluster, selector: Mapping[str, str], fallback: Sequence[str], notes: list[str]) -> Workloads:
    """The proxies that a Gateway's selector matches; where the cluster may not be listed as a whole, those in the fallback namespaces."""
    found = Workloads()
    places: set[str] = set()
    text = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    for resource in (POD, WORKLOAD_ENTRY):
        # the labels of the proxy on a machine are in the WorkloadEntry's spec, where the API cannot select by them
        items, complete = _list(cluster, resource, text if resource is POD else "", fallback, notes)
        found.complete = found.complete and complete
        for item in items:
            item = with_kind(item, resource)
            workload = workload_of(item)
            if not has_ended(item) and selector.items() <= workload.labels.items():
                found.workloads.append(workload)
                found.items.append(item)
                places.add(workload.namespace)
    found.namespaces = sorted(places)
    return found


def _list(
    cluster: Cluster, resource: Resource, label_selector: str, fallback: Sequence[str], notes: list[str]
) -> tuple[list[dict[str, Any]], bool]:
    try:
        return list(cluster.list(resource, None, label_selector=label_selector)), True
    except ApiError as error:
        if error.status == 404:  # the cluster has no such kind
            return [], True
        if not error.missing_verb:
            raise
    items: list[dict[str, Any]] = []
    looked_at = []
    for namespace in dict.fromkeys(fallback):
        try:
            items += cluster.list(resource, namespace, label_selector=label_selector)
            looked_at.append(namespace)
        except ApiError as error:
            if not error.missing_verb:
                raise
    how = f"were looked for only in {', '.join(looked_at)}" if looked_at else "were not looked for"
    notes.append(f"{resource.plural} that match the selector {how}: this user may not list those of the whole cluster")
    return items, False
