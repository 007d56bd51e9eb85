# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out both walkthroughs against the running sandbox, as the operator, and tells what was proven.

Called by `make demo`, with `.sandbox/env` sourced. Every check is one of the playbooks' own: the run ends with the first that fails.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLAYBOOKS = ROOT / "playbooks"
REPORTS = ROOT / ".sandbox" / "reports"
STEPS = (
    ("site", "certificates, credentials, one Gateway with three servers, and an egress gateway that presents a client certificate"),
    ("rotate", "another CA and certificate in place, and back"),
    ("verify_egress", "what the egress gateway refuses, and a rotation under load"),
    ("cleanup", "everything removed"),
    ("site", "made anew; this is how the sandbox is left"),
)
ADMIN = ["http://127.0.0.1:15100", "http://127.0.0.1:15200"]
"""Where the gateways' Envoys are asked: they are no Pods here."""
STEP = re.compile(r"[AB]\d+")
"""The beginning of a check's name: a step of a walkthrough."""
TASK = re.compile(r"^TASK \[(.*)\] \*+$")
RESULT = re.compile(r"^(?:ok|changed): \[[^\]]*\](?: => \(item=(.*?)\)\s*)?$")
NOT_HERE = re.compile(r"\(item=(not enforced here: .*?)\) => ")
RECAP = re.compile(r"changed=(\d+)")


@dataclass
class Outcome:
    playbook: str
    what: str
    proven: list[str] = field(default_factory=list)
    not_here: list[str] = field(default_factory=list)
    """What cannot be proven on this mesh, and was reported as such."""
    changed: int = 0
    seconds: float = 0.0


def run(playbook: str, what: str, env: dict[str, str]) -> Outcome:
    """Runs one playbook, shows its output as it comes, and collects the checks that passed. Exits when it fails."""
    outcome = Outcome(playbook, what)
    began = time.monotonic()
    command = ["ansible-playbook", str(PLAYBOOKS / f"{playbook}.yml")]
    print(f"\n==> {playbook}.yml: {what}", flush=True)
    task = ""
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            if named := TASK.match(line):
                task = named[1]
            elif passed := RESULT.match(line):
                check = passed[1] or task
                if STEP.match(check):
                    outcome.proven.append(check)
            elif missing := NOT_HERE.search(line):
                outcome.not_here.append(missing[1])
            elif counted := RECAP.search(line):
                outcome.changed += int(counted[1])
    if process.returncode:
        sys.exit(f"{playbook}.yml failed (exit code {process.returncode}): what failed stands above, logs are in .sandbox/logs")
    if not outcome.proven:
        sys.exit(f"{playbook}.yml ended well, but passed none of the walkthrough's checks")
    outcome.seconds = time.monotonic() - began
    return outcome


def report(env: dict[str, str]) -> None:
    """Writes a report of what stands there in the end. Exits when that fails."""
    looks = {"report_directory": str(REPORTS), "report_admin_urls": ADMIN}
    command = ["ansible-playbook", str(PLAYBOOKS / "report.yml"), "-e", json.dumps(looks)]
    print("\n==> report.yml: what is there now, for people and for pipelines", flush=True)
    if subprocess.run(command, env=env, check=False).returncode:
        sys.exit("report.yml failed: what failed stands above")


def main() -> None:
    if "OPERATOR_KUBECONFIG" not in os.environ:
        sys.exit("the sandbox's environment is missing: `make demo`, or `make sandbox` and `. .sandbox/env`")
    env = {**os.environ, "KUBECONFIG": os.environ["OPERATOR_KUBECONFIG"], "ANSIBLE_NOCOLOR": "1"}
    env.pop("ANSIBLE_FORCE_COLOR", None)
    outcomes = [run(playbook, what, env) for playbook, what in STEPS]
    report(env)
    print("\nProven, against a real Istio mesh and with the rights of the shipped Role alone (A1-A35, B1-B32: the steps of Istio's pages):")
    for outcome in outcomes:
        counts = f"{len(outcome.proven)} checks passed, {outcome.changed} tasks changed something, {outcome.seconds:.0f} s"
        print(f"\n  {outcome.playbook}.yml, {outcome.what}: {counts}")
        for check in outcome.proven:
            print(f"    {check}")
        for check in outcome.not_here:
            print(f"    ({check})")
    print(f"\n{sum(len(outcome.proven) for outcome in outcomes)} checks passed in {sum(outcome.seconds for outcome in outcomes):.0f} s.")
    print(f"A report of the gateways as they are now: {(REPORTS / 'report.html').as_uri()}")
    print("The sandbox is running: `. .sandbox/env`, then for example `ansible-playbook playbooks/site.yml`, which changes nothing now.")


if __name__ == "__main__":
    main()
