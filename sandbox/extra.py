# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One more process beside the sandbox's own, for example an nginx that plays a server outside the mesh."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from . import layout, lifecycle, ports
from .processes import RECORDS, Component, Record, is_alive, records, start, stop, wait_for
from .progress import Failure


def parse_place(text: str) -> tuple[str, int]:
    host, __, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise Failure(f"--listens {text}: expected ADDRESS:PORT, for example 127.0.0.31:443")
    return host, int(port)


def accepts(place: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(place, timeout=1):
            return True
    except OSError:
        return False


def is_younger(record: Record, files: Sequence[Path]) -> bool:
    """Whether none of the files was written since it was started."""
    started = (RECORDS / f"{record.name}.json").stat().st_mtime_ns
    return all(path.stat().st_mtime_ns < started for path in files)


def run(name: str, argv: Sequence[str], listens: Sequence[str] = (), reads: Sequence[str] = (), check: bool = False) -> str:
    """Starts it and waits until it listens; an equal one that runs already is left alone, another of that name is replaced.

    One that was started before a file of `reads` was written is replaced, too. Returns which of `started`, `replaced` and `unchanged` it was;
    with `check`, would be.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name) or name in lifecycle.COMPONENTS:
        raise Failure(
            f"name {name}: expected lower-case letters, digits and dashes, and none of the sandbox's own {', '.join(lifecycle.COMPONENTS)}"
        )
    places = [parse_place(text) for text in listens]
    files = [Path(path) for path in reads]
    if missing := [str(path) for path in files if not path.is_file()]:
        raise Failure(f"{name}: expected to read {', '.join(missing)}, which is no file")
    with lifecycle.locked():
        lifecycle.require_running()
        before = [record for record in records() if record.name == name]
        is_equal = before and is_alive(before[0]) and before[0].command == tuple(argv) and all(map(accepts, places))
        if is_equal and is_younger(before[0], files):
            return "unchanged"
        done = "replaced" if before else "started"
        if check:
            return done
        stop(before)
        ports.require_free((place, name) for place in places)
        record = start(Component(name, argv, directory=Path.cwd(), ports=places))
        try:
            wait_for(f"{name} to listen", lambda: all(map(accepts, places)), [record], seconds=15)
            time.sleep(0.2)  # one that cannot start ends at once
            wait_for(f"{name} to stay", lambda: is_alive(record), [record])
        except Failure:
            stop([record])
            raise
    return done


def stop_named(name: str, check: bool = False) -> str:
    """Returns which of `stopped` and `unchanged` it was; with `check`, would be."""
    if name in lifecycle.COMPONENTS:
        raise Failure(f"{name} is a part of the sandbox: `down` stops it with the rest")
    if not layout.STATE.is_dir():
        return "unchanged"
    with lifecycle.locked():
        found = [record for record in records() if record.name == name]
        if not check:
            stop(found)
    return "stopped" if found else "unchanged"
