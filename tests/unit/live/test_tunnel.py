# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests through an HTTP proxy: whether there is one, its CONNECT, and who is to blame."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.live.expect import Expect, explain, until
from ansible_collections.meshops.istio.plugins.module_utils.live.probe import probe
from ansible_collections.meshops.istio.plugins.module_utils.live.request import Request
from ansible_collections.meshops.istio.plugins.module_utils.live.tunnel import chosen
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.plugins.module_utils.proxy_choice import parse
from ansible_collections.meshops.istio.tests.unit.live.servers import OK, Pki, Server, http_once, https, listening, server_context

HOST = "a.example.com"
PROXY = "http://somebody:canary@proxy.example.com:3128"
LOGIN = base64.b64encode(b"somebody:canary").decode()


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


@contextlib.contextmanager
def proxy_to(port: int, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> Iterator[Server]:
    """Connects to a port of loopback, whatever it is asked for."""
    server: Server

    def handle(connection: socket.socket) -> None:
        http_once(connection, server, answer)
        if b" 200 " not in answer:
            return
        with socket.create_connection(("127.0.0.1", port), timeout=5) as onward:
            while True:
                for side, other in ((connection, onward), (onward, connection)):
                    if side in select.select([connection, onward], [], [], 5)[0]:
                        data = side.recv(65536)
                        if not data:
                            return
                        other.sendall(data)

    with listening(handle) as server:
        yield server


def through(proxy: Server, **more: object) -> Request:
    named = parse(f"http://somebody:canary@127.0.0.1:{proxy.port}", "HTTPS_PROXY")
    return Request(HOST, proxy=named, timeout=5.0, **more)  # type: ignore[arg-type]


def test_tls_goes_through_a_tunnel(pki: Pki, tmp_path: Path) -> None:
    with https(server_context(tmp_path, pki.server)) as server, proxy_to(server.port) as proxy:
        result = probe(through(proxy, ca=pki.root.pem))
    assert (result.failure, result.status, result.verified, result.address) == (None, 200, True, None)
    assert result.proxy == f"http://127.0.0.1:{proxy.port}"
    assert server.snis == [HOST]
    assert proxy.requests[0].startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n".encode())
    assert f"\r\nProxy-Authorization: Basic {LOGIN}\r\n".encode() in proxy.requests[0]
    assert b"Proxy-Authorization" not in server.requests[0]


def test_an_untrusted_chain_is_seen_through_the_tunnel(pki: Pki, tmp_path: Path) -> None:
    with https(server_context(tmp_path, pki.server)) as server, proxy_to(server.port) as proxy:
        verdict = until(through(proxy, ca=Pki().root.pem, port=8443), Expect())
    assert verdict.result.failure == "unknown_ca" and verdict.result.peer_chain
    assert proxy.requests[0].startswith(f"CONNECT {HOST}:8443 ".encode())
    message = explain(through(proxy), verdict)
    assert "port 8443 through the proxy http://***@127.0.0.1" in message and "a proxy that opens TLS" in message and "canary" not in message


def test_plain_http_is_asked_of_the_proxy() -> None:
    server: Server
    with listening(lambda connection: http_once(connection, server, OK)) as server:
        assert probe(through(server, scheme="http", path="/a?b")).status == 200
    head = server.requests[0].decode()
    assert head.startswith(f"GET http://{HOST}:80/a?b HTTP/1.1\r\n") and f"\r\nHost: {HOST}\r\n" in head
    assert f"Proxy-Authorization: Basic {LOGIN}" in head


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "it refuses the login (HTTP/1.1 407"),
        (b"HTTP/1.1 403 Forbidden\r\nX: y\r\n\r\n", f"it does not connect to {HOST}:443 (HTTP/1.1 403 Forbidden)"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "not HTTP"),
        (b"", "it ended the connection"),
        (b"x" * 100_000, "no end"),
    ],
)
def test_the_proxys_failures_are_not_the_servers(answer: bytes, told: str) -> None:
    with proxy_to(1, answer) as proxy:
        verdict = until(through(proxy), Expect(failure=("connection_reset", "connection_refused")))
    assert verdict.result.failure == "proxy_failed" and verdict.unmet
    message = explain(through(proxy), verdict)
    assert told in message and "named by HTTPS_PROXY" in message and "NO_PROXY" in message and "canary" not in message


def test_a_proxy_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for proxy in (f"http://127.0.0.1:{port}", "http://nowhere.invalid:1"):
        result = probe(Request(HOST, proxy=parse(proxy, "request_proxy")))
        assert result.failure == "proxy_failed" and "named by request_proxy" in result.detail


def test_a_proxy_that_wants_a_login_for_plain_http() -> None:
    server: Server
    answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with listening(lambda connection: http_once(connection, server, answer)) as server:
        assert probe(through(server, scheme="http")).failure == "proxy_failed"


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        ({}, {}, None),
        ({}, {"HTTPS_PROXY": PROXY}, "http://proxy.example.com:3128"),
        ({"scheme": "tls"}, {"https_proxy": "proxy.example.com:3128"}, "http://proxy.example.com:3128"),
        ({"scheme": "http"}, {"HTTPS_PROXY": PROXY}, None),
        ({"scheme": "http"}, {"HTTP_PROXY": PROXY}, "http://proxy.example.com:3128"),
        ({}, {"ALL_PROXY": PROXY}, None),
        ({}, {"HTTPS_PROXY": PROXY, "NO_PROXY": "example.com"}, None),
        ({"host": "A.example.com."}, {"HTTPS_PROXY": PROXY, "NO_PROXY": "a.example.com"}, None),
        ({"host": "münchen.example"}, {"HTTPS_PROXY": PROXY, "NO_PROXY": "xn--mnchen-3ya.example"}, None),
        ({"host": "127.0.0.1"}, {"HTTPS_PROXY": PROXY}, None),
        ({"host": "[::1]"}, {"HTTPS_PROXY": PROXY}, None),
        ({"host": "not a host"}, {"HTTPS_PROXY": PROXY}, None),
        ({"address": "192.0.2.1"}, {"HTTPS_PROXY": PROXY}, None),
        ({"option": "none"}, {"HTTPS_PROXY": PROXY}, None),
        ({"option": ""}, {"HTTPS_PROXY": PROXY}, None),
        ({"option": "http://other:1", "address": "192.0.2.1"}, {"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, "http://other:1"),
    ],
)
def test_which_proxy(given: dict[str, str], environment: dict[str, str], expected: str | None) -> None:
    options: dict[str, object] = {"option": None, "scheme": "https", "host": HOST, "port": 443, "address": None, **given}
    found = chosen(environment=environment, **options)  # type: ignore[arg-type]
    assert (found.url if found else None) == expected


@pytest.mark.parametrize(
    ("option", "environment"),
    [("socks5://somebody:canary@proxy:1", {}), (None, {"HTTPS_PROXY": "https://somebody:canary@proxy"}), ("ftp://canary@x", {})],
)
def test_proxies_that_are_not_used_are_refused(option: str | None, environment: dict[str, str]) -> None:
    with pytest.raises(Rejected) as rejected:
        chosen(option, scheme="https", host=HOST, port=443, address=None, environment=environment)
    (problem,) = rejected.value.problems
    assert "canary" not in str(problem) and "prox" in str(problem)
