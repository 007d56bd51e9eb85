# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a program with a sandbox of its own, in a network of its own, so that several sandboxes run beside each other.

    .venv/bin/python tools/own_mesh.py DIRECTORY PROGRAM [ARGUMENT ...]

The sandbox's addresses and ports are the same in every network; what it keeps is in DIRECTORY (its programs are shared). It is started before the
program and stopped after it. What the sandbox says goes to DIRECTORY/up.log, and in full to standard error where it does not start: standard output
and input are the program's. Ends with the program's exit code. Needs the right to make a network: root, or user namespaces.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
INSIDE = "MESHOPS_OWN_NETWORK"
ADDRESS = "198.18.0.1"
"""Istio's agent wants one that is not of the loopback network; this one is nobody's (RFC 2544)."""


def unshare() -> list[str]:
    """The command in front of what runs in a new network."""
    return ["unshare", "--net", *(["--map-root-user"] if os.geteuid() else []), "--"]


def is_possible() -> bool:
    if not shutil.which("unshare") or not shutil.which("ip"):
        return False
    tried = [*unshare(), "ip", "link", "set", "lo", "up"]
    return subprocess.run(tried, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode == 0


def sandbox(command: str, directory: Path) -> int:
    with (directory / "up.log").open("ab") as log:
        words = [sys.executable, "-m", "sandbox", command]
        return subprocess.run(words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode


def end_on_signal(number: int, __: object) -> NoReturn:
    raise SystemExit(128 + number)


@functools.cache
def interface() -> str:
    """One that is not the loopback interface: istioctl overlooks the addresses of that (GetPrivateIPsIfAvailable in Istio's pilot/pkg/util/network)."""
    tried = (["ip", "link", "add", "own0", "type", kind] for kind in ("dummy", "bridge"))
    made = any(subprocess.run(words, capture_output=True, check=False).returncode == 0 for words in tried)
    return "own0" if made else "lo"


def run(directory: Path, program: list[str]) -> int:
    for words in ("link set lo up", f"link set {interface()} up", f"address add {ADDRESS}/32 dev {interface()}"):
        subprocess.run(["ip", *words.split()], check=True)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "up.log").unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, end_on_signal)
    try:
        if code := sandbox("up", directory):
            sys.stderr.write((directory / "up.log").read_text(errors="replace"))
            return code
        return subprocess.run(program, check=False).returncode
    finally:
        sandbox("down", directory)


def main() -> int:
    if len(sys.argv) < 3:
        sys.exit(f"usage: {sys.argv[0]} DIRECTORY PROGRAM [ARGUMENT ...]")
    directory = Path(sys.argv[1]).resolve()
    if os.environ.pop(INSIDE, ""):
        return run(directory, sys.argv[2:])
    os.environ |= {INSIDE: "1", "MESHOPS_SANDBOX_DIRECTORY": str(directory)}
    command = [*unshare(), sys.executable, *sys.argv]
    return os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    sys.exit(main())
