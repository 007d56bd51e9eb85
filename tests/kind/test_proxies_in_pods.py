# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gateway_proxy_info, istio_tls_rotation and tls_probe's from_pod on real pods: a gateway by injection with two replicas, and a client, in a namespace
of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.tls.material import read_chain
from integration.conftest import ROOT, Mesh, Pair, Run

Issue = Callable[..., Pair]
PORT = 8443  # no Service has it, so that the gateway binds it as it is
CURL = yaml.safe_load((ROOT / "sandbox" / "kind" / "images.yml").read_text())["samples"]["curl"][0]


@dataclass(frozen=True)
class Place:
    """The gateway's and the client's namespace; the gateway serves `host` with the credential `shop`, from istiod's own pages."""

    mesh: Mesh
    namespace: str
    server: Pair
    client: Pair

    @property
    def host(self) -> str:
        return f"{self.namespace}.example.com"

    @property
    def selector(self) -> dict[str, str]:
        return {"istio": self.namespace}

    def pods(self) -> dict[str, str]:
        """The gateway's ready Pods and their addresses."""
        items = json.loads(self.mesh.kubectl("get", "pods", "-n", self.namespace, "-l", f"istio={self.namespace}", "-o", "json"))["items"]
        return {
            item["metadata"]["name"]: item["status"]["podIP"]
            for item in items
            if "deletionTimestamp" not in item["metadata"]
            and any(one["type"] == "Ready" and one["status"] == "True" for one in item["status"].get("conditions", []))
        }

    def look(self, **options: Any) -> dict[str, Any]:
        return {"meshops.istio.gateway_proxy_info": {"selector": self.selector, "namespace": self.namespace, "timeout": 90, **options}}

    def ask(self, address: str, *, files: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
        place = {"namespace": self.namespace, "selector": {"app": "client"}, **(files or {})}
        trusted = {} if files or options.get("scheme") == "http" else {"ca_certificate_path": str(self.server.ca_path)}
        given = {
            "host": self.host,
            "address": address,
            "port": PORT,
            "from_pod": place,
            "path": "/version",
            "timeout": 60,
            **trusted,
            **options,
        }
        return {"meshops.istio.tls_probe": given}

    def as_client(self) -> dict[str, str]:
        return {"client_certificate": self.client.certificate, "client_private_key": self.client.private_key}


def fingerprint(pair: Pair) -> str:
    return read_chain(pair.certificate_path.read_bytes(), where="a test")[0].fingerprint


def store(pair: Pair, clients: Pair, namespace: str) -> dict[str, Any]:
    return {
        "meshops.istio.istio_tls_credential": {
            "name": "shop",
            "namespace": namespace,
            **pair.paths,
            "ca_certificate_path": str(clients.ca_path),
        }
    }


def gateway(name: str) -> dict[str, Any]:
    container = {
        "name": "istio-proxy",
        "image": "auto",
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "10m", "memory": "40Mi"}},
    }
    template = {
        "metadata": {"annotations": {"inject.istio.io/templates": "gateway"}, "labels": {"istio": name, "sidecar.istio.io/inject": "true"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": {"istio": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gateway", "namespace": name}, "spec": spec}


def right_to_credentials(name: str) -> list[dict[str, Any]]:
    """What istiod asks of a gateway's service account before it hands out a credential."""
    group = "rbac.authorization.k8s.io"
    metadata = {"name": "gateway", "namespace": name}
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch", "list"]}]
    subjects = [{"kind": "ServiceAccount", "name": "default", "namespace": name}]
    role = {"apiGroup": group, "kind": "Role", "name": "gateway"}
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": subjects},
    ]


def client(name: str) -> dict[str, Any]:
    container = {
        "name": "curl",
        "image": CURL,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "volumeMounts": [{"name": "certificates", "mountPath": "/etc/certificates"}],
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "certificates", "secret": {"secretName": "client"}}],
        "terminationGracePeriodSeconds": 1,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "namespace": name, "labels": {"app": "client"}}, "spec": spec}


