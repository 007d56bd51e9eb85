# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the project's checks, all of them even when one fails, and tells at the end what passed and how long it took.

    python3 tools/check.py [lint] [sanity] [unit] [integration] [molecule] [kind]     (without words: all but the last)

Makes the environments that are missing. Starts the sandbox and the kind cluster where they do not run, and then stops them again. Ends with
exit code 1 when anything failed; the last line counts tests, and every other check as one.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / ".cache" / "reports"
DEV, OLDEST = ".venv", ".venv-2.16"
PYTHON = f"{DEV}/bin/python"
PURE = (
    "problems.py",
    "proxy_choice.py",
    "kubeconfig.py",
    "memory_file.py",
    "masking.py",
    "arguments.py",
    "tls",
    "istio",
    "live",
    "cluster",
)


@dataclass(frozen=True)
class Step:
    name: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ("environment",)
    """Steps without whose success this one cannot run."""


@dataclass
class Tally:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    lines: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


def python(*words: str, venv: str = DEV) -> tuple[str, ...]:
    """Unbuffered, so that progress shows at once."""
    return (f"{venv}/bin/python", "-u", *words)


def pytest(name: str, venv: str, *paths: str, after: tuple[str, ...] = ("environment",)) -> Step:
    report = REPORTS / f"{name}.xml"
    options = ("-p", "no:cacheprovider", "--color=no", f"--junitxml={report}")
    return Step(name, python("-m", "pytest", *options, *paths, venv=venv), after)


ENVIRONMENT = Step("environment", (sys.executable, "-u", "tools/environment.py", "dev"), ())
ENVIRONMENT_OLDEST = Step("environment on ansible-core 2.16", (sys.executable, "-u", "tools/environment.py", "oldest"), ())
SANDBOX = Step("sandbox", python("-m", "sandbox", "up"))
KIND = Step("kind cluster", python("-m", "sandbox.kind", "up"))
GROUPS = {
    "lint": (
        ENVIRONMENT,
        Step("ruff", python("-m", "ruff", "check", "--no-fix", ".")),
        Step("ruff format", python("-m", "ruff", "format", "--check", ".")),
        Step("mypy", python("-m", "mypy", *(f"plugins/module_utils/{room}" for room in PURE))),
        pytest("layers", DEV, "-q", "tests/unit/test_layers.py"),
        Step("ansible-lint", (f"{DEV}/bin/ansible-lint", "--offline", "--profile", "production", "--strict", "--nocolor")),
        Step("documentation", (f"{DEV}/bin/antsibull-docs", "lint-collection-docs", "--plugin-docs", ".")),
        Step("artefact", python("tools/artefact.py")),
    ),
    "sanity": (
        ENVIRONMENT,
        Step("ansible-test sanity", python("tools/sanity.py")),
    ),
    "unit": (
        ENVIRONMENT,
        ENVIRONMENT_OLDEST,
        pytest("unit tests", DEV, "-q", "tests/unit"),
        # the sandbox is no part of the collection, and needs .venv
        pytest(
            "unit tests on ansible-core 2.16", OLDEST, "-q", "tests/unit", "--ignore=tests/unit/sandbox", after=(ENVIRONMENT_OLDEST.name,)
        ),
    ),
    "integration": (
        ENVIRONMENT,
        ENVIRONMENT_OLDEST,
        SANDBOX,
        pytest("integration tests", DEV, "tests/integration", after=(SANDBOX.name, ENVIRONMENT_OLDEST.name)),
    ),
    "molecule": (
        ENVIRONMENT,
        SANDBOX,
        Step("molecule on the sandbox", python("tools/scenarios.py", "sandbox"), after=(SANDBOX.name,)),
    ),
    "kind": (
        ENVIRONMENT,
        KIND,
        Step("molecule on kind", python("tools/scenarios.py", "kind"), after=(KIND.name,)),
        pytest("tests on kind", DEV, "tests/kind", after=(KIND.name,)),
    ),
}
WITHOUT_DOCKER = ["lint", "sanity", "unit", "integration", "molecule"]


