# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rotation did, as a result and as evidence: fingerprints, handshakes and refusals with their times, never key material."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..call import Call
from ..cluster.reconcile import Outcome
from ..istio.rotation_plan import plan_id
from ..problems import Problem
from ..tls.facts import rfc3339
from ..whole_file import replace_file
from .transaction import Rotation, Transaction

_WORDS = {
    "rotated": "rotated and proven",
    "unchanged": "unchanged",
    "rolled_back": "rolled back",
    "failed": "FAILED",
    "left_alone": "left alone",
    "not_tried": "not tried",
}


def result_of(call: Call, rotations: Sequence[Rotation], transaction: Transaction, *, changed: bool) -> dict[str, Any]:
    plans = [each.plan for one in rotations for each in _stages(one) if each.plan]
    text = "\n".join(plan.text() for plan in plans)
    result: dict[str, Any] = {
        "changed": changed,
        "plan": {"id": plan_id(plans), "rotations": [plan.as_result(call.now) for plan in plans]},
        "plan_text": text,
    }
    if call.diff_mode:
        result["diff"] = Outcome(
            plans=[plan for one in rotations for each in _stages(one) if each is one or each.applied for plan in each.unit.plans]
        ).diff()
    if call.check_mode:
        result["rotations"] = [_planned(one) for one in rotations]
        return result
    result["rotations"] = [_staged(call, one) for one in rotations]
    failures = [one for one in rotations if one.outcome in ("failed", "rolled_back", "left_alone")]
    if failures:
        result |= {"failed": True, "msg": _message(rotations, failures)}
    if call.params["evidence"]:
        _write_evidence(call, rotations, transaction, result)
    return result


def _brief(one: Rotation) -> dict[str, Any]:
    return {"name": one.key[1], "namespace": one.key[0], **({"recovered": one.recovered} if one.recovered else {})}


def _stages(one: Rotation) -> Sequence[Rotation]:
    return one.chain or (one,)


def _planned(one: Rotation) -> dict[str, Any]:
    changes = one.writes or one.resumed or any(each.plan.action != "unchanged" for each in one.chain if each.plan)
    found: dict[str, Any] = {**_brief(one), "outcome": "planned" if changes else "unchanged"}
    if one.staged:
        steps = [{"stage": each.stage, "changes": each.plan.changes() if each.plan else []} for each in one.chain]
        found["ca_rotation"] = {"found": one.staged.found, "until": one.staged.aim.until, "stages": steps}
    return found


def _staged(call: Call, one: Rotation) -> dict[str, Any]:
    """How far a CA rotation came."""
    found: dict[str, Any] = _whole(call, one)
    if one.staged:
        ended = [each.stage for each in one.chain if each.outcome in ("rotated", "unchanged")]
        steps = [{"stage": each.stage, **_whole(call, each)} for each in one.chain]
        reached = ended[-1] if ended else one.staged.found
        found["ca_rotation"] = {"found": one.staged.found, "until": one.staged.aim.until, "reached": reached, "stages": steps}
    return found


def _whole(call: Call, one: Rotation) -> dict[str, Any]:
    found: dict[str, Any] = {**_brief(one), "outcome": one.outcome}
    if one.plan:
        found |= {"before": one.plan.before.facts(call.now), "after": one.plan.after.facts(call.now), "changes": one.plan.changes()}
    target = one.target
    if target and one.outcome in ("rotated", "unchanged", "failed", "rolled_back"):
        found["proof"] = {**target.as_result(), "before": [shake.as_result() for shake in one.before]}
    if one.found_by_probes:
        found["proof"] = {**found.get("proof", {}), "probes": one.found_by_probes}
    if one.connections:
        found["connections"] = one.connections.as_result()
    if one.reasons:
        found["reasons"] = one.reasons
    if one.restored:
        found["restored"] = one.restored
    return found


