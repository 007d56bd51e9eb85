# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway_credential_mount against a real API server without pods: what is written, and what is not. With pods: tests/kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .conftest import ROOT, WRITE_VERBS, Mesh, Pair

CLIENT = {"path": "/etc/nginx-client-certs", "secret": "nginx-client-certs", "keys": ["tls.crt", "tls.key"]}
CA = {"path": "/etc/nginx-ca-certs", "secret": "nginx-ca-certs"}


@pytest.fixture
def gateway(mesh: Mesh, namespace: str, issue: Callable[..., Pair]) -> Iterator[Callable[..., dict[str, Any]]]:
    """Calls the module about a gateway's Deployment in a namespace of its own, as the operator with the shipped Role."""
    pair = issue("client.example.com")
    role = (ROOT / "docs" / "rbac" / "mounts.yaml").read_text()
    role = role.replace("istio-egressgateway", "gateway").replace("nginx-ca-certs]", "nginx-ca-certs, none]")
    head, subjects = role.rsplit("subjects:", 1)
    mesh.kubectl("apply", "-f", "-", stdin=head.replace("namespace: istio-system", f"namespace: {namespace}") + "subjects:" + subjects)
    contents = {
        "nginx-client-certs": {"tls.crt": pair.certificate, "tls.key": pair.private_key},
        "nginx-ca-certs": {"ca-chain.cert.pem": pair.ca},
    }
    for name, content in contents.items():
        made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": content}
        mesh.kubectl("create", "-f", "-", stdin=json.dumps(made))
    container = {"name": "istio-proxy", "image": "auto", "volumeMounts": [{"name": "theirs", "mountPath": "/etc/theirs"}]}
    spec = {
        "replicas": 3,
        "selector": {"matchLabels": {"istio": "gateway"}},
        "template": {
            "metadata": {"labels": {"istio": "gateway"}},
            "spec": {"containers": [container], "volumes": [{"name": "theirs", "secret": {"secretName": "nginx-ca-certs"}}]},
        },
    }
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gateway", "namespace": namespace}, "spec": spec}
    mesh.kubectl("create", "-f", "-", stdin=json.dumps(manifest))

    def call(*flags: str, fails: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {"selector": {"istio": "gateway"}, "namespace": namespace, "wait": False, **arguments}
        run = mesh.task("gateway_credential_mount", given, *flags)
        assert bool(run.code) == fails, run.output
        told = run.output + json.dumps(run.records)
        assert not any(line in told for line in pair.private_key.splitlines()[1:-1])
        return (run.failed or run.results())[0]

    yield call


def writes(mesh: Mesh, namespace: str, mark: int) -> list[str]:
    """What the operator wrote in the test's namespace."""
    events = [event for event in mesh.requests_since(mark, "meshops-operator") if event["verb"] in WRITE_VERBS]
    objects = [(event["verb"], event["objectRef"]) for event in events]
    return [f"{verb} {ref['resource']} {ref['name']}" for verb, ref in objects if ref.get("namespace") == namespace]


def actions(result: dict[str, Any]) -> dict[str, str]:
    return {mount["path"]: mount["action"] for mount in result["mounts"]}


def test_from_nothing_to_nothing(mesh: Mesh, namespace: str, gateway: Callable[..., dict[str, Any]]) -> None:
    def live() -> dict[str, Any]:
        return mesh.get("deployment", namespace, "gateway") or {}

    before = live()
    mark = mesh.audit_mark()
    predicted = gateway("--check", "--diff", mounts=[CLIENT, CA])
    assert writes(mesh, namespace, mark) == []
    created = gateway("--diff", mounts=[CLIENT, CA])
    assert writes(mesh, namespace, mark) == ["patch deployments gateway"]
    assert (created["changed"], actions(created)) == (True, {CLIENT["path"]: "created", CA["path"]: "created"})
    assert {name: predicted[name] for name in ("changed", "mounts", "diff")} == {
        name: created[name] for name in ("changed", "mounts", "diff")
    }

    mark = mesh.audit_mark()
    unchanged = gateway(mounts=[CLIENT, CA])
    assert (unchanged["changed"], writes(mesh, namespace, mark)) == (False, [])

    mark = mesh.audit_mark()
    changed = gateway(mounts=[{**CLIENT, "mode": "0440"}], prune=True)
    assert actions(changed) == {CLIENT["path"]: "updated", CA["path"]: "deleted"}
    assert writes(mesh, namespace, mark) == ["patch deployments gateway"]
    assert live()["spec"]["replicas"] == 3

    mark = mesh.audit_mark()
    removed = gateway(state="absent")
    assert actions(removed) == {CLIENT["path"]: "deleted"}
    assert writes(mesh, namespace, mark) == ["patch deployments gateway"]
    assert live()["spec"] == before["spec"]

    mark = mesh.audit_mark()
    assert not gateway(state="absent")["changed"]
    assert not gateway(mounts=[{"path": "/etc/theirs", "secret": "nginx-ca-certs"}])["changed"]  # as asked for already
    assert writes(mesh, namespace, mark) == []


def test_the_dry_run_of_check_mode_asks_the_server(mesh: Mesh, namespace: str, gateway: Callable[..., dict[str, Any]]) -> None:
    refused = gateway("--check", mounts=[CLIENT], container="no-such-container", on_invalid="warn", fails=True)
    assert "containers[1].image: Required value" in refused["msg"]


def test_everything_wrong_is_told_at_once(mesh: Mesh, namespace: str, gateway: Callable[..., dict[str, Any]]) -> None:
    mark = mesh.audit_mark()
    wanted = [
        {**CLIENT, "keys": ["ca.crt"]},
        {"path": "/etc/none", "secret": "none"},
        {"path": "/etc/theirs", "secret": "nginx-client-certs"},
        {"path": "/etc/istio/proxy", "secret": "nginx-ca-certs"},
        {"path": "/etc/x", "secret": "nginx-client-certs", "volume": "theirs"},
    ]
    told = gateway(mounts=wanted, fails=True)
    assert [problem["code"] for problem in told["problems"]] == [
        *("secret_key_missing", "secret_missing", "mount_path_taken", "mount_path_injected", "volume_taken"),
    ]
    assert writes(mesh, namespace, mark) == []


def test_what_an_earlier_task_makes_is_no_error_in_check_mode(gateway: Callable[..., dict[str, Any]]) -> None:
    to_come = gateway("--check", mounts=[{"path": "/etc/none", "secret": "none"}])
    assert to_come["changed"] and "secret_missing" in to_come["notes"][0]
    to_come = gateway("--check", selector={"istio": "to-come"}, mounts=[CLIENT])
    assert to_come["changed"] and "deployment_missing" in to_come["notes"][0]
    assert "found only gateway" in gateway(selector={"istio": "to-come"}, mounts=[CLIENT], fails=True)["msg"]
    assert not gateway(selector={"istio": "gone"}, state="absent")["changed"]


def test_a_rollout_without_a_controller_is_no_success(gateway: Callable[..., dict[str, Any]]) -> None:
    told = gateway(mounts=[CLIENT], wait=True, timeout=1, fails=True)
    assert told["changed"] and "kube-controller-manager" in told["msg"]
    again = gateway(mounts=[CLIENT], wait=True, timeout=1, fails=True)
    assert not again["changed"] and "This run changed nothing" in again["msg"]


def test_a_conflict_names_who_is_in_the_way(mesh: Mesh, namespace: str, gateway: Callable[..., dict[str, Any]]) -> None:
    wanted = {"path": "/etc/theirs", "secret": "nginx-client-certs"}
    assert "kubectl-create mounts Secret nginx-ca-certs (volume theirs) at this path" in gateway(mounts=[wanted], fails=True)["msg"]
    assert actions(gateway(mounts=[wanted], force_conflicts=True)) == {"/etc/theirs": "updated"}
    found = mesh.get("deployment", namespace, "gateway") or {}
    (mount,) = found["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert (mount["mountPath"], mount["name"]) == ("/etc/theirs", "nginx-client-certs")
