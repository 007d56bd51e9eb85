# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with certificate material that can be read: judges over parsed values. None raises, none stops the others.

What Envoy refuses was tried with Envoy 1.40 and looked up in its `source/common/tls`; severity follows from it: an error is what Envoy or
its peers refuse, a warning what works with some of them.

Why paths are built here and not by `x509.verification`: its profile is the Web PKI's. It wants a SAN in every leaf, keyUsage and
authority key identifiers in every CA, and answers with the first thing that it dislikes; private CAs, the ones of Istio's own pages among
them, fail it although Envoy and curl are content. Here a path is names and signatures (`material.build_path`), and each further demand
(dates, CA bits, path length, name constraints, usages) is a check with a code of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from ..problems import Problem
from .facts import rfc3339
from .material import Certificate, Crl, KeyKind, OcspStaple, PrivateKey, build_path, fingerprint, from_x509, names_match, signed_by
from .names import NoHost, address, common_name_covers, covers, read, shown, split_namespace

Purpose = Literal["server", "client"]

_NONE = timedelta(0)
_WEAK_HASHES = frozenset({"md2", "md4", "md5", "sha1"})


def check_server_pair(
    chain: Sequence[Certificate],
    key: PrivateKey | None,
    *,
    hosts: Iterable[str] = (),
    min_remaining: timedelta = _NONE,
    trust_anchors: Sequence[Certificate] | None = None,
    now: datetime,
    where: str,
    key_where: str | None = None,
) -> tuple[Problem, ...]:
    """A chain (leaf first) and its key as a gateway serves them to clients that ask for `hosts`.

    `key` is None where it could not be read. `hosts` may hold wildcards, IP addresses, Gateways' `namespace/host` and `*` (any host, which
    nothing is expected of). With `trust_anchors` (also an empty list) the chain must lead to one of them; None means that they are not
    known. `key_where` names the key in `key_mismatch`, where it came from elsewhere than the certificate.

    Codes: key_mismatch, chain_order, chain_duplicate, chain_contains_unrelated, chain_broken_signature, chain_incomplete, chain_unverified,
    trust_anchor_expired, ca_is_no_ca, path_too_long, name_constraints_violated, expired, not_yet_valid, expires_soon, wrong_key_usage,
    wrong_extended_key_usage, leaf_is_ca, key_unsupported, key_too_new, key_rarely_accepted, ca_key_weak, weak_signature,
    serial_not_positive, host_invalid, host_not_covered, cn_only.
    """
    if not chain:
        return _empty(where)
    pair = _check_pair(chain, key, "server", min_remaining, trust_anchors, now, where, key_where)
    return (*pair, *_check_hosts(_leaf(chain, key), hosts, where))


def check_client_pair(
    chain: Sequence[Certificate],
    key: PrivateKey | None,
    *,
    min_remaining: timedelta = _NONE,
    trust_anchors: Sequence[Certificate] | None = None,
    now: datetime,
    where: str,
    key_where: str | None = None,
) -> tuple[Problem, ...]:
    """A chain (leaf first) and its key as a client presents them; `trust_anchors` are the CAs that the server asks for. Codes as for a
    server, without the hosts'."""
    if not chain:
        return _empty(where)
    return tuple(_check_pair(chain, key, "client", min_remaining, trust_anchors, now, where, key_where))


def _empty(where: str) -> tuple[Problem, ...]:
    return (_error("not_pem", where, "expected at least one certificate, found none", "Give the certificate chain, leaf first"),)


def _error(code: str, where: str, message: str, remedy: str) -> Problem:
    return Problem(code, where, message, remedy)


def _warning(code: str, where: str, message: str, remedy: str) -> Problem:
    return Problem(code, where, message, remedy, "warning")


