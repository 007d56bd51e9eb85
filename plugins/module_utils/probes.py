# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes from the arguments that ask for them to their results: one, or a list of them side by side."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from .arguments import content_or_path
from .cluster.client import Cluster, ClusterError
from .cluster.pods import Pod, PodError, pick_pod, run
from .cluster.served_credentials import certificates, renewal, secret_of
from .live import material
from .live.answers import hider
from .live.curl import OUTPUT_KEPT, check_for_curl, probe_by
from .live.curl_answer import CurlError, Files
from .live.expect import Expect, Verdict, check, check_trying, explain, until
from .live.handshake import Contexts
from .live.probe import probe
from .live.request import FAILURES, VERSIONS, Request, Result
from .live.request import check as check_request
from .live.side_by_side import Sleep, side_by_side
from .live.tunnel import chosen
from .objects.kinds import Ref
from .problems import Problem, Rejected

Options = Mapping[str, Any]
Connect = Callable[["str | None"], Cluster]
"""Connects to the cluster of an API server, by default the one that the login names."""

PROBE_OPTIONS: dict[str, Any] = {
    "host": {"type": "str"},
    "address": {"type": "str"},
    "port": {"type": "int"},
    "ports": {"type": "dict"},
    "scheme": {"type": "str", "choices": ["https", "http", "tls", "tcp"]},
    "sni": {"type": "str"},
    "verify": {"type": "bool"},
    "ca_certificate": {"type": "str"},
    "ca_certificate_path": {"type": "path"},
    "trust_system_store": {"type": "bool"},
    "client_certificate": {"type": "str", "no_log": True},  # the key may be in it
    "client_certificate_path": {"type": "path"},
    "client_private_key": {"type": "str", "no_log": True},
    "client_private_key_path": {"type": "path", "no_log": False},
    "client_private_key_passphrase": {"type": "str", "no_log": True},
    "min_version": {"type": "str", "choices": list(VERSIONS)},
    "max_version": {"type": "str", "choices": list(VERSIONS)},
    "alpn": {"type": "list", "elements": "str"},
    "method": {"type": "str"},
    "path": {"type": "str"},
    "headers": {"type": "dict"},
    "secret_headers": {"type": "dict", "no_log": True},
    "body": {"type": "raw"},
    "request_timeout": {"type": "float"},
    "request_proxy": {"type": "str"},
    "from_pod": {
        "type": "dict",
        "options": {
            "namespace": {"type": "str", "default": "default"},
            "name": {"type": "str"},
            "selector": {"type": "dict"},
            "container": {"type": "str"},
            "api_server": {"type": "str"},
            "ca_certificate_path": {"type": "str"},
            "client_certificate_path": {"type": "str"},
            "client_private_key_path": {"type": "str", "no_log": False},
        },
        "mutually_exclusive": [("name", "selector")],
        "required_one_of": [("name", "selector")],
    },
    "expect": {
        "type": "dict",
        "options": {
            "status": {"type": "list", "elements": "int"},
            "text": {"type": "str"},
            "text_regex": {"type": "str"},
            "headers": {"type": "dict"},
            "credential": {"type": "list", "elements": "str"},
            "fingerprint": {"type": "list", "elements": "str"},
            "serial": {"type": "list", "elements": "str"},
            "protocol": {"type": "str", "choices": list(VERSIONS)},
            "failure": {"type": "list", "elements": "str", "choices": list(FAILURES)},
            "alert": {"type": "list", "elements": "str"},
        },
    },
    "credential_namespace": {"type": "str"},
    "timeout": {"type": "float"},
    "delay": {"type": "float"},
    "consecutive": {"type": "int"},
}
DEFAULTS: dict[str, Any] = {
    "scheme": "https",
    "verify": True,
    "method": "GET",
    "path": "/",
    "request_timeout": 10.0,
    "credential_namespace": "istio-system",
    "delay": 1.0,
    "consecutive": 1,
}
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MOST_AT_ONCE = 256

