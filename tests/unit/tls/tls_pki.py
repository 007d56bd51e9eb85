# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test material, made once a session. Keys are shared, since RSA keys take long to make; dates are relative to a fixed NOW."""

from __future__ import annotations

import ipaddress
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.tls.material import Certificate, Crl, from_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2027, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)

_PURPOSES = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "codeSigning": ExtendedKeyUsageOID.CODE_SIGNING,
    "OCSPSigning": ExtendedKeyUsageOID.OCSP_SIGNING,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
}
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_CURVES = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1, "P-224": ec.SECP224R1, "secp256k1": ec.SECP256K1}


@dataclass(frozen=True)
class Issued:
    certificate: Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        return self.certificate.pem


class Pki:
    """Issues what a test asks for; the same key name is the same key."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now
        self._keys: dict[str, Any] = {}

    def key(self, name: str) -> Any:
        """`P-256`, `RSA 2048`, `Ed25519`, ...; with `#text` behind it, another one of the kind."""
        if name not in self._keys:
            kind = name.partition("#")[0]
            if kind.startswith("RSA e"):  # an exponent of so many bits, which the library does not make
                self._keys[name] = _with_exponent((1 << int(kind[5:]) - 1) + 25)
            elif kind.startswith("RSA"):
                self._keys[name] = rsa.generate_private_key(65537, int(kind[4:]))
            elif kind == "Ed25519":
                self._keys[name] = ed25519.Ed25519PrivateKey.generate()
            else:
                self._keys[name] = ec.generate_private_key(_CURVES[kind]())
        return self._keys[name]

    def issue(
        self,
        name: str,
        issuer: Issued | None = None,
        *,
        key: str | None = None,
        signer: str | None = None,
        ca: bool | None = False,
        path_length: int | None = None,
        dns: tuple[str, ...] | None = None,
        ip: tuple[str, ...] = (),
        uris: tuple[str, ...] = (),
        days: tuple[float, float] = (-10, 90),
        usage: tuple[str, ...] | None = None,
        purposes: tuple[str, ...] | None = None,
        extensions: tuple[x509.ExtensionType, ...] = (),
        critical: tuple[x509.ExtensionType, ...] = (),
        serial: int | None = None,
        subject: x509.Name | None = None,
        issuer_name: x509.Name | None = None,
        **signing_options: Any,
    ) -> Issued:
        """`ca=None` leaves basicConstraints out; `dns=None` is the name itself for a leaf; `signer` signs in the issuer's place;
        `issuer_name` stands for its name; `digest` and `rsa_padding` are the signature's."""
        own = self.key(key or f"P-256#{name}")
        signing = self.key(signer) if signer else issuer.key if issuer else own
        subject = subject if subject is not None else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer_name or (issuer.certificate.subject_name if issuer else subject))
            .public_key(own.public_key())
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(self.now + timedelta(days=days[0]))
            .not_valid_after(self.now + timedelta(days=days[1]))
        )
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
        names: list[x509.GeneralName] = [x509.DNSName(each) for each in ((name,) if dns is None and not ca else dns or ())]
        names += [x509.IPAddress(ipaddress.ip_address(each)) for each in ip]
        names += [x509.UniformResourceIdentifier(each) for each in uris]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if usage is not None:
            builder = builder.add_extension(x509.KeyUsage(**{each: each in usage for each in _USAGES}), critical=True)
        if purposes is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([_PURPOSES[each] for each in purposes]), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        for extension in critical:
            builder = builder.add_extension(extension, critical=True)
        digest = signing_options.pop("digest", None) or _hash(signing)
        return Issued(from_x509(builder.sign(signing, digest, **signing_options)), own)

    def crl(
        self,
        issuer: Issued,
        *,
        revoked: tuple[Issued, ...] = (),
        days: tuple[float, float] = (-1, 7),
        signer: str | None = None,
        extensions: tuple[x509.ExtensionType, ...] = (),
    ) -> Crl:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.certificate.subject_name)
            .last_update(self.now + timedelta(days=days[0]))
            .next_update(self.now + timedelta(days=days[1]))
        )
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number).revocation_date(self.now - DAY).build()
            builder = builder.add_revoked_certificate(entry)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        signing = self.key(signer) if signer else issuer.key
        parsed = builder.sign(signing, _hash(signing))
        return Crl(parsed.public_bytes(Encoding.DER), parsed)

    def staple(
        self,
        leaf: Issued,
        issuer: Issued,
        *,
        days: tuple[float, float | None] = (-1, 7),
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        responder: Issued | None = None,
    ) -> bytes:
        revoked = status is ocsp.OCSPCertStatus.REVOKED
        by = responder or issuer
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                leaf.certificate.parsed,
                issuer.certificate.parsed,
                hashes.SHA1(),  # noqa: S303  as responders do
                status,
                self.now + timedelta(days=days[0]),
                self.now + timedelta(days=days[1]) if days[1] is not None else None,
                self.now - DAY if revoked else None,
                None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.NAME, by.certificate.parsed)
        )
        if responder:
            builder = builder.certificates([responder.certificate.parsed])
        return builder.sign(by.key, hashes.SHA256()).public_bytes(Encoding.DER)


def _with_exponent(exponent: int) -> Any:
    options = ["-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", f"rsa_keygen_pubexp:{exponent}"]
    made = subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", *options], capture_output=True, check=True).stdout
    return load_pem_private_key(made, None, unsafe_skip_rsa_key_validation=True)


def _hash(key: Any) -> Any:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def key_pem(key: Any, form: PrivateFormat = PrivateFormat.PKCS8, passphrase: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, encryption)
