# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a single certificate: dates, lifetime, usages, key, signature, serial number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from ..problems import Problem
from .facts import rfc3339
from .fields import not_verified_by_envoy
from .material import Certificate, KeyKind

Purpose = Literal["server", "client"]

TOLERANCE = timedelta(seconds=60)
"""How far two clocks may be apart where nothing is said."""


@dataclass(frozen=True)
class Clock:
    """When certificates have to be valid."""

    now: datetime
    min_remaining: timedelta = timedelta()
    not_before_tolerance: timedelta = TOLERANCE

    def has_begun(self, moment: datetime) -> bool:
        """Whether `moment` is past, or so near that the clocks may be apart."""
        return moment - self.now <= self.not_before_tolerance

    def is_valid(self, certificate: Certificate) -> bool:
        return certificate.not_after >= self.now and self.has_begun(certificate.not_before)


def error(code: str, where: str, message: str, remedy: str) -> Problem:
    return Problem(code, where, message, remedy)


def warning(code: str, where: str, message: str, remedy: str) -> Problem:
    return Problem(code, where, message, remedy, "warning")


def listed(names: Sequence[str], empty: str, most: int = 5) -> str:
    if not names:
        return empty
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def check_dates(certificate: Certificate, clock: Clock, where: str) -> Iterator[Problem]:
    renew = "Renew it" if not certificate.is_ca else "Renew the CA's certificate, and distribute it to the peers first"
    left = certificate.not_after - clock.now
    if certificate.not_after < clock.now:
        yield error(
            "expired",
            where,
            f"expected a certificate that is valid on {rfc3339(clock.now)}, found that {certificate.label} expired on "
            f"{rfc3339(certificate.not_after)}, {days((-left).days)} ago",
            renew,
        )
    elif left < clock.min_remaining:
        yield error(
            "expires_soon",
            where,
            f"expected {duration(clock.min_remaining)} or more left, found {duration(left)}"
            f" ({certificate.label} expires on {rfc3339(certificate.not_after)})",
            f"{renew}, or lower min_remaining",
        )
    if certificate.not_before > clock.now:
        yield not_yet_valid("certificate", certificate.label, certificate.not_before, clock, where)


def not_yet_valid(what: str, label: str, begins: datetime, clock: Clock, where: str, code: str = "not_yet_valid") -> Problem:
    """Within the tolerance it is a warning: Envoy serves what begins later, and peers with the right time refuse it until then."""
    seconds = int((begins - clock.now).total_seconds()) + 1
    found = f"expected a {what} that is valid on {rfc3339(clock.now)}, found that {label} is valid from {rfc3339(begins)}"
    if clock.has_begun(begins):
        return warning(
            code, where, f"{found}, in {seconds} seconds; until then peers refuse it", "Set the clocks of this machine and of the CA alike"
        )
    return error(
        code,
        where,
        found,
        "Wait until then, or compare the clocks of this machine and of the CA; not_before_tolerance is how far they may be apart",
    )


def days(number: int) -> str:
    return "1 day" if number == 1 else f"{number} days"


def duration(left: timedelta) -> str:
    if left.days:
        return days(left.days) if not left.seconds or left.days > 1 else str(left)
    return f"{left.seconds // 3600} hours" if left.seconds >= 3600 else f"{left.seconds // 60} minutes"


_LIMITS = (
    # since, days, whether only under public roots, who
    (datetime(2029, 3, 15, tzinfo=UTC), 47, True, "browsers refuse more under a public root since 2029-03-15"),
    (datetime(2027, 3, 15, tzinfo=UTC), 100, True, "browsers refuse more under a public root since 2027-03-15"),
    (datetime(2026, 3, 15, tzinfo=UTC), 200, True, "browsers refuse more under a public root since 2026-03-15"),
    (datetime(2020, 9, 1, tzinfo=UTC), 398, True, "browsers refuse more under a public root since 2020-09-01"),
    (datetime(2019, 7, 1, tzinfo=UTC), 825, False, "Apple's clients refuse more, under private roots too, since 2019-07-01"),
)
"""The CA/Browser Forum's baseline requirements, 6.3.2, and https://support.apple.com/en-us/103769, by date of issue."""


