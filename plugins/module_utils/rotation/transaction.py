# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations as a transaction: recover, plan, look at the old state, switch, prove, then finish or go back. See docs/rotation.md for every outcome."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from ..cluster.client import Cluster, ClusterError
from ..cluster.credentials import Wanted, refs
from ..cluster.reconcile import Interrupted, Overtaken, execute, read
from ..istio.ca_stages import Stage
from ..istio.rotation_marker import Marker, marker_of
from ..istio.rotation_plan import RotationPlan
from ..objects.kinds import SECRET, Ref
from ..objects.plan import Unit
from ..probes import Probe
from ..problems import Problem
from ..progress import tell
from ..tls.facts import rfc3339
from . import holder
from .ca_rotation import CaRotation, goes_by_pool
from .old_connections import Connections
from .proof import Key, Prover, Shake, Target, holders
from .writes import cleaned, content, finishing, is_ours, is_sent, restoring, switching, touching

Outcome: TypeAlias = Literal["unchanged", "rotated", "rolled_back", "failed", "left_alone", "not_tried"]
Asked: TypeAlias = "Sequence[tuple[Rotation, Sequence[Probe]]]"
Probes: TypeAlias = "Callable[[Asked, float], list[dict[str, str]]]"
"""Makes probes of rotations, all side by side, each for so many seconds unless it says otherwise; what failed of each rotation's, and why."""


@dataclass
class Rotation:
    """One credential on its way."""

    wanted: Wanted
    problems: list[Problem]
    probes: Sequence[Probe] = ()
    passing: Sequence[Probe] = ()
    """Probes that hold only when it is rotated."""
    refused: Sequence[Probe] = ()
    """The same of those that are to be refused from then on."""
    refs: tuple[Ref, ...] = ()
    lenient: bool = False
    """Whether what breaks is a warning."""
    unit: Unit = field(default_factory=lambda: Unit(()))
    plan: RotationPlan | None = None
    resumed: bool = False
    """Whether an earlier run has written it already, and only the proof is missing."""
    recovered: str = ""
    """What was done about an earlier run that was killed."""
    target: Target | None = None
    outcome: Outcome = "not_tried"
    reasons: list[str] = field(default_factory=list)
    before: list[Shake] = field(default_factory=list)
    failing_before: dict[str, str] = field(default_factory=dict)
    restored: str = ""
    """How going back ended."""
    applied: bool = False
    """Whether anything of it was written."""
    old: Target | None = None
    """The state before, as it has to be proven when going back."""
    found_by_probes: list[dict[str, Any]] = field(default_factory=list)
    """What its own probes came to afterwards."""
    stage: Stage | None = None
    """Of a CA rotation: the one that this leads to."""
    staged: CaRotation | None = None
    chain: Sequence[Rotation] = field(default=(), repr=False, compare=False)
    """Of a CA rotation: all of its stages, in their order."""
    connections: Connections | None = None
    """What became of those that were open before."""

    @property
    def key(self) -> Key:
        return self.wanted.credential.namespace, self.wanted.credential.name

    @property
    def label(self) -> str:
        return "/".join(self.key)

    @property
    def writes(self) -> bool:
        return any(plan.changed for plan in self.unit.plans)


@dataclass(frozen=True)
class Settings:
    """How a call rotates."""

    rollback: bool = True
    revoke: bool = False
    """Whether nothing may go back to the old key, and nothing may go on with it."""
    end_old_connections: bool = False
    wave: str = "20%"
    max_failures: int = 0
    proof_timeout: float = 60.0
    drain_timeout: float = 90.0


