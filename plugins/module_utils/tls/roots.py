# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roots that browsers and this machine trust, looked through without parsing hundreds of them. Pure."""

from __future__ import annotations

import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ..problems import Rejected
from .fields import fields
from .material import Certificate, from_der
from .paths import same_ca


@dataclass(frozen=True)
class Roots:
    """Roots that are known besides the trust anchors: no demand, but where a chain leads to one of them it is complete."""

    public: bytes = b""
    """PEM of the roots that browsers trust from the start."""
    system: bytes = b""
    """PEM of those that this machine trusts; a company's may be among them."""

    @cached_property
    def _browsers(self) -> tuple[bytes, ...]:
        return _blocks(self.public)

    @cached_property
    def _machines(self) -> tuple[bytes, ...]:
        return _blocks(self.system)

    def above(self, chain: Iterable[Certificate]) -> tuple[Certificate, ...]:
        """Those that an issuer in the chain may be. Names are looked for in the bytes, since there are hundreds of roots to be parsed."""
        found: dict[Certificate, None] = {}
        for name in dict.fromkeys(fields(certificate.der).issuer_der for certificate in chain):
            if name not in self._found:  # a fleet's certificates share their issuers
                ders = dict.fromkeys(der for der in (*self._browsers, *self._machines) if name and name in der)
                self._found[name] = tuple(root for der in ders for root in _parsed(der))
            found.update(dict.fromkeys(self._found[name]))
        return tuple(found)

    @cached_property
    def _found(self) -> dict[bytes, tuple[Certificate, ...]]:
        return {}

    def is_public(self, root: Certificate) -> bool:
        return root.der in self._browsers or any(same_ca(root, each) for each in self.above([root]) if each.der in self._browsers)


def _blocks(pem: bytes) -> tuple[bytes, ...]:
    """The certificates of a bundle in DER."""
    found = []
    for part in pem.split(b"-----BEGIN CERTIFICATE-----")[1:]:
        try:
            found.append(binascii.a2b_base64(part.partition(b"-----END")[0]))
        except binascii.Error:
            continue
    return tuple(found)


def _parsed(der: bytes) -> tuple[Certificate, ...]:
    try:
        return (from_der(der, where="a root"),)
    except Rejected:
        return ()
