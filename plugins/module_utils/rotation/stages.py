# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CA rotation as a chain of rotations, one a stage: each is a transaction of its own, and the next begins where it was proven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ..istio.ca_stages import checked, held, stage_of, stage_problems, steps
from ..istio.credential import secrets, shape_problems
from ..istio.rotation_plan import never_written
from ..objects.kinds import Ref
from ..problems import Problem, errors
from .ca_rotation import CaRotation
from .transaction import Rotation
from .writes import content, content_before

Live = Mapping[Ref, Any]


def stages(one: Rotation, live: Live, now: datetime) -> tuple[list[Rotation], list[Problem]]:
    """The rotations that one asks for, in their order, and what is in the way. One without stages is itself."""
    if one.staged is None:
        return [one], []
    aim = one.staged.aim
    there = held(aim.new, content_before(live, one.refs))
    problems = list(stage_problems(there, aim))
    if problems:
        return [one], problems
    staged = replace(one.staged, found=stage_of(there, aim))
    chain: list[Rotation] = []
    for step in steps(there, aim):
        ready, found = checked(step, aim, now, staged.not_before_tolerance)
        strict = never_written(found)
        problems += [replace(problem, severity="warning") if one.lenient and problem not in strict else problem for problem in found]
        wanted = replace(one.wanted, credential=ready.credential)
        problems += errors(shape_problems(ready.credential, where=f"{aim.where}ca_rotation, stage {step.stage}"))
        passing, refused = staged.proofs(step.stage)
        chain.append(replace(one, wanted=wanted, passing=passing, refused=[*one.refused, *refused], stage=step.stage, staged=staged))
    problems += _unproven(one, staged, chain)
    # what the mutable parts of a rotation hold is each stage's own
    chain = [replace(each, chain=chain, reasons=[], before=[], failing_before={}, found_by_probes=[]) for each in chain]
    for each in chain:
        each.chain = chain
    return chain, problems


def _unproven(one: Rotation, staged: CaRotation, chain: Sequence[Rotation]) -> list[Problem]:
    """What proxies say of their CAs is proven in any case; that peers get in, and are refused, only they can show."""
    missing = [name for name, peers in (("old_peers", staged.old_peers), ("new_peers", staged.new_peers)) if not peers]
    if not missing or not chain:
        return []
    message = (
        f"expected probes of peers of both CAs, found no {' and no '.join(missing)}: no handshake shows that they get in or are refused"
    )
    remedy = "give ca_rotation.old_peers and ca_rotation.new_peers"
    return [Problem("peers_not_probed", f"credential {one.label}", message, remedy, "warning")]


def follows(one: Rotation, live: Live) -> str:
    """Why a stage cannot follow on the one before; empty where it can. Between two, nobody else may have written."""
    before = next((each for each, after in zip(one.chain, one.chain[1:], strict=False) if after is one), None)
    if before is None:
        return ""
    there, expected = content(live, one.refs), secrets(before.wanted.credential)
    strange = sorted(name for name, data in expected.items() if not data.items() <= there.get(name, {}).items())
    return f"{', '.join(strange)} was changed by something else after stage {before.stage}" if strange else ""


def last_tried(chain: Sequence[Rotation]) -> Rotation:
    """The stage that says how a chain ended."""
    return next((one for one in chain if one.outcome not in ("rotated", "unchanged")), chain[-1])
