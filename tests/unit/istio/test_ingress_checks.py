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
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_checks import (
    SecretKey,
    credential_problems,
    host_conflicts,
    ports_of_others,
    problems,
    workload_problems,
)
from ansible_collections.meshops.istio.plugins.module_utils.istio.workload import Workload
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


# --- other Gateways -------------------------------------------------------------------------------------------------------


def other(
    *servers: dict[str, Any], name: str = "other", created: str = "2026-01-01T00:00:00Z", selector: Any = None, namespace: str = "apps"
) -> dict[str, Any]:
    return {
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
        "spec": {"selector": {"istio": "ingressgateway"} if selector is None else selector, "servers": list(servers)},
    }


def live(*hosts: str, number: int = 443, protocol: str = "HTTPS", tls: Any = "b", bind: str | None = None) -> dict[str, Any]:
    made = {"hosts": list(hosts), "port": {"number": number, "name": "p", "protocol": protocol}}
    if tls:
        made["tls"] = {"mode": "SIMPLE", "credentialName": tls} if isinstance(tls, str) else tls
    return {**made, "bind": bind} if bind else made


OTHERS = {
    # name: (our servers, the other Gateway, what is told)
    "another host": ([server()], other(live("b.example.com")), []),
    "same host": ([server()], other(live("b.example.com", "a.example.com")), ["host_conflict"]),
    "same host on another port": ([server()], other(live("a.example.com", number=8443)), []),
    "same host at another address": ([server()], other(live("a.example.com", bind="10.0.0.1")), []),
    "same host in other workloads": ([server()], other(live("a.example.com"), selector={"istio": "internal"}), []),
    "same host for all workloads": ([server()], other(live("a.example.com"), selector={}), ["host_conflict"]),
    "same host by another label": ([server()], other(live("a.example.com"), selector={"app": "gw"}), ["host_conflict"]),
    "wildcard above": ([server()], other(live("*.example.com")), []),
    "same host from any namespace": ([server("*/a.example.com")], other(live("a.example.com")), ["host_conflict"]),
    "same host, once with a namespace": ([server()], other(live("team/a.example.com")), ["host_conflict"]),
    "same host in HTTPS and TLS": (
        [server()],
        other(live("a.example.com", protocol="TLS", tls={"mode": "PASSTHROUGH"})),
        ["host_conflict"],
    ),
    "plain text on our port": ([server()], other(live("z.example.com", protocol="HTTP", tls=None)), ["port_conflict"]),
    "plain text on our port at another address": ([server()], other(live("z.example.com", protocol="HTTP", tls=None, bind="10.0.0.1")), []),
    "plain HTTP beside the redirect": (
        [server(http_redirect=True)],
        other(live("z.example.com", number=80, protocol="HTTP", tls=None)),
        [],
    ),
    "plain HTTP of a redirected host": (
        [server(http_redirect=True)],
        other(live("a.example.com", number=80, protocol="HTTP", tls=None)),
        ["redirect_of_served_host"],
    ),
    "redirect of a redirected host": (
        [server(http_redirect=True)],
        other(live("a.example.com", number=80, protocol="HTTP", tls={"httpsRedirect": True})),
        [],
    ),
    "TCP on the redirect's port": ([server(http_redirect=True)], other(live("*", number=80, protocol="TCP", tls=None)), ["port_conflict"]),
    "same certificate": ([server()], other(live("b.example.com", tls="a")), ["shared_certificate"]),
    "same certificate on another port": ([server()], other(live("b.example.com", tls="a", number=8443)), []),
    "one of two certificates": (
        [server()],
        other(live("b.example.com", tls={"mode": "SIMPLE", "credentialNames": ["z", "a"]})),
        ["shared_certificate"],
    ),
    "broken": ([server()], {"kind": "Gateway", "metadata": {"name": "x", "namespace": "y"}}, []),
}


@pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)
def test_other_gateways(case: tuple[list[dict[str, Any]], dict[str, Any], list[str]]) -> None:
    servers, manifest, expected = case
    assert told(host_conflicts(make(*servers), [manifest])) == [(code, "warning") for code in expected]


