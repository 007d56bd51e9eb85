# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""egress_mtls_origination for TCP on a real mesh, against a server that insists on a client certificate and speaks first, as MySQL does."""

from __future__ import annotations

import re
import socket
import socketserver
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from .conftest import Mesh, Pair
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
    """An external service that speaks TLS from the first byte, at `SERVER`:`port`."""

    name: str
    host: str
    port: int
    serial: str

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


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *__: Any) -> None:
        """Refused handshakes are what some tests want."""


@contextmanager
def listening(handler: type[socketserver.BaseRequestHandler], address: str = SERVER) -> Iterator[int]:
    with Server((address, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


@contextmanager
def serving(served: Pair, address: str = SERVER) -> Iterator[int]:
    """A server that tells the serial number of the client's certificate as soon as there is a connection, and then echoes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served.certificate_path, served.private_key_path)
    context.load_verify_locations(served.ca_path)
    context.verify_mode = ssl.CERT_REQUIRED

    class Handler(socketserver.StreamRequestHandler):
        def setup(self) -> None:
            self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def handle(self) -> None:
            certificate = self.request.getpeercert()
            self.wfile.write(f"{certificate['serialNumber']}\n".encode())
            for line in self.rfile:
                self.wfile.write(line)

    with listening(Handler, address) as port:
        yield port


@pytest.fixture
def database(mesh: Mesh, issue: Issue) -> Iterator[Database]:
    """A server that runs, its client's credential in istio-system, and nothing of either afterwards."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    host = f"{name}.example.org"
    client = issue("client.example.org", ca="database")
    with serving(issue(host, ca="database")) as port:
        try:
            store(mesh, name, client)
            yield Database(name, host, port, serial_of(client))
        finally:
            remove(mesh, name)
            mesh.kubectl("delete", "secret", name, "-n", "istio-system", "--ignore-not-found")


def remove(mesh: Mesh, *names: str) -> None:
    mesh.playbook([{MODULE: {"state": "absent", "services": [{"name": name} for name in names]}}]).ok()


def serial_of(pair: Pair) -> str:
    return f"{x509.load_pem_x509_certificate(pair.certificate_path.read_bytes()).serial_number:X}"


def converse(port: int) -> str:
    """What the server said first to an application that speaks plain TCP to its sidecar, and whether it echoes; "" without an answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            stream = connection.makefile("rwb")
            greeting = stream.readline().decode().strip()
            if not greeting:
                return ""
            stream.write(b"ping\n")
            stream.flush()
            return greeting if stream.readline() == b"ping\n" else "no echo"
    except OSError:
        return ""


def eventually(port: int, said: str, consecutive: int = 3) -> None:
    deadline = time.monotonic() + PATIENCE
    seen: list[str] = []
    while time.monotonic() < deadline:
        seen.append(converse(port))
        if [answer.lstrip("0") for answer in seen[-consecutive:]] == [said] * consecutive:
            return
        time.sleep(0.1)
    raise AssertionError(f"expected {said!r} from port {port} within {PATIENCE} s, the last answers: {seen[-10:]}")


def test_from_nothing_to_nothing(mesh: Mesh, database: Database) -> None:
    predicted = origination(mesh, database.arguments, arguments=("--check", "--diff")).ok().results()[0]
    made, again = origination(mesh, database.arguments, database.arguments).ok().results()
    assert made["services"] == predicted["services"]
    assert not again["changed"]
    eventually(database.port, database.serial)

    wrong = {**database.arguments, "subject_alt_names": ["other.example.org"]}
    origination(mesh, wrong).ok()
    eventually(database.port, "")
    origination(mesh, database.arguments).ok()
    eventually(database.port, database.serial)

    origination(mesh, {"name": database.name, "state": "absent"}).ok()
    assert objects(mesh, database.name) == set()
    eventually(database.port, "")


def test_beside_http_and_in_its_place(mesh: Mesh, database: Database, partner: Partner) -> None:
    """Both on the gateway's one port; and a service that changes over leaves nothing behind."""
    origination(mesh, partner.arguments).ok()
    answers(mesh, partner.host, 200)
    origination(mesh, database.arguments).ok()
    eventually(database.port, database.serial)
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
    eventually(database.port, database.serial)
    answers(mesh, partner.host, 200)


def test_of_two_on_one_port_sidecars_take_the_older(mesh: Mesh, database: Database, issue: Issue) -> None:
    """What the warning says; and whoever is left has the port."""
    other, host = f"{database.name}-b", f"b.{database.host}"
    client = issue("other-client.example.org", ca="database")
    store(mesh, other, client)
    later = {**database.arguments, "name": other, "host": host, "credential_name": other, "subject_alt_names": [database.host]}
    try:
        origination(mesh, database.arguments).ok()
        eventually(database.port, database.serial)
        time.sleep(1)  # the API server's clock decides which is older, and it counts in seconds
        warned = origination(mesh, later).ok().results()[0]
        assert "tcp_port_shared" in str(warned["warnings"])
        time.sleep(1)
        eventually(database.port, database.serial)
        origination(mesh, {"name": database.name, "state": "absent"}).ok()
        eventually(database.port, serial_of(client))
    finally:
        remove(mesh, other)
        mesh.kubectl("delete", "secret", other, "-n", "istio-system", "--ignore-not-found")


def test_dns_round_robin(mesh: Mesh, database: Database, issue: Issue) -> None:
    """The name's answer (from the hosts file) leads to a second server, where there is no other way to it."""
    with serving(issue(database.host, ca="database"), "127.0.0.1") as port:
        endpoints = [{"address": "localhost", "ports": {"tls": port}}]
        origination(mesh, {**database.arguments, "resolution": "DNS_ROUND_ROBIN", "endpoints": endpoints}).ok()
        eventually(database.port, database.serial)
    eventually(database.port, "")


def test_a_server_that_begins_in_plaintext(mesh: Mesh, database: Database) -> None:
    """MySQL greets before there is any TLS: the gateway cannot originate it, whatever the port."""
    greetings = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"\x4a\x00\x00\x00\x0a8.4.0\x00")
            greetings.append(self.request.recv(1024))

    with listening(Handler) as port:
        endpoints = [{"address": SERVER, "ports": {"tls": port}}]
        origination(mesh, {**database.arguments, "endpoints": endpoints}).ok()
        deadline = time.monotonic() + PATIENCE
        while not greetings and time.monotonic() < deadline:
            assert converse(database.port) == ""
    assert greetings[0][:1] == b"\x16", "a TLS record, to a server that expects MySQL's own answer"
    assert re.search(f"WRONG_VERSION_NUMBER.*{database.host}", Path(mesh.environment["EGRESS_LOG"]).read_text())


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


def test_the_role_keeps_it(mesh: Mesh, database: Database) -> None:
    service = {key: value for key, value in database.arguments.items() if key != "name"}
    given = {"egress_mtls_services": [{"name": database.name, **service}]}
    first, second = (mesh.playbook([include("egress_mtls", **given)]).ok() for __ in range(2))
    assert any(result.get("changed") for result in first.results()) and not any(result.get("changed") for result in second.results())
    eventually(database.port, database.serial)
