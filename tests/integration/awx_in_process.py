# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the real modules of awx.awx in Ansible's own process, as this collection's run there: a process for each takes a second, and a run has fifty."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.meshops.istio.plugins.plugin_utils.in_process import InProcess, _handed_over, borrowed

PACKAGE = "ansible_collections.awx.awx.plugins.modules"
OWN = "ansible_collections.meshops.istio.tests.integration.awx_in_process"


def overlay(awx: Path, place: Path) -> Path:
    """The installed collection once more, with an action plugin for each module. Returns the directory for ANSIBLE_COLLECTIONS_PATH."""
    made = place / "ansible_collections" / "awx" / "awx"
    actions = made / "plugins" / "action"
    actions.mkdir(parents=True)
    for path in (awx, awx / "plugins"):
        for found in path.iterdir():
            target = made / found.relative_to(awx)
            if not target.exists():
                target.symlink_to(found, target_is_directory=found.is_dir())
    for module in (awx / "plugins" / "modules").glob("[!_]*.py"):
        text = f"from {OWN} import acting\n\nActionModule = acting({module.stem!r})\n"
        (actions / module.name).write_text(text)
    return place


def acting(name: str) -> type[InProcess]:
    class ActionModule(InProcess):
        module = importlib.import_module(f"{PACKAGE}.{name}")

        def _run(self, given: Mapping[str, Any]) -> str:
            with borrowed(self._loader.get_basedir(), self._environment()) as printed, _handed_over(given):
                with contextlib.suppress(SystemExit):
                    self.module.main()
                return printed.getvalue()

    return ActionModule
