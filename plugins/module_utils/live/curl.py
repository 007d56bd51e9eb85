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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..problems import Problem, Rejected
from ..tls import names
from .answers import decode
from .handshake import VERIFY_CODES, alert_failure, alert_name, covered, described, tls_context
from .probe import joined
from .request import BODY_LIMIT, Failed, Request, Result, Stage, check

OUTPUT_KEPT = BODY_LIMIT + 256 * 1024
"""Bytes of curl's standard output that are of use: the response's head, and as much of the body as is looked at."""

Runner = Callable[[Sequence[str], bytes], tuple[int, bytes, bytes]]
"""Runs a command with an input: exit code, standard output (at least `OUTPUT_KEPT` bytes of it), standard error."""

_MARK = "meshops-probe-outcome"
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
_NO_BUILTIN, _NO_CURL = 96, 97


_HANDSHAKE_SECONDS = 1.0  # how long to wait for the server's verdict, in a second handshake
_REFUSED_HERE = ("unknown_ca", "expired", "not_yet_valid", "certificate_invalid")


class CurlError(Exception):
    """curl could not be run, or did not do what it was told; `str()` is a sentence."""


@dataclass(frozen=True)
class Files:
    """Paths of PEM files where curl runs, used instead of content."""

    ca: str | None = None
    client_certificate: str | None = None
    client_private_key: str | None = None


def probe_by(run: Runner, files: Files | None = None) -> Callable[[Request], Result]:
    """A stand-in for `probe.probe` that has curl make the request. Raises Rejected for what cannot be asked of curl, and CurlError."""
    files = files or Files()

    def attempt(request: Request) -> Result:
        problems = [*check(request), *check_for_curl(request, files)]
        if problems:
            raise Rejected(problems)
        if request.scheme != "http":
            tls_context(request)  # what is wrong with PEM content is told better here
        result = outcome(request, files, *run(*command(request, files, handshake_only=request.scheme == "tls")))
        if result.failure in _REFUSED_HERE and not result.peer_chain:
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
    if request.scheme == "http" and any((files.ca, files.client_certificate, files.client_private_key)):
        add("scheme", "plain HTTP takes no CA and no client certificate", "Leave these out, or use scheme https")
    if request.body is not None and b"\0" in request.body:
        add("body", "a body with zero bytes cannot be handed to curl", "Leave from_pod out for it")
    return problems


# --- the command ------------------------------------------------------------------------------------------------------


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
    else:
        body = None
        if request.body is not None and len(request.body) > _LONGEST_LINE:
            pipes.append(request.body)
            body = f"/dev/fd/{_FIRST_DESCRIPTOR + len(pipes) - 1}"
        config = _config(request, ca, certificate, key, body)
    if not pipes:
        return ["curl", "-q", "-K", "-"], config
    script = [b'[ "$(command -v printf)" = printf ] || exit %d\n' % _NO_BUILTIN, b"command -v curl >/dev/null || exit %d\n" % _NO_CURL]
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
        ("write-out", f"%{{stderr}}\n{_MARK}\n{told}{_MARK}\n%{{certs}}\n"),
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
    if request.scheme == "http":
        return []
    lowest = request.min_version or (request.max_version if request.max_version in ("TLSv1", "TLSv1.1") else "TLSv1.2")
    return [f"tlsv{_VERSIONS[lowest]}", *([] if request.verify else ["insecure"])]


def _tls_options(request: Request, ca: str | None, certificate: str | None, key: str | None) -> list[tuple[str, str | bytes]]:
    options: list[tuple[str, str | bytes]] = []
    if request.scheme == "http":
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


# --- what came of it --------------------------------------------------------------------------------------------------