@pytest.fixture(scope="module")
def place(mesh: Mesh, issue: Issue) -> Iterator[Place]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    mesh.kubectl("create", "namespace", name)
    made = Place(mesh, name, issue(f"{name}.example.com"), issue("client.example.com", ca="clients"))
    content = {"tls.crt": made.client.certificate, "tls.key": made.client.private_key, "ca.crt": made.server.ca}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "client", "namespace": name}, "stringData": content}
    istiod = {"host": "istiod.istio-system.svc.cluster.local", "port": 15014}
    server = {"hosts": [made.host], "port": PORT, "mode": "MUTUAL", "credential_name": "shop", "routes": [{"destination": istiod}]}
    items = [*right_to_credentials(name), secret, gateway(name), client(name)]
    mesh.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    served = {"name": "shop", "namespace": name, "selector": made.selector, "servers": [server]}
    mesh.playbook([store(made.server, made.client, name), {"meshops.istio.ingress_tls_gateway": served}], login="admin").ok()
    deadline = time.monotonic() + 300
    while len(made.pods()) < 2 or "Running" not in mesh.kubectl("get", "pod", "client", "-n", name):
        assert time.monotonic() < deadline, mesh.kubectl("get", "pods", "-n", name, "-o", "wide")
        time.sleep(1)
    yield made
    mesh.kubectl("delete", "gateways.networking.istio.io,virtualservices.networking.istio.io", "--all", "-n", name)
    mesh.kubectl("delete", "namespace", name, "--wait=false")


def play(place: Place, *tasks: dict[str, Any], login: str = "admin", arguments: tuple[str, ...] = ()) -> Run:
    return place.mesh.playbook([{**task, "ignore_errors": True} for task in tasks], *arguments, login=login)


# --- gateway_proxy_info -----------------------------------------------------------------------------------------------


def test_every_replica_got_the_key_pair_and_the_ca(place: Place) -> None:
    shop = {"name": "shop", "fingerprint": [fingerprint(place.server)], "ca": True}
    served = {"sni": place.host, "credential": "shop", "mode": "MUTUAL"}
    expect = {"proxies": 2, "ready": True, "credentials": [shop], "servers": [served], "rejected": False}
    run = place.mesh.playbook([place.look(expect=expect)], login="admin").ok()
    (result,) = run.results("gateway_proxy_info")
    assert {proxy["pod"] for proxy in result["proxies"]} == place.pods().keys()
    for proxy in result["proxies"]:
        assert proxy["name"] == f"Pod {place.namespace}/{proxy['pod']}" and proxy["node"] == f"{proxy['pod']}.{place.namespace}"
        held = {one["name"]: (one["state"], one["in_use"]) for one in proxy["secrets"]}
        assert held["shop"] == held["shop-cacert"] == ("active", True)
        assert proxy["version"] and proxy["state"] == "LIVE"


def test_a_rotation_reaches_every_replica(place: Place, issue: Issue) -> None:
    new = issue(place.host)
    expect = {"proxies": 2, "credentials": [{"name": "shop", "fingerprint": [fingerprint(new)]}]}
    run = place.mesh.playbook([store(new, place.client, place.namespace), place.look(expect=expect)], login="admin").ok()
    assert run.results("gateway_proxy_info")[0]["unmet"] == []
    back = {"proxies": 2, "credentials": [{"name": "shop", "fingerprint": [fingerprint(place.server)]}]}
    place.mesh.playbook([store(place.server, place.client, place.namespace), place.look(expect=back)], login="admin").ok()


def test_what_a_replica_lacks_is_said_with_its_name(place: Place) -> None:
    (failed,) = play(place, place.look(expect={"proxies": 3, "credentials": [{"name": "nope"}]}, timeout=0)).failed
    for pod in place.pods():
        assert f"Pod {place.namespace}/{pod}: does not ask for credential nope" in failed["msg"]
    assert "expected 3 proxies or more, found 2" in failed["msg"]


def test_the_log_of_every_replica_is_looked_through(place: Place) -> None:
    pods = place.pods()
    path = f"/version?{uuid.uuid4().hex}"
    since = datetime.now(UTC).isoformat()
    log = {"text": path, "since": since}
    tasks = [place.ask(address, path=path, expect={"status": [200]}, **place.as_client()) for address in pods.values()]
    run = place.mesh.playbook([*tasks, place.look(access_log=log, expect={"proxies": 2, "log_lines": 2})], login="admin").ok()
    (result,) = run.results("gateway_proxy_info")
    assert {line["proxy"] for line in result["log_lines"]} == {f"Pod {place.namespace}/{pod}" for pod in pods}
    assert all(f'"GET {path} HTTP/1.1" 200 ' in line["line"] and line["time"] for line in result["log_lines"])
    later = {**log, "since": datetime.now(UTC).isoformat()}
    (failed,) = play(place, place.look(access_log=later, expect={"log_lines": 1}, timeout=0)).failed
    assert "found 0" in failed["msg"]


