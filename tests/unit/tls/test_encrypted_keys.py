# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys as OpenSSL encrypts and labels them: read, or the cipher is named. OpenSSL makes them, and says that they are good."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem, Rejected
from ansible_collections.meshops.istio.plugins.module_utils.tls import encryption
from ansible_collections.meshops.istio.plugins.module_utils.tls.lenient import element
from ansible_collections.meshops.istio.plugins.module_utils.tls.material import PrivateKey, read_pkcs12, read_private_key
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from test_tls_envoy import Pair
from tls_pki import Issued, Pki, key_pem

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL's command makes these keys")

PASSPHRASE = "c4n4ry passphrase"
LEGACY = ("-provider", "legacy", "-provider", "default")


def openssl(key: bytes, *arguments: str) -> bytes:
    done = subprocess.run(["openssl", *arguments], input=key, capture_output=True, check=False)
    if done.returncode or b"-----BEGIN" not in done.stdout:
        pytest.skip(f"this OpenSSL does not write it: {done.stderr.decode()[-200:]}")
    return done.stdout


def read(data: bytes, passphrase: str | bytes | None = PASSPHRASE) -> PrivateKey:
    return read_private_key(data, passphrase=passphrase, where="w")


def refused(data: bytes, passphrase: str | bytes | None = PASSPHRASE) -> Problem:
    with pytest.raises(Rejected) as raised:
        read(data, passphrase)
    [problem] = raised.value.problems
    assert "c4n4ry" not in str(problem) and "new key" not in str(problem)
    return problem


