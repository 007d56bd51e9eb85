# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From arguments to whole manifests."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress import (
    IngressGateway,
    gateway_manifest,
    manifests,
    port_names,
    required_credentials,
    route_name,
    virtual_services,
    widest,
)
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_arguments import from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.reference import Lookup
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected

HTTPBIN = {"host": "httpbin", "port": 8000}
TO_HTTPBIN = [{"destination": {"host": "httpbin", "port": {"number": 8000}}}]
OURS = {"app.kubernetes.io/managed-by": "meshops.istio", "meshops.istio/owner": "gateway.mygateway"}


def make(*servers: dict[str, Any], **params: Any) -> IngressGateway:
    return from_arguments({"name": "mygateway", "servers": list(servers), **params})


def server(host: str = "httpbin.example.com", **options: Any) -> dict[str, Any]:
    return {"hosts": [host], "credential_name": "httpbin-credential", **options}


def rejected(*servers: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(Rejected) as caught:
        make(*servers)
    return [(problem.code, problem.where) for problem in caught.value.problems]


def test_the_walkthrough() -> None:
    routes = [{"match": [{"prefix": "/status"}, {"prefix": "/delay"}], "destination": HTTPBIN}]
    assert manifests(make(server(mode="SIMPLE", routes=routes), namespace="default", selector={"istio": "ingressgateway"})) == [
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "mygateway", "namespace": "default", "labels": OURS},
            "spec": {
                "selector": {"istio": "ingressgateway"},
                "servers": [
                    {
                        "hosts": ["httpbin.example.com"],
                        "port": {"number": 443, "name": "https-443-httpbin-example-com", "protocol": "HTTPS"},
                        "tls": {"mode": "SIMPLE", "credentialName": "httpbin-credential"},
                    }
                ],
            },
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "mygateway-httpbin.example.com", "namespace": "default", "labels": OURS},
            "spec": {
                "hosts": ["httpbin.example.com"],
                "gateways": ["default/mygateway"],
                "http": [{"match": [{"uri": {"prefix": "/status"}}, {"uri": {"prefix": "/delay"}}], "route": TO_HTTPBIN}],
            },
        },
    ]


def test_labels_and_annotations_go_on_every_object_and_do_not_displace_ours() -> None:
    gateway = make(
        server(routes=[{"destination": HTTPBIN}]),
        namespace="apps",
        labels={"team": 7, "app.kubernetes.io/managed-by": "me"},
        annotations={"note": "n"},
    )
    assert [manifest["metadata"] for manifest in manifests(gateway)] == [
        {"name": name, "namespace": "apps", "labels": {"team": "7", **OURS}, "annotations": {"note": "n"}}
        for name in ("mygateway", "mygateway-httpbin.example.com")
    ]


EVERY_TLS_FIELD = {
    "mode": "MUTUAL",
    "credential_name": None,
    "credential_names": ["rsa", "ecdsa"],
    "ca_cert_credential_name": "clients-cacert",
    "subject_alt_names": ["client.example.com"],
    "verify_certificate_spki": ["s"],
    "verify_certificate_hash": ["h"],
    "min_protocol_version": "TLSV1_2",
    "max_protocol_version": "TLSV1_3",
    "cipher_suites": ["ECDHE-RSA-AES128-GCM-SHA256"],
}


