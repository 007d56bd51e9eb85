# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a snapshot to what is wrong with the gateways' TLS in it. Pure.

    findings = diagnose(snapshot, now=now)           # everything
    found = run(view, about=refs)                    # what a module checks before it writes: the same rules

One cause is one finding, however many places have it. The order is stable, so that two reports can be compared.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..istio.snapshot import Snapshot, fitted_snapshot
from ..objects.kinds import Ref, Resource
from .observed import Observed
from .rule import Found, Rule, Severity
from .table import BY_CODE, RULES
from .unread import unread
from .view import MeshView

IGNORE = "meshops.istio/ignore"
"""An annotation of an object: rules that are not to be told of it, with the reason: `MIT0601: a test server` or several, one a line."""
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "hint": 2}
_ID = re.compile(r"(MIT\d{4}|[a-z_]+)\s*(?::\s*(.*))?")


@dataclass(frozen=True)
class Suppression:
    """What is not to be told, and why."""

    rule: str
    """ID or code; `*` for every rule."""
    reason: str
    namespace: str = ""
    """Only in this namespace; empty for all."""


@dataclass(frozen=True)
class Finding:
    id: str
    code: str
    severity: Severity
    title: str
    objects: tuple[Ref, ...]
    """Where to look, the first first."""
    evidence: tuple[str, ...]
    """One sentence for each place: the object, the field, what was expected and found."""
    remedy: str
    suppressed: str = ""
    """Why it is not to be told; empty where it is."""
    places: tuple[tuple[Ref, str], ...] = ()
    """(object, field) of each place, and of what it is a fault together with."""

    def as_result(self) -> dict[str, Any]:
        objects = [{"group": ref.group, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name} for ref in self.objects]
        shown = {"id": self.id, "code": self.code, "severity": self.severity, "title": self.title, "objects": objects}
        return {
            **shown,
            "evidence": list(self.evidence),
            "remedy": self.remedy,
            **({"suppressed": self.suppressed} if self.suppressed else {}),
        }


@dataclass(frozen=True)
class Findings:
    findings: tuple[Finding, ...]
    """Errors first, then warnings and hints; by ID, and then by object."""
    not_looked_at: tuple[str, ...] = ()
    """What could not be told, and why."""
    suppressed: tuple[Finding, ...] = field(default=())


def run(view: MeshView, *, rules: Sequence[Rule] = RULES, about: Collection[Ref] | None = None) -> list[Found]:
    """What the rules find; with `about`, what concerns these objects. A rule whose kinds were not read is skipped (see `unread`)."""
    told = {rule.code for rule in rules if _can_run(view, rule.needs)}
    checks = dict.fromkeys(check for rule in rules if rule.code in told for check in (rule.check, *rule.also))
    found = [one for check in checks for one in check(view) if one.code in told]
    if about is not None:
        found = [one for one in found if any(ref in about for ref in (one.ref, *one.others))]
    return list(dict.fromkeys(found))


def _can_run(view: MeshView, needs: Iterable[Resource]) -> bool:
    return all(resource.key in view.snapshot.read for resource in needs)


def severity_of(one: Found) -> Severity:
    return one.severity or BY_CODE[one.code].severity


def diagnose(
    snapshot: Snapshot,
    *,
    now: datetime,
    min_remaining_days: float = 0,
    suppress: Sequence[Suppression] = (),
    rules: Sequence[Rule] = RULES,
    observed: Observed | None = None,
) -> Findings:
    view = view_of(snapshot, now=now, min_remaining_days=min_remaining_days, observed=observed)
    return findings_in(view, suppress=suppress, rules=rules)


def view_of(snapshot: Snapshot, *, now: datetime, min_remaining_days: float = 0, observed: Observed | None = None) -> MeshView:
    """What rules look at, of objects that may have any shape."""
    fitted, faults = fitted_snapshot(snapshot)
    return MeshView(fitted, now=now, min_remaining_days=min_remaining_days, faults=faults, observed=observed)


def findings_in(view: MeshView, *, suppress: Sequence[Suppression] = (), rules: Sequence[Rule] = RULES) -> Findings:
    groups: dict[tuple[str, str], list[Found]] = {}
    for one in run(view, rules=rules):
        groups.setdefault((one.code, one.cause or f"{one.ref} {one.field} {one.message}"), []).append(one)
    shown, hidden = [], []
    for (code, __), places in groups.items():
        told: list[Found] = []
        silent: list[tuple[Found, str]] = []
        for one in places:
            reason = _reason(view, one, suppress)
            if reason:
                silent.append((one, reason))
            else:
                told.append(one)
        if told:
            shown.append(_finding(BY_CODE[code], told, ""))
        if silent:
            hidden.append(_finding(BY_CODE[code], [one for one, __ in silent], silent[0][1]))
    return Findings(tuple(sorted(shown, key=_key)), unread(view, rules), tuple(sorted(hidden, key=_key)))


def _finding(rule: Rule, places: Sequence[Found], suppressed: str) -> Finding:
    ordered = sorted(places, key=lambda one: (str(one.ref), one.field, one.message))
    objects = dict.fromkeys(one.ref for one in ordered)
    others = dict.fromkeys(ref for one in ordered for ref in one.others)
    evidence = dict.fromkeys(f"{one.ref}{f', {one.field}' if one.field else ''}: {one.message}" for one in ordered)
    remedies = dict.fromkeys(one.remedy for one in ordered)
    severity = min((one.severity or rule.severity for one in ordered), key=_ORDER.__getitem__)
    return Finding(
        rule.id,
        rule.code,
        severity,
        rule.title,
        tuple(dict.fromkeys((*objects, *others))),
        tuple(evidence),
        "; ".join(remedies),
        suppressed,
        tuple(dict.fromkeys(place for one in ordered for place in _places(one))),
    )


def _places(one: Found) -> Iterator[tuple[Ref, str]]:
    yield one.ref, one.field
    if one.other_field and one.others:
        yield one.others[0], one.other_field


def _key(one: Finding) -> tuple[Any, ...]:
    return _ORDER[one.severity], one.id, tuple(map(str, one.objects)), one.evidence


def _reason(view: MeshView, one: Found, suppress: Sequence[Suppression]) -> str:
    names = (BY_CODE[one.code].id, one.code, "*")
    for each in suppress:
        if each.rule in names and each.namespace in ("", one.ref.namespace or one.ref.name):
            return each.reason
    metadata = (view.snapshot.objects.get(one.ref) or {}).get("metadata") or {}
    for line in str((metadata.get("annotations") or {}).get(IGNORE) or "").splitlines():
        found = _ID.fullmatch(line.strip())
        if found and found[1] in names:
            return found[2] or f"annotation {IGNORE}"
    return ""
