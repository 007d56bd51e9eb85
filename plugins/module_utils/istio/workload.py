# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway's workloads, and the ports that they listen on for a Gateway's: for ingress and egress alike.

From istiod's pilot/pkg/model/gateway.go (resolvePorts), pilot/pkg/serviceregistry/kube/controller (FindPort, getPodServices) and
pilot/pkg/networking/core/gateway.go (buildGatewayListeners).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Manifest = Mapping[str, Any]

NO_TRANSLATION = "experimental.istio.io/disable-gateway-port-translation"
UNPRIVILEGED = "ISTIO_META_UNPRIVILEGED_POD"
"""The variable by which a gateway's pods tell istiod that they may not listen on ports below 1024."""
_FIRST_UNPRIVILEGED_PORT = 1024


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
