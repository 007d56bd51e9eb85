# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The running sandbox keeps what others build on: `make sandbox` first."""

from __future__ import annotations

import base64
import json
import os
import shlex
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
import yaml
from ansible_collections.meshops.istio.sandbox import istio, kube, layout, lifecycle, processes
from ansible_collections.meshops.istio.sandbox.progress import Failure

PREFIX = "sandbox-itself"
PATIENCE = 10.0


@pytest.fixture(autouse=True, scope="module")
def running() -> None:
    if not layout.ENV.is_file():
        pytest.fail("the sandbox does not run: `make sandbox` first", pytrace=False)


@pytest.fixture(scope="module")
def env() -> dict[str, str]:
    """What a shell has after `. .sandbox/env`, with a proxy for the way out in place."""
    given = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "http_proxy": "http://127.0.0.1:1",
        "HTTPS_PROXY": "http://127.0.0.1:1",
    }
    script = f". {shlex.quote(str(layout.ENV))}; {shlex.quote(sys.executable)} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    return dict(json.loads(subprocess.run(["sh", "-euc", script], env=given, capture_output=True, check=True).stdout))


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"{PREFIX}-{os.urandom(4).hex()}"
    kube.kubectl("create", "namespace", name)
    yield name
    kube.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


def run(env: dict[str, str], *command: str, text: str | None = None) -> str:
    answer = subprocess.run(command, env=env, input=text, capture_output=True, text=True, check=False, cwd=layout.ROOT)
    assert answer.returncode == 0, f"{command}: {answer.stdout}{answer.stderr}"
    return answer.stdout


def eventually(what: str, check: object, seconds: float = PATIENCE) -> None:
    assert callable(check)
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"{what} did not come about within {seconds} s"
        time.sleep(0.1)


def fetch(address: str, host: str, path: str = "/") -> tuple[int, str, str]:
    """Status, body and the `server` header of a request to `address` for `host`."""
    request = urllib.request.Request(f"http://{address}{path}", headers={"Host": host})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            return answer.status, answer.read().decode(), answer.headers["server"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers["server"]


def test_status_names_every_component_and_is_healthy(env: dict[str, str]) -> None:
    told = run(env, "python", "-m", "sandbox", "status")
    for component in lifecycle.COMPONENTS:
        assert f"\n{component} " in f"\n{told}"
    assert "DEAD" not in told
    assert "healthy" in told.splitlines()[-1]


def test_up_leaves_a_healthy_sandbox_alone(env: dict[str, str]) -> None:
    before = processes.records()
    start = time.monotonic()
    run(env, "python", "-m", "sandbox", "up")
    assert time.monotonic() - start < 10
    assert processes.records() == before


def test_a_deleted_namespace_is_gone_in_ten_seconds_and_can_be_made_again(namespace: str) -> None:
    kube.kubectl("-n", namespace, "create", "secret", "generic", "some", "--from-literal=a=b")
    kube.kubectl("-n", namespace, "create", "service", "clusterip", "some", "--tcp=18000")
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
    eventually("the namespace's service account", lambda: kube.get(account) is not None)
    kube.kubectl("delete", "namespace", namespace, "--wait=false")
    eventually("the end of the namespace", lambda: kube.get(f"/api/v1/namespaces/{namespace}") is None)
    kube.kubectl("create", "namespace", namespace)
    eventually("the new namespace's service account", lambda: kube.get(account) is not None)
    assert kube.get(f"/api/v1/namespaces/{namespace}/secrets/some") is None


def test_owned_objects_go_with_their_owner(namespace: str) -> None:
    owner = json.loads(kube.kubectl("-n", namespace, "create", "configmap", "owner", "-o", "json"))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    kube.apply(
        text=yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "owned", "namespace": namespace, "ownerReferences": [reference]},
            }
        )
    )
    kube.kubectl("-n", namespace, "delete", "configmap", "owner")
    eventually("the end of what it owned", lambda: kube.get(f"/api/v1/namespaces/{namespace}/configmaps/owned") is None)


