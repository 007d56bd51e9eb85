# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AuthorizationPolicies that only a waypoint applies, which an ingress gateway's requests go past. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..problems import Problem
from .destinations import ServiceKey, destinations
from .ingress import IngressGateway
from .waypoints import FROM_GATEWAYS, policies_passed_by

Manifest = Mapping[str, Any]


def waypoint_problems(
    gateway: IngressGateway,
    services: Mapping[ServiceKey, Manifest | None],
    labels: Mapping[str, Mapping[str, str] | None],
    policies: Collection[Manifest],
) -> tuple[Problem, ...]:
    """Routes to Services in ambient mode whose AuthorizationPolicies a waypoint applies, which a gateway's requests go past."""
    found: dict[ServiceKey, Problem] = {}
    for one in destinations(gateway):
        service = services.get(one.service) if one.service else None
        if service is None or one.service is None or one.service in found:
            continue
        waypoint, passed = policies_passed_by(service, labels.get(one.service[0]) or {}, policies)
        if waypoint and passed:
            found[one.service] = Problem(
                "waypoint_bypassed",
                one.where,
                f"requests from the gateway go to {one.given} past its waypoint {'/'.join(waypoint)}, which alone applies {', '.join(passed)}: for "
                "what comes in through the gateway that does not count",
                f"label the Service (kubectl label service {one.service[1]} -n {one.service[0]} {FROM_GATEWAYS}=true), or its namespace",
                "warning",
            )
    return tuple(found.values())
