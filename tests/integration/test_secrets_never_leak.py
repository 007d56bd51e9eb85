# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Canaries: key material given in every way, with everything that Ansible can print, in success and in failure."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization

from .conftest import ROOT, Mesh, Pair, Run
from .faultproxy import Wait, fault_proxy

Issue = Callable[..., Pair]
PASSPHRASE = "canary-passphrase-5f1c"


def canaries(*secrets: str) -> set[str]:
    """Every line of a key, and pieces of it as a Secret holds it; but not what is its public key, with which some kinds of key end."""
    found = set()
    for secret in secrets:
        public = public_part(secret)
        lines = [line for line in secret.splitlines() if "-----" not in line and line not in public]
        found |= {line for line in lines if len(line) >= 20}
        encoded = base64.b64encode(secret.encode()).decode()
        found |= {encoded[start : start + 40] for start in range(0, len(encoded) - 40, 40)}
    return found


def public_part(pem: str) -> str:
    """The public key of a private one, in base64; nothing for what is none, or is encrypted."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        return ""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(key.public_key().public_bytes(serialization.Encoding.DER, form)).decode()


def assert_silent(run: Run, kept: Iterable[Path], secrets: set[str]) -> None:
    assert secrets
    places = {"the output": run.output, "the results": str(run.records)}
    for directory in kept:
        places |= {str(path): path.read_text(errors="replace") for path in directory.rglob("*") if path.is_file()}
    for place, text in places.items():
        leaked = [secret for secret in secrets if secret in text]
        assert not leaked, f"{len(leaked)} pieces of a key in {place}"


def aside(value: Any, values: dict[str, str]) -> Any:
    """The tasks with every secret taken from a variable, as from a vault: ansible-core quotes a failing task's own lines in its errors."""
    if isinstance(value, dict):
        return {key: aside(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [aside(inner, values) for inner in value]
    if isinstance(value, str) and ("\n" in value or PASSPHRASE in value):
        name = f"value_{len(values)}"
        values[name] = value
        return f"{{{{ {name} }}}}"
    return value


@pytest.fixture
def quiet(mesh: Mesh, tmp_path: Path) -> Callable[..., Run]:
    """Runs tasks as loudly as Ansible can; every file that Ansible or a module makes lands in a directory that is searched afterwards."""

    def run(tasks: list[Any], secrets: set[str], *arguments: str, **more: str) -> Run:
        left = tmp_path / "left"
        for name in ("local", "remote", "tmp"):
            (left / name).mkdir(parents=True, exist_ok=True)
        values: dict[str, str] = {}
        path = tmp_path / "values.json"
        tasks = aside(tasks, values)
        path.write_text(json.dumps(values))
        done = mesh.playbook(
            tasks,
            "-vvvv",
            "--diff",
            f"-e@{path}",
            *arguments,
            ANSIBLE_LOCAL_TEMP=str(left / "local"),
            ANSIBLE_REMOTE_TEMP=str(left / "remote"),
            TMPDIR=str(left / "tmp"),
            **more,
        )
        assert_silent(done, [left], secrets)
        return done

    return run


def encrypted(pair: Pair, directory: Path) -> Path:
    path = directory / "encrypted.key"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", str(pair.private_key_path), "-out", str(path), "-passout", f"pass:{PASSPHRASE}"],
        check=True,
        capture_output=True,
    )
    return path


def test_credential(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run], tmp_path: Path) -> None:
    one, two, three = issue(), issue(), issue()
    locked = encrypted(three, tmp_path)
    secrets = canaries(one.private_key, two.private_key, three.private_key, locked.read_text()) | {PASSPHRASE}
    content = {"certificate": two.certificate, "private_key": two.private_key}
    name = credential_name
    good = [
        {"name": name, **one.paths},
        {"name": name, **content},
        {"credentials": [{"name": name, **content}], "details": "all"},
        {"name": name, "certificate": three.certificate, "private_key": locked.read_text(), "private_key_passphrase": PASSPHRASE},
        {"name": name, "layout": "generic", "replace": True, **one.paths},
    ]
    run = quiet([{"meshops.istio.istio_tls_credential": arguments} for arguments in good], secrets)
    run.ok()
    quiet([{"meshops.istio.istio_tls_credential": {"name": name, "layout": "generic", **content}}], secrets, "--check").ok()
    quiet([{"meshops.istio.istio_tls_credential_info": {"name": name, "hosts": ["elsewhere.example.com"]}}], secrets).ok()


