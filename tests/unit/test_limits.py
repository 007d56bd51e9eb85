# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long files, functions and modules of the collection may be: what is longer has more than one subject."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
FILES = sorted(path for path in PLUGINS.rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION, LONGEST_MODULE = 500, 50, 60
DOCUMENTATION = ("DOCUMENTATION", "EXAMPLES", "RETURN")


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def is_one_match(function: ast.FunctionDef) -> bool:
    """A table of cases, which no cut makes easier to read."""
    return any(isinstance(statement, ast.Match) for statement in function.body) and len(function.body) <= 4


def lines(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_a_file_has_one_subject(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    named = [
        (node, {target.id for target in node.targets if isinstance(target, ast.Name)}) for node in tree.body if isinstance(node, ast.Assign)
    ]
    documented = {line for node, names in named if names & set(DOCUMENTATION) for line in lines(node)}
    assert len(text.splitlines()) - len(documented) <= LONGEST_FILE
    long = {one.name: len(lines(one)) for one in functions(tree) if len(lines(one)) > LONGEST_FUNCTION and not is_one_match(one)}
    assert not long, f"more than {LONGEST_FUNCTION} lines: {long}"


@pytest.mark.parametrize("path", sorted((PLUGINS / "modules").glob("*.py")), ids=lambda path: path.stem)
def test_a_module_is_thin(path: Path) -> None:
    """Beside its documentation, its options and its imports."""
    text = path.read_text()
    counted = (node for node in ast.parse(text).body if not isinstance(node, ast.Assign | ast.AnnAssign | ast.Import | ast.ImportFrom))
    code = [line for node in counted for line in text.splitlines()[node.lineno - 1 : node.end_lineno] if line.strip()]
    assert len(code) <= LONGEST_MODULE
