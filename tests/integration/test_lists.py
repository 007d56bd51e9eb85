# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of Gateways and of probes against a real API server, istiod and gateway, and what is expected by credential."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Mesh, Pair
from .test_ingress_tls_gateway import HTTPBIN, credential, writes
from .test_rights import apply, login

Issue = Callable[..., Pair]


def entry(mesh: Mesh) -> dict[str, Any]:
    """Where the ingress gateway answers."""
    return {"address": mesh.environment["INGRESS_HOST"], "ports": {"443": int(mesh.environment["SECURE_INGRESS_PORT"])}}


def probes(mesh: Mesh, *listed: dict[str, Any], **beside: Any) -> dict[str, Any]:
    return {"meshops.istio.tls_probe": {**entry(mesh), "delay": 0.2, **beside, "probes": list(listed)}}


def gateways(namespace: str, *listed: dict[str, Any], **beside: Any) -> dict[str, Any]:
    return {"meshops.istio.ingress_tls_gateway": {"namespace": namespace, "gateways": list(listed), **beside}}


def gateway(name: str, host: str, *credentials: str, **server: Any) -> dict[str, Any]:
    served = {"credential_name": credentials[0]} if len(credentials) == 1 else {"credential_names": list(credentials)}
    routes = [{"match": [{"prefix": "/status"}], "destination": HTTPBIN}]
    return {"name": name, "servers": [{"hosts": [host], **served, "routes": routes, **server}]}


@pytest.fixture
def names(mesh: Mesh, credential_name: str) -> Iterator[list[str]]:
    made = [f"{credential_name}-{number}" for number in range(4)]
    yield made
    mesh.kubectl("delete", "secret", *made, f"{made[2]}-cacert", "-n", "istio-system", "--ignore-not-found")


def test_probes_expect_the_certificates_in_credentials(mesh: Mesh, issue: Issue, namespace: str, names: list[str]) -> None:
    """Whatever the Secret's layout; of a server with several certificates any of them; after a rotation the new one."""
    hosts = [f"{number}.{namespace}.example.com" for number in range(3)]
    pairs = [issue(host, ca="lists") for host in hosts]
    client, second, rotated = issue("client.example.com", ca="clients"), issue(hosts[0], ca="lists"), issue(hosts[1], ca="lists")
    ca = {"ca_certificate_path": str(pairs[0].ca_path), "timeout": 30}
    with_client = {"client_certificate_path": str(client.certificate_path), "client_private_key_path": str(client.private_key_path)}
    wanted = [
        {"name": "several", "host": hosts[0], "expect": {"status": 200, "credential": [names[3], f"istio-system/{names[0]}"]}},
        {"name": "generic", "host": hosts[1], "expect": {"status": 200, "credential": names[1]}, "consecutive": 3},
        {"name": "split", "host": hosts[2], "expect": {"credential": f"kubernetes-gateway://istio-system/{names[2]}"}, **with_client},
    ]
    wrong = {"name": "wrong", "host": hosts[1], "expect": {"credential": [names[0], names[2]]}, "timeout": 0}
    done = mesh.playbook(
        [
            credential(names[0], pairs[0]),
            credential(names[1], pairs[1], layout="generic"),
            credential(names[2], pairs[2], layout="split", ca_certificate_path=str(client.ca_path)),
            credential(names[3], second),
            gateways(
                namespace,
                gateway("several", hosts[0], names[0]),
                gateway("generic", hosts[1], names[1]),
                gateway("split", hosts[2], names[2], mode="MUTUAL"),
            ),
            probes(mesh, *wanted, path="/status/200", **ca),
            {**probes(mesh, wrong, *wanted[1:], path="/status/200", **ca), "ignore_errors": True},
            credential(names[1], rotated, layout="generic"),
            probes(mesh, wanted[1], path="/status/200", **ca),
        ]
    ).ok()
    fine, failed, after = done.results("tls_probe")
    assert [item["name"] for item in fine["results"]] == ["several", "generic", "split"]
    assert [item["failed"] for item in fine["results"]] == [False] * 3
    served = [item["peer_chain"][0]["fingerprint_sha256"] for item in fine["results"]]
    kept = [result["credentials"][0]["certificate"]["fingerprint_sha256"] for result in done.results("istio_tls_credential")]
    assert served == kept[:3]
    assert [item["failed"] for item in failed["results"]] == [True, False, False]
    assert failed["msg"].startswith("1 of 3 probes failed: wrong: ")
    for fingerprint in (kept[0], kept[2], served[1]):
        assert fingerprint in failed["msg"]
    assert after["results"][0]["peer_chain"][0]["fingerprint_sha256"] == kept[4] != kept[1]


