# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates from files: chains and bundles of CAs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from ..problems import Problem, Rejected
from .certificate import Certificate
from .lenient import strict_copy
from .pem import (
    CERTIFICATE_LABELS,
    CRL_LABELS,
    PRINT_CERTIFICATES,
    PRIVATE_KEY_LABELS,
    TRUSTED_LABEL,
    Block,
    is_pkcs7,
    limit,
    reject_defects,
    rejected,
    scan,
)
from .trusted import certificate_and_rest, is_distrusted, trust_settings

if TYPE_CHECKING:
    from cryptography import x509


def chain_pem(chain: Iterable[Certificate]) -> bytes:
    """The certificates in PEM, in the given order and nothing else: always of a form that Envoy reads."""
    return b"".join(certificate.pem for certificate in chain)


def read_chain(data: bytes, *, where: str) -> tuple[Certificate, ...]:
    """The certificates in a PEM file, a chain with its leaf first, in the file's order; at least one.

    Text around the blocks (`openssl x509 -text`), CRLF and blocks that Envoy skips (DH PARAMETERS) are fine. Rejected with `not_pem`,
    `private_key_in_certificate` (it would be stored, and shown, as if it were public), `crl_in_certificate` (Envoy would apply a CRL in a
    CA file, while this reader would drop it), `certificate_unreadable`.
    """
    return _read(data, where, _in_chain)


def read_cas(data: bytes, *, where: str) -> tuple[Certificate, ...]:
    """The certificates in a bundle of CAs, as `read_chain`, and under `TRUSTED CERTIFICATE` in any place, as in RHEL's ca-bundle.trust.crt."""
    return _read(data, where, _in_bundle)


def _read(data: bytes, where: str, unread: Callable[[Block, bool], tuple[str, str] | None]) -> tuple[Certificate, ...]:
    limit(data, where)
    blocks, defects = scan(data)
    if any(block.label in PRIVATE_KEY_LABELS for block in blocks):
        line = next(block.line for block in blocks if block.label in PRIVATE_KEY_LABELS)
        if all(block.label in PRIVATE_KEY_LABELS for block in blocks) and not defects:
            message, remedy = f"expected PEM certificates, found a private key alone (line {line})", "Look whether the files were mixed up"
            raise rejected("private_key_in_certificate", where, message, remedy)
        raise rejected(
            "private_key_in_certificate",
            where,
            f"expected certificates only, found a private key too (line {line}): it would be stored where certificates belong",
            "Give the key through its own option, and the certificates in a file without it",
        )
    if any(block.label in CRL_LABELS for block in blocks):
        raise Rejected(
            Problem("crl_in_certificate", where, "expected certificates only, found a CRL too", "Give the CRL through its own option")
        )
    labels = CERTIFICATE_LABELS | {TRUSTED_LABEL}
    reject_defects(data, blocks, defects, "PEM certificates", labels, where)
    problems: list[Problem] = []
    certificates: list[Certificate] = []
    for block in (block for block in blocks if block.label in labels):
        der = block.der()
        certificate = parse_certificate(der and certificate_and_rest(der)[0])
        reason = unread(block, not certificates and not problems)
        if is_pkcs7(der):
            problems.append(_unreadable(block, where, "is a PKCS#7 bundle under another label", f"Convert it: {PRINT_CERTIFICATES}"))
        elif isinstance(certificate, str):
            problems.append(_unreadable(block, where, certificate, "Fetch the certificate again from where it was issued"))
        elif reason:
            problems.append(_unreadable(block, where, *reason))
        else:
            certificates.append(certificate)
    if problems:
        raise Rejected(problems)
    return tuple(certificates)


def _in_chain(block: Block, is_first: bool) -> tuple[str, str] | None:
    """Why Envoy does not serve a block of a chain, and the remedy: it reads OpenSSL's trust settings behind the first certificate alone."""
    rest = certificate_and_rest(block.der() or b"")[1]
    if block.label == TRUSTED_LABEL and not is_first:
        return "is a TRUSTED CERTIFICATE of OpenSSL behind the first one, which Envoy does not serve", _PLAIN
    if is_first and rest and trust_settings(rest) is None:
        return "has other bytes behind its end", _PLAIN
    return None


def _in_bundle(block: Block, __: bool) -> tuple[str, str] | None:
    """Why Envoy does not trust a block of a bundle, and the remedy."""
    rest = certificate_and_rest(block.der() or b"")[1]
    if block.label != TRUSTED_LABEL or not rest:  # behind other labels they are skipped
        return None
    settings = trust_settings(rest)
    if settings is None:
        return "has other bytes behind its end", _PLAIN
    if is_distrusted(settings):
        return "is a TRUSTED CERTIFICATE of OpenSSL whose settings reject it for clients or servers", f"Remove it, or: {_PLAIN}"
    return None


_PLAIN = "Write it as a plain certificate: openssl x509 -clrtrust -clrreject -in FILE -out FILE.pem"


def _unreadable(block: Block, where: str, what: str, remedy: str) -> Problem:
    return Problem(
        "certificate_unreadable", where, f"expected an X.509 certificate, block {block.number} (line {block.line}) {what}", remedy
    )


@lru_cache(maxsize=4096)  # what is to be written and what is there are mostly the same, and so are intermediates
def parse_certificate(der: bytes | None) -> Certificate | str:
    """The certificate, or what is wrong with it. Everything that could fail later is looked at here, so that the properties never raise."""
    if der is None:
        return "is not valid Base64"
    certificate = _looked_at(der, der)
    if isinstance(certificate, Certificate):
        return certificate
    try:
        return _looked_at(der, strict_copy(der))
    except (ValueError, IndexError):  # not even its outlines are a certificate's
        return certificate


def _looked_at(der: bytes, strict: bytes) -> Certificate | str:
    """The certificate with everything computed, or what cannot be read; `strict` is the form that the library is given."""
    from cryptography import x509

    try:
        with warnings.catch_warnings():  # a serial number that is not positive is told by `checks`
            warnings.simplefilter("ignore")
            certificate = from_x509(x509.load_der_x509_certificate(strict), der)
            __: object = (certificate.serial_number, certificate.version, certificate.not_before, certificate.not_after)
    except Exception:  # ValueError and others, not documented
        return "is not a valid certificate"
    try:
        __ = (certificate.subject, certificate.issuer, certificate.common_name)
    except Exception:
        return "has a subject or issuer that cannot be read"
    try:
        __ = (certificate.names, certificate.key_usage, certificate.extended_key_usage, certificate.is_ca, certificate.must_staple)
        if certificate.version == 1 and len(certificate.parsed.extensions):
            return "has extensions, though it is of X.509 version 1, which has none: Envoy does not load it"
    except Exception:  # ValueError, x509.DuplicateExtension
        return "has an extension that cannot be read, or one twice"
    return certificate


def from_x509(certificate: x509.Certificate, der: bytes | None = None) -> Certificate:
    """A certificate that somebody else parsed already, for example a peer's."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return Certificate(der if der is not None else certificate.public_bytes(Encoding.DER), certificate)


def from_der(der: bytes, *, where: str) -> Certificate:
    """One certificate in DER, as a handshake gives it. Rejected with `certificate_unreadable`."""
    certificate = parse_certificate(der)
    if isinstance(certificate, str):
        raise rejected(
            "certificate_unreadable",
            where,
            f"expected an X.509 certificate in DER, this one {certificate}",
            "Issue it again with other software",
        )
    return certificate
