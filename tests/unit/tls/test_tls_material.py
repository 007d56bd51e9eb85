# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be read, and how what cannot is named."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.plugins.module_utils.tls import material, paths
from ansible_collections.meshops.istio.plugins.module_utils.tls.pem import LARGEST, identify, scan
from cryptography.hazmat.primitives.asymmetric import rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)
from cryptography.x509 import ocsp
from tls_pki import Issued, Pki, key_pem

PASSPHRASE = "correct horse battery staple"
EC_PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
DH_PARAMETERS = b"-----BEGIN DH PARAMETERS-----\nMAYCAQcCAQI=\n-----END DH PARAMETERS-----\n"
DATA = Path(__file__).parent / "data"


def rejected(read: Callable[[], Any]) -> tuple[str, str]:
    """The one code, and everything that a user would see."""
    with pytest.raises(Rejected) as raised:
        read()
    assert all(problem.where == "here" and problem.message and problem.remedy for problem in raised.value.problems)
    codes = {problem.code for problem in raised.value.problems}
    assert len(codes) == 1
    return codes.pop(), str(raised.value)


def chain(data: bytes) -> tuple[material.Certificate, ...]:
    return material.read_chain(data, where="here")


def key(data: bytes, passphrase: str | bytes | None = None) -> material.PrivateKey:
    return material.read_private_key(data, passphrase=passphrase, where="here")


# --- certificates

FORMS: list[tuple[str, Callable[[bytes, bytes], bytes]]] = [
    ("as it is", lambda a, b: a + b),
    ("text before and between", lambda a, b: b"Certificate:\n    Data:\n        Version: 3 (0x2)\n" + a + b"subject=CN = x\n" + b),
    ("text behind", lambda a, b: a + b + b"the end"),
    ("CRLF", lambda a, b: (a + b).replace(b"\n", b"\r\n")),
    ("no final line end", lambda a, b: (a + b).rstrip()),
    ("blank lines", lambda a, b: b"\n\n" + a + b"\n\n" + b + b"\n"),
    ("spaces behind lines", lambda a, b: (a + b).replace(b"\n", b"  \n")),
    ("the older label", lambda a, b: (a + b).replace(b"CERTIFICATE", b"X509 CERTIFICATE")),
    ("one long line each", lambda a, b: b"".join(_one_line(each) for each in (a, b))),
    ("blocks that Envoy skips", lambda a, b: DH_PARAMETERS + a + DH_PARAMETERS + b),
    ("a byte order mark before text", lambda a, b: b"\xef\xbb\xbftext\n" + a + b),
]


def _one_line(pem: bytes) -> bytes:
    lines = pem.split()
    return b"-----BEGIN CERTIFICATE-----\n" + b"".join(lines[2:-2]) + b"\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("form", [form[1] for form in FORMS], ids=[form[0] for form in FORMS])
def test_chains_that_are_read(leaf: Issued, intermediate: Issued, form: Any) -> None:
    certificates = chain(form(leaf.pem, intermediate.pem))
    assert certificates == (leaf.certificate, intermediate.certificate)
    assert material.chain_pem(certificates) == leaf.pem + intermediate.pem


def der(issued: Issued) -> bytes:
    return issued.certificate.der


