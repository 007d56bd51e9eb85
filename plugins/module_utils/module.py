# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How every module starts and ends: arguments in, signals, result out. The only file that touches AnsibleModule.

A module has its options in `SPEC`, the rules between them in `CONSTRAINTS`, and in `act` what it does.
"""

from __future__ import annotations

import gc
import json
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import remove_values

from .arguments import AUTH_OPTIONS
from .call import Act, Call, answer
from .cluster.reconcile import Stopped
from .masking import BLANK, beginnings, inert, printable, secrets_in, told

ALLOCATIONS = 50_000
"""Between two looks for garbage: at Python's own threshold, they take a seventh of a fleet's run, and find nothing."""

_SENTENCES = ("msg", "problems", "notes", "failures", "exception")  # of a result: what is shown to people, where the rest is data
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _LongestFirst(set[str]):
    """Secrets in the order in which they are blanked out: ansible-core 2.16 takes them as they come, and what is left of a long one when a shorter
    one in it was blanked out before is told."""

    _ordered: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[str]:
        if len(self._ordered) != len(self):  # it only grows
            self._ordered = tuple(sorted(super().__iter__(), key=lambda secret: len(str(secret)), reverse=True))
        return iter(self._ordered)


class _Module(AnsibleModule):
    """Keeps more out of the log and of the result than `no_log` does (see masking.py), also where Ansible itself refuses the arguments, and shows
    no character of others that a terminal would act upon."""

    quoted: re.Pattern[str]
    """Finds secrets that a message quotes in another way than they were given, or cuts short."""

    def _load_params(self) -> None:
        super()._load_params()
        # before the arguments are judged: Ansible's own refusal shows all of them
        found = secrets_in(self.params, self.argument_spec)
        self.no_log_values = _LongestFirst({*self.no_log_values, *found})
        self.quoted = beginnings(found)

    def _log_invocation(self) -> None:
        params = self.params
        # Ansible would log lists as Python prints them, where it does not recognise a secret of several lines; and with a null byte in an
        # argument, from Python 3.12 on, it would end the module with a sentence about syslog
        self.params = {
            name: f"({len(value)} items)" if isinstance(value, dict | list) else self.shown(value)
            for name, value in told(params, self.argument_spec).items()
        }
        super()._log_invocation()
        self.params = params

    def shown(self, value: Any) -> Any:
        """Sentences, as they may be shown."""
        if isinstance(value, dict):
            return {name: self.shown(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.shown(inner) for inner in value]
        if not isinstance(value, str):
            return value
        return printable(self.quoted.sub(BLANK, remove_values(value, self.no_log_values)))

    def warn(self, warning: str, **more: Any) -> None:
        super().warn(self.shown(warning), **more)  # Ansible hides secrets in a result, but not in warnings

    def _return_formatted(self, kwargs: dict[str, Any]) -> None:
        kwargs.setdefault("invocation", {"module_args": told(_given(self.params), self.argument_spec)})
        super()._return_formatted({name: self.shown(value) if name in _SENTENCES else inert(value) for name, value in kwargs.items()})


def begin(spec: Mapping[str, Any], constraints: Mapping[str, Any]) -> tuple[_Module, Call]:
    """What Ansible makes of the arguments that it hands over. Where they do not fit the options, the result is printed here (SystemExit)."""
    module = _read({**AUTH_OPTIONS, **spec}, constraints)
    return module, Call(params=module.params, check_mode=module.check_mode, diff_mode=module._diff, now=datetime.now(UTC))


def _read(options: Mapping[str, Any], constraints: Mapping[str, Any]) -> _Module:
    """Ansible itself ends with a traceback for a list with an empty item in a dictionary's place, or an infinite integer."""
    try:
        return _Module(argument_spec=options, supports_check_mode=True, **constraints)
    except (TypeError, AttributeError, OverflowError, UnicodeError) as error:
        message = (
            "the arguments cannot be read: expected values of the documented types, found something else, such as an empty item in a list "
            f"({error}); compare them with ansible-doc"
        )
        sys.stdout.write(json.dumps({"failed": True, "changed": False, "msg": message}) + "\n")
        raise SystemExit(1) from None


def finish(module: _Module, call: Call, result: dict[str, Any]) -> NoReturn:
    """Prints the result, and what is to be told beside it, as Ansible wants it (SystemExit)."""
    for warning in call.warnings():
        module.warn(warning)
    end = module.fail_json if result.pop("failed", False) else module.exit_json
    end(**result)
    raise AssertionError  # for mypy: Ansible's functions do not return


def stop_at_signals() -> list[int]:
    """Makes the first signal that asks to stop raise Stopped, and ignores those that come while it is being told. The list holds what came."""
    came: list[int] = []

    def stop(number: int, _frame: Any) -> None:
        ignore_signals()
        came.append(number)
        raise Stopped(signal.Signals(number).name)

    for number in SIGNALS:
        signal.signal(number, stop)
    return came


def ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def run_module(spec: Mapping[str, Any], act: Act, **constraints: Any) -> NoReturn:
    """Runs a module in a process of its own: what it does to the process need not be undone."""
    gc.set_threshold(ALLOCATIONS)
    module, call = begin(spec, constraints)
    stop_at_signals()
    result = answer(act, call)
    ignore_signals()  # everything is done; it only has to be told
    gc.freeze()  # Python looks for garbage a last time when it ends; it need not look at all that a fleet left
    finish(module, call, result)


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as Ansible repeats them in every result: of a list's items only what was given, which a fleet of a thousand notices."""

    def item(value: Any) -> Any:
        return {name: inner for name, inner in value.items() if inner is not None} if isinstance(value, Mapping) else value

    return {name: [item(inner) for inner in value] if isinstance(value, list) else value for name, value in params.items()}
