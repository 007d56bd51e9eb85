# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for a credential's Secrets, so that after the write istiod reads what was asked for, and nothing else. Pure.

Server-side apply alone does not give that. Keys of other managers stay, and istiod may read those first: `tls.crt` applied to a Secret
that has `cert` and `key` is never served. So the Secret as it would be is read with istiod's own rules before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from ..istio.credential import Credential, decode, manifest, read_as_istiod, secrets, type_can_hold
from ..istio.keepers import CERT_MANAGER, LAST_APPLIED, Keeper, keepers, last_applied_keys
from ..istio.names import CA_SUFFIX
from ..objects.compare import Difference, differences, owners
from ..objects.kinds import SECRET, Ref, Resource
from ..objects.ownership import FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, is_ours, owner_of
from ..objects.plan import Plan, Unit, Write, plan_delete
from ..problems import Problem

_CA_KEYS = ("cacert", "crl", "ca.crt", "ca.crl")

Live: TypeAlias = "Mapping[Ref, Mapping[str, Any] | None]"
Describe = Callable[[Mapping[str, bytes]], dict[str, Any]]
"""From a Secret's data to what may be shown of it."""


@dataclass(frozen=True)
class Wanted:
    """One credential as it should be, and how far the writing may go."""

    credential: Credential
    where: str
    """The argument that asks for it, for error messages."""
    absent: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    force: bool = False
    replace: bool = False
    from_cert_manager: bool = False


def refs(wanted: Wanted) -> list[tuple[Resource, Ref]]:
    """What has to be read before planning: the Secret, and the `-cacert` Secret in which istiod looks for the CA first."""
    credential = wanted.credential
    names = [credential.name]
    if not _is_ca_alone(credential):
        names.append(credential.name + CA_SUFFIX)
    return [(SECRET, Ref("Secret", credential.namespace, name)) for name in names]


def _is_ca_alone(credential: Credential) -> bool:
    """Whether istiod would not look for its CA in another Secret."""
    return credential.ca_key is not None or credential.name.endswith(CA_SUFFIX)


def plan_credential(
    wanted: Wanted, live: Live, describe: Describe, taken: frozenset[Ref] = frozenset(), going: frozenset[Ref] = frozenset()
) -> Unit:
    """What is to be done about one credential. `taken` are Secrets that other credentials of the same call ask for, `going` those that
    other credentials of the same call want absent."""
    credential = wanted.credential
    twin = Ref("Secret", credential.namespace, credential.name + CA_SUFFIX)
    if wanted.absent:
        plans = [_plan_absence(wanted, ref, live.get(ref), describe) for __, ref in refs(wanted)[:1]]
        if owner_of(live.get(twin)) == credential.owner and twin not in taken | going:
            plans.append(_removal(twin, live.get(twin), describe, force=wanted.force))
        return Unit(tuple(plans))
    parts = secrets(credential)
    plans = [
        _plan_secret(wanted, Ref("Secret", credential.namespace, name), data, live.get(Ref("Secret", credential.namespace, name)), describe)
        for name, data in parts.items()
    ]
    if twin.name in parts:
        if twin in taken | going:
            problem = _given_twice(wanted, twin, "layout split of the one makes the other")
            plans = [Plan(plan.ref, "unchanged", problems=(problem,) if plan.ref == twin else ()) for plan in plans]
    elif not _is_ca_alone(credential) and twin not in going:
        plans += _plan_twin(wanted, twin, live.get(twin), describe, taken)
    return Unit(tuple(plans))


def _given_twice(wanted: Wanted, twin: Ref, why: str) -> Problem:
    name = wanted.credential.name
    return Problem(
        "ca_given_twice",
        wanted.where,
        f"istiod reads the client CA from {twin.name} before {name}, and this call is about both: {why}",
        f"keep the CA in one of the two: leave ca_certificate out of {name}, or {twin.name} out of the list",
    )


def _plan_absence(wanted: Wanted, ref: Ref, live: Mapping[str, Any] | None, describe: Describe) -> Plan:
    plan = _removal(ref, live, describe, force=wanted.force)
    if not plan.changed:
        return plan
    problems = list(plan.problems)
    for keeper in kept_by(live):
        if keeper.tool != CERT_MANAGER:
            message = f"{keeper.tool} keeps this Secret for {keeper.source} ({keeper.evidence}) and will make it again"
            remedy = f"take it away there: delete or change {keeper.source}"
            problems.append(Problem("kept_by_another", str(ref), message, remedy, "warning"))
        elif not wanted.from_cert_manager:
            message = f"cert-manager keeps this Secret for its {keeper.source} and would make it again at once"
            problems.append(Problem("cert_manager_owned", str(ref), message, f"delete the {keeper.source}, or set override_cert_manager"))
    return replace(plan, problems=tuple(problems))