@pytest.mark.parametrize(
    ("options", "tls"),
    [
        ({}, {"mode": "SIMPLE", "credentialName": "httpbin-credential"}),
        ({"mode": "OPTIONAL_MUTUAL"}, {"mode": "OPTIONAL_MUTUAL", "credentialName": "httpbin-credential"}),
        ({"mode": "ISTIO_MUTUAL", "credential_name": ""}, {"mode": "ISTIO_MUTUAL"}),
        (
            EVERY_TLS_FIELD,
            {
                "mode": "MUTUAL",
                "credentialNames": ["rsa", "ecdsa"],
                "caCertCredentialName": "clients-cacert",
                "subjectAltNames": ["client.example.com"],
                "verifyCertificateSpki": ["s"],
                "verifyCertificateHash": ["h"],
                "minProtocolVersion": "TLSV1_2",
                "maxProtocolVersion": "TLSV1_3",
                "cipherSuites": ["ECDHE-RSA-AES128-GCM-SHA256"],
            },
        ),
        (
            {
                "mode": "MUTUAL",
                "credential_name": None,
                "server_certificate": "/c/tls.crt",
                "private_key": "/c/tls.key",
                "ca_certificates": "/c/ca.crt",
                "ca_crl": "/c/ca.crl",
            },
            {
                "mode": "MUTUAL",
                "serverCertificate": "/c/tls.crt",
                "privateKey": "/c/tls.key",
                "caCertificates": "/c/ca.crt",
                "caCrl": "/c/ca.crl",
            },
        ),
    ],
)
def test_tls_settings(options: dict[str, Any], tls: dict[str, Any]) -> None:
    (made,) = gateway_manifest(make(server(**options)))["spec"]["servers"]
    assert made["tls"] == tls


@pytest.mark.parametrize(
    ("options", "protocol", "kind"),
    [
        ({"mode": "SIMPLE"}, "HTTPS", "http"),
        ({"mode": "ISTIO_MUTUAL", "credential_name": None}, "HTTPS", "http"),
        ({"mode": "SIMPLE", "protocol": "TLS"}, "TLS", "tcp"),
        ({"mode": "ISTIO_MUTUAL", "protocol": "TLS", "credential_name": None}, "TLS", "tcp"),
        ({"mode": "PASSTHROUGH", "credential_name": None}, "TLS", "tls"),
        ({"mode": "PASSTHROUGH", "protocol": "HTTPS", "credential_name": None}, "HTTPS", "tls"),
    ],
)
def test_routes_are_of_the_kind_that_istiod_reads_for_such_a_server(options: dict[str, Any], protocol: str, kind: str) -> None:
    gateway, route = manifests(make(server(routes=[{"destination": HTTPBIN}], **options)))
    assert gateway["spec"]["servers"][0]["port"]["protocol"] == protocol
    rule = {"match": [{"sniHosts": ["httpbin.example.com"]}], "route": TO_HTTPBIN} if kind == "tls" else {"route": TO_HTTPBIN}
    assert {key: value for key, value in route["spec"].items() if key not in ("hosts", "gateways")} == {kind: [rule]}


def test_hosts_are_lower_case_and_listed_once() -> None:
    gateway = make({"hosts": ["HTTPBIN.Example.com", "httpbin.example.com ", "./b.example.com"], "routes": [{"destination": HTTPBIN}]})
    assert gateway.servers[0].hosts == ("httpbin.example.com", "./b.example.com")
    assert virtual_services(gateway)[0]["spec"]["hosts"] == ["httpbin.example.com", "b.example.com"]


def test_bind_and_port_and_port_name() -> None:
    (made,) = gateway_manifest(make(server(port=8443, bind="127.0.0.1", port_name="mine")))["spec"]["servers"]
    assert (made["port"], made["bind"]) == ({"number": 8443, "name": "mine", "protocol": "HTTPS"}, "127.0.0.1")


def names_of(gateway: IngressGateway) -> list[str]:
    return [one["port"]["name"] for one in gateway_manifest(gateway)["spec"]["servers"]]


def test_port_names_are_unique_and_do_not_depend_on_the_order() -> None:
    servers = [server("a.example.com"), server("b.example.com", port=8443), server("*.example.com"), server("*", bind="10.0.0.1")]
    assert names_of(make(*servers)) == [
        "https-443-a-example-com",
        "https-8443-b-example-com",
        "https-443-wildcard-example-com",
        "https-443-10-0-0-1-any",
    ]
    assert names_of(make(*reversed(servers))) == names_of(make(*servers))[::-1]


def test_port_names_avoid_those_of_the_user_and_each_other() -> None:
    assert port_names([("HTTPS", 443, "a.b-c", None), ("HTTPS", 443, "a-b.c", None)]) == ["https-443-a-b-c", "https-443-a-b-c-2"]
    assert names_of(make(server("a.b"), server("c.d", port_name="https-443-a-b"))) == ["https-443-a-b-2", "https-443-a-b"]


