# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificate revocation lists and OCSP staples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from ..problems import Problem, Rejected
from .certificate import Certificate, fingerprint
from .fields import crl_fields
from .lenient import strict_crl
from .paths import issuer_of, subject_of, verifies
from .pem import CRL_LABELS, PRIVATE_KEY_LABELS, identify, limit, pem_of, reject_defects, rejected, scan

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.x509 import ocsp


@dataclass(frozen=True)
class Crl:
    """One certificate revocation list."""

    der: bytes = field(repr=False)
    parsed: x509.CertificateRevocationList = field(repr=False, compare=False)
    """For facts; a copy in stricter DER where the library does not read the original (see `lenient`)."""

    @cached_property
    def pem(self) -> bytes:
        return pem_of("X509 CRL", self.der)

    @cached_property
    def issuer_name(self) -> x509.Name:
        return self.parsed.issuer

    @cached_property
    def issuer(self) -> str:
        """RFC 4514."""
        return self.issuer_name.rfc4514_string()

    @cached_property
    def last_update(self) -> datetime:
        return self.parsed.last_update_utc

    @cached_property
    def next_update(self) -> datetime | None:
        return self.parsed.next_update_utc

    @cached_property
    def count(self) -> int:
        """How many certificates it revokes."""
        return len(self.parsed)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256."""
        return fingerprint(self.der)

    @cached_property
    def is_delta(self) -> bool:
        from cryptography import x509

        return any(isinstance(extension.value, x509.DeltaCRLIndicator) for extension in self.parsed.extensions)

    def is_of(self, ca: Certificate) -> bool:
        """Whether it names the CA as its issuer, as RFC 5280, 7.1 compares names; says nothing about the signature."""
        return crl_fields(self.der).issuer == subject_of(ca)

    def is_of_the_same_as(self, other: Crl) -> bool:
        """Whether both name the same issuer."""
        return crl_fields(self.der).issuer == crl_fields(other.der).issuer

    def revokes(self, certificate: Certificate) -> bool:
        """Whether it lists the certificate, which must be of the same issuer."""
        if crl_fields(self.der).issuer != issuer_of(certificate):
            return False
        if certificate.serial_number < 0:  # which the library does not look up
            return any(entry.serial_number == certificate.serial_number for entry in self.parsed)
        return self.parsed.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None

    def signed_by(self, issuer: Certificate) -> bool | None:
        """Names and signature; None where the names match and the signature's algorithm cannot be verified."""
        if not self.is_of(issuer):
            return False
        if issuer.public_key is None:
            return None
        parts = crl_fields(self.der)
        return verifies(self.parsed, parts.tbs, parts.signature, issuer.public_key)


def crl_pem(crls: Iterable[Crl]) -> bytes:
    """The CRLs in PEM and nothing else."""
    return b"".join(crl.pem for crl in crls)


def read_crls(data: bytes, *, where: str) -> tuple[Crl, ...]:
    """The CRLs in a PEM file; at least one. Envoy takes a file without any (DER, for example) silently and then refuses every certificate.

    Rejected with `not_pem`, `private_key_in_certificate`, `crl_unreadable`.
    """
    limit(data, where)
    blocks, defects = scan(data)
    if any(block.label in PRIVATE_KEY_LABELS for block in blocks):
        raise rejected(
            "private_key_in_certificate",
            where,
            "expected CRLs only, found a private key too",
            "Give the key through its own option, and the CRLs in a file without it",
        )
    reject_defects(data, blocks, defects, "CRLs in PEM (X509 CRL)", CRL_LABELS, where)
    crls, problems = [], []
    for block in blocks:
        if block.label not in CRL_LABELS:
            continue
        crl = parse_crl(block.der() or b"")
        if crl is not None:
            crls.append(crl)
        else:
            problems.append(
                Problem(
                    "crl_unreadable",
                    where,
                    f"expected a CRL in block {block.number} (line {block.line}), found content that is none",
                    "Fetch the CRL again from the CA, and convert it: openssl crl -inform der",
                )
            )
    if problems:
        raise Rejected(problems)
    return tuple(crls)


def parse_crl(der: bytes) -> Crl | None:
    """The CRL, or None where it is none. Everything that could fail later is looked at here."""
    found = _looked_at(der, der)
    if found is not None:
        return found
    try:
        return _looked_at(der, strict_crl(der))
    except (ValueError, IndexError):  # not even its outlines are a CRL's
        return None


def _looked_at(der: bytes, strict: bytes) -> Crl | None:
    from cryptography import x509

    try:
        crl = Crl(der, x509.load_der_x509_crl(strict))
        __ = (crl.issuer, crl.last_update, crl.next_update, crl.count, crl.is_delta)
    except Exception:  # ValueError and others, not documented
        return None
    return crl


@dataclass(frozen=True)
class OcspStaple:
    """One successful OCSP response for one certificate."""

    der: bytes = field(repr=False)
    parsed: ocsp.OCSPResponse = field(repr=False, compare=False)

    @property
    def serial_number(self) -> int:
        return self.parsed.serial_number

    @property
    def this_update(self) -> datetime:
        return _ocsp_time(self.parsed, "this_update") or datetime.max

    @property
    def next_update(self) -> datetime | None:
        return _ocsp_time(self.parsed, "next_update")

    @property
    def status(self) -> str:
        """`good`, `revoked` or `unknown`."""
        return self.parsed.certificate_status.name.lower()


def _ocsp_time(response: ocsp.OCSPResponse, name: str) -> datetime | None:
    """An aware time; the aware properties came with cryptography 43."""
    if hasattr(response, f"{name}_utc"):
        value: datetime | None = getattr(response, f"{name}_utc")
        return value
    naive: datetime | None = getattr(response, name)
    return naive.replace(tzinfo=UTC) if naive is not None else None


def read_ocsp_staple(data: bytes, *, where: str) -> OcspStaple:
    """An OCSP response in DER, as Envoy takes it. Rejected with `not_ocsp` or `ocsp_unsuccessful`."""
    from cryptography.x509 import ocsp

    limit(data, where)
    try:
        response = ocsp.load_der_ocsp_response(data)
    except Exception:
        found = identify(data)
        remedy = "Give the response itself, in DER: openssl ocsp -respout FILE"
        raise rejected("not_ocsp", where, f"expected an OCSP response in DER, found {found.what}", remedy) from None
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        status = response.response_status.name.lower()
        raise rejected(
            "ocsp_unsuccessful",
            where,
            f"expected a successful OCSP response, found the responder's answer {status}",
            "Ask the responder again; Envoy refuses the credential with this one",
        )
    staple = OcspStaple(data, response)
    try:
        __ = (staple.serial_number, staple.this_update, staple.next_update, staple.status)
    except Exception:  # ValueError: answers for several certificates
        raise rejected(
            "not_ocsp",
            where,
            "expected an OCSP response for one certificate, found one for several or for none",
            "Ask for the certificate alone",
        ) from None
    return staple
