# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe asks, what can come of it, and what is wrong with the asking."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..problems import Problem
from ..proxy_choice import Proxy
from ..tls import names

Stage = Literal["dns", "tcp", "tls", "http"]
Scheme = Literal["https", "http", "tls", "tcp"]

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


@dataclass(frozen=True)
class Request:
    """What to ask, where, and as whom. Certificates and keys are PEM content, never paths."""

    host: str
    """Who is asked: the `Host` header, the name that the certificate must be for and, unless given apart, the SNI and the address."""
    address: str | None = None
    """Where to connect: an address or a name; None for the host's own."""
    port: int | None = None
    """None for 443, or for 80 with plain HTTP; `tcp` has none of its own."""
    scheme: Scheme = "https"
    """`tls` ends after the handshake; `tcp` sends the body as it is, and takes what the server says."""
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
    awaits_verdict: bool = True
    """With `tls`, and a server that asks for a client certificate: whether its verdict on that, or on there being none, is waited for after the
    handshake."""

    @property
    def target_port(self) -> int:
        return self.port if self.port is not None else (80 if self.scheme == "http" else 443)

    @property
    def sent_sni(self) -> str | None:
        """The SNI that goes out; an address is never one (RFC 6066, section 3)."""
        if self.scheme in ("http", "tcp"):
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
    """The body, or what was said over plain TCP, as far as it was read, decoded; undecodable bytes are replaced."""
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


class Failed(Exception):
    """Ends the request with a failure."""

    def __init__(self, failure: str, detail: str, alert: str | None = None) -> None:
        super().__init__(detail)
        self.failure, self.detail, self.alert = failure, detail, alert


# --- what can be wrong with a request ---------------------------------------------------------------------------------

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


_Fault: TypeAlias = tuple[str, str, str]
"""Where, what is wrong, and the remedy."""


def check(request: Request) -> list[Problem]:
    """What is wrong with the request itself, its certificates apart."""
    found = [*_name_faults(request), *_line_faults(request)]
    if not found and (request.min_version and request.max_version) and VERSIONS[request.min_version] > VERSIONS[request.max_version]:
        found.append(("min_version", f"{request.min_version} is above max_version {request.max_version}", "Exchange them"))
    return [Problem("invalid_request", where, message, remedy) for where, message, remedy in (*found, *_scheme_faults(request))]


def _name_faults(request: Request) -> Iterator[_Fault]:
    for where, name in (("host", request.host), ("address", request.address), ("sni", request.sni or None)):
        found = names.read(name) if name is not None else ""
        if isinstance(found, names.NoHost):
            yield (
                where,
                f"expected a host name or an address, found {names.shown(name or '')!r}: {found.why}",
                f"{found.remedy}; port and path have options of their own",
            )
        elif "*" in found:
            yield where, f"expected one host, found the wildcard {name!r}", "Give one of the names that it stands for"
    if request.sni and names.address(request.sni) is not None:
        yield "sni", f"expected a host name, found the address {request.sni}", "An SNI cannot be an address; leave it empty to send none"


def _line_faults(request: Request) -> Iterator[_Fault]:
    """What stands in the request, and how it is sent."""
    if not 1 <= request.target_port <= 65535:
        yield "port", f"expected 1 to 65535, found {request.target_port}", "Give the port to connect to"
    if request.timeout <= 0:
        yield "request_timeout", f"expected more than 0 seconds, found {request.timeout:g}", "Give the seconds that one request may take"
    if not _TOKEN.fullmatch(request.method):
        yield "method", f"expected an HTTP method, found {request.method!r}", "Give one such as GET or POST"
    if not re.fullmatch(r"/[!-~]*", request.path) and not (request.path == "*" and request.method == "OPTIONS"):
        yield (
            "path",
            f"expected a path that begins with / and holds neither spaces nor non-ASCII characters, found {request.path!r}",
            "Percent-encode it, for example with the filter urlencode",
        )
    for name, value in request.headers.items():
        if not _TOKEN.fullmatch(name) or not re.fullmatch(r"[\t\x20-\x7e\x80-\xff]*", value):
            yield "headers", f"{name!r} is not a header that can be sent", "Names are tokens (RFC 9110), values hold no line breaks"
    for where, version in (("min_version", request.min_version), ("max_version", request.max_version)):
        if version is not None and version not in VERSIONS:
            yield where, f"expected one of {', '.join(VERSIONS)}, found {version!r}", "Give one of these"


def _scheme_faults(request: Request) -> Iterator[_Fault]:
    if request.scheme == "https" and set(request.alpn or ()) - {"http/1.1", "http/1.0"}:
        yield (
            "alpn",
            f"expected http/1.1, found {', '.join(request.alpn or ())}",
            "The request is made with HTTP/1.1; to see what else the server agrees to, end after the handshake with scheme tls",
        )
    if request.client_private_key is not None and request.client_certificate is None:
        yield "client_private_key", "there is a key but no client certificate", "Give client_certificate or client_certificate_path too"
    if request.scheme in ("http", "tcp") and (request.ca or request.client_certificate or request.sni):
        plain, secured = ("HTTP", "https") if request.scheme == "http" else ("TCP", "tls")
        yield "scheme", f"plain {plain} takes no CA, client certificate or SNI", f"Leave these out, or use scheme {secured}"
    if request.scheme == "tcp" and request.port is None:
        yield "port", "expected a port, since scheme tcp has none of its own, found none", "Give the port to connect to, such as 6379"
    if request.scheme == "tcp" and request.headers:
        yield "headers", "scheme tcp sends the body and nothing else, found headers", "Leave them out, or use scheme http or https"
