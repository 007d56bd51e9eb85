# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""egress_mtls_origination for TCP on a real mesh, against NATS, etcd, Redis and PostgreSQL, which insist on a client certificate."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from .conftest import Mesh, Pair
from .databases import Nats, etcd, nats, postgresql, postgresql_programs, redis, redis_program
from .test_egress_origination import MODULE, Partner, objects, origination, partner, store
from .test_egress_origination import eventually as answers
from .test_playbooks import include

__all__ = ["partner"]
Issue = Callable[..., Pair]
PATIENCE = 20.0  # seconds until a change has reached both proxies, on a busy machine
SERVER = "127.0.0.79"
"""Not 127.0.0.1, where the client's sidecar listens on the services' ports."""


@dataclass
class Database:
    """An external broker that speaks TLS from the first byte, at `SERVER`:`port`."""

    name: str
    host: str
    server: Nats
    client: str
    """The fingerprint of the certificate that it should see."""

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def arguments(self) -> dict[str, Any]:
        endpoints = [{"address": SERVER}]
        return {
            "name": self.name,
            "host": self.host,
            "protocol": "TCP",
            "port": self.port,
            "credential_name": self.name,
            "resolution": "STATIC",
            "endpoints": endpoints,
        }


@pytest.fixture
def database(mesh: Mesh, issue: Issue, tmp_path: Path) -> Iterator[Database]:
    """A server that runs, its client's credential in istio-system, and nothing of either afterwards."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    host = f"{name}.example.org"
    client = issue("client.example.org", ca="database")
    with nats(issue(host, ca="database"), tmp_path / "nats", SERVER) as server:
        try:
            store(mesh, name, client)
            yield Database(name, host, server, fingerprint_of(client))
        finally:
            remove(mesh, name)
            mesh.kubectl("delete", "secret", name, "-n", "istio-system", "--ignore-not-found")


def remove(mesh: Mesh, *names: str) -> None:
    mesh.playbook([{MODULE: {"state": "absent", "services": [{"name": name} for name in names]}}]).ok()


def fingerprint_of(pair: Pair) -> str:
    return x509.load_pem_x509_certificate(pair.certificate_path.read_bytes()).fingerprint(hashes.SHA256()).hex()


def eventually(ask: Callable[[], str], said: str, consecutive: int = 3) -> None:
    deadline = time.monotonic() + PATIENCE
    seen: list[str] = []
    while time.monotonic() < deadline:
        seen.append(ask())
        if seen[-consecutive:] == [said] * consecutive:
            return
        time.sleep(0.1)
    raise AssertionError(f"expected {said!r} within {PATIENCE} s, the last answers: {seen[-10:]}")


def arrives(database: Database, client: str | None = None, server: Nats | None = None) -> None:
    """Messages come through, and the server sees this certificate; "" for none at all."""
    asked = server or database.server
    eventually(lambda: asked.converse(database.port), database.client if client is None else client)


def test_from_nothing_to_nothing(mesh: Mesh, database: Database) -> None:
    predicted = origination(mesh, database.arguments, arguments=("--check", "--diff")).ok().results()[0]
    made, again = origination(mesh, database.arguments, database.arguments).ok().results()
    assert made["services"] == predicted["services"]
    assert not again["changed"]
    arrives(database)

    wrong = {**database.arguments, "subject_alt_names": ["other.example.org"]}
    origination(mesh, wrong).ok()
    arrives(database, "")
    origination(mesh, database.arguments).ok()
    arrives(database)

    origination(mesh, {"name": database.name, "state": "absent"}).ok()
    assert objects(mesh, database.name) == set()
    arrives(database, "")


def test_beside_http_and_in_its_place(mesh: Mesh, database: Database, partner: Partner) -> None:
    """Both on the gateway's one port; and a service that changes over leaves nothing behind."""
    origination(mesh, partner.arguments).ok()
    answers(mesh, partner.host, 200)
    origination(mesh, database.arguments).ok()
    arrives(database)
    answers(mesh, partner.host, 200)

    endpoints = [{"address": SERVER, "ports": {"https": database.port}}]
    http = {**database.arguments, "protocol": "HTTP", "port": 80, "tls_port": 443, "endpoints": endpoints, "direct_tls": True}
    changed = origination(mesh, http, database.arguments).ok().results()
    route = f"direct-{database.name}-through-egress-gateway"
    assert [(change["kind"], change["action"]) for change in changed[1]["services"][0]["changes"]] == [
        ("DestinationRule", "updated"),
        ("Gateway", "updated"),
        ("ServiceEntry", "updated"),
        ("VirtualService", "updated"),
        ("VirtualService", "deleted"),
    ]
    spec = (mesh.get("virtualservices.networking.istio.io", "istio-system", route) or {})["spec"]
    assert "http" not in spec and len(spec["tcp"]) == 2
    arrives(database)
    answers(mesh, partner.host, 200)