def _check_pair(
    chain: Sequence[Certificate],
    key: PrivateKey | None,
    purpose: Purpose,
    min_remaining: timedelta,
    trust_anchors: Sequence[Certificate] | None,
    now: datetime,
    where: str,
    key_where: str | None,
) -> Iterator[Problem]:
    leaf = _leaf(chain, key)
    path, rest = build_path(leaf, chain)
    anchor, place = _anchor(path, trust_anchors or ())
    needed = path if anchor is None else path[: max(place, 1)]
    whole = path if anchor is None else (*path[:place], anchor)
    if key is not None:
        yield from _check_key_match(leaf, key, where, key_where)
    yield from _check_order(chain, path, rest, where)
    yield from _check_completeness(path, anchor, trust_anchors, where)
    if anchor is not None and anchor not in path and anchor.not_after < now:
        yield _warning(
            "trust_anchor_expired",
            where,
            f"expected a trust anchor that is valid, found that {anchor.label} expired on {rfc3339(anchor.not_after)}",
            "Give the CA's present certificate among the trust anchors",
        )
    yield from _check_issuers(whole, where)
    yield from _check_name_constraints(whole, where)
    for certificate in needed if anchor is None or anchor not in path[1:] else (*needed, anchor):
        yield from _check_dates(certificate, min_remaining, now, where)
    yield from _check_usage(leaf, purpose, where)
    for issuer in needed[1:]:
        yield from _check_issuer_purpose(issuer, purpose, where)
    yield from _check_leaf_key(leaf, purpose, where)
    for issuer in needed[1:]:
        yield from _check_issuer_key(issuer, where)
    for certificate in needed:
        yield from _check_signature_hash(certificate, where)
        yield from _check_serial(certificate, where)
    if leaf.is_ca:
        yield _warning(
            "leaf_is_ca",
            where,
            f"expected the certificate of a {purpose}, found a CA's ({leaf.label}): whoever has its key can issue certificates",
            f"Issue a {purpose} certificate of its own (basicConstraints CA:FALSE)",
        )


def _leaf(chain: Sequence[Certificate], key: PrivateKey | None) -> Certificate:
    """The certificate that the pair is about: the key's, wherever it stands; else the first, unless it issued another one of the chain."""
    first = chain[0]
    if key is not None:
        return next((certificate for certificate in chain if certificate.spki == key.spki), first)
    others = [certificate for certificate in chain[1:] if certificate != first]
    if any(names_match(other, first) for other in others):
        return next((other for other in others if not any(names_match(each, other) for each in chain if each != other)), first)
    return first


def _check_key_match(leaf: Certificate, key: PrivateKey, where: str, key_where: str | None) -> Iterator[Problem]:
    if leaf.spki is not None and leaf.spki != key.spki:
        yield _error(
            "key_mismatch",
            key_where or where,
            f"expected the private key of {leaf.label} ({leaf.key}, public key SHA-256 {fingerprint(leaf.spki)}), "
            f"found another one ({key.kind}, public key SHA-256 {fingerprint(key.spki)})",
            "Give the key with which the certificate was requested, or the certificate that was issued for this key",
        )


def _check_order(chain: Sequence[Certificate], path: Sequence[Certificate], rest: Sequence[Certificate], where: str) -> Iterator[Problem]:
    unique = list(dict.fromkeys(chain))
    for certificate in unique:
        times = chain.count(certificate)
        if times > 1:
            yield _warning(
                "chain_duplicate",
                where,
                f"expected each certificate once, found {certificate.label} {times} times",
                "Remove the repetitions",
            )
    given = [certificate for certificate in unique if certificate in path]
    wrong = next((place for place, expected in enumerate(path) if given[place] != expected), None)
    if wrong is not None:
        order = ", ".join(f"{certificate.label} (now certificate {chain.index(certificate) + 1})" for certificate in path)
        yield _error(
            "chain_order",
            where,
            f"expected the leaf first and each certificate followed by its issuer, found {given[wrong].label} as certificate "
            f"{chain.index(given[wrong]) + 1} where {path[wrong].label} belongs",
            f"Put them in this order: {order}",
        )
    broken = [certificate for certificate in rest if not path[-1].is_self_signed and names_match(path[-1], certificate)]
    for certificate in broken:
        yield _error(
            "chain_broken_signature",
            where,
            f"expected that {certificate.label} (SHA-256 {certificate.fingerprint}) signed {path[-1].label}, which names it as its issuer, "
            "found that the signature was not made with its key",
            "Replace it by the issuer's certificate that belongs to the signature; CAs that were renewed with a new key keep their name",
        )
    unrelated = [certificate for certificate in rest if certificate not in broken]
    for certificate in unrelated:
        yield _warning(
            "chain_contains_unrelated",
            where,
            f"expected only {path[0].label} and its issuers, found {certificate.label} (certificate {chain.index(certificate) + 1}), which "
            f"issued none of them",
            "Remove it, or add the certificates between",
        )


