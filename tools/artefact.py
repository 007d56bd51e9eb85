# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the collection, installs what was built, and looks at it as a user gets it: what it holds, whether it is found, and whether Galaxy takes it.

    .venv-artefact/bin/python tools/artefact.py

It is built from the working tree as it stands, with its environments and caches, as a user who runs `ansible-galaxy collection build` does.
"""

from __future__ import annotations

import json
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
    "extensions",
    "meta",
    "playbooks",
    "plugins",
    "roles",
}
EDA = {"plugins/event_source/gateway_tls.py", "rulebooks/renew.yml", "rulebooks/diagnose.yml", "rulebooks/report.yml", "README.md"}
NEEDED = {"COPYING", "FILES.json", "MANIFEST.json", "README.md", "meta", "playbooks", "plugins", "roles"}
IMPORTER = """\
[galaxy-importer]
check_changelog = True
check_required_tags = True
run_ansible_doc = True
run_ansible_lint = False
run_ansible_test = False
run_flake8 = False
"""
"""As Galaxy and Automation Hub import. `make lint` runs ansible-lint and ruff with more rules, `make sanity` ansible-test; Galaxy needs containers for that."""
LIMIT = 5 * 1024 * 1024
"""More than this is something that slipped in."""


def fail(text: str) -> None:
    sys.exit(f"artefact: {text}")


def ansible(program: str, *words: str | Path, collections: Path, home: Path, **more: str) -> str:
    """What a program of this environment wrote to its standard output. It works in `home`, with the collections in `collections`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_HOME": str(home), "ANSIBLE_NOCOLOR": "1"}
    environment |= {"PATH": f"{VENV / 'bin'}:{os.environ['PATH']}", **more}
    command = [str(VENV / "bin" / program), *map(str, words)]
    done = subprocess.run(command, env=environment, cwd=home, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        fail(f"`{' '.join(command)}` ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def build(directory: Path, home: Path) -> Path:
    """The artefact of the working tree, in an empty directory."""
    ansible("ansible-galaxy", "collection", "build", ROOT, "--output-path", directory, collections=home / "collections", home=home)
    (archive,) = directory.glob("meshops-istio-*.tar.gz")
    return archive


def check_content(archive: Path) -> None:
    with tarfile.open(archive) as opened:
        files = {member.name for member in opened.getmembers() if member.isfile()}
    top = {Path(name).parts[0] for name in files}
    if (eda := {name.removeprefix("extensions/eda/") for name in files if name.startswith("extensions/")}) != EDA:
        fail(f"of extensions, {sorted(eda)} would be shipped; expected {sorted(EDA)} of extensions/eda, and nothing of its tests")
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
    names = [f"meshops.istio.{module}" for module in sorted(modules)]
    shown = json.loads(ansible("ansible-doc", "--json", "--type", "module", *names, collections=collections, home=home))
    if without := [name for name in names if not shown.get(name, {}).get("doc")]:
        fail(f"the installed collection has no documentation of {', '.join(without)}")
    group = set(yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["action_groups"]["istio"])
    if group != modules:
        fail(f"meta/runtime.yml's action group `istio` holds {sorted(group)}; expected every module, {sorted(modules)}")
    return len(modules)


def check_changelog() -> None:
    """The fragments and the file of releases, by the program that makes a changelog of them."""
    for words in (["lint"], ["lint-changelog-yaml", str(ROOT / "changelogs" / "changelog.yaml")]):
        command = [str(VENV / "bin" / "antsibull-changelog"), *words]
        done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            fail(f"`{' '.join(command)}` ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")


def check_import(archive: Path, home: Path) -> int:
    """Galaxy's own importer takes it, and neither warns nor complains. How many things it found."""
    settings = home / "galaxy-importer.cfg"
    settings.write_text(IMPORTER)
    said = ansible(
        "python", "-m", "galaxy_importer.main", archive,
        collections=home / "collections", home=home, GALAXY_IMPORTER_CONFIG=str(settings), GALAXY_IMPORTER_ANSIBLE_LOCAL_TMP=str(home / "tmp"),
    )  # fmt: skip
    if complaints := [line for line in said.splitlines() if line.startswith(("WARNING", "ERROR", "CRITICAL"))]:
        fail("galaxy-importer expected something else:\n" + "\n".join(complaints))
    found = json.loads((home / "importer_result.json").read_text())
    if found["requires_ansible"] is None:
        fail("galaxy-importer found no requires_ansible: see meta/runtime.yml")
    return len(found["contents"])


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        home, collections = Path(scratch) / "home", Path(scratch) / "collections"
        home.mkdir()
        check_changelog()
        archive = build(Path(scratch), home)
        check_content(archive)
        # without dependencies: Galaxy cannot be reached from everywhere
        ansible(
            "ansible-galaxy", "collection", "install", archive, "--collections-path", collections, "--no-deps", "--offline",
            collections=collections, home=home,
        )  # fmt: skip
        count = check_modules(collections, home)
        parts = check_import(archive, home)
        print(
            f"artefact: {archive.name}, {archive.stat().st_size // 1024} KiB, {count} modules; galaxy-importer took it, with {parts} parts"
        )


if __name__ == "__main__":
    main()
