# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway_credential_mount on real pods: an injected gateway with two replicas of the tests' own, and the egress gateway that istioctl made."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from integration.conftest import ROOT, Mesh, Pair, Run

NGINX = """
events {}
http {
  server {
    listen 443 ssl;
    server_name nginx.example.com;
    ssl_certificate /etc/nginx-server-certs/tls.crt;
    ssl_certificate_key /etc/nginx-server-certs/tls.key;
    ssl_client_certificate /etc/nginx-server-certs/ca.crt;
    ssl_verify_client on;
    location / { return 200 "seen $ssl_client_s_dn $ssl_client_fingerprint\\n"; }
  }
}
"""


@dataclass(frozen=True)
class Gateway:
    """A gateway by injection in a namespace of its own, with two replicas and two Secrets to mount."""

    mesh: Mesh
    namespace: str
    pair: Pair

    @property
    def mounts(self) -> list[dict[str, Any]]:
        return [
            {"path": "/etc/nginx-client-certs", "secret": "nginx-client-certs", "keys": ["tls.crt", "tls.key"]},
            {"path": "/etc/nginx-ca-certs", "secret": "nginx-ca-certs", "keys": ["ca-chain.cert.pem"]},
        ]

    def run(self, *flags: str, login: str = "admin", **arguments: Any) -> Run:
        given = {"selector": {"istio": "test-gateway"}, "namespace": self.namespace, "timeout": 240, **arguments}
        return self.mesh.task("gateway_credential_mount", given, *flags, login=login)

    def done(self, *flags: str, login: str = "admin", **arguments: Any) -> dict[str, Any]:
        run = self.run(*flags, login=login, **arguments).ok()
        return run.results()[0]

    def failed(self, **arguments: Any) -> dict[str, Any]:
        run = self.run(**arguments)
        assert run.code != 0, run.output
        return run.failed[0]

    @property
    def deployment(self) -> dict[str, Any]:
        found = self.mesh.get("deployment", self.namespace, "gateway")
        assert found
        return found

    def settled(self) -> dict[str, Any]:
        """The Deployment when its controller has written its status for the last time, which it does as the last pod of before ends."""
        version, since, deadline = "", time.monotonic(), time.monotonic() + 60
        while time.monotonic() - since < 3:
            assert time.monotonic() < deadline, "the Deployment's status changes all the time"
            found = self.deployment
            status, now = found["status"], found["metadata"]["resourceVersion"]
            if now != version or status.get("terminatingReplicas") or status.get("replicas") != status.get("readyReplicas"):
                version, since = now, time.monotonic()
            time.sleep(0.3)
        return found

    @property
    def pods(self) -> set[str]:
        """Those that are ready and not on their way out."""
        items = json.loads(self.mesh.kubectl("get", "pods", "-n", self.namespace, "-l", "istio=test-gateway", "-o", "json"))["items"]
        return {
            item["metadata"]["name"]
            for item in items
            if "deletionTimestamp" not in item["metadata"]
            and any(one["type"] == "Ready" and one["status"] == "True" for one in item["status"].get("conditions", []))
        }

    def secret(self, name: str, **content: str) -> None:
        mesh_secret(self.mesh, self.namespace, name, content)


def mesh_secret(mesh: Mesh, namespace: str, name: str, content: dict[str, str]) -> None:
    made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": content}
    mesh.kubectl("apply", "-f", "-", stdin=json.dumps(made))


@pytest.fixture(scope="module")
def gateway(mesh: Mesh, issue: Callable[..., Pair]) -> Iterator[Gateway]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    mesh.kubectl("create", "namespace", name)
    try:
        yield injected(mesh, name, issue("client.example.com"))
    finally:
        mesh.kubectl("delete", "namespace", name, "--wait=false")


