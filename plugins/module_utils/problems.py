# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong, as values: every pure room answers with these, and `module.py` shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what was expected, what was found, where, and what to do.

    `message` and `remedy` are shown to users and logged: they hold names, dates and fingerprints, never key material.
    """

    code: str
    """A stable name in snake case, for example `key_mismatch`; tests and users match on it."""
    where: str
    """The argument or object in question, for example `credentials[2] (httpbin-credential): private_key_path /etc/k`."""
    message: str
    """What was expected and what was found, without a full stop."""
    remedy: str
    """What to do about it: one sentence, without a full stop."""
    severity: Severity = "error"

    def __str__(self) -> str:
        return f"{self.where}: {self.message}. {self.remedy[:1].upper()}{self.remedy[1:]}. [{self.code}]"

    def as_result(self) -> dict[str, str]:
        """The problem as a module returns it."""
        return asdict(self)


class Rejected(Exception):
    """Input that cannot be worked with at all; carries every problem found so far."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


def errors(problems: Iterable[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity == "error"]


def warnings(problems: Iterable[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity == "warning"]
