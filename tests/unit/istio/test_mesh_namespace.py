# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the labels of a namespace decide."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.istio.mesh_namespace import dataplane, is_discovered


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, "pods decide"),
        ({"istio-injection": "enabled"}, "sidecar"),
        ({"istio.io/rev": "canary"}, "sidecar"),
        ({"istio-injection": "enabled", "istio.io/rev": "canary"}, "sidecar"),
        ({"istio-injection": "disabled", "istio.io/rev": "canary"}, "none"),
        ({"istio-injection": "disabled"}, "none"),
        ({"istio.io/dataplane-mode": "ambient"}, "ambient"),
        ({"istio.io/dataplane-mode": "none"}, "pods decide"),
        ({"istio.io/dataplane-mode": "ambient", "istio-injection": "enabled"}, "sidecar"),
        ({"istio.io/dataplane-mode": "ambient", "istio-injection": "disabled"}, "ambient"),
    ],
)
def test_dataplane(labels: dict[str, str], expected: str) -> None:
    assert dataplane(labels) == expected


@pytest.mark.parametrize(
    ("selectors", "discovered"),
    [
        ("[]", True),
        ("null", True),
        ("[{}]", True),
        ("[{matchLabels: {env: prod}}]", True),
        ("[{matchLabels: {env: test}}]", False),
        ("[{matchLabels: {env: test}}, {matchLabels: {env: prod}}]", True),
        ("[{matchLabels: {env: prod, mesh: 'on'}}]", False),
        ("[{matchExpressions: [{key: env, operator: In, values: [prod]}]}]", True),
        ("[{matchExpressions: [{key: env, operator: NotIn, values: [prod]}]}]", False),
        ("[{matchExpressions: [{key: mesh, operator: NotIn, values: ['off']}]}]", True),
        ("[{matchExpressions: [{key: mesh, operator: Exists}]}]", False),
        ("[{matchExpressions: [{key: mesh, operator: DoesNotExist}]}]", True),
        ("[{matchLabels: {env: prod}, matchExpressions: [{key: mesh, operator: Exists}]}]", False),
    ],
)
def test_is_discovered(selectors: str, discovered: bool) -> None:
    mesh: dict[str, Any] = {"discoverySelectors": yaml.safe_load(selectors)}
    assert is_discovered({"env": "prod"}, mesh) is discovered
    assert is_discovered({}, {})
