# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client against scripted answers: what is retried and for how long, what is said about each refusal, and which login is used."""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.cluster import access, answers
from ansible_collections.meshops.istio.plugins.module_utils.cluster import login as logins
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import (
    ApiError,
    Cluster,
    ClusterError,
    ConfigurationError,
    Unreachable,
    connect,
)
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import GATEWAY, SECRET, SUBJECT_ACCESS_REVIEW
from ansible_collections.meshops.istio.tests.unit.live.servers import Pki, https, server_context

HOST = "https://api.example.com:6443"
OPERATOR = "system:serviceaccount:istio-system:meshops-operator"
SECRET_MANIFEST = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "n"}, "data": {}}
GATEWAY_MANIFEST = {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "n"}, "spec": {}}

Answer = urllib3.exceptions.HTTPError | SimpleNamespace


class Response(SimpleNamespace):
    """An answer whose body is still to be read."""

    def stream(self, size: int) -> Iterator[bytes]:
        yield self.data

    def release_conn(self) -> None: ...

    def close(self) -> None: ...


def answer(status: int, body: Any = None, **headers: str) -> SimpleNamespace:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status=status, data=data, headers=urllib3.HTTPHeaderDict(headers))


def status(code: int, message: str, reason: str = "", *, causes: list[dict[str, str]] | None = None, **headers: str) -> SimpleNamespace:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code}
    return answer(code, {**body, "details": {"causes": causes or []}}, **headers)


def found(kind: str = "Secret", name: str = "a", **body: Any) -> SimpleNamespace:
    return answer(200, {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "n"}, **body})


def page(*names: str, token: str = "") -> SimpleNamespace:
    return found("SecretList", metadata={"continue": token} if token else {}, items=[{"metadata": {"name": name}} for name in names])


def forbidden(verb: str, resource: str = "secrets", group: str = "", scope: str = 'in the namespace "n"') -> SimpleNamespace:
    message = f'{resource} "a" is forbidden: User "{OPERATOR}" cannot {verb} resource "{resource}" in API group "{group}" {scope}'
    return status(403, message, "Forbidden")


@dataclass
class Pool:
    """Answers what it was told to, the last answer for ever; keeps what it was asked."""

    answers: list[Any]
    asked: list[SimpleNamespace] = field(default_factory=list)

    def request(self, method: str, url: str, **options: Any) -> Any:
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = json.loads(options["body"]) if options["body"] else None
        self.asked.append(SimpleNamespace(method=method, path=parts.path, query=query, headers=options["headers"], body=body))
        assert options["retries"] is False and options["redirect"] is False
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(given, Exception):
            raise given
        return given


@dataclass
class Clock:
    now: float = 1000.0
    waits: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def cluster(*answers: Any, login: tuple[tuple[str, str], ...] = (("Authorization", "Bearer t0ken"),)) -> tuple[Cluster, Pool, Clock]:
    pool, clock = Pool(list(answers)), Clock()
    return Cluster(pool=pool, host=HOST, login=lambda: login, sleep=clock.sleep, clock=lambda: clock.now), pool, clock


REFUSED = urllib3.exceptions.NewConnectionError(SimpleNamespace(host="api.example.com"), "[Errno 111] Connection refused")  # type: ignore[arg-type]
TIMEOUT = urllib3.exceptions.ReadTimeoutError(None, "/", "Read timed out.")  # type: ignore[arg-type]


def test_requests_are_what_the_api_takes() -> None:
    one, pool, __ = cluster(found(), found(), found("Gateway", "g"), found())
    one.get(SECRET, "n", "a")
    one.apply(SECRET, SECRET_MANIFEST)
    one.apply(GATEWAY, GATEWAY_MANIFEST, force=True, dry_run=True)
    one.delete(SECRET, "n", "a", uid="u-1")
    one.create(SUBJECT_ACCESS_REVIEW, {"kind": "SubjectAccessReview"})
    assert [(asked.method, asked.path, asked.query) for asked in pool.asked] == [
        ("GET", "/api/v1/namespaces/n/secrets/a", {}),
        ("PATCH", "/api/v1/namespaces/n/secrets/a", {"fieldManager": "meshops.istio", "force": "false"}),
        (
            "PATCH",
            "/apis/networking.istio.io/v1/namespaces/n/gateways/g",
            {"fieldManager": "meshops.istio", "force": "true", "dryRun": "All"},
        ),
        ("DELETE", "/api/v1/namespaces/n/secrets/a", {}),
        ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {}),
    ]
    assert pool.asked[1].headers["Content-Type"] == "application/apply-patch+yaml"
    assert pool.asked[1].body == SECRET_MANIFEST
    assert pool.asked[3].body["preconditions"] == {"uid": "u-1"}
    assert one.requests == {"get": 1, "patch": 2, "delete": 1, "create": 1}


