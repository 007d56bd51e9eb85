# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the CAs that Envoy verifies its peers against. A bundle is as good as the best of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..problems import Problem
from .certificate_checks import TAKEN, TOLERANCE, Clock, cannot_sign, days, duration, error, is_unverifiable, listed, warning
from .facts import rfc3339
from .fields import not_verified_by_envoy
from .material import Certificate
from .paths import same_ca, signed_by, subject_of

_MOST_WARNINGS = 2


@dataclass(frozen=True)
class _Flaw:
    """Something about one certificate of a bundle: its code, and what is found, to be said after its name."""

    code: str
    certificate: Certificate
    found: str


_EXPECTED = {
    "ca_expired": ("a CA that is valid", "Renew the CA's certificate, or remove it when no peer needs it"),
    "not_yet_valid": (
        "a CA that is valid",
        "Compare the clocks of this machine and of the CA; not_before_tolerance is how far they may be apart",
    ),
    "ca_is_no_ca": (
        "the certificate of a CA",
        "Give the CA that issued the peers' certificates, unless these peers alone are to be trusted",
    ),
    "key_unsupported": (f"a CA key with which Envoy verifies signatures ({TAKEN})", "Set up a CA with an RSA or ECDSA key"),
    "weak_signature": (
        "a CA whose certificate Envoy can verify",
        "Have the CA's certificate issued again with an ordinary signature over SHA-256, or remove its issuer",
    ),
    "expires_soon": ("CAs that stay valid", "Renew the CA's certificate, and distribute it to the peers first, or lower min_remaining"),
    "ca_superseded": ("one certificate of a CA, the valid one", "Remove the other one from the bundle"),
    "ca_same_name": ("CAs that can be told apart", "Remove the one that no peer needs, or issue them again with subject key identifiers"),
    "chain_duplicate": ("each CA once", "Remove the repetitions"),
    "ca_key_weak": ("a CA key of 2048 bits or more", "Set up a CA with a longer key"),
}


def check_ca(
    cas: Sequence[Certificate],
    *,
    min_remaining: timedelta = timedelta(),
    not_before_tolerance: timedelta = TOLERANCE,
    now: datetime,
    where: str,
) -> tuple[Problem, ...]:
    """CA certificates that Envoy verifies its peers against, judged together: what makes some of them useless is a warning, and an error
    only where none is left. More than two kinds of warnings become one.

    Tried with Envoy 1.40: it loads every certificate without a word, and takes an intermediate alone (X509_V_FLAG_PARTIAL_CHAIN) and a
    peer's own certificate, which no other peer has the key of. Codes: ca_expired, not_yet_valid, expires_soon, ca_is_no_ca, key_unsupported,
    weak_signature, ca_superseded, ca_same_name, chain_duplicate, ca_key_weak, ca_bundle_flaws.
    """
    if not cas:
        return (error("not_pem", where, "expected at least one certificate, found none", "Give the CA's certificate"),)
    clock = Clock(now, min_remaining, not_before_tolerance)
    unique = tuple(dict.fromkeys(cas))
    in_the_way = superseded(unique, now=now, not_before_tolerance=not_before_tolerance)
    useless = [flaw for certificate in unique for flaw in _useless(certificate, unique, in_the_way, clock)]
    usable = [certificate for certificate in unique if all(flaw.certificate != certificate for flaw in useless)]
    if not usable:
        return tuple(_told(useless, len(unique), where, error))
    soon = [_soon(certificate, clock) for certificate in usable if certificate.not_after - now < min_remaining]
    late = [problem for problem in _told(soon, len(unique), where, error) if len(soon) == len(usable)]
    doubts = [
        *useless,
        *([] if late else soon),
        *(flaw for certificate in unique for flaw in _doubts(certificate, cas, clock)),
        *_namesakes(usable),
    ]
    return (*late, *_few(list(_told(doubts, len(unique), where, warning)), len(unique), where))


def superseded(cas: Sequence[Certificate], *, now: datetime, not_before_tolerance: timedelta = TOLERANCE) -> tuple[Certificate, ...]:
    """Those that are not valid and stand in the way of others that are: Envoy takes the first certificate of a name, in an order of its own
    for long bundles, and one of the bundle before one that the peer sends. Tried with Envoy 1.40; OpenSSL takes the valid one."""
    clock = Clock(now, not_before_tolerance=not_before_tolerance)
    valid = [certificate for certificate in cas if clock.is_valid(certificate)]

    def in_the_way(certificate: Certificate) -> bool:
        renewed = any(same_ca(certificate, other) for other in valid)
        intermediate = not certificate.is_self_signed and any(signed_by(certificate, other) is not False for other in valid)
        return renewed or intermediate

    return tuple(certificate for certificate in dict.fromkeys(cas) if not clock.is_valid(certificate) and in_the_way(certificate))


