# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How private keys and PKCS#12 bundles are encrypted: the cipher's name, and how long trying a passphrase would take. Nothing is decrypted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .fields import elements
from .pem import rejected

MOST_ITERATIONS = 10_000_000
"""Ten times what careful software takes, and some seconds; no signal ends a library's computation."""
_MOST_MEMORY = 1 << 30  # bytes, for scrypt

_SEQUENCE, _SET, _OCTETS, _INTEGER, _OID = 0x30, 0x31, 0x04, 0x02, 0x06
_DEEPEST = 24

_PBES2 = "2a864886f70d01050d"
_SCRYPT = "2b06010401da47040b"
_CIPHERS = {
    # by OID in hexadecimal
    "608648016503040102": "AES-128-CBC",
    "608648016503040116": "AES-192-CBC",
    "60864801650304012a": "AES-256-CBC",
    **{
        f"6086480165030401{number + size:02x}": f"AES-{bits}-{mode}"
        for bits, size in ((128, 0), (192, 20), (256, 40))
        for mode, number in (("OFB", 3), ("CFB", 4))
    },
    "2b0601040197550102": "Blowfish",
    "2a864886f67d07420a": "CAST5",
    "2a864886f70d0307": "Triple DES",
    "2a864886f70d0302": "RC2",
    "2b0e030207": "DES",
    "2a83088c9a4b3d01010102": "Camellia-128-CBC",
    "2a83088c9a4b3d01010103": "Camellia-192-CBC",
    "2a83088c9a4b3d01010104": "Camellia-256-CBC",
    "2a831a8c9a6e010102": "ARIA-128-CBC",
    "2a831a8c9a6e010107": "ARIA-192-CBC",
    "2a831a8c9a6e01010c": "ARIA-256-CBC",
    "2a831a8c9a440104": "SEED",
    "2a811ccf55016802": "SM4",
    "2a864886f70d010501": "DES with MD2 (PBES1)",
    "2a864886f70d010503": "DES with MD5 (PBES1)",
    "2a864886f70d01050a": "DES with SHA-1 (PBES1)",
    "2a864886f70d010504": "RC2 with MD2 (PBES1)",
    "2a864886f70d010506": "RC2 with MD5 (PBES1)",
    "2a864886f70d01050b": "RC2 with SHA-1 (PBES1)",
    "2a864886f70d010c0101": "RC4 of 128 bits",
    "2a864886f70d010c0102": "RC4 of 40 bits",
    "2a864886f70d010c0103": "Triple DES",
    "2a864886f70d010c0104": "Triple DES with two keys",
    "2a864886f70d010c0105": "RC2 of 128 bits",
    "2a864886f70d010c0106": "RC2 of 40 bits",
}
_IN_PEM = frozenset({"AES-128-CBC", "AES-256-CBC", "DES-EDE3-CBC"})
_DEK_INFO = re.compile(rb"DEK-Info:[ \t]*([A-Za-z0-9-]{1,40})")


@dataclass(frozen=True)
class Encryption:
    cipher: str
    is_read: bool
    """Whether Python's library decrypts it; of others some versions do."""


def of_pem(body: bytes) -> Encryption | None:
    """The encryption that a block's headers tell (`Proc-Type`, `DEK-Info`), None without them."""
    head = body[:400]
    if b"Proc-Type:" not in head:
        return None
    found = _DEK_INFO.search(head)
    cipher = found[1].decode().upper() if found else "an unnamed cipher"
    return Encryption(cipher, cipher in _IN_PEM)


def of_der(der: bytes) -> Encryption | None:
    """The encryption of a PKCS#8 key; None where it is no encrypted one."""
    try:
        [(outer, content, __)] = elements(der)
        (tag, algorithm, __head), (kind, __data, __whole) = elements(content)
        if (outer, tag, kind) != (_SEQUENCE, _SEQUENCE, _OCTETS):
            return None
        (__oid, oid, __oid_whole), *parameters = elements(algorithm)
        if oid.hex() == _PBES2:
            (__derivation, (__tag, scheme, __scheme)) = elements(parameters[0][1])
            oid = next(elements(scheme))[1]
    except (ValueError, IndexError, StopIteration):
        return None
    cipher = _CIPHERS.get(oid.hex())
    return Encryption(cipher or f"a cipher of the OID {_dotted(oid)}", cipher is not None)


def _dotted(oid: bytes) -> str:
    numbers, value = [], 0
    for byte in oid[:40]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2) if numbers else 0
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]] if numbers else ["?"]))


def limit_iterations(data: bytes, where: str) -> None:
    """Raise `too_many_iterations` where trying a passphrase on this DER or BER would take very long, or much memory."""
    for number, *more in _costs(data, 0):
        size, times = more[:2] if len(more) > 1 else (0, 0)  # scrypt's r and p; behind a count stands a key's length at most
        if number > MOST_ITERATIONS or number * size * 128 * max(times, 1) > _MOST_MEMORY:
            raise rejected(
                "too_many_iterations",
                where,
                f"expected a passphrase that is tried with at most {MOST_ITERATIONS} iterations, or scrypt with 1 GiB of memory, found "
                + (f"{number} iterations" if number < 1 << 63 else "far more"),
                "Export it again with fewer; software takes 1,000 to 600,000",
            )


def _costs(data: bytes, depth: int) -> Iterator[list[int]]:
    """The numbers behind each salt: in all of PKCS#5 and PKCS#12 a count of iterations follows an OCTET STRING."""
    if depth > _DEEPEST:
        return
    parts = list(_loose(data))
    for at, (tag, content) in enumerate(parts):
        if tag == _OCTETS and at + 1 < len(parts) and parts[at + 1][0] == _INTEGER:
            numbers = []
            for kind, value in parts[at + 1 : at + 4]:
                if kind != _INTEGER:
                    break
                numbers.append(int.from_bytes(value[:64], "big"))
            yield numbers
        if tag & 0x20 or (tag == _OCTETS and content[:1] == b"\x30"):
            yield from _costs(content, depth + 1)


def _loose(data: bytes, depth: int = 0) -> Iterator[tuple[int, bytes]]:
    """Elements as BER has them: of no told length (then up to the end of `data`), in pieces, and cut ones as far as they go."""
    at = 0
    while at + 2 <= len(data):
        tag, length, start = data[at], data[at + 1], at + 2
        if length == 0x80:
            length = len(data) - start
        elif length & 0x80:
            count = length & 0x7F
            length, start = int.from_bytes(data[start : start + count], "big"), start + count
        content = data[start : start + length]
        if tag == _OCTETS | 0x20 and depth <= _DEEPEST:
            tag, content = _OCTETS, b"".join(piece for kind, piece in _loose(content, depth + 1) if kind == _OCTETS)
        yield tag, content
        at = start + length
