# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PKCS#12 bundles with several pairs, and with counts of iterations that nobody waits for."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.plugins.module_utils.tls.lenient import element, elements
from ansible_collections.meshops.istio.plugins.module_utils.tls.material import read_pkcs12
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, NoEncryption, PrivateFormat, pkcs12
from tls_pki import Issued, Pki, key_pem

DATA = bytes.fromhex("06092a864886f70d010701")


def safes(issued: Issued, passphrase: bytes | None) -> bytes:
    """The content of a bundle's AuthenticatedSafe."""
    how = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(100).build(passphrase) if passphrase else NoEncryption()
    return safes_of(pkcs12.serialize_key_and_certificates(None, issued.key, issued.certificate.parsed, None, how))


def safes_of(bundle: bytes) -> bytes:
    [(__, whole)] = elements(bundle)
    __version, (__tag, content), *__mac = elements(whole)
    (__oid, __data), (__explicit, octets) = elements(content)
    [(__kind, safe)] = elements(octets)
    [(__sequence, inner)] = elements(safe)
    return inner


def both(*pairs: Issued, passphrase: bytes | None = None) -> bytes:
    """One bundle without a MAC, as Windows' "export all" puts several into one."""
    return bundle(b"".join(safes(pair, passphrase) for pair in pairs))


def bundle(inner: bytes) -> bytes:
    return element(0x30, b"\x02\x01\x03" + element(0x30, DATA + element(0xA0, element(4, element(0x30, inner)))))


@pytest.fixture
def pairs(pki: Pki, root: Issued) -> tuple[Issued, Issued]:
    return pki.issue("mail.example.com", root, key="P-256#mail"), pki.issue("shop.example.com", root, key="P-256#shop")


@pytest.mark.parametrize("passphrase", [None, b"c4n4ry"])
def test_the_pair_that_covers_the_hosts(pairs: tuple[Issued, Issued], passphrase: bytes | None) -> None:
    bundle = both(*pairs, passphrase=passphrase)
    for pair, host in zip(pairs, ("mail.example.com", "shop.example.com"), strict=True):
        read = read_pkcs12(bundle, passphrase=passphrase, hosts=[host], where="w")
        assert read.chain[0].der == pair.certificate.der and read.key.key.public_key() == pair.key.public_key()


WAYS = {
    # what OpenSSL, and Windows in its time, encrypt keys and certificates with
    "AES": ("-keypbe", "AES-256-CBC", "-certpbe", "AES-256-CBC"),
    "Windows before 2016": ("-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-RC2-40"),
    "certificates in the open": ("-keypbe", "PBE-SHA1-3DES", "-certpbe", "NONE"),
    "Camellia": ("-keypbe", "CAMELLIA-256-CBC", "-certpbe", "ARIA-256-CBC"),
}


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("way", WAYS)
def test_bundles_that_openssl_encrypts(pairs: tuple[Issued, Issued], tmp_path: Path, way: str, order: int) -> None:
    """With the certificates encrypted as a whole."""
    inner = b""
    for pair in pairs[::order]:
        (tmp_path / "pem").write_bytes(key_pem(pair.key) + pair.pem)
        command = ["openssl", "pkcs12", "-export", "-in", "pem", "-passout", "pass:c4n4ry", "-provider", "legacy", "-provider", "default"]
        done = subprocess.run([*command, *WAYS[way]], cwd=tmp_path, capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"this OpenSSL does not write it: {done.stderr.decode()[-200:]}")
        inner += safes_of(done.stdout)
    for pair, host in zip(pairs, ("mail.example.com", "shop.example.com"), strict=True):
        read = read_pkcs12(bundle(inner), passphrase="c4n4ry", hosts=[host], where="w")
        assert read.chain == (pair.certificate,) and read.key.key.public_key() == pair.key.public_key()
    with pytest.raises(Rejected, match=r"found 2 key pairs in the bundle, and no hosts to choose by: CN=.*CN="):
        read_pkcs12(bundle(inner), passphrase="c4n4ry", where="w")


