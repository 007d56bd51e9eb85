# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways from a certificate to a root: by names and signatures, all of them, as OpenSSL and browsers look for one that is valid.

Each further demand (dates, CA bits, name constraints, usages) is a check of its own, in `checks`, which chooses the best way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from .fields import Name, fields

if TYPE_CHECKING:
    from cryptography import x509

    from .material import Certificate

_DEEPEST = 100
"""As deep as OpenSSL and BoringSSL, and so Envoy, go unless told otherwise."""
_MOST = 64


def issuer_of(certificate: Certificate) -> Name:
    return fields(certificate.der).issuer


def subject_of(certificate: Certificate) -> Name:
    return fields(certificate.der).subject


def names_match(certificate: Certificate, issuer: Certificate) -> bool:
    """Whether `certificate` names `issuer` as its issuer, as RFC 5280, 7.1 compares names; says nothing about the signature."""
    return issuer_of(certificate) == subject_of(issuer)


def same_ca(one: Certificate, other: Certificate) -> bool:
    """Whether both are certificates for one CA's name and key: cross-signed, renewed, or the same."""
    return subject_of(one) == subject_of(other) and one.spki is not None and one.spki == other.spki


@lru_cache(maxsize=4096)  # a fleet's certificates share their intermediates, and a signature takes 0.1 to 0.3 ms to verify
def signed_by(certificate: Certificate, issuer: Certificate) -> bool | None:
    """Whether `issuer` issued `certificate`: names and signature. None: the names match, but the signature's algorithm (MD5, say) is one
    that the library refuses to verify."""
    if not names_match(certificate, issuer):
        return False
    if issuer.public_key is None:
        return None
    parts = fields(certificate.der)
    return verifies(certificate.parsed, parts.tbs, parts.signature, issuer.public_key)


def verifies(signed: x509.Certificate | x509.CertificateRevocationList, tbs: bytes, signature: bytes, key: Any) -> bool | None:
    """Whether a key made the signature of a certificate or a CRL, of which `signed` tells the algorithm. None: it cannot be verified."""
    from cryptography.exceptions import InvalidSignature

    try:
        _verify(signed, tbs, signature, key)
    except (InvalidSignature, TypeError):  # TypeError: a key of another kind than the signature's
        return False
    except Exception:  # ValueError, UnsupportedAlgorithm
        return None
    return True


def _verify(signed: x509.Certificate | x509.CertificateRevocationList, tbs: bytes, signature: bytes, key: Any) -> None:
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa

    digest: Any = signed.signature_hash_algorithm  # None for Ed25519 and Ed448; a key of another kind then raises TypeError
    if isinstance(key, rsa.RSAPublicKey):
        how = signed.signature_algorithm_parameters
        key.verify(signature, tbs, how if isinstance(how, padding.PSS) else padding.PKCS1v15(), digest)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, tbs, ec.ECDSA(digest))
    elif isinstance(key, dsa.DSAPublicKey):
        key.verify(signature, tbs, digest)
    else:
        key.verify(signature, tbs)


def key_identifiers_differ(certificate: Certificate, issuer: Certificate) -> bool:
    """Whether `certificate` says that another key, or another certificate, than the issuer's signed it. OpenSSL and Envoy pass over such an
    issuer, browsers and Go do not."""
    from cryptography import x509

    named, own = certificate.extension(x509.AuthorityKeyIdentifier), issuer.extension(x509.SubjectKeyIdentifier)
    if named is None:
        return False
    if named.key_identifier is not None and own is not None and named.key_identifier != own.digest:
        return True
    return named.authority_cert_serial_number is not None and named.authority_cert_serial_number != issuer.serial_number


def issuing_key(certificate: Certificate) -> bytes | None:
    """The identifier of the key that signed it, as far as it says so."""
    from cryptography import x509

    named = certificate.extension(x509.AuthorityKeyIdentifier)
    return named.key_identifier if named is not None else None


@dataclass(frozen=True)
class Store:
    """Certificates that a way may end at, found by name."""

    certificates: tuple[Certificate, ...]

    @cached_property
    def _by_subject(self) -> Mapping[Name, Sequence[Certificate]]:
        found: dict[Name, list[Certificate]] = {}
        for certificate in self.certificates:
            found.setdefault(subject_of(certificate), []).append(certificate)
        return found

    def named(self, name: Name) -> Sequence[Certificate]:
        return self._by_subject.get(name, ())

    def holds(self, certificate: Certificate) -> Certificate | None:
        """The same certificate, or else another one for its name and key."""
        alike = [each for each in self.named(subject_of(certificate)) if each == certificate or same_ca(each, certificate)]
        return certificate if certificate in alike else alike[0] if alike else None

    def issuers(self, certificate: Certificate) -> list[Certificate]:
        return [each for each in self.named(issuer_of(certificate)) if signed_by(certificate, each) is not False]


@dataclass(frozen=True)
class Way:
    """One way up from a leaf."""

    path: tuple[Certificate, ...]
    """The leaf, and each one's issuer behind it; without the anchor."""
    anchor: Certificate | None = None
    """The trusted certificate that it ends at."""

    @property
    def whole(self) -> tuple[Certificate, ...]:
        return self.path if self.anchor is None or self.anchor in self.path else (*self.path, self.anchor)


def ways(leaf: Certificate, others: Iterable[Certificate], anchors: Store) -> tuple[Way, ...]:
    """All ways from `leaf` through `others` to one of the anchors, and where there is none as far as they lead. At least one; of very many
    the first ones."""
    rest = tuple(dict.fromkeys(others))
    return tuple(way for way, __ in zip(_ways((leaf,), rest, anchors), range(_MOST), strict=False))


def _ways(path: tuple[Certificate, ...], others: Sequence[Certificate], anchors: Store) -> Iterator[Way]:
    last = path[-1]
    anchor = anchors.holds(last)
    if anchor is not None and (len(path) > 1 or anchor == last):  # a leaf that was issued anew is another leaf
        yield Way(path[:-1] or path, anchor)
        return
    found = False
    for anchor in anchors.issuers(last):
        if anchor not in others:
            found = True
            yield Way(path, anchor)
    if not last.is_self_signed and len(path) < _DEEPEST:
        for issuer in others:
            # a certificate for a name and key that the way has come through already would lead in a circle
            if signed_by(last, issuer) is not False and not any(issuer == each or same_ca(issuer, each) for each in path):
                found = True
                yield from _ways((*path, issuer), others, anchors)
    if not found:
        yield Way(path)


def build_path(leaf: Certificate, others: Iterable[Certificate]) -> tuple[tuple[Certificate, ...], tuple[Certificate, ...]]:
    """The certificates in chain order, from `leaf` up to the last issuer that is among `others`, and those that are no part of it. Of several
    ways it is the one that is valid for longest, and of those alike the longest.

    Where several bear the issuer's name, one whose key made the signature is taken; if no signature fits, the path ends there.
    """
    rest = tuple(certificate for certificate in dict.fromkeys(others) if certificate != leaf)
    best = max(ways(leaf, rest, Store(())), key=lambda way: (min(each.not_after for each in way.path), len(way.path)))
    return best.path, tuple(certificate for certificate in rest if certificate not in best.path)
