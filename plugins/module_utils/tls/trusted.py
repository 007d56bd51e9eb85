# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands behind a certificate in a PEM block: OpenSSL's trust settings (`openssl x509 -trustout`, RHEL's ca-bundle.trust.crt).

    CertAux ::= SEQUENCE { trust SEQUENCE OF OID OPTIONAL, reject [0] SEQUENCE OF OID OPTIONAL, alias UTF8String OPTIONAL, ... }

BoringSSL reads them where the label is `TRUSTED CERTIFICATE`, and behind the first certificate of a chain. It acts on `reject` alone.
"""

from __future__ import annotations

from .fields import elements

_TRUST, _REJECT, _OID = 0x30, 0xA0, 0x06
_FIELDS = frozenset({_TRUST, _REJECT, 0x0C, 0x04, 0xA1})
"""With the alias, the key's identifier, and what else there may be."""
_PURPOSES = frozenset({bytes.fromhex("2b06010505070301"), bytes.fromhex("2b06010505070302")})
"""serverAuth and clientAuth: what Envoy verifies its peers for."""


def certificate_and_rest(der: bytes) -> tuple[bytes, bytes]:
    """The first element, and the bytes behind it; all as the first where it is no DER."""
    try:
        first = next(elements(der))[2] if der[1:2] != b"\x80" else der
    except (ValueError, StopIteration):
        return der, b""
    return first, der[len(first) :]


def trust_settings(rest: bytes) -> bytes | None:
    """The settings' content; None where other bytes stand there."""
    try:
        [(tag, content, __)] = elements(rest)
        fields = {tag: inner for tag, inner, __ in elements(content)}
        purposes = [oid for field in (_TRUST, _REJECT) for oid, __, __whole in elements(fields.get(field, b""))]
    except ValueError:
        return None
    return content if tag == _TRUST and fields.keys() <= _FIELDS and set(purposes) <= {_OID} else None


def is_distrusted(settings: bytes) -> bool:
    """Whether they reject a CA for what Envoy needs it for. Whatever is trusted besides, that counts."""
    rejected = (inner for tag, inner, __ in elements(settings) if tag == _REJECT)
    return any(oid in _PURPOSES for inner in rejected for __, oid, __whole in elements(inner))
