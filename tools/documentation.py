# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders the documentation of every module and role into .docs/index.html; ends with an error where something in it is broken.

.venv/bin/python tools/documentation.py
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from docutils.core import publish_string

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(sys.prefix)
TARGET = ROOT / ".docs"
WARNING = 2  # docutils' level


def main() -> None:
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir()
    # antsibull-docs runs ansible-doc
    environment = {**os.environ, "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}", "ANSIBLE_COLLECTIONS_PATH": str(VENV / "collections")}
    options = ("--use-current", "--squash-hierarchy", "--fail-on-error", "--output-format", "simplified-rst", "--dest-dir", TARGET)
    made = subprocess.run([VENV / "bin" / "antsibull-docs", "collection", *options, "meshops.istio"], env=environment, check=False)
    if made.returncode:
        sys.exit(made.returncode)
    for source in TARGET.glob("*.rst"):
        page = publish_string(source.read_text(), str(source), writer="html5", settings_overrides={"halt_level": WARNING})
        # pages refer to each other by their sources' names
        source.with_suffix(".html").write_text(re.sub(r'(href="[\w.]+)\.rst([#"])', r"\1.html\2", page.decode()))
        source.unlink()
    print(f"documentation: {TARGET / 'index.html'}")


if __name__ == "__main__":
    main()