BAD_CHAINS: list[tuple[str, Callable[[Issued], bytes], str, str]] = [
    ("empty", lambda c: b"", "not_pem", "it is empty"),
    ("white space", lambda c: b" \n\t\r\n", "not_pem", "white space"),
    ("DER", der, "not_pem", "a certificate in DER"),
    ("DER of a key", lambda c: c.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), "not_pem", "a private key in DER"),
    (
        "DER of an encrypted key",
        lambda c: c.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
        "not_pem",
        "a private key in DER",
    ),
    (
        "DER of a public key",
        lambda c: c.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "not_pem",
        "a public key in DER",
    ),
    ("PKCS#12", lambda c: bundle(c, None), "not_pem", "a PKCS#12 bundle"),
    ("Base64 of DER", lambda c: base64.encodebytes(der(c)), "not_pem", "Base64 without the PEM lines"),
    ("Base64 of PEM", lambda c: base64.b64encode(c.pem), "not_pem", "encoded in Base64 once more"),
    ("a path", lambda c: b"/etc/ssl/httpbin.crt\n", "not_pem", "looks like a path"),
    ("a relative path", lambda c: b"files/httpbin.pem", "not_pem", "looks like a path"),
    ("a Windows path", lambda c: rb"C:\certs\httpbin.crt", "not_pem", "looks like a path"),
    ("UTF-16", lambda c: c.pem.decode().encode("utf-16"), "not_pem", "UTF-16"),
    ("UTF-16 without a mark", lambda c: c.pem.decode().encode("utf-16-le"), "not_pem", "UTF-16"),
    ("UTF-8 with a mark", lambda c: c.pem.decode().encode("utf-8-sig"), "not_pem", "byte order mark"),
    ("Ansible Vault", lambda c: b"$ANSIBLE_VAULT;1.1;AES256\n6161\n", "not_pem", "Ansible Vault"),
    ("a Java key store", lambda c: b"\xfe\xed\xfe\xed" + bytes(50), "not_pem", "Java key store"),
    ("PKCS#7", lambda c: bytes.fromhex("308204d006092a864886f70d010702") + bytes(40), "not_pem", "PKCS#7"),
    ("random text", lambda c: b"to be replaced", "not_pem", "neither PEM nor"),
    ("a request", lambda c: c.pem.replace(b"CERTIFICATE", b"CERTIFICATE REQUEST"), "not_pem", "another kind (CERTIFICATE REQUEST)"),
    ("a public key", lambda c: c.pem.replace(b"CERTIFICATE", b"PUBLIC KEY"), "not_pem", "another kind (PUBLIC KEY)"),
    ("half", lambda c: c.pem[: len(c.pem) // 2], "not_pem", "block 1 (CERTIFICATE, line 1) is truncated"),
    ("the second half", lambda c: c.pem[len(c.pem) // 2 :], "not_pem", "ends a block (CERTIFICATE) that no line begins"),
    ("the second one cut", lambda c: c.pem + c.pem[:100], "not_pem", "block 2 (CERTIFICATE, line"),
    ("cut, and then another", lambda c: c.pem[:100] + b"\n" + c.pem, "not_pem", "block 1 (CERTIFICATE, line 1) is truncated"),
    ("indented", lambda c: b"  " + c.pem.replace(b"\n", b"\n  "), "not_pem", "in line 1 is indented"),
    ("glued together", lambda c: c.pem.rstrip() + c.pem, "not_pem", "holds two boundaries"),
    ("carriage returns alone", lambda c: c.pem.replace(b"\n", b"\r"), "not_pem", "bare carriage return"),
    ("line ends written out", lambda c: c.pem.replace(b"\n", b"\\n"), "not_pem", "not_pem"),
    ("text before on the line", lambda c: b"cert: " + c.pem, "not_pem", "at the line's beginning"),
    ("four dashes", lambda c: c.pem.replace(b"CERTIFICATE-----", b"CERTIFICATE----"), "not_pem", "no proper PEM boundary"),
    (
        "another end",
        lambda c: c.pem.replace(b"END CERTIFICATE", b"END X509 CRL"),
        "not_pem",
        "begins as CERTIFICATE in line 1 and ends as X509 CRL",
    ),
    ("a private key beside", lambda c: c.pem + key_pem(c.key), "private_key_in_certificate", "found a private key too (line"),
    ("a private key alone", lambda c: key_pem(c.key), "private_key_in_certificate", "private key"),
    ("an encrypted key beside", lambda c: c.pem + key_pem(c.key, passphrase=b"x"), "private_key_in_certificate", "private key"),
    ("a CRL beside", lambda c: c.pem + c.pem.replace(b"CERTIFICATE", b"X509 CRL"), "crl_in_certificate", "CRL"),
    (
        "a trusted certificate behind the first",
        lambda c: c.pem + c.pem.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"),
        "certificate_unreadable",
        "openssl x509 -clrtrust",
    ),
    ("no Base64", lambda c: c.pem.replace(b"M", b"*"), "certificate_unreadable", "block 1 (line 1) is not valid Base64"),
    ("no content", lambda c: b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", "certificate_unreadable", "block 1"),
    (
        "another content",
        lambda c: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "certificate_unreadable",
        "not a valid certificate",
    ),
    ("huge", lambda c: c.pem * (LARGEST // len(c.pem) + 1), "too_large", "at most"),
]


@pytest.mark.parametrize(("make", "code", "words"), [case[1:] for case in BAD_CHAINS], ids=[case[0] for case in BAD_CHAINS])
def test_chains_that_are_not_read(leaf: Issued, make: Any, code: str, words: str) -> None:
    found, text = rejected(lambda: chain(make(leaf)))
    assert found == code
    assert words in text
    assert leaf.pem.split()[3].decode() not in text


def test_every_broken_block_is_named(leaf: Issued) -> None:
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    with pytest.raises(Rejected) as raised:
        chain(broken + leaf.pem + broken)
    assert [problem.message.split(", ")[1].split()[1] for problem in raised.value.problems] == ["1", "3"]


def test_a_path_is_not_told(leaf: Issued) -> None:
    """What stands where content belongs may be anything, a passphrase too."""
    __, text = rejected(lambda: chain(b"/home/me/hunter2.pem"))
    assert "hunter2" not in text


def test_derived_values(pki: Pki, leaf: Issued, intermediate: Issued) -> None:
    certificate = pki.issue(
        "names", dns=("A.example.com", "*.b.example.com"), ip=("10.0.0.1",), uris=("spiffe://x/y",), serial=0xABC
    ).certificate
    assert (certificate.subject, certificate.issuer, certificate.common_name, certificate.label) == (
        "CN=names",
        "CN=names",
        "names",
        "CN=names",
    )
    assert certificate.names == ("a.example.com", "*.b.example.com", "10.0.0.1", "spiffe://x/y")
    assert certificate.serial == "0ABC"
    assert len(certificate.fingerprint) == 95 and certificate.fingerprint.islower()
    assert (str(certificate.key), certificate.version, certificate.is_ca, certificate.signature_hash) == ("ECDSA P-256", 3, False, "sha256")
    assert certificate.not_before.tzinfo is not None
    assert (certificate.key_usage, certificate.extended_key_usage, certificate.path_length) == (None, None, None)
    assert leaf.certificate.key_usage == {"digitalSignature"} and leaf.certificate.extended_key_usage == ("serverAuth",)
    assert certificate.is_self_signed and not leaf.certificate.is_self_signed
    assert paths.signed_by(leaf.certificate, intermediate.certificate) is True
    assert pki.issue("", dns=("only.example.com",)).certificate.label == "only.example.com"
    assert pki.issue("", dns=(), serial=5).certificate.label == "serial 05"
    assert material.from_der(certificate.der, where="here") == certificate
    assert rejected(lambda: material.from_der(b"0", where="here"))[0] == "certificate_unreadable"


def test_weak_signatures_are_verified_where_possible(data: Any, leaf: Issued) -> None:
    weak, weak_root = data("sha1.pem")
    assert paths.signed_by(weak, weak_root) is True
    assert paths.signed_by(data("md5.pem")[0], weak_root) is not False
    assert paths.signed_by(leaf.certificate, weak_root) is False


# --- private keys


@pytest.mark.parametrize(
    ("name", "form"),
    [
        *((name, form) for name in ("P-256", "P-384", "RSA 2048") for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)),
        ("Ed25519", PrivateFormat.PKCS8),
    ],
)
def test_keys_stay_as_they_are(pki: Pki, name: str, form: PrivateFormat) -> None:
    pem = key_pem(pki.key(name), form)
    for data in (pem, pem.replace(b"\n", b"\r\n"), b"Bag Attributes\n" + pem, pem.rstrip()):
        read = key(data)
        assert read.pem == data
        assert str(read.kind) == {"P-256": "ECDSA P-256", "P-384": "ECDSA P-384"}.get(name, name)
        assert read.spki == pki.key(name).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert key(pem, PASSPHRASE).pem == pem, "a passphrase for a key that needs none is ignored"


def test_parameters_before_the_key(pki: Pki) -> None:
    data = EC_PARAMETERS + key_pem(pki.key("P-256"), PrivateFormat.TraditionalOpenSSL)
    assert key(data).pem == data


def test_a_combined_file_gives_its_key_alone(leaf: Issued) -> None:
    pem = key_pem(leaf.key)
    assert key(leaf.pem + pem).pem == pem
    assert key((pem + leaf.pem).replace(b"\n", b"\r\n")).pem == pem


@pytest.mark.parametrize("name", ["P-256", "RSA 2048"])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_encrypted_keys(pki: Pki, name: str, form: PrivateFormat) -> None:
    encrypted = key_pem(pki.key(name), form, PASSPHRASE.encode())
    assert key(encrypted, PASSPHRASE).pem == key(encrypted, PASSPHRASE.encode()).pem == key_pem(pki.key(name))
    assert key(encrypted.replace(b"\n", b"\r\n"), PASSPHRASE).pem == key_pem(pki.key(name))
    for none in (None, "", b""):
        assert rejected(lambda none=none: key(encrypted, none))[0] == "key_encrypted"
    code, text = rejected(lambda: key(encrypted, "tiger stripes"))
    assert code == "wrong_passphrase"
    assert "tiger" not in text and PASSPHRASE not in text


def _damaged(pki: Pki, **changes: int) -> bytes:
    """An RSA key with a number changed, as a bit flip or a home-made converter leaves it."""
    good = pki.key("RSA 2048").private_numbers()
    numbers = {name: getattr(good, name) for name in ("p", "q", "d", "dmp1", "dmq1", "iqmp")}
    numbers.update({name: numbers[name] + by for name, by in changes.items()})
    return key_pem(
        rsa.RSAPrivateNumbers(**numbers, public_numbers=good.public_numbers).private_key(unsafe_skip_rsa_key_validation=True),
        PrivateFormat.TraditionalOpenSSL,
    )


BAD_KEYS: list[tuple[str, Callable[[Issued, Pki], bytes], str, str]] = [
    ("empty", lambda c, p: b"", "not_pem", "it is empty"),
    ("a certificate", lambda c, p: c.pem, "not_pem", "another kind (CERTIFICATE)"),
    (
        "a public key",
        lambda c, p: c.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "not_pem",
        "another kind (PUBLIC KEY)",
    ),
    ("DER", lambda c, p: c.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), "not_pem", "openssl pkey -inform der"),
    ("PKCS#12", lambda c, p: bundle(c, b"x"), "not_pem", "PKCS#12"),
    ("half", lambda c, p: key_pem(c.key)[:80], "not_pem", "truncated"),
    ("two keys", lambda c, p: key_pem(c.key) + key_pem(p.key("P-256")), "several_private_keys", "found 2 (lines 1, 6)"),
    (
        "OpenSSH",
        lambda c, p: c.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        "key_unreadable",
        "OpenSSH's own format",
    ),
    ("no content", lambda c, p: b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", "key_unreadable", "damaged"),
    ("another content", lambda c, p: c.pem.replace(b"CERTIFICATE", b"PRIVATE KEY"), "key_unreadable", "damaged"),
    ("no Base64", lambda c, p: key_pem(c.key).replace(b"M", b"*"), "key_unreadable", "damaged"),
    ("RSA, d changed", lambda c, p: _damaged(p, d=2), "key_unreadable", "parts belong together"),
    ("RSA, exponent changed", lambda c, p: _damaged(p, dmp1=2), "key_unreadable", "parts belong together"),
    ("RSA, coefficient changed", lambda c, p: _damaged(p, iqmp=1), "key_unreadable", "parts belong together"),
]


@pytest.mark.parametrize(("make", "code", "words"), [case[1:] for case in BAD_KEYS], ids=[case[0] for case in BAD_KEYS])
def test_keys_that_are_not_read(leaf: Issued, pki: Pki, make: Any, code: str, words: str) -> None:
    found, text = rejected(lambda: key(make(leaf, pki)))
    assert found == code
    assert words in text
    assert key_pem(leaf.key).split()[3][:20].decode() not in text


def test_a_key_that_cannot_sign_has_no_known_kind() -> None:
    assert key(key_pem(x25519.X25519PrivateKey.generate())).kind.type == "unknown"


def test_keys_do_not_show(leaf: Issued) -> None:
    read = key(key_pem(leaf.key))
    body = key_pem(leaf.key).split()[3].decode()
    assert body not in repr(read) and body not in str(read)
    assert body not in repr(material.read_pkcs12(bundle(leaf, None), where="here"))


# --- PKCS#12


def bundle(leaf: Issued, passphrase: bytes | None, *others: Issued, with_key: bool = True, with_certificate: bool = True) -> bytes:
    return pkcs12.serialize_key_and_certificates(
        b"name",
        leaf.key if with_key else None,
        leaf.certificate.parsed if with_certificate else None,
        [other.certificate.parsed for other in others],
        BestAvailableEncryption(passphrase) if passphrase else NoEncryption(),
    )


def test_bundles(pki: Pki, root: Issued, intermediate: Issued, leaf: Issued) -> None:
    stranger = pki.issue("stranger")
    for passphrase in (None, PASSPHRASE):
        data = bundle(leaf, passphrase.encode() if passphrase else None, root, stranger, intermediate)
        read = material.read_pkcs12(data, passphrase=passphrase, where="here")
        assert read.chain_pem == leaf.pem + intermediate.pem, "in chain order, without the root"
        assert read.ca_pem == root.pem
        assert read.key_pem == key_pem(leaf.key)
        assert read.unrelated == (stranger.certificate,)


def test_a_bundle_of_a_self_signed_certificate(pki: Pki) -> None:
    own = pki.issue("self")
    read = material.read_pkcs12(bundle(own, None), where="here")
    assert (read.chain, read.ca_pem) == ((own.certificate,), None)


def test_a_bundle_with_outdated_ciphers(pki: Pki) -> None:
    """`openssl pkcs12 -export -legacy`, which many tools still write: RC2 or Triple DES."""
    read = material.read_pkcs12((DATA / "legacy.p12").read_bytes(), passphrase="open", where="here")
    assert read.chain[0].subject == "CN=Version One Root"


BAD_BUNDLES: list[tuple[str, Callable[[Issued], bytes], str | None, str, str]] = [
    ("no passphrase", lambda c: bundle(c, b"secret"), None, "wrong_passphrase", "found none"),
    ("the wrong one", lambda c: bundle(c, b"secret"), "guess", "wrong_passphrase", "does not open it"),
    ("cut", lambda c: bundle(c, None)[:-40], None, "wrong_passphrase", "found none"),
    ("empty", lambda c: b"", None, "not_pkcs12", "it is empty"),
    ("PEM", lambda c: c.pem, None, "not_pkcs12", "PEM options"),
    ("a certificate", der, None, "not_pkcs12", "a certificate in DER"),
    ("no key", lambda c: bundle(c, None, c, with_key=False), None, "pkcs12_without_key", "certificates only"),
    ("a key alone", lambda c: bundle(c, None, with_certificate=False), None, "pkcs12_without_certificate", "0 other certificates"),
]


@pytest.mark.parametrize(("make", "passphrase", "code", "words"), [case[1:] for case in BAD_BUNDLES], ids=[case[0] for case in BAD_BUNDLES])
def test_bundles_that_are_not_read(leaf: Issued, make: Any, passphrase: str | None, code: str, words: str) -> None:
    found, text = rejected(lambda: material.read_pkcs12(make(leaf), passphrase=passphrase, where="here"))
    assert found == code
    assert words in text
    assert "secret" not in text and "guess" not in text


# --- CRLs and OCSP


def test_crls(pki: Pki, root: Issued, intermediate: Issued, leaf: Issued) -> None:
    first, second = pki.crl(root), pki.crl(intermediate, revoked=(leaf,))
    data = b"text\n" + first.pem + second.pem.replace(b"\n", b"\r\n")
    read = material.read_crls(data, where="here")
    assert read == (first, second)
    assert material.crl_pem(read) == first.pem + second.pem
    assert (read[1].count, read[1].issuer, read[1].revokes(leaf.certificate), read[0].revokes(leaf.certificate)) == (
        1,
        "CN=Intermediate",
        True,
        False,
    )


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda crl, c: b"", "not_pem", "it is empty"),
        (lambda crl, c: crl.der, "not_pem", "a CRL in DER"),
        (lambda crl, c: c.pem, "not_pem", "another kind (CERTIFICATE)"),
        (lambda crl, c: crl.pem[:100], "not_pem", "truncated"),
        (lambda crl, c: c.pem.replace(b"CERTIFICATE", b"X509 CRL"), "crl_unreadable", "block 1"),
        (lambda crl, c: crl.pem + key_pem(c.key), "private_key_in_certificate", "private key"),
    ],
)
def test_crls_that_are_not_read(pki: Pki, root: Issued, make: Any, code: str, words: str) -> None:
    found, text = rejected(lambda: material.read_crls(make(pki.crl(root), root), where="here"))
    assert found == code
    assert words in text


def test_staples(pki: Pki, intermediate: Issued, leaf: Issued) -> None:
    staple = material.read_ocsp_staple(pki.staple(leaf, intermediate), where="here")
    assert (staple.status, staple.serial_number) == ("good", leaf.certificate.serial_number)
    assert staple.next_update is not None and staple.next_update.tzinfo is not None


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "not_ocsp", "it is empty"),
        (b"-----BEGIN OCSP RESPONSE-----\nAAAA\n-----END OCSP RESPONSE-----\n", "not_ocsp", "OCSP RESPONSE"),
        (b"0\x82random", "not_ocsp", "neither"),
        (
            ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER),
            "ocsp_unsuccessful",
            "try_later",
        ),
    ],
)
def test_staples_that_are_not_read(data: bytes, code: str, words: str) -> None:
    found, text = rejected(lambda: material.read_ocsp_staple(data, where="here"))
    assert found == code
    assert words in text


