# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One TLS handshake or HTTP(S) request, as `curl --resolve` makes it, and what came of it stage by stage.

Nothing is pooled, no redirect is followed, and a proxy is used only where the request names one.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import re
import select
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from ..problems import Problem, Rejected
from ..proxy_choice import Proxy
from ..tls import names
from ..tls.pem import identify
from . import tunnel
from .answers import decode
from .wire import Wire, left

Stage = Literal["dns", "tcp", "tls", "http"]
Scheme = Literal["https", "http", "tls"]

FAILURES: Mapping[str, str] = {
    "name_not_resolved": "the address did not resolve",
    "connection_refused": "nothing listens on the port",
    "connection_timeout": "the TCP connection was not answered in time",
    "unreachable": "there is no way to the address",
    "proxy_failed": "the proxy on the way was not reached, or did not connect",
    "connection_reset": "the peer ended the connection (reset, or closed without an answer)",
    "tls_timeout": "the TLS handshake was not answered in time",
    "not_tls": "what answers on the port does not speak TLS",
    "unknown_ca": "we do not trust the served chain: its issuer is none of the trusted CAs, or only has the name of one",
    "name_mismatch": "the served certificate is not for the host",
    "expired": "a certificate of the served chain has expired",
    "not_yet_valid": "a certificate of the served chain is not valid yet",
    "certificate_invalid": "we refuse the served chain for another reason (purpose, key size, path length, ...)",
    "certificate_required": "the server wants a client certificate, and none was given",
    "client_certificate_refused": "the server does not accept the client certificate; `alert` holds its reason",
    "protocol_version": "client and server have no TLS version in common",
    "unrecognized_name": "the server says that it does not serve the SNI",
    "handshake_failure": "the handshake failed in another way; `alert` holds what the server said, if it said anything",
    "http_timeout": "the HTTP response did not come, or did not end, in time",
    "http_malformed": "what came is not an HTTP response",
}
"""Every `Result.failure`, and what it means. What the *server* says about *our* certificate never shares a code with
what *we* say about *its* certificate."""

VERSIONS: Mapping[str, ssl.TLSVersion] = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}

BODY_LIMIT = 1024 * 1024
"""Bytes of a body that are read, and in which a text is looked for."""
EXCERPT_LENGTH = 2000
"""Characters of the body that a result shows."""
_SETTLE_SECONDS = 0.5


@dataclass(frozen=True)
class Request:
    """What to ask, where, and as whom. Certificates and keys are PEM content, never paths."""

    host: str
    """Who is asked: the `Host` header, the name that the certificate must be for and, unless given apart, the SNI and the address."""
    address: str | None = None
    """Where to connect: an address or a name; None for the host's own."""
    port: int | None = None
    """None for 443, or for 80 with plain HTTP."""
    scheme: Scheme = "https"
    """`tls` ends after the handshake."""
    sni: str | None = None
    """None for the host (none if that is an address), empty to send none."""
    ca: bytes | None = None
    """Trusted certificates; an intermediate may be an anchor, as it is for curl and Envoy."""
    trust_system_store: bool | None = None
    """None for: only when `ca` is not given."""
    verify: bool = True
    client_certificate: bytes | None = None
    client_private_key: bytes | None = field(default=None, repr=False)
    """None where the certificate's PEM holds the key too."""
    client_private_key_passphrase: str | None = field(default=None, repr=False)
    min_version: str | None = None
    max_version: str | None = None
    alpn: tuple[str, ...] | None = None
    """None for `http/1.1` with HTTPS and nothing with `tls`."""
    method: str = "GET"
    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    proxy: Proxy | None = None
    """An HTTP proxy to go through."""
    timeout: float = 10.0
    """Seconds for the whole request, name resolution to last byte."""

    @property
    def target_port(self) -> int:
        return self.port if self.port is not None else (80 if self.scheme == "http" else 443)

    @property
    def sent_sni(self) -> str | None:
        """The SNI that goes out; an address is never one (RFC 6066, section 3)."""
        if self.scheme == "http":
            return None
        name = names.normalise(self.host if self.sni is None else self.sni)
        return name if name and names.address(name) is None else None


