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

from . import lifecycle, ports
from .processes import Component, is_alive, records, start, stop, wait_for
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


def run(name: str, argv: Sequence[str], listens: Sequence[str] = ()) -> None:
    """Starts it and waits until it listens; an equal one that runs already is left alone, another of that name is replaced."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name) or name in lifecycle.COMPONENTS:
        raise Failure(
            f"name {name}: expected lower-case letters, digits and dashes, and none of the sandbox's own {', '.join(lifecycle.COMPONENTS)}"
        )
    places = [parse_place(text) for text in listens]
    with lifecycle.locked():
        lifecycle.require_running()
        before = [record for record in records() if record.name == name]
        if before and is_alive(before[0]) and before[0].command == tuple(argv) and all(map(accepts, places)):
            return
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


def stop_named(name: str) -> None:
    if name in lifecycle.COMPONENTS:
        raise Failure(f"{name} is a part of the sandbox: `down` stops it with the rest")
    with lifecycle.locked():
        stop([record for record in records() if record.name == name])
