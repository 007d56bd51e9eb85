# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listeners of the Gateway API on the pods of an Istio Gateway, and credentials that need a ReferenceGrant: what we say of them, and what istiod
and Envoy make of them. A handshake tells whose server answers: by its certificate.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from .conftest import Mesh, Pair

Issue = Callable[..., Pair]
API = "gateway.networking.k8s.io"
SERVICE = "istio-ingressgateway"
PATIENCE = 20.0
CREDENTIALS = "secrets,gateways.networking.istio.io,gateways.gateway.networking.k8s.io,listenersets.gateway.networking.k8s.io"


def eventually(answers: Callable[[], Any], what: str, consecutive: int = 1) -> Any:
    deadline = time.monotonic() + PATIENCE
    seen: list[Any] = []
    while time.monotonic() < deadline:
        seen.append(answers())
        if len(seen) >= consecutive and all(seen[-consecutive:]):
            return seen[-1]
        time.sleep(0.2)
    raise AssertionError(f"not within {PATIENCE} s: {what}; the last answers: {seen[-3:]}")


def served(mesh: Mesh, host: str, client: Pair | None = None) -> bytes:
    """The certificate that the ingress gateway shows for a host, as DER; empty where there is no handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if client:
        context.load_cert_chain(client.certificate_path, client.private_key_path)
    try:
        address = (mesh.environment["INGRESS_HOST"], int(mesh.environment["SECURE_INGRESS_PORT"]))
        with socket.create_connection(address, 5) as plain, context.wrap_socket(plain, server_hostname=host) as secured:
            shown = secured.getpeercert(binary_form=True) or b""
            secured.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return shown if secured.recv(16).startswith(b"HTTP/1.1 ") else b""  # in TLS 1.3 a refused client is told that late
    except OSError:
        return b""


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")


def apply(mesh: Mesh, *objects: dict[str, Any]) -> None:
    mesh.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))


def secret(name: str, namespace: str, pair: Pair, ca: Pair | None = None) -> dict[str, Any]:
    data = {"tls.crt": pair.certificate, "tls.key": pair.private_key, **({"ca.crt": ca.ca} if ca else {})}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": data}


class Place:
    """Names of a test's own, in istio-system where the ingress gateway runs."""

    def __init__(self, mesh: Mesh, name: str, issue: Issue) -> None:
        self.mesh, self.name, self.host = mesh, name, f"{name}.example.com"
        self.theirs, self.ours = issue(self.host, ca="theirs"), issue(self.host, f"other-{self.host}", ca="ours")
        apply(mesh, secret(f"{name}-theirs", "istio-system", self.theirs), secret(f"{name}-ours", "istio-system", self.ours))

    def listener(self, host: str, routes: str = "All", port: int = 443, protocol: str = "HTTPS") -> dict[str, Any]:
        tls = {"tls": {"certificateRefs": [{"name": f"{self.name}-theirs"}]}} if protocol == "HTTPS" else {}
        allowed = {"namespaces": {"from": routes}}
        return {"name": "one", "port": port, "protocol": protocol, "hostname": host, "allowedRoutes": allowed, **tls}

    def api_gateway(self, *listeners: dict[str, Any], **spec: Any) -> None:
        address = {"type": "Hostname", "value": f"{SERVICE}.istio-system.svc.cluster.local"}
        metadata = {"name": self.name, "namespace": "istio-system"}
        spec = {"gatewayClassName": "istio", "addresses": [address], "listeners": list(listeners), **spec}
        apply(self.mesh, {"apiVersion": f"{API}/v1", "kind": "Gateway", "metadata": metadata, "spec": spec})

    def ours_is_made(self, *hosts: str, **options: Any) -> str:
        """Makes our Gateway; what was said about it."""
        server = {"hosts": list(hosts or (self.host,)), "credential_name": f"{self.name}-ours", **options}
        run = self.mesh.task("ingress_tls_gateway", {"name": self.name, "namespace": "istio-system", "servers": [server]}).ok()
        return " ".join(str(warning) for warning in run.results()[0].get("warnings") or ())

    def shows(self, pair: Pair, host: str = "", times: int = 5) -> None:
        expected = der(pair)
        eventually(lambda: served(self.mesh, host or self.host) == expected, f"{host or self.host} by {pair.certificate_path.name}", times)

    def status(self) -> dict[str, str]:
        """The conditions of the listener."""
        found = json.loads(self.mesh.kubectl("get", f"gateways.{API}", self.name, "-n", "istio-system", "-o", "json"))
        listeners = found.get("status", {}).get("listeners") or [{}]
        return {one["type"]: one["status"] for one in listeners[0].get("conditions") or ()}


@pytest.fixture
def place(mesh: Mesh, issue: Issue, credential_name: str, gateway_api: None) -> Iterator[Place]:
    yield Place(mesh, credential_name, issue)
    names = [credential_name, f"{credential_name}-theirs", f"{credential_name}-ours"]
    mesh.kubectl("delete", CREDENTIALS, *names, "-n", "istio-system", "--ignore-not-found", "--wait=true")