_USUAL_PORTS = {"https": 443, "tls": 443, "http": 80}
_TRUST = ("ca_certificate", "ca_certificate_path")
_IDENTITY = (
    "client_certificate",
    "client_certificate_path",
    "client_private_key",
    "client_private_key_path",
    "client_private_key_passphrase",
)
_MERGED = ("headers", "secret_headers")
_NOT_IN_LISTS = ("name", "probes", "parallel", "api_server")

# What a user of other clients may have meant by an option that is about the cluster here.
_MISTAKABLE: dict[str, tuple[tuple[str, str], ...]] = {
    "unknown_ca": (("ca_cert", "ca_certificate_path"), ("validate_certs", "verify")),
    "certificate_required": (("client_cert", "client_certificate_path"), ("client_key", "client_private_key_path")),
}


@dataclass(frozen=True)
class Probe:
    """One probe as it was asked for."""

    name: str
    where: str
    """What stands before the arguments' names in messages; empty for the only probe."""
    options: Options
    request: Request
    expect: Expect
    contexts: Contexts = field(repr=False)
    credentials: tuple[Ref, ...] = ()
    """Secrets of which one has to hold the served certificate."""

    @property
    def timeout(self) -> float:
        given = self.options["timeout"]
        return float(given) if given is not None else 0.0 if self.options["expect"] is None else 30.0

    @property
    def what_may_change_something(self) -> str:
        """Empty where nothing may, so that the request is made in check mode too."""
        if self.request.scheme == "tcp":
            return "what the body asks for" if self.request.body is not None else ""
        return "" if self.request.method in _SAFE_METHODS else self.request.method


# --- from arguments -----------------------------------------------------------------------------------------------------


def from_arguments(params: Options) -> list[Probe]:
    """The probes of a call; raises Rejected with everything that is wrong with any of them."""
    read = Contents()
    contexts = Contexts()
    probes, problems = [], []
    for where, options in _items(params):
        made, found = _probe(where, options, read, contexts)
        problems += [replace(problem, where=f"{where}{problem.where}") for problem in found]
        probes += [made] if made else []
    if not 1 <= params["parallel"] <= MOST_AT_ONCE:
        message = f"expected 1 to {MOST_AT_ONCE}, found {params['parallel']}"
        problems.append(Problem("invalid_request", "parallel", message, "Say how many probes may be at work at once"))
    if problems:
        raise Rejected(problems)
    return probes


def _api_server(params: Options) -> str | None:
    """The API server that the arguments name. Where each probe of a list has a host of its own, a URL as `host` is the API server's, as it is
    for other modules."""
    host = params["host"] or ""
    return params["api_server"] or (host if params["probes"] is not None and "://" in host else None)


