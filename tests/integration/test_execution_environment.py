# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The built artefact with nothing but what an execution environment of the shipped definition holds: tools/execution_environment.py made it, with the
ansible-core between the oldest and the newest. The whole walkthrough, from nothing and back, as jobs of a controller run it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Mesh, Run

HELD = ROOT / ".venv-ee"
INSTALLED = HELD / "collections" / "ansible_collections"
PATH = f"{HELD / 'bin'}:{os.defpath}"
"""Nothing of .venv, and no program of the sandbox."""
DIAGNOSE = {"diagnose_fail_on": "never", "diagnose_admin_urls": ["http://127.0.0.1:15100"]}
MADE = {
    "httpbin-credential",
    "helloworld-credential",
    "httpbin-mutual-credential",
    "mygateway",
    "httpbin",
    "helloworld-v1",
    "httpbin-mutual",
}


@dataclass
class Job:
    """The playbooks of the artefact, one after the other, as jobs of a controller run them."""

    mesh: Mesh
    directory: Path
    runs: dict[str, Run] = field(default_factory=dict)

    def run(self, playbook: str, *arguments: str) -> Run:
        path = INSTALLED / "meshops" / "istio" / "playbooks" / f"{playbook}.yml"
        words = ("-e", f"pki_directory={self.directory / 'pki'}", *arguments)
        home = {"HOME": str(self.directory), "ANSIBLE_HOME": str(self.directory / "ansible")}
        done = self.mesh.playbook(path, *words, venv=HELD, PATH=PATH, **home).ok()
        self.runs[playbook + " --check" * ("--check" in arguments)] = done
        return done


@pytest.fixture(scope="module")
def job(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    assert (HELD / "bin" / "ansible-playbook").is_file(), f"{HELD} is missing: .venv-artefact/bin/python tools/execution_environment.py"
    made = Job(mesh, tmp_path_factory.mktemp("job"))
    made.run("cleanup")
    try:
        made.run("site", "--diff")
        made.run("site", "--check")
        made.run("rotate")
        made.run("diagnose", "-e", json.dumps(DIAGNOSE))
        yield made
    finally:
        made.run("cleanup")


def probes(run: Run) -> list[dict[str, Any]]:
    found = [item for result in run.results("tls_probe") for item in result.get("results", [result])]
    return [item for item in found if not item.get("skipped")]


def test_it_has_the_ansible_core_in_between() -> None:
    """So that the walkthrough runs on it too."""
    done = subprocess.run([HELD / "bin" / "ansible", "--version"], env={"PATH": PATH}, text=True, capture_output=True, check=True)
    assert done.stdout.startswith("ansible [core 2.19."), done.stdout


def test_it_holds_the_artefact_and_nothing_of_the_other_environments() -> None:
    asked = "import importlib.util, json, sys; print(json.dumps([sys.path, importlib.util.find_spec('pytest') is None]))"
    done = subprocess.run([HELD / "bin" / "python", "-c", asked], env={"PATH": PATH}, text=True, capture_output=True, check=True)
    path, without_pytest = json.loads(done.stdout)
    assert without_pytest
    assert not [place for place in path if Path(place).is_relative_to(ROOT) and not Path(place).is_relative_to(HELD)]
    ours = INSTALLED / "meshops" / "istio"
    assert (ours / "MANIFEST.json").is_file() and not ours.is_symlink()
    assert not (ours / "tests").exists() and not (ours / "sandbox").exists()


def test_both_walkthroughs_are_proven(job: Job) -> None:
    found = probes(job.runs["site"])
    assert len(found) >= 13
    assert not any(probe.get("failed") for probe in found)
    assert "PRIVATE KEY" not in job.runs["site"].output
    assert job.runs["site --check"].changed == []
    assert {name for name in MADE if name.endswith("-credential")} <= {
        made["name"] for result in job.runs["site"].results("istio_tls_credential") for made in result["credentials"]
    }


def test_a_credential_is_rotated_and_back(job: Job) -> None:
    rotations = [result["rotations"][0] for result in job.runs["rotate"].results("istio_tls_rotation")]
    assert [one["outcome"] for one in rotations] == ["rotated", "rotated"]
    assert [(probe["status"], probe["failure"]) for probe in probes(job.runs["rotate"])] == [(418, None), (None, "unknown_ca")] * 2


def test_a_diagnosis_reads_the_cluster_and_finds_nothing_wrong(job: Job) -> None:
    (result,) = job.runs["diagnose"].results("gateway_diagnose")
    found = [one for one in result["findings"] if one["severity"] != "hint" and any(ref["name"] in MADE for ref in one["objects"])]
    assert found == []
    assert "handshakes" not in str(result.get("warnings", "")), result["warnings"]
