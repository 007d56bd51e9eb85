# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module works with, and how its errors become a result; AnsibleModule is known in module.py only.

An `act` gets a `Call` and returns a result. `answer` runs it: whatever goes wrong on the way is a result too, with `failed` and one sentence.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from ansible.module_utils.basic import missing_required_lib

from .cluster.client import Cluster, ClusterError, connect
from .cluster.reconcile import Interrupted, Outcome, Stopped
from .masking import keys_in_metadata
from .problems import Problem, Rejected, errors, warnings

_LIBRARIES = ("cryptography", "kubernetes", "websocket", "urllib3", "yaml", "idna")
_WARNINGS_OF_A_KIND = 4
_PROBLEMS_SHOWN = 50
_LARGEST_NUMBER = 1e8  # of seconds, that is three years


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
    clusters: list[Cluster] = field(default_factory=list)
    """Those that were connected to."""

    def connect(self, **instead: Any) -> Cluster:
        """The cluster that the options name; `instead` are options of the login that this module calls otherwise, or needs for something else."""
        cluster = connect({**self.params, **instead})
        self.clusters.append(cluster)
        self.notes += cluster.notes
        self.doubts += cluster.doubts
        return cluster

    @property
    def wrote(self) -> bool:
        """Whether any write was sent, dry runs aside."""
        return any(cluster.wrote for cluster in self.clusters)

    def close(self) -> None:
        """Ends the connections, which carry a login; the process may go on with another call."""
        for cluster in self.clusters:
            cluster.pool.clear()

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
        self.judge(outcome.doubts)
        return {"changed": outcome.changed, **({"diff": outcome.diff()} if self.diff_mode else {}), **more}

    def warnings(self) -> list[str]:
        """A line a problem; of a kind that a fleet has hundreds of, the first few and a count. The result holds each."""
        return list(_in_few_lines(self.doubts))


Act: TypeAlias = Callable[["Call"], "dict[str, Any]"]


def answer(act: Act, call: Call) -> dict[str, Any]:
    """The result of a call; with `failed`, `msg` and everything that is known where it did not succeed, a fault of our own too: what Ansible makes
    of an exception shows its text as it is, secrets and all."""
    try:
        result = _answer(act, call)
    except Stopped as stopped:
        when = "after it had begun to write; running again finishes what is left" if call.wrote else "before anything was written"
        result = _failure(f"stopped by {stopped} {when}", changed=call.wrote)
    except Exception as error:
        result = _fault(error, call)
    finally:
        call.close()
    if call.notes:
        result["notes"] = list(dict.fromkeys(call.notes))
    return result


def _answer(act: Act, call: Call) -> dict[str, Any]:
    try:
        call.judge([*_strange_numbers(call.params), *keys_in_metadata(call.params)])
        return act(call)
    except Rejected as rejected:
        return _failure(_in_one_text(rejected.problems), problems=_beside_the_text(rejected.problems))
    except Interrupted as interrupted:
        outcome = interrupted.outcome
        call.notes += outcome.notes
        wrote = bool(outcome.applied or outcome.half_done)
        return _failure(str(interrupted), changed=wrote, applied=[plan.as_result() for plan in outcome.applied], **_failures(outcome))
    except ClusterError as error:
        return _failure(str(error))
    except ImportError as error:
        library = (error.name or str(error)).partition(".")[0]
        if library not in _LIBRARIES:
            raise
        return _failure(missing_required_lib(library), exception=traceback.format_exc())


def _failure(message: str, *, changed: bool = False, **more: Any) -> dict[str, Any]:
    return {"failed": True, "changed": changed, "msg": message, **more}


def _fault(error: Exception, call: Call) -> dict[str, Any]:
    when = "after the module had begun to write" if call.wrote else "before anything was written"
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    place = traceback.extract_tb(error.__traceback__)[-1]
    told = (
        f"unexpected error {when}: {what} ({place.filename.rpartition('/')[2]}, line {place.lineno}); it is a fault of the module: report it, "
        "with the traceback that ANSIBLE_DISPLAY_TRACEBACK=error shows (-vvv before ansible-core 2.19)"
    )
    return _failure(told, changed=call.wrote, exception=traceback.format_exc())


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
        yield Problem(
            "strange_number", where, f"expected a number up to {_LARGEST_NUMBER:g}, found {value}", "give a number of seconds in that range"
        )


def _in_few_lines(problems: Iterable[Problem]) -> Iterator[str]:
    """A warning a problem; of a kind that a fleet has hundreds of, the first few and a count. The result holds each."""
    kinds: dict[str, list[Problem]] = {}
    for problem in dict.fromkeys(problems):
        kinds.setdefault(problem.code, []).append(problem)
    for code, alike in kinds.items():
        shown = alike if len(alike) <= _WARNINGS_OF_A_KIND else alike[: _WARNINGS_OF_A_KIND - 1]
        yield from map(str, shown)
        if rest := alike[len(shown) :]:
            yield f"{len(rest)} more of the kind [{code}], the next one at {rest[0].where}"


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
