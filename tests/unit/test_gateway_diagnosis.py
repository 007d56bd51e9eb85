# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A diagnosis of files, from arguments to the result: without a cluster."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.call import Call, answer
from ansible_collections.meshops.istio.plugins.module_utils.gateway_diagnosis import run
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import NOW
from ansible_collections.meshops.istio.tests.unit.report.results import RIGHT, host

NOTHING: dict[str, Any] = dict.fromkeys(("namespaces", "paths", "changes", "since", "save"))
DEFAULTS = {
    "addresses": [],
    "ports": {},
    "admin_urls": [],
    "explain": [],
    "suppress": [],
    "request_timeout": 10,
    "min_remaining": "14d",
    "fail_on": "error",
}
SWITCHES = dict.fromkeys(("survey", "certificate_content", "handshakes", "proxies"), False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A correct set, and a Gateway whose credential is missing, in a file below."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "right.yaml").write_text(yaml.safe_dump_all(RIGHT))
    (tmp_path / "deploy" / "shop.yaml").write_text("# the shop\n---\n" + yaml.safe_dump_all(host("shop", missing=True)))
    return tmp_path


def diagnose(*paths: Path, **more: Any) -> dict[str, Any]:
    params = {**NOTHING, **DEFAULTS, **SWITCHES, "paths": [str(path) for path in paths], **more}
    return answer(run, Call(params, False, False, NOW))


def test_findings_name_the_file_and_the_line(repository: Path) -> None:
    result = diagnose(repository)
    (found,) = [one for one in result["findings"] if one["severity"] == "error"]
    gateway = next(ref for ref in found["objects"] if ref["kind"] == "Gateway")
    assert (gateway["name"], gateway["file"], gateway["line"]) == ("shop", "deploy/shop.yaml", 3)
    assert "(deploy/shop.yaml, line 3)" in result["msg"]
    assert not any("file" in ref for ref in found["objects"] if ref["kind"] == "Secret"), "it stands nowhere"


def test_since_a_file_that_is_written_anew(repository: Path) -> None:
    """The role keeps one file, from which a run learns what was, and in which it leaves what is."""
    kept = repository / "kept.json"
    diagnose(repository / "deploy", save=str(kept))
    kept.chmod(0o600)
    (repository / "deploy" / "shop.yaml").unlink()
    result = diagnose(repository / "deploy", since=str(kept), save=str(kept))
    assert [one["code"] for one in result["compared"]["gone"]] == ["credential_missing"] and result["compared"]["new"] == []
    assert json.loads(kept.read_text())["compared"] == result["compared"] and stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert diagnose(repository / "deploy", since=str(kept))["compared"]["gone"] == []
