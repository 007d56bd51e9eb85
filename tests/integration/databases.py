# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real databases and brokers that insist on a client certificate: NATS (from PyPI), etcd (of the sandbox), Redis and PostgreSQL (where they are
installed)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.meshops.istio.sandbox.layout import BIN

from .conftest import Pair

PATIENCE = 20.0  # seconds until a server listens, on a busy machine
NATS = Path(sys.executable).parent / "nats-server"
ETCD = BIN / "etcd"


def free_port(address: str) -> int:
    with socket.create_server((address, 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(command: Sequence[str | Path], address: str, port: int, directory: Path, user: int | None = None) -> Iterator[None]:
    """A server from when it listens until it has ended."""
    log = directory / "log"
    with log.open("w") as output, subprocess.Popen(command, cwd=directory, stdout=output, stderr=subprocess.STDOUT, user=user) as process:
        try:
            end = time.monotonic() + PATIENCE
            while not _listens(address, port):
                assert process.poll() is None and time.monotonic() < end, log.read_text()[-2000:]
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(20)


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


class Nats:
    """A broker. It tells which certificate each of its clients showed."""

    def __init__(self, address: str, port: int, monitor: int) -> None:
        self.address, self.port, self.monitor = address, port, monitor

    def seen(self, client_id: int) -> str:
        """The SHA-256 fingerprint of the certificate of a client that is connected, in lower case without colons."""
        with urllib.request.urlopen(f"http://{self.address}:{self.monitor}/connz?auth=1&cid={client_id}", timeout=5) as answer:
            [connection] = json.load(answer)["connections"]
        fingerprint: str = connection["tls_peer_certs"][0]["cert_sha256"]
        return fingerprint

    def converse(self, port: int) -> str:
        """What an application gets that speaks plain NATS to its sidecar: publishes a message, receives it, and asks which certificate was seen for
        it; "" where nothing answers."""
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                stream = connection.makefile("rwb")
                greeting = stream.readline()
                if not greeting.startswith(b"INFO "):
                    return ""
                stream.write(b'CONNECT {"verbose":false}\r\nSUB greetings 1\r\nPUB greetings 5\r\nhello\r\n')
                stream.flush()
                if (stream.readline(), stream.readline()) != (b"MSG greetings 1 5\r\n", b"hello\r\n"):
                    return "no message"
                return self.seen(json.loads(greeting[5:])["client_id"])
        except OSError:
            return ""


@contextmanager
def nats(served: Pair, directory: Path, address: str, *, tls_first: bool = True) -> Iterator[Nats]:
    """Without `tls_first` it greets in plaintext, as NATS does by default."""
    directory.mkdir()
    server = Nats(address, free_port(address), free_port(address))
    files = f'cert_file: "{served.certificate_path}", key_file: "{served.private_key_path}", ca_file: "{served.ca_path}"'
    first = "handshake_first: true" if tls_first else ""
    (directory / "nats.conf").write_text(
        f"listen: {address}:{server.port}\nhttp: {address}:{server.monitor}\ntls {{ {files}, verify: true, {first} }}\n"
    )
    with running([NATS, "-c", "nats.conf"], address, server.port, directory):
        yield server


@contextmanager
def etcd(served: Pair, directory: Path, address: str) -> Iterator[int]:
    directory.mkdir()
    port, peers = free_port(address), free_port(address)
    tls = [
        "--client-cert-auth",
        f"--trusted-ca-file={served.ca_path}",
        f"--cert-file={served.certificate_path}",
        f"--key-file={served.private_key_path}",
    ]
    urls = [f"--listen-client-urls=https://{address}:{port}", f"--advertise-client-urls=https://{address}:{port}"]
    own = [f"--listen-peer-urls=http://{address}:{peers}", f"--initial-advertise-peer-urls=http://{address}:{peers}"]
    with running([ETCD, *urls, *own, f"--initial-cluster=default=http://{address}:{peers}", *tls], address, port, directory):
        yield port


def redis_program() -> str | None:
    """Redis with TLS, where it is installed (Debian: redis-server)."""
    program = shutil.which("redis-server")
    if program is None:
        return None
    said = subprocess.run([program, "--port", "0", "--tls-port", "x"], capture_output=True, text=True, check=False)
    return None if "Bad directive" in said.stdout + said.stderr else program


@contextmanager
def redis(program: str, served: Pair, directory: Path, address: str) -> Iterator[int]:
    directory.mkdir()
    port = free_port(address)
    files = ["--tls-cert-file", served.certificate_path, "--tls-key-file", served.private_key_path, "--tls-ca-cert-file", served.ca_path]
    command = [program, "--bind", address, "--port", "0", "--tls-port", str(port), "--tls-auth-clients", "yes", *files, "--save", ""]
    with running(command, address, port, directory):
        yield port


def postgresql_programs() -> Path | None:
    """Where PostgreSQL's server is installed (Debian: postgresql)."""
    found = shutil.which("postgres")
    places = [Path(found)] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return places[-1].parent if places else None


@contextmanager
def postgresql(programs: Path, served: Pair, address: str, port: int) -> Iterator[None]:
    """A server that insists on TLS and on a client certificate, for the user `client`. It runs as nobody where this process is root's, which it
    refuses."""
    nobody = 65534 if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        files = {"server.crt": served.certificate_path, "server.key": served.private_key_path, "root.crt": served.ca_path}
        for file, source in files.items():
            (directory / file).write_bytes(source.read_bytes())
            (directory / file).chmod(0o600)
        for path in (directory, *directory.iterdir()):
            os.chown(path, nobody if nobody is not None else -1, -1)
        initialise = [programs / "initdb", "--no-sync", "--username=client", "--auth=trust", f"--pgdata={name}/data"]
        subprocess.run(initialise, cwd=directory, user=nobody, check=True, capture_output=True, timeout=120)
        (directory / "data" / "pg_hba.conf").write_text("hostssl all all all trust clientcert=verify-ca\n")
        settings = {"listen_addresses": address, "port": port, "unix_socket_directories": name, "fsync": "off", "ssl": "on"}
        settings |= {f"ssl_{what}_file": f"{name}/{file}" for what, file in zip(("cert", "key", "ca"), files, strict=True)}
        command = [programs / "postgres", "-D", f"{name}/data", *(f"--{key}={value}" for key, value in settings.items())]
        with running(command, address, port, directory, nobody):
            yield
