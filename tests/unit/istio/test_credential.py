# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials as Secrets: what istiod reads, layouts and their order, and what is wrong with a credential's shape."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.credential import (
    LAYOUTS,
    READ_KEYS,
    Credential,
    Layout,
    Reading,
    decode,
    encode,
    layout_of,
    manifest,
    read_as_istiod,
    reading_problems,
    secret_type,
    secrets,
    shape_problems,
    type_can_hold,
)

Data = Mapping[str, bytes]


def has_value(data: Data, *keys: str) -> bool:
    return all(data.get(key) for key in keys)


def extract_cert_info(data: Data) -> tuple[bytes | None, bytes | None, bytes | None]:
    """(Cert, Key, Staple) of ExtractCertInfo in istiod's pilot/pkg/credentials/kube/secrets.go, line by line."""
    if has_value(data, "cert", "key"):
        return data["cert"], data["key"], None
    if has_value(data, "tls.crt", "tls.key"):
        return data["tls.crt"], data["tls.key"], data.get("tls.ocsp-staple")
    return None, None, None


def extract_root(data: Data) -> tuple[bytes | None, bytes | None]:
    """(Cert, CRL) of ExtractRoot, likewise."""
    if has_value(data, "cacert"):
        return data["cacert"], data.get("crl")
    if has_value(data, "ca.crt"):
        return data["ca.crt"], data.get("ca.crl")
    return None, None


def test_it_reads_what_istiod_reads_from_any_set_of_keys() -> None:
    """Each key absent, empty or filled; every 7th of the combinations. To Envoy an empty staple or CRL is none."""
    for values in itertools.islice(itertools.product((None, b"", b"x"), repeat=len(READ_KEYS)), None, None, 7):
        data = {
            key: value + key.encode() if value else value for key, value in zip(sorted(READ_KEYS), values, strict=True) if value is not None
        }
        reading = read_as_istiod(data)
        taken = (reading.certificate, reading.private_key, reading.ocsp_staple, reading.ca_certificate, reading.ca_crl)
        assert taken == tuple(value or None for value in (*extract_cert_info(data), *extract_root(data))), data
        assert {data[key] for key in reading.keys} == {value for value in taken if value}


def filled(*keys: str, **values: bytes) -> dict[str, bytes]:
    return {**{key: key.encode() for key in keys}, **values}


TLS, GENERIC = filled("tls.crt", "tls.key"), filled("cert", "key")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (TLS, "tls"),
        (filled(*TLS, "ca.crt"), "tls"),
        (filled(*TLS, "cacert"), "mixed"),
        (GENERIC, "generic"),
        (filled(*GENERIC, "cacert", "crl"), "generic"),
        (filled(*GENERIC, "ca.crt"), "mixed"),
        (filled(*GENERIC, *TLS), "generic"),
        (filled("cert", *TLS), "tls"),
        (filled("cacert"), "ca-only"),
        (filled("ca.crt", "tls.crt"), "ca-only"),
        (filled("username"), "none"),
        ({}, "none"),
    ],
)
def test_layout_of_what_is_there(data: dict[str, bytes], expected: str) -> None:
    assert layout_of(data) == expected
    assert layout_of(data, has_ca_secret=True) == ("split" if expected not in ("ca-only", "none") else expected)