def test_failing_credential(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run], tmp_path: Path) -> None:
    one, two = issue(), issue()
    locked = encrypted(one, tmp_path).read_text()
    secrets = canaries(one.private_key, two.private_key, locked) | {PASSPHRASE}
    name = credential_name
    half = one.private_key[: len(one.private_key) // 2]
    bad: list[dict[str, Any]] = [
        {"name": name, "certificate": two.certificate, "private_key": one.private_key},  # does not match
        {"name": name, "certificate": one.private_key, "private_key": one.certificate},  # the wrong way round
        {"name": name, "certificate": one.certificate + two.private_key, "private_key": one.private_key},
        {"name": name, "certificate": one.certificate, "private_key": half},
        {"name": name, "certificate": one.certificate, "private_key": locked},
        {"name": name, "certificate": one.certificate, "private_key": locked, "private_key_passphrase": PASSPHRASE + "x"},
        {"name": name, "certificate_path": one.private_key, "private_key": one.private_key},  # content where a path belongs
        {"name": name, "certificate": one.certificate, "private_key_path": one.private_key},
        {"name": name, "pkcs12": one.private_key, "pkcs12_passphrase": PASSPHRASE},
        {"name": name, "crl": one.private_key, "ca_certificate": one.private_key},
        {"name": name, "unknown": 1, "certificate": one.certificate, "private_key": one.private_key},
        {"credentials": [{"name": name, "certificate": one.certificate, "private_key": one.private_key, "unknown": 1}]},
        {"credentials": [{"name": name, "certificate": two.certificate, "private_key": one.private_key}]},
        {
            "name": name,
            "certificate": one.certificate,
            "private_key": one.private_key,
            "host": "https://127.0.0.1:1",
            "api_key": PASSPHRASE,
        },
        {"name": name, "namespace": "no-such-namespace", "certificate": one.certificate, "private_key": one.private_key},
    ]
    tasks = [{"meshops.istio.istio_tls_credential": arguments, "ignore_errors": True} for arguments in bad]
    run = quiet(tasks, secrets)
    assert len(run.failed) == len(bad), run.output
    assert not any("Traceback" in str(result) for result in run.failed)


def test_proxies(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run]) -> None:
    """Envoy holds the keys, and pages with certificates: neither is printed, and not even a certificate."""
    pair, host = issue("canary.example.com"), f"{credential_name}.example.com"
    server = {
        "hosts": [host],
        "credential_name": credential_name,
        "routes": [{"destination": {"host": "httpbin.default.svc.cluster.local"}}],
    }
    gateway = {"name": credential_name, "namespace": "istio-system", "servers": [server]}
    log = {"paths": [str(ROOT / ".sandbox" / "logs" / "istio-ingressgateway.log")], "since": "1h"}
    look = {"admin_urls": ["http://127.0.0.1:15100"], "access_log": log, "timeout": 20}
    tasks: list[dict[str, Any]] = [
        {"meshops.istio.istio_tls_credential": {"name": credential_name, **pair.paths}},
        {"meshops.istio.ingress_tls_gateway": gateway},
        {"meshops.istio.gateway_proxy_info": {**look, "expect": {"credentials": [{"name": credential_name}]}}},
        {"meshops.istio.gateway_proxy_info": {**look, "timeout": 0, "expect": {"credentials": [{"name": "nope"}], "rejected": False}}},
        {"meshops.istio.ingress_tls_gateway": {**gateway, "state": "absent", "servers": []}},
    ]
    run = quiet([{**task, "ignore_errors": True} for task in tasks], canaries(pair.private_key, pair.certificate))
    assert len(run.failed) == 1 and "nope" in run.failed[0]["msg"], run.output


# --- every other module


def gateway_with_route(name: str, host: str, **more: Any) -> dict[str, Any]:
    routes = [{"destination": {"host": "httpbin.default.svc.cluster.local"}}]
    return {"name": name, "namespace": "istio-system", "servers": [{"hosts": [host], "credential_name": name, "routes": routes}], **more}


