# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From results of `gateway_diagnose` (as JSON holds them) to a report. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ..objects.kinds import Ref
from ..problems import Problem, Rejected
from .model import (
    DIRECTIONS,
    ROLES,
    SEVERITIES,
    STATES,
    Certificate,
    Cluster,
    Comparison,
    Finding,
    Handshake,
    Host,
    Place,
    Report,
    Source,
    Stage,
)


def cluster_of(name: str, result: Any, where: str) -> Cluster:
    """One cluster's part. Raises Rejected where the result is none, or has no survey."""
    if isinstance(result, Mapping) and "findings" in result and "survey" not in result:
        message = "expected a result with a survey, found one without"
        raise Rejected(Problem("no_survey", where, message, "run gateway_diagnose with survey: true"))
    try:
        return _cluster(name, result)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        message = f"expected a result of gateway_diagnose, found something else ({type(error).__name__}: {error})"
        raise Rejected(Problem("unreadable_result", where, message, "name a file that gateway_diagnose wrote (save)")) from None


def not_looked_at(name: str, error: str) -> Cluster:
    return Cluster(name, error=error or "it was not looked at")


def report_of(clusters: Sequence[Cluster]) -> Report:
    return Report(tuple(sorted(clusters, key=lambda one: one.name)))


def _cluster(name: str, result: Mapping[str, Any]) -> Cluster:
    survey = result["survey"]
    looked_at = _time(survey["looked_at"])
    remaining = float(survey["min_remaining_days"])
    if not math.isfinite(remaining):
        raise ValueError(f"min_remaining_days {remaining}")
    findings = tuple(_finding(name, number, one) for number, one in enumerate(result["findings"]))
    shaken, compared = result.get("handshakes"), result.get("compared")
    if compared is not None:
        new = {_identity(_finding(name, number, one)) for number, one in enumerate(compared["new"])}
        findings = tuple(replace(one, is_new=_identity(one) in new) for one in findings)
    return Cluster(
        name,
        looked_at=looked_at,
        findings=findings,
        suppressed=tuple(_finding(name, number, one) for number, one in enumerate(result["suppressed"])),
        hosts=tuple(_host(name, one, len(findings)) for one in survey["hosts"]),
        certificates=tuple(_certificate(name, one, looked_at, remaining) for one in survey["certificates"]),
        handshakes=None if shaken is None else tuple(_handshake(name, one, looked_at) for one in shaken),
        not_looked_at=_texts(result["not_looked_at"]),
        notes=_texts(result.get("notes") or ()),
        compared=None if compared is None else _comparison(name, compared),
    )


def _comparison(name: str, found: Mapping[str, Any]) -> Comparison:
    gone = tuple(_finding(name, number, one) for number, one in enumerate(found["gone"]))
    return Comparison(len(found["new"]), gone, int(found["unchanged"]))


def _identity(one: Finding) -> tuple[str, tuple[str, ...]]:
    """What is the same in two results, as gateway_diagnose compares them."""
    return one.id, one.objects


def _finding(cluster: str, number: int, one: Mapping[str, Any]) -> Finding:
    return Finding(
        cluster,
        number,
        str(one["id"]),
        str(one["code"]),
        _one_of(SEVERITIES, "severity", one["severity"]),
        str(one["title"]),
        tuple(map(_object, one["objects"])),
        _texts(one["evidence"]),
        str(one["remedy"]),
        _texts(one.get("explained_by") or ()),
        str(one.get("suppressed") or ""),
        tuple(map(_source, one["objects"])) if any("file" in each for each in one["objects"]) else (),
    )


def _source(one: Mapping[str, Any]) -> Source | None:
    """Where an object stands, if it was read from a file."""
    if "file" not in one:
        return None
    line = int(one["line"])
    if line < 1:
        raise ValueError(f"line {line}")
    return Source(str(one["file"]), line)


def _object(one: Mapping[str, Any]) -> str:
    return str(Ref(one["kind"], one["namespace"], one["name"], one["group"]))


def _host(cluster: str, one: Mapping[str, Any], findings: int) -> Host:
    stages = tuple(
        Stage(str(each["stage"]), _state(each["state"]), str(each["what"]), _texts(each["objects"]), _texts(each["findings"]))
        for each in one["stages"]
    )
    numbers = tuple(_one_of(range(findings), "finding", int(number)) for number in one["findings"])
    direction = _one_of(DIRECTIONS, "direction", one["direction"])
    return Host(cluster, str(one["host"]), direction, _state(one["state"]), str(one["verdict"]), stages, numbers)


def _certificate(cluster: str, one: Mapping[str, Any], now: datetime, remaining: float) -> Certificate:
    not_after = _time(one["not_after"])
    return Certificate(
        fingerprint=str(one["fingerprint_sha256"]),
        serial=str(one["serial"]),
        subject=str(one["subject"]),
        names=_texts(one["names"]),
        issuer=str(one["issuer"]),
        issued_by=str(one["issued_by"] or ""),
        not_before=_time(one["not_before"]),
        not_after=not_after,
        key=str(one["key"]),
        is_ca=bool(one["is_ca"]),
        places=tuple(Place(cluster, str(each["object"]), _one_of(ROLES, "role", each["role"])) for each in one["places"]),
        used_by=_texts(one["used_by"]),
        hosts=_texts(one["hosts"]),
        days_left=(not_after - now).days,
        min_remaining_days=remaining,
        pem=str(one.get("pem") or ""),
    )


def _handshake(cluster: str, one: Mapping[str, Any], at: datetime) -> Handshake:
    return Handshake(
        cluster, str(one["host"]), str(one["place"]), str(one["served"] or ""), bool(one["right"]), str(one["failure"] or ""), at
    )


def _state(text: Any) -> Any:
    return _one_of(STATES, "state", text)


def _one_of(known: Sequence[Any], what: str, found: Any) -> Any:
    if found not in known:
        raise ValueError(f"{what} {found!r}")
    return found


def _texts(items: Any) -> tuple[str, ...]:
    if isinstance(items, str | Mapping):
        raise TypeError(f"expected a list, found {type(items).__name__}")
    return tuple(str(item) for item in items)


def _time(text: Any) -> datetime:
    """RFC 3339, in UTC."""
    return datetime.fromisoformat(str(text)).astimezone(UTC)
