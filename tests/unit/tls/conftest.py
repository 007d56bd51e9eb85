# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.tls.material import Certificate, read_chain
from tls_pki import Issued, Pki


@pytest.fixture(scope="session")
def pki() -> Pki:
    return Pki()


@pytest.fixture(scope="session")
def root(pki: Pki) -> Issued:
    return pki.issue("Root", ca=True, usage=("key_cert_sign", "crl_sign"), days=(-100, 1000))


@pytest.fixture(scope="session")
def intermediate(pki: Pki, root: Issued) -> Issued:
    return pki.issue("Intermediate", root, ca=True, usage=("key_cert_sign", "crl_sign", "digital_signature"), days=(-50, 500))


@pytest.fixture(scope="session")
def leaf(pki: Pki, intermediate: Issued) -> Issued:
    return pki.issue(
        "httpbin.example.com",
        intermediate,
        dns=("httpbin.example.com", "*.apps.example.com"),
        ip=("10.0.0.1", "2001:db8::1"),
        usage=("digital_signature",),
        purposes=("serverAuth",),
    )


@pytest.fixture(scope="session")
def data() -> Any:
    """A file of tests/unit/tls/data as a chain: what the library that issues here refuses to issue."""

    def load(name: str) -> tuple[Certificate, ...]:
        return read_chain((Path(__file__).parent / "data" / name).read_bytes(), where=name)

    return load
