# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations while something breaks: istiod, a gateway proxy, the way to the API server, or the run itself on its way back.

That a run is killed between write and proof, and that somebody else writes meanwhile, is in test_rotation.py.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.sandbox import istio, layout
from ansible_collections.meshops.istio.sandbox.processes import Component, start

from .conftest import SANDBOX, Mesh
from .faultproxy import Break, Request, fault_proxy
from .test_rotation import INGRESS, MARKER, Issue, Shop, a_shop, fingerprint, is_clean, istiod_stands_still, probe, wait_for_marker

GATEWAY = next(proxy for proxy in istio.PROXIES if proxy.name == layout.INGRESS_GATEWAY)


@pytest.fixture(scope="module")
def shop(mesh: Mesh, issue: Issue) -> Iterator[Shop]:
    """One for all of them: each leaves it as it should be."""
    with a_shop(mesh, issue) as one:
        yield one


def kill(name: str) -> None:
    """A process of the sandbox, with its children."""
    record = json.loads((SANDBOX / "run" / "processes" / f"{name}.json").read_text())
    os.killpg(record["pid"], signal.SIGKILL)


def until(what: str, check: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@pytest.mark.parametrize(("name", "component"), [("istiod", istio.istiod), (GATEWAY.name, lambda: istio.proxy_component(GATEWAY))])
def test_what_is_killed_and_started_again_is_waited_for(shop: Shop, issue: Issue, name: str, component: Callable[[], Component]) -> None:
    """Killed between the write and the proof. A gateway proxy comes up with the new pair, and one whose istiod was away gets it later."""
    new = issue(*shop.hosts)
    with ThreadPoolExecutor(1) as threads:
        with istiod_stands_still():  # so that nothing is proven before
            run = threads.submit(shop.rotate, new, proof_timeout=90)
            wait_for_marker(shop, lambda: not run.done())
            kill(name)
            start(component())
        (result,) = run.result().ok().results("istio_tls_rotation")
    (one,) = result["rotations"]
    assert one["outcome"] == "rotated" and one["proof"]["proxies"] == [INGRESS]
    assert shop.served() == fingerprint(new) and is_clean(shop)


def operator(mesh: Mesh) -> tuple[str, str, Path]:
    """URL, token and CA file of the operator's login."""
    config = yaml.safe_load(Path(mesh.environment["OPERATOR_KUBECONFIG"]).read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    ca = mesh.scratch / f"ca-{uuid.uuid4().hex}.crt"
    ca.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    return cluster["server"], user["token"], ca


def test_an_api_server_that_is_away_for_twenty_seconds(shop: Shop, issue: Issue, tmp_path: Path) -> None:
    """From the switch on: the proof does not need it, and the end waits for it."""
    server, token, ca = operator(shop.mesh)
    new = issue(*shop.hosts)
    with fault_proxy(server, ca, tmp_path) as proxy:
        away_until: list[float] = []

        def decide(request: Request) -> Break | None:
            if request.is_write and not away_until:
                away_until.append(time.monotonic() + 20)
                return Break(after=True)  # written, and the answer is lost
            return Break(reset=True) if away_until and time.monotonic() < away_until[0] else None

        proxy.decide = decide
        (result,) = shop.rotate(new, host=proxy.url, api_key=token, ca_cert=str(proxy.ca_path)).ok().results("istio_tls_rotation")
        assert time.monotonic() >= away_until[0]
    assert result["rotations"][0]["outcome"] == "rotated"
    assert shop.served() == fingerprint(new) and is_clean(shop)


def test_a_run_that_is_killed_on_its_way_back(shop: Shop, issue: Issue) -> None:
    """The old pair was written back and not proven yet. It is served, nothing is left of the rotation, and the next one begins from there."""
    old, before = shop.served(), shop.secret()["data"]
    new, only_old = issue(*shop.hosts, ca="another"), issue(*shop.hosts)
    arguments = {"name": shop.name, **new.paths, "admin_urls": [INGRESS], "probes": [{**probe(shop, only_old.ca_path), "timeout": 4}]}
    book = shop.mesh.scratch / f"killed-{uuid.uuid4().hex}.yml"
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [{"meshops.istio.istio_tls_rotation": arguments}]}]))
    holder: dict[str, Any] = {}
    process = subprocess.Popen(
        ["ansible-playbook", str(book)],
        env=shop.mesh.env("operator"),
        cwd=shop.mesh.scratch,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        holder = wait_for_marker(shop, lambda: process.poll() is None)
        until("the new pair is not served", lambda: shop.served() == fingerprint(new))
        with istiod_stands_still():  # so that the old one, once written, is not proven
            until("the old pair is not written back", lambda: shop.secret()["data"] == before)
            assert process.poll() is None and MARKER not in (shop.secret()["metadata"].get("annotations") or {})
            os.kill(int(holder["holder"].split(":")[-2]), signal.SIGKILL)  # the worker, which Ansible makes a session of its own
            assert shop.served() == fingerprint(new)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    shop.wait(old)
    assert is_clean(shop)
    last = issue(*shop.hosts)
    (result,) = shop.rotate(last).ok().results("istio_tls_rotation")
    assert result["rotations"][0]["outcome"] == "rotated" and "recovered" not in result["rotations"][0]
    assert result["rotations"][0]["before"]["certificate"]["fingerprint_sha256"] == old
