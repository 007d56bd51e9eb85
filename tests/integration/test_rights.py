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
        if "rules" in document:  # the API server takes no rule without verbs
            document["rules"] = [rule for rule in document["rules"] if rule["verbs"]]
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


# --- what Roles cannot say: docs/rbac/admission.yaml, which the sandbox's operator is under


SECRET_LOGIN = "kubernetes.io/service-account-token"


def secret(namespace: str, name: str, kind: str) -> str:
    metadata = {"name": name, "namespace": namespace, "annotations": {"kubernetes.io/service-account.name": "default"}}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": metadata})


def test_a_login_may_not_make_itself_another_account(mesh: Mesh, credential_name: str) -> None:
    """Without the policy the answer to the same request is the token of the account that the annotation names."""
    manifest = secret("istio-system", credential_name, SECRET_LOGIN)
    for command in (("create",), ("apply", "--server-side")):
        said = mesh.kubectl(*command, "-f", "-", stdin=manifest, check=False, login="operator")
        assert f"a Secret of type {SECRET_LOGIN} is a login" in said, said
    assert mesh.get("secret", "istio-system", credential_name) is None
    mesh.kubectl("create", "-f", "-", stdin=manifest)  # others are not meant
    said = mesh.kubectl("annotate", "secret", credential_name, "-n", "istio-system", "a=b", check=False, login="operator")
    assert f"a Secret of type {SECRET_LOGIN} is a login" in said, said
    mesh.kubectl("delete", "secret", credential_name, "-n", "istio-system", login="operator")
    mesh.kubectl("create", "-f", "-", stdin=secret("istio-system", credential_name, "Opaque"), login="operator")


def test_a_login_may_not_add_a_cluster_to_the_mesh(mesh: Mesh, credential_name: str) -> None:
    """Without the policy istiod takes the Secret for a further cluster's, under whatever name it is (`Add cluster` in its log)."""
    remote = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": credential_name, "namespace": "istio-system"}, "type": "Opaque"}
    labelled = yaml.safe_dump({**remote, "metadata": {**remote["metadata"], "labels": {"istio/multiCluster": "true"}}})
    for command in (("create",), ("apply", "--server-side")):
        assert "a further cluster of the mesh" in mesh.kubectl(*command, "-f", "-", stdin=labelled, check=False, login="operator")
    assert mesh.get("secret", "istio-system", credential_name) is None
    mesh.kubectl("create", "-f", "-", stdin=yaml.safe_dump(remote), login="operator")
    label = ("label", "secret", credential_name, "-n", "istio-system")
    assert "a further cluster of the mesh" in mesh.kubectl(*label, "istio/multiCluster=true", check=False, login="operator")
    mesh.kubectl(*label, "a=b", login="operator")


