# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks of the whole walkthrough on the oldest ansible-core that meta/runtime.yml admits, with the collections of its time. On the one in
between they run in test_execution_environment.py, everything else on the newest."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT, Mesh, Run

GROUPS = {"2.16": "oldest", "2.19": "middle"}


@pytest.fixture(params=GROUPS)
def version(request: pytest.FixtureRequest) -> str:
    chosen = str(request.param)
    assert (venv(chosen) / "bin" / "ansible-playbook").is_file(), (
        f"{venv(chosen)} is missing: python3 tools/environment.py {GROUPS[chosen]}"
    )
    return chosen


def venv(version: str) -> Path:
    return ROOT / f".venv-{version}"


def test_it_is_that_version(version: str) -> None:
    found = subprocess.run([venv(version) / "bin" / "ansible", "--version"], text=True, capture_output=True, check=True).stdout
    assert found.startswith(f"ansible [core {version}."), found


def test_the_oldest_is_what_is_admitted() -> None:
    assert yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["requires_ansible"] == f">={min(GROUPS)}.0"


def test_the_whole_walkthrough_from_nothing_and_back(mesh: Mesh, tmp_path: Path) -> None:
    def run(playbook: str, *arguments: str) -> Run:
        return mesh.playbook(
            f"playbooks/{playbook}.yml", "-e", f"pki_directory={tmp_path / 'pki'}", *arguments, venv=venv(min(GROUPS))
        ).ok()

    run("cleanup")
    try:
        made = run("site", "--diff")
        checks = [item for result in made.results("tls_probe") for item in result.get("results", [result])]
        assert len(checks) >= 10, "the walkthrough's checks did not run"
        assert not any(check.get("skipped") or check.get("failed") for check in checks)
        assert "PRIVATE KEY" not in made.output
        assert mesh.get("secret", "istio-system", "httpbin-credential")
        assert run("site", "--check").changed == []
    finally:
        removed = run("cleanup")
    assert removed.changed
    assert mesh.get("secret", "istio-system", "httpbin-credential") is None
