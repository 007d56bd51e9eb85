# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands in Pods and their logs, against a server that speaks the API's websocket protocol."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
import urllib3
from ansible_collections.meshops.istio.plugins.module_utils.cluster import pods as pods_module
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ApiError, Cluster, Unreachable
from ansible_collections.meshops.istio.plugins.module_utils.cluster.pods import (
    Pod,
    PodError,
    Ran,
    list_pods,
    pick_pod,
    pod_of,
    read_log,
    run,
)
from ansible_collections.meshops.istio.plugins.module_utils.cluster.proxies import proxies_in_pods, read_page
from ansible_collections.meshops.istio.plugins.module_utils.istio.proxy import Unread
from ansible_collections.meshops.istio.tests.unit.live.servers import listening

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
SUCCESS = {"status": "Success", "metadata": {}}
_BINARY, _CLOSE, _PING = 2, 8, 9


def frame(payload: bytes, opcode: int = _BINARY, final: bool = True) -> bytes:
    length = len(payload)
    size = (
        bytes([length]) if length < 126 else b"\x7e" + struct.pack(">H", length) if length < 65536 else b"\x7f" + struct.pack(">Q", length)
    )
    return bytes([(0x80 if final else 0) | opcode]) + size + payload


def exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionError
        data += part
    return data


def receive(connection: socket.socket) -> bytes:
    """One masked frame of the client."""
    __, length = exactly(connection, 2)
    length &= 0x7F
    if length == 126:
        (length,) = struct.unpack(">H", exactly(connection, 2))
    elif length == 127:
        (length,) = struct.unpack(">Q", exactly(connection, 8))
    mask = exactly(connection, 4)
    return bytes(byte ^ mask[number % 4] for number, byte in enumerate(exactly(connection, length)))


