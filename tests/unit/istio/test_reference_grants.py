# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials named `kubernetes-gateway://`. What istiod serves of them: tests/integration/test_gateway_api.py."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.reference_grants import grant_problems, is_granted, named_in

API = "gateway.networking.k8s.io"


def grant(namespace: str = "certs", to: dict[str, Any] | None = None, **source: str) -> dict[str, Any]:
    origin = {"group": API, "kind": "Gateway", "namespace": "gw", **source}
    target = {"group": "", "kind": "Secret", **(to or {})}
    return {"metadata": {"name": "g", "namespace": namespace}, "spec": {"from": [{"group": "x"}, origin], "to": [target]}}


@pytest.mark.parametrize(
    ("grants", "granted"),
    [
        ([], False),
        ([grant()], True),
        ([grant(to={"name": "shop"})], True),
        ([grant(to={"name": "other"})], False),
        ([grant(to={"name": "shop-cacert"})], False),
        ([grant(to={"kind": "ConfigMap"})], False),
        ([grant(to={"group": "x"})], False),
        ([grant("elsewhere")], False),
        ([grant(namespace="certs", kind="ListenerSet")], False),
        ([grant(kind="ListenerSet"), grant(to={"name": "shop"})], True),
        ([grant(group="networking.istio.io")], False),
    ],
)
def test_is_granted(grants: list[dict[str, Any]], granted: bool) -> None:
    assert is_granted(grants, "gw", "certs", "shop") is granted


def gateway(**tls: Any) -> dict[str, Any]:
    return {"metadata": {"name": "g", "namespace": "gw"}, "spec": {"servers": [{}, {"tls": tls}]}}


CASES: dict[str, Any] = {
    # name: (tls, the Gateway's namespace, grants, what is told)
    "own namespace": ({"credentialName": "kubernetes-gateway://gw/shop"}, "gw", [], []),
    "other namespace": ({"credentialName": "kubernetes-gateway://certs/shop"}, "gw", [], ["reference_not_granted"]),
    "granted": ({"credentialName": "kubernetes-gateway://certs/shop"}, "gw", [grant()], []),
    "not looked at": ({"credentialName": "kubernetes-gateway://certs/shop"}, "gw", None, []),
    "Gateway elsewhere": ({"credentialName": "kubernetes-gateway://gw/shop"}, "apps", [], ["credential_in_other_namespace"]),
    "Gateway elsewhere, granted": (
        {"credentialName": "kubernetes-gateway://certs/shop"},
        "apps",
        [grant()],
        ["credential_in_other_namespace"],
    ),
    "two": ({"credentialNames": ["kubernetes-gateway://certs/a", "kubernetes-gateway://gw/b"]}, "gw", [], ["reference_not_granted"]),
    "CA by itself": (
        {"mode": "MUTUAL", "credentialName": "shop", "caCertCredentialName": "kubernetes-gateway://certs/x-cacert"},
        "gw",
        [grant(to={"name": "x"})],
        ["reference_not_granted"],
    ),
    "mutual": ({"mode": "MUTUAL", "credentialName": "kubernetes-gateway://gw/shop"}, "gw", [], []),
    "optional": ({"mode": "OPTIONAL_MUTUAL", "credentialName": "kubernetes-gateway://gw/shop"}, "gw", [], ["ca_not_served"]),
    "optional with a CA": (
        {"mode": "OPTIONAL_MUTUAL", "credentialName": "kubernetes-gateway://gw/shop", "caCertCredentialName": "x-cacert"},
        "gw",
        [],
        [],
    ),
    "other forms": ({"credentialName": "kubernetes://certs/shop", "credentialNames": ["shop", "sds://x"]}, "gw", [], []),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_told(case: Any) -> None:
    tls, home, grants, expected = case
    found = grant_problems(named_in(gateway(**tls), "servers[{}]".format), home, ["gw"], grants)
    assert [problem.code for problem in found] == expected
    assert all(
        problem.where.startswith("servers[1]: credential kubernetes-gateway://") and problem.severity == "warning" for problem in found
    )
