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

from ..proxy_choice import Proxy
from . import faults, transport
from .access import choose
from .errors import NOT_SERVED, ApiError, ClusterError, ConfigurationError, Unreachable
from .login import login
from .resources import Resource
from .transport import CONNECTIONS

__all__ = ["CONNECTIONS", "FIELD_MANAGER", "ApiError", "Cluster", "ClusterError", "ConfigurationError", "Unreachable", "connect"]

FIELD_MANAGER = "meshops.istio"

_PAGE = 500
_WEBSOCKET_ATTEMPTS = 4
_LIST_ATTEMPTS = 3  # a list that outlives its snapshot (etcd compacts every 5 minutes) is begun anew
_METHODS = {"get": "GET", "list": "GET", "patch": "PATCH", "delete": "DELETE", "create": "POST"}
_RETRIED_STATUSES = (429, 500, 502, 503, 504)
_PATIENCE = 30.0  # seconds that one request is retried: an API server that restarts is back by then
_PATIENCE_AT_FIRST = 8.0  # seconds, where nothing was reached yet: more likely a wrong address
_LONGEST_WAIT = 10.0  # seconds; a longer Retry-After is cut to this
_STREAM_TIMEOUT = 120.0  # seconds, for the whole of a text such as a log


@dataclass
class Cluster:
    """One cluster's API. Safe to use from several threads."""

    pool: Any  # urllib3.PoolManager
    host: str
    login: Callable[[], Sequence[tuple[str, str]]]
    """The headers that carry the login; asked for with every request, since a token may be refreshed meanwhile."""
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
        query = {"limit": str(_PAGE)}
        if resource.list_field_selector:
            query["fieldSelector"] = resource.list_field_selector
        if label_selector:
            query["labelSelector"] = label_selector
        for attempt in range(1, _LIST_ATTEMPTS + 1):
            items: list[dict[str, Any]] = []
            token = ""
            try:
                while True:
                    page = self._request("list", resource, namespace or "", "", query={**query, "continue": token} if token else query)
                    items += page.get("items") or []
                    token = (page.get("metadata") or {}).get("continue") or ""
                    if not token:
                        yield from items
                        return
            except ApiError as error:
                if error.status != 410 or not token or attempt == _LIST_ATTEMPTS:
                    raise

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

        response = self._send("get", resource, namespace, name, query=query, subresource=subresource)
        rest = b""
        try:
            for part in response.stream(65536):
                *whole, rest = (rest + part).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in whole)
        except urllib3.exceptions.HTTPError as error:
            raise self._no_answer(error, 1) from None
        finally:
            response.close()  # what was not read is of no use to the next request
        if rest:
            yield rest.decode("utf-8", "replace")

    def websocket(
        self, resource: Resource, namespace: str, name: str, subresource: str, query: Sequence[tuple[str, str]], protocols: Sequence[str]
    ) -> Any:
        """A websocket.WebSocket to a subresource that is a conversation (a Pod's exec), on a connection of its own.

        The official client's own way there knows neither impersonation nor a time limit, and follows redirects with the login.
        """
        import urllib3
        import websocket

        url = f"{self.host}{resource.path(namespace, name)}/{subresource}?{urlencode(query)}"
        attempt = 0
        while True:
            attempt += 1
            self.requests[subresource] = self.requests.get(subresource, 0) + 1
            login = self.login()
            failure: ClusterError
            try:
                channel: Any = websocket.WebSocket()
                channel.connect(
                    re.sub("^http", "ws", url),
                    socket=transport.dial(self.pool, self.host),
                    header=[f"User-Agent: {FIELD_MANAGER}", *(f"{header}: {value}" for header, value in login)],
                    subprotocols=list(protocols),
                    suppress_origin=True,
                    redirect_limit=0,
                )
            except websocket.WebSocketBadStatusException as error:
                self.reached = True
                data, status = getattr(error, "resp_body", None) or b"", error.status_code
                said = _decode(data, resource) or {"message": _excerpt(data, dict(login)) or f"HTTP status {status}"}
                if status == 403 and str(said.get("message")).rstrip().endswith("is forbidden:"):
                    # all that it says where the GET is allowed and the right to create, which it asks for beside that, is missing
                    said = {**said, "message": f'{said["message"]}cannot create resource "{resource.plural}/{subresource}" in API group ""'}
                failure = ApiError(status, f"{subresource} in", resource, namespace, name, said, self.host)
                retried = status in (429, 502, 503, 504)
            except (OSError, websocket.WebSocketException, urllib3.exceptions.HTTPError) as error:
                failure = self._no_answer(error, attempt)
                retried = not faults.is_final(error)
            else:
                self.reached = True
                return channel
            if not retried or attempt == _WEBSOCKET_ATTEMPTS:
                raise failure
            (self.sleep or self.stopping.wait)(_wait("", attempt))

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
        answer: dict[str, Any] = self._send(verb, resource, namespace, name, query=query, body=body, content_type=content_type)
        return answer

    def _send(
        self,
        verb: str,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        subresource: str = "",
    ) -> Any:
        """The decoded answer; of a subresource the response itself, whose text is still to be read."""
        import urllib3

        path = resource.path(namespace, name) + (f"/{subresource}" if subresource else "")
        url = self.host + path + (f"?{urlencode(query)}" if query else "")
        payload = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        timeout = urllib3.Timeout(connect=transport.CONNECT_TIMEOUT, read=transport.READ_TIMEOUT)
        first_failure: float | None = None
        asked = f"get the {subresource} of" if subresource else verb
        attempt = 0
        while True:
            attempt += 1
            headers = urllib3.HTTPHeaderDict({"Accept": "application/json", "User-Agent": FIELD_MANAGER, "Content-Type": content_type})
            for header, value in self.login():
                headers.add(header, value)
            self.requests[verb] = self.requests.get(verb, 0) + 1
            failure: ClusterError
            retry_after = ""
            try:
                response = self.pool.request(
                    _METHODS[verb],
                    url,
                    body=payload,
                    headers=headers,
                    retries=False,
                    redirect=False,
                    timeout=timeout,
                    preload_content=False,
                )
                if subresource and response.status < 300:
                    self.reached = True
                    transport.prolong(response, _STREAM_TIMEOUT)
                    return response
                data = transport.body(response)
            except urllib3.exceptions.HTTPError as error:
                failure = self._no_answer(error, attempt)
                retried = not faults.is_final(error)
            except ValueError as error:
                raise Unreachable(f"what answers at {self.host} is no Kubernetes API server: its answer has {error}") from None
            else:
                self.reached = True
                answer = _decode(data, resource)
                retried = response.status in _RETRIED_STATUSES
                if not retried:
                    self.well_at = self.clock()
                if response.status < 300 and answer:
                    _check(answer, verb, resource, namespace, name, self.host)
                    return answer
                retry_after = response.headers.get("Retry-After") or ""
                if answer or retried or response.status in (401, 403):
                    said = answer or {"message": _excerpt(data, headers)}
                    if said.get("reason") == NOT_SERVED and verb != "get":
                        said = {**said, "message": self._not_served(resource)}
                    failure = ApiError(response.status, asked, resource, namespace, name, said, self.host)
                    retried = retried or _lost_a_race(failure, body)
                else:
                    failure = Unreachable(
                        f"what answers at {self.host} is no Kubernetes API server: it says {_excerpt(data, headers)!r} "
                        f"(HTTP status {response.status}); {_stranger_remedy(data, self.proxy)}"
                    )
            now = self.clock()
            first_failure = now if first_failure is None else first_failure
            wait = _wait(retry_after, attempt)
            patience = _PATIENCE if self.reached else _PATIENCE_AT_FIRST
            if not retried or now + wait - first_failure > patience:
                failure.hopeless = failure.hopeless or (retried and self.well_at < first_failure)
                raise failure
            (self.sleep or self.stopping.wait)(wait)
            if self.stopping.is_set():
                raise failure

    def _no_answer(self, error: Exception, attempts: int) -> ClusterError:
        return Unreachable(faults.sentence(error, self.host, attempts, proxy=self.proxy, asked_name=self.asked_name, names=self.names))

    def _served(self, group: str) -> tuple[str, ...]:
        """The versions of a group that the cluster serves; none where it does not say."""
        import urllib3

        headers = urllib3.HTTPHeaderDict({"Accept": "application/json", "User-Agent": FIELD_MANAGER})
        for header, value in self.login():
            headers.add(header, value)
        timeout = urllib3.Timeout(connect=transport.CONNECT_TIMEOUT, read=transport.READ_TIMEOUT)
        try:
            response = self.pool.request(
                "GET",
                f"{self.host}/apis/{group}",
                body=None,
                headers=headers,
                retries=False,
                redirect=False,
                timeout=timeout,
                preload_content=False,
            )
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


