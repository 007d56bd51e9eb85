# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waypoints before Services in ambient mode."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.waypoints import fault_of, goes_there_from_gateways, waypoint_of

USE, PLACE = "istio.io/use-waypoint", "istio.io/use-waypoint-namespace"


@pytest.mark.parametrize(
    ("labels", "of_namespace", "expected"),
    [
        ({}, {}, None),
        ({USE: "w"}, {}, ("apps", "w")),
        ({}, {USE: "w"}, ("apps", "w")),
        ({USE: "mine"}, {USE: "w"}, ("apps", "mine")),
        ({USE: "none"}, {USE: "w"}, None),
        ({}, {USE: "none"}, None),
        ({USE: "w", PLACE: "egress"}, {}, ("egress", "w")),
        ({}, {USE: "w", PLACE: "egress"}, ("egress", "w")),
        ({USE: "mine"}, {USE: "w", PLACE: "egress"}, ("apps", "mine")),  # both labels of one place count
    ],
)
def test_waypoint_of(labels: dict[str, str], of_namespace: dict[str, str], expected: tuple[str, str] | None) -> None:
    assert waypoint_of(labels, "apps", of_namespace) == expected


@pytest.mark.parametrize(
    ("labels", "of_namespace", "expected"),
    [
        ({}, {}, False),
        ({"v": "true"}, {}, True),
        ({}, {"v": "True"}, True),
        ({"v": "1"}, {}, True),
        ({"v": "TrUe"}, {}, False),
        ({"v": "false"}, {"v": "true"}, False),
        ({"v": "yes"}, {}, False),
    ],
)
def test_from_gateways(labels: dict[str, str], of_namespace: dict[str, str], expected: bool) -> None:
    given = [{"istio.io/ingress-use-waypoint": one["v"]} if one else {} for one in (labels, of_namespace)]
    assert goes_there_from_gateways(*given) is expected


def waypoint(allowed: Any = None, serves: str | None = None, ready: bool = True, **listener: Any) -> dict[str, Any]:
    tunnel = {"name": "mesh", "port": 15008, "protocol": "HBONE", **listener}
    if allowed:
        tunnel["allowedRoutes"] = {"namespaces": allowed}
    return {
        "metadata": {"name": "w", "namespace": "egress", "labels": {"istio.io/waypoint-for": serves} if serves else {}},
        "spec": {"gatewayClassName": "istio-waypoint", "listeners": [tunnel]},
        "status": {"addresses": [{"value": "10.0.0.1"}]} if ready else {},
    }


TEAM = {"from": "Selector", "selector": {"matchLabels": {"team": "shop"}}}


@pytest.mark.parametrize(
    ("gateways", "namespace", "told"),
    [
        ([], "egress", "there is no waypoint egress/w"),
        ([waypoint()], "egress", None),
        ([waypoint()], "apps", "does not admit namespace apps"),
        ([waypoint({"from": "All"})], "apps", None),
        ([waypoint(TEAM)], "apps", None),
        ([waypoint({**TEAM, "selector": {"matchLabels": {"team": "other"}}})], "apps", "does not admit namespace apps"),
        ([waypoint(serves="all")], "egress", None),
        ([waypoint(serves="service")], "egress", None),
        ([waypoint(serves="workload")], "egress", "is for workload only"),
        ([waypoint(serves="none")], "egress", "is for none only"),
        ([waypoint(ready=False)], "egress", "is not ready"),
        ([waypoint({"from": "All"}, port=15009)], "apps", "does not admit namespace apps"),
    ],
)
def test_fault_of(gateways: list[dict[str, Any]], namespace: str, told: str | None) -> None:
    found = fault_of(("egress", "w"), namespace, {"team": "shop"}, gateways)
    assert (found is None) if told is None else (told in (found or ""))