def clean_environment() -> dict[str, str]:
    """As a new shell has it: nothing of a sandbox or cluster that the caller may work with."""
    # with PYTHONUNBUFFERED every module would read its arguments, and the million bytes of itself, one by one
    foreign = ("ANSIBLE_", "K8S_AUTH_", "KUBE", "PYTEST_", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {
        "PATH": f"{ROOT / DEV / 'bin'}:{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / DEV / "collections"),
    }


def run(command: Iterable[str]) -> int:
    try:
        return subprocess.run([*command], cwd=ROOT, env=clean_environment(), stdin=subprocess.DEVNULL, check=False).returncode
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", flush=True)
        return 127


def sandbox_is_healthy() -> bool:
    if not (ROOT / PYTHON).is_file():
        return False
    status = subprocess.run([PYTHON, "-m", "sandbox", "status"], cwd=ROOT, env=clean_environment(), capture_output=True, check=False)
    return status.returncode == 0


def counted(step: Step, code: int) -> Tally:
    """A test run counts its tests, every other step itself; a test run that failed without a failed test (no tests, a crash) counts too."""
    report = REPORTS / f"{step.name}.xml"
    tally = Tally()
    if report.is_file():
        for suite in ElementTree.parse(report).iter("testsuite"):  # noqa: S314 (our own file)
            total, failures, errors, skipped = (int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped"))
            tally.add(Tally(passed=max(0, total - failures - errors - skipped), failed=failures + errors, skipped=skipped))
    if code and not tally.failed:
        tally.failed = 1
    elif not report.is_file():
        tally.passed = 1
    return tally


def carry_out(steps: list[Step]) -> Tally:
    total = Tally()
    good: set[str] = set()
    for number, step in enumerate(steps, start=1):
        if missing := [name for name in step.after if name not in good]:
            total.skipped += 1
            total.lines.append(f"  not run          {step.name}: {' and '.join(missing)} failed")
            continue
        print(f"\n==> {number}/{len(steps)} {step.name}: {shlex.join(step.command)}", flush=True)
        (REPORTS / f"{step.name}.xml").unlink(missing_ok=True)
        start = time.monotonic()
        code = run(step.command)
        tally, seconds = counted(step, code), time.monotonic() - start
        print(f"<== {step.name}: {'failed' if code else 'passed'} in {seconds:.1f} s", flush=True)
        total.add(tally)
        total.lines.append(f"  {'FAILED' if code else 'passed'} {seconds:7.1f} s {step.name}")
        if not code:
            good.add(step.name)
    return total


def end_on_signal(number: int, __: object) -> NoReturn:
    raise SystemExit(128 + number)


def main() -> int:
    groups = sys.argv[1:] or WITHOUT_DOCKER
    if unknown := [name for name in groups if name not in GROUPS]:
        sys.exit(f"check: {', '.join(unknown)}: expected any of {', '.join(GROUPS)}")
    steps = list(dict.fromkeys(step for group in groups for step in GROUPS[group]))
    signal.signal(signal.SIGTERM, end_on_signal)
    REPORTS.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    ours = ["sandbox"] if SANDBOX in steps and not sandbox_is_healthy() else []
    if KIND in steps:
        ours.append("sandbox.kind")
    try:
        total = carry_out(steps)
    finally:
        for program in ours:
            print(f"\n==> python -m {program} down, as it was before", flush=True)
            run(python("-m", program, "down"))
    counts = [f"{total.failed} failed"] if total.failed else []
    counts.append(f"{total.passed} passed")
    counts += [f"{total.skipped} skipped"] if total.skipped else []
    print("", *total.lines, f"{', '.join(counts)} in {time.monotonic() - start:.1f}s", sep="\n", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
