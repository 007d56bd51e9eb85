# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A probe's request as `curl` makes it somewhere else (in a Pod), and what came of it as a probe's result.

curl keeps nothing of a chain that it refuses, and a TLS 1.3 server's verdict on a client certificate can be overtaken by the end of the connection
on which the request was sent. Then a second handshake is made, after which nothing is sent: IMAP's, where the server speaks first.

Everything that curl is told goes to its standard input, where keys, passphrases and headers are in no list of processes and no audit log.
Certificates and keys become pipes: curl wants files, and these leave none behind, on no disk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..problems import Problem, Rejected
from ..tls import names
from .curl_answer import MARK, NO_BUILTIN, NO_CURL, REFUSED_HERE, Files, outcome
from .handshake import tls_context
from .request import BODY_LIMIT, Request, Result, check

OUTPUT_KEPT = BODY_LIMIT + 256 * 1024
"""Bytes of curl's standard output that are of use: the response's head, and as much of the body as is looked at."""


Runner = Callable[[Sequence[str], bytes], tuple[int, bytes, bytes]]
"""Runs a command with an input: exit code, standard output (at least `OUTPUT_KEPT` bytes of it), standard error."""


_TOLD = (
    "http_code",
    "remote_ip",
    "ssl_verify_result",
    "time_namelookup",
    "time_connect",
    "time_appconnect",
    "time_starttransfer",
    "time_total",
)


_VERSIONS = {"TLSv1": "1.0", "TLSv1.1": "1.1", "TLSv1.2": "1.2", "TLSv1.3": "1.3"}


_LONGEST_LINE = 64 * 1024  # bytes; older versions read no longer lines of a configuration than 100 KB


_FIRST_DESCRIPTOR = 3


_HANDSHAKE_SECONDS = 1.0  # how long to wait for the server's verdict, in a second handshake


_TCP_SECONDS = 3.0  # how long to listen to a server over plain TCP: curl cannot tell that it has said all


def probe_by(run: Runner, files: Files | None = None) -> Callable[[Request], Result]:
    """A stand-in for `probe.probe` that has curl make the request. Raises Rejected for what cannot be asked of curl, and CurlError."""
    files = files or Files()

    def attempt(request: Request) -> Result:
        problems = [*check(request), *check_for_curl(request, files)]
        if problems:
            raise Rejected(problems)
        if request.scheme in ("https", "tls"):
            tls_context(request)  # what is wrong with PEM content is told better here
        result = outcome(request, files, *run(*command(request, files, handshake_only=request.scheme == "tls")))
        if result.failure in REFUSED_HERE and not result.peer_chain:
            nobody = _trusting(request)
            seen = outcome(nobody, Files(), *run(*command(nobody, Files(), handshake_only=True)))
            return replace(result, peer_chain=seen.peer_chain)
        if result.stage == "http" and result.failure == "connection_reset" and result.protocol == "TLSv1.3" and not result.status:
            seen = outcome(request, files, *run(*command(request, files, handshake_only=True)))
            if seen.alert:
                return replace(result, stage="tls", failure=seen.failure, detail=seen.detail, alert=seen.alert)
        return result

    return attempt


def _trusting(request: Request) -> Request:
    """The same server asked by somebody who trusts anything and has no certificate."""
    nobody = replace(request, ca=None, client_certificate=None, client_private_key=None, client_private_key_passphrase=None)
    return replace(nobody, scheme="tls", alpn=None, verify=False, trust_system_store=None)


