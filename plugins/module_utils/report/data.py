# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as data, and as JSON: what docs/report.schema.json describes. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from typing import Any

from .model import Certificate, Cluster, Finding, Host, Report
from .words import moment, overall

SCHEMA = "https://github.com/meshops/istio/blob/main/docs/report.schema.json"
TRIED = re.compile(r"\bafter \d+ attempts?\b")
"""As cluster/faults.py says it; how many there were depends on how busy the machine is."""
VERSION = 1
"""Counts up when a field changes its meaning or goes away."""


def as_data(report: Report) -> dict[str, Any]:
    return {
        "$schema": SCHEMA,
        "version": VERSION,
        "looked_at": _time(report.looked_at),
        "state": overall(report),
        "counts": {"problems": report.count("error"), "warnings": report.count("warning"), "hints": report.count("hint")},
        "clusters": [_cluster(one) for one in report.clusters],
        "certificates": [_certificate(one) for one in report.certificates],
    }


def as_json(report: Report, digest: str) -> str:
    return json.dumps({**as_data(report), "content": digest}, indent=2, sort_keys=True) + "\n"


def digest(report: Report) -> str:
    """Names what a report says, whenever that was looked at and however often a cluster was tried that does not answer: two reports with one
    digest differ in these only."""
    text = TRIED.sub("after some attempts", json.dumps(as_data(report), sort_keys=True))
    for when in {moment(one.looked_at) for one in report.clusters if one.looked_at}:
        text = text.replace(when, "now")  # evidence may name it, too
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _cluster(one: Cluster) -> dict[str, Any]:
    shaken = None
    if one.handshakes is not None:
        shaken = [
            {
                "host": each.host,
                "place": each.place,
                "served": each.served or None,
                "right": each.right,
                "failure": each.failure or None,
                "at": moment(each.at),
            }
            for each in one.handshakes
        ]
    return {
        "name": one.name,
        "state": "not_looked_at" if one.error else one.state,
        "error": one.error or None,
        "looked_at": _time(one.looked_at),
        "findings": [_finding(each) for each in one.findings],
        "suppressed": [{**_finding(each), "reason": each.suppressed} for each in one.suppressed],
        "hosts": [_host(each) for each in one.hosts],
        "handshakes": shaken,
        "not_looked_at": list(one.not_looked_at),
        "notes": list(one.notes),
        "compared": _compared(one),
    }


def _compared(one: Cluster) -> dict[str, Any] | None:
    if one.compared is None:
        return None
    new = [each.number for each in one.findings if each.is_new]
    return {"new": new, "gone": [_finding(each) for each in one.compared.gone], "unchanged": one.compared.unchanged}


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "id": one.id,
        "code": one.code,
        "severity": one.severity,
        "title": one.title,
        "objects": list(one.objects),
        "evidence": list(one.evidence),
        "remedy": one.remedy,
        "explained_by": list(one.explained_by),
        "sources": [{"object": name, "file": source.file, "line": source.line} for name, source in one.located if source],
    }


def _host(one: Host) -> dict[str, Any]:
    stages = [
        {"stage": each.name, "state": each.state, "what": each.what, "objects": list(each.objects), "findings": list(each.findings)}
        for each in one.stages
    ]
    return {
        "host": one.name,
        "direction": one.direction,
        "state": one.state,
        "verdict": one.verdict,
        "stages": stages,
        "findings": list(one.findings),
    }


def _certificate(one: Certificate) -> dict[str, Any]:
    return {
        "fingerprint_sha256": one.fingerprint,
        "serial": one.serial,
        "subject": one.subject,
        "names": list(one.names),
        "issuer": one.issuer,
        "issued_by": one.issued_by or None,
        "not_before": moment(one.not_before),
        "not_after": moment(one.not_after),
        "days_left": one.days_left,
        "state": one.state,
        "key": one.key,
        "is_ca": one.is_ca,
        "places": [{"cluster": each.cluster, "object": each.object, "role": each.role} for each in one.places],
        "used_by": list(one.used_by),
        "hosts": list(one.hosts),
        **({"pem": one.pem} if one.pem else {}),
    }


def _time(when: datetime | None) -> str | None:
    return moment(when) if when else None