@dataclass
class Api:
    """What is asked of the server, and what it says."""

    talk: Callable[[socket.socket], Any] = lambda connection: None
    protocol: str = V5
    refusals: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """Answers that are given before the first conversation."""
    heads: list[str] = field(default_factory=list)

    def __call__(self, connection: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += exactly(connection, 1)
        self.heads.append(head.decode())
        if self.refusals:
            status, body = self.refusals.pop(0)
            payload = json.dumps(body).encode()
            connection.sendall(b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n%s" % (status, len(payload), payload))
            return
        key = re.search(r"Sec-WebSocket-Key: (\S+)", self.heads[-1])
        assert key
        accepted = base64.b64encode(hashlib.sha1(f"{key[1]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()  # noqa: S324
        upgrade = f"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accepted}\r\n"
        connection.sendall(f"{upgrade}Sec-WebSocket-Protocol: {self.protocol}\r\n\r\n".encode())
        self.talk(connection)


@contextlib.contextmanager
def cluster(api: Api, *login: tuple[str, str]) -> Iterator[Cluster]:
    with listening(api) as server:
        waits: list[float] = []
        yield Cluster(pool=urllib3.PoolManager(), host=f"http://127.0.0.1:{server.port}", login=lambda: login, sleep=waits.append)


def status(**more: Any) -> bytes:
    return frame(b"\x03" + json.dumps({**SUCCESS, **more}).encode())


def exit_code(code: int) -> bytes:
    causes = {"causes": [{"reason": "ExitCode", "message": str(code)}]}
    return status(status="Failure", reason="NonZeroExitCode", message=f"command terminated with exit code {code}", details=causes)


def saying(*frames: bytes, close: bool = True) -> Callable[[socket.socket], Any]:
    return lambda connection: connection.sendall(b"".join((*frames, *([frame(b"\x03\xe8", _CLOSE)] if close else []))))


# --- commands ---------------------------------------------------------------------------------------------------------


def test_output_and_exit_code() -> None:
    frames = [frame(b"\x01"), frame(b"\x02"), frame(b"\x01he"), frame(b"", _PING), frame(b"\x02oops"), frame(b"\x01" + b"x" * 70_000)]
    with cluster(Api(saying(*frames, exit_code(3)))) as one:
        ran = run(one, "n", "p", ["ls", "-l", "/a b"])
    assert ran == Ran(3, b"he" + b"x" * 70_000, b"oops")
    assert one.requests == {"exec": 1} and one.reached


def test_messages_in_parts() -> None:
    with cluster(Api(saying(frame(b"\x01ab", final=False), frame(b"cd", 0), status()))) as one:
        assert run(one, "n", "p", ["true"]).stdout == b"abcd"


def test_the_request_is_what_the_api_takes() -> None:
    api = Api(saying(status()))
    login = (("Authorization", "Bearer t0ken"), ("Impersonate-User", "jane"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b"))
    with cluster(api, *login) as one:
        run(one, "n", "p", ["sh", "-c", "echo 'ä' & exit"], container="c", stdin=b"")
    (head,) = api.heads
    path = urlsplit(head.split(" ")[1])
    assert path.path == "/api/v1/namespaces/n/pods/p/exec"
    assert parse_qsl(path.query) == [
        ("command", "sh"),
        ("command", "-c"),
        ("command", "echo 'ä' & exit"),
        ("stdout", "true"),
        ("stderr", "true"),
        ("stdin", "true"),
        ("container", "c"),
    ]
    for name, value in login:
        assert f"\r\n{name}: {value}\r\n" in head
    assert f"Sec-WebSocket-Protocol: {V5},{V4}\r\n" in head
    assert "Origin:" not in head


def test_input_arrives_and_ends() -> None:
    data = bytes(range(256)) * 300
    received = []

    def talk(connection: socket.socket) -> None:
        while (message := receive(connection)) != b"\xff\x00":
            received.append(message)
        saying(frame(b"\x01done"), status())(connection)

    with cluster(Api(talk)) as one:
        assert run(one, "n", "p", ["cat"], stdin=data).stdout == b"done"
    assert {message[0] for message in received} == {0}
    assert b"".join(message[1:] for message in received) == data
    assert len(received) > 1


def test_a_command_that_ends_without_reading_its_input_is_no_error() -> None:
    with cluster(Api(saying(status()))) as one:
        assert run(one, "n", "p", ["true"], stdin=b"x" * 3_000_000).code == 0


def test_input_needs_a_server_that_can_end_it() -> None:
    with cluster(Api(protocol=V4)) as one, pytest.raises(PodError, match=r"older than Kubernetes 1\.30"):
        run(one, "n", "p", ["cat"], stdin=b"secret")
    with cluster(Api(saying(status()), protocol=V4)) as one:
        assert run(one, "n", "p", ["true"]).code == 0


def test_of_a_long_output_what_is_wanted_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods_module, "OUTPUT_LIMIT", 1000)
    frames = [frame(b"\x01" + b"x" * 600)] * 3
    with cluster(Api(saying(*frames, status()))) as one:
        assert run(one, "n", "p", ["yes"], keep=700).stdout == b"x" * 700
        with pytest.raises(PodError, match="Pod n/p: yes wrote more than"):
            run(one, "n", "p", ["yes"])


@pytest.mark.parametrize(
    ("talk", "told"),
    [
        (lambda connection: connection.recv(1000), "sleep has not ended within 0.3 s"),
        (lambda connection: None, "the connection ended while sleep ran"),
        (saying(frame(b"\x01half")), "before it was said how sleep ended"),
        (
            saying(status(status="Failure", message='exec: "sleep": executable file not found in $PATH')),
            "there is no program sleep in the container",
        ),
        (saying(status(status="Failure", message="container is paused")), "sleep could not be run: container is paused"),
    ],
    ids=["timeout", "reset", "no status", "no program", "no start"],
)
def test_commands_that_fail_name_the_pod(talk: Callable[[socket.socket], Any], told: str) -> None:
    with cluster(Api(talk)) as one, pytest.raises(PodError) as error:
        run(one, "n", "p", ["sleep", "9"], container="c", timeout=0.3)
    assert str(error.value).startswith("Pod n/p, container c: ") and told in str(error.value)


def forbidden(verb: str) -> dict[str, Any]:
    message = f'pods "p" is forbidden: User "jane" cannot {verb} resource "pods/exec" in API group "" in the namespace "n"'
    return {"kind": "Status", "status": "Failure", "message": message, "reason": "Forbidden", "code": 403}


@pytest.mark.parametrize("verb", ["get", "create"])
def test_a_missing_right_is_said_with_both_verbs(verb: str) -> None:
    with cluster(Api(refusals=[(403, forbidden(verb))])) as one, pytest.raises(ApiError) as error:
        run(one, "n", "p", ["true"])
    assert error.value.missing_verb == verb
    assert f"jane may not {verb} pods/exec in namespace n" in str(error.value)
    assert "the verbs 'get' and 'create'" in str(error.value) and "docs/rbac" in str(error.value)


def test_the_right_to_create_is_named_where_the_api_server_names_nothing() -> None:
    silent = {**forbidden(""), "message": 'pods "p" is forbidden: '}
    with cluster(Api(refusals=[(403, silent)])) as one, pytest.raises(ApiError, match="may not create pods/exec in namespace n"):
        run(one, "n", "p", ["true"])


def test_other_refusals() -> None:
    missing = {"kind": "Status", "message": 'pods "p" not found', "reason": "NotFound", "code": 404}
    with cluster(Api(refusals=[(404, missing)])) as one, pytest.raises(ApiError, match='pods "p" not found'):
        run(one, "n", "p", ["true"])
    with (
        cluster(Api(refusals=[(401, {})]), ("Authorization", "Bearer t0ken")) as one,
        pytest.raises(ApiError, match="does not accept the login") as error,
    ):
        run(one, "n", "p", ["true"])
    assert "t0ken" not in str(error.value)


def test_a_busy_server_is_asked_again_and_a_redirect_is_not_followed() -> None:
    busy = {"kind": "Status", "message": "too many requests"}
    with cluster(Api(saying(status()), refusals=[(429, busy), (503, busy)])) as one:
        assert run(one, "n", "p", ["true"]).code == 0
    assert one.requests == {"exec": 3}
    api = Api(refusals=[(302, {})] * 9)
    with cluster(api, ("Authorization", "Bearer t0ken")) as one, pytest.raises((ApiError, Unreachable)):
        run(one, "n", "p", ["true"])
    assert all("/exec?" in head for head in api.heads)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    one = Cluster(pool=urllib3.PoolManager(), host=f"http://127.0.0.1:{port}", login=tuple, sleep=lambda seconds: None)
    with pytest.raises(Unreachable, match=r"no answer from the API server .* after 4 attempts \(Connection refused\)"):
        run(one, "n", "p", ["true"])


# --- logs -------------------------------------------------------------------------------------------------------------


@dataclass
class Pool:
    """Answers with a stream of parts."""

    parts: list[bytes]
    status: int = 200
    asked: list[str] = field(default_factory=list)
    closed: bool = False

    def request(self, method: str, url: str, **options: Any) -> Any:
        self.asked.append(f"{method} {url}")
        assert options["preload_content"] is False

        def close() -> None:
            self.closed = True

        return SimpleNamespace(
            status=self.status,
            stream=lambda size: iter(self.parts),
            data=b"".join(self.parts),
            headers=urllib3.HTTPHeaderDict(),
            close=close,
            release_conn=close,
        )


def logs(pool: Pool) -> Cluster:
    return Cluster(pool=pool, host="https://api", login=tuple)


def test_log_lines_with_their_times() -> None:
    text = "2026-01-01T00:00:00.123456789Z first\n2026-01-01T00:00:01Z second ä\nno time\n2026-01-01T00:00:02Z last".encode()
    pool = Pool([text[:40], text[40:63], text[63:]])
    found = list(read_log(logs(pool), "n", "p", container="c"))
    assert found == [
        (datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC), "first"),
        (datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC), "second ä"),
        (None, "no time"),
        (datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC), "last"),
    ]
    assert pool.asked == ["GET https://api/api/v1/namespaces/n/pods/p/log?timestamps=true&container=c"]
    assert pool.closed


def test_since_is_exact_though_the_api_takes_whole_seconds() -> None:
    pool = Pool([b"2026-01-01T00:00:00.400Z before\n2026-01-01T00:00:00.600Z after\n"])
    since = datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    assert [text for __, text in read_log(logs(pool), "n", "p", since=since)] == ["after"]
    assert parse_qs(urlsplit(pool.asked[0]).query)["sinceTime"] == ["2026-01-01T00:00:00Z"]


def test_a_log_that_may_not_be_read() -> None:
    message = 'pods "p" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "n"'
    pool = Pool([json.dumps({"kind": "Status", "message": message}).encode()], 403)
    with pytest.raises(ApiError, match="jane may not get pods/log in namespace n"):
        list(read_log(logs(pool), "n", "p"))


# --- which pods -------------------------------------------------------------------------------------------------------


def live(name: str, *, phase: str = "Running", ready: bool = True, state: str = "running", **metadata: Any) -> dict[str, Any]:
    proxy = {"running": {}} if state == "running" else {state: {"reason": "CrashLoopBackOff", "message": "back-off"}}
    return {
        "metadata": {"namespace": "n", "name": name, "uid": f"u-{name}", "labels": {"istio": "ingressgateway"}, **metadata},
        "spec": {
            "containers": [{"name": "first"}, {"name": "istio-proxy"}],
            "initContainers": [{"name": "init"}, {"name": "sidecar", "restartPolicy": "Always"}],
        },
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False", "reason": "ContainersNotReady", "message": "not yet"}],
            "containerStatuses": [{"name": "first", "state": {"running": {}}}, {"name": "istio-proxy", "state": proxy}],
        },
    }


@dataclass
class Listed:
    """A cluster of these Pods."""

    items: list[dict[str, Any]]
    selectors: list[str] = field(default_factory=list)

    def list(self, resource: Any, namespace: str | None, *, label_selector: str) -> Iterator[dict[str, Any]]:
        self.selectors.append(label_selector)
        return iter(self.items)

    def get(self, resource: Any, namespace: str, name: str) -> dict[str, Any] | None:
        return next((item for item in self.items if item["metadata"]["name"] == name), None)


def listed(*items: dict[str, Any]) -> Any:
    return Listed(list(items))


def test_what_matters_of_a_pod() -> None:
    pod = pod_of(live("a", ready=False, state="waiting"))
    assert (str(pod), pod.uid, pod.phase, pod.ready, pod.terminating) == ("Pod n/a", "u-a", "Running", False, False)
    assert pod.containers == ("first", "istio-proxy", "sidecar") and pod.running == {"first"}
    assert pod.troubles == ("istio-proxy: CrashLoopBackOff: back-off",)
    assert pod.default_container == "first"
    assert pod_of(live("a", annotations={"kubectl.kubernetes.io/default-container": "istio-proxy"})).default_container == "istio-proxy"
    assert pod_of(live("a", ready=False)).troubles == ("ContainersNotReady: not yet",)
    assert pod_of(live("a", deletionTimestamp="2026-01-01T00:00:00Z")).terminating


def test_pods_are_listed_by_name_without_those_that_have_ended() -> None:
    one = listed(live("b"), live("a"), live("job", phase="Succeeded"), live("evicted", phase="Failed"))
    assert [pod.name for pod in list_pods(one, "n", {"b": "2", "a": "1"})] == ["a", "b"]
    assert one.selectors == ["a=1,b=2"]


def picked(*items: dict[str, Any], name: str | None = None) -> Pod:
    return pick_pod(listed(*items), "n", name, {"app": "x"})


def test_the_pod_that_is_picked() -> None:
    assert picked(live("a", ready=False), live("b"), live("c")).name == "b"
    assert picked(live("a", ready=False)).name == "a"
    assert picked(live("a", deletionTimestamp="x"), live("b", ready=False)).name == "b"
    assert picked(live("a"), live("b"), name="b").name == "b"
    with pytest.raises(PodError, match="there is no Pod c in namespace n"):
        picked(live("a"), name="c")
    with pytest.raises(PodError, match="there is no Pod with the labels app=x in namespace n"):
        picked(live("a", deletionTimestamp="x"))
    pending = live("a", phase="Pending", ready=False)
    pending["status"]["containerStatuses"] = []
    with pytest.raises(PodError, match=r"no Pod with the labels app=x in namespace n runs: Pod n/a is Pending \(ContainersNotReady"):
        picked(pending)


# --- proxies in pods --------------------------------------------------------------------------------------------------


def test_every_pod_that_is_not_going_away_is_a_proxy() -> None:
    pods = listed(live("a"), live("b", ready=False, state="waiting"), live("c", deletionTimestamp="x"))
    sources, logs_ = proxies_in_pods(pods, "n", {"istio": "ingressgateway"}, timeout=1)
    assert [(one.name, one.ready) for one in sources] == [("Pod n/a", True), ("Pod n/b", False)]
    assert sources[0].trouble == "" and "CrashLoopBackOff" in sources[1].trouble
    assert sources[0].facts == {"namespace": "n", "pod": "a", "admin_url": None, "troubles": []}
    assert [one.name for one in logs_] == ["Pod n/a", "Pod n/b"]
    bare = live("d")
    bare["spec"]["containers"] = [{"name": "first"}]
    (source,), __ = proxies_in_pods(listed(bare), "n", {}, timeout=1)
    assert "it has no container istio-proxy, but first" in source.trouble


def test_a_page_of_a_proxy() -> None:
    api = Api(saying(frame(b"\x01{}"), status()))
    with cluster(api) as one:
        assert read_page(one, pod_of(live("a")), "stats?filter=%28a%29", timeout=5) == b"{}"
    query = parse_qs(urlsplit(api.heads[0].split(" ")[1]).query)
    assert query["command"] == ["pilot-agent", "request", "GET", "stats?filter=%28a%29"] and query["container"] == ["istio-proxy"]


@pytest.mark.parametrize(
    ("api", "told"),
    [
        (
            Api(saying(frame(b"\x02Error: command terminated\n"), exit_code(1))),
            "Pod n/a: its proxy did not answer (Error: command terminated)",
        ),
        (Api(refusals=[(404, {"kind": "Status", "message": 'pods "a" not found'})]), 'pods "a" not found'),
        (Api(lambda connection: None), "Pod n/a, container istio-proxy: the connection ended"),
    ],
)
def test_a_page_that_cannot_be_had(api: Api, told: str) -> None:
    with cluster(api) as one, pytest.raises(Unread) as unread:
        read_page(one, pod_of(live("a")), "certs", timeout=5)
    assert told in str(unread.value)


def test_a_page_that_may_not_be_had_is_another_matter() -> None:
    with cluster(Api(refusals=[(403, forbidden("create"))])) as one, pytest.raises(ApiError):
        read_page(one, pod_of(live("a")), "certs", timeout=5)
