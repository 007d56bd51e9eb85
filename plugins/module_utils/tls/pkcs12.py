# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pair in a PKCS#12 bundle (.p12, .pfx)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ..problems import Problem, Rejected
from . import encryption, pkcs8
from .certificate import Certificate
from .chain import chain_pem, from_x509, parse_certificate
from .fields import elements
from .forms import binary
from .lenient import definite
from .names import covers
from .paths import build_path
from .pem import der_kind, identify, limit, rejected, scan
from .private_key import PrivateKey, attempts, passphrase_bytes, private_key

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(frozen=True)
class Pkcs12:
    """What a PKCS#12 bundle holds, ready to be stored."""

    chain: tuple[Certificate, ...]
    """The key's certificate and its intermediates in the order in which a server sends them, without a self-signed root: peers have it."""
    key: PrivateKey
    ca: tuple[Certificate, ...]
    """The self-signed root that the chain ends in, if the bundle holds it. It issued *this* certificate: whether it is also the CA of the
    peers is for the user to say."""
    unrelated: tuple[Certificate, ...]
    """Certificates of the bundle that are no part of the chain; they are left out."""

    @property
    def chain_pem(self) -> bytes:
        return chain_pem(self.chain)

    @property
    def key_pem(self) -> bytes:
        return self.key.pem

    @property
    def ca_pem(self) -> bytes | None:
        return chain_pem(self.ca) or None


def read_pkcs12(data: bytes, *, passphrase: str | bytes | None = None, hosts: Iterable[str] = (), where: str) -> Pkcs12:
    """The pair in a PKCS#12 bundle (.p12, .pfx). No passphrase and an empty one are tried alike. Of several pairs, as Windows exports them, the
    one whose certificate covers all of `hosts` is taken.

    Rejected with `not_pkcs12`, `wrong_passphrase`, `several_private_keys`, `too_many_iterations`,
    `pkcs12_without_key`, `pkcs12_without_certificate`, `certificate_unreadable`,
    `key_unreadable`.
    """
    limit(data, where)
    data = _binary(data)
    if der_kind(data) != "PKCS#12":
        found = identify(data)
        remedy = "Give PEM through the PEM options" if b"-----BEGIN" in data else found.remedy
        raise Rejected(Problem("not_pkcs12", where, f"expected a PKCS#12 bundle, found {found.what}", remedy))
    encryption.limit_iterations(data, where)
    key, leaf, others = _load_pkcs12(data, passphrase_bytes(passphrase), where)
    if key is None:
        raise rejected(
            "pkcs12_without_key",
            where,
            "expected a PKCS#12 bundle with a private key, found certificates only",
            "Export it again with the key, or give certificates and key in PEM",
        )
    if leaf is None:
        raise rejected(
            "pkcs12_without_certificate",
            where,
            f"expected a PKCS#12 bundle with the key's certificate, found the key and {len(others)} other certificates",
            "Export it again with the certificate that belongs to the key",
        )
    pair_key = private_key(key, None, where)
    certificates = [parse_certificate(from_x509(certificate).der) for certificate in (leaf, *others)]
    broken = [certificate for certificate in certificates if isinstance(certificate, str)]
    if broken:
        raise rejected(
            "certificate_unreadable",
            where,
            f"expected X.509 certificates in the bundle, found one that {broken[0]}",
            "Export the bundle again",
        )
    good = [certificate for certificate in certificates if isinstance(certificate, Certificate)]
    pairs = _pairs(data, passphrase_bytes(passphrase), good)
    if len(pairs) > 1:
        pair_key, first = _choose(pairs, tuple(hosts), where)
        good = [first, *(certificate for certificate in good if certificate != first)]
    else:
        _reject_hidden(good, tuple(hosts), where)
    path, rest = build_path(good[0], good[1:])
    roots = tuple(certificate for certificate in path[1:] if certificate.is_self_signed)
    return Pkcs12(tuple(certificate for certificate in path if certificate not in roots), pair_key, roots, rest)


_LABELS = frozenset({"PKCS12", "PFX"})


def _binary(data: bytes) -> bytes:
    """A bundle that is text, as vaults and Secrets hand it out: in base64, with or without PEM lines. The very same bytes for all else."""
    found = binary(data)
    if found is None:
        blocks, defects = scan(data)
        found = blocks[0].der() if len(blocks) == 1 and not defects and blocks[0].label in _LABELS else None
    return found if found is not None and der_kind(found) == "PKCS#12" else data


_OCTETS = 0x04

Pair: TypeAlias = "tuple[PrivateKey, Certificate]"


