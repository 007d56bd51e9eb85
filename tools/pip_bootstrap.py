# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts pip into an empty virtual environment: what ansible-test would download as get_pip_VERSION.py, from a host that not everyone can reach.

tools/sanity.py lays it where ansible-test looks for it. The arguments are those of `pip install`.
"""

from __future__ import annotations

import subprocess
import sys

# ensurepip runs in a process of its own: in this one it would switch pip's configuration off
subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
arguments = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *arguments]))
