# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proof of credentials that were written plainly, without a transaction: nothing is kept of before and nothing goes back.

It exists for batches: where Envoy refuses one Secret, good ones that were sent with it may stay on their old certificate, and nobody would know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..call import Call
from ..cluster.client import Cluster
from ..cluster.credentials import Wanted, refs
from ..cluster.reconcile import read
from ..istio.credential import secrets
from ..istio.rotation_plan import state_of
from ..objects.kinds import SECRET, Ref
from ..problems import Problem
from ..tls.facts import rfc3339
from .means import Subject, find_users, judge_means, prover_for
from .proof import Key, Prover, Target, endpoints_of
from .targets import seconds_problems, surroundings_of, way_problems
from .writes import content, is_sent, touching, untouching

Live: TypeAlias = "Mapping[Ref, Any]"


@dataclass
class Written:
    """Credentials that are written and then proven."""

    cluster: Cluster
    prover: Prover
    subjects: dict[Key, Subject]
    refs: dict[Key, tuple[Ref, ...]]
    desired: dict[Key, dict[str, dict[str, bytes]]]
    touched: bool = False
    """Whether anything was sent once more, which is a write."""

    def prove(self) -> None:
        """Asks until all are proven or the time is over."""
        now = self.prover.clock()
        targets = [one.target for one in self.subjects.values() if one.used]
        for target in targets:
            target.since = now
        self.prover.prove(targets, self._touch)

    def _touch(self, key: Key) -> bool:
        """Two changes of the Secret that cancel each other out, so that nothing of it is left."""
        for make in (touching, untouching):
            live = read(self.cluster, [(SECRET, ref) for ref in self.refs[key]])
            there = content(live, self.refs[key])
            if any(there.get(name) != data for name, data in self.desired[key].items()):
                return False  # somebody else has changed it
            stamp = rfc3339(self.prover.now())
            units = [make(ref, now, stamp) for ref, now in live.items() if now is not None and ref.name in self.desired[key]]
            if not is_sent(self.cluster, units):
                return False
            self.touched = True
        return True

    def result(self, key: Key) -> dict[str, Any] | None:
        """What was found out about one; None for what nothing uses."""
        subject = self.subjects.get(key)
        if subject is None or not subject.used:
            return None
        target = subject.target
        shown: dict[str, Any] = {"proven": target.proven_after is not None, **target.as_result()}
        return shown if shown["proven"] else {**shown, "lacks": target.lacks[:20]}

    def failure(self) -> str:
        """What is not proven, as the message of a failed task; empty when all is."""
        targets = [one.target for one in self.subjects.values() if one.used]
        unproven = [target for target in targets if target.proven_after is None]
        if not unproven:
            return ""
        lines = []
        for target in unproven[:20]:
            why = "not taken although it was sent by itself, so it is refused for its own sake: " if target.touched else ""
            lines.append(f"{'/'.join(target.key)}: {why}{'; '.join(target.lacks[:3])}")
        rest = [f"and {len(unproven) - 20} more"] if len(unproven) > 20 else []
        head = f"{len(unproven)} of {len(targets)} credentials were written and not proven within {self.prover.timeout:g} s"
        return "\n- ".join([f"{head}:", *lines, *rest, *_held_up(targets)])


def _held_up(targets: Sequence[Target]) -> list[str]:
    names = ["/".join(target.key) for target in targets if target.held_up_by]
    if not names:
        return []
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return [f"held up by that, sent once more by themselves and proven since: {shown}"]


def argument_problems(params: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the options of a proof."""
    return [*way_problems(params), *seconds_problems(params, "proof_timeout")]


def prepare(call: Call, cluster: Cluster, wanted: Sequence[Wanted], live: Live) -> Written:
    """Looks at who uses the credentials and at what can be reached, before anything is written."""
    present = [ours for ours in wanted if not ours.absent]
    around = surroundings_of(cluster, list(dict.fromkeys(ours.credential.namespace for ours in present)), call.params, call.notes)
    users = find_users(cluster, present[0].credential.namespace if present else "", call.notes)
    subjects, listed, desired = {}, {}, {}
    for ours in present:
        credential = ours.credential
        key = (credential.namespace, credential.name)
        servers, presented = users.of(credential.name, credential.namespace)
        listed[key] = tuple(ref for __, ref in refs(ours))
        desired[key] = secrets(credential)
        state = state_of(credential.name, {**content(live, listed[key]), **desired[key]})
        target = Target(key, state, endpoints_of(key, servers, state, around.places), bool(servers or presented))
        subjects[key] = Subject("/".join(key), target, servers, presented)
    prover = prover_for(around, subjects.values(), call.params["proof_timeout"])
    judge_means(call, list(subjects.values()), prover)
    __, doubts = prover.doubts_before(one.target for one in subjects.values() if one.used)
    call.judge(doubts)
    return Written(cluster, prover, subjects, listed, desired)


def with_proof(finished: dict[str, Any], proof: Written) -> dict[str, Any]:
    """A module's result with what was proven; failed where something was not."""
    proof.prove()
    for shown in finished["credentials"]:
        shown["proof"] = proof.result((shown["namespace"], shown["name"]))
    failure = proof.failure()
    return {**finished, "changed": finished["changed"] or proof.touched, **({"failed": True, "msg": failure} if failure else {})}
