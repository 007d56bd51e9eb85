# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private keys from PEM files: PKCS#8, PKCS#1 and SEC 1, encrypted or not. No repr and no message holds key material."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from ..problems import Rejected
from . import encryption, pkcs8
from .certificate import KeyKind, kind_of, spki_of
from .pem import PRIVATE_KEY_LABELS, Block, limit, reject_defects, rejected, scan


@dataclass(frozen=True)
class PrivateKey:
    """A private key that can be read without a passphrase."""

    key: Any = field(repr=False, compare=False)
    """The library's key object."""
    pem: bytes = field(repr=False)
    """PEM without encryption: the input's own bytes where they are that already, else PKCS#8 (always the same for the same key)."""
    kind: KeyKind
    spki: bytes = field(repr=False)
    """The public key that belongs to it, in DER (SubjectPublicKeyInfo)."""


def read_private_key(data: bytes, *, passphrase: str | bytes | None = None, where: str) -> PrivateKey:
    """The one private key in a PEM file: PKCS#8, PKCS#1 or SEC 1, encrypted or not; EC PARAMETERS before it and text around it are fine.

    Certificates beside the key (a combined file) are left out. A passphrase for a key that is not encrypted is ignored. Rejected with
    `not_pem`, `several_private_keys`, `key_encrypted`, `wrong_passphrase`, `key_unreadable`.
    """
    limit(data, where)
    blocks, defects = scan(data)
    reject_defects(data, blocks, defects, "a private key in PEM", PRIVATE_KEY_LABELS, where)
    keys = [block for block in blocks if block.label in PRIVATE_KEY_LABELS]
    if len({key.body for key in keys}) > 1 and not _are_one(keys, where):
        lines = ", ".join(str(block.line) for block in keys[:5]) + (", …" if len(keys) > 5 else "")
        raise rejected(
            "several_private_keys",
            where,
            f"expected one private key, found {len(keys)} (lines {lines}); Envoy would take the first",
            "Leave the one that belongs to the certificate",
        )
    block = keys[0]
    if block.label == "OPENSSH PRIVATE KEY":
        raise rejected(
            "key_unreadable",
            where,
            "expected a private key in PKCS#8, PKCS#1 or SEC 1, found one in OpenSSH's own format, which Envoy does not read",
            "Convert a copy of it: ssh-keygen -p -m PEM -f COPY",
        )
    der = block.der() or b""
    found = encryption.of_pem(block.body) or encryption.of_der(der)
    if found:
        return private_key(_decrypted(block, der, found, passphrase_bytes(passphrase), where), None, where)
    key, is_as_labelled = _load(block, der, where)
    # a block with headers is one that Envoy does not read
    pem = block.text.replace(b"\r\n", b"\n") + b"\n" if is_as_labelled and b":" not in block.body else None
    if pem and all(other is block or other.label == "EC PARAMETERS" for other in blocks):
        pem = data
    limited = _PSS_KEY.match(der) is not None
    return private_key(key, pem, where, limited=limited)


_PSS_KEY = re.compile(rb"\x30.{1,4}\x02\x01[\x00\x01]\x30[^\x06]{1,4}\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a", re.DOTALL)
"""PKCS#8 with the algorithm id-RSASSA-PSS."""


def passphrase_bytes(passphrase: str | bytes | None) -> bytes | None:
    """In UTF-8, as OpenSSL has it."""
    return passphrase.encode() if isinstance(passphrase, str) else passphrase


def attempts(passphrase: bytes) -> list[bytes]:
    """The passphrase, and as the first line of a file: with the line end, which files have and passphrases do not."""
    return list(dict.fromkeys((passphrase, passphrase.rstrip(b"\r\n"))))


def _are_one(keys: list[Block], where: str) -> bool:
    """Whether the blocks are one key in several forms, such as PKCS#8 and SEC 1. An encrypted one cannot be compared."""
    if any(key.label == "OPENSSH PRIVATE KEY" for key in keys):
        return False
    try:
        return len({spki_of(_load(key, key.der() or b"", where)[0].public_key()) for key in keys}) == 1
    except Rejected:
        return False


