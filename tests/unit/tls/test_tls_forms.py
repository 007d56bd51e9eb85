# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users bring becomes PEM that Envoy loads, or stays as it is for the readers to name."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.plugins.module_utils.tls import forms
from ansible_collections.meshops.istio.plugins.module_utils.tls.lenient import element, elements
from ansible_collections.meshops.istio.plugins.module_utils.tls.material import read_chain, read_crls, read_private_key
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, pkcs7
from test_tls_envoy import Pair, padded, trusted
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
    "OpenSSL's trust settings": lambda leaf, ca: trusted(leaf.pem) + trusted(ca.pem, "-addtrust", "serverAuth"),
    "bytes behind each": lambda leaf, ca: padded(leaf) + padded(ca),
    "both in one block": lambda leaf, ca: padded(leaf, ca.certificate.der),
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


def test_a_key_in_place_of_the_certificates_is_named(pki: Pki) -> None:
    key = key_pem(pki.key("P-256"))
    with pytest.raises(Rejected, match="found a private key alone"):
        read_chain(forms.certificates_as_pem(key, key=key), where="w")


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


ODD_FILES: dict[str, tuple[Callable[[str], bytes], str]] = {
    "a variable of a CI system": (lambda text: text.replace("\n", "\\n").encode(), r"line 1 holds the two characters \n"),
    "a variable that a shell read": (
        lambda text: text.replace("\n", " ").encode(),
        "line 1 holds a whole block: its line ends are missing",
    ),
    "all in one line": (lambda text: text.replace("\n", "").encode(), "line 1 holds a whole block"),
    "END and BEGIN in one line": (lambda text: (text.rstrip() + text).encode(), "holds two boundaries"),
    "a zero-width space": (lambda text: f"\u200b{text}".encode(), "invisible characters stand before the PEM boundary in line 1"),
    "a document": (lambda text: text.replace("-----", "\u2013" * 5).encode(), "hyphens became dashes"),
    "a document of Windows": (lambda text: text.replace("-----", "\u2013" * 5).encode("cp1252"), "hyphens became dashes"),
    "a login page": (lambda __: b"<!DOCTYPE html>\n<title>Sign in</title>", "a web page (HTML)"),
    "Git LFS": (lambda __: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "SOPS": (lambda __: b'{"data": "ENC[AES256_GCM,data:x]", "sops": {"version": "3.9"}}', "encrypted by SOPS"),
    "age": (lambda text: text.replace("CERTIFICATE", "AGE ENCRYPTED FILE").encode(), "encrypted by age"),
    "PGP": (lambda text: text.replace("CERTIFICATE", "PGP MESSAGE").encode(), "encrypted by PGP"),
    "PuTTY": (lambda __: b"PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n", "puttygen"),
    "a Secret": (lambda __: b"apiVersion: v1\nkind: Secret\ndata:\n  tls.crt: LS0t\n", "the manifest of a Secret"),
    "a JSON document": (lambda text: json.dumps({"certificate": text}).encode(), r"line 1 holds the two characters \n"),
    "a text in quotes": (lambda text: json.dumps(text).encode(), r"line 1 holds the two characters \n"),
    "Base64 twice": (lambda text: base64.b64encode(base64.b64encode(text.encode())), "Base64 twice"),
    "gzip": (lambda text: gzip.compress(text.encode()), "compressed (gzip)"),
    "ZIP": (lambda __: b"PK\x03\x04\x14\0\0\0", "a ZIP archive"),
    "a JSON Web Key": (lambda __: b'{"kty": "EC", "crv": "P-256", "x": "a", "y": "b", "d": "c"}', "JSON Web Key"),
    "a public key of SSH": (lambda __: b"ssh-rsa AAAAB3Nza me@example\n", "a public key of SSH"),
}


@pytest.mark.parametrize(("make", "says"), ODD_FILES.values(), ids=list(ODD_FILES))
def test_what_came_in_place_of_a_file_is_called_by_its_name(root: Issued, make: Callable[[str], bytes], says: str) -> None:
    brought = make(root.pem.decode())
    for read in (
        lambda: read_chain(forms.certificates_as_pem(brought), where="w"),
        lambda: read_private_key(forms.key_as_pem(brought), where="w"),
    ):
        with pytest.raises(Rejected) as caught:
            read()
        problem = caught.value.problems[0]
        assert problem.code == "not_pem" and says in f"{problem.message}. {problem.remedy}"


def test_one_key_in_two_forms_is_one_key(pki: Pki) -> None:
    key, other = pki.key("P-256#one"), pki.key("P-256#other")
    forms_of = [key_pem(key, form) for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)]
    for both in (forms_of, forms_of[::-1]):
        assert read_private_key(b"".join(both), where="w").pem == both[0]
    for second in (key_pem(other), key_pem(key, passphrase=b"c4n4ry")):
        with pytest.raises(Rejected) as caught:
            read_private_key(forms_of[0] + second, where="w")
        assert [problem.code for problem in caught.value.problems] == ["several_private_keys"]


def test_version_1_with_extensions_is_refused_as_envoy_refuses_it(pki: Pki, root: Issued, intermediate: Issued, tmp_path: Path) -> None:
    pair = Pair(pki, root, intermediate)
    [(__, whole)] = elements(pair.leaf.certificate.der)
    (__tbs, tbs), *rest = elements(whole)
    version, *fields = elements(tbs)
    assert version == (0xA0, b"\x02\x01\x02")
    for start in ([], [(0xA0, b"\x02\x01\x00")]):
        der = element(0x30, b"".join(element(*each) for each in ((0x30, b"".join(element(*each) for each in (*start, *fields))), *rest)))
        spoiled = labelled("CERTIFICATE", der)
        assert pair.but(certificate=spoiled).refused_by_envoy(tmp_path)
        with pytest.raises(Rejected, match=r"version 1|not a valid certificate"):
            read_chain(spoiled, where="w")