def _removal(ref: Ref, live: Mapping[str, Any] | None, describe: Describe, *, force: bool, reason: str = "state is absent") -> Plan:
    """Deletes a Secret of ours. What was once taken over with force may hold others' keys, which are not ours to delete."""
    plan = plan_delete(ref, SECRET, live, force=force, reason=reason)
    foreign = [] if force or not plan.changed else sorted(_others_keys(live or {}).items())
    if foreign and not plan.problems:
        shown = ", ".join(f"{key} (set by {manager})" for key, manager in foreign)
        message = f"expected only keys that this collection set, found {shown}, and deleting the Secret deletes them too"
        remedy = "move them to a Secret of their own, or set force_conflicts to have them deleted with it"
        plan = replace(plan, problems=(Problem("foreign_key", str(ref), message, remedy),))
    return _show_facts(plan, live, describe)


def _others_keys(live: Mapping[str, Any]) -> dict[str, str]:
    """Keys of the data that others set and this collection did not, with their managers."""
    managers = {path[1]: names for path, names in owners(live) if path[0] == "data" and len(path) == 2}
    return {
        key: ", ".join(sorted(names)) for key, names in managers.items() if FIELD_MANAGER not in names and key in (live.get("data") or {})
    }


def kept_by(live: Mapping[str, Any] | None) -> tuple[Keeper, ...]:
    """Who else keeps a Secret, and will undo what is written to it."""
    if live is None:
        return ()
    managers = {name for path, names in owners(live) if path[0] == "data" for name in names}
    return keepers(live, managers - {FIELD_MANAGER})


def _plan_secret(wanted: Wanted, ref: Ref, data: Mapping[str, bytes], live: Mapping[str, Any] | None, describe: Describe) -> Plan:
    credential = wanted.credential

    def make(live_type: str | None, content: Mapping[str, bytes] = data, **emptied: str) -> dict[str, Any]:
        annotations = {**wanted.annotations, **emptied}
        return manifest(credential, ref.name, content, live_type=live_type, labels=wanted.labels, annotations=annotations)

    if live is None:
        return Plan(ref, "created", ("does not exist",), (Write("apply", make(None), force=wanted.force),), None, describe(data))
    problems = [*_cert_manager_problems(wanted, ref, live), *_terminating(ref, live), *_not_for_mounting(wanted, ref, live)]
    live_type = str(live.get("type") or "Opaque")
    desired = make(live_type)
    found = differences(desired, live, FIELD_MANAGER)
    foreign = _foreign_keys(data, live, found, ca_only=ref.name.endswith(CA_SUFFIX))
    left = _old_keys(desired, live)
    if not found and not foreign and not problems and not (left and wanted.force):
        return Plan(ref, "unchanged", problems=(_old_key_problem(ref, left),) if left else ())
    problems += _keeper_warnings(ref, live)
    before, after = describe(decode(live)), describe(data)
    if not type_can_hold(live_type, data):
        return _replacement(
            wanted, ref, live, make(None), before, after, f"its type {live_type} cannot hold the keys {', '.join(data)}", problems
        )
    if live.get("immutable") and (foreign or any(difference.path[0] == "data" for difference in found)):  # its labels can be changed
        return _replacement(wanted, ref, live, make(live_type), before, after, "it is immutable", problems)
    reasons = _reasons(found, before, after)
    writes: list[Write] = []
    if left and wanted.force:
        reasons.append(f"annotation {LAST_APPLIED} holds another private key ({', '.join(left)}): removed")
    elif left:
        problems.append(_old_key_problem(ref, left))
    if foreign:
        problems += [] if wanted.force else [_foreign_key_problem(ref, key, manager, data) for key, manager in foreign.items()]
        reasons += [
            f"{key} (set by {manager}) would be read by istiod and was not asked for: taken over and removed"
            for key, manager in foreign.items()
        ]
        # Two applies: an apply without the keys would leave them to their manager, and a merge patch would make them ours under another
        # operation, with which the next apply conflicts. Emptied, they are ours alone and istiod passes over them at once.
        # The same goes for the annotation.
    if foreign or (left and wanted.force):
        emptied = {LAST_APPLIED: ""} if left and wanted.force else {}
        writes.append(Write("apply", make(live_type, {**data, **dict.fromkeys(foreign, b"")}, **emptied), force=True))
    if not wanted.force:
        problems += [_conflict(ref, difference) for difference in found if difference.manager]
    writes.append(Write("apply", desired, force=wanted.force))
    return Plan(ref, "updated", tuple(reasons), tuple(writes), before, after, tuple(problems), live)


