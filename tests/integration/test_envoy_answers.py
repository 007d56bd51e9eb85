# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real gateway's own answers, each made to happen, and whether tls_probe says what is behind them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml
from ansible_collections.meshops.istio.plugins.module_utils.live.expect import Expect, explain, until
from ansible_collections.meshops.istio.plugins.module_utils.live.request import Request

from .conftest import Mesh

PORT = 18599  # no Service has it, so that the gateway binds it as it is
HTTPBIN = {"host": "httpbin.default.svc.cluster.local", "port": {"number": 8000}}

ANSWERS = {
    # path -> the route's own part, what the probe asks besides, the status, the words
    "/denied": ({"route": [{"destination": HTTPBIN}]}, {}, 403, "AuthorizationPolicy"),
    "/nobody": (None, {}, 404, "no VirtualService"),
    "/no-service": ({"route": [{"destination": {"host": "no-such-service", "port": {"number": 80}}}]}, {}, 503, "Service exists"),
    "/no-subset": ({"route": [{"destination": {**HTTPBIN, "subset": "v9"}}]}, {}, 503, "has the route's subset"),
    "/no-secret": ({"route": [{"destination": {"host": "secret.example.org", "port": {"number": 80}}}]}, {}, 503, "credential of its tls"),
    "/empty": ({"route": [{"destination": {"host": "empty", "port": {"number": 80}}}]}, {}, 503, "no endpoints that are ready"),
    "/closed": ({"route": [{"destination": {"host": "closed.example.org", "port": {"number": 80}}}]}, {}, 503, "refuses the connection"),
    "/slow": ({"timeout": "0.2s", "rewrite": {"uri": "/delay/2"}, "route": [{"destination": HTTPBIN}]}, {}, 504, "raise timeout"),
    "/status/200": ({"route": [{"destination": HTTPBIN}]}, {"headers": {"X-Long": "x" * 70_000}}, 431, "60 KiB"),
    "/status/404": ({"route": [{"destination": HTTPBIN}]}, {}, 404, ""),  # the workload's own
}


def entry(name: str, namespace: str, endpoint: str) -> dict[str, Any]:
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    spec = {
        "hosts": [f"{name}.example.org"],
        "ports": ports,
        "resolution": "STATIC",
        "endpoints": [{"address": endpoint, "ports": {"http": 7777}}],
    }
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def objects(namespace: str, host: str) -> list[dict[str, Any]]:
    place = {"namespace": namespace}
    istio = {"apiVersion": "networking.istio.io/v1"}
    server = {"hosts": [host], "port": {"number": PORT, "name": "http-answers", "protocol": "HTTP"}}
    routes = [{"match": [{"uri": {"prefix": path}}], **route} for path, (route, *__) in ANSWERS.items() if route]
    tls = {"mode": "MUTUAL", "credentialName": "no-such-credential"}
    denied = {"action": "DENY", "rules": [{"to": [{"operation": {"hosts": [host, f"{host}:*"], "paths": ["/denied"]}}]}]}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "empty", **place}, "spec": {"ports": [{"name": "http", "port": 80}]}},
        entry("closed", namespace, "127.0.0.77"),
        entry("secret", namespace, "127.0.0.77"),
        {
            **istio,
            "kind": "DestinationRule",
            "metadata": {"name": "secret", **place},
            "spec": {"host": "secret.example.org", "trafficPolicy": {"tls": tls}},
        },
        {
            **istio,
            "kind": "Gateway",
            "metadata": {"name": "answers", **place},
            "spec": {"selector": {"istio": "ingressgateway"}, "servers": [server]},
        },
        {
            **istio,
            "kind": "VirtualService",
            "metadata": {"name": "answers", **place},
            "spec": {"hosts": [host], "gateways": ["answers"], "http": routes},
        },
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": namespace, "namespace": "istio-system"},
            "spec": {"selector": {"matchLabels": {"istio": "ingressgateway"}}, **denied},
        },
    ]


def test_what_envoy_answers_in_its_own_name_is_explained(mesh: Mesh, namespace: str) -> None:
    host = f"{namespace}.example.com"
    mesh.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects(namespace, host)))
    asked = Request(host, mesh.environment["INGRESS_HOST"], PORT, scheme="http")
    try:
        for path, status in (("/denied", 403), ("/slow", 504)):
            there = until(replace(asked, path=path), Expect(status=(status,)), timeout=20, delay=0.2, consecutive=3)
            assert not there.unmet, there
        for path, (__, more, status, words) in ANSWERS.items():
            request = replace(asked, path=path, **more)
            found = until(request, Expect(status=(299,)))
            told = explain(request, found)
            assert found.result.status == status, told
            assert str(status) in told
            assert (words in told) if words else "answered this" not in told, told
    finally:
        mesh.kubectl("delete", "authorizationpolicy", namespace, "-n", "istio-system", "--wait=false")
