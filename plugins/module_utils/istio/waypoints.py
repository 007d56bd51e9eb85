# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which waypoint stands before a Service or ServiceEntry in ambient mode, and what keeps it from that. Pure.

From istiod's pilot/pkg/serviceregistry/ambient/waypoints.go (fetchWaypointForService, GetUseWaypoint, makeAllowedRoutes), services.go
(ingressUseWaypointFromLabels) and pilot/pkg/xds/endpoints/endpoint_builder.go (findServiceWaypoint).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .choice import title
from .mesh_namespace import WAYPOINT, selects

Manifest = Mapping[str, Any]
Labels = Mapping[str, str]
WaypointKey = tuple[str, str]
"""(namespace, name)"""

WAYPOINT_NAMESPACE = "istio.io/use-waypoint-namespace"
FROM_GATEWAYS = "istio.io/ingress-use-waypoint"
_SERVES = "istio.io/waypoint-for"
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
"""What Go takes for true."""


def waypoint_of(labels: Labels, namespace: str, namespace_labels: Labels) -> WaypointKey | None:
    """The waypoint that the labels of a Service or ServiceEntry ask for, else those of its namespace; `none` asks for none. The clients'
    namespace has no say in it."""
    for place in (labels, namespace_labels):
        if WAYPOINT in place:
            return None if place[WAYPOINT] == "none" else (place.get(WAYPOINT_NAMESPACE) or namespace, place[WAYPOINT])
    return None


def goes_there_from_gateways(labels: Labels, namespace_labels: Labels) -> bool:
    """Whether gateways send through the waypoint too; without the label they go straight to the Service."""
    return labels.get(FROM_GATEWAYS, namespace_labels.get(FROM_GATEWAYS)) in _TRUE


def policies_passed_by(service: Manifest, namespace_labels: Labels, policies: Iterable[Manifest]) -> tuple[WaypointKey | None, list[str]]:
    """The waypoint of a Service that requests from gateways do not pass, and the AuthorizationPolicies that only this waypoint would apply."""
    metadata = service["metadata"]
    namespace, labels = metadata.get("namespace", ""), metadata.get("labels") or {}
    chosen = waypoint_of(labels, namespace, namespace_labels)
    if chosen is None or goes_there_from_gateways(labels, namespace_labels):
        return None, []
    targets = {("Service", namespace, metadata["name"]), ("Gateway", *chosen)}
    found = []
    for policy in policies:
        home, spec = policy["metadata"].get("namespace", ""), policy.get("spec") or {}
        refs = [*(spec.get("targetRefs") or ()), *([spec["targetRef"]] if spec.get("targetRef") else ())]
        if any((one.get("kind"), home, one.get("name")) in targets for one in refs):
            found.append(title({**policy, "kind": "AuthorizationPolicy"}))
    return chosen, found


def fault_of(chosen: WaypointKey, namespace: str, namespace_labels: Labels, gateways: Iterable[Manifest]) -> str | None:
    """Why istiod does not put that waypoint before a Service of `namespace`; None where it does. `gateways` are those of the Gateway API."""
    place = f"{chosen[0]}/{chosen[1]}"
    for gateway in gateways:
        metadata, spec = gateway["metadata"], gateway.get("spec") or {}
        if (metadata.get("namespace"), metadata["name"]) != chosen:
            continue
        serves = (metadata.get("labels") or {}).get(_SERVES, "service")
        if serves not in ("service", "all"):
            return f"the waypoint {place} is for {serves} only ({_SERVES})"
        if not _admits(spec, chosen[0], namespace, namespace_labels):
            return f"the waypoint {place} does not admit namespace {namespace} (allowedRoutes of its listener)"
        if not (gateway.get("status") or {}).get("addresses"):
            return f"the waypoint {place} is not ready (no address in its status)"
        return None
    return f"there is no waypoint {place}"


def _admits(spec: Manifest, home: str, namespace: str, labels: Labels) -> bool:
    tunnels = [one for one in spec.get("listeners") or () if one.get("protocol") == "HBONE" and one.get("port") == 15008]
    allowed = ((tunnels[0] if tunnels else {}).get("allowedRoutes") or {}).get("namespaces") or {}
    where = allowed.get("from") or "Same"
    if where == "Selector":
        return selects(allowed.get("selector") or {}, labels)
    return where == "All" or home == namespace