@pytest.mark.parametrize(
    ("act", "wrote"),
    [
        (lambda one: one.get(SECRET, "n", "a"), False),
        (lambda one: one.apply(SECRET, SECRET_MANIFEST, dry_run=True), False),
        (lambda one: one.apply(SECRET, SECRET_MANIFEST), True),
        (lambda one: one.delete(SECRET, "n", "a"), True),
    ],
)
def test_it_knows_whether_it_wrote(act: Callable[[Cluster], Any], wrote: bool) -> None:
    one, __, __ = cluster(found())
    act(one)
    assert one.wrote is wrote


def test_login_is_asked_for_with_every_request_and_groups_are_headers_of_their_own() -> None:
    groups = (("Impersonate-User", "jane"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b"))
    one, pool, __ = cluster(found(), login=groups)
    one.get(SECRET, "n", "a")
    assert pool.asked[0].headers.getlist("Impersonate-Group") == ["a", "b"]
    assert pool.asked[0].headers["Impersonate-User"] == "jane"


UNAUTHORIZED = status(401, "Unauthorized", "Unauthorized")


@pytest.mark.parametrize(
    ("answers", "another", "outcome", "asked"),
    [
        ([UNAUTHORIZED, found()], True, "Secret", 2),
        ([UNAUTHORIZED], True, "does not accept the login", 2),  # once
        ([UNAUTHORIZED, found()], False, "does not accept the login", 1),
        ([forbidden("get"), found()], True, "permission denied", 1),
    ],
)
def test_a_login_that_is_refused_is_renewed_once(answers: list[Any], another: bool, outcome: str, asked: int) -> None:
    one, pool, clock = cluster(*answers)
    one.renew = lambda sent_at: another
    try:
        came_to = str((one.get(SECRET, "n", "a") or {})["kind"])
    except ApiError as error:
        came_to = str(error)
    assert outcome in came_to and len(pool.asked) == asked and not clock.waits


def test_no_other_login_is_asked_for_once_the_run_is_to_end() -> None:
    one, pool, __ = cluster(UNAUTHORIZED, found())
    one.renew = lambda sent_at: True
    one.stopping.set()
    with pytest.raises(ApiError, match="does not accept the login"):
        one.get(SECRET, "n", "a")
    assert len(pool.asked) == 1


def test_why_there_is_no_other_login() -> None:
    one, __, __ = cluster(UNAUTHORIZED)

    def renew(sent_at: float) -> bool:
        raise ConfigurationError("the plugin said: log in again")

    one.renew = renew
    with pytest.raises(
        ConfigurationError, match=r"does not accept the login \(401\), and there is no other: the plugin said: log in again"
    ) as caught:
        one.get(SECRET, "n", "a")
    assert caught.value.hopeless


def test_what_does_not_exist_is_none_and_deleting_it_is_fine() -> None:
    one, __, clock = cluster(status(404, 'secrets "a" not found', "NotFound"))
    assert one.get(SECRET, "n", "a") is None
    assert one.delete(SECRET, "n", "a") is False
    assert clock.waits == []


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_answers_that_pass_are_tried_again(code: int) -> None:
    one, pool, clock = cluster(status(code, "not now"), status(code, "not now"), found())
    assert one.apply(SECRET, SECRET_MANIFEST)["kind"] == "Secret"
    assert len(pool.asked) == 3
    assert 0 < clock.waits[0] < clock.waits[1] < 1


@pytest.mark.parametrize(("header", "waits"), [("7", [7.0]), ("3600", [10.0]), ("0", [0.0])])
def test_retry_after_is_honoured_within_bounds(header: str, waits: list[float]) -> None:
    one, __, clock = cluster(status(429, "slow down", **{"Retry-After": header}), found())
    one.get(SECRET, "n", "a")
    assert clock.waits == waits


def test_retry_after_as_a_date_is_passed_over() -> None:
    one, __, clock = cluster(answer(503, b"", **{"Retry-After": "Fri, 31 Dec 2027 23:59:59 GMT"}), found())
    one.get(SECRET, "n", "a")
    assert clock.waits[0] < 1


def test_patience_ends() -> None:
    one, pool, clock = cluster(status(503, "etcd is away"))
    with pytest.raises(ApiError, match=r"refused to get Secret a in namespace n \(503 \): etcd is away"):
        one.get(SECRET, "n", "a")
    assert 20 < clock.now - 1000 <= 30
    assert len(pool.asked) > 10 and max(clock.waits) < 4


def test_a_server_that_was_never_reached_gets_less_patience_than_one_that_went_away() -> None:
    one, __, clock = cluster(REFUSED)
    with pytest.raises(Unreachable) as never:
        one.get(SECRET, "n", "a")
    assert 4 < clock.now - 1000 <= 8
    assert f"no answer from the API server at {HOST} after" in str(never.value) and "Connection refused" in str(never.value)
    assert "0x" not in str(never.value) and "\n" not in str(never.value)
    one, __, clock = cluster(found(), REFUSED)
    one.get(SECRET, "n", "a")
    with pytest.raises(Unreachable):
        one.get(SECRET, "n", "a")
    assert 20 < clock.now - 1000 <= 30


def test_lost_connections_are_tried_again() -> None:
    dropped = urllib3.exceptions.ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset by peer"))
    one, pool, __ = cluster(dropped, TIMEOUT, found())
    one.apply(SECRET, SECRET_MANIFEST)
    assert len(pool.asked) == 3


def test_a_certificate_that_is_not_trusted_is_not_tried_again() -> None:
    cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
    cause.verify_message = "unable to get local issuer certificate"
    failure = urllib3.exceptions.SSLError(cause)
    failure.__context__ = cause
    one, pool, __ = cluster(failure)
    with pytest.raises(
        Unreachable, match=r"certificate of the API server .* cannot be verified .*unable to get local issuer.* pass the CA"
    ):
        one.get(SECRET, "n", "a")
    assert len(pool.asked) == 1


def test_an_optimistic_lock_that_was_lost_is_tried_again() -> None:
    lost = status(409, 'Operation cannot be fulfilled on secrets "a": the object has been modified; please apply your changes', "Conflict")
    one, pool, __ = cluster(lost, found())
    one.apply(SECRET, SECRET_MANIFEST)
    assert len(pool.asked) == 2
    one, pool, __ = cluster(status(409, "Precondition failed: UID in precondition: u-1, UID in object meta: u-2", "Conflict"))
    with pytest.raises(ApiError, match="Precondition failed"):
        one.delete(SECRET, "n", "a", uid="u-1")
    assert len(pool.asked) == 1, "another object of that name is none of ours to delete"


def test_an_apply_conflict_is_final_and_names_fields_and_managers() -> None:
    causes = [
        {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl-create" using v1', "field": ".data.tls.crt"},
        {"reason": "FieldManagerConflict", "message": 'conflict with "argocd"', "field": ".metadata.labels.a"},
    ]
    one, pool, __ = cluster(status(409, "Apply failed with 2 conflicts", "Conflict", causes=causes))
    with pytest.raises(ApiError) as caught:
        one.apply(SECRET, SECRET_MANIFEST)
    assert len(pool.asked) == 1
    assert caught.value.conflicts == [("data.tls.crt", "kubectl-create"), ("metadata.labels.a", "argocd")]
    assert "data.tls.crt (managed by kubectl-create), metadata.labels.a (managed by argocd)" in str(caught.value)
    assert "force_conflicts" in str(caught.value)


UNAUTHORIZED = status(401, "Unauthorized", "Unauthorized")
DENIED = 'admission webhook "rev.validation.istio.io" denied the request: configuration is invalid: server must have TLS settings'
TERMINATING = 'secrets "a" is forbidden: unable to create new content in namespace n because it is being terminated'
QUOTA = 'secrets "a" is forbidden: exceeded quota: few, requested: secrets=1, used: secrets=5, limited: secrets=5'


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        (UNAUTHORIZED, [f"at {HOST} does not accept the login (401 while asking to patch Secret a in namespace n)", "has expired"]),
        (
            forbidden("patch"),
            [f"{OPERATOR} may not patch secrets in namespace n (needed for Secret a)", "add the verb 'patch' to its Role"],
        ),
        (forbidden("create"), ["may not create secrets in namespace n"]),
        (
            forbidden("impersonate", "users", scope="at the cluster scope"),
            ["may not impersonate users in the whole cluster (needed for Secret a)"],
        ),
        (status(403, QUOTA, "Forbidden"), ["refused to patch Secret a in namespace n (403 Forbidden): ", "exceeded quota: few"]),
        (status(403, TERMINATING, "Forbidden"), ["cannot write Secret a: namespace n is being terminated"]),
        (status(404, 'namespaces "n" not found', "NotFound"), ["namespace n does not exist; create it first"]),
        (status(400, DENIED), ["refused to patch Secret a in namespace n (400 ): ", DENIED]),
        (status(422, 'Secret "a" is invalid: type: Invalid value: field is immutable', "Invalid"), ["(422 Invalid): ", "is immutable"]),
    ],
)
def test_refusals_are_sentences(refusal: SimpleNamespace, says: list[str]) -> None:
    one, pool, __ = cluster(refusal)
    with pytest.raises(ApiError) as caught:
        one.apply(SECRET, SECRET_MANIFEST)
    assert len(pool.asked) == 1
    for words in says:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("refusal", "verb"),
    [(forbidden("list"), "list"), (status(403, QUOTA), None), (status(403, TERMINATING), None), (UNAUTHORIZED, None)],
)
def test_only_rbac_lacks_a_verb(refusal: SimpleNamespace, verb: str | None) -> None:
    one, __, __ = cluster(refusal)
    with pytest.raises(ApiError) as caught:
        list(one.list(SECRET, "n"))
    assert caught.value.missing_verb == verb