_SHELL_CODES: Mapping[int, str] = {
    _NO_BUILTIN: "its shell's printf is a program of its own, which would show certificates and keys in the list of processes; use files in the "
    "container instead (from_pod.ca_certificate_path and so on)",
    _NO_CURL: "there is no program curl in the container; name a container that has it",
    127: "there is no program curl in the container; name a container that has it",
    126: "curl cannot be run in the container; name another one",
}
_OURS: Mapping[str, str] = {
    # our alerts about the served chain
    "unknown ca": "unknown_ca",
    "decrypt error": "unknown_ca",  # a trusted CA has the issuer's name, but another key
    "certificate expired": "expired",
}
_UNTRUSTED = (
    # where curl does not tell OpenSSL's number: other TLS libraries, old versions
    ("unknown_ca", r"self.signed|unable to get (local )?issuer|unable to verify the first|signature failure|unknown (ca|authority|issuer)"),
    ("expired", r"has expired|certificate expired"),
    ("not_yet_valid", r"not yet valid|not yet activated"),
    ("name_mismatch", r"(no alternative|subject name|does not match|not match)"),
)


def outcome(request: Request, files: Files, code: int, stdout: bytes, stderr: bytes) -> Result:
    """The result that a probe would give. Raises CurlError where curl did not get to make the request, and Rejected for unusable PEM."""
    said = stderr.decode("utf-8", "replace")
    before, marked, behind = said.partition(f"\n{_MARK}\n")
    lines, __, certificates = behind.partition(f"{_MARK}\n")
    told = dict(line.split("=", 1) for line in lines.splitlines() if "=" in line)
    message = _message(said)
    if not marked or code in _SHELL_CODES:
        raise CurlError(_SHELL_CODES.get(code) or f"curl did not make the request (exit code {code}: {message or 'nothing was said'})")
    if code in (58, 77):
        raise Rejected(_unusable(code, message))
    seen: dict[str, Any] = {
        "port": request.target_port,
        "sni": request.sent_sni,
        "address": told.get("remote_ip") or _tried(before),
        "timings": _timings(told, tls=request.scheme != "http"),
        **_tls(before),
    }
    chain = _chain(certificates)
    try:
        if request.scheme != "tls":
            seen.update(_response(stdout))
        shaken = request.scheme == "tls" and _seconds(told, "time_appconnect") > 0 and not _alert_in(message, before)
        if code and not shaken:
            raise _failure(request, files, code, message, told, before, seen)
        if request.verify and request.scheme != "http" and chain and not covered(request.host, chain):
            for name in ("status", "headers", "text", "text_truncated"):
                seen.pop(name, None)
            raise Failed("name_mismatch", f"the certificate is not valid for {request.host!r}")  # some take a common name for a name
    except Failed as failed:
        seen.update(failure=failed.failure, detail=failed.detail, alert=failed.alert)
    seen["stage"] = _stage(request, seen, told)
    shaken = request.scheme != "http" and _seconds(told, "time_appconnect") > 0
    seen["verified"] = request.verify and shaken and seen.get("failure") not in (*_REFUSED_HERE, "name_mismatch")
    if not seen.get("status"):
        seen.pop("text", None)
    return Result(**seen, peer_chain=described(chain))


def _tried(verbose: str) -> str | None:
    """The address that was tried last."""
    tried = re.findall(r"^\*\s+Trying \[?([0-9a-fA-F.:]+?)\]?:\d+\.\.\.", verbose, re.MULTILINE)
    return tried[-1] if tried else None


def _message(said: str) -> str:
    found = re.search(r"^curl: (?:\(\d+\) )?(.*)", said, re.MULTILINE)
    if found:
        return found[1].strip()
    lines = [line for line in said.splitlines() if line and not line.startswith(("*", ">", "<", "{", "}"))]
    return lines[0][:200] if lines else ""


def _unusable(code: int, message: str) -> Problem:
    where = "ca_certificate" if code == 77 else "client_certificate"
    remedy = "Give PEM: certificates, and for a client certificate the key that belongs to it (and its passphrase)"
    return Problem("invalid_request", where, f"curl cannot use it ({message})", remedy)


def _seconds(told: Mapping[str, str], name: str) -> float:
    try:
        return float(told.get(name, "0").replace(",", "."))
    except ValueError:
        return 0.0


def _timings(told: Mapping[str, str], *, tls: bool) -> dict[str, float]:
    """Milliseconds of each stage; curl counts all of them from the beginning."""
    ends = [("dns", "time_namelookup"), ("tcp", "time_connect"), *([("tls", "time_appconnect")] if tls else []), ("http", "time_total")]
    timings, before = {}, 0.0
    for stage, name in ends:
        end = _seconds(told, name)
        if end <= 0:
            break
        timings[stage] = round(max(end - before, 0.0) * 1000, 1)
        before = end
    timings["total"] = round(_seconds(told, "time_total") * 1000, 1)
    return timings


