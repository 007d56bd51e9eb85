# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a virtual environment in which Ansible, this collection and the collections it depends on are found.

    python3 tools/environment.py dev      -> .venv       (everything)
    python3 tools/environment.py oldest   -> .venv-2.16  (the oldest ansible-core that is supported)

Does nothing when pyproject.toml has not changed since. Needs no Galaxy: see [tool.meshops.collections] there.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIRECTORIES = {"dev": ROOT / ".venv", "oldest": ROOT / ".venv-2.16"}
NEEDED = (3, 11)


def say(text: str) -> None:
    print(f"environment: {text}", file=sys.stderr, flush=True)


def run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True)


def install_collections(pip: list[str | Path], wheel: str, names: list[str], target: Path) -> None:
    """Takes the named collections out of a wheel of PyPI's `ansible` package."""
    with tempfile.TemporaryDirectory() as scratch:
        run(*pip, "download", "--quiet", "--no-deps", "--dest", scratch, wheel)
        (archive,) = Path(scratch).glob("*.whl")
        prefixes = tuple("ansible_collections/{}/{}/".format(*name.split(".")) for name in names)
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.namelist() if member.startswith(prefixes)]
            missing = [name for name, prefix in zip(names, prefixes, strict=True) if not any(m.startswith(prefix) for m in members)]
            if missing:
                sys.exit(f"environment: {wheel} does not carry {', '.join(missing)}; see [tool.meshops.collections] in pyproject.toml")
            opened.extractall(target, members)


def make(group: str) -> None:
    directory = DIRECTORIES[group]
    pyproject = ROOT / "pyproject.toml"
    stamp = directory / ".made-from"
    parsed = tomllib.loads(pyproject.read_text())
    settings = parsed["tool"]["meshops"]["collections"]
    # the path is part of it: a virtual environment cannot be moved
    made_from = json.dumps([parsed["dependency-groups"], settings, str(directory), sys.version], sort_keys=True)
    wanted = hashlib.sha256(made_from.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    say(f"making {directory.name} (about a minute with nothing cached)")
    run(sys.executable, "-m", "venv", "--clear", directory)
    pip: list[str | Path] = [directory / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--upgrade", "pip>=25.1")
    run(*pip, "install", "--quiet", "--group", f"{pyproject}:{group}")
    collections = directory / "collections"
    install_collections(pip, settings[group], settings["names"], collections)
    ours = collections / "ansible_collections" / "meshops" / "istio"
    ours.parent.mkdir(parents=True)
    ours.symlink_to(ROOT, target_is_directory=True)
    # so that Python finds ansible_collections.meshops.istio without Ansible, in unit tests and in mypy
    (site_packages,) = (directory / "lib").glob("python3*/site-packages")
    (site_packages / "collections.pth").write_text(f"{collections}\n")
    stamp.write_text(wanted)
    say(f"{directory.name} is ready")


if __name__ == "__main__":
    if sys.version_info < NEEDED:
        found = sys.version.split()[0]
        sys.exit(
            f"environment: Python {NEEDED[0]}.{NEEDED[1]} or newer is needed, {sys.executable} is {found}; run make with PYTHON=/path/to/python3.11"
        )
    if sys.argv[1:] not in (["dev"], ["oldest"]):
        sys.exit(f"usage: {sys.argv[0]} dev|oldest")
    make(sys.argv[1])
