# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to the API server: TLS as Go's programs verify it, proxies (HTTP, HTTPS, SOCKS5), and a deadline for each whole answer."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

from ..kubeconfig import Access
from ..memory_file import unnamed_file
from ..proxy_choice import Proxy, ascii_host
from ..regular_file import contents
from .errors import ConfigurationError
from .login import Pair

CONNECTIONS = 8
"""Connections kept open, and so requests under way at once."""
CONNECT_TIMEOUT = 5.0  # seconds
READ_TIMEOUT = 30.0  # seconds, for the whole of an answer
LARGEST_ANSWER = 1 << 30  # bytes: a page of 500 objects, each as large as etcd takes it
LARGEST_UNPACKED = 64 << 20  # bytes, of an answer that is compressed though nobody asked for that

_CERTIFICATE_KEPT = 1.0  # seconds until a client certificate's files are read again
_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----.+?-----END (?:X509 |TRUSTED )?CERTIFICATE-----", re.DOTALL)
_SOCKS_REFUSALS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "too far away",
    7: "command not supported",
    8: "kind of address not supported",
}


class ProxyRefused(OSError):
    """What a SOCKS proxy answered instead of a connection."""


def tls_context(access: Access, certificate: Pair | None = None) -> ssl.SSLContext:
    """A context that verifies as Go does: each CA that is given is trusted as it is, and what RFC 5280 asks of CAs beyond the signatures
    (VERIFY_X509_STRICT, which Python sets from 3.13 on) is not asked: many clusters have none of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags = (context.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN) & ~ssl.VERIFY_X509_STRICT
    context.hostname_checks_common_name = False
    if access.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif access.ca_data or access.ca_path:
        _trust(context, access)
    else:
        context.load_default_certs()
    if certificate:
        try:
            _present(context, *certificate)
        except (OSError, ValueError) as error:  # files were tried before
            raise ConfigurationError(
                f"the certificate and key that the login of {access.place} gave cannot be used ({getattr(error, 'reason', None) or 'no PEM'}); "
                "see whether `kubectl auth whoami` works with it"
            ) from None
    return context


def _trust(context: ssl.SSLContext, access: Access) -> None:
    where = access.ca_path or f"certificate-authority-data of {access.place}"
    try:
        content, reason = access.ca_data or contents(access.ca_path), ""
    except OSError as error:
        content, reason = b"", f" ({error.strerror})"
    loaded = 0
    for block in _CERTIFICATE.findall(content):
        with contextlib.suppress(ssl.SSLError, ValueError):  # as Go, which passes over those that it cannot read
            context.load_verify_locations(cadata=block.decode("ascii", "replace"))
            loaded += 1
    if not loaded:
        raise ConfigurationError(f"the CA certificates in {where} cannot be read{reason}; give PEM in ca_cert or in the kubeconfig")


def client_certificate(access: Access) -> Pair | None:
    """From data or files."""
    if not access.has_certificate:
        return None
    try:
        certificate = access.certificate_data or contents(access.certificate_path)
        key = access.key_data or (contents(access.key_path) if access.key_path else certificate)
        # tried here, because urllib3 would tell what is wrong with them as if the server had not answered
        _present(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, key)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error.strerror if isinstance(error, OSError) else None
        shown = access.certificate_path or f"in client-certificate-data of {access.place}"
        key_shown = access.key_path or ("in client-key-data" if access.key_data else "(in the same file)")
        raise ConfigurationError(
            f"the client certificate {shown} and its key {key_shown} cannot be used{f' ({reason})' if reason else ''}; "
            "give a PEM certificate and its unencrypted key in client_cert and client_key or in the kubeconfig"
        ) from None
    return certificate, key


def certificate_source(access: Access) -> Callable[[], Pair | None]:
    """The client certificate as it is now: files that are rotated are read again, and count once they fit each other."""
    last = client_certificate(access)
    if last is None or access.certificate_data or access.key_data:
        return lambda: last
    read_at = time.monotonic()

    def current() -> Pair | None:
        nonlocal last, read_at
        if time.monotonic() >= read_at + _CERTIFICATE_KEPT:
            with contextlib.suppress(ConfigurationError):
                last = client_certificate(access)
            read_at = time.monotonic()
        return last

    return current


def _present(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    with unnamed_file(certificate) as certificate_file, unnamed_file(key) as key_file:
        context.load_cert_chain(certificate_file, key_file, password="")  # without, OpenSSL would ask


class Pools:
    """A pool manager for as long as the client certificate is the same: where a plugin gives another one, or files are rotated, new connections
    present that."""

    def __init__(self, make: Callable[[Pair | None], Any], certificate: Callable[[], Pair | None]) -> None:
        self.make = make
        self.certificate = certificate
        self.lock = threading.Lock()
        self.presented = certificate()
        self.manager = make(self.presented)

    def current(self) -> Any:
        with self.lock:
            wanted = self.certificate()
            if wanted != self.presented:
                self.manager, self.presented = self.make(wanted), wanted  # requests under way keep theirs
            return self.manager

    def request(self, *arguments: Any, **options: Any) -> Any:
        return self.current().request(*arguments, **options)

    def connection_from_url(self, url: str) -> Any:
        return self.current().connection_from_url(url)

    def clear(self) -> None:
        """Closes the connections that are kept open."""
        self.manager.clear()


def pool(access: Access, certificate: Pair | None, proxy: Proxy | None, proxy_headers: Mapping[str, str], *, any_name: bool = False) -> Any:
    """A urllib3 pool manager for the API server; with `any_name` one whose certificate may be for any."""
    import urllib3
    from urllib3.util import make_headers

    classes = _classes()
    settings: dict[str, Any] = {"maxsize": CONNECTIONS, "block": False}
    if access.is_tls:
        settings["ssl_context"] = tls_context(access, certificate)
        if any_name or access.insecure:
            settings["ssl_context"].check_hostname = False
            settings["assert_hostname"] = False  # or urllib3 checks it
        if access.tls_server_name:
            settings["server_hostname"] = access.tls_server_name
    if proxy is None or proxy.is_socks:
        made: Any = urllib3.PoolManager(**settings)
        made.pool_classes_by_scheme = classes.socks(proxy) if proxy else classes.direct
        return made
    given: dict[str, Any] = dict(proxy_headers)
    headers = make_headers(**given)
    if proxy.username is not None and "proxy-authorization" not in headers:
        headers |= make_headers(proxy_basic_auth=f"{proxy.username}:{proxy.password or ''}")
    if proxy.scheme == "https":
        settings["proxy_ssl_context"] = _proxy_context(access, certificate)
    made = urllib3.ProxyManager(proxy.url, proxy_headers=headers, **settings)
    made.pool_classes_by_scheme = classes.direct
    return made


def _proxy_context(access: Access, certificate: Pair | None) -> ssl.SSLContext:
    """For a proxy that is spoken to in TLS: Go verifies it with the cluster's CAs, and shows it the client certificate where it asks; one with a
    public certificate is as good."""
    context = tls_context(access, certificate)
    if not access.insecure:
        context.load_default_certs()
    return context


def dial(manager: Any, host: str) -> Any:
    """A connected socket as the pool makes them: with its TLS settings, client certificate and proxy."""
    from urllib3.util import parse_url

    found = manager.connection_from_url(host)
    connection = found._new_conn()
    connection.timeout = CONNECT_TIMEOUT
    if getattr(found, "proxy", None) and host.startswith("https:"):
        found._prepare_proxy(connection)
    else:
        if getattr(found, "proxy", None):  # a websocket needs a tunnel also where plain requests are forwarded
            target = parse_url(host)
            connection.set_tunnel(target.host, target.port or 80, headers=found.proxy_headers)
        connection.connect()
    connection.sock.settimeout(READ_TIMEOUT)
    return connection.sock


@contextlib.contextmanager
def ended_after(seconds: float, connection: Any) -> Iterator[None]:
    """Ends a conversation that the other side draws out byte by byte: a time-out of the socket's own begins anew with each."""
    plain = connection if isinstance(connection, socket.socket) else connection.socket

    def end() -> None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(plain, socket.SHUT_RDWR)  # and not an SSLSocket's own, which another thread may be reading from

    timer = threading.Timer(max(seconds, 0.0), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def body(response: Any) -> bytes:
    """A whole answer, read within its deadline. ValueError: it is larger than any API server's is."""
    limit = LARGEST_UNPACKED if response.headers.get("Content-Encoding") else LARGEST_ANSWER
    read = bytearray()
    try:
        _packed_once(response)
        for part in response.stream(65536):
            read += part
            if len(read) > limit:
                raise ValueError(f"more than {limit >> 20} MiB")
    except BaseException:
        response.close()
        raise
    response.release_conn()
    return bytes(read)


def _packed_once(response: Any) -> None:
    if "," in (response.headers.get("Content-Encoding") or ""):  # unpacked, each byte of it may be a million
        raise ValueError("been packed several times")


def lines(response: Any, longest: int, *, cut: bool = False, silence: float | None = None) -> Iterator[bytes]:
    """The lines of an answer, as they come. One of more than about `longest` bytes is cut in pieces, or is a ValueError; one without an end is not
    a line, unless they are cut. Each part of the answer is waited for as long as `silence` says."""
    _packed_once(response)
    rest = bytearray()
    for part in response.stream(65536):
        if silence is not None:
            prolong(response, silence)
        *whole, last = part.split(b"\n")
        for end in whole:
            yield bytes(rest + end)
            rest.clear()
        rest += last
        if len(rest) > longest:
            if not cut:
                raise ValueError(f"more than {longest >> 20} MiB in a line")
            yield bytes(rest)
            rest.clear()
    if rest and cut:
        yield bytes(rest)


def prolong(response: Any, seconds: float) -> None:
    """More time for an answer that is a stream."""
    with contextlib.suppress(AttributeError):
        raw = response._fp.fp.raw
        raw.deadline = time.monotonic() + seconds


def hang_up(response: Any) -> None:
    """Ends an answer that another thread may be reading."""
    with contextlib.suppress(AttributeError, TypeError, OSError):
        socket.socket.shutdown(response._fp.fp.raw.timed, socket.SHUT_RDWR)


class _Timed(socket.SocketIO):
    """What is read from a socket, until a deadline: a time-out of the socket's own begins anew with every byte."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock, "r")
        self.deadline = time.monotonic() + (sock.gettimeout() or READ_TIMEOUT)
        self.timed = sock

    def readinto(self, b: Any) -> int | None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        self.timed.settimeout(left)
        return super().readinto(b)


def _timed_file(sock: Any) -> io.BufferedReader:
    counted = sock if hasattr(sock, "_io_refs") else sock.socket  # TLS within TLS is no socket itself
    counted._io_refs += 1
    return io.BufferedReader(_Timed(sock))


@cache
def _classes() -> SimpleNamespace:
    """urllib3's classes with our deadline and SOCKS in them; made late, as everything of a library is."""
    import http.client

    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
            super().__init__(SimpleNamespace(makefile=lambda mode: _timed_file(sock)), *arguments, **options)  # type: ignore[arg-type]

    def pools(**members: Any) -> dict[str, Any]:
        made = {}
        for scheme, connection, of_scheme in (
            ("http", HTTPConnection, HTTPConnectionPool),
            ("https", HTTPSConnection, HTTPSConnectionPool),
        ):
            own = type("Connection", (connection,), {"response_class": Response, **members})
            made[scheme] = type("Pool", (of_scheme,), {"ConnectionCls": own})
        return made

    def socks(proxy: Proxy) -> dict[str, Any]:
        return pools(_new_conn=lambda connection: _through_socks(proxy, str(connection.host), connection.port or 443))

    return SimpleNamespace(direct=pools(), socks=socks)


def _through_socks(proxy: Proxy, host: str, port: int) -> socket.socket:
    """A connection through a SOCKS5 proxy (RFC 1928, RFC 1929), which looks the name up itself, as for Go's programs."""
    deadline = time.monotonic() + CONNECT_TIMEOUT
    try:
        connection = socket.create_connection((proxy.host, proxy.port), CONNECT_TIMEOUT)
    except OSError as error:
        raise ProxyRefused(f"no connection to it: {error.strerror or error}") from None
    try:
        _greet(connection, proxy, deadline)
        connection.sendall(b"\x05\x01\x00" + _socks_address(host.strip("[]")) + port.to_bytes(2, "big"))
        version, reply, __, kind = _exactly(connection, 4, deadline)
        if version != 5 or reply:
            said = _SOCKS_REFUSALS.get(reply, f"code {reply}") if version == 5 else "it speaks no SOCKS5"
            raise ProxyRefused(f"SOCKS5: {said}")
        _exactly(connection, {1: 4, 4: 16}.get(kind) or _exactly(connection, 1, deadline)[0], deadline)
        _exactly(connection, 2, deadline)
    except OSError as error:
        connection.close()
        raise error if isinstance(error, ProxyRefused) else ProxyRefused(f"SOCKS5: {error.strerror or error}") from None
    connection.settimeout(CONNECT_TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _greet(connection: socket.socket, proxy: Proxy, deadline: float) -> None:
    methods = b"\x00" if proxy.username is None else b"\x00\x02"
    connection.sendall(bytes((5, len(methods))) + methods)
    version, method = _exactly(connection, 2, deadline)
    if version != 5:
        raise ProxyRefused("it speaks no SOCKS5")
    if method == 2 and proxy.username is not None:
        user, password = proxy.username.encode()[:255], (proxy.password or "").encode()[:255]
        connection.sendall(b"\x01" + bytes((len(user),)) + user + bytes((len(password),)) + password)
        if _exactly(connection, 2, deadline)[1]:
            raise ProxyRefused("SOCKS5: it does not accept the login")
    elif method:
        raise ProxyRefused("SOCKS5: it wants a login" if proxy.username is None else "SOCKS5: it takes no login of this kind")


def _socks_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = ascii_host(host).encode("ascii", "replace")
        return b"\x03" + bytes((min(len(name), 255),)) + name[:255]
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed


def _exactly(connection: socket.socket, count: int, deadline: float) -> bytes:
    read = b""
    while len(read) < count:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        part = connection.recv(count - len(read))
        if not part:
            raise ProxyRefused("it closed the connection (it may speak no SOCKS5)")
        read += part
    return read
