# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the arguments of a rotation to its result."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from ..arguments import system_roots
from ..call import Call
from ..cluster.client import Cluster, ClusterError
from ..cluster.credentials import plan_credential
from ..cluster.reconcile import execute, read
from ..credential_arguments import duplicates, items, prepare
from ..istio.credential import secrets
from ..istio.credential_material import describe_data
from ..istio.rotation_plan import Data, approval_problems, make_plan, never_written, plan_id, revocation_problems
from ..istio.served import Users
from ..objects.kinds import SECRET, Ref
from ..objects.plan import problems_of
from ..problems import Problem, errors
from ..tls.facts import rfc3339
from ..tls.roots import Roots
from . import holder, user_probes
from .ca_rotation import from_arguments, refusals
from .evidence import evidence_problems, result_of
from .means import Subject, find_users, judge_means, prover_for
from .old_connections import OldConnections
from .proof import Target, endpoints_of
from .stages import follows, last_tried, stages
from .targets import Surroundings, seconds_problems, surroundings_of, way_problems
from .transaction import Asked, Rotation, Settings, Transaction, is_same, refs_of, restored_view, under_way, unfinished, wave_problems
from .writes import cleaned, content_before, restoring

Live = dict[Ref, Any]
_END_BY_HAND = "restart the gateway's proxies, one after the other, to end them"


def rotate(call: Call) -> dict[str, Any]:
    """The whole of it."""
    params = call.params
    settings = Settings(**{name: params[name] for name in Settings.__dataclass_fields__})
    call.judge(argument_problems(params))
    prepared = _prepared(call)
    cluster = call.connect()
    live = read(cluster, [(SECRET, ref) for one in prepared for ref in one.refs])
    call.judge(under_way(prepared, live, call.now))
    chains = _chains(call, prepared, live)
    rotations, whole = [chain[0] for chain in chains], [one for chain in chains for one in chain]
    recovered = _recover(call, cluster, rotations, live)
    _plan_writes(call, rotations, live)
    call.judge(problem for chain in chains for one in chain[1:] for problem in _plan_unit(call, one, live))
    around = surroundings_of(cluster, list(dict.fromkeys(one.key[0] for one in rotations)), params, call.notes)
    _plan_rotations(call, cluster, chains, live, around)
    plans = [one.plan for one in whole if one.plan]
    if settings.revoke:
        call.judge(problem for plan in plans for problem in revocation_problems(plan))
    if call.params["plan"] is not None:
        call.judge(approval_problems(call.params["plan"], plans))
    subjects = [
        Subject(one.label, one.target, one.plan.servers, one.plan.presented, bool(one.probes or one.passing or one.refused))
        for one in whole
        if one.plan and one.target
    ]
    transaction = Transaction(
        cluster,
        prover_for(around, subjects, settings.proof_timeout),
        settings,
        plan_id(plans),
        lambda asked, timeout: _probed(call, asked, timeout),
        holder.by_whom(os.environ),
        changed=recovered,
    )
    _settle_connections_of(call, transaction, subjects)
    if call.check_mode:
        outcome = execute(cluster, [one.unit for one in rotations], check_mode=True)
        later = any(one.plan.action != "unchanged" for chain in chains for one in chain[1:] if one.plan)
        changed = outcome.changed or recovered or later or any(one.resumed for one in rotations)
        return result_of(call, rotations, transaction, changed=changed)
    judge_means(call, subjects, transaction.prover)
    transaction.look_before([one for one in rotations if one.writes])
    transaction.run(rotations)
    _go_on(call, cluster, chains, transaction)
    call.doubts += transaction.warnings
    return result_of(call, [last_tried(chain) for chain in chains], transaction, changed=transaction.changed)