def test_probe(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run], tmp_path: Path) -> None:
    """The client's key by path, as content and encrypted, a secret header and a body: to a gateway that answers, and in every failure."""
    served, client = issue("canary.example.com"), issue("client.example.com", ca="clients")
    locked = encrypted(client, tmp_path).read_text()
    secrets = canaries(served.private_key, client.private_key, locked) | {PASSPHRASE}
    address = {"address": mesh.environment["INGRESS_HOST"], "port": int(mesh.environment["SECURE_INGRESS_PORT"])}
    request = {"host": "canary.example.com", **address, "ca_certificate": served.ca}
    content = {"client_certificate": client.certificate, "client_private_key": client.private_key}
    header = {"secret_headers": {"Authorization": f"Bearer {PASSPHRASE}"}}
    good = [
        {"client_certificate_path": str(client.certificate_path), "client_private_key_path": str(client.private_key_path)},
        {**content, **header},
        {**content, "client_private_key": locked, "client_private_key_passphrase": PASSPHRASE},
    ]
    bad = [
        {**content, "client_private_key": served.private_key},  # does not match
        {**content, "client_private_key": locked, "client_private_key_passphrase": PASSPHRASE + "x"},
        {**content, "ca_certificate": client.private_key},
        {**content, "client_certificate": client.private_key},
        {**content, "client_private_key_path": client.private_key, "client_private_key": None},
        {**content, **header, "expect": {"status": 599}, "timeout": 0},
        {**content, **header, "port": 1, "expect": {"status": 200}, "timeout": 0},
        {**content, "expect": {"status": "x"}},
    ]
    tasks: list[dict[str, Any]] = [
        {"meshops.istio.istio_tls_credential": {"name": credential_name, **served.paths, "ca_certificate_path": str(client.ca_path)}},
        {
            "meshops.istio.ingress_tls_gateway": {
                **gateway_with_route(credential_name, "canary.example.com"),
                "servers": [
                    {**gateway_with_route(credential_name, "canary.example.com")["servers"][0], "mode": "MUTUAL"},
                ],
            }
        },
        *({"meshops.istio.tls_probe": {**request, **one, "expect": {"status": 200}, "timeout": 20}} for one in good),
        *({"meshops.istio.tls_probe": {**request, **one}, "ignore_errors": True} for one in bad),
        {"meshops.istio.ingress_tls_gateway": {"name": credential_name, "namespace": "istio-system", "state": "absent"}},
    ]
    run = quiet(tasks, secrets).ok()
    assert len(run.failed) == len(bad), [result.get("msg") for result in run.failed]


def test_ingress_gateway(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run]) -> None:
    """It reads credentials to judge what refers to them, and a user may mistake an option for one that takes a key."""
    pair = issue("canary.example.com")
    good = gateway_with_route(credential_name, f"{credential_name}.example.com")
    server = good["servers"][0]
    bad: list[dict[str, Any]] = [
        {**good, "servers": [{**server, "credential_name": pair.private_key}]},
        {**good, "servers": [{**server, "private_key": pair.private_key}]},
        {**good, "servers": [{**server, "hosts": [pair.private_key]}]},
        {**good, "annotations": {"key": pair.private_key}, "labels": {"key": pair.private_key}},
        {**good, "namespace": "no-such-namespace"},
    ]
    module = "meshops.istio.ingress_tls_gateway"
    tasks: list[dict[str, Any]] = [
        {"meshops.istio.istio_tls_credential": {"name": credential_name, **pair.paths}},
        {module: good},
        *({module: one, "ignore_errors": True} for one in bad),
        {module: {**good, "state": "absent"}},
    ]
    run = quiet(tasks, canaries(pair.private_key)).ok()
    assert len(run.failed) == len(bad), [result.get("msg") for result in run.failed]


def test_origination(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run]) -> None:
    client = issue("client.example.com", ca="clients")
    good = {
        "name": credential_name,
        "host": f"{credential_name}.example.org",
        "credential_name": credential_name,
        "resolution": "STATIC",
        "endpoints": [{"address": "127.0.0.99", "ports": {"https": 443}}],
    }
    bad: list[dict[str, Any]] = [
        {**good, "credential_name": client.private_key},
        {
            **good,
            "certificate_files": {"certificate": "/c", "private_key": client.private_key, "ca_certificate": "/a"},
            "credential_name": None,
        },
        {**good, "host": client.private_key},
        {**good, "private_key": client.private_key},
        {**good, "name": f"{credential_name}-none", "credential_name": f"{credential_name}-none"},
    ]
    module = "meshops.istio.egress_mtls_origination"
    tasks: list[dict[str, Any]] = [
        {"meshops.istio.istio_tls_credential": {"name": credential_name, **client.paths, "ca_certificate_path": str(client.ca_path)}},
        {module: good},
        *({module: one, "ignore_errors": True} for one in bad),
        {module: {**good, "state": "absent"}},
    ]
    run = quiet(tasks, canaries(client.private_key)).ok()
    assert len(run.failed) == len(bad), [result.get("msg") for result in run.failed]


