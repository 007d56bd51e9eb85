# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private keys from PEM files: PKCS#8, PKCS#1 and SEC 1, encrypted or not. No repr and no message holds key material."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
    if len(keys) > 1:
        lines = ", ".join(str(block.line) for block in keys[:5]) + (", …" if len(keys) > 5 else "")
        raise rejected(
            "several_private_keys",
            where,
            f"expected one private key, found {len(keys)} (lines {lines}); Envoy would take the first",
            "Leave the one that belongs to the certificate",
        )
    block = keys[0]
    encrypted = block.label == "ENCRYPTED PRIVATE KEY" or b"Proc-Type" in block.body[:200]
    key = _load_key(block, passphrase_bytes(passphrase) if encrypted else None, encrypted, where)
    pem = data if not encrypted and all(other is block or other.label == "EC PARAMETERS" for other in blocks) else None
    if pem is None and not encrypted:
        pem = block.text.replace(b"\r\n", b"\n") + b"\n"
    return private_key(key, pem, where)


def passphrase_bytes(passphrase: str | bytes | None) -> bytes | None:
    return passphrase.encode() if isinstance(passphrase, str) else passphrase


def _load_key(block: Block, passphrase: bytes | None, encrypted: bool, where: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if block.label == "OPENSSH PRIVATE KEY":
        raise rejected(
            "key_unreadable",
            where,
            "expected a private key in PKCS#8, PKCS#1 or SEC 1, found one in OpenSSH's own format, which Envoy does not read",
            "Convert a copy of it: ssh-keygen -p -m PEM -f COPY",
        )
    if encrypted and not passphrase:
        raise rejected(
            "key_encrypted",
            where,
            "expected a private key that can be read, found an encrypted one and no passphrase",
            "Give the passphrase; the key is stored decrypted, as Envoy needs it",
        )
    try:
        return load_pem_private_key(block.text + b"\n", passphrase, unsafe_skip_rsa_key_validation=True)
    except UnsupportedAlgorithm:
        reason = "an algorithm or curve that cannot be read"
    except Exception:  # ValueError, TypeError and others; their texts are not for users
        if encrypted:
            raise rejected(
                "wrong_passphrase",
                where,
                "expected the passphrase of the private key, found one that does not decrypt it (or the key is damaged)",
                "Give the passphrase with which the key was encrypted",
            ) from None
        reason = "a damaged one, or one of an algorithm or curve that cannot be read"
    raise rejected(
        "key_unreadable",
        where,
        f"expected a private key ({block.label}, line {block.line}), found {reason}",
        "Make a new key, RSA of 2048 bits or more or ECDSA P-256, and have a certificate issued for it",
    )


def private_key(key: Any, pem: bytes | None, where: str) -> PrivateKey:
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
    return PrivateKey(key, pem, kind_of(key), spki)


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
