# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let's Encrypt's Pebble, a real ACME server for tests, and the DNS server beside it.

python -m sandbox.pebble     (builds both where they are missing or old: seconds, for they share nothing with what the sandbox is made of)
"""

from __future__ import annotations

import hashlib
import json
import platform

from . import build
from .layout import BIN, PROGRAMS

SOURCES = PROGRAMS / "pebble"
COMMANDS = "github.com/letsencrypt/pebble/v2/cmd"
SERVER, DNS = BIN / "pebble", BIN / "pebble-challtestsrv"
STAMP = BIN / ".pebble-built-from"


def make() -> None:
    made_from = [(SOURCES / name).read_text() for name in ("go.mod", "go.sum")]
    wanted = hashlib.sha256(json.dumps([*made_from, platform.machine()]).encode()).hexdigest()
    if not (STAMP.is_file() and STAMP.read_text() == wanted and SERVER.is_file() and DNS.is_file()):
        build.compile_all(SOURCES, [(f"{BIN}/", [f"{COMMANDS}/{one.name}" for one in (SERVER, DNS)])], ["-ldflags", "-s -w"])
        STAMP.write_text(wanted)


if __name__ == "__main__":
    make()