def _anchor(path: Sequence[Certificate], trust_anchors: Sequence[Certificate]) -> tuple[Certificate | None, int]:
    """The first trust anchor that the path contains (as such, or reissued for the same key) or leads to, and how many certificates of the
    path stand below it. What a chain holds above (the cross-signed, expired root of a public CA, say) does no harm."""
    for place, certificate in enumerate(path):
        for anchor in trust_anchors:
            if anchor == certificate or (
                anchor.subject == certificate.subject and anchor.spki is not None and anchor.spki == certificate.spki
            ):
                return anchor, place
        for anchor in trust_anchors:
            if signed_by(certificate, anchor) is not False:
                return anchor, place + 1
    return None, 0


def _check_completeness(
    path: Sequence[Certificate], anchor: Certificate | None, trust_anchors: Sequence[Certificate] | None, where: str
) -> Iterator[Problem]:
    last = path[-1]
    if trust_anchors is None:
        if len(path) == 1 and not last.is_self_signed:
            yield _warning(
                "chain_unverified",
                where,
                f"expected the intermediates behind {last.label}, found none, and no trust anchors to tell whether {last.issuer} is a root",
                "Append the intermediates, or give trust_anchors if the issuer is a root that every peer trusts",
            )
        return
    if anchor is not None:
        return
    known = _listed([certificate.label for certificate in trust_anchors], "none")
    if any(names_match(last, certificate) for certificate in trust_anchors) and not last.is_self_signed:
        detail = f"that {last.label} names one of them as its issuer, but was not signed with its key"
        remedy = "Give the CA's certificate whose key made the signature; CAs that were renewed with a new key keep their name"
    elif last.is_self_signed:
        detail = f"that it is self-signed ({last.label})" if len(path) == 1 else f"that it ends in another root, {last.label}"
        remedy = "Add that root to the trust anchors if peers shall trust it, or use a certificate that one of them issued"
    else:
        detail = f"that it ends at {last.label}, whose issuer {last.issuer} is missing"
        remedy = f"Append the certificate of {last.issuer}, leaf first, or add it to the trust anchors if it is a root"
    yield _error("chain_incomplete", where, f"expected a chain that leads to one of the trust anchors ({known}), found {detail}", remedy)


def _listed(names: Sequence[str], empty: str, most: int = 5) -> str:
    if not names:
        return empty
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _ca_flaw(certificate: Certificate) -> str | None:
    """Why peers do not take the certificate for a CA's, or None. A self-signed one of version 1 passes: old roots are like that."""
    if certificate.version == 1:
        return None if certificate.is_self_signed else "is of X.509 version 1, which cannot say CA:TRUE"
    if not certificate.is_ca:
        from cryptography import x509

        absent = certificate.extension(x509.BasicConstraints) is None
        return "has no basicConstraints" if absent else "says CA:FALSE in its basicConstraints"
    if certificate.key_usage is not None and "keyCertSign" not in certificate.key_usage:
        return f"may not sign certificates (keyUsage {_listed(sorted(certificate.key_usage), 'empty')}, without keyCertSign)"
    return None


def _check_issuers(path: Sequence[Certificate], where: str) -> Iterator[Problem]:
    below = 0
    for certificate in path[1:]:
        flaw = _ca_flaw(certificate)
        if flaw:
            yield _error(
                "ca_is_no_ca",
                where,
                f"expected that the issuer {certificate.label} is a CA, found that it {flaw}",
                "Have the certificate issued by a CA whose own certificate says CA:TRUE and keyCertSign",
            )
        if certificate.path_length is not None and below > certificate.path_length:
            yield _error(
                "path_too_long",
                where,
                f"expected at most {certificate.path_length} intermediates below {certificate.label} (its pathlen), found {below}",
                "Have the certificate issued by a CA further up, or reissue the CA with a greater pathlen",
            )
        below += not certificate.is_self_issued


