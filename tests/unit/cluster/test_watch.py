# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kind that is followed: what is asked for again after each way in which a watch can end."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster import watch
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import connect
from ansible_collections.meshops.istio.plugins.module_utils.cluster.watch import Change, Watcher
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import GATEWAY, SECRET
from ansible_collections.meshops.istio.tests.unit.live.servers import listening

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
Step = Any
"""What one request is answered with: objects of a list, events of a watch, a status, or `hang`."""


def item(name: str, version: str) -> dict[str, Any]:
    return {"kind": "Secret", "metadata": {"name": name, "namespace": "n", "resourceVersion": version}}


def event(kind: str, name: str, version: str) -> dict[str, Any]:
    return {"type": kind, "object": item(name, version)}


def expired(code: int = 410) -> dict[str, Any]:
    return {"type": "ERROR", "object": {"kind": "Status", "code": code, "message": "too old resource version"}}


def whole(body: Any, status: int = 200) -> bytes:
    data = json.dumps(body).encode()
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data
    )


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Script:
    """Answers requests one after the other, and the last answer again and again."""

    def __init__(self, *steps: Step) -> None:
        self.steps = steps
        self.asked: list[dict[str, str]] = []
        self.over = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        request = connection.recv(65536).decode().split(" ")[1]
        step = self.steps[min(len(self.asked), len(self.steps) - 1)]
        self.asked.append({name: values[0] for name, values in parse_qs(urlsplit(request).query).items()})
        if isinstance(step, dict):
            connection.sendall(whole(step, step.get("code", 200)))
        elif isinstance(step, str):  # hang
            connection.sendall(CHUNKED)
            self.over.wait(20)
        else:
            connection.sendall(CHUNKED)
            cut = step[-1:] == ["cut"]
            for each in step[: -1 if cut else None]:
                line = json.dumps(each).encode() + b"\n"
                connection.sendall(chunk(line[:20]) + chunk(line[20:]))  # a line need not come in one piece
            if not cut:
                connection.sendall(b"0\r\n\r\n")
        connection.shutdown(socket.SHUT_RDWR)


