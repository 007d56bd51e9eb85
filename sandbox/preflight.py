# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds what would fail, before anything is installed or built, and says what will be done and how long it takes.

    python3 -m sandbox.preflight [sandbox|demo]     (the default is sandbox)

Needs only Python's own library, since it runs before there is a virtual environment. Ends with exit code 1 and every problem at once.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from . import build, go, layout, nginx, ports, processes
from .progress import Failure, say

GB = 10**9
# measured with empty caches on x86-64
MODULES, OBJECTS, PROGRAMS, VIRTUAL_ENVIRONMENT, RUNNING = 1.2 * GB, 5.0 * GB, 0.6 * GB, 0.6 * GB, 0.3 * GB
OURS = (layout.VENV, layout.STATE, layout.BIN, layout.LOGS, layout.RUN, layout.ROOT / ".cache")


def problems(command: str = "sandbox") -> list[str]:
    """What keeps the sandbox from starting, each with what to do; for the demo, also what it needs besides."""
    if sys.platform != "linux":
        return [f"the sandbox needs Linux (every address of 127.0.0.0/8, /proc), found {platform.system()}: run it in a virtual machine"]
    found = [*_of_others(OURS)]
    if not runs():
        found += ports.troubles(ports.needed())
    found += _lack_of_space(needed_space())
    if command == "demo":
        try:
            nginx.find()
        except Failure as failure:
            found.append(f"the partner's server outside the mesh is an nginx: {failure}")
    return found


def require() -> None:
    if found := problems():
        raise Failure("\n".join(["the sandbox cannot start:", *(f"  {problem}" for problem in found)]))


def runs() -> bool:
    """Whether something of this sandbox runs. It then holds ports itself; `up` judges its health, and asks again for ports after it stopped it."""
    return bool(processes.records() or processes.strays())


def _of_others(directories: Iterable[Path]) -> Iterator[str]:
    """What another user, usually root, made here."""
    for directory in directories:
        if directory.exists() and not os.access(directory, os.W_OK | os.X_OK):
            owner = directory.stat().st_uid
            yield (
                f"{directory} belongs to user id {owner}, and this user may not write there: "
                f"run as that user, or `sudo chown -R {os.getuid()}:{os.getgid()} {layout.ROOT}`"
            )
            return  # the others will be the same


def needed_space() -> list[tuple[Path, float, str]]:
    """(where, bytes that are still to come, what)."""
    needs = [(layout.STATE, RUNNING, "logs and the cluster's data")]
    if not layout.VENV.is_dir():
        needs.append((layout.VENV, VIRTUAL_ENVIRONMENT, "the virtual environment"))
    if not build.is_built():
        modules, objects = _go_caches()
        needs += [
            (layout.BIN, PROGRAMS, "the programs"),
            (modules, MODULES - _size(modules), "Go's module cache (GOMODCACHE)"),
            (objects, OBJECTS - _size(objects), "Go's build cache (GOCACHE)"),
        ]
    return [need for need in needs if need[1] > 0]


def _go_caches() -> tuple[Path, Path]:
    if program := shutil.which("go"):
        asked = [program, "env", "GOMODCACHE", "GOCACHE"]
        told = subprocess.run(asked, cwd="/", env=go.environment(program), capture_output=True, text=True, check=False).stdout.splitlines()
        if len(told) == 2 and all(told):
            return Path(told[0]), Path(told[1])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path.home() / "go" / "pkg" / "mod", cache / "go-build"


def _size(directory: Path) -> int:
    told = subprocess.run(["du", "-s", "-B1", directory], capture_output=True, text=True, check=False).stdout.split()
    return int(told[0]) if told else 0


def _lack_of_space(needs: Sequence[tuple[Path, float, str]]) -> Iterator[str]:
    by_device: dict[int, list[tuple[Path, float, str]]] = {}
    for where, size, what in needs:
        there = next((path for path in (where, *where.parents) if path.exists()), Path("/"))
        by_device.setdefault(there.stat().st_dev, []).append((there, size, what))
    for together in by_device.values():
        usage = os.statvfs(together[0][0])
        free, wanted = usage.f_bavail * usage.f_frsize, sum(size for __, size, __ in together)
        if free < wanted:
            parts = ", ".join(f"{size / GB:.1f} GB for {what}" for __, size, what in together)
            yield (
                f"{together[0][0]} is on a file system with {free / GB:.1f} GB free, expected {wanted / GB:.1f} GB or more ({parts}): "
                "free some space there, or set GOMODCACHE and GOCACHE to directories on a larger one"
            )


def plan(command: str) -> list[str]:
    """What will be done, step by step, with what each takes on two cores."""
    steps = [
        ("Ansible and its collections, in .venv", "there already" if (layout.VENV / ".made-from").is_file() else "a minute"),
        (
            "the programs of Kubernetes and Istio, built from their Go modules",
            "built already" if build.is_built() else "10 to 15 minutes, less where Go's caches have them",
        ),
        ("a mesh on loopback: Kubernetes, istiod, two gateways, a client", "running" if runs() else "10 to 20 s"),
    ]
    if command == "demo":
        steps.append(("Istio's two walkthroughs as playbooks, each check asserted", "2 to 4 minutes"))
    return [
        f"make {command}: everything is kept in {layout.ROOT} and in Go's caches, and nothing listens outside loopback.",
        *(f"  {number}. {what} ({time})" for number, (what, time) in enumerate(steps, start=1)),
        "`make down` stops it, `make clean` removes everything but Go's caches.",
    ]


def main() -> int:
    command = next(iter(sys.argv[1:]), "sandbox")
    if command not in ("sandbox", "demo"):
        say(f"preflight: expected sandbox or demo, found {command}")
        return 2
    if command == "demo" or not build.is_built():
        say("\n".join(plan(command)))
    if found := problems(command):
        say(
            "\n".join(
                [f"make {command} cannot succeed here:", *(f"  {problem}" for problem in found), f"Mend this, then `make {command}` again."]
            )
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