# --- whatever comes


def _spoiled(seeds: list[bytes]) -> list[bytes]:
    """The same at every run: bytes flipped, cut out, doubled and put in."""
    chance = random.Random(20270101)
    spoiled = []
    for seed in seeds:
        for __ in range(60):
            data = bytearray(seed)
            for __ in range(chance.randint(1, 4)):
                at = chance.randrange(len(data) + 1)
                action = chance.randrange(4)
                if action == 0 and at < len(data):
                    data[at] ^= 1 << chance.randrange(8)
                elif action == 1:
                    del data[at : at + chance.randint(1, 80)]
                elif action == 2:
                    data[at:at] = data[at : at + chance.randint(1, 80)]
                else:
                    data[at:at] = chance.randbytes(chance.randint(1, 5))
            spoiled.append(bytes(data))
    return [
        *spoiled,
        *(chance.randbytes(length) for length in range(0, 200, 5)),
        b"-----BEGIN " * 50,
        b"-----END -----\n" * 50,
        b"\x30" * 99,
    ]


def test_nothing_but_rejected_is_raised(pki: Pki, root: Issued, intermediate: Issued, leaf: Issued) -> None:
    seeds = [
        leaf.pem + intermediate.pem,
        leaf.certificate.der,
        key_pem(leaf.key),
        key_pem(pki.key("RSA 2048"), PrivateFormat.TraditionalOpenSSL),
        key_pem(leaf.key, passphrase=b"x"),
        bundle(leaf, None, intermediate),
        pki.crl(root, revoked=(leaf,)).pem,
        pki.staple(leaf, intermediate),
    ]
    readers: list[Callable[[bytes], Any]] = [
        chain,
        key,
        lambda data: material.read_pkcs12(data, where="here"),
        lambda data: material.read_crls(data, where="here"),
        lambda data: material.read_ocsp_staple(data, where="here"),
        lambda data: material.from_der(data, where="here"),
    ]
    outcomes = set()
    for data in _spoiled(seeds):
        identify(data)
        scan(data)
        for reader in readers:
            try:
                reader(data)
                outcomes.add("read")
            except Rejected as problem:
                outcomes.add("rejected")
                assert all(each.where == "here" and "\n" not in each.message for each in problem.problems)
    assert outcomes == {"read", "rejected"}


