# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rotation's writes, as plans for the one way of writing (`cluster/reconcile.py`): switch, finish, restore, touch.

Every one is an apply in place that names the version of the object that it was made for. What somebody else has changed meanwhile is left alone.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ..cluster.client import Cluster
from ..cluster.reconcile import Interrupted, execute
from ..istio.credential import READ_KEYS
from ..istio.rotation_marker import ANNOTATION, PREVIOUS, Marker, current, kept, marker_of, previous
from ..objects.compare import owners
from ..objects.kinds import Ref
from ..objects.ownership import FIELD_MANAGER
from ..objects.plan import Plan, Unit, Write

TOUCHED = "meshops.istio/touched"
Manifest = Mapping[str, Any]
Live: TypeAlias = "Mapping[Ref, Manifest | None]"


def switching(unit: Unit, live: Live, marker: Marker, *, keep: bool) -> Unit:
    """The unit's writes, each with what is kept of before (unless nothing may go back to it) and the marker."""

    def switched(plan: Plan) -> Plan:
        if plan.action not in ("created", "updated", "replaced"):
            return plan
        before = live.get(plan.ref)
        text = replace(marker, created=before is None).text()
        data = kept(before) if keep else {}
        writes = [
            replace(write, manifest=_with(write.manifest, data, {ANNOTATION: text})) if write.verb == "apply" else write
            for write in plan.writes
        ]
        return replace(plan, writes=tuple(writes))

    return Unit(tuple(switched(plan) for plan in unit.plans))


def finishing(refs: Sequence[Ref], live: Live) -> Unit:
    """After the proof: the Secrets as they were to be, without what was kept of before and without the marker."""
    reason = "the rotation was proven: what was kept of before is removed"
    marked = [(ref, now) for ref in refs if (now := live.get(ref)) is not None and marker_of(now)]
    return Unit(tuple(Plan(ref, "updated", (reason,), (Write("apply", _without(_own(now))),), basis=now) for ref, now in marked))


def restoring(refs: Sequence[Ref], live: Live) -> Unit:
    """Back to what was kept: the pair's Secret last, so that no server verifies clients without its CA in between."""
    plans = []
    for ref in sorted(refs, key=lambda ref: len(ref.name), reverse=True):
        now = live.get(ref)
        marker = marker_of(now)
        if now is None or marker is None:
            continue
        if marker.created:
            reason, write = "it did not exist before the rotation", Write("delete", now, uid=now["metadata"].get("uid"))
            plans.append(Plan(ref, "deleted", (reason,), (write,), basis=now))
        elif before := previous(now):
            write = Write("apply", _restored(now, before))
            plans.append(Plan(ref, "updated", ("the state before the rotation is restored",), (write,), basis=now))
    return Unit(tuple(plans))


def touching(ref: Ref, now: Manifest, stamp: str) -> Unit:
    """A change that changes nothing, which makes istiod send the Secret once more, by itself."""
    write = Write("apply", _with(_own(now), {}, {TOUCHED: stamp}))
    return Unit((Plan(ref, "updated", ("sent once more",), (write,), basis=now),))


def untouching(ref: Ref, now: Manifest, __: str = "") -> Unit:
    """Takes that back, which is such a change as well."""
    return Unit((Plan(ref, "updated", ("as it was",), (Write("apply", _without(_own(now))),), basis=now),))


def is_sent(cluster: Cluster, units: Sequence[Unit]) -> bool:
    """Writes what is to be sent once more; False where something was refused. Raises Interrupted where the run was ended."""
    try:
        execute(cluster, units, check_mode=False)
    except Interrupted as interrupted:
        if interrupted.outcome.stopped_by:
            raise
        return False
    return True


def is_ours(now: Manifest | None, rotation: str) -> bool:
    """Whether the Secret is as this rotation left it, as far as its marker says."""
    marker = marker_of(now)
    return marker is not None and marker.rotation == rotation


def cleaned(live: Live) -> dict[Ref, Manifest | None]:
    """The Secrets as if no rotation were unfinished: what planning looks at when one is to be finished."""
    return {ref: None if now is None else _without({"data": {}, **now}) for ref, now in live.items()}


def content(live: Live, refs: Sequence[Ref]) -> dict[str, dict[str, bytes]]:
    """Secret name -> its data without what is kept of before; those that do not exist are left out."""
    return {ref.name: current(live[ref]) for ref in refs if live.get(ref) is not None}


def content_before(live: Live, refs: Sequence[Ref]) -> dict[str, dict[str, bytes]]:
    """The same as it was before an unfinished rotation."""
    found = {}
    for ref in refs:
        now = live.get(ref)
        marker = marker_of(now)
        if now is not None and not (marker and marker.created):
            found[ref.name] = previous(now) or current(now)
    return found


def _with(manifest: Manifest, data: Mapping[str, str], annotations: Mapping[str, str]) -> dict[str, Any]:
    metadata = manifest["metadata"]
    return {
        **manifest,
        "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), **annotations}},
        "data": {**data, **(manifest.get("data") or {})},
    }


def _without(manifest: Manifest) -> dict[str, Any]:
    """A manifest without the marker and what is kept of before."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "annotations"}
    left = {key: value for key, value in (manifest["metadata"].get("annotations") or {}).items() if key not in (ANNOTATION, TOUCHED)}
    data = {key: value for key, value in manifest["data"].items() if not key.startswith(PREVIOUS)}
    return {**manifest, "metadata": {**metadata, **({"annotations": left} if left else {})}, "data": data}


def own_metadata(now: Manifest) -> dict[str, Any]:
    """Name, namespace, and what this collection applied of an object's labels and annotations."""
    ours = {path for path, managers in owners(now) if FIELD_MANAGER in managers}
    metadata: dict[str, Any] = {name: now["metadata"][name] for name in ("name", "namespace")}
    for name in ("labels", "annotations"):
        kept_ones = {key: value for key, value in (now["metadata"].get(name) or {}).items() if ("metadata", name, key) in ours}
        metadata |= {name: kept_ones} if kept_ones else {}
    return metadata


def _own(now: Manifest) -> dict[str, Any]:
    """What this collection applied of a live Secret; other managers keep what is theirs."""
    ours = {path for path, managers in owners(now) if FIELD_MANAGER in managers}
    data = {key: value for key, value in (now.get("data") or {}).items() if ("data", key) in ours}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": own_metadata(now), "type": now.get("type"), "data": data}


def _restored(now: Manifest, before: Mapping[str, bytes]) -> dict[str, Any]:
    own = _without(_own(now))
    others = {key: value for key, value in own["data"].items() if key not in READ_KEYS}
    return {**own, "data": {**others, **{key: base64.b64encode(value).decode() for key, value in before.items()}}}