def _tls(verbose: str) -> dict[str, Any]:
    """Version, cipher and application protocol, which curl tells in words only."""
    agreed = re.search(r"^\* SSL connection using (TLSv[\d.]+) / ([\w-]+)", verbose, re.MULTILINE)
    alpn = re.search(r"^\* ALPN[:,] server accepted (?:to use )?(\S+)", verbose, re.MULTILINE)
    return {
        "protocol": {"TLSv1.0": "TLSv1"}.get(agreed[1], agreed[1]) if agreed else None,
        "cipher": agreed[2] if agreed else None,
        "alpn": alpn[1] if alpn else None,
    }


def _chain(text: str) -> tuple[bytes, ...]:
    """The served certificates in DER; none where curl is older than 7.88 or stopped before."""
    import base64
    import binascii

    chain = []
    for block in re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", text, re.DOTALL):
        try:
            chain.append(base64.b64decode("".join(block.split()), validate=True))
        except binascii.Error:
            continue
    return tuple(chain)


def _response(stdout: bytes) -> dict[str, Any]:
    """Status, headers and body out of what `--include` prints; interim responses are passed over."""
    rest = stdout
    while True:
        head, blank, rest = rest.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = re.match(r"HTTP/[\d.]+ (\d{3})", lines[0])
        if not status or not blank:
            return {}
        if not 100 <= int(status[1]) < 200 or int(status[1]) == 101:
            break
    pairs = [(name.strip(), value.strip()) for name, colon, value in (line.partition(":") for line in lines[1:]) if colon]
    headers = joined(pairs)
    charset = re.search(r"charset=\"?([\w.-]+)", headers.get("content-type", ""), re.IGNORECASE)
    text = decode(rest[:BODY_LIMIT], charset and charset[1])
    return {"status": int(status[1]), "headers": headers, "text": text, "text_truncated": len(rest) > BODY_LIMIT}


def _stage(request: Request, seen: Mapping[str, Any], told: Mapping[str, str]) -> Stage:
    failure = seen.get("failure")
    if failure == "name_not_resolved":
        return "dns"
    if failure in ("connection_refused", "connection_timeout", "unreachable"):
        return "tcp"
    if request.scheme == "tls":
        return "tls"
    if failure and seen.get("status") is None and request.scheme == "https":
        if failure in ("http_timeout", "http_malformed"):
            return "http"
        if seen.get("alert") or failure not in ("connection_reset",) or _seconds(told, "time_appconnect") <= 0:
            return "tls"
    return "http"


def _failure(
    request: Request, files: Files, code: int, message: str, told: Mapping[str, str], verbose: str, seen: Mapping[str, Any]
) -> Failed:
    """What an exit code means: https://curl.se/libcurl/c/libcurl-errors.html."""
    connected = _seconds(told, "time_connect") > 0 or bool(re.search(r"^\* (Connected to|ALPN|TLS|SSL)", verbose, re.MULTILINE))
    shaken = _seconds(told, "time_appconnect") > 0
    if code == 6:
        return Failed("name_not_resolved", message)
    if code == 28:
        return _timeout(request, seen, connected=connected, shaken=shaken, resolved=_seconds(told, "time_namelookup") > 0)
    if code == 7:
        return _refused(message, verbose)
    alert = _alert_in(message, verbose) if code != 98 else "certificate_required"
    if alert and request.scheme != "http":
        chain = shaken or "handshake, Certificate (11)" in verbose
        return alert_failure(alert, chain=chain, authenticated=bool(request.client_certificate or files.client_certificate))
    if code in (51, 60):
        return _untrusted(message, told)
    ours = re.search(r"\(OUT\), TLS alert, ([a-z ]+) \(\d+\)", verbose, re.IGNORECASE)
    if ours and "handshake, Certificate (11)" in verbose and not shaken:
        return Failed(_OURS.get(ours[1].lower(), "certificate_invalid"), f"{message} (our TLS alert says {ours[1].lower()})")
    if code == 35 or (request.scheme != "http" and not shaken):
        return _no_handshake(message)
    if code in (1, 8) or (code == 56 and "chunk" in message.lower()):
        return Failed("http_malformed", f"what came is not an HTTP response ({message})")
    if code in (18, 52, 55, 56):
        if seen.get("status"):
            return Failed("connection_reset", "the connection ended within the response's body")
        hint = "; in TLS 1.3 a refused client certificate can look like this" if seen.get("protocol") == "TLSv1.3" else ""
        return Failed("connection_reset", f"the connection ended before a response came{hint}")
    raise CurlError(f"curl did not make the request (exit code {code}: {message})")


