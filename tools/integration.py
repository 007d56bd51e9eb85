# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the integration tests on the running sandbox and, where a network of its own can be made, on a second one beside it.

    .venv/bin/python tools/integration.py [PYTEST'S ARGUMENTS ...]             # all but the later ones
    .venv/bin/python tools/integration.py --later [PYTEST'S ARGUMENTS ...]     # these, on a third sandbox

The files of tests are dealt out as the two get ready for the next. They wait more than they compute, so two are right for two processors too. The later
ones are for the time when kind is no longer at work beside them. Where no network can be made, the running sandbox has all of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import own_mesh

ROOT = Path(__file__).resolve().parent.parent
TESTS = "tests/integration"
SECOND, THIRD = ROOT / ".sandbox" / "second", ROOT / ".sandbox" / "third"
LATER = (f"{TESTS}/test_in_process.py",)
"""What takes about as long as the others still need when kind has ended."""
FIRST = tuple(
    f"{TESTS}/test_{name}.py" for name in ("secrets_never_leak", "secrets_in_strange_places", "execution_environment", "benchmark")
)
"""Long ones, which would leave one of the two alone at the end; the other long ones are early in the alphabet."""


def in_order() -> list[str]:
    rest = sorted(str(path) for path in Path(TESTS).rglob("test_*.py"))
    return [*FIRST, *(path for path in rest if path not in (*FIRST, *LATER))]


def on_own_mesh(directory: Path) -> list[str]:
    return [sys.executable, str(ROOT / "tools" / "own_mesh.py"), str(directory), sys.executable]


def workers() -> list[str]:
    return [f"--tx=popen//python={one}" for one in (sys.executable, " ".join(on_own_mesh(SECOND)))] + [
        "--dist=loadfile",
        "--no-loadscope-reorder",
    ]


def become(*command: str) -> NoReturn:
    """In our place, so that a signal to end reaches it."""
    os.execv(command[0], command)  # noqa: S606


def main(later: bool, arguments: Sequence[str]) -> None:
    pytest = ("-u", "-m", "pytest")
    possible = own_mesh.is_possible()
    if later and possible:
        become(*on_own_mesh(THIRD), *pytest, *LATER, *arguments)
    if later:
        return
    # here, since the second mesh's network leads nowhere
    for program in ("pebble", "fortio"):
        subprocess.run([sys.executable, "-m", f"sandbox.{program}"], check=True)
    if possible:
        become(sys.executable, *pytest, *in_order(), *workers(), *arguments)
    print("integration: one mesh for all, since this user may not make a network (`unshare --net`): the tests take longer", flush=True)
    become(sys.executable, *pytest, TESTS, *arguments)


if __name__ == "__main__":
    os.chdir(ROOT)
    is_later = sys.argv[1:2] == ["--later"]
    main(is_later, sys.argv[2:] if is_later else sys.argv[1:])