def check_lifetime(leaf: Certificate, public: bool, where: str) -> Iterator[Problem]:
    """A server's certificate that is valid for longer than clients take; `public` is whether a public root vouches for it."""
    lifetime = leaf.not_after - leaf.not_before
    for since, most, only_public, who in _LIMITS:
        if leaf.not_before >= since and lifetime > timedelta(days=most) and (public or not only_public):
            yield warning(
                "lifetime_too_long",
                where,
                f"expected a server certificate that is valid for {most} days at most, found {days(lifetime.days)} in {leaf.label} "
                f"({rfc3339(leaf.not_before)} to {rfc3339(leaf.not_after)}); {who}",
                f"Have it issued for {most} days or less, and renewed in time",
            )
            return


_REQUIRED = {"server": "serverAuth", "client": "clientAuth"}


def check_usage(leaf: Certificate, purpose: Purpose, where: str) -> Iterator[Problem]:
    if leaf.key_usage is not None and "digitalSignature" not in leaf.key_usage:
        consequence = "Envoy refuses it" if leaf.key.type == "ECDSA" else "Envoy and browsers refuse it as a peer's"
        yield error(
            "wrong_key_usage",
            where,
            f"expected keyUsage digitalSignature in {leaf.label}, found {listed(sorted(leaf.key_usage), 'none')}; {consequence}",
            "Issue the certificate again with keyUsage digitalSignature (and keyEncipherment for RSA), or without the extension",
        )
    required, found = _REQUIRED[purpose], leaf.extended_key_usage
    if found is not None and required not in found and "anyExtendedKeyUsage" not in found:
        yield error(
            "wrong_extended_key_usage",
            where,
            f"expected extendedKeyUsage {required} in the {purpose} certificate {leaf.label}, found {listed(found, 'none')}",
            _remedy_for_usage(purpose, found),
        )


def _remedy_for_usage(purpose: Purpose, found: Sequence[str]) -> str:
    if purpose == "server" and "clientAuth" in found:
        return "Set purpose: client if a gateway is to present it as a client; else issue the certificate again with extendedKeyUsage serverAuth"
    if purpose == "client" and "serverAuth" in found:
        return (
            "Have it issued with extendedKeyUsage clientAuth, by a private CA or the partner's: public CAs no longer issue clientAuth. Set "
            "purpose: server if a gateway is to serve it"
        )
    return f"Issue the certificate again with extendedKeyUsage {_REQUIRED[purpose]}"


def check_issuer_purpose(issuer: Certificate, purpose: Purpose, where: str) -> Iterator[Problem]:
    required, found = _REQUIRED[purpose], issuer.extended_key_usage
    if found is not None and required not in found and "anyExtendedKeyUsage" not in found and not issuer.is_self_signed:
        public = "; public CAs no longer issue clientAuth" if purpose == "client" and "serverAuth" in found else ""
        yield error(
            "wrong_extended_key_usage",
            where,
            f"expected a CA that may issue for {required}, found that {issuer.label} is limited to {listed(found, 'none')}",
            f"Have the certificate issued by a CA for {required}{public}",
        )


TAKEN = "RSA of 2048 bits or more, ECDSA P-256, P-384, P-521"