def _go_on(call: Call, cluster: Cluster, chains: Sequence[Sequence[Rotation]], transaction: Transaction) -> None:
    """The further stages of CA rotations, each where the one before was proven, as long as not too many fail."""
    most = transaction.settings.max_failures
    for number in range(1, max(map(len, chains), default=0)):
        failures = sum(one.outcome in ("failed", "rolled_back", "left_alone") for chain in chains for one in chain)
        ready = [chain[number] for chain in chains if len(chain) > number and chain[number - 1].outcome in ("rotated", "unchanged")]
        if failures > most or not ready:
            return
        try:
            live = read(cluster, [(SECRET, ref) for one in ready for ref in one.refs])
        except ClusterError as error:  # what was proven before is told all the same
            for one in ready:
                one.outcome, one.reasons = "failed", [str(error)]
            return
        for one in ready:
            if why := follows(one, live):
                one.outcome, one.reasons = "left_alone", [why]
            elif problems := errors(_plan_unit(call, one, live)):
                one.outcome, one.reasons = "failed", list(map(str, problems))
        ready = [one for one in ready if not one.reasons]
        transaction.settings = replace(transaction.settings, max_failures=most - failures)
        transaction.look_before([one for one in ready if one.writes])
        transaction.run(ready)


def _probed(call: Call, asked: Asked, timeout: float) -> list[dict[str, str]]:
    """What failed of some probes of each rotation; with a timeout, after it."""
    made = iter(user_probes.made(call, [probe for __, probes in asked for probe in probes], timeout))
    failures = []
    for one, probes in asked:
        results = list(islice(made, len(probes)))
        if timeout:
            one.found_by_probes += [user_probes.shown(result, datetime.now(UTC)) for result in results]
        failures.append(user_probes.failures(results))
    return failures


