# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Canaries in places where no secret belongs, and in forms that nobody expects: one run for all of them, a task each."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import HERE, ROOT, Mesh, Pair
from .test_secrets_never_leak import OLDEST, Issue


def body_of(pem: str) -> str:
    return "".join(line for line in pem.splitlines() if "-----" not in line)


def pieces(text: str) -> set[str]:
    """What must not be seen of a long text in base64: of its beginning, which says what it is, as little as of the rest."""
    return {text[start : start + 24] for start in range(24, len(text) - 24, 24)}


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """A server that repeats the word after `Bearer` in every way: alone, in a header, cut short in a long body, with status 500."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            word = self.headers.get("Authorization", "").rpartition(" ")[2]
            body = {"/long": "x" * 1990 + word, "/error": f"no such token: {word}"}.get(self.path, json.dumps({"token": word})).encode()
            self.send_response(500 if self.path == "/error" else 200)
            self.send_header("X-Token", word)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *__: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class Places:
    """Tasks with a secret each, and what must not be seen of it."""

    def __init__(self) -> None:
        self.tasks: list[dict[str, Any]] = []
        self.secrets: dict[str, set[str]] = {}
        self.values: dict[str, Any] = {}

    def add(self, place: str, module: str, arguments: dict[str, Any], *secrets: str) -> None:
        given = {}
        for option, value in arguments.items():  # from a variable, as from a vault: ansible-core quotes a failing task's own lines
            self.values[f"value_{len(self.values)}"] = value
            given[option] = f"{{{{ value_{len(self.values) - 1} }}}}"
        self.tasks.append({"name": place, f"meshops.istio.{module}": given, "ignore_errors": True})
        self.secrets[place] = set(secrets)

    def seen_in(self, *texts: str) -> list[str]:
        return [place for place, secrets in self.secrets.items() if any(secret in text for secret in secrets for text in texts)]


def word(number: int) -> str:
    return f"c4n4ry{number:04}x5f1c"


def login_places(places: Places, name: str) -> None:
    """URLs with a login, numbers, and what a plugin is called with."""
    server = {"server": "https://127.0.0.1:1", "certificate-authority-data": "!"}  # refused before anybody is asked

    def kubeconfig(user: dict[str, Any], **cluster: Any) -> dict[str, Any]:
        clusters, users = [{"name": "c", "cluster": {**server, **cluster}}], [{"name": "c", "user": user}]
        contexts = [{"name": "c", "context": {"cluster": "c", "user": "c"}}]
        return {"apiVersion": "v1", "kind": "Config", "clusters": clusters, "users": users, "contexts": contexts, "current-context": "c"}

    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "false",
        "args": ["get", word(6)],
        "env": [{"name": "A", "value": word(7)}],
    }
    logins: dict[str, tuple[dict[str, Any], list[str]]] = {
        "proxy": ({"proxy": f"http://u:{word(1)}@127.0.0.1:9", "ca_cert": "/none"}, [word(1)]),
        "proxy that is refused": ({"proxy": f"u:{word(2)}@127.0.0.1:9"}, [word(2)]),
        "host": ({"host": f"https://u:{word(3)}@127.0.0.1:1", "api_key": "k", "ca_cert": "/none"}, [word(3)]),
        "proxy-url": ({"kubeconfig": kubeconfig({"token": "k"}, **{"proxy-url": f"http://u:{word(4)}@127.0.0.1:9"})}, [word(4)]),
        "server": ({"kubeconfig": kubeconfig({"token": "k"}, server=f"https://u:{word(5)}@127.0.0.1:1")}, [word(5)]),
        "a password that is a number": ({"kubeconfig": kubeconfig({"username": "u", "password": 471147114711})}, ["471147114711"]),
        "exec.args and exec.env": ({"kubeconfig": kubeconfig({"exec": plugin})}, [word(6), word(7)]),
        "proxy_headers": ({"proxy_headers": {"proxy_auth": word(8)}}, [word(8)]),
        "proxy_headers as text": ({"proxy_headers": f"proxy_auth={word(9)}"}, [word(9)]),
        "an unknown option": ({"passphrase": word(10)}, [word(10)]),
        "an unknown option that is a list": ({"tokens": [{"a": word(11)}]}, [word(11)]),
    }
    for place, (arguments, secrets) in logins.items():
        places.add(place, "istio_tls_credential_info", {"name": name, **arguments}, *secrets)
    places.add("an unknown option of an item", "istio_tls_credential", {"credentials": [{"name": name, "token": word(12)}]}, word(12))
    nested = {"credentials": [[{"name": name, "private_key": word(13)}]]}
    places.add("an item that is a list", "istio_tls_credential", nested, word(13))


def key_places(places: Places, name: str, pair: Pair, pkcs12: str) -> None:
    """Keys without the lines of PEM, in options that are no secret."""
    forms = {
        "base64": base64.b64encode(pair.private_key.encode()).decode(),
        "PKCS#12": pkcs12,
        "body": body_of(pair.private_key),
    }
    good = {"name": name, "certificate": pair.certificate, "private_key": pair.private_key}
    options: dict[str, Callable[[str], dict[str, Any]]] = {
        "private_key_path": lambda key: {"name": name, "certificate": pair.certificate, "private_key_path": key},
        "pkcs12_path": lambda key: {"name": name, "pkcs12_path": key},
        "certificate": lambda key: {**good, "certificate": key},
        "ca_certificate": lambda key: {**good, "ca_certificate": key},
        "ocsp_staple": lambda key: {**good, "ocsp_staple": key},
        "annotations": lambda key: {**good, "annotations": {"note": key}},
        "labels": lambda key: {**good, "labels": {"note": key}},
        "hosts": lambda key: {**good, "hosts": [key]},
        "state": lambda key: {**good, "state": key},
        "unknown": lambda key: {**good, "key": key},
    }
    some = {
        "base64": options.keys(),
        "PKCS#12": ("pkcs12_path", "certificate", "unknown"),
        "body": ("private_key_path", "ca_certificate", "labels"),
    }
    for form, key in forms.items():
        for option in some[form]:
            places.add(f"{form} as {option}", "istio_tls_credential", options[option](key), *pieces(key))


def header_places(places: Places, port: int) -> None:
    request = {"host": "echo.example.com", "address": "127.0.0.1", "port": port, "scheme": "http"}
    for number, (path, more) in enumerate([("/", {}), ("/long", {}), ("/error", {"expect": {"status": 200}})], 20):
        header = {"secret_headers": {"Authorization": f"Bearer {word(number)}"}}
        # of the one that is cut, too, nothing but the characters that all of them begin with
        places.add(
            f"secret_headers, echo {path}", "tls_probe", {**request, **header, "path": path, **more}, word(number), word(number)[:10]
        )
    text = {"secret_headers": f"Authorization={word(30)}"}
    places.add("secret_headers as text", "tls_probe", {**request, **text, "path": "/error", "expect": {"status": 200}}, word(30))
    places.add("secret_headers that cannot be read", "tls_probe", {**request, "secret_headers": f"Bearer {word(31)}"}, word(31))
    places.add("the name of a secret header", "tls_probe", {**request, "secret_headers": {f"Bearer {word(32)}": "y"}}, word(32))


def pkcs12_of(pair: Pair) -> str:
    command = [
        "openssl",
        "pkcs12",
        "-export",
        "-in",
        str(pair.certificate_path),
        "-inkey",
        str(pair.private_key_path),
        "-passout",
        "pass:x",
    ]
    return base64.b64encode(subprocess.run(command, check=True, capture_output=True).stdout).decode()


@pytest.fixture
def places(issue: Issue, credential_name: str) -> Iterator[Places]:
    pair, made = issue(), Places()
    with echo() as port:
        login_places(made, credential_name)
        key_places(made, credential_name, pair, pkcs12_of(pair))
        header_places(made, port)
        yield made


def kept_by_callbacks(directory: Path) -> dict[str, str]:
    """Ansible's log and JUnit's files beside whatever tells the results."""
    callbacks = {"ANSIBLE_CALLBACKS_ENABLED": "record,ansible.builtin.junit", "JUNIT_OUTPUT_DIR": str(directory / "junit")}
    return {**callbacks, "ANSIBLE_LOG_PATH": str(directory / "log")}


def texts_of(directory: Path) -> list[str]:
    texts = [(directory / "log").read_text(), *(path.read_text() for path in (directory / "junit").iterdir())]
    assert len(texts) == 2 and all("base64 as state" in text for text in texts)
    return texts


def with_own_syslog(mesh: Mesh, venv: Path | None, log: Path) -> str:
    """A PATH on which ansible-playbook runs with a syslog of its own, which is that file."""
    path = mesh.env(venv=venv)["PATH"]
    shim = log.parent / "bin" / "ansible-playbook"
    shim.parent.mkdir()
    command = [sys.executable, str(HERE / "own_syslog.py"), str(log), str(shutil.which(shim.name, path=path))]
    shim.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    shim.chmod(0o755)
    return f"{shim.parent}:{path}"


# in Ansible's own process every version has its own way; as a module there is one
@pytest.mark.parametrize(
    ("venv", "in_process"), [(None, "true"), (OLDEST, "true"), (OLDEST, "false")], ids=["newest", "oldest", "oldest, as a module"]
)
def test_secrets_in_strange_places_as_people_see_them(
    mesh: Mesh, places: Places, tmp_path: Path, venv: Path | None, in_process: str
) -> None:
    """With -vvv and --diff, in Ansible's log, JUnit's files and syslog."""
    values, syslog = tmp_path / "values.json", tmp_path / "syslog"
    values.write_text(json.dumps(places.values))
    run = mesh.playbook(
        places.tasks,
        f"-e@{values}",
        "-vvv",
        "--diff",
        venv=venv,
        PATH=with_own_syslog(mesh, venv, syslog),
        MESHOPS_IN_PROCESS=in_process,
        **kept_by_callbacks(tmp_path),
    ).ok()
    assert [record["task"] for record in run.records] == list(places.secrets)
    logged = syslog.read_text(errors="replace")
    assert logged.count("Invoked with") > len(places.tasks) / 2
    assert not places.seen_in(run.output, logged, *texts_of(tmp_path))
    told = {record["task"]: record["result"].get("problems", [{}])[0].get("code") for record in run.records}
    assert {told[place] for place in ("base64 as annotations", "base64 as labels", "body as labels")} == {"key_in_metadata"}


def test_secrets_in_strange_places_as_programs_keep_them(mesh: Mesh, places: Places, tmp_path: Path) -> None:
    """Without -v: runner's event files and callbacks such as json hold whole results all the same."""
    import ansible_runner

    (tmp_path / "values.json").write_text(json.dumps(places.values))
    project = tmp_path / "runner" / "project"
    project.mkdir(parents=True)
    (project / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": places.tasks}]))
    record = {
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "integration" / "callback_plugins"),
        "MESHOPS_RECORD": str(tmp_path / "record"),
        "ANSIBLE_INJECT_INVOCATION": "true",  # the arguments in every result, which ansible-core 2.21 leaves out unless it is asked
    }
    done = ansible_runner.run(
        private_data_dir=str(tmp_path / "runner"),
        playbook="play.yml",
        inventory=mesh.environment["ANSIBLE_INVENTORY"],
        cmdline=f"-e@{tmp_path / 'values.json'}",
        envvars={**mesh.env("operator"), "ANSIBLE_NOCOLOR": "1", **kept_by_callbacks(tmp_path), **record},
        quiet=True,
    )
    assert done.status == "successful", done.stdout.read()
    events = [path.read_text() for path in (tmp_path / "runner" / "artifacts").rglob("job_events/*.json")]
    results = (tmp_path / "record").read_text()
    assert sum("module_args" in event for event in events) > len(places.tasks) / 2 and results.count("module_args") > len(places.tasks) / 2
    assert not places.seen_in(results, *events, done.stdout.read(), *texts_of(tmp_path))