def check_leaf_key(leaf: Certificate, purpose: Purpose, where: str) -> Iterator[Problem]:
    """Tried with Envoy 1.40: it refuses RSA under 2048 bits, RSASSA-PSS keys, other curves than P-256, P-384 and P-521, and DSA. It loads and
    serves Ed25519, though (not in FIPS builds). As a verifier it takes neither Ed25519 nor P-521 from a peer, and nor do browsers."""
    kind = leaf.key
    refusal = "it spells out its curve instead of naming it" if leaf.has_explicit_curve else _refusal(kind)
    if leaf.has_large_exponent:
        refusal = "its public exponent has more than 33 bits"
    if refusal:
        yield error(
            "key_unsupported",
            where,
            f"expected a key that Envoy takes ({TAKEN}), found {kind} in {leaf.label}: {refusal}",
            "Make a new key, RSA of 2048 bits or more or ECDSA P-256, and have a certificate issued for it",
        )
    if kind.curve in ("P-384", "P-521"):
        yield warning(
            "key_too_new",
            where,
            f"expected a key that every Envoy takes, found {kind} in {leaf.label}: Envoy before 1.33 (Istio before 1.25) takes ECDSA P-256 only",
            "Use ECDSA P-256 where older gateways are in use; otherwise nothing is to be done",
        )
    if kind.curve == "P-521" or kind.type == "Ed25519" or (kind.type == "RSA" and (kind.size or 0) > 8192):
        who = {"RSA": "Go programs refuse more than 8192 bits"}.get(kind.type, "browsers, and Envoy as the peer, refuse it")
        fips = ", and Envoy's FIPS builds do not load it" if kind.type == "Ed25519" else ""
        yield warning(
            "key_rarely_accepted",
            where,
            f"expected a key that peers of this {purpose} take, found {kind} in {leaf.label}: Envoy presents it, but {who}{fips}",
            "Use ECDSA P-256 or RSA of 2048 to 4096 bits unless you know all peers",
        )


def _refusal(kind: KeyKind) -> str | None:
    if kind.type == "RSA":
        size = kind.size or 0
        if size < 2048:
            return "too short"
        return "longer than the 16384 bits that its library handles" if size > 16384 else None
    if kind.type == "RSASSA-PSS":
        return "it is limited to PSS, which Envoy's library does not load; an ordinary RSA key signs with PSS as well"
    if kind.type == "ECDSA":
        return None if kind.curve in ("P-256", "P-384", "P-521") else "a curve that it does not know"
    return None if kind.type == "Ed25519" else "a kind of key that it does not load"


def is_unverifiable(issuer: Certificate) -> bool:
    """Whether Envoy verifies no signature by this CA's key. It takes Ed25519 and P-224 here, which it does not from a leaf."""
    kind = issuer.key
    if issuer.has_explicit_curve or issuer.has_large_exponent:
        return True
    if kind.type == "ECDSA":
        return kind.curve not in ("P-224", "P-256", "P-384", "P-521")
    return kind.type not in ("RSA", "Ed25519")


def check_issuer_key(issuer: Certificate, where: str) -> Iterator[Problem]:
    """A CA's key in a chain that a gateway presents, so who verifies are its peers."""
    kind = issuer.key
    if kind.type == "RSA" and (kind.size or 0) < 2048:
        yield warning(
            "ca_key_weak",
            where,
            f"expected a CA key of 2048 bits or more, found {kind} in {issuer.label}; OpenSSL and browsers refuse it",
            "Set up a CA with a longer key",
        )
    elif kind.type in ("DSA", "Ed448", "unknown"):
        yield error(
            "key_unsupported",
            where,
            f"expected a CA key with which peers verify signatures ({TAKEN}), found {kind} in {issuer.label}",
            "Set up a CA with an RSA or ECDSA key",
        )
    elif kind.type == "Ed25519" or is_unverifiable(issuer) or kind.curve == "P-224":
        yield warning(
            "key_rarely_accepted",
            where,
            f"expected a CA key with which all peers verify signatures ({TAKEN}), found {kind} in {issuer.label}: OpenSSL does, browsers refuse it",
            "Have the certificate issued by a CA with an RSA or ECDSA key unless you know all peers",
        )


_BROKEN_HASHES = frozenset({"md2", "md4", "md5"})


