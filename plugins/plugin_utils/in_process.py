# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module where Ansible itself runs: without an archive, a new interpreter and its imports, which take longer than most calls.

Ansible does everything before and after a call as for any module: arguments, defaults, environment, the result and what is shown of it. Only two
steps of its way are others: nothing is packed (_configure_module), and no process is started (_low_level_execute_command).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Any, ClassVar

from ansible import constants as C  # noqa: N812 - as everybody calls it
from ansible.module_utils import basic
from ansible.module_utils.common import json as ansible_json
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action.normal import ActionModule as ModuleAction
from ansible_collections.meshops.istio.plugins.module_utils.call import Call, answer
from ansible_collections.meshops.istio.plugins.module_utils.module import begin, finish
from ansible_collections.meshops.istio.plugins.module_utils.progress import heard
from ansible_collections.meshops.istio.plugins.plugin_utils.worker import borrowed, is_mine, stoppable

SWITCH = "MESHOPS_IN_PROCESS"
"""The variable of the environment (the controller's, or the task's) that switches this off: `false`."""
LIBRARIES = ("cryptography", "kubernetes")
DISCOVERED = ("", "auto", "auto_legacy", "auto_silent", "auto_legacy_silent")
"""Interpreters that nobody named: Ansible looks for one, and may find one without the libraries."""
FOR_NEW_PROCESSES = ("PYTHON", "LD_", "DYLD_", "OPENSSL_")
"""How variables begin that are read when a process starts."""
FOR_PROGRAMS = ("json", "jsonl", "null")
"""Callbacks whose output nobody looks at while a playbook runs."""
PROFILE = "legacy"  # of what is handed over, as for every module that says nothing else


def is_on(environment: Mapping[str, str]) -> bool:
    return bool(boolean(environment.get(SWITCH) or True, strict=False))


def load_libraries() -> None:
    """In the process from which Ansible forks a worker for each task, or each would load them again."""
    for name in ("cryptography.hazmat.primitives.serialization.pkcs12", "cryptography.x509", "urllib3"):
        with contextlib.suppress(Exception):  # what is missing, or broken, is told by the call that needs it
            importlib.import_module(name)


if is_on(os.environ):
    load_libraries()


