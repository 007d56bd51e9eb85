# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with certificates, their chains and keys that can be read: judges over parsed values. None raises, none stops the others.

What Envoy refuses was tried with Envoy 1.40 and looked up in its `source/common/tls`; severity follows from it: an error is what Envoy or
its peers refuse, a warning what works with some of them.

Why paths are built here and not by `x509.verification`: its profile is the Web PKI's. It wants a SAN in every leaf, keyUsage and
authority key identifiers in every CA, and answers with the first thing that it dislikes; private CAs, the ones of Istio's own pages among
them, fail it although Envoy and curl are content. Here every way from the leaf upwards is tried (`paths.ways`), each is judged, and the one
of which the least is to be said counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise

from ..problems import Problem, errors
from .certificate_checks import (
    TOLERANCE,
    Clock,
    Purpose,
    ca_flaw,
    check_critical,
    check_dates,
    check_issuer_key,
    check_issuer_purpose,
    check_leaf_key,
    check_lifetime,
    check_serial,
    check_signature,
    check_usage,
    error,
    listed,
    warning,
)
from .facts import rfc3339
from .fields import canonical
from .host_checks import check_hosts
from .material import Certificate, PrivateKey, fingerprint
from .name_constraints import check_name_constraints
from .paths import Store, Way, issuer_of, key_identifiers_differ, names_match, same_ca, signed_by, ways
from .roots import Roots


@dataclass(frozen=True)
class _Pair:
    """What is judged: a chain, its leaf, and the demands that it has to meet."""

    chain: tuple[Certificate, ...]
    leaf: Certificate
    purpose: Purpose
    clock: Clock
    trust_anchors: tuple[Certificate, ...] | None
    cas: tuple[Certificate, ...]
    roots: Roots
    where: str

    @cached_property
    def anchors(self) -> Store:
        """Where ways may end; only looked at where a chain does not end in a root of its own."""
        return Store((*self.cas, *self.roots.above(self.chain)) if self.trust_anchors is None else self.trust_anchors)


def check_server_pair(
    chain: Sequence[Certificate],
    key: PrivateKey | None,
    *,
    hosts: Iterable[str] = (),
    min_remaining: timedelta = timedelta(),
    not_before_tolerance: timedelta = TOLERANCE,
    trust_anchors: Sequence[Certificate] | None = None,
    cas: Sequence[Certificate] = (),
    roots: Roots | None = None,
    now: datetime,
    where: str,
    key_where: str | None = None,
) -> tuple[Problem, ...]:
    """A chain (leaf first) and its key as a gateway serves them to clients that ask for `hosts`.

    `key` is None where it could not be read. `hosts` may hold wildcards, IP addresses, Gateways' `namespace/host` and `*` (any host, which
    nothing is expected of). With `trust_anchors` (also an empty list) the chain must lead to one of them; None means that they are not
    known, and then a chain that leads to one of `roots`, or of the credential's own `cas`, is complete as well. `key_where` names the key
    in `key_mismatch`, where it came from elsewhere than the certificate.

    Codes: key_mismatch, chain_order, chain_duplicate, chain_contains_unrelated, chain_broken_signature, chain_incomplete, chain_unverified,
    expired_not_needed, key_identifier_mismatch, trust_anchor_expired, ca_is_no_ca, path_too_long, name_constraints_violated, expired,
    not_yet_valid, expires_soon, wrong_key_usage, wrong_extended_key_usage, leaf_is_ca, key_unsupported, key_too_new, key_rarely_accepted,
    ca_key_weak, weak_signature, signature_rarely_accepted, critical_extension, serial_not_positive, lifetime_too_long, host_invalid, host_not_covered,
    name_with_final_dot, cn_only.
    """
    if not chain:
        return _empty(where)
    clock = Clock(now, min_remaining, not_before_tolerance)
    pair = _pair(chain, key, "server", clock, trust_anchors, cas, roots, where)
    best = _best(pair)
    public = best.anchor is not None and pair.roots.is_public(best.anchor)
    return (
        *_check_pair(pair, best, key, key_where),
        *check_lifetime(pair.leaf, public, where),
        *check_hosts(pair.leaf, hosts, where),
    )


