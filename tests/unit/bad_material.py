# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates, keys and bundles, good and bad, by name: what the table of bad input and the fuzz test are made of."""

from __future__ import annotations

import base64
import functools

from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import Pki, key_pem
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import PublicFormat, pkcs12
from cryptography.x509.oid import NameOID

PASSPHRASE = "the right passphrase"


@functools.cache
def material() -> dict[str, bytes]:
    """Name -> bytes. All of it is made for `NOW` of `tls_pki`."""
    pki = Pki()
    ca = pki.issue("Some CA", ca=True)
    other_ca = pki.issue("Other CA", ca=True)
    middle = pki.issue("Some intermediate", ca, ca=True)
    leaf = pki.issue("a.example.com", ca)
    deep = pki.issue("deep.example.com", middle)
    responder = pki.issue("Some responder", ca, purposes=("OCSPSigning",), dns=())
    der = serialization.Encoding.DER
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.example.com")]))
    right = serialization.BestAvailableEncryption(PASSPHRASE.encode())
    key = key_pem(leaf.key)
    cut = leaf.pem.splitlines(keepends=True)
    made = {
        "certificate": leaf.pem,
        "key": key,
        "ca": ca.pem,
        "other ca": other_ca.pem,
        "other key": key_pem(pki.key("P-256#other")),
        "encrypted key": key_pem(leaf.key, passphrase=PASSPHRASE.encode()),
        "chain": deep.pem + middle.pem,
        "chain key": key_pem(deep.key),
        "chain the wrong way round": middle.pem + deep.pem,
        "chain with a stranger": leaf.pem + other_ca.pem,
        "chain with a key": leaf.pem + key,
        "expired": pki.issue("a.example.com", ca, days=(-90, -1), key="P-256#a.example.com").pem,
        "future": pki.issue("a.example.com", ca, days=(3, 90), key="P-256#a.example.com").pem,
        "for clients": pki.issue("a.example.com", ca, purposes=("clientAuth",), key="P-256#a.example.com").pem,
        "without a name": pki.issue("a.example.com", ca, dns=(), key="P-256#a.example.com").pem,
        "wildcard": pki.issue("*.example.com", ca, key="P-256#a.example.com").pem,
        "P-224": pki.issue("a.example.com", ca, key="P-224").pem,
        "P-224 key": key_pem(pki.key("P-224")),
        "RSA 1024": pki.issue("a.example.com", ca, key="RSA 1024").pem,
        "RSA 1024 key": key_pem(pki.key("RSA 1024")),
        "crl": pki.crl(ca).pem,
        "expired crl": pki.crl(ca, days=(-9, -2)).pem,
        "other ca's crl": pki.crl(other_ca).pem,
        "crl that revokes": pki.crl(ca, revoked=(leaf,)).pem,
        "staple": pki.staple(leaf, ca),
        "delegated staple": pki.staple(leaf, ca, responder=responder),
        "expired staple": pki.staple(leaf, ca, days=(-9, -2)),
        "other's staple": pki.staple(deep, middle),
        "certificate der": leaf.certificate.der,
        "key der": leaf.key.private_bytes(der, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        "crl der": pki.crl(ca).der,
        "public key": leaf.key.public_key().public_bytes(serialization.Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "request": request.sign(leaf.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        "bundle": pkcs12.serialize_key_and_certificates(b"a", leaf.key, leaf.certificate.parsed, [ca.certificate.parsed], right),
        "bundle without key": pkcs12.serialize_key_and_certificates(b"a", None, leaf.certificate.parsed, None, right),
        "truncated": b"".join(cut[: len(cut) // 2]),
        "damaged": b"".join([*cut[:2], b"AAAA" + cut[2][4:], *cut[3:]]),
        "damaged base64": b"".join([*cut[:2], b"!!!!" + cut[2][4:], *cut[3:]]),
        "nothing": b"",
        "text": b"hello\n",
        "binary": bytes(range(256)),
        "html": b"<html><body>404</body></html>",
        "utf-16": leaf.pem.decode().encode("utf-16"),
        "template": b"{{ lookup('file', 'a.crt') }}",
        "huge": leaf.pem * 3000,
    }
    return {**made, **{f"{name} in base64": base64.b64encode(data) for name, data in made.items() if len(data) < 10000}}