def test_a_group_that_the_cluster_does_not_serve() -> None:
    """All that an API server says then is `404 page not found`, as text."""
    one, __, __ = cluster(answer(404, b"404 page not found\n"))
    assert one.get(GATEWAY, "n", "g") is None
    with pytest.raises(
        ApiError, match=r"cannot patch Gateway g in namespace n: the cluster does not serve Gateway \(networking.istio.io/v1\)"
    ):
        one.apply(GATEWAY, GATEWAY_MANIFEST)
    with pytest.raises(ApiError) as caught:
        list(one.list(GATEWAY))
    assert caught.value.status == 404


PAGE = b"<html><head><title>x</title></head><body><h1>Access   denied</h1> by the proxy</body></html>"


@pytest.mark.parametrize(
    "stranger", [answer(200, PAGE), answer(404, PAGE), answer(302, b""), answer(200, [1]), answer(200, {"headers": {}})]
)
def test_something_else_is_never_taken_for_an_api_server(stranger: SimpleNamespace) -> None:
    """A proxy's page is no object, and its 404 does not mean that there is none."""
    for act in (
        lambda one: one.get(SECRET, "n", "a"),
        lambda one: list(one.list(SECRET, "n")),
        lambda one: one.apply(SECRET, SECRET_MANIFEST),
        lambda one: one.delete(SECRET, "n", "a"),
    ):
        one, pool, __ = cluster(stranger)
        with pytest.raises(Unreachable, match=f"what answers at {HOST} is no Kubernetes API server") as caught:
            act(one)
        assert len(pool.asked) == 1 and "<" not in str(caught.value)