def left_out(certificates: Sequence[Certificate], where: str) -> Problem:
    """That `superseded` certificates are not stored."""
    names = listed([f"{each.label} (expired on {rfc3339(each.not_after)})" for each in certificates], "none", 3)
    return warning(
        "ca_superseded",
        where,
        f"expected CAs that are valid, found also {names}; left out of the Secret, since Envoy might take it in place of the valid one and refuse peers",
        "Remove it from the bundle",
    )


def _useless(certificate: Certificate, cas: Sequence[Certificate], in_the_way: Sequence[Certificate], clock: Clock) -> Iterator[_Flaw]:
    if certificate in in_the_way:
        begins = f"valid from {rfc3339(certificate.not_before)} to {rfc3339(certificate.not_after)}"
        yield _Flaw("ca_superseded", certificate, f"also {begins}: Envoy might take it in place of the valid one and refuse peers")
        return
    if certificate.not_after < clock.now:
        yield _Flaw(
            "ca_expired", certificate, f"expired on {rfc3339(certificate.not_after)}, {days((clock.now - certificate.not_after).days)} ago"
        )
    if not clock.has_begun(certificate.not_before):
        yield _Flaw("not_yet_valid", certificate, f"is valid from {rfc3339(certificate.not_before)}")
    if is_unverifiable(certificate):
        curve = ", whose curve is spelled out instead of named" if certificate.has_explicit_curve else ""
        exponent = ", whose public exponent has more than 33 bits" if certificate.has_large_exponent else ""
        yield _Flaw("key_unsupported", certificate, f"has {certificate.key}{curve}{exponent}")
    flaw = cannot_sign(certificate)
    if flaw and certificate.is_ca:
        yield _Flaw("ca_is_no_ca", certificate, flaw)
    odd = not_verified_by_envoy(certificate.der)
    if odd and not certificate.is_self_signed and any(signed_by(certificate, other) is not False for other in cas if other != certificate):
        weak = certificate.signature_hash
        yield _Flaw("weak_signature", certificate, f"is signed with {weak.upper() if weak and weak.startswith('md') else odd}")


def _soon(certificate: Certificate, clock: Clock) -> _Flaw:
    left = certificate.not_after - clock.now
    wanted = duration(clock.min_remaining)
    return _Flaw(
        "expires_soon",
        certificate,
        f"expires on {rfc3339(certificate.not_after)}, in {duration(left)}, where {wanted} or more were to be left",
    )


def _doubts(certificate: Certificate, cas: Sequence[Certificate], clock: Clock) -> Iterator[_Flaw]:
    if cas.count(certificate) > 1:
        yield _Flaw("chain_duplicate", certificate, f"is there {cas.count(certificate)} times")
    if clock.now < certificate.not_before and clock.has_begun(certificate.not_before):
        yield _Flaw(
            "not_yet_valid", certificate, f"is valid from {rfc3339(certificate.not_before)} only; until then Envoy refuses its peers"
        )
    if certificate.key.type == "RSA" and (certificate.key.size or 0) < 2048:
        yield _Flaw("ca_key_weak", certificate, f"has {certificate.key}")
    if not certificate.is_ca and certificate.version != 1 and not certificate.is_self_signed:
        yield _Flaw(
            "ca_is_no_ca", certificate, f"is a peer's own certificate, issued by {certificate.issuer}; it admits the owner of its key alone"
        )


def _namesakes(usable: Sequence[Certificate]) -> Iterator[_Flaw]:
    """Two keys under one name: without key identifiers OpenSSL and Envoy try one of them only."""
    from cryptography import x509

    for place, certificate in enumerate(usable):
        others = [other for other in usable[:place] if subject_of(other) == subject_of(certificate) and not same_ca(other, certificate)]
        if others and any(each.extension(x509.SubjectKeyIdentifier) is None for each in (certificate, *others)):
            yield _Flaw(
                "ca_same_name", certificate, "is there with two keys, and has no subject key identifier: Envoy tries one of them only"
            )


def _told(flaws: Sequence[_Flaw], total: int, where: str, make: Callable[[str, str, str, str], Problem]) -> Iterator[Problem]:
    """One problem for each kind."""
    for code in dict.fromkeys(flaw.code for flaw in flaws):
        alike = [flaw for flaw in flaws if flaw.code == code]
        expected, remedy = _EXPECTED[code]
        count = f"{len(alike)} of {total}: " if len(alike) > 1 else ""
        found = listed([f"{flaw.certificate.label} {flaw.found}" for flaw in alike], "none", 3)
        yield make(code, where, f"expected {expected}, found {count or 'that '}{found}", remedy)


def _few(problems: list[Problem], total: int, where: str) -> list[Problem]:
    if len(problems) <= _MOST_WARNINGS:
        return problems
    found = "; ".join(problem.message.rpartition(", found ")[2].removeprefix("that ") for problem in problems)
    return [
        warning(
            "ca_bundle_flaws",
            where,
            f"expected {total} CAs without flaws, found {found} ({', '.join(problem.code for problem in problems)})",
            "Nothing needs to be done where no peer depends on these; else renew them",
        )
    ]