def injected(mesh: Mesh, namespace: str, pair: Pair) -> Gateway:
    mesh.kubectl("label", "namespace", namespace, "istio-injection=enabled")
    made = Gateway(mesh, namespace, pair)
    made.secret("nginx-client-certs", **{"tls.crt": pair.certificate, "tls.key": pair.private_key})
    made.secret("nginx-ca-certs", **{"ca-chain.cert.pem": pair.ca})
    labels = {"istio": "test-gateway", "sidecar.istio.io/inject": "true"}
    container = {
        "name": "istio-proxy",
        "image": "auto",
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "10m", "memory": "40Mi"}},
    }
    spec = {
        "replicas": 2,
        "selector": {"matchLabels": {"istio": "test-gateway"}},
        "template": {
            "metadata": {"annotations": {"inject.istio.io/templates": "gateway"}, "labels": labels},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
        },
    }
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gateway", "namespace": namespace}, "spec": spec}
    mesh.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    wait(mesh, namespace, "gateway")
    return made


def wait(mesh: Mesh, namespace: str, deployment: str) -> None:
    deadline = time.monotonic() + 240
    while True:
        found = mesh.get("deployment", namespace, deployment) or {}
        wanted, status = (found.get("spec") or {}).get("replicas"), found.get("status") or {}
        counts = {status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")}
        if counts == {wanted} and status["observedGeneration"] == found["metadata"]["generation"]:
            return
        assert time.monotonic() < deadline, mesh.kubectl("describe", "pods", "-n", namespace)
        time.sleep(1)


def in_pod(mesh: Mesh, namespace: str, pod: str, *command: str, container: str = "istio-proxy") -> str:
    return mesh.kubectl("exec", "-n", namespace, pod, "-c", container, "--", *command)


# --- the injected gateway; each test leaves the two mounts as it found them


@pytest.fixture
def mounted(gateway: Gateway) -> Gateway:
    gateway.done(mounts=gateway.mounts, prune=True)
    return gateway


def test_mounts_reach_every_pod(gateway: Gateway) -> None:
    gateway.done(state="absent")
    before = gateway.pods
    predicted = gateway.done("--check", mounts=gateway.mounts)
    assert gateway.deployment["metadata"]["generation"] == gateway.deployment["status"]["observedGeneration"]
    assert gateway.pods == before
    result = gateway.done("--diff", mounts=gateway.mounts)
    assert predicted["changed"] and result["changed"]
    assert predicted["mounts"] == result["mounts"]
    assert [mount["action"] for mount in result["mounts"]] == ["created", "created"]

    rollout = result["rollout"]
    assert rollout["complete"] and rollout["replicas"] == 2
    new = {pod["name"]: pod for pod in rollout["pods"] if pod["generation"] == "new"}
    assert new.keys() == gateway.pods
    assert all(pod["state"] == "ready" and pod["ready_after"] > 0 for pod in new.values())
    assert {pod["name"] for pod in rollout["pods"] if pod["generation"] == "old"} == before
    assert rollout["progress"][-1]["state"].startswith("2 of 2 new pods ready")

    assert {seen["pod"] for seen in result["verified"]} == gateway.pods
    pair = gateway.pair
    for seen in result["verified"]:
        assert {(file["path"], file["kind"], file["state"]) for file in seen["files"]} == {
            ("/etc/nginx-client-certs/tls.crt", "certificate", "same"),
            ("/etc/nginx-client-certs/tls.key", "private_key", "same"),
            ("/etc/nginx-ca-certs/ca-chain.cert.pem", "certificate", "same"),
        }
        # and as kubectl sees it
        printed = in_pod(gateway.mesh, gateway.namespace, seen["pod"], "sha256sum", "/etc/nginx-client-certs/tls.key")
        assert printed.split()[0] == hashlib.sha256(pair.private_key.encode()).hexdigest()
    told = json.dumps(result)
    assert hashlib.sha256(pair.private_key.encode()).hexdigest() not in told
    assert not any(line in told for line in pair.private_key.splitlines()[1:-1])


def test_a_second_run_changes_nothing(mounted: Gateway) -> None:
    before, pods = mounted.settled(), mounted.pods
    result = mounted.done(mounts=mounted.mounts)
    assert not result["changed"]
    assert result["rollout"]["complete"] and len(result["verified"]) == 2
    assert mounted.deployment["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert mounted.pods == pods


def test_changed_secrets_are_waited_for_without_a_rollout(mounted: Gateway, issue: Callable[..., Pair]) -> None:
    pods, other = mounted.pods, issue("client.example.com")
    mounted.secret("nginx-client-certs", **{"tls.crt": other.certificate, "tls.key": other.private_key})
    try:
        result = mounted.done(mounts=mounted.mounts)
    finally:
        mounted.secret("nginx-client-certs", **{"tls.crt": mounted.pair.certificate, "tls.key": mounted.pair.private_key})
    assert not result["changed"]
    assert mounted.pods == pods
    assert all(file["state"] == "same" for seen in result["verified"] for file in seen["files"])


def test_a_missing_secret_is_known_before_anything_is_written(mounted: Gateway) -> None:
    before = mounted.deployment["metadata"]["generation"]
    wanted = [
        *mounted.mounts,
        {"path": "/etc/nowhere", "secret": "there-is-none"},
        {**mounted.mounts[0], "path": "/etc/b", "keys": ["ca.crt"]},
    ]
    result = mounted.failed(mounts=wanted)
    assert [problem["code"] for problem in result["problems"]] == ["secret_missing", "secret_key_missing"]
    assert mounted.deployment["metadata"]["generation"] == before


def test_a_rollout_that_cannot_succeed_is_explained_and_undone(mounted: Gateway) -> None:
    template, pods = mounted.deployment["spec"]["template"], mounted.pods
    began = time.monotonic()
    wanted = [*mounted.mounts, {"path": "/etc/nowhere", "secret": "there-is-none"}]
    result = mounted.failed(mounts=wanted, on_invalid="warn", timeout=25, restore_on_failure=True)
    assert time.monotonic() - began < 90
    assert result["changed"] and not result["rollout"]["complete"]
    assert result["rollout"]["elapsed"] <= 25
    (starting,) = [pod for pod in result["rollout"]["pods"] if pod["generation"] == "new"]
    assert f"pod {starting['name']} not ready: FailedMount: " in result["msg"]
    assert 'secret "there-is-none" not found' in result["msg"]
    assert result["restored"] and result["restoration"]["complete"]
    assert mounted.deployment["spec"]["template"] == template
    assert mounted.pods == pods  # none was replaced on the way


def test_a_failed_rollout_that_is_left_is_told_by_the_next_run_too(mounted: Gateway) -> None:
    wanted = [*mounted.mounts, {"path": "/etc/nowhere", "secret": "there-is-none"}]
    first = mounted.failed(mounts=wanted, on_invalid="warn", timeout=15)
    assert "the previous pods go on serving" in first["msg"] and "restored" not in first
    second = mounted.failed(mounts=wanted, on_invalid="warn", timeout=15, restore_on_failure=True)
    assert not second["changed"] and "This run changed nothing" in second["msg"]
    mended = mounted.done(mounts=mounted.mounts, prune=True)
    assert mended["changed"] and mended["rollout"]["complete"]


def test_a_quota_is_told(mounted: Gateway) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "pods", "namespace": mounted.namespace}}
    mounted.mesh.kubectl("apply", "-f", "-", stdin=json.dumps({**quota, "spec": {"hard": {"pods": "2"}}}))
    try:
        wanted = [*mounted.mounts, {"path": "/etc/again", "secret": "nginx-ca-certs"}]
        result = mounted.failed(mounts=wanted, timeout=25, restore_on_failure=True)
    finally:
        mounted.mesh.kubectl("delete", "resourcequota", "pods", "-n", mounted.namespace)
    assert "exceeded quota: pods" in result["msg"]
    assert result["restored"]