@pytest.mark.parametrize("dry_run", [[], ["--dry-run=server"]])
def test_a_bad_gateway_is_refused_as_in_production(namespace: str, dry_run: list[str]) -> None:
    tls = {"mode": "ISTIO_MUTUAL", "credentialName": "some"}
    server = {"hosts": ["a.example.com"], "port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "tls": tls}
    bad = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "bad", "namespace": namespace},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
    }
    with pytest.raises(Failure, match=r"admission webhook \"rev.validation.istio.io\" denied the request"):
        kube.kubectl("apply", *dry_run, "-f", "-", text=yaml.safe_dump(bad))
    assert kube.get(f"/apis/networking.istio.io/v1/namespaces/{namespace}/gateways/bad") is None
    assert {hook["failurePolicy"] for hook in kube.get(istio.WEBHOOK)["webhooks"]} == {"Fail"}


def test_the_audit_log_tells_who_did_what_and_no_secret(namespace: str) -> None:
    canary = f"canary-{os.urandom(12).hex()}"
    kube.kubectl("-n", namespace, "create", "secret", "generic", "audited", f"--from-literal=tls.key={canary}")
    kube.kubectl("-n", namespace, "get", "secret", "audited", "-o", "yaml")
    kube.kubectl("-n", namespace, "patch", "secret", "audited", "--type=merge", "-p", json.dumps({"stringData": {"more": canary}}))
    events = [json.loads(line) for line in layout.AUDIT_LOG.read_text().splitlines() if namespace in line]
    found = [
        event
        for event in events
        if event.get("objectRef", {}).get("namespace") == namespace and event["objectRef"].get("name") == "audited"
    ]
    by_us = [event for event in found if event["user"]["username"] == "admin"]
    # kubectl patch reads before it writes
    assert [event["verb"] for event in by_us] == ["create", "get", "get", "patch"]
    for event in found:
        assert event["stage"] == "ResponseComplete"
        assert event["objectRef"]["resource"] == "secrets"
        assert not {"requestObject", "responseObject"} & set(event)
    for log in layout.LOGS.iterdir():
        content = log.read_bytes()
        assert canary.encode() not in content, log
        assert base64.b64encode(canary.encode()) not in content, log


def test_env_is_complete_and_belongs_to_its_owner(env: dict[str, str]) -> None:
    for name in ("KUBECONFIG", "OPERATOR_KUBECONFIG", "EGRESS_LOG", "ISTIOCTL", "ANSIBLE_PYTHON_INTERPRETER", "ANSIBLE_INVENTORY"):
        assert Path(env[name]).is_file(), name
    assert Path(env["ANSIBLE_COLLECTIONS_PATH"], "ansible_collections", "meshops", "istio", "galaxy.yml").is_file()
    assert env["PATH"].split(":")[0] == str(Path(env["ANSIBLE_PYTHON_INTERPRETER"]).parent)
    for name in ("KUBECONFIG", "OPERATOR_KUBECONFIG"):
        assert Path(env[name]).stat().st_mode & 0o077 == 0
    assert layout.ENV.stat().st_mode & 0o077 == 0


def test_kubectl_istioctl_and_ansible_simply_work(env: dict[str, str]) -> None:
    assert "istio-system" in run(env, "kubectl", "get", "namespaces", "-o", "name")
    proxies = run(env, env["ISTIOCTL"], "proxy-status")
    for name in ("istio-ingressgateway-0.istio-system", "istio-egressgateway-0.istio-system", "client-0.default"):
        assert name in proxies
    for inventory in ([], ["-i", "localhost,", "-c", "local"]):
        told = run(env, "ansible", "all", *inventory, "-m", "kubernetes.core.k8s_info", "-a", "kind=Namespace name=istio-system")
        assert '"phase": "Active"' in told
    assert json.loads(run(env, "ansible-inventory", "--host", "sandbox"))["sample_workloads_deploy"] is False