POD_SPEC: dict[str, Any] = {
    "serviceAccountName": "gateway",
    "volumes": [{"name": "old", "hostPath": {"path": "/etc/ssl"}}],
    "containers": [{"name": "istio-proxy", "image": "auto", "env": [{"name": "A", "value": "b"}]}],
}
CHECK = {"exec": {"command": ["sh", "-c", "id"]}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"serviceAccountName": "istiod"}, "as whom"),
    ({"hostPID": True}, "as whom"),
    ({"hostNetwork": True}, "as whom"),
    ({"securityContext": {"runAsUser": 0}}, "as whom"),
    ({"shareProcessNamespace": True}, "as whom"),
    ({"nodeSelector": {"node-role.kubernetes.io/control-plane": ""}}, "as whom"),
    ({"tolerations": [{"operator": "Exists"}]}, "as whom"),
    *(({"containers": [{"name": "istio-proxy", f"{kind}Probe": CHECK}]}, "not which run") for kind in ("liveness", "readiness", "startup")),
    ({"containers": [{"name": "istio-proxy", "ports": [{"containerPort": 80, "hostPort": 80}]}]}, "not which run"),
    ({"volumes": [{"name": "node", "hostPath": {"path": "/"}}]}, "volumes of Secrets"),
    ({"volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}, "volumes of Secrets"),
    ({"containers": [{"name": "istio-proxy", "image": "other"}]}, "not which run"),
    ({"containers": [{"name": "istio-proxy", "command": ["sh"]}]}, "not which run"),
    ({"containers": [{"name": "istio-proxy", "env": [{"name": "LD_PRELOAD", "value": "/x"}]}]}, "not which run"),
    ({"containers": [{"name": "istio-proxy", "securityContext": {"allowPrivilegeEscalation": True}}]}, "not which run"),
    ({"containers": [{"name": "second", "image": "auto"}]}, "not which run"),
    ({"initContainers": [{"name": "first", "image": "auto"}]}, "not which run"),
]


def test_a_deployment_may_be_given_mounts_and_nothing_else(mesh: Mesh, namespace: str) -> None:
    """Server-side dry runs, which admission judges like writes."""
    template = {"metadata": {"labels": {"istio": "gateway"}}, "spec": POD_SPEC}
    spec = {"replicas": 0, "selector": {"matchLabels": {"istio": "gateway"}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gateway", "namespace": namespace}, "spec": spec}
    mesh.kubectl("create", "-f", "-", stdin=yaml.safe_dump(deployment))
    rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch", "create"]}]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "mounts", "namespace": namespace},
        "rules": rules,
    }
    apply(mesh, [role])
    account = "istio-system:meshops-operator"
    mesh.kubectl("create", "rolebinding", "mounts", "-n", namespace, "--role=mounts", f"--serviceaccount={account}")

    def patch(pods: dict[str, Any], **more: Any) -> str:
        change = yaml.safe_dump({"spec": {"template": {"spec": pods, **more}}})
        where = ("patch", "deployment", "gateway", "-n", namespace, "--dry-run=server")
        return mesh.kubectl(*where, "--patch", change, check=False, login="operator")

    mount = {"volumeMounts": [{"name": "certs", "mountPath": "/etc/certs"}], "name": "istio-proxy"}
    assert "patched" in patch({"volumes": [{"name": "certs", "secret": {"secretName": "certs"}}], "containers": [mount]})
    for change, said in REFUSED:
        answer = patch(change)
        assert "meshops-mounts" in answer and said in answer, (change, answer)
    volume = {"sidecar.istio.io/userVolume": '{"node": {"hostPath": {"path": "/"}}}'}
    for metadata in (
        {"annotations": volume},
        {"annotations": {"sidecar.istio.io/proxyImage": "other"}},
        {"labels": {"istio.io/rev": "other"}},
    ):
        answer = patch({}, metadata=metadata)
        assert "meshops-mounts" in answer and "what Istio makes of them" in answer, (metadata, answer)
    other = {**deployment, "metadata": {"name": "other", "namespace": namespace}}
    assert "not make them" in mesh.kubectl("create", "-f", "-", stdin=yaml.safe_dump(other), check=False, login="operator")


def test_how_far_the_operator_reaches(mesh: Mesh) -> None:
    """Asked with the shipped Roles alone: the sandbox's own binding for tests is not the operator's."""
    operator = shipped("fleet.yaml")
    policies = [
        (document["kind"], document["metadata"]["name"], rule["verbs"])
        for document in operator
        for rule in document.get("rules", [])
        if "networkpolicies" in rule["resources"]
    ]
    assert policies == [
        ("ClusterRole", "meshops-gateways", ["list"]),
        ("ClusterRole", "meshops-clients", ["get", "create", "patch", "delete"]),
    ]
    bound = [document["kind"] for document in operator if document.get("roleRef", {}).get("name") == "meshops-clients"]
    assert bound == ["RoleBinding"]
    for verb, resource in (("get", "pods"), ("get", "nodes"), ("delete", "pods"), ("create", "pods"), ("create", "serviceaccounts/token")):
        assert "no" in mesh.kubectl("auth", "can-i", verb, resource, "-n", "istio-system", check=False, login="operator")


def test_clients_of_one_namespace(mesh: Mesh, namespace: str, tmp_path: Path) -> None:
    """The RoleBinding to meshops-clients suffices to write a NetworkPolicy in its namespace, and in no other."""
    mesh.kubectl("create", "serviceaccount", "closer", "-n", namespace)
    mesh.kubectl(
        "create", "rolebinding", "closer", "-n", namespace, "--clusterrole=meshops-clients", f"--serviceaccount={namespace}:closer"
    )
    kubeconfig = login(mesh, "closer", namespace, tmp_path)
    for verb in ("get", "create", "patch", "delete"):
        asked = ("auth", "can-i", verb, "networkpolicies.networking.k8s.io", "-n")
        assert mesh.kubectl(*asked, namespace, check=False, login=kubeconfig).startswith("yes")
        assert mesh.kubectl(*asked, "kube-system", check=False, login=kubeconfig).startswith("no")
