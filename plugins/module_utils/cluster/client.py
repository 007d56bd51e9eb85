# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the Kubernetes API: kept-alive connections, bounded retries, errors in one sentence.

The official client loads the configuration (kubeconfig, exec plugins, in-cluster) and builds the connection pool with its TLS and
proxy settings; the requests themselves are raw JSON, because its typed layer costs more than the API server's answer.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from .resources import Resource

FIELD_MANAGER = "meshops.istio"

_PAGE = 500
_WEBSOCKET_ATTEMPTS = 4
_LIST_ATTEMPTS = 3  # a list that outlives its snapshot (etcd compacts every 5 minutes) is begun anew
_NOT_SERVED = "NotServed"
_METHODS = {"get": "GET", "list": "GET", "patch": "PATCH", "delete": "DELETE", "create": "POST"}
_RETRIED_STATUSES = (429, 500, 502, 503, 504)
_PATIENCE = 30.0  # seconds that one request is retried: an API server that restarts is back by then
_PATIENCE_AT_FIRST = 8.0  # seconds, where nothing was reached yet: more likely a wrong address
_LONGEST_WAIT = 10.0  # seconds; a longer Retry-After is cut to this
_CONNECT_TIMEOUT = 5.0  # seconds
_READ_TIMEOUT = 30.0  # seconds
_TOKEN_KEPT = 1.0  # seconds; the library refreshes a token minutes before it expires
CONNECTIONS = 8
"""Connections kept open, and so requests under way at once."""

_AUTH_ENVIRONMENT = {
    # option -> its environment variables, as kubernetes.core names them
    "kubeconfig": ("K8S_AUTH_KUBECONFIG",),
    "context": ("K8S_AUTH_CONTEXT",),
    "host": ("K8S_AUTH_HOST",),
    "api_key": ("K8S_AUTH_API_KEY",),
    "username": ("K8S_AUTH_USERNAME",),
    "password": ("K8S_AUTH_PASSWORD",),
    "validate_certs": ("K8S_AUTH_VALIDATE_CERTS", "K8S_AUTH_VERIFY_SSL"),
    "ca_cert": ("K8S_AUTH_CA_CERT", "K8S_AUTH_SSL_CA_CERT"),
    "client_cert": ("K8S_AUTH_CLIENT_CERT", "K8S_AUTH_CERT_FILE"),
    "client_key": ("K8S_AUTH_CLIENT_KEY", "K8S_AUTH_KEY_FILE"),
    "proxy": ("K8S_AUTH_PROXY",),
    "no_proxy": ("K8S_AUTH_NO_PROXY",),
    "persist_config": ("K8S_AUTH_PERSIST_CONFIG",),
    "impersonate_user": ("K8S_AUTH_IMPERSONATE_USER",),
    "impersonate_groups": ("K8S_AUTH_IMPERSONATE_GROUPS",),
}
_LOGINS = ("api_key", "username", "client_cert")
_SERVER_AND_LOGIN = ("host", "api_key", "username", "password", "client_cert", "client_key", "ca_cert", "validate_certs")
_PROXY_HEADERS = ("proxy_basic_auth", "basic_auth", "user_agent")
_BOOLEANS = ("validate_certs", "persist_config")
_CONFIGURATION = {
    # option -> attribute of the official client's Configuration
    "host": "host",
    "validate_certs": "verify_ssl",
    "ca_cert": "ssl_ca_cert",
    "client_cert": "cert_file",
    "client_key": "key_file",
    "proxy": "proxy",
    "no_proxy": "no_proxy",
}


class ClusterError(Exception):
    """The cluster could not be asked, or said no; `str()` is one sentence for the user."""

    hopeless = False
    """Whether no other request would get through either."""


class ConfigurationError(ClusterError):
    """The options do not say how to reach a cluster."""


class Unreachable(ClusterError):
    """No answer from the API server within the stated bound."""

    hopeless = True


