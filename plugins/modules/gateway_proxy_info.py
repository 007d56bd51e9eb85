#!/usr/bin/python
# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module gateway_proxy_info: what the running proxies of a gateway hold, serve and log, and whether that is as expected."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_proxy_info
short_description: Show which certificates a gateway's proxies really hold, serve and log
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Asks every proxy of a gateway (every replica) for what Envoy itself says - the certificates that it got over SDS and whether it uses them,
    its TLS servers with SNI and credential, the TLS that it originates, and the updates that it refused - and looks for lines in its log.
  - With O(expect), tries until every proxy is as expected; an error names the proxy and what it lacks. Without, it fails if no proxy can be
    read.
  - Proxies in Pods are read through the API server alone, by running C(pilot-agent request) in the container C(istio-proxy), as
    C(istioctl proxy-config) does. Proxies on machines outside Kubernetes are read from their O(admin_urls).
  - Private keys cannot be read this way, and of certificates no more than facts are returned.
extends_documentation_fragment:
  - meshops.istio.auth
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details:
      - Nothing is ever changed; check mode makes no difference.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
options:
  selector:
    description:
      - "Labels of the gateway's Pods. V({istio: ingressgateway}) by default, unless O(admin_urls) is given; then no Pods are looked for."
      - Pods that are going away are left out.
    type: dict
  namespace:
    description:
      - Namespace of the gateway's Pods.
    type: str
    default: istio-system
  admin_urls:
    description:
      - Addresses of the administration interfaces of proxies that are no Pods, for example V(http://127.0.0.1:15000), as they are reached from
        the host that the task runs on.
    type: list
    elements: str
    default: []
  credentials:
    description:
      - Return these credentials only. By default every one that a proxy asked for.
    type: list
    elements: str
    default: []
  access_log:
    description:
      - Look for lines in the proxies' logs. Access logging has to be switched on in the mesh (C(accessLogFile), or a Telemetry object).
      - Envoy writes its access log about once a second, so that a line comes a little after its request; wait for it with O(expect.log_lines).
    type: dict
    suboptions:
      text:
        description:
          - Only lines that hold this text.
        type: str
      regex:
        description:
          - Only lines in which this regular expression matches. Looking for it in all lines may take 10 seconds.
        type: str
      since:
        description:
          - Only lines that were written since this time, as RFC 3339 (V(2026-01-31T12:00:00Z)), or for so long (V(5m)).
        type: str
        default: 5m
      paths:
        description:
          - Log files on the host that the task runs on, of proxies that are no Pods. A line's time is what it says itself; access logs in
            Istio's own format say when the request began.
        type: list
        elements: str
        default: []
      limit:
        description:
          - How many lines to return, the last ones.
        type: int
        default: 100
  expect:
    description:
      - What every proxy should be like; everything given must hold. Each proxy must also be there to be read.
    type: dict
    suboptions:
      proxies:
        description:
          - There are so many proxies at least, for example the gateway's replicas.
        type: int
        default: 1
      ready:
        description:
          - Whether every proxy is ready.
        type: bool
      credentials:
        description:
          - The gateway got these credentials over SDS, and uses them.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description:
              - Name of the credential as in C(credentialName), or Envoy's own name for it, for example V(kubernetes-gateway://team/shop).
            type: str
            required: true
          fingerprint:
            description:
              - SHA-256 fingerprint of its certificate, or any of these. If the credential is a CA, of one of its certificates.
            type: list
            elements: str
          ca:
            description:
              - Whether it has to bring a CA for the clients' certificates too (for O(expect.servers[].mode=MUTUAL)).
            type: bool
          ca_fingerprint:
            description:
              - SHA-256 fingerprint of one of these CA certificates.
            type: list
            elements: str
          state:
            description:
              - V(absent) if no proxy may hold it any more. What is only there for listeners that are on their way out does not count.
            type: str
            choices: [present, absent]
            default: present
      servers:
        description:
          - There are these TLS servers.
        type: list
        elements: dict
        default: []
        suboptions:
          sni:
            description:
              - The server name, as in the Gateway's hosts; V(*) for the server that answers any.
            type: str
            required: true
          credential:
            description:
              - Its credential.
            type: str
          mode:
            description:
              - Its TLS mode.
            type: str
            choices: [SIMPLE, MUTUAL, OPTIONAL_MUTUAL, ISTIO_MUTUAL, PASSTHROUGH]
      rejected:
        description:
          - V(false) if no proxy may have refused an update that it has not got right since. Envoy tells this of listeners; a credential that it
            refused is one that it does not use, see O(expect.credentials).
        type: bool
      log_lines:
        description:
          - O(access_log) finds so many lines at least in all proxies' logs together. V(0) if there must be none.
        type: int
  timeout:
    description:
      - Seconds during which it is looked again until all is as expected. V(30) by default with O(expect), V(0) without.
    type: float
  delay:
    description:
      - Seconds between looks.
    type: float
    default: 1
  request_timeout:
    description:
      - Seconds within which a proxy has to answer, with the whole of each page.
    type: float
    default: 30
notes:
  - Proxies in Pods need the rights C(list) on C(pods), C(get) and C(create) on C(pods/exec), and C(get) on C(pods/log) for O(access_log), in
    the gateway's namespace; C(docs/rbac/pods.yaml) grants them. The right to run commands in gateway Pods is the right to read their
    private keys; give it only where that is acceptable.
  - The C(kubernetes) library is not needed where only O(admin_urls) are read.
  - What a proxy refused is told without its content. The log of a proxy that refused something is looked through for the reason.
seealso:
  - module: meshops.istio.istio_tls_credential_info
  - module: meshops.istio.tls_probe
"""

EXAMPLES = r"""
- name: The gateway got the key pair, in every replica
  meshops.istio.gateway_proxy_info:
    expect:
      proxies: 2
      credentials:
        - name: httpbin-credential
          fingerprint: "{{ stored.credentials[0].certificate.fingerprint_sha256 }}"

- name: And the CA for the clients' certificates
  meshops.istio.gateway_proxy_info:
    expect:
      credentials:
        - name: httpbin-credential
          ca: true
      servers:
        - sni: httpbin.example.com
          credential: httpbin-credential
          mode: MUTUAL

- name: The egress gateway's log has the line
  meshops.istio.gateway_proxy_info:
    selector: {istio: egressgateway}
    access_log:
      text: nginx.example.com
      since: "{{ before_the_request }}"
    expect:
      log_lines: 1

- name: A gateway on a virtual machine
  meshops.istio.gateway_proxy_info:
    admin_urls: ["http://127.0.0.1:15000"]
    access_log:
      regex: 'GET /status/418 .* 418 '
      paths: [/var/log/istio/istio.log]
  register: gateway
"""

RETURN = r"""
proxies:
  description: One entry a proxy.
  returned: when something could be read
  type: list
  elements: dict
  contains:
    name:
      description: How messages call it, C(Pod namespace/name) or the administration interface's URL.
      type: str
      sample: Pod istio-system/istio-ingressgateway-767c87dc78-qhq6p
    namespace:
      description: Its Pod's namespace, or null.
      type: str
    pod:
      description: Its Pod's name, or null.
      type: str
    admin_url:
      description: Its administration interface, or null.
      type: str
    ready:
      description: Whether its Pod is ready, or (for one that is no Pod) whether Envoy calls itself live.
      type: bool
    troubles:
      description: Why its Pod is not ready, as Kubernetes says.
      type: list
      elements: str
    error:
      description: Why it could not be read, or null. What follows is there if it could.
      type: str
    node:
      description: What it calls itself towards istiod.
      type: str
      sample: istio-ingressgateway-767c87dc78-qhq6p.istio-system
    version:
      description: Envoy's version.
      type: str
      sample: 1.36.2
    istio_version:
      description: The version of Istio's agent.
      type: str
      sample: 1.28.0
    state:
      description: Envoy's state, V(LIVE), V(DRAINING), V(PRE_INITIALIZING) or V(INITIALIZING).
      type: str
    secrets:
      description: What it asked for over SDS.
      type: list
      elements: dict
      contains:
        name:
          description: The credential's name; a CA that a credential brings has the name with C(-cacert).
          type: str
          sample: httpbin-credential
        resource:
          description: Envoy's name for it.
          type: str
          sample: kubernetes://httpbin-credential
        kind:
          description: V(certificate) (with its key), V(ca) or V(other).
          type: str
        state:
          description: V(active), V(static), or V(warming) if it has not come.
          type: str
        in_use:
          description: Whether Envoy uses it. It keeps what it refused (a key that does not belong to the certificate) without using it, and
            what came in the same message.
          type: bool
        last_updated:
          description: When it came last.
          type: str
        certificates:
          description:
            - Facts about its certificates, leaf first - C(fingerprint_sha256), C(serial), C(subject), C(common_name), C(sans), C(issuer),
              C(not_before), C(not_after), C(days_left), C(key) and C(is_ca).
          type: list
          elements: dict
        has_crl:
          description: Whether there is a CRL with the CA.
          type: bool
        has_staple:
          description: Whether there is an OCSP response with the certificate.
          type: bool
    other_certificates:
      description: Certificates in use that belong to none of these, such as those read from files, with C(kind), C(path), C(serial), C(sans),
        C(not_before), C(not_after) and C(days_left).
      type: list
      elements: dict
    listeners:
      description: Its listeners that speak TLS, with C(name), C(address), C(state) and C(servers), which have C(sni) (empty for any), C(mode),
        C(credentials), C(ca_credential) and C(alpn).
      type: list
      elements: dict
    originations:
      description: The TLS that it originates itself, with C(cluster), C(state), C(sni), C(credentials), C(ca_credential) and
        C(subject_alt_names).
      type: list
      elements: dict
    rejections:
      description: The updates that it refused and has not got right since, and those that its log of the last hour tells of, with C(what),
        C(detail) and C(at).
      type: list
      elements: dict
    counters:
      description: How often it refused something since it started, as far as it counts that, by Envoy's name for it.
      type: dict
log_matches:
  description: How many lines of the logs match.
  returned: with O(access_log)
  type: int
log_lines:
  description: The last of them, with C(proxy) (or path), C(time) (or null) and C(line).
  returned: with O(access_log)
  type: list
  elements: dict
unmet:
  description: What is not as expected, each with the proxy that it is about.
  returned: always
  type: list
  elements: str
attempts:
  description: How often it was looked.
  returned: always
  type: int
elapsed:
  description: Seconds that all of it took.
  returned: always
  type: float
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.arguments import moment
from ansible_collections.meshops.istio.plugins.module_utils.cluster.proxies import proxies_in_pods
from ansible_collections.meshops.istio.plugins.module_utils.istio.proxy import (
    Expected,
    ExpectedCredential,
    ExpectedServer,
    Line,
    Log,
    Look,
    Source,
    check,
    is_refusal,
    judge,
    refusals,
)
from ansible_collections.meshops.istio.plugins.module_utils.live.answers import Search, TooSlow, pattern_fault
from ansible_collections.meshops.istio.plugins.module_utils.live.envoy import check_url, log_in, look_at, matching_lines, source_at
from ansible_collections.meshops.istio.plugins.module_utils.module import Call, run_module
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem, Rejected

MODES = ["SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL", "PASSTHROUGH"]

SEARCH_SECONDS = 10.0  # for access_log.regex in all lines of one look, as the documentation says

SPEC: dict[str, Any] = {
    "selector": {"type": "dict"},
    "namespace": {"type": "str", "default": "istio-system"},
    "admin_urls": {"type": "list", "elements": "str", "default": []},
    "credentials": {"type": "list", "elements": "str", "default": []},
    "access_log": {
        "type": "dict",
        "options": {
            "text": {"type": "str"},
            "regex": {"type": "str"},
            "since": {"type": "str", "default": "5m"},
            "paths": {"type": "list", "elements": "str", "default": []},
            "limit": {"type": "int", "default": 100},
        },
    },
    "expect": {
        "type": "dict",
        "options": {
            "proxies": {"type": "int", "default": 1},
            "ready": {"type": "bool"},
            "credentials": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "fingerprint": {"type": "list", "elements": "str"},
                    "ca": {"type": "bool"},
                    "ca_fingerprint": {"type": "list", "elements": "str"},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
            },
            "servers": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "sni": {"type": "str", "required": True},
                    "credential": {"type": "str"},
                    "mode": {"type": "str", "choices": MODES},
                },
            },
            "rejected": {"type": "bool"},
            "log_lines": {"type": "int"},
        },
    },
    "timeout": {"type": "float"},
    "delay": {"type": "float", "default": 1},
    "request_timeout": {"type": "float", "default": 30},
}


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
        add("access_log.regex", f"{log['regex']!r} is not a regular expression: {fault}", "correct it, or use text for literal text")
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


