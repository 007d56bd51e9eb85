# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as SARIF 2.1.0, for code scanning and other tools that collect findings. Pure.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from .markup import markdown
from .model import Cluster, Finding, Report, Severity, Source
from .words import FINDINGS, moment

_LEVEL: dict[Severity, str] = {"error": "error", "warning": "warning", "hint": "note"}
_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def as_sarif(report: Report, digest: str) -> str:
    """One run; results in the report's order. An object is a location by its name, and by the file and line that it was read from, which tools show
    beside the source; else by an address below its cluster's."""
    told = [one for cluster in report.clusters for one in (*cluster.findings, *cluster.suppressed)]
    rules = {one.id: one for one in sorted(told, key=lambda one: one.id, reverse=True)}
    ids = sorted(rules)
    run = {
        "tool": {
            "driver": {
                "name": "meshops.istio gateway_diagnose",
                "informationUri": "https://github.com/meshops/istio",
                "rules": [_rule(rules[one]) for one in ids],
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(one) for one in report.clusters],
        "results": [_result(one, ids.index(one.id)) for one in told],
        "properties": {"content": digest},
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, sort_keys=True) + "\n"


def _rule(one: Finding) -> dict[str, Any]:
    """With everything that GitHub's code scanning demands of a rule."""
    page = f"{FINDINGS}#{one.id.lower()}"
    return {
        "id": one.id,
        "name": "".join(part.capitalize() for part in one.code.split("_")),
        "shortDescription": {"text": one.title},
        "fullDescription": {"text": f"{one.title}."},
        "help": {
            "text": f"{one.title}. What happens, and what to do: {page}",
            "markdown": f"{markdown(one.title)}. [What happens, and what to do]({page})",
        },
        "helpUri": page,
        "defaultConfiguration": {"level": _LEVEL[one.severity]},
    }


def _invocation(one: Cluster) -> dict[str, Any]:
    texts = [one.error] if one.error else list(one.not_looked_at)
    level = "error" if one.error else "note"
    time = {"endTimeUtc": moment(one.looked_at)} if one.looked_at else {}
    return {
        "executionSuccessful": not one.error,
        "toolExecutionNotifications": [{"level": level, "message": {"text": f"{one.name}: {text}"}} for text in texts],
        **time,
    }


def _result(one: Finding, index: int) -> dict[str, Any]:
    text = "\n".join([*one.evidence, f"To do: {one.remedy}"])
    # one that stands in a file first: tools show a result at its first location only
    places = sorted(one.located, key=lambda place: place[1] is None)
    result = {
        "ruleId": one.id,
        "ruleIndex": index,
        "level": _LEVEL[one.severity],
        "message": {"text": text},
        "locations": [_location(one.cluster, *each) for each in places[:1]],
        "relatedLocations": [{"id": number, **_location(one.cluster, *each)} for number, each in enumerate(places[1:], 1)],
        "partialFingerprints": {"findingHash/v1": _fingerprint(one)},
        "properties": {"cluster": one.cluster, "code": one.code},
    }
    if one.suppressed:
        result["suppressions"] = [{"kind": "external", "justification": one.suppressed}]
    return result


def _location(cluster: str, name: str, source: Source | None) -> dict[str, Any]:
    kind, __, rest = name.partition(" ")
    address = "/".join(quote(part, safe="") for part in (cluster, kind, *rest.split("/")))
    if source:  # absolute only where it is in no repository; then it is a URI of its own
        address = ("file://" if source.file.startswith("/") else "") + quote(source.file)
    return {
        "physicalLocation": {"artifactLocation": {"uri": address}, "region": {"startLine": source.line if source else 1}},
        "logicalLocations": [{"fullyQualifiedName": f"{cluster}/{name}", "name": rest or name, "kind": "resource"}],
    }


def _fingerprint(one: Finding) -> str:
    """The same as long as the finding is about the same objects, whatever its evidence says of dates."""
    return hashlib.sha256(json.dumps([one.cluster, one.id, one.objects]).encode()).hexdigest()[:32]