class ApiError(ClusterError):
    """An answer of the API server other than success."""

    def __init__(self, status: int, verb: str, resource: Resource, namespace: str, name: str, answer: Mapping[str, Any], host: str) -> None:
        self.status = status
        self.verb = verb
        self.resource = resource
        self.namespace = namespace
        self.name = name
        self.reason = str(answer.get("reason") or "")
        self.server_message = str(answer.get("message") or f"HTTP status {status}")
        details = answer.get("details") or {}
        self.causes: list[Mapping[str, Any]] = list(details.get("causes") or [])
        self.about = (str(details.get("kind") or ""), str(details.get("name") or ""))
        """The plural (where deleting: the kind) and the name of the object that it is about: not always the one that was asked for."""
        self.host = host
        self.hopeless = status == 401
        super().__init__(self._sentence())

    @property
    def missing_verb(self) -> str | None:
        """The verb that RBAC denies, where that is what happened; a 403 of a quota, a webhook or a dying namespace is not."""
        found = re.search(r"cannot ([\w:-]+) resource", self.server_message)
        return found[1] if self.status == 403 and found else None

    @property
    def is_missing_namespace(self) -> bool:
        return self.status == 404 and self.verb == "patch" and 'namespaces "' in self.server_message

    @property
    def is_dying_namespace(self) -> bool:
        return self.status == 403 and "is being terminated" in self.server_message

    @property
    def is_apply_conflict(self) -> bool:
        return self.status == 409 and any(cause.get("reason") == "FieldManagerConflict" for cause in self.causes)

    @property
    def is_stale(self) -> bool:
        """Whether the object is not (any more) what the request's resourceVersion and uid say."""
        is_conflict = self.status == 409 and self.verb in ("patch", "delete") and not self.is_apply_conflict
        return is_conflict and self.about in ((self.resource.plural, self.name), (self.resource.kind, self.name))

    @property
    def conflicts(self) -> list[tuple[str, str]]:
        """(field, manager) of each conflict of a server-side apply."""
        found = []
        for cause in self.causes:
            manager = re.search(r'conflict with "([^"]+)"', str(cause.get("message") or ""))
            found.append((str(cause.get("field") or "").lstrip("."), manager[1] if manager else "another manager"))
        return found

    def _sentence(self) -> str:
        place = f" in namespace {self.namespace}" if self.namespace else ""
        what = f"{self.resource.kind} {self.name}" if self.name else f"{self.resource.plural}"
        if self.status == 401:
            return (
                f"the API server at {self.host} does not accept the login (401 while asking to {self.verb} {what}{place}): "
                "the token or client certificate is wrong or has expired; log in again or pass a valid kubeconfig, context or api_key"
            )
        if verb := self.missing_verb:
            user = re.search(r'User "([^"]+)"', self.server_message)
            # not always the resource that was asked for: to act as another user is a right of its own
            denied = re.search(r'resource "([^"]+)" in API group "([^"]*)"( at the cluster scope)?', self.server_message)
            plural, group = (denied[1], denied[2]) if denied else (self.resource.plural, self.resource.group)
            scope = " in the whole cluster" if denied and denied[3] else place
            # a websocket is a GET, and since Kubernetes 1.35 needs the right to create as well
            needed = "the verbs 'get' and 'create'" if plural == "pods/exec" else f"the verb {verb!r}"
            return (
                f"permission denied: {user[1] if user else 'this user'} may not {verb} {plural}{'.' + group if group else ''}{scope} "
                f"(needed for {what}); add {needed} to its Role, or use one of the Roles in docs/rbac"
            )
        if self.is_apply_conflict:
            fields = ", ".join(f"{path} (managed by {manager})" for path, manager in self.conflicts)
            return f"{what}{place} has fields that another manager set to other values: {fields}; set force_conflicts to take them over"
        if self.reason == _NOT_SERVED:
            return f"cannot {self.verb} {what}{place}: {self.server_message}; install its CustomResourceDefinition (Istio's own) first"
        if self.is_missing_namespace:
            return f"cannot write {what}: namespace {self.namespace} does not exist; create it first"
        if self.is_dying_namespace:
            return f"cannot write {what}: namespace {self.namespace} is being terminated; run again when it is gone and made anew"
        remedy = "; raise the quota, or delete what nobody needs" if "exceeded quota:" in self.server_message else ""
        return f"the API server refused to {self.verb} {what}{place} ({self.status} {self.reason}): {self.server_message}{remedy}"


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
                    socket=self._dial(),
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
                retried = not _is_about_certificates(error)
            else:
                self.reached = True
                return channel
            if not retried or attempt == _WEBSOCKET_ATTEMPTS:
                raise failure
            (self.sleep or self.stopping.wait)(_wait("", attempt))

    def _dial(self) -> Any:
        """A connected socket as the pool makes them: with its TLS settings, client certificate and proxy."""
        pool = self.pool.connection_from_url(self.host)
        connection = pool._new_conn()
        connection.timeout = _CONNECT_TIMEOUT
        if getattr(pool, "proxy", None):
            pool._prepare_proxy(connection)
        else:
            connection.connect()
        connection.sock.settimeout(_READ_TIMEOUT)
        return connection.sock

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
        timeout = urllib3.Timeout(connect=_CONNECT_TIMEOUT, read=_READ_TIMEOUT)
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
                    preload_content=not subresource,
                )
            except urllib3.exceptions.HTTPError as error:
                failure = self._no_answer(error, attempt)
                retried = not _is_about_certificates(error)
            else:
                self.reached = True
                if subresource and response.status < 300:
                    return response
                answer = _decode(response.data, resource)
                retried = response.status in _RETRIED_STATUSES
                if not retried:
                    self.well_at = self.clock()
                if response.status < 300 and answer:
                    return answer
                retry_after = response.headers.get("Retry-After") or ""
                if answer or retried or response.status in (401, 403):
                    said = answer or {"message": _excerpt(response.data, headers)}
                    failure = ApiError(response.status, asked, resource, namespace, name, said, self.host)
                    retried = retried or _lost_a_race(failure, body)
                else:
                    failure = Unreachable(
                        f"what answers at {self.host} is no Kubernetes API server: it says {_excerpt(response.data, headers)!r} "
                        f"(HTTP status {response.status}); check that kubeconfig, context, host and proxy name the right one"
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
        if _is_about_certificates(error):
            return Unreachable(
                f"the certificate of the API server at {self.host} cannot be verified ({_innermost(error)}); "
                "pass the CA that issued it with ca_cert or in the kubeconfig"
            )
        tries = f"{attempts} attempts" if attempts > 1 else "1 attempt"
        return Unreachable(
            f"no answer from the API server at {self.host} after {tries} ({_innermost(error)}); "
            "check that it runs and that kubeconfig, context or host name the right cluster"
        )


def _decode(data: bytes, resource: Resource) -> dict[str, Any] | None:
    """An API server's answer; None for what is none, such as a proxy's page."""
    if resource.group and data.strip() == b"404 page not found":  # all that an API server says about a group that it does not know
        return {"reason": _NOT_SERVED, "message": f"the cluster does not serve {resource.kind} ({resource.api_version})"}
    try:
        decoded = json.loads(data)
    except ValueError:
        return None
    return decoded if isinstance(decoded, dict) and "kind" in decoded else None


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


def _innermost(error: BaseException) -> str:
    """The cause that says something, without the wrappers around it and without memory addresses."""
    while True:
        inner = getattr(error, "reason", None) or error.__cause__ or error.__context__
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error)
    return re.sub(r"<[^<>]* object at 0x[0-9a-f]+>:? ?", "", str(text)).strip() or type(error).__name__