def listed(version: str, *items: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "SecretList", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": list(items)}


@contextmanager
def watching(script: Script, resource: Any = SECRET) -> Iterator[tuple[Watcher, list[Change], list[float], list[str]]]:
    changes: list[Change] = []
    pauses: list[float] = []
    said: list[str] = []
    with listening(script) as server:
        cluster = connect({"host": f"http://127.0.0.1:{server.port}", "api_key": "c4n4ry"}, {})
        cluster.sleep = lambda __: None
        watcher = Watcher(cluster, resource, "n", changes.append, said.append, wait=pauses.append)
        thread = threading.Thread(target=watcher.run)
        thread.start()
        try:
            yield watcher, changes, pauses, said
        finally:
            cluster.stopping.set()
            script.over.set()
            watcher.stop()
            thread.join(10)
            assert not thread.is_alive()


def until(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def names(changes: list[Change]) -> list[str]:
    return [f"{one.what} {' '.join(each['metadata']['name'] for each in one.objects)}".strip() for one in changes]


def test_a_watch_that_ends_goes_on_from_where_it_was() -> None:
    script = Script(
        listed("5", item("a", "3")),
        [event("MODIFIED", "a", "6"), {"type": "BOOKMARK", "object": {"kind": "Secret", "metadata": {"resourceVersion": "9"}}}],
        [event("ADDED", "b", "11"), "cut"],
        [event("DELETED", "a", "12")],
        "hang",
    )
    with watching(script) as (__, changes, ___, said):
        until(lambda: len(script.asked) == 5)
        assert names(changes) == ["listed a", "changed a", "changed b", "deleted a"]
        assert [one.get("resourceVersion") for one in script.asked] == [None, "5", "9", "11", "12"]
        assert all(one["allowWatchBookmarks"] == "true" and 3000 < int(one["timeoutSeconds"]) < 4200 for one in script.asked[1:])
        assert all(one["fieldSelector"] == "type!=helm.sh/release.v1" for one in script.asked)
        assert len(said) == 1 and "c4n4ry" not in said[0]


@pytest.mark.parametrize("end", [[expired()], {"kind": "Status", "code": 410, "message": "gone", "reason": "Expired"}, [expired(500)]])
def test_what_the_server_no_longer_knows_is_listed_again(end: Step) -> None:
    script = Script(listed("5", item("a", "3")), end, listed("50", item("b", "40")), "hang")
    with watching(script) as (__, changes, pauses, ___):
        until(lambda: len(script.asked) == 4)
        assert names(changes) == ["listed a", "listed b"] and script.asked[3]["resourceVersion"] == "50"
        assert len(pauses) == 1 and 0.5 < pauses[0] < 2


def test_a_server_that_says_no_again_and_again_is_asked_less_and_less() -> None:
    script = Script(listed("5"), [], [], [], [], [], [], [], [], "hang")
    with watching(script) as (__, ___, pauses, ____):
        until(lambda: len(script.asked) == 10)
        assert all(later > 1.5 * sooner for sooner, later in pairwise(pauses[:6])) and max(pauses) < 67


@pytest.mark.parametrize(
    ("resource", "status"),
    [
        (GATEWAY, {"kind": "Status", "code": 404, "message": "the server could not find the requested resource", "details": {}}),
        (
            SECRET,
            {"kind": "Status", "code": 403, "reason": "Forbidden", "message": 'User "u" cannot list resource "secrets" in API group ""'},
        ),
    ],
)
def test_a_kind_that_cannot_be_read_is_said_to_be_so(resource: Any, status: Step) -> None:
    with watching(Script(status), resource) as (__, changes, pauses, ___):
        until(lambda: len(changes) > 1)
        assert changes[0].what == "unknown" and changes[0].reason and pauses[0] > 1500


@pytest.mark.parametrize("line", [{"type": "ADDED"}, [], {"type": "ADDED", "object": {"metadata": {}}}])
def test_what_is_no_event_ends_the_watch(line: Any) -> None:
    script = Script(listed("5"), [line], "hang")
    with watching(script) as (__, changes, ___, said):
        until(lambda: len(script.asked) == 3)
        assert names(changes) == ["listed"] and len(said) == 1 and script.asked[2]["resourceVersion"] == "5"


@pytest.mark.parametrize("packed", [b"", b"Content-Encoding: gzip, gzip\r\n"])
def test_an_event_without_an_end_ends_the_watch(packed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_LONGEST_EVENT", 1 << 20)
    sent: list[int] = []

    class Endless(Script):
        def __call__(self, connection: socket.socket) -> None:
            if len(self.asked) != 1:
                super().__call__(connection)
                return
            self.asked.append({})
            connection.recv(65536)
            connection.sendall(CHUNKED.replace(b"Connection", packed + b"Connection"))
            sent.append(0)
            with contextlib.suppress(OSError):
                while sent[0] < 1 << 28:
                    connection.sendall(chunk(b"x" * 65536))
                    sent[0] += 65536

    script = Endless(listed("5"), "", "hang")
    with watching(script) as (__, ___, ____, said):
        until(lambda: len(script.asked) == 3)
        assert len(said) == 1 and ("several times" if packed else "more than 1 MiB") in said[0] and sent[0] < 1 << 25


def test_it_stops_at_once_while_it_waits_for_the_server() -> None:
    script = Script(listed("5"), "hang")
    with watching(script) as (watcher, changes, ___, said):
        until(lambda: len(script.asked) == 2 and watcher._response is not None)
        began = time.monotonic()
        watcher.cluster.stopping.set()
        watcher.stop()
        until(lambda: watcher._response is None)
        assert time.monotonic() - began < 5 and said == [] and names(changes) == ["listed"]
