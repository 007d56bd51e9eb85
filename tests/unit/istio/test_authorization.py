# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AuthorizationPolicies make of requests at a gateway."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.istio.authorization import Request, Verdict, judge
from ansible_collections.meshops.istio.plugins.module_utils.istio.workload import Workload

GATEWAY = Workload("gateways", "gw-0", "gw", {"istio": "gateway", "app": "gateway"})
EGRESS = Request(("api.example.com",), 8443, ("shop",))
ANYBODY = Request(("api.example.com",), 8443)
INGRESS = Request(("api.example.com",), 8443, in_mesh=False)


def policy(spec: str, namespace: str = "gateways", name: str = "p", **metadata: Any) -> dict[str, Any]:
    return {"kind": "AuthorizationPolicy", "metadata": {"name": name, "namespace": namespace, **metadata}, "spec": yaml.safe_load(spec)}


def judged(spec: str, request: Request = EGRESS, **more: Any) -> str:
    """`refused`, `open` or `passes`."""
    verdict = judge([policy(spec, **more)], GATEWAY, request, "istio-system")
    return "refused" if verdict.refusals else "open" if verdict.open else "passes"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{}", "refused"),
        ("{action: ALLOW}", "refused"),
        ("{action: ALLOW, rules: []}", "refused"),
        ("{rules: [{}]}", "passes"),
        ("{action: DENY}", "passes"),
        ("{action: DENY, rules: [{}]}", "refused"),
        ("{action: AUDIT, rules: [{}]}", "passes"),
        ("{action: CUSTOM, provider: {name: x}, rules: [{}]}", "passes"),
        # whom it is for
        ("{selector: {matchLabels: {istio: gateway}}}", "refused"),
        ("{selector: {matchLabels: {istio: gateway, app: other}}}", "passes"),
        ("{targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: gateway}]}", "passes"),
        ("{targetRef: {kind: Service, group: '', name: gw}}", "passes"),
        # sources
        ("{rules: [{from: [{source: {namespaces: [shop]}}]}]}", "passes"),
        ("{rules: [{from: [{source: {namespaces: ['sh*']}}]}]}", "passes"),
        ("{rules: [{from: [{source: {namespaces: ['*op']}}]}]}", "passes"),
        ("{rules: [{from: [{source: {namespaces: [billing]}}]}]}", "refused"),
        ("{rules: [{from: [{source: {namespaces: [billing]}}]}, {from: [{source: {namespaces: [shop]}}]}]}", "passes"),
        ("{rules: [{from: [{source: {notNamespaces: [shop]}}]}]}", "refused"),
        ("{rules: [{from: [{source: {principals: ['*']}}]}]}", "passes"),
        ("{rules: [{from: [{source: {principals: ['cluster.local/ns/shop/sa/web']}}]}]}", "open"),
        ("{rules: [{from: [{source: {principals: ['cluster.local/ns/shop/*']}}]}]}", "open"),
        ("{rules: [{from: [{source: {principals: ['cluster.local/ns/billing/sa/web']}}]}]}", "refused"),
        ("{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}", "open"),
        ("{rules: [{from: [{source: {serviceAccounts: [web]}}]}]}", "open"),
        ("{action: DENY, rules: [{from: [{source: {namespaces: [shop]}}]}]}", "refused"),
        ("{action: DENY, rules: [{from: [{source: {namespaces: [billing]}}]}]}", "passes"),
        ("{action: DENY, rules: [{from: [{source: {notPrincipals: ['*']}}]}]}", "passes"),
        ("{action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}", "passes"),
        # operations and conditions
        ("{rules: [{to: [{operation: {hosts: [api.example.com]}}]}]}", "passes"),
        ("{rules: [{to: [{operation: {hosts: ['API.example.com', 'api.example.com:*']}}]}]}", "passes"),
        ("{rules: [{to: [{operation: {hosts: ['*.example.com']}}]}]}", "passes"),
        ("{rules: [{to: [{operation: {hosts: [other.example.com]}}]}]}", "refused"),
        ("{rules: [{to: [{operation: {hosts: ['api.example.com:80']}}]}]}", "open"),
        ("{rules: [{to: [{operation: {ports: ['8443']}}]}]}", "passes"),
        ("{rules: [{to: [{operation: {ports: ['443']}}]}]}", "refused"),  # the pods' port counts
        ("{rules: [{to: [{operation: {notPorts: ['8443']}}]}]}", "refused"),
        ("{rules: [{to: [{operation: {methods: [GET]}}]}]}", "open"),
        ("{rules: [{to: [{operation: {hosts: [other.example.com], methods: [GET]}}]}]}", "refused"),
        ("{rules: [{when: [{key: source.namespace, values: [billing]}]}]}", "refused"),
        ("{rules: [{when: [{key: source.namespace, notValues: [billing]}]}]}", "passes"),
        ("{rules: [{when: [{key: 'request.headers[x]', values: [y]}]}]}", "open"),
    ],
)
def test_clients_of_the_mesh(spec: str, expected: str) -> None:
    assert judged(spec) == expected


@pytest.mark.parametrize(
    ("spec", "anybody", "from_outside"),
    [
        ("{rules: [{from: [{source: {namespaces: [shop]}}]}]}", "open", "refused"),
        ("{rules: [{from: [{source: {principals: ['*']}}]}]}", "passes", "refused"),
        ("{action: DENY, rules: [{from: [{source: {notPrincipals: ['*']}}]}]}", "passes", "refused"),
        ("{rules: [{from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}]}]}", "open", "open"),
        ("{rules: [{from: [{source: {notNamespaces: [shop]}}]}]}", "open", "passes"),
    ],
)
def test_other_clients(spec: str, anybody: str, from_outside: str) -> None:
    assert (judged(spec, ANYBODY), judged(spec, INGRESS)) == (anybody, from_outside)


def test_where_policies_are() -> None:
    assert judged("{}", namespace="istio-system") == "refused"
    assert judged("{}", namespace="shop") == "passes"
    assert judged("{}", annotations={"istio.io/dry-run": "true"}) == "passes"


def test_gateways_of_the_gateway_api() -> None:
    workload = Workload("gateways", "gw-0", "gw", {"gateway.networking.k8s.io/gateway-name": "edge"})
    for name, refused in (("edge", True), ("other", False)):
        attached = policy(f"{{targetRefs: [{{kind: Gateway, group: gateway.networking.k8s.io, name: {name}}}]}}")
        assert bool(judge([attached], workload, EGRESS, "istio-system").refusals) is refused


def test_several_policies() -> None:
    nothing, shop = policy("{}", "istio-system", "nothing"), policy("{rules: [{from: [{source: {namespaces: [shop]}}]}]}", name="shop")
    assert judge([nothing, shop], GATEWAY, EGRESS, "istio-system") == Verdict()
    both = Request(("api.example.com",), 8443, ("shop", "billing"))
    (refusal,) = judge([nothing, shop], GATEWAY, both, "istio-system").refusals
    assert (refusal.clients, refusal.policies) == (
        "billing",
        ("AuthorizationPolicy istio-system/nothing", "AuthorizationPolicy gateways/shop"),
    )


def test_tcp() -> None:
    """No HTTP, no hosts: it is left open what such rules do."""
    assert judged("{rules: [{to: [{operation: {hosts: [api.example.com]}}]}]}", Request((), 8443, ("shop",))) == "open"
