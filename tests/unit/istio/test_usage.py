# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Gateways and DestinationRules make istiod look a Secret up: its rules are in pilot/pkg/security/model/authentication.go."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.usage import GATEWAY_API, deletion_problems, gateway_api_uses, uses


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
        "group": "networking.istio.io",
        "kind": "Gateway",
        "namespace": "apps",
        "name": "g",
        "field": "spec.servers[1].tls.credentialName",
        "for": "pair",
    }


def api_gateway(*listeners: dict[str, Any], kind: str = "Gateway", **tls: Any) -> dict[str, Any]:
    spec = {"listeners": [{"tls": listener} for listener in listeners], "tls": tls}
    return {"kind": kind, "metadata": {"name": "g", "namespace": "apps"}, "spec": spec}


REFS = {"certificateRefs": [{"name": "x"}]}
TERMINATES_MUTUAL = {"options": {"gateway.istio.io/tls-terminate-mode": "MUTUAL"}}
CA_REF = {"validation": {"caCertificateRefs": [{"name": "ca", "kind": "Secret", "group": ""}]}}
L = "spec.listeners[0].tls.certificateRefs"


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        (api_gateway(), []),
        (api_gateway(REFS), [(f"{L}[0]", "pair", ("x",), "apps")]),
        (api_gateway({"certificateRefs": [{"name": "x", "namespace": "certs", "kind": "Secret"}]}), [(f"{L}[0]", "pair", ("x",), "certs")]),
        (
            api_gateway({"certificateRefs": [{"name": "x"}, {"name": "y"}]}),
            [(f"{L}[0]", "pair", ("x",), "apps"), (f"{L}[1]", "pair", ("y",), "apps")],
        ),
        (api_gateway({**REFS, "mode": "Passthrough"}), []),
        (api_gateway({"certificateRefs": [{"name": "x", "kind": "Vault", "group": "acme.example"}]}), []),
        (api_gateway({"certificateRefs": [{"name": "x", "kind": "ConfigMap"}]}), []),
        (api_gateway({**REFS, **TERMINATES_MUTUAL}), [(f"{L}[0]", "pair", ("x",), "apps"), (f"{L}[0]", "ca", ("x-cacert", "x"), "apps")]),
        (
            api_gateway({**REFS, **TERMINATES_MUTUAL}, frontend={"default": CA_REF}),
            [
                (f"{L}[0]", "pair", ("x",), "apps"),
                ("spec.tls.frontend.default.validation.caCertificateRefs[0]", "ca", ("ca-cacert", "ca"), "apps"),
            ],
        ),
        (
            api_gateway(frontend={"perPort": [{"port": 443, "tls": CA_REF}]}),
            [("spec.tls.frontend.perPort[0].tls.validation.caCertificateRefs[0]", "ca", ("ca-cacert", "ca"), "apps")],
        ),
        (
            api_gateway(frontend={"default": {"validation": {"caCertificateRefs": [{"name": "ca", "kind": "ConfigMap"}]}}}),
            [("spec.tls.frontend.default.validation.caCertificateRefs[0]", "ca", ("ca",), "apps")],
        ),
        (
            api_gateway(backend={"clientCertificateRef": {"name": "client"}}),
            [("spec.tls.backend.clientCertificateRef", "pair", ("client",), "apps")],
        ),
        ({"kind": "Gateway", "metadata": {"name": "g"}}, []),
    ],
)
def test_uses_in_the_gateway_api(manifest: dict[str, Any], expected: list[Any]) -> None:
    found = gateway_api_uses([manifest], [])
    assert [(use.field, use.lookup.role, use.lookup.names, use.lookup.namespace) for use in found] == expected
    assert all(use.as_result()["group"] == GATEWAY_API for use in found)


def test_listener_sets_use_secrets_too() -> None:
    (use,) = gateway_api_uses([], [api_gateway(REFS, kind="ListenerSet")])
    assert use.kind == "ListenerSet" and use.names("x", "apps") and not use.names("x", "certs")


def test_a_deletion_tells_what_it_does_to_each_kind() -> None:
    classic = uses([gateway({"mode": "SIMPLE", "credentialName": "x"})], [])
    listeners = gateway_api_uses([api_gateway(REFS)], [])
    assert deletion_problems("y", "apps", [*classic, *listeners]) == ()
    (problem,) = deletion_problems("x", "apps", classic)
    assert problem.severity == "warning" and "running proxies keep" in problem.message and "at once" not in problem.message
    (problem,) = deletion_problems("x", "apps", listeners)
    assert "Gateway apps/g (Gateway API), spec.listeners[0].tls.certificateRefs[0]" in problem.message and "at once" in problem.message
    (problem,) = deletion_problems("x", "apps", [*classic, *listeners] * 5)
    assert "more" not in problem.message, "each is told once"


ROOTS = {"group": "", "kind": "ConfigMap", "name": "roots"}


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        ({"caCertificateRefs": [ROOTS, {**ROOTS, "name": "more"}]}, ["roots"]),  # istiod reads the first
        ({"caCertificateRefs": [{**ROOTS, "kind": "Secret"}]}, []),  # which it refuses
        ({"wellKnownCACertificates": "System"}, []),
        ({}, []),
    ],
)
def test_a_backend_tls_policy_uses_a_config_map(validation: dict[str, Any], expected: list[str]) -> None:
    policy = {"metadata": {"name": "p", "namespace": "apps"}, "spec": {"validation": {"hostname": "a.example.com", **validation}}}
    known = gateway_api_uses([], [], [policy])
    assert [use.lookup.names for use in known] == [(name,) for name in expected]
    assert all(use.names("roots", "apps", "ConfigMap") and not use.names("roots", "apps") for use in known)
    assert all(str(use) == "BackendTLSPolicy apps/p (Gateway API)" for use in known)
