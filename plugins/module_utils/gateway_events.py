# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the arguments of the event source to its events: the threads that watch, and the one that thinks.

Nothing here knows asyncio: the source calls `next` in a thread, and gets what is to be told.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from .cluster.client import Cluster, ClusterError, ConfigurationError, connect
from .cluster.watch import Change, Watcher
from .cluster.workloads import find_workloads
from .events.memory import Memory, memory_of
from .events.occasions import event
from .events.options import SPEC, Settings, settings_of
from .events.world import NAMING, Feed, World
from .masking import inert, printable, sentences
from .objects.kinds import SECRET, Manifest, Ref, ref_of
from .problems import Problem, Rejected
from .regular_file import contents
from .rotation.targets import Surroundings, surroundings_of, way_problems
from .survey import observe
from .whole_file import replace_file

_LONGEST_SLEEP = timedelta(minutes=1)
_AROUND_FOR = timedelta(hours=1)
"""How long workloads and the ways to them count as they were found."""
_TRY_AGAIN = timedelta(seconds=30)

log = logging.getLogger(__name__)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Lookout:
    """Watches one cluster. `start`, then `next` again and again with `told` after each, and `stop` at the end."""

    settings: Settings
    cluster: Cluster
    world: World
    clock: Callable[[], datetime] = now
    shown: Callable[[str], str] = printable
    """A sentence as it may be logged."""
    inbox: SimpleQueue[Change | None] = field(default_factory=SimpleQueue)
    watchers: list[Watcher] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    _saved: str = ""
    _around: Surroundings | None = None
    _looked_at: datetime | None = None
    """When workloads were last looked for."""
    _selectors: list[dict[str, str]] | None = None
    _observe_at: datetime | None = None
    _look_at: datetime | None = None
    """Not before then, where it failed."""
    _changes: int = 0
    _notes: set[str] = field(default_factory=set)

    def start(self) -> None:
        for resource, namespace in self.world.feeds:
            watcher = Watcher(self.cluster, resource, namespace, self.inbox.put, self._complain)
            # daemons: a process that is killed in another way than by `stop` does not wait for them
            thread = threading.Thread(target=watcher.run, name=f"watch-{resource.plural}-{namespace or 'all'}", daemon=True)
            self.watchers.append(watcher)
            self.threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Ends the watches; `next` returns. Safe to call from another thread, and twice."""
        self.cluster.stopping.set()
        self.inbox.put(None)
        for watcher in self.watchers:
            watcher.stop()

    @property
    def is_over(self) -> bool:
        return self.cluster.stopping.is_set()

    def next(self) -> list[dict[str, Any]]:
        """Waits until there is something to tell; empty only after `stop`. Rulebooks print events, and playbooks what they are given of one: nothing in
        them is what a terminal acts upon."""
        while not self.is_over:
            moment = self.clock()
            self._look(moment)
            found = [one for one in self.world.due(moment) if one.type in self.settings.events]
            if found:
                return [inert(event(one, self.world.memory.cluster, moment, self.settings.inventory_hosts)) for one in found]
            self.told()  # what changed without an event is known from now on too
            self._wait(moment)
        return []

    def told(self) -> None:
        """What `next` gave has reached its reader: a restart need not repeat it."""
        path = self.settings.state_file
        if not path or not self.world.is_ready:
            return
        text = self.world.memory.text()
        if text != self._saved:
            try:
                replace_file(Path(path).expanduser(), text, 0o600)
                self._saved = text
            except OSError as error:
                self._complain(f"the state was not written to {path}: {error.strerror or error}; a restart will repeat what was told")

    # --- what the threads tell

    def _wait(self, moment: datetime) -> None:
        """Takes in what has come; waits for it as long as nothing else is to be done."""
        until = self.world.next_moment(moment, _LONGEST_SLEEP)
        looked_at = self._look_at or self._observe_at
        if self.world.is_listed and looked_at:
            until = min(until, looked_at)
        with contextlib.suppress(Empty):
            self._take(self.inbox.get(timeout=max((until - self.clock()).total_seconds(), 0.05)))
            while True:
                self._take(self.inbox.get_nowait())

    def _take(self, change: Change | None) -> None:
        try:
            if change is not None:
                self._apply(change)
        except Exception as error:  # one object that is like no other is no reason to be blind for the rest
            self._complain(f"unexpected {type(error).__name__} while {change.resource.plural if change else 'nothing'} were read: {error}")

    def _apply(self, change: Change) -> None:
        if change.what == "listed":
            self.world.listed(change.resource, change.namespace, change.objects, self.clock())
        elif change.what == "unknown":
            self.world.unknown(change.resource, change.namespace)
            if change.resource is SECRET or "does not serve" not in change.reason:
                self._complain(f"{change.resource.plural} are not watched: {change.reason}")
        elif change.what == "changed":
            for item in change.objects:
                self.world.put(item, self.clock())
        else:
            for item in change.objects:
                self.world.gone(item)

    # --- what is looked at beside

    def _look(self, moment: datetime) -> None:
        """Workloads and gateways, where it is time. What fails is tried again later, and nothing is lost by it."""
        if not self.world.is_listed or (self._look_at and moment < self._look_at):
            return
        self._look_at = None
        try:
            if self.world.selectors() != self._selectors or self._is_old(moment):
                self._find_workloads(moment)
            if self.settings.handshakes or self.settings.proxies:
                self._observe(moment)
        except Exception as error:
            # whatever a gateway, a proxy or the way there does: the watch goes on
            self._complain(str(error) if isinstance(error, ClusterError) else f"unexpected {type(error).__name__}: {error}")
            self._look_at = moment + _TRY_AGAIN

    def _is_old(self, moment: datetime) -> bool:
        return self._looked_at is None or moment - self._looked_at >= _AROUND_FOR

    def _find_workloads(self, moment: datetime) -> None:
        selectors = self.world.selectors()
        notes: list[str] = []
        found: dict[Ref, Manifest] = {}
        for selector in selectors:
            workloads = find_workloads(self.cluster, selector, self.settings.namespaces, notes)
            found.update({ref_of(item): item for item in workloads.items})
        self._note(notes)
        self.world.found(found.values())
        self._selectors, self._looked_at = selectors, moment
        self._around = surroundings_of(self.cluster, self.settings.namespaces, self.settings.ways, notes)

    def _observe(self, moment: datetime) -> None:
        """Handshakes and proxies: every `proxy_interval`, after changes, and a second time where something is wrong."""
        if self.world.changes != self._changes:
            self._changes = self.world.changes
            soon = moment + self.settings.settle
            self._observe_at = min(self._observe_at or soon, soon)
        if self._around is None or (self._observe_at and moment < self._observe_at):
            return
        notes: list[str] = []
        view = self.world.view(moment)
        ways = {"handshakes": self.settings.handshakes, "proxies": self.settings.proxies}
        seen = observe(view, self._around, now=moment, notes=notes, timeout=self.settings.ways["request_timeout"], **ways)
        self._note(notes)
        self.world.observe(view, seen)
        pause = self.settings.settle if self.world.is_doubtful else self.settings.proxy_interval
        self._observe_at = moment + pause

    def _note(self, notes: list[str]) -> None:
        for note in notes:
            if note not in self._notes:
                self._notes.add(note)
                self._complain(note)

    def _complain(self, text: str) -> None:
        log.warning("%s: %s", self.shown(self.world.memory.cluster), self.shown(text))


def lookout(given: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Lookout:
    """Raises Rejected and ConfigurationError, with everything that is wrong with the options: nothing was asked of the cluster yet. ansible-rulebook
    logs what is raised, and knows of no secrets."""
    shown = sentences(given, SPEC)
    try:
        return _lookout(given, os.environ if environment is None else environment, shown)
    except Rejected as rejected:
        told = [replace(one, where=shown(one.where), message=shown(one.message), remedy=shown(one.remedy)) for one in rejected.problems]
        raise Rejected(told) from None
    except ConfigurationError as error:
        raise ConfigurationError(shown(str(error))) from None


def _lookout(given: Mapping[str, Any], environment: Mapping[str, str], shown: Callable[[str], str]) -> Lookout:
    settings = settings_of(given)
    problems = way_problems({**settings.ways})
    if problems:
        raise Rejected(problems)
    cluster = connect(settings.login, environment)
    name = settings.cluster or ",".join(settings.inventory_hosts) or cluster.host.partition("://")[2]
    gateways: list[str | None] = [*settings.gateway_namespaces] or [None]
    feeds: list[Feed] = [(SECRET, namespace) for namespace in settings.namespaces]
    feeds += [(resource, namespace) for resource in NAMING for namespace in gateways]
    world = World(
        memory=_memory(settings.state_file, name),
        rules=settings.rules,
        feeds=feeds,
        names=settings.credentials,
        settle=settings.settle,
        remind_after=settings.remind_after,
    )
    return Lookout(settings, cluster, world, shown=shown)


def _memory(path: str, cluster: str) -> Memory:
    if not path:
        return Memory(cluster)
    where = f"state_file {path}"
    place = Path(path).expanduser()
    try:
        return memory_of(contents(str(place)).decode("utf-8", "replace"), cluster, where)
    except FileNotFoundError:
        if not place.parent.is_dir():
            message = f"expected the directory {place.parent}, found none"
            raise Rejected(Problem("unwritable", where, message, "make it, or correct the path")) from None
        return Memory(cluster)
    except OSError as error:
        message = f"expected a readable file, found: {error.strerror or error}"
        raise Rejected(Problem("file_unreadable", where, message, "correct the path, or its permissions")) from None
