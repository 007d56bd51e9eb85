# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make test` itself: nothing that fails goes unseen, and nothing keeps the rest from running."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "tools" / "check.py"
REPORT = '<testsuites><testsuite tests="{}" failures="{}" errors="{}" skipped="{}"/></testsuites>'


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("check", SOURCE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "check", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "REPORTS", tmp_path)
    return module


def play(check: ModuleType, monkeypatch: pytest.MonkeyPatch, codes: dict[str, int], reports: dict[str, str] | None = None) -> list[str]:
    """Lets commands end with these codes, and leave these reports; returns what was run, command by command."""
    ran: list[str] = []

    def run(command: tuple[str, ...]) -> int:
        name = command[-1]
        ran.append(name)
        if name in (reports or {}):
            (check.REPORTS / f"{name}.xml").write_text((reports or {})[name])
        return codes.get(name, 0)

    monkeypatch.setattr(check, "run", run)
    return ran


def steps(check: ModuleType, **after: str) -> list[object]:
    return [check.Step(name, (name,), (needed,) if needed else ()) for name, needed in after.items()]


def test_a_failure_keeps_only_those_from_running_that_need_it(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = play(check, monkeypatch, {"a": 1})
    total = check.carry_out(steps(check, a="", b="a", c="", d="b"))
    assert ran == ["a", "c"]
    assert (total.passed, total.failed, total.skipped) == (1, 1, 2)
    assert total.lines[1] == "  not run          b: a failed"


@pytest.mark.parametrize(
    ("code", "report", "expected"),
    [
        (0, (5, 0, 0, 1), (4, 0, 1)),
        (1, (5, 2, 1, 0), (2, 3, 0)),
        (5, (0, 0, 0, 0), (0, 1, 0)),  # no test was found
        (3, (5, 0, 0, 0), (5, 1, 0)),  # pytest itself broke after the tests
    ],
)
def test_tests_are_counted(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, code: int, report: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    play(check, monkeypatch, {"a": code}, {"a": REPORT.format(*report)})
    total = check.carry_out(steps(check, a=""))
    assert (total.passed, total.failed, total.skipped) == expected


def test_the_report_of_an_earlier_run_does_not_count(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    (check.REPORTS / "a.xml").write_text(REPORT.format(5, 0, 0, 0))
    play(check, monkeypatch, {"a": 4})
    total = check.carry_out(steps(check, a=""))
    assert (total.passed, total.failed) == (0, 1)


@pytest.mark.parametrize("before", [True, False])
def test_the_sandbox_is_left_as_it_was_found(
    check: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    before: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran = play(check, monkeypatch, {"tests/integration": 1})
    monkeypatch.setattr(check, "sandbox_is_healthy", lambda: before)
    monkeypatch.setattr(sys, "argv", ["check.py", "integration"])
    assert check.main() == 1
    assert ("down" in ran) is not before
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 failed, 3 passed in ")


def test_every_need_is_among_the_steps_before(check: ModuleType) -> None:
    for group in check.GROUPS.values():
        names: set[str] = set()
        for step in group:
            assert names.issuperset(step.after), step.name
            names.add(step.name)
