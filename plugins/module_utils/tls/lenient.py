# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates and CRLs that OpenSSL and Envoy read and Python's library does not: a copy in strict DER, to take facts from.

Old CAs and embedded software write names as T61String with Latin-1 bytes, spell out defaults (`critical FALSE`), and put text of any type
into policies. The copy says the same in a form that the library reads, as far as that can be: what is no text becomes lossy text, and an
extension that nothing here asks for is left out where it cannot be read. It is for looking only: what is stored, compared, hashed or
verified is the original.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from . import fields

_BOOLEAN, _INTEGER, _OCTETS, _UTF8, _SEQUENCE, _SET, _UTC_TIME = 0x01, 0x02, 0x04, 0x0C, 0x30, 0x31, 0x17
_DEEPEST = 32
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_ENCODINGS = {0x0C: "utf-8", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}  # UTF8String, UniversalString, BMPString; all else is bytes
_WIDTHS = {0x1C: 4, 0x1E: 2}
_STRINGS = {0x0C, 0x12, 0x13, 0x14, 0x15, 0x16, 0x19, 0x1A, 0x1B, 0x1C, 0x1E}
_UNIQUE_IDENTIFIER = bytes.fromhex("060355042d")  # whose value is a BIT STRING
_BASIC_CONSTRAINTS = bytes.fromhex("0603551d13")
_ALTERNATIVE_NAME = bytes.fromhex("0603551d11")
_OF_CRLS = frozenset(bytes.fromhex(f"0603551d{number}") for number in ("1b", "1c"))
"""deltaCRLIndicator and issuingDistributionPoint: what tells what a CRL is for."""
_EMPTY = b"\x04\x02\x30\x00"  # an issuingDistributionPoint that limits nothing, which the library does not read
_NEEDED = frozenset(bytes.fromhex(f"0603551d{number}") for number in ("0f", "11", "13", "1e", "25"))
"""keyUsage, subjectAltName, basicConstraints, nameConstraints, extKeyUsage: Envoy asks for them, so they have to be readable."""
_TIME = re.compile(rb"(\d{12})[+-]0000")


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements side by side in `data`: tag and content. Raises ValueError where it is no DER."""
    for tag, content, __ in fields.elements(data):
        yield tag, content


def element(tag: int, content: bytes) -> bytes:
    """The element in DER."""
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def definite(data: bytes) -> bytes:
    """The first element of BER in DER, as far as lengths go: each is told, and OCTET STRINGs are in one piece. Raises ValueError."""
    return _definite(data, 0, len(data), 0)[0]


def _definite(data: bytes, at: int, end: int, depth: int) -> tuple[bytes, int]:
    """The element at `at`, and where the next one begins."""
    if depth > _DEEPEST or at + 2 > end:
        raise ValueError("no element")
    tag, length, at = data[at], data[at + 1], at + 2
    open_ended = length == 0x80
    if length & 0x80 and not open_ended:
        count = length & 0x7F
        length, at = int.from_bytes(data[at : at + count], "big"), at + count
    last = end if open_ended else at + length
    if last > end:
        raise ValueError("an element is cut")
    if not (tag & 0x20 or open_ended):
        return element(tag, data[at:last]), last
    parts = []
    while at < last and not (open_ended and data[at : at + 2] == b"\0\0"):
        part, at = _definite(data, at, last, depth + 1)
        parts.append(part)
    at += 2 if open_ended else 0
    if at > end:
        raise ValueError("an element has no end")
    if tag == _OCTETS | 0x20:
        return element(_OCTETS, b"".join(content for part in parts for __, content in elements(part))), at
    return element(tag, b"".join(parts)), at


def strict_copy(der: bytes) -> bytes:
    """The certificate in a form that the library reads. Raises ValueError where it is none at all."""
    [(outer, content)] = elements(der)
    (tbs_tag, tbs), *rest = elements(content)
    if (outer, tbs_tag, len(rest)) != (_SEQUENCE, _SEQUENCE, 2):
        raise ValueError("no certificate")
    parts = list(elements(tbs))
    version = [element(*parts.pop(0))] if parts and parts[0][0] == _VERSION else []
    if len(parts) < 6:
        raise ValueError("a field is missing")
    if version == [b"\xa0\x03\x02\x01\x00"]:  # version 1 spelled out
        version = []
    serial, algorithm, issuer, validity, subject, key, *further = parts
    strict = [
        *version,
        element(*serial),
        element(*algorithm),
        element(_SEQUENCE, _name(issuer[1])),
        element(_SEQUENCE, b"".join(_time(*time) for time in elements(validity[1]))),
        element(_SEQUENCE, _name(subject[1])),
        element(*key),
    ]
    without = [element(*field) for field in further if field[0] != _EXTENSIONS]
    extensions = [_extensions(content) for tag, content in further if tag == _EXTENSIONS]
    # what makes the library read one extension alone: the same certificate without the others
    kept = [
        extension
        for extension in (extensions[0] if extensions else [])
        if extension[0] in _NEEDED or _loads(_certificate(strict, without, [extension[1]], rest))
    ]
    names = [name for name, __ in kept]
    single = [extension for name, extension in kept if name in _NEEDED or names.count(name) == 1]
    return _certificate(strict, without, single, rest)


def strict_crl(der: bytes) -> bytes:
    """The CRL in a form that the library reads: its issuer's name as text, its times in full. Raises ValueError where it is none at all."""
    [(outer, content)] = elements(der)
    (tbs_tag, tbs), *rest = elements(content)
    if (outer, tbs_tag, len(rest)) != (_SEQUENCE, _SEQUENCE, 2):
        raise ValueError("no CRL")
    parts = list(elements(tbs))
    version = [element(*parts.pop(0))] if parts and parts[0][0] == _INTEGER else []
    algorithm, issuer, *further = parts
    strict = [*version, element(*algorithm), element(_SEQUENCE, _name(issuer[1]))]
    for tag, value in further:
        if tag == _EXTENSIONS - 3:  # [0] in a CRL
            asked = ((name, whole) for name, whole in _extensions(value) if not whole.endswith(_EMPTY))
            found = [whole for name, whole in asked if name in _OF_CRLS or element(_BOOLEAN, b"\xff") in whole[:24]]
            strict += [element(tag, element(_SEQUENCE, b"".join(found)))] if found else []
        elif tag == _SEQUENCE:  # the revoked ones, without what is said of each
            entries = [list(elements(entry))[:2] for __, entry in elements(value)]
            strict.append(element(tag, b"".join(element(_SEQUENCE, element(*serial) + _time(*time)) for serial, time in entries)))
        else:
            strict.append(_time(tag, value))
    return element(_SEQUENCE, element(_SEQUENCE, b"".join(strict)) + b"".join(element(*each) for each in rest))