def _items(params: Options) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, options) of every probe; what an item leaves out comes from beside the list, then from the defaults."""
    if params["probes"] is None:
        yield "", {**params, **{name: value for name, value in DEFAULTS.items() if params[name] is None}}
        return
    beside = {name: value for name, value in params.items() if name not in _NOT_IN_LISTS}
    if "://" in (beside["host"] or ""):
        beside["host"] = None
    for number, item in enumerate(params["probes"]):
        yield f"probes[{number}] ({item['name'] or item['host'] or 'no name'}): ", _inherited(item, beside)


def _inherited(item: Options, beside: Options) -> dict[str, Any]:
    options = {**DEFAULTS, **{name: value for name, value in beside.items() if value is not None or name not in DEFAULTS}}
    for group in (_TRUST, _IDENTITY):  # a certificate of the one would not go with a key of the other
        if (item["scheme"] or options["scheme"]) in ("http", "tcp") or any(item[name] is not None for name in group):
            options.update(dict.fromkeys(group))
    if item["address"] is not None:
        options["ports"] = None
    merged = {name: _headers(beside[name], item[name]) for name in _MERGED}
    return {**options, **{name: value for name, value in item.items() if value is not None or name not in options}, **merged}


def _headers(beside: Options | None, own: Options | None) -> dict[str, Any] | None:
    if beside is None or own is None:
        return dict(beside or own or {}) or None
    named = {name.lower() for name in own}
    return {**{name: value for name, value in beside.items() if name.lower() not in named}, **own}


class Contents:
    """Certificates and keys in PEM, each read once however many probes name it."""

    def __init__(self) -> None:
        self._read: dict[tuple[Any, ...], Any] = {}

    def trusted(self, options: Options) -> bytes | None:
        """The CA certificates. Raises Rejected."""
        found: bytes | None = self._once(options, _TRUST, lambda: _certificates(_given(options, "ca_certificate")))
        return found

    def identity(self, options: Options) -> tuple[bytes | None, bytes | None]:
        """The client certificate and its key. Raises Rejected."""

        def read() -> tuple[bytes | None, bytes | None]:
            certificate, key = _given(options, "client_certificate"), _given(options, "client_private_key")
            return material.client(certificate, key, options["client_private_key_passphrase"])

        found: tuple[bytes | None, bytes | None] = self._once(options, _IDENTITY, read)
        return found

    def _once(self, options: Options, names: Sequence[str], read: Callable[[], Any]) -> Any:
        key = (names, *(options[name] for name in names))
        if key not in self._read:
            self._read[key] = read()
        return self._read[key]


def _given(options: Options, name: str) -> material.Given | None:
    data, where = content_or_path(options, name, where="")
    return None if data is None else material.Given(data, where)


def _certificates(given: material.Given | None) -> bytes | None:
    return material.certificates(given) if given else None


def _probe(where: str, options: Options, read: Contents, contexts: Contexts) -> tuple[Probe | None, list[Problem]]:
    problems: list[Problem] = []

    def attempt(make: Callable[[], Any]) -> Any:
        try:
            return make()
        except Rejected as rejected:
            problems.extend(rejected.problems)
            return None

    if not options["host"]:
        return None, [Problem("no_host", "host", "expected the host to ask, found none", "Give host")]
    trusted, identity = attempt(partial(read.trusted, options)), attempt(partial(read.identity, options))
    asked = attempt(partial(_request, options, trusted, identity or (None, None)))
    if asked is None:
        return None, problems
    expect = expectation(options["expect"] or {})
    refs = [
        attempt(partial(secret_of, text, options["credential_namespace"], "expect.credential"))
        for text in (options["expect"] or {}).get("credential") or ()
    ]
    problems += [*check_request(asked), *check(expect), *check_trying(options["timeout"] or 0.0, options["delay"], options["consecutive"])]
    proxied = attempt(partial(_proxied, asked, options))
    pod = options["from_pod"]
    if pod is not None:
        problems += check_for_curl(asked, _files(pod))
        if pod["selector"] == {}:
            problems.append(Problem("invalid_request", "from_pod.selector", "expected labels, found none", "name those of the Pod"))
    if not problems and asked.scheme in ("https", "tls"):
        attempt(partial(contexts.of, asked))
    name = str(options.get("name") or asked.host)
    return (None if problems else Probe(name, where, options, proxied, expect, contexts, tuple(refs))), problems


def _port(options: Options) -> int | None:
    """The port to connect to, instead of the one that is asked for if it is reached at another."""
    asked = options["port"] if options["port"] is not None else _USUAL_PORTS.get(options["scheme"])
    ports = {str(port).strip(): str(there).strip() for port, there in (options["ports"] or {}).items()}
    for port, there in ports.items():
        if not re.fullmatch(r"[0-9]{1,5}", there):
            raise Rejected(
                Problem("invalid_request", "ports", f"expected a port that stands for {port}, found {there!r}", "Give its number")
            )
    if str(asked) in ports:
        return int(ports[str(asked)])
    return None if options["port"] is None else int(options["port"])


def _request(options: Options, trusted: bytes | None, identity: tuple[bytes | None, bytes | None]) -> Request:
    headers = {**(options["headers"] or {}), **(options["secret_headers"] or {})}
    body = options["body"]
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
        if options["scheme"] != "tcp" and "content-type" not in {name.lower() for name in headers}:
            headers["Content-Type"] = "application/json"
    same = ("host", "address", "scheme", "sni", "verify", "trust_system_store", "min_version", "max_version", "method", "path")
    return Request(
        **{name: options[name] for name in (*same, "client_private_key_passphrase")},
        port=_port(options),
        ca=trusted,
        client_certificate=identity[0],
        client_private_key=identity[1],
        alpn=None if options["alpn"] is None else tuple(options["alpn"]),
        headers={name: str(value) for name, value in headers.items()},
        body=None if body is None else str(body).encode(),
        timeout=options["request_timeout"],
    )


def _proxied(asked: Request, options: Options) -> Request:
    """The request with the proxy that it goes through."""
    option = options["request_proxy"]
    if options["from_pod"] is not None:
        if option is not None and option.lower() != "none":
            problem = Problem(
                "invalid_request", "request_proxy", "requests from a Pod go through no proxy", "Leave it out, or leave out from_pod"
            )
            raise Rejected(problem)
        return asked
    proxy = chosen(option, scheme=asked.scheme, host=asked.host, port=asked.target_port, address=asked.address, environment=os.environ)
    return replace(asked, proxy=proxy)


def expectation(given: Options) -> Expect:
    lists: dict[str, Any] = {name: tuple(given.get(name) or ()) for name in ("status", "fingerprint", "serial", "failure", "alert")}
    texts: dict[str, Any] = {name: given.get(name) for name in ("text", "text_regex", "protocol")}
    headers = {name: str(value) for name, value in (given.get("headers") or {}).items()}
    return Expect(**lists, headers=headers, **texts)


def _files(pod: Options) -> Files:
    return Files(pod["ca_certificate_path"], pod["client_certificate_path"], pod["client_private_key_path"])


# --- to results ---------------------------------------------------------------------------------------------------------


Way = tuple[Callable[[Request], Result], "Pod | None"]


def carry_out(probes: Sequence[Probe], params: Options, *, connect: Connect, check_mode: bool) -> list[dict[str, Any]]:
    """The result of each probe, in their order; of several all are made, whatever becomes of the others."""
    known: dict[str | None, Cluster] = {}

    def cluster(server: str | None) -> Cluster:
        if server not in known:
            known[server] = connect(server)
        return known[server]

    skipped = {number: _skipped(probe) for number, probe in enumerate(probes) if check_mode and probe.what_may_change_something}
    made = [probe for number, probe in enumerate(probes) if number not in skipped]
    kept, again = _credentials(made, cluster, _api_server(params))
    ways = Ways(cluster, _api_server(params))
    if params["probes"] is None:
        return list(skipped.values()) or [_carried_out(probes[0], ways.of(probes[0]), kept, again, time.sleep)]
    prepared = [(probe, ways.or_error(probe)) for probe in made]

    def job(probe: Probe, way: Way | ClusterError, sleep: Sleep) -> dict[str, Any]:
        if isinstance(way, ClusterError):
            raise way
        return _carried_out(probe, way, kept, again, sleep)

    ended = iter(side_by_side([partial(job, probe, way) for probe, way in prepared], params["parallel"]))
    return [_named(probe, skipped[number] if number in skipped else next(ended)) for number, probe in enumerate(probes)]


def _skipped(probe: Probe) -> dict[str, Any]:
    return {"skipped": True, "msg": f"{probe.what_may_change_something} may change something, so it is not sent in check mode"}


def failure_of(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Every failure of a list in one message, in the order of the list; nothing where there is none."""
    if not (failures := [f"{result['name']}: {result['msg']}" for result in results if result["failed"]]):
        return {}
    head = f"{len(failures)} of {len(results)} probes failed"
    return {"failed": True, "msg": f"{head}: {failures[0]}" if len(failures) == 1 else "\n- ".join([f"{head}:", *failures])}