def test_credentials_that_have_no_certificate_are_told_before_a_request(mesh: Mesh, credential_name: str) -> None:
    mesh.kubectl("create", "secret", "generic", credential_name, "-n", "istio-system", "--from-literal=tls.crt=x")
    listed = [
        {"host": "a.example.com", "expect": {"credential": "test-no-such-credential"}},
        {"host": "b.example.com", "expect": {"credential": credential_name}},
        {"host": "c.example.com"},
    ]
    done = mesh.playbook([probes(mesh, *listed)])
    [failed] = done.failed
    assert [(problem["code"], problem["where"]) for problem in failed["problems"]] == [
        ("credential_missing", "probes[0] (a.example.com): expect.credential"),
        ("credential_incomplete", "probes[1] (b.example.com): expect.credential"),
    ]
    assert "tls.key is missing" in failed["msg"]


def test_gateways_are_made_changed_and_removed_in_one_call(mesh: Mesh, issue: Issue, namespace: str, names: list[str]) -> None:
    hosts = [f"{number}.{namespace}.example.com" for number in range(3)]
    for name, host in zip(names, hosts, strict=False):
        mesh.task("istio_tls_credential", credential(name, issue(host))["meshops.istio.istio_tls_credential"]).ok()
    first = [gateway("one", hosts[0], names[0]), gateway("two", hosts[1], names[1], http_redirect=True)]
    second = [
        first[0],
        gateway("two", hosts[1], names[1]),
        gateway("three", hosts[2], names[2]),
        {"name": "one-that-never-was", "state": "absent"},
    ]

    mark = mesh.audit_mark()
    check = mesh.playbook([gateways(namespace, *first)], "--check", "--diff").ok()
    assert writes(mesh, mark, namespace) == []
    mark = mesh.audit_mark()
    done = mesh.playbook([gateways(namespace, *first, labels={"team": "shop"}), gateways(namespace, *first, labels={"team": "shop"})]).ok()
    made, again = done.results("ingress_tls_gateway")
    assert [(item["name"], item["action"], item["gateway_namespaces"]) for item in made["gateways"]] == [
        ("one", "created", ["istio-system"]),
        ("two", "created", ["istio-system"]),
    ]
    assert (
        made["changes"] == check.results("ingress_tls_gateway")[0]["changes"] == [c for item in made["gateways"] for c in item["changes"]]
    )
    assert (again["changed"], [item["action"] for item in again["gateways"]]) == (False, ["unchanged"] * 2)
    assert sorted(writes(mesh, mark, namespace)) == [
        "patch gateways one",
        "patch gateways two",
        f"patch virtualservices one-{hosts[0]}",
        f"patch virtualservices two-{hosts[1]}",
    ]
    changed = mesh.playbook([gateways(namespace, *second, labels={"team": "shop"})]).ok().results("ingress_tls_gateway")[0]
    assert [(item["name"], item["action"]) for item in changed["gateways"]] == [
        ("one", "unchanged"),
        ("two", "updated"),
        ("three", "created"),
        ("one-that-never-was", "unchanged"),
    ]
    removed = mesh.playbook([gateways(namespace, *({"name": item["name"]} for item in second), state="absent")]).ok()
    assert [item["action"] for item in removed.results("ingress_tls_gateway")[0]["gateways"]] == ["deleted"] * 3 + ["unchanged"]
    found = json.loads(mesh.kubectl("get", "gateways.networking.istio.io,virtualservices", "-n", namespace, "-o", "json"))["items"]
    assert found == []


