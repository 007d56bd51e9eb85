# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fortio, a load generator for tests and the benchmark: https://fortio.org

python -m sandbox.fortio     (builds it where it is missing or old)
"""

from __future__ import annotations

from . import build
from .layout import BIN, PROGRAMS

FORTIO = BIN / "fortio"


def make() -> None:
    build.make_for_tests(PROGRAMS / "fortio", ["fortio.org/fortio"])


if __name__ == "__main__":
    make()
