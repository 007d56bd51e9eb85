# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that are older than a rotation: counted in every proxy that tells, and ended where that was asked for.

Ended by a change of the Gateway or DestinationRule that means the same (`istio/old_connections.py`), which is taken back as soon as every proxy
has it. Only objects that are this collection's alone are changed so; of others it is told what to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ..cluster.client import ApiError, Cluster
from ..cluster.reconcile import Interrupted, execute, read
from ..istio.names import CA_SUFFIX
from ..istio.old_connections import (
    CLUSTERS,
    CONFIG,
    STATS,
    changed_gateway,
    changed_rule,
    counted,
    read_configuration,
    upstream_connections,
)
from ..istio.proxy import Look, Source, Unread
from ..objects.compare import owners
from ..objects.kinds import DESTINATION_RULE, GATEWAY, Ref, Resource
from ..objects.ownership import FIELD_MANAGER, is_ours
from ..objects.plan import Plan, Unit, Write
from ..progress import tell
from ..wait import growing, until
from .means import Subject
from .writes import own_metadata

_FIRST_PAUSE, _PAUSE = 0.1, 0.5
_AT_ONCE = 8
"""Proxies; the pages of one follow each other, since some are megabytes."""
_REASON = "the same said otherwise, so that old connections end"


@dataclass
class Connections:
    """What is known of the connections around one credential."""

    proxies: list[dict[str, Any]] = field(default_factory=list)
    """proxy, downstream, upstream."""
    ended: bool | None = None
    """None: it was not asked for."""
    troubles: list[str] = field(default_factory=list)
    """Why some may go on."""

    def as_result(self) -> dict[str, Any]:
        return {"open": self.proxies, "ended": self.ended, **({"troubles": self.troubles} if self.troubles else {})}