def test_an_older_listener_keeps_the_host(place: Place) -> None:
    place.api_gateway(place.listener(place.host))
    place.shows(place.theirs)
    time.sleep(1.1)  # within one second names decide
    told = place.ours_is_made()
    assert "host_conflict" in told and "that listener is the older one" in told and f"istio-system/{place.name} (Gateway API)" in told
    place.shows(place.theirs)
    # our server is dropped with all its hosts: what is said of it holds for the other one, too
    told = place.ours_is_made(place.host, f"other-{place.host}")
    assert "drops this server with all its hosts" in told
    time.sleep(2)
    assert served(place.mesh, f"other-{place.host}") == b""


def test_an_older_gateway_of_ours_keeps_the_host_and_the_listeners_status_says_nothing(place: Place) -> None:
    assert place.ours_is_made() == ""
    place.shows(place.ours)
    time.sleep(1.1)  # within one second names decide
    place.api_gateway(place.listener(place.host))
    eventually(lambda: place.status().get("Programmed") == "True", "the listener is programmed, it says")
    told = place.ours_is_made()
    assert "this Gateway is the older one" in told
    place.shows(place.ours)


def test_a_listener_for_routes_of_one_namespace_breaks_the_port(place: Place) -> None:
    """istiod compares `istio-system/host` with `host`, and finds them different; Envoy does not."""
    place.api_gateway(place.listener(place.host, routes="Same"))
    place.shows(place.theirs)
    time.sleep(1.1)
    told = place.ours_is_made()
    assert "host_conflict" in told and "proxies refuse the whole listener" in told
    # what comes to the port from now on is not served either
    head = {"name": f"{place.name}-ours", "namespace": "istio-system"}
    port = {"number": 443, "name": "https", "protocol": "HTTPS"}
    tls = {"mode": "SIMPLE", "credentialName": f"{place.name}-ours"}
    spec = {"selector": {"istio": "ingressgateway"}, "servers": [{"hosts": [f"other-{place.host}"], "port": port, "tls": tls}]}
    apply(place.mesh, {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": head, "spec": spec})
    time.sleep(3)
    assert served(place.mesh, f"other-{place.host}") == b""
    place.mesh.kubectl("delete", f"gateways.{API}", place.name, "-n", "istio-system")
    place.shows(place.ours, f"other-{place.host}")


def test_other_hosts_and_other_ports_do_not_matter(place: Place) -> None:
    place.api_gateway(place.listener(f"else.{place.host}"), {**place.listener(place.host, port=9443), "name": "two"})
    assert place.ours_is_made() == ""
    place.shows(place.ours)
    place.shows(place.theirs, f"else.{place.host}")


def test_plain_http_on_the_port_for_tls(place: Place) -> None:
    place.api_gateway(place.listener(place.host, protocol="HTTP"))
    time.sleep(1.1)
    told = place.ours_is_made()
    assert "port_conflict" in told and "the one of this Gateway, which is the younger" in told
    time.sleep(2)
    assert served(place.mesh, place.host) == b""


def test_plain_http_that_comes_later_to_the_port_for_tls(place: Place) -> None:
    """istiod serves both: what is no TLS goes to the listener."""
    assert place.ours_is_made() == ""
    place.shows(place.ours)
    time.sleep(1.1)
    place.api_gateway(place.listener(place.host, protocol="HTTP"))
    eventually(lambda: place.status().get("Programmed") == "True", "the listener is programmed")
    address = (place.mesh.environment["INGRESS_HOST"], int(place.mesh.environment["SECURE_INGRESS_PORT"]))

    def plain() -> bool:
        try:
            with socket.create_connection(address, 5) as connection:
                connection.sendall(f"GET / HTTP/1.1\r\nHost: {place.host}\r\nConnection: close\r\n\r\n".encode())
                return connection.recv(16).startswith(b"HTTP/1.1 ")
        except OSError:  # until the proxy has the listener, plain text is reset
            return False

    eventually(plain, "plain HTTP is answered", 3)
    place.shows(place.ours)
    assert place.ours_is_made() == ""


def test_a_listener_set(place: Place) -> None:
    place.api_gateway(place.listener(f"else.{place.host}"), allowedListeners={"namespaces": {"from": "Same"}})
    metadata = {"name": place.name, "namespace": "istio-system"}
    spec = {"parentRef": {"name": place.name}, "listeners": [place.listener(place.host)]}
    apply(place.mesh, {"apiVersion": f"{API}/v1", "kind": "ListenerSet", "metadata": metadata, "spec": spec})
    place.shows(place.theirs)
    time.sleep(1.1)
    told = place.ours_is_made()
    assert "host_conflict" in told and f"ListenerSet istio-system/{place.name}" in told and "that listener is the older one" in told
    place.shows(place.theirs)


def grant(place: Place, namespace: str, **to: str) -> None:
    spec = {"from": [{"group": API, "kind": "Gateway", "namespace": "istio-system"}], "to": [{"group": "", "kind": "Secret", **to}]}
    metadata = {"name": "certs", "namespace": namespace}
    apply(place.mesh, {"apiVersion": f"{API}/v1beta1", "kind": "ReferenceGrant", "metadata": metadata, "spec": spec})


@pytest.mark.parametrize("granted", ["shop", "other"])
def test_a_credential_of_another_namespace_needs_a_grant(place: Place, namespace: str, granted: str) -> None:
    apply(place.mesh, secret("shop", namespace, place.theirs))
    grant(place, namespace, name=granted)
    told = place.ours_is_made(credential_name=f"kubernetes-gateway://{namespace}/shop")
    if granted == "shop":
        assert told == ""
        place.shows(place.theirs)
    else:
        assert "reference_not_granted" in told
        time.sleep(3)
        assert served(place.mesh, place.host) == b""


def test_a_gateway_object_elsewhere_gets_no_credential_so(place: Place, namespace: str) -> None:
    reference = f"kubernetes-gateway://istio-system/{place.name}-theirs"
    server = {"hosts": [place.host], "credential_name": reference}
    run = place.mesh.task("ingress_tls_gateway", {"name": "shop", "namespace": namespace, "servers": [server]}).ok()
    assert "credential_in_other_namespace" in str(run.results()[0].get("warnings"))
    time.sleep(3)
    assert served(place.mesh, place.host) == b""
    place.mesh.kubectl("delete", "gateways.networking.istio.io", "shop", "-n", namespace)
    reference = f"kubernetes-gateway://istio-system/{place.name}-ours"
    assert place.ours_is_made(credential_name=reference) == "", "in the proxies' namespace it needs no grant"
    place.shows(place.ours)


@pytest.mark.parametrize("mode", ["MUTUAL", "OPTIONAL_MUTUAL"])
def test_optional_client_certificates_with_such_a_credential_lack_their_ca(place: Place, issue: Issue, mode: str) -> None:
    client = issue("client.example.com", ca="clients")
    apply(place.mesh, secret(f"{place.name}-theirs", "istio-system", place.theirs, ca=client))
    told = place.ours_is_made(credential_name=f"kubernetes-gateway://istio-system/{place.name}-theirs", mode=mode)
    if mode == "MUTUAL":
        assert told == ""
        eventually(lambda: served(place.mesh, place.host, client) == der(place.theirs), "a client is admitted", 3)
    else:
        assert "ca_not_served" in told
        time.sleep(3)
        assert served(place.mesh, place.host, client) == b""


# --- followed by a diagnosis


def http_route(name: str, gateway: str, host: str, backend: str) -> dict[str, Any]:
    parent = {"name": gateway, "namespace": "istio-system"}
    spec = {"parentRefs": [parent], "hostnames": [host], "rules": [{"backendRefs": [{"name": backend, "port": 8000}]}]}
    return {"apiVersion": f"{API}/v1", "kind": "HTTPRoute", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def test_a_diagnosis_follows_http_routes_and_sees_what_istiod_refuses(place: Place) -> None:
    lost = f"lost-{place.host}"
    place.api_gateway(place.listener(place.host), {**place.listener(lost, port=80, protocol="HTTP"), "name": "two"})
    spec = {
        "parentRef": {"name": place.name},
        "listeners": [{"name": "more", "port": 80, "protocol": "HTTP", "hostname": f"more-{place.host}"}],
    }
    metadata = {"name": place.name, "namespace": "istio-system"}
    apply(place.mesh, {"apiVersion": f"{API}/v1", "kind": "ListenerSet", "metadata": metadata, "spec": spec})
    routes = (f"{place.name}-a", f"{place.name}-b")
    try:
        apply(place.mesh, http_route(routes[0], place.name, place.host, "httpbin"), http_route(routes[1], place.name, lost, "gone"))
        said = "{.status.parents[0].conditions[?(@.type=='ResolvedRefs')].status}"
        for name, answer in zip(routes, ("True", "False"), strict=True):
            place.mesh.kubectl("wait", f"--for=jsonpath={said}={answer}", "--timeout=60s", f"httproutes/{name}", "-n", "default")
        place.mesh.kubectl("wait", "--for=condition=Accepted=False", "--timeout=60s", f"listenersets/{place.name}", "-n", "istio-system")
        run = place.mesh.task("gateway_diagnose", {"explain": [place.host, lost], "fail_on": "never"}).ok()
    finally:
        place.mesh.kubectl("delete", "httproutes", *routes, "-n", "default", "--ignore-not-found")
    (result,) = run.results()
    good, bad = ({one["stage"]: (one["state"], one["what"]) for one in told["stages"]} for told in result["explained"])
    assert good["route"] == ("right", f"HTTPRoute default/{routes[0]} (Gateway API) leads to httpbin.default.svc.cluster.local")
    assert good["destination"][0] == "right" and bad["route"][0] == "broken" and "BackendNotFound" in bad["route"][1]
    refused = [one for one in result["findings"] if one["code"] == "listener_set_refused"]
    assert [one["objects"][0]["name"] for one in refused] == [place.name]
