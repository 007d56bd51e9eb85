# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module as a process of its own, as Ansible runs it, without ansible-playbook around it: to be signalled, raced, and timed."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .forker import Forker

ROOT = Path(__file__).resolve().parents[2]

_PROGRAM = r"""
import importlib
import cryptography.x509, cryptography.hazmat.primitives.serialization.pkcs12, kubernetes.client.rest, kubernetes.config
from ansible.module_utils.testing import patch_module_args

package = "ansible_collections.meshops.istio.plugins."
for name in ("istio_tls_credential", "ingress_tls_gateway", "egress_mtls_origination"):
    importlib.import_module(package + "modules." + name)


def run(order):
    for name, value in order["settings"].items():
        module, __, attribute = name.rpartition(".")
        module = importlib.import_module(package + "module_utils." + module)
        assert hasattr(module, attribute), name
        setattr(module, attribute, value)
    module = importlib.import_module(package + "modules." + order["module"])
    with patch_module_args(order["arguments"]):
        module.main()
"""


@functools.cache
def _forker() -> Forker:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("K8S_AUTH_") and name != "KUBECONFIG"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / ".venv" / "collections"), environment.get("PYTHONPATH", "")])
    environment["NO_PROXY"] = environment["no_proxy"] = "127.0.0.1"
    return Forker(sys.executable, _PROGRAM, environment)


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
        self.started = time.monotonic()
        given = {**arguments, "_ansible_check_mode": check, "_ansible_diff": diff}
        self._forked = _forker().start(module=module, arguments=given, settings=settings or {})

    @property
    def has_ended(self) -> bool:
        return self._forked.has_ended

    def send(self, number: int) -> None:
        self._forked.send(number)

    def wait(self, seconds: float = 120.0) -> int:
        return self._forked.wait(seconds)

    def finish(self, seconds: float = 120.0) -> Finished:
        code = self.wait(seconds)
        taken = time.monotonic() - self.started
        text = self._forked.output
        lines = [line for line in text.splitlines() if line.startswith("{")]
        assert lines, text
        return Finished(json.loads(lines[-1]), code, taken, text)


def run(module: str, arguments: dict[str, Any], **more: Any) -> Finished:
    return Running(module, arguments, **more).finish()
