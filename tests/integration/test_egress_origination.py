# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""egress_mtls_origination on a real mesh, against a server that insists on a client certificate."""

from __future__ import annotations

import collections
import http.client
import http.server
import json
import socketserver
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from .conftest import Mesh, Pair, Run

Issue = Callable[..., Pair]
KINDS = "gateways.networking.istio.io,virtualservices.networking.istio.io,destinationrules.networking.istio.io,serviceentries.networking.istio.io"
MODULE = "meshops.istio.egress_mtls_origination"
PATIENCE = 20.0  # seconds until a change has reached both proxies, on a busy machine
PARTNER = "127.0.0.78"


@dataclass
class Partner:
    """An external service with one host, at `address`:`port`."""

    name: str
    host: str
    port: int
    client: Pair
    serials: list[str] = field(default_factory=list)
    """Of the client certificates that it saw, in order."""

    @property
    def arguments(self) -> dict[str, Any]:
        endpoints = [{"address": PARTNER, "ports": {"https": self.port}}]
        return {"name": self.name, "host": self.host, "credential_name": self.name, "resolution": "STATIC", "endpoints": endpoints}

    @property
    def files(self) -> dict[str, str]:
        return {
            "certificate": str(self.client.certificate_path),
            "private_key": str(self.client.private_key_path),
            "ca_certificate": str(self.client.ca_path),
        }


@pytest.fixture
def partner(mesh: Mesh, issue: Issue) -> Iterator[Partner]:
    """A server that runs, its client's credential in istio-system, and nothing of either afterwards."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    host = f"{name}.example.org"
    served, client = issue(host, ca="partner"), issue("client.example.org", ca="partner")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served.certificate_path, served.private_key_path)
    context.load_verify_locations(served.ca_path)
    context.verify_mode = ssl.CERT_REQUIRED

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        request_queue_size = 64

        def handle_error(self, *__: Any) -> None:
            """Refused handshakes are what some tests want."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            self.request = context.wrap_socket(self.request, server_side=True)
            made.serials.append(self.request.getpeercert()["serialNumber"])
            super().setup()

        def do_GET(self) -> None:
            body = b"Welcome, partner!"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *__: Any) -> None:
            pass

    with Server((PARTNER, 0), Handler) as server:
        made = Partner(name, host, server.server_address[1], client)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            store(mesh, name, client)
            yield made
        finally:
            server.shutdown()
    owner = f"meshops.istio/owner=origination.istio-system.{name}"
    mesh.kubectl("delete", KINDS, "-A", "-l", owner, "--ignore-not-found")
    mesh.kubectl("delete", "secret", name, "-n", "istio-system", "--ignore-not-found")


def store(mesh: Mesh, name: str, pair: Pair) -> None:
    arguments = {"name": name, **pair.paths, "ca_certificate_path": str(pair.ca_path)}
    mesh.playbook([{"meshops.istio.istio_tls_credential": arguments}]).ok()


def origination(mesh: Mesh, *tasks: dict[str, Any], arguments: tuple[str, ...] = ()) -> Run:
    return mesh.playbook([{MODULE: task} for task in tasks], *arguments)


def request(mesh: Mesh, host: str) -> int:
    """One HTTP request as the application sends it: to its sidecar."""
    address, port = mesh.environment["MESH_CLIENT"].split(":")
    connection = http.client.HTTPConnection(address, int(port), timeout=10)
    try:
        connection.request("GET", "/", headers={"Host": host})
        response = connection.getresponse()
        response.read()
        return response.status
    except OSError:
        return 0
    finally:
        connection.close()


def eventually(mesh: Mesh, host: str, status: int, consecutive: int = 3) -> None:
    deadline = time.monotonic() + PATIENCE
    seen: list[int] = []
    while time.monotonic() < deadline:
        seen.append(request(mesh, host))
        if seen[-consecutive:] == [status] * consecutive:
            return
        time.sleep(0.1)
    raise AssertionError(f"no {status} from {host} within {PATIENCE} s, the last answers: {seen[-10:]}")


def objects(mesh: Mesh, name: str) -> set[str]:
    """What is there of a service, as Kind/namespace/name."""
    listed = json.loads(mesh.kubectl("get", KINDS, "-A", "-l", f"meshops.istio/owner=origination.istio-system.{name}", "-o", "json"))
    return {f"{item['kind']}/{item['metadata']['namespace']}/{item['metadata']['name']}" for item in listed["items"]}


def writes(mesh: Mesh, mark: int, partner: Partner) -> list[str]:
    return [write for write in mesh.writes_since(mark) if partner.name in write]


def apply(mesh: Mesh, text: str) -> None:
    mesh.kubectl("apply", "-f", "-", stdin=text)


