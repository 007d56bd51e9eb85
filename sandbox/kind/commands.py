# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs other programs: what they say is shown only when they fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..progress import Failure, say


def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    text: str | None = None,
    seconds: float | None = None,
) -> str:
    """What it printed."""
    words = [str(word) for word in command]
    shown = " ".join([Path(words[0]).name, *words[1:]])[:200]
    env = {**os.environ, **(environment or {})}
    try:
        answer = subprocess.run(words, env=env, input=text, capture_output=True, text=True, timeout=seconds, check=False)
    except FileNotFoundError:
        raise Failure(f"{words[0]} is not there") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"`{shown}` did not end within {seconds:.0f} s") from None
    if answer.returncode:
        told = (answer.stderr.strip() or answer.stdout.strip())[-3000:]
        raise Failure(f"`{shown}` failed with exit code {answer.returncode}:\n{told}")
    return answer.stdout


def works(command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, seconds: float = 20) -> bool:
    try:
        run(command, environment=environment, seconds=seconds)
    except Failure:
        return False
    return True


def find(program: str) -> str | None:
    """Where it is; an administrator's programs are not on everyone's PATH."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))


def require(programs: Mapping[str, str], purpose: str) -> None:
    """`programs` maps each program to the Debian package that has it; root on Debian installs what is missing."""
    missing = {package for program, package in programs.items() if not find(program)}
    if not missing:
        return
    packages = " ".join(sorted(missing))
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failure(
            f"{purpose} needs {packages}: as root, `apt-get install {packages}` on Debian, or your system's packages of that kind"
        )
    say(f"installing {packages}, which {purpose} needs")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "--quiet"], environment=quiet, seconds=300)
    run(["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *sorted(missing)], environment=quiet, seconds=900)
    if left := [program for program in programs if not find(program)]:
        raise Failure(f"{packages} was installed, but {', '.join(left)} is still not there")
