# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes .venv-ee: what an execution environment of the shipped definition holds, without the image.

    .venv-artefact/bin/python tools/execution_environment.py

The real ansible-builder makes the context of docs/execution-environment, with the artefact as it can be built now. The steps of its Containerfile are
then carried out here, in an empty virtual environment: ansible-core and ansible-runner, the collections, the Python packages that the context's own
program finds these to need. Two things are not as in an image. The collections that ours depends on come from .venv-artefact, since Galaxy cannot be
reached from everywhere. And packages that pyproject.toml names get the versions that stand there: of ansible-core the one in between, which images of
Automation Platform hold rather than the newest. What is needed of the system is read, not installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import artefact
import environment
import yaml

ROOT = Path(__file__).resolve().parent.parent
DIRECTORY = ROOT / ".venv-ee"
DEFINITION = ROOT / "docs" / "execution-environment" / "execution-environment.yml"
ARTEFACT = Path(sys.prefix)


@dataclass(frozen=True)
class Context:
    """What ansible-builder made of the definition."""

    directory: Path

    def argument(self, name: str) -> str:
        """The value of an ARG of its Containerfile."""
        found = re.search(rf'^ARG {name}="(.*)"$', (self.directory / "Containerfile").read_text(), re.MULTILINE)
        return found[1] if found else fail(f"ansible-builder made a Containerfile without ARG {name}")

    @property
    def files(self) -> Path:
        return self.directory / "_build"

    @property
    def python(self) -> str:
        """The version of Python that the definition asks for, such as `3.12`."""
        found = re.search(r"python(3\.\d+)$", self.argument("PYCMD"))
        return (
            found[1] if found else fail(f"{DEFINITION}: expected a python_path such as /usr/bin/python3.12, found {self.argument('PYCMD')}")
        )

    @property
    def collections(self) -> list[str]:
        """The names of the collections that come from Galaxy."""
        asked = yaml.safe_load((self.files / "requirements.yml").read_text())["collections"]
        return [one["name"] for one in asked if one.get("type", "galaxy") == "galaxy"]


def fail(text: str) -> str:
    sys.exit(f"execution environment: {text}")


def run(*command: str | Path, **more: str) -> None:
    """In the environment of a new shell, where no other collections and no settings are found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run([*map(str, command)], env=kept | more, text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        fail(f"`{' '.join(map(str, command))}` ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")


def create(scratch: Path) -> Context:
    """As a user does it: a copy of the definition, the artefact beside it, and `ansible-builder create`."""
    home, definition, context = scratch / "home", scratch / "definition", scratch / "context"
    for directory in (home, definition):
        directory.mkdir()
    shutil.copy(DEFINITION, definition)
    artefact.build(definition, home)
    run(ARTEFACT / "bin" / "ansible-builder", "create", "--file", definition / DEFINITION.name, "--context", context,
        "--output-filename", "Containerfile", "--verbosity", "1")  # fmt: skip
    return Context(context)


def lay_collections(context: Context, target: Path, home: Path) -> None:
    """Those of Galaxy with what they depend on, then the context's own command, which takes the artefact and holds the others to what is asked."""
    source = ARTEFACT / "collections" / "ansible_collections"
    names = list(context.collections)
    for name in names:  # grows
        found = source.joinpath(*name.split("."))
        if not found.is_dir():
            fail(f"{name} is needed; expected it in {source}: see [tool.meshops.collections] in pyproject.toml")
        shutil.copytree(found, target.joinpath("ansible_collections", *name.split(".")))
        needed = json.loads((found / "MANIFEST.json").read_text())["collection_info"]["dependencies"]
        names += [one for one in needed if one not in names]
    command = [
        ARTEFACT / "bin" / "ansible-galaxy",
        "collection",
        "install",
        "--offline",
        "-r",
        "requirements.yml",
        "--collections-path",
        target,
    ]
    done = subprocess.run(
        command, cwd=context.files, env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(target), "ANSIBLE_HOME": str(home)},
        text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    if done.returncode:
        fail(f"`{' '.join(map(str, command))}` ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}")


def introspect(context: Context, collections: Path) -> str:
    """The Python packages that the collections need, as the context's own program says. What they need of the system must be readable."""
    python, bindep, pip = ARTEFACT / "bin" / "python", context.directory / "bindep.txt", context.directory / "requirements.txt"
    run(python, context.files / "scripts" / "introspect.py", "introspect", f"--write-bindep={bindep}", f"--write-pip={pip}", collections)
    # 1 says that something is missing on this machine, which is no image; 2 that it cannot be read
    read = subprocess.run(
        [ARTEFACT / "bin" / "bindep", "--file", bindep], text=True, capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    if read.returncode not in (0, 1):
        fail(f"bindep cannot read what the collections need of the system:\n{bindep.read_text()}{read.stdout}{read.stderr}")
    return pip.read_text()


def constraints() -> list[str]:
    """The versions of pyproject.toml: they install nothing."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    others = [
        line for group in ("runtime", "dev") for line in groups[group] if isinstance(line, str) and not line.startswith("ansible-core")
    ]
    return [*others, *(line for line in groups["middle"] if isinstance(line, str))]


def make(python: str, core: Sequence[str], requirements: str, scratch: Path) -> None:
    """In the order of the Containerfile, so that what is asked for later may not need what came before."""
    version = environment.version_of(python)
    stamp, made_from = DIRECTORY / ".made-from", json.dumps([core, requirements, constraints(), version, str(DIRECTORY)])
    wanted = hashlib.sha256(made_from.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted and environment.version_of(DIRECTORY / "bin" / "python") == version:
        return
    print(f"execution environment: making {DIRECTORY.name} with Python {version}, {python}", flush=True)
    run(python, "-m", "venv", "--clear", DIRECTORY)
    limits, asked = scratch / "constraints.txt", scratch / "requirements.txt"
    limits.write_text("\n".join(constraints()))
    asked.write_text(requirements)
    pip = [DIRECTORY / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    quickly = ("--quiet", "--no-compile", "--constraint", limits)
    run(*pip, "install", *quickly, *core)
    run(*pip, "install", *quickly, "--requirement", asked)
    run(*pip, "check")
    stamp.write_text(wanted)


def main() -> None:
    with tempfile.TemporaryDirectory() as named:
        scratch = Path(named)
        context = create(scratch)
        collections = scratch / "collections"
        lay_collections(context, collections, scratch / "home")
        requirements = introspect(context, collections)
        pythons = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["meshops"]["pythons"]["artefact"]
        python = environment.find_python([context.python, *pythons])
        make(python, context.argument("ANSIBLE_INSTALL_REFS").split(), requirements, scratch)
        shutil.rmtree(DIRECTORY / "collections", ignore_errors=True)
        shutil.copytree(collections, DIRECTORY / "collections")
        found = f"{DIRECTORY / 'bin'}:{os.environ['PATH']}"
        run("bash", context.files / "scripts" / "check_ansible", DIRECTORY / "bin" / "python", PATH=found)
        names = ", ".join(line.partition("#")[0].strip() for line in requirements.splitlines())
        print(f"execution environment: {DIRECTORY.name} is ready: {environment.ansible_version(DIRECTORY)}, {names}")


if __name__ == "__main__":
    main()
