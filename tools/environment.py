# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a virtual environment in which Ansible, this collection and the collections it depends on are found.

    python3 tools/environment.py dev      -> .venv       (everything, with the newest ansible-core)
    python3 tools/environment.py middle   -> .venv-2.19  (an ansible-core in between)
    python3 tools/environment.py oldest   -> .venv-2.16  (the oldest ansible-core that is supported)
    python3 tools/environment.py events   -> .venv-events  (ansible-rulebook, for the event source)
    python3 tools/environment.py artefact -> .venv-artefact  (what builds and checks the artefact; this collection's tree is not found there)

Which Python each is made with stands in pyproject.toml; `tools/python` finds it. Does nothing when pyproject.toml has not changed since. Needs
no Galaxy: see [tool.meshops.collections] there.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DIRECTORIES = {
    "dev": ROOT / ".venv",
    "middle": ROOT / ".venv-2.19",
    "oldest": ROOT / ".venv-2.16",
    "events": ROOT / ".venv-events",
    "artefact": ROOT / ".venv-artefact",
}

COMPILE_ONCE = ROOT / "tools" / "compile_once.py"
LAYOUT = 2
"""Of what an environment holds beside what pyproject.toml names. To be counted up where that changes, so that old ones are made anew."""


def say(text: str) -> None:
    print(f"environment: {text}", file=sys.stderr, flush=True)


def run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True)


def install_collections(pip: list[str | Path], wheels: Sequence[str], names: Sequence[str], target: Path) -> None:
    """Takes the named collections out of a wheel of PyPI's `ansible` package: the one of `wheels` whose marker holds for this Python."""
    with tempfile.TemporaryDirectory() as scratch:
        run(*pip, "download", "--quiet", "--no-deps", "--dest", scratch, *wheels)
        (archive,) = Path(scratch).glob("*.whl")
        prefixes = tuple("ansible_collections/{}/{}/".format(*name.split(".")) for name in names)
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.namelist() if member.startswith(prefixes)]
            missing = [name for name, prefix in zip(names, prefixes, strict=True) if not any(m.startswith(prefix) for m in members)]
            if missing:
                sys.exit(
                    f"environment: {archive.name} does not carry {', '.join(missing)}; see [tool.meshops.collections] in pyproject.toml"
                )
            opened.extractall(target, members)


def find_python(versions: Sequence[str]) -> str:
    """The path of the first of these versions that this machine has; the variable PYTHON counts before."""
    found = subprocess.run([str(ROOT / "tools" / "python"), *versions], stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        sys.exit("environment: there is no Python for it, see above")
    return found.stdout.strip()


def version_of(python: str | Path) -> str:
    """Empty where it does not run."""
    try:
        asked = [str(python), "-c", "import platform; print(platform.python_version())"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def is_made(directory: Path, made_from: dict[str, Any]) -> bool:
    """Whether it was made from the same, and its Python is still there: that of PYTHON, where the user names one."""
    stamp, version = directory / ".made-from", version_of(directory / "bin" / "python")
    if not version or not stamp.is_file() or stamp.read_text() != digest(made_from, version):
        return False
    named = os.environ.get("PYTHON")
    return not named or version_of(named) == version or version_of(named).rpartition(".")[0] not in made_from["pythons"]


def digest(made_from: dict[str, Any], version: str) -> str:
    return hashlib.sha256(json.dumps([made_from, version], sort_keys=True).encode()).hexdigest()


def make(group: str) -> None:
    directory, pyproject = DIRECTORIES[group], ROOT / "pyproject.toml"
    parsed = tomllib.loads(pyproject.read_text())
    settings, pythons = parsed["tool"]["meshops"]["collections"], parsed["tool"]["meshops"]["pythons"][group]
    # the path is part of it: a virtual environment cannot be moved
    made_from = {
        "groups": parsed["dependency-groups"],
        "collections": settings,
        "pythons": pythons,
        "directory": str(directory),
        "layout": LAYOUT,
    }
    if is_made(directory, made_from):
        return
    python = find_python(pythons)
    say(f"making {directory.name} with Python {version_of(python)}, {python} (about a minute with nothing cached)")
    run(python, "-m", "venv", "--clear", directory)
    pip: list[str | Path] = [directory / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--upgrade", "pip>=25.1")
    # Python compiles what is imported when it is; all that is installed would take twice as long as to install it
    run(*pip, "install", "--quiet", "--no-compile", "--group", f"{pyproject}:{group}")
    collections = directory / "collections"
    install_collections(pip, settings[group], settings["names"], collections)
    for name, wheel in settings["elsewhere"].get(group, {}).items():
        install_collections(pip, [wheel], [name], collections)
    if group != "artefact":
        link_ours(directory, collections)
    (directory / ".made-from").write_text(digest(made_from, version_of(directory / "bin" / "python")))
    say(f"{directory.name} is ready: {ansible_version(directory)}")


def link_ours(directory: Path, collections: Path) -> None:
    ours = collections / "ansible_collections" / "meshops" / "istio"
    ours.parent.mkdir(parents=True)
    ours.symlink_to(ROOT, target_is_directory=True)
    # so that Python finds ansible_collections.meshops.istio without Ansible, in unit tests and in mypy
    (site_packages,) = (directory / "lib").glob("python3*/site-packages")
    (site_packages / "collections.pth").write_text(f"{collections}\n")
    (site_packages / COMPILE_ONCE.name).symlink_to(COMPILE_ONCE)
    (site_packages / "compile_once.pth").write_text(f"import {COMPILE_ONCE.stem}\n")


def ansible_version(directory: Path) -> str:
    asked = [str(directory / "bin" / "python"), "-c", "import importlib.metadata; print(importlib.metadata.version('ansible-core'))"]
    return f"ansible-core {subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()}"


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in DIRECTORIES:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(DIRECTORIES)}")
    try:
        make(sys.argv[1])
    except subprocess.CalledProcessError as error:
        sys.exit(f"environment: `{' '.join(map(str, error.cmd))}` failed with exit code {error.returncode}: what it said stands above")
