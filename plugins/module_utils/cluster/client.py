# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the Kubernetes API: kept-alive connections, bounded retries, errors in one sentence.

Which server and which login are access.py's and login.py's to say, connections are transport.py's. The requests themselves are raw JSON,
because the official client's typed layer costs more than the API server's answer.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from ..objects.kinds import Resource
from ..objects.ownership import FIELD_MANAGER
from ..problems import Problem
from ..proxy_choice import Proxy
from . import answers, faults, transport
from .access import choose
from .errors import NOT_SERVED, ApiError, ClusterError, ConfigurationError, Unreachable
from .login import Pair, login
from .transport import CONNECTIONS

__all__ = ["CONNECTIONS", "ApiError", "Cluster", "ClusterError", "ConfigurationError", "Unreachable", "connect"]


_PAGE = 500
_WEBSOCKET_ATTEMPTS = 4
_LIST_ATTEMPTS = 3  # a list that outlives its snapshot (etcd compacts every 5 minutes) is begun anew
_METHODS = {"get": "GET", "list": "GET", "watch": "GET", "patch": "PATCH", "delete": "DELETE", "create": "POST"}
_RETRIED_STATUSES = (429, 500, 502, 503, 504)
_PATIENCE = 30.0  # seconds that one request is retried: an API server that restarts is back by then
_PATIENCE_AT_FIRST = 8.0  # seconds, where nothing was reached yet: more likely a wrong address
_LONGEST_WAIT = 10.0  # seconds; a longer Retry-After is cut to this
_STREAM_TIMEOUT = 120.0  # seconds, for the whole of a text such as a log
_LONGEST_LINE = 1 << 20  # bytes of a line of it that are looked at together


@dataclass(frozen=True)
class _Request:
    verb: str
    resource: Resource
    namespace: str
    name: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    payload: bytes | None = None
    """The body as it is sent, each time."""
    content_type: str = "application/json"
    subresource: str = ""
    stream: float = 0.0
    """Seconds for an answer that is read as it comes; 0: it is read as a whole."""

    @property
    def path(self) -> str:
        subresource = f"/{self.subresource}" if self.subresource else ""
        return self.resource.path(self.namespace, self.name) + subresource + (f"?{urlencode(self.query)}" if self.query else "")


@dataclass(frozen=True)
class _Attempt:
    """What one attempt came to: an answer, or a failure."""

    answer: Any = None
    failure: ClusterError | None = None
    retried: bool = False
    """Whether trying again may help."""
    retry_after: str = ""
    refused_login_of: float | None = None
    """When (monotonic) a login was sent that the server does not accept."""


