# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook without its start: the same program, forked from a process in which its libraries are loaded.

A small playbook takes a second, of which all but a fifth goes into imports and into reading what Ansible and its plugins say of themselves. Ansible reads
its configuration while it is imported; so each configuration (the variables that may be a part of it) has a process of its own, from its second run on.
What the real command does beyond this (its start, how it ends) is tested by molecule, by the demo, and by tests that start it themselves.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .forker import Forker

KEPT = 4
"""Configurations; the one that was not used for the longest is given up. Each takes 100 MB."""
OF_A_RUN = ("MESHOPS_", "KUBE", "K8S_AUTH_", "OPERATOR_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "PYTEST_", "SSL_")
"""How variables begin, in capital letters, that nothing reads while it is imported."""

_PROGRAM = r"""
import atexit, importlib, os, pkgutil, sys
import ansible.cli
from ansible import constants
from ansible.cli import playbook
from ansible.plugins import loader

ansible.cli.init_plugin_loader()
ansible.cli.init_plugin_loader = lambda *__: None  # once is all that it allows
for kind in ("connection", "shell", "become", "callback", "vars", "inventory", "filter", "test"):
    list(getattr(loader, kind + "_loader").all(class_only=True))
for name in (
    "ansible.executor.module_common", "ansible.plugins.action.normal", "ansible.plugins.strategy.linear", "ansible_collections.ansible.builtin",
):
    importlib.import_module(name)
ours = importlib.import_module("ansible_collections.meshops.istio.plugins.action")
for found in pkgutil.iter_modules(ours.__path__):
    importlib.import_module(ours.__name__ + "." + found.name)


def run(order):
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environment"])
    # the directory for temporary files is made, and removed at the end, for each run
    atexit._clear()
    constants.DEFAULT_LOCAL_TMP = constants.config.get_config_value("DEFAULT_LOCAL_TMP")
    sys.argv = order["command"]
    try:
        code = playbook.main()
    except SystemExit as error:
        code = error.code
    if isinstance(code, str):
        print(code, file=sys.stderr)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if isinstance(code, str) else code or 0)  # to take everything apart first would take a third of the time
"""

Key = tuple[str, str, frozenset[tuple[str, str]]]
_asked_for: set[Key] = set()
_forkers: OrderedDict[Key, Forker] = OrderedDict()


@dataclass(frozen=True)
class Done:
    returncode: int
    output: str
    """Standard output, then the errors."""


def run(command: Sequence[str], environment: Mapping[str, str], directory: Path, seconds: float) -> Done:
    """`command` begins with the name ansible-playbook, which is looked for on PATH, as ever."""
    program = shutil.which(command[0], path=environment["PATH"])
    assert program, f"{command[0]} is not in {environment['PATH']}"
    words = [program, *command[1:]]
    python = Path(program).with_name("python")
    forker = _forker(python, environment, directory) if _is_the_real_one(Path(program), python) else None
    if not forker:
        done = subprocess.run(words, env=environment, cwd=directory, text=True, capture_output=True, timeout=seconds, check=False)
        return Done(done.returncode, done.stdout + done.stderr)
    forked = forker.start(command=words, environment=dict(environment), directory=str(directory))
    return Done(forked.wait(seconds), forked.output)


def _is_the_real_one(program: Path, python: Path) -> bool:
    """And nothing that a test has put in its place."""
    return not program.is_symlink() and program.read_text().startswith(f"#!{python}\n")


def _forker(python: Path, environment: Mapping[str, str], directory: Path) -> Forker | None:
    """None at the first time: many a test has a configuration that no other has."""
    configuration = {name: value for name, value in environment.items() if not name.upper().startswith(OF_A_RUN)}
    key = (str(python), str(directory), frozenset(configuration.items()))
    if key not in _asked_for:
        _asked_for.add(key)
        return None
    if key not in _forkers:
        while len(_forkers) >= KEPT:
            _forkers.popitem(last=False)[1].stop()
        _forkers[key] = Forker(python, _PROGRAM, environment, directory)
    _forkers.move_to_end(key)
    return _forkers[key]