def _load(block: Block, der: bytes, where: str) -> tuple[Any, bool]:
    """A key that is not encrypted, and whether it is of the form that the block's label says; Envoy goes by the label."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

    reason = "one that is damaged, or of a form that cannot be read"
    try:
        return load_pem_private_key(block.text + b"\n", None, unsafe_skip_rsa_key_validation=True), True
    except UnsupportedAlgorithm:
        reason = "an algorithm or curve that cannot be read"
    except Exception:  # ValueError, TypeError and others; their texts are not for users
        try:
            return load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True), False
        except UnsupportedAlgorithm:
            reason = "an algorithm or curve that cannot be read"
        except Exception:  # noqa: S110  the same
            pass
    raise rejected("key_unreadable", where, f"expected a private key ({block.label}, line {block.line}), found {reason}", _LOOK)


_LOOK = (
    "Look at it with openssl pkey -noout -text -in FILE; where OpenSSL reads it, openssl pkey -in FILE -out FILE.pem writes it as PKCS#8. "
    "Envoy takes RSA of 2048 bits or more and ECDSA P-256, P-384 and P-521"
)


def _decrypted(block: Block, der: bytes, found: encryption.Encryption, passphrase: bytes | None, where: str) -> Any:
    encryption.limit_iterations(der, where)
    reason = None
    for attempt in attempts(passphrase or b""):
        if not attempt:
            continue
        key, reason = _try(block, der, attempt)
        if key is not None:
            return key
    if reason == "unsupported":
        raise rejected(
            "key_unreadable",
            where,
            f"expected a private key that can be decrypted and read, found one ({found.cipher}) of an algorithm or curve that cannot be read",
            _LOOK,
        )
    if not found.is_read and (passphrase or encryption.of_pem(block.body)):
        which = f"{found.cipher}, a cipher that is not supported" + (", or by another passphrase" if passphrase else "")
        raise rejected(
            "key_unreadable", where, f"expected a private key that can be decrypted here, found one encrypted with {which}", _DECRYPT
        )
    if not passphrase:
        raise rejected(
            "key_encrypted",
            where,
            "expected a private key that can be read, found an encrypted one and no passphrase",
            "Give the passphrase (private_key_passphrase); the key is stored decrypted, as Envoy needs it",
        )
    raise rejected(
        "wrong_passphrase",
        where,
        f"expected the passphrase of the private key, found one that does not decrypt it ({found.cipher}; or the key is damaged)",
        "Give the passphrase with which the key was encrypted",
    )


_DECRYPT = "Decrypt a copy of it: openssl pkey -in FILE -out COPY (an old cipher also needs -provider legacy -provider default)"


def _try(block: Block, der: bytes, passphrase: bytes) -> tuple[Any, str | None]:
    """The key, or None and why not: `unsupported` or `wrong`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        if encryption.of_pem(block.body):
            return load_pem_private_key(block.text + b"\n", passphrase, unsafe_skip_rsa_key_validation=True), None
        return pkcs8.decrypt(der, passphrase), None
    except UnsupportedAlgorithm:
        return None, "unsupported"
    except Exception:  # ValueError, TypeError and others; their texts are not for users
        return None, "wrong"


def private_key(key: Any, pem: bytes | None, where: str, *, limited: bool = False) -> PrivateKey:
    """The library's key object as ours, written as PKCS#8 without `pem`. `limited`: an RSA key for PSS alone."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    try:
        spki = spki_of(key.public_key())
        consistent = _consistent(key)
        if pem is None and consistent:
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    except Exception:  # key kinds without a public key to write (X25519 has one, DH parameters may not)
        consistent = False
    if not consistent or pem is None:
        raise rejected(
            "key_unreadable",
            where,
            "expected a private key whose parts belong together, found a damaged one",
            "Restore the key from where it was made, or make a new one and have a certificate issued for it",
        )
    kind = kind_of(key)
    return PrivateKey(key, pem, replace(kind, type="RSASSA-PSS") if limited and kind.type == "RSA" else kind, spki)


def _consistent(key: Any) -> bool:
    """Whether an RSA key's numbers belong together, as BoringSSL asks when it loads one. The primes are not tested: that takes 31 ms."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    if not isinstance(key, rsa.RSAPrivateKey):
        return True
    private = key.private_numbers()
    n, e, p, q, d = private.public_numbers.n, private.public_numbers.e, private.p, private.q, private.d
    return (
        p * q == n
        and p > 1
        and q > 1
        and d * e % (p - 1) == 1
        and d * e % (q - 1) == 1
        and private.dmp1 == d % (p - 1)
        and private.dmq1 == d % (q - 1)
        and private.iqmp * q % p == 1
    )