def _check_name_constraints(path: Sequence[Certificate], where: str) -> Iterator[Problem]:
    from cryptography import x509

    leaf = path[0]
    for issuer in path[1:]:
        constraints = issuer.extension(x509.NameConstraints)
        if constraints is None:
            continue
        permitted, excluded = list(constraints.permitted_subtrees or ()), list(constraints.excluded_subtrees or ())
        for name in (*leaf.dns_names, *leaf.ip_addresses):
            kind: type[x509.GeneralName] = x509.DNSName if isinstance(name, str) else x509.IPAddress
            allowed = [tree.value for tree in permitted if isinstance(tree, kind)]
            forbidden = [tree.value for tree in excluded if isinstance(tree, kind)]
            if any(_within(name, tree) for tree in forbidden) or (allowed and not any(_within(name, tree) for tree in allowed)):
                bounds = f"permits {_listed(list(map(str, allowed)), 'any')}, excludes {_listed(list(map(str, forbidden)), 'none')}"
                yield _error(
                    "name_constraints_violated",
                    where,
                    f"expected names that the CA {issuer.label} may issue for ({bounds}), found {name}",
                    "Have the certificate issued by a CA that may issue for the name",
                )


def _within(name: Any, tree: Any) -> bool:
    """RFC 5280, 4.2.1.10: a DNS subtree holds the name itself and all below it; an IP subtree is a network."""
    if isinstance(name, str):
        bare, base = name.removeprefix("*."), str(tree).lower()
        return not base or bare == base.removeprefix(".") or bare.endswith("." + base.removeprefix("."))
    return name.version == getattr(tree, "version", None) and name in tree


def _check_dates(certificate: Certificate, min_remaining: timedelta, now: datetime, where: str, code: str = "expired") -> Iterator[Problem]:
    renew = "Renew it" if not certificate.is_ca else "Renew the CA's certificate, and distribute it to the peers first"
    if certificate.not_after < now:
        days = (now - certificate.not_after).days
        yield _error(
            code,
            where,
            f"expected a certificate that is valid on {rfc3339(now)}, found that {certificate.label} expired on "
            f"{rfc3339(certificate.not_after)}, {_days(days)} ago",
            renew,
        )
    elif certificate.not_after - now < min_remaining:
        yield _error(
            "expires_soon",
            where,
            f"expected {_days(min_remaining.days) if not min_remaining.seconds else min_remaining} or more left, found {_left(certificate.not_after - now)}"
            f" ({certificate.label} expires on {rfc3339(certificate.not_after)})",
            f"{renew}, or lower min_remaining",
        )
    if certificate.not_before > now:
        yield _error(
            "not_yet_valid",
            where,
            f"expected a certificate that is valid on {rfc3339(now)}, found that {certificate.label} is valid from "
            f"{rfc3339(certificate.not_before)}",
            "Wait until then, or compare the clocks of this machine and of the CA",
        )


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"


def _left(left: timedelta) -> str:
    return _days(left.days) if left.days else f"{left.seconds // 3600} hours"


_REQUIRED = {"server": "serverAuth", "client": "clientAuth"}


def _check_usage(leaf: Certificate, purpose: Purpose, where: str) -> Iterator[Problem]:
    if leaf.key_usage is not None and "digitalSignature" not in leaf.key_usage:
        consequence = "Envoy refuses it" if leaf.key.type == "ECDSA" else "Envoy and browsers refuse it as a peer's"
        yield _error(
            "wrong_key_usage",
            where,
            f"expected keyUsage digitalSignature in {leaf.label}, found {_listed(sorted(leaf.key_usage), 'none')}; {consequence}",
            "Issue the certificate again with keyUsage digitalSignature (and keyEncipherment for RSA), or without the extension",
        )
    required, found = _REQUIRED[purpose], leaf.extended_key_usage
    if found is not None and required not in found and "anyExtendedKeyUsage" not in found:
        yield _error(
            "wrong_extended_key_usage",
            where,
            f"expected extendedKeyUsage {required} in the {purpose} certificate {leaf.label}, found {_listed(found, 'none')}",
            f"Issue the certificate again with extendedKeyUsage {required}, or give the {purpose} certificate if the two were mixed up",
        )


