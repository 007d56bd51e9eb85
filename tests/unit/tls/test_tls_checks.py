# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every code of `checks` with material that fires it and material that does not."""

from __future__ import annotations

import ast
import inspect
import ipaddress
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem, errors, warnings
from ansible_collections.meshops.istio.plugins.module_utils.tls import (
    ca_checks,
    certificate_checks,
    checks,
    host_checks,
    name_constraints,
    revocation_checks,
)
from ansible_collections.meshops.istio.plugins.module_utils.tls.material import Certificate, read_ocsp_staple, read_private_key
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.x509 import ocsp
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID
from tls_pki import NOW, Issued, Pki, key_pem


@dataclass(frozen=True)
class Kit:
    """A three-stage PKI and what judges it. `server` and `client` are silent unless told otherwise."""

    pki: Pki
    root: Issued
    intermediate: Issued
    leaf: Issued
    data: Callable[[str], tuple[Certificate, ...]]

    def issue(self, name: str = "a.example.com", issuer: Issued | None = None, **options: Any) -> Issued:
        return self.pki.issue(name, issuer or self.intermediate, **options)

    def server(self, *chain: Issued, key: Issued | None = None, **options: Any) -> tuple[Problem, ...]:
        return self._pair(checks.check_server_pair, chain, key, options)

    def client(self, *chain: Issued, key: Issued | None = None, **options: Any) -> tuple[Problem, ...]:
        return self._pair(checks.check_client_pair, chain, key, options)

    def _pair(self, check: Any, chain: tuple[Issued, ...], key: Issued | None, options: dict[str, Any]) -> tuple[Problem, ...]:
        """The chain is `chain` and, where it is a single leaf, the intermediate; the key is the first one's."""
        whole = (*chain, self.intermediate) if len(chain) == 1 and not options.pop("alone", False) else chain
        anchors = options.pop("anchors", (self.root,))
        found = check(
            [issued.certificate for issued in whole],
            read_private_key(key_pem((key or chain[0]).key), where="key"),
            trust_anchors=None if anchors is None else [issued.certificate for issued in anchors],
            now=options.pop("now", NOW),
            where="here",
            **options,
        )
        assert isinstance(found, tuple)
        return found

    def read(self, name: str, **options: Any) -> tuple[Problem, ...]:
        return checks.check_server_pair(self.data(name), None, now=NOW, where="here", **options)

    def ca(self, *cas: Issued, **options: Any) -> tuple[Problem, ...]:
        return ca_checks.check_ca([issued.certificate for issued in cas], now=NOW, where="here", **options)

    def crls(self, crls: tuple[Any, ...], cas: tuple[Issued, ...], chain: tuple[Issued, ...] = ()) -> tuple[Problem, ...]:
        return revocation_checks.check_crls(
            crls, [issued.certificate for issued in cas], chain=[issued.certificate for issued in chain], now=NOW, where="here"
        )

    def ocsp(self, der: bytes | None, leaf: Issued, issuer: Issued | None = None) -> tuple[Problem, ...]:
        staple = read_ocsp_staple(der, where="here") if der is not None else None
        chain = [leaf.certificate, (issuer or self.intermediate).certificate]
        return revocation_checks.check_ocsp(staple, chain, now=NOW, where="here")

    def staple(self, leaf: Issued, **options: Any) -> bytes:
        return self.pki.staple(leaf, self.intermediate, **options)

    def must_staple(self) -> Issued:
        return self.issue(extensions=(x509.TLSFeature([x509.TLSFeatureType.status_request]),))


@pytest.fixture(scope="session")
def kit(pki: Pki, root: Issued, intermediate: Issued, leaf: Issued, data: Any) -> Kit:
    return Kit(pki, root, intermediate, leaf, data)


def constrained(kit: Kit, permitted: Any = None, excluded: Any = None) -> Issued:
    return kit.pki.issue("Constrained", kit.root, ca=True, extensions=(x509.NameConstraints(permitted, excluded),))


def twin(kit: Kit) -> Issued:
    """Another CA of the intermediate's name."""
    return kit.pki.issue("Intermediate", kit.root, ca=True, key="P-256#twin")


def cross_signed(kit: Kit) -> Issued:
    """The root's key and name, certified by an older CA, as public CAs hand it out while their own root is young."""
    return kit.pki.issue("Root", kit.pki.issue("Older Root", ca=True), key="P-256#Root", ca=True, days=(-100, -1))


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\0")
POLICIES = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)])


def renewed(kit: Kit, left: float) -> tuple[Issued, Issued]:
    """A certificate that ends in so many days, and the next one for the same key."""
    return kit.issue(key="P-256#renewed", days=(-80, left)), kit.issue(key="P-256#renewed")


def below(kit: Kit, ca: Issued) -> tuple[Issued, Issued]:
    return kit.issue(issuer=ca), ca


def dns_tree(name: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name)]


def ip_tree(network: str) -> list[x509.GeneralName]:
    return [x509.IPAddress(ipaddress.ip_network(network))]


def signed(kit: Kit, **options: Any) -> Issued:
    return kit.issue(issuer=kit.pki.issue("RSA CA", ca=True, key="RSA 2048#ca"), **options)


def pss(salt: int) -> dict[str, Any]:
    return {"rsa_padding": padding.PSS(padding.MGF1(hashes.SHA256()), salt)}


def skewed(seconds: float) -> tuple[float, float]:
    return (seconds / 86400, 9)


def key_ids(own: Issued | None = None, issuer: Issued | None = None, above: Issued | None = None) -> tuple[x509.ExtensionType, ...]:
    """Subject and authority key identifier; `above` issued the issuer."""
    found: list[x509.ExtensionType] = []
    if own is not None:
        found.append(x509.SubjectKeyIdentifier.from_public_key(own.key.public_key()))
    if issuer is not None:
        digest = x509.SubjectKeyIdentifier.from_public_key(issuer.key.public_key()).digest
        name = [x509.DirectoryName(above.certificate.subject_name)] if above else None
        found.append(x509.AuthorityKeyIdentifier(digest, name, issuer.certificate.serial_number if above else None))
    return tuple(found)


def ca_issuers(url: str) -> x509.AuthorityInformationAccess:
    return x509.AuthorityInformationAccess(
        [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(url))]
    )


def named(text: str, kind: Any) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text, _type=kind)])


def public(*roots: Issued) -> checks.Roots:
    return checks.Roots(public=b"".join(root.pem for root in roots))


def old(kit: Kit, name: str = "Intermediate") -> Issued:
    """An expired certificate for a CA's name and key."""
    return kit.pki.issue(name, None if name == "Root" else kit.root, ca=True, days=(-9, -1))