def test_the_gateways_own_live_object_is_no_conflict() -> None:
    assert host_conflicts(make(server()), [other(live("a.example.com"), name="mygateway", namespace="default")]) == ()


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, "that Gateway is the older one"),
        ("2026-01-02T00:00:00Z", "that Gateway is the older one"),
        ("2025-12-31T00:00:00Z", "this Gateway is the older one"),
        ("2026-01-01T00:00:00Z", "this Gateway is the older one"),  # within a second names decide, and mygateway comes before other
    ],
)
def test_the_older_gateway_keeps_the_host(own: str | None, expected: str) -> None:
    mine = [other(live("a.example.com"), name="mygateway", namespace="default", created=own)] if own else []
    (problem,) = host_conflicts(make(server()), [other(live("a.example.com")), *mine])
    assert "Gateway apps/other serves a.example.com on port 443 too" in problem.message
    assert expected in problem.message


def test_known_workloads_decide_whether_selectors_overlap() -> None:
    manifest = other(live("a.example.com"), selector={"app": "gw"})
    assert told(host_conflicts(make(server()), [manifest], [pod("gw")])) == [("host_conflict", "warning")]
    assert host_conflicts(make(server()), [manifest], [pod("other")]) == ()


def pod(app: str = "gw") -> Workload:
    return Workload("istio-system", "gw-0", "default", {"istio": "ingressgateway", "app": app}, ports={"https": 8443})


def service(*ports: tuple[int, int | str], **selector: str) -> dict[str, Any]:
    spec = {"selector": selector or {"app": "gw"}, "ports": [{"port": port, "targetPort": target} for port, target in ports]}
    return {"kind": "Service", "metadata": {"name": "gw", "namespace": "istio-system"}, "spec": spec}


@pytest.mark.parametrize(
    ("ours", "theirs", "services", "expected"),
    [
        (8443, live("a.example.com"), [service((443, 8443))], ["host_conflict"]),
        (443, live("a.example.com", number=8443), [service((443, "https"))], ["host_conflict"]),
        (443, live("a.example.com", number=9443), [service((443, 8443), (9443, 8443))], ["host_conflict"]),
        (8443, live("z.example.com", protocol="HTTP", tls=None), [service((443, 8443))], ["port_conflict"]),
        (8443, live("b.example.com"), [service((443, 8443))], []),
        (8443, live("a.example.com"), [service((443, 443))], []),
        (8443, live("a.example.com"), [service((443, 8443), app="other")], []),
        (8443, live("a.example.com"), [], []),
    ],
)
def test_ports_are_compared_as_the_pods_see_them(
    ours: int, theirs: dict[str, Any], services: list[dict[str, Any]], expected: list[str]
) -> None:
    gateway = make(server(port=ours))
    found = host_conflicts(gateway, [other(theirs)], [pod()], services)
    assert [problem.code for problem in found] == expected
    assert all("in the gateway's pods is the same as" in problem.message for problem in found)
    number = theirs["port"]["number"]
    assert ports_of_others(gateway, [other(theirs)], [pod()]) == {number}, "which is when Services have to be read"


def test_plain_http_on_the_port_of_the_redirect() -> None:
    gateway = make(server(http_redirect=True))
    plain = other(live("a.example.com", number=8080, protocol="HTTP", tls=None))
    assert [problem.code for problem in host_conflicts(gateway, [plain], [pod()], [service((80, 8080))])] == ["redirect_of_served_host"]
    assert host_conflicts(gateway, [plain], [pod()], [service((80, 8081))]) == ()


def test_no_workloads() -> None:
    gateway = make(server())
    assert told(workload_problems(gateway, [], complete=True)) == [("no_workloads", "warning")]
    assert workload_problems(gateway, [], complete=False) == ()
    assert workload_problems(gateway, ["istio-system"], complete=True) == ()


# --- credentials ------------------------------------------------------------------------------------------------------------


def secret(*keys: str) -> dict[str, Any]:
    return {"data": {key: base64.b64encode(b"x").decode() for key in keys}}


