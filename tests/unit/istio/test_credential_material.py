# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with certificates, keys, CAs and CRLs as a whole; the single checks are those of tests/unit/tls."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.credential import Credential, shape_problems
from ansible_collections.meshops.istio.plugins.module_utils.istio.credential_material import (
    PARTS,
    Checked,
    Demands,
    Source,
    check_material,
    describe_data,
    judge_data,
    public_contents,
)
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem
from ansible_collections.meshops.istio.plugins.module_utils.tls.roots import Roots
from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import NOW, Issued, Pki, key_pem
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12
from cryptography.x509 import AccessDescription, AuthorityInformationAccess, TLSFeature, TLSFeatureType, UniformResourceIdentifier
from cryptography.x509.oid import AuthorityInformationAccessOID

HOST = "httpbin.example.com"


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


@pytest.fixture(scope="module")
def root(pki: Pki) -> Issued:
    return pki.issue("Root", ca=True, usage=("key_cert_sign", "crl_sign"), days=(-100, 1000))


@pytest.fixture(scope="module")
def clients(pki: Pki) -> Issued:
    return pki.issue("Clients", ca=True, usage=("key_cert_sign", "crl_sign"), days=(-100, 1000))


@pytest.fixture(scope="module")
def leaf(pki: Pki, root: Issued) -> Issued:
    return pki.issue(HOST, root, usage=("digital_signature",), purposes=("serverAuth",))


def sources(**parts: bytes | str) -> dict[str, Source]:
    return {part: Source(data if isinstance(data, bytes) else data.encode(), f"{part}_path /etc/{part}") for part, data in parts.items()}


def check(demands: Demands | None = None, given: dict[str, bytes] | None = None, **more: Any) -> Checked:
    return check_material(sources(**(given or {})), demands or Demands((HOST,)), now=NOW, **more)


def codes(problems: tuple[Problem, ...]) -> list[str]:
    return [problem.code for problem in problems]


def pair(one: Issued, *issuers: Issued) -> dict[str, bytes]:
    return {"certificate": b"".join(each.pem for each in (one, *issuers)), "private_key": key_pem(one.key)}


def bundle(one: Issued, passphrase: bytes = b"opens") -> bytes:
    return pkcs12.serialize_key_and_certificates(b"n", one.key, one.certificate.parsed, None, BestAvailableEncryption(passphrase))


def test_a_good_credential(pki: Pki, root: Issued, leaf: Issued, clients: Issued) -> None:
    crl = pki.crl(clients).pem
    given = {**pair(leaf, root), "ca_certificate": clients.pem, "crl": crl, "ocsp_staple": pki.staple(leaf, root)}
    checked = check(Demands((HOST,), trust_anchors=(root.certificate,)), given)
    assert checked.problems == () and checked.unusable == ()
    assert checked.parts == given, "stored as it was given"
    assert checked.certificate is not None and checked.certificate["fingerprint_sha256"] == leaf.certificate.fingerprint
    assert [one["subject"] for one in checked.certificate["chain"]] == ["CN=Root"]
    assert checked.ca_certificate is not None and checked.ca_certificate["subject"] == "CN=Clients"


def test_nothing_given_is_nothing_wrong_here() -> None:
    """The shape of a credential is another check's."""
    checked = check()
    assert (checked.parts, checked.certificate, checked.ca_certificate, checked.problems, checked.unusable) == ({}, None, None, (), ())


def test_an_encrypted_key_is_stored_decrypted(leaf: Issued) -> None:
    encrypted = {"certificate": leaf.pem, "private_key": key_pem(leaf.key, passphrase=b"opens")}
    checked = check(given=encrypted, private_key_passphrase="opens")
    assert checked.unusable == () and checked.parts["private_key"] == key_pem(leaf.key)
    wrong = check(given=encrypted, private_key_passphrase="does not")
    assert codes(wrong.unusable) == ["wrong_passphrase"] and wrong.unusable[0].where == "private_key_path /etc/private_key"
    assert codes(check(given=encrypted).unusable) == ["key_encrypted"]


def test_pkcs12(leaf: Issued) -> None:
    checked = check(given={"pkcs12": bundle(leaf)}, pkcs12_passphrase="opens")
    assert checked.unusable == () and set(checked.parts) == {"certificate", "private_key"}
    assert checked.parts["certificate"] == leaf.pem and checked.certificate is not None
    assert "pkcs12_path /etc/pkcs12" in {
        problem.where for problem in check(Demands(("other.example.com",)), {"pkcs12": bundle(leaf)}, pkcs12_passphrase="opens").problems
    }
    assert codes(check(given={"pkcs12": bundle(leaf)}, pkcs12_passphrase="no").unusable) == ["wrong_passphrase"]
    assert codes(check(given={"pkcs12": leaf.pem}).unusable) == ["not_pkcs12"]