def test_another_call_leaves_what_is_mounted_and_replicas_as_they_are(mounted: Gateway) -> None:
    mounted.mesh.kubectl("scale", "deployment/gateway", "-n", mounted.namespace, "--replicas=1")
    wait(mounted.mesh, mounted.namespace, "gateway")
    try:
        result = mounted.done(mounts=[{"path": "/etc/again", "secret": "nginx-ca-certs"}])
        spec = mounted.deployment["spec"]
        assert spec["replicas"] == 1 == result["rollout"]["replicas"]
        paths = [mount["mountPath"] for mount in spec["template"]["spec"]["containers"][0]["volumeMounts"]]
        assert paths == ["/etc/nginx-client-certs", "/etc/nginx-ca-certs", "/etc/again"]
    finally:
        mounted.mesh.kubectl("scale", "deployment/gateway", "-n", mounted.namespace, "--replicas=2")


def test_absent_removes_exactly_ours(mounted: Gateway) -> None:
    patch = {
        "spec": {
            "template": {
                "spec": {
                    "volumes": [{"name": "theirs", "secret": {"secretName": "nginx-ca-certs"}}],
                    "containers": [{"name": "istio-proxy", "volumeMounts": [{"name": "theirs", "mountPath": "/etc/theirs"}]}],
                }
            }
        }
    }
    mounted.mesh.kubectl("patch", "deployment", "gateway", "-n", mounted.namespace, "-p", json.dumps(patch))
    result = mounted.done(state="absent")
    assert {(mount["path"], mount["action"]) for mount in result["mounts"]} == {
        ("/etc/nginx-client-certs", "deleted"),
        ("/etc/nginx-ca-certs", "deleted"),
    }
    inner = mounted.deployment["spec"]["template"]["spec"]
    assert [volume["name"] for volume in inner["volumes"]] == ["theirs"]
    assert [mount["mountPath"] for mount in inner["containers"][0]["volumeMounts"]] == ["/etc/theirs"]
    assert not mounted.done(state="absent")["changed"]
    stays = mounted.done(mounts=[{"path": "/etc/theirs"}], state="absent")
    assert not stays["changed"] and "kubectl-patch" in stays["notes"][0]


