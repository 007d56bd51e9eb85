# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One TLS handshake, HTTP(S) request or plain TCP connection, as `curl --resolve` makes it, and what came of it stage by stage.

Nothing is pooled, no redirect is followed, and a proxy is used only where the request names one.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

from ..problems import Rejected
from ..tls import names
from . import tunnel
from .answers import decode
from .handshake import Contexts, described, shake_hands, tls_failure
from .reach import first_hop, reach
from .request import BODY_LIMIT, Failed, Request, Result, Stage, check
from .tcp import converse
from .wire import Wire


def probe(request: Request, contexts: Contexts | None = None) -> Result:
    """Make the request once, on a fresh connection. Raises Rejected when it cannot be made as asked. `contexts` are kept from one request to
    the next."""
    problems = check(request)
    if problems:
        raise Rejected(problems)
    context = None if request.scheme in ("http", "tcp") else (contexts or Contexts()).of(request)
    started = time.monotonic()
    deadline = started + request.timeout
    seen: dict[str, Any] = {"port": request.target_port, "sni": request.sent_sni, "proxy": request.proxy.url if request.proxy else None}
    timings: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(name: Stage) -> Iterator[None]:
        seen["stage"] = name
        began = time.monotonic()
        try:
            yield
        finally:
            timings[name] = round((time.monotonic() - began) * 1000, 1)

    with contextlib.ExitStack() as opened:
        try:
            with stage("dns"):
                addresses = first_hop(request, deadline)
            with stage("tcp"):
                connection = opened.enter_context(reach(addresses, request, deadline, seen))
                if request.scheme == "tcp":
                    seen.update(converse(connection, request, deadline))
            if context is not None:
                with stage("tls"):
                    connection = opened.enter_context(shake_hands(connection, context, request, deadline, seen))
            if request.scheme in ("https", "http"):
                with stage("http"):
                    _exchange(connection, request, deadline, seen)
        except Failed as failed:
            seen.update(failure=failed.failure, detail=failed.detail, alert=failed.alert)
    timings["total"] = round((time.monotonic() - started) * 1000, 1)
    chain = seen.pop("chain", ())
    return Result(**seen, timings=timings, peer_chain=described(chain))


def _exchange(connection: socket.socket, request: Request, deadline: float, seen: dict[str, Any]) -> None:
    wire = Wire(connection, deadline)
    name = names.normalise(request.host) or ""
    headers = {"Host": f"[{name}]" if ":" in name else name, "User-Agent": "meshops.istio", "Accept": "*/*", "Connection": "close"}
    given = {header.lower() for header in request.headers}
    headers = {header: value for header, value in headers.items() if header.lower() not in given} | dict(request.headers)
    path = request.path
    if request.proxy is not None and request.scheme == "http":  # RFC 9112, section 3.2.2
        headers |= tunnel.login(request.proxy)
        asked = names.normalise(request.address if request.address is not None else request.host) or ""
        place = f"{f'[{asked}]' if ':' in asked else asked}:{request.target_port}"
        path = f"http://{place}{'' if path == '*' else path}"
    client = http.client.HTTPConnection(name)
    client.sock = wire
    try:
        # A server that refuses ends the connection while we still write; what it said first can be read nevertheless.
        with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
            client.request(request.method, path, body=request.body, headers=headers)
        response = client.getresponse()
        seen["status"] = response.status
        seen["headers"] = joined(response.getheaders())
        if response.status == 407 and request.proxy is not None:
            raise Failed("proxy_failed", f"the proxy {request.proxy} wants a login, or refuses the one that it got")
        body = _body(response)
    except (OSError, http.client.HTTPException) as error:
        raise _http_failure(error, wire, request, seen) from None
    text = decode(body[:BODY_LIMIT], response.headers.get_content_charset())
    seen.update(text=text, text_truncated=len(body) > BODY_LIMIT)


def _body(response: http.client.HTTPResponse) -> bytes:
    """The body, or a little more than `BODY_LIMIT` of it."""
    parts, length = [], 0
    while length <= BODY_LIMIT:
        part = response.read(64 * 1024)
        if not part:
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
            break
        parts.append(part)
        length += len(part)
    return b"".join(parts)


def joined(headers: list[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _http_failure(error: OSError | http.client.HTTPException, wire: Wire, request: Request, seen: dict[str, Any]) -> Failed:
    if isinstance(error, ssl.SSLError) and not wire.received:
        failed = tls_failure(error, chain=True, authenticated=request.client_certificate is not None)
        if failed.alert:  # a TLS 1.3 server's verdict on the client certificate, which is part of the handshake
            seen["stage"] = "tls"
            return failed
    if isinstance(error, TimeoutError):
        what = "the body did not end" if seen.get("status") else "there was no response"
        return Failed("http_timeout", f"{what} within {request.timeout:g} s")
    if isinstance(error, (OSError, http.client.RemoteDisconnected)) or (isinstance(error, http.client.IncompleteRead) and wire.ended):
        if seen.get("status"):
            return Failed("connection_reset", "the connection ended within the response's body")
        hint = "; in TLS 1.3 a refused client certificate can look like this" if seen.get("protocol") == "TLSv1.3" else ""
        return Failed("connection_reset", f"the connection ended before a response came{hint}")
    return Failed("http_malformed", f"what came is not an HTTP response ({type(error).__name__})")