class InProcess(ModuleAction):
    """An action plugin names its module and has nothing else."""

    module: ClassVar[ModuleType]
    _here = False
    _host = ""
    _given: dict[str, Any] | None = None

    def _execute_module(self, *args: Any, **more: Any) -> Any:
        variables = more.get("task_vars") or {}
        self._host = str(variables.get("inventory_hostname", ""))
        why_not = self._why_not(variables)
        self._display.vvv(f"{self._task.action} runs in " + (f"a process of its own: {why_not}" if why_not else "Ansible's own process"))
        self._here = not why_not
        try:
            return super()._execute_module(*args, **more)
        finally:
            self._here = False

    def _is_pipelining_enabled(self, *args: Any, **more: Any) -> bool:
        return self._here or super()._is_pipelining_enabled(*args, **more)  # no temporary directory is needed

    def _configure_module(self, module_name: str, module_args: dict[str, Any], task_vars: Any) -> Any:
        if not self._here:
            return super()._configure_module(module_name, module_args, task_vars)
        self._given = module_args
        return _nothing_to_send(str(self.module.__file__))

    def _low_level_execute_command(self, *args: Any, **more: Any) -> Any:
        given, self._given = self._given, None
        if given is None:
            return super()._low_level_execute_command(*args, **more)
        return {"rc": 0, "stdout": self._run(given), "stdout_lines": [], "stderr": "", "stderr_lines": []}

    def _run(self, given: Mapping[str, Any]) -> str:
        """The call, and what it prints. The directory is that in which Ansible starts modules."""
        with borrowed(self._loader.get_basedir(), self._environment()) as printed, _handed_over(given):
            with contextlib.suppress(SystemExit):
                module, call = begin(self.module.SPEC, self.module.CONSTRAINTS)
                with heard(lambda line: self._say(module.shown(line))), self._ended_early(call):
                    result = stoppable(lambda: answer(self.module.act, call))
                finish(module, call, result)
            return printed.getvalue()

    @contextlib.contextmanager
    def _ended_early(self, call: Call) -> Iterator[None]:
        """When the task's time is over, Ansible says so, and no more."""
        try:
            yield
        except BaseException as error:
            if call.wrote and not isinstance(error, KeyboardInterrupt):  # then nobody reads any more what is said here
                self._display.warning(f"{self._task.action} was ended after it had begun to write; running again finishes what is left")
            raise

    def _say(self, line: str) -> None:
        """Progress, beside the results: programs that read those find nothing else on standard output."""
        if C.DEFAULT_STDOUT_CALLBACK.rpartition(".")[2] not in FOR_PROGRAMS:
            self._display.display(f"{self._host}: {self._task.action}: {line}", stderr=True)

    def _environment(self) -> dict[str, str]:
        """The variables of the task's `environment`."""
        found: dict[str, Any] = {}
        self._compute_environment_string(found)
        return {str(name): str(value) for name, value in found.items()}

    def _why_not(self, variables: Mapping[str, Any]) -> str:
        """What keeps the call from running here; empty where nothing does."""
        environment = self._environment()
        early = [name for name in environment if name.startswith(FOR_NEW_PROCESSES)]
        missing = [library for library in LIBRARIES if find_spec(library) is None]
        other = self._other_interpreter(variables, environment)
        reasons = {
            f"{SWITCH} is false": not is_on({**os.environ, **environment}),
            "async": self._task.async_val,
            "the connection is not local": self._connection.transport != "local",
            "become": self._connection.become,
            "the files of modules are to be kept": C.DEFAULT_KEEP_REMOTE_FILES,
            "Ansible runs it in a thread": threading.current_thread() is not threading.main_thread(),
            f"environment sets {', '.join(early)}": early,
            f"ansible_python_interpreter is {other}, and Ansible runs with {sys.executable}": other,
            f"{sys.executable} has no {' and no '.join(missing)}": missing,
        }
        return next((reason for reason, applies in reasons.items() if applies), "")

    def _other_interpreter(self, variables: Mapping[str, Any], environment: Mapping[str, str]) -> str:
        """The interpreter that is named for modules, where it is not the one that runs Ansible."""
        if self._task.delegate_to:
            variables = variables["ansible_delegated_vars"][self._task.delegate_to]
        named = self._templar.template(C.config.get_config_value("INTERPRETER_PYTHON", variables=variables) or "")
        named = str(named).strip()
        if named in DISCOVERED:
            return ""
        path = named if os.sep in named else shutil.which(named, path=environment.get("PATH")) or ""
        return "" if path and is_mine(os.path.join(self._loader.get_basedir(), path)) else named  # noqa: PTH118


def _nothing_to_send(path: str) -> Any:
    """A module as Ansible wants it to be packed."""
    interpreter = f"#!{sys.executable}"
    try:
        from ansible.executor.module_common import _BuiltModule
    except ImportError:  # ansible-core before 2.19
        return "new", interpreter, b"", path
    return _BuiltModule(b_module_data=b"", module_style="new", shebang=interpreter, serialization_profile=PROFILE), path


@contextlib.contextmanager
def _handed_over(given: Mapping[str, Any]) -> Iterator[None]:
    """Arguments where AnsibleModule looks for them, in the form in which they come to every module."""
    wrapped = {"ANSIBLE_MODULE_ARGS": given}
    if hasattr(ansible_json, "get_module_encoder"):
        encoder = ansible_json.get_module_encoder(PROFILE, ansible_json.Direction.CONTROLLER_TO_MODULE)
        text = json.dumps(wrapped, cls=encoder)
    else:  # ansible-core before 2.19
        text = json.dumps(wrapped, cls=ansible_json.AnsibleJSONEncoder, vault_to_text=True)
    names = ("_ANSIBLE_ARGS", "_ANSIBLE_PROFILE", "_PARSED_MODULE_ARGS")
    before = {name: getattr(basic, name) for name in names if hasattr(basic, name)}
    basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = text.encode(), PROFILE
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(basic, name, value)