ENCRYPTED = {
    "PKCS#8, AES": ("pkcs8", "-topk8", "-v2", "aes-256-cbc"),
    "PKCS#8, AES and SHA-512": ("pkcs8", "-topk8", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512"),
    "PKCS#8, Triple DES": ("pkcs8", "-topk8", "-v2", "des3"),
    "PKCS#8, scrypt": ("pkcs8", "-topk8", "-scrypt"),
    "PKCS#8, PBES1 DES": ("pkcs8", "-topk8", "-v1", "PBE-MD5-DES", *LEGACY),
    "PKCS#8, PKCS#12's Triple DES": ("pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES"),
    "PKCS#8, PKCS#12's RC2": ("pkcs8", "-topk8", "-v1", "PBE-SHA1-RC2-40", *LEGACY),
    "PKCS#8, AES in another mode": ("pkcs8", "-topk8", "-v2", "aes-256-cfb"),
    "PKCS#8, AES and MD5": ("pkcs8", "-topk8", "-v2", "aes-128-cbc", "-v2prf", "hmacWithMD5"),
    "PKCS#8, AES and SHA-512/256": ("pkcs8", "-topk8", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512-256"),
    **{
        f"PKCS#8, {cipher}": ("pkcs8", "-topk8", "-v2", cipher, *LEGACY)
        for cipher in ("des-cbc", "camellia-128-cbc", "camellia-256-cbc", "aria-128-cbc", "aria-256-cbc", "sm4-cbc", "seed-cbc")
    },
    **{f"PKCS#8, {cipher}": ("pkcs8", "-topk8", "-v2", cipher, *LEGACY) for cipher in ("cast5-cbc", "bf-cbc", "rc2-cbc", "rc2-40-cbc")},
    **{
        f"PKCS#8, {scheme}": ("pkcs8", "-topk8", "-v1", scheme, *LEGACY)
        for scheme in ("PBE-SHA1-DES", "PBE-MD5-RC2-64", "PBE-SHA1-RC2-64", "PBE-SHA1-RC2-128", "PBE-SHA1-2DES", "PBE-SHA1-RC4-40")
    },
    "SEC 1, AES": ("ec", "-aes256"),
    "SEC 1, Triple DES": ("ec", "-des3"),
}


@pytest.mark.parametrize("arguments", ENCRYPTED.values(), ids=list(ENCRYPTED))
def test_what_is_decrypted(pki: Pki, arguments: tuple[str, ...]) -> None:
    key = pki.key("P-256")
    made = openssl(key_pem(key), *arguments, "-passout", f"pass:{PASSPHRASE}")
    for passphrase in (PASSPHRASE, PASSPHRASE.encode(), f"{PASSPHRASE}\n"):
        found = read(made, passphrase)
        assert b"-----BEGIN PRIVATE KEY-----" in found.pem
        assert load_pem_private_key(found.pem, None).public_key() == key.public_key()
    assert refused(made, None).code == refused(made, "").code == "key_encrypted"
    assert refused(made, "another").code == "wrong_passphrase"


P12 = ("AES-256-CBC", "CAMELLIA-256-CBC", "ARIA-128-CBC", "SM4-CBC", "SEED-CBC", "DES-CBC", "BF-CBC", "RC2-40-CBC")
P12_OLD = ("PBE-SHA1-3DES", "PBE-SHA1-2DES", "PBE-SHA1-RC2-40", "PBE-SHA1-RC2-128", "PBE-SHA1-RC4-128", "PBE-MD5-DES", "PBE-SHA1-DES")


@pytest.mark.parametrize("cipher", [*P12, *P12_OLD])
def test_bundles_of_any_cipher(pki: Pki, tmp_path: Path, cipher: str) -> None:
    issued = pki.issue("a.example.com", key="P-256")
    (tmp_path / "key.pem").write_bytes(key_pem(issued.key))
    (tmp_path / "crt.pem").write_bytes(issued.pem)
    how = ["-keypbe", cipher, "-certpbe", cipher, "-passout", f"pass:{PASSPHRASE}", *LEGACY]
    command = ["openssl", "pkcs12", "-export", "-inkey", "key.pem", "-in", "crt.pem", *how]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"this OpenSSL does not write it: {done.stderr.decode()[-200:]}")
    bundle = read_pkcs12(done.stdout, passphrase=PASSPHRASE, where="w")
    assert bundle.chain == (issued.certificate,) and bundle.key.key.public_key() == issued.key.public_key()
    with pytest.raises(Rejected, match="does not open it"):
        read_pkcs12(done.stdout, passphrase="another", where="w")


NAMED = ("aes192", "camellia128", "camellia256", "aria128", "aria256", "des", "seed", "sm4", "bf", "aes-256-cfb")


@pytest.mark.parametrize("cipher", NAMED)
def test_ciphers_of_old_pem_that_are_named_with_the_command(pki: Pki, tmp_path: Path, cipher: str) -> None:
    key = pki.key("P-256")
    (tmp_path / "FILE").write_bytes(made := openssl(key_pem(key), "ec", f"-{cipher}", *LEGACY, "-passout", f"pass:{PASSPHRASE}"))
    name = made.partition(b"DEK-Info: ")[2].partition(b",")[0].decode()
    for passphrase in (PASSPHRASE, None):
        problem = refused(made, passphrase)
        assert problem.code == "key_unreadable" and name in problem.message
        assert problem.remedy.startswith("Decrypt a copy of it: openssl pkey -in FILE -out COPY (")
    command = ["openssl", "pkey", "-in", "FILE", "-out", "COPY", "-passin", f"pass:{PASSPHRASE}", *LEGACY]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert read((tmp_path / "COPY").read_bytes(), None).key.public_key() == key.public_key()


def test_a_cipher_that_nobody_knows(pki: Pki) -> None:
    made = openssl(key_pem(pki.key("P-256")), "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", f"pass:{PASSPHRASE}")
    der = base64.b64decode(b"".join(made.splitlines()[1:-1])).replace(
        bytes.fromhex("60864801650304012a"), bytes.fromhex("60864801650304017f")
    )
    assert refused(_pem(der), None).code == "key_encrypted"
    problem = refused(_pem(der))
    assert problem.code == "key_unreadable" and "2.16.840.1.101.3.4.1.127" in problem.message and "openssl pkey -in" in problem.remedy


def test_a_passphrase_in_another_alphabet(pki: Pki) -> None:
    for cipher in ("aes-256-cbc", "camellia-256-cbc"):
        made = openssl(key_pem(pki.key("P-256")), "pkcs8", "-topk8", "-v2", cipher, "-passout", "pass:gehéim")
        assert read(made, "gehéim").kind.type == "ECDSA"
        assert refused(made, "gehe\0im").code == refused(made, "\0").code == "wrong_passphrase"


def test_other_kinds_of_keys(pki: Pki) -> None:
    for kind in ("RSA 2048", "Ed25519"):
        made = openssl(key_pem(pki.key(kind)), "pkcs8", "-topk8", "-v2", "camellia-256-cbc", "-passout", f"pass:{PASSPHRASE}")
        assert str(read(made).kind) == kind


def test_labels_that_say_something_else(pki: Pki, root: Issued, intermediate: Issued, tmp_path: Path) -> None:
    """OpenSSL and Envoy go by the label; what is stored has the right one."""
    key = pki.key("P-256")
    encrypted, plain = key_pem(key, passphrase=PASSPHRASE.encode()), key_pem(key)
    for made in (
        encrypted.replace(b"ENCRYPTED PRIVATE", b"PRIVATE"),
        plain.replace(b"PRIVATE", b"ENCRYPTED PRIVATE"),
        plain.replace(b"PRIVATE", b"RSA PRIVATE"),
    ):
        pair = Pair(pki, root, intermediate).use(pki.issue("a.example.com", intermediate, key="P-256"))
        assert pair.but(key=made).refused_by_envoy(tmp_path)
        assert not pair.but(key=read(made).pem).refused_by_envoy(tmp_path)
    assert refused(encrypted.replace(b"ENCRYPTED PRIVATE", b"PRIVATE"), None).code == "key_encrypted"


def test_keys_that_are_written_anew(pki: Pki, root: Issued, intermediate: Issued, tmp_path: Path) -> None:
    """Envoy reads no block with headers; the same key twice is one key."""
    pair = Pair(pki, root, intermediate)
    header = pair.key.replace(b"KEY-----\n", b"KEY-----\nX-Comment: a key\n\n", 1)
    assert pair.but(key=header).refused_by_envoy(tmp_path)
    for made in (header, key_pem(pair.leaf.key) * 2):
        assert not pair.but(key=read(made).pem).refused_by_envoy(tmp_path)
        assert pair.key.count(b"BEGIN") == 1


def test_a_key_for_pss_alone(pki: Pki, root: Issued, intermediate: Issued, tmp_path: Path) -> None:
    made = openssl(b"", "genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048")
    assert str(read(made).kind) == "RSASSA-PSS 2048"
    assert Pair(pki, root, intermediate).but(key=made).refused_by_envoy(tmp_path)


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + base64.b64encode(der) + b"\n-----END ENCRYPTED PRIVATE KEY-----\n"


@pytest.mark.parametrize("count", [1_000_000_000, 1 << 62, 1 << 400])
def test_iterations_without_end(pki: Pki, count: int) -> None:
    number = element(2, count.to_bytes(count.bit_length() // 8 + 1, "big"))
    scheme = element(0x30, bytes.fromhex("06092a864886f70d010503") + element(0x30, element(4, b"saltsalt") + number))
    problem = refused(_pem(element(0x30, scheme + element(4, b"x" * 64))))
    assert problem.code == "too_many_iterations" and len(str(problem)) < 400


def test_scrypt_with_all_the_memory() -> None:
    def key(cost: int) -> bytes:
        numbers = element(4, b"saltsalt") + element(2, cost.to_bytes(6, "big")) + element(2, b"\x08") + element(2, b"\x01")
        return element(0x30, element(0x30, numbers))

    encryption.limit_iterations(key(1 << 14), "w")
    with pytest.raises(Rejected, match="1 GiB"):
        encryption.limit_iterations(key(1 << 30), "w")


def test_iterations_in_pieces_and_without_lengths() -> None:
    inner = element(0x30, element(4, b"salt") + element(2, b"\x7f\xff\xff\xff"))
    in_pieces = b"\x24\x80" + b"".join(element(4, inner[at : at + 3]) for at in range(0, len(inner), 3)) + b"\0\0"
    for made in (b"\x30\x80" + inner + b"\0\0", b"\x30\x80" + in_pieces + b"\0\0"):
        with pytest.raises(Rejected, match="10000000 iterations"):
            encryption.limit_iterations(made, "w")
