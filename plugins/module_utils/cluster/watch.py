# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One kind of objects, followed without end: listed, watched from there on, and listed again where the server no longer knows what came since.

A watch that ends goes on from the last resourceVersion, so that nothing is lost while the API server is away. Bookmarks keep that version young.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ..objects.kinds import Resource
from . import answers, transport
from .client import ApiError, Cluster, ClusterError

_SECONDS = 3600
"""How long one watch is to last: so many requests an hour is what it costs."""
_SILENCE = 300.0
"""Seconds without a byte after which a connection counts as dead: an API server sends a bookmark about every minute."""
_LONGEST_EVENT = 64 << 20  # bytes; no object is a tenth of that
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
_SHORT = 2.0
"""Seconds; a watch that ends sooner is one that fails, however politely: the next ones come later and later."""
_UNKNOWN_WAIT = 3600.0
"""Seconds until a kind that the cluster does not serve, or that may not be read, is asked for again."""

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What became of a kind in one place."""

    resource: Resource
    namespace: str | None
    """None: the whole cluster."""
    what: Literal["listed", "changed", "deleted", "unknown"]
    """`listed`: these are all; `unknown`: the cluster does not serve the kind, or this user may not read it (`reason`)."""
    objects: tuple[Manifest, ...] = field(default=(), repr=False)
    reason: str = ""


class Gone(Exception):
    """The server no longer knows what came since the last resourceVersion: list again."""


@dataclass
class Watcher:
    """Follows one kind in a thread of its own."""

    cluster: Cluster
    resource: Resource
    namespace: str | None
    deliver: Callable[[Change], None]
    complain: Callable[[str], None] = lambda text: None
    """Told of outages, one sentence each, and each once."""
    version: str = ""
    seconds: int = _SECONDS
    wait: Callable[[float], Any] | None = None
    _response: Any = None
    _failures: int = 0
    """In a row."""
    _said: str = ""

    def run(self) -> None:
        """Returns when `cluster.stopping` is set (see `stop`)."""
        while not self.stopping.is_set():
            pause = self._once()
            if pause:
                (self.wait or self.stopping.wait)(pause)

    @property
    def stopping(self) -> threading.Event:
        return self.cluster.stopping

    def stop(self) -> None:
        """Ends `run`, also where it waits for the server. Called from another thread, after `stopping` was set."""
        if self._response is not None:
            transport.hang_up(self._response)

    def _once(self) -> float:
        """Lists where that is needed, and watches once. Returns the seconds to wait before the next time."""
        began = time.monotonic()
        try:
            if not self.version:
                items, self.version = self.cluster.listing(self.resource, self.namespace)
                self._deliver("listed", *items)
            for kind, item in self._events():
                self._deliver(kind, item)
        except Gone:
            self.version = ""
        except ApiError as error:
            self.version = ""  # it may be one that this server does not know, as after a restore of etcd
            if error.missing_verb or error.status == 404:
                self.deliver(Change(self.resource, self.namespace, "unknown", reason=str(error)))
                return _UNKNOWN_WAIT * _jitter()
            if error.status != 410:
                return self._failed(str(error))
        except ClusterError as error:
            return self._failed(str(error))
        except Exception as error:  # a thread that ended in silence would be taken for a quiet cluster
            self.version = ""
            return self._failed(f"unexpected {type(error).__name__} while {self.resource.plural} were watched: {error}")
        if time.monotonic() - began > _SHORT:
            self._failures = 0
            return 0.0
        return self._failed("")

    def _failed(self, why: str) -> float:
        if self.stopping.is_set():
            return 0.0
        self._failures += 1
        if why and why != self._said:
            self.complain(why)
        self._said = why or self._said
        return min(_FIRST_WAIT * float(2**self._failures), _LONGEST_WAIT) * _jitter()

    def _deliver(self, what: Literal["listed", "changed", "deleted"], *items: Manifest) -> None:
        placed = ({**item, "kind": self.resource.kind, "apiVersion": self.resource.api_version} for item in items)
        self.deliver(Change(self.resource, self.namespace, what, tuple(placed)))

    def _events(self) -> Iterator[tuple[Literal["changed", "deleted"], Manifest]]:
        """What a watch tells until it ends; keeps the version from which the next one goes on. ClusterError: it ended before its time."""
        seconds = int(self.seconds * _jitter())
        response = self._response = self.cluster.watch(self.resource, self.namespace, self.version, seconds=seconds, silence=_SILENCE)
        if self.stopping.is_set():  # `stop` came before there was anything to end
            transport.hang_up(response)
        try:
            for line in self._lines(response):
                kind, item = _told(line, self.resource, self.cluster.host)
                version = str((item.get("metadata") or {}).get("resourceVersion") or "")
                if kind != "BOOKMARK":
                    yield ("deleted" if kind == "DELETED" else "changed"), item
                self._failures, self._said = 0, ""
                self.version = version or self.version  # only now: what was not delivered is asked for again
        finally:
            self._response = None
            response.close()

    def _lines(self, response: Any) -> Iterator[bytes]:
        try:
            yield from (line for line in transport.lines(response, _LONGEST_EVENT, silence=_SILENCE) if line.strip())
        except (OSError, ValueError, _http_error()) as error:
            if not self.stopping.is_set():
                raise self.cluster.no_answer(error) from None


def _http_error() -> type[Exception]:
    import urllib3

    return urllib3.exceptions.HTTPError


def _told(line: bytes, resource: Resource, host: str) -> tuple[str, Manifest]:
    """(type, object) of a line. Gone; ClusterError: it is no event, or the server says that it failed."""
    try:
        event = json.loads(line)
        kind, item = event["type"], event["object"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ClusterError(f"the API server at {host} sent what is no event in a watch of {resource.plural}") from None
    if kind == "ERROR" or not isinstance(item, dict):
        status = item if isinstance(item, dict) else {}
        if status.get("code") == 410:
            raise Gone
        raise ApiError(int(status.get("code") or 500), "watch", resource, "", "", status, host)
    if kind != "BOOKMARK":
        answers.check(item if "kind" in item else {**item, "kind": resource.kind}, "watch", resource, "", "", host)
    return str(kind), item


def _jitter() -> float:
    return 0.9 + random.random() / 5  # noqa: S311 - jitter is no secret
