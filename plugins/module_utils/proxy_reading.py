# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the arguments of gateway_proxy_info to its result: proxies and logs, read until they are as expected or the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import compress
from typing import Any

from .arguments import moment
from .call import Call
from .cluster.client import Cluster
from .cluster.proxies import proxies_in_pods
from .istio.proxy import Log, Look, Source
from .istio.proxy_expect import Expected, ExpectedCredential, ExpectedServer, check, judge
from .istio.proxy_log import Line, is_refusal, refusals
from .live.answers import Search, SearchFailed, pattern_fault
from .live.envoy import check_url, log_in, look_at, matching_lines, source_at
from .problems import Problem, Rejected
from .progress import tell
from .wait import until

_SEARCH_SECONDS = 10.0  # for access_log.regex in all lines of one look, as the documentation says


@dataclass
class _Reading:
    """What is asked for, and what was read last."""

    call: Call
    cluster: Cluster | None
    selector: Mapping[str, str]
    what: str
    """Where proxies are looked for, in words."""
    since: datetime | None
    looks: list[Look] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)
    count: int = 0
    lines: list[Line] = field(default_factory=list)
    attempts: int = 1
    started: float = field(default_factory=time.monotonic)

    @property
    def given(self) -> Mapping[str, Any]:
        return self.call.params["expect"] or {}

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def until(self, attempt: Callable[[], list[str]]) -> list[str]:
        """What is lacking when the time is over; nothing where the attempt was good."""
        params = self.call.params
        seconds = params["timeout"] if params["timeout"] is not None else (0 if params["expect"] is None else 30)
        unmet: list[str] | None = None

        def once() -> bool:
            nonlocal unmet
            if unmet is not None:
                tell(f"attempts at {self.what}", self.attempts)
                self.attempts += 1
            unmet = attempt()
            return not unmet

        until(once, timeout=seconds - self.elapsed, delay=params["delay"])
        return unmet or []

    def proxies(self) -> list[str]:
        sources, self.logs = self._find()
        self.looks = look_at(sources, self.call.now)
        return _proxy_lacks(self.looks, expectation(self.given), self.given, self.what)

    def _find(self) -> tuple[list[Source], list[Log]]:
        params, log = self.call.params, self.call.params["access_log"]
        timeout, namespace = params["request_timeout"], params["namespace"]
        sources, logs = proxies_in_pods(self.cluster, namespace, self.selector, timeout=timeout) if self.cluster else ([], [])
        files = [log_in(path) for path in log["paths"]] if log else []
        return [*sources, *(source_at(url, timeout=timeout) for url in params["admin_urls"])], [*logs, *files]

    def log_is_there(self) -> list[str]:
        log = self.call.params["access_log"]
        search, text = Search(log["regex"], _SEARCH_SECONDS) if log["regex"] else None, log["text"] or ""

        def wanted(some: list[Line]) -> list[Line]:
            with_text = [line for line in some if text in line.text]
            return list(compress(with_text, search.matches([line.text for line in with_text]))) if search else with_text

        try:
            self.count, self.lines = matching_lines(self.logs, self.since, wanted, keep=log["limit"])
        except SearchFailed as failed:
            lacks = f"expected lines that match {log['regex']!r}, found {failed}"
            remedy = "write a simpler expression, or use text for literal text"
            raise Rejected(Problem("regex_too_slow", "access_log.regex", lacks, remedy)) from None
        return _log_lacks(self.count, self.given.get("log_lines"), log, self.logs)


