# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an ingress Gateway meets in its cluster: other Gateways, workloads, credentials, and what keeps requests from it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.ingresses import check_gateway
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress import IngressGateway
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_arguments import from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.snapshot import EVERYWHERE, Coverage, Snapshot
from ansible_collections.meshops.istio.plugins.module_utils.istio.workload import Workload
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import (
    AUTHORIZATION_POLICY,
    CONFIG_MAP,
    GATEWAY,
    NAMESPACE,
    POD,
    SECRET,
    SERVICE,
    Kind,
    Ref,
    Resource,
    ref_of,
)
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem

SecretKey = tuple[str, str, str]
"""(kind, namespace, name)"""


def make(*servers: dict[str, Any], **params: Any) -> IngressGateway:
    return from_arguments({"name": "mygateway", "servers": list(servers), **params})


def server(*hosts: str, **options: Any) -> dict[str, Any]:
    return {"hosts": list(hosts or ("a.example.com",)), "credential_name": "a", **options}


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
    "TLS on the redirect's port, older": ([server(http_redirect=True)], other(live("z.example.com", number=80)), []),
    "TLS for every host on the redirect's port": ([server(http_redirect=True)], other(live("*", number=80)), ["port_conflict"]),
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


@dataclass(frozen=True)
class Around:
    """What a cluster holds around a Gateway."""

    gateways: Any = ()
    workloads: Any = None
    """None: not all of them could be looked at."""
    services: Any = ()
    secrets: Mapping[SecretKey, Any] = field(default_factory=dict)
    policies: Any = ()
    namespaces: Mapping[str, Any] = field(default_factory=dict)
    mesh: Any = None

    def snapshot(self) -> Snapshot:
        objects: dict[Ref, Any] = {}
        read: dict[Kind, Coverage] = {}

        def add(resource: Resource, items: Any, coverage: Coverage = EVERYWHERE) -> None:
            made = [{**item, "apiVersion": resource.api_version, "kind": resource.kind} for item in items]
            objects.update({ref_of(item): item for item in made})
            read[resource.key] = coverage

        add(GATEWAY, self.gateways)
        add(SERVICE, self.services)
        add(AUTHORIZATION_POLICY, self.policies)
        add(POD, [pod_manifest(one) for one in self.workloads or ()], Coverage(everywhere=self.workloads is not None))
        for resource in (SECRET, CONFIG_MAP):
            mine = {key: item for key, item in self.secrets.items() if key[0] == resource.kind}
            made = [{**item, "metadata": {"namespace": key[1], "name": key[2]}} for key, item in mine.items() if item is not None]
            add(resource, made, Coverage(names=frozenset((place, name) for __, place, name in mine)))
        labels = {name: given for name, given in self.namespaces.items() if given is not None}
        add(NAMESPACE, [{"metadata": {"name": name, "labels": given}} for name, given in labels.items()], Coverage())
        return Snapshot(objects, read, mesh=self.mesh)


def pod_manifest(one: Workload) -> dict[str, Any]:
    ports = [{"name": name, "containerPort": number} for name, number in (one.ports or {}).items()]
    metadata = {"namespace": one.namespace, "name": one.name, "labels": one.labels}
    return {"metadata": metadata, "spec": {"containers": [{"name": "istio-proxy", "ports": ports}]}}


def found_in(gateway: IngressGateway, **around: Any) -> tuple[Problem, ...]:
    return check_gateway(gateway, Around(**around).snapshot())


def told(found: tuple[Problem, ...]) -> list[tuple[str, str]]:
    assert all(problem.message and problem.remedy for problem in found)
    return [(problem.code, problem.severity) for problem in found]


@pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)
def test_other_gateways(case: tuple[list[dict[str, Any]], dict[str, Any], list[str]]) -> None:
    servers, manifest, expected = case
    assert told(found_in(make(*servers), gateways=[manifest])) == [(code, "warning") for code in expected]


def test_the_gateways_own_live_object_is_no_conflict() -> None:
    assert found_in(make(server()), gateways=[other(live("a.example.com"), name="mygateway", namespace="default")]) == ()


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
    (problem,) = found_in(make(server()), gateways=[other(live("a.example.com")), *mine])
    assert "Gateway apps/other serves a.example.com on port 443 too" in problem.message
    assert expected in problem.message


def test_known_workloads_decide_whether_selectors_overlap() -> None:
    manifest = other(live("a.example.com"), selector={"app": "gw"})
    assert told(found_in(make(server()), gateways=[manifest], workloads=[pod("gw")])) == [("host_conflict", "warning")]
    assert found_in(make(server()), gateways=[manifest], workloads=[pod("other")]) == ()


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
    found = found_in(gateway, gateways=[other(theirs)], workloads=[pod()], services=services)
    assert [problem.code for problem in found] == expected
    assert all("in the gateway's pods is the same as" in problem.message for problem in found)