def test_redirects_share_one_plain_http_server_for_each_address() -> None:
    gateway = make(
        server("a.example.com", http_redirect=True),
        server("b.example.com"),
        {"hosts": ["c.example.com", "a.example.com"], "port": 8443, "http_redirect": True},
        server("d.example.com", http_redirect=True, bind="10.0.0.1"),
    )
    assert gateway_manifest(gateway)["spec"]["servers"][4:] == [
        {
            "hosts": ["a.example.com", "c.example.com"],
            "port": {"number": 80, "name": "http-80-redirect", "protocol": "HTTP"},
            "tls": {"httpsRedirect": True},
        },
        {
            "hosts": ["d.example.com"],
            "port": {"number": 80, "name": "http-80-10-0-0-1-redirect", "protocol": "HTTP"},
            "tls": {"httpsRedirect": True},
            "bind": "10.0.0.1",
        },
    ]


def test_no_redirect_no_plain_http() -> None:
    assert [one["port"]["number"] for one in gateway_manifest(make(server(), server("b.example.com")))["spec"]["servers"]] == [443, 443]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("httpbin.example.com", "gw-httpbin.example.com"),
        ("*.example.com", "gw-wildcard.example.com"),
        ("*", "gw-any"),
        ("team/httpbin.example.com", "gw-httpbin.example.com"),
        ("httpbin.example.com.", "gw-httpbin.example.com"),
        ("192.0.2.1", "gw-192.0.2.1"),
    ],
)
def test_default_names_of_routes(host: str, expected: str) -> None:
    assert route_name("gw", host) == expected


def test_a_long_default_name_is_cut_and_stays_unique() -> None:
    one, other = (route_name("g" * 63, f"{'a' * 60}.{'b' * 60}.{'c' * 60}.{letter}.example.com") for letter in ("d" * 40, "e" * 40))
    assert one != other
    assert max(len(one), len(other)) <= 253


def test_routes_with_one_name_are_rules_of_one_virtual_service_in_their_order() -> None:
    gateway = make(
        server(
            routes=[
                {"match": [{"exact": "/a"}], "destination": {"host": "a"}},
                {"name": "other", "destination": {"host": "b"}},
                {"destination": {"host": "c"}},
            ]
        )
    )
    first, second = virtual_services(gateway)
    assert (first["metadata"]["name"], second["metadata"]["name"]) == ("mygateway-httpbin.example.com", "other")
    assert first["spec"]["http"] == [
        {"match": [{"uri": {"exact": "/a"}}], "route": [{"destination": {"host": "a"}}]},
        {"route": [{"destination": {"host": "c"}}]},
    ]


def test_a_route_serves_its_own_server_only_where_another_port_has_the_host_too() -> None:
    gateway = make(
        server(routes=[{"name": "public", "match": [{"prefix": "/public"}], "destination": HTTPBIN}]),
        server(mode="MUTUAL", port=8443, routes=[{"name": "admin", "destination": HTTPBIN}]),
        server("*.example.org", mode="PASSTHROUGH", port=9443),
        server("a.example.org", mode="PASSTHROUGH", routes=[{"name": "through", "destination": {"host": "a"}}]),
        server("c.example.com", routes=[{"name": "alone", "destination": HTTPBIN}]),
    )
    public, admin, through, alone = (made["spec"] for made in virtual_services(gateway))
    assert public["http"][0]["match"] == [{"uri": {"prefix": "/public"}, "port": 443}]
    assert admin["http"][0]["match"] == [{"port": 8443}]
    assert through["tls"][0]["match"] == [{"sniHosts": ["a.example.org"], "port": 443}]
    assert "match" not in alone["http"][0]


