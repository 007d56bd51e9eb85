# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users bring becomes PEM that Envoy loads, or stays as it is for the readers to name."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.plugins.module_utils.tls import forms
from ansible_collections.meshops.istio.plugins.module_utils.tls.lenient import element, elements
from ansible_collections.meshops.istio.plugins.module_utils.tls.material import read_chain, read_crls, read_private_key
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, pkcs7
from test_tls_envoy import Pair
from tls_pki import Issued, Pki, key_pem


def bundle(*issued: Issued) -> bytes:
    return pkcs7.serialize_certificates([each.certificate.parsed for each in issued], Encoding.DER)


def labelled(label: str, der: bytes) -> bytes:
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label.encode(), base64.encodebytes(der), label.encode())


def endless(der: bytes) -> bytes:
    """In BER, as Windows and Java write it: outer elements without a length."""
    [(__, content)] = elements(der)
    (oid_tag, oid), (__explicit, signed) = elements(content)
    [(__sequence, fields)] = elements(signed)
    return b"\x30\x80" + element(oid_tag, oid) + b"\xa0\x80\x30\x80" + fields + b"\0\0" * 3


FORMS: dict[str, Callable[[Issued, Issued], bytes]] = {
    "PKCS#7": lambda leaf, ca: labelled("PKCS7", bundle(leaf, ca)),
    "PKCS#7, CA first": lambda leaf, ca: labelled("PKCS7", bundle(ca, leaf)),
    "PKCS#7 labelled CERTIFICATE": lambda leaf, ca: labelled("CERTIFICATE", bundle(leaf, ca)),
    "PKCS#7 labelled CMS": lambda leaf, ca: labelled("CMS", bundle(leaf, ca)),
    "PKCS#7 in DER": lambda leaf, ca: bundle(ca, leaf),
    "PKCS#7 in BER": lambda leaf, ca: endless(bundle(leaf, ca)),
    "PKCS#7 in BER, labelled": lambda leaf, ca: labelled("PKCS7", endless(bundle(leaf, ca))),
    "PKCS#7 in base64": lambda leaf, ca: base64.b64encode(bundle(leaf, ca)),
    "PKCS#7 in base64 with CRLF": lambda leaf, ca: base64.encodebytes(bundle(leaf, ca)).replace(b"\n", b"\r\n"),
    "PKCS#7 and a certificate": lambda leaf, ca: leaf.pem + labelled("PKCS7", bundle(ca)),
    "UTF-16": lambda leaf, ca: (leaf.pem + ca.pem).decode().encode("utf-16"),
    "UTF-16, big end first": lambda leaf, ca: b"\xfe\xff" + (leaf.pem + ca.pem).decode().encode("utf-16-be"),
    "a byte order mark": lambda leaf, ca: b"\xef\xbb\xbf" + leaf.pem + ca.pem,
    "bare carriage returns": lambda leaf, ca: (leaf.pem + ca.pem).replace(b"\n", b"\r"),
    "with the key": lambda leaf, ca: key_pem(leaf.key) + leaf.pem + ca.pem,
    "with the key between, CRLF": lambda leaf, ca: (leaf.pem + key_pem(leaf.key) + ca.pem).replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("make", FORMS.values(), ids=list(FORMS))
def test_chains(pki: Pki, root: Issued, intermediate: Issued, tmp_path: Path, make: Callable[[Issued, Issued], bytes]) -> None:
    pair = Pair(pki, root, intermediate)
    brought = make(pair.leaf, intermediate)
    key = brought if b"PRIVATE KEY" in brought else pair.key
    stored = forms.certificates_as_pem(brought, key=key)
    assert [each.der for each in read_chain(stored, where="w")] == [pair.leaf.certificate.der, intermediate.certificate.der]
    assert not pair.but(certificate=stored, key=read_private_key(key, where="w").pem).refused_by_envoy(tmp_path)
    assert forms.certificates_as_pem(stored, key=key) == stored and b"PRIVATE" not in stored


def test_one_certificate(root: Issued) -> None:
    for brought in (root.certificate.der, base64.b64encode(root.certificate.der)):
        assert forms.certificates_as_pem(brought) == root.pem


def test_keys_and_crls(pki: Pki, root: Issued) -> None:
    key = pki.key("P-256")
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        der = key.private_bytes(Encoding.DER, form, NoEncryption())
        for brought in (der, base64.b64encode(der), key_pem(key).decode().encode("utf-16")):
            assert read_private_key(forms.key_as_pem(brought), where="w").key.public_key() == key.public_key()
    encrypted = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    assert read_private_key(forms.key_as_pem(encrypted), passphrase="x", where="w").key.public_key() == key.public_key()
    crl = pki.crl(root)
    assert [each.der for each in read_crls(forms.crls_as_pem(crl.der), where="w")] == [crl.der]


def test_another_key_stays_to_be_refused(pki: Pki, root: Issued) -> None:
    combined = root.pem + key_pem(root.key)
    for key in (None, b"", key_pem(pki.key("P-256#other"))):
        with pytest.raises(Rejected, match="private key too"):
            read_chain(forms.certificates_as_pem(combined, key=key), where="w")


def test_nothing_is_changed_without_need(root: Issued, intermediate: Issued) -> None:
    for data in (
        root.pem,
        b"text\r\n" + root.pem.replace(b"\n", b"\r\n") + b"more",
        b"",
        b"\0\1",
        b"MI",
        b"\x30\x80",
        b"\xff\xfe\x00",
        root.pem[:-9],
    ):
        assert forms.certificates_as_pem(data) == forms.key_as_pem(data) == forms.crls_as_pem(data) == data


@pytest.mark.parametrize("label", ["PKCS7", "CERTIFICATE"])
def test_pkcs7_that_cannot_be_read_is_named_with_the_command(root: Issued, label: str) -> None:
    spoiled = bundle(root)[:60]
    for brought in (labelled(label, spoiled), spoiled):
        with pytest.raises(Rejected, match=r"PKCS#7.*openssl pkcs7"):
            read_chain(forms.certificates_as_pem(brought), where="w")


def test_spoiled_bundles_raise_nothing(root: Issued, intermediate: Issued) -> None:
    for data in (bundle(root, intermediate), endless(bundle(root, intermediate))):
        for at in range(0, 120):
            for byte in (0, 0x80, 0xFF):
                forms.certificates_as_pem(data[:at] + bytes([byte]) + data[at + 1 :])
            forms.certificates_as_pem(data[:at])
    forms.certificates_as_pem(b"\x30\x80" * 100_000 + bytes.fromhex("06092a864886f70d010702"))
