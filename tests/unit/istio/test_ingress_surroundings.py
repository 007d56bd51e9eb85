# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps requests from an ingress Gateway; the rules themselves have their own tests."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_arguments import from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_surroundings import authorization_problems, discovery_problems
from ansible_collections.meshops.istio.plugins.module_utils.istio.workload import Workload

POD = Workload("istio-system", "gw-0", "default", {"istio": "ingressgateway"})


def policy(namespace: str = "istio-system", **spec: Any) -> dict[str, Any]:
    return {"kind": "AuthorizationPolicy", "metadata": {"name": "p", "namespace": namespace}, "spec": spec}


def allow(**operation: Any) -> dict[str, Any]:
    return policy(rules=[{"to": [{"operation": operation}]}])


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ([], []),
        ([policy()], ["authorization_refuses"]),
        ([policy("apps")], []),
        ([policy(selector={"matchLabels": {"app": "other"}})], []),
        ([policy(selector={"matchLabels": {"istio": "ingressgateway"}})], ["authorization_refuses"]),
        ([policy(action="DENY", rules=[{}])], ["authorization_refuses"]),
        ([policy(), policy(rules=[{}])], []),
        ([allow(hosts=["a.example.com"])], []),
        ([allow(hosts=["b.example.com"])], ["authorization_refuses"]),
        ([allow(paths=["/shop"])], []),
        ([policy(action="AUDIT")], []),
    ],
)
def test_policies_that_refuse_everybody(policies: list[dict[str, Any]], expected: list[str]) -> None:
    server = {"hosts": ["a.example.com"], "credential_name": "a"}
    gateway = from_arguments({"name": "g", "servers": [server]})
    found = authorization_problems(gateway, [POD], policies, [], "istio-system")
    assert [problem.code for problem in found] == expected
    assert all(problem.severity == "warning" and "403" in problem.message for problem in found)
    assert authorization_problems(gateway, [], policies, [], "istio-system") == ()


@pytest.mark.parametrize(
    ("labels", "mesh", "expected"),
    [
        ({"team": "shop"}, {"discoverySelectors": [{"matchLabels": {"team": "shop"}}]}, []),
        ({}, {"discoverySelectors": [{"matchLabels": {"team": "shop"}}]}, ["namespace apps"]),
        ({}, {}, []),
        ({}, None, []),
        (None, {"discoverySelectors": [{"matchLabels": {"team": "shop"}}]}, []),
    ],
)
def test_namespaces_that_istiod_does_not_read(labels: Any, mesh: Any, expected: list[str]) -> None:
    assert [problem.where for problem in discovery_problems(["apps", "apps"], {"apps": labels}, mesh)] == expected
