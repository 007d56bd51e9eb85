# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster as it is watched, and what is to be told of it. Pure: time and objects are given to it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from ..diagnosis.diagnose import view_of
from ..diagnosis.observed import Observed
from ..diagnosis.view import MeshView
from ..istio.snapshot import EVERYWHERE, Coverage, Snapshot
from ..objects.kinds import API_GATEWAY, DESTINATION_RULE, GATEWAY, LISTENER_SET, POD, SECRET, WORKLOAD_ENTRY, Ref, Resource, ref_of
from ..renewal.due import length, renewal_time
from ..tls.facts import rfc3339
from . import occasions
from .credential import Credential, credential_of, without_keys, written
from .memory import Known, Memory, Told, known_of
from .occasions import Occasion, Rules

NAMING = (GATEWAY, DESTINATION_RULE, API_GATEWAY, LISTENER_SET)
"""What names credentials."""
Feed = tuple[Resource, "str | None"]
Manifest = Mapping[str, Any]


@dataclass
class World:
    """`listed`, `put`, `gone` and `unknown` say what is there, `observe` what gateways show, and `due` what is to be told."""

    memory: Memory
    rules: Rules
    feeds: Collection[Feed]
    """What is watched: nothing is told before each was listed, or is known to be closed to us."""
    names: Sequence[str] = ("*",)
    """Patterns of the credentials' names."""
    settle: timedelta = timedelta(seconds=20)
    """How long something has to be so before it is told, where it may be what a change goes through."""
    remind_after: timedelta | None = None
    objects: dict[Ref, Manifest] = field(default_factory=dict, repr=False)
    credentials: dict[Ref, Credential] = field(default_factory=dict)
    workloads: tuple[Manifest, ...] | None = None
    """Pods and WorkloadEntries of gateways; None: they were not looked for yet."""
    changes: int = 0
    """Counts what changed of Secrets and of what names them."""
    _ready: set[Feed] = field(default_factory=set)
    _closed: set[Feed] = field(default_factory=set)
    _changed: list[Occasion] = field(default_factory=list)
    _deleted: list[tuple[str, Known]] = field(default_factory=list)
    _seen: dict[str, Occasion] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    """In how many observations on end something was so."""
    _away: set[str] | None = None
    """Places that could not be asked; None: nothing was asked yet."""
    _since: dict[str, datetime] = field(default_factory=dict)
    _view: MeshView | None = None

    # --- what is there

    def listed(self, resource: Resource, namespace: str | None, items: Iterable[Manifest], now: datetime) -> None:
        """These are all of a feed."""
        there = {ref_of(item): item for item in items}
        for ref in [ref for ref in self.objects if ref.key == resource.key and namespace in (None, ref.namespace) and ref not in there]:
            self._forget(ref)
        for item in there.values():
            self.put(item, now)
        if resource is SECRET:  # also what went while nobody watched
            for key in list(self.memory.known):
                place, __, name = key.partition("/")
                if namespace in (None, place) and SECRET.ref(place, name) not in self.credentials:
                    self._lose(key)
        self._ready.add((resource, namespace))
        self._closed.discard((resource, namespace))

    def put(self, item: Manifest, now: datetime) -> None:
        ref = ref_of(item)
        if ref.key != SECRET.key:
            if not _is_same(self.objects.get(ref), item):
                self._note(ref, item)
        elif self._is_wanted(ref.name):
            self._put_secret(ref, item, now)
        elif ref not in self.objects:
            self._note(ref, without_keys(item))

    def gone(self, item: Manifest) -> None:
        ref = ref_of(item)
        if ref in self.objects:
            self._forget(ref)
        key = f"{ref.namespace}/{ref.name}"
        if ref.key == SECRET.key and key in self.memory.known:
            self._lose(key)

    def unknown(self, resource: Resource, namespace: str | None) -> None:
        """The cluster does not serve the kind, or it may not be read: what was known of it stays."""
        self._ready.add((resource, namespace))
        self._closed.add((resource, namespace))

    def _put_secret(self, ref: Ref, item: Manifest, now: datetime) -> None:
        one = credential_of(item)
        key = f"{ref.namespace}/{ref.name}"
        known = self.memory.known.get(key)
        if one is None and known is None:  # it holds other things
            if ref not in self.objects:
                self._note(ref, without_keys(item))
            return
        live = one or replace(_nothing(ref), uid=str(item["metadata"].get("uid") or ""))
        if known:
            what = written(known.digests, known.stamps, live, self.rules.managers)
            if what.keys and not what.is_ours:
                self._changed.append(occasions.changed(known.fingerprint, what, live, now))
        if one is None:
            self.memory.known.pop(key, None)
            self.credentials.pop(ref, None)
        else:
            self.memory.known[key] = known_of(one)
            self.credentials[ref] = one
        if known is None or known.digests != live.digests or ref not in self.objects:
            self._note(ref, without_keys(item))

    def _note(self, ref: Ref, item: Manifest) -> None:
        self.objects[ref] = item
        self.changes += 1
        self._view = None

    def _forget(self, ref: Ref) -> None:
        del self.objects[ref]
        self.credentials.pop(ref, None)
        self.changes += 1
        self._view = None

    def _lose(self, key: str) -> None:
        known = self.memory.known.pop(key)
        if self._is_wanted(key.partition("/")[2]):
            self._deleted.append((key, known))

    def _is_wanted(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.names)

    # --- as rules look at it

    @property
    def is_listed(self) -> bool:
        return set(self.feeds) <= self._ready

    @property
    def is_ready(self) -> bool:
        """Whether all is known that is needed to say what is so."""
        return self.is_listed and self.workloads is not None

    def selectors(self) -> list[dict[str, str]]:
        """Of the proxies that Gateways are for."""
        found = {tuple(sorted(((item.get("spec") or {}).get("selector") or {}).items())) for item in self._of(GATEWAY)}
        return [dict(one) for one in sorted(found) if one]

    def found(self, workloads: Iterable[Manifest]) -> None:
        """The Pods and WorkloadEntries that these selectors match."""
        self.workloads = tuple(workloads)
        self._view = None

    def view(self, now: datetime) -> MeshView:
        if self._view is None:
            objects = {**self.objects, **{ref_of(item): item for item in self.workloads or ()}}
            read = {resource.key: self._coverage(resource) for resource in (SECRET, *NAMING)}
            read |= {kind.key: Coverage(why="only those of gateways were looked for") for kind in (POD, WORKLOAD_ENTRY)}
            self._view = view_of(Snapshot(objects, read), now=now)
        return self._view

    def _of(self, resource: Resource) -> list[Manifest]:
        return [item for ref, item in self.objects.items() if ref.key == resource.key]

    def _coverage(self, resource: Resource) -> Coverage:
        places = [namespace for kind, namespace in self.feeds if kind is resource and (kind, namespace) not in self._closed]
        if None in places:
            return EVERYWHERE
        return Coverage(namespaces=frozenset(place for place in places if place), why="only some namespaces are watched")

    # --- what gateways show

    def observe(self, view: MeshView, observed: Observed) -> None:
        """`view` is the one that was observed with. What cannot be asked now is as it was."""
        away = occasions.places_away(observed)
        told = [*occasions.served(view, observed, self.credentials), *occasions.refused(observed)]
        now = {one.key: one for one in told}
        kept = {key: one for key, one in self._seen.items() if one.place in away}
        self._counts = {key: self._counts.get(key, 0) + 1 for key in now} | {key: self._counts.get(key, 0) for key in kept}
        self._seen, self._away = {**kept, **now}, away

    @property
    def is_doubtful(self) -> bool:
        """Whether another observation has to confirm the last one."""
        return any(count == 1 for key, count in self._counts.items() if key not in self.memory.told)

    # --- what is to be told

    def due(self, now: datetime) -> list[Occasion]:
        """Everything that is to be told now, and counts as told from then on."""
        if not self.is_ready:
            return []
        happened = [*self._changed, *self._losses(now)]
        self._changed = []
        lasting = {one.key: one for one in occasions.standing(self.credentials.values(), self.rules, now)}
        missing = {one.key: one for one in occasions.missing(self.view(now)) if self._is_wanted(one.facts["credential"])}
        current = {**lasting, **missing, **self._seen}
        self._since = {key: self._since.get(key, now) for key in missing}
        for key in [key for key, told in self.memory.told.items() if key not in current and not self._is_away(told.place)]:
            del self.memory.told[key]
        begun = [one for one in current.values() if one.key not in self.memory.told and self._is_settled(one, now)]
        for one in begun:
            self.memory.told[one.key] = Told(rfc3339(now), one.place)
        return [*happened, *begun, *self._reminders({**lasting, **missing}, now, begun)]

    def _losses(self, now: datetime) -> list[Occasion]:
        found = []
        for key, was in self._deleted:
            namespace, __, name = key.partition("/")
            used_by = occasions.uses_of(self.view(now).uses, namespace, name)
            found.append(occasions.deleted(namespace, name, was.uid, was.fingerprint, managed=was.managed, used_by=used_by))
        self._deleted = []
        return found

    def _is_away(self, place: str) -> bool:
        """Whether it is not known how it is there now."""
        return bool(place) and (self._away is None or place in self._away)

    def _is_settled(self, one: Occasion, now: datetime) -> bool:
        if one.type in occasions.SEEN:
            return self._counts.get(one.key, 0) > 1
        return one.key not in self._since or now - self._since[one.key] >= self.settle

    def _reminders(self, current: Mapping[str, Occasion], now: datetime, begun: Sequence[Occasion]) -> list[Occasion]:
        if not self.remind_after:
            return []
        found = []
        for key, one in current.items():
            told = self.memory.told.get(key)
            if told and one not in begun and told.age(now) >= self.remind_after.total_seconds():
                self.memory.told[key] = told.again(now)
                found.append(replace(one, facts={**one.facts, "reminder": told.times}))
        return found

    def next_moment(self, now: datetime, at_most: timedelta) -> datetime:
        """When something may be to be told next, without anything that changes."""
        moments = [since + self.settle for key, since in self._since.items() if key not in self.memory.told]
        for one in self.credentials.values():
            policy = self.rules.policy_for(one.key)
            for served in filter(None, (one.certificate, one.ca)):
                moments += [renewal_time(one.key, served, policy)[0], served.not_after]
                moments.append(served.not_after - length(policy.emergency_remaining, served.lifetime))
            for crl in one.crls:
                moments += [crl.next_update - length(self.rules.crl_remaining, crl.next_update - crl.last_update), crl.next_update]
        return min([moment for moment in moments if moment > now] + [now + at_most])


def _nothing(ref: Ref) -> Credential:
    """A Secret from which istiod reads nothing any more."""
    return Credential(ref.namespace, ref.name, "", {})


def _is_same(before: Manifest | None, now: Manifest) -> bool:
    """Whether nothing that rules look at has changed: istiod writes status."""
    return before is not None and all(before.get(key) == now.get(key) for key in ("spec",)) and _labels(before) == _labels(now)


def _labels(item: Manifest) -> Any:
    return (item.get("metadata") or {}).get("labels")
