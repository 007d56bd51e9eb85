# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the content of the credentials that gateways use: certificates, keys, CAs, CRLs. Pure.

The judging is that of `istio/credential_material.py`, for what istiod reads of each Secret, and for the hosts that are served with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from ..istio.credential import decode
from ..istio.credential_material import Demands, judge_data
from ..objects.kinds import SECRET, Manifest, Ref, ref_of
from .credentials import places_of, undone_by, use_ref
from .rule import Found, Rule, Severity
from .view import MeshView

_TOLD_ELSEWHERE = ("incomplete_pair", "no_credential")
"""What the reference to the credential tells already (`credentials.py`)."""
_OF_CAS = ("ca_certificate", "crl")


@dataclass
class _Used:
    secret: Manifest
    users: dict[Ref, None] = field(default_factory=dict)
    hosts: dict[str, None] = field(default_factory=dict)
    roles: set[str] = field(default_factory=set)
    serves: bool = False


def _used(view: MeshView) -> dict[Ref, _Used]:
    found: dict[Ref, _Used] = {}
    for use in view.uses:
        for place in places_of(view, use) if use.lookup.kind == "Secret" else ():
            name = next((name for name in use.lookup.names if view.credential("Secret", place, name) is not None), None)
            secret = view.credential("Secret", place, name) if name else None
            if secret is None:
                continue
            one = found.setdefault(ref_of(secret), _Used(secret))
            one.users[use_ref(use)] = None
            one.roles.add(use.lookup.role)
            if use.kind != "DestinationRule" and use.lookup.role == "pair":
                one.serves = True
                one.hosts.update(dict.fromkeys(view.hosts_at(use)))
    return found


def content(view: MeshView) -> Iterator[Found]:
    if view.now is None:
        return
    for ref, one in _used(view).items():
        demands = Demands(
            hosts=tuple(one.hosts),
            purpose="server" if one.serves else "client",
            min_remaining=timedelta(days=view.min_remaining_days),
        )
        for problem in judge_data(decode(one.secret), demands, now=view.now, where=str(ref)):
            part = problem.where.removeprefix(f"{ref}").removeprefix(": ")
            only_cas = "pair" not in one.roles
            if problem.code in _TOLD_ELSEWHERE or ((part in _OF_CAS) != only_cas and not (part in _OF_CAS and "ca" in one.roles)):
                continue
            yield Found(
                problem.code, ref, part, problem.message, problem.remedy + undone_by(one.secret), problem.severity, tuple(one.users)
            )


def _row(number: int, code: str, severity: Severity, title: str, meaning: str, remedy: str) -> Rule:
    return Rule(f"MIT02{number:02}", code, severity, title, meaning, remedy, content, (SECRET,))


