# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys, certificates and tokens of the sandbox's own Kubernetes: made anew at every start, readable by their owner alone."""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .layout import API, RUN

DIRECTORY = RUN / "pki"
CA = DIRECTORY / "ca.crt"
SERVER_CERTIFICATE = DIRECTORY / "apiserver.crt"
SERVER_KEY = DIRECTORY / "apiserver.key"
ACCOUNTS_KEY = DIRECTORY / "service-accounts.key"
TOKENS = DIRECTORY / "tokens.csv"
USERS = {"admin": "system:masters", "istiod": "system:masters", "system:kube-controller-manager": ""}
"""Who the audit log names, and the group; each with a token of its own."""
VALIDITY = datetime.timedelta(days=365)


def write_private(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(content)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.TraditionalOpenSSL  # the API server takes no PKCS#8 as the service accounts' key
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate | None, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def make() -> dict[str, str]:
    """Writes everything into `DIRECTORY`; returns each user's token."""
    ca_key, server_key, accounts_key = (ec.generate_private_key(ec.SECP256R1()) for __ in range(3))
    ca = (
        _certificate("meshops.istio sandbox", ca_key, None, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName(name) for name in ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")]
    server = (
        _certificate("kube-apiserver", server_key, ca, ca_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([*names, x509.IPAddress(ipaddress.ip_address(API[0]))]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    tokens = {user: secrets.token_urlsafe(32) for user in USERS}
    lines = [f"{tokens[user]},{user},{user}" + (f',"{group}"' if group else "") for user, group in USERS.items()]
    write_private(CA, ca.public_bytes(serialization.Encoding.PEM))
    write_private(SERVER_CERTIFICATE, server.public_bytes(serialization.Encoding.PEM))
    write_private(SERVER_KEY, _pem(server_key))
    write_private(ACCOUNTS_KEY, _pem(accounts_key))
    write_private(TOKENS, "\n".join([*lines, ""]).encode())
    return tokens
