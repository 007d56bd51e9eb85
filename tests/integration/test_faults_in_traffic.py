# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What objects cannot show: a gateway that goes on with what it had. Seen by handshakes and in its proxy, and named with the cause."""

from __future__ import annotations

import socket
import ssl
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from .conftest import Mesh, Pair
from .test_gateway_diagnose import ADMIN, diagnosis
from .test_rights import apply

Issue = Callable[..., Pair]
PATIENCE = 20.0


class Host:
    """A host at the sandbox's ingress gateway, and its Secret as the test changes it."""

    def __init__(self, mesh: Mesh, name: str) -> None:
        self.mesh, self.name, self.host = mesh, name, f"{name}.example.com"
        place = {"name": name, "namespace": "istio-system"}
        tls = {"mode": "SIMPLE", "credentialName": name}
        port = {"number": 443, "name": f"https-{name}", "protocol": "HTTPS"}
        gateway = {"selector": {"istio": "ingressgateway"}, "servers": [{"port": port, "hosts": [self.host], "tls": tls}]}
        destination = {"destination": {"host": "httpbin.default.svc.cluster.local", "port": {"number": 8000}}}
        route = {"hosts": [self.host], "gateways": [name], "http": [{"route": [destination]}]}
        istio = {"apiVersion": "networking.istio.io/v1", "metadata": place}
        apply(mesh, [{**istio, "kind": "Gateway", "spec": gateway}, {**istio, "kind": "VirtualService", "spec": route}])

    def store(self, certificate: Pair, key: Pair) -> None:
        data = {"tls.crt": certificate.certificate, "tls.key": key.private_key}
        place = {"name": self.name, "namespace": "istio-system"}
        apply(self.mesh, [{"apiVersion": "v1", "kind": "Secret", "metadata": place, "stringData": data}])

    def delete(self, *kinds: str) -> None:
        self.mesh.kubectl("delete", ",".join(kinds), self.name, "-n", "istio-system", "--ignore-not-found")

    def served(self) -> str:
        address = (self.mesh.environment["INGRESS_HOST"], int(self.mesh.environment["SECURE_INGRESS_PORT"]))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with socket.create_connection(address, 5) as plain, context.wrap_socket(plain, server_hostname=self.host) as secured:
                return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"")
        except OSError:
            return ""

    def serves(self, pair: Pair) -> None:
        deadline = time.monotonic() + PATIENCE
        while not (served := self.served().strip()) or served not in pair.certificate:
            assert time.monotonic() < deadline, f"{self.host} is not served with it"
            time.sleep(0.2)

    def goes_on_serving(self, pair: Pair, seconds: float = 3.0) -> None:
        """Without a break: what istiod sent last has arrived, and the listener is not on its way to another one."""
        self.serves(pair)
        deadline, since = time.monotonic() + PATIENCE, time.monotonic()
        while time.monotonic() < since + seconds:
            if not (served := self.served().strip()) or served not in pair.certificate:
                since = time.monotonic()
            assert time.monotonic() < deadline, f"{self.host} is not served without a break"
            time.sleep(0.1)

    def found(self) -> dict[str, list[str]]:
        """The findings about the host's objects: code to what explains it."""
        result = diagnosis(self.mesh, handshakes=True, proxies=True, admin_urls=ADMIN)
        mine = [one for one in result["findings"] if any(ref["name"] == self.name for ref in one["objects"])]
        return {one["code"]: one.get("explained_by", []) for one in mine}


@pytest.fixture
def host(mesh: Mesh) -> Iterator[Host]:
    made = Host(mesh, f"test-{uuid.uuid4().hex[:8]}")
    yield made
    made.delete("gateways.networking.istio.io", "virtualservices.networking.istio.io", "secrets")


def test_an_update_that_the_proxy_refused(host: Host, issue: Issue) -> None:
    """Modes 11 and 16: the old certificate is served on, and the key of another certificate is why."""
    old, new = issue(host.host), issue(host.host)
    host.store(old, old)
    host.serves(old)
    assert host.found() == {}
    host.store(new, old)
    host.goes_on_serving(old)
    found = host.found()
    assert found.pop("key_mismatch") == []
    assert found["another_certificate_served"] == ["MIT0204"]
    assert all(causes == ["MIT0204"] for causes in found.values())
    host.store(new, new)
    host.serves(new)
    assert host.found() == {}


def test_a_deleted_secret_is_served_on(host: Host, issue: Issue) -> None:
    """Mode 12."""
    pair = issue(host.host)
    host.store(pair, pair)
    host.goes_on_serving(pair)
    host.delete("secrets")
    host.goes_on_serving(pair)
    assert host.found() == {"credential_missing": [], "deleted_credential_served": ["MIT0101"]}


def test_a_client_without_sni_is_no_fault_of_the_mesh(host: Host, issue: Issue, mesh: Mesh) -> None:
    """Mode 24: nothing is found, the probe with the name succeeds, and the one without it gets nothing."""
    pair = issue(host.host)
    host.store(pair, pair)
    host.serves(pair)
    address = mesh.environment["INGRESS_HOST"]
    common = {
        "address": address,
        "port": int(mesh.environment["SECURE_INGRESS_PORT"]),
        "ca_certificate_path": str(pair.ca_path),
        "path": "/status/418",
    }
    named = {**common, "host": host.host, "expect": {"status": 418}}
    nameless = {**common, "host": host.host, "sni": "", "expect": {"failure": "connection_reset"}}
    mesh.playbook([{"meshops.istio.tls_probe": one} for one in (named, nameless)]).ok()
    assert host.found() == {}