NO_SUCH_PATH = {"kind": "Status", "message": "the server could not find the requested resource", "reason": "NotFound", "details": {}}
"""What a real API server says to /api/api/v1/... and /version/api/v1/...; of an object that is missing it tells kind and name."""


def test_a_path_of_another_kind_of_url_does_not_mean_that_there_is_no_object() -> None:
    for act in (lambda one: one.get(SECRET, "n", "a"), lambda one: list(one.list(SECRET, "n")), lambda one: one.delete(SECRET, "n", "a")):
        one, pool, __ = cluster(answer(404, NO_SUCH_PATH))
        one.host = "https://kube.example.com/api"
        with pytest.raises(Unreachable, match=r"at https://kube\.example\.com/api has no secrets there; leave /api out of its URL"):
            act(one)
        assert len(pool.asked) == 1
    missing = {**NO_SUCH_PATH, "message": 'secrets "a" not found', "details": {"name": "a", "kind": "secrets"}}
    assert cluster(answer(404, missing))[0].get(SECRET, "n", "a") is None


def test_nobody_is_not_told_to_give_everybody_a_right() -> None:
    message = 'secrets "a" is forbidden: User "system:anonymous" cannot get resource "secrets" in API group "" in the namespace "n"'
    one, __, __ = cluster(status(403, message, "Forbidden"))
    with pytest.raises(ApiError, match="got no login that it knows") as caught:
        one.get(SECRET, "n", "a")
    assert "Role" not in str(caught.value) and caught.value.missing_verb == "get"


def test_a_proxys_error_is_told_in_its_words_but_the_login_is_not() -> None:
    one, __, __ = cluster(answer(403, PAGE))
    with pytest.raises(ApiError, match="Access denied by the proxy"):
        one.get(SECRET, "n", "a")
    one, __, __ = cluster(answer(418, b"you sent Authorization: Bearer t0ken"))
    with pytest.raises(ClusterError) as caught:
        one.get(SECRET, "n", "a")
    assert "t0ken" not in str(caught.value) and "you sent" in str(caught.value)


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (b"<" * 65536, ""),
        (b"<head" * 13000, ""),
        (b"<script>var a = '</b>'</script>Sorry", "Sorry"),
        (PAGE.replace(b"</head>", b"</head >"), "Access denied by the proxy"),
        (PAGE, "Access denied by the proxy"),
    ],
)
def test_a_page_is_quoted_without_its_markup(page: bytes, told: str) -> None:
    assert told in answers.excerpt(page, {})