@dataclass(frozen=True)
class Result:
    """How far the request came and what was seen on the way."""

    stage: Stage
    """The stage that was reached: the one in which it failed, or the last one."""
    port: int
    failure: str | None = None
    """A key of `FAILURES`, or None."""
    detail: str = ""
    """The failure in words, as the library or the peer put it."""
    alert: str | None = None
    """The TLS alert that the server sent, as RFC 8446 names it, for example `unknown_ca`."""
    address: str | None = None
    """The IP address that was connected to, or tried last; None where a proxy connects."""
    proxy: str | None = None
    """The URL of the proxy, without a login."""
    sni: str | None = None
    protocol: str | None = None
    """For example `TLSv1.3`."""
    cipher: str | None = None
    alpn: str | None = None
    verified: bool = False
    """The server's certificate was found to be trusted, in date and for the host."""
    peer_chain: tuple[Mapping[str, Any], ...] = ()
    """What is in each certificate that the server sent, leaf first; also when it was not trusted."""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """With names in lower case; repeated ones are joined by commas."""
    text: str = field(default="", repr=False)
    """The body as far as it was read, decoded; undecodable bytes are replaced."""
    text_truncated: bool = False
    """The body is longer than `BODY_LIMIT`."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds: each stage's own, and `total`."""

    def as_result(self) -> dict[str, Any]:
        """The result as the module returns it."""
        return {
            "stage": self.stage,
            "failure": self.failure,
            "detail": self.detail,
            "alert": self.alert,
            "address": self.address,
            "proxy": self.proxy,
            "port": self.port,
            "sni": self.sni,
            "protocol": self.protocol,
            "cipher": self.cipher,
            "alpn": self.alpn,
            "verified": self.verified,
            "peer_chain": [dict(certificate) for certificate in self.peer_chain],
            "status": self.status,
            "headers": dict(self.headers),
            "body": self.text[:EXCERPT_LENGTH],
            "body_truncated": self.text_truncated or len(self.text) > EXCERPT_LENGTH,
            "timings": dict(self.timings),
        }


class _Failed(Exception):
    """Ends the request with a failure."""

    def __init__(self, failure: str, detail: str, alert: str | None = None) -> None:
        super().__init__(detail)
        self.failure, self.detail, self.alert = failure, detail, alert


def probe(request: Request) -> Result:
    """Make the request once, on a fresh connection. Raises Rejected when it cannot be made as asked."""
    problems = check(request)
    if problems:
        raise Rejected(problems)
    context = None if request.scheme == "http" else _context(request)
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
                addresses = _first_hop(request, deadline)
            with stage("tcp"):
                connection = opened.enter_context(_reach(addresses, request, deadline, seen))
            if context is not None:
                with stage("tls"):
                    connection = opened.enter_context(_handshake(connection, context, request, deadline, seen))
            if request.scheme != "tls":
                with stage("http"):
                    _exchange(connection, request, deadline, seen)
        except _Failed as failed:
            seen.update(failure=failed.failure, detail=failed.detail, alert=failed.alert)
    timings["total"] = round((time.monotonic() - started) * 1000, 1)
    chain = seen.pop("chain", ())
    return Result(**seen, timings=timings, peer_chain=_describe(chain))