def test_from_nothing_to_nothing(mesh: Mesh, partner: Partner) -> None:
    mark = mesh.audit_mark()
    predicted = origination(mesh, partner.arguments, arguments=("--check", "--diff")).ok().results()[0]
    assert writes(mesh, mark, partner) == []
    made = origination(mesh, partner.arguments).ok().results()[0]
    assert made["services"] == predicted["services"]
    assert made["services"][0]["action"] == "created"
    assert [write.split()[1] for write in writes(mesh, mark, partner)] == [
        "destinationrules",
        "destinationrules",
        "gateways",
        "serviceentries",
        "virtualservices",
    ]
    eventually(mesh, partner.host, 200)
    assert partner.serials

    mark = mesh.audit_mark()
    again = origination(mesh, partner.arguments).ok().results()[0]
    assert not again["changed"]
    assert again["services"] == [{"name": partner.name, "namespace": "istio-system", "host": partner.host, "action": "unchanged"}]
    assert writes(mesh, mark, partner) == []

    direct = origination(mesh, {**partner.arguments, "direct_tls": True}, partner.arguments).ok().results()
    assert [[change["action"] for change in result["services"][0]["changes"]] for result in direct] == [["created"], ["deleted"]]

    mark = mesh.audit_mark()
    gone = origination(mesh, *[{"name": partner.name, "state": "absent"}] * 2).ok().results()
    assert [result["services"][0]["action"] for result in gone] == ["deleted", "unchanged"]
    assert [write.split()[1] for write in writes(mesh, mark, partner)] == [
        "virtualservices",
        "serviceentries",
        "gateways",
        "destinationrules",
        "destinationrules",
    ]
    assert objects(mesh, partner.name) == set()


def test_the_server_must_have_the_right_name(mesh: Mesh, partner: Partner) -> None:
    origination(mesh, partner.arguments).ok()
    eventually(mesh, partner.host, 200)
    origination(mesh, {**partner.arguments, "subject_alt_names": ["other.example.org"]}).ok()
    eventually(mesh, partner.host, 503)
    unchecked = origination(mesh, {**partner.arguments, "subject_alt_names": []}).ok()
    assert "no_host_check" in str(unchecked.results()[0].get("warnings"))
    eventually(mesh, partner.host, 200)


def test_from_files_to_a_credential_under_load(mesh: Mesh, partner: Partner) -> None:
    files = {**partner.arguments, "credential_name": None, "certificate_files": partner.files}
    origination(mesh, files).ok()
    eventually(mesh, partner.host, 200)
    answers: collections.Counter[int] = collections.Counter()
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            answers[request(mesh, partner.host)] += 1

    threads = [threading.Thread(target=load) for __ in range(3)]
    for thread in threads:
        thread.start()
    try:
        changed = origination(mesh, partner.arguments, files, partner.arguments).ok().results()
        time.sleep(1)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert [[change["name"] for change in result["services"][0]["changes"]] for result in changed] == [
        [f"originate-mtls-for-{partner.name}"]
    ] * 3
    assert set(answers) == {200}, answers
    assert answers[200] > 100


def test_two_services_on_one_gateway_come_and_go_by_themselves(mesh: Mesh, partner: Partner) -> None:
    other = {**partner.arguments, "name": f"{partner.name}-b", "host": f"b.{partner.host}", "subject_alt_names": [partner.host]}
    shared = {key: value for key, value in partner.arguments.items() if key not in ("name", "host")}
    services = [{key: one[key] for key in ("name", "host", "subject_alt_names") if key in one} for one in (partner.arguments, other)]
    made = origination(mesh, {**shared, "services": services}).ok().results()[0]
    assert [service["action"] for service in made["services"]] == ["created", "created"]
    eventually(mesh, partner.host, 200)
    eventually(mesh, other["host"], 200)
    removed = origination(mesh, {**shared, "services": [services[0], {"name": other["name"], "state": "absent"}]}).ok().results()[0]
    assert [service["action"] for service in removed["services"]] == ["unchanged", "deleted"]
    assert [request(mesh, partner.host) for __ in range(5)] == [200] * 5
    assert objects(mesh, other["name"]) == set()


def codes(run: Run) -> list[str]:
    return [problem["code"] for problem in run.failed[0]["problems"]]


def test_what_would_not_work_is_refused_before_anything_is_sent(mesh: Mesh, partner: Partner) -> None:
    mark = mesh.audit_mark()
    missing = {**partner.arguments, "credential_name": f"{partner.name}-none"}
    refused = origination(mesh, missing)
    assert codes(refused) == ["credential_missing"]
    assert f"{partner.name}-none in istio-system" in refused.failed[0]["msg"]
    assert codes(origination(mesh, {**partner.arguments, "gateway": {"port": 8443}})) == ["gateway_port_missing"]
    assert codes(origination(mesh, {**partner.arguments, "gateway": {"service": "none"}})) == ["gateway_service_missing"]
    assert codes(origination(mesh, {**partner.arguments, "rule_export_to": ["*"]})) == ["sidecars_send_plaintext"]
    ahead = origination(mesh, missing, arguments=("--check",)).ok().results()[0]
    assert ahead["changed"] and "credential_missing" in str(ahead["notes"])
    assert writes(mesh, mark, partner) == []


