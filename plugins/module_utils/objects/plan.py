# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done about an object, decided from what it should be and what it is. Pure.

`cluster/reconcile.py` reads before and carries out afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..problems import Problem
from .compare import Difference, differences
from .kinds import Manifest, Ref, Resource, ref_of
from .ownership import FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, is_ours

Action = Literal["created", "updated", "replaced", "deleted", "unchanged"]
_SECRET_FIELDS = ("data", "stringData")


@dataclass(frozen=True)
class Write:
    """One request that changes something."""

    verb: Literal["apply", "delete"]
    manifest: Manifest = field(repr=False)  # it may hold keys
    """What to apply; for a deletion, apiVersion, kind and metadata suffice."""
    force: bool = False
    uid: str | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be done about one object, and why."""

    ref: Ref
    action: Action
    reasons: tuple[str, ...] = ()
    writes: tuple[Write, ...] = ()
    before: Manifest | None = None
    """What a diff shows; never key material."""
    after: Manifest | None = None
    problems: tuple[Problem, ...] = ()
    basis: Manifest | None = field(default=None, repr=False)  # it may hold keys
    """The live object that it was made for; None where there was none."""

    @property
    def changed(self) -> bool:
        return self.action != "unchanged"

    def as_result(self) -> dict[str, Any]:
        return {
            "kind": self.ref.kind,
            "namespace": self.ref.namespace,
            "name": self.ref.name,
            "action": self.action,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class Unit:
    """Plans that run one after the other; a failure ends the unit, and no other."""

    plans: tuple[Plan, ...]


def plan_apply(manifest: Manifest, live: Manifest | None, *, force: bool = False) -> Plan:
    """What server-side apply has to do about one object."""
    ref = ref_of(manifest)
    if live is None:
        return Plan(ref, "created", ("does not exist",), (Write("apply", manifest, force=force),), None, shown(manifest, manifest))
    if (live.get("metadata") or {}).get("deletionTimestamp"):
        problem = Problem("terminating", str(ref), "the object is being deleted", "wait until its finalizers are done and run again")
        return Plan(ref, "unchanged", problems=(problem,))
    found = differences(manifest, live, FIELD_MANAGER)
    if not found:
        return Plan(ref, "unchanged")
    conflicts = () if force else tuple(_conflict(ref, difference) for difference in found if difference.manager)
    return Plan(
        ref,
        "updated",
        tuple(str(difference) for difference in found),
        (Write("apply", manifest, force=force),),
        shown(live, manifest),
        shown(manifest, manifest),
        conflicts,
        live,
    )


def plan_delete(ref: Ref, resource: Resource, live: Manifest | None, *, force: bool = False, reason: str = "state is absent") -> Plan:
    """Deletes what is ours; what is not needs `force`. What is being deleted already, and waits for its finalizers, is left to that."""
    metadata = (live or {}).get("metadata") or {}
    problems = _finalizers(ref, metadata)
    if live is None or metadata.get("deletionTimestamp"):
        return Plan(ref, "unchanged", problems=problems)
    if not force and not is_ours(live):
        problems += (
            Problem(
                "foreign_object",
                str(ref),
                f"expected an object labelled {MANAGED_BY_LABEL}={MANAGED_BY}, found one that something else made",
                "delete it by hand, or set force_conflicts to have it deleted",
            ),
        )
    target = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": ref.name, "namespace": ref.namespace}}
    return Plan(ref, "deleted", (reason,), (Write("delete", target, uid=metadata.get("uid")),), shown(live, live), None, problems)


def _finalizers(ref: Ref, metadata: Mapping[str, Any]) -> tuple[Problem, ...]:
    """A warning where a deletion waits for others; those of the garbage collector end by themselves."""
    waits = ", ".join(name for name in metadata.get("finalizers") or () if name not in ("foregroundDeletion", "orphan"))
    if not waits:
        return ()
    began = metadata.get("deletionTimestamp")
    message = f"is being deleted since {began}, is still there" if began else "will still be there after its deletion"
    remedy = "see that their controllers run, or, where they are gone, remove the finalizers by hand"
    return (Problem("waits_for_finalizers", str(ref), f"{ref.kind} {message}, and waits for the finalizers {waits}", remedy, "warning"),)


def _conflict(ref: Ref, difference: Difference) -> Problem:
    return Problem(
        "conflict",
        str(ref),
        f"{difference.field} was set to another value by field manager {difference.manager}",
        "make both agree, or set force_conflicts to take the field over",
    )


def shown(source: Manifest, manifest: Manifest) -> dict[str, Any]:
    """The part of an object that a diff shows: without status and bookkeeping, and of labels and annotations only those in the manifest."""
    wanted = manifest.get("metadata") or {}
    metadata: dict[str, Any] = {}
    for name, value in (source.get("metadata") or {}).items():
        if name in ("name", "namespace"):
            metadata[name] = value
        elif name in ("labels", "annotations"):
            kept = {key: inner for key, inner in (value or {}).items() if key in (wanted.get(name) or {})}
            if kept:
                metadata[name] = kept
    rest = {
        key: value
        for key, value in source.items()
        if key not in ("metadata", "status", *(_SECRET_FIELDS if source.get("kind") == "Secret" else ()))
    }
    return {**rest, "metadata": metadata}


def problems_of(units: Iterable[Unit]) -> tuple[Problem, ...]:
    return tuple(problem for unit in units for plan in unit.plans for problem in plan.problems)
