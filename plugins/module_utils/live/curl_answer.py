# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of a request that curl sent: from its output and messages to a result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..problems import Problem, Rejected
from .answers import decode
from .handshake import VERIFY_CODES, alert_failure, alert_name, covered, described
from .probe import joined
from .request import BODY_LIMIT, Failed, Request, Result, Stage
from .tcp import shown

MARK = "meshops-probe-outcome"


NO_BUILTIN, NO_CURL = 96, 97


REFUSED_HERE = ("unknown_ca", "expired", "not_yet_valid", "certificate_invalid")


class CurlError(Exception):
    """curl could not be run, or did not do what it was told; `str()` is a sentence."""


@dataclass(frozen=True)
class Files:
    """Paths of PEM files where curl runs, used instead of content."""

    ca: str | None = None
    client_certificate: str | None = None
    client_private_key: str | None = None


_SHELL_CODES: Mapping[int, str] = {
    NO_BUILTIN: "its shell's printf is a program of its own, which would show certificates and keys in the list of processes; use files in the "
    "container instead (from_pod.ca_certificate_path and so on)",
    NO_CURL: "there is no program curl in the container; name a container that has it",
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
    before, marked, behind = said.partition(f"\n{MARK}\n")
    lines, __, certificates = behind.partition(f"{MARK}\n")
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
        "timings": _timings(told, request.scheme),
        **_tls(before),
    }
    chain = _chain(certificates)
    try:
        if request.scheme == "tcp":
            seen.update(_said(code, stdout, told))
        elif request.scheme != "tls":
            seen.update(_response(stdout))
        shaken = request.scheme == "tls" and _seconds(told, "time_appconnect") > 0 and not _alert_in(message, before)
        if code and not shaken and not (request.scheme == "tcp" and "text" in seen):
            raise _failure(request, files, code, message, told, before, seen)
        if request.verify and chain and not covered(request.host, chain):
            for name in ("status", "headers", "text", "text_truncated"):
                seen.pop(name, None)
            raise Failed("name_mismatch", f"the certificate is not valid for {request.host!r}")  # some take a common name for a name
    except Failed as failed:
        seen.update(failure=failed.failure, detail=failed.detail, alert=failed.alert)
    seen["stage"] = _stage(request, seen, told)
    shaken = request.scheme in ("https", "tls") and _seconds(told, "time_appconnect") > 0
    seen["verified"] = request.verify and shaken and seen.get("failure") not in (*REFUSED_HERE, "name_mismatch")
    if not seen.get("status") and request.scheme != "tcp":
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


def _timings(told: Mapping[str, str], scheme: str) -> dict[str, float]:
    """Milliseconds of each stage; curl counts all of them from the beginning."""
    ends = [("dns", "time_namelookup"), ("tcp", "time_connect"), ("tls", "time_appconnect"), ("http", "time_total")]
    if scheme in ("http", "tcp"):
        ends = [("dns", "time_namelookup"), ("tcp", "time_total")] if scheme == "tcp" else [*ends[:2], ends[3]]
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


def _said(code: int, stdout: bytes, told: Mapping[str, str]) -> dict[str, Any]:
    """What the server said over plain TCP, where it was reached; that time ran out is curl's way to end it. Raises Failed and CurlError."""
    if code in (1, 4):
        raise CurlError("its curl has no telnet, by which it speaks plain TCP; name a container with another one, or leave out from_pod")
    if _seconds(told, "time_connect") <= 0 or (code not in (0, 28) and not stdout):
        return {}
    if not code and not stdout:
        raise Failed("connection_reset", "the server closed the connection before anything was said")
    return shown(stdout)


def _stage(request: Request, seen: Mapping[str, Any], told: Mapping[str, str]) -> Stage:
    failure = seen.get("failure")
    if failure == "name_not_resolved":
        return "dns"
    if failure in ("connection_refused", "connection_timeout", "unreachable"):
        return "tcp"
    if request.scheme in ("tls", "tcp"):
        return request.scheme
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
    if code == 35 or (request.scheme in ("https", "tls") and not shaken):
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
    if request.scheme in ("https", "tls") and not shaken:
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
