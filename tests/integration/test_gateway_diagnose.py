# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway_diagnose on the sandbox: its own end state is right, faults are named and nothing else, and nothing is changed."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Mesh, Pair, Run
from .test_rights import apply, login

Issue = Callable[..., Pair]
ADMIN = ["http://127.0.0.1:15100", "http://127.0.0.1:15200"]


@pytest.fixture
def shop(mesh: Mesh, issue: Issue) -> Iterator[str]:
    """A host with its Gateway, route and credential."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    host = f"{name}.example.com"
    mesh.task("istio_tls_credential", {"name": name, **issue(host).paths}).ok()
    routes = [{"name": name, "match": [{"prefix": "/"}], "destination": {"host": "httpbin.default.svc.cluster.local", "port": 8000}}]
    server = {"hosts": [host], "mode": "SIMPLE", "credential_name": name, "routes": routes}
    gateway = {"name": name, "namespace": "istio-system", "servers": [server], "selector": {"istio": "ingressgateway"}}
    mesh.task("ingress_tls_gateway", gateway).ok()
    yield name
    mesh.task("ingress_tls_gateway", {"name": name, "namespace": "istio-system", "state": "absent"})
    mesh.kubectl("delete", "secret", name, "-n", "istio-system", "--ignore-not-found")


def diagnosis(mesh: Mesh, user: str = "operator", **options: Any) -> dict[str, Any]:
    run = mesh.task("gateway_diagnose", {"fail_on": "never", **options}, login=user).ok()
    (result,) = run.results("gateway_diagnose")
    return dict(result)


def about(result: dict[str, Any], *names: str) -> list[str]:
    """Codes of the findings about objects of these names, hints apart."""
    return [one["code"] for one in result["findings"] if one["severity"] != "hint" and any(ref["name"] in names for ref in one["objects"])]


def test_what_is_right_has_no_finding(mesh: Mesh, shop: str) -> None:
    mark = mesh.audit_mark()
    result = diagnosis(mesh, handshakes=True, proxies=True, admin_urls=ADMIN, explain=[f"{shop}.example.com"])
    assert about(result, shop) == []
    (told,) = result["explained"]
    assert told["verdict"] == "Everything on its way is right", told
    assert any(one["host"] == f"{shop}.example.com" and one["served"] for one in result["handshakes"])
    assert mesh.writes_since(mark) == []


@pytest.fixture
def three(mesh: Mesh, shop: str, issue: Issue, tmp_path: Path) -> Iterator[list[str]]:
    """Gateways with a fault each: a missing credential, a certificate for another host, and a host that the shop's Gateway has."""
    names = [f"{shop}-{number}" for number in range(3)]
    cases = [
        (names[0], f"{names[0]}.example.com", "nobody-made-it"),
        (names[1], f"{names[1]}.example.com", names[1]),
        (names[2], f"{shop}.example.com", shop),
    ]
    other = issue("elsewhere.example.com")
    data = {"tls.crt": other.certificate, "tls.key": other.private_key}
    made: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": names[1], "namespace": "istio-system"}, "stringData": data}
    ]
    time.sleep(1.1)  # within one second names decide which Gateway is the older one
    for name, host, credential in cases:
        port = {"number": 443, "name": f"https-{name}", "protocol": "HTTPS"}
        server = {"port": port, "hosts": [host], "tls": {"mode": "SIMPLE", "credentialName": credential}}
        spec = {"selector": {"istio": "ingressgateway"}, "servers": [server]}
        metadata = {"name": name, "namespace": "istio-system"}
        made.append({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": metadata, "spec": spec})
    apply(mesh, made)
    yield names
    mesh.kubectl("delete", "secrets,gateways.networking.istio.io", *names, "-n", "istio-system", "--ignore-not-found")


def test_three_faults_at_once_are_exactly_these(mesh: Mesh, shop: str, three: list[str], tmp_path: Path) -> None:
    """By the playbook, with handshakes and proxies; what these show is explained by the three, and the next run says the same."""
    ids = ["MIT0101", "MIT0216", "MIT0301"]

    def diagnose(number: int, **more: Any) -> tuple[Run, dict[str, Any]]:
        saved = tmp_path / f"{number}.json"
        options = {"diagnose_admin_urls": ADMIN, "diagnose_save": str(saved), **more}
        run = mesh.playbook("playbooks/diagnose.yml", "-e", json.dumps(options))
        return run, json.loads(saved.read_text())

    run, result = diagnose(0, diagnose_explain=[f"{three[0]}.example.com"])
    mine = [one for one in result["findings"] if one["severity"] != "hint" and any(ref["name"] in three for ref in one["objects"])]
    assert [one["id"] for one in mine if "explained_by" not in one] == ids
    assert all(set(one["explained_by"]) <= set(ids) and one["explained_by"] for one in mine if "explained_by" in one)
    assert any(one["code"] == "no_certificate_served" and one["explained_by"] == ["MIT0101"] for one in mine)
    (told,) = result["explained"]
    assert told["verdict"].startswith("It breaks at: credential. Secret istio-system/nobody-made-it does not exist")
    assert run.code != 0
    assert [line.split()[1] for line in run.failed[0]["msg"].splitlines() if any(name in line for name in three)] == ids

    mesh.kubectl("annotate", "gateways.networking.istio.io", three[0], "-n", "istio-system", "meshops.istio/ignore=MIT0101: made tomorrow")
    suppress = [{"id": "host_conflict", "namespace": "istio-system", "reason": "moves on Monday"}]
    __, again = diagnose(
        1, diagnose_since=str(tmp_path / "0.json"), diagnose_suppress=suppress, diagnose_handshakes=False, diagnose_proxies=False
    )
    assert again["compared"]["new"] == []
    assert {one["id"] for one in again["compared"]["gone"]} >= {"MIT0101", "MIT0301"}
    assert {one["id"]: one["suppressed"] for one in again["suppressed"]} == {"MIT0101": "made tomorrow", "MIT0301": "moves on Monday"}
    stay = [one for one in result["findings"] if one["id"][3:5] != "10" and one["id"] not in ("MIT0101", "MIT0301")]
    assert again["findings"] == stay


def test_changes_are_judged_before_they_are_made(mesh: Mesh, shop: str, tmp_path: Path) -> None:
    live = mesh.get("gateways.networking.istio.io", "istio-system", shop)
    assert live
    live["spec"]["servers"][0]["tls"]["credentialName"] = "nobody-made-it"
    (tmp_path / "change.json").write_text(json.dumps(live))
    result = diagnosis(mesh, changes=[str(tmp_path / "change.json")])
    assert [one["code"] for one in result["findings"] if one["severity"] == "error"] == ["credential_missing"]
    failed = mesh.task("gateway_diagnose", {"changes": [str(tmp_path / "change.json")]}).failed[0]
    assert failed["msg"].startswith("1 problem that the changes bring:")


def test_a_dump_is_judged_as_the_cluster_is(mesh: Mesh, shop: str, tmp_path: Path) -> None:
    kinds = "gateways.networking.istio.io,virtualservices,secrets,services,workloadentries,pods,namespaces,destinationrules,serviceentries"
    (tmp_path / "dump.yaml").write_text(mesh.kubectl("get", kinds, "-A", "-o", "yaml"))
    result = diagnosis(mesh, paths=[str(tmp_path / "dump.yaml")])
    assert about(result, shop) == []
    assert any("the files hold none" in note for note in result["not_looked_at"])
    assert "PRIVATE KEY" not in json.dumps(result)


@pytest.mark.parametrize("user", ["admin", "operator"])
def test_the_shipped_role_suffices(mesh: Mesh, shop: str, user: str) -> None:
    result = diagnosis(mesh, user)
    assert about(result, shop) == []
    if user == "admin":
        assert result["not_looked_at"] == []


def test_rights_in_one_namespace_are_enough_for_what_is_there(mesh: Mesh, shop: str, tmp_path: Path) -> None:
    """Nothing may be listed in the whole cluster; gateways, their pods and Secrets are read where they run."""
    rules = [
        {"apiGroups": ["networking.istio.io"], "resources": ["gateways", "workloadentries"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
    ]
    place = {"name": f"{shop}-narrow", "namespace": "istio-system"}
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    binding = {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": place["name"]}}
    objects = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": place},
        {**rbac, "kind": "Role", "metadata": place, "rules": rules},
        {**rbac, "kind": "RoleBinding", "metadata": place, **binding, "subjects": [{"kind": "ServiceAccount", **place}]},
    ]
    apply(mesh, objects)
    try:
        narrow = login(mesh, place["name"], "istio-system", tmp_path)
        result = diagnosis(mesh, narrow)
        assert about(result, shop) == []
        assert any("those in istio-system" in note for note in result["not_looked_at"])
        mesh.kubectl("delete", "secret", shop, "-n", "istio-system")
        assert about(diagnosis(mesh, narrow), shop) == ["credential_missing"]
    finally:
        mesh.kubectl("delete", "serviceaccount,role,rolebinding", place["name"], "-n", "istio-system")