def test_the_shipped_role_suffices(mounted: Gateway) -> None:
    role = (ROOT / "docs" / "rbac" / "mounts.yaml").read_text()
    head, subjects = role.rsplit("subjects:", 1)
    role = head.replace("namespace: istio-system", f"namespace: {mounted.namespace}").replace("istio-egressgateway", "gateway")
    mounted.mesh.kubectl("apply", "-f", "-", stdin=role + "subjects:" + subjects)
    wanted = [{**mounted.mounts[0], "mode": "0444"}, mounted.mounts[1]]
    result = mounted.done(login="operator", mounts=wanted)
    assert result["changed"] and len(result["verified"]) == 2
    assert "notes" not in result
    failing = mounted.run(
        login="operator",
        mounts=[{"path": "/etc/nowhere", "secret": "there-is-none"}],
        on_invalid="warn",
        timeout=15,
        restore_on_failure=True,
    )
    assert 'secret "there-is-none" not found' in failing.failed[0]["msg"]


# --- the walkthrough's way through the egress gateway that istioctl made


@pytest.fixture
def outside(mesh: Mesh, namespace: str, issue: Callable[..., Pair]) -> Pair:
    """nginx without a sidecar that wants a client certificate, and a client with a sidecar, in one namespace; the client's pair."""
    server, client = issue("nginx.example.com", ca="outside"), issue("client.example.com", ca="outside")
    mesh_secret(mesh, namespace, "server", {"tls.crt": server.certificate, "tls.key": server.private_key, "ca.crt": server.ca})
    objects = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "nginx"}, "data": {"nginx.conf": NGINX}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "my-nginx"},
            "spec": {"selector": {"run": "my-nginx"}, "ports": [{"port": 443}]},
        },
        workload(
            "my-nginx",
            "docker.io/library/nginx:1.29",
            inject=False,
            volumes={"/etc/nginx": {"configMap": {"name": "nginx"}}, "/etc/nginx-server-certs": {"secret": {"secretName": "server"}}},
        ),
        workload("client", "docker.io/curlimages/curl:8.16.0", inject=True, command=["sleep", "infinity"]),
    ]
    mesh.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    for name in ("my-nginx", "client"):
        wait(mesh, namespace, name)
    return client


