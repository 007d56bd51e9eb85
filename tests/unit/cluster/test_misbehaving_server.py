# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An API server on loopback that never ends, sends far too much, or something else: one sentence, within bounds."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster import client, transport
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import Cluster, ClusterError, connect
from ansible_collections.meshops.istio.plugins.module_utils.cluster.pods import PodError, run
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import NAMESPACE, SECRET
from ansible_collections.meshops.istio.tests.unit.live.servers import Pki, listening, server_context

GOOD = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "n"}}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
STRANGER = "is no Kubernetes API server"


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]).encode() + body


@contextlib.contextmanager
def asking(send: Callable[[socket.socket], Any]) -> Iterator[Cluster]:
    def handle(connection: socket.socket) -> None:
        connection.recv(65536)
        send(connection)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # what is closed with something unread is reset
            pass

    with listening(handle) as server:
        cluster = connect({"host": f"http://127.0.0.1:{server.port}", "api_key": "c4n4ry"}, {})
        cluster.stopping.set()  # one attempt
        yield cluster


def said(ask: Callable[[], Any]) -> str:
    with pytest.raises(ClusterError) as caught:
        ask()
    text = str(caught.value)
    assert "c4n4ry" not in text and "Traceback" not in text and len(text) < 1000
    return text


def dripping(connection: socket.socket, content: bytes, over: threading.Event) -> None:
    """A byte at a time, so that no pause is ever long; all of it, where the other side waits for all of it."""
    for place in range(len(content)):
        connection.sendall(content[place : place + 1])
        if over.wait(0.02):
            return


BODY = json.dumps(GOOD).encode()
WHOLE = answer(BODY)
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
LONG_HEAD = HEAD + b"X-Filler: " + b"x" * 200 + b"\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
STATUS = answer(b'{"kind": "Status", "message": "' + b"x" * 100 + b'"}', status="503 Service Unavailable")


@pytest.mark.parametrize(
    ("content", "at_once"),
    [
        (WHOLE, 0),
        (WHOLE, WHOLE.index(BODY)),
        (WHOLE, WHOLE.index(BODY) + 1),
        (CHUNKED, CHUNKED.index(b"\r\n\r\n") + 4),
        (LONG_HEAD, len(HEAD)),
        (STATUS, STATUS.index(b"{")),
    ],
)
@pytest.mark.parametrize("tls", [False, True])
def test_an_answer_has_a_deadline_as_a_whole(
    tls: bool, content: bytes, at_once: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """The server would complete its answer in two seconds, and pauses for a fiftieth of one."""
    monkeypatch.setattr(transport, "READ_TIMEOUT", 0.6)
    over = threading.Event()
    pki = Pki()
    context = server_context(tmp_path, pki.server)
    (tmp_path / "ca.crt").write_bytes(pki.root.pem)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) if tls else contextlib.nullcontext(connection) as spoken:
            spoken.recv(65536)
            spoken.sendall(content[:at_once])
            dripping(spoken, content[at_once:], over)

    with listening(handle) as server:
        login = {"host": f"http{'s' * tls}://127.0.0.1:{server.port}", "api_key": "k", "ca_cert": str(tmp_path / "ca.crt")}
        cluster = connect(login, {})
        cluster.stopping.set()
        found = said(lambda: cluster.get(SECRET, "n", "a"))
        over.set()
    assert "no answer from the API server at" in found and ("timed out" in found or "took too long" in found)