def check_client_pair(
    chain: Sequence[Certificate],
    key: PrivateKey | None,
    *,
    min_remaining: timedelta = timedelta(),
    not_before_tolerance: timedelta = TOLERANCE,
    trust_anchors: Sequence[Certificate] | None = None,
    cas: Sequence[Certificate] = (),
    roots: Roots | None = None,
    now: datetime,
    where: str,
    key_where: str | None = None,
) -> tuple[Problem, ...]:
    """A chain (leaf first) and its key as a client presents them; `trust_anchors` are the CAs that the server asks for. Codes as for a
    server, without the hosts' and lifetime_too_long."""
    if not chain:
        return _empty(where)
    pair = _pair(chain, key, "client", Clock(now, min_remaining, not_before_tolerance), trust_anchors, cas, roots, where)
    return tuple(_check_pair(pair, _best(pair), key, key_where))


def _empty(where: str) -> tuple[Problem, ...]:
    return (error("not_pem", where, "expected at least one certificate, found none", "Give the certificate chain, leaf first"),)


def _pair(
    chain: Sequence[Certificate],
    key: PrivateKey | None,
    purpose: Purpose,
    clock: Clock,
    trust_anchors: Sequence[Certificate] | None,
    cas: Sequence[Certificate],
    roots: Roots | None,
    where: str,
) -> _Pair:
    known = None if trust_anchors is None else tuple(trust_anchors)
    return _Pair(tuple(chain), _leaf(chain, key), purpose, clock, known, tuple(cas), roots or Roots(), where)


def _leaf(chain: Sequence[Certificate], key: PrivateKey | None) -> Certificate:
    """The certificate that the pair is about: the key's, wherever it stands; else the first, unless it issued another one of the chain."""
    first = chain[0]
    if key is not None:
        return next((certificate for certificate in chain if certificate.spki == key.spki), first)
    others = [certificate for certificate in chain[1:] if certificate != first]
    if any(names_match(other, first) for other in others):
        return next((other for other in others if not any(names_match(each, other) for each in chain if each != other)), first)
    return first


def _check_pair(pair: _Pair, best: Way, key: PrivateKey | None, key_where: str | None) -> Iterator[Problem]:
    leaf, where = pair.leaf, pair.where
    if key is not None:
        yield from _check_key_match(leaf, key, where, key_where)
    yield from _check_order(pair, best)
    yield from _check_spare(pair, best)
    yield from _check_completeness(pair, best)
    yield from _judge(pair, best)
    yield from check_usage(leaf, pair.purpose, where)
    yield from check_leaf_key(leaf, pair.purpose, where)
    if leaf.is_ca:
        yield warning(
            "leaf_is_ca",
            where,
            f"expected the certificate of a {pair.purpose}, found a CA's ({leaf.label}): whoever has its key can issue certificates",
            f"Issue a {pair.purpose} certificate of its own (basicConstraints CA:FALSE)",
        )


def _check_key_match(leaf: Certificate, key: PrivateKey, where: str, key_where: str | None) -> Iterator[Problem]:
    if leaf.spki is not None and leaf.spki != key.spki:
        yield error(
            "key_mismatch",
            key_where or where,
            f"expected the private key of {leaf.label} ({leaf.key}, public key SHA-256 {fingerprint(leaf.spki)}), "
            f"found another one ({key.kind}, public key SHA-256 {fingerprint(key.spki)})",
            "Give the key with which the certificate was requested, or the certificate that was issued for this key",
        )


def _ways(pair: _Pair) -> tuple[Way, ...]:
    found = ways(pair.leaf, pair.chain, pair.anchors)
    if pair.trust_anchors is None:
        return found
    return tuple(way for way in found if way.anchor is not None) or found


def _best(pair: _Pair) -> Way:
    """The way of which the least is to be said; of ways alike one that needs no other order, and of those the longest."""

    def price(way: Way) -> tuple[int, int, bool, int]:
        problems = (*_judge(pair, way), *_check_completeness(pair, way))
        wrong = len(errors(problems))
        return wrong, len(problems) - wrong, bool(_misplaced(pair, way)), -len(way.path)

    found = _ways(pair)
    return found[0] if len(found) == 1 else min(found, key=price)


