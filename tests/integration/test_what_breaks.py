# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said to break a route does break it, and what is not mentioned works: AuthorizationPolicies and Sidecars before the real Envoys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from .conftest import Mesh, Pair
from .test_egress_origination import MODULE, Partner, eventually, partner, request

__all__ = ["partner"]  # a fixture

ROOT_NAMESPACE = "istio-system"
CLIENTS = "default"
"""The namespace of the sandbox's client."""


def policy(name: str, gateway: str, namespace: str = ROOT_NAMESPACE, **spec: Any) -> dict[str, Any]:
    head = {"name": name, "namespace": namespace}
    selector = {"selector": {"matchLabels": {"istio": gateway}}}
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": head, "spec": {**selector, **spec}}


def to(**operation: Any) -> dict[str, Any]:
    return {"rules": [{"to": [{"operation": operation}]}]}


def of(**source: Any) -> dict[str, Any]:
    return {"rules": [{"from": [{"source": source}]}]}


@pytest.fixture
def applied(mesh: Mesh) -> Iterator[Callable[..., None]]:
    """Applies objects, which are gone after the test."""
    made: list[dict[str, Any]] = []

    def apply(*objects: dict[str, Any]) -> None:
        made.extend(objects)
        mesh.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    yield apply
    if made:
        mesh.kubectl("delete", "--ignore-not-found", "--wait=true", "-f", "-", stdin=yaml.safe_dump_all(made))


def warnings(mesh: Mesh, module: str, arguments: dict[str, Any]) -> str:
    return " ".join(str(one) for one in mesh.playbook([{module: arguments}]).ok().results()[0].get("warnings") or ())


EGRESS: dict[str, tuple[dict[str, Any], int]] = {
    # name: (the policy's spec, the answer of the gateway)
    "allows nothing": ({}, 403),
    "allows every request": ({"rules": [{}]}, 200),
    "allows another host": (to(hosts=["other.example.org"]), 403),
    "allows the host": (to(hosts=["HOST"]), 200),
    "allows the host, with its port": (to(hosts=["HOST:*", "HOST"]), 200),
    "allows hosts by their end": (to(hosts=["*.example.org"]), 200),
    "allows another port": (to(ports=["1"]), 403),
    "allows the clients": (of(namespaces=[CLIENTS]), 200),
    "allows other clients": (of(namespaces=["elsewhere"]), 403),
    "allows the clients by their principal": (of(principals=["cluster.local/ns/elsewhere/sa/client"]), 403),
    "denies the clients": ({"action": "DENY", **of(namespaces=[CLIENTS])}, 403),
    "denies others": ({"action": "DENY", **of(notNamespaces=[CLIENTS])}, 200),
    "denies the host": ({"action": "DENY", **to(hosts=["HOST"])}, 403),
    "denies another host": ({"action": "DENY", **to(hosts=["other.example.org"])}, 200),
    "is for another gateway": ({"selector": {"matchLabels": {"istio": "none"}}}, 200),
}


def test_policies_at_the_egress_gateway(mesh: Mesh, partner: Partner, applied: Callable[..., None]) -> None:
    arguments = {**partner.arguments, "client_namespaces": [CLIENTS]}
    assert "authorization_refuses" not in warnings(mesh, MODULE, arguments)
    eventually(mesh, partner.host, 200)
    wrong = {}
    for name, (spec, status) in EGRESS.items():
        text = yaml.safe_dump(policy(partner.name, "egressgateway", **spec)).replace("HOST", partner.host)
        applied(yaml.safe_load(text))
        if status == 200:
            time.sleep(1)  # what a policy leaves as it was is seen only after it had the time to change it
        eventually(mesh, partner.host, status, 5)
        told = "authorization_refuses" in warnings(mesh, MODULE, arguments)
        if told is not (status == 403):
            wrong[name] = (status, told)
    assert wrong == {}


INGRESS: dict[str, tuple[dict[str, Any], int]] = {
    "allows nothing": ({}, 403),
    "allows another host": (to(hosts=["other.example.com"]), 403),
    "allows the host": (to(hosts=["HOST"]), 418),
    "allows clients of the mesh": (of(namespaces=[CLIENTS]), 403),
    "denies clients of the mesh": ({"action": "DENY", **of(namespaces=[CLIENTS])}, 418),
    "denies everybody": ({"action": "DENY", "rules": [{}]}, 403),
}


def test_policies_at_the_ingress_gateway(
    mesh: Mesh, issue: Callable[..., Pair], namespace: str, credential_name: str, applied: Callable[..., None]
) -> None:
    host = f"{namespace}.example.com"
    pair = issue(host)
    mesh.task("istio_tls_credential", {"name": credential_name, **pair.paths}).ok()
    route = {"destination": {"host": "httpbin.default.svc.cluster.local", "port": 8000}}
    gateway = {
        "name": "shop",
        "namespace": namespace,
        "servers": [{"hosts": [host], "credential_name": credential_name, "routes": [route]}],
    }
    module = "meshops.istio.ingress_tls_gateway"
    assert "authorization_refuses" not in warnings(mesh, module, gateway)
    wrong = {}
    for name, (spec, status) in INGRESS.items():
        applied(yaml.safe_load(yaml.safe_dump(policy(namespace, "ingressgateway", **spec)).replace("HOST", host)))
        time.sleep(1)
        probe = {
            "host": host,
            "address": mesh.environment["INGRESS_HOST"],
            "port": int(mesh.environment["SECURE_INGRESS_PORT"]),
            "ca_certificate_path": str(pair.ca_path),
            "path": "/status/418",
            "expect": {"status": [status]},
            "timeout": 20,
            "delay": 0.2,
            "consecutive": 3,
        }
        mesh.task("tls_probe", probe).ok()
        told = "authorization_refuses" in warnings(mesh, module, gateway)
        if told is not (status == 403):
            wrong[name] = (status, told)
    assert wrong == {}


def sidecar(name: str, *hosts: str) -> dict[str, Any]:
    head = {"name": name, "namespace": CLIENTS}
    spec = {"egress": [{"hosts": list(hosts)}]}
    return {"apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": head, "spec": spec}


def test_a_sidecar_that_hides_the_route(mesh: Mesh, partner: Partner, applied: Callable[..., None]) -> None:
    arguments = {**partner.arguments, "client_namespaces": [CLIENTS]}
    assert "sidecar_hides" not in warnings(mesh, MODULE, arguments)
    eventually(mesh, partner.host, 200)
    applied(sidecar(partner.name, "./*"))
    assert "sidecar_hides" in warnings(mesh, MODULE, arguments)
    time.sleep(2)
    partner.serials.clear()
    assert [request(mesh, partner.host) for __ in range(3)].count(200) == 0 and partner.serials == []
    applied(sidecar(partner.name, "./*", "istio-system/*"))
    assert "sidecar_hides" not in warnings(mesh, MODULE, arguments)
    eventually(mesh, partner.host, 200)
