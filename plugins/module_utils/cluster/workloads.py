# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a gateway's proxies run: Pods, and WorkloadEntries for machines outside Kubernetes, that match its selector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..istio.workload import UNPRIVILEGED, Workload
from .client import ApiError, Cluster
from .resources import POD, WORKLOAD_ENTRY, Resource

Manifest = Mapping[str, Any]
PROXY_CONTAINER = "istio-proxy"
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_ENDED = ("Succeeded", "Failed")


@dataclass
class Workloads:
    """What was found, and whether everything could be looked at."""

    workloads: list[Workload] = field(default_factory=list)
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
            workload = workload_of(item, resource)
            if not has_ended(item) and selector.items() <= workload.labels.items():
                found.workloads.append(workload)
                places.add(workload.namespace)
    found.namespaces = sorted(places)
    return found


def has_ended(item: Manifest) -> bool:
    return (item.get("status") or {}).get("phase") in _ENDED or "deletionTimestamp" in item["metadata"]


def workload_of(item: Manifest, resource: Resource) -> Workload:
    """A Pod or WorkloadEntry as the rules look at it."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    place, labels = (metadata["namespace"], metadata["name"]), metadata.get("labels") or {}
    if resource is WORKLOAD_ENTRY:
        labels = {**labels, **(spec.get("labels") or {})}
        return Workload(*place, spec.get("serviceAccount") or "default", labels, ports=spec.get("ports") or {})
    # a sidecar of the native kind is an init container that goes on running
    containers = [
        *(spec.get("containers") or ()),
        *(one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"),
    ]
    proxies = [container for container in containers if container.get("name") == PROXY_CONTAINER] or containers
    return Workload(
        *place,
        spec.get("serviceAccountName") or "default",
        labels,
        mounts=tuple(mount["mountPath"] for container in proxies for mount in container.get("volumeMounts") or ()),
        ports={port["name"]: port["containerPort"] for one in reversed(containers) for port in one.get("ports") or () if port.get("name")},
        unprivileged=_unprivileged(proxies),
    )


def _unprivileged(proxies: Sequence[Manifest]) -> bool | None:
    """What istiod is told: the last of several variables of a name counts, in the forms that Go takes for true."""
    told: bool | None = False
    for container in proxies:
        if container.get("envFrom"):
            told = None  # a ConfigMap or Secret may hold it
        for variable in container.get("env") or ():
            if variable.get("name") == UNPRIVILEGED:
                told = None if variable.get("valueFrom") else variable.get("value") in _TRUE
    return told


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
    only = f"only in {', '.join(looked_at)}" if looked_at else "not"
    notes.append(f"{resource.plural} that match the selector were looked for {only}: this login may not list those of the whole cluster")
    return items, False