def test_of_two_on_one_port_sidecars_take_the_older(mesh: Mesh, database: Database, issue: Issue) -> None:
    """What the warning says; and whoever is left has the port."""
    other, host = f"{database.name}-b", f"b.{database.host}"
    client = issue("other-client.example.org", ca="database")
    store(mesh, other, client)
    later = {**database.arguments, "name": other, "host": host, "credential_name": other, "subject_alt_names": [database.host]}
    try:
        origination(mesh, database.arguments).ok()
        arrives(database)
        time.sleep(1)  # the API server's clock decides which is older, and it counts in seconds
        warned = origination(mesh, later).ok().results()[0]
        assert "tcp_port_shared" in str(warned.get("warnings")), str(warned)[:3000]
        time.sleep(1)
        arrives(database)
        origination(mesh, {"name": database.name, "state": "absent"}).ok()
        arrives(database, fingerprint_of(client))
    finally:
        remove(mesh, other)
        mesh.kubectl("delete", "secret", other, "-n", "istio-system", "--ignore-not-found")


def test_dns_round_robin(mesh: Mesh, database: Database, issue: Issue, tmp_path: Path) -> None:
    """The name's answer (from the hosts file) leads to a second server, where there is no other way to it."""
    with nats(issue(database.host, ca="database"), tmp_path / "second", "127.0.0.1") as second:
        endpoints = [{"address": "localhost", "ports": {"tls": second.port}}]
        origination(mesh, {**database.arguments, "resolution": "DNS_ROUND_ROBIN", "endpoints": endpoints}).ok()
        arrives(database, server=second)
    arrives(database, "")


def test_a_server_that_begins_in_plaintext(mesh: Mesh, database: Database, issue: Issue, tmp_path: Path) -> None:
    """NATS greets before there is any TLS, unless it is told otherwise, as MySQL does always: the gateway cannot originate it, whatever the port."""
    with nats(issue(database.host, ca="database"), tmp_path / "greeting", SERVER, tls_first=False) as greeting:
        endpoints = [{"address": SERVER, "ports": {"tls": greeting.port}}]
        origination(mesh, {**database.arguments, "endpoints": endpoints}).ok()
        log = Path(mesh.environment["EGRESS_LOG"])
        deadline = time.monotonic() + PATIENCE
        while not re.search(f"WRONG_VERSION_NUMBER.*{database.host}", log.read_text()):
            assert database.server.converse(database.port) in ("", database.client) and time.monotonic() < deadline
        arrives(database, "")