def test_a_gateway_that_may_not_list_secrets(mesh: Mesh, partner: Partner, namespace: str) -> None:
    """istiod asks whether the proxy's service account may; so do we."""
    entry = {"address": "127.0.0.99", "labels": {"app": "gateway"}, "serviceAccount": "powerless"}
    head = {"name": "gateway", "namespace": namespace}
    apply(
        mesh,
        yaml.safe_dump_all(
            [
                {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": head, "spec": entry},
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": head,
                    "spec": {"selector": {"app": "gateway"}, "ports": [{"port": 443, "targetPort": 8443}]},
                },
            ]
        ),
    )
    gateway = {"selector": {"app": "gateway"}, "service": "gateway", "namespace": namespace}
    mesh.kubectl(
        "create", "secret", "generic", partner.name, "-n", namespace, *(f"--from-literal={key}=x" for key in ("cert", "key", "cacert"))
    )
    arguments = {**partner.arguments, "gateway": gateway}
    assert codes(mesh.playbook([{MODULE: arguments}], login="admin")) == ["gateway_may_not_list_secrets"]
    mesh.kubectl("create", "role", "sds", "--verb=get,list,watch", "--resource=secrets", "-n", namespace)
    mesh.kubectl("create", "rolebinding", "sds", "--role=sds", f"--serviceaccount={namespace}:powerless", "-n", namespace)
    mesh.playbook([{MODULE: arguments}], "--check", login="admin").ok()


def test_objects_made_by_hand(mesh: Mesh, partner: Partner) -> None:
    """An older Gateway for the host wins; the change over is possible when asked for, and ends with ours alone."""
    apply(
        mesh,
        f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {partner.name}-by-hand, namespace: istio-system}}
spec:
  selector: {{istio: egressgateway}}
  servers: [{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [{partner.host}], tls: {{mode: ISTIO_MUTUAL}}}}]
""",
    )
    time.sleep(1.1)  # within one second names decide which Gateway is the older one
    try:
        assert codes(origination(mesh, partner.arguments)) == ["gateway_host_taken"]
        warned = origination(mesh, {**partner.arguments, "on_invalid": "warn"}).ok().results()[0]
        assert "gateway_host_taken" in str(warned["warnings"])
        eventually(mesh, partner.host, 404)  # what the check said: istiod dropped the later server, and the older one has no route
    finally:
        mesh.kubectl("delete", "gateways.networking.istio.io", f"{partner.name}-by-hand", "-n", "istio-system")
    eventually(mesh, partner.host, 200)


def test_policies(mesh: Mesh, partner: Partner, namespace: str) -> None:
    closed = {**partner.arguments, "prevent_bypass": True, "client_namespaces": [namespace]}
    made = origination(mesh, closed, closed).ok().results()
    assert [result["changed"] for result in made] == [True, False]
    policy = mesh.get("networkpolicy", namespace, f"{partner.name}-only-through-egress-gateway")
    assert policy["spec"]["policyTypes"] == ["Egress"]
    opened = origination(mesh, {**closed, "prevent_bypass": False}).ok().results()[0]
    assert [(change["kind"], change["action"]) for change in opened["services"][0]["changes"]] == [("NetworkPolicy", "deleted")]


def test_two_hundred_services(mesh: Mesh, partner: Partner) -> None:
    shared = {key: value for key, value in partner.arguments.items() if key not in ("name", "host")}
    services = [{"name": f"{partner.name}-{index}", "host": f"p{index}.{partner.host}"} for index in range(200)]
    everything = {**shared, "subject_alt_names": [partner.host], "services": services}
    try:
        made = origination(mesh, everything).ok().results()[0]
        assert {service["action"] for service in made["services"]} == {"created"}
        for index in (0, 99, 199):
            eventually(mesh, f"p{index}.{partner.host}", 200)
        mark = mesh.audit_mark()
        assert not origination(mesh, everything).ok().results()[0]["changed"]
        assert writes(mesh, mark, partner) == []
        read = collections.Counter(
            (event["objectRef"]["resource"], event["verb"])
            for event in mesh.requests_since(mark, "meshops-operator")
            if event.get("objectRef", {}).get("apiGroup", "").startswith("networking")  # which API groups there are is asked without one
        )
        kinds = ("destinationrules", "gateways", "networkpolicies", "serviceentries", "sidecars", "virtualservices", "workloadentries")
        assert read == {(kind, "list"): 1 for kind in kinds}
    finally:
        gone = origination(mesh, {"services": [{"name": service["name"]} for service in services], "state": "absent"}).ok().results()[0]
    assert {service["action"] for service in gone["services"]} == {"deleted"}
