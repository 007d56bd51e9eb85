# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets mounted into a gateway's Deployment: from what is asked for and the live Deployment to a manifest. Pure.

A Deployment belongs to others (istioctl, Helm, istiod), so the manifest holds our volumes and mounts and nothing else. Volumes and mounts
are lists that server-side apply merges by name and by path. Their owners, recorded by the API server, tell which of them are ours: what an
earlier call made stays, unless it is asked to go, although an apply removes what its manager no longer asks for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..problems import Problem
from .mount_arguments import Mount, Request, clean_path

Manifest = Mapping[str, Any]


Place: TypeAlias = "tuple[str, str]"
"""A mount: its container and its path."""


Action = Literal["created", "updated", "deleted", "unchanged"]


_NOTHING: Manifest = {"f:": {}}
"""Managed fields that name no part."""


@dataclass(frozen=True)
class Planned:
    """One mount, and what becomes of it."""

    path: str
    secret: str
    volume: str
    container: str
    action: Action

    def as_result(self) -> dict[str, str]:
        return {"path": self.path, "secret": self.secret, "volume": self.volume, "container": self.container, "action": self.action}


@dataclass(frozen=True)
class Change:
    """What to apply, and what that means."""

    manifest: dict[str, Any]
    mounts: tuple[Planned, ...]
    notes: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        words = {"created": "is not mounted", "updated": "is mounted differently", "deleted": "is no longer wanted"}
        return tuple(f"{one.path} {words[one.action]}" for one in self.mounts if one.action != "unchanged")


def pod_spec(deployment: Manifest) -> Manifest:
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


def is_injected(deployment: Manifest) -> bool:
    """Whether the mesh's injector fills in the proxy (gateway injection), so that the Deployment does not show all its mounts."""
    annotations = (deployment["spec"]["template"].get("metadata") or {}).get("annotations") or {}
    templates = str(annotations.get("inject.istio.io/templates") or "").split(",")
    return any(one.get("image") == "auto" for one in pod_spec(deployment)["containers"]) or "gateway" in templates


def choose(deployments: Sequence[Manifest], selector: Mapping[str, str], namespace: str) -> Manifest | Problem:
    """The only Deployment whose pods carry the labels of a Gateway's selector."""
    wanted = selector.items()
    found = [item for item in deployments if wanted <= ((item["spec"]["template"].get("metadata") or {}).get("labels") or {}).items()]
    where = f"selector ({','.join(f'{key}={value}' for key, value in sorted(wanted))})"
    if not wanted:
        return Problem(
            "selector_empty", "selector", "expected the labels of the gateway's pods, found none", "write it like {istio: egressgateway}"
        )
    if len(found) == 1:
        return found[0]
    if found:
        return Problem(
            "deployment_ambiguous",
            where,
            f"expected one Deployment in namespace {namespace} whose pods carry these labels, found {names(found)}",
            "name one of them, or add the label that tells them apart; for each of them a task of its own",
        )
    return missing(where, f"a Deployment in namespace {namespace} whose pods carry these labels", deployments)


def missing(where: str, expected: str, deployments: Sequence[Manifest]) -> Problem:
    found = f"found only {names(deployments)}" if deployments else "found none"
    return Problem("deployment_missing", where, f"expected {expected}, {found}", "name the Deployment that runs the gateway's pods")


def names(items: Iterable[Manifest], most: int = 10) -> str:
    known = sorted(item["metadata"]["name"] for item in items)
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")


@dataclass(frozen=True)
class Owned:
    """What a field manager applied of a pod template's volumes and mounts, as it applied them."""

    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    mounts: dict[Place, dict[str, Any]] = field(default_factory=dict)


def owned(live: Manifest, manager: str) -> Owned:
    """Taken out of the live object along `metadata.managedFields`, so that applying it again changes nothing."""
    part = _part(pod_spec(live), _fields(live, lambda entry: entry.get("manager") == manager and entry.get("operation") == "Apply"))
    return Owned(
        {volume["name"]: volume for volume in part.get("volumes") or ()},
        {
            (container["name"], mount["mountPath"]): mount
            for container in part.get("containers") or ()
            for mount in container.get("volumeMounts") or ()
        },
    )


