# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Canaries around a module: what can be seen while it works, and what a run that is killed leaves behind."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from stat import S_IMODE
from typing import Any

import pytest
import yaml

from .conftest import Mesh, Pair
from .faultproxy import Wait, fault_proxy
from .test_secrets_never_leak import OLDEST, aside, canaries

Issue = Callable[..., Pair]
IN_PROCESS = {"in Ansible's process": {}, "in a process of its own": {"MESHOPS_IN_PROCESS": "false"}}


def tree_of(pid: int) -> list[Path]:
    """/proc directories of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found, ahead = [], [pid]
    while ahead:
        found.append(ahead.pop())
        ahead += children.get(found[-1], [])
    return [Path(f"/proc/{one}") for one in found]


def open_files(process: Path) -> Iterator[Path]:
    """Regular files on disk that a process has open; memory that looks like one (memfd) leaves no trace and does not count."""
    for link in (process / "fd").glob("*"):
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            if target.startswith("/") and not target.startswith(("/memfd:", "/dev/", "/proc/")):
                yield link


@pytest.mark.parametrize("where", IN_PROCESS)
@pytest.mark.parametrize("module", ["istio_tls_credential", "tls_probe"])
def test_nothing_can_be_seen_while_a_module_works(
    mesh: Mesh, issue: Issue, namespace: str, tmp_path: Path, short_path: Path, module: str, where: str
) -> None:
    """The module is held in the middle of its work; then arguments, environments, open files and temporary files are searched."""
    pair = issue("canary.example.com")
    secrets = canaries(pair.private_key)
    config = yaml.safe_load(Path(mesh.environment["KUBECONFIG"]).read_text())
    ca = tmp_path / "api-ca.crt"
    ca.write_bytes(base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]))
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go_on.wait(60)

    with contextlib.ExitStack() as stack:
        stack.callback(go_on.set)
        if module == "istio_tls_credential":
            proxy = stack.enter_context(fault_proxy(config["clusters"][0]["cluster"]["server"], ca, tmp_path))
            proxy.decide = lambda request: Wait(until=hold) if request.is_write else None
            login = {"host": proxy.url, "ca_cert": str(proxy.ca_path), "api_key": config["users"][0]["user"]["token"]}
            arguments = {
                **login,
                "name": "canary",
                "namespace": namespace,
                "certificate": pair.certificate,
                "private_key": pair.private_key,
            }
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def accept() -> None:
                connection, __ = listener.accept()  # and no handshake comes
                with connection:
                    hold()

            threading.Thread(target=accept, daemon=True).start()
            port = listener.getsockname()[1]
            client = {"client_certificate": pair.certificate, "client_private_key": pair.private_key}
            arguments = {"host": "canary.example.com", "address": "127.0.0.1", "port": port, "request_timeout": 50, **client}
        values: dict[str, str] = {}
        tasks = aside([{f"meshops.istio.{module}": arguments, "register": "done", "ignore_errors": True}], values)
        (tmp_path / "values.json").write_text(json.dumps(values))
        playbook = tmp_path / "play.yml"
        playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        places = {
            "TMPDIR": short_path,
            "ANSIBLE_LOCAL_TEMP": short_path / "local",
            "ANSIBLE_REMOTE_TEMP": short_path / "remote",
            "HOME": short_path,
        }
        environment = {**mesh.env(), **IN_PROCESS[where], **{name: str(path) for name, path in places.items()}}
        command = ["ansible-playbook", str(playbook), f"-e@{tmp_path / 'values.json'}"]
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        stack.callback(process.kill)
        assert held.wait(60), "the module did not come as far as that"
        seen = {path: path.read_bytes() for one in tree_of(process.pid) for path in (one / "cmdline", one / "environ")}
        assert len(seen) >= 4 and any(b"ansible" in content for content in seen.values())
        for one in tree_of(process.pid):
            seen |= {path: path.read_bytes() for path in open_files(one) if path.stat().st_size < 10**7}
        seen |= {path: path.read_bytes() for path in short_path.rglob("*") if path.is_file()}
        go_on.set()
        output, __ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    for path, content in seen.items():
        leaked = [secret for secret in secrets if secret.encode() in content]
        assert not leaked, f"{len(leaked)} pieces of a key in {path}"
    left = [path for path in short_path.rglob("*") if path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets)]
    assert not left


# --- a run that is killed: without pipelining, as Ansible does by default


@contextlib.contextmanager
def silent() -> Iterator[tuple[int, threading.Event]]:
    """A port on which somebody listens, and says nothing; and whether somebody came."""
    came = threading.Event()
    kept: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                kept.append(listener.accept()[0])
                came.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], came
        listener.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()


def holding(directory: Path, secrets: set[str]) -> list[Path]:
    """The files in which a secret stands."""
    found = []
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets):
                found.append(path)
    return found


@pytest.mark.parametrize("given", ["paths", "content"])
@pytest.mark.parametrize("where", IN_PROCESS)
@pytest.mark.parametrize("venv", [None, OLDEST], ids=["newest", "oldest"])
def test_what_a_killed_run_leaves(
    mesh: Mesh, issue: Issue, tmp_path: Path, short_path: Path, venv: Path | None, where: str, given: str
) -> None:
    """As the README says: a key lies in a file only where it is given as content, and Ansible packs the module without pipelining."""
    pair = issue("canary.example.com")
    secrets = canaries(pair.private_key)
    arguments: dict[str, Any] = {"host": "canary.example.com", "address": "127.0.0.1", "request_timeout": 60}
    if given == "paths":
        arguments |= {"client_certificate_path": str(pair.certificate_path), "client_private_key_path": str(pair.private_key_path)}
    else:
        arguments |= {"client_certificate": pair.certificate, "client_private_key": pair.private_key}
    places = {name: str(short_path / name.lower()) for name in ("TMPDIR", "ANSIBLE_LOCAL_TEMP", "ANSIBLE_REMOTE_TEMP")}
    Path(places["TMPDIR"]).mkdir()
    with silent() as (port, came):
        values: dict[str, str] = {}
        tasks = aside([{"meshops.istio.tls_probe": {**arguments, "port": port}}], values)
        (tmp_path / "values.json").write_text(json.dumps(values))
        (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        command = ["ansible-playbook", "play.yml", f"-e@{tmp_path / 'values.json'}", "-e", '{"ansible_pipelining": false}', "-vvvv"]
        environment = {
            **mesh.env(venv=venv),
            **IN_PROCESS[where],
            **places,
            "HOME": str(short_path),
            "ANSIBLE_LOG_PATH": str(short_path / "log"),
        }
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            assert came.wait(60), "the module did not come as far as that"
            during = holding(short_path, secrets)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert "PLAY" in (short_path / "log").read_text()
    packed = where == "in a process of its own" and given == "content"
    for found in (during, holding(short_path, secrets)):
        assert len(found) == packed, found
        for path in found:
            assert path.name == "AnsiballZ_tls_probe.py" and S_IMODE(path.parent.stat().st_mode) == 0o700
