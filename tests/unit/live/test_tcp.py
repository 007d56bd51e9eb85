# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain TCP as applications speak it to databases: the probe's own, and curl's."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.live import curl, tcp
from ansible_collections.meshops.istio.plugins.module_utils.live.curl import probe_by
from ansible_collections.meshops.istio.plugins.module_utils.live.curl_answer import CurlError, Files, outcome
from ansible_collections.meshops.istio.plugins.module_utils.live.expect import Expect, explain, until
from ansible_collections.meshops.istio.plugins.module_utils.live.probe import probe
from ansible_collections.meshops.istio.plugins.module_utils.live.request import BODY_LIMIT, Request, Result, check
from ansible_collections.meshops.istio.plugins.module_utils.live.tunnel import chosen
from ansible_collections.meshops.istio.tests.unit.live.servers import Handler, Server, listening

HOST = "cache.example.com"


def here(arguments: Sequence[str], data: bytes) -> tuple[int, bytes, bytes]:
    done = subprocess.run(list(arguments), input=data, capture_output=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
PROBES = [pytest.param(probe, id="own"), pytest.param(probe_by(here), id="curl", marks=needs_curl)]
both = pytest.mark.parametrize("ask", PROBES)
Ask = Callable[[Request], Result]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "QUIET_SECONDS", 0.3)
    monkeypatch.setattr(curl, "_TCP_SECONDS", 1.0)


def asked(server: Server, **more: Any) -> Request:
    return Request(**{"host": HOST, "address": server.address, "port": server.port, "scheme": "tcp", "timeout": 2.0, **more})


def until_the_client_ends(connection: socket.socket) -> None:
    while connection.recv(1024):
        pass


def redis(connection: socket.socket) -> None:
    """Speaks when it is spoken to, and leaves the connection open."""
    line = connection.makefile("rb").readline()
    connection.sendall(b"+PONG\r\n" if line == b"PING\r\n" else b"-ERR\r\n")
    until_the_client_ends(connection)


def mail(connection: socket.socket) -> None:
    """Speaks first, and then waits."""
    connection.sendall(b"220 ready\r\n")
    until_the_client_ends(connection)


def daytime(connection: socket.socket) -> None:
    """Speaks, and ends the connection."""
    connection.sendall(b"now")


def reset(connection: socket.socket) -> None:
    connection.recv(1024)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@both
@pytest.mark.parametrize(
    ("handle", "body", "text"),
    [
        (redis, b"PING\r\n", "+PONG\r\n"),
        (redis, b'it\'s \\ "odd"\r\n', "-ERR\r\n"),
        (mail, None, "220 ready\r\n"),
        (daytime, None, "now"),
        (until_the_client_ends, None, ""),
    ],
)
def test_what_the_server_says(ask: Ask, handle: Handler, body: bytes | None, text: str) -> None:
    with listening(handle) as server:
        result = ask(asked(server, body=body))
    assert (result.stage, result.failure, result.text, result.status) == ("tcp", None, text, None)
    assert (result.address, result.sni, result.protocol, result.verified) == ("127.0.0.1", None, None, False)
    assert set(result.timings) == {"dns", "tcp", "total"}


@both
@pytest.mark.parametrize(("handle", "body"), [(lambda __: None, None), (reset, b"PING\r\n")], ids=["closed", "reset"])
def test_an_end_before_any_answer_is_a_failure(ask: Ask, handle: Handler, body: bytes | None) -> None:
    with listening(handle) as server:
        request = asked(server, body=body)
        verdict = until(request, Expect(text="+PONG"), attempt=ask)
    assert (verdict.result.stage, verdict.result.failure) == ("tcp", "connection_reset")
    told = explain(request, verdict)
    assert told.startswith(
        f"tcp://{HOST} at 127.0.0.1:{server.port}: expected the request to succeed, found failure connection_reset at the TCP"
    )
    assert "the gateway's access log names the cause" in told


@both
def test_nothing_listens(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = ask(Request(host=HOST, address="127.0.0.1", port=port, scheme="tcp", timeout=2.0))
    assert (result.stage, result.failure) == ("tcp", "connection_refused")


def test_an_answer_is_waited_for_as_long_as_the_request_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "QUIET_SECONDS", 0.0)

    def slow(connection: socket.socket) -> None:
        connection.recv(1024)
        connection.sendall(b"late")

    with listening(slow) as server:
        assert probe(asked(server, body=b"?", timeout=5.0)).text == "late"


def test_of_very_much_the_beginning_is_kept() -> None:
    with listening(lambda connection: connection.sendall(b"y" * (BODY_LIMIT + 100_000))) as server:
        result = probe(asked(server, timeout=5.0))
    assert (len(result.text), result.text_truncated) == (BODY_LIMIT, True)


def test_an_expectation_that_is_not_met() -> None:
    with listening(redis) as server:
        request = asked(server, body=b"HELLO\r\n")
        verdict = until(request, Expect(text="+PONG"))
        open_connection = until(asked(server, body=b"PING\r\n"), Expect(failure=("connection_reset",)))
    assert verdict.unmet == ("expected text '+PONG' in the body, found '-ERR\\r\\n'",)
    assert open_connection.unmet == ("expected failure connection_reset, found a TCP connection on which '+PONG\\r\\n' was said",)


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"port": None}, "port"),
        ({"ca": b"x"}, "scheme"),
        ({"client_certificate": b"x"}, "scheme"),
        ({"sni": "a.example.com"}, "scheme"),
        ({"headers": {"a": "b"}}, "headers"),
    ],
)
def test_what_cannot_be_asked(more: dict[str, Any], where: str) -> None:
    [problem] = check(Request(**{"host": HOST, "port": 6379, "scheme": "tcp", **more}))
    assert problem.where == where and not check(Request(host=HOST, port=6379, scheme="tcp"))


def test_a_curl_without_telnet() -> None:
    request = Request(host=HOST, port=6379, scheme="tcp")
    said = b'curl: (1) Protocol "telnet" not supported\n\nmeshops-probe-outcome\ntime_connect=0\nmeshops-probe-outcome\n'
    with pytest.raises(CurlError, match="no telnet"):
        outcome(request, Files(), 1, b"", said)


def test_proxies_of_the_environment_are_not_used() -> None:
    environment = {"HTTPS_PROXY": "http://proxy.example.com:3128"}
    given: dict[str, Any] = {"host": HOST, "port": 6379, "address": None, "environment": environment}
    assert chosen(None, scheme="tcp", **given) is None
    assert chosen(None, scheme="tls", **given) is not None
