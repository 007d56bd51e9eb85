# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make test` itself: nothing that fails goes unseen, and nothing keeps the rest from running."""

from __future__ import annotations

import importlib.util
import sys
import time
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
    for name in ("REPORTS", "LOGS", "COMPILED"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(module, name, tmp_path / name)
    return module


def step(check: ModuleType, name: str, script: str = "exit 0", *after: str, uses: str = "") -> object:
    return check.Step(name, ("sh", "-c", script), after, uses)


def test_a_failure_keeps_only_those_from_running_that_need_it(check: ModuleType, tmp_path: Path) -> None:
    first = step(check, "a", f"touch {tmp_path}/a; exit 1")
    others = [step(check, "b", f"touch {tmp_path}/b", "a"), step(check, "c", f"touch {tmp_path}/c"), step(check, "d", "exit 0", "b")]
    total = check.carry_out([first, *others])
    assert sorted(path.name for path in tmp_path.glob("?")) == ["a", "c"]
    assert (total.passed, total.failed, total.skipped) == (1, 1, 2)
    assert "  not run          b: a failed" in total.lines and "  not run          d: b failed" in total.lines


@pytest.mark.parametrize(
    ("code", "report", "expected"),
    [
        (0, (5, 0, 0, 1), (4, 0, 1)),
        (1, (5, 2, 1, 0), (2, 3, 0)),
        (5, (0, 0, 0, 0), (0, 1, 0)),  # no test was found
        (3, (5, 0, 0, 0), (5, 1, 0)),  # pytest itself broke after the tests
    ],
)
def test_tests_are_counted(check: ModuleType, code: int, report: tuple[int, ...], expected: tuple[int, ...]) -> None:
    total = check.carry_out([step(check, "a", f"echo '{REPORT.format(*report)}' > {check.REPORTS}/a.xml; exit {code}")])
    assert (total.passed, total.failed, total.skipped) == expected


def test_what_failed_is_named_at_the_end(check: ModuleType) -> None:
    cases = (
        '<testcase classname="tests.x" name="test_a"><failure message="assert 1&#10;more"/></testcase><testcase classname="x" name="b"/>'
    )
    report = f'<testsuites><testsuite tests="2" failures="1" errors="0" skipped="0">{cases}</testsuite></testsuites>'
    total = check.carry_out([step(check, "a", f"echo '{report}' > {check.REPORTS}/a.xml; exit 1"), step(check, "b")])
    assert [line.strip() for line in total.lines if "test" in line] == ["tests.x::test_a: assert 1"]
    total = check.carry_out([step(check, "a", "echo one; echo; echo two; exit 1"), step(check, "b", "echo good")], at_once=2)
    assert [line.strip() for line in total.lines if "passed" not in line and "FAILED" not in line] == ["one", "two"]


def test_the_report_of_an_earlier_run_does_not_count(check: ModuleType) -> None:
    (check.REPORTS / "a.xml").write_text(REPORT.format(5, 0, 0, 0))
    total = check.carry_out([step(check, "a", "exit 4")])
    assert (total.passed, total.failed) == (0, 1)


def test_a_command_that_is_not_there_fails(check: ModuleType) -> None:
    assert check.carry_out([check.Step("a", ("/no/such/program",), ())]).failed == 1


def meeting(directory: Path, own: str, other: str) -> str:
    """Succeeds when the other runs at the same time."""
    wait = f"for i in $(seq 100); do test -e {directory}/{other} && exit 0; sleep 0.1; done; exit 1"
    return f"touch {directory}/{own}; {wait}"


def test_a_mesh_and_the_rest_run_beside_each_other_and_what_they_say_stays_together(
    check: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps = [
        step(check, "rest", f"echo one; {meeting(tmp_path, 'a', 'b')}"),
        step(check, "mesh", f"echo two; {meeting(tmp_path, 'b', 'a')}", uses="mesh"),
        step(check, "last", "echo three; exit 7", "rest", "mesh"),
    ]
    total = check.carry_out(steps, at_once=1)
    assert (total.passed, total.failed) == (2, 1)
    told = capfd.readouterr().out
    assert "--- rest:\none\n" in told and "--- mesh:\ntwo\n" in told
    assert "--- last:" not in told and "three\n" in told, "what runs alone is shown as it comes"


@pytest.mark.parametrize(("at_once", "uses"), [(1, ""), (5, "mesh")])
def test_of_what_needs_the_same_one_runs_at_a_time(check: ModuleType, tmp_path: Path, at_once: int, uses: str) -> None:
    alone = f"mkdir {tmp_path}/busy && sleep 0.2 && rmdir {tmp_path}/busy"
    assert check.carry_out([step(check, name, alone, uses=uses) for name in "abc"], at_once).passed == 3


def test_long_work_says_how_far_it_is(check: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(check, "EVERY", 0.2)
    check.carry_out([step(check, "a", "echo at work; sleep 1"), step(check, "b", "sleep 1")], at_once=2)
    assert "... a, 0 s: at work\n" in capfd.readouterr().out


def test_what_was_started_ends_with_it(check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    def stop(*__: object) -> None:
        if pid.is_file() and pid.read_text().endswith("\n"):
            raise SystemExit(143)  # as on SIGTERM

    monkeypatch.setattr(check, "leave_out", stop)
    with pytest.raises(SystemExit):
        check.carry_out([step(check, "a", f"sleep 600 & echo $! $$ > {pid}; exec sleep 600")])
    left, itself = (Path(f"/proc/{one}/cmdline") for one in pid.read_text().split())
    assert not itself.exists()
    for __ in range(100):
        if not left.exists() or not left.read_bytes():  # ended, and maybe nobody's child yet
            break
        time.sleep(0.05)
    else:
        raise AssertionError("what it had started goes on")


@pytest.mark.parametrize(("before", "begun"), [(True, True), (False, True), (False, False)])
def test_the_sandbox_is_left_as_it_was_found(
    check: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    before: bool,
    begun: bool,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    ended: list[str] = []
    if begun:
        (tmp_path / ".sandbox" / "run").mkdir(parents=True)
    monkeypatch.setattr(check, "ROOT", tmp_path)
    monkeypatch.setattr(check, "run", lambda command: ended.append(command[-1]) or 0)
    monkeypatch.setattr(check, "carry_out", lambda steps, at_once: check.Tally(passed=len(steps) - 1, failed=1))
    monkeypatch.setattr(check, "sandbox_is_healthy", lambda: before)
    monkeypatch.setattr(sys, "argv", ["check.py", "integration"])
    assert check.main() == 1
    assert ("down" in ended) is (begun and not before)
    passed = len(check.GROUPS["integration"]) - 1
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"1 failed, {passed} passed in ")


def test_every_need_is_among_the_steps_before(check: ModuleType) -> None:
    for group in check.GROUPS.values():
        names: set[str] = set()
        for step in group:
            assert names.issuperset(step.after), step.name
            names.add(step.name)