def _decode(data: bytes, resource: Resource) -> dict[str, Any] | None:
    """An API server's answer; None for what is none, such as a proxy's page."""
    if resource.group and data.strip() == b"404 page not found":  # all that an API server says about a group that it does not know
        return {"reason": NOT_SERVED, "message": f"the cluster does not serve {resource.kind} ({resource.api_version})"}
    try:
        decoded = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(decoded, dict) or not isinstance(decoded.get("kind"), str):
        return None
    return (
        {**decoded, "details": decoded.get("details") if isinstance(decoded.get("details"), dict) else {}}
        if decoded["kind"] == "Status"
        else decoded
    )


def _check(answer: Mapping[str, Any], verb: str, resource: Resource, namespace: str, name: str, host: str) -> None:
    """Refuses an answer that is not about what was asked for, or not in the shape in which all objects are."""
    wrong = ""
    if verb == "list":
        items = answer.get("items")
        if not isinstance(items or [], list) or not isinstance(answer.get("metadata") or {}, dict):
            wrong = "a list in another shape"
        else:
            wrong = next((found for item in items or [] if (found := _misshapen(item))), "")
    elif verb in ("get", "patch"):
        wrong = _misshapen(answer)
        metadata = answer.get("metadata") or {}
        if (
            not wrong
            and answer["kind"] != "Status"
            and (metadata.get("name"), metadata.get("namespace") or "") != (name, namespace if resource.namespaced else "")
        ):
            wrong = "an object of another name or namespace"
    if wrong:
        raise Unreachable(
            f"what answers at {host} is no Kubernetes API server: asked to {verb} {resource.kind} {name}, it says {wrong}; "
            "check that kubeconfig, context, host and proxy name the right one"
        )