# name, what is judged, the errors, the warnings, what the first message or remedy must hold
CASES: list[tuple[str, Callable[[Kit], tuple[Problem, ...]], list[str], list[str], list[str]]] = [
    ("a good server", lambda k: k.server(k.leaf, hosts=["httpbin.example.com"]), [], [], []),
    ("a good client", lambda k: k.client(k.issue("client", purposes=("clientAuth",), usage=("digital_signature",))), [], [], []),
    ("the root at the end", lambda k: k.server(k.leaf, k.intermediate, k.root), [], [], []),
    (
        "the key unreadable",
        lambda k: checks.check_server_pair([k.leaf.certificate, k.intermediate.certificate], None, now=NOW, where="here"),
        [],
        [],
        [],
    ),
    ("nothing", lambda k: checks.check_server_pair([], None, now=NOW, where="here"), ["not_pem"], [], ["at least one"]),
    ("no CA at all", lambda k: k.ca(), ["not_pem"], [], []),
    # the key
    (
        "another key",
        lambda k: k.server(k.leaf, key=k.root),
        ["key_mismatch"],
        [],
        ["CN=httpbin.example.com (ECDSA P-256", "found another one"],
    ),
    ("another kind of key", lambda k: k.server(k.leaf, key=k.issue(key="RSA 2048")), ["key_mismatch"], [], ["RSA 2048"]),
    ("RSA", lambda k: k.server(k.issue(key="RSA 2048")), [], [], []),
    ("RSA too short", lambda k: k.server(k.issue(key="RSA 1024")), ["key_unsupported"], [], ["RSA of 2048", "found RSA 1024", "too short"]),
    ("P-224", lambda k: k.server(k.issue(key="P-224")), ["key_unsupported"], [], ["P-224", "does not know"]),
    ("P-384", lambda k: k.server(k.issue(key="P-384")), [], ["key_too_new"], ["Istio before 1.25", "P-384"]),
    ("P-521", lambda k: k.server(k.issue(key="P-521")), [], ["key_too_new", "key_rarely_accepted"], []),
    ("Ed25519", lambda k: k.server(k.issue(key="Ed25519")), [], ["key_rarely_accepted"], ["Ed25519", "FIPS"]),
    ("DSA", lambda k: k.read("dsa.pem"), ["key_unsupported"], ["lifetime_too_long"], ["DSA 1024"]),
    (
        "a curve spelled out",
        lambda k: k.read("explicit_curve.pem"),
        ["key_unsupported"],
        ["leaf_is_ca", "lifetime_too_long", "cn_only"],
        ["spells out"],
    ),
    ("a weak CA key", lambda k: k.ca(k.pki.issue("Weak", ca=True, key="RSA 1024")), [], ["ca_key_weak"], ["RSA 1024"]),
    ("an Ed25519 CA", lambda k: k.ca(k.pki.issue("Ed", ca=True, key="Ed25519")), [], [], []),
    ("a P-224 CA", lambda k: k.ca(k.pki.issue("P", ca=True, key="P-224")), [], [], []),
    ("a secp256k1 CA", lambda k: k.ca(k.pki.issue("K", ca=True, key="secp256k1")), ["key_unsupported"], [], ["secp256k1"]),
    ("a P-521 CA", lambda k: k.ca(k.pki.issue("P", ca=True, key="P-521")), [], [], []),
    # the chain
    (
        "root to leaf",
        lambda k: k.server(k.root, k.intermediate, k.leaf, key=k.leaf),
        ["chain_order"],
        [],
        [
            "found CN=Root as certificate 1 where CN=httpbin",
            "CN=httpbin.example.com (now certificate 3), CN=Intermediate (now certificate 2)",
        ],
    ),
    ("the middle swapped", lambda k: k.server(k.leaf, k.root, k.intermediate), [], ["chain_order"], ["found CN=Root as certificate 2"]),
    (
        "out of order without a key",
        lambda k: checks.check_server_pair([k.intermediate.certificate, k.leaf.certificate], None, now=NOW, where="here"),
        ["chain_order"],
        [],
        ["CN=Intermediate as certificate 1"],
    ),
    ("the leaf twice", lambda k: k.server(k.leaf, k.leaf, k.intermediate), [], ["chain_duplicate"], ["CN=httpbin.example.com 2 times"]),
    (
        "a stranger",
        lambda k: k.server(k.leaf, k.intermediate, k.issue("other")),
        [],
        ["chain_contains_unrelated"],
        ["CN=other (certificate 3)"],
    ),
    (
        "a gap",
        lambda k: k.server(k.leaf, k.root),
        ["chain_incomplete"],
        ["chain_contains_unrelated"],
        ["CN=Root", "ends at CN=httpbin.example.com, whose issuer CN=Intermediate is missing"],
    ),
    (
        "the issuer's namesake",
        lambda k: k.server(k.leaf, twin(k)),
        ["chain_broken_signature", "chain_incomplete"],
        [],
        ["CN=Intermediate", "was not made with its key"],
    ),
    (
        "the issuer behind its namesake",
        lambda k: k.server(k.leaf, twin(k), k.intermediate),
        ["chain_order"],
        [],
        ["with that of certificate 3 of the same name", "Remove certificate 2"],
    ),
    (
        "the issuer before its namesake",
        lambda k: k.server(k.leaf, k.intermediate, twin(k)),
        [],
        ["chain_contains_unrelated"],
        ["another CN=Intermediate (certificate 3), which has the issuer's name and another key"],
    ),
    ("an issuer missing", lambda k: k.server(k.leaf, alone=True), ["chain_incomplete"], [], ["CN=Intermediate is missing", "Append"]),
    (
        "an issuer missing, anchors unknown",
        lambda k: k.server(k.leaf, alone=True, anchors=None),
        [],
        [],
        [],
    ),
    ("anchors unknown", lambda k: k.server(k.leaf, anchors=None), [], [], []),
    ("no anchors", lambda k: k.server(k.leaf, anchors=()), ["chain_incomplete"], [], ["(none)"]),
    ("an intermediate as anchor", lambda k: k.server(k.leaf, alone=True, anchors=(k.intermediate,)), [], [], []),
    ("an anchor within the chain", lambda k: k.server(k.leaf, k.intermediate, k.root, anchors=(k.intermediate,)), [], [], []),
    ("the leaf as anchor", lambda k: k.server(k.leaf, alone=True, anchors=(k.leaf,)), [], [], []),
    (
        "an anchor reissued for the same key",
        lambda k: k.server(k.leaf, k.intermediate, k.root, anchors=(k.pki.issue("Root", ca=True, days=(-1, 9)),)),
        [],
        [],
        [],
    ),
    (
        "another root",
        lambda k: k.server(k.leaf, k.intermediate, k.root, anchors=(k.pki.issue("Other", ca=True),)),
        ["chain_incomplete"],
        [],
        ["another root"],
    ),
    (
        "an anchor's namesake",
        lambda k: k.server(k.leaf, anchors=(k.pki.issue("Root", ca=True, key="P-256#twin"),)),
        ["chain_incomplete"],
        [],
        ["names one of them as its issuer, but was not signed"],
    ),
    (
        "an expired anchor",
        lambda k: k.server(k.leaf, anchors=(k.pki.issue("Root", ca=True, days=(-9, -1)),)),
        [],
        ["trust_anchor_expired"],
        ["CN=Root"],
    ),
    ("self-signed", lambda k: k.server(k.pki.issue("a.example.com"), alone=True), ["chain_incomplete"], [], ["self-signed"]),
    ("self-signed, anchors unknown", lambda k: k.server(k.pki.issue("a.example.com"), alone=True, anchors=None), [], [], []),
    (
        "issued by a leaf",
        lambda k: k.server(k.issue("b", k.leaf, purposes=("serverAuth",)), k.leaf, k.intermediate),
        ["ca_is_no_ca"],
        [],
        ["CN=httpbin.example.com", "CA:FALSE"],
    ),
    (
        "pathlen kept",
        lambda k: k.server(
            k.issue("b", k.pki.issue("Sub", k.root, ca=True, path_length=0)), k.pki.issue("Sub", k.root, ca=True, path_length=0)
        ),
        [],
        [],
        [],
    ),
    (
        "pathlen exceeded",
        lambda k: k.server(
            k.issue("b", k.pki.issue("Sub", k.intermediate, ca=True)),
            k.pki.issue("Sub", k.intermediate, ca=True),
            k.intermediate,
            anchors=(k.pki.issue("Root", ca=True, path_length=1),),
        ),
        ["path_too_long"],
        [],
        ["at most 1 intermediates below CN=Root", "found 2"],
    ),
    (
        "a name permitted",
        lambda k: k.server(k.issue("b.example.com", constrained(k, dns_tree("example.com"))), constrained(k, dns_tree("example.com"))),
        [],
        [],
        [],
    ),
    (
        "a name not permitted",
        lambda k: k.server(k.issue("b.example.org", constrained(k, dns_tree("example.com"))), constrained(k, dns_tree("example.com"))),
        ["name_constraints_violated"],
        [],
        ["permits example.com", "found b.example.org"],
    ),
    (
        "a name excluded",
        lambda k: k.server(
            k.issue("b.example.com", constrained(k, None, dns_tree(".example.com"))), constrained(k, None, dns_tree(".example.com"))
        ),
        ["name_constraints_violated"],
        [],
        ["excludes .example.com"],
    ),
    (
        "addresses not permitted",
        lambda k: k.server(
            k.issue("b", constrained(k, ip_tree("10.0.0.0/8")), ip=("10.1.2.3", "192.0.2.1", "2001:db8::1")),
            constrained(k, ip_tree("10.0.0.0/8")),
        ),
        ["name_constraints_violated", "name_constraints_violated"],
        ["name_constraints_violated"],
        ["found 192.0.2.1", "found 10.1.2.3 in CN=b; Envoy as the peer refuses it"],
    ),
    # dates
    (
        "expired",
        lambda k: k.server(k.issue(days=(-9, -2))),
        ["expired"],
        [],
        ["CN=a.example.com expired on 2026-12-30T12:00:00Z, 2 days ago"],
    ),
    ("the last second", lambda k: k.server(k.issue(days=(-9, 0))), [], [], []),
    ("not yet valid", lambda k: k.server(k.issue(days=(1, 9))), ["not_yet_valid"], [], ["valid from 2027-01-02T12:00:00Z", "2027-01-01"]),
    (
        "too little left",
        lambda k: k.server(k.issue(days=(-9, 10)), min_remaining=timedelta(days=30)),
        ["expires_soon"],
        [],
        ["expected 30 days", "found 10 days", "2027-01-11"],
    ),
    (
        "hours left",
        lambda k: k.server(k.issue(days=(-9, 0.5)), min_remaining=timedelta(days=1)),
        ["expires_soon"],
        [],
        ["expected 1 day", "12 hours"],
    ),
    ("enough left", lambda k: k.server(k.issue(days=(-9, 30)), min_remaining=timedelta(days=30)), [], [], []),
    (
        "an intermediate expired",
        lambda k: k.server(
            k.issue("b", k.pki.issue("Sub", k.root, ca=True, days=(-9, -1))), k.pki.issue("Sub", k.root, ca=True, days=(-9, -1))
        ),
        ["expired"],
        [],
        ["CN=Sub", "CA"],
    ),
    ("a CA expired", lambda k: k.ca(k.pki.issue("Old", ca=True, days=(-9, -1))), ["ca_expired"], [], ["CN=Old expired on"]),
    ("a CA not yet valid", lambda k: k.ca(k.pki.issue("New", ca=True, days=(1, 9))), ["not_yet_valid"], [], ["CN=New"]),
    (
        "a CA with little left",
        lambda k: k.ca(k.pki.issue("Old", ca=True, days=(-9, 9)), min_remaining=timedelta(days=10)),
        ["expires_soon"],
        [],
        [],
    ),
    (
        "an expired cross-signature above the anchor",
        lambda k: k.server(k.leaf, k.intermediate, cross_signed(k)),
        [],
        [],
        [],
    ),
    (
        "an expired cross-signature, anchors unknown",
        lambda k: k.server(k.leaf, k.intermediate, cross_signed(k), anchors=None),
        [],
        ["expired_not_needed"],
        ["CN=Root, issued by CN=Older Root, expired on 2026-12-31", "Remove it"],
    ),
    (
        "an anchor within the chain expired",
        lambda k: (old := k.pki.issue("Root", ca=True, days=(-9, -1))) and k.server(k.leaf, k.intermediate, old, anchors=(old,)),
        ["expired"],
        [],
        ["CN=Root expired on"],
    ),
    # usages
    (
        "no digitalSignature",
        lambda k: k.server(k.issue(usage=("key_agreement",))),
        ["wrong_key_usage"],
        [],
        ["found keyAgreement", "Envoy refuses"],
    ),
    ("a CA's usage", lambda k: k.client(k.issue(usage=("key_cert_sign",))), ["wrong_key_usage"], [], ["found keyCertSign"]),
    (
        "RSA for encipherment only",
        lambda k: k.client(k.issue(key="RSA 2048", usage=("key_encipherment",))),
        ["wrong_key_usage"],
        [],
        ["keyEncipherment"],
    ),
    ("RSA for both", lambda k: k.server(k.issue(key="RSA 2048", usage=("key_encipherment", "digital_signature"))), [], [], []),
    (
        "a client's as server",
        lambda k: k.server(k.issue(purposes=("clientAuth",))),
        ["wrong_extended_key_usage"],
        [],
        ["serverAuth", "found clientAuth"],
    ),
    ("a server's as client", lambda k: k.client(k.leaf), ["wrong_extended_key_usage"], [], ["clientAuth", "found serverAuth"]),
    ("for both", lambda k: k.client(k.issue(purposes=("clientAuth", "serverAuth"))), [], [], []),
    ("for any purpose", lambda k: k.server(k.issue(purposes=("any",))), [], [], []),
    (
        "a CA for something else",
        lambda k: k.server(
            k.issue("b", k.pki.issue("Sub", k.root, ca=True, purposes=("codeSigning",))),
            k.pki.issue("Sub", k.root, ca=True, purposes=("codeSigning",)),
        ),
        ["wrong_extended_key_usage"],
        [],
        ["CN=Sub is limited to codeSigning"],
    ),
    ("a CA as server", lambda k: k.server(k.issue(ca=True, dns=("a.example.com",))), [], ["leaf_is_ca"], ["found a CA's"]),
    # signatures and serial numbers
    ("SHA-1", lambda k: k.read("sha1.pem"), [], ["weak_signature", "lifetime_too_long"], ["SHA1", "SHA-256", "Envoy takes it"]),
    ("MD5", lambda k: k.read("md5.pem"), ["weak_signature"], ["lifetime_too_long"], []),
    (
        "MD5 under its root",
        lambda k: k.read("md5.pem", trust_anchors=k.data("sha1.pem")[1:]),
        ["weak_signature"],
        ["lifetime_too_long"],
        ["MD5"],
    ),
    ("a SHA-1 root", lambda k: ca_checks.check_ca(k.data("sha1.pem")[1:], now=NOW, where="here"), [], [], []),
    ("serial 0", lambda k: k.read("serial0.pem"), [], ["serial_not_positive", "lifetime_too_long"], []),
    (
        "serial below 0",
        lambda k: k.read("serial_negative.pem", trust_anchors=k.data("sha1.pem")[1:]),
        [],
        ["serial_not_positive", "lifetime_too_long"],
        ["found -05"],
    ),
    # renewed with the same key, and appended
    (
        "the renewed certificate behind the old one",
        lambda k: k.server(*renewed(k, 5), k.intermediate),
        [],
        ["chain_order"],
        ["certificate 2, which ends on 2027-04-01", "the first is the one that is served", "Remove certificate 1"],
    ),
    (
        "the renewed certificate behind one that has expired",
        lambda k: k.server(*renewed(k, -1), k.intermediate),
        ["chain_order", "expired"],
        [],
        ["Remove certificate 1"],
    ),
    ("the renewed certificate first", lambda k: k.server(*renewed(k, 5)[::-1], k.intermediate), [], [], []),
    # critical extensions
    (
        "an unknown critical extension",
        lambda k: k.server(k.issue(critical=(UNKNOWN,))),
        ["critical_extension"],
        [],
        ["found 1.2.3.4.5 in CN=a.example.com", "every peer refuses", "marked as not critical"],
    ),
    ("the same, not critical", lambda k: k.server(k.issue(extensions=(UNKNOWN,))), [], [], []),
    (
        "an unknown critical extension of an intermediate",
        lambda k: k.server(*below(k, k.pki.issue("Odd CA", k.root, ca=True, critical=(UNKNOWN,)))),
        ["critical_extension"],
        [],
        ["in CN=Odd CA"],
    ),
    ("a precertificate", lambda k: k.server(k.issue(critical=(x509.PrecertPoison(),))), ["critical_extension"], [], ["for CT logs"]),
    ("critical policies", lambda k: k.server(k.issue(critical=(POLICIES,))), [], [], []),
    (
        "what OpenSSL alone knows",
        lambda k: k.server(k.issue(critical=(x509.OCSPNoCheck(),))),
        [],
        ["critical_extension"],
        ["OpenSSL knows it"],
    ),
    # hosts
    (
        "a name with a space is shown as it is",
        lambda k: k.server(k.issue(dns=("shop.example.com ",)), hosts=["shop.example.com"]),
        ["host_not_covered"],
        [],
        ["found 'shop.example.com ' in"],
    ),
    (
        "hosts covered",
        lambda k: k.server(
            k.leaf,
            hosts=[
                "HTTPBIN.example.com.",
                "x.apps.example.com",
                "*.apps.example.com",
                "10.0.0.1",
                "[2001:DB8::1]",
                "*",
                "ns/httpbin.example.com",
            ],
        ),
        [],
        [],
        [],
    ),
    (
        "a host not covered",
        lambda k: k.server(k.leaf, hosts=["other.example.com"]),
        ["host_not_covered"],
        [],
        ["expected a certificate for other.example.com, found httpbin.example.com, *.apps.example.com, 10.0.0.1", "DNS:other.example.com"],
    ),
    (
        "two hosts not covered",
        lambda k: k.server(k.leaf, hosts=["b.example.com", "c.example.com", "b.example.com"]),
        ["host_not_covered"] * 2,
        [],
        [],
    ),
    (
        "two labels under a wildcard",
        lambda k: k.server(k.leaf, hosts=["a.b.apps.example.com"]),
        ["host_not_covered"],
        [],
        ["exactly one label"],
    ),
    ("a wildcard host", lambda k: k.server(k.leaf, hosts=["*.example.com"]), ["host_not_covered"], [], ["needs the same wildcard"]),
    ("an address not covered", lambda k: k.server(k.leaf, hosts=["10.0.0.2"]), ["host_not_covered"], [], ["IP:10.0.0.2"]),
    ("an address as DNS name", lambda k: k.server(k.issue(dns=("10.0.0.2",)), hosts=["10.0.0.2"]), ["host_not_covered"], [], ["as an IP"]),
    (
        "no host",
        lambda k: k.server(k.leaf, hosts=["https://httpbin.example.com:443"]),
        ["host_invalid"],
        [],
        ["it is a URL", "Write httpbin.example.com"],
    ),
    (
        "a name that ends in a dot",
        lambda k: k.server(k.issue(dns=("a.example.com.",)), hosts=["a.example.com"]),
        [],
        ["name_with_final_dot"],
        ["DNS:a.example.com"],
    ),
    ("the same without, too", lambda k: k.server(k.issue(dns=("a.example.com.", "*.example.com")), hosts=["a.example.com"]), [], [], []),
    ("common name only", lambda k: k.server(k.issue(dns=())), [], ["cn_only"], ["many clients", "a.example.com"]),
    ("common name only, the host", lambda k: k.server(k.issue(dns=()), hosts=["a.example.com"]), [], ["cn_only"], []),
    ("common name only, another host", lambda k: k.server(k.issue(dns=()), hosts=["b.example.com"]), ["host_not_covered"], ["cn_only"], []),
    ("no name at all", lambda k: k.server(k.issue("", dns=()), hosts=["b.example.com"]), ["host_not_covered"], ["cn_only"], ["(none)"]),
    ("a client without names", lambda k: k.client(k.issue("client", dns=())), [], [], []),
    # CAs
    ("a good CA", lambda k: k.ca(k.root), [], [], []),
    ("an intermediate alone", lambda k: k.ca(k.intermediate), [], [], []),
    ("a CA of version 1", lambda k: ca_checks.check_ca(k.data("version1.pem"), now=NOW, where="here"), [], [], []),
    ("a leaf", lambda k: k.ca(k.leaf), [], ["ca_is_no_ca"], ["a peer's own certificate, issued by CN=Intermediate", "these peers alone"]),
    ("a self-signed certificate of a peer", lambda k: k.ca(k.pki.issue("x")), [], [], []),
    (
        "no keyCertSign",
        lambda k: k.ca(k.pki.issue("x", ca=True, usage=("crl_sign",))),
        ["ca_is_no_ca"],
        [],
        ["keyUsage cRLSign, without keyCertSign"],
    ),
    ("a CA twice", lambda k: k.ca(k.root, k.root), [], ["chain_duplicate"], ["CN=Root"]),
    # CRLs
    ("no CRL", lambda k: k.crls((), (k.root,)), [], [], []),
    ("CRLs for all", lambda k: k.crls((k.pki.crl(k.root), k.pki.crl(k.intermediate)), (k.root, k.intermediate)), [], [], []),
    ("a CRL without a CA", lambda k: k.crls((k.pki.crl(k.root),), ()), ["crl_without_ca"], [], ["only together with the CA"]),
    (
        "a CRL of an intermediate that peers send",
        lambda k: k.crls((k.pki.crl(k.root), k.pki.crl(k.intermediate)), (k.root,)),
        [],
        ["crl_issuer_unknown"],
        ["(CN=Root), found one of CN=Intermediate"],
    ),
    (
        "a CA without CRL",
        lambda k: k.crls((k.pki.crl(k.root),), (k.root, k.intermediate)),
        ["crl_incomplete"],
        [],
        ["found none of CN=Intermediate"],
    ),
    (
        "an intermediate with a CRL but no root",
        lambda k: k.crls((k.pki.crl(k.intermediate),), (k.intermediate,)),
        ["crl_incomplete"],
        [],
        ["issuer of CN=Intermediate (CN=Root)"],
    ),
    (
        "a CRL expired",
        lambda k: k.crls((k.pki.crl(k.root, days=(-9, -1)),), (k.root,)),
        ["crl_expired"],
        [],
        ["CN=Root expired on 2026-12-31"],
    ),
    (
        "a CRL expired beside a new one",
        lambda k: k.crls((k.pki.crl(k.root, days=(-9, -1)), k.pki.crl(k.root)), (k.root,)),
        [],
        ["crl_expired"],
        ["newer one"],
    ),
    (
        "a CRL too early",
        lambda k: k.crls((k.pki.crl(k.root, days=(1, 9)),), (k.root,)),
        ["crl_not_yet_valid"],
        [],
        ["valid from 2027-01-02"],
    ),
    ("a CRL badly signed", lambda k: k.crls((k.pki.crl(k.root, signer="P-256#x"),), (k.root,)), ["crl_signature_invalid"], [], ["CN=Root"]),
    (
        "a CRL signed with another kind of key",
        lambda k: k.crls((k.pki.crl(k.root, signer="RSA 2048"),), (k.root,)),
        ["crl_signature_invalid"],
        [],
        [],
    ),
    (
        "a CA that may not sign CRLs",
        lambda k: k.crls(
            (k.pki.crl(k.pki.issue("C", ca=True, usage=("key_cert_sign",))),), (k.pki.issue("C", ca=True, usage=("key_cert_sign",)),)
        ),
        ["ca_cannot_sign_crl"],
        [],
        ["cRLSign in CN=C, found keyCertSign"],
    ),
    (
        "a delta CRL",
        lambda k: k.crls((k.pki.crl(k.root, extensions=(x509.DeltaCRLIndicator(1),)),), (k.root,)),
        ["crl_unsupported"],
        [],
        ["delta CRL of CN=Root"],
    ),
    (
        "the pair's own certificate revoked",
        lambda k: k.crls((k.pki.crl(k.root), k.pki.crl(k.intermediate, revoked=(k.leaf,))), (k.root, k.intermediate), (k.leaf,)),
        ["revoked"],
        [],
        ["CN=httpbin.example.com (serial "],
    ),
    (
        "another certificate revoked",
        lambda k: k.crls((k.pki.crl(k.root), k.pki.crl(k.intermediate, revoked=(k.issue("b"),))), (k.root, k.intermediate), (k.leaf,)),
        [],
        [],
        [],
    ),
    (
        "a CA revoked",
        lambda k: k.crls((k.pki.crl(k.root, revoked=(k.intermediate,)), k.pki.crl(k.intermediate)), (k.root, k.intermediate)),
        [],
        ["revoked"],
        ["CN=Intermediate"],
    ),
    # OCSP
    ("no staple", lambda k: k.ocsp(None, k.leaf), [], [], []),
    ("a staple", lambda k: k.ocsp(k.staple(k.leaf), k.leaf), [], [], []),
    ("no staple, must-staple", lambda k: k.ocsp(None, k.must_staple()), ["ocsp_missing"], [], ["must-staple", "Envoy refuses"]),
    ("another certificate's staple", lambda k: k.ocsp(k.staple(k.issue("b")), k.leaf), ["ocsp_wrong_certificate"], [], ["serial"]),
    (
        "another issuer's staple",
        lambda k: k.ocsp(k.pki.staple(k.issue("b", k.root, serial=77), k.root), k.issue("b", serial=77)),
        ["ocsp_wrong_certificate"],
        [],
        ["4D"],
    ),
    (
        "an expired staple",
        lambda k: k.ocsp(k.staple(k.leaf, days=(-9, -1)), k.leaf),
        [],
        ["ocsp_expired"],
        ["2026-12-31", "does not send it"],
    ),
    ("a staple without end", lambda k: k.ocsp(k.staple(k.leaf, days=(-9, None)), k.leaf), [], ["ocsp_expired"], ["until when"]),
    (
        "an expired staple, must-staple",
        lambda k: (leaf := k.must_staple()) and k.ocsp(k.staple(leaf, days=(-9, -1)), leaf),
        ["ocsp_expired"],
        [],
        ["refuses clients"],
    ),
    ("a staple too early", lambda k: k.ocsp(k.staple(k.leaf, days=(1, 9)), k.leaf), [], ["ocsp_not_yet_valid"], ["2027-01-02"]),
    (
        "revoked by OCSP",
        lambda k: k.ocsp(k.staple(k.leaf, status=ocsp.OCSPCertStatus.REVOKED), k.leaf),
        ["ocsp_revoked"],
        [],
        ["found revoked"],
    ),
    (
        "unknown by OCSP",
        lambda k: k.ocsp(k.staple(k.leaf, status=ocsp.OCSPCertStatus.UNKNOWN), k.leaf),
        ["ocsp_unknown"],
        [],
        ["found unknown"],
    ),
    (
        "a delegated responder",
        lambda k: k.ocsp(k.staple(k.leaf, responder=k.issue("Responder", purposes=("OCSPSigning",))), k.leaf),
        [],
        [],
        [],
    ),
    (
        "a responder of its own making",
        lambda k: k.ocsp(k.staple(k.leaf, responder=k.pki.issue("Responder", purposes=("OCSPSigning",))), k.leaf),
        ["ocsp_signature_invalid"],
        [],
        ["CN=Intermediate"],
    ),
    # several ways
    (
        "the renewed intermediate first",
        lambda k: k.server(k.leaf, k.intermediate, old(k)),
        [],
        ["expired_not_needed"],
        ["has the same key"],
    ),
    (
        "the expired intermediate first",
        lambda k: k.server(k.leaf, old(k), k.intermediate),
        [],
        ["expired_not_needed"],
        ["take the first certificate of a name (Envoy"],
    ),
    (
        "an intermediate renewed, both valid",
        lambda k: k.server(k.leaf, k.pki.issue("Intermediate", k.root, ca=True), k.intermediate),
        [],
        [],
        [],
    ),
    (
        "cross-signed, then the root",
        lambda k: k.server(k.leaf, k.intermediate, cross_signed(k), k.root, anchors=None),
        [],
        ["expired_not_needed"],
        [],
    ),
    (
        "the root, then cross-signed",
        lambda k: k.server(k.leaf, k.intermediate, k.root, cross_signed(k), anchors=None),
        [],
        ["expired_not_needed"],
        [],
    ),
    (
        "cross-signed, its issuer, the root",
        lambda k: k.server(
            k.leaf, k.intermediate, cross_signed(k), k.pki.issue("Older Root", ca=True, days=(-900, -1)), k.root, anchors=None
        ),
        [],
        ["expired_not_needed"] * 2,
        ["there is a way to a root without it"],
    ),
    (
        "an expired intermediate below a root that is sent",
        lambda k: k.server(k.leaf, old(k), k.root, anchors=None),
        ["expired"],
        [],
        ["CN=Intermediate expired"],
    ),
    (
        "an expired policy CA below a root that is sent",
        lambda k: (
            (policy := k.pki.issue("Policy", k.root, ca=True, days=(-9, -1)))
            and (issuing := k.pki.issue("Issuing", policy, ca=True))
            and k.server(k.issue("b", issuing), issuing, policy, k.root, anchors=None)
        ),
        ["expired"],
        [],
        ["CN=Policy expired"],
    ),
    ("only an expired intermediate", lambda k: k.server(k.leaf, old(k), anchors=None), ["expired"], [], []),
    (
        "an expired root that is sent",
        lambda k: k.server(k.leaf, k.intermediate, old(k, "Root"), anchors=None),
        [],
        ["expired_not_needed"],
        [],
    ),
    # names (RFC 5280, 7.1)
    (
        "names of other letter case, spaces and string type",
        lambda k: (
            (ca := k.pki.issue("", k.root, ca=True, subject=named("Corp  Issuing CA ", _ASN1Type.PrintableString)))
            and k.server(k.issue("b", ca, issuer_name=named("CORP issuing ca", _ASN1Type.UTF8String)), ca)
        ),
        [],
        [],
        [],
    ),
    (
        "names that differ",
        lambda k: (
            (ca := k.pki.issue("Corp CA", k.root, ca=True))
            and k.server(k.issue("b", ca, issuer_name=named("Corp-CA", _ASN1Type.UTF8String)), ca)
        ),
        ["chain_incomplete"],
        ["chain_contains_unrelated"],
        ["to which no issuer leads"],
    ),
    # key identifiers
    (
        "key identifiers",
        lambda k: (
            (ca := k.pki.issue("I", k.root, ca=True, extensions=key_ids(k.pki.issue("I"))))
            and k.server(k.issue("b", ca, extensions=key_ids(None, ca)), ca)
        ),
        [],
        [],
        [],
    ),
    (
        "another key's identifier",
        lambda k: (
            (ca := k.pki.issue("I", k.root, ca=True, extensions=key_ids(k.pki.issue("I"))))
            and k.server(k.issue("b", ca, extensions=key_ids(None, k.root)), ca)
        ),
        [],
        ["key_identifier_mismatch"],
        ["CN=b names the key of its issuer CN=I"],
    ),
    # incomplete, visibly
    (
        "an issuer that says where it is to be had",
        lambda k: k.server(k.issue("b", extensions=(ca_issuers("http://ca.example/i.crt"),)), alone=True, anchors=None),
        [],
        ["chain_unverified"],
        ["CN=b alone", "http://ca.example/i.crt", "Append the intermediates"],
    ),
    (
        "an intermediate that says where the root is to be had",
        lambda k: (
            (ca := k.pki.issue("I", k.root, ca=True, extensions=(ca_issuers("http://ca.example/root.crt"),)))
            and k.server(k.issue("b", ca), ca, anchors=None)
        ),
        [],
        [],
        [],
    ),
    (
        "a known root that says where it is to be had",
        lambda k: k.server(
            k.issue("b", k.root, extensions=(ca_issuers("http://ca.example/root.crt"),)), alone=True, anchors=None, cas=[k.root.certificate]
        ),
        [],
        [],
        [],
    ),
    (
        "an issuer that has an issuer",
        lambda k: k.server(k.issue("b", extensions=key_ids(None, k.intermediate, k.root)), alone=True, anchors=None),
        [],
        ["chain_unverified"],
        ["CN=Intermediate, which issued CN=b, was itself issued by CN=Root and is missing"],
    ),
    (
        "an issuer that issued itself",
        lambda k: k.server(
            k.issue("b", k.root, extensions=(ca_issuers("http://ca.example/"), *key_ids(None, k.root, k.root))), alone=True, anchors=None
        ),
        [],
        [],
        [],
    ),
    # clocks
    (
        "valid in half a minute",
        lambda k: k.server(k.issue(days=skewed(30))),
        [],
        ["not_yet_valid"],
        ["2027-01-01T12:00:30Z", "in 31 seconds"],
    ),
    ("valid in two minutes", lambda k: k.server(k.issue(days=skewed(120))), ["not_yet_valid"], [], ["12:02:00Z", "not_before_tolerance"]),
    (
        "the tolerance raised",
        lambda k: k.server(k.issue(days=skewed(120)), not_before_tolerance=timedelta(minutes=5)),
        [],
        ["not_yet_valid"],
        [],
    ),
    ("no tolerance", lambda k: k.server(k.issue(days=skewed(1)), not_before_tolerance=timedelta()), ["not_yet_valid"], [], []),
    (
        "a CRL in half a minute",
        lambda k: k.crls((k.pki.crl(k.root, days=skewed(30)),), (k.root,)),
        [],
        ["crl_not_yet_valid"],
        ["12:00:30Z"],
    ),
    (
        "a staple in half a minute",
        lambda k: k.ocsp(k.staple(k.leaf, days=skewed(30)), k.leaf),
        [],
        ["ocsp_not_yet_valid"],
        ["in 31 seconds"],
    ),
    ("a CA in half a minute", lambda k: k.ca(k.pki.issue("New", ca=True, days=skewed(30))), [], ["not_yet_valid"], ["12:00:30Z"]),
    # lifetimes
    ("825 days", lambda k: k.server(k.issue(days=(-1, 824))), [], [], []),
    (
        "more than 825 days",
        lambda k: k.server(k.issue(days=(-1, 825))),
        [],
        ["lifetime_too_long"],
        ["825 days at most, found 826 days", "Apple"],
    ),
    ("more than 825 days, before 2019-07-01", lambda k: k.server(k.issue(days=(-2800, 900))), [], [], []),
    ("a client's for ten years", lambda k: k.client(k.issue(days=(-1, 3650))), [], [], []),
    ("200 days of a public root", lambda k: k.server(k.issue(days=(-1, 199)), roots=public(k.root)), [], [], []),
    (
        "201 days of a public root",
        lambda k: k.server(k.issue(days=(-1, 200)), roots=public(k.root)),
        [],
        ["lifetime_too_long"],
        ["200 days at most", "2026-03-15"],
    ),
    ("201 days of a private root", lambda k: k.server(k.issue(days=(-1, 200)), roots=public(k.issue("x"))), [], [], []),
    ("398 days of a public root before 2026-03-15", lambda k: k.server(k.issue(days=(-300, 98)), roots=public(k.root)), [], [], []),
    (
        "399 days of a public root before 2026-03-15",
        lambda k: k.server(k.issue(days=(-300, 99)), roots=public(k.root)),
        [],
        ["lifetime_too_long"],
        ["398 days"],
    ),
    (
        "101 days in 2027",
        lambda k: k.server(k.issue(days=(100, 201)), roots=public(k.root), now=NOW + timedelta(days=150)),
        [],
        ["lifetime_too_long"],
        ["100 days"],
    ),
    (
        "48 days in 2029",
        lambda k: k.server(k.issue("b", k.root, days=(830, 878)), alone=True, roots=public(k.root), now=NOW + timedelta(days=850)),
        [],
        ["lifetime_too_long"],
        ["47 days"],
    ),
    # signatures
    ("PSS", lambda k: k.server(signed(k, **pss(32)), alone=True, anchors=None), [], [], []),
    (
        "PSS with another salt",
        lambda k: k.server(signed(k, **pss(20)), alone=True, anchors=None),
        [],
        ["signature_rarely_accepted"],
        ["SHA256 and a salt of 20 bytes", "OpenSSL verifies it"],
    ),
    (
        "SHA-3",
        lambda k: k.server(signed(k, digest=hashes.SHA3_256()), alone=True, anchors=None),
        [],
        ["signature_rarely_accepted"],
        ["an algorithm that its library lacks"],
    ),
    (
        "an Ed25519 issuer",
        lambda k: (ca := k.pki.issue("E", k.root, ca=True, key="Ed25519#ca")) and k.server(k.issue("b", ca), ca),
        [],
        ["key_rarely_accepted"],
        ["found Ed25519 in CN=E"],
    ),
    # purposes
    (
        "a client's as server, the way out",
        lambda k: k.server(k.issue(purposes=("clientAuth",))),
        ["wrong_extended_key_usage"],
        [],
        ["Set purpose: client"],
    ),
    (
        "a public server's as client",
        lambda k: k.client(k.leaf),
        ["wrong_extended_key_usage"],
        [],
        ["public CAs no longer issue clientAuth", "purpose: server"],
    ),
    # bundles
    (
        "an expired CA beside another",
        lambda k: k.ca(k.pki.issue("Old", ca=True, days=(-9, -1)), k.root),
        [],
        ["ca_expired"],
        ["CN=Old expired on 2026-12-31"],
    ),
    (
        "all CAs expired",
        lambda k: k.ca(*(k.pki.issue(f"Old {n}", ca=True, days=(-9, -1)) for n in "123456")),
        ["ca_expired"],
        [],
        ["6 of 6: CN=Old 1", "and 3 more"],
    ),
    (
        "one CA stays valid",
        lambda k: k.ca(k.pki.issue("Old", ca=True, days=(-9, 9)), k.root, min_remaining=timedelta(days=10)),
        [],
        ["expires_soon"],
        ["CN=Old expires on 2027-01-10T12:00:00Z, in 9 days, where 10 days"],
    ),
    (
        "no CA stays valid",
        lambda k: k.ca(
            k.pki.issue("Old", ca=True, days=(-9, 9)), k.pki.issue("Older", ca=True, days=(-9, 8)), min_remaining=timedelta(days=10)
        ),
        ["expires_soon"],
        [],
        ["2 of 2"],
    ),
    (
        "a CA and its expired certificate",
        lambda k: k.ca(old(k, "Root"), k.root),
        [],
        ["ca_superseded"],
        ["Envoy might take it in place of the valid one"],
    ),
    (
        "two keys of one name",
        lambda k: k.ca(k.root, k.pki.issue("Root", ca=True, key="P-256#x")),
        [],
        ["ca_same_name"],
        ["tries one of them only"],
    ),
    (
        "two keys of one name, told apart",
        lambda k: k.ca(
            *(k.pki.issue("R", ca=True, key=f"P-256#{n}", extensions=key_ids(k.pki.issue("R", key=f"P-256#{n}"))) for n in "ab")
        ),
        [],
        [],
        [],
    ),
    (
        "many flaws in one line",
        lambda k: k.ca(
            k.root,
            k.root,
            k.pki.issue("Old", ca=True, days=(-9, -1)),
            k.pki.issue("K", ca=True, key="secp256k1"),
            k.pki.issue("Weak", ca=True, key="RSA 1024"),
        ),
        [],
        ["ca_bundle_flaws"],
        ["CN=Old expired", "CN=K has ECDSA secp256k1", "CN=Root is there 2 times", "CN=Weak has RSA 1024", "ca_expired, key_unsupported"],
    ),
    (
        "an intermediate that Envoy cannot verify",
        lambda k: (root := k.pki.issue("RSA CA", ca=True, key="RSA 2048#ca")) and k.ca(root, k.pki.issue("I", root, ca=True, **pss(20))),
        [],
        ["weak_signature"],
        ["RSASSA-PSS with SHA256 and a salt of 20 bytes"],
    ),
    (
        "the same without its issuer",
        lambda k: k.ca(k.pki.issue("I", k.pki.issue("RSA CA", ca=True, key="RSA 2048#ca"), ca=True, **pss(20))),
        [],
        [],
        [],
    ),
    (
        "a CRL for the CA that is left",
        lambda k: k.crls((k.pki.crl(k.root),), (k.pki.issue("Old", ca=True, days=(-9, -1)), k.root)),
        [],
        [],
        [],
    ),
    (
        "one line for many CAs without CRL",
        lambda k: k.crls((k.pki.crl(k.root),), (k.root, *(k.pki.issue(f"C{n}", ca=True) for n in "1234567"))),
        ["crl_incomplete"],
        [],
        ["CN=C5 and 2 more"],
    ),
]


