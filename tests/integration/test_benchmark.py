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
SERVICES = ("egress_mtls_origination", *OTHERS)


@pytest.fixture(scope="module")
def figures(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    results = tmp_path_factory.mktemp("bench") / "results.json"
    few = ("--sizes", "3", "--services", "2", "--runs", "1", "--results", str(results))
    bench = Path(ROOT) / "tests" / "benchmark" / "bench.py"
    done = subprocess.run([sys.executable, str(bench), *few], env=mesh.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("| scenario | with | seconds |")
    return {(figure["scenario"], figure["subject"]): figure for figure in json.loads(results.read_text())["figures"]}


def test_everything_is_measured(figures: dict[tuple[str, str], dict[str, Any]]) -> None:
    expected = {("nothing", "a playbook with one ping")}
    expected |= {(f"3 {scenario}", subject) for scenario in ("created", "unchanged") for subject in (*OURS, *OTHERS, *LIMITS)}
    expected |= {("3, one changed", subject) for subject in (*OURS, *OTHERS)}
    expected |= {("3, peak memory", subject) for subject in OURS}
    expected |= {(f"2 services {scenario}", subject) for scenario in ("created", "unchanged") for subject in SERVICES}
    assert set(figures) == expected
    assert all(figure.get("seconds", figure.get("megabytes")) > 0 for figure in figures.values())


def test_an_unchanged_run_reads_and_writes_nothing(figures: dict[tuple[str, str], dict[str, Any]]) -> None:
    """A credential and its `-cacert` are one GET each; the others write every time, which is what they are measured for."""
    for subject in OURS:
        assert figures["3 unchanged", subject]["requests"] == {"get": 6}
    assert figures["3 unchanged", "kubernetes.core.k8s"]["requests"] == {"get": 3, "patch": 3}
    assert figures["3 unchanged", "kubectl apply --server-side"]["requests"] == {"patch": 3}