def _judge(pair: _Pair, way: Way) -> Iterator[Problem]:
    """What is wrong with the certificates of a way, and with how each follows from the next."""
    where, end = pair.where, _dispensable(pair, way)
    needed = way.path[:end]
    yield from _check_issuers(way.whole[:end] if end < len(way.path) else way.whole, where)
    yield from check_name_constraints(way.whole, where)
    if end < len(way.path):
        yield _not_needed(way.path[end], "peers that have this CA as a root of their own do without it, others refuse the chain", where)
    sent_anchor = way.anchor is not None and way.anchor in pair.chain and way.anchor not in needed
    for certificate in (*needed, way.anchor) if sent_anchor and way.anchor else needed:
        yield from check_dates(certificate, pair.clock, where)
    if way.anchor is not None and not sent_anchor and way.anchor not in needed and way.anchor.not_after < pair.clock.now:
        yield warning(
            "trust_anchor_expired",
            where,
            f"expected a trust anchor that is valid, found that {way.anchor.label} expired on {rfc3339(way.anchor.not_after)}",
            "Give the CA's present certificate among the trust anchors",
        )
    for issuer in needed[1:]:
        yield from check_issuer_purpose(issuer, pair.purpose, where)
        yield from check_issuer_key(issuer, where)
    for certificate in needed:
        if not certificate.is_self_issued:
            yield from check_signature(certificate, where)
            yield from check_critical(certificate, where)
        yield from check_serial(certificate, where)


def _dispensable(pair: _Pair, way: Way) -> int:
    """How many certificates of the way peers need for sure. Where the roots are not known, an expired one further up may be the cross-signed
    certificate of a CA that is a root to peers. It is not where it is the leaf's own issuer, or leads to a root that stands in the chain."""
    path = way.path
    if pair.trust_anchors is not None or way.anchor is not None:
        return len(path)
    last = path[-1]
    for place, certificate in enumerate(path[1:], 1):
        if certificate.not_after < pair.clock.now:
            is_root = certificate == last and last.is_self_signed
            leads_to_a_root = certificate != last and last.is_self_signed and last.not_after >= pair.clock.now
            return place if is_root or (place > 1 and not leads_to_a_root) else len(path)
    return len(path)


def _not_needed(certificate: Certificate, why: str, where: str) -> Problem:
    return warning(
        "expired_not_needed",
        where,
        f"expected certificates that are valid, found that {certificate.label}, issued by {certificate.issuer}, expired on "
        f"{rfc3339(certificate.not_after)}; {why}",
        "Remove it from the chain",
    )


def _check_issuers(path: Sequence[Certificate], where: str) -> Iterator[Problem]:
    below = 0
    for certificate, issuer in pairwise(path):
        flaw = ca_flaw(issuer)
        if flaw:
            yield error(
                "ca_is_no_ca",
                where,
                f"expected that the issuer {issuer.label} is a CA, found that it {flaw}",
                "Have the certificate issued by a CA whose own certificate says CA:TRUE and keyCertSign",
            )
        if issuer.path_length is not None and below > issuer.path_length:
            yield error(
                "path_too_long",
                where,
                f"expected at most {issuer.path_length} intermediates below {issuer.label} (its pathlen), found {below}",
                "Have the certificate issued by a CA further up, or reissue the CA with a greater pathlen",
            )
        if key_identifiers_differ(certificate, issuer):
            yield warning(
                "key_identifier_mismatch",
                where,
                f"expected that {certificate.label} names the key of its issuer {issuer.label}, found another one in its authority key "
                "identifier; OpenSSL and Envoy as the peer refuse it, though the signature is right",
                "Have the certificate issued again",
            )
        below += not issuer.is_self_issued


