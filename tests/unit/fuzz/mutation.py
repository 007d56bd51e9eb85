# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spoils good input in random ways: bytes for the parsers of certificates and keys, values for modules' arguments."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

_LINES = (
    b"-----BEGIN CERTIFICATE-----",
    b"-----END CERTIFICATE-----",
    b"-----BEGIN PRIVATE KEY-----",
    b"-----END PRIVATE KEY-----",
    b"-----BEGIN X509 CRL-----",
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----",
    b"-----BEGIN RSA PRIVATE KEY-----",
    b"-----BEGIN EC PARAMETERS-----",
    b"Proc-Type: 4,ENCRYPTED",
    b"DEK-Info: AES-256-CBC,00",
    b"Bag Attributes",
    b"",
    b"\x00",
    b"\xef\xbb\xbf",
    b"-----BEGIN -----",
    b"-----",
)
_BLOCK = re.compile(rb"(-----BEGIN [^\n]*-----\n)(.*?)(-----END [^\n]*-----)", re.DOTALL)


def mutated(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """One to four changes, one after the other."""
    for __ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        data = chance.choice(_CHANGES)(chance, data, corpus)[:60_000]
    return data


def _flip(chance: random.Random, data: bytes, __: Sequence[bytes]) -> bytes:
    if not data:
        return data
    spoiled = bytearray(data)
    for __ in range(chance.randint(1, 8)):
        spoiled[chance.randrange(len(spoiled))] = chance.choice((0, 1, 0x30, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    return bytes(spoiled)


def _cut(chance: random.Random, data: bytes, __: Sequence[bytes]) -> bytes:
    start, end = sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))
    return chance.choice((data[:start], data[end:], data[:start] + data[end:], data[start:end]))


def _insert(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    at = chance.randint(0, len(data))
    new = chance.choice((chance.randbytes(chance.randint(1, 40)), chance.choice(_LINES), chance.choice(corpus), data))
    return data[:at] + new + data[at:]


def _splice(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    other = chance.choice(corpus)
    return data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]


def _lines(chance: random.Random, data: bytes, __: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    what = chance.randrange(6)
    if what == 0:
        del lines[at]
    elif what == 1:
        lines.insert(at, chance.choice(_LINES))
    elif what == 2:
        lines.insert(at, lines[chance.randrange(len(lines))])
    elif what == 3:
        chance.shuffle(lines)
    elif what == 4:
        lines[at] = lines[at][: chance.randint(0, len(lines[at]))]
    else:
        return chance.choice((b"\r\n", b"\r", b"", b" \n", b"\n\n", b"\\n")).join(lines)
    return b"\n".join(lines)


def _within_der(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Spoils what a PEM block holds, and leaves the block itself whole: this is how the parsers behind PEM are reached."""
    blocks = list(_BLOCK.finditer(data))
    if not blocks:
        return _der(chance, data, corpus)
    block = chance.choice(blocks)
    try:
        der = base64.b64decode(block[2])
    except ValueError:
        return data
    spoiled = base64.encodebytes(_der(chance, der, corpus))
    return data[: block.start(2)] + spoiled + data[block.end(2) :]


def _der(chance: random.Random, data: bytes, __: Sequence[bytes]) -> bytes:
    """Another tag, another length, or another value of one byte."""
    if not data:
        return data
    spoiled = bytearray(data)
    for __ in range(chance.randint(1, 3)):
        at = chance.randrange(len(spoiled))
        spoiled[at] = chance.choice((spoiled[at] ^ (1 << chance.randrange(8)), (spoiled[at] + 1) % 256, 0, 0xFF, chance.randrange(256)))
    return bytes(spoiled)


def _encode(chance: random.Random, data: bytes, __: Sequence[bytes]) -> bytes:
    return chance.choice(
        (
            lambda: base64.b64encode(data),
            lambda: data.decode("latin-1").encode("utf-16"),
            lambda: b"\xef\xbb\xbf" + data,
            lambda: data.replace(b"\n", b"\\n"),
            lambda: b"  " + data.replace(b"\n", b"\n  "),
            data.lower,
        )
    )()


_CHANGES: tuple[Callable[[random.Random, bytes, Sequence[bytes]], bytes], ...] = (
    _flip,
    _cut,
    _insert,
    _splice,
    _lines,
    _lines,
    _within_der,
    _within_der,
    _within_der,
    _encode,
)

STRANGE: tuple[Any, ...] = (
    None,
    "",
    " ",
    "0",
    "-1",
    "*",
    "a/b",
    "..",
    "~",
    ".",
    "*.*",
    "a" * 300,
    "ä",
    "\x00",
    "a\nb",
    "{{ a }}",
    "true",
    "[]",
    "https://a",
    "::1",
    "::ffff:1.2.3.4%eth0",
    "1.2.3.4",
    "xn--a",
    "²",
    "(",
    "(?",
    "1e400",
    "-----BEGIN",
    0,
    -1,
    2**70,
    1.5,
    float("inf"),
    float("nan"),
    True,
    [],
    [None],
    [""],
    [[]],
    ["a", "a"],
    {},
    {"a": None},
    {"": ""},
    {"a": {"b": ["c"]}},
)


def mutated_value(chance: random.Random, value: Any) -> Any:
    """The value with one part, somewhere within, replaced, dropped, doubled or misnamed."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        what = chance.random()
        if what < 0.7:
            return {**value, key: mutated_value(chance, value[key])}
        if what < 0.8:
            return {name: inner for name, inner in value.items() if name != key}
        return {**value, key: chance.choice(STRANGE)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        what = chance.random()
        if what < 0.7:
            return [*value[:at], mutated_value(chance, value[at]), *value[at + 1 :]]
        return [*value, value[at]] if what < 0.8 else [*value[:at], *value[at + 1 :]]
    if isinstance(value, str) and value and chance.random() < 0.5:
        at = chance.randint(0, len(value))
        return value[:at] + chance.choice((" ", ".", "/", "-", "*", "\n", "\x00", "é", ":", "%", "_", "A", "'", "(", "{{")) + value[at:]
    return chance.choice(STRANGE)
