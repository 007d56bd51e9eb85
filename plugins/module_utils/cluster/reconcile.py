# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what should be to what is: read everything once, decide locally, write only what differs, say what was done.

    live = read(cluster, refs)                      # GETs or LISTs
    units = [Unit(plan), ...]                       # pure: plan_apply, plan_delete (objects/plan.py), or a planner of one's own
    outcome = execute(cluster, units, check_mode=...)

Units are independent of each other and run side by side; the plans of one unit run in their order, because an order is what keeps
traffic flowing (see the builders in `istio/`).

Every apply names the version of the object that its plan was made for, so that of two runs at once none undoes the other's work unseen:
the later one finds its own wish fulfilled, or ends with `Overtaken`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ..istio.names import CA_SUFFIX
from ..objects.compare import differences
from ..objects.kinds import Manifest, Ref, Resource, ref_of, resource_of, with_kind
from ..objects.ownership import FIELD_MANAGER
from ..objects.plan import Plan, Unit, Write
from ..problems import Problem, Rejected
from ..progress import tell
from .client import CONNECTIONS, ApiError, Cluster, ClusterError

GETS_AT_MOST = 8
"""Up to so many objects of a kind in a namespace are read by name, so that a Role with resourceNames suffices; more by one LIST.
A Secret and its `-cacert` count as one: eight credentials are eight."""


_RACES = 5  # so often an apply is sent again because of changes that do not concern it


@dataclass
class Outcome:
    """What was done (in check mode: what would be)."""

    plans: list[Plan] = field(default_factory=list)
    """Everything that was planned, in order."""
    applied: list[Plan] = field(default_factory=list)
    """What was written to the end."""
    failed: list[tuple[Plan, ClusterError]] = field(default_factory=list)
    half_done: list[Plan] = field(default_factory=list)
    """What failed after the first of its writes: an object that is deleted and not made anew, for example."""
    rehearsed: bool = False
    """Whether the failures are those of a dry run, so that nothing was written."""
    notes: list[str] = field(default_factory=list)
    doubts: list[Problem] = field(default_factory=list)
    """In check mode: what the run itself would fail from, unless an earlier task changes it."""
    stopped_by: str = ""
    """The signal that ended the run early."""

    @property
    def changed(self) -> bool:
        return any(plan.changed for plan in self.plans)

    @property
    def skipped(self) -> list[Plan]:
        """Changes that were not tried, because something before them failed or a signal came."""
        tried = {id(plan) for plan in (*self.applied, *(plan for plan, __ in self.failed))}
        return [plan for plan in self.plans if plan.changed and id(plan) not in tried]

    def diff(self) -> list[dict[str, Any]]:
        return [
            {
                "before_header": str(plan.ref),
                "after_header": str(plan.ref),
                "before": dict(plan.before or {}),
                "after": dict(plan.after or {}),
            }
            for plan in self.plans
            if plan.changed
        ]


class Overtaken(ClusterError):
    """Something else changed, made or deleted the object after it was read."""

    def __init__(self, ref: Ref, before: Manifest | None, now: Manifest | None) -> None:
        if now is None:
            what, left = "was deleted by something else during this run", "It was not made again"
        else:
            known, entries = ((item or {}).get("metadata", {}).get("managedFields") or [{}] for item in (before, now))
            # times are whole seconds: of two entries of the same second it is the one that was not there before
            last = max(entries, key=lambda entry: (str(entry.get("time") or ""), entry not in known))
            who, when = last.get("manager") or "(unnamed)", last.get("time") or "an unknown time"
            what, left = f"was changed by field manager {who} at {when} during this run", "Nothing was overwritten"
        super().__init__(f"{ref} {what}. {left}; run again")


class Stopped(BaseException):
    """A signal asked to stop. Not an Exception: nothing on the way may take it for a failure of its own."""


