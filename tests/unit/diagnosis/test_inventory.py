# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that was looked at: hosts are judged by what is about them alone, and certificates know what they are for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.meshops.istio.tests.unit.diagnosis.all_faults import ALL
from ansible_collections.meshops.istio.tests.unit.diagnosis.correct import (
    CORRECT,
    CREDENTIAL,
    EGRESS_SET,
    INGRESS_SET,
    MUTUAL_SET,
    SERVER,
    replaced,
)
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import INGRESS, Manifest, authority, changed, objects, pair
from ansible_collections.meshops.istio.tests.unit.report.results import result


def survey(items: list[Manifest]) -> dict[str, Any]:
    return dict(result(items)["survey"])


def states(items: list[Manifest]) -> dict[str, str]:
    return {one["host"]: one["state"] for one in survey(items)["hosts"]}


@pytest.mark.parametrize("items", CORRECT.values(), ids=CORRECT)
def test_in_a_correct_set_no_host_is_broken(items: list[Manifest]) -> None:
    assert {name: state for name, state in states(items).items() if state == "broken"} == {}


@pytest.mark.parametrize("case", ALL.values(), ids=ALL)
def test_every_faulty_set_is_told_in_a_stable_order_and_without_keys(case: tuple[list[Manifest], Any]) -> None:
    items, __ = case
    assert json.dumps(survey(items)) == json.dumps(survey(items[::-1]))
    assert "PRIVATE" not in json.dumps(survey(items))


def two_hosts(**of_second: Any) -> list[Manifest]:
    """One Gateway with two servers, each with its host; both with one Secret."""
    both = changed([*objects(INGRESS)], "VirtualService", "httpbin", spec__hosts=["httpbin.example.com", "other.example.com"])
    gateway = next(item for item in both if item["kind"] == "Gateway")
    server = gateway["spec"]["servers"][0]
    gateway["spec"]["servers"] = [
        server,
        {**server, "hosts": ["other.example.com"], "port": {**server["port"], "name": "other"}, **of_second},
    ]
    rest = [item for item in INGRESS_SET if item["kind"] not in ("Gateway", "VirtualService")]
    return [*rest, *both]


def test_only_the_host_whose_server_is_wrong_is_broken() -> None:
    found = states(two_hosts(tls={"mode": "SIMPLE", "credentialName": "nobody-made-it"}))
    assert found == {"httpbin.example.com": "right", "other.example.com": "broken"}


def test_only_the_host_that_the_certificate_lacks_is_broken() -> None:
    assert states(two_hosts()) == {"httpbin.example.com": "right", "other.example.com": "broken"}


def test_certificates_know_what_uses_them_and_who_issued_them() -> None:
    found = survey([*EGRESS_SET, *objects(INGRESS), SERVER])["certificates"]
    leaf = next(one for one in found if one["names"] == ["httpbin.example.com"])
    assert leaf["used_by"] == ["Gateway default/mygateway"] and leaf["hosts"] == ["httpbin.example.com"]
    client = next(one for one in found if one["hosts"] == ["nginx.example.net"] and not one["is_ca"])
    root = next(one for one in found if one["is_ca"])
    assert client["issued_by"] == root["fingerprint_sha256"]
    assert root["places"] == [{"object": "Secret istio-system/client-credential", "role": "trusted"}]
    assert [one["not_after"] for one in found] == sorted(one["not_after"] for one in found)


def test_every_certificate_of_a_bundle_of_cas_is_there() -> None:
    """Also under the label of RHEL's bundles, which Envoy reads."""
    bundle = authority("Clients").pem + authority("Other clients").pem.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE")
    items = replaced(MUTUAL_SET, pair(CREDENTIAL, "httpbin.example.com", ca_crt=bundle))
    trusted = [one["subject"] for one in survey(items)["certificates"] if one["places"][0]["role"] == "trusted"]
    assert sorted(trusted) == ["CN=Clients", "CN=Other clients"]
