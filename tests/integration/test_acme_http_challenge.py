# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""acme_http_challenge on the sandbox: Envoy's answers as a public CA asks for them, and that others' routes go on."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from .conftest import Mesh, Pair

Issue = Callable[..., Pair]


@dataclass(frozen=True)
class Web:
    """The ingress gateway, as clients see it."""

    mesh: Mesh
    name: str

    def host(self, label: str) -> str:
        return f"{label}.{self.name}.example.com"

    def get(self, host: str, path: str, scheme: str = "http") -> tuple[int, str, str]:
        """(status, where it redirects to, body)"""
        address = self.mesh.environment["INGRESS_HOST"]
        connection = http.client.HTTPConnection(address, 80, timeout=5)
        if scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # as CAs do behind a redirect
            connection = http.client.HTTPSConnection(host, 443, timeout=5, context=context)
            connection._create_connection = lambda __, *more: socket_to(address, *more)  # type: ignore[attr-defined]
        try:
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            return answer.status, answer.getheader("location") or "", answer.read().decode()
        finally:
            connection.close()

    def ask(self, host: str, token: str) -> tuple[int, str]:
        """As an ACME server asks, which follows redirects."""
        status, location, body = self.get(host, f"/.well-known/acme-challenge/{token}")
        if status == 301:
            place = urlsplit(location)
            assert place.scheme == "https" and place.netloc == host
            status, __, body = self.get(host, place.path, "https")
        return status, body

    def until(self, wanted: Any, ask: Callable[[], Any]) -> None:
        end, found = time.monotonic() + 20, None
        while time.monotonic() < end:
            try:
                found = ask()
            except OSError as error:
                found = error
            if found == wanted:
                return
            time.sleep(0.1)
        raise AssertionError(f"expected {wanted}, found {found}")

    def challenge(self, label: str) -> dict[str, str]:
        return {"host": self.host(label), "token": f"token-{label}", "key_authorization": f"token-{label}.thumbprint"}

    def run(self, *labels: str, flags: tuple[str, ...] = (), **more: Any) -> Any:
        arguments = {"name": f"{self.name}-acme", "challenges": [self.challenge(label) for label in labels], **more}
        return self.mesh.task("acme_http_challenge", arguments, *flags)


def socket_to(address: str, *more: Any) -> Any:
    import socket

    return socket.create_connection((address, 443), *more)


@pytest.fixture(scope="module")
def web(mesh: Mesh, issue: Issue) -> Iterator[Web]:
    """`wild` has a catch-all's route on plain HTTP, `redirect` a redirect and `mutual` one to a server that asks for certificates."""
    one = Web(mesh, f"test-{time.time_ns() % 10**9:09d}")
    pair = issue(one.host("*"))
    credential = {"name": one.name, **pair.paths, "ca_certificate_path": str(pair.ca_path)}
    route = [{"destination": {"host": "httpbin.default.svc.cluster.local", "port": 8000}}]
    same = {"credential_name": one.name, "http_redirect": True, "routes": route}
    servers = [{"hosts": [one.host("redirect")], **same}, {"hosts": [one.host("mutual")], "mode": "MUTUAL", **same}]
    gateway = {"name": one.name, "namespace": "istio-system", "servers": servers}
    about = {"name": f"{one.name}-plain", "namespace": "default"}
    plain = {"hosts": [one.host("*")], "port": {"number": 80, "name": "http", "protocol": "HTTP"}}
    objects = [
        {"kind": "Gateway", "spec": {"selector": {"istio": "ingressgateway"}, "servers": [plain]}},
        {
            "kind": "VirtualService",
            "spec": {
                "hosts": [one.host("*")],
                "gateways": [about["name"]],
                "http": [{"route": [{"destination": {"host": "httpbin", "port": {"number": 8000}}}]}],
            },
        },
    ]
    items = [{"apiVersion": "networking.istio.io/v1", "metadata": about, **each} for each in objects]
    mesh.task("istio_tls_credential", credential).ok()
    mesh.task("ingress_tls_gateway", gateway).ok()
    mesh.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    one.until(202, lambda: one.get(one.host("wild"), "/status/202")[0])
    one.until(202, lambda: one.get(one.host("redirect"), "/status/202", "https")[0])
    yield one
    mesh.task("ingress_tls_gateway", {"name": one.name, "namespace": "istio-system", "state": "absent"})
    mesh.kubectl("delete", "gateway.networking.istio.io,virtualservice", f"{one.name}-plain", "-n", "default")
    mesh.kubectl("delete", "secret", one.name, "-n", "istio-system")


def test_challenges_are_answered_and_nothing_else_changes(web: Web) -> None:
    mark = web.mesh.audit_mark()
    (planned,) = web.run("wild", "redirect", flags=("--check", "--diff")).ok().results("acme_http_challenge")
    assert planned["changed"] and web.mesh.writes_since(mark) == []
    (made,) = web.run("wild", "redirect").ok().results("acme_http_challenge")
    assert planned["changes"] == made["changes"] and {change["kind"] for change in made["changes"]} == {"VirtualService"}
    assert [(probe["scheme"], probe["port"]) for probe in made["probes"]] == [("http", 80), ("https", 443)]
    for label in ("wild", "redirect"):
        web.until((200, f"token-{label}.thumbprint"), lambda label=label: web.ask(web.host(label), f"token-{label}"))  # type: ignore[misc]
    assert web.ask(web.host("wild"), "another")[0] == 404  # httpbin's
    assert web.get(web.host("wild"), "/status/202")[0] == web.get(web.host("neighbour"), "/status/202")[0] == 202
    assert web.get(web.host("redirect"), "/status/202")[:2] == (301, f"https://{web.host('redirect')}/status/202")
    assert web.get(web.host("redirect"), "/status/202", "https")[0] == 202
    mark = web.mesh.audit_mark()
    (again,) = web.run("wild", "redirect").ok().results("acme_http_challenge")
    assert not again["changed"] and web.mesh.writes_since(mark) == []


def test_others_take_the_place_of_those_that_are_over_and_all_goes(web: Web) -> None:
    web.run("wild").ok()
    new = {"host": f"new.{web.name}.example.org", "token": "token-new", "key_authorization": "token-new.thumbprint"}
    (made,) = web.run(challenges=[new]).ok().results("acme_http_challenge")
    assert [change["action"] for change in made["changes"]].count("deleted") == 1  # the answer for wild
    web.until((200, "token-new.thumbprint"), lambda: web.ask(new["host"], "token-new"))
    (gone,) = web.run(state="absent").ok().results("acme_http_challenge")
    assert {change["action"] for change in gone["changes"]} == {"deleted"} and gone["probes"] == []
    left = web.mesh.kubectl("get", "gateway.networking.istio.io,virtualservice", "-A", "-o", "name")
    assert f"{web.name}-acme" not in left and f"{web.name}-plain" in left
    (again,) = web.run(state="absent").ok().results("acme_http_challenge")
    assert not again["changed"]
    assert web.get(web.host("wild"), "/status/202")[0] == 202


def test_where_no_answer_can_be_given_nothing_is_written(web: Web) -> None:
    mark = web.mesh.audit_mark()
    run = web.run("wild", "mutual")
    assert "[challenge_redirected]" in run.failed[0]["msg"] and "asks for a client certificate" in run.failed[0]["msg"]
    assert web.mesh.writes_since(mark) == []