def _named(probe: Probe, outcome: dict[str, Any] | Exception) -> dict[str, Any]:
    if isinstance(outcome, (ClusterError, Rejected)):
        return {"name": probe.name, "failed": True, "msg": str(outcome)}
    if isinstance(outcome, Exception):
        raise outcome
    return {"name": probe.name, "failed": False, **outcome}


def _credentials(
    probes: Sequence[Probe], cluster: Callable[[str | None], Cluster], server: str | None
) -> tuple[dict[Ref, str], Callable[[Iterable[Ref]], dict[Ref, str]]]:
    """The fingerprints that credentials have now, and what reads some of them again. Raises Rejected where one has none."""
    wanted: dict[Ref, str] = {}
    for ref, where in ((ref, asked.where) for asked in probes for ref in asked.credentials):
        wanted.setdefault(ref, f"{where}expect.credential")
    if not wanted:
        return {}, lambda refs: {}
    found, faults = certificates(cluster(server), wanted)
    if faults:
        raise Rejected(faults)
    return found, renewal(cluster(server))


class Ways:
    """How requests are made: by this machine, or inside a Pod, which is looked for once."""

    def __init__(self, cluster: Callable[[str | None], Cluster], server: str | None) -> None:
        self._cluster, self._server = cluster, server
        self._pods: dict[str, Pod | PodError] = {}

    def or_error(self, asked: Probe) -> Way | ClusterError:
        try:
            return self.of(asked)
        except PodError as error:
            return error

    def of(self, asked: Probe) -> Way:
        """Raises PodError."""
        place = asked.options["from_pod"]
        if place is None:
            return partial(probe, contexts=asked.contexts), None
        cluster = self._cluster(place["api_server"] or self._server)
        pod = self._pod(cluster, place)
        container = place["container"] or pod.default_container

        def in_pod(command: Sequence[str], data: bytes) -> tuple[int, bytes, bytes]:
            allowed = asked.request.timeout + 10.0
            ran = run(cluster, pod.namespace, pod.name, command, container=container, stdin=data, timeout=allowed, keep=OUTPUT_KEPT)
            return ran.code, ran.stdout, ran.stderr

        made = probe_by(in_pod, _files(place))

        def attempt(request: Request) -> Result:
            try:
                return made(request)
            except CurlError as error:
                raise PodError(f"{pod}, container {container}: {error}") from None

        return attempt, pod

    def _pod(self, cluster: Cluster, place: Options) -> Pod:
        key = json.dumps([cluster.host, place["namespace"], place["name"], place["selector"]], sort_keys=True, default=str)
        if key not in self._pods:
            try:
                self._pods[key] = pick_pod(cluster, place["namespace"], place["name"], place["selector"] or {})
            except PodError as error:
                self._pods[key] = error
        if isinstance(found := self._pods[key], PodError):
            raise found
        return found


