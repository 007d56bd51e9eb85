# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates in odd DER: what Envoy loads is read, and stays byte for byte as it is."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected, errors
from ansible_collections.meshops.istio.plugins.module_utils.tls.checks import check_server_pair
from ansible_collections.meshops.istio.plugins.module_utils.tls.lenient import element, elements, strict_copy
from ansible_collections.meshops.istio.plugins.module_utils.tls.material import (
    Certificate,
    from_der,
    from_x509,
    read_chain,
    read_private_key,
)
from ansible_collections.meshops.istio.plugins.module_utils.tls.pem import pem_of
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from test_tls_envoy import Pair
from tls_pki import NOW, Issued, Pki, key_pem

Change = Callable[[bytes], bytes]
ORGANISATION = b"\x0c\x0bMxller GmbH"
POLICY = b"\x16\x0dhttp://cps.xx"
CRITICAL_BASIC_CONSTRAINTS = bytes.fromhex("0603551d130101ff")


def replaced(old: bytes, new: bytes) -> Change:
    """Puts `new` in the place of `old`, at any depth, and counts the lengths anew."""

    def change(data: bytes) -> bytes:
        if old not in data:
            return data
        try:
            parts = list(elements(data))
        except ValueError:
            return data.replace(old, new)
        if old in b"".join(content for __, content in parts):
            inner = [element(tag, change(content)) if tag & 0x20 or tag == 0x04 else element(tag, content) for tag, content in parts]
            if inner != [element(*part) for part in parts]:
                return b"".join(inner)
        return data.replace(old, new)

    return change


def critical_false(tbs: bytes) -> bytes:
    return replaced(bytes.fromhex("0603551d11"), bytes.fromhex("0603551d11010100"))(tbs)


@cache
def odd_ca(pki: Pki) -> Issued:
    return pki.issue("Odd CA", ca=True)


def odd(pki: Pki, change: Change) -> Issued:
    """A server's certificate of its own CA, with its signed part changed, and signed again."""
    issuer = odd_ca(pki)
    key = pki.key("P-256")
    name = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, "a.example.com"), x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Mxller GmbH")]
    )
    policy = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), ["http://cps.xx"])])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject_name)
        .public_key(key.public_key())
        .serial_number(0x1234)
        .not_valid_before(issuer.certificate.not_before)
        .not_valid_after(issuer.certificate.not_after)
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example.com"), x509.DNSName("b.example.com")]), False)
        .add_extension(policy, False)
        .sign(issuer.key, hashes.SHA256())
    )
    [(__, whole)] = elements(from_x509(made).der)
    tbs, algorithm, __signature = elements(whole)
    changed = change(element(*tbs))
    assert changed != element(*tbs)
    signature = issuer.key.sign(changed, ec.ECDSA(hashes.SHA256()))
    return Issued(from_der(element(0x30, changed + element(*algorithm) + element(0x03, b"\0" + signature)), where="w"), key)


ODD: dict[str, Change] = {
    "T61String in Latin-1": replaced(ORGANISATION, b"\x14\x0bM\xfcller GmbH"),
    "UTF8String in Latin-1": replaced(ORGANISATION, b"\x0c\x0bM@ller GmbH"),
    "BMPString": replaced(ORGANISATION, element(0x1E, "Müller GmbH".encode("utf-16-be"))),
    "UniversalString": replaced(ORGANISATION, element(0x1C, "Müller GmbH".encode("utf-32-be"))),
    "IA5String": replaced(ORGANISATION, b"\x16\x0bM@ller GmbH"),
    "PrintableString with @": replaced(ORGANISATION, b"\x13\x0bM@ller GmbH"),
    "PrintableString in Latin-1": replaced(ORGANISATION, b"\x13\x0bM\xfcller GmbH"),
    "an empty attribute": replaced(ORGANISATION, b"\x0c\x00"),
    "critical FALSE": critical_false,
    "cA FALSE": replaced(CRITICAL_BASIC_CONSTRAINTS + b"\x04\x02\x30\x00", CRITICAL_BASIC_CONSTRAINTS + b"\x04\x05\x30\x03\x01\x01\x00"),
    "a policy's address as UTF8String": replaced(POLICY, b"\x0c" + POLICY[1:]),
    "a policy's address in Latin-1": replaced(POLICY, POLICY[:-1] + b"\xfc"),
    "a policy's address as BMPString": replaced(POLICY, element(0x1E, "http://cps.xx".encode("utf-16-be"))),
    "a DNS name in Latin-1": replaced(b"b.example.com", b"\xfc.example.com"),
    "serial 0": replaced(b"\x02\x02\x12\x34", b"\x02\x01\x00"),
    "a negative serial": replaced(b"\x02\x02\x12\x34", b"\x02\x02\xf2\x34"),
    "a serial of 24 bytes": replaced(b"\x02\x02\x12\x34", element(2, b"\x12" * 24)),
}


