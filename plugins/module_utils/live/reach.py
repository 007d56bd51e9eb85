# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name resolution and TCP: a connection to the server of a request, through its proxy if there is one."""

from __future__ import annotations

import queue
import socket
import threading
from typing import Any

from ..tls import names
from . import tunnel
from .request import Failed, Request
from .wire import left

_Address = tuple[socket.AddressFamily, str]


def first_hop(request: Request, deadline: float) -> list[_Address]:
    """The addresses of the server, or of the proxy, which looks up the server's name itself."""
    proxy = request.proxy
    if proxy is None:
        name = names.normalise(request.address if request.address is not None else request.host) or ""
        return _resolve(name, request.target_port, request.timeout, deadline)
    try:
        return _resolve(proxy.host, proxy.port, request.timeout, deadline)
    except Failed as failed:
        raise Failed("proxy_failed", f"the proxy {proxy} was not found: {failed.detail}") from None


def reach(addresses: list[_Address], request: Request, deadline: float, seen: dict[str, Any]) -> socket.socket:
    """A connection to the server: through the proxy, if there is one. Plain HTTP is asked of the proxy itself."""
    proxy = request.proxy
    if proxy is None:
        return _connect(addresses, deadline, seen)
    try:
        connection = _connect(addresses, deadline, {"port": proxy.port})
    except Failed as failed:
        raise Failed("proxy_failed", f"the proxy {proxy} was not reached: {failed.detail}") from None
    if request.scheme == "http":
        return connection
    name = names.normalise(request.address if request.address is not None else request.host) or ""
    try:
        tunnel.connect(connection, proxy, name, request.target_port, deadline)
    except (OSError, tunnel.NoTunnel) as error:
        connection.close()
        what = "it did not answer in time" if isinstance(error, TimeoutError) else str(getattr(error, "strerror", None) or error)
        raise Failed("proxy_failed", f"the proxy {proxy} did not connect: {what}") from None
    return connection


def _resolve(name: str, port: int, seconds: float, deadline: float) -> list[_Address]:
    if (literal := names.address(name)) is not None:
        return [(socket.AF_INET if literal.version == 4 else socket.AF_INET6, str(literal))]
    answers: queue.Queue[Any] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))
        except OSError as error:
            answers.put(error)

    # getaddrinfo knows no timeout, so a thread waits for it, which does not keep the process from ending.
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=left(deadline))
    except (queue.Empty, TimeoutError):
        raise Failed("name_not_resolved", f"no answer for {name} within {seconds:g} s") from None
    if isinstance(answer, OSError):
        raise Failed("name_not_resolved", f"{name}: {answer.strerror or answer}")
    return [(info[0], info[4][0]) for info in answer]


def _connect(addresses: list[_Address], deadline: float, seen: dict[str, Any]) -> socket.socket:
    """Connect to the first address that answers; each gets an equal share of what time is left."""
    failed = Failed("unreachable", "no address")
    for index, (family, address) in enumerate(addresses):
        seen["address"] = address
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(left(deadline) / (len(addresses) - index))
            connection.connect((address, seen["port"]))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connection.close()
            failed = _tcp_failure(error)
        else:
            return connection
    raise failed


def _tcp_failure(error: OSError) -> Failed:
    if isinstance(error, TimeoutError):
        return Failed("connection_timeout", "the connection was not answered in time")
    if isinstance(error, ConnectionRefusedError):
        return Failed("connection_refused", "the connection was refused")
    if isinstance(error, ConnectionError):
        return Failed("connection_reset", "the connection was reset while it was set up")
    return Failed("unreachable", error.strerror or str(error))
