# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway's workloads, and the ports that they listen on for a Gateway's: for ingress and egress alike.

From istiod's pilot/pkg/model/gateway.go (resolvePorts), pilot/pkg/serviceregistry/kube/controller (FindPort, getPodServices) and
pilot/pkg/networking/core/gateway.go (buildGatewayListeners).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..problems import Problem
from .mesh_namespace import REVISION

Manifest = Mapping[str, Any]

NO_TRANSLATION = "experimental.istio.io/disable-gateway-port-translation"
UNPRIVILEGED = "ISTIO_META_UNPRIVILEGED_POD"
"""The variable by which a gateway's pods tell istiod that they may not listen on ports below 1024."""
_FIRST_UNPRIVILEGED_PORT = 1024
PROXY_CONTAINER = "istio-proxy"
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Workload:
    """One pod or WorkloadEntry that a gateway's selector matches."""

    namespace: str
    name: str
    service_account: str
    labels: Mapping[str, str]
    mounts: tuple[str, ...] | None = None
    """Where volumes are mounted in the proxy's container; None where that cannot be seen (a machine)."""
    ports: Mapping[str, int] | None = None
    """Named ports; None where they were not looked at."""
    unprivileged: bool | None = None
    """Whether the proxy tells istiod that it is; None where that cannot be seen (a machine, a variable from elsewhere)."""
    revision: str | None = None
    """Of the istiod that injected the proxy; None where none did."""
    frozen: tuple[str, ...] = ()
    """Mounts with subPath, whose files the kubelet never refreshes."""

    def has_file(self, path: str) -> bool:
        """Whether a path may be a file of a volume; `system` is the proxy's own bundle."""
        return path == "system" or any(path == mount or path.startswith(mount.rstrip("/") + "/") for mount in self.mounts or ())

    def is_frozen(self, path: str) -> bool:
        return any(path == mount or path.startswith(mount.rstrip("/") + "/") for mount in self.frozen)


def has_ended(item: Manifest) -> bool:
    return (item.get("status") or {}).get("phase") in _ENDED or "deletionTimestamp" in item["metadata"]


def workload_of(item: Manifest) -> Workload:
    """A Pod or WorkloadEntry as the rules look at it."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    place, labels = (metadata["namespace"], metadata["name"]), metadata.get("labels") or {}
    if item.get("kind") == "WorkloadEntry":
        labels = {**labels, **(spec.get("labels") or {})}
        return Workload(*place, spec.get("serviceAccount") or "default", labels, ports=spec.get("ports") or {})
    # a sidecar of the native kind is an init container that goes on running
    containers = _containers(spec)
    proxies = [container for container in containers if container.get("name") == PROXY_CONTAINER] or containers
    return Workload(
        *place,
        spec.get("serviceAccountName") or "default",
        labels,
        mounts=tuple(mount["mountPath"] for mount in _mounts(proxies)),
        frozen=tuple(mount["mountPath"] for mount in _mounts(proxies) if mount.get("subPath") or mount.get("subPathExpr")),
        ports={port["name"]: port["containerPort"] for one in reversed(containers) for port in one.get("ports") or () if port.get("name")},
        unprivileged=_unprivileged(proxies),
        revision=(metadata.get("annotations") or {}).get(REVISION),
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


def _containers(spec: Manifest) -> list[Manifest]:
    return [
        *(spec.get("containers") or ()),
        *(one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"),
    ]


def _mounts(containers: Iterable[Manifest]) -> Iterator[Manifest]:
    for container in containers:
        yield from container.get("volumeMounts") or ()


def has_proxy(pod: Manifest) -> bool:
    """Whether a Pod has Istio's proxy."""
    spec: Manifest = pod.get("spec") or {}
    return any(one.get("name") == PROXY_CONTAINER for one in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())))


def is_sidecar(pod: Manifest) -> bool:
    """Whether a Pod has Istio's proxy beside an application; a gateway's Pod has the proxy alone."""
    containers = (pod.get("spec") or {}).get("containers") or ()
    return has_proxy(pod) and any(one.get("name") != PROXY_CONTAINER for one in containers)


def services_of(workload: Workload, services: Iterable[Manifest]) -> list[Manifest]:
    """The Services that select a workload, which are those whose ports istiod translates for it."""
    found = []
    for service in services:
        selector = (service.get("spec") or {}).get("selector") or {}
        if selector and service["metadata"].get("namespace") == workload.namespace and selector.items() <= workload.labels.items():
            found.append(service)
    return found


def pod_port(number: int, services: Iterable[Manifest], named_ports: Mapping[str, int] | None = None) -> int | str:
    """The port that proxies listen on for a Gateway's port number.

    The first of the Services in front of them (`services_of`) with such a port decides by its `targetPort`; without one it is the number
    itself. A named `targetPort` is looked up in the workload's ports, and stays a name where these are not known: two Gateways meet if
    both get the same answer.
    """
    for service in services:
        if NO_TRANSLATION in (service["metadata"].get("labels") or {}):
            continue
        for port in (service.get("spec") or {}).get("ports") or ():
            if port.get("port") != number:
                continue
            target: int | str = port.get("targetPort") or number
            if isinstance(target, int) or named_ports is None:
                return target
            if target in named_ports:
                return named_ports[target]
    return number


def skipping_pods(number: int, workloads: Iterable[Workload], services: Iterable[Manifest]) -> list[tuple[Workload, int]]:
    """The proxies for which istiod leaves out a Gateway's port, with the port that it comes to in them.

    Only the variable counts. Pods that set the sysctl `ip_unprivileged_port_start` instead, as today's Helm chart does, get every port.
    """
    services = list(services)
    found = []
    for workload in workloads:
        port = pod_port(number, services, workload.ports)
        if workload.unprivileged and isinstance(port, int) and port < _FIRST_UNPRIVILEGED_PORT:
            found.append((workload, port))
    return found


def skipped_ports(
    gateway: Manifest, where: Callable[[int], str], workloads: Iterable[Workload], services: Iterable[Manifest]
) -> list[Problem]:
    """The servers of an Istio Gateway that istiod leaves out because pods say that they may not listen there; each port once. Without Services
    nothing is said: perhaps they could not be read."""
    workloads, services = list(workloads), list(services)
    found: dict[int, Problem] = {}
    for index, server in enumerate((gateway.get("spec") or {}).get("servers") or ()):
        number = int((server.get("port") or {}).get("number") or 0)
        if number in found or not services:
            continue
        skipping = [one for workload in workloads for one in skipping_pods(number, [workload], services_of(workload, services))]
        if not skipping:
            continue
        workload, target = skipping[0]
        others = f" and {len(skipping) - 1} more" if len(skipping) > 1 else ""
        found[number] = Problem(
            "privileged_target_port",
            where(index),
            f"port {number} is port {target} in the gateway's pods, and the pod {workload.name}{others} has {UNPRIVILEGED}, so istiod skips that port",
            f"map port {number} to a targetPort above 1023 in the Service, or drop {UNPRIVILEGED} and set the sysctl "
            "net.ipv4.ip_unprivileged_port_start to 0, as Istio's chart `gateway` does",
            "warning",
        )
    return list(found.values())
