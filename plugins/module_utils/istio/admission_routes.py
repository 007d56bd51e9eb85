# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What istiod's validating webhook, and the CRD's own schema, refuse in a VirtualService, decided from the manifest alone.

The rules are those of Istio's pkg/config/validation (virtualservice.go, validation.go), as far as our builders use the fields: mirroring,
fault injection, CORS and delegates are left to istiod. What istiod only warns about is a warning here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from ..problems import Problem
from .names import (
    Found,
    Manifest,
    domain_fault,
    duration_problems,
    is_address,
    is_label,
    matches,
    metadata_problems,
    port_problems,
    subset_of,
)

RETRY_POLICIES = (
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
)
_HEADER_NAME = re.compile(r"[!#$%&'*+,.^_`|~A-Za-z0-9-]+")
_PSEUDO_HEADERS = (":method", ":scheme", ":authority", ":path", ":status")
_JWT_CLAIM = re.compile(r"@request\.auth\.claims(?:\..+|\[.+\])", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ARGUMENT = r'(?:\\.|[^"\\)])*'
_ARGUMENTS = rf'\( *(?:\[ *"{_ARGUMENT}"(?: *, *"{_ARGUMENT}")* *\] *|[^\[ ]{_ARGUMENT})\) *'
_HEADER_VALUE = re.compile(rf"(?:[^%]|%[^%(]*(?:{_ARGUMENTS})?%)*", re.DOTALL)  # %VARIABLE%, %VARIABLE(arguments)%, %% for a percent sign
_INT32 = 2**31 - 1
_REGEX_MAX = 1024

RuleWhere = Callable[[str, int], str]
"""(`http`, `tls` or `tcp`, position) -> the rule's name for the user."""


def virtual_service_problems(manifest: Manifest, where: str, rule_where: RuleWhere | None = None) -> tuple[Problem, ...]:
    """A whole VirtualService with hosts (delegates, which have none, are not looked at)."""
    return tuple(_virtual_service(manifest, where, rule_where or (lambda kind, index: f"{where}: {kind}[{index}]")))


def _virtual_service(manifest: Manifest, where: str, rule_where: RuleWhere) -> Found:
    yield from metadata_problems(manifest, where)
    spec: Manifest = manifest["spec"]
    hosts: Sequence[str] = spec.get("hosts") or []
    gateways: Sequence[str] = spec.get("gateways") or []
    tls: Sequence[Manifest] = spec.get("tls") or []
    for gateway in gateways:
        yield from _gateway_name(gateway, where)
    to_gateway = bool(gateways) and "mesh" not in gateways
    by_sni = to_gateway and any(match.get("sniHosts") for rule in tls for match in rule.get("match") or [])
    if not hosts:
        yield Problem("no_hosts", where, "expected at least one host, found none", "list one")
    faulty = False
    for host in hosts:
        fault = None if is_address(host) or (by_sni and _is_outbound_sni(host)) else domain_fault(host)
        if fault:
            yield Problem("host", where, f"expected a domain name as host, found {host!r}: {fault}", "write it like httpbin.example.com")
        elif host == "*" and not to_gateway:
            fault = "it is for gateways only"
            yield Problem("host", where, "the host '*' is not allowed for the mesh itself", "name the hosts")
        faulty = faulty or bool(fault)
    if not faulty:
        for position, host in enumerate(hosts):
            for other in hosts[position + 1 :]:
                if matches(host, other):
                    yield Problem(
                        "hosts_overlap", where, f"expected hosts that do not overlap, found {host!r} and {other!r}", "keep the wider one"
                    )
    rules = [(kind, index, rule) for kind in ("http", "tls", "tcp") for index, rule in enumerate(spec.get(kind) or [])]
    if not rules:
        yield Problem("no_routes", where, "expected at least one route, found none", "add one")
    for kind, index, rule in rules:
        if kind == "http":
            yield from _http_rule(rule, rule_where(kind, index))
        elif kind == "tls":
            yield from _tls_rule(rule, hosts, to_gateway, rule_where(kind, index))
        else:
            yield from _tcp_rule(rule, rule_where(kind, index))
    for kind in ("http", "tls", "tcp"):
        yield from _unreachable(spec.get(kind) or [], lambda index, kind=kind: rule_where(kind, index))  # type: ignore[misc]


def _gateway_name(name: str, where: str) -> Found:
    namespace, separator, rest = name.partition("/")
    valid = (is_label(namespace) and is_label(rest)) if separator else domain_fault(name) is None and "*" not in name
    if not valid:
        yield Problem(
            "gateway_reference", where, f"expected namespace/name of a Gateway, found {name!r}", "write it like default/mygateway"
        )


def _is_outbound_sni(host: str) -> bool:
    """`outbound_.80_._.e2e.foobar.mesh`: what proxies send to an AUTO_PASSTHROUGH server."""
    return bool(re.match(r"outbound_[^_]*[0-9][^_]*_[^_]*_[^_]*[a-zA-Z]", host))


def http_rule_problems(rule: Manifest, where: str) -> tuple[Problem, ...]:
    """One entry of a VirtualService's `http`."""
    return tuple(_http_rule(rule, where))


def _http_rule(rule: Manifest, where: str) -> Found:
    answers = [field for field in ("route", "redirect", "directResponse") if rule.get(field)]
    if not answers and not rule.get("delegate"):
        yield Problem("no_destination", where, "expected a destination, found none", "name the service that answers")
    if len(answers) > 1:
        yield Problem("destination_and_redirect", where, f"expected one of {', '.join(answers)}, found all of them", "keep one")
    for index, match in enumerate(rule.get("match") or []):
        yield from _http_match(match, f"{where}.match[{index}]")
    yield from _headers(rule.get("headers") or {}, where)
    yield from _rewrite(rule, where)
    yield from _retries(rule.get("retries"), where)
    if rule.get("timeout") is not None:
        yield from duration_problems(rule["timeout"], f"{where}: timeout")
    yield from _destinations(rule.get("route") or [], where)
    for destination in rule.get("route") or []:
        yield from _headers(destination.get("headers") or {}, where)


def _http_match(match: Manifest, where: str) -> Found:
    for field in ("uri", "scheme", "method", "authority"):
        if match.get(field) is not None:
            # the empty prefix of a path is the one that proxies take
            yield from _string_match(match[field], f"{where}: {field}", empty_prefix=field == "uri")
    for field in ("headers", "withoutHeaders"):
        for name, header in (match.get(field) or {}).items():
            if not name or (name not in _PSEUDO_HEADERS and not _JWT_CLAIM.fullmatch(name) and not _HEADER_NAME.fullmatch(name)):
                yield Problem(
                    "header_name", where, f"expected the name of a header in {field}, found {name!r}", "use letters, digits and '-'"
                )
            if not (field == "withoutHeaders" and (header or {}).get("regex") == "*"):
                yield from _string_match(header or {}, f"{where}: {field} {name}")
    for name, parameter in (match.get("queryParams") or {}).items():
        yield from _string_match(parameter or {}, f"{where}: queryParams {name}")
    if match.get("port"):
        yield from port_problems(match["port"], where)
    for gateway in match.get("gateways") or []:
        yield from _gateway_name(gateway, where)


def _string_match(match: Manifest, where: str, *, empty_prefix: bool = False) -> Found:
    chosen = [kind for kind in ("exact", "prefix", "regex") if match.get(kind) is not None]
    if len(chosen) > 1:
        yield Problem("match_kinds", where, f"expected one of exact, prefix and regex, found {' and '.join(chosen)}", "keep one")
    elif chosen == ["prefix"] and not match["prefix"] and not empty_prefix:
        yield Problem("match_empty", where, "expected a text as prefix, found an empty one", "leave it out to match everything")
    elif chosen == ["regex"]:
        yield from _regex(match["regex"], where)


def _regex(text: str, where: str) -> Found:
    if not text:
        yield Problem("match_empty", where, "expected a regular expression, found an empty one", "leave it out to match everything")
    elif len(text) > _REGEX_MAX:
        yield Problem("regex", where, f"expected a regular expression of up to {_REGEX_MAX} characters, found {len(text)}", "shorten it")
    elif fault := _regex_fault(text):
        yield Problem(
            "regex",
            where,
            f"expected a regular expression in RE2's syntax, found {text!r}: {fault}",
            "see https://github.com/google/re2/wiki/Syntax",
        )


def _regex_fault(text: str) -> str | None:
    """Why RE2 would not take it, as far as can be told without RE2: what it lacks, and what is no regular expression at all."""
    bare = re.sub(r"\[\^?\]?(?:\\.|[^\]\\])*\]", "c", re.sub(r"\\[^1-9]", "e", text), flags=re.DOTALL)
    if re.search(r"\(\?(?:[=!]|<[=!])", bare):
        return "it looks ahead or behind, which RE2 cannot"
    if re.search(r"\\[1-9]", bare):
        return "it refers back to a group, which RE2 cannot"
    if re.search(r"\(\?>|[*+?}]\+", bare):
        return "it uses an atomic group or a possessive quantifier, which RE2 has not"
    try:
        re.compile(text)
    except re.error as error:
        broken = ("unterminated", "unbalanced", "nothing to repeat", "multiple repeat", "bad character range", "min repeat greater")
        return error.msg if any(word in error.msg for word in broken) or error.msg.startswith("missing )") else None
    except (RecursionError, OverflowError):
        return None
    return None


def _headers(headers: Manifest, where: str) -> Found:
    for side in ("request", "response"):
        operations: Manifest = headers.get(side) or {}
        for operation in ("add", "set"):
            for name, value in (operations.get(operation) or {}).items():
                yield from _changed_header(name, where, authority=side == "request")
                if _CONTROL.search(value) or not _HEADER_VALUE.fullmatch(value):
                    yield Problem(
                        "header_value",
                        where,
                        f"expected a header value in which '%' begins and ends a variable, for {name}, found {value!r}",
                        "write a literal percent sign as %%",
                    )
        for name in operations.get("remove") or []:
            yield from _changed_header(name, where, authority=False)


def _changed_header(name: str, where: str, *, authority: bool) -> Found:
    if not name:
        yield Problem("header_name", where, "expected the name of a header, found an empty one", "name it")
    elif (name.startswith(":") or name.lower() == "host") and not (authority and name.lower() in (":authority", "host")):
        yield Problem("header_name", where, f"the header {name!r} cannot be changed", "leave it out; use rewrite for host and path")


def _rewrite(rule: Manifest, where: str) -> Found:
    rewrite: Manifest | None = rule.get("rewrite")
    if rewrite is None:
        return
    if not any(rewrite.get(field) for field in ("uri", "uriRegexRewrite", "authority")):
        yield Problem("rewrite", where, "expected a URI or an authority in rewrite, found neither", "set one, or leave out rewrite")
    if rewrite.get("uri") and rewrite.get("uriRegexRewrite"):
        yield Problem("rewrite", where, "expected one of uri and uriRegexRewrite, found both", "keep one")
    if rewrite.get("authority"):
        requests: Manifest = (rule.get("headers") or {}).get("request") or {}
        changed = [name for operation in ("set", "add") for name in requests.get(operation) or {} if name.lower() in (":authority", "host")]
        if changed:
            yield Problem(
                "rewrite", where, f"expected one place that sets the authority, found rewrite and header {changed[0]}", "keep one"
            )


def _retries(retries: Manifest | None, where: str) -> Found:
    if retries is None:
        return
    attempts = retries.get("attempts", 0)
    if attempts < 0:
        yield Problem("retries", where, f"expected a number of attempts, found {attempts}", "use 0 to turn retries off")
    elif attempts == 0 and (retries.get("perTryTimeout") or retries.get("retryOn")):
        yield Problem("retries", where, "found a retry policy with 0 attempts", "ask for attempts, or leave the rest out")
    if retries.get("perTryTimeout") is not None:
        yield from duration_problems(retries["perTryTimeout"], f"{where}: retries.perTryTimeout")
    for policy in (retries.get("retryOn") or "").split(","):
        if policy and policy not in RETRY_POLICIES and not (policy.isdigit() and 100 <= int(policy) <= 599):
            yield Problem(
                "retries", where, f"expected a retry condition, found {policy!r}", f"use {', '.join(RETRY_POLICIES)} or an HTTP status"
            )


def tls_rule_problems(rule: Manifest, hosts: Sequence[str], where: str, *, to_gateway: bool = True) -> tuple[Problem, ...]:
    """One entry of a VirtualService's `tls`; `hosts` are the VirtualService's."""
    return tuple(_tls_rule(rule, hosts, to_gateway, where))


def _tls_rule(rule: Manifest, hosts: Sequence[str], to_gateway: bool, where: str) -> Found:
    if not rule.get("match"):
        yield Problem("sni_missing", where, "a TLS route needs the SNI hosts that it matches, found none", "list them")
    for match in rule.get("match") or []:
        if not match.get("sniHosts"):
            yield Problem("sni_missing", where, "a TLS route needs the SNI hosts that it matches, found none", "list them")
        for sni in match.get("sniHosts") or []:
            fault = None if to_gateway and _is_outbound_sni(sni) else domain_fault(sni)
            if fault and is_address(sni):
                yield Problem(
                    "sni_is_address",
                    where,
                    f"clients send no address as SNI, found {sni!r}",
                    "name the domain that clients ask for",
                    "warning",
                )
            elif fault:
                yield Problem(
                    "sni_host",
                    where,
                    f"expected a domain name as SNI host, found {sni!r}: {fault}",
                    "name the host that clients ask for, such as shop.example.com",
                )
            elif not any(subset_of(sni, host) for host in hosts):
                yield Problem("sni_host", where, f"expected an SNI host among {', '.join(hosts)}, found {sni!r}", "make both agree")
        if match.get("port"):
            yield from port_problems(match["port"], where)
        for gateway in match.get("gateways") or []:
            yield from _gateway_name(gateway, where)
    if not rule.get("route"):
        yield Problem("no_destination", where, "expected a destination, found none", "name the service that answers")
    yield from _destinations(rule.get("route") or [], where)


def _tcp_rule(rule: Manifest, where: str) -> Found:
    for match in rule.get("match") or []:
        if match.get("port"):
            yield from port_problems(match["port"], where)
        for gateway in match.get("gateways") or []:
            yield from _gateway_name(gateway, where)
    if not rule.get("route"):
        yield Problem("no_destination", where, "expected a destination, found none", "name the service that answers")
    yield from _destinations(rule.get("route") or [], where)


def _destinations(routes: Sequence[Manifest], where: str) -> Found:
    for route in routes:
        yield from _destination(route.get("destination") or {}, where)
        weight = route.get("weight") or 0
        if not 0 <= weight <= _INT32:
            yield Problem("weight", where, f"expected a weight of 0 or more, found {weight}", "give a whole number, such as 100")
    if len(routes) > 1 and not sum(route.get("weight") or 0 for route in routes):
        yield Problem(
            "weight", where, "expected weights for several destinations, found none above 0", "give each its share, for example 90 and 10"
        )


def _destination(destination: Manifest, where: str) -> Found:
    host = destination.get("host") or ""
    fault = "it would match everything" if host == "*" else domain_fault(host)
    if fault:
        yield Problem(
            "destination_host",
            where,
            f"expected the name of a service as destination, found {host!r}: {fault}",
            "name the Service, such as shop.default.svc.cluster.local",
        )
    if destination.get("subset") and not is_label(destination["subset"]):
        yield Problem(
            "subset",
            where,
            f"expected letters, digits and '-' as subset, found {destination['subset']!r}",
            "use the name of a subset of the DestinationRule",
        )
    if destination.get("port") is not None:
        yield from port_problems(destination["port"].get("number", 0), where)


def _unreachable(rules: Sequence[Manifest], rule_where: Callable[[int], str]) -> Found:
    """Rules are tried in their order, so what follows a rule without conditions, or repeats one, is never reached."""
    catch_all: int | None = None
    seen: list[tuple[Any, int]] = []
    for index, rule in enumerate(rules):
        where = rule_where(index)
        conditions: Sequence[Any] = rule.get("match") or []
        if catch_all is not None:
            remedy = "move the one without conditions to the end"
            yield Problem("route_unreachable", where, f"{rule_where(catch_all)} matches everything before it", remedy, "warning")
            continue
        if not conditions:
            catch_all = index
        for condition in conditions:
            earlier = next((position for known, position in seen if known == condition), None)
            if earlier is None:
                seen.append((condition, index))
            else:
                yield Problem("route_repeated", where, f"found a condition that {rule_where(earlier)} has too", "leave one out", "warning")
