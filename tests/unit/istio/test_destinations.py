# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether there is anything where a Gateway's routes go."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.choice import arrange
from ansible_collections.meshops.istio.plugins.module_utils.istio.destinations import (
    Known,
    destination_problems,
    destinations,
    hosts_of,
    unknown,
)
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress import IngressGateway
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_arguments import from_arguments

HTTPBIN = {("default", "httpbin"): {"spec": {"ports": [{"port": 8000}]}}}
TWO_PORTS = {("default", "httpbin"): {"spec": {"ports": [{"port": 8000}, {"port": 9000}]}}}
NONE = {("default", "httpbin"): None}


def gateway(host: str = "httpbin", port: int | None = 8000, subset: str | None = None) -> IngressGateway:
    target = {key: value for key, value in {"host": host, "port": port, "subset": subset}.items() if value is not None}
    server = {"hosts": ["a.example.com"], "credential_name": "a", "routes": [{"destination": target}]}
    return from_arguments({"name": "g", "namespace": "default", "servers": [server]})


def entry(host: str) -> dict[str, Any]:
    return {"kind": "ServiceEntry", "metadata": {"name": "e", "namespace": "default"}, "spec": {"hosts": [host]}}


def rule(*subsets: str, host: str = "httpbin", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    spec = {"host": host, "subsets": [{"name": name} for name in subsets], **spec}
    return {"kind": "DestinationRule", "metadata": {"name": "r", "namespace": namespace}, "spec": spec}


def codes(one: IngressGateway, services: Any, entries: Any = (), rules: Any = ()) -> list[str]:
    found = destination_problems(
        destinations(one),
        Known(services, hosts_of(entries)),
        rules=None if rules is None else arrange(rules, root_namespace="istio-system"),
        proxy_namespaces=["istio-system"],
        route_namespace="default",
    )
    assert all(problem.severity == "warning" and "503" in problem.message and problem.where for problem in found)
    return [problem.code for problem in found]


@pytest.mark.parametrize(
    ("one", "services", "entries", "rules", "expected"),
    [
        (gateway(), HTTPBIN, [], [], []),
        (gateway("httpbin.default.svc.cluster.local"), HTTPBIN, [], [], []),
        (gateway("httpbin.default.svc.corp.internal"), HTTPBIN, [], [], []),
        (gateway(), NONE, [], [], ["destination_missing"]),
        (gateway("httpbin.apps.svc.cluster.local"), {("apps", "httpbin"): None}, [], [], ["destination_missing"]),
        (gateway(), NONE, [entry("httpbin.default.svc.cluster.local")], [], []),
        (gateway("api.partner.example"), {}, [entry("api.partner.example")], [], []),
        (gateway("api.partner.example"), {}, [entry("*.partner.example")], [], []),
        (gateway("api.partner.example"), {}, [], [], ["destination_missing"]),
        (gateway("httpbin.default"), {}, [], [], ["destination_missing"]),  # istiod does not complete it
        (gateway("httpbin.default.svc.clusterset.local"), {}, [], [], []),
        # what could not be read
        (gateway(), {}, [], [], []),
        (gateway(), NONE, None, [], []),
        (gateway(subset="v1"), HTTPBIN, [], None, []),
        # ports
        (gateway(port=80), HTTPBIN, [], [], ["destination_port"]),
        (gateway(port=None), HTTPBIN, [], [], []),
        (gateway(port=None), TWO_PORTS, [], [], ["destination_port"]),
        (gateway(port=9000), TWO_PORTS, [], [], []),
        (gateway(port=80), {("default", "httpbin"): {"spec": {"type": "ExternalName"}}}, [], [], []),
        # subsets
        (gateway(subset="v1"), HTTPBIN, [], [rule("v1")], []),
        (gateway(subset="v1"), HTTPBIN, [], [rule("v2")], ["destination_subset"]),
        (gateway(subset="v1"), HTTPBIN, [], [], ["destination_subset"]),
        (gateway(subset="v1"), HTTPBIN, [], [rule("v1", exportTo=["."])], ["destination_subset"]),
        (gateway(subset="v1"), HTTPBIN, [], [rule("v1", host="*.default.svc.cluster.local")], []),
    ],
)
def test_where_routes_lead(one: IngressGateway, services: Any, entries: Any, rules: Any, expected: list[str]) -> None:
    assert codes(one, services, entries, rules) == expected


def test_what_has_to_be_looked_up() -> None:
    (found,) = destinations(gateway("Httpbin.Default.svc.cluster.local."))
    assert found.service == ("default", "httpbin") and found.port == 8000
    assert unknown(destinations(gateway()), HTTPBIN) == () and unknown(destinations(gateway()), {}) == ()
    assert [one.host for one in unknown(destinations(gateway()), NONE)] == ["httpbin.default.svc.cluster.local"]


def test_a_name_with_a_namespace_is_explained() -> None:
    targets, known = destinations(gateway("httpbin.default")), Known({}, frozenset())
    found = destination_problems(targets, known, rules=None, proxy_namespaces=["x"], route_namespace="default")
    assert "httpbin.default.svc.cluster.local" in found[0].remedy