def proxy_lacks(looks: list[Look], expected: Expected, given: Mapping[str, Any], what: str) -> list[str]:
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


def with_reasons(looks: list[Look], logs: list[Log], call: Call) -> list[Look]:
    """The looks, with what the logs tell of refused updates: of clusters and secrets Envoy keeps no more than that."""
    by_name = {log.name: log for log in logs}
    told = []
    for look in looks:
        if look.proxy is not None and look.proxy.is_suspicious:
            # which proxy a file belongs to is not known, unless there is one of each
            own = by_name.get(look.source.name) or (logs[0] if len(logs) == len(looks) == 1 else None)
            __, lines = matching_lines([own] if own else [], call.now - timedelta(hours=1), is_refusal, keep=1000)
            look = replace(look, proxy=replace(look.proxy, rejections=(*look.proxy.rejections, *refusals(lines))))
        told.append(look)
    return told


def log_lacks(count: int, wanted: int | None, log: Mapping[str, Any], logs: list[Log]) -> list[str]:
    if wanted is None or (count == 0 if wanted == 0 else count >= wanted):
        return []
    what = " and ".join(f"{name} {log[name]!r}" for name in ("text", "regex") if log[name]) or "any text"
    places = ", ".join(one.name for one in logs) or "no log"
    hint = "" if count else "; look whether access logging is switched on (meshConfig.accessLogFile, or a Telemetry object)"
    expected = "no line" if wanted == 0 else f"{wanted} line{'s' if wanted > 1 else ''} or more"
    return [f"expected {expected} with {what} since {log['since']} in the logs of {places}, found {count}{hint if wanted else ''}"]