def _plan_twin(wanted: Wanted, twin: Ref, live: Mapping[str, Any] | None, describe: Describe, taken: frozenset[Ref]) -> list[Plan]:
    """The `-cacert` Secret beside a credential that does not ask for one: it is read before the credential's own CA."""
    credential = wanted.credential
    if twin in taken:
        if not credential.ca_certificate:
            return []  # the CA is kept in a credential of its own
        problem = _given_twice(wanted, twin, f"{credential.name} with a CA of its own would never be asked for it")
        return [Plan(twin, "unchanged", problems=(problem,))]
    if live is None:
        return []
    if owner_of(live) == credential.owner:
        reason = f"{credential.name} no longer keeps its CA in a Secret of its own"
        return [_removal(twin, live, describe, force=wanted.force, reason=reason)]
    if not credential.ca_certificate or _same_ca(credential, live):
        return []
    plan = plan_delete(twin, SECRET, live, force=True, reason=f"istiod would read it instead of the CA in {credential.name}")
    problems: tuple[Problem, ...] = ()
    if not wanted.force:
        problems = (
            Problem(
                "shadowed_by_cacert",
                str(twin),
                f"istiod reads this Secret instead of the CA in {credential.name}, and it holds something else",
                f"delete it, put the CA there (layout: split, or a credential of its own named {twin.name}), or set force_conflicts to have it deleted",
            ),
        )
    if plan.changed:
        plan = replace(plan, problems=problems)
    return [_show_facts(plan, live, describe)]


def _same_ca(credential: Credential, live: Mapping[str, Any]) -> bool:
    reading = read_as_istiod(decode(live))
    return reading.ca_certificate == credential.ca_certificate and reading.ca_crl == credential.crl


def _foreign_keys(data: Mapping[str, bytes], live: Mapping[str, Any], found: tuple[Difference, ...], *, ca_only: bool) -> dict[str, str]:
    """Keys that istiod would read after an apply of `data` though nobody asked for them, with their managers."""
    if (live.get("data") or {}).keys() <= data.keys():  # nearly always, and quick to tell
        return {}
    managers = {path[1]: names for path, names in owners(live) if path[0] == "data" and len(path) == 2}
    dropped = {difference.path[1] for difference in found if difference.operation == "remove" and difference.path[0] == "data"}
    predicted = {**{key: value for key, value in decode(live).items() if key not in dropped}, **data}
    extra: list[str] = []
    while found_now := [key for key in _read_keys(predicted, ca_only=ca_only) if key not in data]:
        extra += found_now  # and without them istiod may read yet others
        predicted = {key: value for key, value in predicted.items() if key not in extra}
    return {key: ", ".join(sorted(managers.get(key, frozenset()) - {FIELD_MANAGER})) or "an unknown manager" for key in extra}


def _read_keys(data: Mapping[str, bytes], *, ca_only: bool) -> tuple[str, ...]:
    """The keys that istiod reads; of a Secret whose name ends in `-cacert` it takes the CA alone."""
    return read_as_istiod({key: value for key, value in data.items() if key in _CA_KEYS} if ca_only else data).keys


def _foreign_key_problem(ref: Ref, key: str, manager: str, data: Mapping[str, bytes]) -> Problem:
    return Problem(
        "foreign_key",
        str(ref),
        f"expected only the keys {', '.join(data)} for istiod to read, found {key} (set by field manager {manager}), which istiod reads too or first",
        f"remove {key} from the Secret, or set force_conflicts to have it taken over and removed",
    )


def _conflict(ref: Ref, difference: Difference) -> Problem:
    return Problem(
        "conflict",
        str(ref),
        f"{difference.field} was set to another value by field manager {difference.manager}",
        "set force_conflicts to take it over, or leave the Secret to that manager",
    )


def _old_keys(desired: Mapping[str, Any], live: Mapping[str, Any]) -> list[str]:
    """The Secret's keys under which `kubectl apply`'s annotation holds another private key than the Secret is to have."""
    return [key for key, value in last_applied_keys(live).items() if value not in desired["data"].values()]


