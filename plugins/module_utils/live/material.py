# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates and keys of a probe, from whatever form they were brought in: read as those of credentials are, with the same errors. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from ..problems import Rejected
from ..tls import forms, material
from ..tls.pem import CRL_LABELS, PRIVATE_KEY_LABELS, der_kind, not_pem, scan


@dataclass(frozen=True)
class Given:
    """Bytes, and the argument that they came from."""

    data: bytes
    where: str

    def __repr__(self) -> str:
        return f"Given({self.where})"


def certificates(given: Given) -> bytes:
    """The certificates in PEM. Keys and CRLs beside them are left out: a probe shows nobody what it does not send."""
    pem = forms.certificates_as_pem(given.data)
    blocks, defects = scan(pem)
    kept = [block for block in blocks if block.label not in PRIVATE_KEY_LABELS | CRL_LABELS]
    if blocks and not kept and not defects:
        raise Rejected(not_pem(pem, "PEM certificates", given.where))
    if kept and not defects:
        pem = b"".join(block.text + b"\n" for block in kept)
    return material.chain_pem(material.read_cas(pem, where=given.where))


def client(certificate: Given | None, key: Given | None, passphrase: str | None) -> tuple[bytes | None, bytes | None]:
    """A client's chain, and its key without a passphrase, in PEM. A key that is not given may stand in the certificate's file; PKCS#12 holds
    both. None for what there is not."""
    chain = None
    if certificate is not None:
        bundle = _bundle(certificate, passphrase)
        if bundle is not None:
            return bundle.chain_pem, private_key(key, passphrase) if key else bundle.key_pem
        if key is None and _KEY in certificate.data.replace(b"\0", b""):  # of UTF-16
            key = certificate
        chain = certificates(certificate)
    return chain, private_key(key, passphrase) if key else None


_KEY = b"PRIVATE KEY-----"


def private_key(given: Given, passphrase: str | None) -> bytes:
    bundle = _bundle(given, passphrase)
    if bundle is not None:
        return bundle.key_pem
    return _told(lambda: material.read_private_key(forms.key_as_pem(given.data), passphrase=passphrase, where=given.where)).pem


def _bundle(given: Given, passphrase: str | None) -> material.Pkcs12 | None:
    """What PKCS#12 holds; None for all else."""
    binary = forms.binary(given.data)
    if binary is None or der_kind(binary) != "PKCS#12":
        return None
    return _told(lambda: material.read_pkcs12(binary, passphrase=passphrase, where=given.where))


T = TypeVar("T")
_REMEDIES = {
    # where a probe's options have other names than a credential's
    "key_encrypted": "Give the passphrase (client_private_key_passphrase)",
    "several_private_keys": "Give a file with the one that is meant alone",
}


def _told(read: Callable[[], T]) -> T:
    try:
        return read()
    except Rejected as rejected:
        problems = [replace(problem, remedy=_REMEDIES.get(problem.code, problem.remedy)) for problem in rejected.problems]
        raise Rejected(problems) from None
