# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with CRLs and OCSP staples, beside the certificates that they are about."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from ..problems import Problem
from .certificate_checks import TOLERANCE, Clock, error, listed, not_yet_valid, warning
from .crl_scope import not_used_by_envoy
from .facts import rfc3339
from .fields import fields
from .material import Certificate, Crl, OcspStaple, from_x509
from .paths import names_match, signed_by


def check_crls(
    crls: Sequence[Crl],
    cas: Sequence[Certificate],
    *,
    chain: Sequence[Certificate] = (),
    not_before_tolerance: timedelta = TOLERANCE,
    now: datetime,
    where: str,
) -> tuple[Problem, ...]:
    """CRLs and the CAs that they stand beside; `chain` is the pair's own, should the CAs have issued it as well.

    Once there is one CRL, Envoy asks for one of *every* CA in a peer's chain, the root included, and refuses peers for which one is missing,
    expired or badly signed (it fails closed); of CAs that have expired themselves it makes no difference. An intermediate as the only CA
    cannot have CRLs at all: its own issuer's cannot be verified.
    Codes: crl_without_ca, crl_issuer_unknown, crl_incomplete, crl_expired, crl_not_yet_valid, crl_signature_invalid, ca_cannot_sign_crl,
    crl_unsupported, revoked.
    """
    return tuple(_check_crls(crls, cas, chain, Clock(now, not_before_tolerance=not_before_tolerance), where))


def _check_crls(
    crls: Sequence[Crl], cas: Sequence[Certificate], chain: Sequence[Certificate], clock: Clock, where: str
) -> Iterator[Problem]:
    if crls and not cas:
        yield error(
            "crl_without_ca",
            where,
            "expected a CA certificate beside the CRL, found none; Envoy uses a CRL only together with the CA in the same Secret",
            "Give the CA certificate too, or leave the CRL out",
        )
        return
    for crl in crls:
        yield from _check_crl(crl, crls, cas, clock, where)
    if crls:
        yield from _check_crl_coverage(crls, [ca for ca in cas if ca.not_after >= clock.now], where)
    revoked = [
        certificate
        for certificate in dict.fromkeys((*chain, *cas))
        if any(crl.revokes(certificate) and any(crl.signed_by(ca) for ca in (*cas, *chain)) for crl in crls)
    ]
    for certificate in revoked:
        spare = certificate not in chain and any(ca not in revoked for ca in cas)  # another CA of the bundle is left
        yield (warning if spare else error)(
            "revoked",
            where,
            f"expected certificates that are not revoked, found {certificate.label} (serial {certificate.serial}) in the CRL of "
            f"{certificate.issuer}",
            "Remove it from the CAs" if spare else "Have a new certificate issued",
        )


