# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of ansible-runner, as AWX makes them: a private data directory for each, a slice of the inventory in it, and what is left afterwards."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


def sliced(hosts: Sequence[str], number: int, count: int) -> list[str]:
    """The hosts of one slice, counted from 0, as AWX deals them out."""
    return list(hosts[number::count])


@dataclass(frozen=True)
class Job:
    private: Path
    """What is given: inventory, project, env."""
    artifacts: Path
    """What comes of it."""

    def events(self) -> list[dict[str, Any]]:
        """Those that have arrived so far, in order."""
        found = []
        for path in (self.artifacts / "job_events").glob("[0-9]*.json"):
            if not path.name.endswith("-partial.json"):
                with contextlib.suppress(ValueError, OSError):  # being written
                    found.append(json.loads(path.read_text()))
        return sorted(found, key=lambda event: event["counter"])

    def named(self, kind: str, task: str = "") -> list[dict[str, Any]]:
        """The data of all events of a kind, of one task where given."""
        found = [event["event_data"] for event in self.events() if event["event"] == kind]
        return [data for data in found if task in ("", data.get("task"))]

    @property
    def statistics(self) -> dict[str, Any]:
        (found,) = self.named("playbook_on_stats")
        return dict(found)

    @property
    def told(self) -> dict[str, Any]:
        """What set_stats handed on: what AWX gives to the next node of a workflow."""
        return dict(self.statistics.get("artifact_data") or {})


def job(
    directory: Path,
    inventory: Mapping[str, Any],
    playbook: Sequence[Mapping[str, Any]],
    *,
    extra: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
) -> Job:
    """`files` lie in the project, beside the playbook `play.yml`, in mode 0600."""
    private = directory / "private"
    for name in ("inventory", "project", "env"):
        (private / name).mkdir(parents=True)
    (private / "inventory" / "hosts.yml").write_text(yaml.safe_dump(dict(inventory)))
    (private / "project" / "play.yml").write_text(yaml.safe_dump([dict(play) for play in playbook], width=10**6, sort_keys=False))
    for name, content in (files or {}).items():
        path = private / "project" / name
        path.write_text(content)
        path.chmod(0o600)
    for name, content in {"extravars": extra, "envvars": environment, "settings": settings}.items():
        if content:
            (private / "env" / name).write_text(json.dumps(content))
    return Job(private, directory / "artifacts" / "1")


def run(one: Job, environment: Mapping[str, str], *arguments: str, timeout: float = 300) -> int:
    """`ansible-runner run`; its exit code."""
    command = ["ansible-runner", "run", str(one.private), "--artifact-dir", str(one.artifacts.parent), "--ident", one.artifacts.name]
    playbook = [] if "-p" in arguments else ["-p", "play.yml"]
    done = subprocess.run(
        [*command, *playbook, *arguments], env=dict(environment), capture_output=True, text=True, timeout=timeout, check=False
    )
    assert (one.artifacts / "job_events").is_dir(), done.stdout + done.stderr
    return done.returncode


@dataclass
class Stream:
    """`transmit | worker | process`, the middle one wherever the test wants it."""

    job: Job
    programs: tuple[subprocess.Popen[bytes], ...]
    log: Path

    def wait(self, timeout: float) -> tuple[int, ...]:
        """The exit codes."""
        return tuple(program.wait(timeout) for program in self.programs)

    def close(self) -> None:
        for program in self.programs:
            if program.poll() is None:
                program.kill()
            program.wait(30)


def stream(one: Job, environment: Mapping[str, str], worker: Sequence[str], *arguments: str) -> Stream:
    transmit = ["ansible-runner", "transmit", str(one.private), "-p", "play.yml", *arguments]
    process = ["ansible-runner", "process", str(one.artifacts.parent.parent), "--ident", one.artifacts.name]
    log = one.artifacts.parent.parent / "process.log"
    env = dict(environment)
    with log.open("wb") as said:
        first = subprocess.Popen(transmit, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
        second = subprocess.Popen(worker, env=env, stdin=first.stdout, stdout=subprocess.PIPE, stderr=said)
        third = subprocess.Popen(process, env=env, stdin=second.stdout, stdout=said, stderr=said)
    for program in (first, second):
        assert program.stdout
        program.stdout.close()  # the next one alone holds it
    return Stream(one, (first, second, third), log)