def _check_issuer_purpose(issuer: Certificate, purpose: Purpose, where: str) -> Iterator[Problem]:
    required, found = _REQUIRED[purpose], issuer.extended_key_usage
    if found is not None and required not in found and "anyExtendedKeyUsage" not in found and not issuer.is_self_signed:
        yield _error(
            "wrong_extended_key_usage",
            where,
            f"expected a CA that may issue for {required}, found that {issuer.label} is limited to {_listed(found, 'none')}",
            f"Have the certificate issued by a CA for {required}",
        )


def _check_leaf_key(leaf: Certificate, purpose: Purpose, where: str) -> Iterator[Problem]:
    """Tried with Envoy 1.40: it refuses RSA under 2048 bits, other curves than P-256, P-384 and P-521, and DSA. It loads and serves
    Ed25519, though (not in FIPS builds). As a verifier it takes neither Ed25519 nor P-521 from a peer, and nor do browsers."""
    kind = leaf.key
    refusal = "it spells out its curve instead of naming it" if leaf.has_explicit_curve else _refusal(kind)
    if refusal:
        yield _error(
            "key_unsupported",
            where,
            f"expected a key that Envoy takes ({_TAKEN}), found {kind} in {leaf.label}: {refusal}",
            "Make a new key, RSA of 2048 bits or more or ECDSA P-256, and have a certificate issued for it",
        )
    if kind.curve in ("P-384", "P-521"):
        yield _warning(
            "key_too_new",
            where,
            f"expected a key that every Envoy takes, found {kind} in {leaf.label}: Envoy before 1.33 (Istio before 1.25) takes ECDSA P-256 only",
            "Use ECDSA P-256 where older gateways are in use; otherwise nothing is to be done",
        )
    if kind.curve == "P-521" or kind.type == "Ed25519" or (kind.type == "RSA" and (kind.size or 0) > 8192):
        who = {"RSA": "Go programs refuse more than 8192 bits"}.get(kind.type, "browsers, and Envoy as the peer, refuse it")
        fips = ", and Envoy's FIPS builds do not load it" if kind.type == "Ed25519" else ""
        yield _warning(
            "key_rarely_accepted",
            where,
            f"expected a key that peers of this {purpose} take, found {kind} in {leaf.label}: Envoy presents it, but {who}{fips}",
            "Use ECDSA P-256 or RSA of 2048 to 4096 bits unless you know all peers",
        )


_TAKEN = "RSA of 2048 bits or more, ECDSA P-256, P-384, P-521"


def _refusal(kind: KeyKind) -> str | None:
    if kind.type == "RSA":
        size = kind.size or 0
        if size < 2048:
            return "too short"
        return "longer than the 16384 bits that its library handles" if size > 16384 else None
    if kind.type == "ECDSA":
        return None if kind.curve in ("P-256", "P-384", "P-521") else "a curve that it does not know"
    return None if kind.type == "Ed25519" else "a kind of key that it does not load"


def _check_issuer_key(issuer: Certificate, where: str) -> Iterator[Problem]:
    kind = issuer.key
    if kind.type == "RSA" and (kind.size or 0) < 2048:
        yield _warning(
            "ca_key_weak",
            where,
            f"expected a CA key of 2048 bits or more, found {kind} in {issuer.label}; OpenSSL and browsers refuse it",
            "Set up a CA with a longer key",
        )
    elif kind.type in ("DSA", "Ed25519", "Ed448", "unknown") or (kind.type == "ECDSA" and _refusal(kind)):
        yield _error(
            "key_unsupported",
            where,
            f"expected a CA key with which Envoy verifies signatures ({_TAKEN}), found {kind} in {issuer.label}",
            "Set up a CA with an RSA or ECDSA key",
        )


def _check_signature_hash(certificate: Certificate, where: str) -> Iterator[Problem]:
    if certificate.signature_hash in _WEAK_HASHES and not certificate.is_self_issued:
        yield _error(
            "weak_signature",
            where,
            f"expected a signature over SHA-256 or better, found {certificate.signature_hash.upper()} in {certificate.label}; peers refuse it",
            "Have the certificate issued again with SHA-256",
        )


