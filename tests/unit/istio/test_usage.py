# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Gateways and DestinationRules make istiod look a Secret up: its rules are in pilot/pkg/security/model/authentication.go."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.usage import uses


def gateway(*servers: dict[str, Any] | None, name: str = "g") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "apps"},
        "spec": {"servers": [{"tls": tls} if tls is not None else {} for tls in servers]},
    }


def rule(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "r", "namespace": "mesh"}, "spec": spec}


def found(gateways: list[dict[str, Any]], rules: list[dict[str, Any]]) -> list[tuple[str, str, tuple[str, ...]]]:
    """(field, for, names) of every use."""
    return [(use.field, use.lookup.role, use.lookup.names) for use in uses(gateways, rules)]


S = "spec.servers[0].tls."


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ({"mode": "SIMPLE", "credentialName": "x"}, [("credentialName", "pair", ("x",))]),
        ({"mode": "MUTUAL", "credentialName": "x"}, [("credentialName", "pair", ("x",)), ("credentialName", "ca", ("x-cacert", "x"))]),
        (
            {"mode": "OPTIONAL_MUTUAL", "credentialName": "x"},
            [("credentialName", "pair", ("x",)), ("credentialName", "ca", ("x-cacert", "x"))],
        ),
        (
            {"mode": "MUTUAL", "credentialNames": ["rsa", "ecdsa"]},
            [
                ("credentialNames[0]", "pair", ("rsa",)),
                ("credentialNames[1]", "pair", ("ecdsa",)),
                ("credentialNames[0]", "ca", ("rsa-cacert", "rsa")),
            ],
        ),
        (
            {"mode": "MUTUAL", "credentialName": "x", "caCertCredentialName": "clients-cacert"},
            [("credentialName", "pair", ("x",)), ("caCertCredentialName", "ca", ("clients-cacert", "clients"))],
        ),
        ({"mode": "SIMPLE", "credentialName": "x", "caCertCredentialName": "clients-cacert"}, [("credentialName", "pair", ("x",))]),
        # modes without a certificate of their own, the first of them the default
        ({"credentialName": "x"}, []),
        ({"mode": "PASSTHROUGH", "credentialName": "x"}, []),
        ({"mode": "AUTO_PASSTHROUGH", "credentialName": "x"}, []),
        ({"mode": "ISTIO_MUTUAL"}, []),
        ({"mode": "SIMPLE", "serverCertificate": "/etc/certs/tls.crt"}, []),
        ({"mode": "SIMPLE", "credentialName": "invalid://"}, []),
        ({"mode": "SIMPLE", "credentialName": "a/b/c"}, []),
        ({"mode": "SIMPLE", "credentialName": "builtin://"}, []),
        (None, []),
    ],
)
def test_gateways(tls: dict[str, Any] | None, expected: list[tuple[str, str, tuple[str, ...]]]) -> None:
    assert found([gateway(tls)], []) == [(S + field, role, names) for field, role, names in expected]


MUTUAL = {"mode": "MUTUAL", "credentialName": "x"}
P = "spec.trafficPolicy.tls.credentialName"


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        (MUTUAL, [(P, "pair", ("x",)), (P, "ca", ("x-cacert", "x"))]),
        ({**MUTUAL, "insecureSkipVerify": False}, [(P, "pair", ("x",)), (P, "ca", ("x-cacert", "x"))]),
        ({**MUTUAL, "insecureSkipVerify": True}, [(P, "pair", ("x",))]),
        ({"mode": "SIMPLE", "credentialName": "x"}, [(P, "ca", ("x-cacert", "x"))]),
        ({"mode": "SIMPLE", "credentialName": "x", "insecureSkipVerify": True}, []),
        ({"mode": "SIMPLE", "credentialName": "configmap://mesh/roots"}, [(P, "ca", ("roots",))]),
        ({"mode": "ISTIO_MUTUAL"}, []),
        ({"mode": "DISABLE", "credentialName": "x"}, []),
        ({"credentialName": "x"}, []),
        (None, []),
    ],
)
def test_destination_rules(tls: dict[str, Any] | None, expected: list[tuple[str, str, tuple[str, ...]]]) -> None:
    assert found([], [rule(trafficPolicy={"tls": tls})]) == expected


def test_every_place_of_a_destination_rule_is_looked_at() -> None:
    ports = {"portLevelSettings": [{"port": {"number": 80}}, {"tls": MUTUAL}]}
    fields = {
        field
        for field, __, __ in found([], [rule(trafficPolicy=ports, subsets=[{"name": "a"}, {"trafficPolicy": {**ports, "tls": MUTUAL}}])])
    }
    assert fields == {
        "spec.trafficPolicy.portLevelSettings[1].tls.credentialName",
        "spec.subsets[1].trafficPolicy.tls.credentialName",
        "spec.subsets[1].trafficPolicy.portLevelSettings[1].tls.credentialName",
    }


@pytest.mark.parametrize(
    "bare", [{}, {"spec": None}, {"spec": {"servers": None, "subsets": None, "trafficPolicy": None}}, {"metadata": None}]
)
def test_objects_with_nothing_in_them(bare: dict[str, Any]) -> None:
    assert uses([bare], [bare]) == []


@pytest.mark.parametrize(
    ("name", "secret", "namespace", "named"),
    [
        ("x", "x", "anywhere", True),  # the proxies' own namespace, which may be any
        ("x", "x-cacert", "anywhere", True),
        ("x", "y", "anywhere", False),
        ("kubernetes://istio-system/x", "x", "istio-system", True),
        ("kubernetes://istio-system/x", "x", "default", False),
        ("kubernetes-gateway://istio-system/x", "x", "istio-system", True),
        ("configmap://istio-system/x", "x", "istio-system", False),
    ],
)
def test_which_secrets_a_use_names(name: str, secret: str, namespace: str, named: bool) -> None:
    known = uses([gateway({"mode": "MUTUAL", "credentialName": name})], [])
    assert any(use.names(secret, namespace) for use in known) is named


def test_as_result() -> None:
    [use, __] = uses([gateway(None, MUTUAL)], [])
    assert use.as_result() == {
        "kind": "Gateway",
        "namespace": "apps",
        "name": "g",
        "field": "spec.servers[1].tls.credentialName",
        "for": "pair",
    }
