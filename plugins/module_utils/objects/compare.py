# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server-side apply of a manifest would change, decided from the live object alone. Pure.

What merges and what is one value is the schema's to say, and `metadata.managedFields` shows it: a list whose items are owned one by one
(a ServiceEntry's ports) merges by their keys, a map that is owned as a whole (a NetworkPolicy's podSelector) is replaced. Without such
evidence maps merge key by key, and lists are one value each, as nearly everywhere in Istio's CRDs:
https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy

Objects are what `json.loads` makes of them: dicts and lists. A fleet's thousands of fields notice how long it takes to tell that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Path = tuple[str, ...]
Operation = Literal["add", "change", "remove"]

_IDENTITY = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}
_BEFORE_FIRST_APPLY = "before-first-apply"
"""Who owns every field of an object without managedFields as soon as it is applied to:
https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/apimachinery/pkg/util/managedfields/internal/skipnonapplied.go"""


@dataclass(frozen=True)
class Difference:
    """One field that an apply would add, change, or (because we alone own it and no longer ask for it) remove."""

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
    """`("metadata", "labels", "app.kubernetes.io/name")` -> `metadata.labels[app.kubernetes.io/name]`; `[name=http]` stands for a list item."""
    return "".join(step if step.startswith("[") else f"[{step}]" if "." in step or "/" in step else f".{step}" for step in path).lstrip(".")


def differences(manifest: Mapping[str, Any], live: Mapping[str, Any], manager: str) -> tuple[Difference, ...]:
    """Every field that `manager`'s apply of the manifest would change in the live object; empty when it would change nothing."""
    ownership = _ownership(live)
    asked, there = _keyed(manifest, ownership.lists), _keyed(live, ownership.lists)
    wanted = dict(_leaves(asked, ownership))
    found = []
    for path, value in wanted.items():
        if path in _IDENTITY:
            continue
        present, live_value = _look_up(there, path)
        if not present and value == []:  # what the server leaves out, and Istio's protocol buffers cannot tell from nothing
            continue
        if present and (live_value == value or (value == {} and isinstance(live_value, dict) and path not in ownership.atomic)):
            continue
        others = {name for known, names in ownership.managers.items() if _related(known, path) for name in names if name != manager}
        if not ownership.managers:
            others = {_BEFORE_FIRST_APPLY}
        found.append(Difference(path, "change" if present else "add", ", ".join(sorted(others)) if present and others else None))
    leftover = [
        _whole_item(path, wanted)
        for path, managers in ownership.managers.items()
        if managers == {manager} and not _still_wanted(path, wanted) and _look_up(there, path)[0]  # what is shared stays
    ]
    return (*found, *(Difference(path, "remove") for path in dict.fromkeys(leftover)))


def owners(live: Mapping[str, Any]) -> Iterator[tuple[Path, frozenset[str]]]:
    """(field, managers) of every field that `metadata.managedFields` names; of maps and lists that merge, their items."""
    for path, managers in _ownership(live).managers.items():
        yield path, frozenset(managers)


@dataclass(frozen=True)
class _Ownership:
    """What managedFields tell: who owns which leaf, and how the server merges."""

    managers: dict[Path, set[str]] = field(default_factory=dict)
    lists: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    """Lists that merge by item, with the fields that tell their items apart."""
    atomic: set[Path] = field(default_factory=set)
    """Maps that are owned as a whole, and by nobody in parts."""


def _ownership(live: Mapping[str, Any]) -> _Ownership:
    found = _Ownership()
    parted: set[Path] = set()

    def walk(fields: Mapping[str, Any], path: Path, name: str) -> None:
        children = [key for key in fields if key.startswith(("f:", "k:"))]
        if path and not children:
            found.managers.setdefault(path, set()).add(name)
        elif path:
            parted.add(path)
        for key in children:
            if key.startswith("f:"):
                step = key[2:]
            else:
                item = json.loads(key[2:])
                found.lists[path] = tuple(item)
                step = _item_step(item)
            walk(fields[key] or {}, (*path, step), name)

    for entry in (live.get("metadata") or {}).get("managedFields") or ():
        if not entry.get("subresource"):
            walk(entry.get("fieldsV1") or {}, (), str(entry.get("manager") or "an unnamed manager"))
    there = _keyed(live, found.lists)
    for path in found.managers.keys() - parted:
        value = _look_up(there, path)[1]
        if isinstance(value, dict) and value:
            found.atomic.add(path)
    return found


def _item_step(item: Mapping[str, Any]) -> str:
    return "[" + ",".join(f"{key}={value}" for key, value in sorted(item.items())) + "]"


def _keyed(value: Any, lists: Mapping[Path, tuple[str, ...]], path: Path = ()) -> Any:
    """The object with lists that merge turned into maps of their items, so that all that merges is a map."""
    if not any(known[: len(path)] == path for known in lists):
        return value
    if isinstance(value, dict):
        return {key: _keyed(inner, lists, (*path, key)) for key, inner in value.items()}
    keys = lists.get(path)
    if keys and isinstance(value, list) and all(isinstance(item, dict) and item.keys() >= set(keys) for item in value):
        items = {_item_step({key: item[key] for key in keys}): item for item in value}
        return {step: _keyed(item, lists, (*path, step)) for step, item in items.items()}
    return value


def _leaves(value: Mapping[str, Any], ownership: _Ownership, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, inner in value.items():
        below = (*path, key)
        if isinstance(inner, dict) and inner and below not in ownership.atomic:
            yield from _leaves(inner, ownership, below)
        else:
            yield below, inner


def _look_up(value: Any, path: Path) -> tuple[bool, Any]:
    for step in path:
        if not isinstance(value, dict) or step not in value:
            return False, None
        value = value[step]
    return True, value


def _related(one: Path, other: Path) -> bool:
    """Whether one of the two fields is the other, or holds it."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _whole_item(owned: Path, wanted: Mapping[Path, Any]) -> Path:
    """The list item that a field is in, where the manifest has nothing of it; else the field."""
    for length, step in enumerate(owned, 1):
        if step.startswith("[") and not any(path[:length] == owned[:length] for path in wanted):
            return owned[:length]
    return owned


def _still_wanted(owned: Path, wanted: Mapping[Path, Any]) -> bool:
    """Whether the manifest has the field, something in it, or a value that replaces what holds it (an empty map merges, and does not)."""
    return owned in wanted or any(_related(owned, path) and (len(path) >= len(owned) or value != {}) for path, value in wanted.items())