def test_a_replica_that_does_not_start_is_named_with_its_reason(place: Place) -> None:
    manifest = client(place.namespace)
    manifest["metadata"] = {"name": "broken", "namespace": place.namespace, "labels": place.selector}
    manifest["spec"]["containers"] = [{"name": "istio-proxy", "image": "localhost/there-is-none:1", "imagePullPolicy": "Never"}]
    place.mesh.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    try:
        deadline = time.monotonic() + 60
        while "ErrImageNeverPull" not in place.mesh.kubectl("get", "pod", "broken", "-n", place.namespace):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        expect = {"credentials": [{"name": "shop"}]}
        run = play(place, place.look(expect=expect, timeout=0), place.look())
    finally:
        place.mesh.kubectl("delete", "pod", "broken", "-n", place.namespace, "--now")
    failed, fine = run.results("gateway_proxy_info")
    assert f"Pod {place.namespace}/broken: its container istio-proxy does not run: istio-proxy: ErrImageNeverPull" in failed["msg"]
    assert fine["notes"] == failed["unmet"] and [bool(proxy["error"]) for proxy in fine["proxies"]].count(True) == 1


# --- gateway_diagnose -------------------------------------------------------------------------------------------------


def test_a_diagnosis_reads_the_pods_and_names_the_fault(place: Place) -> None:
    """A credential that nobody made, beside a gateway that is as it was before."""
    lost = {"port": {"number": PORT, "name": "lost", "protocol": "HTTPS"}, "hosts": [f"lost-{place.host}"]}
    spec = {"selector": place.selector, "servers": [{**lost, "tls": {"mode": "SIMPLE", "credentialName": "lost"}}]}
    metadata = {"name": "lost", "namespace": place.namespace}
    manifest = {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": metadata, "spec": spec}

    def diagnosed() -> dict[str, Any]:
        options = {"namespaces": [place.namespace], "proxies": True, "explain": [place.host], "fail_on": "never"}
        run = place.mesh.playbook([{"meshops.istio.gateway_diagnose": options}], login="admin").ok()
        return dict(run.results("gateway_diagnose")[0])

    def errors(result: dict[str, Any]) -> set[tuple[str, str]]:
        """Codes with the object to look at first, without what proxies show of them."""
        found = [one for one in result["findings"] if one["severity"] == "error" and one["id"][3:5] != "10"]
        return {(one["code"], one["objects"][0]["name"]) for one in found}

    before = diagnosed()
    (told,) = before["explained"]
    assert next(one["what"] for one in told["stages"] if one["stage"] == "gateway").startswith("2 proxies with the labels ")
    place.mesh.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    try:
        assert errors(diagnosed()) - errors(before) == {("credential_missing", "lost")}
    finally:
        place.mesh.kubectl("delete", "gateways.networking.istio.io", "lost", "-n", place.namespace)


def roles(place: Place, user: str, *, without: tuple[str, str] | None = None) -> str:
    """The shipped Role and RoleBinding, for this user in this namespace, perhaps without one verb on one resource."""
    documents = yaml.safe_load((ROOT / "docs" / "rbac" / "pods.yaml").read_text())["items"]
    for document in documents:
        document["metadata"] = {"name": user, "namespace": place.namespace}
        for rule in document.get("rules", []):
            rule["verbs"] = [verb for verb in rule["verbs"] if without is None or (rule["resources"][0], verb) != without]
        if "rules" in document:
            document["rules"] = [rule for rule in document["rules"] if rule["verbs"]]
        if "roleRef" in document:
            document["roleRef"]["name"] = user
            document["subjects"] = [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}]
    return yaml.safe_dump_all(documents)


