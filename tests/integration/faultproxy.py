# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTPS proxy on loopback before a real API server, which spoils what it is told to spoil and passes on the rest.

It ends TLS with a certificate of its own, so that it sees requests, and opens TLS anew to the server. A login by token passes through; a
client certificate does not.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trustme

ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    number: int
    """Counted from 1, of its method."""
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    """Monotonic time."""

    @property
    def is_write(self) -> bool:
        return self.method in ("PATCH", "DELETE") and "dryRun" not in self.path

    @property
    def name(self) -> str:
        return urlsplit(self.path).path.rpartition("/")[2]


@dataclass(frozen=True)
class Answer:
    """Answers in the server's stead; the server never sees the request."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def of(cls, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None, **more: Any) -> Answer:
        """As an API server says no."""
        said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason, "message": message, **more}
        return cls(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(said).encode())


@dataclass(frozen=True)
class Break:
    """Breaks the connection: before the server sees the request, or after it acted, so that only its answer is lost."""

    after: bool = False
    midway: bool = False
    """Half of the answer arrives."""
    reset: bool = False
    """With a TCP reset instead of an orderly end."""


@dataclass(frozen=True)
class Hang:
    """Keeps the connection open and says nothing more, as a host does that lost its power."""

    after: bool = False


@dataclass(frozen=True)
class Wait:
    """Passes on, later."""

    seconds: float = 0.0
    until: Callable[[], None] | None = None
    """Returns when it is time."""
    then: Callable[[], None] | None = None
    """Called when the server has answered."""


Fault = Answer | Break | Hang | Wait | None
Decide = Callable[[Request], Fault]


def nothing(__: Request) -> Fault:
    return None


class FaultProxy:
    """`decide` may be changed at any time; it is asked for every request, one at a time."""

    def __init__(self, upstream: str, upstream_ca: Path | str, directory: Path) -> None:
        self.upstream = urlsplit(upstream)
        self.upstream_context = ssl.create_default_context(cafile=str(upstream_ca))
        self.decide: Decide = nothing
        self.requests: list[Request] = []
        self.counts: dict[str, int] = {}
        self.lock = threading.Lock()
        self.over = threading.Event()
        authority = trustme.CA(organization_name="fault proxy")
        self.ca_path = directory / "fault-proxy-ca.crt"
        authority.cert_pem.write_to_path(self.ca_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(ADDRESS).configure_cert(context)
        self.server = _Server((ADDRESS, 0), _handler(self))
        self.server.context = context
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"https://{ADDRESS}:{self.server.server_address[1]}"

    @property
    def writes(self) -> list[Request]:
        return [request for request in list(self.requests) if request.is_write]

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[Request, Fault]:
        with self.lock:
            self.counts[method] = self.counts.get(method, 0) + 1
            request = Request(self.counts[method], method, path, headers, body, time.monotonic())
            self.requests.append(request)
            return request, self.decide(request)

    def reset(self, decide: Decide = nothing) -> None:
        with self.lock:
            self.decide = decide
            self.requests = []
            self.counts = {}

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    context: ssl.SSLContext

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news here."""


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            self.request.settimeout(60)
            self.request = proxy.server.context.wrap_socket(self.request, server_side=True)  # here and not in the thread that accepts
            self.upstream: http.client.HTTPSConnection | None = None
            super().setup()

        def finish(self) -> None:
            if self.upstream:
                self.upstream.close()
            with contextlib.suppress(OSError):
                super().finish()
            with contextlib.suppress(OSError):
                self.request.close()

        def log_message(self, *__: Any) -> None:
            pass

        def pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            if self.upstream is None:
                assert proxy.upstream.hostname
                self.upstream = http.client.HTTPSConnection(
                    proxy.upstream.hostname, proxy.upstream.port, context=proxy.upstream_context, timeout=60
                )
            headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "content-length", "connection")}
            self.upstream.request(self.command, self.path, body or None, headers)
            answer = self.upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()

        def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, share: float = 1.0) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: int(len(body) * share)])
            self.wfile.flush()

        def leave(self, fault: Break) -> None:
            self.close_connection = True
            if fault.reset:
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            __, fault = proxy.ask(self.command, self.path, dict(self.headers.items()), body)
            if isinstance(fault, Wait):
                proxy.over.wait(fault.seconds)
                if fault.until:
                    fault.until()
            if isinstance(fault, Answer):
                return self.answer(fault.status, list(fault.headers.items()), fault.body)
            if isinstance(fault, Break) and not fault.after and not fault.midway:
                return self.leave(fault)
            if isinstance(fault, Hang) and not fault.after:
                self.close_connection = True
                proxy.over.wait(60)
                return None
            try:
                status, headers, data = self.pass_on(body)
            except (OSError, http.client.HTTPException):
                return self.leave(Break())  # the server itself is away
            if isinstance(fault, Wait) and fault.then:
                fault.then()
            if isinstance(fault, Hang):
                self.close_connection = True
                proxy.over.wait(60)
                return None
            if isinstance(fault, Break):
                if fault.midway:
                    self.answer(status, headers, data, share=0.5)
                return self.leave(fault)
            return self.answer(status, headers, data)

        do_GET = do_PATCH = do_DELETE = do_POST = do_PUT = serve

    return Handler


@contextlib.contextmanager
def fault_proxy(upstream: str, upstream_ca: Path | str, directory: Path) -> Iterator[FaultProxy]:
    proxy = FaultProxy(upstream, upstream_ca, directory)
    try:
        yield proxy
    finally:
        proxy.close()
