# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes in, parsed once: certificates, private keys, PKCS#12 bundles, CRLs and OCSP staples as frozen values.

Every `read_...` takes the content and `where` it came from, and raises `Rejected` (and nothing else) where the content cannot be worked
with at all. What is wrong with content that can be read is told by `checks`. No repr and no message holds key material.
"""

from __future__ import annotations

from .certificate import Certificate, KeyKind, fingerprint
from .chain import chain_pem, from_der, from_x509, read_cas, read_chain
from .pkcs12 import Pkcs12, read_pkcs12
from .private_key import PrivateKey, read_private_key
from .revocation import Crl, OcspStaple, crl_pem, read_crls, read_ocsp_staple

__all__ = [
    "Certificate",
    "Crl",
    "KeyKind",
    "OcspStaple",
    "Pkcs12",
    "PrivateKey",
    "chain_pem",
    "crl_pem",
    "fingerprint",
    "from_der",
    "from_x509",
    "read_cas",
    "read_chain",
    "read_crls",
    "read_ocsp_staple",
    "read_pkcs12",
    "read_private_key",
]