@pytest.mark.parametrize("piece", ["<", "<a ", "<head", "<script>", "</head ", "<style></styl", "& ", "<script" + " " * 20])
def test_markup_is_taken_out_in_time_that_grows_with_the_page(piece: str) -> None:
    """A megabyte: some hundredths of a second in one pass, and a quarter of an hour where an end is looked for from each `<` anew, which an alarm ends."""

    def too_long(*__: object) -> None:
        raise AssertionError("after twenty seconds of processor time there is no end")

    before = signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, 20)
    try:
        answers.without_markup(piece * (1_000_000 // len(piece)))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def test_lists_are_read_page_by_page() -> None:
    one, pool, __ = cluster(page("a", "b", token="t1"), page("c", token="t2"), page("d"))
    assert [item["metadata"]["name"] for item in one.list(SECRET, "n", label_selector="x=y")] == ["a", "b", "c", "d"]
    assert [asked.query.get("continue") for asked in pool.asked] == [None, "t1", "t2"]
    assert all(asked.query["limit"] == "500" and asked.query["labelSelector"] == "x=y" for asked in pool.asked)
    assert all(asked.query["fieldSelector"] == "type!=helm.sh/release.v1" for asked in pool.asked)
    one, pool, __ = cluster(page())
    assert list(one.list(GATEWAY)) == []
    assert pool.asked[0].path == "/apis/networking.istio.io/v1/gateways" and "fieldSelector" not in pool.asked[0].query


EXPIRED = status(410, "The provided continue parameter is too old to display a consistent list result", "Expired")


def test_a_list_whose_snapshot_expired_is_begun_anew() -> None:
    one, pool, __ = cluster(page("a", token="t1"), EXPIRED, page("a", token="t2"), page("b"))
    assert [item["metadata"]["name"] for item in one.list(SECRET, "n")] == ["a", "b"]
    assert [asked.query.get("continue") for asked in pool.asked] == [None, "t1", None, "t2"]
    one, pool, __ = cluster(*[page("a", token="t"), EXPIRED] * 5)
    with pytest.raises(ApiError, match="too old"):
        list(one.list(SECRET, "n"))
    assert len(pool.asked) == 6


# --- connect ---------------------------------------------------------------------------------------------------------------------------------

CANARY = "c4n4ry-t0ken"


def kubeconfig(server: str = "https://kube.example.com:6443", **user: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "u", "user": user or {"token": "from-kubeconfig"}}],
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "main",
    }


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    def write(name: str = "config", **options: Any) -> str:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(kubeconfig(**options)))
        return str(path)

    return write


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No login of this machine's is looked at."""
    for name in ("KUBECONFIG", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "no-such-home"))


def where(one: Cluster) -> tuple[str, str]:
    """(host, Authorization) of a client."""
    return one.host, urllib3.HTTPHeaderDict(one.login()).get("Authorization", "")


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ({"kubeconfig": "A"}, {}, ("https://a", "Bearer in-a")),
        ({"kubeconfig": "A"}, {"K8S_AUTH_KUBECONFIG": "B", "KUBECONFIG": "C"}, ("https://a", "Bearer in-a")),
        ({}, {"K8S_AUTH_KUBECONFIG": "B", "KUBECONFIG": "C"}, ("https://b", "Bearer in-b")),
        ({}, {"KUBECONFIG": "C"}, ("https://c", "Bearer in-c")),
        ({"host": "https://h/", "api_key": "k"}, {"KUBECONFIG": "C"}, ("https://h", "Bearer k")),
        ({"host": "https://h", "api_key": "k"}, {"K8S_AUTH_KUBECONFIG": "B"}, ("https://h", "Bearer k")),
        ({}, {"K8S_AUTH_HOST": "https://h", "K8S_AUTH_API_KEY": "k", "KUBECONFIG": "C"}, ("https://h", "Bearer k")),
        # a login beats the kubeconfig's, its token and its certificate
        ({"kubeconfig": "A", "api_key": "k"}, {}, ("https://a", "Bearer k")),
        ({"api_key": "k"}, {"KUBECONFIG": "C"}, ("https://c", "Bearer k")),
        ({"api_key": "k"}, {"KUBECONFIG": "C", "K8S_AUTH_API_KEY": "no"}, ("https://c", "Bearer k")),
        ({"kubeconfig": "A", "host": "https://h"}, {}, ("https://h", "Bearer in-a")),
        ({"kubeconfig": "A", "username": "jane", "password": "pw"}, {}, ("https://a", "Basic " + base64.b64encode(b"jane:pw").decode())),
        # an explicit kubeconfig is not mixed with what the environment says of another cluster (AWX sets these)
        ({"kubeconfig": "A"}, {"K8S_AUTH_HOST": "https://h", "K8S_AUTH_API_KEY": "k"}, ("https://a", "Bearer in-a")),
        ({"context": "main"}, {"K8S_AUTH_HOST": "https://h", "K8S_AUTH_API_KEY": "k", "KUBECONFIG": "C"}, ("https://c", "Bearer in-c")),
    ],
)
def test_precedence(written: Callable[..., str], options: dict[str, str], environment: dict[str, str], expected: tuple[str, str]) -> None:
    paths = {name: written(name, server=f"https://{name.lower()}", token=f"in-{name.lower()}") for name in "ABC"}
    one = connect(
        {name: paths.get(value, value) for name, value in options.items()},
        {name: paths.get(value, value) for name, value in environment.items()},
    )
    assert where(one) == expected