def _check_serial(certificate: Certificate, where: str) -> Iterator[Problem]:
    if certificate.serial_number <= 0 or certificate.serial_number.bit_length() > 159:
        yield _warning(
            "serial_not_positive",
            where,
            f"expected a positive serial number of at most 20 bytes, found {certificate.serial} in {certificate.label}; some peers refuse it",
            "Have the certificate issued again with a random serial number",
        )


def _check_hosts(leaf: Certificate, hosts: Iterable[str], where: str) -> Iterator[Problem]:
    nameless = not leaf.dns_names and not leaf.ip_addresses
    if nameless:
        yield _warning(
            "cn_only",
            where,
            f"expected the hosts as subject alternative names, found none, only the common name {leaf.common_name or '(none)'}; many clients "
            "(browsers, Go, Envoy, Python) refuse such a certificate, curl with OpenSSL takes it",
            "Issue the certificate again with subjectAltName",
        )
    for host in dict.fromkeys(hosts):
        name = read(split_namespace(host)[1])
        if isinstance(name, NoHost):
            yield _error(
                "host_invalid",
                where,
                f"expected a DNS name, a wildcard (*.example.com) or an IP address as host, found {shown(host)!r}: {name.why}",
                name.remedy,
            )
        elif name != "*" and not covers(host, leaf) and not (nameless and common_name_covers(host, leaf)):
            yield _not_covered(name, leaf, where)


def _not_covered(name: str, leaf: Certificate, where: str) -> Problem:
    names = [*leaf.dns_names, *map(str, leaf.ip_addresses)]
    found = _listed(names, f"the common name {leaf.common_name or '(none)'} only", 10)
    kind = "IP" if address(name) is not None else "DNS"
    hint = ""
    if kind == "IP" and name in leaf.dns_names:
        hint = "; an IP address must stand there as an IP, not as a DNS name"
    elif kind == "DNS" and any(pattern.startswith("*.") and name.endswith(pattern[1:]) for pattern in leaf.dns_names):
        hint = "; a wildcard stands for exactly one label"
    elif name.startswith("*."):
        hint = "; a wildcard host needs the same wildcard"
    return _error(
        "host_not_covered",
        where,
        f"expected a certificate for {name}, found {found} in {leaf.label}{hint}",
        f"Issue the certificate with subjectAltName {kind}:{name}, or remove the host",
    )


def check_ca(cas: Sequence[Certificate], *, min_remaining: timedelta = _NONE, now: datetime, where: str) -> tuple[Problem, ...]:
    """CA certificates that Envoy verifies its peers against. An intermediate alone is fine: Envoy takes partial chains.

    Envoy loads an expired CA, and a leaf, without a word and then refuses the peers. Codes: ca_is_no_ca, ca_expired, not_yet_valid,
    expires_soon, chain_duplicate, ca_key_weak, key_unsupported, weak_signature, serial_not_positive.
    """
    return tuple(_check_ca(cas, min_remaining, now, where)) if cas else _empty(where)


def _check_ca(cas: Sequence[Certificate], min_remaining: timedelta, now: datetime, where: str) -> Iterator[Problem]:
    for certificate in dict.fromkeys(cas):
        if cas.count(certificate) > 1:
            yield _warning("chain_duplicate", where, f"expected each CA once, found {certificate.label} repeated", "Remove the repetitions")
        flaw = _ca_flaw(certificate)
        if flaw:
            yield _error(
                "ca_is_no_ca",
                where,
                f"expected the certificate of a CA, found that {certificate.label} {flaw}",
                f"Give the CA that issued the peers' certificates ({certificate.issuer} issued this one)"
                if not certificate.is_self_issued
                else "Give the CA that issued the peers' certificates",
            )
        yield from _check_dates(certificate, min_remaining, now, where, "ca_expired")
        yield from _check_issuer_key(certificate, where)
        yield from _check_signature_hash(certificate, where)
        yield from _check_serial(certificate, where)


