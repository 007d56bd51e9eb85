# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pair in a PKCS#12 bundle (.p12, .pfx)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..problems import Problem, Rejected
from .certificate import Certificate
from .chain import chain_pem, from_x509, parse_certificate
from .paths import build_path
from .pem import der_kind, identify, limit, rejected
from .private_key import PrivateKey, passphrase_bytes, private_key

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(frozen=True)
class Pkcs12:
    """What a PKCS#12 bundle holds, ready to be stored."""

    chain: tuple[Certificate, ...]
    """The key's certificate and its intermediates in the order in which a server sends them, without a self-signed root: peers have it."""
    key: PrivateKey
    ca: tuple[Certificate, ...]
    """The self-signed root that the chain ends in, if the bundle holds it. It issued *this* certificate: whether it is also the CA of the
    peers is for the user to say."""
    unrelated: tuple[Certificate, ...]
    """Certificates of the bundle that are no part of the chain; they are left out."""

    @property
    def chain_pem(self) -> bytes:
        return chain_pem(self.chain)

    @property
    def key_pem(self) -> bytes:
        return self.key.pem

    @property
    def ca_pem(self) -> bytes | None:
        return chain_pem(self.ca) or None


def read_pkcs12(data: bytes, *, passphrase: str | bytes | None = None, where: str) -> Pkcs12:
    """The pair in a PKCS#12 bundle (.p12, .pfx). No passphrase and an empty one are tried alike.

    Rejected with `not_pkcs12`, `wrong_passphrase`, `pkcs12_without_key`, `pkcs12_without_certificate`, `certificate_unreadable`,
    `key_unreadable`.
    """
    limit(data, where)
    if der_kind(data) != "PKCS#12":
        found = identify(data)
        remedy = "Give PEM through the PEM options" if b"-----BEGIN" in data else found.remedy
        raise Rejected(Problem("not_pkcs12", where, f"expected a PKCS#12 bundle, found {found.what}", remedy))
    key, leaf, others = _load_pkcs12(data, passphrase_bytes(passphrase), where)
    if key is None:
        raise rejected(
            "pkcs12_without_key",
            where,
            "expected a PKCS#12 bundle with a private key, found certificates only",
            "Export it again with the key, or give certificates and key in PEM",
        )
    if leaf is None:
        raise rejected(
            "pkcs12_without_certificate",
            where,
            f"expected a PKCS#12 bundle with the key's certificate, found the key and {len(others)} other certificates",
            "Export it again with the certificate that belongs to the key",
        )
    pair_key = private_key(key, None, where)
    certificates = [parse_certificate(from_x509(certificate).der) for certificate in (leaf, *others)]
    broken = [certificate for certificate in certificates if isinstance(certificate, str)]
    if broken:
        raise rejected(
            "certificate_unreadable",
            where,
            f"expected X.509 certificates in the bundle, found one that {broken[0]}",
            "Export the bundle again",
        )
    good = [certificate for certificate in certificates if isinstance(certificate, Certificate)]
    path, rest = build_path(good[0], good[1:])
    roots = tuple(certificate for certificate in path[1:] if certificate.is_self_signed)
    return Pkcs12(tuple(certificate for certificate in path if certificate not in roots), pair_key, roots, rest)


def _load_pkcs12(data: bytes, passphrase: bytes | None, where: str) -> tuple[Any, x509.Certificate | None, list[x509.Certificate]]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

    code, what = "wrong_passphrase", "one that does not open it (or the bundle is damaged, or uses an outdated cipher such as RC2)"
    attempts: tuple[bytes | None, ...] = (passphrase,)
    if not passphrase:
        attempts, what = (None, b""), "none, and the bundle does not open without one"
    elif b"\0" in passphrase:
        attempts, what = (), "one with a null byte"  # at which the library would abort
    for attempt in attempts:
        try:
            return load_key_and_certificates(data, attempt)
        except UnsupportedAlgorithm:
            code, what = "not_pkcs12", "a cipher that cannot be read; export it again with AES"
            break
        except Exception:  # noqa: S112  ValueError for wrong passphrases and damage alike
            continue
    if code == "not_pkcs12":
        raise rejected(
            code,
            where,
            "expected a PKCS#12 bundle encrypted with AES or Triple DES, found a cipher that cannot be read",
            "Export it again: openssl pkcs12 -export",
        )
    raise rejected(
        code,
        where,
        f"expected the passphrase of the PKCS#12 bundle, found {what}",
        "Give the passphrase with which it was exported; should it be right, export the bundle again with openssl 3",
    )
