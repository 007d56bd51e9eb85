# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the arguments of a diagnosis to its result."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from .arguments import duration
from .call import Call
from .cluster.collect import collect
from .diagnosis.diagnose import Finding, Findings, Suppression, findings_in, view_of
from .diagnosis.explain import Explainer
from .diagnosis.inventory import inventory
from .diagnosis.observed import Handshake, is_wrong
from .diagnosis.table import RULES
from .diagnosis.view import MeshView
from .istio.snapshot import EVERYWHERE, Snapshot, snapshot_of
from .manifests import Source, read_manifests
from .objects.kinds import Ref
from .problems import Problem, Rejected
from .regular_file import LARGEST_RESULT, contents
from .rotation.targets import surroundings_of, way_problems
from .survey import observe
from .whole_file import replace_file

_SYMPTOMS = "10"  # the subject of rules about what gateways and proxies show
_SHOWN = 20

Earlier = Mapping[tuple[Any, ...], Mapping[str, Any]]
Sources = Mapping[Ref, Source]


def run(call: Call) -> dict[str, Any]:
    """The whole of it."""
    params = call.params
    call.judge(_argument_problems(params))
    remaining = duration(params["min_remaining"], where="min_remaining") / timedelta(days=1)
    suppress = [Suppression(one["id"], one["reason"], one["namespace"]) for one in params["suppress"]]
    earlier = _earlier(params["since"])
    sources: dict[Ref, Source] = {}
    snapshot, view = _look(call, remaining, sources)
    found = findings_in(view, suppress=suppress)
    judged: Sequence[Finding] = found.findings
    if params["changes"]:
        made = read_manifests(params["changes"], "changes")
        call.notes += made.notes
        sources |= made.sources
        known = {_identity(one) for one in found.findings}
        view = view_of(_with_changes(snapshot, made.objects), now=call.now, min_remaining_days=remaining)
        found = findings_in(view, suppress=suppress)
        judged = [one for one in found.findings if _identity(one) not in known]
    return _result(call, view, found, judged, earlier, sources)


def _look(call: Call, remaining: float, sources: dict[Ref, Source]) -> tuple[Snapshot, MeshView]:
    """What is there, and it with what gateways and proxies show. Of what is read from files, `sources` gets where it stands."""
    params = call.params
    if params["paths"]:
        made = read_manifests(params["paths"], "paths")
        call.notes += made.notes
        sources |= made.sources
        snapshot = snapshot_of(made.objects)
        return snapshot, view_of(snapshot, now=call.now, min_remaining_days=remaining)
    cluster = call.connect()
    snapshot = collect(cluster, params["namespaces"], call.notes)
    view = view_of(snapshot, now=call.now, min_remaining_days=remaining)
    if not (params["handshakes"] or params["proxies"]):
        return snapshot, view
    around = surroundings_of(cluster, params["namespaces"] or [snapshot.root_namespace], params, call.notes)
    ways = {"handshakes": params["handshakes"], "proxies": params["proxies"], "timeout": params["request_timeout"]}
    return snapshot, replace(view, observed=observe(view, around, now=call.now, notes=call.notes, **ways))


def _with_changes(snapshot: Snapshot, objects: Sequence[Mapping[str, Any]]) -> Snapshot:
    changed = snapshot.with_desired(objects)
    kinds = {ref.key: EVERYWHERE for ref in changed.objects if ref.key not in snapshot.read}
    return replace(changed, read={**snapshot.read, **kinds})


def _argument_problems(params: Mapping[str, Any]) -> list[Problem]:
    problems = way_problems(params)
    if params["paths"]:
        problems += [
            Problem("invalid_request", name, "expected a cluster, found paths: files cannot be asked", f"leave out {name}, or paths")
            for name in ("handshakes", "proxies")
            if params[name]
        ]
    known = {name for rule in RULES for name in (rule.id, rule.code)} | {"*"}
    for number, one in enumerate(params["suppress"]):
        if one["id"] not in known:
            found = f"expected the ID or code of a rule, found {one['id']!r}"
            problems.append(Problem("unknown_rule", f"suppress[{number}].id", found, "take one of docs/problems.md, or * for all"))
    if params["certificate_content"] and not params["survey"]:
        found = "expected survey: true beside it, in which certificates are returned"
        problems.append(Problem("invalid_request", "certificate_content", found, "set survey: true, or leave it out"))
    if params["save"] and not Path(params["save"]).parent.is_dir():
        found = f"expected the directory {Path(params['save']).parent}, found none"
        problems.append(Problem("unwritable", f"save {params['save']}", found, "make it, or correct the path"))
    return problems


# --- the result ---------------------------------------------------------------------------------------------------------


def _result(
    call: Call, view: MeshView, found: Findings, judged: Sequence[Finding], earlier: Earlier | None, sources: Sources
) -> dict[str, Any]:
    params = call.params
    explainer = Explainer(view, found.findings)
    result = {"changed": False, **told(view, found, judged, sources), "explained": [explainer.explain(host) for host in params["explain"]]}
    if params["survey"]:
        result["survey"] = inventory(view, explainer, judged, content=params["certificate_content"])
    if not params["handshakes"]:
        result.pop("handshakes", None)
    if earlier is not None:
        result["compared"] = _compared(judged, earlier, sources)
    if params["save"]:
        _save(call, result)
    counted = ("error", "warning") if params["fail_on"] == "warning" else ("error",)
    shown = zip(judged, result["findings"], strict=True)
    serious = [one for one, told_as in shown if one.severity in counted and not told_as.get("explained_by")]
    if params["fail_on"] != "never" and serious:
        result |= {"failed": True, "msg": _message(serious, bool(params["changes"]), sources)}
    return result