def check_crls(
    crls: Sequence[Crl], cas: Sequence[Certificate], *, chain: Sequence[Certificate] = (), now: datetime, where: str
) -> tuple[Problem, ...]:
    """CRLs and the CAs that they stand beside; `chain` is the pair's own, should the CAs have issued it as well.

    Once there is one CRL, Envoy asks for one of *every* CA in a peer's chain, the root included, and refuses peers for which one is missing,
    expired or badly signed (it fails closed). An intermediate as the only CA cannot have CRLs at all: its own issuer's cannot be verified.
    Codes: crl_without_ca, crl_issuer_unknown, crl_incomplete, crl_expired, crl_not_yet_valid, crl_signature_invalid, ca_cannot_sign_crl,
    crl_unsupported, revoked.
    """
    return tuple(_check_crls(crls, cas, chain, now, where))


def _check_crls(
    crls: Sequence[Crl], cas: Sequence[Certificate], chain: Sequence[Certificate], now: datetime, where: str
) -> Iterator[Problem]:
    if crls and not cas:
        yield _error(
            "crl_without_ca",
            where,
            "expected a CA certificate beside the CRL, found none; Envoy uses a CRL only together with the CA in the same Secret",
            "Give the CA certificate too, or leave the CRL out",
        )
        return
    for crl in crls:
        yield from _check_crl(crl, crls, cas, now, where)
    if crls:
        yield from _check_crl_coverage(crls, cas, where)
    for certificate in dict.fromkeys((*chain, *cas)):
        for crl in crls:
            if crl.revokes(certificate) and any(crl.signed_by(ca) for ca in (*cas, *chain)):
                yield _error(
                    "revoked",
                    where,
                    f"expected certificates that are not revoked, found {certificate.label} (serial {certificate.serial}) in the CRL of "
                    f"{crl.issuer}",
                    "Have a new certificate issued",
                )
                break


def _check_crl(crl: Crl, crls: Sequence[Crl], cas: Sequence[Certificate], now: datetime, where: str) -> Iterator[Problem]:
    if crl.is_delta:
        yield _error("crl_unsupported", where, f"expected a complete CRL, found a delta CRL of {crl.issuer}", "Give the complete CRL")
    issuers = [ca for ca in cas if ca.subject == crl.issuer]
    if not issuers:
        yield _warning(
            "crl_issuer_unknown",
            where,
            f"expected CRLs of the CAs beside them ({_listed([ca.label for ca in cas], 'none')}), found one of {crl.issuer}; it takes effect "
            "only for peers that send that CA's certificate themselves",
            "Add the CA that issued the CRL, or give the CRL of the CA that is there",
        )
    elif not any(crl.signed_by(ca) is not False for ca in issuers):
        yield _error(
            "crl_signature_invalid",
            where,
            f"expected a CRL signed by {crl.issuer}, found that the signature was not made with its key",
            "Fetch the CRL again; a CA that was renewed with a new key issues new CRLs",
        )
    elif all(ca.key_usage is not None and "cRLSign" not in ca.key_usage for ca in issuers):
        yield _error(
            "ca_cannot_sign_crl",
            where,
            f"expected keyUsage cRLSign in {crl.issuer}, found {_listed(sorted(issuers[0].key_usage or ()), 'none')}; Envoy refuses its CRL "
            "and with it every peer",
            "Reissue the CA's certificate with cRLSign, or leave the CRL out",
        )
    if crl.last_update > now:
        yield _error(
            "crl_not_yet_valid",
            where,
            f"expected a CRL that is valid on {rfc3339(now)}, found that the one of {crl.issuer} is valid from {rfc3339(crl.last_update)}",
            "Compare the clocks of this machine and of the CA",
        )
    if crl.next_update is not None and crl.next_update < now:
        current = any(other.issuer == crl.issuer and (other.next_update is None or other.next_update >= now) for other in crls)
        message = (
            f"expected a CRL that is valid on {rfc3339(now)}, found that the one of {crl.issuer} expired on {rfc3339(crl.next_update)}"
        )
        if current:
            yield _warning("crl_expired", where, f"{message}; a newer one of the same CA is there", "Remove the old one")
        else:
            yield _error("crl_expired", where, f"{message}; Envoy refuses every peer of that CA", "Fetch the CA's present CRL")