def _fields(live: Manifest, chosen: Callable[[Manifest], bool]) -> Manifest:
    """The managed fields below the pod template's spec of the first entry that is chosen."""
    for entry in (live.get("metadata") or {}).get("managedFields") or ():
        if chosen(entry) and not entry.get("subresource"):
            fields: Manifest = entry.get("fieldsV1") or {}
            for step in ("f:spec", "f:template", "f:spec"):
                fields = fields.get(step) or {}
            return fields or _NOTHING
    return _NOTHING


def _part(value: Any, fields: Manifest) -> Any:
    """The part of a value that managed fields name; all of it where they name no part."""
    parts = {key: below or {} for key, below in fields.items() if key != "."}
    if not parts:
        return value
    if isinstance(value, Mapping):
        return {key[2:]: _part(value[key[2:]], below) for key, below in parts.items() if key.startswith("f:") and key[2:] in value}
    # in the live order: an apply that orders the items otherwise changes the template, and so replaces every pod
    owned_items = [(json.loads(key[2:]), below) for key, below in parts.items() if key.startswith("k:")]
    return [{**key, **_part(item, below)} for item in value for key, below in owned_items if key.items() <= item.items()]


def _other_managers(live: Manifest, place: Place, manager: str) -> list[str]:
    """Who else set a mount."""
    found = set()
    for entry in (live.get("metadata") or {}).get("managedFields") or ():
        name = str(entry.get("manager") or "an unnamed manager")
        if name == manager:
            continue
        part = _part(pod_spec(live), _fields(live, lambda one, entry=entry: one is entry))  # type: ignore[misc]
        for container in part.get("containers") or ():
            mounts = container.get("volumeMounts") or ()
            if container.get("name") == place[0] and any(mount.get("mountPath") == place[1] for mount in mounts):
                found.add(name)
    return sorted(found)


def mounts_by_place(spec: Manifest) -> dict[Place, dict[str, Any]]:
    """Every mount of the pods, init containers' included."""
    return {
        (container["name"], clean_path(mount["mountPath"])): mount
        for kind in ("containers", "initContainers")
        for container in spec.get(kind) or ()
        for mount in container.get("volumeMounts") or ()
    }


def volumes_by_name(spec: Manifest) -> dict[str, dict[str, Any]]:
    return {volume["name"]: volume for volume in spec.get("volumes") or ()}


def _volume(mount: Mount, name: str) -> dict[str, Any]:
    source: dict[str, Any] = {"secretName": mount.secret}
    if mount.optional:
        source["optional"] = True
    if mount.mode is not None:
        source["defaultMode"] = mount.mode
    return {"name": name, "secret": source}


def secret_of(volume: Manifest | None) -> Manifest:
    """A volume's Secret, if it is one with all its keys under their own names."""
    source: Manifest = (volume or {}).get("secret") or {}
    return {} if source.get("items") else source


def is_satisfied(mount: Mount, there: Manifest | None, volumes: Mapping[str, Manifest]) -> bool:
    """Whether what something else mounted is what is asked for."""
    if there is None or there.get("subPath") or there.get("subPathExpr"):
        return False
    source = secret_of(volumes.get(there["name"]))
    return (
        source.get("secretName") == mount.secret
        and (not mount.optional or bool(source.get("optional")))
        and mount.mode in (None, source.get("defaultMode"))
        and (not mount.named or there["name"] == mount.volume)
    )


def volume_name_for(mount: Mount, container: str, mine: Owned, volumes: Mapping[str, Manifest]) -> str:
    """The volume's name: an earlier one of ours for the same mount stays, because another name would be another rollout."""
    there = mine.mounts.get((container, mount.path))
    if (
        there
        and not mount.named
        and there["name"] in mine.volumes
        and secret_of(volumes.get(there["name"])).get("secretName") == mount.secret
    ):
        return str(there["name"])
    return mount.volume