def in_ber(data: bytes) -> bytes:
    """As streams are written: lengths left open, and OCTET STRINGs in pieces that cut everything."""
    written = b""
    for tag, content in elements(data):
        if tag == 0x04 and len(content) > 7:
            pieces = b"".join(element(0x04, content[at : at + 7]) for at in range(0, len(content), 7))
            written += b"\x24\x80" + pieces + b"\0\0"
        elif tag & 0x20:
            written += bytes((tag, 0x80)) + in_ber(content) + b"\0\0"
        else:
            written += element(tag, content)
    return written


@pytest.mark.filterwarnings("error")
def test_bundles_in_ber(pairs: tuple[Issued, Issued]) -> None:
    made = in_ber(both(*pairs, passphrase=b"c4n4ry"))
    assert read_pkcs12(made, passphrase="c4n4ry", hosts=["shop.example.com"], where="w").chain == (pairs[1].certificate,)


def encrypted_as_a_whole(plain: bytes, passphrase: bytes) -> bytes:
    """A part of a bundle, as PBES2 with PBKDF2 and AES encrypts it (RFC 8018)."""
    salt, vector = b"saltsalt", b"v" * 16
    key = hashlib.pbkdf2_hmac("sha1", passphrase, salt, 100, 16)
    padding = 16 - len(plain) % 16
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    secret = encryptor.update(plain + bytes([padding]) * padding) + encryptor.finalize()
    derivation = element(0x30, bytes.fromhex("06092a864886f70d01050c") + element(0x30, element(4, salt) + b"\x02\x01\x64"))
    scheme = element(0x30, bytes.fromhex("0609608648016503040102") + element(4, vector))
    algorithm = element(0x30, bytes.fromhex("06092a864886f70d01050d") + element(0x30, derivation + scheme))
    content = b"\x02\x01\x00" + element(0x30, DATA + algorithm + element(0x80, secret))
    return element(0x30, bytes.fromhex("06092a864886f70d010706") + element(0xA0, element(0x30, content)))


def test_keys_that_are_encrypted_together(pairs: tuple[Issued, Issued]) -> None:
    """Of those the library hands out the first alone."""
    bags = b""
    for pair in pairs:
        for __, safe in elements(safes(pair, None)):
            __oid, (__explicit, octets) = elements(safe)
            [(__kind, content)] = elements(octets)
            [(__sequence, listed)] = elements(content)
            bags += listed
    made = bundle(encrypted_as_a_whole(element(0x30, bags), b"c4n4ry"))
    assert read_pkcs12(made, passphrase="c4n4ry", hosts=["mail.example.com"], where="w").chain == (pairs[0].certificate,)
    words = "expected the key of CN=shop.example.com, which covers hosts, found that of CN=mail.example.com; .*openssl pkcs12 -in FILE"
    with pytest.raises(Rejected, match=words) as raised:
        read_pkcs12(made, passphrase="c4n4ry", hosts=["shop.example.com"], where="w")
    assert [problem.code for problem in raised.value.problems] == ["several_private_keys"]


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


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode,
        lambda data: base64.encodebytes(data).replace(b"\n", b"\r\n"),
        lambda data: base64.b64encode(data).decode().encode("utf-16"),
        lambda data: b"-----BEGIN PKCS12-----\n" + base64.encodebytes(data) + b"-----END PKCS12-----\n",
    ],
    ids=["one line (Azure Key Vault)", "lines of Windows (certutil)", "UTF-16 (PowerShell)", "PEM"],
)
def test_a_bundle_in_base64(pairs: tuple[Issued, Issued], text: Callable[[bytes], bytes]) -> None:
    pair = pairs[0]
    data = pkcs12.serialize_key_and_certificates(b"n", pair.key, pair.certificate.parsed, None, BestAvailableEncryption(b"c4n4ry"))
    assert read_pkcs12(text(data), passphrase="c4n4ry", where="w").chain[0].der == pair.certificate.der
    with pytest.raises(Rejected) as caught:
        read_pkcs12(base64.b64encode(pair.certificate.der), where="w")
    assert [problem.code for problem in caught.value.problems] == ["not_pkcs12"]
