# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make sandbox` and `make demo` find out before they install and build."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.sandbox import control_plane, istio, layout, ports, preflight, workloads

PLACE = "127.0.0.97"


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which nothing is in the way, and that needs no port."""
    monkeypatch.setattr(preflight.layout, "STATE", tmp_path)
    monkeypatch.setattr(preflight, "runs", lambda: False)
    monkeypatch.setattr(preflight, "needed_space", lambda: [(tmp_path, 1.0, "all of it")])
    monkeypatch.setattr(preflight.ports, "needed", list)


def test_every_port_of_a_part_is_asked_for() -> None:
    parts = [control_plane.etcd(), control_plane.apiserver(), control_plane.controllers(), istio.istiod()]
    parts += [workloads.httpbin(), workloads.helloworld(), *map(istio.proxy_component, istio.PROXIES)]
    places = [place for place, __ in ports.needed()]
    assert {place for part in parts for place in part.ports} <= set(places)
    assert len(places) == len(set(places)), "two parts want the same port"


@pytest.mark.usefixtures("ready")
def test_nothing_in_the_way() -> None:
    assert preflight.problems() == []


@pytest.mark.usefixtures("ready")
def test_a_port_in_use_and_a_full_disk_are_told_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        preflight, "needed_space", lambda: [(tmp_path / "not" / "yet", 1e18, "Go's build cache"), (tmp_path, 1e9, "programs")]
    )
    with socket.create_server((PLACE, 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(preflight.ports, "needed", lambda: [((PLACE, port), "the ingress gateway")])
        held, space = preflight.problems()
        monkeypatch.setattr(preflight, "runs", lambda: True)
        assert preflight.problems() == [space], "a sandbox that runs holds its ports itself"
    assert held.startswith(f"{PLACE}:{port} is held by pid {os.getpid()}: ") and held.endswith(
        "(stop it first); needed for: the ingress gateway"
    )
    assert space.startswith(f"{tmp_path} is on a file system with ")
    assert "expected 1000000001.0 GB or more (1000000000.0 GB for Go's build cache, 1.0 GB for programs)" in space


def test_what_another_user_made_here() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own directories are closed to other users altogether
        directory = Path(name)
        directory.chmod(0o555)
        looked = multiprocessing.get_context("fork").SimpleQueue()
        child = multiprocessing.get_context("fork").Process(target=look_as_another_user, args=(directory, looked))
        child.start()
        child.join()
        [line] = looked.get()
        directory.chmod(0o700)
    assert line.startswith(
        f"{directory} belongs to user id {os.getuid()}, and this user may not write there: run as that user, or `sudo chown"
    )


def look_as_another_user(directory: Path, looked: Any) -> None:
    if os.getuid() == 0:
        os.setuid(65534)
    looked.put(list(preflight._of_others([directory / "missing", directory, directory])))


def test_what_is_there_takes_no_more_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    caches = (tmp_path / "modules", tmp_path / "objects")
    monkeypatch.setattr(preflight, "_go_caches", lambda: caches)
    monkeypatch.setattr(preflight.layout, "VENV", tmp_path)
    monkeypatch.setattr(preflight, "OBJECTS", 1e6)
    caches[1].mkdir()
    (caches[1] / "object").write_bytes(b"x" * 300_000)
    monkeypatch.setattr(preflight.build, "is_built", lambda: False)
    sizes = {what: size for __, size, what in preflight.needed_space()}
    assert sizes["Go's module cache (GOMODCACHE)"] == preflight.MODULES
    assert 0 < sizes["Go's build cache (GOCACHE)"] < 710_000
    monkeypatch.setattr(preflight.build, "is_built", lambda: True)
    assert [what for __, __, what in preflight.needed_space()] == ["logs and the cluster's data"]


def test_the_plan_says_what_is_done_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.build, "is_built", lambda: True)
    demo = "\n".join(preflight.plan("demo"))
    assert "(built already)" in demo and "walkthroughs" in demo and str(layout.ROOT) in demo
    assert "walkthroughs" not in "\n".join(preflight.plan("sandbox"))


def test_it_needs_nothing_but_python() -> None:
    """It runs before there is a virtual environment."""
    script = (
        "import sys, sandbox.preflight; print([name for name in ('yaml', 'cryptography', 'kubernetes', 'envoy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(layout.ROOT)!r}); {script}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[]\n", done.stderr