def test_a_host_below_a_wildcard_is_left_out_of_the_routes_hosts() -> None:
    gateway = make({"hosts": ["a.example.com", "*.example.com", "example.com"], "routes": [{"destination": HTTPBIN}]})
    assert virtual_services(gateway)[0]["spec"]["hosts"] == ["*.example.com", "example.com"]
    assert widest(["a.b", "*"]) == ("*",)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"match": [{"prefix": "/a", "ignore_case": True, "methods": ["get"]}]},
            {"match": [{"uri": {"prefix": "/a"}, "ignoreUriCase": True, "method": {"exact": "GET"}}]},
        ),
        (
            {"match": [{"regex": "/v[12]", "methods": ["GET", "HEAD"], "authority": {"prefix": "a"}}]},
            {"match": [{"uri": {"regex": "/v[12]"}, "method": {"regex": "GET|HEAD"}, "authority": {"prefix": "a"}}]},
        ),
        (
            {"match": [{"headers": {"X-Test": "1", "@request.auth.claims.Group": "a"}, "without_headers": {"x-b": {"regex": "b.*"}}}]},
            {
                "match": [
                    {
                        "headers": {"x-test": {"exact": "1"}, "@request.auth.claims.Group": {"exact": "a"}},
                        "withoutHeaders": {"x-b": {"regex": "b.*"}},
                    }
                ]
            },
        ),
        ({"match": [{"query_params": {"v": 2}}]}, {"match": [{"queryParams": {"v": {"exact": "2"}}}]}),
        ({"timeout": "1m30s"}, {"timeout": "90s"}),
        ({"timeout": "250ms"}, {"timeout": "0.25s"}),
        (
            {"retries": {"attempts": 3, "per_try_timeout": "2s", "retry_on": ["5xx", "503"]}},
            {"retries": {"attempts": 3, "perTryTimeout": "2s", "retryOn": "5xx,503"}},
        ),
        ({"retries": {"attempts": 0, "per_try_timeout": None, "retry_on": None}}, {"retries": {"attempts": 0}}),
        ({"rewrite": {"uri": "/", "authority": "a"}}, {"rewrite": {"uri": "/", "authority": "a"}}),
        ({"rewrite": {"regex": "^/a", "substitution": "/b"}}, {"rewrite": {"uriRegexRewrite": {"match": "^/a", "rewrite": "/b"}}}),
        (
            {"headers": {"response": {"set": {"strict-transport-security": "max-age=1"}, "remove": ["server"]}, "request": None}},
            {"headers": {"response": {"set": {"strict-transport-security": "max-age=1"}, "remove": ["server"]}}},
        ),
        (
            {"destination": None, "destinations": [{"host": "a", "subset": "v1", "weight": 90}, {"host": "b", "port": 80, "weight": 10}]},
            {
                "route": [
                    {"destination": {"host": "a", "subset": "v1"}, "weight": 90},
                    {"destination": {"host": "b", "port": {"number": 80}}, "weight": 10},
                ]
            },
        ),
    ],
)
def test_rules(options: dict[str, Any], expected: dict[str, Any]) -> None:
    gateway = make(server(routes=[{"destination": HTTPBIN, **options}]))
    assert virtual_services(gateway)[0]["spec"]["http"] == [{"route": TO_HTTPBIN, **expected}]


ROUTE = "servers[0].routes[0]"


