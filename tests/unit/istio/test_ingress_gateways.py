# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress import gateway_manifest
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_gateways import beside_of, read_gateways
from ansible_collections.meshops.istio.plugins.module_utils.istio.snapshot import snapshot_of
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import GATEWAY
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem, Rejected


def servers(host: str, **route: Any) -> list[dict[str, Any]]:
    return [{"hosts": [host], "credential_name": "c", "routes": [{"destination": {"host": "shop", "port": 80}, **route}]}]


def call(*gateways: dict[str, Any], **beside: Any) -> dict[str, Any]:
    return {"state": "present", "force_conflicts": False, **beside, "gateways": list(gateways)}


def test_what_a_gateway_leaves_out_comes_from_beside_the_list() -> None:
    shop, other, old = read_gateways(
        call(
            {"name": "shop", "servers": servers("a.example.com"), "labels": {"x": "own"}},
            {
                "name": "other",
                "namespace": "elsewhere",
                "selector": {"istio": "other"},
                "prune": True,
                "servers": servers("b.example.com"),
                "force_conflicts": True,
            },
            {"name": "old", "state": "absent"},
            namespace="shops",
            selector={"istio": "shops"},
            prune=False,
            labels={"x": "beside", "y": "1"},
        )
    )
    assert shop.gateway and other.gateway
    assert (shop.gateway.namespace, dict(shop.gateway.selector), dict(shop.gateway.labels)) == (
        "shops",
        {"istio": "shops"},
        {"x": "own", "y": "1"},
    )
    assert (other.gateway.namespace, dict(other.gateway.selector)) == ("elsewhere", {"istio": "other"})
    assert [(one.options["prune"], one.options["force_conflicts"]) for one in (shop, other)] == [(False, False), (True, True)]
    assert (old.gateway, str(old.ref), old.where) == (None, "Gateway shops/old", "gateways[2] (old): ")


def test_one_gateway_has_no_place_in_a_list() -> None:
    [one] = read_gateways({"name": "shop", "servers": servers("a.example.com"), "state": "present"})
    problem = Problem("code", "servers[0]", "message", "remedy")
    assert (one.where, str(one.ref), list(one.at([problem]))) == ("", "Gateway default/shop", [problem])
    assert one.options["prune"] is True


@pytest.mark.parametrize(
    ("gateways", "code", "where", "message"),
    [
        ([{"servers": servers("a.example.com")}], "no_name", "gateways[0] (no name): name", "found none"),
        ([{"name": "a"}], "servers_missing", "gateways[0] (a): servers", "should exist"),
        ([{"name": "A B", "state": "absent"}], "gateway_name", "gateways[0] (A B): Gateway default/A B", ""),
        (
            [{"name": "a", "servers": servers("a.example.com")}, {"name": "a", "state": "absent"}],
            "given_twice",
            "gateways",
            "Gateway default/a 2 times",
        ),
        (
            [{"name": "a", "servers": servers("a.example.com", name="r")}, {"name": "b", "servers": servers("b.example.com", name="r")}],
            "given_twice",
            "gateways",
            "VirtualService default/r 2 times",
        ),
        (
            [{"name": "a", "servers": servers("a.example.com", destination=None)}],
            "destination",
            "gateways[0] (a): servers[0].routes[0]",
            "",
        ),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(gateways: list[dict[str, Any]], code: str, where: str, message: str) -> None:
    with pytest.raises(Rejected) as rejected:
        read_gateways(call(*gateways))
    [problem] = rejected.value.problems
    assert (problem.code, problem.where) == (code, where)
    assert message in problem.message


def test_faults_of_all_gateways_are_told_at_once() -> None:
    with pytest.raises(Rejected) as rejected:
        read_gateways(call({"name": "a"}, {"name": "b", "servers": servers("b.example.com")}, {"name": "c"}))
    assert [problem.where for problem in rejected.value.problems] == ["gateways[0] (a): servers", "gateways[2] (c): servers"]


def test_each_gateway_sees_the_others_as_they_will_be() -> None:
    asked = read_gateways(
        call(
            {"name": "a", "servers": servers("a.example.com")},
            {"name": "b", "servers": servers("b.example.com")},
            {"name": "old", "state": "absent"},
        )
    )
    assert asked[1].gateway
    live = [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": name, "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"servers": []},
        }
        for name in ("a", "b", "old", "foreign")
    ]
    beside = beside_of(asked[0], asked)
    seen = {item["metadata"]["name"]: item for item in snapshot_of(live).with_desired(beside.made, beside.gone).of(GATEWAY)}
    assert set(seen) == {"a", "b", "foreign"}
    assert seen["a"] == live[0] and seen["foreign"] == live[3]
    assert seen["b"]["spec"] == gateway_manifest(asked[1].gateway)["spec"]
    assert seen["b"]["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"