@pytest.mark.parametrize(
    ("data", "codes"),
    [
        (TLS, []),
        (GENERIC, []),
        (filled(*TLS, "ca.crt", "ca.crl", "tls.ocsp-staple"), []),
        (filled(*GENERIC, "cacert", "crl"), []),
        (filled("cacert"), []),
        (filled(*TLS, "cacert", "crl"), []),  # the pair of the one and the CA of the other are read
        (filled(*TLS, "ca.crt", "crl"), ["crl_wrong_key"]),
        (filled(*GENERIC, "cacert", "ca.crl"), ["crl_wrong_key"]),
        (filled(*GENERIC, "cacert", "crl", "ca.crl"), ["crl_wrong_key"]),
        (filled(*TLS, "ca.crl"), ["crl_without_ca"]),
        (filled(*TLS, "crl"), ["crl_without_ca"]),
        (filled("cert"), ["incomplete_pair", "no_credential"]),
        (filled("cert", key=b""), ["incomplete_pair", "no_credential"]),
        (filled("tls.key", *GENERIC), ["incomplete_pair"]),
        (filled(*GENERIC, *TLS), ["shadowed_pair"]),
        ({**GENERIC, "tls.crt": GENERIC["cert"], "tls.key": GENERIC["key"]}, []),  # both the same, as some tools write them
        (filled(*GENERIC, "tls.ocsp-staple"), ["ocsp_staple_layout"]),
        ({}, ["no_credential"]),
        (filled("username", "ca.crl"), ["crl_without_ca", "no_credential"]),
    ],
)
def test_what_istiod_passes_over_in_silence(data: dict[str, bytes], codes: list[str]) -> None:
    problems = reading_problems(data, where="Secret n/x")
    assert [problem.code for problem in problems] == codes
    assert all(problem.where == "Secret n/x" for problem in problems)


def test_what_was_found_is_told_with_what_is_empty() -> None:
    [problem] = reading_problems({"cert": b"", "key": b"", "other": b"x"}, where="w")
    assert "found cert (empty), key (empty), other" in problem.message
    [problem] = [one for one in reading_problems(filled("cert", key=b""), where="w") if one.code == "incomplete_pair"]
    assert "cert is there and key is empty" in problem.message


def credential(layout: Layout = "tls", name: str = "x", namespace: str = "n", **parts: bytes) -> Credential:
    given = parts or {"certificate": b"crt", "private_key": b"key"}
    return Credential(name, namespace, layout, **{part: value or None for part, value in given.items()})


FULL = {"certificate": b"1", "private_key": b"2", "ca_certificate": b"3", "crl": b"4", "ocsp_staple": b"5"}


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("tls", [("x", {"tls.crt": b"1", "tls.key": b"2", "ca.crt": b"3", "ca.crl": b"4", "tls.ocsp-staple": b"5"})]),
        ("generic", [("x", {"cert": b"1", "key": b"2", "cacert": b"3", "crl": b"4"})]),
        ("split", [("x-cacert", {"cacert": b"3", "crl": b"4"}), ("x", {"cert": b"1", "key": b"2"})]),
    ],
)
def test_secrets_of_a_layout_in_the_order_of_their_writing(layout: Layout, expected: list[tuple[str, dict[str, bytes]]]) -> None:
    assert list(secrets(credential(layout, **FULL)).items()) == expected
    for __, data in expected:
        assert set(read_as_istiod(data).keys) == set(data), "every key that is written is read"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_a_ca_it_is_one_secret(layout: Layout) -> None:
    [(name, data)] = secrets(credential(layout)).items()
    assert name == "x" and len(data) == 2