def _check_crl(crl: Crl, crls: Sequence[Crl], cas: Sequence[Certificate], clock: Clock, where: str) -> Iterator[Problem]:
    issuers = [ca for ca in cas if crl.is_of(ca)]
    if crl.is_delta:
        yield error("crl_unsupported", where, f"expected a complete CRL, found a delta CRL of {crl.issuer}", "Give the complete CRL")
    elif not issuers:
        yield warning(
            "crl_issuer_unknown",
            where,
            f"expected CRLs of the CAs beside them ({listed([ca.label for ca in cas], 'none')}), found one of {crl.issuer}; it takes effect "
            "only for peers that send that CA's certificate themselves",
            "Add the CA that issued the CRL, or give the CRL of the CA that is there",
        )
    elif found := not_used_by_envoy(crl, issuers):
        others = [other for other in crls if other.is_of_the_same_as(crl) and not other.is_delta and not not_used_by_envoy(other, issuers)]
        yield (warning if others else error)(
            "crl_unsupported",
            where,
            f"expected a CRL of {crl.issuer} for all of its certificates, found one {found}; Envoy "
            + ("uses the other one of that CA" if others else "refuses every peer of that CA"),
            "Leave it out"
            if others
            else "Give a complete CRL without a critical extension (AD CS: without 'Include in the IDP extension of issued CRLs')",
        )
    elif not any(crl.signed_by(ca) is not False for ca in issuers):
        yield error(
            "crl_signature_invalid",
            where,
            f"expected a CRL signed by {crl.issuer}, found that the signature was not made with its key",
            "Fetch the CRL again; a CA that was renewed with a new key issues new CRLs",
        )
    elif all(ca.key_usage is not None and "cRLSign" not in ca.key_usage for ca in issuers):
        yield error(
            "ca_cannot_sign_crl",
            where,
            f"expected keyUsage cRLSign in {crl.issuer}, found {listed(sorted(issuers[0].key_usage or ()), 'none')}; Envoy refuses its CRL "
            "and with it every peer",
            "Reissue the CA's certificate with cRLSign, or leave the CRL out",
        )
    if crl.last_update > clock.now:
        yield not_yet_valid("CRL", f"the one of {crl.issuer}", crl.last_update, clock, where, "crl_not_yet_valid")
    if crl.next_update is not None and crl.next_update < clock.now:
        current = any(other.is_of_the_same_as(crl) and (other.next_update is None or other.next_update >= clock.now) for other in crls)
        message = f"expected a CRL that is valid on {rfc3339(clock.now)}, found that the one of {crl.issuer} expired on {rfc3339(crl.next_update)}"
        if current:
            yield warning("crl_expired", where, f"{message}; a newer one of the same CA is there", "Remove the old one")
        elif issuers and all(ca.not_after < clock.now for ca in issuers):
            yield warning("crl_expired", where, f"{message}, and so did the CA", "Remove both")
        else:
            yield error("crl_expired", where, f"{message}; Envoy refuses every peer of that CA", "Fetch the CA's present CRL")


def _check_crl_coverage(crls: Sequence[Crl], cas: Sequence[Certificate], where: str) -> Iterator[Problem]:
    unique = tuple(dict.fromkeys(cas))
    without = [ca.label for ca in unique if not any(crl.is_of(ca) for crl in crls)]
    if without:
        yield error(
            "crl_incomplete",
            where,
            f"expected a CRL of every CA, since there are CRLs at all, found none of {listed(without, 'none')}; Envoy refuses every peer of "
            f"{'that CA' if len(without) == 1 else 'those CAs'}",
            "Add its CRL, or remove all of them" if len(without) == 1 else "Add their CRLs, or remove all of them",
        )
    for ca in unique:
        if not ca.is_self_signed and not any(signed_by(ca, other) is not False for other in cas if other != ca):
            yield error(
                "crl_incomplete",
                where,
                f"expected the issuer of {ca.label} ({ca.issuer}) among the CAs, since there are CRLs, found it missing; Envoy looks for the "
                "CA itself in its issuer's CRL and refuses every peer",
                "Add the issuers up to the root, with their CRLs, or remove all CRLs",
            )


def check_ocsp(
    staple: OcspStaple | None,
    chain: Sequence[Certificate],
    *,
    issuers: Iterable[Certificate] = (),
    not_before_tolerance: timedelta = TOLERANCE,
    now: datetime,
    where: str,
) -> tuple[Problem, ...]:
    """The OCSP staple of a server's chain, or that there is none. `issuers` are further certificates among which the leaf's issuer may be.

    Envoy refuses a credential whose staple is for another certificate, and one with a must-staple certificate and no staple. It keeps an
    expired staple, and one without nextUpdate, to itself; with a must-staple certificate it then refuses clients.
    Codes: ocsp_missing, ocsp_wrong_certificate, ocsp_expired, ocsp_not_yet_valid, ocsp_revoked, ocsp_unknown, ocsp_signature_invalid.
    """
    clock = Clock(now, not_before_tolerance=not_before_tolerance)
    return tuple(_check_ocsp(staple, chain, issuers, clock, where)) if chain else ()