def _whole_milliseconds(when: datetime) -> datetime:
    """Envoy writes its times to the millisecond, cut off: a request of the same one counts as later."""
    return when.replace(microsecond=when.microsecond // 1000 * 1000)


def read_proxies(call: Call) -> dict[str, Any]:
    """The module's result. Raises Rejected for arguments that cannot be meant, ClusterError."""
    params = call.params
    call.judge([*argument_problems(params), *check(expectation(params["expect"] or {}))])
    log = params["access_log"]
    since = _whole_milliseconds(moment(log["since"], call.now, where="access_log.since")) if log else None
    selector = params["selector"] or ({} if params["admin_urls"] else {"istio": "ingressgateway"})
    labels = ",".join(f"{key}={value}" for key, value in selector.items())
    what = f"Pods {labels} in namespace {params['namespace']}" if selector else f"{len(params['admin_urls'])} admin_urls"
    reading = _Reading(call, call.connect() if selector else None, selector, what, since)
    unmet = reading.until(reading.proxies)
    if log:
        unmet += reading.log_is_there() if unmet else reading.until(reading.log_is_there)
    if params["expect"] is None and any(look.proxy for look in reading.looks):
        call.notes += unmet  # what could be read is the answer
        unmet = []
    return _result(reading, unmet)


def _result(reading: _Reading, unmet: list[str]) -> dict[str, Any]:
    params, looks = reading.call.params, _with_reasons(reading.looks, reading.logs, reading.call)
    log = {"log_matches": reading.count, "log_lines": [line.as_result() for line in reading.lines]} if params["access_log"] else {}
    result: dict[str, Any] = {
        "changed": False,
        "proxies": [look.as_result(params["credentials"]) for look in looks],
        **log,
        "unmet": unmet,
        "attempts": reading.attempts,
        "elapsed": round(reading.elapsed, 3),
    }
    if unmet:
        reasons = [f"{look.source.name} refused {one.what}: {one.detail}" for look in looks if look.proxy for one in look.proxy.rejections]
        tries = f" (look {reading.attempts}, after {reading.elapsed:.0f} s)" if reading.attempts > 1 else ""
        result |= {"failed": True, "msg": "; ".join(unmet) + tries + "".join(f". {reason}" for reason in dict.fromkeys(reasons)) + "."}
    return result


def expectation(given: Mapping[str, Any]) -> Expected:
    return Expected(
        credentials=tuple(
            ExpectedCredential(
                one["name"], tuple(one["fingerprint"] or ()), one["ca"], tuple(one["ca_fingerprint"] or ()), one["state"] == "present"
            )
            for one in given.get("credentials") or ()
        ),
        servers=tuple(ExpectedServer(**one) for one in given.get("servers") or ()),
        rejected=given.get("rejected"),
    )


def argument_problems(params: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the arguments themselves, the expectation apart."""
    problems = [problem for url in params["admin_urls"] for problem in check_url(url)]

    def add(where: str, message: str, remedy: str) -> None:
        problems.append(Problem("invalid_request", where, message, remedy))

    if params["selector"] == {}:
        add("selector", "expected labels, found none, which every Pod would match", "name those of the gateway's Pods")
    log = params["access_log"]
    if log and log["regex"] and (fault := pattern_fault(log["regex"])):
        add(
            "access_log.regex",
            f"{log['regex']!r} is not a regular expression: {fault}",
            "correct the expression, or use text for literal text",
        )
    if log and log["paths"] == [] and params["admin_urls"] and params["selector"] is None:
        add("access_log", "a proxy that is no Pod does not say where its log is", "name its files in access_log.paths")
    if log and log["limit"] < 0:
        add("access_log.limit", f"expected 0 or more, found {log['limit']}", "give the number of lines to return")
    if log is None and (params["expect"] or {}).get("log_lines") is not None:
        add("expect.log_lines", "there is no access_log that says which lines are meant", "give access_log")
    for name in ("timeout", "delay", "request_timeout"):
        if params[name] is not None and params[name] < (0.001 if name == "request_timeout" else 0):
            add(name, f"expected seconds, found {params[name]:g}", "give the seconds")
    return problems


def _proxy_lacks(looks: list[Look], expected: Expected, given: Mapping[str, Any], what: str) -> list[str]:
    """What keeps the proxies from being as expected."""
    unmet = [look.error for look in looks if look.error]
    unmet += [f"{look.source.name}: {lack}" for look in looks if look.proxy for lack in judge(look.proxy, expected)]
    if given.get("ready") is not None:
        for look in looks:
            if look.ready != given["ready"] and not look.error:
                why = "; ".join(look.source.facts["troubles"]) or f"Envoy's state is {look.proxy.state if look.proxy else 'unknown'}"
                unmet.append(f"{look.source.name}: expected it {'to be' if given['ready'] else 'not to be'} ready, found otherwise ({why})")
    least = given.get("proxies", 1)
    if len(looks) < least:
        unmet.append(f"expected {least} {'proxy' if least == 1 else 'proxies'} or more, found {len(looks)} ({what})")
    return unmet


def _with_reasons(looks: list[Look], logs: list[Log], call: Call) -> list[Look]:
    """The looks, with what the logs tell of refused updates: of clusters and secrets Envoy keeps no more than that."""
    by_name = {log.name: log for log in logs}
    told = []

    def those_of_refusals(lines: list[Line]) -> list[Line]:
        return [line for line in lines if is_refusal(line.text)]

    for look in looks:
        if look.proxy is not None and look.proxy.is_suspicious:
            # which proxy a file belongs to is not known, unless there is one of each
            own = by_name.get(look.source.name) or (logs[0] if len(logs) == len(looks) == 1 else None)
            __, lines = matching_lines([own] if own else [], call.now - timedelta(hours=1), those_of_refusals, keep=1000)
            look = replace(look, proxy=replace(look.proxy, rejections=(*look.proxy.rejections, *refusals(lines))))
        told.append(look)
    return told


def _log_lacks(count: int, wanted: int | None, log: Mapping[str, Any], logs: list[Log]) -> list[str]:
    if wanted is None or (count == 0 if wanted == 0 else count >= wanted):
        return []
    what = " and ".join(f"{name} {log[name]!r}" for name in ("text", "regex") if log[name]) or "any text"
    places = ", ".join(one.name for one in logs) or "no log"
    hint = "" if count else "; look whether access logging is switched on (meshConfig.accessLogFile, or a Telemetry object)"
    expected = "no line" if wanted == 0 else f"{wanted} line{'s' if wanted > 1 else ''} or more"
    return [f"expected {expected} with {what} since {log['since']} in the logs of {places}, found {count}{hint if wanted else ''}"]
