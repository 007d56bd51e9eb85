# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter renewals: what is told of each credential, and what its rotation keeps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.meshops.istio.plugins.filter.renewals import renewals

POLICY = {"min_remaining": "33%", "spread": "0%", "emergency_remaining": "10%", "windows": [], "freezes": []}


def live(name: str = "shop", days_left: float = 10, **more: Any) -> dict[str, Any]:
    end = datetime.now(UTC) + timedelta(days=days_left)
    times = {"not_before": f"{end - timedelta(days=90):%Y-%m-%dT%H:%M:%SZ}", "not_after": f"{end:%Y-%m-%dT%H:%M:%SZ}"}
    facts = {**times, "sans": ["shop.example.com"], "fingerprint_sha256": "aa"}
    return {"name": name, "namespace": "istio-system", "exists": True, "certificate": facts, **more}


def one(credential: dict[str, Any], facts: dict[str, Any], **more: Any) -> dict[str, Any]:
    (told,) = renewals([{"name": "shop", "source": "acme", **credential}], [facts], {**POLICY, **more})
    return told


def test_each_is_judged_by_its_own_policy_where_it_has_one() -> None:
    assert one({}, live())["outcome"] == "due"
    assert one({"min_remaining": "5d"}, live())["outcome"] == "not_due"
    assert one({"freezes": [{"from": "2026-01-01", "until": "2099-01-01"}]}, live())["outcome"] == "deferred"
    assert one({}, live(), min_remaining="5d")["outcome"] == "not_due"
    told = renewals([{"name": "other", "namespace": "gateways", "source": "pki"}], [live()], POLICY)
    assert told[0]["outcome"] == "due" and told[0]["key"] == "gateways/other" and told[0]["live"] == {}


def test_what_another_tool_renews_is_not_ordered_first_and_refused_then() -> None:
    keeper = {"kept_by": [{"tool": "cert-manager", "source": "Certificate shop", "evidence": ""}]}
    assert one({}, live(**keeper))["outcome"] == "failed"
    assert one({"override_cert_manager": True}, live(**keeper))["outcome"] == "due"


def test_a_rotation_keeps_all_but_the_pair() -> None:
    contents = {"layout": "generic", "certificate": "CERT", "ca_certificate": "CA", "crl": "CRL"}
    facts = live(contents=contents)
    kept = {"namespace": "istio-system", "name": "shop", "layout": "generic", "ca_certificate": "CA", "crl": "CRL"}
    assert one({"min_remaining": "1d", "acme": {"challenge": "dns-01"}}, facts)["rotation"] == kept
    given = one({"ca_certificate_path": "ca.pem", "layout": "tls", "labels": {"a": "b"}, "crl": None}, facts)["rotation"]
    assert given == {"namespace": "istio-system", "name": "shop", "layout": "tls", "ca_certificate_path": "ca.pem", "labels": {"a": "b"}}
    lost = live(contents={"layout": "tls"}, ca_certificate={"unreadable": "it is no PEM"})
    assert one({}, lost)["outcome"] == "failed" and one({"ca_certificate": "CA"}, lost)["outcome"] == "due"


def test_hosts_are_passed_on_as_they_are_compared() -> None:
    told = one({"hosts": ["Shop.Example.COM.", "münchen.example"]}, live())
    assert told["credential"]["hosts"] == told["rotation"]["hosts"] == ["shop.example.com", "xn--mnchen-3ya.example"]


@pytest.mark.parametrize(
    ("credential", "message"),
    [
        ({"min_remaning": "5d"}, "found min_remaning"),
        ({"source": "acmee"}, "expected as source acme, files, pki or the path of a file with tasks, found acmee"),
        ({"source": "files", "certificate_path": "shop.crt"}, "expected a certificate_path and a private_key_path"),
        ({"hosts": ["https://shop.example.com"]}, "expected hosts such as shop.example.com"),
        ({"min_remaining": "soon"}, r"renewal_credentials\[0\] \(shop\): min_remaining: expected a duration"),
        ({"windows": [{"days": ["x"]}]}, "expected days of the week"),
    ],
)
def test_mistakes_are_told_with_the_credential(credential: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        one(credential, live())


def test_a_source_of_the_users_own_may_have_options_of_its_own() -> None:
    assert one({"source": __file__, "vault_role": "gateways"}, live())["credential"]["vault_role"] == "gateways"


def test_a_credential_is_listed_once() -> None:
    listed = [{"name": "shop", "source": "pki"}, {"name": "shop", "namespace": "istio-system", "source": "acme"}]
    with pytest.raises(
        AnsibleFilterError, match=r"renewal_credentials\[1\]: expected every credential once, found istio-system/shop again"
    ):
        renewals(listed, [], POLICY)
