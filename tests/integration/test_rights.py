# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Roles in docs/rbac suffice, nothing in them is superfluous for what is tested, and a verb that is missing is named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT, Mesh, Pair

Issue = Callable[..., Pair]


def shipped(name: str) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = yaml.safe_load((ROOT / "docs" / "rbac" / name).read_text())["items"]
    return documents


def login(mesh: Mesh, account: str, namespace: str, directory: Path) -> str:
    """A kubeconfig for a service account."""
    token = mesh.kubectl("create", "token", account, "-n", namespace).strip()
    kubeconfig = yaml.safe_load(Path(mesh.environment["KUBECONFIG"]).read_text())
    kubeconfig["users"] = [{"name": kubeconfig["users"][0]["name"], "user": {"token": token}}]
    path = directory / f"{account}-{namespace}.kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig))
    return str(path)


def apply(mesh: Mesh, documents: list[dict[str, Any]]) -> None:
    mesh.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))


def role_in(
    documents: list[dict[str, Any]], role: str, namespace: str, account: str, *, without: str | None = None
) -> list[dict[str, Any]]:
    """A shipped Role with its ServiceAccount and RoleBinding, moved to another namespace, perhaps without one verb."""
    moved = []
    for document in copy.deepcopy(documents):
        name = document["metadata"]["name"]
        if document["kind"] == "ServiceAccount":
            document["metadata"] = {"name": account, "namespace": namespace}
        elif name == role:
            document["metadata"]["namespace"] = namespace
        else:
            continue
        for subject in document.get("subjects", []):
            subject.update(name=account, namespace=namespace)
        for rule in document.get("rules", []):
            rule["verbs"] = [verb for verb in rule["verbs"] if verb != without]
        moved.append(document)
    return moved


def test_named_role_suffices(mesh: Mesh, issue: Issue, namespace: str, tmp_path: Path) -> None:
    """Three credentials with the named Role, their names put in its place: created, unchanged, updated, deleted; no other Secret readable."""
    documents = role_in(shipped("named.yaml"), "meshops-credentials-named", namespace, "named")
    kubeconfig_tasks = []
    apply(mesh, documents)
    kubeconfig = login(mesh, "named", namespace, tmp_path)
    first, second = issue(), issue()
    names = ["httpbin-credential", "httpbin-mutual-credential", "helloworld-credential"]
    for pair in (first, first, second):
        credentials = [{"name": name, **pair.paths} for name in names]
        kubeconfig_tasks.append({"meshops.istio.istio_tls_credential": {"namespace": namespace, "credentials": credentials}})
    kubeconfig_tasks.append(
        {
            "meshops.istio.istio_tls_credential": {
                "namespace": namespace,
                "credentials": [{"name": name, "state": "absent"} for name in names],
            }
        }
    )
    run = mesh.playbook(kubeconfig_tasks, login=kubeconfig).ok()
    assert [result["changed"] for result in run.results()] == [True, False, True, True]
    refused = mesh.task("istio_tls_credential", {"namespace": namespace, "name": "another", **first.paths}, login=kubeconfig)
    assert "may not get secrets in namespace" in refused.failed[0]["msg"], refused.output


@pytest.mark.parametrize("verb", ["get", "create", "patch", "delete"])
def test_a_missing_verb_is_named(mesh: Mesh, issue: Issue, namespace: str, tmp_path: Path, verb: str) -> None:
    apply(mesh, role_in(shipped("fleet.yaml"), "meshops-credentials", namespace, "lesser", without=verb))
    kubeconfig = login(mesh, "lesser", namespace, tmp_path)
    pair = issue()
    if verb == "delete":
        mesh.task("istio_tls_credential", {"name": "shop", "namespace": namespace, **pair.paths}, login="admin").ok()
        arguments = {"name": "shop", "namespace": namespace, "state": "absent"}
    else:
        arguments = {"name": "shop", "namespace": namespace, **pair.paths}
    run = mesh.task("istio_tls_credential", arguments, login=kubeconfig)
    assert run.code != 0
    message = run.failed[0]["msg"]
    assert f"may not {verb} secrets in namespace {namespace}" in message and f"add the verb '{verb}' to its Role" in message


def test_a_missing_list_is_named(mesh: Mesh, issue: Issue, namespace: str, tmp_path: Path) -> None:
    apply(mesh, role_in(shipped("fleet.yaml"), "meshops-credentials", namespace, "lesser", without="list"))
    kubeconfig = login(mesh, "lesser", namespace, tmp_path)
    pair = issue()
    many = {"namespace": namespace, "credentials": [{"name": f"shop-{number}", **pair.paths} for number in range(9)]}
    run = mesh.task("istio_tls_credential", many, login=kubeconfig)
    assert f"may not list secrets in namespace {namespace}" in run.failed[0]["msg"]


def test_check_mode_needs_read_rights_only(mesh: Mesh, issue: Issue, namespace: str, tmp_path: Path) -> None:
    documents = role_in(shipped("fleet.yaml"), "meshops-credentials", namespace, "reader")
    for document in documents:
        for rule in document.get("rules", []):
            rule["verbs"] = ["get", "list"]
    apply(mesh, documents)
    kubeconfig = login(mesh, "reader", namespace, tmp_path)
    run = mesh.task("istio_tls_credential", {"name": "shop", "namespace": namespace, **issue().paths}, "--check", login=kubeconfig).ok()
    assert run.results()[0]["changed"]
    assert "not validated by the server" in run.results()[0]["notes"][0]


def test_explicit_options_beat_the_environment(mesh: Mesh, issue: Issue, namespace: str, tmp_path: Path) -> None:
    """kubeconfig: beats K8S_AUTH_KUBECONFIG, which beats KUBECONFIG."""
    nowhere = yaml.safe_load(Path(mesh.environment["KUBECONFIG"]).read_text())
    nowhere["clusters"][0]["cluster"] = {"server": "https://127.0.0.1:1"}
    wrong = tmp_path / "nowhere.kubeconfig"
    wrong.write_text(yaml.safe_dump(nowhere))
    arguments = {"name": "shop", "namespace": namespace}
    right = mesh.environment["KUBECONFIG"]
    explicit = mesh.task("istio_tls_credential_info", {**arguments, "kubeconfig": right}, K8S_AUTH_KUBECONFIG=str(wrong))
    assert explicit.ok().results()[0]["credentials"][0]["exists"] is False
    mesh.task("istio_tls_credential_info", arguments, login=str(wrong), K8S_AUTH_KUBECONFIG=right).ok()
    unreachable = mesh.task("istio_tls_credential_info", arguments, login="admin", K8S_AUTH_KUBECONFIG=str(wrong))
    assert "no answer from the API server at https://127.0.0.1:1" in unreachable.failed[0]["msg"]