# --- what can be wrong with a request ---------------------------------------------------------------------------------

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def check(request: Request) -> list[Problem]:
    """What is wrong with the request itself, its certificates apart."""
    problems = []

    def add(where: str, message: str, remedy: str) -> None:
        problems.append(Problem("invalid_request", where, message, remedy))

    for where, name in (("host", request.host), ("address", request.address), ("sni", request.sni or None)):
        found = names.read(name) if name is not None else ""
        if isinstance(found, names.NoHost):
            add(
                where,
                f"expected a host name or an address, found {names.shown(name or '')!r}: {found.why}",
                f"{found.remedy}; port and path have options of their own",
            )
        elif "*" in found:
            add(where, f"expected one host, found the wildcard {name!r}", "Give one of the names that it stands for")
    if request.sni and names.address(request.sni) is not None:
        add("sni", f"expected a host name, found the address {request.sni}", "An SNI cannot be an address; leave it empty to send none")
    if not 1 <= request.target_port <= 65535:
        add("port", f"expected 1 to 65535, found {request.target_port}", "Give the port to connect to")
    if request.timeout <= 0:
        add("request_timeout", f"expected more than 0 seconds, found {request.timeout:g}", "Give the seconds that one request may take")
    if not _TOKEN.fullmatch(request.method):
        add("method", f"expected an HTTP method, found {request.method!r}", "Give one such as GET or POST")
    if not re.fullmatch(r"/[!-~]*", request.path) and not (request.path == "*" and request.method == "OPTIONS"):
        add(
            "path",
            f"expected a path that begins with / and holds neither spaces nor non-ASCII characters, found {request.path!r}",
            "Percent-encode it, for example with the filter urlencode",
        )
    for name, value in request.headers.items():
        if not _TOKEN.fullmatch(name) or not re.fullmatch(r"[\t\x20-\x7e\x80-\xff]*", value):
            add("headers", f"{name!r} is not a header that can be sent", "Names are tokens (RFC 9110), values hold no line breaks")
    for where, version in (("min_version", request.min_version), ("max_version", request.max_version)):
        if version is not None and version not in VERSIONS:
            add(where, f"expected one of {', '.join(VERSIONS)}, found {version!r}", "Give one of these")
    if not problems and (request.min_version and request.max_version) and VERSIONS[request.min_version] > VERSIONS[request.max_version]:
        add("min_version", f"{request.min_version} is above max_version {request.max_version}", "Exchange them")
    if request.scheme == "https" and set(request.alpn or ()) - {"http/1.1", "http/1.0"}:
        add(
            "alpn",
            f"expected http/1.1, found {', '.join(request.alpn or ())}",
            "The request is made with HTTP/1.1; to see what else the server agrees to, end after the handshake with scheme tls",
        )
    if request.client_private_key is not None and request.client_certificate is None:
        add("client_private_key", "there is a key but no client certificate", "Give client_certificate or client_certificate_path too")
    if request.scheme == "http" and (request.ca or request.client_certificate or request.sni):
        add("scheme", "plain HTTP takes no CA, client certificate or SNI", "Leave these out, or use scheme https")
    return problems


# --- dns and tcp ------------------------------------------------------------------------------------------------------

_Address = tuple[socket.AddressFamily, str]


def _first_hop(request: Request, deadline: float) -> list[_Address]:
    """The addresses of the server, or of the proxy, which looks up the server's name itself."""
    proxy = request.proxy
    if proxy is None:
        name = names.normalise(request.address if request.address is not None else request.host) or ""
        return _resolve(name, request.target_port, request.timeout, deadline)
    try:
        return _resolve(proxy.host, proxy.port, request.timeout, deadline)
    except _Failed as failed:
        raise _Failed("proxy_failed", f"the proxy {proxy} was not found: {failed.detail}") from None


def _reach(addresses: list[_Address], request: Request, deadline: float, seen: dict[str, Any]) -> socket.socket:
    """A connection to the server: through the proxy, if there is one. Plain HTTP is asked of the proxy itself."""
    proxy = request.proxy
    if proxy is None:
        return _connect(addresses, deadline, seen)
    try:
        connection = _connect(addresses, deadline, {"port": proxy.port})
    except _Failed as failed:
        raise _Failed("proxy_failed", f"the proxy {proxy} was not reached: {failed.detail}") from None
    if request.scheme == "http":
        return connection
    name = names.normalise(request.address if request.address is not None else request.host) or ""
    try:
        tunnel.connect(connection, proxy, name, request.target_port, deadline)
    except (OSError, tunnel.NoTunnel) as error:
        connection.close()
        what = "it did not answer in time" if isinstance(error, TimeoutError) else str(getattr(error, "strerror", None) or error)
        raise _Failed("proxy_failed", f"the proxy {proxy} did not connect: {what}") from None
    return connection