@pytest.mark.parametrize(
    ("without", "told"),
    [
        (None, None),
        (("pods", "list"), "may not list pods"),
        (("pods/exec", "get"), "may not get pods/exec"),
        (("pods/exec", "create"), "may not create pods/exec"),
        (("pods/log", "get"), "may not get pods/log"),
    ],
    ids=str,
)
def test_the_shipped_role_is_what_it_takes(place: Place, without: tuple[str, str] | None, told: str | None) -> None:
    user = f"user-{uuid.uuid4().hex[:6]}"
    place.mesh.kubectl("apply", "-f", "-", stdin=roles(place, user, without=without))
    time.sleep(1)  # the authorizer learns of it
    run = play(place, place.look(access_log={"text": "x"}, impersonate_user=user, timeout=0))
    (result,) = run.results("gateway_proxy_info")
    assert bool(run.failed) == bool(told), result
    if told:
        who = user if without != ("pods/exec", "create") else "this user"  # there the API server names none
        assert f"permission denied: {who} {told} in namespace {place.namespace}" in result["msg"] and "docs/rbac" in result["msg"]
    if without != ("pods/log", "get"):
        refused = {"expect": {"failure": ["connection_refused"]}, "timeout": 0, "impersonate_user": user}
        run = play(place, place.ask("127.0.0.1", scheme="http", **refused))
        assert bool(run.failed) == bool(told), run.output


# --- istio_tls_rotation -----------------------------------------------------------------------------------------------