def test_what_a_bundle_was_to_give_is_not_missed_too(leaf: Issued) -> None:
    """One problem, the passphrase, and not also that no certificate was given."""
    checked = check(given={"pkcs12": bundle(leaf)}, pkcs12_passphrase="no")
    assert shape_problems(Credential("x", "n", "tls", **checked.parts), where="w") == ()
    assert check_material({}, Demands(), now=NOW).parts == {}


@pytest.mark.parametrize("beside", [("certificate", "private_key"), ("certificate",), ("private_key",)])
def test_a_pair_is_given_once(leaf: Issued, beside: tuple[str, ...]) -> None:
    given = {"pkcs12": bundle(leaf), **{part: data for part, data in pair(leaf).items() if part in beside}}
    problem = check(given=given, pkcs12_passphrase="opens").unusable[0]
    assert problem.code == "given_twice" and problem.message.endswith(f"found a PKCS#12 bundle and {' and '.join(beside)}")


def test_everything_is_told_at_once(pki: Pki, leaf: Issued, clients: Issued) -> None:
    other = pki.issue("other.example.com")
    wrong = {
        "certificate": pki.issue("late.example.com", days=(-10, -1)).pem,
        "private_key": key_pem(other.key),
        "ca_certificate": pki.issue("Old CA", ca=True, days=(-10, -1)).pem,
        "crl": b"no CRL",
        "ocsp_staple": b"no staple",
    }
    checked = check(given=wrong)
    assert codes(checked.unusable) == ["not_pem", "not_ocsp"]
    assert {"key_mismatch", "expired", "host_not_covered", "ca_expired"} <= set(codes(checked.problems))
    wheres = {problem.code: problem.where for problem in (*checked.problems, *checked.unusable)}
    assert (
        wheres["key_mismatch"] == "private_key_path /etc/private_key" and wheres["ca_expired"] == "ca_certificate_path /etc/ca_certificate"
    )
    assert wheres["expired"] == "certificate_path /etc/certificate" and wheres["not_ocsp"] == "ocsp_staple_path /etc/ocsp_staple"


@pytest.mark.parametrize("part", [part for part in PARTS if part != "pkcs12"])
def test_what_cannot_be_read_keeps_nothing_else_from_being_judged(part: str, leaf: Issued, clients: Issued, root: Issued, pki: Pki) -> None:
    good = {**pair(leaf, root), "ca_certificate": clients.pem, "crl": pki.crl(clients).pem, "ocsp_staple": pki.staple(leaf, root)}
    checked = check(Demands(("other.example.com",), min_remaining=timedelta(days=5000)), {**good, part: b"rubbish"})
    assert len(checked.unusable) == 1 and checked.unusable[0].where == f"{part}_path /etc/{part}"
    assert checked.parts[part] == b"rubbish"
    expected = {"host_not_covered", "expires_soon"} if part != "certificate" else {"expires_soon"}
    assert expected <= set(codes(checked.problems))


def test_a_clients_pair(pki: Pki, root: Issued, leaf: Issued) -> None:
    client = pki.issue("client.example.com", root, purposes=("clientAuth",))
    assert codes(check(Demands(purpose="client"), pair(client, root)).problems) == []
    assert "wrong_extended_key_usage" in codes(check(Demands(purpose="server"), pair(client, root)).problems)
    assert "wrong_extended_key_usage" in codes(check(Demands(purpose="client"), pair(leaf, root)).problems)


@pytest.mark.parametrize(
    ("anchors", "expected"),
    [(None, []), ((), ["chain_incomplete"]), ("root", []), ("clients", ["chain_incomplete"])],
)
def test_trust_anchors(anchors: Any, expected: list[str], leaf: Issued, root: Issued, clients: Issued) -> None:
    known = {"root": (root.certificate,), "clients": (clients.certificate,)}.get(anchors, anchors)
    assert codes(check(Demands((HOST,), trust_anchors=known), pair(leaf)).problems) == expected


def test_staples(pki: Pki, root: Issued, leaf: Issued) -> None:
    must = pki.issue(HOST, root, extensions=(TLSFeature([TLSFeatureType.status_request]),))
    assert "ocsp_missing" in codes(check(given=pair(must, root)).problems)
    assert "ocsp_missing" not in codes(check(given={**pair(must, root), "ocsp_staple": pki.staple(must, root)}).problems)
    broken = check(given={**pair(must, root), "ocsp_staple": b"rubbish"})
    assert codes(broken.unusable) == ["not_ocsp"] and "ocsp_missing" not in codes(broken.problems), "it was given"
    wrong = check(given={**pair(leaf, root), "ocsp_staple": pki.staple(must, root)})
    assert "ocsp_wrong_certificate" in codes(wrong.problems)
    # the issuer may be known from the trust anchors or the CAs alone
    forged = pki.staple(leaf, pki.issue("Root", ca=True, key="P-256#forger"))
    for demands, more in ((Demands((HOST,), trust_anchors=(root.certificate,)), {}), (Demands((HOST,)), {"ca_certificate": root.pem})):
        assert "ocsp_signature_invalid" in codes(check(demands, {**pair(leaf), "ocsp_staple": forged, **more}).problems)


