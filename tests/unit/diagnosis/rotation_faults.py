# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that rotations leave behind: CRLs, OCSP staples, chains, uses of keys. Each with the codes of the findings that are expected."""

from __future__ import annotations

from typing import Any

from ansible_collections.meshops.istio.tests.unit.diagnosis.correct import CREDENTIAL, EGRESS_SET, INGRESS_SET, LEAF, MUTUAL_SET, replaced
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import Manifest, authority, issued, pair, pki, secret
from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import key_pem
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

HOST = "httpbin.example.com"
CLIENTS, OTHERS = authority("Clients"), authority("Other clients")
SERVER = issued(HOST)
MUST_STAPLE = issued(HOST, extensions=(x509.TLSFeature([x509.TLSFeatureType.status_request]),), key="P-256#must-staple")
ISSUER_AT = x509.AuthorityInformationAccess(
    [
        x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.example.com/intermediate.der")
        )
    ]
)
FROM_PUBLIC_CA = pki().issue(
    HOST, pki().issue("Public intermediate", authority(), ca=True), purposes=("serverAuth",), extensions=(ISSUER_AT,)
)


def clients(**data: bytes) -> list[Manifest]:
    """The set that verifies clients, with more in its credential."""
    return replaced(MUTUAL_SET, pair(CREDENTIAL, HOST, **{"ca_crt": CLIENTS.pem, **data}))


def stapled(leaf: Any, staple: bytes | None) -> list[Manifest]:
    more = {"tls_ocsp-staple": staple} if staple else {}
    return replaced(INGRESS_SET, secret(CREDENTIAL, tls_crt=leaf.pem, tls_key=key_pem(leaf.key), **more))


def crl(issuer: Any, **options: Any) -> bytes:
    return bytes(pki().crl(issuer, **options).parsed.public_bytes(Encoding.PEM))


ROTATION_FAULTS: dict[str, tuple[list[Manifest], list[str]]] = {
    "CRL out of date": (clients(ca_crl=crl(CLIENTS, days=(-9, -2))), ["crl_expired"]),
    "CRL of one CA of two": (clients(ca_crt=CLIENTS.pem + OTHERS.pem, ca_crl=crl(CLIENTS)), ["crl_incomplete"]),
    "CRL under a key that istiod does not read": (clients(crl=crl(CLIENTS)), ["crl_wrong_key"]),
    "CRL of another CA": (clients(ca_crl=crl(CLIENTS) + crl(OTHERS)), ["crl_issuer_unknown"]),
    "clients' CA has expired": (
        clients(ca_crt=pki().issue("Old clients", ca=True, days=(-100, -1)).pem),
        ["ca_expired"],
    ),
    "clients' CA is a client's certificate": (clients(ca_crt=issued("client", purposes=("clientAuth",)).pem), ["ca_is_no_ca"]),
    "staple of the previous certificate": (stapled(SERVER, pki().staple(LEAF, authority())), ["ocsp_wrong_certificate"]),
    "staple out of date": (stapled(MUST_STAPLE, pki().staple(MUST_STAPLE, authority(), days=(-9, -2))), ["ocsp_expired"]),
    "must-staple without a staple": (stapled(MUST_STAPLE, None), ["ocsp_missing"]),
    "14 intermediates missing": (
        replaced(INGRESS_SET, secret(CREDENTIAL, tls_crt=FROM_PUBLIC_CA.pem, tls_key=key_pem(FROM_PUBLIC_CA.key))),
        ["chain_unverified"],
    ),
    "client certificate for servers only": (
        replaced(EGRESS_SET, pair("client-credential", "client", purposes=("serverAuth",), ca_crt=authority().pem)),
        ["wrong_extended_key_usage"],
    ),
    "server certificate for clients only": (
        replaced(INGRESS_SET, pair(CREDENTIAL, HOST, purposes=("clientAuth",))),
        ["wrong_extended_key_usage"],
    ),
    "host that the new certificate lost": (replaced(INGRESS_SET, pair(CREDENTIAL, "www.example.com")), ["host_not_covered"]),
}
