# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let's Encrypt's Pebble, a real ACME server for tests, and the DNS server beside it.

python -m sandbox.pebble     (builds both where they are missing or old)
"""

from __future__ import annotations

from . import build
from .layout import BIN, PROGRAMS

COMMANDS = "github.com/letsencrypt/pebble/v2/cmd"
SERVER, DNS = BIN / "pebble", BIN / "pebble-challtestsrv"


def make() -> None:
    build.make_for_tests(PROGRAMS / "pebble", [f"{COMMANDS}/{one.name}" for one in (SERVER, DNS)])


if __name__ == "__main__":
    make()
