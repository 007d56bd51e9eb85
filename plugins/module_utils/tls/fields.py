# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate's fields by their place in the DER: names as RFC 5280 compares them, and what a signature is about.

They are taken from the bytes and not from a library, which re-encodes names, and stumbles over string types that OpenSSL reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

Name: TypeAlias = "tuple[tuple[tuple[bytes, int, bytes], ...], ...]"
"""A distinguished name in its canonical form: RDNs, each its sorted (OID, string type, value)."""

_UTF8 = 12
_ENCODINGS = {_UTF8: "utf-8", 19: "latin-1", 20: "latin-1", 22: "latin-1", 26: "latin-1", 28: "utf-32-be", 30: "utf-16-be"}
"""String types that are equal by their text: UTF8String, PrintableString, T61String, IA5String, VisibleString, Universal- and BMPString."""

_PSS = "2a864886f70d01010a"
_VERIFIED = {
    "2a864886f70d010105": "sha1",  # RSA with PKCS#1 v1.5
    "2a864886f70d01010b": "sha256",
    "2a864886f70d01010c": "sha384",
    "2a864886f70d01010d": "sha512",
    "2a864886f70d01010e": "sha224",
    "2a8648ce3d0401": "sha1",  # ECDSA
    "2a8648ce3d040301": "sha224",
    "2a8648ce3d040302": "sha256",
    "2a8648ce3d040303": "sha384",
    "2a8648ce3d040304": "sha512",
    "2b6570": "",  # Ed25519
}
"""Signatures that BoringSSL, Envoy's library, verifies in certificates: by OID, in hexadecimal."""
_DIGESTS = {
    "2b0e03021a": ("sha1", 20),
    **{
        f"60864801650304020{n}": (name, size)
        for n, name, size in ((1, "sha256", 32), (2, "sha384", 48), (3, "sha512", 64), (4, "sha224", 28))
    },
}