def _choose(pairs: Sequence[Pair], hosts: tuple[str, ...], where: str) -> Pair:
    fitting = [pair for pair in pairs if hosts and all(covers(host, pair[1]) for host in hosts)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(f"{certificate.label} (valid until {certificate.not_after:%Y-%m-%d})" for __, certificate in pairs[:5])
    raise rejected(
        "several_private_keys",
        where,
        f"expected one key pair, found {len(pairs)} key pairs in the bundle, "
        + (f"{len(fitting) or 'none'} of which cover all of hosts" if hosts else "and no hosts to choose by")
        + f": {names}{', …' if len(pairs) > 5 else ''}",
        "Give hosts that one of the certificates covers, or export the pair that is meant alone",
    )


def _reject_hidden(certificates: Sequence[Certificate], hosts: tuple[str, ...], where: str) -> None:
    """Raise where not the certificate whose key was read covers the hosts, but another one of the bundle: of keys in a part that is encrypted as a
    whole the library hands out the first alone."""
    first, *others = certificates
    meant = [each for each in others if hosts and not each.is_ca and all(covers(host, each) for host in hosts)]
    if not meant or all(covers(host, first) for host in hosts):
        return
    raise rejected(
        "several_private_keys",
        where,
        f"expected the key of {meant[0].label}, which covers hosts, found that of {first.label}; the bundle holds certificates of several pairs, and of "
        "keys that are encrypted together the first alone can be read",
        "Export that pair alone, or give certificate and key in PEM: openssl pkcs12 -in FILE -noenc -out FILE.pem",
    )


def _pairs(data: bytes, passphrase: bytes | None, certificates: Sequence[Certificate]) -> list[Pair]:
    """Each key of the bundle that has a certificate in it. The library hands out one key alone, so the others are taken from the bags, each of
    which is a key in PKCS#8; keys that are encrypted twice are not found."""
    found: dict[bytes, Pair] = {}
    for der in _key_bags(data):
        for attempt in dict.fromkeys((passphrase or None, *attempts(passphrase or b""))):
            try:
                key = private_key(_load_key(der, attempt), None, "")
            except Exception:  # noqa: S112  ValueError, Rejected and what the libraries raise; the bundle's main key was read
                continue
            owner = next((certificate for certificate in certificates if certificate.spki == key.spki), None)
            if owner is not None:
                found.setdefault(key.spki, (key, owner))
            break
    return list(found.values())


def _load_key(der: bytes, passphrase: bytes | None) -> Any:
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    if encryption.of_der(der):
        return pkcs8.decrypt(der, passphrase or b"")
    return load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)


_KEY_BAGS = tuple(bytes.fromhex(f"060b2a864886f70d010c0a010{number}") for number in (1, 2))
_MOST_KEYS, _DEEPEST = 20, 24


def _key_bags(data: bytes) -> Iterator[bytes]:
    """The PKCS#8 structures in the bags that are not encrypted as a whole, at most 20. Windows and Java write BER as well as DER."""
    return (key for key, __ in zip(_in_octets(data, 0), range(_MOST_KEYS), strict=False))


def _in_octets(data: bytes, depth: int) -> Iterator[bytes]:
    try:
        yield from _bagged(definite(data), depth)
    except ValueError:
        return


def _bagged(data: bytes, depth: int) -> Iterator[bytes]:
    """The keys in the bags among some elements, wherever those are."""
    if depth > _DEEPEST or not any(bag in data for bag in _KEY_BAGS):
        return
    try:
        parts = list(elements(data))
        if len(parts) > 1 and parts[0][2] in _KEY_BAGS:
            yield next(elements(parts[1][1]))[2]
            return
    except (ValueError, IndexError, StopIteration):  # what looks like elements and is none
        return
    for tag, content, __ in parts:
        if tag & 0x20:
            yield from _bagged(content, depth + 1)
        elif tag == _OCTETS and content[:1] == b"\x30":
            yield from _in_octets(content, depth + 1)


def _load_pkcs12(data: bytes, passphrase: bytes | None, where: str) -> tuple[Any, x509.Certificate | None, list[x509.Certificate]]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

    code, what = "wrong_passphrase", "one that does not open it (or the bundle is damaged, or uses an outdated cipher such as RC2)"
    tried: tuple[bytes | None, ...] = tuple(attempts(passphrase or b""))
    if not passphrase:
        tried, what = (None, b""), "none, and the bundle does not open without one"
    elif b"\0" in passphrase:
        tried, what = (), "one with a null byte"  # at which the library would abort
    for attempt in tried:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it is BER
                return load_key_and_certificates(data, attempt)
        except UnsupportedAlgorithm:
            code, what = "not_pkcs12", "a cipher that cannot be read; export it again with AES"
            break
        except Exception:  # noqa: S112  ValueError for wrong passphrases and damage alike
            continue
    if code == "not_pkcs12":
        raise rejected(
            code,
            where,
            "expected a PKCS#12 bundle encrypted with AES or Triple DES, found a cipher that cannot be read",
            "Export it again: openssl pkcs12 -export",
        )
    raise rejected(
        code,
        where,
        f"expected the passphrase of the PKCS#12 bundle, found {what}",
        "Give the passphrase with which it was exported; should it be right, export the bundle again with openssl 3",
    )