def test_mount(mesh: Mesh, issue: Issue, namespace: str, quiet: Callable[..., Run]) -> None:
    """It reads the Secret to tell what is mounted. With pods, whose files are compared too: tests/kind."""
    pair = issue("client.example.com")
    template = {"metadata": {"labels": {"istio": "gateway"}}, "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"istio": "gateway"}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gateway", "namespace": namespace}, "spec": spec}
    mesh.kubectl("create", "-f", "-", stdin=json.dumps(deployment))
    mount = {"path": "/etc/canary", "secret": "certs", "keys": ["tls.crt", "tls.key"]}
    good = {"name": "gateway", "namespace": namespace, "mounts": [mount], "wait": False}
    bad: list[dict[str, Any]] = [
        {**good, "mounts": [{**mount, "keys": ["ca.crt"]}]},
        {**good, "mounts": [{**mount, "secret": pair.private_key}]},
        {**good, "mounts": [{**mount, "path": pair.private_key}]},
        {**good, "wait": True, "timeout": 2},
    ]
    module = "meshops.istio.gateway_credential_mount"
    tasks: list[dict[str, Any]] = [
        {"meshops.istio.istio_tls_credential": {"name": "certs", "namespace": namespace, **pair.paths}},
        {module: good},
        *({module: one, "ignore_errors": True} for one in bad),
        {module: {**good, "state": "absent"}},
    ]
    run = quiet(tasks, canaries(pair.private_key), login="admin").ok()
    assert len(run.failed) == len(bad), [result.get("msg") for result in run.failed]


# --- roles, as they fail; as they succeed: the walkthroughs in test_playbooks.py and test_egress_playbooks.py


def test_failing_roles(mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run], tmp_path: Path) -> None:
    one, two = issue("canary.example.com"), issue("canary.example.com")
    mixed = {"name": credential_name, "certificate": one.certificate, "private_key": two.private_key}
    check = {"name": "refused", "host": "canary.example.com", "client_certificate": one.certificate, "client_private_key": two.private_key}
    broken = tmp_path / "pki"
    broken.mkdir()
    (broken / "root.key").write_text(one.private_key.replace("A", "B"))
    server = {"name": "canary", "host": "canary.example.com", "certificate_path": "/none", "private_key_path": "/none"}
    roles: list[tuple[str, dict[str, Any]]] = [
        ("ingress_tls", {"ingress_tls_credentials": [mixed]}),
        ("ingress_tls", {"ingress_tls_credentials": [{**mixed, "private_keys": one.private_key}]}),
        ("ingress_tls", {"ingress_tls_checks": [check]}),
        ("ingress_tls", {"ingress_tls_checks": [{**check, "private_key": one.private_key}]}),
        ("egress_mtls", {"egress_mtls_credentials": [mixed]}),
        ("egress_mtls", {"egress_mtls_checks": [{**check, "address": "127.0.0.1", "scheme": "https"}]}),
        ("egress_mtls", {"egress_mtls_ca_secrets": [{"name": credential_name, "ca_certificate_path": str(one.private_key_path)}]}),
        ("pki", {"pki_directory": str(broken), "pki_authorities": [{"name": "root", "subject": {"CN": "root"}}]}),
        ("pki", {"pki_directory": str(broken), "pki_authorities": [{"name": "root", "subject": one.private_key}]}),
        ("sample_workloads", {"sample_workloads_external": [{**server, "ca_certificate_path": "/none", "key": one.private_key}]}),
    ]
    for role, variables in roles:
        tasks_from = "egress" if role == "sample_workloads" else "main"
        task = {"ansible.builtin.include_role": {"name": f"meshops.istio.{role}", "tasks_from": tasks_from}, "vars": variables}
        run = quiet([task], canaries(one.private_key, two.private_key))
        assert run.code != 0 or role == "pki", f"{role} {list(variables)} did not fail: {run.output}"


# --- other places than the output: what is kept by others, and what can be seen while a module works


def good_and_bad(name: str, one: Pair, two: Pair) -> list[dict[str, Any]]:
    module = "meshops.istio.istio_tls_credential"
    content = {"certificate": one.certificate, "private_key": one.private_key}
    return [
        {module: {"name": name, **content}},
        {module: {"credentials": [{"name": name, **content}], "details": "all"}},
        {module: {"name": name, **content, "private_key": two.private_key}, "ignore_errors": True},
        {module: {"name": name, **content, "unknown": two.private_key}, "ignore_errors": True},
        {"meshops.istio.istio_tls_credential_info": {"name": name}},
    ]


