# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What long work says while it is under way, and what it does when the task's time is over."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..conftest import Mesh
from ..faultproxy import FaultProxy, Request, Wait
from ..spare import SpareApi
from .judging import Credentials, assert_finishes, through

SLOW = Wait(0.8)  # with eight connections: ten writes a second


def slowly(request: Request) -> Wait | None:
    return SLOW if request.is_write else None


def ansible(mesh: Mesh, directory: Path, arguments: dict[str, Any], **more: Any) -> subprocess.CompletedProcess[str]:
    environment = {**mesh.env(), **more.pop("environment", {})}
    (directory / "arguments.yml").write_text(yaml.safe_dump({"arguments": arguments}))
    task = {"meshops.istio.istio_tls_credential": "{{ arguments }}", **more}
    play = {"hosts": "all", "gather_facts": False, "vars_files": ["arguments.yml"], "tasks": [task]}
    (directory / "playbook.yml").write_text(yaml.safe_dump([play]))
    command = ["ansible-playbook", str(directory / "playbook.yml")]
    return subprocess.run(command, env={**environment, "ANSIBLE_INJECT_FACT_VARS": "false"}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("callback", ["ansible.builtin.default", "ansible.posix.json"])
def test_a_batch_says_every_few_seconds_how_far_it_is(
    mesh: Mesh, proxy: FaultProxy, credentials: Credentials, tmp_path: Path, callback: str
) -> None:
    proxy.decide = slowly
    done = ansible(mesh, tmp_path, credentials(through(proxy), 120), environment={"ANSIBLE_STDOUT_CALLBACK": callback})
    assert done.returncode == 0, done.stdout + done.stderr
    lines = re.findall(r"^sandbox: meshops\.istio\.istio_tls_credential: objects written: (\d+) of 120, after (\d+) s$", done.stderr, re.M)
    if callback == "ansible.posix.json":
        assert lines == [] and json.loads(done.stdout)["stats"]["sandbox"]["changed"] == 1
    else:
        assert lines and [int(count) for count, __ in lines] == sorted(int(count) for count, __ in lines)
        assert "objects written" not in done.stdout


def test_the_end_of_the_tasks_time_ends_the_writing(
    mesh: Mesh, spare_api: SpareApi, proxy: FaultProxy, credentials: Credentials, tmp_path: Path
) -> None:
    """What is under way is finished; a module goes on with all of it, unseen."""
    proxy.decide = slowly
    arguments = credentials(through(proxy), 120)
    done = ansible(mesh, tmp_path, arguments, timeout=5)
    output = done.stdout + done.stderr
    assert done.returncode == 2 and ("Timed out after 5 second" in output or "expected time frame (5)" in output), output
    assert "was ended after it had begun to write; running again finishes what is left" in " ".join(output.split())
    there = set(spare_api.secrets(arguments["namespace"]))
    assert 0 < len(there) < 120
    assert_finishes(spare_api, arguments, there)
