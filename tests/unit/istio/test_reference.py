# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.reference import (
    Lookup,
    Reference,
    ca_lookup,
    ca_problems,
    is_ca_only,
    namespace_problems,
    pair_lookup,
    pair_problems,
    parse_reference,
    server_lookups,
)
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected

WHERE = "servers[0]: credential_name"


def ref(text: str) -> Reference:
    return parse_reference(text, WHERE)


@pytest.mark.parametrize(
    ("text", "scheme", "namespace", "name"),
    [
        ("httpbin-credential", "kubernetes", None, "httpbin-credential"),
        ("wild.example.com", "kubernetes", None, "wild.example.com"),
        ("istio-system/httpbin", "kubernetes", "istio-system", "httpbin"),
        ("kubernetes://httpbin", "kubernetes", None, "httpbin"),
        ("kubernetes://istio-system/httpbin", "kubernetes", "istio-system", "httpbin"),
        ("kubernetes-gateway://ns/cert", "kubernetes-gateway", "ns", "cert"),
        ("configmap://ns/ca", "configmap", "ns", "ca"),
        ("builtin://", "builtin", None, ""),
        ("sds://some/resource name", "sds", None, "some/resource name"),
    ],
)
def test_parse_reference(text: str, scheme: str, namespace: str | None, name: str) -> None:
    parsed = ref(text)
    assert (parsed.text, parsed.scheme, parsed.namespace, parsed.name) == (text, scheme, namespace, name)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "credential_name"),
        ("Httpbin", "credential_name"),
        ("a_b", "credential_name"),
        ("-a", "credential_name"),
        ("a" * 254, "credential_name"),
        ("a/b/c", "credential_name"),
        ("/b", "credential_name"),
        ("a/", "credential_name"),
        ("n" * 64 + "/b", "credential_name"),
        ("vault://a", "credential_name"),
        ("kubernetes://", "credential_name"),
        ("kubernetes://a/b/c", "credential_name"),
        ("configmap://ca", "credential_name"),
        ("configmap:///ca", "credential_name"),
        ("kubernetes-gateway://cert", "credential_name"),
        ("kubernetes-gateway://ns/", "credential_name"),
        ("sds://", "credential_name"),
        ("invalid://", "credential_never_valid"),
        ("invalid://x", "credential_never_valid"),
    ],
)
def test_what_istiod_could_not_read_is_rejected(text: str, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        ref(text)
    (problem,) = caught.value.problems
    assert (problem.code, problem.where) == (code, WHERE)
    assert problem.remedy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", False),
        ("a-cacert", True),
        ("kubernetes://ns/a-cacert", True),
        ("kubernetes-gateway://ns/a-cacert", True),
        ("configmap://ns/a", True),
        ("sds://a-cacert", False),
        ("builtin://", False),
    ],
)
def test_a_ca_only_credential_can_not_be_a_pair_and_the_other_way_round(text: str, expected: bool) -> None:
    assert is_ca_only(ref(text)) is expected
    assert [problem.code for problem in pair_problems(ref(text), WHERE)] == (["credential_ca_only"] if expected else [])
    usable_as_ca = expected or text.startswith("sds://")
    assert [problem.code for problem in ca_problems(ref(text), WHERE)] == ([] if usable_as_ca else ["ca_credential_not_ca_only"])


@pytest.mark.parametrize(
    ("text", "namespaces", "expected"),
    [
        ("a", ["istio-system"], None),
        ("a", None, None),
        ("istio-system/a", ["istio-system"], None),
        ("istio-system/a", [], None),
        ("istio-system/a", None, ("credential_names_namespace", "warning")),
        ("default/a", ["istio-system"], ("credential_in_other_namespace", "error")),
        ("kubernetes://default/a", ["default", "istio-system"], ("credential_in_other_namespace", "error")),
        ("configmap://default/a", ["istio-system"], None),
    ],
)
def test_namespace_problems(text: str, namespaces: list[str] | None, expected: tuple[str, str] | None) -> None:
    assert [(p.code, p.severity) for p in namespace_problems(ref(text), WHERE, namespaces)] == ([expected] if expected else [])


def pair(name: str, namespace: str | None = None, where: str = WHERE) -> Lookup:
    return Lookup("pair", "Secret", (name,), namespace, where)


def ca(*names: str, namespace: str | None = None, kind: str = "Secret", where: str = WHERE) -> Lookup:
    return Lookup("ca", kind, names, namespace, where)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", (pair("a"),)),
        ("kubernetes://ns/a", (pair("a", "ns"),)),
        ("kubernetes-gateway://ns/a", (pair("a", "ns"),)),
        ("builtin://", ()),
        ("sds://a", ()),
    ],
)
def test_pair_lookup(text: str, expected: tuple[Lookup, ...]) -> None:
    assert pair_lookup(ref(text), WHERE) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", (ca("a-cacert", "a"),)),
        ("a-cacert", (ca("a-cacert", "a"),)),
        ("ns/a", (ca("a-cacert", "a", namespace="ns"),)),
        ("configmap://ns/a", (ca("a", namespace="ns", kind="ConfigMap"),)),
        ("configmap://ns/a-cacert", (ca("a", namespace="ns", kind="ConfigMap"),)),
        ("builtin://", ()),
        ("sds://a", ()),
    ],
)
def test_ca_lookup(text: str, expected: tuple[Lookup, ...]) -> None:
    assert ca_lookup(ref(text), WHERE) == expected


@pytest.mark.parametrize(
    ("credentials", "ca_credential", "verifies", "expected"),
    [
        (["a"], None, False, (pair("a"),)),
        (["a"], None, True, (pair("a"), ca("a-cacert", "a"))),
        (["rsa", "ecdsa"], None, True, (pair("rsa"), pair("ecdsa"), ca("rsa-cacert", "rsa"))),
        (["a"], "clients-cacert", True, (pair("a"), ca("clients-cacert", "clients"))),
        (["a"], "configmap://ns/clients", True, (pair("a"), ca("clients", namespace="ns", kind="ConfigMap"))),
        (["a"], "clients-cacert", False, (pair("a"),)),
        (["sds://a"], None, True, ()),
        ([], None, True, ()),
    ],
)
def test_server_lookups(credentials: list[str], ca_credential: str | None, verifies: bool, expected: tuple[Lookup, ...]) -> None:
    found = server_lookups(
        [(ref(text), WHERE) for text in credentials], (ref(ca_credential), WHERE) if ca_credential else None, verifies_clients=verifies
    )
    assert found == expected