def _certificate(strict: list[bytes], further: list[bytes], extensions: list[bytes], rest: list[tuple[int, bytes]]) -> bytes:
    listed = [element(_EXTENSIONS, element(_SEQUENCE, b"".join(extensions)))] if extensions else []
    tbs = element(_SEQUENCE, b"".join([*strict, *further, *listed]))
    return element(_SEQUENCE, tbs + b"".join(element(*each) for each in rest))


def _loads(der: bytes) -> bool:
    from cryptography import x509

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            __ = list(x509.load_der_x509_certificate(der).extensions)
    except Exception:  # ValueError and others, not documented
        return False
    return True


def _name(content: bytes) -> bytes:
    """A name with every attribute's value as text; the RDNs' order stays, as it is the order of the DN."""
    rdns = []
    for tag, rdn in elements(content):
        if tag != _SET:
            raise ValueError("no name")
        rdns.append(element(_SET, b"".join(sorted(_attribute(attribute) for __, attribute in elements(rdn)))))
    return b"".join(rdns)


def _attribute(content: bytes) -> bytes:
    (oid_tag, oid), (tag, value) = elements(content)
    name = element(oid_tag, oid)
    if name == _UNIQUE_IDENTIFIER:
        return element(_SEQUENCE, name + element(tag, value))
    return element(_SEQUENCE, name + element(_UTF8, _text(tag, value).encode("utf-8", "replace")))


def _text(tag: int, value: bytes) -> str:
    if tag not in _STRINGS:
        return f"#{element(tag, value).hex()}"  # as RFC 4514 writes what is no text
    if len(value) % _WIDTHS.get(tag, 1):  # which neither OpenSSL nor Envoy reads
        raise ValueError("a character is cut")
    try:
        return value.decode(_ENCODINGS.get(tag, "latin-1"))
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _time(tag: int, value: bytes) -> bytes:
    """A UTCTime in Z; any other as it is. Without seconds Envoy does not read it."""
    found = _TIME.fullmatch(value) if tag == _UTC_TIME else None
    return element(tag, found[1] + b"Z" if found else value)


def _extensions(content: bytes) -> list[tuple[bytes, bytes]]:
    """Each extension: its OID in DER, and the whole in DER."""
    [(__, listed)] = elements(content)
    found = []
    for __tag, extension in elements(listed):
        (oid_tag, oid), *middle, (value_tag, value) = elements(extension)
        name = element(oid_tag, oid)
        critical = any(tag == _BOOLEAN and any(flag) for tag, flag in middle)
        if name == _BASIC_CONSTRAINTS:
            value = _basic_constraints(value)
        if name == _ALTERNATIVE_NAME:
            value = _alternative_names(value)
        flag = element(_BOOLEAN, b"\xff") if critical else b""
        found.append((name, element(_SEQUENCE, name + flag + element(value_tag, value))))
    return found


def _basic_constraints(value: bytes) -> bytes:
    """`cA FALSE` is left out, as it is the default; a TRUE is written as DER has it."""
    [(tag, content)] = elements(value)
    parts = list(elements(content))
    if parts and parts[0][0] == _BOOLEAN:
        parts[0:1] = [(_BOOLEAN, b"\xff")] if any(parts[0][1]) else []
    return element(tag, b"".join(element(*part) for part in parts))


_TEXT_NAMES = {0x81, 0x82, 0x86}  # mail address, DNS name, URI
_ADDRESS = 0x87


def _alternative_names(value: bytes) -> bytes:
    """Names of the kinds that are asked for; a byte that is no ASCII becomes a question mark, which no host matches."""
    [(tag, content)] = elements(value)
    names = []
    for kind, name in elements(content):
        if kind in _TEXT_NAMES:
            names.append(element(kind, bytes(byte if byte < 0x80 else 0x3F for byte in name)))
        elif kind == _ADDRESS and len(name) in (4, 16):
            names.append(element(kind, name))
    return element(tag, b"".join(names))
