# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module as a process of its own, as Ansible runs it, without ansible-playbook around it: to be signalled, raced, and timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

_RUNNER = """
import importlib, json, sys
from ansible.module_utils.testing import patch_module_args
order = json.load(sys.stdin)
package = "ansible_collections.meshops.istio.plugins."
for name, value in order["settings"].items():
    module, __, attribute = name.rpartition(".")
    module = importlib.import_module(package + "module_utils." + module)
    assert hasattr(module, attribute), name
    setattr(module, attribute, value)
module = importlib.import_module(package + "modules." + order["module"])
with patch_module_args(order["arguments"]):
    module.main()
"""


@dataclass
class Finished:
    result: dict[str, Any]
    code: int
    seconds: float
    output: str

    @property
    def message(self) -> str:
        return str(self.result.get("msg", ""))

    @property
    def failed(self) -> bool:
        return bool(self.result.get("failed"))

    def ok(self) -> Finished:
        assert self.code == 0 and not self.failed, self.output
        return self

    def fails(self) -> Finished:
        """In sentences, never with a traceback."""
        assert self.failed and self.code, self.output
        assert "Traceback" not in self.output and "exception" not in self.result, self.output
        return self

    def named(self, what: str) -> set[str]:
        """The names of the objects in the list `applied`, `failures` or `not_tried` of a failure."""
        return {item["name"] for item in self.result[what]}


class Running:
    """A module at work. `settings` are constants of module_utils to set first, such as `cluster.client._PATIENCE`."""

    def __init__(
        self, module: str, arguments: dict[str, Any], *, check: bool = False, diff: bool = False, settings: dict[str, Any] | None = None
    ) -> None:
        path = f"{ROOT / '.venv' / 'collections'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("K8S_AUTH_") and name != "KUBECONFIG"}
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _RUNNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environment, "PYTHONPATH": path, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
            text=True,
        )
        order = {
            "module": module,
            "arguments": {**arguments, "_ansible_check_mode": check, "_ansible_diff": diff},
            "settings": settings or {},
        }
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order))
        self.process.stdin.close()
        self.process.stdin = None

    def finish(self, seconds: float = 120.0) -> Finished:
        try:
            output, __ = self.process.communicate(timeout=seconds)
        finally:
            self.process.kill()
        taken = time.monotonic() - self.started
        lines = [line for line in output.splitlines() if line.startswith("{")]
        assert lines, output
        return Finished(json.loads(lines[-1]), self.process.returncode, taken, output)


def run(module: str, arguments: dict[str, Any], **more: Any) -> Finished:
    return Running(module, arguments, **more).finish()