def test_the_operator_has_the_shipped_rights_and_no_more(env: dict[str, str]) -> None:
    operator = {**env, "KUBECONFIG": env["OPERATOR_KUBECONFIG"]}
    assert "system:serviceaccount:istio-system:meshops-operator" in run(operator, "kubectl", "auth", "whoami")
    assert run(operator, "kubectl", "auth", "can-i", "patch", "gateways.networking.istio.io", "-n", "default") == "yes\n"
    for question in (["get", "secrets", "-n", "kube-system"], ["create", "clusterroles"], ["create", "pods", "-n", "default"]):
        answer = subprocess.run(["kubectl", "auth", "can-i", *question], env=operator, capture_output=True, text=True, check=False)
        assert (answer.returncode, answer.stdout) == (1, "no\n"), question


def test_backends_answer_through_the_client_s_sidecar(env: dict[str, str]) -> None:
    client = env["MESH_CLIENT"].rpartition(":")[0]
    status, body, server = fetch(f"{client}:8000", "httpbin.default.svc.cluster.local:8000", "/status/418")
    assert (status, server) == (418, "envoy")
    assert "teapot" in body
    status, body, server = fetch(f"{client}:5000", "helloworld-v1:5000", "/hello")
    assert (status, server) == (200, "envoy")
    assert body.startswith("Hello version: v1, instance: ")
    # nobody in the mesh has this name: it is the sidecar on port 80 that says so, the request leaves by its way to the outside
    assert fetch(env["MESH_CLIENT"], "nobody.example.invalid")[2] == "envoy"


def test_the_ingress_gateway_is_reached_where_its_service_says(env: dict[str, str], namespace: str) -> None:
    service = kube.get("/api/v1/namespaces/istio-system/services/istio-ingressgateway")
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["status"]["loadBalancer"]["ingress"][0]["ip"] == env["INGRESS_HOST"]
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert ports == {"http2": 80, "https": int(env["SECURE_INGRESS_PORT"])}
    name, authority = "sandbox-itself.example.com", trustme.CA()
    pair = authority.issue_cert(name)
    secret = {"tls.crt": b"".join(blob.bytes() for blob in pair.cert_chain_pems), "tls.key": pair.private_key_pem.bytes()}
    servers = [
        {
            "hosts": [name],
            "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
            "tls": {"mode": "SIMPLE", "credentialName": namespace},
        }
    ]
    destination = {"host": "httpbin.default.svc.cluster.local", "port": {"number": 8000}}
    objects = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": namespace, "namespace": "istio-system"},
            "data": {key: base64.b64encode(value).decode() for key, value in secret.items()},
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "itself", "namespace": namespace},
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": servers},
        },
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "itself", "namespace": namespace},
            "spec": {"hosts": [name], "gateways": ["itself"], "http": [{"route": [{"destination": destination}]}]},
        },
    ]
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())

    def answers() -> bool:
        try:
            with (
                socket.create_connection((env["INGRESS_HOST"], int(env["SECURE_INGRESS_PORT"])), timeout=2) as plain,
                context.wrap_socket(plain, server_hostname=name) as secure,
            ):
                secure.sendall(f"GET /status/418 HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
                return b" 418 " in secure.recv(4096).splitlines()[0]
        except (OSError, IndexError):
            return False

    assert not answers()
    try:
        kube.apply(text=yaml.safe_dump_all(objects))
        eventually("an answer of the ingress gateway", answers)
        log = layout.LOGS / f"{layout.INGRESS_GATEWAY}.log"
        eventually("the line in its access log", lambda: f'"{name}"' in log.read_text(), 3)
    finally:
        kube.kubectl("-n", "istio-system", "delete", "secret", namespace, "--ignore-not-found")