def _old_key_problem(ref: Ref, keys: list[str]) -> Problem:
    return Problem(
        "old_key_in_annotation",
        str(ref),
        f"the annotation {LAST_APPLIED} holds another private key ({', '.join(keys)}) than the Secret, from a kubectl apply in the past: whoever "
        "reads the Secret reads that key too",
        "set force_conflicts to have the annotation removed, or remove it with kubectl annotate --namespace "
        f"{ref.namespace} secret {ref.name} {LAST_APPLIED}-",
        "warning",
    )


def _keeper_warnings(ref: Ref, live: Mapping[str, Any]) -> list[Problem]:
    return [
        Problem(
            "kept_by_another",
            str(ref),
            f"{keeper.tool} keeps this Secret for {keeper.source} ({keeper.evidence}) and will undo the change {keeper.undoes}",
            f"{keeper.remedy}; or name the credential otherwise",
            "warning",
        )
        for keeper in kept_by(live)
        if keeper.tool != CERT_MANAGER
    ]


def _cert_manager_problems(wanted: Wanted, ref: Ref, live: Mapping[str, Any]) -> list[Problem]:
    keeper = next((keeper for keeper in keepers(live) if keeper.tool == CERT_MANAGER), None)
    if not keeper or wanted.from_cert_manager:
        return []
    return [
        Problem(
            "cert_manager_owned",
            str(ref),
            f"cert-manager keeps this Secret for its {keeper.source} and would undo the change at the next renewal",
            f"let cert-manager keep it and put the client CA in a credential of its own named {ref.name}{CA_SUFFIX}, which istiod reads first; "
            "or set override_cert_manager",
        )
    ]


def _terminating(ref: Ref, live: Mapping[str, Any]) -> list[Problem]:
    if not (live.get("metadata") or {}).get("deletionTimestamp"):
        return []
    return [Problem("terminating", str(ref), "the Secret is being deleted", "wait until its finalizers are done and run again")]


def _not_for_mounting(wanted: Wanted, ref: Ref, live: Mapping[str, Any]) -> list[Problem]:
    """Pods show every key of a Secret that they mount, so a CA is not added to somebody else's."""
    if wanted.credential.ca_key is None or wanted.force or is_ours(live):
        return []
    message = f"expected no Secret, or one labelled {MANAGED_BY_LABEL}={MANAGED_BY}, found one that something else made"
    return [Problem("foreign_object", str(ref), message, "choose another name, or set force_conflicts to add the key to it")]


def _replacement(
    wanted: Wanted,
    ref: Ref,
    live: Mapping[str, Any],
    desired: Mapping[str, Any],
    before: dict[str, Any],
    after: dict[str, Any],
    why: str,
    problems: list[Problem],
) -> Plan:
    """Delete and create anew. Proxies that run keep the old pair meanwhile; one that starts just then waits for the new one."""
    if not wanted.replace:
        problems = [
            *problems,
            Problem(
                "needs_replace",
                str(ref),
                f"the Secret cannot be changed in place: {why}",
                "set replace: true to have it deleted and created again (running gateways keep serving the old pair in between)",
            ),
        ]
    elif not wanted.force and not is_ours(live):
        problems = [
            *problems,
            Problem(
                "foreign_object",
                str(ref),
                f"expected a Secret labelled {MANAGED_BY_LABEL}={MANAGED_BY}, found one that something else made, and replacing deletes it",
                "delete it by hand, or set force_conflicts too",
            ),
        ]
    uid = (live.get("metadata") or {}).get("uid")
    writes = (Write("delete", desired, uid=uid), Write("apply", desired, force=wanted.force))
    return Plan(ref, "replaced", (f"cannot be changed in place: {why}",), writes, before, after, tuple(problems))


def _reasons(found: tuple[Difference, ...], before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Differences as a person would say them: a certificate by its fingerprints rather than as `data.tls.crt differs`."""
    reasons = []
    for what in ("certificate", "ca_certificate"):
        old, new = (before.get(what) or {}).get("fingerprint_sha256"), (after.get(what) or {}).get("fingerprint_sha256")
        if old and new and old != new:
            reasons.append(
                f"{what} {old[:11]}… replaced by {new[:11]}… (serial {after[what]['serial']}, valid until {after[what]['not_after']})"
            )
    return [*reasons, *map(str, found)]


def _show_facts(plan: Plan, live: Mapping[str, Any] | None, describe: Describe) -> Plan:
    """The plan with what may be shown of a Secret instead of its bytes."""
    return replace(plan, before=describe(decode(live)) if live and plan.changed else None, after=None)