@dataclass
class Transaction:
    """Carries rotations out, in waves."""

    cluster: Cluster
    prover: Prover
    settings: Settings
    rotation_id: str
    probes: Probes
    by: str
    settle_connections: Callable[[Sequence[Rotation]], None] = lambda __: None
    """Counts the old connections of what was proven, and ends them where that was asked for."""
    warnings: list[Problem] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    changed: bool = False

    @property
    def keeps(self) -> bool:
        return self.settings.rollback and not self.settings.revoke

    # --- before

    def look_before(self, rotations: Sequence[Rotation]) -> None:
        """The old state, tried before anything is written: what fails already is told, and not blamed on the rotation."""
        by_key = {one.key: one for one in rotations}
        shakes, found = self.prover.doubts_before(one.target for one in rotations if one.target)
        self.warnings += found
        for shake in shakes:
            by_key[shake.endpoint.key].before.append(shake)
        concerned = [one for one in rotations if one.target and one.plan]
        for one, failing in zip(concerned, self.probes([(one, one.probes) for one in concerned], 0.0), strict=True):
            one.failing_before = failing
            if one.plan and one.failing_before and one.plan.action != "create":
                message = f"probes that failed before the rotation: {'; '.join(list(one.failing_before.values())[:3])}"
                self.warnings.append(
                    Problem(
                        "probe_failed_before",
                        f"credential {one.label}",
                        message,
                        "mend them; this rotation is not judged by them",
                        "warning",
                    )
                )

    # --- the waves

    def run(self, rotations: Sequence[Rotation]) -> None:
        """Every rotation in waves; when too many fail, the current wave goes back and the rest is not tried."""
        failures = 0
        done = 0
        for wave in waves(rotations, self.settings.wave):
            tell("credentials rotated", done, len(rotations))
            failures += self._wave(wave, self.settings.max_failures - failures)
            done += len(wave)
            if failures > self.settings.max_failures:
                return

    def _wave(self, wave: Sequence[Rotation], allowed: int) -> int:
        """How many of a wave failed."""
        written = self._switch(wave)
        targets = [one.target for one in written if one.target]
        unproven = {target.key: target for target in self.prover.prove(targets, self._touch(wave))}
        for one in written:
            one.reasons += (
                [f"not proven within {self.prover.timeout:g} s: {lack}" for lack in unproven[one.key].lacks] if one.key in unproven else []
            )
        self._probe([(one, [*one.probes, *one.passing, *(probe for probe in one.refused if not goes_by_pool(probe))]) for one in written])
        for one in written if self.settings.revoke else ():
            one.reasons += self._still_held(one)
        if not (self.keeps and sum(bool(one.reasons) for one in wave) > allowed):  # or all of it goes back anyway
            self.settle_connections([one for one in written if not one.reasons and (one.writes or one.resumed)])
        self._probe([(one, [probe for probe in one.refused if goes_by_pool(probe)]) for one in written])
        failed = [one for one in wave if one.reasons]
        spent = len(failed) > allowed
        back = [one for one in wave if (one.reasons or spent) and (one.applied or one in written)]
        self._finish([one for one in written if one not in back])
        self._go_back(back)
        return len(failed)

    def _switch(self, wave: Sequence[Rotation]) -> list[Rotation]:
        """Writes; what could not be written is marked as failed. Those that are to be proven."""
        now = self.now()
        # longer than this no run needs for a wave: switch, proof, and the same back
        until = now + timedelta(seconds=3 * self.settings.proof_timeout + 30)
        marker = Marker(self.rotation_id, holder.this_process(), self.by, now, until)
        busy = [one for one in wave if one.writes]
        units = [switching(one.unit, {plan.ref: plan.basis for plan in one.unit.plans}, marker, keep=self.keeps) for one in busy]
        failed: dict[Ref, ClusterError] = {}
        applied: set[Ref] = set()
        try:
            outcome = execute(self.cluster, units, check_mode=False)
            applied = {plan.ref for plan in outcome.applied}
        except Interrupted as interrupted:
            if interrupted.outcome.stopped_by:
                raise
            failed = {plan.ref: error for plan, error in interrupted.outcome.failed}
            applied = {plan.ref for plan in (*interrupted.outcome.applied, *interrupted.outcome.half_done)}
        self.changed = self.changed or bool(applied)
        for one in busy:
            errors = [failed[ref] for ref in one.refs if ref in failed]
            wanted = {plan.ref for plan in one.unit.plans if plan.changed}
            one.applied = bool(wanted & applied)
            one.reasons += list(map(str, errors)) or ([] if wanted <= applied else ["not written: the run ended before it"])
            if one.reasons and not one.applied:
                one.outcome = "left_alone" if any(isinstance(error, Overtaken) for error in errors) else "failed"
        for one in wave:
            if one.target:
                one.target.since = self.clock()
        return [one for one in wave if not one.reasons]

    def _probe(self, asked: Asked) -> None:
        """Those of what has not failed already."""
        asked = [(one, probes) for one, probes in asked if probes and not one.reasons]
        for (one, __), failing in zip(asked, self.probes(asked, self.settings.proof_timeout), strict=True):
            one.reasons += [f"probe {name}: {why}" for name, why in failing.items() if name not in one.failing_before]

    def _still_held(self, one: Rotation) -> list[str]:
        """Where the old certificate lives on under another name: it is as leaked there."""
        if one.plan is None or not one.plan.before.fingerprint or one.plan.before.fingerprint == one.plan.after.fingerprint:
            return []
        found = holders(self.prover.looks, one.plan.before.fingerprint)
        return [f"the old certificate is still held by {name} as credential {secret}: rotate that too" for name, secret in found]

    def _touch(self, wave: Sequence[Rotation]) -> Callable[[Key], bool]:
        by_key = {one.key: one for one in wave}

        def touch(key: Key) -> bool:
            one = by_key[key]
            live = read(self.cluster, [(SECRET, ref) for ref in one.refs])
            units = [
                touching(ref, now, rfc3339(self.now()))
                for ref, now in live.items()
                if now is not None and (is_ours(now, self.rotation_id) or not one.writes)
            ]
            if not is_sent(self.cluster, units):
                return False
            self.changed = True
            return bool(units)

        return touch

    # --- after

    def _finish(self, proven: Sequence[Rotation]) -> None:
        """Removes what was kept of before."""
        for one in proven:
            one.outcome = "rotated" if one.writes or one.resumed else "unchanged"
        busy = [one for one in proven if one.outcome == "rotated"]
        self._settle(busy, finishing)

    def _go_back(self, failed: Sequence[Rotation]) -> None:
        """Restores what was kept of before, and proves it in the same way."""
        kept = [one for one in failed if (one.writes or one.resumed) and self.keeps]
        for one in failed:
            if one not in kept:
                one.outcome = "failed"
                why = "revoke is set" if self.settings.revoke else "rollback is not set" if one.writes else "this run wrote nothing"
                one.restored = f"the new state stays, since {why}" if one.writes else why
        self._settle([one for one in failed if one not in kept and one.writes], finishing)
        self._settle(kept, restoring)
        restored = [one for one in kept if one.outcome != "left_alone"]
        for one in restored:
            one.old = _old_target(one)
        targets = [one.old for one in restored if one.old]
        for target in targets:
            target.since = self.clock()
        unproven = {target.key: target for target in self.prover.prove(targets, self._touch(restored))}
        for one in restored:
            one.outcome = "rolled_back"
            if one.key in unproven:
                one.outcome = "failed"
                lacks = "; ".join(unproven[one.key].lacks[:5])
                one.restored = f"the old state was written back but not proven within {self.prover.timeout:g} s: {lacks}"
            else:
                one.restored = "the old state was restored and proven"

    def _settle(self, rotations: Sequence[Rotation], make: Callable[[Sequence[Ref], Mapping[Ref, Any]], Unit]) -> None:
        """Writes to Secrets that are as this run left them; what somebody else has changed is left alone, and said so."""
        if not rotations:
            return
        live = read(self.cluster, [(SECRET, ref) for one in rotations for ref in one.refs])
        units = []
        for one in rotations:
            changed = {plan.ref for plan in one.unit.plans if plan.changed}
            strange = [
                ref for ref in changed if not (one.resumed or is_ours(live.get(ref), self.rotation_id)) and _expected_there(one, ref)
            ]
            if strange:
                one.outcome = "left_alone"
                one.restored = (
                    f"{', '.join(map(str, strange))} was changed or deleted by something else during the rotation; it was left as it is"
                )
                continue
            units.append(make(one.refs, live))
        try:
            execute(self.cluster, units, check_mode=False)
            self.changed = self.changed or any(unit.plans for unit in units)
        except Interrupted as interrupted:
            if interrupted.outcome.stopped_by:
                raise
            errors = {plan.ref: error for plan, error in interrupted.outcome.failed}
            for one in rotations:
                if found := [f"{ref}: {errors[ref]}" for ref in one.refs if ref in errors]:
                    one.outcome = "left_alone"
                    one.restored = "; ".join(found)