def test_plain_http_on_the_port_of_the_redirect() -> None:
    gateway = make(server(http_redirect=True))
    plain = other(live("a.example.com", number=8080, protocol="HTTP", tls=None))
    assert [problem.code for problem in found_in(gateway, gateways=[plain], workloads=[pod()], services=[service((80, 8080))])] == [
        "redirect_of_served_host"
    ]
    assert found_in(gateway, gateways=[plain], workloads=[pod()], services=[service((80, 8081))]) == ()


def test_no_workloads() -> None:
    assert told(found_in(make(server()), workloads=[])) == [("no_workloads", "warning")]
    assert found_in(make(server())) == ()
    assert found_in(make(server()), workloads=[pod()]) == ()


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
    "no key": ({}, {HERE[0]: secret("tls.crt", "ca.crt")}, ["credential_without_pair"]),
    "mutual with its CA": ({"mode": "MUTUAL"}, {HERE[0]: secret("tls.crt", "tls.key", "ca.crt"), HERE[1]: None}, []),
    "mutual with a CA beside": ({"mode": "MUTUAL"}, {HERE[0]: PAIR, HERE[1]: secret("cacert")}, []),
    "mutual without CA": ({"mode": "MUTUAL"}, {HERE[0]: PAIR, HERE[1]: None}, ["credential_without_ca"]),
    "mutual with an empty CA beside": (
        {"mode": "MUTUAL"},
        {HERE[0]: secret("tls.crt", "tls.key", "ca.crt"), HERE[1]: secret("tls.crt")},
        ["credential_without_ca"],
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
        ["credential_without_ca"],
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
    assert told(found_in(make(server(**options)), workloads=[pod()], secrets=found)) == [(code, "warning") for code in expected]


def test_a_credential_is_needed_in_every_namespace_with_workloads() -> None:
    found: dict[SecretKey, Any] = {("Secret", "one", "a"): PAIR, ("Secret", "two", "a"): None}
    pods = [replace(pod(), namespace="one"), replace(pod(), namespace="two")]
    (problem,) = found_in(make(server()), workloads=pods, secrets=found)
    assert "expected Secret a in two" in problem.message


def test_a_credential_beside_the_gateway_object_is_recognised() -> None:
    found: dict[SecretKey, Any] = {HERE[0]: None, ("Secret", "default", "a"): PAIR}
    (problem,) = found_in(make(server()), workloads=[pod()], secrets=found)
    assert problem.remedy.startswith("move the one in default there")


# --- surroundings


def policy(namespace: str = "istio-system", **spec: Any) -> dict[str, Any]:
    return {"kind": "AuthorizationPolicy", "metadata": {"name": "p", "namespace": namespace}, "spec": spec}


def allow(**operation: Any) -> dict[str, Any]:
    return policy(rules=[{"to": [{"operation": operation}]}])


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ([], []),
        ([policy()], ["authorization_refuses"]),
        ([policy("apps")], []),
        ([policy(selector={"matchLabels": {"app": "other"}})], []),
        ([policy(selector={"matchLabels": {"istio": "ingressgateway"}})], ["authorization_refuses"]),
        ([policy(action="DENY", rules=[{}])], ["authorization_refuses"]),
        ([policy(), policy(rules=[{}])], []),
        ([allow(hosts=["a.example.com"])], []),
        ([allow(hosts=["b.example.com"])], ["authorization_refuses"]),
        ([allow(paths=["/shop"])], []),
        ([policy(action="AUDIT")], []),
    ],
)
def test_policies_that_refuse_everybody(policies: list[dict[str, Any]], expected: list[str]) -> None:
    named = [{**one, "metadata": {**one["metadata"], "name": f"p{index}"}} for index, one in enumerate(policies)]
    found = found_in(make(server()), workloads=[pod()], policies=named)
    assert [problem.code for problem in found] == expected
    assert all(problem.severity == "warning" and "403" in problem.message for problem in found)
    assert all(problem.where == "servers[0] (a.example.com)" for problem in found)
    assert found_in(make(server()), policies=named) == ()


@pytest.mark.parametrize(
    ("labels", "mesh", "expected"),
    [
        ({"team": "shop"}, {"discoverySelectors": [{"matchLabels": {"team": "shop"}}]}, []),
        ({}, {"discoverySelectors": [{"matchLabels": {"team": "shop"}}]}, ["namespace apps"]),
        ({}, {}, []),
        ({}, None, []),
        (None, {"discoverySelectors": [{"matchLabels": {"team": "shop"}}]}, []),
    ],
)
def test_namespaces_that_istiod_does_not_read(labels: Any, mesh: Any, expected: list[str]) -> None:
    found = found_in(make(server(), namespace="apps"), namespaces={"apps": labels}, mesh=mesh)
    assert [problem.where for problem in found] == expected
