# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks share: the sandbox as a shell has it after `. .sandbox/env`, how long
something takes, and a word to whoever waits."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from ansible_collections.meshops.istio.sandbox import layout


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def timed(run: Callable[[], object]) -> float:
    start = time.monotonic()
    run()
    return time.monotonic() - start


def sandbox_environment() -> dict[str, str]:
    if not layout.ENV.is_file():
        sys.exit("bench: the sandbox does not run: make sandbox")
    printed = subprocess.run(["bash", "-c", '. "$0" && env -0', str(layout.ENV)], capture_output=True, check=True)
    found = dict(line.split("=", 1) for line in printed.stdout.decode().split("\0") if "=" in line)
    # with PYTHONUNBUFFERED every module would read its arguments byte by byte
    return {name: value for name, value in found.items() if not name.startswith("PYTHON")}