def test_each_read_waits_for_what_is_left_of_the_deadline() -> None:
    """Not for the whole time once more, which a server that falls silent after a byte would take."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(30)
        timed = transport._Timed(ours)
        timed.deadline -= 20
        theirs.sendall(b"x")
        assert timed.readinto(bytearray(1)) == 1
        assert 0 < ours.gettimeout() <= 10  # type: ignore[operator]
        timed.deadline -= 20
        theirs.sendall(b"x")
        with pytest.raises(TimeoutError):
            timed.readinto(bytearray(1))


def test_a_log_has_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_STREAM_TIMEOUT", 0.6)
    over = threading.Event()
    with asking(lambda connection: dripping(connection, answer(b"line\n" * 40), over)) as cluster:
        read: list[str] = []
        told = said(lambda: read.extend(cluster.lines(SECRET, "n", "a", "log", {})))
        assert "timed out" in told or "took too long" in told  # on a slow machine even before the first line
        over.set()


def test_a_line_of_a_log_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_LONGEST_LINE", 200_000)
    with asking(lambda connection: connection.sendall(answer(b"a\n" + b"x" * 1_000_000 + b"\nb"))) as cluster:
        read = list(cluster.lines(SECRET, "n", "a", "log", {}))
    assert read[0] == "a" and read[-1] == "b" and "".join(read[1:-1]) == "x" * 1_000_000
    assert max(map(len, read)) <= 200_000 + 65536


def upgrade(connection: socket.socket, request: bytes, rest: bytes, at_once: int, over: threading.Event) -> None:
    """Agrees to a websocket, and goes on with something else."""
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
    assert key
    accepted = base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest())
    head = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n"
    content = head + b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n" + rest
    connection.sendall(content[:at_once])
    dripping(connection, content[at_once:], over)


ENDING = b'\x82\x15\x03{"status":"Success"}'  # a frame of the channel that tells how a command ended
LOUD = b"\x82\x7e\xff\xff\x01" + b"x" * 65534  # one that would take twenty minutes


CONVERSATIONS = {"the head": (ENDING, 0), "the rest of the head": (ENDING, 30), "a message": (LOUD, 200)}


@pytest.mark.parametrize("drawn_out", CONVERSATIONS)
@pytest.mark.parametrize("tls", [False, True])
def test_a_conversation_has_a_deadline(drawn_out: str, tls: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    rest, at_once = CONVERSATIONS[drawn_out]
    monkeypatch.setattr(transport, "READ_TIMEOUT", 0.6)
    monkeypatch.setattr(client, "_WEBSOCKET_ATTEMPTS", 1)
    over = threading.Event()
    pki = Pki()
    context = server_context(tmp_path, pki.server)
    (tmp_path / "ca.crt").write_bytes(pki.root.pem)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) if tls else contextlib.nullcontext(connection) as spoken:
            upgrade(spoken, spoken.recv(65536), rest, at_once, over)

    with listening(handle) as server:
        login = {"host": f"http{'s' * tls}://127.0.0.1:{server.port}", "api_key": "k", "ca_cert": str(tmp_path / "ca.crt")}
        cluster = connect(login, {})
        with pytest.raises((ClusterError, PodError)) as caught:
            run(cluster, "n", "a", ["true"], timeout=0.6)
        over.set()
    assert ("no answer from the API server at" if at_once < 200 else "true has not ended within 0.6 s") in str(caught.value)


@pytest.mark.parametrize("another", [True, False])
def test_a_conversation_renews_a_refused_login_once(another: bool) -> None:
    came: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        came.append(connection.recv(65536))
        if len(came) == 1:
            connection.sendall(answer(b'{"kind": "Status", "message": "Unauthorized"}', status="401 Unauthorized"))
        else:
            upgrade(connection, came[-1], ENDING, 1 << 20, threading.Event())

    with listening(handle) as server:
        cluster = connect({"host": f"http://127.0.0.1:{server.port}", "api_key": "k"}, {})
        cluster.renew = lambda sent_at: another
        if another:
            assert run(cluster, "n", "a", ["true"]).code == 0 and len(came) == 2
        else:
            with pytest.raises(ClusterError, match="does not accept the login"):
                run(cluster, "n", "a", ["true"])
            assert len(came) == 1


# --- sizes -------------------------------------------------------------------------------------------------------------------

BOMB = """
import gzip, resource, sys
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ClusterError, connect
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import SECRET
connect({"host": "http://127.0.0.1:1", "api_key": "k"}, {})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
cluster = connect({"host": sys.argv[1], "api_key": "k"}, {})
cluster.stopping.set()
try:
    cluster.get(SECRET, "n", "a")
except ClusterError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.parametrize("encodings", [1, 2])
def test_a_bomb_is_not_unpacked(encodings: int) -> None:
    """1.5 GiB of spaces; packed once more, a few kilobytes of it are as much."""
    content = gzip.compress(b" " * (16 << 20)) * 96
    for __ in range(encodings - 1):
        content = gzip.compress(content)
    coding = ", ".join(["gzip"] * encodings)
    with listening(
        lambda connection: connection.recv(65536) and connection.sendall(answer(content, f"Content-Encoding: {coding}"))
    ) as server:
        asked = [sys.executable, "-c", BOMB, f"http://127.0.0.1:{server.port}"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=True)
    sentence, mebibytes = done.stdout.splitlines()
    assert STRANGER in sentence and ("its answer has more than 64 MiB" if encodings == 1 else "packed several times") in sentence
    assert int(mebibytes) < 400


def test_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "LARGEST_ANSWER", 1 << 20)
    with asking(lambda connection: connection.sendall(answer(b" " * (2 << 20)))) as cluster:
        assert "its answer has more than 1 MiB" in said(lambda: cluster.get(SECRET, "n", "a"))


def test_an_honest_compressed_answer_is_read() -> None:
    with asking(lambda connection: connection.sendall(answer(gzip.compress(BODY), "Content-Encoding: gzip"))) as cluster:
        assert cluster.get(SECRET, "n", "a") == GOOD


# --- shapes ------------------------------------------------------------------------------------------------------------------


