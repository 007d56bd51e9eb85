# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a module's arguments to originations: defaults, inheritance, and every refusal with its place."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.egress import EgressGateway
from ansible_collections.meshops.istio.plugins.module_utils.istio.egress_arguments import from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected

NGINX: dict[str, Any] = {"name": "nginx", "host": "nginx.example.com", "credential_name": "client-credential"}
FILES = {"certificate": "/c/tls.crt", "private_key": "/c/tls.key", "ca_certificate": "/ca/ca.crt"}


def rejected(arguments: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(Rejected) as caught:
        from_arguments(arguments)
    assert all(problem.message and problem.remedy for problem in caught.value.problems)
    return [(problem.code, problem.where) for problem in caught.value.problems]


def test_defaults() -> None:
    (one,) = from_arguments(NGINX)
    assert one.gateway == EgressGateway({"istio": "egressgateway"}, "istio-egressgateway", "istio-system", 443, "cluster.local")
    assert (one.namespace, one.mode, one.sni, one.subject_alt_names) == (
        "istio-system",
        "MUTUAL",
        "nginx.example.com",
        ("nginx.example.com",),
    )
    assert (one.http_port, one.tls_port, one.protocol, one.resolution) == (80, 443, "HTTP", "DNS")
    assert (one.export_to, one.rule_export_to, one.direct_tls, one.prevent_bypass) == ((), (".",), False, False)
    assert one.owner == "origination.istio-system.nginx"


def test_namespaces_follow_the_gateway_and_rules_stay_with_it() -> None:
    (one,) = from_arguments({**NGINX, "namespace": "partners", "gateway": {"namespace": "egress"}})
    homes = {part: target.namespace for part, target in one.objects.items()}
    assert homes == {
        "originating_rule": "egress",
        "first_hop_rule": "egress",
        "gateway": "partners",
        "service_entry": "partners",
        "direct_virtual_service": "partners",
        "virtual_service": "partners",
        "network_policy": "partners",
    }
    (one,) = from_arguments({**NGINX, "objects": {"gateway": {"name": "istio-egressgateway", "namespace": "default"}}})
    assert str(one.objects["gateway"]) == "default/istio-egressgateway"


def test_services_inherit_and_override() -> None:
    one, two, three = from_arguments(
        {
            "credential_name": "shared",
            "tls_port": 8443,
            "gateway": {"namespace": "egress"},
            "services": [
                {"name": "a", "host": "A.example.com", "tls_port": None},
                {"name": "b", "host": "b.example.com", "certificate_files": FILES, "gateway": {"port": 9443}},
                {"name": "c", "host": "c.example.com", "mode": "SIMPLE", "tls_port": 443},
            ],
        }
    )
    assert (one.host, one.credential_name, one.tls_port, one.where) == ("a.example.com", "shared", 8443, "services[0] (a)")
    assert (two.credential_name, two.files and two.files.given, two.gateway.namespace, two.gateway.port) == (None, FILES, "egress", 9443)
    assert (three.mode, three.credential_name, three.tls_port) == ("SIMPLE", "shared", 443)


def test_the_host_check_is_turned_off_only_when_asked() -> None:
    (one,) = from_arguments({**NGINX, "sni": "edge.example.net"})
    assert (one.sni, one.subject_alt_names) == ("edge.example.net", ("nginx.example.com",))
    (one,) = from_arguments({**NGINX, "subject_alt_names": []})
    assert one.subject_alt_names == ()


def test_simple_needs_no_client_certificate() -> None:
    (one,) = from_arguments({"name": "a", "host": "a.example.com", "mode": "SIMPLE"})
    assert (one.credential_name, one.files) == (None, None)


def test_all_problems_at_once_with_their_places() -> None:
    assert rejected(
        {
            "credential_name": "c",
            "services": [
                {"name": "ok", "host": "ok.example.com"},
                {"name": "Bad_Name", "host": "*.example.com"},
                {"name": "third", "host": "third.example.com", "resolution": "STATIC", "endpoints": [{"address": "third.internal"}]},
            ],
        }
    ) == [
        ("invalid_name", "services[1].name"),
        ("wildcard_host", "services[1].host"),
        ("invalid_endpoint", "services[2].endpoints[0].address"),
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": None}, [("missing_option", "name")]),
        ({"host": None}, [("missing_option", "host")]),
        ({"host": "*.example.com"}, [("wildcard_host", "host")]),
        ({"host": "192.0.2.1"}, [("host_is_address", "host")]),
        ({"host": "https://a.example.com"}, [("invalid_host", "host")]),
        ({"host": "nginx"}, [("invalid_host", "host")]),
        ({"sni": "*.example.com"}, [("wildcard_host", "sni")]),
        ({"services": []}, [("services_and_name", "services")]),
        ({"gateway": {"selector": {}}}, [("empty_selector", "gateway.selector")]),
        ({"gateway": {"port": 0}}, [("invalid_port", "gateway.port")]),
        ({"gateway": {"service": "a.b"}}, [("invalid_name", "gateway.service")]),
        ({"mode": "ISTIO_MUTUAL"}, [("invalid_choice", "mode")]),
        ({"protocol": "HTTPS"}, [("invalid_choice", "protocol")]),
        ({"tls_port": 70000}, [("invalid_port", "tls_port")]),
        ({"http_port": 443}, [("same_port", "tls_port")]),
        ({"protocol": "TCP"}, [("missing_option", "http_port")]),
        ({"protocol": "MYSQL", "http_port": 3306}, [("invalid_choice", "protocol")]),
        ({"protocol": "TCP", "http_port": 27017, "direct_tls": True}, [("direct_tls_on_one_port", "direct_tls")]),
        ({"addresses": ["db.example.com"]}, [("invalid_address", "addresses[0]")]),
        ({"addresses": ["192.0.2.1", "192.0.2.0/24"]}, [("invalid_address", "addresses[1]")]),
        ({"resolution": "DNS_ROUND_ROBIN", "endpoints": [{"address": "a.b"}, {"address": "c.d"}]}, [("too_many_endpoints", "endpoints")]),
        ({"resolution": "DNS_ROUND_ROBIN", "endpoints": [{"address": "http://a"}]}, [("invalid_endpoint", "endpoints[0].address")]),
        (
            {"protocol": "TCP", "http_port": 27017, "endpoints": [{"address": "a.b", "ports": {"tcp": 1, "tls": 2}}]},
            [("endpoint_ports_differ", "endpoints[0].ports")],
        ),
        (
            {"protocol": "TCP", "http_port": 27017, "endpoints": [{"address": "a.b", "ports": {"mongo": 1}}]},
            [("unknown_port_name", "endpoints[0].ports.mongo")],
        ),
        ({"credential_name": None}, [("no_client_certificate", "credential_name")]),
        ({"certificate_files": FILES}, [("two_sources", "certificate_files")]),
        ({"credential_name": "clients-cacert"}, [("credential_ca_only", "credential_name")]),
        ({"credential_name": "configmap://istio-system/ca"}, [("credential_ca_only", "credential_name")]),
        ({"credential_name": "kubernetes://default/c"}, [("credential_in_other_namespace", "credential_name")]),
        ({"credential_name": "vault://c"}, [("credential_name", "credential_name")]),
        ({"credential_name": "configmap://default/ca", "mode": "SIMPLE"}, [("configmap_in_other_namespace", "credential_name")]),
        (
            {"credential_name": None, "certificate_files": {**FILES, "crl": "crl.pem"}},
            [("relative_path", "certificate_files.crl")],
        ),
        (
            {"credential_name": None, "certificate_files": {"certificate": "/c/tls.crt"}},
            [("no_client_certificate", "certificate_files.private_key")],
        ),
        (
            {"credential_name": None, "certificate_files": FILES, "mode": "SIMPLE"},
            [
                ("client_certificate_unused", "certificate_files.certificate"),
                ("client_certificate_unused", "certificate_files.private_key"),
            ],
        ),
        ({"resolution": "STATIC"}, [("endpoints_missing", "endpoints")]),
        ({"resolution": "NONE", "endpoints": [{"address": "192.0.2.1"}]}, [("endpoints_unused", "endpoints")]),
        ({"endpoints": [{"address": "http://a"}]}, [("invalid_endpoint", "endpoints[0].address")]),
        ({"endpoints": [{"address": "a.b", "ports": {"tls": 443}}]}, [("unknown_port_name", "endpoints[0].ports.tls")]),
        ({"endpoints": [{"address": "a.b", "ports": {"https": "four"}}]}, [("invalid_port", "endpoints[0].ports.https")]),
        ({"export_to": ["*", "default"]}, [("invalid_export_to", "export_to")]),
        ({"export_to": ["~"]}, [("invalid_export_to", "export_to")]),
        ({"rule_export_to": ["Default"]}, [("invalid_export_to", "rule_export_to")]),
        ({"prevent_bypass": True}, [("client_namespaces_missing", "client_namespaces")]),
        (
            {"prevent_bypass": True, "client_namespaces": ["default"], "direct_tls": True},
            [("bypass_and_direct_tls", "prevent_bypass")],
        ),
        ({"prevent_bypass": True, "client_namespaces": ["a", "istio-system"]}, [("bypass_policy_cuts_off", "client_namespaces[1]")]),
        ({"dns": {"labels": {}}}, [("empty_selector", "dns.labels")]),
        ({"objects": {"gateway": {"name": "a.b"}}}, [("invalid_name", "objects.gateway.name")]),
        (
            {"objects": {"first_hop_rule": {"name": "x"}, "originating_rule": {"name": "x"}}},
            [("duplicate_object", "nginx: objects.first_hop_rule")],
        ),
    ],
)
def test_refusals(changes: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert rejected({**NGINX, **changes}) == expected


@pytest.mark.parametrize(
    ("second", "code"),
    [
        ({"name": "a", "host": "b.example.com"}, "duplicate_name"),
        ({"name": "a", "host": "b.example.com", "namespace": "other"}, "duplicate_subset"),
        ({"name": "b", "host": "A.example.com"}, "duplicate_host"),
        ({"name": "b", "host": "b.example.com", "objects": {"gateway": {"name": "egress-a"}}}, "duplicate_object"),
    ],
)
def test_services_do_not_collide(second: dict[str, Any], code: str) -> None:
    services = [{"name": "a", "host": "a.example.com"}, second]
    assert code in {found for found, __ in rejected({"credential_name": "c", "services": services})}


def test_tcp_services_inherit_and_have_ports_of_their_own() -> None:
    one, two, three = from_arguments(
        {
            "credential_name": "c",
            "protocol": "TCP",
            "services": [
                {"name": "mysql", "host": "mysql.example.com", "http_port": 3306, "tls_port": 3307},
                {"name": "mongo", "host": "mongo.example.com", "http_port": 27017},
                {"name": "api", "host": "api.example.com", "protocol": "HTTP"},
            ],
        }
    )
    assert [(each.protocol, each.http_port, each.tls_port) for each in (one, two, three)] == [
        ("TCP", 3306, 3307),
        ("TCP", 27017, 27017),
        ("HTTP", 80, 443),
    ]
    (gone,) = from_arguments({"name": "mongo", "state": "absent", "protocol": "TCP"})
    assert gone.absent


def test_networks_are_addresses_where_the_client_s_address_counts() -> None:
    endpoints = [{"address": "192.0.2.1"}]
    (one,) = from_arguments({**NGINX, "resolution": "STATIC", "endpoints": endpoints, "addresses": ["192.0.2.0/24", "2001:db8::1"]})
    assert one.addresses == ("192.0.2.0/24", "2001:db8::1")


def test_the_longest_name_is_that_of_the_gateway() -> None:
    from_arguments({**NGINX, "name": "n" * 56})
    assert rejected({**NGINX, "name": "n" * 57}) == [("invalid_name", "objects.gateway.name")]


def test_templates_yield_text() -> None:
    (one,) = from_arguments({**NGINX, "endpoints": [{"address": "192.0.2.1", "ports": {"https": "8443"}}]})
    assert one.endpoints[0].ports == {"https": 8443}


@pytest.mark.parametrize("text", ["", "0s", "10", "10 m", "-1s", "1.5h", "10min"])
def test_ages_that_cannot_be(text: str) -> None:
    assert rejected({**NGINX, "max_connection_age": text}) == [("invalid_duration", "max_connection_age")]
