# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that are ended from outside: by a signal to the module, by Ctrl-C in the terminal, by SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..conftest import ROOT, Mesh, Pair
from ..faultproxy import FaultProxy, Request, Wait
from ..process import Running, run
from ..spare import SpareApi, until
from .judging import MODULE, Credentials, assert_finishes, assert_told, through
from .test_faults import SPOILED

SIGNALS = [signal.SIGTERM, signal.SIGINT]
SLOW = Wait(0.1)  # with eight connections: 80 writes a second


def slowly(request: Request) -> Wait | None:
    return SLOW if request.is_write else None


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_in_the_middle_of_a_batch(
    spare_api: SpareApi, proxy: FaultProxy, credentials: Credentials, number: signal.Signals
) -> None:
    proxy.decide = slowly
    arguments = credentials(through(proxy), 100)
    running = Running(MODULE, arguments)
    until(lambda: len(proxy.writes) >= 40, "the first writes", pause=0.01)
    running.send(number)
    sent = time.monotonic()
    finished = running.finish()
    assert time.monotonic() - sent < 5
    there = assert_told(spare_api, arguments, finished)
    assert finished.message.startswith(f"stopped by {number.name}. Applied before that: Secret ")
    assert finished.named("applied") == there, "what was under way was finished"
    assert not finished.named("failures") and 40 <= len(there) <= 80
    assert len(proxy.writes) == len(there), "nothing new was begun"
    assert_finishes(spare_api, arguments, there)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_the_run_is_waiting_for_the_server(
    spare_api: SpareApi, proxy: FaultProxy, credentials: Credentials, number: signal.Signals
) -> None:
    """It does not wait any longer, though its patience is not over."""
    proxy.decide = lambda request: SPOILED["503"] if request.method == "PATCH" and request.number > 20 else None
    arguments = credentials(through(proxy), 60)
    running = Running(MODULE, arguments)
    until(lambda: len(proxy.writes) >= 36, "second attempts")
    running.send(number)
    sent = time.monotonic()
    finished = running.finish()
    assert time.monotonic() - sent < 5
    there = assert_told(spare_api, arguments, finished)
    assert len(there) == 20 and f"stopped by {number.name}" in finished.message
    assert_finishes(spare_api, arguments, there)


@pytest.mark.parametrize("count", [3, 60])
def test_a_signal_before_anything_is_written(spare_api: SpareApi, proxy: FaultProxy, credentials: Credentials, count: int) -> None:
    proxy.decide = lambda request: SPOILED["503"] if request.method == "GET" else None
    arguments = credentials(through(proxy), count)
    running = Running(MODULE, arguments)
    until(lambda: len(proxy.requests) > min(count, 8), "second attempts")
    running.send(signal.SIGTERM)
    sent = time.monotonic()
    finished = running.finish().fails()
    assert time.monotonic() - sent < 5
    assert finished.message == "stopped by SIGTERM before anything was written" and finished.result["changed"] is False
    assert not spare_api.secrets(arguments["namespace"])


def test_a_run_that_is_killed_is_finished_by_the_next(spare_api: SpareApi, proxy: FaultProxy, credentials: Credentials) -> None:
    proxy.decide = slowly
    arguments = credentials(through(proxy), 100)
    running = Running(MODULE, arguments)
    until(lambda: len(proxy.writes) >= 40, "the first writes", pause=0.01)
    running.send(signal.SIGKILL)
    running.wait()
    time.sleep(0.5)  # what the proxy still passes on
    assert_finishes(spare_api, arguments, set(spare_api.secrets(arguments["namespace"])))
    assert not run(MODULE, {**arguments, **spare_api.login}).ok().result["changed"]


def split(place: str, login: dict[str, str], pair: Pair, **more: Any) -> dict[str, Any]:
    return {
        **login,
        "namespace": place,
        "name": "two",
        "layout": "split",
        "certificate": pair.certificate,
        "private_key": pair.private_key,
        **more,
    }


@pytest.mark.parametrize("way", ["signal", "kill"])
def test_a_split_credential_is_never_left_without_its_ca(
    spare_api: SpareApi, proxy: FaultProxy, place: str, pairs: list[Pair], way: str
) -> None:
    """Written is the CA first, and deleted last: a gateway that comes in between asks for a certificate rather than for none."""
    hold = Wait(2)
    proxy.decide = lambda request: hold if request.is_write else None
    wanted = split(place, through(proxy), pairs[0], ca_certificate=pairs[0].ca)
    running = Running(MODULE, wanted)
    until(lambda: len(proxy.writes) == 1, "the first write", pause=0.01)
    if way == "signal":
        running.send(signal.SIGTERM)
        finished = running.finish().fails()
        assert finished.named("applied") == {"two-cacert"} and finished.named("not_tried") == {"two"}
    else:
        running.send(signal.SIGKILL)
        running.wait()
        until(lambda: bool(spare_api.secrets(place)), "what the proxy still passes on")
    assert set(spare_api.secrets(place)) == {"two-cacert"}
    proxy.reset()
    run(MODULE, {**wanted, **spare_api.login}).ok()
    assert spare_api.writes(place) == {"two": 1, "two-cacert": 1}

    proxy.decide = lambda request: hold if request.is_write else None
    running = Running(MODULE, {**wanted, "state": "absent"})
    until(lambda: len(proxy.writes) == 1, "the first deletion", pause=0.01)
    assert proxy.writes[0].name == "two"
    running.send(signal.SIGTERM)
    finished = running.finish().fails()
    assert finished.named("applied") == {"two"} and finished.named("not_tried") == {"two-cacert"}
    run(MODULE, {**wanted, **spare_api.login, "state": "absent"}).ok()
    assert not spare_api.secrets(place)


@pytest.mark.parametrize("in_process", ["true", "false"])
@pytest.mark.parametrize("whom", ["the terminal", "ansible-playbook"])
@pytest.mark.parametrize("number", SIGNALS)
def test_ansible_itself_is_interrupted(
    mesh: Mesh,
    spare_api: SpareApi,
    proxy: FaultProxy,
    credentials: Credentials,
    tmp_path: Path,
    number: signal.Signals,
    whom: str,
    in_process: str,
) -> None:
    """Ctrl-C reaches the whole process group, a service manager's SIGTERM perhaps the first process alone. Either way the run ends, writes
    nothing afterwards, not even for a loop's next item, and the next run finishes it."""
    proxy.decide = slowly
    arguments = credentials(through(proxy), 100)
    (tmp_path / "arguments.yml").write_text(yaml.safe_dump({"arguments": arguments}))
    playbook = tmp_path / "playbook.yml"
    task = {"meshops.istio.istio_tls_credential": "{{ arguments | combine(item) }}", "loop": [{}, {"labels": {"second": "item"}}]}
    playbook.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "vars_files": ["arguments.yml"], "tasks": [task]}]))
    environment = {
        **mesh.env(),
        "MESHOPS_IN_PROCESS": in_process,
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
        "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
    }
    environment["ANSIBLE_INJECT_FACT_VARS"] = "false"
    process = subprocess.Popen(
        ["ansible-playbook", str(playbook)],
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        until(lambda: len(proxy.writes) >= 40, "the first writes", pause=0.01)
        if whom == "the terminal":
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        output, __ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode != 0, output
    assert "Traceback" not in output

    def is_quiet() -> bool:
        before = len(proxy.writes)
        time.sleep(0.5)
        return len(proxy.writes) == before

    until(is_quiet, "an end of the writing")
    there = set(spare_api.secrets(arguments["namespace"]))
    assert 40 <= len(there) < len(arguments["credentials"]), output
    assert_finishes(spare_api, arguments, there)
