# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter of the roles' checks.

Not among the unit tests: who imports `ansible.errors` makes ansible-core 2.19 and newer take the process for a controller's, and modules that
are tested in it no longer put their warnings into results.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.meshops.istio.plugins.filter.probes import FilterModule, probes

HOST = {"name": "shop", "host": "shop.example.com"}


def test_a_credential_is_expected_to_be_served() -> None:
    check = {**HOST, "path": "/", "credential": "shop-credential", "expect": {"status": 200}}
    assert probes([check]) == [{**HOST, "path": "/", "expect": {"status": 200, "credential": ["shop-credential"]}}]
    assert check["expect"] == {"status": 200}, "the variable was changed"
    assert probes([HOST]) == [HOST]
    assert FilterModule().filters() == {"probes": probes}


def test_a_credential_is_expected_to_be_seen_by_the_server() -> None:
    check = {**HOST, "credential": "c", "expect": {"headers": {"X-A": "b"}}, "access_log": "x", "headers": {"X-Own": "1"}}
    [made] = probes([check], serials={"c": "0A"}, serial_header="X-Serial", mark="m/1")
    assert made["expect"] == {"headers": {"X-A": "b", "X-Serial": "0A"}}
    assert made["headers"] == {"User-Agent": f"m/1/{hashlib.sha1(b'shop', usedforsecurity=False).hexdigest()}", "X-Own": "1"}
    assert "access_log" not in made and "credential" not in made
    assert "headers" not in probes([{**HOST, "scheme": "tcp"}], mark="m/1")[0]


@pytest.mark.parametrize(
    ("check", "serials", "told"),
    [
        ({"host": "a.example.com"}, None, "found one without"),
        ({"name": "a"}, None, "found one without"),
        ({**HOST, "ca_certificate_paht": "x"}, None, "shop: expected options of tls_probe, found ca_certificate_paht"),
        ({**HOST, "credential": "c"}, {}, "shop: expected a certificate, found no such credential: c"),
    ],
)
def test_what_is_no_check_is_told(check: dict[str, Any], serials: dict[str, str] | None, told: str) -> None:
    with pytest.raises(AnsibleFilterError, match=told):
        probes([check], serials=serials)
