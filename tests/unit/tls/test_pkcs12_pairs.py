# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PKCS#12 bundles with several pairs, and with counts of iterations that nobody waits for."""

from __future__ import annotations

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.plugins.module_utils.tls.lenient import element, elements
from ansible_collections.meshops.istio.plugins.module_utils.tls.material import read_pkcs12
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat, pkcs12
from tls_pki import Issued, Pki

DATA = bytes.fromhex("06092a864886f70d010701")


def safes(issued: Issued, passphrase: bytes | None) -> bytes:
    """The content of a bundle's AuthenticatedSafe."""
    how = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(100).build(passphrase) if passphrase else NoEncryption()
    made = pkcs12.serialize_key_and_certificates(None, issued.key, issued.certificate.parsed, None, how)
    [(__, whole)] = elements(made)
    __version, (__tag, content), *__mac = elements(whole)
    (__oid, __data), (__explicit, octets) = elements(content)
    [(__kind, safe)] = elements(octets)
    [(__sequence, inner)] = elements(safe)
    return inner


def both(*pairs: Issued, passphrase: bytes | None = None) -> bytes:
    """One bundle without a MAC, as Windows' "export all" puts several into one."""
    safe = element(0x30, b"".join(safes(pair, passphrase) for pair in pairs))
    return element(0x30, b"\x02\x01\x03" + element(0x30, DATA + element(0xA0, element(4, safe))))


@pytest.fixture
def pairs(pki: Pki, root: Issued) -> tuple[Issued, Issued]:
    return pki.issue("mail.example.com", root, key="P-256#mail"), pki.issue("shop.example.com", root, key="P-256#shop")


@pytest.mark.parametrize("passphrase", [None, b"c4n4ry"])
def test_the_pair_that_covers_the_hosts(pairs: tuple[Issued, Issued], passphrase: bytes | None) -> None:
    bundle = both(*pairs, passphrase=passphrase)
    for pair, host in zip(pairs, ("mail.example.com", "shop.example.com"), strict=True):
        read = read_pkcs12(bundle, passphrase=passphrase, hosts=[host], where="w")
        assert read.chain[0].der == pair.certificate.der and read.key.key.public_key() == pair.key.public_key()


@pytest.mark.parametrize("hosts", [(), ("other.example.com",), ("mail.example.com", "shop.example.com")])
def test_else_both_are_named(pairs: tuple[Issued, Issued], hosts: tuple[str, ...]) -> None:
    with pytest.raises(Rejected, match=r"found 2 key pairs.*CN=mail.example.com.*CN=shop.example.com.*hosts") as raised:
        read_pkcs12(both(*pairs), hosts=hosts, where="w")
    assert [problem.code for problem in raised.value.problems] == ["several_private_keys"]


def test_a_passphrase_with_a_line_end(pairs: tuple[Issued, Issued]) -> None:
    made = pkcs12.serialize_key_and_certificates(
        None,
        pairs[0].key,
        pairs[0].certificate.parsed,
        None,
        PrivateFormat.PKCS12.encryption_builder().hmac_hash(hashes.SHA256()).build(b"c4n4ry"),
    )
    for passphrase in ("c4n4ry", "c4n4ry\n", b"c4n4ry\r\n"):
        assert read_pkcs12(made, passphrase=passphrase, where="w").chain[0].der == pairs[0].certificate.der
    with pytest.raises(Rejected, match="does not open it"):
        read_pkcs12(made, passphrase="another", where="w")


def test_iterations_without_end(pairs: tuple[Issued, Issued]) -> None:
    made = pkcs12.serialize_key_and_certificates(
        None, pairs[0].key, pairs[0].certificate.parsed, None, PrivateFormat.PKCS12.encryption_builder().kdf_rounds(0x123456).build(b"x")
    )
    number = b"\x02\x03\x12\x34\x56"
    assert number in made
    [(__, whole)] = elements(made)
    *parts, (tag, mac) = elements(whole)
    digest, salt, *__count = elements(mac)
    slow = element(tag, b"".join(element(*each) for each in (digest, salt)) + element(2, (10**9).to_bytes(4, "big")))
    with pytest.raises(Rejected, match="1000000000 iterations"):
        read_pkcs12(element(0x30, b"".join(element(*part) for part in parts) + slow), passphrase="x", where="w")
