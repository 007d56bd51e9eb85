# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients see under a Sidecar."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.istio.sidecar_scope import Wanted, hidden, sidecars_for

SERVICE = Wanted("partners", "api.example.com", 80)
GATEWAY = Wanted("istio-system", "istio-egressgateway.istio-system.svc.cluster.local", 443)


def sidecar(
    egress: str, name: str = "narrow", namespace: str = "shop", created: str = "2026-01-01T00:00:00Z", **more: Any
) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": created}
    return {"metadata": metadata, "spec": {"egress": yaml.safe_load(egress), **more}}


@pytest.mark.parametrize(
    ("egress", "service", "gateway"),
    [
        # what is admitted: (service and route, gateway's Service)
        ("[]", True, True),
        ("[{hosts: ['*/*']}]", True, True),
        ("[{hosts: ['partners/*']}]", True, True),  # the route brings the gateway along
        ("[{hosts: ['./*', '*/api.example.com']}]", True, True),
        ("[{hosts: ['partners/*.example.com']}]", True, True),
        ("[{hosts: ['partners/*.example.com', '~partners/api.example.com']}]", False, False),
        ("[{hosts: ['*/*', '~/*.example.com']}]", False, True),
        ("[{hosts: ['./*']}]", False, False),
        ("[{hosts: ['~/*']}]", False, False),
        ("[{hosts: ['~/*', '*/*']}]", False, False),
        ("[{hosts: ['./*', 'istio-system/*']}]", False, True),
        ("[{hosts: ['partners/example.com']}]", False, False),
        ("[{hosts: ['partners/api.example.com:80', 'api.example.com']}]", False, False),
        # listeners of ports: the one for the port, else the one for every port; the gateway's port counts for the gateway
        ("[{port: {number: 80, protocol: HTTP}, hosts: ['*/*']}]", True, False),
        ("[{port: {number: 80, protocol: HTTP}, hosts: ['*/*']}, {hosts: ['istio-system/*']}]", True, True),
        ("[{port: {number: 80, protocol: HTTP}, hosts: ['./*']}, {hosts: ['*/*']}]", False, True),
        ("[{port: {number: 9080, protocol: HTTP}, hosts: ['*/*']}]", False, False),
        ("[{port: {number: 3128, protocol: HTTP_PROXY}, hosts: ['*/*']}]", True, True),
    ],
)
def test_hidden(egress: str, service: bool, gateway: bool) -> None:
    found = hidden(sidecar(egress), "shop", SERVICE, "partners", GATEWAY)
    assert (SERVICE not in found, GATEWAY not in found) == (service, gateway)


def test_own_namespace() -> None:
    own = Wanted("shop", "api.example.com", 80)
    assert hidden(sidecar("[{hosts: ['./*']}]"), "shop", own, "shop", GATEWAY) == ()
    # a dot is the clients' namespace, in the root namespace's Sidecar, too
    assert hidden(sidecar("[{hosts: ['./*']}]", namespace="istio-system"), "shop", own, "shop", GATEWAY) == ()
    assert hidden(sidecar("[{hosts: ['./*']}]"), "shop", own, "elsewhere", GATEWAY) == (Wanted("elsewhere", "api.example.com", 80), GATEWAY)


def test_which_applies() -> None:
    special = sidecar("[]", "special", workloadSelector={"labels": {"app": "a"}})
    younger, older = sidecar("[]", "a", created="2026-02-01T00:00:00Z"), sidecar("[]", "b")
    root = sidecar("[]", "default", "istio-system")
    other_root = sidecar("[]", "special", "istio-system", workloadSelector={})

    def names(namespace: str, *given: dict[str, Any]) -> list[str]:
        return [one["metadata"]["namespace"] + "/" + one["metadata"]["name"] for one in sidecars_for(given, namespace, "istio-system")]

    assert names("shop", younger, older, special, root) == ["shop/special", "shop/b"]
    assert names("shop", special, root, other_root) == ["shop/special", "istio-system/default"]
    assert names("billing", older, special, root) == ["istio-system/default"]
    assert names("", older, root) == ["istio-system/default"]
    assert names("billing", older) == []