def _check_ocsp(
    staple: OcspStaple | None, chain: Sequence[Certificate], issuers: Iterable[Certificate], clock: Clock, where: str
) -> Iterator[Problem]:
    leaf = chain[0]
    if staple is None:
        if leaf.must_staple:
            yield error(
                "ocsp_missing",
                where,
                f"expected an OCSP staple, since {leaf.label} promises one (must-staple), found none; Envoy refuses the credential",
                "Give an OCSP response (layout tls), or issue the certificate without the TLS feature extension",
            )
        return
    certificates = (*chain[1:], *issuers)
    if not _is_for(staple, leaf, certificates):
        yield error(
            "ocsp_wrong_certificate",
            where,
            f"expected an OCSP response for {leaf.label} (serial {leaf.serial}), found one for serial {staple.serial_number:X}; Envoy refuses "
            "the credential",
            "Ask the responder for this certificate",
        )
        return
    yield from _staple_problems(staple, leaf, clock, where)
    issuer = next((each for each in certificates if signed_by(leaf, each) is not False), None)
    if issuer is not None and _ocsp_signed(staple, issuer) is False:
        yield error(
            "ocsp_signature_invalid",
            where,
            f"expected an OCSP response signed for {issuer.label}, found another signature; clients refuse it",
            "Ask the responder of the CA that issued the certificate",
        )


def _staple_problems(staple: OcspStaple, leaf: Certificate, clock: Clock, where: str) -> Iterator[Problem]:
    """What its times and its status say."""
    make = error if leaf.must_staple else warning
    consequence = "Envoy refuses clients, since the certificate is must-staple" if leaf.must_staple else "Envoy does not send it"
    if staple.next_update is None or staple.next_update < clock.now:
        found = "one that does not say until when" if staple.next_update is None else f"one that expired on {rfc3339(staple.next_update)}"
        yield make(
            "ocsp_expired",
            where,
            f"expected an OCSP response that is valid on {rfc3339(clock.now)}, found {found}; {consequence}",
            "Ask the responder again, and repeat that before nextUpdate",
        )
    if staple.this_update > clock.now:
        early = not_yet_valid("OCSP response", "it", staple.this_update, clock, where, "ocsp_not_yet_valid")
        yield replace(early, severity="warning")  # Envoy serves without it
    if staple.status != "good":
        yield error(
            f"ocsp_{staple.status}",
            where,
            f"expected the status good for {leaf.label}, found {staple.status}",
            "Have a new certificate issued" if staple.status == "revoked" else "Ask the responder of the CA that issued the certificate",
        )


def _is_for(staple: OcspStaple, leaf: Certificate, others: Iterable[Certificate]) -> bool:
    """By the serial number, and the issuer's name as the leaf or the issuer itself writes it."""
    if staple.serial_number != leaf.serial_number:
        return False
    spellings = {fields(leaf.der).issuer_der, *(fields(each.der).subject_der for each in others if names_match(leaf, each))}
    try:
        digests = {hashlib.new(staple.parsed.hash_algorithm.name, name).digest() for name in spellings}
    except Exception:  # ValueError, UnsupportedAlgorithm: a hash that is not known here, so the serial number must do
        return True
    return staple.parsed.issuer_name_hash in digests


def _ocsp_signed(staple: OcspStaple, issuer: Certificate) -> bool | None:
    """Whether the issuer, or a responder that it named, signed the response; None where the algorithm cannot be verified."""
    verdicts = [_verify(staple, issuer.public_key)]
    for embedded in staple.parsed.certificates:
        responder = from_x509(embedded)
        if "OCSPSigning" in (responder.extended_key_usage or ()) and signed_by(responder, issuer) is not False:
            verdicts.append(_verify(staple, responder.public_key))
    return True if True in verdicts else None if None in verdicts else False


def _verify(staple: OcspStaple, key: Any) -> bool | None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    if staple.parsed.signature_algorithm_oid.dotted_string == "1.2.840.113549.1.1.10":  # RSASSA-PSS, whose parameters are not told
        return None
    try:
        algorithm, signature, signed = staple.parsed.signature_hash_algorithm, staple.parsed.signature, staple.parsed.tbs_response_bytes
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
        elif isinstance(key, rsa.RSAPublicKey) and algorithm is not None:
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm is not None:
            key.verify(signature, signed, ec.ECDSA(algorithm))
        else:
            return None
    except InvalidSignature:
        return False
    except Exception:  # UnsupportedAlgorithm and what the library does not document
        return None
    return True