_ALERT = re.compile(r"(?:sslv3|tlsv1|tlsv13|ssl/tls)(?: alert)? ([a-z ]+[a-z])")


def _alert_in(message: str, verbose: str) -> str | None:
    """The server's alert in what OpenSSL says (`tlsv13 alert certificate required`, `ssl/tls alert bad certificate`, `tlsv1 unrecognized
    name`), or in what curl saw of the handshake."""
    found = _ALERT.search(message.lower())
    if not found:  # the last thing that went wrong may be another one
        found = _ALERT.search("\n".join(re.findall(r"^\* OpenSSL.*", verbose, re.MULTILINE)).lower())
    alert = found[1].replace(" ", "_") if found else alert_name("", message.lower())
    seen = [name.lower() for name in re.findall(r"\(IN\), TLS alert, ([A-Za-z ]+) \(\d+\)", verbose)]
    return alert or next((name.replace(" ", "_") for name in seen if name not in ("unknown", "close notify")), None)


def _timeout(request: Request, seen: Mapping[str, Any], *, connected: bool, shaken: bool, resolved: bool) -> Failed:
    if seen.get("status"):
        return Failed("http_timeout", f"the body did not end within {request.timeout:g} s")
    if not connected:
        if not resolved:
            return Failed("name_not_resolved", f"no answer for {request.address or request.host} within {request.timeout:g} s")
        return Failed("connection_timeout", "the connection was not answered in time")
    if request.scheme != "http" and not shaken:
        return Failed("tls_timeout", "the handshake was not answered in time")
    return Failed("http_timeout", f"there was no response within {request.timeout:g} s")


def _refused(message: str, verbose: str) -> Failed:
    """Newer versions tell the reason along the way, and no more than "Couldn't connect to server" at the end."""
    reasons = re.findall(r"^\* (?:connect to .* failed|Immediate connect fail for .*): (.*)", verbose, re.MULTILINE)
    said = f"{message} ({reasons[-1].strip()})" if reasons and reasons[-1].strip() not in message else message
    lower = said.lower()
    if "timed out" in lower or "timeout" in lower:
        return Failed("connection_timeout", said)
    if "no route" in lower or "unreachable" in lower:
        return Failed("unreachable", said)
    if "reset by peer" in lower:
        return Failed("connection_reset", said)
    return Failed("connection_refused", said)


def _untrusted(message: str, told: Mapping[str, str]) -> Failed:
    number = told.get("ssl_verify_result", "0")
    detail = re.sub(r"^SSL certificate problem: |^SSL: ", "", message)
    if number.isdigit() and int(number) in VERIFY_CODES:
        return Failed(VERIFY_CODES[int(number)], detail)
    found = (failure for failure, pattern in _UNTRUSTED if re.search(pattern, message, re.IGNORECASE))
    return Failed(next(found, "certificate_invalid"), detail)


def _no_handshake(message: str) -> Failed:
    lower = message.lower().replace("_", " ")
    if re.search(r"wrong version number|packet length too long|record layer failure|http request|unknown protocol", lower):
        return Failed("not_tls", f"what came is not TLS ({message})")
    if re.search(r"unsupported protocol|no protocols available|wrong ssl version|version too (low|high)|bad protocol version", lower):
        return Failed("protocol_version", f"no TLS version in common ({message})")
    if re.search(r"eof|ssl error syscall|reset by peer|recv failure|send failure|broken pipe|closed", lower):
        return Failed("connection_reset", "the connection ended during the handshake, without an alert")
    return Failed("handshake_failure", message)