def test_nothing_of_a_list_is_written_before_all_of_it_is_checked(mesh: Mesh, namespace: str) -> None:
    """What arguments alone show, what the cluster shows, and what only istiod's webhook would refuse."""
    good = gateway("good", f"good.{namespace}.example.com", "some-credential")
    foreign = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "foreign", "namespace": namespace},
        "spec": {
            "selector": {"istio": "x"},
            "servers": [{"hosts": ["x.example.com"], "port": {"number": 80, "name": "http", "protocol": "HTTP"}}],
        },
    }
    mesh.kubectl("apply", "-f", "-", stdin=json.dumps(foreign))
    bad = {
        "gateways[1] (bad)": gateway("bad", "no/such/host", "some-credential"),
        "foreign": gateway("foreign", f"foreign.{namespace}.example.com", "some-credential"),
        "no-such-namespace": {**gateway("away", f"away.{namespace}.example.com", "some-credential"), "namespace": "no-such-namespace"},
    }
    mark = mesh.audit_mark()
    for named, item in bad.items():
        done = mesh.playbook([gateways(namespace, good, item)], login="admin")
        assert done.code != 0
        assert named in done.failed[0]["msg"], done.failed[0]["msg"]
    assert writes(mesh, mark, namespace) == []
    assert mesh.get("gateways.networking.istio.io", namespace, "good") is None


def test_gateways_of_one_call_meet_each_other(mesh: Mesh, namespace: str) -> None:
    host = f"same.{namespace}.example.com"
    done = mesh.playbook(
        [gateways(namespace, gateway("one", host, "some-credential"), gateway("two", host, "some-credential"))], "--check"
    ).ok()
    warned = "\n".join(map(str, done.results("ingress_tls_gateway")[0]["warnings"]))
    assert "gateways[1] (two): " in warned
    assert f"{namespace}/one" in warned


def test_what_was_applied_before_a_failure_is_told(mesh: Mesh, namespace: str, tmp_path: Path) -> None:
    """Two Gateways, one of them where the login may look only."""
    other = f"{namespace}-2"
    mesh.kubectl("create", "namespace", other)
    try:
        for place, verbs in ((namespace, ["get", "list", "create", "patch"]), (other, ["get", "list"])):
            metadata = {"name": "lists", "namespace": place}
            rules = [{"apiGroups": ["networking.istio.io"], "resources": ["gateways", "virtualservices"], "verbs": verbs}]
            subjects = [{"kind": "ServiceAccount", "name": "lists", "namespace": namespace}]
            rbac = "rbac.authorization.k8s.io"
            apply(
                mesh,
                [
                    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "lists", "namespace": namespace}},
                    {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
                    {
                        "apiVersion": f"{rbac}/v1",
                        "kind": "RoleBinding",
                        "metadata": metadata,
                        "subjects": subjects,
                        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "lists"},
                    },
                ],
            )
        kubeconfig = login(mesh, "lists", namespace, tmp_path)
        two = {**gateway("two", f"two.{namespace}.example.com", "some-credential"), "namespace": other}
        done = mesh.playbook(
            [gateways(namespace, gateway("one", f"one.{namespace}.example.com", "some-credential"), two)], login=kubeconfig
        )
        [failed] = done.failed
        assert failed["changed"] is True
        assert [(item["kind"], item["name"]) for item in failed["applied"]] == [
            ("VirtualService", f"one-one.{namespace}.example.com"),
            ("Gateway", "one"),
        ]
        assert [item["name"] for item in failed["failures"]] == [f"two-two.{namespace}.example.com"]
        assert [item["name"] for item in failed["not_tried"]] == ["two"]
        assert f"in namespace {other}" in failed["msg"]
    finally:
        mesh.kubectl("delete", "namespace", other, "--wait=false")
