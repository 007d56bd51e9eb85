# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Problems as values, and what every problem in the code keeps to: found in the source itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem, Rejected, errors, warnings

ERROR = Problem("key_mismatch", "private_key_path /etc/k", "expected a, found b", "give c")
WARNING = Problem("expires_soon", "certificate", "expected d", "Renew it", "warning")
PLUGINS = Path(__file__).resolve().parents[2] / "plugins"


def test_a_problem_reads_as_sentences() -> None:
    assert str(ERROR) == "private_key_path /etc/k: expected a, found b. Give c. [key_mismatch]"
    assert str(WARNING) == "certificate: expected d. Renew it. [expires_soon]"


def test_a_problem_as_a_result() -> None:
    assert ERROR.as_result() == {
        "code": "key_mismatch",
        "where": "private_key_path /etc/k",
        "message": "expected a, found b",
        "remedy": "give c",
        "severity": "error",
    }


def test_rejected_carries_one_or_many() -> None:
    assert Rejected(ERROR).problems == (ERROR,)
    assert Rejected(iter([ERROR, WARNING])).problems == (ERROR, WARNING)
    assert str(Rejected([ERROR, WARNING])) == f"{ERROR}; {WARNING}"


def test_severities_are_told_apart() -> None:
    assert errors([WARNING, ERROR]) == [ERROR] and warnings([WARNING, ERROR]) == [WARNING]
    assert errors([]) == warnings([]) == []


def problems_in_the_source() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(PLUGINS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem":
                yield f"{path.relative_to(PLUGINS)}:{node.lineno}", node


FOUND = dict(problems_in_the_source())


def literal(node: ast.expr) -> str | None:
    """A literal text; of a formatted one its beginning and end, with something in between."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "_" for part in node.values)
    return None


def test_problems_are_found() -> None:
    assert len(FOUND) > 50


@pytest.mark.parametrize("place", FOUND)
def test_every_problem_keeps_to_the_form(place: str) -> None:
    """A code in snake case; message and remedy without a full stop, which `str` adds."""
    given = dict(zip(("code", "where", "message", "remedy", "severity"), FOUND[place].args, strict=False))
    given.update({keyword.arg: keyword.value for keyword in FOUND[place].keywords if keyword.arg})
    assert {"code", "where", "message", "remedy"} <= given.keys()
    code = literal(given["code"])
    assert code is None or re.fullmatch(r"[a-z][a-z0-9_]*", code)
    for part in ("message", "remedy"):
        text = literal(given[part])
        assert text is None or (text and not text.endswith(".") and text == text.strip()), text
