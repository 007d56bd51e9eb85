# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a report: written once, replaced in one step, and refused with a sentence."""

from __future__ import annotations

import json
import os
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.call import Call, answer
from ansible_collections.meshops.istio.plugins.module_utils.gateway_report import run
from ansible_collections.meshops.istio.plugins.module_utils.report.formats import FORMATS
from ansible_collections.meshops.istio.plugins.module_utils.tls.facts import rfc3339
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import NOW
from ansible_collections.meshops.istio.tests.unit.report.results import faulty


@pytest.fixture
def found(tmp_path: Path) -> Path:
    path = tmp_path / "west.json"
    path.write_text(json.dumps(faulty()))
    return path


def report(directory: Path, *clusters: dict[str, Any], check: bool = False, **more: Any) -> dict[str, Any]:
    given = [{"result": None, "error": None, **one} for one in clusters]
    params = {
        "clusters": given,
        "directory": str(directory),
        "name": "report",
        "formats": list(FORMATS),
        "metrics_directory": None,
        "metrics_limit": 1000,
        **more,
    }
    return answer(run, Call(params, check, False, NOW))


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_it_is_written_once(found: Path, tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "reports"
    west, south = {"name": "west", "result": str(found)}, {"name": "south", "error": "no answer"}
    predicted = report(directory, west, south, check=True)
    assert predicted["changed"] and not directory.exists()
    first = report(directory, west, south)
    assert first == predicted
    assert first["headline"] == "3 problems" and first["clusters"] == {"south": "not_looked_at", "west": "broken"}
    before = content(directory)
    assert sorted(before) == [f"report{suffix}" for suffix in (".html", ".ics", ".json", ".junit.xml", ".md", ".prom", ".sarif")]
    stamps = {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}
    again = report(directory, south, west)
    assert not again["changed"] and content(directory) == before
    assert {path.name: path.stat().st_mtime_ns for path in directory.iterdir()} == stamps, "not even touched"


def test_a_new_time_alone_is_no_change_and_is_shown(found: Path, tmp_path: Path) -> None:
    report(tmp_path / "reports", {"name": "west", "result": str(found)})
    later = found.read_text().replace(rfc3339(NOW), rfc3339(NOW - timedelta(seconds=1)))
    found.write_text(later)
    assert report(tmp_path / "reports", {"name": "west", "result": str(found)})["changed"] is False
    assert json.loads((tmp_path / "reports" / "report.json").read_text())["looked_at"] == json.loads(later)["survey"]["looked_at"]


def test_what_is_new_is_a_change(found: Path, tmp_path: Path) -> None:
    report(tmp_path / "reports", {"name": "west", "result": str(found)})
    result = report(tmp_path / "reports", {"name": "west", "result": str(found)}, {"name": "east", "error": "no answer"})
    assert result["changed"] and all(one["changed"] for one in result["files"])


def test_only_what_is_asked_for_is_written_and_modes_stay(found: Path, tmp_path: Path) -> None:
    directory = tmp_path / "reports"
    directory.mkdir()
    (directory / "gateways.html").write_text("old")
    (directory / "gateways.html").chmod(0o640)
    result = report(directory, {"name": "west", "result": str(found)}, name="gateways", formats=["html", "json"])
    assert sorted(content(directory)) == ["gateways.html", "gateways.json"] and result["changed"]
    assert stat.S_IMODE((directory / "gateways.html").stat().st_mode) == 0o640


def test_metrics_may_be_written_elsewhere(found: Path, tmp_path: Path) -> None:
    west, elsewhere = {"name": "west", "result": str(found)}, tmp_path / "textfiles"
    assert report(tmp_path / "reports", west, metrics_directory=str(elsewhere))["changed"]
    assert sorted(content(elsewhere)) == ["report.prom"] and "report.prom" not in content(tmp_path / "reports")
    assert not report(tmp_path / "reports", west, metrics_directory=str(elsewhere))["changed"]
    refused = report(tmp_path / "reports", west, metrics_directory=str(found))
    assert f"metrics_directory {found}: expected a directory" in refused["msg"]


@pytest.mark.parametrize(
    ("clusters", "more", "code"),
    [
        ([], {}, "invalid_request"),
        ([{"name": "a"}], {}, "invalid_request"),
        ([{"name": "a", "error": "x", "result": "y"}], {}, "invalid_request"),
        ([{"name": "a", "error": "x"}, {"name": "a", "error": "y"}], {}, "invalid_request"),
        ([{"name": "a", "error": "x"}], {"name": "../a"}, "invalid_request"),
        ([{"name": "a", "error": "x"}], {"metrics_limit": 0}, "invalid_request"),
        ([{"name": "a", "result": "nowhere.json"}], {}, "unreadable_result"),
        ([{"name": "a", "result": "page.html"}], {}, "unreadable_result"),
        ([{"name": "a", "result": "pipe"}], {}, "unreadable_result"),
        ([{"name": "a", "result": "bare.json"}], {}, "no_survey"),
    ],
)
def test_what_cannot_be_reported_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clusters: list[dict[str, Any]], more: dict[str, Any], code: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.html").write_text("<html>")
    (tmp_path / "bare.json").write_text(json.dumps({"findings": []}))
    os.mkfifo(tmp_path / "pipe")
    result = report(tmp_path / "reports", *clusters, **more)
    assert result["failed"] and f"[{code}]" in result["msg"]
    assert not (tmp_path / "reports").exists()


def test_a_directory_that_is_none_is_refused(found: Path) -> None:
    result = report(found, {"name": "west", "result": str(found)})
    assert "expected a directory" in result["msg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_is_told(found: Path, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir(mode=0o500)
    result = report(tmp_path / "reports", {"name": "west", "result": str(found)})
    assert "expected to write it, found: Permission denied" in result["msg"]
