# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How every module starts and ends: parse arguments, act, turn errors into one sentence.

A module hands over its argument spec and a function from `Call` to a result; nothing else touches AnsibleModule.
"""

from __future__ import annotations

import gc
import json
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.parameters import remove_values

from .arguments import AUTH_OPTIONS
from .cluster.client import Cluster, ClusterError, connect
from .cluster.reconcile import Interrupted, Outcome, Stopped
from .masking import beginnings, keys_in_metadata, printable, secrets_in, told
from .problems import Problem, Rejected, errors, warnings

_WARNINGS_OF_A_KIND = 4
_PROBLEMS_SHOWN = 50
_ALLOCATIONS = 50_000
_LARGEST_NUMBER = 1e8  # of seconds, that is three years

_SENTENCES = ("msg", "problems", "notes", "failures")  # of a result: what is shown to people, where the rest is data
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class Call:
    """What a module was called with, and what it has to tell besides its result."""

    params: Mapping[str, Any]
    check_mode: bool
    diff_mode: bool
    now: datetime
    doubts: list[Problem] = field(default_factory=list)
    """Problems that are no reason to stop; shown as warnings."""
    notes: list[str] = field(default_factory=list)
    cluster: Cluster | None = None

    def connect(self, **instead: Any) -> Cluster:
        """The cluster that the options name; `instead` are options of the login that this module calls otherwise, or needs for something else."""
        self.cluster = connect({**self.params, **instead})
        self.notes += self.cluster.notes
        return self.cluster

    def judge(self, problems: Iterable[Problem], *, on_invalid: str = "fail") -> None:
        """Ends the call when there are errors (unless they are to be warnings), and keeps the warnings."""
        problems = list(problems)
        if on_invalid == "fail" and errors(problems):
            self.doubts += warnings(problems)
            raise Rejected(errors(problems))
        self.doubts += problems

    def finish(self, outcome: Outcome, **more: Any) -> dict[str, Any]:
        """The result of a module that wrote (or would have written) objects."""
        self.notes += outcome.notes
        return {"changed": outcome.changed, **({"diff": outcome.diff()} if self.diff_mode else {}), **more}


class _Module(AnsibleModule):
    """Keeps more out of the log and of the result than `no_log` does (see masking.py), also where Ansible itself refuses the arguments, and shows
    no character of others that a terminal would act upon."""

    quoted: re.Pattern[str]
    """Finds secrets that a message quotes in another way than they were given, or cuts short."""

    def _load_params(self) -> None:
        super()._load_params()
        # before the arguments are judged: Ansible's own refusal shows all of them
        found = secrets_in(self.params, self.argument_spec)
        self.no_log_values.update(found)
        self.quoted = beginnings(found)

    def _log_invocation(self) -> None:
        params = self.params
        # Ansible would log lists as Python prints them, where it does not recognise a secret of several lines
        self.params = {
            name: f"({len(value)} items)" if isinstance(value, dict | list) else value
            for name, value in told(params, self.argument_spec).items()
        }
        super()._log_invocation()
        self.params = params

    def _shown(self, value: Any) -> Any:
        """Sentences, as they may be shown."""
        if isinstance(value, dict):
            return {name: self._shown(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._shown(inner) for inner in value]
        if not isinstance(value, str):
            return value
        return printable(self.quoted.sub("********", remove_values(value, self.no_log_values)))

    def warn(self, warning: str, **more: Any) -> None:
        super().warn(self._shown(warning), **more)  # Ansible hides secrets in a result, but not in warnings

    def _return_formatted(self, kwargs: dict[str, Any]) -> None:
        kwargs.setdefault("invocation", {"module_args": told(_given(self.params), self.argument_spec)})
        super()._return_formatted({name: self._shown(value) if name in _SENTENCES else value for name, value in kwargs.items()})


def _begin(argument_spec: Mapping[str, Any], rules: Mapping[str, Any]) -> _Module:
    """The module, once its arguments are read. Ansible itself ends with a traceback for a list with an empty item in a dictionary's place, or an
    infinite integer."""
    try:
        return _Module(argument_spec=argument_spec, supports_check_mode=True, **rules)
    except (TypeError, AttributeError, OverflowError, UnicodeError) as error:
        message = (
            "the arguments cannot be read: expected values of the documented types, found something else, such as an empty item in a list "
            f"({error}); compare them with ansible-doc"
        )
        sys.stdout.write(json.dumps({"failed": True, "changed": False, "msg": message}) + "\n")
        raise SystemExit(1) from None


def _strange_numbers(value: Any, where: str = "") -> Iterator[Problem]:
    """`nan` and `inf` are floats to Ansible, and so is what no clock can wait for."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(inner, float | dict | list):  # of a fleet's 30,000 values nearly all are none of them
                yield from _strange_numbers(inner, f"{where}.{name}" if where else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _strange_numbers(inner, f"{where}[{number}]")
    elif isinstance(value, float) and not abs(value) <= _LARGEST_NUMBER:
        yield Problem("strange_number", where, f"expected a number up to {_LARGEST_NUMBER:g}, found {value}", "correct it")


def run_module(
    argument_spec: Mapping[str, Any],
    act: Callable[[Call], dict[str, Any]],
    *,
    needs: tuple[str, ...] = ("kubernetes", "cryptography"),
    auth: bool = True,
    **rules: Any,
) -> None:
    """Runs a module's `act` and exits; a result with `failed` is a failure with everything that is known.

    `needs` are the third-party libraries that it imports on its way.
    """
    gc.set_threshold(_ALLOCATIONS)  # at Python's own threshold, looking for garbage takes a seventh of a fleet's run, and finds none
    module = _begin({**(AUTH_OPTIONS if auth else {}), **argument_spec}, rules)
    call = Call(params=module.params, check_mode=module.check_mode, diff_mode=module._diff, now=datetime.now(UTC))

    def stop(number: int, _frame: Any) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # a second one would come while the first is being told
        raise Stopped(signal.Signals(number).name)

    for number in _SIGNALS:
        signal.signal(number, stop)

    def warn() -> None:
        for warning in _in_few_lines(call.doubts):
            module.warn(warning)

    def fail(message: str, **more: Any) -> None:
        warn()
        if call.notes:
            more["notes"] = list(dict.fromkeys(call.notes))
        module.fail_json(msg=message, **more)

    try:
        call.judge([*_strange_numbers(module.params), *keys_in_metadata(module.params)])
        result = act(call)
    except Rejected as rejected:
        fail(_in_one_text(rejected.problems), problems=_beside_the_text(rejected.problems), changed=False)
    except Interrupted as interrupted:
        outcome = interrupted.outcome
        call.notes += outcome.notes
        wrote = bool(outcome.applied or outcome.half_done)
        fail(str(interrupted), changed=wrote, applied=[plan.as_result() for plan in outcome.applied], **_failures(outcome))
    except ClusterError as error:
        fail(str(error), changed=False)
    except Stopped as stopped:
        wrote = call.cluster is not None and call.cluster.wrote
        when = "after it had begun to write; running again finishes what is left" if wrote else "before anything was written"
        fail(f"stopped by {stopped} {when}", changed=wrote)
    except ImportError as error:
        library = (error.name or str(error)).partition(".")[0]
        if library not in (*needs, "urllib3", "yaml", "idna"):
            raise
        fail(missing_required_lib(library), exception=traceback.format_exc())
    else:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # everything is done; it only has to be told
        warn()
        if call.notes:
            result["notes"] = list(dict.fromkeys(call.notes))
        gc.freeze()  # Python looks for garbage a last time when it ends; it need not look at all that a fleet left
        finish = module.fail_json if result.pop("failed", False) else module.exit_json
        finish(**result)


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as Ansible repeats them in every result: of a list's items only what was given, which a fleet of a thousand notices."""

    def item(value: Any) -> Any:
        return {name: inner for name, inner in value.items() if inner is not None} if isinstance(value, Mapping) else value

    return {name: [item(inner) for inner in value] if isinstance(value, list) else value for name, value in params.items()}


def _in_few_lines(problems: Iterable[Problem]) -> Iterator[str]:
    """A warning a problem; of a kind that a fleet has hundreds of, the first few and a count. The result holds each."""
    kinds: dict[str, list[Problem]] = {}
    for problem in dict.fromkeys(problems):
        kinds.setdefault(problem.code, []).append(problem)
    for code, alike in kinds.items():
        shown = alike if len(alike) <= _WARNINGS_OF_A_KIND else alike[: _WARNINGS_OF_A_KIND - 1]
        yield from map(str, shown)
        if rest := alike[len(shown) :]:
            yield f"{len(rest)} more of the kind [{code}], the next of them at {rest[0].where}"


def _failures(outcome: Outcome) -> dict[str, Any]:
    return {
        "failures": [{**plan.as_result(), "error": str(error)} for plan, error in outcome.failed],
        "not_tried": [plan.as_result() for plan in outcome.skipped],
    }


def _beside_the_text(problems: tuple[Problem, ...]) -> list[dict[str, str]]:
    """What playbooks tell problems apart by. The sentences stand in `msg`: Ansible prints the whole result of a failure, and would print each
    once more."""
    brief = [{"code": problem.code, "where": problem.where, "severity": problem.severity} for problem in problems[:_PROBLEMS_SHOWN]]
    return [*brief, *(problem.as_result() for problem in problems[_PROBLEMS_SHOWN:])]


def _in_one_text(problems: tuple[Problem, ...]) -> str:
    if len(problems) == 1:
        return str(problems[0])
    lines = [f"- {problem}" for problem in problems[:_PROBLEMS_SHOWN]]
    if rest := len(problems) - len(lines):
        lines.append(f"- and {rest} more, in the result's `problems`")
    return "\n".join([f"{len(problems)} problems, nothing was changed:", *lines])