def test_the_manifest() -> None:
    made = manifest(credential(), "x", TLS, live_type=None, labels={"a": "b"}, annotations={"c": "d"})
    assert made["type"] == "kubernetes.io/tls" and decode(made) == TLS and "stringData" not in made
    assert made["metadata"] == {
        "name": "x",
        "namespace": "n",
        "labels": {"a": "b", "app.kubernetes.io/managed-by": "meshops.istio", "meshops.istio/owner": "credential.x"},
        "annotations": {"c": "d"},
    }
    assert manifest(credential(), "x", TLS, live_type="Opaque")["type"] == "Opaque"
    displaced = manifest(credential(), "x", TLS, live_type=None, labels={"app.kubernetes.io/managed-by": "me"})
    assert displaced["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "meshops.istio"


@pytest.mark.parametrize(
    ("data", "live_type", "expected"),
    [
        (TLS, None, "kubernetes.io/tls"),
        (filled(*TLS, "ca.crt"), None, "kubernetes.io/tls"),
        (filled("ca.crt"), None, "Opaque"),
        (GENERIC, None, "Opaque"),
        (TLS, "Opaque", "Opaque"),
        (TLS, "example.com/own", "example.com/own"),
    ],
)
def test_the_type_is_chosen_at_creation_only(data: dict[str, bytes], live_type: str | None, expected: str) -> None:
    assert secret_type(data, live_type) == expected


@pytest.mark.parametrize(
    ("live_type", "data", "can"),
    [
        ("kubernetes.io/tls", TLS, True),
        ("kubernetes.io/tls", filled(*TLS, "ca.crt"), True),
        ("kubernetes.io/tls", GENERIC, False),
        ("kubernetes.io/tls", filled("ca.crt"), False),
        ("Opaque", GENERIC, True),
        ("example.com/own", GENERIC, True),
        ("istio.io/key-and-cert", TLS, True),
        ("kubernetes.io/dockerconfigjson", TLS, False),
        ("kubernetes.io/service-account-token", TLS, False),
        ("bootstrap.kubernetes.io/token", TLS, False),
        ("helm.sh/release.v1", TLS, False),
    ],
)
def test_types_that_can_hold_it(live_type: str, data: dict[str, bytes], can: bool) -> None:
    assert type_can_hold(live_type, data) is can


@pytest.mark.parametrize("secret", [None, {}, {"data": None}, {"data": {}}])
def test_no_data(secret: dict[str, Any] | None) -> None:
    assert decode(secret) == {}


def test_data_there_and_back() -> None:
    data = {"a": bytes(range(256)), "b": b""}
    assert decode({"data": encode(data)}) == data
    assert decode({"data": {"a": None, "b": "x"}}) == {"a": b"", "b": b""}


# --- shape -----------------------------------------------------------------------------------------------------------------------------------

BIG = b"x" * (1024 * 1024)
CA = {"ca_certificate": b"ca"}
PAIR = {"certificate": b"crt", "private_key": b"key"}

SILENT = [
    credential(),
    credential("generic"),
    credential("split", **PAIR, **CA, crl=b"crl"),
    credential("tls", **FULL),
    credential("generic", "x-cacert", **CA),
    credential("tls", "clients", **CA),
    credential(name="httpbin.example.com"),
    credential(name="a" * 253),
    credential(namespace="a" * 63),
    credential(**{**PAIR, "certificate": BIG[: -len(b"key")]}),
    credential("split", certificate=BIG[: -len(b"key")], private_key=b"key", ca_certificate=BIG),
]


@pytest.mark.parametrize("one", SILENT, ids=str)
def test_nothing_is_wrong_with_the_shape(one: Credential) -> None:
    assert shape_problems(one, where="w") == ()


@pytest.mark.parametrize(
    ("one", "codes", "says"),
    [
        (credential(name="apps/x"), ["invalid_name"], "never written as namespace/name"),
        (credential(name="Upper"), ["invalid_name"], "found 'Upper'"),
        (credential(name=""), ["invalid_name"], "found ''"),
        (credential(name="a" * 254), ["invalid_name"], "at most 253"),
        (credential(name="a" * 253, layout="split"), ["invalid_name"], "expected at most 246, found 253"),
        (credential(name="x\n"), ["invalid_name"], "found 'x\\n'"),
        (credential(name="kubernetes://x"), ["invalid_name"], "found"),
        (credential(namespace="Not valid"), ["invalid_namespace"], "found 'Not valid'"),
        (credential(namespace="a" * 64), ["invalid_namespace"], "found"),
        (credential(certificate=b"crt"), ["incomplete_pair"], "give private_key or private_key_path too"),
        (credential(private_key=b"key"), ["incomplete_pair"], "give certificate or certificate_path too"),
        (credential(certificate=b""), ["nothing_given"], "found neither"),
        (credential(name="x-cacert"), ["cacert_suffix"], "would never serve this certificate"),
        (credential("split", "x-cacert", **PAIR, **CA), ["cacert_suffix", "cacert_suffix"], "name it x"),
        (credential("split", **CA), ["incomplete_pair"], "use layout generic and the name x-cacert"),
        (credential(**PAIR, crl=b"crl"), ["crl_without_ca"], "give ca_certificate"),
        (credential("generic", **PAIR, ocsp_staple=b"s"), ["ocsp_staple_layout"], "use layout tls"),
        (credential("tls", **CA, ocsp_staple=b"s"), ["ocsp_staple_layout"], "beside tls.crt and tls.key"),
        (credential(**{**PAIR, "certificate": BIG}), ["too_large"], f"{len(BIG) + 3} bytes (tls.crt: {len(BIG)})"),
        (credential("split", **PAIR, ca_certificate=BIG + b"x"), ["too_large"], "Secret x-cacert"),
    ],
)
def test_what_is_wrong_with_the_shape(one: Credential, codes: list[str], says: str) -> None:
    problems = shape_problems(one, where="credentials[0]")
    assert [problem.code for problem in problems] == codes
    assert any(says in f"{problem.message}; {problem.remedy}" for problem in problems), problems
    assert all(problem.severity == "error" for problem in problems)


def mounted(key: str = "ca-chain.cert.pem", **parts: Any) -> Credential:
    return Credential("x", "n", **{"layout": "tls", "ca_certificate": b"ca", "ca_key": key, **parts})


def test_a_ca_under_a_key_of_any_name_for_pods_that_mount_it() -> None:
    assert shape_problems(mounted(), where="w") == shape_problems(mounted("ca.crt"), where="w") == ()
    assert secrets(mounted()) == {"x": {"ca-chain.cert.pem": b"ca"}}


@pytest.mark.parametrize(
    ("one", "codes"),
    [
        *((mounted(key), ["invalid_key"]) for key in ("", "a/b", "a b", "..", ".", "..a", "a" * 254, "tls.crt", "cert", "crl")),
        (mounted(certificate=b"crt", private_key=b"key"), ["ca_not_alone"]),
        (mounted(crl=b"crl"), ["ca_not_alone"]),
        (mounted(layout="split"), ["incomplete_pair", "ca_not_alone"]),
        (mounted(ca_certificate=None), ["nothing_given"]),
    ],
)
def test_what_cannot_stand_beside_it(one: Credential, codes: list[str]) -> None:
    assert [problem.code for problem in shape_problems(one, where="w")] == codes


def test_everything_wrong_is_told_at_once() -> None:
    one = Credential("X-cacert", "N", "generic", certificate=b"crt", crl=b"crl", ocsp_staple=b"s")
    codes = {problem.code for problem in shape_problems(one, where="w")}
    assert codes == {"invalid_name", "invalid_namespace", "incomplete_pair", "cacert_suffix", "crl_without_ca", "ocsp_staple_layout"}


def test_key_material_is_in_no_repr_and_no_problem() -> None:
    canary = b"c4n4ry"
    parts = dict.fromkeys(FULL, canary)
    shown: list[Any] = [Reading(*[canary] * 5, keys=("cert",))]
    for layout in LAYOUTS:
        for name in ("x", "x-cacert", "istio"):
            one = Credential(name, "n", layout, **parts)
            shown += [one, shape_problems(one, where="w"), shape_problems(Credential(name, "n", layout, certificate=canary), where="w")]
    for keys in itertools.combinations(sorted(READ_KEYS), 3):
        shown.append(reading_problems(dict.fromkeys(keys, canary), where="w"))
        shown.append(read_as_istiod(dict.fromkeys(keys, canary)))
    assert "c4n4ry" not in repr(shown)