def test_spoiled_certificates_that_are_read_can_be_judged(leaf: Issued, intermediate: Issued) -> None:
    """A flipped bit may leave a certificate that parses; no property of it and no check may raise then."""
    from ansible_collections.meshops.istio.plugins.module_utils.tls import ca_checks, checks, facts
    from tls_pki import NOW

    judged = 0
    for position in range(0, len(leaf.certificate.der)):
        spoiled = bytearray(leaf.certificate.der)
        spoiled[position] ^= 0x11
        try:
            certificate = material.from_der(bytes(spoiled), where="here")
        except Rejected:
            continue
        facts.describe(certificate, NOW)
        checks.check_server_pair(
            [certificate, intermediate.certificate], None, hosts=["a"], trust_anchors=[certificate], now=NOW, where="here"
        )
        ca_checks.check_ca([certificate], now=NOW, where="here")
        judged += 1
    assert judged > 100


def test_the_library_is_imported_late() -> None:
    """A missing library shall end in a sentence (`module.py`), so nothing here imports it with the module."""
    import subprocess
    import sys

    code = (
        "import sys\n"
        "import ansible_collections.meshops.istio.plugins.module_utils.tls.checks\n"
        "assert not [name for name in sys.modules if name.startswith('cryptography')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(filter(None, sys.path))})


def test_what_looks_like_base64_for_a_megabyte() -> None:
    """A pattern that goes back over white space would take hours."""
    from ansible_collections.meshops.istio.plugins.module_utils.tls.pem import identify

    assert identify(b"MI" + b"A \n" * 300_000 + b" " * 400_000 + b"!").what == "neither PEM nor any other known format"
    assert identify(b"MI" + b"AAA\r\n" * 200_000 + b"==").what == "Base64 without the PEM lines around it"