def _misplaced(pair: _Pair, way: Way) -> tuple[Certificate, Certificate] | None:
    """The first certificate of the way that stands elsewhere than it should: which one is there, and which should be."""
    expected = [certificate for certificate in way.whole if certificate in pair.chain]
    given = [certificate for certificate in dict.fromkeys(pair.chain) if certificate in expected]
    return next(((found, right) for found, right in zip(given, expected, strict=True) if found != right), None)


def _check_order(pair: _Pair, way: Way) -> Iterator[Problem]:
    chain, where = pair.chain, pair.where
    for certificate in dict.fromkeys(chain):
        times = chain.count(certificate)
        if times > 1:
            yield warning(
                "chain_duplicate",
                where,
                f"expected each certificate once, found {certificate.label} {times} times",
                "Remove the repetitions",
            )
    misplaced = _misplaced(pair, way)
    if misplaced is not None:
        found, right = misplaced
        order = ", ".join(f"{each.label} (now certificate {chain.index(each) + 1})" for each in way.whole if each in chain)
        leaf = right == pair.leaf
        yield (error if leaf else warning)(
            "chain_order",
            where,
            f"expected the leaf first and each certificate followed by its issuer, found {found.label} as certificate "
            f"{chain.index(found) + 1} where {right.label} belongs" + ("" if leaf else "; some old peers refuse that"),
            f"Put them in this order: {order}",
        )


def _check_spare(pair: _Pair, best: Way) -> Iterator[Problem]:
    """Certificates that the best way does without: each is called what it is."""
    used = set(best.whole)
    elsewhere = {certificate for way in ways(pair.leaf, pair.chain, Store(())) for certificate in way.path}
    for certificate in dict.fromkeys(pair.chain):
        if certificate in used:
            continue
        twin = next((each for each in best.whole if same_ca(each, certificate)), None)
        child = next((each for each in best.path if _names_another_key(each, certificate)), None)
        if twin == pair.leaf and certificate.not_after > pair.leaf.not_after:
            yield _newer_leaf(pair, certificate)
        elif twin is not None or certificate in elsewhere:
            yield from _check_alternative(pair, best, certificate, twin)
        elif child is not None:
            yield _namesake(pair, best, child, certificate)
        else:
            yield warning(
                "chain_contains_unrelated",
                pair.where,
                f"expected only {pair.leaf.label} and its issuers, found {certificate.label} (certificate "
                f"{pair.chain.index(certificate) + 1}), to which no issuer leads",
                "Remove it, or add the certificates between",
            )


def _newer_leaf(pair: _Pair, newer: Certificate) -> Problem:
    """A renewed certificate that was put behind the one that it replaces: servers present the first."""
    place = pair.chain.index(newer) + 1
    return (error if pair.leaf.not_after < pair.clock.now else warning)(
        "chain_order",
        pair.where,
        f"expected the newest certificate of the key first, found one of {pair.leaf.label} that ends on {rfc3339(pair.leaf.not_after)} before "
        f"certificate {place}, which ends on {rfc3339(newer.not_after)}: the first is the one that is served",
        f"Remove certificate {pair.chain.index(pair.leaf) + 1}, which certificate {place} replaces",
    )


def _names_another_key(certificate: Certificate, other: Certificate) -> bool:
    return not certificate.is_self_signed and names_match(certificate, other) and signed_by(certificate, other) is False


def _check_alternative(pair: _Pair, best: Way, certificate: Certificate, twin: Certificate | None) -> Iterator[Problem]:
    """Another certificate for a CA of the way, or one above it: harmless unless it has expired."""
    if certificate.not_after >= pair.clock.now:
        return
    if twin is None:
        if pair.trust_anchors is None and best.anchor is None:
            yield _not_needed(certificate, "there is a way to a root without it", pair.where)
        return
    if twin == best.anchor and twin not in pair.chain:
        return  # the cross-signed certificate of a root that peers have, as public CAs hand it out
    first = pair.chain.index(certificate) < (pair.chain.index(twin) if twin in pair.chain else len(pair.chain))
    valid = f"{twin.label}, valid until {rfc3339(twin.not_after)}, has the same key"
    harm = "; peers that take the first certificate of a name (Envoy, GnuTLS) refuse the chain" if first else ""
    yield _not_needed(certificate, valid + harm, pair.where)


