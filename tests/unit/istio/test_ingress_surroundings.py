# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps requests from an ingress Gateway; the rules themselves have their own tests."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_arguments import from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_surroundings import waypoint_problems


def policy(namespace: str = "istio-system", **spec: Any) -> dict[str, Any]:
    return {"kind": "AuthorizationPolicy", "metadata": {"name": "p", "namespace": namespace}, "spec": spec}


USE, FROM_GATEWAYS = "istio.io/use-waypoint", "istio.io/ingress-use-waypoint"


def for_service(name: str = "shop", kind: str = "Service") -> dict[str, Any]:
    return policy("apps", targetRefs=[{"kind": kind, "name": name}])


@pytest.mark.parametrize(
    ("of_service", "of_namespace", "policies", "told"),
    [
        ({USE: "w"}, {}, [for_service()], True),
        ({}, {USE: "w"}, [for_service("w", "Gateway")], True),
        ({}, {USE: "w"}, [], False),
        ({}, {USE: "w"}, [for_service("other"), policy("apps")], False),
        ({}, {USE: "w", FROM_GATEWAYS: "true"}, [for_service()], False),
        ({USE: "none"}, {USE: "w"}, [for_service()], False),
        ({}, {}, [for_service()], False),
    ],
)
def test_policies_that_only_a_waypoint_applies(
    of_service: dict[str, str], of_namespace: dict[str, str], policies: list[dict[str, Any]], told: bool
) -> None:
    route = {"destination": {"host": "shop", "port": 80}}
    server = {"hosts": ["a.example.com"], "credential_name": "a", "routes": [route, {**route, "name": "again"}]}
    gateway = from_arguments({"name": "g", "namespace": "apps", "servers": [server]})
    service = {"metadata": {"name": "shop", "namespace": "apps", "labels": of_service}}
    found = waypoint_problems(gateway, {("apps", "shop"): service}, {"apps": of_namespace}, policies)
    assert [(problem.code, problem.severity) for problem in found] == ([("waypoint_bypassed", "warning")] if told else [])
    assert waypoint_problems(gateway, {("apps", "shop"): None}, {}, policies) == ()