class Interrupted(ClusterError):
    """Some writes failed; `outcome` says what was applied before, and what was not tried."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        causes = list(dict.fromkeys(str(error) for __, error in outcome.failed))
        if outcome.stopped_by:
            causes.insert(0, f"stopped by {outcome.stopped_by}")
        shown = "; ".join(causes[:3]) + (f"; and {len(causes) - 3} more" if len(causes) > 3 else "")
        if outcome.rehearsed:
            super().__init__(f"{shown}. Refused in a dry run: {_named(plan for plan, __ in outcome.failed)}; nothing was written")
            return
        half_done = f" Only partly applied: {_named(outcome.half_done)}." if outcome.half_done else ""
        super().__init__(
            f"{shown}.{half_done} Applied before that: {_named(outcome.applied)}; failed: {_named(plan for plan, __ in outcome.failed)}; "
            f"not tried: {_named(outcome.skipped)}. Running again continues where this run ended"
        )


def _named(plans: Iterable[Plan], most: int = 10) -> str:
    names = [str(plan.ref) for plan in plans]
    return ", ".join(names[:most] or ["nothing"]) + (f" and {len(names) - most} more" if len(names) > most else "")


def read(cluster: Cluster, wanted: Iterable[tuple[Resource, Ref]]) -> dict[Ref, dict[str, Any] | None]:
    """The live objects; None for what does not exist. A kind in a namespace costs up to eight GETs, or one paged LIST."""
    groups: dict[tuple[Resource, str], dict[Ref, None]] = {}
    for resource, ref in wanted:
        groups.setdefault((resource, ref.namespace), {})[ref] = None
    found: dict[Ref, dict[str, Any] | None] = {}
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        try:
            answers = {}
            for (resource, namespace), refs in groups.items():
                if len({ref.name.removesuffix(CA_SUFFIX) for ref in refs}) <= GETS_AT_MOST:
                    answers.update({ref: threads.submit(cluster.get, resource, namespace, ref.name) for ref in refs})
                    continue
                by_name = {item["metadata"]["name"]: item for item in cluster.list(resource, namespace or None)}
                found.update({ref: with_kind(by_name[ref.name], resource) if ref.name in by_name else None for ref in refs})
            found.update({ref: answer.result() for ref, answer in answers.items()})
        except (Stopped, KeyboardInterrupt):
            cluster.stopping.set()  # the pool waits for what is under way, which is not to be tried again
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def owned(cluster: Cluster, resource: Resource, namespace: str | None, label_selector: str) -> list[dict[str, Any]]:
    """The live objects that carry certain labels, for pruning."""
    return [with_kind(item, resource) for item in cluster.list(resource, namespace, label_selector=label_selector)]


def execute(cluster: Cluster, units: Sequence[Unit], *, check_mode: bool, rehearse: bool = False) -> Outcome:
    """Carries the plans out; in check mode, and before the first write where `rehearse` is set, asks the server's dry run instead.

    Rehearsing keeps an object that an admission webhook refuses from being found out halfway through a unit. What goes to several namespaces
    is asked for once in each in any case, so that one that does not exist is found out before anything is written to the others.
    Raises Interrupted when anything failed, and Rejected where namespaces are missing.
    """
    outcome = Outcome(plans=[plan for unit in units for plan in unit.plans])
    busy = [unit for unit in units if any(plan.changed for plan in unit.plans)]
    if not busy:
        return outcome
    plans = [plan for unit in busy for plan in unit.plans if plan.changed]
    in_full = check_mode or (rehearse and sum(len(plan.writes) for plan in plans) > 1)
    asked = plans if in_full else _first_in_each_namespace(plans)
    if asked:
        _rehearse(cluster, asked, outcome, everything=plans, check_mode=check_mode, thoroughly=in_full)
        if outcome.failed:
            outcome.rehearsed = True
            raise Interrupted(outcome)
        if check_mode:
            return outcome
    _carry_out(cluster, busy, outcome, len(plans))
    if outcome.failed or outcome.skipped:
        raise Interrupted(outcome)
    return outcome


def _carry_out(cluster: Cluster, units: Sequence[Unit], outcome: Outcome, count: int) -> None:
    """Writes the units side by side, each in its order; a signal lets what is under way finish."""
    lock = threading.Lock()
    stop = threading.Event()

    def carry_out(unit: Unit) -> None:
        for plan in unit.plans:
            if not plan.changed:
                continue
            if stop.is_set():
                return
            done, basis = 0, plan.basis
            try:
                for write in plan.writes:
                    basis = _send(cluster, write, basis)
                    done += 1
            except ClusterError as error:
                if error.hopeless:
                    stop.set()
                with lock:
                    outcome.failed.append((plan, error))
                    outcome.half_done += [plan] if done else []
                return
            with lock:
                outcome.applied.append(plan)
            tell("objects written", len(outcome.applied), count)

    try:
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            try:
                for unit in [threads.submit(carry_out, unit) for unit in units]:
                    unit.result()
            except BaseException:
                stop.set()  # requests under way are finished when the pool closes, so that what was applied is known
                cluster.stopping.set()
                raise
    except (Stopped, KeyboardInterrupt) as stopped:
        outcome.stopped_by = str(stopped) or "SIGINT"


def _send(cluster: Cluster, write: Write, basis: Manifest | None, *, dry_run: bool = False) -> Manifest | None:
    """The object as it is afterwards. `basis` is what it is expected to be now."""
    resource, ref = resource_of(write.manifest), ref_of(write.manifest)
    if write.verb == "delete":
        try:
            cluster.delete(resource, ref.namespace, ref.name, uid=write.uid)
        except ApiError as error:
            if not error.is_stale:
                raise
            raise Overtaken(ref, basis, cluster.get(resource, ref.namespace, ref.name)) from None
        return None
    for __ in range(_RACES):
        try:
            return cluster.apply(resource, _expecting(basis, write.manifest), force=write.force, dry_run=dry_run)
        except ApiError as error:
            if not error.is_stale:
                raise
        now = cluster.get(resource, ref.namespace, ref.name)
        if now is not None and _is_done(write.manifest, basis, now):
            return now  # another run wanted the same; or this very request was carried out, and its answer lost
        if now is None or basis is None or not _is_same_to(write.manifest, basis, now):
            raise Overtaken(ref, basis, now)
        basis = now
    raise Overtaken(ref, basis, now)


def _expecting(basis: Manifest | None, manifest: Manifest) -> Manifest:
    """The manifest for an apply that the server refuses where the object is another than `basis` by now.

    For one that does not exist there is no such rule, but no object ever has the version 1: the server does not look at it when it creates.
    """
    found = {"resourceVersion": "1"} if basis is None else (basis.get("metadata") or {})
    expected = {name: found[name] for name in ("resourceVersion", "uid") if name in found}
    return {**manifest, "metadata": {**manifest["metadata"], **expected}}


def _is_done(manifest: Manifest, before: Manifest | None, now: Manifest) -> bool:
    """Whether the object is as the manifest wants it, and holds no new key of a Secret, which istiod might read first."""
    keys = [set((item or {}).get("data") or {}) for item in (manifest, before, now)]
    return not differences(manifest, now, FIELD_MANAGER) and keys[2] <= keys[0] | keys[1]


def _is_same_to(manifest: Manifest, before: Manifest, now: Manifest) -> bool:
    """Whether what happened in between (a status, a label of somebody else's) changes nothing about what is to be done."""
    content = [{key: value for key, value in item.items() if key not in ("metadata", "status")} for item in (before, now)]
    identity = [(item.get("metadata") or {}).get("uid") for item in (before, now)]
    return (
        content[0] == content[1]
        and identity[0] == identity[1]
        and differences(manifest, before, FIELD_MANAGER) == differences(manifest, now, FIELD_MANAGER)
    )


def _first_in_each_namespace(plans: Sequence[Plan]) -> list[Plan]:
    """One new object of each namespace that may be missing or going away, where that would be found out after a write elsewhere."""
    made: dict[str, Plan] = {}
    for plan in plans:
        if plan.action == "created" and plan.ref.namespace:
            made.setdefault(plan.ref.namespace, plan)
    there = {plan.ref.namespace for plan in plans if plan.action != "created"}
    if len(made.keys() | there) == 1:
        return []  # all of them or none
    return [plan for namespace, plan in made.items() if namespace not in there]


def _rehearse(
    cluster: Cluster, plans: Sequence[Plan], outcome: Outcome, *, everything: Sequence[Plan], check_mode: bool, thoroughly: bool
) -> None:
    """The server's dry run of every apply. What it cannot be asked becomes a note in check mode; what it refuses, a failure.

    A namespace that is missing or going away is an error (Rejected). In check mode one that is missing is a warning: an earlier task of the
    same run may be about to make it, and only then will the run itself succeed.
    Unless `thoroughly`, only whether the namespaces can take new objects is of interest: a webhook need not know dry runs.
    """
    stop = threading.Event()

    def try_out(plan: Plan) -> tuple[ClusterError | None, str | None]:
        """What the server says against it, and why it could not be asked."""
        for write in plan.writes:
            if write.verb != "apply":
                return None, None  # what follows a deletion would be judged against the object that is still there
            if stop.is_set():
                return None, "the dry run ended early"
            try:
                _send(cluster, write, plan.basis, dry_run=True)
            except ApiError as error:
                if error.missing_verb:
                    return None, f"this user may not {error.missing_verb} {error.resource.plural}"
                if error.hopeless:
                    stop.set()
                return error, None
            except ClusterError as error:
                if error.hopeless:
                    stop.set()
                return error, None
        return None, None

    unasked: dict[str, list[Plan]] = {}
    refusing: dict[str, list[str]] = {}
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for number, (plan, (error, why)) in enumerate(zip(plans, threads.map(try_out, plans), strict=True), 1):
            tell("dry runs", number, len(plans))
            if isinstance(error, ApiError) and (error.is_missing_namespace or error.is_dying_namespace):
                names = refusing.setdefault("missing" if error.is_missing_namespace else "terminating", [])
                names += [plan.ref.namespace] if plan.ref.namespace not in names else []
            elif error and (thoroughly or error.hopeless):
                outcome.failed.append((plan, error))
            if why:
                unasked.setdefault(why, []).append(plan)
    if check_mode and "missing" in refusing:
        outcome.doubts.append(_to_come(sorted(refusing.pop("missing")), everything))
    if refusing:
        raise Rejected([_no_namespace(what, sorted(names), everything) for what, names in refusing.items()])
    if check_mode:
        outcome.notes += [f"{_named(several)}: not validated by the server ({why})" for why, several in unasked.items()]


def _to_come(names: Sequence[str], plans: Sequence[Plan]) -> Problem:
    several = "namespaces" if len(names) > 1 else "namespace"
    objects = _named((plan for plan in plans if plan.ref.namespace in names and plan.action == "created"), 3)
    message = (
        f"expected the {several} of {objects} to exist, found no {', '.join(names)}: without check mode the task fails, and writes nothing, unless "
        "an earlier task makes it"
    )
    remedy = f"make it first (kubectl create namespace {names[0]}), or correct the name"
    return Problem("namespace_missing", f"{several} {', '.join(names)}", message, remedy, "warning")


def _no_namespace(what: str, names: Sequence[str], plans: Sequence[Plan]) -> Problem:
    several = "namespaces" if len(names) > 1 else "namespace"
    where = f"{several} {', '.join(names)}"
    objects = _named((plan for plan in plans if plan.ref.namespace in names and plan.action == "created"), 3)
    if what == "missing":
        message = f"expected the {several} of {objects} to exist, found no {', '.join(names)}; nothing was written"
        return Problem("namespace_missing", where, message, f"make it first (kubectl create namespace {names[0]}), or correct the name")
    message = f"expected the {several} of {objects} to take new objects, but {', '.join(names)} is being deleted; nothing was written"
    return Problem("namespace_terminating", where, message, "create the namespace again when it is gone, then run again")