@dataclass
class Cluster:
    """One cluster's API. Safe to use from several threads."""

    pool: Any  # urllib3.PoolManager
    host: str
    login: Callable[[], Sequence[tuple[str, str]]]
    """The headers that carry the login; asked for with every request, since a token may be refreshed meanwhile."""
    renew: Callable[[float], bool] = lambda sent_at: False
    """Whether there is another login than the one that was sent at that time and not accepted; asks for one."""
    sleep: Callable[[float], Any] | None = None
    """For tests; otherwise waiting ends when `stopping` is set."""
    clock: Callable[[], float] = time.monotonic
    requests: dict[str, int] = field(default_factory=dict)
    """How many requests were sent, by verb."""
    reached: bool = False
    """Whether any answer has come yet."""
    wrote: bool = False
    """Whether any write was sent, dry runs aside."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the run is to end: what is under way is finished, and nothing is tried again."""
    well_at: float = float("-inf")
    """When an answer last came that was no sign of trouble with the server itself."""
    proxy: Proxy | None = None
    asked_name: str = ""
    """The name that the server's certificate is to have, where that is not the host's."""
    names: Callable[[], Sequence[str]] = tuple
    """Asks which names the certificate that is served has."""
    notes: Sequence[str] = ()
    """What was chosen where nothing said which cluster is meant."""
    doubts: Sequence[Problem] = ()
    """About the way to the cluster; shown as warnings."""

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        """One object, or None where there is none."""
        try:
            return self._request("get", resource, namespace, name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, resource: Resource, namespace: str | None = None, *, label_selector: str = "") -> Iterator[dict[str, Any]]:
        """All objects of a kind, in one namespace or (with None) in all of them, read page by page."""
        yield from self.listing(resource, namespace, label_selector=label_selector)[0]

    def listing(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str = ""
    ) -> tuple[Sequence[dict[str, Any]], str]:
        """The same at once, and the list's resourceVersion, from which a watch goes on."""
        query = {"limit": str(_PAGE), **_selectors(resource, label_selector)}
        for attempt in range(1, _LIST_ATTEMPTS + 1):
            items: list[dict[str, Any]] = []
            token = ""
            try:
                while True:
                    page = self._request("list", resource, namespace or "", "", query={**query, "continue": token} if token else query)
                    items += page.get("items") or []
                    told = page.get("metadata") or {}
                    token = told.get("continue") or ""
                    if not token:
                        return items, str(told.get("resourceVersion") or "")
            except ApiError as error:
                if error.status != 410 or not token or attempt == _LIST_ATTEMPTS:
                    raise
        raise AssertionError  # for mypy: the last attempt returns or raises

    def watch(self, resource: Resource, namespace: str | None, version: str, *, seconds: int, silence: float) -> Any:
        """The open answer (urllib3's) of a watch from a resourceVersion on: a JSON object a line, bookmarks among them. The server ends it after
        `seconds`; `silence` is how long one waits for its first bytes, and `transport.prolong` gives it more."""
        query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version, "timeoutSeconds": str(seconds)}
        return self._send(_Request("watch", resource, namespace or "", "", {**query, **_selectors(resource)}, stream=silence))

    def apply(self, resource: Resource, manifest: Mapping[str, Any], *, force: bool = False, dry_run: bool = False) -> dict[str, Any]:
        """Server-side apply. A retry after a lost answer is safe: applying the same thing twice is applying it once."""
        metadata = manifest["metadata"]
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
        if dry_run:
            query["dryRun"] = "All"
        self.wrote = self.wrote or not dry_run
        return self._request(
            "patch",
            resource,
            metadata.get("namespace", ""),
            metadata["name"],
            query=query,
            body=manifest,
            content_type="application/apply-patch+yaml",
        )

    def delete(self, resource: Resource, namespace: str, name: str, *, uid: str | None = None) -> bool:
        """Deletes one object, and only the one with this uid where given; False when it was gone already."""
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        self.wrote = True
        try:
            self._request("delete", resource, namespace, name, body=body)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def create(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """A plain POST, for kinds that are questions and are not stored (SubjectAccessReview)."""
        return self._request("create", resource, "", "", body=manifest)

    def lines(self, resource: Resource, namespace: str, name: str, subresource: str, query: Mapping[str, str]) -> Iterator[str]:
        """A subresource that is text (a Pod's log), line by line as it comes."""
        import urllib3

        response = self._send(_Request("get", resource, namespace, name, query, subresource=subresource, stream=_STREAM_TIMEOUT))
        try:
            yield from (line.decode("utf-8", "replace") for line in transport.lines(response, _LONGEST_LINE, cut=True))
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise self.no_answer(error, 1) from None
        finally:
            response.close()  # what was not read is of no use to the next request

    def websocket(
        self, resource: Resource, namespace: str, name: str, subresource: str, query: Sequence[tuple[str, str]], protocols: Sequence[str]
    ) -> Any:
        """A websocket.WebSocket to a subresource that is a conversation (a Pod's exec), on a connection of its own.

        The official client's own way there knows neither impersonation nor a time limit, and follows redirects with the login.
        """
        url = f"{self.host}{resource.path(namespace, name)}/{subresource}?{urlencode(query)}"
        asked = _Request("get", resource, namespace, name, subresource=subresource)
        attempt = 0
        renewed = False
        while True:
            attempt += 1
            found = self._open(url, protocols, asked, attempt)
            if found.failure is None:
                return found.answer
            if found.refused_login_of is not None and not renewed and self._renewed(found.refused_login_of):
                renewed = True
                continue
            if not found.retried or attempt == _WEBSOCKET_ATTEMPTS:
                raise found.failure
            (self.sleep or self.stopping.wait)(_wait("", attempt))

    def _open(self, url: str, protocols: Sequence[str], request: _Request, attempt: int) -> _Attempt:
        import urllib3
        import websocket

        resource, subresource = request.resource, request.subresource
        self.requests[subresource] = self.requests.get(subresource, 0) + 1
        login = self.login()
        sent_at = time.monotonic()
        try:
            channel: Any = websocket.WebSocket()
            connection = transport.dial(self.pool, self.host)
            with transport.ended_after(transport.READ_TIMEOUT, connection):
                channel.connect(
                    re.sub("^http", "ws", url),
                    socket=connection,
                    header=[f"User-Agent: {FIELD_MANAGER}", *(f"{header}: {value}" for header, value in login)],
                    subprotocols=list(protocols),
                    suppress_origin=True,
                    redirect_limit=0,
                )
        except websocket.WebSocketBadStatusException as error:
            self.reached = True
            data, status = getattr(error, "resp_body", None) or b"", error.status_code
            said = answers.decode(data, resource) or {"message": answers.excerpt(data, dict(login)) or f"HTTP status {status}"}
            if status == 403 and str(said.get("message")).rstrip().endswith("is forbidden:"):
                # all that it says where the GET is allowed and the right to create, which it asks for beside that, is missing
                said = {**said, "message": f'{said["message"]}cannot create resource "{resource.plural}/{subresource}" in API group ""'}
            failure = ApiError(status, f"{subresource} in", resource, request.namespace, request.name, said, self.host)
            return _Attempt(failure=failure, retried=status in (429, 502, 503, 504), refused_login_of=sent_at if status == 401 else None)
        except (OSError, websocket.WebSocketException, urllib3.exceptions.HTTPError) as error:
            return _Attempt(failure=self.no_answer(error, attempt), retried=not faults.is_final(error))
        self.reached = True
        return _Attempt(channel)

    def _request(
        self,
        verb: str,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        payload = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        answer: dict[str, Any] = self._send(_Request(verb, resource, namespace, name, query or {}, body, payload, content_type))
        return answer

    def _send(self, request: _Request) -> Any:
        """The decoded answer; of a subresource the response itself, whose text is still to be read."""
        first_failure: float | None = None
        attempt = 0
        renewed = False
        while True:
            attempt += 1
            found = self._attempt(request, attempt)
            if found.failure is None:
                return found.answer
            if found.refused_login_of is not None and not renewed and self._renewed(found.refused_login_of):
                renewed = True  # once: what is refused again is no question of age
                continue
            now = self.clock()
            first_failure = now if first_failure is None else first_failure
            wait = _wait(found.retry_after, attempt)
            patience = _PATIENCE if self.reached else _PATIENCE_AT_FIRST
            if not found.retried or now + wait - first_failure > patience:
                found.failure.hopeless = found.failure.hopeless or (found.retried and self.well_at < first_failure)
                raise found.failure
            (self.sleep or self.stopping.wait)(wait)
            if self.stopping.is_set():
                raise found.failure

    def _attempt(self, request: _Request, attempt: int) -> _Attempt:
        import urllib3

        verb, resource = request.verb, request.resource
        headers = self._headers(request.content_type)
        sent_at = time.monotonic()
        self.requests[verb] = self.requests.get(verb, 0) + 1
        try:
            response = self._ask(_METHODS[verb], self.host + request.path, headers, request.payload)
            if request.stream and response.status < 300:
                self.reached = True
                transport.prolong(response, request.stream)
                return _Attempt(response)
            data = transport.body(response)
        except urllib3.exceptions.HTTPError as error:
            return _Attempt(failure=self.no_answer(error, attempt), retried=not faults.is_final(error))
        except ValueError as error:
            return _Attempt(failure=Unreachable(f"what answers at {self.host} is no Kubernetes API server: its answer has {error}"))
        if response.status == 407 and self.proxy:
            said = f"407 {getattr(response, 'reason', None) or 'Proxy Authentication Required'}"
            return _Attempt(failure=Unreachable(faults.of_the_proxy(self.proxy, self.host, said)))
        self.reached = True
        answer = answers.decode(data, resource)
        retried = response.status in _RETRIED_STATUSES
        if not retried:
            self.well_at = self.clock()
        if response.status < 300 and answer:
            answers.check(answer, verb, resource, request.namespace, request.name, self.host)
            return _Attempt(answer)
        if not answer and not retried and response.status not in (401, 403):
            return _Attempt(
                failure=Unreachable(
                    f"what answers at {self.host} is no Kubernetes API server: it says {answers.excerpt(data, headers)!r} "
                    f"(HTTP status {response.status}); {answers.stranger_remedy(data, self.proxy)}"
                )
            )
        if not request.subresource and (wrong := answers.no_such_path(answer, response.status, resource, self.host)):
            return _Attempt(failure=Unreachable(wrong))
        told = answer or {"message": answers.excerpt(data, headers)}
        if told.get("reason") == NOT_SERVED and verb != "get":
            told = {**told, "message": self._not_served(resource)}
        asked = f"get the {request.subresource} of" if request.subresource else verb
        failure = ApiError(response.status, asked, resource, request.namespace, request.name, told, self.host)
        return _Attempt(
            failure=failure,
            retried=retried or _lost_a_race(failure, request.body),
            retry_after=response.headers.get("Retry-After") or "",
            refused_login_of=sent_at if response.status == 401 else None,
        )

    def _headers(self, content_type: str) -> Any:
        from urllib3 import HTTPHeaderDict  # older ones than 2.0 lack it: an ImportError, which ends in a sentence

        headers = HTTPHeaderDict({"Accept": "application/json", "User-Agent": FIELD_MANAGER, "Content-Type": content_type})
        for header, value in self.login():
            headers.add(header, value)
        return headers

    def _ask(self, method: str, url: str, headers: Any, payload: bytes | None = None) -> Any:
        import urllib3

        timeout = urllib3.Timeout(connect=transport.CONNECT_TIMEOUT, read=transport.READ_TIMEOUT)
        return self.pool.request(
            method, url, body=payload, headers=headers, retries=False, redirect=False, timeout=timeout, preload_content=False
        )

    def _renewed(self, sent_at: float) -> bool:
        """Whether there is another login than the one that was refused. None is asked for once the run is to end."""
        try:
            return not self.stopping.is_set() and self.renew(sent_at)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"the API server at {self.host} does not accept the login (401), and there is no other: {error}"
            ) from None

    def no_answer(self, error: Exception, attempts: int = 1) -> ClusterError:
        """What an error of the connection means."""
        return Unreachable(faults.sentence(error, self.host, attempts, proxy=self.proxy, asked_name=self.asked_name, names=self.names))

    def _served(self, group: str) -> tuple[str, ...]:
        """The versions of a group that the cluster serves; none where it does not say."""
        import urllib3

        try:
            response = self._ask("GET", f"{self.host}/apis/{group}", self._headers("application/json"))
            versions = json.loads(transport.body(response)).get("versions") if response.status == 200 else None
        except (urllib3.exceptions.HTTPError, ValueError, AttributeError, RecursionError):
            return ()
        found = [one.get("version") for one in versions or [] if isinstance(one, dict)] if isinstance(versions, list) else []
        return tuple(version for version in found if isinstance(version, str))

    def _not_served(self, resource: Resource) -> str:
        """What an API server means that says nothing but `404 page not found`."""
        what = f"the cluster does not serve {resource.kind} ({resource.api_version})"
        served = [version for version in self._served(resource.group) if version != resource.version]
        if served:
            needs = "Istio 1.22 or newer" if resource.group.endswith("istio.io") else "a newer release"
            return (
                f"{what}, but {resource.group} in {', '.join(served)}: its CustomResourceDefinitions are older than this collection; "
                f"upgrade them to those of {needs} (with the chart istio/base, or istioctl upgrade)"
            )
        return f"{what}; install its CustomResourceDefinition (Istio's own) first"


def _selectors(resource: Resource, label_selector: str = "") -> dict[str, str]:
    fields = {"fieldSelector": resource.list_field_selector} if resource.list_field_selector else {}
    return {**fields, **({"labelSelector": label_selector} if label_selector else {})}


def _wait(retry_after: str, attempt: int) -> float:
    """Seconds until the next attempt: what the server asked for, else exponential with jitter."""
    if retry_after.isdigit():
        return min(float(retry_after), _LONGEST_WAIT)
    return min(0.1 * float(2**attempt), 3.0) * (0.75 + random.random() / 2)  # noqa: S311 - jitter is no secret


def _lost_a_race(error: ApiError, body: Mapping[str, Any] | None) -> bool:
    """A 409 that says "the object has been modified; try again", often about a quota. Not a conflict of field managers, and not the answer to
    a request that names the version which it expects: sent again it would fail again."""
    if error.is_stale and "resourceVersion" in ((body or {}).get("metadata") or {}):
        return False
    return error.status == 409 and error.verb == "patch" and not error.is_apply_conflict


def connect(options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Cluster:
    """A client for the cluster that the options name (see `access.choose`). ConfigurationError: they do not say how to reach one."""
    choice = choose(options, os.environ if environment is None else environment)
    access = choice.access
    found = login(choice)
    files = transport.certificate_source(access)

    def certificate() -> Pair | None:
        return files() or found.certificate()

    def pool(pair: Pair | None) -> Any:
        return transport.pool(access, pair, choice.proxy, choice.proxy_headers)

    def names() -> list[str]:
        """The names in the certificate of a server whose chain is in order."""
        try:
            looking = transport.pool(access, certificate(), choice.proxy, choice.proxy_headers, any_name=True)
            connection = transport.dial(looking, access.server)
        except Exception:  # the fault itself is told all the same
            return []
        try:
            return [str(value) for __, value in (connection.getpeercert() or {}).get("subjectAltName", ())]
        finally:
            connection.close()

    return Cluster(
        pool=transport.Pools(pool, certificate),
        host=access.server,
        login=found.headers,
        renew=found.renew,
        proxy=choice.proxy,
        asked_name=access.tls_server_name,
        names=names,
        notes=choice.notes,
        doubts=choice.doubts,
    )
