# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.tls import names
from tls_pki import Pki


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        (" example.com ", "example.com"),
        ("*.Example.com", "*.example.com"),
        ("*", "*"),
        ("default/example.com", "example.com"),
        ("*/example.com", "example.com"),
        ("./*.example.com", "*.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_acme.example.com", "_acme.example.com"),
        ("localhost", "localhost"),
        ("10.0.0.1", "10.0.0.1"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("", None),
        (".", None),
        ("a..b", None),
        (".example.com", None),
        ("-a.example.com", None),
        ("a b.example.com", None),
        ("example.com:443", None),
        ("w*.example.com", None),
        ("*.*.example.com", None),
        ("a.*.example.com", None),
        ("a" * 64 + ".example.com", None),
        (".".join(["a" * 60] * 5), None),
        ("a\u2028b.example", None),
        ("ü" * 80 + ".example", None),
    ],
)
def test_normalise(host: str, expected: str | None) -> None:
    assert names.normalise(host) == expected


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("a.example.com", "a.example.com", True),
        ("A.Example.com.", "a.example.com", True),
        ("a.example.com", "b.example.com", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.b.example.com", False),
        ("*.example.com", "*.example.com", True),
        ("*.example.com", "*.a.example.com", False),
        ("a.example.com", "*.example.com", False),
        ("w*.example.com", "www.example.com", False),
        ("a.*.com", "a.b.com", False),
        ("*.com", "example.com", False),
        ("*.com", "*.com", False),
        ("*", "localhost", False),
        ("", "a", False),
        ("*.", "a", False),
    ],
)
def test_pattern_covers(pattern: str, host: str, expected: bool) -> None:
    assert names.pattern_covers(pattern, host) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("a.example.com", True),
        ("A.EXAMPLE.COM.", True),
        ("x.apps.example.com", True),
        ("bücher.example", True),
        ("10.0.0.1", True),
        ("[2001:db8:0:0::1]", True),
        ("10.0.0.2", False),
        ("10.9.9.9", False),  # stands there as a DNS name, which does not count
        ("cn.example.com", False),
        ("not a host", False),
        ("*", False),
    ],
)
def test_covers(pki: Pki, host: str, expected: bool) -> None:
    certificate = pki.issue(
        "cn.example.com",
        dns=("a.example.com", "*.apps.example.com", "xn--bcher-kva.example", "10.9.9.9"),
        ip=("10.0.0.1", "2001:db8::1"),
    ).certificate
    assert names.covers(host, certificate) is expected


@pytest.mark.parametrize(
    ("common_name", "dns", "host", "expected"),
    [
        ("a.example.com", (), "a.example.com", True),
        ("*.example.com", (), "a.example.com", True),
        ("10.0.0.1", (), "10.0.0.1", True),
        ("a.example.com", (), "b.example.com", False),
        ("Some Service", (), "some", False),
        ("a.example.com", ("b.example.com",), "a.example.com", False),
        ("", (), "a.example.com", False),
        ("a.example.com", (), "no host", False),
    ],
)
def test_common_name_covers(pki: Pki, common_name: str, dns: tuple[str, ...], host: str, expected: bool) -> None:
    assert names.common_name_covers(host, pki.issue(common_name, dns=dns).certificate) is expected