def act(call: Call) -> dict[str, Any]:
    params, given = call.params, call.params["expect"] or {}
    expected = expectation(given)
    call.judge([*argument_problems(params), *check(expected)])
    log = params["access_log"]
    since = moment(log["since"], call.now, where="access_log.since") if log else None
    selector = params["selector"] or ({} if params["admin_urls"] else {"istio": "ingressgateway"})
    labels = ",".join(f"{key}={value}" for key, value in selector.items())
    what = f"Pods {labels} in namespace {params['namespace']}" if selector else f"{len(params['admin_urls'])} admin_urls"
    cluster = call.connect() if selector else None

    def find() -> tuple[list[Source], list[Log]]:
        timeout = params["request_timeout"]
        sources, logs = proxies_in_pods(cluster, params["namespace"], selector, timeout=timeout) if cluster else ([], [])
        files = [log_in(path) for path in log["paths"]] if log else []
        return [*sources, *(source_at(url, timeout=timeout) for url in params["admin_urls"])], [*logs, *files]

    started = time.monotonic()
    seconds = params["timeout"] if params["timeout"] is not None else (0 if params["expect"] is None else 30)
    attempts = 1

    def until(attempt: Callable[[], list[str]]) -> list[str]:
        nonlocal attempts
        while True:
            unmet = attempt()
            if not unmet or time.monotonic() - started + params["delay"] >= seconds:
                return unmet
            time.sleep(params["delay"])
            attempts += 1

    looks: list[Look] = []
    logs: list[Log] = []
    count, lines = 0, list[Line]()

    def proxies() -> list[str]:
        nonlocal looks, logs
        sources, logs = find()
        looks = look_at(sources, call.now)
        return proxy_lacks(looks, expected, given, what)

    def log_is_there() -> list[str]:
        nonlocal count, lines
        search, text = Search(log["regex"], SEARCH_SECONDS) if log["regex"] else None, log["text"] or ""
        try:
            count, lines = matching_lines(
                logs, since, lambda line: text in line and (not search or search.matches(line)), keep=log["limit"]
            )
        except TooSlow as slow:
            lacks = f"expected lines that match {log['regex']!r}, found {slow}"
            raise Rejected(
                Problem("regex_too_slow", "access_log.regex", lacks, "write a simpler expression, or use text for literal text")
            ) from None
        return log_lacks(count, given.get("log_lines"), log, logs)

    unmet = until(proxies)
    if log:
        unmet += log_is_there() if unmet else until(log_is_there)
    if params["expect"] is None and any(look.proxy for look in looks):
        call.notes += unmet  # what could be read is the answer
        unmet = []
    looks = with_reasons(looks, logs, call)
    result: dict[str, Any] = {
        "changed": False,
        "proxies": [look.as_result(params["credentials"]) for look in looks],
        **({"log_matches": count, "log_lines": [line.as_result() for line in lines]} if log else {}),
        "unmet": unmet,
        "attempts": attempts,
        "elapsed": round(time.monotonic() - started, 3),
    }
    if unmet:
        reasons = [f"{look.source.name} refused {one.what}: {one.detail}" for look in looks if look.proxy for one in look.proxy.rejections]
        tries = f" (look {attempts}, after {time.monotonic() - started:.0f} s)" if attempts > 1 else ""
        result |= {"failed": True, "msg": "; ".join(unmet) + tries + "".join(f". {reason}" for reason in dict.fromkeys(reasons)) + "."}
    return result


def main() -> None:
    run_module(SPEC, act, needs=("kubernetes", "cryptography", "websocket"))


if __name__ == "__main__":
    main()
