# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs molecule's scenarios (extensions/molecule) on one platform, with one mesh for all of them.

    .venv/bin/python tools/scenarios.py sandbox|kind [SCENARIO ...]

A mesh that runs already is used and left running. What a scenario that failed has left is in .cache/molecule-artifacts/SCENARIO.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
EVERYWHERE = ("ingress_tls", "egress_mtls", "rotation")
SCENARIOS = {"sandbox": EVERYWHERE, "kind": (*EVERYWHERE, "pods")}


def main() -> int:
    platform, wanted = next(iter(sys.argv[1:]), ""), sys.argv[2:]
    if platform not in SCENARIOS:
        sys.exit(f"scenarios: expected a platform ({', '.join(SCENARIOS)}), found {platform or 'none'}")
    if unknown := set(wanted) - set(SCENARIOS[platform]):
        sys.exit(f"scenarios: on {platform} expected any of {', '.join(SCENARIOS[platform])}, found {', '.join(sorted(unknown))}")
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    # molecule skips what its state says is done; a run that was killed, or one on the other platform, must not mislead it
    with tempfile.TemporaryDirectory(prefix="molecule-", dir=cache) as ephemeral:
        environment = os.environ | {
            "MESHOPS_PLATFORM": platform,
            "MOLECULE_EPHEMERAL_DIRECTORY": ephemeral,
            "MOLECULE_PROJECT_DIRECTORY": str(ROOT),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        named = [word for name in wanted or SCENARIOS[platform] for word in ("--scenario-name", name)]
        command = [str(BIN / "molecule"), "test", "--no-command-borders", *named]
        return subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
