# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import inspect
import re
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio import ingress_checks
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress import IngressGateway
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_arguments import from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_checks import problems
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem

DESTINATION = {"host": "httpbin", "port": 8000}
SPKI = base64.b64encode(b"s" * 32).decode()


def make(*servers: dict[str, Any], **params: Any) -> IngressGateway:
    return from_arguments({"name": "mygateway", "servers": list(servers), **params})


def server(*hosts: str, **options: Any) -> dict[str, Any]:
    return {"hosts": list(hosts or ("a.example.com",)), "credential_name": "a", **options}


def told(found: tuple[Problem, ...]) -> list[tuple[str, str]]:
    assert all(problem.message and problem.remedy for problem in found)
    return [(problem.code, problem.severity) for problem in found]


FILES = {"credential_name": None, "server_certificate": "/c/tls.crt", "private_key": "/c/tls.key", "ca_certificates": "/c/ca.crt"}
ROUTES = {"routes": [{"destination": DESTINATION}]}

OWN = {
    # name: (servers, what is told)
    "one server": ([server(**ROUTES)], []),
    "mutual": ([server(mode="MUTUAL", ca_cert_credential_name="a-cacert")], []),
    "istiod's rules": ([server(credential_name=None)], [("certificate_missing", "error")] * 2),
    "istiod's rules for routes": ([server(routes=[{"destination": {"host": "*"}}])], [("destination_host", "error")]),
    "no servers": ([], [("no_servers", "error")]),
    "host twice": ([server(), server("b.example.com", "a.example.com", credential_name="b")], [("duplicate_host", "error")]),
    "host twice, once with a namespace": ([server(), server("./a.example.com", credential_name="b")], [("duplicate_host", "error")]),
    "host on two ports": ([server(), server(port=8443)], []),
    "host on two addresses": ([server(bind="10.0.0.1"), server(bind="10.0.0.2")], []),
    "wildcard and name below it": ([server("*.example.com"), server("a.example.com", credential_name="b")], []),
    "redirect": ([server(http_redirect=True)], []),
    "redirect on a taken port": (
        [server(http_redirect=True), server("b.example.com", port=80, credential_name="b")],
        [("redirect_port_taken", "error")],
    ),
    "redirect on a port taken at another address": ([server(http_redirect=True), server("b.example.com", port=80, bind="10.0.0.1")], []),
    "redirect to another port": ([server(http_redirect=True, port=8443)], [("redirect_to_other_port", "warning")]),
    "CA credential as pair": ([server(credential_name="a-cacert")], [("credential_ca_only", "error")]),
    "pair credential as CA": ([server(mode="MUTUAL", ca_cert_credential_name="b")], [("ca_credential_not_ca_only", "error")]),
    "credential with namespace": ([server(credential_name="ns/a")], [("credential_names_namespace", "warning")]),
    "CA credential with files": (
        [server(mode="MUTUAL", **FILES, ca_cert_credential_name="b-cacert")],
        [("ca_credential_with_files", "error")],
    ),
    "versions": ([server(min_protocol_version="TLSV1_2", max_protocol_version="TLSV1_2")], []),
    "versions reversed": ([server(min_protocol_version="TLSV1_3", max_protocol_version="TLSV1_2")], [("protocol_versions", "error")]),
    "any highest version": ([server(min_protocol_version="TLSV1_3", max_protocol_version="TLS_AUTO")], []),
    "digests": ([server(mode="MUTUAL", verify_certificate_spki=[SPKI], verify_certificate_hash=["ab" * 32, ":".join(["AB"] * 32)])], []),
    "malformed SPKI": ([server(mode="MUTUAL", verify_certificate_spki=["sha256/x"])], [("certificate_digest", "error")]),
    "malformed hash": ([server(mode="MUTUAL", verify_certificate_hash=["ab"])], [("certificate_digest", "error")]),
    "digests with files": ([server(mode="MUTUAL", **FILES, verify_certificate_spki=[SPKI])], [("digests_without_credential", "error")]),
    "names without client certificates": ([server(subject_alt_names=["c"])], [("client_checks_without_clients", "warning")]),
    "suites of passthrough": (
        [server(mode="PASSTHROUGH", credential_name=None, min_protocol_version="TLSV1_2")],
        [("protocol_settings_unused", "warning")],
    ),
    "address as host": ([server("192.0.2.1")], [("host_is_address", "warning")]),
    "every host": ([server("*")], []),
    "one name, other hosts": (
        [
            server(
                "a.example.com",
                "b.example.com",
                routes=[{"destination": DESTINATION}, {"hosts": ["a.example.com"], "destination": DESTINATION}],
            )
        ],
        [("route_hosts_differ", "error"), ("route_unreachable", "warning")],
    ),
    "two names, other hosts": (
        [
            server(
                "a.example.com",
                "b.example.com",
                routes=[{"destination": DESTINATION}, {"name": "x", "hosts": ["a.example.com"], "destination": DESTINATION}],
            )
        ],
        [],
    ),
    "one certificate in two servers": (
        [server(), server("b.example.com"), server("c.example.com")],
        [("shared_certificate", "warning")],
    ),
    "one certificate on two ports": ([server(), server("b.example.com", port=8443)], []),
    "one certificate without HTTP": ([server(protocol="TLS"), server("b.example.com", protocol="TLS")], []),
}


@pytest.mark.parametrize("case", OWN.values(), ids=OWN)
def test_the_gateway_by_itself(case: tuple[list[dict[str, Any]], list[tuple[str, str]]]) -> None:
    servers, expected = case
    assert told(problems(make(*servers))) == expected


def test_an_empty_selector() -> None:
    assert told(problems(make(server(), selector={}))) == [("selector_empty", "warning")]


def test_problems_name_the_argument() -> None:
    found = problems(
        make(server(), server("b.example.com", credential_name=None, **{"routes": [{"destination": {"host": "*"}}]}), name="g")
    )
    assert [problem.where for problem in found] == ["servers[1] (b.example.com)"] * 2 + ["servers[1].routes[0]"]


def test_every_rule_fires_in_some_case() -> None:
    codes = set(re.findall(r'Problem\(\s*"(\w+)"', inspect.getsource(ingress_checks)))
    assert codes - {code for __, expected in OWN.values() for code, __ in expected} == {"selector_empty"}  # which has a test of its own