def changed(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def with_metadata(**changes: Any) -> bytes:
    return changed(metadata={**GOOD["metadata"], **changes})  # type: ignore[dict-item]


def deep(opening: bytes, closing: bytes = b"") -> bytes:
    return opening * 200_000 + closing * 200_000


SHAPES = {
    **{
        f"a text of {text!r}": text
        for text in (b"", b"null", b"true", b"[]", b"5", b'"x"', b"{}", b"nan", b"{]", b"\xff\xfe\x00", b'{"kind": "\xff"}')
    },
    "a number of 5,000 digits": b'{"kind": "Secret", "n": ' + b"9" * 5000 + b"}",
    "deep lists": deep(b"[", b"]"),
    "deep lists without an end": deep(b"["),
    "deep objects": deep(b'{"a":') + b"1" + b"}" * 200_000,
    # in an object that is right otherwise, and read by Python
    **{f"spec {levels} deep": changed(spec={"a": "x"}).replace(b'"x"', b"[" * levels + b"]" * levels) for levels in (250, 900)},
    "a deep member": b'{"kind": "Secret", "data": ' + deep(b"[", b"]") + b"}",
    **{f"kind {kind}": changed(kind=kind) for kind in (None, [], {}, 5, True)},
    **{f"metadata {value}": changed(metadata=value) for value in (None, [1], "x", 5, {}, {"name": None}, {"name": ["a"]})},
    **{f"data {value}": changed(data=value) for value in ([], [1], "x", 5, True)},
    **{f"spec {value}": changed(spec=value) for value in ([], "x", 5)},
    **{f"status {value}": changed(status=value) for value in ([1], "x", 5)},
    **{f"labels {value}": with_metadata(labels=value) for value in ([], "x", 5)},
    **{f"annotations {value}": with_metadata(annotations=value) for value in (["x"], "x", 5, {"a": 5}, {"a": None})},
    **{
        f"{key} {value}": with_metadata(**{key: value})
        for key in ("ownerReferences", "managedFields", "finalizers")
        for value in ({"a": 1}, "x", 5)
    },
    **{
        f"{key} of {value}": with_metadata(**{key: [value]}) for key in ("ownerReferences", "managedFields") for value in (None, "x", 5, [])
    },
    "finalizers of numbers": with_metadata(finalizers=[5]),
    "resourceVersion as a list": with_metadata(resourceVersion=[1]),
    "uid as an object": with_metadata(uid={}),
    "another name": with_metadata(name="b"),
    "another namespace": with_metadata(namespace="o"),
    "no namespace": changed(metadata={"name": "a"}),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("verb", ["get", "apply"])
def test_what_is_no_such_object(verb: str, name: str) -> None:
    with asking(lambda connection: connection.sendall(answer(SHAPES[name]))) as cluster:
        found = said(lambda: cluster.get(SECRET, "n", "a") if verb == "get" else cluster.apply(SECRET, GOOD))
    assert STRANGER in found


def test_an_object_of_no_namespace_is_fine_where_there_is_none() -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    with asking(lambda connection: connection.sendall(answer(json.dumps(namespace).encode()))) as cluster:
        assert cluster.get(NAMESPACE, "", "n") == namespace


LISTS = {
    **{
        f"items {value}": {"items": value}
        for value in ({}, "x", 5, [None], [5], ["x"], [[]], [{}], [{"metadata": {}}], [GOOD, {"metadata": 5}])
    },
    **{f"metadata {value}": {"items": [], "metadata": value} for value in ([1], "x", 5)},
    "a token that is none": {"items": [], "metadata": {"continue": {"a": 1}}},
}


@pytest.mark.parametrize("name", LISTS)
def test_what_is_no_such_list(name: str) -> None:
    body = json.dumps({"apiVersion": "v1", "kind": "SecretList", **LISTS[name]}).encode()
    with asking(lambda connection: connection.sendall(answer(body))) as cluster:
        assert STRANGER in said(lambda: list(cluster.list(SECRET, "n")))


@pytest.mark.parametrize(
    "details",
    [
        None,
        [],
        "x",
        5,
        {"causes": "x"},
        {"causes": {"a": 1}},
        {"causes": [None, 5, "x"]},
        {"causes": [{"reason": 5, "field": [], "message": {}}]},
        {"kind": [], "name": 5},
    ],
)
@pytest.mark.parametrize("code", [401, 403, 404, 409, 410, 422, 500])
def test_refusals_of_another_shape_are_refusals(code: int, details: Any) -> None:
    body = {"kind": "Status", "message": ["m"], "reason": {"r": 1}, "code": "x", "details": details}
    with asking(lambda connection: connection.sendall(answer(json.dumps(body).encode(), status=f"{code} No"))) as cluster:
        assert ("does not accept the login" if code == 401 else f"({code} ") in said(lambda: cluster.apply(SECRET, GOOD))


@pytest.mark.parametrize(
    "page",
    [b"<" * 4_000_000, b"<head" * 800_000, b"<script>" * 500_000, b"</head" + b" " * 4_000_000, b"<a " * 1_000_000, b"& " * 2_000_000],
)
def test_a_long_page_is_quoted(page: bytes) -> None:
    with asking(lambda connection: connection.sendall(answer(page, status="418 x"))) as cluster:
        assert STRANGER in said(lambda: cluster.get(SECRET, "n", "a"))