def _carried_out(
    asked: Probe, way: Way, kept: Mapping[Ref, str], again: Callable[[Iterable[Ref]], dict[Ref, str]], sleep: Sleep
) -> dict[str, Any]:
    attempt, pod = way

    def with_certificates(expect: Expect, known: Mapping[Ref, str]) -> Expect:
        return replace(expect, credential={f"{ref.namespace}/{ref.name}": known[ref] for ref in asked.credentials})

    verdict = until(
        asked.request,
        with_certificates(asked.expect, kept),
        timeout=asked.timeout,
        delay=asked.options["delay"],
        consecutive=asked.options["consecutive"],
        attempt=attempt,
        hide=hider(asked.options["secret_headers"] or {}),
        renew=lambda expect: with_certificates(expect, again(asked.credentials)),
        sleep=sleep,
    )
    result = {
        **verdict.result.as_result(),
        "pod": f"{pod.namespace}/{pod.name}" if pod else None,
        "attempts": verdict.attempts,
        "successes": verdict.successes,
        "elapsed": round(verdict.elapsed, 3),
        "unmet": list(verdict.unmet),
    }
    if verdict.unmet:
        result |= {"failed": True, "msg": (f"In {pod}: " if pod else "") + explain(asked.request, verdict) + _hints(asked.options, verdict)}
    return result


def _hints(options: Options, verdict: Verdict) -> str:
    return "".join(
        f" ({given} is about the cluster, {meant} about this request.)"
        for given, meant in _MISTAKABLE.get(verdict.result.failure or "", ())
        if options[given] is not None and not any(options.get(name) not in (None, True) for name in (meant, meant.removesuffix("_path")))
    )
