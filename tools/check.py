# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the project's checks, all of them even when one fails, and tells at the end what passed and how long it took.

    python3 tools/check.py [extras] [lint] [sanity] [unit] [molecule] [integration] [kind]     (without words: all but the first and the last)

Makes the environments that are missing. Starts the sandbox and the kind cluster where they do not run, and then stops them again. What needs
neither runs beside them, and beside each other as far as there are processors; the output of what runs beside something else is shown when it
ends, and every half minute how far it is. Ends with exit code 1 when anything failed; the last line counts tests, and every other check as one.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NoReturn
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / ".cache" / "reports"
LOGS = ROOT / ".cache" / "logs"
COMPILED = ROOT / ".cache" / "compiled"
"""What tools/compile_once.py keeps, for one run."""
DEV, MIDDLE, OLDEST, ARTEFACT = ".venv", ".venv-2.19", ".venv-2.16", ".venv-artefact"
SHOWN = 40
"""Of each step, the failed tests that are named at the end, or the last lines of a log."""
EVERY = 30.0
"""Seconds between two lines about what is under way."""
PYTHON = f"{DEV}/bin/python"
PURE = (
    "problems.py",
    "proxy_choice.py",
    "kubeconfig.py",
    "memory_file.py",
    "regular_file.py",
    "whole_file.py",
    "masking.py",
    "arguments.py",
    "probes.py",
    "gateway_events.py",
    "events",
    "renewal",
    "objects",
    "tls",
    "istio",
    "diagnosis",
    "report",
    "live",
    "cluster",
)


@dataclass(frozen=True)
class Step:
    name: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ("environment",)
    """Steps without whose success this one cannot run."""
    uses: str = ""
    """What only one step at a time may work on: a mesh, for example. Such a step does not wait for a processor."""


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


def pytest(name: str, venv: str, *paths: str, after: tuple[str, ...] = ("environment",), uses: str = "") -> Step:
    return Step(name, python("-m", "pytest", *options_for(name), *paths, venv=venv), after, uses)


def options_for(name: str) -> tuple[str, ...]:
    return ("-p", "no:cacheprovider", "--color=no", f"--junitxml={REPORTS / f'{name}.xml'}")


def environment(name: str, group: str) -> Step:
    return Step(name, (sys.executable, "-u", "tools/environment.py", group), ())


ENVIRONMENT = environment("environment", "dev")
ENVIRONMENT_MIDDLE = environment("environment on ansible-core 2.19", "middle")
ENVIRONMENT_OLDEST = environment("environment on ansible-core 2.16", "oldest")
ENVIRONMENT_EVENTS = environment("environment with ansible-rulebook", "events")
ENVIRONMENT_ARTEFACT = environment("environment for the artefact", "artefact")
EXECUTION = Step("execution environment", python("tools/execution_environment.py", venv=ARTEFACT), (ENVIRONMENT_ARTEFACT.name,), ".venv-ee")
OTHERS = (ENVIRONMENT_MIDDLE.name, ENVIRONMENT_OLDEST.name, ENVIRONMENT_EVENTS.name, EXECUTION.name)
PROGRAMS = Step("programs", python("-m", "sandbox", "build"), uses="programs")  # both meshes wait for them, and they for nothing
SANDBOX = Step("sandbox", python("-m", "sandbox", "up"), (PROGRAMS.name,), "sandbox")
KIND = Step("kind cluster", python("-m", "sandbox.kind", "up"), (PROGRAMS.name,), "kind")
ON_KIND = (
    Step("molecule on kind", python("tools/scenarios.py", "kind"), (KIND.name,), "kind"),
    pytest("tests on kind", DEV, "tests/kind", after=(KIND.name,), uses="kind"),
)
INTEGRATION = "integration tests"
# on a mesh of their own, when kind is no longer at work: two processors have enough to do before
LATER = Step(
    "later integration tests",
    python("tools/integration.py", "--later", *options_for("later integration tests")),
    (PROGRAMS.name, *OTHERS),
    "kind",
)
# the sandbox is no part of the collection, and needs .venv
UNIT = ("-q", "tests/unit", "--ignore=tests/unit/sandbox")
GROUPS = {
    "extras": (Step("extras", ("tools/extras.sh",), (), "packages"),),
    "lint": (
        ENVIRONMENT,
        Step("ruff", python("-m", "ruff", "check", "--no-fix", ".")),
        Step("ruff format", python("-m", "ruff", "format", "--check", ".")),
        Step("mypy", python("-m", "mypy", *(f"plugins/module_utils/{room}" for room in PURE))),
        pytest("layers", DEV, "-q", "tests/unit/test_layers.py"),
        Step("ansible-lint", (f"{DEV}/bin/ansible-lint", "--offline", "--profile", "production", "--strict", "--nocolor")),
        Step("documentation", (f"{DEV}/bin/antsibull-docs", "lint-collection-docs", "--plugin-docs", ".")),
        ENVIRONMENT_ARTEFACT,
        Step("artefact", python("tools/artefact.py", venv=ARTEFACT), (ENVIRONMENT_ARTEFACT.name,)),
    ),
    "sanity": (
        ENVIRONMENT,
        Step("ansible-test sanity", python("tools/sanity.py")),
    ),
    "unit": (
        ENVIRONMENT,
        ENVIRONMENT_MIDDLE,
        ENVIRONMENT_OLDEST,
        pytest("unit tests", DEV, "-q", "tests/unit"),
        pytest("unit tests on ansible-core 2.19", MIDDLE, *UNIT, after=(ENVIRONMENT_MIDDLE.name,)),
        pytest("unit tests on ansible-core 2.16", OLDEST, *UNIT, after=(ENVIRONMENT_OLDEST.name,)),
    ),
    "integration": (
        ENVIRONMENT,
        ENVIRONMENT_MIDDLE,
        ENVIRONMENT_OLDEST,
        ENVIRONMENT_EVENTS,
        ENVIRONMENT_ARTEFACT,
        EXECUTION,
        PROGRAMS,
        SANDBOX,
        Step(INTEGRATION, python("tools/integration.py", *options_for(INTEGRATION)), (SANDBOX.name, *OTHERS), "sandbox"),
        LATER,
    ),
    "molecule": (
        ENVIRONMENT,
        PROGRAMS,
        SANDBOX,
        Step("molecule on the sandbox", python("tools/scenarios.py", "sandbox"), (SANDBOX.name,), "sandbox"),
    ),
    "kind": (
        ENVIRONMENT,
        PROGRAMS,
        KIND,
        *ON_KIND,
        # at once: even an idle cluster takes a good part of a processor from what still runs
        Step("end of the kind cluster", python("-m", "sandbox.kind", "down"), tuple(step.name for step in ON_KIND), "kind"),
    ),
}
# molecule before the integration tests, which fill two processors to the end
WITHOUT_DOCKER = ["lint", "sanity", "unit", "molecule", "integration"]