def test_crls(pki: Pki, clients: Issued, leaf: Issued, root: Issued) -> None:
    expired = {**pair(leaf, root), "ca_certificate": clients.pem, "crl": pki.crl(clients, days=(-9, -1)).pem}
    assert codes(check(given=expired).problems) == ["crl_expired"]
    strangers = {**expired, "crl": pki.crl(root).pem}
    assert {"crl_issuer_unknown", "crl_incomplete"} <= set(codes(check(given=strangers).problems))
    revoked = {**pair(leaf, root), "ca_certificate": root.pem, "crl": pki.crl(root, revoked=(leaf,)).pem}
    assert "revoked" in codes(check(given=revoked).problems)


def test_an_expired_certificate_of_a_valid_ca_is_not_stored(pki: Pki, clients: Issued, leaf: Issued, root: Issued) -> None:
    """Envoy might take it in the valid one's place; other expired CAs do no harm, and stay as they were given."""
    renewed = pki.issue("Clients", ca=True, days=(-300, -1))
    checked = check(given={**pair(leaf, root), "ca_certificate": renewed.pem + clients.pem})
    assert checked.parts["ca_certificate"] == clients.pem
    assert [(problem.code, problem.severity) for problem in checked.problems] == [("ca_superseded", "warning")]
    assert "left out of the Secret" in checked.problems[0].message
    other = pki.issue("Other", ca=True, days=(-300, -1)).pem + clients.pem
    checked = check(given={**pair(leaf, root), "ca_certificate": other})
    assert checked.parts["ca_certificate"] == other and codes(checked.problems) == ["ca_expired"]
    live = judge_data({"ca.crt": renewed.pem + clients.pem}, Demands(), now=NOW, where="w")
    assert codes(live) == ["ca_superseded"] and "left out" not in live[0].message


def test_known_roots_complete_a_chain(pki: Pki, root: Issued) -> None:
    """A leaf that says where its issuer is to be had seems to lack an intermediate, unless the issuer is known for a root."""
    places = AuthorityInformationAccess(
        [AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, UniformResourceIdentifier("http://ca.example/ca.crt"))]
    )
    given = pair(pki.issue(HOST, root, extensions=(places,)))
    assert codes(check(given=given).problems) == ["chain_unverified"]
    for roots in (Roots(public=root.pem), Roots(system=root.pem), Roots(b"rubbish", b"text\n" + root.pem)):
        assert codes(check(Demands((HOST,), roots=roots), given).problems) == []
    assert codes(check(given={**given, "ca_certificate": root.pem}).problems) == []


def test_live_data_is_judged_as_istiod_reads_it(pki: Pki, root: Issued, leaf: Issued, clients: Issued) -> None:
    stale = pki.issue("old.example.com", root, days=(-10, -1))
    data = {
        "cert": leaf.pem + root.pem,
        "key": key_pem(leaf.key),
        "tls.crt": stale.pem,
        "tls.key": key_pem(stale.key),
        "ca.crt": clients.pem,
        "crl": pki.crl(clients).pem,
    }
    problems = judge_data(data, Demands((HOST,)), now=NOW, where="Secret n/x")
    assert codes(problems) == ["crl_wrong_key", "shadowed_pair"], "what is not read is not judged"
    assert all(problem.where.startswith("Secret n/x") for problem in problems)
    late = judge_data({"tls.crt": stale.pem + root.pem, "tls.key": key_pem(leaf.key)}, Demands(), now=NOW, where="Secret n/x")
    assert set(codes(late)) == {"key_mismatch", "expired"} and {problem.where for problem in late} == {
        "Secret n/x: certificate",
        "Secret n/x: private_key",
    }
    assert codes(judge_data({}, Demands(), now=NOW, where="w")) == ["no_credential"]
    assert codes(judge_data({"cert": b"x", "key": b"y"}, Demands(), now=NOW, where="w")) == ["not_pem", "not_pem"]


