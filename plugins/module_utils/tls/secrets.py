# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a text is, or holds, a private key: in PEM, in base64 of PEM or of DER (twice, too), as the body of a PEM block alone, or in DER."""

from __future__ import annotations

import binascii
import re

_SHORTEST = 48  # characters; no key that anybody uses fits into fewer
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_WORD = re.compile(r"[A-Za-z0-9+/_-]{48,}={0,2}")
_TWICE = re.compile(rb"LS0tLS1CRUdJTi|M[CEGIH][A-Za-z0-9+/]{46}")
"""How base64 begins of what is base64 itself: of PEM, of a structure in DER."""
_HEAD = 512  # characters of base64: enough to see what a structure is
_STRUCTURES = re.compile(
    # a SEQUENCE, and in it the version of PKCS#1 and PKCS#8 (0), SEC 1 (1, then the number), PKCS#8 with public key (1) or PKCS#12 (3) ...
    rb"\x30(?:[\x10-\x7f]|\x81.|\x82..|\x83...|\x84....|\x80)(?:\x02\x01(?:\x00[\x02\x30]|\x01[\x04\x30]|\x03\x30)"
    # ... or the algorithm that encrypts: PKCS#5's, PKCS#12's
    rb"|\x30(?:[\x10-\x7f]|\x81.)\x06[\x09\x0a]\x2a\x86\x48\x86\xf7\x0d\x01(?:\x05|\x0c\x01))",
    re.DOTALL,
)


def holds_private_key(text: str) -> bool:
    if text[:1] == "0" and _STRUCTURES.match(_bytes(text[:_HEAD])):  # the bytes of a file, as Python reads them as text
        return True
    if len(text) < _SHORTEST:
        return False
    if "-----BEGIN" in text:
        return "PRIVATE KEY-----" in text
    joined = "".join(text.split()).replace("\\n", "") if _BASE64.match(text.lstrip()[:_SHORTEST]) else ""
    if _BASE64.fullmatch(joined):
        return _is_key(joined)
    return any(map(_is_key, _WORD.findall(text)))  # such as JSON, with base64 in it


def _is_key(base64: str) -> bool:
    start = _decoded(base64[:_HEAD])
    if _TWICE.match(start):
        base64 = _decoded(base64).decode("ascii", "replace")
        start = _decoded(base64[:_HEAD])
    return bool(_STRUCTURES.match(start)) or (start.lstrip().startswith(b"-----BEGIN") and b"PRIVATE KEY-----" in _decoded(base64))


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return b""


def _decoded(text: str) -> bytes:
    text = text.replace("-", "+").replace("_", "/").rstrip("=")
    return binascii.a2b_base64(text[: len(text) // 4 * 4])
