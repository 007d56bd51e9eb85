# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.tls import facts
from tls_pki import DAY, NOW, Issued, Pki


def test_a_certificate(pki: Pki, intermediate: Issued) -> None:
    issued = pki.issue("a.example.com", intermediate, ip=("10.0.0.1",), uris=("spiffe://x",), days=(-1, 30), serial=0x0F00)
    described = facts.describe(issued.certificate, NOW)
    assert described == {
        "fingerprint_sha256": issued.certificate.fingerprint,
        "serial": "0F00",
        "subject": "CN=a.example.com",
        "common_name": "a.example.com",
        "sans": ["a.example.com", "10.0.0.1", "spiffe://x"],
        "issuer": "CN=Intermediate",
        "not_before": "2026-12-31T12:00:00Z",
        "not_after": "2027-01-31T12:00:00Z",
        "days_left": 30,
        "key": "ECDSA P-256",
        "is_ca": False,
    }


def test_a_chain(leaf: Issued, intermediate: Issued) -> None:
    described = facts.describe((leaf.certificate, intermediate.certificate), NOW)
    assert described["subject"] == "CN=httpbin.example.com"
    assert [(each["subject"], each["days_left"]) for each in described["chain"]] == [("CN=Intermediate", 500)]
    assert facts.describe((), NOW) == {}


def test_it_is_json_without_bytes(leaf: Issued, intermediate: Issued, pki: Pki, root: Issued) -> None:
    text = json.dumps([facts.describe((leaf.certificate, intermediate.certificate), NOW), facts.describe_crl(pki.crl(root))])
    assert "BEGIN" not in text and leaf.pem.split()[3].decode() not in text


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (timedelta(days=30), 30),
        (timedelta(days=30, seconds=-1), 29),
        (timedelta(seconds=1), 0),
        (timedelta(0), 0),
        (timedelta(seconds=-1), -1),
        (-2 * DAY, -2),
    ],
)
def test_days_left_is_rounded_down(left: timedelta, expected: int) -> None:
    assert facts.days_left(NOW + left, NOW) == expected


def test_times_are_utc() -> None:
    assert facts.rfc3339(datetime(2026, 1, 31, 13, 0, 0, 999, tzinfo=timezone(timedelta(hours=1)))) == "2026-01-31T12:00:00Z"
    assert facts.rfc3339(datetime(950, 1, 1, tzinfo=UTC)) == "0950-01-01T00:00:00Z"


def test_a_crl(pki: Pki, root: Issued, leaf: Issued) -> None:
    crl = pki.crl(root, revoked=(leaf,))
    assert facts.describe_crl(crl) == {
        "fingerprint_sha256": crl.fingerprint,
        "issuer": "CN=Root",
        "last_update": "2026-12-31T12:00:00Z",
        "next_update": "2027-01-08T12:00:00Z",
        "revoked": 1,
    }