def test_a_kubeconfig_as_a_dictionary() -> None:
    assert where(connect({"kubeconfig": kubeconfig()}, {})) == ("https://kube.example.com:6443", "Bearer from-kubeconfig")


def test_several_kubeconfigs_are_merged(written: Callable[..., str]) -> None:
    assert where(connect({}, {"KUBECONFIG": written("A") + ":" + written("B", server="https://b")}))[0] == "https://kube.example.com:6443"


def test_the_pods_own_service_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written: Callable[..., str]) -> None:
    """Read from the files that every pod has, once nothing else names a cluster; said where there is another login that one may have meant."""
    (tmp_path / "token").write_text("in-pod\n")
    (tmp_path / "ca.crt").write_text(certificate())
    monkeypatch.setattr(access, "_SERVICE_ACCOUNT", tmp_path)
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    one = connect({}, pod)
    assert where(one) == ("https://10.0.0.1:443", "Bearer in-pod") and not one.notes
    assert where(connect({}, {**pod, "KUBERNETES_SERVICE_HOST": "fd00::1"}))[0] == "https://[fd00::1]:443"
    assert where(connect({}, {**pod, "KUBECONFIG": written()}))[0] == "https://kube.example.com:6443", "KUBECONFIG comes first"
    home = tmp_path / "home" / ".kube" / "config"
    home.parent.mkdir(parents=True)
    home.write_text(Path(written()).read_text())
    both = connect({}, {**pod, "HOME": str(tmp_path / "home")})
    assert where(both)[0] == "https://10.0.0.1:443"
    assert "service account" in both.notes[0] and str(home) in both.notes[0]
    assert where(connect({"context": "main"}, {**pod, "HOME": str(tmp_path / "home")}))[0] == "https://kube.example.com:6443"
    (tmp_path / "token").unlink()
    assert where(connect({}, {**pod, "HOME": str(tmp_path / "home")})) == ("https://kube.example.com:6443", "Bearer from-kubeconfig")


