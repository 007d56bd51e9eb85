# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users bring, as PEM of the form that Envoy reads: DER, PKCS#7, base64 without lines, Windows' text encodings, a key beside certificates.

Only for what is to be stored: what a Secret already holds is judged as Envoy finds it. Each function hands back the very same bytes where
there is nothing to convert or nothing that it knows; the readers then say what is wrong.
"""

from __future__ import annotations

import base64
import binascii
import re

from .certificate import Certificate
from .chain import chain_pem, parse_certificate
from .fields import elements
from .lenient import definite
from .paths import build_path, signed_by
from .pem import CERTIFICATE_LABELS, LARGEST, PKCS7_LABELS, PRIVATE_KEY_LABELS, TRUSTED_LABEL, Block, der_kind, is_pkcs7, pem_of, scan
from .revocation import parse_crl
from .trusted import certificate_and_rest, is_distrusted, trust_settings

_SEQUENCE, _CERTIFICATES = 0x30, 0xA0
_BASE64 = re.compile(rb"M[A-P][A-Za-z0-9+/]{30,}={0,2}")


def certificates_as_pem(data: bytes, *, key: bytes | None = None) -> bytes:
    """Certificates from PEM, DER, PKCS#7 or base64. `key` is what was given as the private key: where the same key stands among the
    certificates, as in one file that is given as both, it is left out here. A key alone stays, for the reader to name."""
    if len(data) > LARGEST:
        return data
    text = _plain(data)
    binary = _binary(text)
    if binary is not None:
        if is_pkcs7(binary):
            return _pkcs7(binary) or data
        found = parse_certificate(binary)
        return found.pem if isinstance(found, Certificate) else data
    blocks, defects = scan(text)
    given = {block.body for block in scan(_plain(key))[0] if block.label in PRIVATE_KEY_LABELS} if key and not defects else set()
    kept = [block for block in blocks if block.label not in PRIVATE_KEY_LABELS or block.body not in given]
    if defects or not kept or (len(kept) == len(blocks) and not any(_is_bundle(block) or _has_more(block) for block in kept)):
        return text
    return b"".join((_pkcs7(block.der()) if _is_bundle(block) else _certificate(block)) or _block(block) for block in kept)


def crls_as_pem(data: bytes) -> bytes:
    """CRLs from PEM or, as CAs publish them, DER."""
    if len(data) > LARGEST:
        return data
    text = _plain(data)
    binary = _binary(text)
    return pem_of("X509 CRL", binary) if binary is not None and parse_crl(binary) is not None else text


def key_as_pem(data: bytes) -> bytes:
    """A private key from PEM, DER or base64."""
    if len(data) > LARGEST:
        return data
    text = _plain(data)
    binary = _binary(text)
    return pem_of("PRIVATE KEY", binary) if binary is not None and der_kind(binary) == "a private key" else text


def binary(data: bytes) -> bytes | None:
    """DER or BER, as it is or from base64 without PEM lines; None for all else."""
    return _binary(_plain(data))


def _plain(data: bytes) -> bytes:
    """Text without a byte order mark, from UTF-16 if it is that, and with LF where it has bare carriage returns."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if data.startswith(mark):
            try:
                data = data.removeprefix(mark).decode(encoding).encode()
            except UnicodeDecodeError:
                return data
            break
    if b"\r" in data and b"\n" not in data and b"-----BEGIN" in data:
        return data.replace(b"\r", b"\n")
    return data


def _binary(data: bytes) -> bytes | None:
    """DER, as it is or from base64 without PEM lines; None for all else."""
    if b"-----BEGIN" in data:
        return None
    if data[:1] == b"\x30":
        return data
    joined = data.translate(None, b" \t\r\n")
    try:
        return base64.b64decode(joined, validate=True) if _BASE64.fullmatch(joined) else None
    except binascii.Error:
        return None


def _block(block: Block) -> bytes:
    return block.text.replace(b"\r\n", b"\n") + b"\n"


def _is_bundle(block: Block) -> bool:
    """Whether a block is PKCS#7; Microsoft's CA labels it CERTIFICATE."""
    return block.label in PKCS7_LABELS or (block.label in CERTIFICATE_LABELS and is_pkcs7(block.der()))


def _has_more(block: Block) -> bool:
    """Whether a block holds more than a certificate: OpenSSL's trust settings, or what a tool appended."""
    return block.label == TRUSTED_LABEL or (block.label in CERTIFICATE_LABELS and bool(certificate_and_rest(block.der() or b"")[1]))


def _certificate(block: Block) -> bytes | None:
    """The certificate alone, or one behind the other; None where that is all there is, or it would be trusted against its settings."""
    der, rest = certificate_and_rest(block.der() or b"")
    settings = trust_settings(rest)
    if not _has_more(block) or (settings and block.label == TRUSTED_LABEL and is_distrusted(settings)):
        return None
    pem = b""
    while isinstance(certificate := parse_certificate(der), Certificate):
        pem += certificate.pem
        der, rest = certificate_and_rest(rest)
    return pem or None


def _pkcs7(der: bytes | None) -> bytes | None:
    """Every certificate of a PKCS#7 bundle in PEM. The bundle's order means nothing: they come in chain order, and behind it what is no part
    of the chain. None where it holds none, or cannot be read."""
    try:
        [(__tag, content, __whole)] = elements(definite(der or b""))
        (__oid, (__explicit, signed, __signed)) = elements(content)
        [(__sequence, fields, __fields)] = elements(signed)
        ders = [
            whole
            for tag, inner, __ in elements(fields)
            if tag == _CERTIFICATES
            for kind, __c, whole in elements(inner)
            if kind == _SEQUENCE
        ]
    except (ValueError, IndexError):
        return None
    found = [parse_certificate(each) for each in dict.fromkeys(ders)]
    certificates = [each for each in found if isinstance(each, Certificate)]
    if not found or len(certificates) < len(found):
        return None
    first = next((one for one in certificates if not any(signed_by(other, one) for other in certificates if other != one)), certificates[0])
    path, rest = build_path(first, certificates)
    return chain_pem((*path, *rest))