def clean_environment() -> dict[str, str]:
    """As a new shell has it: nothing of a sandbox or cluster that the caller may work with."""
    # with PYTHONUNBUFFERED every module would read its arguments, and the million bytes of itself, one by one
    foreign = ("ANSIBLE_", "K8S_AUTH_", "KUBE", "PYTEST_", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {
        "PATH": f"{ROOT / DEV / 'bin'}:{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / DEV / "collections"),
        "MESHOPS_COMPILED": str(COMPILED),
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


@dataclass
class Running:
    """A step under way. Without a log, its output is shown as it comes."""

    step: Step
    process: subprocess.Popen[bytes]
    log: Path | None
    began: float = field(default_factory=time.monotonic)
    computed: float = 0.0
    """Seconds of processor time, the processes that it waited for included; known when it has ended."""

    def seconds(self) -> float:
        return time.monotonic() - self.began

    def has_ended(self) -> bool:
        pid, status, used = os.wait4(self.process.pid, os.WNOHANG)
        if not pid:
            return False
        self.process.returncode, self.computed = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
        return True

    def last_line(self) -> str:
        lines = self.log.read_text(errors="replace").split("\n") if self.log else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[:100]

    def end(self) -> None:
        """It, which may have things to take down, and then what it has left: molecule leaves the playbook that it runs."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)


def what_failed(step: Step) -> list[str]:
    """The failed tests of a test run with the reason, else the last lines of the log: at the end, where they are found in an output that was cut."""
    report, log = REPORTS / f"{step.name}.xml", LOGS / f"{step.name}.log"
    if report.is_file():
        cases = ElementTree.parse(report).iter("testcase")  # noqa: S314 (our own file)
        failures = [(case, failure) for case in cases for failure in (*case.iter("failure"), *case.iter("error"))]
        lines = [f"{case.get('classname')}::{case.get('name')}: {failure.get('message', '')}" for case, failure in failures]
        more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        return [line.split("\n")[0][:300] for line in lines[:SHOWN]] + more
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return [line.rstrip()[:300] for line in lines if line.strip()][-SHOWN:]


def begin(step: Step, *, shown: bool) -> Running:
    log = None if shown else LOGS / f"{step.name}.log"
    output: IO[bytes] | None = log.open("wb") if log else None
    try:
        process = subprocess.Popen(
            step.command,
            cwd=ROOT,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if log else None,
            process_group=0,
        )
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", flush=True)
        process = subprocess.Popen(("sh", "-c", "exit 127"), process_group=0)
    finally:
        if output:
            output.close()
    return Running(step, process, log)


def startable(waiting: Iterable[Step], running: Iterable[Running], good: set[str], at_once: int) -> Iterator[Step]:
    """In their order; of those that use the same mesh one at a time, of the others `at_once`."""
    busy = [one.step.uses for one in running]
    for step in waiting:
        if good.issuperset(step.after) and busy.count(step.uses) < (1 if step.uses else at_once):
            busy.append(step.uses)
            yield step


def carry_out(steps: list[Step], at_once: int = 1) -> Tally:
    total = Tally()
    good: set[str] = set()
    failed: set[str] = set()
    waiting, running, told = list(steps), list[Running](), time.monotonic()
    try:
        while waiting or running:
            starting = list(startable(waiting, running, good, at_once))
            for step in starting:
                waiting.remove(step)
                print(f"\n==> {steps.index(step) + 1}/{len(steps)} {step.name}: {shlex.join(step.command)}", flush=True)
                for old in (REPORTS / f"{step.name}.xml", LOGS / f"{step.name}.log"):
                    old.unlink(missing_ok=True)
                # what runs alone stays alone: nothing can start before it ends
                running.append(begin(step, shown=len(starting) == 1 and not running))
            assert running, f"these steps are never ready: {waiting}"  # noqa: S101
            time.sleep(0.1)
            for one in [one for one in running if one.has_ended()]:
                running.remove(one)
                finish(one, total)
                (failed if one.process.returncode else good).add(one.step.name)
                told = time.monotonic()
            leave_out(waiting, failed, total)
            if time.monotonic() - told > EVERY:
                told = time.monotonic()
                for one in running:
                    if one.log:
                        print(f"... {one.step.name}, {one.seconds():.0f} s: {one.last_line()}", flush=True)
    finally:
        for one in running:
            one.end()
    return total


def leave_out(waiting: list[Step], failed: set[str], total: Tally) -> None:
    """What needs something that failed, and what needs that."""
    while step := next((step for step in waiting if failed.intersection(step.after)), None):
        waiting.remove(step)
        total.skipped += 1
        total.lines.append(f"  not run          {step.name}: {' and '.join(sorted(failed.intersection(step.after)))} failed")
        failed.add(step.name)


def finish(one: Running, total: Tally) -> None:
    code, seconds = one.process.returncode, one.seconds()
    tally = counted(one.step, code)
    if one.log:
        print(f"\n--- {one.step.name}:\n{one.log.read_text(errors='replace')}", flush=True)
    print(f"<== {one.step.name}: {'failed' if code else 'passed'} in {seconds:.1f} s", flush=True)
    total.add(tally)
    total.lines.append(f"  {'FAILED' if code else 'passed'} {seconds:7.1f} s, computed {one.computed:7.1f} s  {one.step.name}")
    if code:
        total.lines += [f"           {line}" for line in what_failed(one.step)]


def processors_for_the_rest(steps: Iterable[Step]) -> int:
    """Each mesh that is worked on keeps one busy."""
    return max(1, (os.cpu_count() or 1) - len({step.uses for step in steps if step.uses}))


def end_on_signal(number: int, __: object) -> NoReturn:
    raise SystemExit(128 + number)


def main() -> int:
    groups = sys.argv[1:] or WITHOUT_DOCKER
    if unknown := [name for name in groups if name not in GROUPS]:
        sys.exit(f"check: {', '.join(unknown)}: expected any of {', '.join(GROUPS)}")
    # what waits for nothing comes first, since much waits for it
    steps = sorted(dict.fromkeys(step for group in groups for step in GROUPS[group]), key=lambda step: (bool(step.after), step is LATER))
    signal.signal(signal.SIGTERM, end_on_signal)
    shutil.rmtree(COMPILED, ignore_errors=True)
    for directory in (REPORTS, LOGS, COMPILED):
        directory.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    ours = {"sandbox": ROOT / ".sandbox" / "run"} if SANDBOX in steps and not sandbox_is_healthy() else {}
    if KIND in steps:
        ours["sandbox.kind"] = ROOT / ".sandbox" / "kind"
    try:
        total = carry_out(steps, processors_for_the_rest(steps))
    finally:
        for program, made in ours.items():
            if made.exists():  # else it was never begun, and its environment may be half made
                print(f"\n==> python -m {program} down, as it was before", flush=True)
                run(python("-m", program, "down"))
    counts = [f"{total.failed} failed"] if total.failed else []
    counts.append(f"{total.passed} passed")
    counts += [f"{total.skipped} skipped"] if total.skipped else []
    print("", *total.lines, f"{', '.join(counts)} in {time.monotonic() - start:.1f}s", sep="\n", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
