# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests on the kind cluster share: the cluster as `. .sandbox/kind/env` gives it to a user, playbooks and certificates."""

from __future__ import annotations

import os
import subprocess

import pytest
from integration.conftest import ROOT, Mesh, issue, namespace

__all__ = ["issue", "mesh", "namespace"]


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    script = ROOT / ".sandbox" / "kind" / "env"
    assert script.is_file(), "the kind cluster does not run: python -m sandbox.kind up"
    printed = subprocess.run(["bash", "-c", '. "$0" && env -0', str(script)], capture_output=True, check=True, env=os.environ.copy())
    environment = dict(line.split("=", 1) for line in printed.stdout.decode().split("\0") if "=" in line)
    return Mesh(environment, tmp_path_factory.mktemp("playbooks"))
