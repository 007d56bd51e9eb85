# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A probe's certificates and keys in every form that people have: a real server that wants a client certificate is asked with them."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.live.material import Given, certificates, client
from ansible_collections.meshops.istio.plugins.module_utils.live.probe import probe
from ansible_collections.meshops.istio.plugins.module_utils.live.request import Request
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.tests.unit.live.servers import Pair, Pki, https, make, server_context
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, pkcs12

SECRET = "c4n4ry"
Make = Callable[[Pki, Pair, Path], tuple[bytes, bytes | None]]


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


@pytest.fixture(scope="module")
def mine(pki: Pki) -> Pair:
    return make("client", by=pki.root)


def der(pair: Pair) -> bytes:
    return pair.certificate.public_bytes(Encoding.DER)


def key_der(pair: Pair, passphrase: bytes | None = None) -> bytes:
    how = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return pair.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, how)


def pkcs7(directory: Path, form: str, *pairs: Pair) -> bytes:
    (directory / "certs.pem").write_bytes(b"".join(pair.pem for pair in pairs))
    command = ["openssl", "crl2pkcs7", "-nocrl", "-certfile", "certs.pem", "-outform", form]
    return subprocess.run(command, cwd=directory, check=True, capture_output=True).stdout


def pfx(pair: Pair, passphrase: bytes = SECRET.encode()) -> bytes:
    return pkcs12.serialize_key_and_certificates(None, pair.private_key, pair.certificate, None, BestAvailableEncryption(passphrase))


def bag(pair: Pair, data: bytes) -> bytes:
    """As openssl pkcs12 writes it, with attributes around."""
    return b"Bag Attributes\n    friendlyName: client\nsubject=CN = client\n\n" + data


CAS: dict[str, Callable[[Pki, Path], bytes]] = {
    "PEM": lambda pki, __: pki.root.pem,
    "DER": lambda pki, __: der(pki.root),
    "base64": lambda pki, __: base64.encodebytes(der(pki.root)),
    "PKCS#7 in DER": lambda pki, directory: pkcs7(directory, "DER", pki.foreign, pki.root),
    "PKCS#7 in PEM": lambda pki, directory: pkcs7(directory, "PEM", pki.root),
    "PKCS#7 under another label": lambda pki, directory: pkcs7(directory, "PEM", pki.root).replace(b"PKCS7", b"CERTIFICATE"),
    "UTF-16": lambda pki, __: pki.root.pem.decode().encode("utf-16"),
    "a byte order mark": lambda pki, __: b"\xef\xbb\xbf" + pki.root.pem,
    "CRLF and text": lambda pki, __: b"Root of M\xfcller\r\n" + pki.root.pem.replace(b"\n", b"\r\n"),
    "bare CR": lambda pki, __: pki.root.pem.replace(b"\n", b"\r"),
    "a key beside it": lambda pki, __: pki.root.key() + pki.root.pem,
}
CLIENTS: dict[str, Make] = {
    "PEM": lambda __, mine, ___: (mine.pem, mine.key()),
    "both in one": lambda __, mine, ___: (mine.key() + mine.pem, None),
    "both in one, in UTF-16": lambda __, mine, ___: ((mine.key() + mine.pem).decode().encode("utf-16"), None),
    "both in one, encrypted": lambda __, mine, ___: (mine.pem + mine.key(SECRET.encode()), None),
    "both in one, and the key": lambda __, mine, ___: (mine.pem + mine.key(), mine.key()),
    "a stranger's key beside it": lambda pki, mine, ___: (mine.pem + pki.foreign.key(), mine.key()),
    "bags": lambda __, mine, ___: (bag(mine, mine.pem), bag(mine, mine.key())),
    "DER": lambda __, mine, ___: (der(mine), key_der(mine)),
    "an encrypted key in DER": lambda __, mine, ___: (der(mine), key_der(mine, SECRET.encode())),
    "an encrypted key under another label": lambda __, mine, ___: (mine.pem, mine.key(SECRET.encode()).replace(b"ENCRYPTED ", b"")),
    "PKCS#7": lambda pki, mine, directory: (pkcs7(directory, "DER", pki.root, mine), mine.key()),
    "PKCS#12": lambda __, mine, ___: (pfx(mine), None),
    "PKCS#12 in base64": lambda __, mine, ___: (base64.b64encode(pfx(mine)), None),
    "PKCS#12 as both": lambda __, mine, ___: (pfx(mine), pfx(mine)),
    "PKCS#12 as the key": lambda __, mine, ___: (mine.pem, pfx(mine)),
}


@pytest.mark.parametrize("form", CAS)
def test_cas(pki: Pki, tmp_path: Path, form: str) -> None:
    ca = certificates(Given(CAS[form](pki, tmp_path), "ca_certificate"))
    with https(server_context(tmp_path, pki.server)) as server:
        result = probe(Request(host="a.example.com", address=server.address, port=server.port, ca=ca, timeout=5.0))
    assert (result.failure, result.status, result.verified) == (None, 200, True)


@pytest.mark.parametrize("form", CLIENTS)
def test_clients(pki: Pki, mine: Pair, tmp_path: Path, form: str) -> None:
    certificate, key = CLIENTS[form](pki, mine, tmp_path)
    chain, private = client(Given(certificate, "client_certificate"), Given(key, "client_private_key") if key else None, SECRET)
    with https(server_context(tmp_path, pki.server, client_ca=pki.root)) as server:
        asked = Request(host="a.example.com", address=server.address, port=server.port, ca=pki.root.pem, timeout=5.0)
        assert probe(asked).failure == "certificate_required"
        result = probe(Request(**{**asked.__dict__, "client_certificate": chain, "client_private_key": private}))
    assert (result.failure, result.status) == (None, 200)


REFUSED: dict[str, tuple[Callable[[Pki, Pair], tuple[bytes, bytes | None]], str | None, str]] = {
    "no certificate": (lambda __, ___: (b"nonsense", None), None, "client_certificate: expected PEM certificates, found neither PEM nor"),
    "a path": (lambda __, ___: (b"/etc/client.pem", None), None, "Give a path through the option whose name ends in _path"),
    "a key alone": (lambda __, mine: (mine.key(), None), None, "client_certificate: expected PEM certificates, found PEM of another kind"),
    "no passphrase": (lambda __, mine: (mine.pem, mine.key(b"x")), None, "Give the passphrase (client_private_key_passphrase)"),
    "the wrong passphrase": (lambda __, mine: (mine.pem, mine.key(b"x")), SECRET, "found one that does not decrypt it"),
    "a bundle's wrong passphrase": (lambda __, mine: (pfx(mine, b"x"), None), SECRET, "found one that does not open it"),
    "two keys": (lambda pki, mine: (mine.pem, mine.key() + pki.root.key()), None, "Give a file with the one that is meant alone"),
    "a certificate as the key": (lambda __, mine: (mine.pem, mine.pem), None, "client_private_key: expected a private key in PEM"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_told(pki: Pki, mine: Pair, case: str) -> None:
    make_both, passphrase, words = REFUSED[case]
    certificate, key = make_both(pki, mine)
    with pytest.raises(Rejected) as raised:
        client(Given(certificate, "client_certificate"), Given(key, "client_private_key") if key else None, passphrase)
    told = str(raised.value)
    assert words in told and SECRET not in told


def test_nothing_is_nothing(mine: Pair) -> None:
    assert client(None, None, SECRET) == (None, None)
    assert client(Given(mine.pem, "c"), None, None) == (mine.pem, None)
    assert "BEGIN" not in repr(Given(mine.key(), "client_private_key"))