def test_facts_of_live_data(pki: Pki, root: Issued, leaf: Issued, clients: Issued) -> None:
    data = {
        "tls.crt": leaf.pem + root.pem,
        "tls.key": key_pem(leaf.key),
        "ca.crt": clients.pem,
        "ca.crl": pki.crl(clients).pem,
        "more": b"x",
    }
    shown = describe_data(data, NOW)
    assert shown["secret_keys"] == shown["keys"] == ["ca.crl", "ca.crt", "more", "tls.crt", "tls.key"] and shown["crl"] == "present"
    assert shown["certificate"]["common_name"] == HOST and shown["certificate"]["days_left"] == 90
    assert shown["ca_certificate"]["subject"] == "CN=Clients"
    assert describe_data({}, NOW) == {"secret_keys": [], "keys": []}
    old = pki.issue("Old", ca=True, days=(-300, -1))
    bundle_shown = describe_data({"ca.crt": old.pem + clients.pem}, NOW)["ca_certificate"]
    assert (bundle_shown["subject"], bundle_shown["chain"][0]["subject"]) == ("CN=Clients", "CN=Old"), "what it is good for"
    assert set(describe_data({"cert": b"rubbish", "key": b"x"}, NOW)["certificate"]) == {"unreadable"}


def test_no_key_and_no_certificate_is_in_anything_that_is_shown(pki: Pki, root: Issued, leaf: Issued, clients: Issued) -> None:
    """Good, broken and misplaced material, with passphrases; neither PEM nor its Base64 nor a passphrase is told."""
    key = key_pem(leaf.key)
    other = pki.issue("other.example.com", root)
    materials = {
        "good": {**pair(leaf, root), "ca_certificate": clients.pem, "crl": pki.crl(clients).pem},
        "mismatch": {**pair(leaf, root), "private_key": key_pem(other.key)},
        "swapped": {"certificate": key, "private_key": leaf.pem},
        "combined": {"certificate": leaf.pem + key, "private_key": leaf.pem + key, "ca_certificate": key, "crl": key, "ocsp_staple": key},
        "cut": {"certificate": leaf.pem[:-40], "private_key": key[:-40]},
        "indented": {"certificate": b" " + leaf.pem, "private_key": b" " + key},
        "one line": {"certificate": leaf.pem.replace(b"\n", b"\\n"), "private_key": key.replace(b"\n", b"\\n")},
        "encoded": {"certificate": base64.b64encode(leaf.pem), "private_key": base64.b64encode(key)},
        "bare": {"private_key": b"".join(key.splitlines()[1:-1]), "certificate": leaf.pem},
        "encrypted": {"certificate": leaf.pem, "private_key": key_pem(leaf.key, passphrase=b"c4n4ry"), "pkcs12": bundle(leaf, b"c4n4ry")},
    }
    secrets = [line for text in (key, key_pem(other.key), leaf.pem) for line in text.decode().splitlines() if "-----" not in line]
    secrets += [base64.b64encode(key).decode()[:40], "c4n4ry", "d1ff"]
    for given in materials.values():
        for demands in (Demands((HOST,)), Demands(purpose="client", trust_anchors=())):
            checked = check(demands, given, private_key_passphrase="d1ff", pkcs12_passphrase="d1ff")
            data = {
                "tls.crt": given.get("certificate", b""),
                "tls.key": given.get("private_key", b""),
                "ca.crt": given.get("ca_certificate", b""),
            }
            judged = judge_data(data, demands, now=NOW, where="w")
            texts = [checked, sources(**given), checked.certificate, checked.ca_certificate, judged, describe_data(data, NOW)]
            shown = repr(texts) + " ".join(map(str, (*checked.problems, *checked.unusable, *judged)))
            assert not [secret for secret in secrets if secret in shown]


def test_what_is_public_is_passed_on_and_a_key_among_it_is_not(pki: Pki, root: Issued, leaf: Issued, clients: Issued) -> None:
    key = key_pem(leaf.key)
    crl = pki.crl(clients).pem
    data = {"tls.crt": leaf.pem + root.pem, "tls.key": key, "ca.crt": b"notes\n" + clients.pem, "ca.crl": crl}
    given = {"layout": "tls", "certificate": (leaf.pem + root.pem).decode(), "ca_certificate": clients.pem.decode(), "crl": crl.decode()}
    assert public_contents(data, None) == given
    generic = {"cert": leaf.pem, "key": key}
    assert public_contents(generic, None) == {"layout": "generic", "certificate": leaf.pem.decode()}
    split = public_contents(generic, {"cacert": clients.pem})
    assert split == {"layout": "split", "certificate": leaf.pem.decode(), "ca_certificate": clients.pem.decode()}
    bundle = clients.pem + root.pem.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE")  # as in RHEL's ca-bundle.trust.crt, which Envoy reads
    assert public_contents({**data, "ca.crt": bundle}, None) == {**given, "ca_certificate": (clients.pem + root.pem).decode()}
    for part in ("tls.crt", "ca.crt"):
        assert "PRIVATE KEY" not in str(public_contents({**data, part: data[part] + key}, None))