def check_for_curl(request: Request, files: Files) -> list[Problem]:
    """What curl cannot do, or is told twice."""
    problems = []

    def add(where: str, message: str, remedy: str) -> None:
        problems.append(Problem("invalid_request", where, message, remedy))

    if request.scheme == "tls" and request.alpn:
        add(
            "alpn",
            "in a Pod, curl cannot offer protocols in a handshake alone",
            "Leave alpn out, or use scheme https, which offers http/1.1",
        )
    if request.sni is not None and request.sni != request.host and (request.verify or not request.sni):
        add(
            "sni",
            f"curl sends the name that it verifies, {request.host}, found {request.sni!r}",
            "Leave sni out, make that name the host, or set verify=false to send another one",
        )
    if request.trust_system_store is not None and request.trust_system_store == bool(request.ca or files.ca) and request.verify:
        add(
            "trust_system_store",
            "curl trusts either the system's CAs or those that are given",
            "Leave it out: the system's CAs are trusted if no others are given",
        )
    for name, content, path in (
        ("ca_certificate", request.ca, files.ca),
        ("client_certificate", request.client_certificate, files.client_certificate),
        ("client_private_key", request.client_private_key, files.client_private_key),
    ):
        if content and path:
            add(f"from_pod.{name}_path", f"{name} is given too", "Give one of them")
        if path is not None and not re.fullmatch(r"/[^\x00-\x1f\x7f:]+", path):
            add(f"from_pod.{name}_path", f"expected an absolute path without a colon, found {path!r}", "Give the path in the container")
    if files.client_private_key and not (files.client_certificate or request.client_certificate):
        add("from_pod.client_private_key_path", "there is a key but no client certificate", "Give from_pod.client_certificate_path too")
    if request.scheme in ("http", "tcp") and any((files.ca, files.client_certificate, files.client_private_key)):
        add(
            "scheme", f"plain {request.scheme.upper()} takes no CA and no client certificate", "Leave these out, or use scheme https or tls"
        )
    if request.body is not None and b"\0" in request.body:
        add("body", "a body with zero bytes cannot be handed to curl", "Leave from_pod out for it")
    return problems


def command(request: Request, files: Files, *, handshake_only: bool = False) -> tuple[list[str], bytes]:
    """The command's arguments, the same for every request, and its input.

    A shell is needed only where PEM content is handed over: it makes a pipe of each. What it reads is its input, and its `printf` is
    built in, so that no argument of any process holds any of it.
    """
    pipes: list[bytes] = []

    def place(content: bytes | None, path: str | None) -> str | None:
        if path or content is None:
            return path
        pipes.append(content if content.endswith(b"\n") else content + b"\n")
        return f"/dev/fd/{_FIRST_DESCRIPTOR + len(pipes) - 1}"

    ca = place(request.ca, files.ca)
    certificate = place(request.client_certificate, files.client_certificate)
    key = place(
        request.client_private_key or (request.client_certificate if files.client_private_key is None else None), files.client_private_key
    )
    if certificate is None:
        key = None
    if handshake_only:
        config = _handshake_config(request, ca, certificate, key)
    elif request.scheme == "tcp":  # telnet: what is uploaded is sent, and what comes is printed, until the time is over
        pipes += [request.body] if request.body else []
        body_option = [("upload-file", f"/dev/fd/{_FIRST_DESCRIPTOR}")] if request.body else []
        config = _written(request, "telnet", "", ["no-buffer"], body_option, min(request.timeout, _TCP_SECONDS))
    else:
        body = None
        if request.body is not None and len(request.body) > _LONGEST_LINE:
            pipes.append(request.body)
            body = f"/dev/fd/{_FIRST_DESCRIPTOR + len(pipes) - 1}"
        config = _config(request, ca, certificate, key, body)
    if not pipes:
        return ["curl", "-q", "-K", "-"], config
    script = [b'[ "$(command -v printf)" = printf ] || exit %d\n' % NO_BUILTIN, b"command -v curl >/dev/null || exit %d\n" % NO_CURL]
    # what the container has as environment variables of these names would stay exported, and be in curl's environment
    script.append(b"unset c %s\n" % b" ".join(b"p%d" % number for number in range(len(pipes))))
    script += [b"p%d=%s\n" % (number, _quoted(content)) for number, content in enumerate(pipes)]
    script.append(b"c=%s\n" % _quoted(config))
    for number in range(len(pipes)):
        script.append(b'printf %%s "$p%d" | { exec %d<&0\n' % (number, _FIRST_DESCRIPTOR + number))
    script.append(b'printf %s "$c" | curl -q -K -\n')
    script.append(b"}" + b" ; }" * (len(pipes) - 1) + b"\n")
    return ["sh"], b"".join(script)


def _quoted(content: bytes) -> bytes:
    """A word of the shell. What is no text is no PEM either, and zero bytes would end it."""
    return b"'" + content.replace(b"\0", b"").replace(b"'", b"'\\''") + b"'"