@pytest.mark.parametrize(
    ("judge", "expected_errors", "expected_warnings", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_cases(kit: Kit, judge: Any, expected_errors: list[str], expected_warnings: list[str], words: list[str]) -> None:
    found = judge(kit)
    assert [problem.code for problem in errors(found)] == expected_errors
    assert [problem.code for problem in warnings(found)] == expected_warnings
    for problem in found:
        assert problem.where == "here"
        assert problem.message.startswith("expected ") and "found" in problem.message
        assert problem.remedy[0].isupper() and not problem.message.endswith(".") and not problem.remedy.endswith(".")
    text = "\n".join(map(str, found))
    assert all(word in text for word in words), text


def test_every_code_fires_and_is_silent_somewhere() -> None:
    """The good cases are silent for every code; that each fires is held here."""
    rooms = (ca_checks, certificate_checks, checks, host_checks, name_constraints, revocation_checks)
    named = {
        code
        for room in rooms
        for code in re.findall(r"(?:error|warning|warning\)|error\)|make|_Flaw)\(\s*\"([a-z0-9_]+)\"", inspect.getsource(room))
    }
    named |= {"ocsp_revoked", "ocsp_unknown", "crl_not_yet_valid", "ocsp_not_yet_valid", "not_yet_valid", "name_constraints_violated"}
    fired = {code for __, __, error_codes, warning_codes, __ in CASES for code in (*error_codes, *warning_codes)}
    assert fired == named


def test_documented_codes_are_those_that_fire() -> None:
    documented = " ".join(
        check.__doc__ or ""
        for check in (checks.check_server_pair, ca_checks.check_ca, revocation_checks.check_crls, revocation_checks.check_ocsp)
    )
    fired = {code for __, __, error_codes, warning_codes, __ in CASES for code in (*error_codes, *warning_codes)} - {"not_pem"}
    assert all(code in documented for code in fired)


def test_the_keys_own_place_is_named(kit: Kit) -> None:
    found = kit.server(kit.leaf, key=kit.root, key_where="private_key_path /k")
    assert [(problem.code, problem.where) for problem in found] == [("key_mismatch", "private_key_path /k")]


def test_all_is_found_at_once(kit: Kit) -> None:
    bad = kit.issue("bad", key="RSA 1024", days=(-9, -1), usage=("key_encipherment",), purposes=("clientAuth",), dns=())
    found = kit.server(kit.root, bad, key=bad, hosts=["a.example.com"], anchors=(kit.pki.issue("Other", ca=True),))
    assert {problem.code for problem in found} == {
        "chain_contains_unrelated",
        "chain_incomplete",
        "expired",
        "wrong_key_usage",
        "wrong_extended_key_usage",
        "key_unsupported",
        "cn_only",
        "host_not_covered",
    }


@pytest.mark.parametrize("name", ["a.example.com", "a.example.com.", "*.example.com."])
def test_a_name_with_a_final_dot_is_one_that_openssl_refuses(kit: Kit, tmp_path: Path, name: str) -> None:
    leaf = kit.issue(dns=(name,))
    (tmp_path / "leaf").write_bytes(leaf.pem)
    asked = ["openssl", "x509", "-in", "leaf", "-noout", "-checkhost", "a.example.com"]
    told = subprocess.run(asked, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    warned = [problem.code for problem in kit.server(leaf, hosts=["a.example.com"])]
    assert ("does NOT match" in told) == (warned == ["name_with_final_dot"]), told
    assert warned == [] or name.endswith(".")


def test_a_chain_as_deep_as_nobody_has_it(kit: Kit, tmp_path: Path) -> None:
    """OpenSSL goes a hundred certificates up, and so does Envoy: none of them is called a stranger."""
    chain = [kit.pki.issue("CA 0", kit.root, ca=True, key="P-256")]
    for number in range(1, 30):
        chain.insert(0, kit.pki.issue(f"CA {number}", chain[0], ca=True, key="P-256"))
    leaf = kit.pki.issue("a.example.com", chain[0])
    files = {"root": kit.root.pem, "between": b"".join(each.pem for each in chain), "leaf": leaf.pem}
    for name, pem in files.items():
        (tmp_path / name).write_bytes(pem)
    command = ["openssl", "verify", "-attime", str(int(NOW.timestamp())), "-CAfile", "root", "-untrusted", "between", "leaf"]
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    assert kit.server(leaf, *chain) == ()


def test_no_key_is_validated_as_it_is_read() -> None:
    """It takes 31 ms for an RSA key, so half a minute for a thousand credentials; that a key fits its certificate is checked by itself."""
    room = Path(checks.__file__).parent
    calls = [node for path in room.glob("*.py") for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    loaders = [call for call in calls if re.fullmatch(r"load_\w+_private_key", getattr(call.func, "id", getattr(call.func, "attr", "")))]
    assert len(loaders) >= 5
    for call in loaders:
        assert "unsafe_skip_rsa_key_validation=True" in {ast.unparse(keyword) for keyword in call.keywords}, ast.unparse(call)
