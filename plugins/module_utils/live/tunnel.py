# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way through an HTTP proxy: whether there is one, and its CONNECT (RFC 9110, section 9.3.6)."""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Mapping

from ..problems import Problem, Rejected
from ..proxy_choice import Proxy, from_environment, parse
from ..tls import names
from .wire import left

_LONGEST_HEAD = 64 * 1024  # bytes


class NoTunnel(Exception):
    """The proxy did not connect; `str()` says what it answered."""


def chosen(option: str | None, *, scheme: str, host: str, port: int, address: str | None, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy that a request goes through: the option's (`none` for none), else what the environment names for its URL, by kubectl's rules.
    With an address of its own, or over plain TCP, a request is direct unless the option names a proxy. Rejected for what cannot be a request's proxy."""
    if option is None:
        name = names.normalise(host)
        if address is not None or name is None or scheme == "tcp":
            return None
        proxy = from_environment(f"{'http' if scheme == 'http' else 'https'}://{_bracketed(name)}:{port}/", environment)
    else:
        proxy = None if option.strip().lower() in ("", "none") else parse(option, "request_proxy")
    if proxy is not None and proxy.scheme != "http":
        raise Rejected(
            Problem(
                "proxy_unsupported",
                "request_proxy",
                f"expected an HTTP proxy (http://), found {proxy}",
                "Name an HTTP proxy in request_proxy, or connect directly with request_proxy: none",
            )
        )
    return proxy


def login(proxy: Proxy) -> dict[str, str]:
    """The header with the proxy's login, if it has one."""
    if proxy.username is None:
        return {}
    pair = f"{proxy.username}:{proxy.password or ''}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def connect(connection: socket.socket, proxy: Proxy, host: str, port: int, deadline: float) -> None:
    """Has the proxy at the other end connect to a host. Raises NoTunnel, and OSError where the connection ends or time does."""
    target = f"{_bracketed(host)}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", *(f"{name}: {value}" for name, value in login(proxy).items())]
    connection.settimeout(left(deadline))
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
    head = b""
    while not head.endswith(b"\r\n\r\n"):  # byte by byte, since what follows is the server's
        connection.settimeout(left(deadline))
        part = connection.recv(1)
        if not part or len(head) > _LONGEST_HEAD:
            raise NoTunnel("it ended the connection" if not part else "its answer has no end")
        head += part
    answer = head.decode("latin-1").splitlines()[0]
    status = re.match(r"HTTP/1\.[01] (\d{3})", answer)
    if not status:
        raise NoTunnel("what it answered is not HTTP")
    if status[1] == "407":
        raise NoTunnel(f"it wants a login ({answer[:100]})" if proxy.username is None else f"it refuses the login ({answer[:100]})")
    if not status[1].startswith("2"):
        raise NoTunnel(f"it does not connect to {target} ({answer[:100]})")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