def workload(name: str, image: str, *, inject: bool, volumes: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    sources = {f"v{number}": (path, source) for number, (path, source) in enumerate((volumes or {}).items())}
    pod = {
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": name,
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "volumeMounts": [{"name": volume, "mountPath": path} for volume, (path, __) in sources.items()],
                **container,
            }
        ],
        "volumes": [{"name": volume, **source} for volume, (__, source) in sources.items()],
    }
    labels = {"run": name, "sidecar.istio.io/inject": str(inject).lower()}
    spec = {"replicas": 1, "selector": {"matchLabels": {"run": name}}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def test_the_egress_gateway_originates_with_mounted_files(mesh: Mesh, namespace: str, outside: Pair) -> None:
    secrets = (f"{namespace}-client-certs", f"{namespace}-ca-certs")
    mesh_secret(mesh, "istio-system", secrets[0], {"tls.crt": outside.certificate, "tls.key": outside.private_key})
    mesh_secret(mesh, "istio-system", secrets[1], {"ca-chain.cert.pem": outside.ca})
    mounts = [
        {"path": f"/etc/{secrets[0]}", "secret": secrets[0], "keys": ["tls.crt", "tls.key"]},
        {"path": f"/etc/{secrets[1]}", "secret": secrets[1], "keys": ["ca-chain.cert.pem"]},
    ]
    mounting = {"name": "istio-egressgateway", "mounts": mounts, "timeout": 240}
    service = {
        "name": namespace,
        "host": f"{namespace}.example.com",
        "certificate_files": {
            "certificate": f"/etc/{secrets[0]}/tls.crt",
            "private_key": f"/etc/{secrets[0]}/tls.key",
            "ca_certificate": f"/etc/{secrets[1]}/ca-chain.cert.pem",
        },
        "sni": "nginx.example.com",
        "subject_alt_names": ["nginx.example.com"],
        "resolution": "DNS",
        "endpoints": [{"address": f"my-nginx.{namespace}.svc.cluster.local", "ports": {"https": 443}}],
    }
    before = mesh.get("deployment", "istio-system", "istio-egressgateway")
    assert before
    try:
        mounted = mesh.task("gateway_credential_mount", mounting, login="admin").ok().results()[0]
        assert mounted["changed"] and mounted["rollout"]["complete"]
        assert all(file["state"] == "same" for seen in mounted["verified"] for file in seen["files"])
        assert not mesh.task("gateway_credential_mount", mounting, login="admin").ok().results()[0]["changed"]
        mesh.task("egress_mtls_origination", service, login="admin").ok()
        assert "seen " in asked(mesh, namespace, service["host"], fingerprint(outside))  # as nginx saw the gateway
    finally:
        mesh.task("egress_mtls_origination", {"name": namespace, "state": "absent"}, login="admin")
        gone = mesh.task("gateway_credential_mount", {**mounting, "state": "absent"}, login="admin")
        mesh.kubectl("delete", "secret", *secrets, "-n", "istio-system", "--ignore-not-found")
    assert [mount["action"] for mount in gone.ok().results()[0]["mounts"]] == ["deleted", "deleted"]
    after = mesh.get("deployment", "istio-system", "istio-egressgateway")
    assert after and after["spec"] == before["spec"]


def fingerprint(pair: Pair) -> str:
    """SHA-1, as nginx prints it."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA1

    return x509.load_pem_x509_certificate(pair.certificate.encode()).fingerprint(SHA1()).hex()  # noqa: S303


def asked(mesh: Mesh, namespace: str, host: str, expected: str) -> str:
    """What the client's plain request through the mesh brings, once it brings what is expected."""
    deadline = time.monotonic() + 60
    while True:
        # the name is in no DNS; the sidecar goes by the Host header, and any address will do
        command = ["curl", "-sS", "-m", "10", "--resolve", f"{host}:80:240.0.0.1", f"http://{host}/"]
        printed = mesh.kubectl("exec", "-n", namespace, "deployment/client", "-c", "client", "--", *command, check=False)
        if expected in printed:
            return printed
        assert time.monotonic() < deadline, printed
        time.sleep(1)