def elements(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The elements side by side in `data`: tag, content, and the whole element. Raises ValueError where it is no DER."""
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise ValueError("an element is cut")
        tag, length, start = data[at], data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, start = int.from_bytes(data[start : start + count], "big"), start + count
        end = start + length
        if end > len(data):
            raise ValueError("an element is cut")
        yield tag, data[start:end], data[at:end]
        at = end


@dataclass(frozen=True)
class Fields:
    """What paths are built from."""

    tbs: bytes
    """The bytes that are signed."""
    algorithm: bytes
    """The content of the signature's AlgorithmIdentifier: an OID, and perhaps parameters."""
    signature: bytes
    issuer: Name
    issuer_der: bytes
    subject: Name
    subject_der: bytes
    key_algorithm: bytes
    """The OID of the public key's kind, without tag and length."""

    @property
    def has_pss_key(self) -> bool:
        """Whether the key is limited to RSASSA-PSS, which the library does not tell from an ordinary RSA key."""
        return self.key_algorithm.hex() == _PSS


def _contents(data: bytes) -> list[bytes]:
    return [content for __, content, __whole in elements(data)]


@lru_cache(maxsize=4096)
def fields(der: bytes) -> Fields:
    """The fields of a certificate; of one that is spoiled, fields that match no other's."""
    try:
        return _fields(der)
    except (ValueError, IndexError):
        nobody = (((b"", 0, der),),)
        return Fields(b"", b"", b"", nobody, b"", nobody, b"", b"")


def _fields(der: bytes) -> Fields:
    tbs, algorithm, signature = elements(_contents(der)[0])
    inner = [whole for tag, __, whole in elements(tbs[1]) if tag != 0xA0]  # [0] is the version, which old ones leave out
    key_algorithm = _contents(_contents(_contents(inner[5])[0])[0])[0]
    return Fields(tbs[2], algorithm[1], signature[1][1:], canonical(inner[2]), inner[2], canonical(inner[4]), inner[4], key_algorithm)


@dataclass(frozen=True)
class CrlFields:
    """What tells whose CRL it is."""

    tbs: bytes
    signature: bytes
    issuer: Name
    has_critical_entry: bool
    """Whether what is said of a revoked certificate holds a critical extension."""


@lru_cache(maxsize=256)
def crl_fields(der: bytes) -> CrlFields:
    """The fields of a CRL; of one that is spoiled, fields that match no CA's."""
    try:
        tbs, __, signature = elements(_contents(der)[0])
        inner = [whole for tag, __content, whole in elements(tbs[1]) if tag != 0x02]  # the version, which old ones leave out
        return CrlFields(tbs[2], signature[1][1:], canonical(inner[1]), _has_critical_entry(inner[3:]))
    except (ValueError, IndexError):
        return CrlFields(b"", b"", (((b"", 0, der),),), False)


_CRITICAL = b"\x01\x01\xff"


def _has_critical_entry(behind_times: list[bytes]) -> bool:
    revoked = next((whole for whole in behind_times if whole[:1] == b"\x30"), b"")
    if _CRITICAL not in revoked:  # which spares looking through a hundred thousand
        return False
    listed = (extensions for entry in _contents(_contents(revoked)[0]) for extensions in _contents(entry)[2:])
    return any(_CRITICAL in whole for extensions in listed for __, ___, whole in elements(extensions) if _CRITICAL in whole[:24])


@lru_cache(maxsize=4096)
def canonical(name: bytes) -> Name:
    """A distinguished name in DER as RFC 5280, 7.1 compares it, and OpenSSL and BoringSSL do: whatever its letter case, spaces and string
    types. Raises ValueError where it is none."""
    return tuple(tuple(sorted(map(_attribute, _contents(rdn)))) for rdn in _contents(_contents(name)[0]))


def _attribute(attribute: bytes) -> tuple[bytes, int, bytes]:
    (__, oid, __oid), (tag, value, __value) = elements(attribute)
    if tag not in _ENCODINGS:
        return oid, tag, value
    try:
        text = value.decode(_ENCODINGS[tag])
    except UnicodeDecodeError:
        return oid, tag, value
    # ASCII alone is folded, as both libraries do
    return oid, _UTF8, b" ".join(text.encode().lower().split())


def not_verified_by_envoy(der: bytes) -> str | None:
    """What it is about a certificate's signature that Envoy, as the one who verifies, refuses; None where it does not."""
    try:
        oid, *parameters = _contents(fields(der).algorithm)
    except ValueError:
        return "an algorithm that cannot be read"
    if oid.hex() in _VERIFIED:
        return None
    if oid.hex() != _PSS:
        return "an algorithm that its library lacks"
    try:
        digest, mask, salt = _pss(parameters[0] if parameters else b"")
    except (ValueError, IndexError):
        return "RSASSA-PSS with parameters that cannot be read"
    if digest == mask and digest[0] in ("sha256", "sha384", "sha512") and salt == digest[1]:
        return None
    masked = f", a mask of {mask[0].upper()}" if mask != digest else ""
    return f"RSASSA-PSS with {digest[0].upper()}{masked} and a salt of {salt} bytes"


def _pss(parameters: bytes) -> tuple[tuple[str, int], tuple[str, int], int]:
    """Hash, the mask's hash, and the salt's length (RFC 4055, 3.1)."""
    digest = mask = _DIGESTS["2b0e03021a"]
    salt = 20
    for tag, content, __ in elements(parameters):
        inner = _contents(content)[0]
        if tag == 0xA0:
            digest = _digest(_contents(inner)[0])
        elif tag == 0xA1:
            mask = _digest(_contents(_contents(inner)[1])[0])
        elif tag == 0xA2:
            salt = int.from_bytes(inner, "big")
    return digest, mask, salt


def _digest(oid: bytes) -> tuple[str, int]:
    return _DIGESTS.get(oid.hex(), ("another hash", 0))