def _check_crl_coverage(crls: Sequence[Crl], cas: Sequence[Certificate], where: str) -> Iterator[Problem]:
    for ca in dict.fromkeys(cas):
        if not any(crl.issuer == ca.subject for crl in crls):
            yield _error(
                "crl_incomplete",
                where,
                f"expected a CRL of every CA, since there are CRLs at all, found none of {ca.label}; Envoy refuses every peer of that CA",
                "Add its CRL, or remove all of them",
            )
        if not ca.is_self_signed and not any(signed_by(ca, other) is not False for other in cas if other != ca):
            yield _error(
                "crl_incomplete",
                where,
                f"expected the issuer of {ca.label} ({ca.issuer}) among the CAs, since there are CRLs, found it missing; Envoy looks for the "
                "CA itself in its issuer's CRL and refuses every peer",
                "Add the issuers up to the root, with their CRLs, or remove all CRLs",
            )


def check_ocsp(
    staple: OcspStaple | None, chain: Sequence[Certificate], *, issuers: Iterable[Certificate] = (), now: datetime, where: str
) -> tuple[Problem, ...]:
    """The OCSP staple of a server's chain, or that there is none. `issuers` are further certificates among which the leaf's issuer may be.

    Envoy refuses a credential whose staple is for another certificate, and one with a must-staple certificate and no staple. It keeps an
    expired staple, and one without nextUpdate, to itself; with a must-staple certificate it then refuses clients.
    Codes: ocsp_missing, ocsp_wrong_certificate, ocsp_expired, ocsp_not_yet_valid, ocsp_revoked, ocsp_unknown, ocsp_signature_invalid.
    """
    return tuple(_check_ocsp(staple, chain, issuers, now, where)) if chain else ()


def _check_ocsp(
    staple: OcspStaple | None, chain: Sequence[Certificate], issuers: Iterable[Certificate], now: datetime, where: str
) -> Iterator[Problem]:
    leaf = chain[0]
    if staple is None:
        if leaf.must_staple:
            yield _error(
                "ocsp_missing",
                where,
                f"expected an OCSP staple, since {leaf.label} promises one (must-staple), found none; Envoy refuses the credential",
                "Give an OCSP response (layout tls), or issue the certificate without the TLS feature extension",
            )
        return
    if not _is_for(staple, leaf):
        yield _error(
            "ocsp_wrong_certificate",
            where,
            f"expected an OCSP response for {leaf.label} (serial {leaf.serial}), found one for serial {staple.serial_number:X}; Envoy refuses "
            "the credential",
            "Ask the responder for this certificate",
        )
        return
    make = _error if leaf.must_staple else _warning
    consequence = "Envoy refuses clients, since the certificate is must-staple" if leaf.must_staple else "Envoy does not send it"
    if staple.next_update is None or staple.next_update < now:
        found = "one that does not say until when" if staple.next_update is None else f"one that expired on {rfc3339(staple.next_update)}"
        yield make(
            "ocsp_expired",
            where,
            f"expected an OCSP response that is valid on {rfc3339(now)}, found {found}; {consequence}",
            "Ask the responder again, and repeat that before nextUpdate",
        )
    if staple.this_update > now:
        yield _warning(
            "ocsp_not_yet_valid",
            where,
            f"expected an OCSP response that is valid on {rfc3339(now)}, found one that is valid from {rfc3339(staple.this_update)}",
            "Compare the clocks of this machine and of the responder",
        )
    if staple.status != "good":
        yield _error(
            f"ocsp_{staple.status}",
            where,
            f"expected the status good for {leaf.label}, found {staple.status}",
            "Have a new certificate issued" if staple.status == "revoked" else "Ask the responder of the CA that issued the certificate",
        )
    issuer = next((each for each in (*chain[1:], *issuers) if signed_by(leaf, each) is not False), None)
    if issuer is not None and _ocsp_signed(staple, issuer) is False:
        yield _error(
            "ocsp_signature_invalid",
            where,
            f"expected an OCSP response signed for {issuer.label}, found another signature; clients refuse it",
            "Ask the responder of the CA that issued the certificate",
        )


def _is_for(staple: OcspStaple, leaf: Certificate) -> bool:
    if staple.serial_number != leaf.serial_number:
        return False
    try:
        digest = hashlib.new(staple.parsed.hash_algorithm.name, leaf.issuer_name.public_bytes()).digest()
    except Exception:  # ValueError, UnsupportedAlgorithm: a hash that is not known here, so the serial number must do
        return True
    return digest == staple.parsed.issuer_name_hash


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
