# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook of the whole walkthrough on the oldest ansible-core that meta/runtime.yml admits, with the collections of its time."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from .conftest import ROOT, Mesh

OLDEST = ROOT / ".venv-2.16"


@pytest.fixture(scope="module", autouse=True)
def environment() -> None:
    assert (OLDEST / "bin" / "ansible-playbook").is_file(), f"{OLDEST} is missing: python3 tools/environment.py oldest"


def test_it_is_the_oldest_that_is_admitted() -> None:
    admitted = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["requires_ansible"]
    found = subprocess.run([OLDEST / "bin" / "ansible", "--version"], text=True, capture_output=True, check=True).stdout
    assert admitted == ">=2.16.0"
    assert found.startswith("ansible [core 2.16."), found


def test_the_whole_walkthrough(mesh: Mesh) -> None:
    site = mesh.playbook("playbooks/site.yml", venv=OLDEST).ok()
    checks = [item for result in site.results("tls_probe") for item in result.get("results", [result])]
    assert len(checks) >= 10, "the walkthrough's checks did not run"
    assert not any(check.get("skipped") or check.get("failed") for check in checks)
    again = mesh.playbook("playbooks/site.yml", "--check", "--diff", venv=OLDEST).ok()
    assert again.changed == []
