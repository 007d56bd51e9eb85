# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private keys of every kind in every form are recognised, and nothing else of a PKI is."""

from __future__ import annotations

import base64
import datetime
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.tls.secrets import holds_private_key
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM
PLAIN, LOCKED = serialization.NoEncryption(), serialization.BestAvailableEncryption(b"passphrase")
PRIVATE = serialization.PrivateFormat
RSA: Any = rsa.generate_private_key(65537, 2048)
EC: Any = ec.generate_private_key(ec.SECP256R1())
ED: Any = ed25519.Ed25519PrivateKey.generate()
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a.example.com")])
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CERTIFICATE = x509.CertificateBuilder(NAME, NAME, RSA.public_key(), 1, NOW, NOW + datetime.timedelta(days=1)).sign(RSA, hashes.SHA256())
KEYS = {
    "pkcs1": (RSA, PRIVATE.TraditionalOpenSSL, PLAIN),
    "pkcs8": (RSA, PRIVATE.PKCS8, PLAIN),
    "pkcs8 ed25519": (ED, PRIVATE.PKCS8, PLAIN),
    "pkcs8 encrypted": (RSA, PRIVATE.PKCS8, LOCKED),
    "sec1": (EC, PRIVATE.TraditionalOpenSSL, PLAIN),
}


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def body(pem: str) -> str:
    return "\n".join(line for line in pem.splitlines() if "-----" not in line)


FORMS: dict[str, Callable[[bytes, bytes], str]] = {
    "PEM": lambda pem, der: pem.decode(),
    "PEM in one line": lambda pem, der: pem.decode().replace("\n", "\\n"),
    "PEM after a certificate": lambda pem, der: CERTIFICATE.public_bytes(PEM).decode() + pem.decode(),
    "base64 of PEM": lambda pem, der: text(pem),
    "base64 of PEM after a certificate": lambda pem, der: text(CERTIFICATE.public_bytes(PEM) + pem),
    "base64 of PEM in lines": lambda pem, der: base64.encodebytes(pem).decode(),
    "base64 of DER in short lines": lambda pem, der: "\n".join(text(der)[at : at + 20] for at in range(0, len(text(der)), 20)),
    "base64 of DER": lambda pem, der: text(der),
    "base64 without padding, for URLs": lambda pem, der: base64.urlsafe_b64encode(der).decode().rstrip("="),
    "body": lambda pem, der: body(pem.decode()),
    "base64 of PEM, twice": lambda pem, der: text(text(pem).encode()),
    "base64 of DER, twice": lambda pem, der: text(text(der).encode()),
    "JSON of a Secret": lambda pem, der: json.dumps({"data": {"tls.crt": text(CERTIFICATE.public_bytes(PEM)), "tls.key": text(pem)}}),
    "a link": lambda pem, der: f"data:application/octet-stream;base64,{text(der)}",
    "the file's bytes": lambda pem, der: der.decode("utf-8", "surrogateescape"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KEYS)
def test_a_key_is_recognised(kind: str, form: str) -> None:
    key, layout, encryption = KEYS[kind]
    given = FORMS[form](key.private_bytes(PEM, layout, encryption), key.private_bytes(DER, layout, encryption))
    assert holds_private_key(given) and (form == "the file's bytes" or holds_private_key(f"  {given}\n"))


def test_what_openssl_makes_is_recognised(tmp_path: Path) -> None:
    """PKCS#12, and the older kinds of encryption, which Python's library does not write."""
    key, cert, made = tmp_path / "key", tmp_path / "cert", tmp_path / "made"
    key.write_bytes(RSA.private_bytes(PEM, PRIVATE.PKCS8, PLAIN))
    cert.write_bytes(CERTIFICATE.public_bytes(PEM))
    for command in (
        f"pkcs12 -export -in {cert} -inkey {key} -out {made} -passout pass:x",
        f"pkcs8 -topk8 -in {key} -outform DER -out {made} -v1 PBE-SHA1-3DES -passout pass:x",
        f"pkcs8 -topk8 -in {key} -outform DER -out {made} -scrypt -passout pass:x",
    ):
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True)
        assert holds_private_key(text(made.read_bytes())), command


REVOKED = x509.CertificateRevocationListBuilder(NAME, NOW, NOW).sign(RSA, hashes.SHA256())
REQUEST = x509.CertificateSigningRequestBuilder(NAME).sign(RSA, hashes.SHA256())
SILENT = {
    "certificate": CERTIFICATE.public_bytes(PEM).decode(),
    "certificate in base64": text(CERTIFICATE.public_bytes(PEM)),
    "certificate's body": text(CERTIFICATE.public_bytes(DER)),
    "list of revoked": text(REVOKED.public_bytes(DER)),
    "request": text(REQUEST.public_bytes(DER)),
    "public key": text(RSA.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)),
    "public key in PKCS#1": text(RSA.public_key().public_bytes(DER, serialization.PublicFormat.PKCS1)),
    "public key in PEM": RSA.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode(),
    "path": "/etc/istio/ingressgateway-certs/a-directory-with-a-long-name/tls.key",
    "fingerprint": ":".join(["ab"] * 32),
    "words": "MII is how many of them begin, and this is a sentence of more than 48 characters",
    "digest": "MII0" * 16,
    "nothing": "",
    "certificate in base64, twice": text(text(CERTIFICATE.public_bytes(PEM)).encode()),
    "JSON of certificates": json.dumps(
        {"data": {"ca.crt": text(CERTIFICATE.public_bytes(PEM)), "tls.crt": text(CERTIFICATE.public_bytes(DER))}}
    ),
    "no text": "\ud800" + "0" * 60,
}


@pytest.mark.parametrize("kind", SILENT)
def test_nothing_else_is(kind: str) -> None:
    assert not holds_private_key(SILENT[kind])


def test_certificates_and_keys_of_pkcs12_in_python() -> None:
    assert holds_private_key(text(pkcs12.serialize_key_and_certificates(b"n", RSA, CERTIFICATE, None, LOCKED)))
