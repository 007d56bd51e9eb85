# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event source as ansible-rulebook runs it, in a thread of the test's, and a way to the API server that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import runpy
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "extensions" / "eda" / "plugins" / "event_source" / "gateway_tls.py"
PATIENCE = 90.0
"""Seconds; nothing of what is waited for takes a tenth of it on an idle machine."""


def until(check: Callable[[], Any], what: Callable[[], str], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


class Source:
    """Runs from `with` to the end of it; keeps what it sent."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.events: list[dict[str, Any]] = []
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.begun = threading.Event()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self.failure = error
        finally:
            self.begun.set()

    async def _main(self) -> None:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(1)  # as ansible-rulebook's
        self.loop, self.task = asyncio.get_running_loop(), asyncio.create_task(runpy.run_path(str(PATH))["main"](queue, self.arguments))
        reader = asyncio.create_task(self._read(queue))
        self.begun.set()
        try:
            await self.task
        except asyncio.CancelledError:
            pass
        finally:
            reader.cancel()

    async def _read(self, queue: asyncio.Queue[dict[str, Any]]) -> None:
        while True:
            self.events.append(await queue.get())

    def __enter__(self) -> Source:
        self.thread.start()
        self.begun.wait(30)
        return self

    def __exit__(self, *__: object) -> None:
        if self.thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it has ended by itself meanwhile
                self.loop.call_soon_threadsafe(self.task.cancel)
        began = time.monotonic()
        self.thread.join(60)
        assert not self.thread.is_alive() and time.monotonic() - began < 40, "the source did not end when it was cancelled"
        if self.failure:
            raise self.failure

    @property
    def told(self) -> list[tuple[str, str]]:
        """(type, credential), in the order in which they came."""
        return [(one["type"], one["credential"]) for one in self.events]

    def wait(self, kind: str, credential: str, count: int = 1) -> dict[str, Any]:
        """The last of so many events."""
        until(lambda: self.told.count((kind, credential)) >= count, lambda: f"{count} {kind} of {credential} did not come, but {self.told}")
        return [one for one in self.events if (one["type"], one["credential"]) == (kind, credential)][count - 1]

    @property
    def text(self) -> str:
        return json.dumps(self.events)


class Relay:
    """Passes connections on to a port of loopback. While it is cut, there are none."""

    def __init__(self, port: int) -> None:
        self.target = ("127.0.0.1", port)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.server.getsockname()[1]
        self.is_cut = False
        self.open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.is_cut = True
        for one in self.open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.open = []

    def mend(self) -> None:
        self.is_cut = False

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, __ = self.server.accept()
                try:
                    if self.is_cut:
                        raise ConnectionAbortedError
                    server = socket.create_connection(self.target)
                except OSError:  # the server itself is away
                    client.close()
                    continue
                self.open += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=_copy, args=(one, other), daemon=True).start()

    def close(self) -> None:
        self.cut()
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()


def _copy(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    for each in (one, other):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(port: int) -> Iterator[Relay]:
    made = Relay(port)
    try:
        yield made
    finally:
        made.close()