def plan(live: Manifest, request: Request, manager: str) -> Change:
    """What to apply as `manager` so that the request holds, and what becomes of each mount."""
    mine = owned(live, manager)
    return _absent(live, request, mine, manager) if request.absent else _present(live, request, mine, manager)


def _present(live: Manifest, request: Request, mine: Owned, manager: str) -> Change:
    spec = pod_spec(live)
    there, volumes = mounts_by_place(spec), volumes_by_name(spec)
    notes: list[str] = []
    planned: list[Planned] = []
    mounts: dict[Place, dict[str, Any]] = {}
    made: dict[str, dict[str, Any]] = {}
    for mount in request.mounts:
        place = (request.container, mount.path)
        found = there.get(place)
        if place not in mine.mounts and is_satisfied(mount, found, volumes):
            name = found["name"] if found else ""
            planned.append(Planned(mount.path, mount.secret, name, request.container, "unchanged"))
            notes.append(f"{mount.path} is mounted by {other_managers_of(live, place, manager)} as asked for, and left to it")
            continue
        name = volume_name_for(mount, request.container, mine, volumes)
        mounts[place] = {"mountPath": mount.path, "name": name, "readOnly": True}
        made[name] = _volume(mount, name)
        same = _same(mounts[place], found, mine.mounts.get(place)) and _same(made[name], volumes.get(name), mine.volumes.get(name))
        action: Action = "created" if found is None else "unchanged" if same else "updated"
        planned.append(Planned(mount.path, mount.secret, name, request.container, action))
    kept: dict[Place, dict[str, Any]] = {}
    for place, mount_of_ours in mine.mounts.items():
        if place not in mounts and request.prune:
            planned += _going(live, place, mount_of_ours, volumes, manager, notes)
        else:
            kept[place] = mounts.get(place, mount_of_ours)
    return _change(live, mine, {**kept, **mounts}, made, planned, notes)


def _absent(live: Manifest, request: Request, mine: Owned, manager: str) -> Change:
    spec = pod_spec(live)
    there, volumes = mounts_by_place(spec), volumes_by_name(spec)
    notes: list[str] = []
    planned: list[Planned] = []
    kept = dict(mine.mounts)
    for place in [(request.container, mount.path) for mount in request.mounts] or list(mine.mounts):
        if place in kept:
            planned += _going(live, place, kept.pop(place), volumes, manager, notes)
        elif place in there:
            notes.append(f"{place[1]} stays: it was mounted by {other_managers_of(live, place, manager)}, not by this module")
    return _change(live, mine, kept, {}, planned, notes)


def other_managers_of(live: Manifest, place: Place, manager: str) -> str:
    return ", ".join(_other_managers(live, place, manager)) or "something else"


def _going(
    live: Manifest, place: Place, mount: Manifest, volumes: Mapping[str, Manifest], manager: str, notes: list[str]
) -> Iterator[Planned]:
    others = _other_managers(live, place, manager)
    if others:
        notes.append(f"{place[1]} stays: {', '.join(others)} mounts it too")
    secret = str(secret_of(volumes.get(mount["name"])).get("secretName") or "")
    yield Planned(place[1], secret, mount["name"], place[0], "unchanged" if others else "deleted")


def _same(wanted: Manifest, live: Manifest | None, before: Manifest | None) -> bool:
    """Whether an apply changes nothing: all is there, and nothing that we set before is missing from it now."""
    return live is not None and _within(wanted, live) and (before is None or _within(before, wanted))


def _within(part: Any, whole: Any) -> bool:
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(key in whole and _within(value, whole[key]) for key, value in part.items())
    return bool(part == whole)


