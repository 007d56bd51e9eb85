# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module as a process of its own, as Ansible runs it, without ansible-playbook around it: to be signalled, raced, and timed.

To start Python and to import what a module needs takes a second; so one process imports everything once, and forks for every run.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

_FORKER = r"""
import importlib, json, os, signal, sys
import cryptography.x509, cryptography.hazmat.primitives.serialization.pkcs12, kubernetes.client.rest, kubernetes.config
from ansible.module_utils.testing import patch_module_args

package = "ansible_collections.meshops.istio.plugins."
for name in ("istio_tls_credential", "ingress_tls_gateway", "egress_mtls_origination"):
    importlib.import_module(package + "modules." + name)


def run(order):
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number in (1, 2):
        os.dup2(output, number)
    for name, value in order["settings"].items():
        module, __, attribute = name.rpartition(".")
        module = importlib.import_module(package + "module_utils." + module)
        assert hasattr(module, attribute), name
        setattr(module, attribute, value)
    module = importlib.import_module(package + "modules." + order["module"])
    with patch_module_args(order["arguments"]):
        module.main()


def supervise(order):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        return run(order)
    print(pid, flush=True)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(order["output"] + ".tmp", "w") as file:
        file.write(str(code))
    os.rename(order["output"] + ".tmp", order["output"] + ".code")
    os._exit(0)


signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while line := sys.stdin.readline():
    if not os.fork():
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        supervise(json.loads(line))
        break
"""


@functools.cache
def _forker() -> tuple[subprocess.Popen[str], Path]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("K8S_AUTH_") and name != "KUBECONFIG"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / ".venv" / "collections"), environment.get("PYTHONPATH", "")])
    environment["NO_PROXY"] = environment["no_proxy"] = "127.0.0.1"
    process = subprocess.Popen(
        [sys.executable, "-c", _FORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, start_new_session=True
    )
    directory = tempfile.TemporaryDirectory(prefix="meshops-tests-")

    @atexit.register
    def stop() -> None:
        process.kill()
        process.wait()
        directory.cleanup()

    return process, Path(directory.name)


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
        forker, directory = _forker()
        self.started = time.monotonic()
        self.output = directory / os.urandom(8).hex()
        order = {
            "module": module,
            "arguments": {**arguments, "_ansible_check_mode": check, "_ansible_diff": diff},
            "settings": settings or {},
            "output": str(self.output),
        }
        assert forker.stdin and forker.stdout
        forker.stdin.write(json.dumps(order) + "\n")
        forker.stdin.flush()
        self.pid = int(forker.stdout.readline())

    @property
    def has_ended(self) -> bool:
        return Path(f"{self.output}.code").exists()

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = 120.0) -> int:
        deadline = time.monotonic() + seconds
        while not self.has_ended:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                raise AssertionError(f"the module did not end within {seconds:.0f} s: {self.output.read_text()}")
            time.sleep(0.01)
        return int(Path(f"{self.output}.code").read_text())

    def finish(self, seconds: float = 120.0) -> Finished:
        code = self.wait(seconds)
        taken = time.monotonic() - self.started
        text = self.output.read_text()
        lines = [line for line in text.splitlines() if line.startswith("{")]
        assert lines, text
        return Finished(json.loads(lines[-1]), code, taken, text)


def run(module: str, arguments: dict[str, Any], **more: Any) -> Finished:
    return Running(module, arguments, **more).finish()