@pytest.mark.parametrize("change", ODD.values(), ids=list(ODD))
def test_what_envoy_loads_is_read_and_kept(pki: Pki, root: Issued, intermediate: Issued, tmp_path: Path, change: Change) -> None:
    issued = odd(pki, change)
    pair = Pair(pki, root, intermediate).use(issued).but(certificate=issued.pem)
    assert not pair.refused_by_envoy(tmp_path)
    [read] = read_chain(issued.pem, where="w")
    assert read.der == issued.certificate.der and read.pem == issued.pem
    assert (read.common_name, read.dns_names[0], read.is_ca) == ("a.example.com", "a.example.com", False)
    pair_problems = check_server_pair(
        [read],
        read_private_key(key_pem(issued.key), where="w"),
        hosts=["a.example.com"],
        trust_anchors=[odd_ca(pki).certificate],
        now=NOW,
        where="w",
    )
    assert not errors(pair_problems)
    assert read.not_after == issued.certificate.not_after and read.public_key == issued.key.public_key()


@pytest.mark.parametrize("change", ["T61String in Latin-1", "BMPString", "UniversalString", "PrintableString in Latin-1"])
def test_names_are_shown_as_text(pki: Pki, change: str) -> None:
    assert odd(pki, ODD[change]).certificate.subject in ("CN=a.example.com,O=Müller GmbH", "O=Müller GmbH,CN=a.example.com")


def test_what_is_no_ascii_covers_no_host(pki: Pki) -> None:
    assert odd(pki, ODD["a DNS name in Latin-1"]).certificate.dns_names == ("a.example.com", "?.example.com")


def test_what_envoy_needs_and_cannot_be_read_is_refused(pki: Pki) -> None:
    with pytest.raises(Rejected, match="certificate"):
        odd(pki, replaced(CRITICAL_BASIC_CONSTRAINTS + b"\x04\x02\x30\x00", CRITICAL_BASIC_CONSTRAINTS + b"\x04\x02\x31\x00"))


@pytest.mark.parametrize("name", ["half a character in a BMPString", "a time without seconds"])
def test_what_envoy_does_not_read_is_refused(pki: Pki, root: Issued, intermediate: Issued, tmp_path: Path, name: str) -> None:
    made = odd(pki, replaced(ORGANISATION, b"\x0c\x0bM@ller GmbH"))
    [(__, whole)] = elements(made.certificate.der)
    tbs, algorithm, __signature = elements(whole)
    if name == "a time without seconds":
        [begins] = re.findall(rb"\x17\x0d\d{12}Z", tbs[1])[:1]
        change = replaced(begins, element(0x17, begins[2:12] + b"Z"))
    else:
        change = replaced(b"\x0c\x0bM@ller GmbH", b"\x1e\x0bM\0a\0l\0l\0e\0r")
    changed = change(element(*tbs))
    signature = odd_ca(pki).key.sign(changed, ec.ECDSA(hashes.SHA256()))
    pem = pem_of("CERTIFICATE", element(0x30, changed + element(*algorithm) + element(0x03, b"\0" + signature)))
    assert Pair(pki, root, intermediate).use(made).but(certificate=pem).refused_by_envoy(tmp_path)
    with pytest.raises(Rejected) as raised:
        read_chain(pem, where="w")
    assert [problem.code for problem in raised.value.problems] == ["certificate_unreadable"]


def test_a_sound_certificate_says_the_same_in_strict_der(intermediate: Issued) -> None:
    assert strict_copy(intermediate.certificate.der) == intermediate.certificate.der


def test_spoiled_certificates_raise_nothing_else(pki: Pki) -> None:
    der = odd(pki, ODD["critical FALSE"]).certificate.der
    choose = random.Random(1)
    for __ in range(3000):
        spoiled = bytearray(der)
        for __byte in range(choose.randint(1, 3)):
            spoiled[choose.randrange(len(spoiled))] = choose.randrange(256)
        try:
            found = from_der(bytes(spoiled), where="w")
        except Rejected:
            continue
        assert isinstance(found, Certificate) and found.pem and isinstance(found.names, tuple) and str(found.key)