def _expected_there(one: Rotation, ref: Ref) -> bool:
    return next((plan.action for plan in one.unit.plans if plan.ref == ref), "unchanged") != "deleted"


def _old_target(one: Rotation) -> Target | None:
    """What has to be proven of the state before."""
    if one.target is None or one.plan is None or not (one.plan.before.chain or one.plan.before.cas):
        return None
    worked = {shake.endpoint for shake in one.before if shake.served == one.plan.before.fingerprint}
    endpoints = [each for each in one.target.endpoints if not one.before or each in worked or replace(each, required=True) in worked]
    return Target(one.key, one.plan.before, endpoints, one.target.proxies)


def waves(rotations: Sequence[Rotation], size: str) -> Iterable[Sequence[Rotation]]:
    """A canary first, then so many at a time."""
    if len(rotations) <= 1:
        return [rotations] if rotations else []
    count = wave_size(size, len(rotations))
    rest = rotations[1:]
    return [rotations[:1], *(rest[start : start + count] for start in range(0, len(rest), count))]


def wave_problems(text: str) -> list[Problem]:
    number = text.strip().removesuffix("%")
    if re.fullmatch(r"[0-9]{1,6}", number) and int(number) > 0 and not (text.endswith("%") and int(number) > 100):
        return []
    remedy = "write for example 10, or 20%"
    return [Problem("invalid_request", "wave", f"expected a number above 0, or a percentage up to 100%, found {text!r}", remedy)]