def _config(request: Request, ca: str | None, certificate: str | None, key: str | None, body: str | None) -> bytes:
    """curl's configuration: https://curl.se/docs/manpage.html#-K."""
    host = names.normalise(request.host) or request.host
    defaults = {"Host": _bracketed(host), "User-Agent": "meshops.istio", "Accept": "*/*", "Accept-Encoding": "identity"}
    defaults["Connection"] = "close"
    given = {header.lower() for header in request.headers}
    headers = {header: value for header, value in defaults.items() if header.lower() not in given} | dict(request.headers)
    flags = ["include", "path-as-is", "http1.1"]
    path = request.path if request.path.startswith("/") else "/"
    options: list[tuple[str, str | bytes]] = []
    if request.alpn is not None and "http/1.1" not in request.alpn and request.scheme == "https":
        flags.append("http1.0" if request.alpn else "no-alpn")
    if request.method == "HEAD":
        flags.append("head")
    elif request.method != "GET" or request.body is not None:
        options.append(("request", request.method))
    if request.body is not None:
        options.append(("data-binary", f"@{body}") if body else ("data-raw", request.body))
    if "#" in request.path or not request.path.startswith("/"):
        options.append(("request-target", request.path))
    for header, value in headers.items():
        options.append(("header", f"{header}: {value}".encode("latin-1") if value else f"{header};"))
    for header in {"Content-Type", "Expect"} - {name.title() for name in given}:
        options.append(("header", f"{header}:"))  # nothing but what was asked for
    return _written(request, request.scheme, path, flags, [*options, *_tls_options(request, ca, certificate, key)], request.timeout)


def _handshake_config(request: Request, ca: str | None, certificate: str | None, key: str | None) -> bytes:
    options = _tls_options(request, ca, certificate, key)
    return _written(request, "imaps", "/", [], options, min(request.timeout, _HANDSHAKE_SECONDS))


def _written(
    request: Request, scheme: str, path: str, flags: Sequence[str], options: Sequence[tuple[str, str | bytes]], seconds: float
) -> bytes:
    asked = (request.sni and names.normalise(request.sni)) or names.normalise(request.host) or request.host
    told = "".join(f"{name}=%{{{name}}}\n" for name in _TOLD)
    always: list[tuple[str, str | bytes]] = [
        ("url", f"{scheme}://{_bracketed(asked)}:{request.target_port}{path}"),
        ("noproxy", "*"),
        ("max-time", f"{seconds:g}"),
        ("write-out", f"%{{stderr}}\n{MARK}\n{told}{MARK}\n%{{certs}}\n"),
    ]
    if request.address:
        always.append(("connect-to", f"::{_bracketed(names.normalise(request.address) or request.address)}:{request.target_port}"))
    lines = [flag.encode() for flag in ("silent", "show-error", "verbose", "globoff", *flags, *_tls_flags(request))]
    lines += [
        b'%s = "%s"' % (name.encode(), _escaped(value if isinstance(value, bytes) else value.encode()))
        for name, value in [*always, *options]
    ]
    return b"\n".join(lines) + b"\n"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _tls_flags(request: Request) -> list[str]:
    if request.scheme in ("http", "tcp"):
        return []
    lowest = request.min_version or (request.max_version if request.max_version in ("TLSv1", "TLSv1.1") else "TLSv1.2")
    return [f"tlsv{_VERSIONS[lowest]}", *([] if request.verify else ["insecure"])]


def _tls_options(request: Request, ca: str | None, certificate: str | None, key: str | None) -> list[tuple[str, str | bytes]]:
    options: list[tuple[str, str | bytes]] = []
    if request.scheme in ("http", "tcp"):
        return options
    if request.max_version:
        options.append(("tls-max", _VERSIONS[request.max_version]))
    if ca:
        options += [("cacert", ca), ("capath", "/dev/null")]  # some builds would look into the system's directory too
    if certificate:
        options += [("cert", certificate), ("key", key or certificate)]
        if request.client_private_key_passphrase:
            options.append(("pass", request.client_private_key_passphrase))
    return options


def _escaped(value: bytes) -> bytes:
    for character, escape in ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t"), (b"\v", b"\\v")):
        value = value.replace(character, escape)
    return value
