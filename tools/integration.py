# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the integration tests on the running sandbox and, where a network of its own can be made, on a second one beside it.

    .venv/bin/python tools/integration.py [PYTEST'S ARGUMENTS ...]

The files of tests are dealt out as the two get ready for the next. They wait more than they compute, so two are right for two processors too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import own_mesh

ROOT = Path(__file__).resolve().parent.parent
SECOND = ROOT / ".sandbox" / "second"


def workers() -> list[str]:
    if not own_mesh.is_possible():
        print("integration: no second mesh, since this user may not make a network (`unshare --net`): the tests take longer", flush=True)
        return []
    first = sys.executable
    second = f"{first} {ROOT / 'tools' / 'own_mesh.py'} {SECOND} {first}"
    return [f"--tx=popen//python={one}" for one in (first, second)] + ["--dist=loadfile", "--no-loadscope-reorder"]


if __name__ == "__main__":
    os.chdir(ROOT)
    # here, since the second mesh's network leads nowhere
    for program in ("pebble", "fortio"):
        subprocess.run([sys.executable, "-m", f"sandbox.{program}"], check=True)
    # in our place, so that a signal to end reaches it
    os.execv(sys.executable, [sys.executable, "-u", "-m", "pytest", "tests/integration", *workers(), *sys.argv[1:]])  # noqa: S606