_AGAIN = "Issue the certificate again and store it (meshops.istio.istio_tls_credential)."
RULES = (
    _row(1, "expired", "error", "A certificate has expired", "Clients and servers refuse it; a gateway goes on presenting it.", _AGAIN),
    _row(
        2,
        "not_yet_valid",
        "error",
        "A certificate is not valid yet",
        "Peers refuse it until its time begins, or their clocks are wrong.",
        _AGAIN,
    ),
    _row(3, "expires_soon", "error", "A certificate ends soon", "It is refused from its end on.", "Renew it before its end."),
    _row(
        4,
        "key_mismatch",
        "error",
        "The private key is another certificate's",
        "Envoy refuses the update, and with it other Secrets of the same update; running gateways keep the old pair.",
        "Store the key that belongs to the certificate.",
    ),
    _row(
        5,
        "chain_order",
        "error",
        "The chain is in the wrong order",
        "Envoy sends the certificates as they stand. With another leaf first it refuses the pair; with intermediates in another order some clients fail.",
        "Store the leaf first, then each issuer of the one before.",
    ),
    _row(
        6,
        "chain_unverified",
        "warning",
        "Intermediate certificates are missing",
        "Clients that know the root only cannot build the chain. Browsers may fetch or remember what is missing; curl, Go and Envoy do not.",
        "Store the leaf together with its intermediates.",
    ),
    _row(
        7,
        "chain_incomplete",
        "error",
        "The chain does not reach a trusted root",
        "Clients cannot verify it.",
        "Add the missing intermediates.",
    ),
    _row(8, "chain_duplicate", "warning", "The chain holds a certificate twice", "It costs bytes in each handshake.", "Keep it once."),
    _row(
        9,
        "chain_contains_unrelated",
        "warning",
        "The chain holds a certificate that does not belong to it",
        "Some clients fail over it.",
        "Leave it out.",
    ),
    _row(
        10,
        "chain_broken_signature",
        "error",
        "A certificate was not signed by the one after it",
        "The names fit, the key does not: clients refuse the chain.",
        "Store the issuer's certificate that has the right key.",
    ),
    _row(
        11,
        "key_encrypted",
        "error",
        "The private key is encrypted",
        "istiod and Envoy have no passphrase for it: Envoy refuses the pair.",
        "Store the key decrypted (istio_tls_credential does, with private_key_passphrase).",
    ),
    _row(
        12,
        "key_unreadable",
        "error",
        "The private key cannot be read",
        "Envoy refuses the pair.",
        "Store the key as PEM, PKCS#8 or traditional.",
    ),
    _row(
        13,
        "key_unsupported",
        "error",
        "Envoy does not load such a key",
        "RSA under 2048 bits, P-224, DSA and others are refused, and with them the update.",
        "Issue the certificate with RSA 2048 or larger, P-256 or P-384.",
    ),
    _row(
        14,
        "key_too_new",
        "warning",
        "Older Envoys do not load such a key",
        "Only the newest versions know the curve.",
        "Use P-256, or RSA.",
    ),
    _row(15, "key_rarely_accepted", "warning", "Few clients accept such a key", "Browsers, for example, do not.", "Use P-256, or RSA."),
    _row(16, "host_not_covered", "error", "The certificate has not the host's name", "Clients refuse it for that host.", _AGAIN),
    _row(17, "host_invalid", "error", "A host is no host", "No client can ask for it.", "Write a DNS name."),
    _row(
        18,
        "cn_only",
        "warning",
        "The certificate has its name in the common name only",
        "Browsers, Go and Envoy do not look there.",
        _AGAIN,
    ),
    _row(
        19,
        "wrong_extended_key_usage",
        "error",
        "The certificate is for something else",
        "Peers refuse a client's certificate for a server, and the reverse.",
        _AGAIN,
    ),
    _row(20, "wrong_key_usage", "error", "The certificate's key usage does not allow TLS", "Peers refuse it.", _AGAIN),
    _row(21, "leaf_is_ca", "warning", "The certificate is a CA's", "Some clients refuse a CA as a server.", _AGAIN),
    _row(22, "weak_signature", "warning", "The signature is weak", "SHA-1 is refused by most clients, MD5 by nearly all.", _AGAIN),
    _row(23, "signature_rarely_accepted", "warning", "Few peers accept the signature", "OpenSSL does, BoringSSL does not.", _AGAIN),
    _row(24, "serial_not_positive", "warning", "The serial number is not positive", "Go refuses such certificates.", _AGAIN),
    _row(
        25, "lifetime_too_long", "warning", "The certificate lives longer than browsers accept", "Apple refuses more than 825 days.", _AGAIN
    ),
    _row(
        26,
        "name_constraints_violated",
        "error",
        "A CA may not issue such a name",
        "Its name constraints exclude it, and peers refuse it.",
        _AGAIN,
    ),
    _row(
        27, "path_too_long", "error", "A CA may not have another CA below it", "Its path length is exceeded, and peers refuse it.", _AGAIN
    ),
    _row(28, "key_identifier_mismatch", "warning", "Key identifiers do not fit", "OpenSSL and Envoy pass over such an issuer.", _AGAIN),
    _row(
        29,
        "expired_not_needed",
        "warning",
        "An expired certificate is in the chain",
        "There is another valid way, which some clients miss.",
        "Leave it out.",
    ),
    _row(30, "trust_anchor_expired", "warning", "A root has expired", "Some peers refuse chains that end in it.", "Renew the root."),
    _row(
        31,
        "ca_is_no_ca",
        "error",
        "A certificate is used as a CA and is none",
        "Envoy accepts that one peer alone, or nobody.",
        "Store the CA's certificate.",
    ),
    _row(32, "ca_key_weak", "warning", "A CA's key is weak", "Peers may refuse it.", "Use a CA with a stronger key."),
    _row(33, "ca_bundle_flaws", "warning", "A CA bundle holds CAs that are of no use", "Envoy uses the others.", "Leave them out."),
    _row(34, "ca_cannot_sign_crl", "warning", "A CA may not sign CRLs", "Its CRL is refused.", "Use a CA with the key usage cRLSign."),
    _row(35, "ca_superseded", "warning", "An expired CA stands beside its renewal", "Envoy may take it first.", "Leave it out."),
    _row(36, "certificate_unreadable", "error", "A certificate cannot be read", "Envoy refuses it.", "Store a PEM certificate."),
    _row(37, "not_pem", "error", "There is no PEM in it", "Envoy refuses it.", "Store PEM."),
    _row(
        38,
        "private_key_in_certificate",
        "error",
        "A private key stands among certificates",
        "It is treated as public.",
        "Take it out, and replace the key.",
    ),
    _row(39, "crl_in_certificate", "error", "A CRL stands among certificates", "Envoy would apply it.", "Store it as a CRL."),
    _row(40, "too_large", "error", "The content is too large", "Nothing reads so much.", "Store less."),
    _row(41, "revoked", "error", "The certificate is revoked", "Peers with the CRL refuse it.", _AGAIN),
    _row(42, "crl_expired", "error", "A CRL is out of date", "Envoy refuses every peer of its CA.", "Store a new CRL."),
    _row(43, "crl_unreadable", "error", "A CRL cannot be read", "Envoy refuses the CA with it.", "Store a PEM CRL."),
    _row(44, "crl_unsupported", "error", "Envoy does not understand the CRL", "It refuses peers.", "Issue a complete CRL."),
    _row(
        45,
        "crl_incomplete",
        "error",
        "A CA of the bundle has no CRL",
        "With one CRL, Envoy wants one of each CA in the chain.",
        "Add the CRLs that are missing.",
    ),
    _row(46, "crl_issuer_unknown", "warning", "A CRL is of another CA", "It has no effect.", "Store the CRL of the CA."),
    _row(
        47, "crl_signature_invalid", "error", "A CRL is not signed by its CA", "Envoy refuses peers.", "Store the CRL that the CA signed."
    ),
    _row(48, "crl_without_ca", "warning", "A CRL has no CA beside it", "istiod ignores it without a word.", "Put it beside the CA."),
    _row(
        49,
        "crl_wrong_key",
        "error",
        "A CRL is under a key that istiod does not read",
        "cacert goes with crl, ca.crt with ca.crl. istiod ignores another pairing without a word, and revoked certificates pass.",
        "Store the CRL under the key that goes with the CA.",
    ),
    _row(50, "not_ocsp", "error", "An OCSP staple cannot be read", "Envoy refuses the pair.", "Store a DER response."),
    _row(
        51, "ocsp_expired", "error", "An OCSP staple is out of date", "Envoy does not send it, or refuses connections.", "Store a new one."
    ),
    _row(
        52,
        "ocsp_missing",
        "error",
        "The certificate demands an OCSP staple",
        "Clients refuse a connection without one.",
        "Store one as tls.ocsp-staple.",
    ),
    _row(53, "ocsp_signature_invalid", "error", "An OCSP staple is not signed by the issuer", "Clients refuse it.", "Store the issuer's."),
    _row(
        54,
        "ocsp_unsuccessful",
        "error",
        "An OCSP staple says that the question failed",
        "Envoy refuses the pair.",
        "Store a successful one.",
    ),
    _row(55, "ocsp_wrong_certificate", "error", "An OCSP staple is about another certificate", "Envoy refuses the pair.", "Store its own."),
    _row(
        56,
        "ocsp_staple_layout",
        "warning",
        "An OCSP staple is where istiod does not read it",
        "It is ignored.",
        "Keep the pair in tls.crt and tls.key.",
    ),
    _row(
        57,
        "shadowed_pair",
        "warning",
        "A pair is never served",
        "istiod reads cert and key before tls.crt and tls.key.",
        "Remove the pair that is not meant.",
    ),
    _row(
        58,
        "ca_expired",
        "error",
        "A CA that peers are verified with has expired",
        "Envoy refuses every peer of it: all clients of a server, or the server that a gateway connects to.",
        "Renew the CA's certificate, and store it beside the old one first.",
    ),
    _row(
        59,
        "ca_same_name",
        "warning",
        "Two CAs of a bundle cannot be told apart",
        "They have one name and different keys. Envoy may try the wrong one, and refuse the peer.",
        "Remove the one that no peer needs, or issue them again with key identifiers.",
    ),
    _row(
        60,
        "critical_extension",
        "error",
        "A critical extension is one that peers do not know",
        "Peers refuse a certificate with it; some only where OpenSSL knows it and Envoy does not.",
        _AGAIN,
    ),
    _row(
        61,
        "name_with_final_dot",
        "warning",
        "The certificate's name for the host ends in a dot",
        "Go, and what lets OpenSSL compare names, refuse it for that host.",
        _AGAIN,
    ),
)