def argument_problems(params: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the options beside the credentials."""
    problems = [*way_problems(params), *wave_problems(params["wave"])]
    if params["max_failures"] < 0:
        message = f"expected 0 or more, found {params['max_failures']}"
        problems.append(Problem("invalid_request", "max_failures", message, "give the number of rotations that may fail"))
    return [*problems, *seconds_problems(params, "proof_timeout", "drain_timeout"), *evidence_problems(params["evidence"])]


def _prepared(call: Call) -> list[Rotation]:
    roots, anchors = Roots(*system_roots()), dict[Any, Any]()
    listed = call.params["rotations"]
    given = {**call.params, "state": "present", "rotations": None if listed is None else [{**item, "state": None} for item in listed]}
    found = []
    for where, options in items(given, "rotations"):
        wanted, checked, problems = prepare(call, where, options, anchors, roots)
        problems += never_written(checked.problems if checked else ())
        if options["ca_rotation"] is not None and not wanted.credential.certificate and not wanted.credential.private_key:
            problems = [problem for problem in problems if problem.code not in ("incomplete_pair", "nothing_given")]  # it may stay as it is
        staged, strange = from_arguments(options, wanted.credential, where, call.now)
        probes, wrong = user_probes.read(options["probes"], where)
        refused, odd = refusals(options["refused"], where)
        lenient = options["on_invalid"] == "warn"
        wrong += [*strange, *odd]
        found.append(Rotation(wanted, [*problems, *wrong], probes, refused=refused, refs=refs_of(wanted), lenient=lenient, staged=staged))
    call.judge([*duplicates([one.wanted for one in found], "rotations"), *(problem for one in found for problem in one.problems)])
    return found


def _recover(call: Call, cluster: Cluster, rotations: Sequence[Rotation], live: Live) -> bool:
    """Finishes or undoes what a run left that was killed; the Secrets as they are then are in `live`. Whether anything was (or would be) undone."""
    undo = []
    for one in rotations:
        marker = unfinished(one, live)
        if marker is None:
            continue
        earlier = f"the rotation of {marker.by} of {rfc3339(marker.started)} ended between its write and its proof"
        if is_same(one, live, secrets(one.wanted.credential)):
            one.resumed, one.recovered = True, f"{earlier}; it asked for the same, so this run finishes it"
        else:
            one.recovered = f"{earlier}; it asked for another certificate, so it was undone first"
            undo.append(one)
        call.notes.append(f"credential {one.label}: {one.recovered}")
    if undo and not call.check_mode:
        execute(cluster, [restoring(one.refs, live) for one in undo], check_mode=False)
        live.update(read(cluster, [(SECRET, ref) for one in undo for ref in one.refs]))
    elif undo:
        live.update(restored_view([ref for one in undo for ref in one.refs], live))
    return bool(undo)


def _chains(call: Call, rotations: Sequence[Rotation], live: Live) -> list[list[Rotation]]:
    """The stages of each rotation; a plain one is its own only one."""
    made = [stages(one, live, call.now) for one in rotations]
    call.judge(problem for __, problems in made for problem in problems)
    return [chain for chain, __ in made]


def _plan_writes(call: Call, rotations: Sequence[Rotation], live: Live) -> None:
    taken = frozenset(ref for one in rotations for ref in one.refs[:1])
    for one in rotations:
        view = cleaned({ref: live.get(ref) for ref in one.refs}) if one.resumed else live
        one.unit = plan_credential(one.wanted, view, lambda data: describe_data(data, call.now), taken)
    call.judge(problems_of(one.unit for one in rotations))


def _plan_unit(call: Call, one: Rotation, live: Live) -> list[Problem]:
    """The writes of a later stage. Who owns which key is the same before the first one, so most problems are found then."""
    view = cleaned({ref: live.get(ref) for ref in one.refs})
    one.unit = plan_credential(one.wanted, view, lambda data: describe_data(data, call.now))
    return list(problems_of([one.unit]))


def _plan_rotations(call: Call, cluster: Cluster, chains: Sequence[Sequence[Rotation]], live: Live, around: Surroundings) -> None:
    """What each changes, whom it concerns, and what breaks."""
    users = find_users(cluster, chains[0][0].key[0] if chains else "", call.notes)
    found: list[Problem] = []
    for chain in chains:
        before: Data = content_before(live, chain[0].refs)
        for one in chain:
            before = _plan_rotation(one, before, users, around, changed=(one.writes or one.resumed) if one is chain[0] else None)
            found += one.plan.problems if one.plan else ()
    call.judge(found)


def _plan_rotation(one: Rotation, before: Data, users: Users, around: Surroundings, *, changed: bool | None) -> Data:
    """The plan and the proof of one; what the Secrets hold after it."""
    servers, presented = users.of(one.key[1], one.key[0])
    deleted = {plan.ref.name for plan in one.unit.plans if plan.action == "deleted"}
    desired = {**{name: data for name, data in before.items() if name not in deleted}, **secrets(one.wanted.credential)}
    one.plan = make_plan(
        one.key[1],
        one.key[0],
        live=before,
        desired=desired,
        changed=desired != before if changed is None else changed,
        servers=servers,
        presented=presented,
        proxies=around.counts(server.selector for server in servers),
        metadata={"labels": dict(one.wanted.labels), "annotations": dict(one.wanted.annotations)},
        lenient=one.lenient,
        stage=one.stage or "",
    )
    endpoints = endpoints_of(one.key, servers, one.plan.after, around.places)
    one.target = Target(one.key, one.plan.after, endpoints, bool(servers or presented))
    return desired


def _settle_connections_of(call: Call, transaction: Transaction, subjects: Sequence[Subject]) -> None:
    """What is done about old connections: counted where proxies tell, ended where that was asked for."""
    settings, prover = transaction.settings, transaction.prover
    old = OldConnections(transaction.cluster, prover.sources, prover.answering, settings.proof_timeout, settings.drain_timeout)
    used = {subject.label: subject for subject in subjects if subject.used}
    ends = settings.revoke or settings.end_old_connections

    def settle(proven: Sequence[Rotation]) -> None:
        proven = [one for one in proven if not one.chain or one is one.chain[-1]]  # of a CA rotation only the last stage refuses anybody
        concerned = [used[one.label] for one in proven if one.label in used]
        if not concerned:
            return
        found = old.end(concerned) if ends else old.count(concerned)
        transaction.changed = transaction.changed or ends
        for one in proven:
            one.connections = found.get(one.label)
            troubles = one.connections.troubles if one.connections else []
            if settings.revoke:
                one.reasons += [f"old connections may go on: {trouble}; {_END_BY_HAND}" for trouble in troubles]
            else:
                where = f"credential {one.label}"
                call.doubts += [
                    Problem("connections_stay", where, f"old connections may go on: {trouble}", _END_BY_HAND, "warning")
                    for trouble in troubles
                ]

    transaction.settle_connections = settle