def check_signature(certificate: Certificate, where: str) -> Iterator[Problem]:
    """The signature of a certificate that peers verify. Envoy takes SHA-1, and refuses MD5 and most parameters of RSASSA-PSS."""
    weak = certificate.signature_hash
    if weak in (*_BROKEN_HASHES, "sha1"):
        who = (
            "peers refuse it"
            if weak != "sha1"
            else "Envoy takes it from a peer; browsers, Go, and OpenSSL as Debian and Red Hat set it refuse it"
        )
        yield (warning if weak == "sha1" else error)(
            "weak_signature",
            where,
            f"expected a signature over SHA-256 or better, found {weak.upper()} in {certificate.label}; {who}",
            "Have the certificate issued again with SHA-256",
        )
        return
    odd = not_verified_by_envoy(certificate.der)
    if odd is not None:
        yield warning(
            "signature_rarely_accepted",
            where,
            f"expected a signature that all peers verify (RSA with PKCS #1 v1.5, ECDSA, or RSASSA-PSS with one SHA-2 hash and a salt of its "
            f"length), found {odd} in {certificate.label}; OpenSSL verifies it, while Envoy as the peer, Go and browsers refuse it",
            "Have the certificate issued again with an ordinary signature",
        )


_KNOWN_TO_ALL = frozenset(f"2.5.29.{number}" for number in (15, 17, 19, 30, 32, 33, 36, 37, 54))
"""keyUsage, subjectAltName, basicConstraints, nameConstraints, policies and what limits them, extKeyUsage."""
_KNOWN_TO_OPENSSL = frozenset(
    ("2.5.29.31", "2.16.840.1.113730.1.1", *(f"1.3.6.1.5.5.7.{rest}" for rest in ("1.7", "1.8", "1.14", "48.1.5")))
)
"""cRLDistributionPoints, nsCertType, addresses and AS numbers, proxyCertInfo, noCheck. Tried: Envoy as the peer refuses them."""
_POISON = "1.3.6.1.4.1.11129.2.4.3"


def check_critical(certificate: Certificate, where: str) -> Iterator[Problem]:
    """Extensions that have to be understood (RFC 5280, 4.2): peers refuse a certificate with one that they do not know, whatever it says."""
    for extension in certificate.parsed.extensions:
        oid = extension.oid.dotted_string
        if not extension.critical or oid in _KNOWN_TO_ALL:
            continue
        name = getattr(extension.oid, "_name", "Unknown OID")
        shown = oid if name == "Unknown OID" else f"{name} ({oid})"
        found = f"expected critical extensions that peers know, found {shown} in {certificate.label}"
        if oid == _POISON:
            yield error("critical_extension", where, f"{found}: it is a precertificate for CT logs, which every peer refuses", _ISSUED)
        elif oid in _KNOWN_TO_OPENSSL:
            yield warning(
                "critical_extension", where, f"{found}; OpenSSL knows it, while Envoy as the peer refuses the certificate", _PLAIN
            )
        else:
            yield error("critical_extension", where, f"{found}; every peer refuses the certificate", _PLAIN)


_ISSUED = "Give the certificate that the CA issued for it"
_PLAIN = "Have the certificate issued again without that extension, or with it marked as not critical"


def check_serial(certificate: Certificate, where: str) -> Iterator[Problem]:
    if certificate.serial_number <= 0 or certificate.serial_number.bit_length() > 159:
        yield warning(
            "serial_not_positive",
            where,
            f"expected a positive serial number of at most 20 bytes, found {certificate.serial} in {certificate.label}; some peers refuse it",
            "Have the certificate issued again with a random serial number",
        )


def ca_flaw(certificate: Certificate) -> str | None:
    """Why peers do not take the certificate for a CA's, or None. A self-signed one of version 1 passes: old roots are like that."""
    if certificate.version == 1:
        return None if certificate.is_self_signed else "is of X.509 version 1, which cannot say CA:TRUE"
    if not certificate.is_ca:
        from cryptography import x509

        absent = certificate.extension(x509.BasicConstraints) is None
        return "has no basicConstraints" if absent else "says CA:FALSE in its basicConstraints"
    return cannot_sign(certificate)


def cannot_sign(certificate: Certificate) -> str | None:
    if certificate.key_usage is not None and "keyCertSign" not in certificate.key_usage:
        return f"may not sign certificates (keyUsage {listed(sorted(certificate.key_usage), 'empty')}, without keyCertSign)"
    return None