@pytest.mark.parametrize("callback", ["ansible.posix.json", "tree"])
def test_callbacks_that_keep_everything(
    mesh: Mesh, issue: Issue, credential_name: str, quiet: Callable[..., Run], tmp_path: Path, callback: str
) -> None:
    one, two = issue(), issue()
    trees = tmp_path / "left" / "tree"
    wanted = {"ANSIBLE_CALLBACKS_ENABLED": "record,tree", "ANSIBLE_CALLBACK_TREE_DIR": str(trees)}
    if callback != "tree":
        wanted = {"ANSIBLE_STDOUT_CALLBACK": callback}
    run = quiet(good_and_bad(credential_name, one, two), canaries(one.private_key, two.private_key), **wanted).ok()
    if callback == "tree":
        assert "fingerprint_sha256" in "".join(path.read_text() for path in trees.iterdir())
    else:
        assert "fingerprint_sha256" in run.output, "the callback tells whole results"
    assert len(run.failed) == 2


def test_runners_event_files(mesh: Mesh, issue: Issue, credential_name: str, tmp_path: Path) -> None:
    """As AWX runs it: every event, with its result, in a file."""
    import ansible_runner

    one, two = issue(), issue()
    values: dict[str, str] = {}
    tasks = aside(good_and_bad(credential_name, one, two), values)
    (tmp_path / "values.json").write_text(json.dumps(values))
    project = tmp_path / "runner" / "project"
    project.mkdir(parents=True)
    (project / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = ansible_runner.run(
        private_data_dir=str(tmp_path / "runner"),
        playbook="play.yml",
        inventory=mesh.environment["ANSIBLE_INVENTORY"],
        cmdline=f"-vvvv --diff -e@{tmp_path / 'values.json'}",
        envvars={**mesh.env("operator"), "ANSIBLE_NOCOLOR": "1"},
        quiet=True,
    )
    assert done.status == "successful", done.stdout.read()
    artifacts = tmp_path / "runner" / "artifacts"
    events = list(artifacts.rglob("job_events/*.json"))
    assert len(events) > 10 and any("fingerprint_sha256" in path.read_text() for path in events)
    assert_silent(Run(0, done.stdout.read(), []), [artifacts], canaries(one.private_key, two.private_key))


# --- secrets in places where none belongs, and in forms that nobody expects: one run for all of them, a task each


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


def test_secrets_in_strange_places_as_people_see_them(mesh: Mesh, places: Places, tmp_path: Path) -> None:
    values = tmp_path / "values.json"
    values.write_text(json.dumps(places.values))
    run = mesh.playbook(places.tasks, f"-e@{values}", "-vvv", "--diff", **kept_by_callbacks(tmp_path)).ok()
    assert [record["task"] for record in run.records] == list(places.secrets)
    assert not places.seen_in(run.output, *texts_of(tmp_path))
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


@pytest.mark.parametrize("module", ["istio_tls_credential", "tls_probe"])
def test_nothing_can_be_seen_while_a_module_works(mesh: Mesh, issue: Issue, namespace: str, tmp_path: Path, module: str) -> None:
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

    temporary = tmp_path / "tmp"
    temporary.mkdir()
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
            "TMPDIR": temporary,
            "ANSIBLE_LOCAL_TEMP": temporary / "local",
            "ANSIBLE_REMOTE_TEMP": temporary / "remote",
            "HOME": temporary,
        }
        environment = {**mesh.env(), **{name: str(path) for name, path in places.items()}}
        command = ["ansible-playbook", str(playbook), f"-e@{tmp_path / 'values.json'}"]
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        stack.callback(process.kill)
        assert held.wait(60), "the module did not come as far as that"
        seen = {path: path.read_bytes() for one in tree_of(process.pid) for path in (one / "cmdline", one / "environ")}
        assert len(seen) >= 4 and any(b"ansible" in content for content in seen.values())
        for one in tree_of(process.pid):
            seen |= {path: path.read_bytes() for path in open_files(one) if path.stat().st_size < 10**7}
        seen |= {path: path.read_bytes() for path in temporary.rglob("*") if path.is_file()}
        go_on.set()
        output, __ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    for path, content in seen.items():
        leaked = [secret for secret in secrets if secret.encode() in content]
        assert not leaked, f"{len(leaked)} pieces of a key in {path}"
    left = [path for path in temporary.rglob("*") if path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets)]
    assert not left
