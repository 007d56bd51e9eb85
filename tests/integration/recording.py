# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""API servers and proxies on loopback that write down who asked them for what, and how: what two clients are compared by.

A proxy leads to the listener that has the port, whatever the name; so names need not exist.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import select
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ClusterError, connect
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import SECRET as SECRETS

from .spare import BIN

ADDRESS = "127.0.0.1"
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "n"}}
LOGIN = "me:s@cret"
"""What proxies with a login ask for."""

Event = tuple[Any, ...]
Outcome = tuple[str, list[Event]]
"""An error, and what arrived."""


@dataclass
class Record:
    """What has arrived, in order; what is repeated counts once."""

    refused: set[str]
    """Tokens, and names in client certificates."""
    events: list[Event] = field(default_factory=list)

    def add(self, *event: Any) -> None:
        if event not in self.events:
            self.events.append(event)

    def take(self) -> list[Event]:
        taken, self.events = self.events, []
        return taken


@dataclass(frozen=True)
class Pki:
    directory: Path

    def __post_init__(self) -> None:
        now, day = datetime.now(UTC), timedelta(days=1)
        ca, other, clients = (trustme.CA(organization_name=name) for name in ("recorded", "another", "clients"))
        object.__setattr__(self, "server_ca", ca)
        object.__setattr__(self, "client_ca", clients)
        ca.cert_pem.write_to_path(self.directory / "ca.crt")
        other.cert_pem.write_to_path(self.directory / "other-ca.crt")
        (self.directory / "both-ca.crt").write_bytes(b"Some text\n" + other.cert_pem.bytes() + ca.cert_pem.bytes())
        (self.directory / "empty").write_bytes(b"")
        self._write("good", ca.issue_cert(ADDRESS, "localhost", "api.example.com", "xn--bcher-kva.example"))
        self._write("elsewhere", ca.issue_cert("kubernetes.default", "10.0.0.1"))
        self._write("expired", ca.issue_cert(ADDRESS, not_before=now - 2 * day, not_after=now - day))
        self._write("early", ca.issue_cert(ADDRESS, not_before=now + day, not_after=now + 2 * day))
        self._write("proxy", ca.issue_cert(ADDRESS))
        for name in ("jane", "john", "gone"):
            self._write(name, clients.issue_cert(f"{name}@example.com", common_name=name))

    def _write(self, name: str, issued: trustme.LeafCert) -> None:
        issued.cert_chain_pems[0].write_to_path(self.directory / f"{name}.crt")
        issued.private_key_pem.write_to_path(self.directory / f"{name}.key")
        issued.private_key_and_cert_chain_pem.write_to_path(self.directory / f"{name}.pem")

    def context(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / f"{name}.pem")
        context.sni_callback = lambda secured, asked, __: setattr(secured, "asked_name", asked)
        context.verify_mode = ssl.CERT_OPTIONAL
        self.client_ca.configure_trust(context)  # type: ignore[attr-defined]
        return context

    def data(self, name: str) -> str:
        return base64.b64encode((self.directory / name).read_bytes()).decode()


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def handle_error(self, *__: Any) -> None:
        """Clients that refuse what they see are what the tests are about."""


Handle = Callable[[socket.socket, int], None]


