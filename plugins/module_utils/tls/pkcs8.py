# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypted PKCS#8 keys of every cipher that OpenSSL decrypts."""

from __future__ import annotations

from typing import Any

from .lenient import element

_DATA = bytes.fromhex("06092a864886f70d010701")
_SHROUDED_KEY_BAG = bytes.fromhex("060b2a864886f70d010c0a0102")


def decrypt(der: bytes, passphrase: bytes) -> Any:
    """The library's key object. Raises UnsupportedAlgorithm for keys of an unknown kind, ValueError or TypeError where the passphrase does not
    open it.

    The library has two readers: the one for keys knows AES, Triple DES and few more, the one for PKCS#12 all of OpenSSL's ciphers. In a bundle an
    encrypted key stands as it is, so a bundle with this key alone is made for the second reader.
    """
    from cryptography.hazmat.primitives.serialization import load_der_private_key
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

    try:
        return load_der_private_key(der, passphrase, unsafe_skip_rsa_key_validation=True)
    except ValueError:  # a wrong passphrase, or a cipher or hash that this reader does not know
        if b"\0" in passphrase:  # at which the other one would abort
            raise
    key = load_key_and_certificates(_bundle(der), passphrase)[0]
    if key is None:
        raise ValueError("no key")
    return key


def _bundle(der: bytes) -> bytes:
    """PKCS#12 with one key and no MAC."""
    bags = element(0x30, element(0x30, _SHROUDED_KEY_BAG + element(0xA0, der)))
    safes = element(0x30, element(0x30, _DATA + element(0xA0, element(0x04, bags))))
    return element(0x30, b"\x02\x01\x03" + element(0x30, _DATA + element(0xA0, element(0x04, safes))))