def _message(rotations: Sequence[Rotation], failures: Sequence[Rotation]) -> str:
    lines = [
        f"{one.label}{f', stage {one.stage}' if one.stage else ''}: {'; '.join(one.reasons[:5]) or 'the wave went back'}. {_ending(one)}"
        for one in failures[:20]
    ]
    rest = [f"{count} {_WORDS[what]}" for what in _WORDS if (count := sum(one.outcome == what for one in rotations))]
    head = f"{len(failures)} of {len(rotations)} rotations failed ({', '.join(rest)})" if len(rotations) > 1 else "The rotation failed"
    more = [f"and {len(failures) - 20} more"] if len(failures) > 20 else []
    return "\n- ".join([f"{head}:", *lines, *more]) if len(lines) > 1 else f"{head}: {lines[0]}"


def _ending(one: Rotation) -> str:
    if one.outcome == "rolled_back":
        return f"{one.restored[:1].upper()}{one.restored[1:]}; mend the cause and run again."
    target = one.old or one.target
    served = sorted({f"{shake.endpoint} presents {shake.served or 'nothing'}" for shake in target.last.values()}) if target else []
    now = f" Now {'; '.join(served[:5])}." if served else ""
    return f"{one.restored[:1].upper()}{one.restored[1:]}.{now}" if one.restored else f"Nothing of it was written.{now}"


def _write_evidence(call: Call, rotations: Sequence[Rotation], transaction: Transaction, result: dict[str, Any]) -> None:
    """A JSON file and, beside it, one for people."""
    path = Path(call.params["evidence"])
    ended = rfc3339(transaction.now())
    whole = {
        "rotation": transaction.rotation_id,
        "by": transaction.by,
        "started": rfc3339(call.now),
        "ended": ended,
        "rotations": result["rotations"],
        "notes": list(call.notes),
    }
    lines = [f"Rotation {transaction.rotation_id} by {transaction.by}, {rfc3339(call.now)} to {ended}", ""]
    for one in (each for rotation in rotations for each in _stages(rotation)):
        stage = f", stage {one.stage}" if one.stage else ""
        lines += [f"{one.label}{stage}: {_WORDS[one.outcome]}", *(f"  {change}" for change in (one.plan.changes() if one.plan else ()))]
        shakes = [*one.before, *(one.target.last.values() if one.target else ())]
        lines += [f"  {rfc3339(shake.at)} {shake.endpoint}: {shake.served or shake.failure}" for shake in shakes]
        lines += [
            f"  {probe['at']} {probe['name']}: {'as expected' if probe['holds'] else 'NOT as expected'}" for probe in one.found_by_probes
        ]
        lines += [f"  held by {name}" for name in (one.target.proven_by if one.target else ())]
        lines += [f"  {text}" for text in _about_connections(one)]
        lines += [f"  {text}" for text in (*one.reasons, one.restored, one.recovered) if text]
    try:
        replace_file(path, json.dumps(whole, indent=2, sort_keys=True) + "\n", 0o600)
        replace_file(path.with_name(path.stem + ".txt" if path.suffix == ".json" else path.name + ".txt"), "\n".join(lines) + "\n", 0o600)
    except OSError as error:
        problem = Problem(
            "evidence_unwritable",
            f"evidence {path}",
            f"expected to write it, found: {error.strerror or error}",
            "correct the path",
            "warning",
        )
        call.doubts.append(problem)
    result["evidence"] = str(path)


def _about_connections(one: Rotation) -> Iterable[str]:
    if one.connections is None:
        return
    for found in one.connections.proxies:
        counts = [
            f"{found[way]} {what}" for way, what in (("downstream", "of clients"), ("upstream", "to servers")) if found[way] is not None
        ]
        yield f"connections open at {found['proxy']} after the proof: {', '.join(counts) or 'not counted'}"
    if one.connections.ended:
        yield "connections of before were ended"
    yield from one.connections.troubles


def evidence_problems(path: str | None) -> list[Problem]:
    """A place where nothing could be written, found before anything is rotated."""
    if not path or Path(path).parent.is_dir():
        return []
    return [
        Problem(
            "evidence_unwritable",
            f"evidence {path}",
            f"expected the directory {Path(path).parent}, found none",
            "make it, or correct the path",
        )
    ]