@contextlib.contextmanager
def _listening(handle: Handle) -> Iterator[int]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(10)
            with contextlib.suppress(OSError):
                handle(self.request, self.server.server_address[1])

    with _Listener((ADDRESS, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def _secured(connection: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """As Go's servers do it."""
    if connection.recv(1, socket.MSG_PEEK) != b"\x16":
        connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
        _drain(connection)
        raise OSError("no TLS")
    return context.wrap_socket(connection, server_side=True)


def _drain(connection: socket.socket) -> None:
    """Lets the answer arrive: what is closed with something unread is reset."""
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65536):
        pass


def _head(connection: socket.socket) -> tuple[str, list[tuple[str, str]]]:
    """(request line, headers); nothing is read beyond them."""
    read = b""
    while not read.endswith(b"\r\n\r\n"):
        part = connection.recv(1)
        if not part:
            raise OSError("closed")
        read += part
        if read == b"\x16":  # TLS
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request")
            _drain(connection)
            raise OSError("no HTTP")
    first, *rest = read.decode("latin-1").split("\r\n")[:-2]
    pairs = [line.partition(":") for line in rest]
    return first, [(name.strip().lower(), value.strip()) for name, __, value in pairs]


def _say(connection: socket.socket, status: str, body: bytes = b"", *headers: str) -> None:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: application/json", "Connection: close", *headers]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)


def _told(headers: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """What says who asks."""
    return tuple(sorted(pair for pair in headers if pair[0] == "authorization" or pair[0].startswith("impersonate-")))


def _name(connection: Any) -> str | None:
    """Of the client's certificate."""
    subject = dict(pair for (pair,) in (connection.getpeercert() or {}).get("subject", ()))
    return subject.get("commonName")


def _api(record: Record, name: str, context: ssl.SSLContext | None) -> Handle:
    def handle(connection: socket.socket, port: int) -> None:
        who: tuple[Any, ...] = ()
        if context:
            connection = _secured(connection, context)
            who = (getattr(connection, "asked_name", None), _name(connection))
        line, headers = _head(connection)
        method, path, __ = line.split(" ")
        record.add(name, method, path.partition("?")[0], *who, _told(headers))
        names = {*who[1:], *(value.removeprefix("Bearer ") for key, value in headers if key == "authorization")}
        if names & record.refused:
            said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "Unauthorized", "code": 401}
            _say(connection, "401 Unauthorized", json.dumps(said).encode())
        else:
            _say(connection, "200 OK", json.dumps(SECRET).encode())
        connection.close()

    return handle


def _http_proxy(record: Record, name: str, context: ssl.SSLContext | None, login: str = "") -> Handle:
    def handle(connection: socket.socket, port: int) -> None:
        who: tuple[Any, ...] = ()
        if context:
            connection = _secured(connection, context)
            who = (getattr(connection, "asked_name", None), _name(connection))
        line, headers = _head(connection)
        method, target, __ = line.split(" ")
        given = dict(headers).get("proxy-authorization", "")
        record.add(name, method, target.partition("?")[0], *who, given, _told(headers))
        if login and given != "Basic " + base64.b64encode(login.encode()).decode():
            _say(connection, "407 Proxy Authentication Required", b"", 'Proxy-Authenticate: Basic realm="x"')
        elif method == "CONNECT":
            with socket.create_connection((ADDRESS, int(target.rpartition(":")[2])), 5) as onward:
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                _carry(connection, onward)
        else:
            _say(connection, "200 OK", json.dumps(SECRET).encode())
        connection.close()

    return handle


def _socks_proxy(record: Record, name: str, login: str = "") -> Handle:
    def handle(connection: socket.socket, port: int) -> None:
        methods = _exactly(connection, _exactly(connection, 2)[1])
        if login:
            connection.sendall(b"\x05\x02" if 2 in methods else b"\x05\xff")
            user = _exactly(connection, _exactly(connection, 2)[1])
            given = f"{user.decode()}:{_exactly(connection, _exactly(connection, 1)[0]).decode()}"
            connection.sendall(b"\x01\x00" if given == login else b"\x01\x01")
        else:
            given = ""
            connection.sendall(b"\x05\x00")
        kind = _exactly(connection, 4)[3]
        host = _exactly(connection, _exactly(connection, 1)[0]).decode() if kind == 3 else socket.inet_ntoa(_exactly(connection, 4))
        target = int.from_bytes(_exactly(connection, 2), "big")
        record.add(name, kind, host, target, given)
        with socket.create_connection((ADDRESS, target), 5) as onward:
            connection.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            _carry(connection, onward)

    return handle


def _exactly(connection: socket.socket, count: int) -> bytes:
    read = b""
    while len(read) < count:
        part = connection.recv(count - len(read))
        if not part:
            raise OSError("closed")
        read += part
    return read


def _carry(one: socket.socket, other: socket.socket) -> None:
    """Both ways until either ends."""
    ends = (one, other)
    while True:
        ready = [end for end in ends if getattr(end, "pending", int)()] or select.select(ends, (), (), 10)[0]
        for source in ready:
            part = source.recv(65536)
            if not part:
                return
            (other if source is one else one).sendall(part)
        if not ready:
            return


@dataclass(frozen=True)
class Case:
    """What kubectl and we are given; a file that is a text is written as it is.

    In it, <name> stands for the port of a listener or the path of a file, <data:name> for a file's base64."""

    files: Sequence[Any]
    variables: Mapping[str, str] = field(default_factory=dict)
    flags: Sequence[str] = ()
    """kubectl's."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Ours."""
    says: str = ""
    """Of what we say where both refuse."""
    ours: str = ""
    """What we say where we refuse on purpose what kubectl takes."""
    wider: str = ""
    """Why we take what kubectl refuses."""


def config(server: str, user: Any = None, name: str = "a", current: str | None = None, **cluster: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, **cluster}}],
        "users": [{"name": name, "user": user or {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name if current is None else current,
    }


def only(server: str, user: Any = None, cluster: Mapping[str, Any] | None = None, **more: Any) -> Case:
    return Case([config(server, user, **(cluster or {}))], **more)


@dataclass(frozen=True)
class World:
    record: Record
    pki: Pki
    directory: Path
    ports: Mapping[str, str]

    def filled(self, value: Any) -> Any:
        def one(found: re.Match[str]) -> str:
            name = found[1]
            if name in self.ports:
                return self.ports[name]
            return self.pki.data(name.removeprefix("data:")) if name.startswith("data:") else str(self.directory / name)

        if isinstance(value, str):
            return re.sub(r"<([\w.:-]+)>", one, value)
        if isinstance(value, Mapping):
            return {key: self.filled(inner) for key, inner in value.items()}
        return [self.filled(inner) for inner in value] if isinstance(value, list | tuple) else value


def theirs_and_ours(world: World, case: Case, between: Callable[[], Any] = lambda: None) -> tuple[Outcome, Outcome]:
    """(error, what arrived) of kubectl and of us. `between` is called when kubectl has ended."""
    paths = []
    for number, content in enumerate(case.files):
        path = world.directory / f"config-{number}"
        text = content if isinstance(content, str) else "" if content is None else yaml.safe_dump(world.filled(content), allow_unicode=True)
        path.write_text(world.filled(text))
        paths.append(str(path))
    if len(paths) > 1:
        paths.insert(1, str(world.directory / "missing"))
    environment = {"HOME": str(world.directory), "PATH": os.environ["PATH"], **world.filled(case.variables)}
    if paths:
        environment["KUBECONFIG"] = ":".join(paths)
    asked = [str(BIN / "kubectl"), *world.filled(case.flags), "get", "--raw", "/api/v1/namespaces/n/secrets/a"]
    world.record.take()
    done = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    theirs = (done.stderr or "failed" if done.returncode else "", world.record.take())
    between()
    try:
        cluster = connect(world.filled(case.options), environment)
        cluster.sleep = lambda __: cluster.stopping.set()  # one attempt is enough to see
        cluster.get(SECRETS, "n", "a")
    except ClusterError as error:
        return theirs, (str(error), world.record.take())
    return theirs, ("", world.record.take())


def compare(case: Case, theirs: Outcome, ours: Outcome) -> None:
    (their_error, they), (our_error, we) = theirs, ours
    if case.ours:
        assert not their_error and case.ours in our_error and not we
        return
    if case.wider:
        assert their_error and not our_error, our_error
        return
    assert bool(their_error) == bool(our_error), f"kubectl: {their_error or they}; we: {our_error or we}"
    assert they == we
    assert case.says in our_error and bool(case.says) == bool(our_error), our_error


@contextlib.contextmanager
def recording(directory: Path) -> Iterator[World]:
    """Everything of this file, started."""
    record, pki = Record({"refused", "gone"}), Pki(directory)
    (directory / "token").write_text("from-the-file\n")
    with contextlib.ExitStack() as stack:
        ports: dict[str, str] = {}

        def start(name: str, handle: Handle) -> None:
            ports[name] = str(stack.enter_context(_listening(handle)))

        for name in ("one", "two"):
            start(name, _api(record, name, None))
        for name, certificate in (("tls", "good"), ("elsewhere", "elsewhere"), ("expired", "expired"), ("early", "early")):
            start(name, _api(record, name, pki.context(certificate)))
        start("proxy", _http_proxy(record, "proxy", None))
        start("asking-proxy", _http_proxy(record, "asking-proxy", None, LOGIN))
        start("tls-proxy", _http_proxy(record, "tls-proxy", pki.context("proxy")))
        start("socks", _socks_proxy(record, "socks"))
        start("asking-socks", _socks_proxy(record, "asking-socks", LOGIN))
        yield World(record, pki, directory, ports)
