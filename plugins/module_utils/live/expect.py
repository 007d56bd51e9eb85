# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a probe should find, whether it did, and trying until it does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from .. import wait
from ..problems import Problem, Rejected
from ..progress import tell
from ..tls import names
from .answers import MASK, Search, SearchFailed, pattern_fault
from .envoy_answers import cause
from .probe import probe
from .request import EXCERPT_LENGTH, FAILURES, Request, Result

_SEARCH_SECONDS = 2.0


@dataclass(frozen=True)
class Expect:
    """What should come of a request; everything that is given must hold. Nothing given: it gets through to the end."""

    status: tuple[int, ...] = ()
    """Any of these."""
    text: str | None = None
    """Occurs in the body."""
    text_regex: str | None = None
    """Matches somewhere in the body."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names (in any case) and the texts that occur in their values; an empty text asks for no more than the header."""
    fingerprint: tuple[str, ...] = ()
    """SHA-256 of the served certificate, any of these."""
    serial: tuple[str, ...] = ()
    """Serial number of the served certificate, hexadecimal, any of these."""
    credential: Mapping[str, str] = field(default_factory=dict)
    """The served certificate is that of any of these credentials: `namespace/name` -> SHA-256 of its certificate, empty where it has none."""
    protocol: str | None = None
    failure: tuple[str, ...] = ()
    """The request ends in any of these (see `FAILURES`)."""
    alert: tuple[str, ...] = ()
    """The request ends in any of these TLS alerts of the server."""

    @property
    def fails(self) -> bool:
        return bool(self.failure or self.alert)


@dataclass(frozen=True)
class Verdict:
    """How the trying ended."""

    result: Result
    """Of the last attempt."""
    unmet: tuple[str, ...]
    """What the last attempt lacks, each as `expected ..., found ...`; empty: all is as expected."""
    attempts: int
    successes: int
    """How many of the last attempts in a row were as expected."""
    elapsed: float
    """Seconds."""
    expect: Expect = field(default_factory=Expect)
    """What the last attempt was compared with."""


