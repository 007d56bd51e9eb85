# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the collection, installs what was built, and looks at it as a user gets it: what it holds, and whether it is found.

    .venv/bin/python tools/artefact.py

It is built from the working tree as it stands, with its environments and caches, as a user who runs `ansible-galaxy collection build` does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(sys.prefix)
SHIPPED = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "COPYING",
    "FILES.json",
    "MANIFEST.json",
    "README.md",
    "changelogs",
    "docs",
    "meta",
    "playbooks",
    "plugins",
    "roles",
}
NEEDED = {"COPYING", "FILES.json", "MANIFEST.json", "README.md", "meta", "playbooks", "plugins", "roles"}
LIMIT = 5 * 1024 * 1024
"""More than this is something that slipped in."""


def fail(text: str) -> None:
    sys.exit(f"artefact: {text}")


def ansible(program: str, *words: str | Path, collections: Path, home: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_HOME": str(home), "ANSIBLE_NOCOLOR": "1"}
    command = [str(VENV / "bin" / program), *map(str, words)]
    done = subprocess.run(command, env=environment, cwd=home, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        fail(f"`{' '.join(command)}` ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def check_content(archive: Path) -> None:
    with tarfile.open(archive) as opened:
        top = {Path(name).parts[0] for name in opened.getnames()}
    if unknown := sorted(top - SHIPPED):
        fail(
            f"{', '.join(unknown)} would be shipped; expected only {', '.join(sorted(SHIPPED))}: list the rest in galaxy.yml's build_ignore"
        )
    if missing := sorted(NEEDED - top):
        fail(f"{', '.join(missing)} would not be shipped; see galaxy.yml's build_ignore")
    if (size := archive.stat().st_size) > LIMIT:
        fail(f"{archive.name} has {size} bytes; expected at most {LIMIT}: what large file slipped in?")


def check_modules(collections: Path, home: Path) -> int:
    """Every module of the source is found in the installed collection, documented, and in the action group."""
    modules = {path.stem for path in (ROOT / "plugins" / "modules").glob("[!_]*.py")}
    listed = ansible("ansible-doc", "--list", "--type", "module", "meshops.istio", collections=collections, home=home)
    found = {line.split()[0].removeprefix("meshops.istio.") for line in listed.splitlines() if line.startswith("meshops.istio.")}
    if found != modules:
        fail(f"the installed collection has the modules {sorted(found)}; expected {sorted(modules)}")
    for module in sorted(modules):
        ansible("ansible-doc", "--type", "module", f"meshops.istio.{module}", collections=collections, home=home)
    group = set(yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["action_groups"]["istio"])
    if group != modules:
        fail(f"meta/runtime.yml's action group `istio` holds {sorted(group)}; expected every module, {sorted(modules)}")
    return len(modules)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        home, collections = Path(scratch) / "home", Path(scratch) / "collections"
        home.mkdir()
        ansible("ansible-galaxy", "collection", "build", ROOT, "--output-path", scratch, collections=collections, home=home)
        (archive,) = Path(scratch).glob("meshops-istio-*.tar.gz")
        check_content(archive)
        # without dependencies: Galaxy cannot be reached from everywhere
        ansible(
            "ansible-galaxy", "collection", "install", archive, "--collections-path", collections, "--no-deps", "--offline",
            collections=collections, home=home,
        )  # fmt: skip
        count = check_modules(collections, home)
        print(f"artefact: {archive.name}, {archive.stat().st_size // 1024} KiB, {count} modules")


if __name__ == "__main__":
    main()
