# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where challenges are answered, so that nobody's routes lose anything."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.http_challenge import (
    Answers,
    Asked,
    Challenge,
    answers,
    argument_problems,
    challenge_owner,
)
from ansible_collections.meshops.istio.plugins.module_utils.objects.ownership import metadata

INGRESS = {"istio": "ingressgateway"}
HOST = "a.shop.example.com"


def gateway(name: str, *servers: dict[str, Any], namespace: str = "shops", selector: dict[str, str] | None = None) -> dict[str, Any]:
    found = {"name": name, "namespace": namespace}
    return {"kind": "Gateway", "metadata": found, "spec": {"selector": INGRESS if selector is None else selector, "servers": list(servers)}}


def http(*hosts: str, number: int = 80, redirects: bool = False) -> dict[str, Any]:
    port = {"number": number, "protocol": "HTTP", "name": f"http-{number}"}
    return {"hosts": list(hosts), "port": port, **({"tls": {"httpsRedirect": True}} if redirects else {})}


def https(*hosts: str, mode: str = "SIMPLE", protocol: str = "HTTPS", number: int = 443) -> dict[str, Any]:
    return {"hosts": list(hosts), "port": {"number": number, "protocol": protocol, "name": "https"}, "tls": {"mode": mode}}


def route(*hosts: str, to: str = "shops/g", namespace: str = "shops") -> dict[str, Any]:
    found = {"name": hosts[0], "namespace": namespace}
    return {"kind": "VirtualService", "metadata": found, "spec": {"hosts": list(hosts), "gateways": [to]}}


def made(gateways: list[dict[str, Any]], routes: list[dict[str, Any]], *hosts: str, port: int = 80) -> Answers:
    challenges = tuple(Challenge(host, f"token-{number}", f"token-{number}.thumbprint") for number, host in enumerate(hosts or [HOST]))
    return answers(Asked("acme", "istio-system", INGRESS, port, challenges), gateways, routes)


def place(gateways: list[dict[str, Any]], routes: list[dict[str, Any]]) -> tuple[str, str, str, str]:
    found = made(gateways, routes)
    assert not found.problems
    ((__, one),) = found.places
    assert one.port == (443 if one.scheme == "https" else 80)
    return one.gateway, one.namespace, one.domain, one.scheme


OWN = ("istio-system/acme", "istio-system", HOST, "http")


@pytest.mark.parametrize(
    ("gateways", "routes", "where"),
    [
        ([], [], OWN),
        # a host that has its own route is answered beside it
        ([gateway("g", http(HOST))], [route(HOST)], ("shops/g", "shops", HOST, "http")),
        # what a wildcard or a catch-all takes stays with it
        ([gateway("g", http("*.example.com"))], [route("*.example.com")], ("shops/g", "shops", "*.example.com", "http")),
        ([gateway("g", http("*"))], [route("*")], ("shops/g", "shops", "*", "http")),
        ([gateway("g", http("*"))], [route("*.shop.example.com")], ("shops/g", "shops", "*.shop.example.com", "http")),
        ([gateway("g", http("*.shop.example.com"))], [route("*")], ("shops/g", "shops", "*.shop.example.com", "http")),
        # Envoy takes the most specific
        (
            [gateway("g", http("*")), gateway("h", http("*.shop.example.com"))],
            [route("*"), route("*.shop.example.com", to="shops/h")],
            ("shops/h", "shops", "*.shop.example.com", "http"),
        ),
        ([gateway("g", http("*"))], [route("*"), route(HOST)], ("shops/g", "shops", HOST, "http")),
        # a Gateway's name without namespace is one in the route's
        ([gateway("g", http(HOST))], [route(HOST, to="g")], ("shops/g", "shops", HOST, "http")),
        # servers without routes take nothing
        ([gateway("g", http("*"))], [], OWN),
        ([gateway("g", http("*"))], [route("*.other.example.com")], OWN),
        ([gateway("g", http(HOST, number=8080))], [route(HOST)], OWN),
        ([gateway("g", http("*.shop.example.com"))], [route("*", to="shops/h")], OWN),
        ([gateway("g", http("*.a.shop.example.com"))], [route("*")], OWN),
        # only routes of its namespace may use such a host
        ([gateway("g", http(f"team/{HOST}"))], [route(HOST)], OWN),
        ([gateway("g", http(f"team/{HOST}"))], [route(HOST, namespace="team")], ("shops/g", "team", HOST, "http")),
        ([gateway("g", http(f"./{HOST}"))], [route(HOST)], ("shops/g", "shops", HOST, "http")),
        # other workloads
        ([gateway("g", http(HOST), selector={"istio": "other"})], [route(HOST)], OWN),
        ([gateway("g", http(HOST), selector={"app": "gateway"})], [route(HOST)], ("shops/g", "shops", HOST, "http")),
        # redirected: the challenge too
        ([gateway("g", http(HOST, redirects=True), https(HOST))], [route(HOST)], ("shops/g", "shops", HOST, "https")),
        ([gateway("g", http(HOST, redirects=True), https("*.shop.example.com"))], [], ("shops/g", "shops", HOST, "https")),
        (
            [gateway("g", http("*.shop.example.com", redirects=True), https("*.shop.example.com"))],
            [route("*.shop.example.com")],
            ("shops/g", "shops", "*.shop.example.com", "https"),
        ),
        (
            [gateway("g", http("*", redirects=True)), gateway("h", https("*"), https(HOST, mode="OPTIONAL_MUTUAL"), namespace="b")],
            [route("*", to="b/h", namespace="b")],
            ("b/h", "b", HOST, "https"),
        ),
        # a route for the host itself, on a Gateway that does not redirect, is reached before the wildcard that does
        (
            [gateway("g", http("*", redirects=True)), gateway("h", http(HOST))],
            [route(HOST, to="shops/h")],
            ("shops/h", "shops", HOST, "http"),
        ),
    ],
)
def test_a_challenge_is_answered_where_its_host_is(gateways: Any, routes: Any, where: tuple[str, str, str, str]) -> None:
    assert place(gateways, routes) == where