PAIR = secret("tls.crt", "tls.key")
HERE: tuple[SecretKey, SecretKey] = ("Secret", "istio-system", "a"), ("Secret", "istio-system", "a-cacert")
CREDENTIALS: dict[str, Any] = {
    # name: (server options, live objects, what is told)
    "there": ({}, {HERE[0]: PAIR}, []),
    "generic": ({}, {HERE[0]: secret("cert", "key")}, []),
    "missing": ({}, {HERE[0]: None}, ["credential_missing"]),
    "not looked at": ({}, {}, []),
    "no key": ({}, {HERE[0]: secret("tls.crt", "ca.crt")}, ["credential_incomplete"]),
    "mutual with its CA": ({"mode": "MUTUAL"}, {HERE[0]: secret("tls.crt", "tls.key", "ca.crt"), HERE[1]: None}, []),
    "mutual with a CA beside": ({"mode": "MUTUAL"}, {HERE[0]: PAIR, HERE[1]: secret("cacert")}, []),
    "mutual without CA": ({"mode": "MUTUAL"}, {HERE[0]: PAIR, HERE[1]: None}, ["credential_incomplete"]),
    "mutual with an empty CA beside": (
        {"mode": "MUTUAL"},
        {HERE[0]: secret("tls.crt", "tls.key", "ca.crt"), HERE[1]: secret("tls.crt")},
        ["credential_incomplete"],
    ),
    "mutual, nothing there": ({"mode": "MUTUAL"}, {HERE[0]: None, HERE[1]: None}, ["credential_missing"]),
    "simple needs no CA": ({}, {HERE[0]: PAIR, HERE[1]: None}, []),
    "CA in a ConfigMap": (
        {"mode": "MUTUAL", "ca_cert_credential_name": "configmap://ns/ca"},
        {HERE[0]: PAIR, ("ConfigMap", "ns", "ca"): {"data": {"ca.crt": "x"}}},
        [],
    ),
    "CA missing in a ConfigMap": (
        {"mode": "MUTUAL", "ca_cert_credential_name": "configmap://ns/ca"},
        {HERE[0]: PAIR, ("ConfigMap", "ns", "ca"): {"data": {"ca": "x"}}},
        ["credential_incomplete"],
    ),
    "no ConfigMap": (
        {"mode": "MUTUAL", "ca_cert_credential_name": "configmap://ns/ca"},
        {HERE[0]: PAIR, ("ConfigMap", "ns", "ca"): None},
        ["credential_missing"],
    ),
    "in the workloads' namespace by name": ({"credential_name": "istio-system/a"}, {HERE[0]: PAIR}, []),
    "in another namespace by name": (
        {"credential_name": "default/a"},
        {("Secret", "default", "a"): PAIR},
        ["credential_in_other_namespace"],
    ),
    "no credential": ({"mode": "PASSTHROUGH", "credential_name": None}, {HERE[0]: None}, []),
}


@pytest.mark.parametrize("case", CREDENTIALS.values(), ids=CREDENTIALS)
def test_credentials(case: tuple[dict[str, Any], dict[SecretKey, Any], list[str]]) -> None:
    options, found, expected = case
    assert told(credential_problems(make(server(**options)), ["istio-system"], found)) == [(code, "warning") for code in expected]


def test_a_credential_is_needed_in_every_namespace_with_workloads() -> None:
    found: dict[SecretKey, Any] = {("Secret", "one", "a"): PAIR, ("Secret", "two", "a"): None}
    (problem,) = credential_problems(make(server()), ["one", "two"], found)
    assert "in namespace two" in problem.message


def test_a_credential_beside_the_gateway_object_is_recognised() -> None:
    found: dict[SecretKey, Any] = {HERE[0]: None, ("Secret", "default", "a"): PAIR}
    (problem,) = credential_problems(make(server()), ["istio-system"], found)
    assert problem.remedy.startswith("move the one in default there")


def test_every_rule_fires_in_some_case() -> None:
    codes = set(re.findall(r'Problem\(\s*"(\w+)"', inspect.getsource(ingress_checks)))
    listed = [
        *(code for __, expected in OWN.values() for code, __ in expected),
        *(code for *__, expected in (*OTHERS.values(), *CREDENTIALS.values()) for code in expected),
    ]
    assert codes - set(listed) == {"selector_empty", "no_workloads"}  # they have tests of their own