def until(
    request: Request,
    expect: Expect,
    *,
    timeout: float = 0.0,
    delay: float = 1.0,
    consecutive: int = 1,
    attempt: Callable[[Request], Result] = probe,
    hide: Callable[[str], str] = str,
    renew: Callable[[Expect], Expect] = lambda expect: expect,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Verdict:
    """Probe until `consecutive` attempts in a row are as expected, each on a fresh connection. `hide` hides secrets in what is told, `renew`
    reads the credentials again whose certificate was not the served one.

    No attempt begins after `timeout` seconds, except that a row of successes is finished. Raises Rejected for what no attempt
    could make good.
    """
    if problems := [*check(expect), *check_trying(timeout, delay, consecutive)]:
        raise Rejected(problems)
    started = clock()
    last: list[Verdict] = []

    def once() -> bool | None:
        before = last.pop() if last else None
        wanted = before.expect if before else expect
        if before:
            tell(f"attempts at {request.host}", before.attempts)
            wanted = renew(wanted) if _serves_another(before.result, wanted) else wanted
        result = attempt(request)
        shown = hidden(result, hide)
        unmet = tuple(judge(result, wanted, shown))
        successes = 0 if unmet else 1 + (before.successes if before else 0)
        last.append(Verdict(shown, unmet, 1 + (before.attempts if before else 0), successes, clock() - started, wanted))
        return successes >= consecutive or (False if unmet else None)

    wait.until(once, timeout=timeout, delay=delay, clock=clock, sleep=sleep)
    return last[0]


def check_trying(timeout: float, delay: float, consecutive: int) -> list[Problem]:
    """What is wrong with how often and how long to try."""
    problems = []
    if consecutive < 1:
        message = f"expected 1 or more, found {consecutive}"
        problems.append(Problem("invalid_request", "consecutive", message, "Say how many successes are needed in a row"))
    for where, seconds in (("timeout", timeout), ("delay", delay)):
        if seconds < 0:
            problems.append(Problem("invalid_request", where, f"expected 0 or more seconds, found {seconds:g}", "Give the seconds"))
    return problems


def check(expect: Expect) -> list[Problem]:
    """What is wrong with an expectation itself."""
    problems = []

    def add(where: str, message: str, remedy: str) -> None:
        problems.append(Problem("invalid_expectation", f"expect.{where}", message, remedy))

    for fingerprint in expect.fingerprint:
        if not re.fullmatch(r"[0-9a-f]{64}", _fingerprint(fingerprint)):
            add(
                "fingerprint",
                f"expected a SHA-256 fingerprint of 64 hexadecimal digits, found {fingerprint!r}",
                "Print it with `openssl x509 -noout -fingerprint -sha256`, or take it from the module that issued the certificate",
            )
    for serial in expect.serial:
        if not re.fullmatch(r"[0-9A-F]+", _serial(serial)):
            add("serial", f"expected a hexadecimal number, found {serial!r}", "Print it with `openssl x509 -noout -serial`")
    for failure in expect.failure:
        if failure not in FAILURES:
            add("failure", f"expected any of {', '.join(FAILURES)}, found {failure!r}", "Give one of these")
    if expect.text_regex is not None and (fault := pattern_fault(expect.text_regex)):
        add("text_regex", f"{expect.text_regex!r} is not a regular expression: {fault}", "Correct it, or use text for literal text")
    wanted = [name for name in ("status", "text", "text_regex", "headers") if getattr(expect, name) not in (None, (), {})]
    if expect.fails and wanted:
        add(
            "failure" if expect.failure else "alert",
            f"a request that fails has no HTTP response, but {', '.join(wanted)} would need one",
            "Expect either a failure or a response, in two tasks if both are to be seen",
        )
    return problems


def judge(result: Result, expect: Expect, shown: Result | None = None) -> list[str]:
    """What the result lacks, each as `expected ..., found ...`; empty when it is as expected. What is found is told from `shown`, in which
    secrets are hidden."""
    actual, result = result, shown or result
    ended = found(result)
    if expect.failure and result.failure not in expect.failure:
        return [f"expected failure {_any(expect.failure)}, found {ended}"]
    if expect.alert and result.alert not in expect.alert:
        return [f"expected the server's alert {_any(expect.alert)}, found {f'alert {result.alert}' if result.alert else ended}"]
    if not expect.fails and result.failure:
        wanted = f"status {_any(expect.status)}" if expect.status else "the request to succeed"
        if result.status and expect.status and result.status not in expect.status:
            ended = f"status {result.status}, then {ended}"
        return [f"expected {wanted}, found {ended}"]
    unmet = []
    if expect.status and result.status not in expect.status:
        unmet.append(f"expected status {_any(expect.status)}, found {_response(result)}")
    if expect.text is not None and expect.text not in actual.text:
        unmet.append(f"expected text {expect.text!r} in the body, found {_excerpt(result)}")
    if expect.text_regex is not None:
        unmet += _no_match(expect.text_regex, actual, result)
    for name, text in expect.headers.items():
        value = actual.headers.get(name.lower())
        if value is None or text not in value:
            unmet.append(
                f"expected header {name} with {text!r}, found {'none' if value is None else repr(result.headers.get(name.lower(), MASK))}"
            )
    leaf = result.peer_chain[0] if result.peer_chain else {}
    served = str(leaf.get("fingerprint_sha256", ""))
    if _serves_another(result, expect):
        credentials = [f"{name} ({f'fingerprint {kept}' if kept else 'which has none'})" for name, kept in expect.credential.items()]
        about = f"fingerprint {served} ({_plain(leaf.get('subject'))}, valid from {leaf.get('not_before')})" if served else "none"
        unmet.append(f"expected the certificate in credential {_any(tuple(credentials))}, found {about}")
    if expect.fingerprint and _fingerprint(served) not in map(_fingerprint, expect.fingerprint):
        unmet.append(f"expected the certificate with fingerprint {_any(expect.fingerprint)}, found {served or 'none'}")
    served = str(leaf.get("serial", ""))
    if expect.serial and _serial(served) not in map(_serial, expect.serial):
        unmet.append(f"expected the certificate with serial number {_any(expect.serial)}, found {served or 'none'}")
    if expect.protocol and result.protocol != expect.protocol:
        unmet.append(f"expected {expect.protocol}, found {result.protocol or 'no TLS'}")
    return unmet


def _serves_another(result: Result, expect: Expect) -> bool:
    """Whether the served certificate is none of the expected credentials'."""
    served = result.peer_chain[0].get("fingerprint_sha256") if result.peer_chain else None
    return bool(expect.credential) and (not served or served not in expect.credential.values())


def _no_match(pattern: str, actual: Result, shown: Result) -> Iterator[str]:
    try:
        if any(Search(pattern, _SEARCH_SECONDS).matches([actual.text])):
            return
        found = _excerpt(shown)
    except SearchFailed as failed:
        found = f"{failed} in {_excerpt(shown)}: write a simpler expression"
    yield f"expected a match of {pattern!r} in the body, found {found}"


def hidden(result: Result, hide: Callable[[str], str]) -> Result:
    """A result without the secrets that the server repeated, in all that is shown of it. They are hidden before anything is cut short."""
    text = result.text[: 2 * EXCERPT_LENGTH + 64 * 1024]  # a header is no longer than that
    headers = {hide(name): hide(value) for name, value in result.headers.items()}
    return replace(
        result,
        text=hide(text),
        headers=headers,
        detail=hide(result.detail),
        text_truncated=result.text_truncated or len(text) < len(result.text),
    )


def explain(request: Request, verdict: Verdict) -> str:
    """A failed probe in a few sentences: what was asked where, expected, found, and what to do."""
    result = verdict.result
    address = result.address or request.address or request.host
    where = f"{f'[{address}]' if ':' in address else address}:{result.port}"
    path = "" if request.scheme in ("tls", "tcp") else request.path
    sni = "" if request.scheme in ("http", "tcp") else f", SNI {result.sni or 'none'}"
    method = "" if request.scheme in ("tls", "tcp") else f"{request.method} "
    tries = f" (attempt {verdict.attempts}, after {verdict.elapsed:.0f} s)" if verdict.attempts > 1 else ""
    if request.proxy is not None:
        where = f"port {result.port} through the proxy {request.proxy}"
    message = f"{method}{request.scheme}://{request.host}{path} at {where}{sni}: {'; '.join(verdict.unmet)}{tries}"
    advice = remedy(request, result)
    if not advice and _serves_another(result, verdict.expect):
        advice = "Look with gateway_proxy_info whether the gateway has received this credential or rejected it, and whether another Gateway serves the host"
    return f"{message}. {advice}." if advice else f"{message}."


def found(result: Result) -> str:
    """How a request ended, in words."""
    if not result.failure:
        return _response(result)
    stage = {"dns": "name resolution", "tcp": "the TCP connection", "tls": "the TLS handshake", "http": "the HTTP exchange"}[result.stage]
    return f"failure {result.failure} at {stage} ({result.detail})"


def remedy(request: Request, result: Result) -> str:
    """What usually helps against the failure, without a full stop; empty when there is nothing to say beyond it."""
    leaf = result.peer_chain[0] if result.peer_chain else {}
    match result.failure:
        case "name_not_resolved":
            return "Give the gateway's IP address in address, the host keeps its role in SNI and Host header"
        case "connection_refused" | "connection_timeout" | "unreachable":
            return "Look at the gateway's Service (address, port, node port), its endpoints, and whether a Gateway opens this port"
        case "proxy_failed":
            return (
                f"Look at the proxy, or leave it out: with {request.host} in NO_PROXY, with request_proxy: none, or with the server's IP address in "
                "address, to which the connection is direct"
            )
        case "connection_reset" if result.stage == "tls":
            asked = f"the SNI {result.sni}" if result.sni else "a client that sends no SNI"
            return f"Envoy ends handshakes like this when no server of a Gateway matches {asked}, or when its credential is missing or unusable"
        case "connection_reset" if request.scheme == "tcp":
            return (
                "Behind an egress gateway it looks like this where the server cannot be reached, speaks no TLS on its port, or refuses the "
                "certificate, or the gateway refuses the server's: the gateway's access log names the cause"
            )
        case "connection_reset" if result.stage == "http" and request.scheme == "http":
            return "If the port speaks TLS, use scheme https"
        case "not_tls":
            return "The port speaks something else than TLS, plain HTTP perhaps: look at the Gateway server's protocol, or use scheme http"
        case "unknown_ca":
            trusted = "ca_certificate" if request.ca else "the system's trust store, because no ca_certificate is given"
            if not result.peer_chain:
                return f"The chain was checked against {trusted}"
            return (
                f"The chain was checked against {trusted}; the last of the {len(result.peer_chain)} served certificates names the issuer "
                f"{_plain(result.peer_chain[-1].get('issuer'))}: trust that one (a new CA of the same name is another one), "
                f"or have the server send the certificates up to one that is trusted"
            ) + ("; a proxy that opens TLS serves certificates of a CA of its own" if request.proxy else "")
        case "name_mismatch":
            sans = leaf.get("sans") or []
            if sans:
                return (
                    f"The served certificate is for {_plain(sans)}: issue it for {request.host} too, or look which server answered the SNI"
                )
            return (
                f"The served certificate ({_plain(leaf.get('subject'))}) has no subject alternative names, and a common name alone "
                f"is no longer looked at: issue it with {'DNS' if names.address(request.host) is None else 'IP'}:{request.host}"
            )
        case "expired" | "not_yet_valid":
            validity = f"from {leaf.get('not_before')} to {leaf.get('not_after')}"
            return f"The served certificate is valid {validity}: renew what is out of date (an issuer's too), or correct the clock"
        case "certificate_required":
            return "The server is MUTUAL: give client_certificate_path and client_private_key_path"
        case "client_certificate_refused":
            return "Compare the client certificate's issuer and validity with the CA (and CRL) in the server's credential"
        case "protocol_version":
            return "Compare min_version and max_version with the server's own"
        case "unrecognized_name":
            return "Look at the hosts of the Gateway's servers on this port"
        case "http_timeout":
            return "Raise request_timeout if the answer may take longer"
        case None if result.status is not None:
            return cause(result.status, result.headers, result.text, scheme=request.scheme)
        case _:
            return ""


def _response(result: Result) -> str:
    if result.status is None:
        if result.stage == "tcp":
            return f"a TCP connection on which {_excerpt(result) if result.text else 'nothing'} was said"
        return f"a completed {'TLS handshake' if result.stage == 'tls' else result.stage}"
    server = result.headers.get("server")
    said = f" ({result.text[:120]!r})" if result.status >= 400 and result.text else ""
    return f"status {result.status}{f' from server {server}' if server else ''}{said}"


def _excerpt(result: Result) -> str:
    status = f" (status {result.status})" if result.status is not None else ""  # none over plain TCP
    if not result.text:
        return f"an empty body{status}" if status else "nothing"
    cut = " (only the beginning was read)" if result.text_truncated else ""
    return f"{result.text[:120]!r}{'...' if len(result.text) > 120 else ''}{cut}{status}"


def _any(values: tuple[object, ...]) -> str:
    return " or ".join(map(str, values))


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "(none)"
    return str(value) if value else "(none)"


def _fingerprint(text: str) -> str:
    """A SHA-256 fingerprint in whatever spelling, as 64 lower-case digits if it is one."""
    return re.sub(r"^sha-?256(?: fingerprint)?[=:]|[:\s]", "", text.strip().lower())


def _serial(text: str) -> str:
    return re.sub(r"^(?:serial=)?(?:0x)?|[:\s]", "", text.strip(), flags=re.IGNORECASE).upper().lstrip("0") or "0"