def _resolve(name: str, port: int, seconds: float, deadline: float) -> list[_Address]:
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
        raise _Failed("name_not_resolved", f"no answer for {name} within {seconds:g} s") from None
    if isinstance(answer, OSError):
        raise _Failed("name_not_resolved", f"{name}: {answer.strerror or answer}")
    return [(info[0], info[4][0]) for info in answer]


def _connect(addresses: list[_Address], deadline: float, seen: dict[str, Any]) -> socket.socket:
    """Connect to the first address that answers; each gets an equal share of what time is left."""
    failed = _Failed("unreachable", "no address")
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


def _tcp_failure(error: OSError) -> _Failed:
    if isinstance(error, TimeoutError):
        return _Failed("connection_timeout", "the connection was not answered in time")
    if isinstance(error, ConnectionRefusedError):
        return _Failed("connection_refused", "the connection was refused")
    if isinstance(error, ConnectionError):
        return _Failed("connection_reset", "the connection was reset while it was set up")
    return _Failed("unreachable", error.strerror or str(error))


# --- tls --------------------------------------------------------------------------------------------------------------


def _context(request: Request, *, verify: bool | None = None) -> ssl.SSLContext:
    """What the handshake goes by. Raises Rejected when CA, client certificate or key cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if not (request.verify if verify is None else verify):
        context.verify_mode = ssl.CERT_NONE
    # Python 3.13 makes RFC 5280's strictest reading the default, which private CAs fail for trifles (no key usage, no authority key
    # identifier) that neither curl nor Envoy minds. A partial chain is what both of them accept: every certificate in `ca` is an anchor.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False
    _limit_versions(context, request)
    alpn = request.alpn if request.alpn is not None else (("http/1.1",) if request.scheme == "https" else ())
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if request.ca is not None:
        _load_ca(context, request.ca)
    if request.trust_system_store if request.trust_system_store is not None else request.ca is None:
        context.load_default_certs()
    if request.client_certificate is not None:
        _load_client(context, request.client_certificate, request.client_private_key, request.client_private_key_passphrase)
    return context


def _limit_versions(context: ssl.SSLContext, request: Request) -> None:
    """TLS 1.2 and 1.3, unless asked for others."""
    lowest = VERSIONS[request.min_version or min("TLSv1.2", request.max_version or "TLSv1.2")]
    if lowest < ssl.TLSVersion.TLSv1_2:
        # otherwise it is our own side that refuses old versions, and nothing is learnt of the server
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # they are asked for in order to see them refused
        context.minimum_version = lowest
        if request.max_version:
            context.maximum_version = VERSIONS[request.max_version]


def _load_ca(context: ssl.SSLContext, ca: bytes) -> None:
    try:
        context.load_verify_locations(cadata=ca.decode("ascii", "ignore"))  # only comments around the PEM blocks are not ASCII
    except (ssl.SSLError, ValueError):
        found = identify(ca)
        raise Rejected(
            Problem(
                "not_pem",
                "ca_certificate",
                f"expected one or more certificates in PEM, found {found.what}",
                found.remedy,
            )
        ) from None


def _load_client(context: ssl.SSLContext, certificate: bytes, key: bytes | None, passphrase: str | None) -> None:
    asked: list[bool] = []

    def answer() -> str:
        asked.append(True)  # without this callback OpenSSL would ask at the terminal
        return passphrase or ""

    if key is None and b"PRIVATE KEY-----" not in certificate:
        raise Rejected(
            Problem(
                "key_missing",
                "client_certificate",
                "there is a client certificate but no key",
                "Give client_private_key or client_private_key_path too",
            )
        )
    try:
        with _unnamed_file(certificate) as certificate_file, _unnamed_file(certificate if key is None else key) as key_file:
            context.load_cert_chain(certificate_file, key_file, answer)
    except (OSError, ValueError) as error:  # through a pipe OpenSSL's own reasons are lost in a failed seek
        reason = _reason(error) if isinstance(error, (ssl.SSLError, ValueError)) else "perhaps they do not belong together"
        if "KEY_VALUES_MISMATCH" in reason or "KEY_TYPE_MISMATCH" in reason:
            problem = Problem(
                "key_mismatch",
                "client_private_key",
                "the key is not the one of the client certificate",
                "Give the key that the certificate was issued for; the client's own certificate comes first in its file",
            )
        elif asked and not passphrase:
            problem = Problem("passphrase_missing", "client_private_key", "the key is encrypted", "Give client_private_key_passphrase")
        elif asked:
            problem = Problem(
                "passphrase_wrong", "client_private_key_passphrase", "the passphrase does not open the key", "Give the key's passphrase"
            )
        else:
            problem = _unreadable(certificate, key, reason)
        raise Rejected(problem) from None


def _unreadable(certificate: bytes, key: bytes | None, reason: str) -> Problem:
    for where, data, what, label in (
        ("client_certificate", certificate, "a certificate in PEM", b"CERTIFICATE-----"),
        ("client_private_key", key or certificate, "a private key in PEM", b"PRIVATE KEY-----"),
    ):
        if label not in data:
            found = identify(data)
            return Problem("not_pem", where, f"expected {what}, found {found.what}", found.remedy)
    return Problem(
        "key_unreadable",
        "client_certificate, client_private_key",
        f"expected a certificate and its private key, found something that OpenSSL cannot use ({reason})",
        "Look at them with `openssl x509 -noout -text` and `openssl pkey -noout`",
    )


def _reason(error: Exception) -> str:
    return (getattr(error, "reason", None) or str(error)).split(" (_ssl.c")[0]


@contextlib.contextmanager
def _unnamed_file(content: bytes) -> Iterator[str]:
    """A path from which `ssl`, which takes nothing but paths, reads content that no directory ever holds."""
    if hasattr(os, "memfd_create"):
        reading = os.memfd_create("pem")
        os.write(reading, content)
    else:  # a pipe, as a shell's <(...) is; what fits into none is no key
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        try:
            if os.write(writing, content) < len(content):
                raise ValueError("too long")
        except BlockingIOError:
            raise ValueError("too long") from None
        finally:
            os.close(writing)
    try:
        yield f"/dev/fd/{reading}"
    finally:
        os.close(reading)


def _handshake(
    connection: socket.socket, context: ssl.SSLContext, request: Request, deadline: float, seen: dict[str, Any]
) -> ssl.SSLSocket:
    # OpenSSL looks at the name during the handshake where it is the SNI too (an address is sent as none); otherwise we do, after it.
    name = names.normalise(request.host) or ""
    in_handshake = request.verify and (request.sent_sni or name) == name and (bool(request.sent_sni) or names.address(name) is not None)
    context.check_hostname = in_handshake
    secured = context.wrap_socket(connection, server_hostname=name if in_handshake else request.sent_sni, do_handshake_on_connect=False)
    try:
        secured.settimeout(left(deadline))
        secured.do_handshake()
    except OSError as error:
        with secured:
            seen["chain"] = _chain(secured)
            failed = _tls_failure(error, chain=bool(seen["chain"]), authenticated=request.client_certificate is not None)
            if isinstance(error, ssl.SSLCertVerificationError) and not seen["chain"]:
                seen["chain"] = _unverified_chain(request, deadline)
        raise failed from None
    cipher = secured.cipher()
    seen.update(chain=_chain(secured), protocol=secured.version(), cipher=cipher and cipher[0], alpn=secured.selected_alpn_protocol())
    if request.verify and not in_handshake and not _covered(name, seen["chain"]):
        secured.close()
        raise _Failed("name_mismatch", f"the certificate is not valid for {name!r}")
    seen["verified"] = request.verify
    if request.scheme == "tls" and secured.version() == "TLSv1.3":
        try:
            _settle(secured, deadline)
        except OSError as error:
            secured.close()
            raise _tls_failure(error, chain=True, authenticated=request.client_certificate is not None) from None
    return secured


def _settle(secured: ssl.SSLSocket, deadline: float) -> None:
    """Wait for the server's verdict on the client certificate, which in TLS 1.3 comes after our side of the handshake is done.

    A server that is content sends session tickets, closes or speaks; one that says nothing within a moment is taken to be content.
    Raises what the server's alert raises. (`unwrap` cannot be used for this: OpenSSL swallows an alert that it meets while closing.)
    """
    if select.select([secured], [], [], min(left(deadline), _SETTLE_SECONDS))[0]:
        secured.settimeout(0)
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLEOFError):
            secured.recv(1)


def _chain(secured: ssl.SSLSocket) -> tuple[bytes, ...]:
    """The chain that the server sent, in DER, leaf first, trusted or not; empty if none was kept."""
    if hasattr(secured, "get_unverified_chain"):  # public since Python 3.13
        return tuple(secured.get_unverified_chain())
    import _ssl

    chain = secured._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    return tuple(certificate.public_bytes(_ssl.ENCODING_DER) for certificate in chain or ())


def _unverified_chain(request: Request, deadline: float) -> tuple[bytes, ...]:
    """The chain by a second handshake that trusts anything and offers no client certificate: before OpenSSL 3
    a failed handshake keeps nothing of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        connection = _reach(_first_hop(request, deadline), request, deadline, {"port": request.target_port})
        with connection, context.wrap_socket(connection, server_hostname=request.sent_sni, do_handshake_on_connect=False) as secured:
            secured.settimeout(left(deadline))
            with contextlib.suppress(ssl.SSLError):
                secured.do_handshake()
            return _chain(secured)
    except (OSError, _Failed):
        return ()