def _misshapen(item: Any) -> str:
    if not isinstance(item, dict):
        return "something that is no object"
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return "an object without metadata and name"
    maps = [item.get(key) for key in ("data", "spec", "status")] + [metadata.get(key) for key in ("labels", "annotations")]
    lists = [metadata.get(key) for key in ("ownerReferences", "managedFields", "finalizers")]
    if not all(value is None or isinstance(value, dict) for value in maps) or not all(
        value is None or isinstance(value, list) for value in lists
    ):
        return "an object in another shape"
    return ""


def _stranger_remedy(data: bytes, proxy: Proxy | None) -> str:
    if b"HTTP request to an HTTPS server" in data[:1000]:
        return "write https:// in the server's URL"
    asked = f" (asked through {proxy})" if proxy else ""
    return f"check that kubeconfig, context, host and proxy name the right one{asked}"


def _excerpt(data: bytes, headers: Mapping[str, str]) -> str:
    """The beginning of a page, as text, without the login should the page repeat it."""
    text = data[:65536].decode("utf-8", "replace")
    text = re.sub(r"(?is)<(script|style|head)\b.*?(?:</\1\s*>|\Z)|<[^<>]*>", " ", text)  # in one pass, whatever the page is
    for word in (headers.get("Authorization") or "").split():
        text = text.replace(word, "***")
    return " ".join(text.split())[:200]


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
    certificate = transport.client_certificate(access) or found.certificate
    context = transport.tls_context(access, certificate) if access.is_tls else None

    def names() -> list[str]:
        """The names in the certificate of a server whose chain is in order."""
        looking = transport.tls_context(access, certificate)
        looking.check_hostname = False
        try:
            connection = transport.dial(transport.pool(access, looking, choice.proxy, choice.proxy_headers), access.server)
        except Exception:  # the fault itself is told all the same
            return []
        try:
            return [str(value) for __, value in (connection.getpeercert() or {}).get("subjectAltName", ())]
        finally:
            connection.close()

    return Cluster(
        pool=transport.pool(access, context, choice.proxy, choice.proxy_headers),
        host=access.server,
        login=found.headers,
        proxy=choice.proxy,
        asked_name=access.tls_server_name,
        names=names,
        notes=choice.notes,
    )
