# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which process rotates, said so that another one on the same machine can tell whether it still lives."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from pathlib import Path

_PROC = Path("/proc")


def this_process() -> str:
    """`boot:namespace:pid:start`; without /proc (macOS) something that nobody can look up."""
    return f"{_machine()}:{os.getpid()}:{_started(os.getpid())}"


def lives(holder: str) -> bool | None:
    """Whether a process goes on; None where that cannot be told from here, as on another machine or in another container."""
    machine, __, process = holder.rpartition(":")[0].rpartition(":")
    if not machine or machine != _machine() or machine.startswith(":"):
        return None
    started = holder.rpartition(":")[2]
    return process.isdecimal() and started != "" and _started(int(process)) == started


def _machine() -> str:
    """Processes are numbered for each start of a machine, and for each container on it."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{(_PROC / 'self/ns/pid').readlink()}".replace("pid:", "")
    except OSError:
        return ":"


def _started(process: int) -> str:
    """When it was started, in the kernel's ticks; empty for one that has ended."""
    try:
        fields = (_PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def by_whom(environment: Mapping[str, str]) -> str:
    """For people: the user, the machine, and AWX's job where one runs."""
    job = environment.get("AWX_JOB_ID") or environment.get("JOB_ID") or ""
    try:
        user = environment.get("AWX_USER_NAME") or getpass.getuser()
    except (KeyError, OSError):  # no such user in the container
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}" + (f", job {job}" if job else "")