def wave_size(text: str, total: int) -> int:
    number = float(text.removesuffix("%"))
    return max(1, math.ceil(total * number / 100) if text.endswith("%") else int(number))


# --- what an earlier run left ------------------------------------------------------------------------------------------------


def under_way(rotations: Iterable[Rotation], live: Mapping[Ref, Any], now: datetime) -> list[Problem]:
    """Rotations of others that go on; what they write is theirs."""
    found = []
    for one in rotations:
        for ref in one.refs:
            marker = marker_of(live.get(ref))
            if marker is None:
                continue
            alive = holder.lives(marker.holder)
            if alive or (alive is None and marker.until > now):
                message = f"expected nobody to rotate it, found the rotation of {marker.by} under way since {rfc3339(marker.started)}; nothing was written"
                remedy = f"wait for it, and run again; where its process is gone, at {rfc3339(marker.until)} or later"
                found.append(Problem("rotation_under_way", f"credential {one.label}", message, remedy))
                break
    return found


def unfinished(one: Rotation, live: Mapping[Ref, Any]) -> Marker | None:
    return next((marker for ref in one.refs if (marker := marker_of(live.get(ref)))), None)


def is_same(one: Rotation, live: Mapping[Ref, Any], desired: Mapping[str, Mapping[str, bytes]]) -> bool:
    """Whether the Secrets hold what is asked for already."""
    there = content(live, one.refs)
    return all(there.get(name) == data for name, data in desired.items())


def refs_of(wanted: Wanted) -> tuple[Ref, ...]:
    return tuple(ref for __, ref in refs(wanted))


def restored_view(refs: Sequence[Ref], live: Mapping[Ref, Any]) -> dict[Ref, Any]:
    """The Secrets as undoing would leave them, for check mode."""
    view = {}
    for plan in restoring(refs, live).plans:
        clean = cleaned({plan.ref: live[plan.ref]})[plan.ref] or {}
        view[plan.ref] = None if plan.action == "deleted" else {**clean, "data": plan.writes[-1].manifest["data"]}
    return view