@pytest.mark.parametrize(
    ("servers", "found"),
    [
        ([http(HOST, redirects=True)], "found no server for it"),
        ([http(HOST, redirects=True), https(HOST, number=8443)], "found no server for it"),
        ([http(HOST, redirects=True), https(HOST, mode="MUTUAL")], "asks for a client certificate"),
        ([http(HOST, redirects=True), https(HOST, mode="PASSTHROUGH", protocol="TLS")], "passes TLS on"),
    ],
)
def test_a_redirect_to_where_no_answer_can_be_given_is_told(servers: Any, found: str) -> None:
    result = made([gateway("g", *servers)], [], HOST, "b.example.com")
    (problem,) = result.problems
    assert problem.code == "challenge_redirected" and found in problem.message and "DNS-01" in problem.remedy
    assert [challenge.host for challenge, __ in result.places] == ["b.example.com"]


def test_the_objects() -> None:
    gateways = [gateway("g", http("*.shop.example.com"))]
    result = made(gateways, [route("*.shop.example.com")], HOST, "b.shop.example.com", "new.example.com")
    shared, own, new = result.manifests
    assert shared["metadata"]["namespace"] == "shops"
    assert shared["spec"] == {
        "hosts": ["*.shop.example.com"],
        "gateways": ["shops/g"],
        "http": [
            {
                "match": [{"uri": {"exact": f"/.well-known/acme-challenge/token-{number}"}, "port": 80}],
                "directResponse": {"status": 200, "body": {"string": f"token-{number}.thumbprint"}},
            }
            for number in (0, 1)
        ],
    }
    assert own["spec"]["gateways"] == ["istio-system/acme"] and own["spec"]["hosts"] == ["new.example.com"]
    assert new["kind"] == "Gateway" and new["spec"] == {
        "selector": INGRESS,
        "servers": [{"hosts": ["./new.example.com"], "port": {"number": 80, "name": "http-80-challenge", "protocol": "HTTP"}}],
    }
    assert len({manifest["metadata"]["name"] for manifest in result.manifests}) == 3


def test_what_was_left_of_an_earlier_run_does_not_count() -> None:
    left = gateway("acme", http(f"./{HOST}"), namespace="istio-system")
    left["metadata"] = metadata("acme", "istio-system", owner=challenge_owner("acme"))
    old = route(HOST, to="istio-system/acme", namespace="istio-system")
    old["metadata"] = metadata("acme-1", "istio-system", owner=challenge_owner("acme"))
    assert place([left], [old]) == OWN


def test_bad_arguments() -> None:
    challenges = (
        Challenge("*.example.com", "t", "t.k"),
        Challenge("a.example.com", "a/b", "k"),
        Challenge("https://a", "t", "t.k"),
        Challenge("a.example.com", "t", "other.k"),
    )
    found = list(argument_problems(Asked("acme", "istio-system", INGRESS, 80, challenges)))
    assert [problem.code for problem in found] == ["wildcard_challenge", "invalid_request", "no_host", "invalid_request"]
