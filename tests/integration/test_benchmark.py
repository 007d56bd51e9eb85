# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark works, and all that it compares does the same. How long anything takes is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Mesh

OURS = ("istio_tls_credential, content", "istio_tls_credential, paths")
OTHERS = ("kubernetes.core.k8s", "kubectl apply --server-side")
LIMITS = (
    "no-op module, content",
    "no-op module, paths",
    "raw HTTP",
    "no-op module and raw HTTP, content",
    "no-op module and raw HTTP, paths",
)
ROTATIONS = ("istio_tls_rotation", "kubectl apply, openssl s_client")
SERVICES = ("egress_mtls_origination", *OTHERS)


@pytest.fixture(scope="module")
def figures(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    results = tmp_path_factory.mktemp("bench") / "results.json"
    few = {"sizes": 3, "services": 2, "further": 2, "rotations": 2, "hosts": 3, "clusters": 2, "runs": 1, "results": results}
    bench = Path(ROOT) / "tests" / "benchmark" / "bench.py"
    command = [sys.executable, str(bench), *(f"--{name}={value}" for name, value in few.items())]
    done = subprocess.run(command, env=mesh.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("| scenario | with | seconds |")
    return {(figure["scenario"], figure["subject"]): figure for figure in json.loads(results.read_text())["figures"]}


def test_everything_is_measured(figures: dict[tuple[str, str], dict[str, Any]]) -> None:
    expected = {("nothing", "a playbook with one ping")}
    expected |= {(f"3 {scenario}", subject) for scenario in ("created", "unchanged") for subject in (*OURS, *OTHERS, *LIMITS)}
    expected |= {("3, one changed", subject) for subject in (*OURS, *OTHERS)}
    expected |= {("3, peak memory", subject) for subject in OURS}
    more = ("istio_tls_credential", "istio_tls_credential, as a module", "kubernetes.core.k8s")
    expected |= {(f"a further {what}", subject) for what in ("task", "item") for subject in more}
    expected |= {(f"2 services {scenario}", subject) for scenario in ("created", "unchanged") for subject in SERVICES}
    expected |= {(f"{many} rotated, write to proof", subject) for many in (1, 2) for subject in ROTATIONS}
    expected |= {("3 hosts verified", subject) for subject in ("tls_probe", "Python threads")}
    expected |= {("2 clusters, 10 forks", subject) for subject in ("meshops.istio", "meshops.istio, as modules", "kubernetes.core.k8s")}
    expected |= {("2 rotated under load, the whole run", ROTATIONS[0])}
    assert set(figures) == expected
    (load,) = [figure["load"] for figure in figures.values() if "load" in figure]
    assert load["failed"] == 0 < load["connections"]
    differences = ("a further task", "a further item", "3 hosts verified")  # of few, and so of any sign
    assert all(figure.get("seconds", figure.get("megabytes")) > 0 for (what, __), figure in figures.items() if what not in differences)


def test_an_unchanged_run_reads_and_writes_nothing(figures: dict[tuple[str, str], dict[str, Any]]) -> None:
    """A credential and its `-cacert` are one GET each; the others write every time, which is what they are measured for."""
    for subject in OURS:
        assert figures["3 unchanged", subject]["requests"] == {"get": 6}
    assert figures["3 unchanged", "kubernetes.core.k8s"]["requests"] == {"get": 3, "patch": 3}
    assert figures["3 unchanged", "kubectl apply --server-side"]["requests"] == {"patch": 3}


def test_the_diagnosis_is_measured(mesh: Mesh, tmp_path: Path) -> None:
    """A small cluster, in which nothing is wrong, and a few clusters at once."""
    few = ("--sizes", "10", "--clusters", "3", "--forks", "2", "--runs", "1", "--results", str(tmp_path / "diagnosis.json"))
    bench = Path(ROOT) / "tests" / "benchmark" / "bench_diagnosis.py"
    done = subprocess.run([sys.executable, str(bench), *few], env=mesh.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "diagnosis.json").read_text())
    ours, theirs = found["sizes"]
    assert (ours["subject"], ours["told"], theirs["subject"]) == ("gateway_diagnose", 0, "istioctl analyze")
    assert min(ours["seconds"], ours["megabytes"], theirs["seconds"], found["fleet"]["seconds"]) > 0


def test_clusters_through_ansible_runner_are_measured(mesh: Mesh, tmp_path: Path) -> None:
    few = ("--clusters", "2", "--rival-clusters", "1", "--workers", "1", "--forks", "2", "--results", str(tmp_path / "runner.json"))
    bench = Path(ROOT) / "tests" / "benchmark" / "bench_runner.py"
    done = subprocess.run([sys.executable, str(bench), *few], env=mesh.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "runner.json").read_text())["figures"]
    assert [(one["scenario"], one["subject"], one["clusters"]) for one in figures] == [
        (scenario, subject, clusters)
        for scenario in ("created", "unchanged")
        for subject, clusters in (("meshops.istio", 2), ("kubernetes.core", 1))
    ]
    assert all(one["seconds"] > 0 and one["a_minute"] > 0 for one in figures)