def _namesake(pair: _Pair, best: Way, certificate: Certificate, namesake: Certificate) -> Problem:
    """A certificate that bears the name of an issuer, but has another key than the signature's."""
    place = best.whole.index(certificate) + 1
    right = best.whole[place] if place < len(best.whole) else None
    fact = (
        f"expected that {namesake.label} (SHA-256 {namesake.fingerprint}) signed {certificate.label}, which names it as its issuer, "
        "found that the signature was not made with its key"
    )
    if right is None:
        return error(
            "chain_broken_signature",
            pair.where,
            fact,
            "Replace it by the issuer's certificate that belongs to the signature; CAs that were renewed with a new key keep their name",
        )
    index = pair.chain.index
    if right in pair.chain and index(namesake) < index(right) and not key_identifiers_differ(certificate, namesake):
        return error(
            "chain_order",
            pair.where,
            f"{fact}, but with that of certificate {index(right) + 1} of the same name; OpenSSL and Envoy as the peer take the first of a name",
            f"Remove certificate {index(namesake) + 1}",
        )
    return warning(
        "chain_contains_unrelated",
        pair.where,
        f"expected only {pair.leaf.label} and its issuers, found another {namesake.label} (certificate {index(namesake) + 1}), which has the "
        "issuer's name and another key",
        "Remove it",
    )


def _check_completeness(pair: _Pair, way: Way) -> Iterator[Problem]:
    last = way.path[-1]
    if way.anchor is not None:
        return
    if pair.trust_anchors is None:
        yield from _check_visibly_complete(last, len(way.path) == 1, pair.where)
        return
    known = listed([certificate.label for certificate in pair.trust_anchors], "none")
    if any(names_match(last, certificate) for certificate in pair.trust_anchors) and not last.is_self_signed:
        detail = f"that {last.label} names one of them as its issuer, but was not signed with its key"
        remedy = "Give the CA's certificate whose key made the signature; CAs that were renewed with a new key keep their name"
    elif last.is_self_signed:
        detail = f"that it is self-signed ({last.label})" if len(way.path) == 1 else f"that it ends in another root, {last.label}"
        remedy = "Add that root to the trust anchors if peers shall trust it, or use a certificate that one of them issued"
    else:
        detail = f"that it ends at {last.label}, whose issuer {last.issuer} is missing"
        remedy = f"Append the certificate of {last.issuer}, leaf first, or add it to the trust anchors if it is a root"
    yield error(
        "chain_incomplete", pair.where, f"expected a chain that leads to one of the trust anchors ({known}), found {detail}", remedy
    )


def _check_visibly_complete(last: Certificate, alone: bool, where: str) -> Iterator[Problem]:
    """A chain of which nobody knows the root. It is incomplete where its end says that the issuer has an issuer itself (in its authority key
    identifier), and seems so where a leaf alone says where the issuer's certificate is to be had, which few peers fetch."""
    from cryptography import x509
    from cryptography.x509.oid import AuthorityInformationAccessOID

    if last.is_self_signed:
        return
    identifier, access = last.extension(x509.AuthorityKeyIdentifier), last.extension(x509.AuthorityInformationAccess)
    above = [
        name.value for name in (identifier.authority_cert_issuer if identifier else None) or () if isinstance(name, x509.DirectoryName)
    ]
    places = [
        description.access_location.value
        for description in access or ()
        if description.access_method == AuthorityInformationAccessOID.CA_ISSUERS
    ]
    if above:
        if canonical(above[0].public_bytes()) == issuer_of(last):
            return  # the issuer issued itself: a root
        found = f"that {last.issuer}, which issued {last.label}, was itself issued by {above[0].rfc4514_string()} and is missing"
    elif alone and places:
        found = f"{last.label} alone, which says that the certificate of its issuer {last.issuer} is at {places[0]}; few peers fetch it"
    else:
        return
    yield warning(
        "chain_unverified",
        where,
        f"expected the intermediates behind the leaf, found {found}",
        "Append the intermediates, or give trust_anchors if the issuer is a root that every peer trusts",
    )