def _covered(name: str, chain: tuple[bytes, ...]) -> bool:
    from ..tls.material import from_der

    try:
        return bool(chain) and names.covers(name, from_der(chain[0], where="peer certificate"))
    except Rejected:
        return False


# X509_V_ERR_*, openssl/x509_vfy.h
_VERIFY_CODES: Mapping[int, str] = {
    2: "unknown_ca",  # unable to get issuer certificate
    7: "unknown_ca",  # certificate signature failure: a trusted CA has the issuer's name, but another key
    9: "not_yet_valid",
    10: "expired",
    18: "unknown_ca",  # self-signed certificate
    19: "unknown_ca",  # self-signed certificate in certificate chain
    20: "unknown_ca",  # unable to get local issuer certificate
    21: "unknown_ca",  # unable to verify the first certificate
    62: "name_mismatch",
    64: "name_mismatch",  # IP address mismatch
}

_ABOUT_CLIENT_CERTIFICATE = frozenset(
    {
        "bad_certificate",
        "unsupported_certificate",
        "certificate_revoked",
        "certificate_expired",
        "certificate_unknown",
        "unknown_ca",
        "access_denied",
        "decrypt_error",
        "no_certificate",
    }
)
_NOT_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
)
_NO_VERSION = frozenset(
    {
        "UNSUPPORTED_PROTOCOL",
        "NO_PROTOCOLS_AVAILABLE",
        "WRONG_SSL_VERSION",
        "VERSION_TOO_LOW",
        "VERSION_TOO_HIGH",
        "BAD_PROTOCOL_VERSION_NUMBER",
    }
)