def _change(
    live: Manifest,
    mine: Owned,
    mounts: Mapping[Place, dict[str, Any]],
    made: Mapping[str, dict[str, Any]],
    planned: Sequence[Planned],
    notes: list[str],
) -> Change:
    used = {mount["name"] for mount in mounts.values()}
    foreign = {mount["name"]: place for place, mount in mounts_by_place(pod_spec(live)).items() if place not in mine.mounts}
    volumes = {name: volume for name, volume in mine.volumes.items() if name in used or name in foreign}
    notes += [f"volume {name} stays: {' in container '.join(reversed(foreign[name]))} uses it too" for name in volumes if name not in used]
    return Change(_manifest(live, {**volumes, **made}, mounts), tuple(planned), tuple(notes))


def _manifest(live: Manifest, volumes: Mapping[str, Any], mounts: Mapping[Place, Any]) -> dict[str, Any]:
    metadata = live["metadata"]
    containers: dict[str, list[Any]] = {}
    for (container, __), mount in mounts.items():
        containers.setdefault(container, []).append(mount)
    spec: dict[str, Any] = {}
    if containers:
        spec["containers"] = [{"name": name, "volumeMounts": inner} for name, inner in containers.items()]
    if volumes:
        spec["volumes"] = list(volumes.values())
    made: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
    }
    return {**made, "spec": {"template": {"spec": spec}}} if spec else made


def restoration(before: Manifest, applied: Manifest, manager: str) -> dict[str, Any]:
    """What to apply so that the template is again as it was before `applied`: what we had applied until then, and the old values of what
    was taken over from others."""
    mine = owned(before, manager)
    spec = pod_spec(before)
    there, volumes = mounts_by_place(spec), volumes_by_name(spec)
    taken = ((applied.get("spec") or {}).get("template") or {}).get("spec") or {}
    old_mounts = {
        (container["name"], mount["mountPath"]): _restricted(found, mount)
        for container in taken.get("containers") or ()
        for mount in container["volumeMounts"]
        if (found := there.get((container["name"], mount["mountPath"])))
    }
    old_volumes = {
        volume["name"]: _restricted(found, volume) for volume in taken.get("volumes") or () if (found := volumes.get(volume["name"]))
    }
    return _manifest(before, {**old_volumes, **mine.volumes}, {**old_mounts, **mine.mounts})


def alike(one: Any, other: Any) -> bool:
    """Whether two templates differ in the order of their lists at most: what an apply adds again stands at the end."""
    return bool(_sorted(one) == _sorted(other))


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(inner) for key, inner in value.items()}
    return sorted((_sorted(inner) for inner in value), key=json.dumps) if isinstance(value, list) else value


def _restricted(value: Any, to: Any) -> Any:
    if isinstance(value, Mapping) and isinstance(to, Mapping):
        return {key: _restricted(inner, to[key]) for key, inner in value.items() if key in to}
    return value


def shown(live: Manifest, change: Change) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a diff shows of the template before and after: the mounts in question, by container and path."""
    spec = pod_spec(live)
    there, volumes = mounts_by_place(spec), volumes_by_name(spec)
    applied = ((change.manifest.get("spec") or {}).get("template") or {}).get("spec") or {}
    after_volumes = {
        **volumes,
        **{volume["name"]: {**volumes.get(volume["name"], {}), **volume} for volume in applied.get("volumes") or ()},
    }
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for one in change.mounts:
        place = (one.container, one.path)
        if place in there:
            before.setdefault(one.container, {})[one.path] = _source(volumes.get(there[place]["name"]))
        if one.action == "unchanged":
            after.setdefault(one.container, {})[one.path] = before[one.container][one.path]
        elif one.action != "deleted":
            after.setdefault(one.container, {})[one.path] = _source(after_volumes.get(one.volume))
    return before, after


def _source(volume: Manifest | None) -> dict[str, Any]:
    """Where a volume's files come from."""
    rest = {key: value for key, value in (volume or {}).items() if key != "name"}
    return {"volume": (volume or {}).get("name", ""), **{kind: value for kind, value in rest.items() if isinstance(value, Mapping)}}
