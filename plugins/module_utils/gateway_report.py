# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the arguments of a report to its files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .call import Call
from .problems import Problem, Rejected
from .regular_file import LARGEST_RESULT, contents
from .report.data import digest
from .report.formats import FORMATS
from .report.model import Cluster, Report
from .report.reading import cluster_of, not_looked_at, report_of
from .report.words import headline, summary
from .whole_file import replace_file


def run(call: Call) -> dict[str, Any]:
    """The whole of it. Everything is read and made before anything is written."""
    params = call.params
    call.judge(_argument_problems(params))
    report = report_of([_cluster(number, one) for number, one in enumerate(params["clusters"])])
    mark = digest(report)
    places = {"metrics": params["metrics_directory"] or params["directory"]}
    more = {"metrics": {"limit": params["metrics_limit"]}}
    made = {
        Path(places.get(name, params["directory"])) / f"{params['name']}{suffix}": text(report, mark, **more.get(name, {}))
        for name, (suffix, text) in FORMATS.items()
        if name in params["formats"]
    }
    files = [_written(path, text, mark, call.check_mode) for path, text in made.items()]
    return {"changed": any(one["changed"] for one in files), "files": files, **_told(report)}


def _argument_problems(params: Mapping[str, Any]) -> Iterator[Problem]:
    for option in ("directory", "metrics_directory"):
        if params[option] and Path(params[option]).exists() and not Path(params[option]).is_dir():
            found = "expected a directory, found something else"
            yield Problem("unwritable", f"{option} {params[option]}", found, "correct the path")
    if "/" in params["name"] or params["name"] in ("", ".", ".."):
        yield Problem("invalid_request", "name", f"expected the name of a file, found {params['name']!r}", "leave out directories")
    if params["metrics_limit"] < 1:
        yield Problem(
            "invalid_request", "metrics_limit", f"expected 1 or more, found {params['metrics_limit']}", "correct it, or leave it out"
        )
    if not params["clusters"]:
        yield Problem("invalid_request", "clusters", "expected one or more, found none", "name the clusters of the report")
    for number, one in enumerate(params["clusters"]):
        if (one["result"] is None) == (one["error"] is None):
            found = f"expected either result or error, found {'neither' if one['error'] is None else 'both'}"
            yield Problem("invalid_request", f"clusters[{number}] ({one['name']})", found, "give the one that applies")
    for name, times in Counter(one["name"] for one in params["clusters"]).items():
        if times > 1:
            found = f"expected every cluster once, found {name} {times} times"
            yield Problem("invalid_request", "clusters", found, "give each its own name")


def _cluster(number: int, one: Mapping[str, Any]) -> Cluster:
    """What is known of one cluster. Raises Rejected where its file is none of gateway_diagnose."""
    if one["result"] is None:
        return not_looked_at(one["name"], one["error"].strip())
    where = f"clusters[{number}].result {one['result']}"
    try:
        return cluster_of(one["name"], json.loads(contents(one["result"], LARGEST_RESULT)), where)
    except OSError as error:
        found = f"expected a file that gateway_diagnose wrote (save), found: {error.strerror or error}"
        raise Rejected(Problem("unreadable_result", where, found, "correct the path, or its permissions")) from None
    except ValueError:
        found = "expected a file that gateway_diagnose wrote (save), found no JSON"
        raise Rejected(Problem("unreadable_result", where, found, "correct the path")) from None


def _written(path: Path, text: str, mark: str, check_mode: bool) -> dict[str, Any]:
    """Whether a file says something new. It is written, too, where only the time of looking is new, so that a report never looks older than it is."""
    try:
        there = path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
        if there != text and not check_mode:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, text)
    except OSError as error:
        found = f"expected to write it, found: {error.strerror or error}"
        raise Rejected(
            Problem("unwritable", f"directory {path.parent}: {path.name}", found, "correct the path, or its permissions")
        ) from None
    return {"path": str(path), "changed": there != text and mark not in there}


def _told(report: Report) -> dict[str, Any]:
    broken = [host for host in report.hosts if host.state == "broken"]
    return {
        "headline": headline(report),
        "summary": summary(report),
        "counts": {"error": report.count("error"), "warning": report.count("warning"), "hint": report.count("hint")},
        "hosts": {"all": len(report.hosts), "broken": len(broken)},
        "clusters": {one.name: "not_looked_at" if one.error else one.state for one in report.clusters},
    }