def _tls_failure(error: OSError, *, chain: bool, authenticated: bool) -> _Failed:
    """What an error during the handshake, or on the first read after it, means.

    `chain`: the server's certificates had come by then; `authenticated`: a client certificate was at hand.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _Failed(_VERIFY_CODES.get(error.verify_code, "certificate_invalid"), error.verify_message.rstrip(".") or _reason(error))
    if isinstance(error, TimeoutError):
        return _Failed("tls_timeout", "the handshake was not answered in time")
    reason = getattr(error, "reason", None) or ""
    alert = _alert(reason, str(error))
    if alert:
        return _alert_failure(alert, chain=chain, authenticated=authenticated)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return _Failed("connection_reset", "the server closed the connection during the handshake, without an alert")
    if isinstance(error, ssl.SSLError):
        if reason in _NOT_TLS:
            return _Failed("not_tls", f"what came is not TLS ({reason})")
        if reason in _NO_VERSION:
            return _Failed("protocol_version", f"no TLS version in common ({reason})")
        return _Failed("handshake_failure", _reason(error))
    return _Failed("connection_reset", f"the connection was reset during the handshake, without an alert ({error.strerror or error})")


def _alert_failure(alert: str, *, chain: bool, authenticated: bool) -> _Failed:
    """What a TLS alert of the server means; see `_tls_failure`."""
    said = f"the server's TLS alert says {alert}"
    if alert == "certificate_required":
        return _Failed("certificate_required", said, alert)
    if alert in ("protocol_version", "unrecognized_name"):
        return _Failed(alert, said, alert)
    if alert in _ABOUT_CLIENT_CERTIFICATE and authenticated:
        return _Failed("client_certificate_refused", f"{said} about the client certificate", alert)
    # Before TLS 1.3 there was no alert of its own for this: OpenSSL and BoringSSL send handshake_failure, Go and others
    # bad_certificate, once the server's certificate is out and the client answered without one.
    if chain and not authenticated and (alert == "handshake_failure" or alert in _ABOUT_CLIENT_CERTIFICATE):
        return _Failed("certificate_required", f"{said} after its certificate was sent and no client certificate came", alert)
    return _Failed("handshake_failure", said, alert)


def _alert(reason: str, text: str) -> str | None:
    """The alert's name in RFC 8446 out of OpenSSL's reason, such as TLSV13_ALERT_CERTIFICATE_REQUIRED or TLSV1_UNRECOGNIZED_NAME."""
    match = re.match(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?([A-Z_]+)$", reason)
    if match:
        return match[1].lower()
    match = re.search(r" alert ([a-z ]+[a-z])", text)  # Python has no name for some of them, OpenSSL's text has
    return match[1].replace(" ", "_") if match else None


# --- http -------------------------------------------------------------------------------------------------------------


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
        seen["headers"] = _joined(response.getheaders())
        if response.status == 407 and request.proxy is not None:
            raise _Failed("proxy_failed", f"the proxy {request.proxy} wants a login, or refuses the one that it got")
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


def _joined(headers: list[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _http_failure(error: OSError | http.client.HTTPException, wire: Wire, request: Request, seen: dict[str, Any]) -> _Failed:
    if isinstance(error, ssl.SSLError) and not wire.received:
        failed = _tls_failure(error, chain=True, authenticated=request.client_certificate is not None)
        if failed.alert:  # a TLS 1.3 server's verdict on the client certificate, which is part of the handshake
            seen["stage"] = "tls"
            return failed
    if isinstance(error, TimeoutError):
        what = "the body did not end" if seen.get("status") else "there was no response"
        return _Failed("http_timeout", f"{what} within {request.timeout:g} s")
    if isinstance(error, (OSError, http.client.RemoteDisconnected)) or (isinstance(error, http.client.IncompleteRead) and wire.ended):
        if seen.get("status"):
            return _Failed("connection_reset", "the connection ended within the response's body")
        hint = "; in TLS 1.3 a refused client certificate can look like this" if seen.get("protocol") == "TLSv1.3" else ""
        return _Failed("connection_reset", f"the connection ended before a response came{hint}")
    return _Failed("http_malformed", f"what came is not an HTTP response ({type(error).__name__})")


def _describe(chain: tuple[bytes, ...]) -> tuple[Mapping[str, Any], ...]:
    if not chain:
        return ()
    from ..tls.facts import describe
    from ..tls.material import fingerprint, from_der

    described: list[Mapping[str, Any]] = []
    for number, der in enumerate(chain):
        try:
            described.append(describe(from_der(der, where=f"peer_chain[{number}]"), datetime.now(UTC)))
        except Rejected as rejected:  # what OpenSSL reads, and the library does not
            described.append({"fingerprint_sha256": fingerprint(der), "problem": rejected.problems[0].message})
    return tuple(described)