def told(view: MeshView, found: Findings, judged: Sequence[Finding], sources: Sources | None = None) -> dict[str, Any]:
    """What is returned of every diagnosis; `handshakes` where the view has what was observed."""
    causes, sources = _causes(judged), sources or {}
    result: dict[str, Any] = {
        "findings": [_with_causes(one, causes, sources) for one in judged],
        "counts": {severity: sum(one.severity == severity for one in judged) for severity in ("error", "warning", "hint")},
        "not_looked_at": list(found.not_looked_at),
        "suppressed": [_located(one, sources) for one in found.suppressed],
        "objects": len(view.snapshot.objects),
    }
    if view.observed:
        result["handshakes"] = [
            {"host": one.host, "place": one.place, "served": one.served, "right": _is_right(view, one), "failure": one.failure or None}
            for one in view.observed.handshakes
        ]
    return result


def _is_right(view: MeshView, one: Handshake) -> bool:
    """Whether what was served is what the Secret has, as far as that is known."""
    return one.served is not None and not is_wrong(view, one)


def _located(one: Finding, sources: Sources) -> dict[str, Any]:
    """A finding, with the file and the line of each object that was read from one."""
    shown = one.as_result()
    for described, ref in zip(shown["objects"], one.objects, strict=True):
        if source := sources.get(ref):
            described |= {"file": source.file, "line": source.line}
    return shown


def _with_causes(one: Finding, causes: Mapping[Ref, Collection[str]], sources: Sources) -> dict[str, Any]:
    """A finding; where it is a symptom, with the IDs of the findings about the same objects that explain it."""
    if one.id[3:5] != _SYMPTOMS:
        return _located(one, sources)
    return {**_located(one, sources), "explained_by": sorted({cause for ref in one.objects for cause in causes.get(ref, ())})}


def _causes(findings: Sequence[Finding]) -> Mapping[Ref, Collection[str]]:
    """The IDs of what can explain a symptom, by object."""
    found: dict[Ref, set[str]] = {}
    for one in findings:
        if one.id[3:5] != _SYMPTOMS and one.severity == "error":
            for ref in one.objects:
                found.setdefault(ref, set()).add(one.id)
    return found


def _message(serious: Sequence[Finding], changes: bool, sources: Sources) -> str:
    head = f"{len(serious)} {'problem' if len(serious) == 1 else 'problems'}{' that the changes bring' if changes else ''}"
    lines = [
        f"{one.id} {one.title}: {one.evidence[0]}{_more(one)}{_stands(one, sources)}. {_sentence(one.remedy)}. [{one.code}]"
        for one in serious[:_SHOWN]
    ]
    rest = [f"and {len(serious) - _SHOWN} more, in the result's findings"] if len(serious) > _SHOWN else []
    return "\n- ".join([f"{head}:", *lines, *rest])


def _more(one: Finding) -> str:
    return f" (and {len(one.evidence) - 1} more places)" if len(one.evidence) > 1 else ""


def _stands(one: Finding, sources: Sources) -> str:
    found = next((sources[ref] for ref in one.objects if ref in sources), None)
    return f" ({found.file}, line {found.line})" if found else ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


# --- since ----------------------------------------------------------------------------------------------------------------


def _identity(one: Finding) -> tuple[Any, ...]:
    return one.id, tuple(map(str, one.objects))


def _identity_in(one: Mapping[str, Any]) -> tuple[Any, ...]:
    refs = [Ref(each["kind"], each["namespace"], each["name"], each["group"]) for each in one["objects"]]
    return one["id"], tuple(map(str, refs))


def _earlier(path: str | None) -> Earlier | None:
    """The findings of an earlier result. Raises Rejected where the file is none."""
    if path is None:
        return None
    try:
        found = json.loads(contents(path, LARGEST_RESULT))
        return {_identity_in(one): one for one in found["findings"]}
    except OSError as error:
        what, remedy = f"found: {error.strerror or error}", "correct the path, or its permissions"
    except (ValueError, KeyError, TypeError):
        what, remedy = "found something else", "name a file that the option save wrote"
    raise Rejected(Problem("unreadable_result", f"since {path}", f"expected an earlier result of this module, {what}", remedy))


def _compared(judged: Sequence[Finding], earlier: Earlier, sources: Sources) -> dict[str, Any]:
    now = {_identity(one): one for one in judged}
    return {
        "new": [_located(one, sources) for key, one in now.items() if key not in earlier],
        "gone": [dict(one) for key, one in earlier.items() if key not in now],
        "unchanged": len(now.keys() & earlier.keys()),
    }


def _save(call: Call, result: Mapping[str, Any]) -> None:
    path = Path(call.params["save"])
    try:
        replace_file(path, json.dumps({**result, "notes": call.notes}, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        raise Rejected(
            Problem("unwritable", f"save {path}", f"expected to write it, found: {error.strerror}", "correct the path")
        ) from None
