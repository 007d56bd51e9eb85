# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a cluster: plain objects, from a live cluster or from files, and how much of each kind was read. Pure.

Whoever collects says what was read (`Coverage`), so that a rule can tell "there is none" from "nobody looked".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ..objects.kinds import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    MUTATING_WEBHOOKS,
    NAMESPACE,
    NODE,
    VALIDATING_WEBHOOKS,
    Kind,
    Manifest,
    Ref,
    Resource,
    group_of,
    ref_of,
)
from .choice import age
from .shapes import Fault, fitted

ROOT_NAMESPACE = "istio-system"
DOMAIN = "cluster.local"
ServiceAccount = tuple[str, str]
"""(namespace, name)"""


@dataclass(frozen=True)
class Coverage:
    """How much of a kind was read."""

    everywhere: bool = False
    namespaces: frozenset[str] = frozenset()
    """Read as a whole, where not everything was."""
    names: frozenset[tuple[str, str]] = frozenset()
    """(namespace, name) of objects that were asked for one by one."""
    why: str = ""
    """Why not more was read, for example `this user may not list them`."""

    def includes(self, namespace: str, name: str = "") -> bool:
        return self.everywhere or namespace in self.namespaces or (namespace, name) in self.names


EVERYWHERE = Coverage(everywhere=True)
_WITHOUT_NAMESPACE = {one.key for one in (NAMESPACE, NODE, CLUSTER_ROLE, CLUSTER_ROLE_BINDING, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS)}


@dataclass(frozen=True)
class Snapshot:
    objects: Mapping[Ref, Manifest] = field(repr=False)  # Secrets are among them
    read: Mapping[Kind, Coverage] = field(default_factory=dict)
    may_list_secrets: Mapping[ServiceAccount, bool] = field(default_factory=dict)
    """The answers of the SubjectAccessReview that istiod asks before it serves a credential."""
    mesh: Mapping[str, Any] | None = None
    """meshConfig; None where it was not read."""
    root_namespace: str = ROOT_NAMESPACE
    domain: str = DOMAIN
    notes: tuple[str, ...] = ()
    """What else could not be read, in words."""
    why_unread: str = "nobody asked for them"
    """Why kinds that `read` does not name were not read."""

    @cached_property
    def _by_kind(self) -> Mapping[Kind, tuple[Manifest, ...]]:
        found: dict[Kind, list[Manifest]] = {}
        for ref, item in self.objects.items():
            found.setdefault(ref.key, []).append(item)
        return {kind: tuple(sorted(items, key=age)) for kind, items in found.items()}

    def of(self, resource: Resource) -> tuple[Manifest, ...]:
        """All objects of a kind that were read, the oldest first, as istiod sorts them."""
        return self._by_kind.get(resource.key, ())

    def get(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        return self.objects.get(resource.ref(namespace, name))

    def coverage(self, resource: Resource) -> Coverage:
        return self.read.get(resource.key) or Coverage(why=self.why_unread)

    def knows(self, resource: Resource, namespace: str, name: str = "") -> bool:
        """Whether an object that is not among the objects does not exist; without a name: whether all of a namespace is known."""
        return self.coverage(resource).includes(namespace, name) or bool(name and self.get(resource, namespace, name) is not None)

    def with_desired(self, manifests: Iterable[Manifest], removed: Collection[Ref] = ()) -> Snapshot:
        """The cluster as it will be: the manifests in the place of the live objects, whose age they keep, and others gone."""
        objects = {ref: item for ref, item in self.objects.items() if ref not in removed}
        for made in manifests:
            ref = ref_of(made)
            live = self.objects.get(ref)
            stamp = {"creationTimestamp": live["metadata"].get("creationTimestamp")} if live is not None else {}
            objects[ref] = {**made, "metadata": {**made["metadata"], **stamp}}
        return replace(self, objects=objects)


def fitted_snapshot(snapshot: Snapshot) -> tuple[Snapshot, dict[Ref, tuple[Fault, ...]]]:
    """The snapshot with objects of the shape that readers expect, and what did not fit, by object."""
    objects: dict[Ref, Manifest] = {}
    faults: dict[Ref, tuple[Fault, ...]] = {}
    for ref, item in snapshot.objects.items():
        objects[ref], found = fitted(item, ref.key)
        if found:
            faults[ref] = found
    return replace(snapshot, objects=objects), faults


def placed(item: Manifest, namespace: str = "default") -> Manifest:
    """An object with a namespace, as `kubectl apply` would give it one; those that live in none have the empty text."""
    place = item["metadata"].get("namespace")
    if isinstance(place, str) and place:
        return item
    place = "" if (group_of(item), item["kind"]) in _WITHOUT_NAMESPACE else namespace
    return {**item, "metadata": {**item["metadata"], "namespace": place}}


def snapshot_of(manifests: Iterable[Manifest], *, namespace: str = "default", **more: Any) -> Snapshot:
    """A snapshot of objects from files or a dump. `namespace` is for objects that name none, as `kubectl apply` has it; what has no name or
    kind is no object. Unless `read` is given, one can say only of kinds that are there that another object is missing."""
    objects = {}
    for item in manifests:
        metadata = item.get("metadata")
        if isinstance(metadata, Mapping) and all(isinstance(one, str) and one for one in (item.get("kind"), metadata.get("name"))):
            item = placed(item, namespace)
            objects[ref_of(item)] = item
    return Snapshot(objects, more.pop("read", {ref.key: EVERYWHERE for ref in objects}), **{"why_unread": "the files hold none", **more})