def agent_of(pod: str) -> int:
    """The id of the pilot-agent in a Pod, as this machine sees it: through it Envoy gets all that istiod sends."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = ((process / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
        except OSError:
            continue
        if command[0].endswith(b"pilot-agent") and b"proxy" in command and f"POD_NAME={pod}".encode() in environment:
            return int(process.name)
    raise AssertionError(f"no pilot-agent of {pod} runs on this machine")


@contextlib.contextmanager
def agent_stands_still(pod: str) -> Iterator[None]:
    pid = agent_of(pod)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def rotation(place: Place, pair: Pair, **more: Any) -> dict[str, Any]:
    material = {**pair.paths, "ca_certificate_path": str(place.client.ca_path)}
    return {"meshops.istio.istio_tls_rotation": {"name": "shop", "namespace": place.namespace, **material, **more}}


def held(place: Place, pair: Pair) -> dict[str, Any]:
    """Both replicas have this certificate."""
    return place.look(expect={"proxies": 2, "credentials": [{"name": "shop", "fingerprint": [fingerprint(pair)]}]})


def test_a_rotation_is_proven_in_every_replica(place: Place, issue: Issue) -> None:
    run = place.mesh.playbook([rotation(place, issue(place.host)), rotation(place, place.server)], login="admin").ok()
    for result in run.results("istio_tls_rotation"):
        (one,) = result["rotations"]
        assert one["outcome"] == "rotated"
        assert sorted(one["proof"]["proxies"]) == sorted(f"Pod {place.namespace}/{pod}" for pod in place.pods())


def test_a_replica_that_never_takes_the_new_certificate_has_all_put_back(place: Place, issue: Issue) -> None:
    stuck, other = sorted(place.pods())
    with agent_stands_still(stuck):
        (failed,) = play(place, rotation(place, issue(place.host), proof_timeout=10)).failed
        (one,) = failed["rotations"]
        assert one["outcome"] == "rolled_back", failed["msg"]
        assert f"Pod {place.namespace}/{stuck}" in failed["msg"] and f"Pod {place.namespace}/{other}" not in failed["msg"]
        place.mesh.playbook([held(place, place.server)], login="admin").ok()
    # and when it goes on, the next one comes through
    new = issue(place.host)
    place.mesh.playbook([rotation(place, new), held(place, new), rotation(place, place.server)], login="admin").ok()


# --- from_pod ---------------------------------------------------------------------------------------------------------


def test_requests_of_every_ending_from_a_pod(place: Place, issue: Issue) -> None:
    address = next(iter(place.pods().values()))
    foreign, other = issue("client.example.com", ca="foreign"), issue(place.host, ca="another")
    refused = {"client_certificate": foreign.certificate, "client_private_key": foreign.private_key}
    mounted = {
        "ca_certificate_path": "/etc/certificates/ca.crt",
        "client_certificate_path": "/etc/certificates/tls.crt",
        "client_private_key_path": "/etc/certificates/tls.key",
    }
    as_client = place.as_client()
    tasks = [
        place.ask(address, expect={"status": [200], "fingerprint": [fingerprint(place.server)], "protocol": "TLSv1.3"}, **as_client),
        place.ask(address, expect={"status": [200]}, files=mounted),
        place.ask(address, expect={"failure": ["certificate_required"]}, consecutive=5, delay=0),
        place.ask(address, expect={"failure": ["client_certificate_refused"], "alert": ["unknown_ca"]}, **refused),
        place.ask(address, expect={"failure": ["unknown_ca"]}, **{**as_client, "ca_certificate_path": str(other.ca_path)}),
        place.ask(address, expect={"failure": ["connection_reset"]}, **as_client, **{"host": "nobody.example.com"}),
        place.ask(address, expect={"failure": ["connection_refused"]}, **as_client, **{"port": 9}),
        place.ask("does-not-exist.invalid", expect={"failure": ["name_not_resolved"]}, **as_client),
        place.ask("istiod.istio-system", expect={"status": [200]}, scheme="http", port=15014),
        place.ask(address, expect={"failure": ["not_tls"]}, port=15021),
        place.ask(address, expect={"fingerprint": [fingerprint(place.server)]}, scheme="tls", **as_client),
    ]
    run = play(place, *tasks)
    assert [result["msg"] for result in run.failed] == [], run.output
    results = run.results("tls_probe")
    assert {result["pod"] for result in results} == {f"{place.namespace}/client"}
    assert results[4]["peer_chain"][0]["fingerprint_sha256"] == fingerprint(place.server)


def test_a_failure_says_where_the_request_was_made(place: Place) -> None:
    address = next(iter(place.pods().values()))
    tasks = [
        place.ask(address, expect={"status": [200]}, timeout=0),
        place.ask(address, files={"container": "nope"}),
        {"meshops.istio.tls_probe": {"host": "a", "from_pod": {"namespace": place.namespace, "selector": {"app": "nope"}}}},
        {"meshops.istio.tls_probe": {"host": "a", "from_pod": {"namespace": place.namespace, "name": "nope"}}},
        {"meshops.istio.tls_probe": {"host": "a", "from_pod": {"namespace": "default"}}},
    ]
    messages = [result["msg"] for result in play(place, *tasks).failed]
    assert messages[0].startswith(f"In Pod {place.namespace}/client: GET https://{place.host}/version at {address}:{PORT}")
    assert "certificate_required" in messages[0]
    assert "container nope is not valid for pod client" in messages[1]
    assert f"there is no Pod with the labels app=nope in namespace {place.namespace}" in messages[2]
    assert f"there is no Pod nope in namespace {place.namespace}" in messages[3]
    assert "name, selector" in messages[4]


def test_no_file_of_a_key_is_left_in_the_pod_and_none_is_printed(place: Place, issue: Issue) -> None:
    address = next(iter(place.pods().values()))
    stranger = issue("client.example.com", ca="clients")  # no Secret holds it
    lines = [line for line in stranger.private_key.splitlines() if "-----" not in line]
    keyed = {"client_certificate": stranger.certificate, "client_private_key": stranger.private_key}
    tasks = [place.ask(address, expect={"status": [200]}, **keyed), place.ask("192.0.2.1", request_timeout=1, timeout=0, **keyed)]
    values = {"certificate": stranger.certificate, "key": stranger.private_key}
    for task in tasks:  # ansible-core quotes a failing task's own lines
        task["meshops.istio.tls_probe"] |= {"client_certificate": "{{ certificate }}", "client_private_key": "{{ key }}"}
    given = place.mesh.scratch / "stranger.json"
    given.write_text(json.dumps(values))
    run = play(place, *tasks, arguments=("-vvvv", f"-e@{given}"))
    given.unlink()
    assert run.results("tls_probe")[0]["status"] == 200
    assert not any(line in run.output + json.dumps(run.records) for line in lines)

    def files_with(text: str) -> list[str]:
        search = 'grep -rlsF --exclude-dir=proc --exclude-dir=sys "$0" / || true'
        return place.mesh.kubectl("exec", "-n", place.namespace, "client", "--", "sh", "-c", search, text).split()

    assert files_with(lines[0]) == []
    assert any(path.startswith("/etc/certificates/") for path in files_with(place.client.private_key.splitlines()[1])), "it would be found"
