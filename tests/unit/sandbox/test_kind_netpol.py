# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the node's NetworkPolicy unit makes of policies: https://kubernetes.io/docs/concepts/services-networking/network-policies/"""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.meshops.istio.sandbox.kind import netpol
from ansible_collections.meshops.istio.sandbox.kind.netpol import Cluster, Pod

CLIENT = Pod("default", {"app": "sleep"}, "10.244.0.1")
HTTPBIN = Pod("default", {"app": "httpbin", "version": "v1"}, "10.244.0.2", (("http", "tcp", 8080),))
OTHER_HTTPBIN = Pod("default", {"app": "httpbin", "version": "v2"}, "10.244.0.3", (("http", "tcp", 8000),))
EGRESS = Pod("istio-system", {"istio": "egressgateway"}, "10.244.0.4")
NGINX = Pod("mesh-external", {"run": "my-nginx"}, "10.244.0.5")
NAMESPACES = {"default": {}, "istio-system": {"team": "mesh"}, "mesh-external": {"team": "partner"}}
DROP = "counter drop"


def policy(spec: dict[str, Any], namespace: str = "default", name: str = "p") -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": spec}


def chains(*policies: dict[str, Any]) -> dict[str, list[str]]:
    """Chain -> its lines; for every Pod (by its address) that is isolated, in the keys `out ADDRESS` and `in ADDRESS`."""
    text = netpol.ruleset(Cluster([CLIENT, HTTPBIN, OTHER_HTTPBIN, EGRESS, NGINX], NAMESPACES, policies))
    made = {
        name: [line.strip() for line in body.splitlines() if line.strip() and "#" not in line]
        for name, body in re.findall(r"chain (\S+) \{\n(.*?)\n  \}", text, re.DOTALL)
    }
    found = {}
    for side, key in (("saddr", "out"), ("daddr", "in")):
        for line in made["forward"]:
            if line.startswith(f"ip {side} vmap"):
                found |= {f"{key} {address}": made[chain] for address, chain in re.findall(r"([\d.]+) : jump (\S+?)[, ]", line)}
    return found


def test_without_policies_everything_passes() -> None:
    assert chains() == {}
    assert "policy accept" in netpol.ruleset(Cluster())


def test_only_selected_pods_of_the_policys_namespace_are_isolated() -> None:
    found = chains(policy({"podSelector": {"matchLabels": {"run": "my-nginx"}}}, "mesh-external"))
    assert found == {"in 10.244.0.5": [DROP]}
    assert chains(policy({"podSelector": {"matchLabels": {"run": "my-nginx"}}}, "default")) == {}


@pytest.mark.parametrize(
    ("spec", "directions"),
    [
        ({}, {"in"}),
        ({"egress": [{}]}, {"in", "out"}),
        ({"policyTypes": ["Egress"]}, {"out"}),
        ({"policyTypes": ["Ingress", "Egress"]}, {"in", "out"}),
        ({"policyTypes": ["Ingress"], "egress": [{}]}, {"in"}),
    ],
)
def test_which_directions_a_policy_isolates(spec: dict[str, Any], directions: set[str]) -> None:
    found = chains(policy({"podSelector": {"matchLabels": {"app": "sleep"}}, **spec}))
    assert {key.split()[0] for key in found} == directions