@pytest.mark.parametrize(
    ("options", "route", "expected"),
    [
        ({}, {}, [("destination", ROUTE)]),
        ({}, {"destination": HTTPBIN, "destinations": [HTTPBIN]}, [("destination", ROUTE)]),
        (
            {},
            {"destination": HTTPBIN, "match": [{}, {"prefix": "/", "exact": "/"}]},
            [("match_empty", f"{ROUTE}.match[0]"), ("match_kinds", f"{ROUTE}.match[1]")],
        ),
        ({}, {"destination": HTTPBIN, "match": [{"prefix": "status"}]}, [("match_path", f"{ROUTE}.match[0]")]),
        ({}, {"destination": HTTPBIN, "match": [{"headers": {"a": {"suffix": "b"}}}]}, [("match_kinds", f"{ROUTE}.match[0]: headers a")]),
        (
            {},
            {"destination": HTTPBIN, "match": [{"authority": {}}, {"authority": {"exact": "a", "prefix": "b"}}]},
            [("match_empty", f"{ROUTE}.match[0]"), ("match_kinds", f"{ROUTE}.match[1]: authority")],
        ),
        ({}, {"destination": HTTPBIN, "timeout": "soon"}, [("duration", f"{ROUTE}: timeout")]),
        (
            {},
            {"destination": HTTPBIN, "retries": {"attempts": 1, "per_try_timeout": "x"}},
            [("duration", f"{ROUTE}: retries.per_try_timeout")],
        ),
        ({}, {"destination": HTTPBIN, "hosts": ["other.example.com"]}, [("route_host_not_served", ROUTE)]),
        ({"mode": "AUTO_PASSTHROUGH", "credential_name": None}, {"destination": HTTPBIN}, [("route_on_auto_passthrough", ROUTE)]),
        ({"mode": "PASSTHROUGH"}, {"destination": HTTPBIN, "timeout": "5s"}, [("http_option_without_http", ROUTE)]),
        ({"protocol": "TLS"}, {"destination": HTTPBIN, "match": [{"prefix": "/"}]}, [("http_option_without_http", ROUTE)]),
        ({"hosts": ["team/httpbin.example.com"]}, {"destination": HTTPBIN}, [("route_host_of_other_namespace", ROUTE)]),
    ],
)
def test_routes_that_cannot_be_read(options: dict[str, Any], route: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert rejected(server(**options, routes=[route])) == expected


@pytest.mark.parametrize("host", ["./httpbin.example.com", "*/httpbin.example.com", "default/httpbin.example.com"])
def test_routes_of_hosts_that_the_gateways_namespace_may_use(host: str) -> None:
    (made,) = virtual_services(make(server(host, routes=[{"destination": HTTPBIN}])))
    assert made["spec"]["hosts"] == ["httpbin.example.com"]


def test_every_problem_is_told_at_once() -> None:
    where = "servers[0] (httpbin.example.com): credential a/b/c"
    assert rejected(server(credential_name="a/b/c", routes=[{}]), server("b.example.com", ca_cert_credential_name="vault://a")) == [
        ("credential_name", where),
        ("destination", ROUTE),
        ("credential_name", "servers[1] (b.example.com): ca_cert_credential_name"),
    ]


def test_a_key_in_place_of_a_path_is_refused_and_not_shown() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----\n"
    with pytest.raises(Rejected) as caught:
        make(server(credential_name=None, server_certificate="/c/tls.crt", private_key=key))
    assert [problem.code for problem in caught.value.problems] == ["content_instead_of_path"]
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("servers", [[], None])
def test_a_gateway_without_servers_is_read(servers: list[dict[str, Any]] | None) -> None:
    gateway = from_arguments({"name": "g", "servers": servers})
    assert (gateway.namespace, gateway.selector, gateway.servers) == ("default", {"istio": "ingressgateway"}, ())


def test_required_credentials_each_once() -> None:
    gateway = make(
        server("a.example.com", credential_name="one"),
        server("b.example.com", credential_name="one", mode="MUTUAL"),
        server(
            "c.example.com",
            credential_name=None,
            credential_names=["rsa", "ecdsa"],
            mode="OPTIONAL_MUTUAL",
            ca_cert_credential_name="configmap://ns/ca",
        ),
        server("d.example.com", credential_name=None, mode="PASSTHROUGH"),
        server("e.example.com", credential_name="ignored", mode="PASSTHROUGH"),
        server("f.example.com", credential_name=None, server_certificate="/c", private_key="/k"),
    )
    a, b, c = (f"servers[{index}] ({host}.example.com)" for index, host in enumerate("abc"))
    assert required_credentials(gateway) == (
        Lookup("pair", "Secret", ("one",), None, a),
        Lookup("ca", "Secret", ("one-cacert", "one"), None, b),
        Lookup("pair", "Secret", ("rsa",), None, c),
        Lookup("pair", "Secret", ("ecdsa",), None, c),
        Lookup("ca", "ConfigMap", ("ca",), "ns", c),
    )
