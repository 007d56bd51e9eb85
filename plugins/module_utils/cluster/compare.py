# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server-side apply of a manifest would change, decided from the live object alone. Pure.

Maps merge key by key; lists and scalars are one value each, as in Istio's CRDs (no `x-kubernetes-list-type`) and in NetworkPolicies
(`listType: atomic`): https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Path = tuple[str, ...]
Operation = Literal["add", "change", "remove"]

_IDENTITY = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}


@dataclass(frozen=True)
class Difference:
    """One field that an apply would add, change, or (because we own it and no longer ask for it) remove."""

    path: Path
    operation: Operation
    manager: str | None = None
    """Who else owns the field as it is, if anybody: then applying another value is a conflict."""

    @property
    def field(self) -> str:
        return dotted(self.path)

    def __str__(self) -> str:
        return {"add": "{} added", "change": "{} differs", "remove": "{} no longer wanted"}[self.operation].format(self.field)


def dotted(path: Path) -> str:
    """`("metadata", "labels", "app.kubernetes.io/name")` -> `metadata.labels[app.kubernetes.io/name]`."""
    return "".join(f"[{step}]" if "." in step or "/" in step else f".{step}" for step in path).lstrip(".")


def differences(manifest: Mapping[str, Any], live: Mapping[str, Any], manager: str) -> tuple[Difference, ...]:
    """Every field that `manager`'s apply of the manifest would change in the live object; empty when it would change nothing."""
    owned = dict(owners(live))
    found = []
    for path, value in _leaves(manifest):
        if path in _IDENTITY:
            continue
        present, live_value = _look_up(live, path)
        if present and live_value == value:
            continue
        others = sorted({name for known, names in owned.items() for name in names if name != manager and _related(known, path)})
        found.append(Difference(path, "change" if present else "add", ", ".join(others) if present and others else None))
    wanted = [path for path, _ in _leaves(manifest)]
    for path, managers in owned.items():
        if manager in managers and not any(_related(path, other) for other in wanted) and _look_up(live, path)[0]:
            found.append(Difference(path, "remove"))
    return tuple(found)


def owners(live: Mapping[str, Any]) -> Iterator[tuple[Path, frozenset[str]]]:
    """(field, managers) of every field that `metadata.managedFields` names, list items aside."""
    collected: dict[Path, set[str]] = {}
    for entry in (live.get("metadata") or {}).get("managedFields") or ():
        if entry.get("subresource"):
            continue
        for path in _owned_leaves(entry.get("fieldsV1") or {}):
            collected.setdefault(path, set()).add(str(entry.get("manager") or "an unnamed manager"))
    for path, managers in collected.items():
        yield path, frozenset(managers)


def _owned_leaves(fields: Mapping[str, Any], prefix: Path = ()) -> Iterator[Path]:
    """Leaves of a fieldsV1 tree; a list is one leaf."""
    children = [key for key in fields if key.startswith("f:")]
    if prefix and not children:
        yield prefix
    for key in children:
        yield from _owned_leaves(fields[key] or {}, (*prefix, key[2:]))


def _leaves(value: Mapping[str, Any], prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, inner in value.items():
        path = (*prefix, key)
        if isinstance(inner, Mapping) and inner:
            yield from _leaves(inner, path)
        else:
            yield path, inner


def _look_up(value: Any, path: Path) -> tuple[bool, Any]:
    for step in path:
        if not isinstance(value, Mapping) or step not in value:
            return False, None
        value = value[step]
    return True, value


def _related(one: Path, other: Path) -> bool:
    """Whether one of the two fields is the other, or holds it."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