@dataclass
class OldConnections:
    """Counts and ends them, for all credentials of a wave together."""

    cluster: Cluster
    sources: Callable[[], list[Source]]
    looks: Callable[[], list[Look]]
    """What is known of the proxies that answer, from their last reading."""
    timeout: float
    """Seconds for a change to reach every proxy."""
    drain_timeout: float
    """Seconds to wait until nothing drains any more."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def count(self, subjects: Sequence[Subject]) -> dict[str, Connections]:
        """Label -> what is open in each proxy that has something to do with the credential."""
        found = {one.label: Connections() for one in subjects}
        uses = {look.source.name: look.proxy.uses() for look in self.looks() if look.proxy}
        names = {one.label: one.target.name for one in subjects}
        concerned = {
            proxy: {label: use for label, name in names.items() if (use := theirs.get(name.removesuffix(CA_SUFFIX)))}
            for proxy, theirs in uses.items()
        }

        def pages(source: Source) -> tuple[str, ...]:
            if not (theirs := concerned.get(source.name)):
                return ()
            return (STATS, CLUSTERS) if any(use.clusters for use in theirs.values()) else (STATS,)

        for source, (stats, *clusters) in self._read(pages):
            for label, use in concerned[source.name].items():
                downstream = counted(stats)[0] if use.served else None
                upstream = upstream_connections(clusters[0], use.clusters) if use.clusters else None
                found[label].proxies.append({"proxy": source.name, "downstream": downstream, "upstream": upstream})
        return found

    def end(self, subjects: Sequence[Subject]) -> dict[str, Connections]:
        """Label -> how it went; counted before."""
        found = self.count(subjects)
        able = []
        for one in subjects:
            if found[one.label].proxies:
                able.append(one)
            else:
                found[one.label].troubles.append(
                    "no proxy that could be asked uses it (name those that are no Pods with admin_urls), so nothing was changed for that"
                )
        plans, wanted = self._plans(able, found)
        before = self._configured(wanted)
        late = self._change(plans, [one.label for one in wanted])
        late |= self._await([one for one in wanted if one.label not in late], before, changed=True)
        late |= self._put_back(plans, wanted)
        late |= self._await([one for one in wanted if one.label not in late], before, changed=False)
        for label, lack in late.items():
            found[label].troubles.append(lack)
        draining = self._drained() if any(ref.kind == GATEWAY.kind for ref in plans) else []
        for one in subjects:
            connections = found[one.label]
            connections.troubles += draining if one in wanted and any(server.kind == GATEWAY.kind for server in one.servers) else []
            connections.ended = not connections.troubles
        return found

    def _plans(self, subjects: Sequence[Subject], found: Mapping[str, Connections]) -> tuple[dict[Ref, tuple[Any, Any]], list[Subject]]:
        """Object -> (as it is, the changed spec); and the credentials that have one."""
        users: dict[tuple[Resource, Ref], list[Subject]] = {}
        for one in subjects:
            found[one.label].troubles += [f"{kind} was made by the Kubernetes Gateway API" for kind in _others(one)]
            for user in _users(one):
                users.setdefault(user, []).append(one)
        live = read(self.cluster, users)
        plans: dict[Ref, tuple[Any, Any]] = {}
        for (resource, ref), theirs in users.items():
            now = live.get(ref)
            if now is None:
                continue
            change = changed_gateway if resource is GATEWAY else changed_rule
            spec = change(now, {one.target.name for one in theirs}) if _is_ours_alone(now) else None
            if spec is not None:
                plans[ref] = (now, spec)
                continue
            why = "has no setting that could be said otherwise" if _is_ours_alone(now) else "is not this collection's alone"
            for one in theirs:
                found[one.label].troubles.append(f"{ref} {why}, so it was not changed")
        return plans, [one for one in subjects if any(ref in plans for __, ref in _users(one))]

    def _change(self, plans: Mapping[Ref, tuple[Any, Any]], labels: Iterable[str]) -> dict[str, str]:
        """Writes; what was not written is told of every credential, since which of them it concerns is in the message."""
        units = [
            Unit((Plan(ref, "updated", (_REASON,), (Write("apply", _own(now, spec)),), basis=now),)) for ref, (now, spec) in plans.items()
        ]
        try:
            execute(self.cluster, units, check_mode=False)
        except Interrupted as interrupted:
            if interrupted.outcome.stopped_by:
                raise
            return dict.fromkeys(labels, str(interrupted))
        return {}

    def _put_back(self, plans: Mapping[Ref, tuple[Any, Any]], subjects: Sequence[Subject]) -> dict[str, str]:
        """The objects as they were; what somebody else has changed meanwhile is left alone."""
        live = read(self.cluster, [(GATEWAY if ref.kind == GATEWAY.kind else DESTINATION_RULE, ref) for ref in plans])
        back = {ref: (now, plans[ref][0]["spec"]) for ref, now in live.items() if now is not None and now.get("spec") == plans[ref][1]}
        return self._change(back, [one.label for one in subjects])

    def _configured(self, subjects: Sequence[Subject]) -> dict[str, dict[str, dict[str, str]]]:
        """Proxy -> label -> what it is configured with; proxies that cannot be read are left out."""
        found = {}
        for source, (config,) in self._read(lambda __: (CONFIG,)) if subjects else ():
            configuration = read_configuration(config)
            found[source.name] = {one.label: configuration.around(one.target.name) for one in subjects}
        return found

    def _await(
        self, subjects: Sequence[Subject], before: Mapping[str, Mapping[str, Mapping[str, str]]], *, changed: bool
    ) -> dict[str, str]:
        """Waits until every proxy has another configuration around each credential than before, or the same again; label -> what is late."""
        late: dict[str, str] = {}

        def once() -> bool:
            late.clear()
            for name, labels in self._configured(subjects).items():
                for label, now in labels.items():
                    there = before.get(name, {}).get(label)
                    if there and now and (now != there) is not changed:
                        what = "the change that ends old connections" if changed else "its settings of before back"
                        late[label] = f"{name} did not get {what} within {self.timeout:g} s"
            return not late

        until(once, timeout=self.timeout, delay=growing(_FIRST_PAUSE, _PAUSE), clock=self.clock, sleep=self.sleep)
        return late

    def _drained(self) -> list[str]:
        """Waits until no proxy has anything left to drain."""
        started, left = self.clock(), list[str]()

        def once() -> bool:
            left.clear()
            for source, (stats,) in self._read(lambda __: (STATS,)):
                if draining := counted(stats)[1]:
                    left.append(f"{source.name} still drains {draining} filter chains after {self.drain_timeout:g} s")
            if left:
                tell("seconds of draining", int(self.clock() - started), int(self.drain_timeout))
            return not left

        until(once, timeout=self.drain_timeout, delay=growing(_FIRST_PAUSE, _PAUSE), clock=self.clock, sleep=self.sleep)
        return left

    def _read(self, paths: Callable[[Source], tuple[str, ...]]) -> list[tuple[Source, list[bytes]]]:
        """Pages of every proxy, of several side by side; those of which none is wanted, and those that cannot be read, are left out."""

        def pages(source: Source) -> list[bytes] | None:
            try:
                return [source.page(path) for path in paths(source)] or None
            except (Unread, ApiError):
                return None

        sources = self.sources()
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            found = threads.map(pages, sources)
            return [(source, each) for source, each in zip(sources, found, strict=True) if each is not None]


def _users(subject: Subject) -> list[tuple[Resource, Ref]]:
    """The Gateways and DestinationRules of Istio's own API that use a credential."""
    found = [(GATEWAY, GATEWAY.ref(server.namespace, server.name)) for server in subject.servers if server.kind == GATEWAY.kind]
    return [*found, *((DESTINATION_RULE, DESTINATION_RULE.ref(one.namespace, one.name)) for one in subject.presented)]


def _others(subject: Subject) -> list[str]:
    return list(dict.fromkeys(f"{one.kind} {one.namespace}/{one.name}" for one in subject.servers if one.kind != GATEWAY.kind))


def _is_ours_alone(now: Mapping[str, Any]) -> bool:
    """Whether this collection made it, and nothing else has a say in its spec."""
    return is_ours(now) and _managers(now) <= {FIELD_MANAGER}


def _managers(now: Mapping[str, Any]) -> set[str]:
    return {manager for path, managers in owners(now) if path[:1] == ("spec",) for manager in managers}


def _own(now: Mapping[str, Any], spec: Any) -> dict[str, Any]:
    """What this collection applied, with another spec."""
    return {"apiVersion": now["apiVersion"], "kind": now["kind"], "metadata": own_metadata(now), "spec": spec}