def _is_about_certificates(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        reason = getattr(error, "reason", None)
        error = reason if isinstance(reason, BaseException) else error.__cause__ or error.__context__
    return False


def connect(options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Cluster:
    """A client for the cluster that the options name.

    Explicit options beat `K8S_AUTH_*`, which beat `KUBECONFIG`; without any of them: the pod's own service account, then ~/.kube/config.
    A place that is named explicitly is not mixed with another that the environment names.
    """
    from kubernetes.client.configuration import Configuration
    from kubernetes.client.rest import RESTClientObject
    from urllib3.util import make_headers

    chosen = _authentication(options, os.environ if environment is None else environment)
    if chosen.get("host") and not _is_url(chosen["host"]):
        raise ConfigurationError(f"host: expected the API server's URL (https://name:port), found {chosen['host']!r}; correct it")
    configuration = _load(chosen, Configuration())
    if any(chosen.get(option) for option in _LOGINS):  # a login replaces the kubeconfig's as a whole: the server would prefer a certificate
        configuration.api_key, configuration.refresh_api_key_hook = {}, None
        configuration.cert_file = configuration.key_file = None
    for option, attribute in _CONFIGURATION.items():
        if chosen.get(option) is not None:
            setattr(configuration, attribute, chosen[option])
    for option in ("ca_cert", "client_cert", "client_key"):
        path = chosen.get(option)
        if path and not _is_readable(path):
            raise ConfigurationError(f"{option}: cannot read {path}; name a readable file in PEM format")
    if chosen.get("api_key"):
        configuration.api_key = {"authorization": f"Bearer {chosen['api_key'].strip()}"}
    if chosen.get("proxy_headers"):
        configuration.proxy_headers = make_headers(**chosen["proxy_headers"])
    if not _is_url(configuration.host):
        raise ConfigurationError(f"kubeconfig: expected the API server's URL (https://name:port), found {configuration.host!r}; correct it")
    if configuration.proxy and not _is_url(configuration.proxy):  # it may hold a login, so it is not repeated
        raise ConfigurationError("proxy: expected a URL such as http://proxy.example.com:3128, found something else; correct it")
    if "@" in configuration.host:
        raise ConfigurationError("host: expected the API server's URL without a login, found one in it; use username and password")
    configuration.host = host = configuration.host.rstrip("/")
    configuration.connection_pool_maxsize = CONNECTIONS
    _check_tls_files(configuration)
    pool = RESTClientObject(configuration).pool_manager

    basic = make_headers(basic_auth=f"{chosen['username']}:{chosen.get('password') or ''}") if chosen.get("username") else {}
    # one Impersonate-Group header a group: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation
    impersonated: list[tuple[str, str]] = []
    if chosen.get("impersonate_user"):
        impersonated.append(("Impersonate-User", chosen["impersonate_user"]))
    impersonated += [("Impersonate-Group", group) for group in chosen.get("impersonate_groups") or []]

    token, fresh_until = None, float("-inf")

    def login() -> list[tuple[str, str]]:
        # asked anew every now and then: an exec plugin's token may have been refreshed. Asking takes the library an eighth of a request's time
        nonlocal token, fresh_until
        now = time.monotonic()
        if now >= fresh_until:
            token, fresh_until = configuration.auth_settings().get("BearerToken", {}).get("value"), now + _TOKEN_KEPT
        return [*basic.items(), *([("Authorization", token)] if token else []), *impersonated]

    for header, value in login():
        if not value.isprintable() or not value.isascii():  # the value stays out of the message; http.client would quote it
            what = "the token or password" if header.lower() == "authorization" else header
            raise ConfigurationError(f"{what} holds line ends or other characters that no HTTP header can carry; correct it")
    return Cluster(pool=pool, host=host, login=login)  # asking for the login may have put the kubeconfig's host back into configuration


def _is_readable(path: str) -> bool:
    try:
        return os.access(path, os.R_OK)
    except ValueError:  # a null byte
        return False


def _is_url(text: Any) -> bool:
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    try:
        found = parse_url(str(text or ""))
    except LocationParseError:
        return False
    return found.scheme in ("http", "https") and bool(found.host)


def _check_tls_files(configuration: Any) -> None:
    """Loads them once: urllib3 does it with every connection, and tells what is wrong with them as if the server had not answered."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if configuration.ssl_ca_cert:
        try:
            context.load_verify_locations(configuration.ssl_ca_cert)
        except (OSError, ValueError):
            raise ConfigurationError(
                f"the CA certificates in {configuration.ssl_ca_cert} cannot be read; give PEM in ca_cert or in the kubeconfig"
            ) from None
    if configuration.cert_file:
        try:
            context.load_cert_chain(configuration.cert_file, configuration.key_file, password="")  # without, OpenSSL would ask
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error.strerror if isinstance(error, OSError) else None
            raise ConfigurationError(
                f"the client certificate {configuration.cert_file} and its key {configuration.key_file or '(in the same file)'} cannot be used"
                f"{f' ({reason})' if reason else ''}; give a PEM certificate and its unencrypted key in client_cert and client_key or in the kubeconfig"
            ) from None


def _authentication(options: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    ignored: tuple[str, ...] = ()
    if options.get("kubeconfig") or options.get("context"):
        ignored = _SERVER_AND_LOGIN
    elif _says_everything(options):
        ignored = ("kubeconfig", "context")
    for option, variables in _AUTH_ENVIRONMENT.items():
        if option in ignored:
            variables = ()
        found = next((environment[variable] for variable in variables if environment.get(variable)), None)
        if options.get(option) is not None or found is None:
            chosen[option] = options.get(option)
        elif option in _BOOLEANS:
            chosen[option] = found.strip().lower() not in ("0", "false", "no", "off")
        elif option == "impersonate_groups":
            chosen[option] = [group.strip() for group in found.split(",") if group.strip()]
        else:
            chosen[option] = found
    proxy_headers = options.get("proxy_headers") or {
        name: environment[f"K8S_AUTH_PROXY_HEADERS_{name.upper()}"]
        for name in _PROXY_HEADERS
        if environment.get(f"K8S_AUTH_PROXY_HEADERS_{name.upper()}")
    }
    chosen["proxy_headers"] = {name: value for name, value in proxy_headers.items() if value is not None}
    if not chosen["kubeconfig"] and environment.get("KUBECONFIG") and not _says_everything(chosen):
        chosen["kubeconfig"] = environment["KUBECONFIG"]
    return chosen


def _says_everything(chosen: Mapping[str, Any]) -> bool:
    """Whether the options alone name a server and a login, as kubernetes.core decides it."""
    has_login = chosen.get("api_key") or chosen.get("username") or (chosen.get("client_cert") and chosen.get("client_key"))
    return bool(chosen.get("host") and has_login)


def _load(chosen: Mapping[str, Any], configuration: Any) -> Any:
    """Fills the configuration from a kubeconfig or the pod's service account."""
    from kubernetes import config

    kubeconfig, context = chosen["kubeconfig"], chosen["context"]
    if _says_everything(chosen) and not kubeconfig and not context:
        return configuration
    if not kubeconfig and not context:
        try:
            config.load_incluster_config(client_configuration=configuration)
            return configuration
        except config.ConfigException:
            pass
    persist = bool(chosen["persist_config"])
    complaints = _Complaints()
    logging.getLogger().addHandler(complaints)  # where the loader tells that a login's plugin failed, and goes on without a login
    try:
        if isinstance(kubeconfig, dict):
            config.load_kube_config_from_dict(kubeconfig, context=context, client_configuration=configuration, persist_config=persist)
        else:
            if kubeconfig and ("\n" in str(kubeconfig) or str(kubeconfig).lstrip().startswith("{")):
                raise ConfigurationError(  # the text may hold a login, so it is not repeated
                    "kubeconfig: expected a path or a dictionary, found a kubeconfig's text; parse it with the filter from_yaml"
                )
            paths = os.pathsep.join(str(Path(part).expanduser()) for part in str(kubeconfig).split(os.pathsep)) if kubeconfig else None
            if paths and not any(_is_readable(path) for path in paths.split(os.pathsep)):
                raise ConfigurationError(f"kubeconfig: cannot read {paths}; name an existing, readable file")
            config.load_kube_config(config_file=paths, context=context, client_configuration=configuration, persist_config=persist)
    except ConfigurationError:
        raise
    except Exception as error:  # the loader lets YAML, base64, OS and type errors through as they are
        place = (
            "the kubeconfig given as a dictionary"
            if isinstance(kubeconfig, dict)
            else kubeconfig or "~/.kube/config (no kubeconfig, KUBECONFIG or host is set)"
        )
        where = f"context {context!r} of {place}" if context else str(place)
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, (TypeError, AttributeError, KeyError, UnicodeError)):
            first_line = "expected a kubeconfig (YAML with clusters, users and contexts), found something else"
        elif mark := getattr(error, "problem_mark", None):
            first_line = (
                f"expected a kubeconfig in YAML, found {getattr(error, 'problem', None) or 'something else'} in line {mark.line + 1}"
            )
        raise ConfigurationError(
            f"cannot load {where}: {first_line}; check the file with `kubectl config view`, or pass host and api_key"
        ) from None
    finally:
        logging.getLogger().removeHandler(complaints)
    if complaints.said:
        said = " ".join(complaints.said[0].split())[:300]
        raise ConfigurationError(f"the kubeconfig's login failed: {said}; see whether `kubectl auth whoami` works with it")
    return configuration


class _Complaints(logging.Handler):
    """What is logged as an error, kept instead of printed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