def certificate() -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ca")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ({"impersonate_user": "jane", "impersonate_groups": ["a", "b"]}, {}),
        ({}, {"K8S_AUTH_IMPERSONATE_USER": "jane", "K8S_AUTH_IMPERSONATE_GROUPS": "a, b"}),
    ],
)
def test_impersonation(options: dict[str, Any], environment: dict[str, str]) -> None:
    one = connect({"kubeconfig": kubeconfig(), **options}, environment)
    assert one.login()[1:] == [("Impersonate-User", "jane"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b")]


def test_a_token_file_is_read_again_within_a_second_and_counts_before_the_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = 100.0
    monkeypatch.setattr(logins, "time", SimpleNamespace(monotonic=lambda: now))
    path = tmp_path / "token"
    path.write_text("first\n")
    one = connect({"kubeconfig": kubeconfig(tokenFile=str(path), token="beside")}, {})
    path.write_text("second\n")
    assert one.login() == one.login() == [("Authorization", "Bearer first")]
    now = 101.0
    assert one.login() == [("Authorization", "Bearer second")]
    path.unlink()
    now = 102.0
    assert one.login() == [("Authorization", "Bearer second")], "a file that is being replaced is no end of the login"
    with pytest.raises(ConfigurationError, match=f"tokenFile of .*{path}"):
        connect({"kubeconfig": kubeconfig(tokenFile=str(path))}, {})


PATHS: dict[str, Callable[[str], dict[str, Any]]] = {
    # what names a file
    "kubeconfig": lambda path: {"kubeconfig": path},
    "ca_cert": lambda path: {"kubeconfig": kubeconfig(token="t"), "ca_cert": path},
    "client_cert": lambda path: {"host": "https://h", "client_cert": path, "client_key": path},
    "tokenFile": lambda path: {"kubeconfig": kubeconfig(tokenFile=path)},
    "client-certificate": lambda path: {"kubeconfig": kubeconfig(**{"client-certificate": path, "client-key": path})},
}


@pytest.mark.parametrize("what", ["a pipe", "a device", "a directory", "more than 16 MiB", "no file"])
@pytest.mark.parametrize("option", PATHS)
def test_files_that_may_never_end(tmp_path: Path, option: str, what: str) -> None:
    path = tmp_path / "file"
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a device":
        path = Path("/dev/zero")
    elif what == "a directory":
        path.mkdir()
    elif what != "no file":
        with path.open("wb") as file:
            file.truncate(1 << 40)  # sparse
    with pytest.raises(ConfigurationError) as raised:
        connect(PATHS[option](str(path)), {})
    assert str(path) in str(raised.value) and (what in str(raised.value) or what == "no file")


def test_a_plugin_is_told_of_no_ca_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ca")
    assert logins._content(str(tmp_path / "ca")) == b""


@pytest.mark.parametrize(
    ("options", "environment", "required"),
    [
        ({"host": "https://h", "api_key": "k"}, {}, "CERT_REQUIRED"),
        ({"host": "https://h", "api_key": "k", "validate_certs": False}, {}, "CERT_NONE"),
        ({"host": "https://h", "api_key": "k"}, {"K8S_AUTH_VERIFY_SSL": "no"}, "CERT_NONE"),
        ({"host": "https://h", "api_key": "k"}, {"K8S_AUTH_VALIDATE_CERTS": "False"}, "CERT_NONE"),
        ({"host": "https://h", "api_key": "k", "validate_certs": True}, {"K8S_AUTH_VERIFY_SSL": "no"}, "CERT_REQUIRED"),
        ({"kubeconfig": kubeconfig(), "validate_certs": True}, {}, "CERT_REQUIRED"),
        ({"kubeconfig": kubeconfig()}, {}, "CERT_NONE"),
    ],
)
def test_validate_certs(options: dict[str, Any], environment: dict[str, str], required: str) -> None:
    settings = connect(options, environment).pool.current().connection_pool_kw
    context = settings.get("ssl_context")
    assert ssl.VerifyMode(context.verify_mode if context else settings["cert_reqs"]).name == required


def test_a_ca_of_which_only_strict_verification_asks_more(tmp_path: Path) -> None:
    """Key usage and key identifiers: EKS and MicroK8s have neither, and kubectl connects. Python verifies strictly from 3.13 on."""
    pki = Pki()
    assert {extension.oid._name for extension in pki.root.certificate.extensions} == {"basicConstraints"}
    secret = b'{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "n"}}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(secret)
    authority = tmp_path / "ca.crt"
    authority.write_bytes(pki.root.pem)
    with https(server_context(tmp_path, pki.server), head + secret) as server:
        options = {"host": f"https://{server.address}:{server.port}", "api_key": "k", "ca_cert": str(authority)}
        assert connect(options, {}).get(SECRET, "n", "a") == json.loads(secret)


@pytest.mark.parametrize(
    ("options", "warns"),
    [
        ({"host": "http://10.0.0.1:8080", "api_key": CANARY}, True),
        ({"host": "http://api.example.com", "username": "jane", "password": CANARY}, True),
        ({"kubeconfig": kubeconfig(server="http://api.example.com"), "api_key": CANARY}, True),
        ({"host": "http://127.0.0.1:8001", "api_key": CANARY}, False),
        ({"host": "http://localhost:8001", "api_key": CANARY}, False),
        ({"host": "http://[::1]:8001", "api_key": CANARY}, False),
        ({"host": "https://api.example.com", "api_key": CANARY}, False),
        ({"kubeconfig": kubeconfig(server="http://api.example.com", token=CANARY)}, False),  # which is not sent
    ],
)
def test_a_login_in_plaintext_is_a_warning(options: dict[str, Any], warns: bool) -> None:
    one = connect(options, {})
    assert [problem.code for problem in one.doubts] == ["login_in_plaintext"] * warns
    assert CANARY not in str(one.doubts) and (warns or "http://api" not in one.host or not one.login())


def test_an_international_server_is_asked_for_in_ascii() -> None:
    assert connect({"host": "https://api.Bücher.example:6443/a/", "api_key": "k"}, {}).host == "https://api.xn--bcher-kva.example:6443/a"
    with pytest.raises(ConfigurationError, match=r"found .-ü\.example., which no international name may be"):
        connect({"host": "https://-ü.example", "api_key": "k"}, {})


def test_a_proxy(written: Callable[..., str]) -> None:
    one = connect({"kubeconfig": written(), "proxy": "http://proxy.example.com:3128", "proxy_headers": {"user_agent": "u"}}, {})
    assert one.pool.current().proxy.host == "proxy.example.com" and one.pool.current().proxy_headers == {"user-agent": "u"}
    beside = connect({"kubeconfig": written(), "proxy": "http://proxy.example.com:3128", "no_proxy": "kube.example.com"}, {})
    assert getattr(beside.pool.current(), "proxy", None) is None
    named = connect({"kubeconfig": written()}, {"K8S_AUTH_PROXY": "http://p:1", "K8S_AUTH_PROXY_HEADERS_PROXY_BASIC_AUTH": "a:b"})
    assert named.pool.current().proxy.host == "p" and "proxy-authorization" in named.pool.current().proxy_headers


CONTENT = yaml.safe_dump(kubeconfig(token=CANARY))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kubeconfig": "/no/such/file"}, "kubeconfig: cannot read /no/such/file; name an existing, readable file"),
        ({"kubeconfig": kubeconfig(), "context": "missing"}, "cannot load context 'missing' of the kubeconfig given as a dictionary: "),
        ({"kubeconfig": {"users": [{"name": "u", "user": {"token": CANARY}}]}}, "cannot load the kubeconfig given as a dictionary: "),
        ({"kubeconfig": CONTENT}, "found a kubeconfig's text; parse it with the filter from_yaml"),
        ({"kubeconfig": json.dumps(kubeconfig(token=CANARY))}, "found a kubeconfig's text"),
        ({}, "~/.kube/config (no kubeconfig, KUBECONFIG or host is set)"),
        (
            {"host": "kube.example.com", "api_key": CANARY},
            "host: expected the API server's URL (https://name:port), found 'kube.example.com'",
        ),
        ({"host": "https://", "api_key": CANARY}, "host: expected the API server's URL"),
        ({"host": f"https://jane:{CANARY}@h", "api_key": "k"}, "without a login, found one in it; use username and password"),
        ({"host": "https://h", "api_key": "k", "ca_cert": "/no/ca.pem"}, "ca_cert: cannot read /no/ca.pem"),
        ({"host": "https://h", "api_key": "k", "ca_cert": "-----BEGIN CERTIFICATE-----\nMIIB"}, "ca_cert: expected a path, found content"),
        (
            {"host": "https://h", "client_cert": "/c.pem", "client_key": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n"},
            "client_key: expected a path, found content",
        ),
        ({"host": "https://h", "api_key": f"Bearer {CANARY}"}, "the token begins with the word Bearer"),
        ({"kubeconfig": kubeconfig(token=f"Bearer {CANARY}")}, "the token begins with the word Bearer"),
        ({"host": "https://h", "api_key": f"{CANARY}\nsecond line"}, "the token or password holds line ends"),
        ({"host": "https://h", "api_key": f"{CANARY}…"}, "the token or password holds line ends or other characters"),
        ({"kubeconfig": kubeconfig(token=f"{CANARY}\n")}, "the token or password holds line ends"),
        ({"kubeconfig": kubeconfig(), "impersonate_user": "a\nb"}, "Impersonate-User holds line ends"),
    ],
)
def test_what_is_wrong_with_the_options_is_one_sentence_without_secrets(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(options, {})
    text = str(caught.value)
    assert says in text and "\n" not in text and CANARY not in text
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_an_empty_file_is_a_kubeconfig_without_a_context(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot load .*config: it names no current-context"):
        connect({"kubeconfig": str(tmp_path / "config")}, {})


@pytest.mark.parametrize("content", ["a: [1", "just words", "\t", "- 1\n- 2\n", "kind: Secret"])
def test_files_that_are_no_kubeconfig(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"cannot load .*; check the file with `kubectl config view`"):
        connect({"kubeconfig": str(path)}, {})


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (("ca_cert",), "the CA certificates in {path} cannot be read; give PEM in ca_cert"),
        (("client_cert",), "the client certificate {path} and its key (in the same file) cannot be used"),
        (("client_cert", "client_key"), "the client certificate {path} and its key {path} cannot be used"),
    ],
)
def test_files_that_are_no_certificates(tmp_path: Path, files: tuple[str, ...], says: str) -> None:
    path = tmp_path / "file.pem"
    path.write_text(f"-----BEGIN CERTIFICATE-----\n{CANARY}\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigurationError) as caught:
        connect({"host": "https://h", "api_key": "k", **dict.fromkeys(files, str(path))}, {})
    assert says.format(path=path) in str(caught.value) and CANARY not in str(caught.value)


def test_certificates_in_a_kubeconfig_that_are_none() -> None:
    encoded = base64.b64encode(CANARY.encode()).decode()
    with pytest.raises(ConfigurationError, match=r"the client certificate .* cannot be used") as caught:
        connect({"kubeconfig": kubeconfig(**{"client-certificate-data": encoded, "client-key-data": encoded})}, {})
    assert CANARY not in str(caught.value)


def test_an_encrypted_client_key_is_refused_without_asking(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    path = tmp_path / "client.key"
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    with pytest.raises(ConfigurationError, match="unencrypted key"):
        connect({"host": "https://h", "client_cert": str(path), "client_key": str(path)}, {})


def test_a_token_on_a_line_of_its_own_is_fine() -> None:
    assert where(connect({"host": "https://h", "api_key": "k\n"}, {})) == ("https://h", "Bearer k")


def test_nothing_of_the_login_is_in_a_repr() -> None:
    one = connect({"host": "https://h", "username": "jane", "password": CANARY}, {})
    two = connect({"kubeconfig": kubeconfig(token=CANARY)}, {})
    assert CANARY not in repr(one) + repr(two) and base64.b64encode(CANARY.encode()).decode()[:10] not in repr(one)


def test_every_option_that_names_a_secret_is_in_the_table_of_variables() -> None:
    from ansible_collections.meshops.istio.plugins.module_utils.arguments import AUTH_OPTIONS

    assert AUTH_OPTIONS.keys() - {"proxy_headers"} == access._ENVIRONMENT.keys()