def test_postgresql(mesh: Mesh, database: Database, issue: Issue) -> None:
    """It takes TLS from clients who ask for it in its own words first, and not the gateway's, as the warning says. (From version 17 on it takes TLS at
    once, too, but only with its ALPN protocol.)"""
    programs, client = postgresql_programs(), shutil.which("psql")
    if programs is None or client is None:
        pytest.skip("PostgreSQL is not installed here (Debian: postgresql)")
    pair, port = issue("client.example.org", ca="database"), 5432
    pair.private_key_path.chmod(0o600)  # or its client does not read it

    def select(host: str, on: int, **settings: Any) -> str:
        words = " ".join(f"{key}={value}" for key, value in {"hostaddr": host, "port": on, "dbname": "postgres", **settings}.items())
        asked = [client, f"user=client connect_timeout=10 {words}", "-Atc", "select 'hello'"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout.strip() or done.stderr.strip()

    with postgresql(programs, issue(database.host, ca="database"), SERVER, port):
        files = {"sslcert": pair.certificate_path, "sslkey": pair.private_key_path, "sslrootcert": pair.ca_path}
        assert select(SERVER, port, sslmode="verify-ca", **files) == "hello"  # what clients do who speak TLS themselves
        endpoints = [{"address": SERVER, "ports": {"tls": port}}]
        made = origination(mesh, {**database.arguments, "endpoints": endpoints}).ok().results()[0]
        (warning,) = made["warnings"]
        assert "port 5432 is PostgreSQL's, which begins in plaintext" in warning and "[tls_starts_in_plaintext]" in warning
        log = Path(mesh.environment["EGRESS_LOG"])
        deadline = time.monotonic() + PATIENCE
        while not re.search(rf" UF,URX .*\"{SERVER}:{port}\".*{database.host}", log.read_text()):
            said = select("127.0.0.1", database.port, sslmode="disable")
            assert "hello" not in said and time.monotonic() < deadline, said
        said = select("127.0.0.1", database.port, sslmode="disable")
        assert "server closed the connection unexpectedly" in said


def test_etcd(mesh: Mesh, database: Database, issue: Issue, tmp_path: Path) -> None:
    """A database whose clients speak first."""
    with etcd(issue(database.host, ca="database"), tmp_path / "etcd", SERVER) as port:
        origination(mesh, {**database.arguments, "port": port}).ok()

        def put_and_get() -> str:
            key, value = (base64.b64encode(text).decode() for text in (b"greeting", uuid.uuid4().bytes))
            try:
                _post(port, "put", {"key": key, "value": value})
                return "kept" if _post(port, "range", {"key": key})["kvs"][0]["value"] == value else "lost"
            except OSError:
                return ""

        eventually(put_and_get, "kept")
        stranger = issue("stranger.example.org", ca="strangers")
        arguments = {"name": database.name, **stranger.paths, "ca_certificate_path": str(issue("x.example.org", ca="database").ca_path)}
        mesh.task("istio_tls_credential", arguments).ok()
        eventually(put_and_get, "")


def _post(port: int, what: str, body: dict[str, Any]) -> dict[str, Any]:
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/v3/kv/{what}", json.dumps(body).encode())
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310
        told: dict[str, Any] = json.load(answer)
        return told


def test_redis(mesh: Mesh, database: Database, issue: Issue, tmp_path: Path) -> None:
    """By its own client, without TLS."""
    program, client = redis_program(), shutil.which("redis-cli")
    if program is None or client is None:
        pytest.skip("Redis with TLS is not installed here (Debian: redis-server)")
    with redis(program, issue(database.host, ca="database"), tmp_path / "redis", SERVER) as port:
        origination(mesh, {**database.arguments, "port": port}).ok()

        def say(*words: str) -> str:
            return subprocess.run([client, "-p", str(port), *words], capture_output=True, text=True, timeout=20, check=False).stdout.strip()

        eventually(lambda: say("PING"), "PONG")
        assert (say("SET", "greeting", "hello"), say("GET", "greeting")) == ("OK", "hello")
        check = {
            "name": "redis answers",
            "host": database.host,
            "scheme": "tcp",
            "port": port,
            "body": "PING\r\n",
            "expect": {"text": "+PONG"},
        }
        mesh.playbook([include("egress_mtls", egress_mtls_client_address="127.0.0.1", egress_mtls_checks=[check])]).ok()


def test_in_check_mode_tls_is_originated_and_nothing_is_http(mesh: Mesh) -> None:
    mysql = {"name": "tcp-mysql", "host": "mysql.example.net", "port": 3306, "tls_port": 3306}
    mongo = {"name": "tcp-mongo", "host": "mongo.example.net", "port": 27017}
    shared = {"protocol": "TCP", "credential_name": "tcp-client", "services": [mysql, mongo]}
    told = origination(mesh, shared, arguments=("--check", "--diff")).ok().results()[0]
    objects = [(diff["after"]["kind"], diff["after"]["spec"]) for diff in told["diff"]]
    routes = [spec for kind, spec in objects if kind == "VirtualService"]
    assert [sorted(spec) for spec in routes] == [["gateways", "hosts", "tcp"]] * 2
    policies = [
        spec["trafficPolicy"]["portLevelSettings"] for kind, spec in objects if kind == "DestinationRule" and "trafficPolicy" in spec
    ]
    assert [(settings["port"]["number"], settings["tls"]["mode"], settings["tls"]["credentialName"]) for (settings,) in policies] == [
        (3306, "MUTUAL", "tcp-client"),
        (27017, "MUTUAL", "tcp-client"),
    ]
    (warning,) = told["warnings"]
    assert "port 3306 is MySQL's" in warning


def test_the_role_keeps_and_proves_it(mesh: Mesh, database: Database) -> None:
    service = {key: value for key, value in database.arguments.items() if key != "name"}
    check = {"name": "the broker answers", "host": database.host, "scheme": "tcp", "port": database.port}
    answers = {**check, "body": 'CONNECT {"verbose":false}\r\nPING\r\n', "expect": {"text": "PONG\r\n"}}
    given = {
        "egress_mtls_services": [{"name": database.name, **service}],
        "egress_mtls_client_address": "127.0.0.1",
        "egress_mtls_checks": [answers, {**check, "name": "the broker greets", "expect": {"text_regex": "^INFO "}}],
    }
    first, second = (mesh.playbook([include("egress_mtls", **given)]).ok() for __ in range(2))
    assert any(result.get("changed") for result in first.results()) and not any(result.get("changed") for result in second.results())
    arrives(database)

    refused = {**service, "subject_alt_names": ["other.example.org"]}
    checks = [{**answers, "timeout": 20, "expect": {"failure": ["connection_reset"]}}, {**check, "timeout": 0}]
    given |= {"egress_mtls_services": [{"name": database.name, **refused}], "egress_mtls_checks": checks}
    failed = mesh.playbook([include("egress_mtls", **given)])
    assert failed.code and "expected the request to succeed, found failure connection_reset" in failed.output
    assert "the gateway's access log names the cause" in failed.output