ANYTHING: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        (ANYTHING, ["return"]),
        ({"from": [{"podSelector": {}}]}, ["ip saddr { 10.244.0.1, 10.244.0.2, 10.244.0.3 } return"]),
        ({"from": [{"namespaceSelector": {"matchLabels": {"team": "mesh"}}}]}, ["ip saddr { 10.244.0.4 } return"]),
        (
            {"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"run": "my-nginx"}}}]},
            ["ip saddr { 10.244.0.5 } return"],
        ),
        # two peers: either is enough; one peer with two selectors: both must hold
        (
            {"from": [{"namespaceSelector": {"matchLabels": {"team": "mesh"}}}, {"podSelector": {"matchLabels": {"app": "sleep"}}}]},
            ["ip saddr { 10.244.0.1, 10.244.0.4 } return"],
        ),
        ({"from": [{"podSelector": {"matchLabels": {"run": "my-nginx"}}}]}, []),
        ({"from": [{"ipBlock": {"cidr": "172.18.0.0/16"}}]}, ["ip saddr 172.18.0.0/16 return"]),
        (
            {"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]},
            ["ip saddr 0.0.0.0/0 ip saddr != { 10.0.0.0/8 } return"],
        ),
        ({"from": [{"ipBlock": {"cidr": "fd00::/8"}}]}, []),
        ({"ports": [{"port": 8080}]}, ["tcp dport 8080 return"]),
        ({"ports": [{"port": 8000, "endPort": 8999, "protocol": "UDP"}]}, ["udp dport 8000-8999 return"]),
        ({"ports": [{"protocol": "SCTP"}]}, ["meta l4proto sctp return"]),
        ({"ports": [{"port": "http"}]}, ["ip daddr . tcp dport { 10.244.0.2 . 8080, 10.244.0.3 . 8000 } return"]),
        ({"ports": [{"port": "http", "protocol": "UDP"}]}, []),
        (
            {"from": [{"podSelector": {"matchLabels": {"app": "sleep"}}}], "ports": [{"port": 80}, {"port": 443}]},
            ["ip saddr { 10.244.0.1 } tcp dport 80 return", "ip saddr { 10.244.0.1 } tcp dport 443 return"],
        ),
    ],
)
def test_ingress_rules(rule: dict[str, Any], allowed: list[str]) -> None:
    found = chains(policy({"podSelector": {"matchLabels": {"version": "v1"}}, "ingress": [rule]}))
    assert found == {"in 10.244.0.2": [*allowed, DROP]}


def test_egress_is_the_same_seen_from_the_other_side() -> None:
    """The bypass that an egress gateway must not leave open: nobody but the gateway reaches the server."""
    to_gateway = {"to": [{"namespaceSelector": {"matchLabels": {"team": "mesh"}}}], "ports": [{"port": 8443}]}
    found = chains(policy({"podSelector": {"matchLabels": {"app": "sleep"}}, "policyTypes": ["Egress"], "egress": [to_gateway]}))
    assert found == {"out 10.244.0.1": ["ip daddr { 10.244.0.4 } tcp dport 8443 return", DROP]}


def test_policies_add_up() -> None:
    allows_client = policy({"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "sleep"}}}]}]}, name="a")
    allows_port = policy({"podSelector": {"matchLabels": {"version": "v1"}}, "ingress": [{"ports": [{"port": 8080}]}]}, name="b")
    found = chains(allows_client, allows_port)
    assert found["in 10.244.0.2"] == ["ip saddr { 10.244.0.1 } return", "tcp dport 8080 return", DROP]
    assert found["in 10.244.0.3"] == ["ip saddr { 10.244.0.1 } return", DROP]
    assert "in 10.244.0.5" not in found


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ({"key": "app", "operator": "In", "values": ["httpbin", "sleep"]}, True),
        ({"key": "app", "operator": "In", "values": ["nginx"]}, False),
        ({"key": "app", "operator": "NotIn", "values": ["nginx"]}, True),
        ({"key": "team", "operator": "NotIn", "values": ["mesh"]}, True),
        ({"key": "app", "operator": "Exists"}, True),
        ({"key": "team", "operator": "Exists"}, False),
        ({"key": "team", "operator": "DoesNotExist"}, True),
        ({"key": "app", "operator": "DoesNotExist"}, False),
    ],
)
def test_selectors(expression: dict[str, Any], selected: bool) -> None:
    assert netpol.selects({"matchExpressions": [expression]}, {"app": "httpbin"}) is selected


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        ({"hostNetwork": True}, {"podIP": "172.18.0.2", "phase": "Running"}),
        ({}, {"phase": "Pending"}),
        ({}, {"podIP": "10.244.0.9", "phase": "Succeeded"}),
        ({}, {"podIP": "10.244.0.9", "phase": "Failed"}),
    ],
)
def test_pods_without_an_address_of_their_own_do_not_count(spec: dict[str, Any], status: dict[str, Any]) -> None:
    assert netpol.pod_of({"metadata": {"namespace": "default", "name": "p"}, "spec": spec, "status": status}) is None


def test_named_ports_of_sidecars_count_too() -> None:
    found = netpol.pod_of(
        {
            "metadata": {"namespace": "default", "name": "p", "labels": {"app": "httpbin"}},
            "spec": {
                "containers": [{"ports": [{"name": "web", "containerPort": 8080}, {"containerPort": 9}]}],
                "initContainers": [{"ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]}],
            },
            "status": {"podIP": "10.244.0.9", "phase": "Running"},
        }
    )
    assert found == Pod("default", {"app": "httpbin"}, "10.244.0.9", (("web", "tcp", 8080), ("dns", "udp", 53)))
