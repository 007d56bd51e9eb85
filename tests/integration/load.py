# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load: requests by new connections, as many as threads can make, in a process of their own until its standard input ends.

    python tests/integration/load.py ADDRESS PORT THREADS CA_FILE - HOST...             # HTTPS, each with a handshake that is verified
    python tests/integration/load.py ADDRESS PORT THREADS CA_FILE CLIENT_FILE HOST...   # with a client certificate, beside its key in one file
    python tests/integration/load.py ADDRESS PORT THREADS - - HOST...                   # HTTP

Prints JSON: how many requests there were, for how many seconds and how many a second, how many of each status, the certificates that were served
(SHA-256), and what failed. With a pair that is mixed no handshake succeeds, so that it is among the failures.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Load:
    """What the threads share."""

    def __init__(self, address: str, port: int, ca_file: str, client_file: str, hosts: Sequence[str]) -> None:
        self.place, self.hosts, self.over = (address, port), hosts, threading.Event()
        self.contexts = None if ca_file == "-" else [ssl.create_default_context(cafile=ca_file)]
        for context in self.contexts or ():
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # Python 3.13 wants key identifiers, which Envoy does not
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the file may hold the servers' certificates themselves
            if client_file != "-":
                context.load_cert_chain(client_file)
        self.statuses: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.lock = threading.Lock()

    def work(self, number: int) -> None:
        for turn in itertools.count(number):
            if self.over.is_set():
                return
            host = self.hosts[turn % len(self.hosts)]
            try:
                status, served = self.once(host)
            except (OSError, ValueError) as error:
                with self.lock:
                    self.failures[f"{host}: {error}"] += 1
                continue
            with self.lock:
                self.statuses[status] += 1
                self.served[served] += 1

    def once(self, host: str) -> tuple[str, str]:
        with socket.create_connection(self.place, timeout=10) as plain:
            if self.contexts is None:
                return self.ask(plain, host), ""
            with self.contexts[0].wrap_socket(plain, server_hostname=host) as secured:
                served = hashlib.sha256(secured.getpeercert(binary_form=True) or b"").digest().hex(":")
                return self.ask(secured, host), served

    @staticmethod
    def ask(connection: socket.socket, host: str) -> str:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while not _is_whole(answer) and (part := connection.recv(65536)):  # Envoy waits a second for us to close first
            answer += part
        line = answer.partition(b"\r\n")[0].split()
        if len(line) < 2:
            raise ValueError(f"no answer, but {answer[:80]!r}")
        return line[1].decode()


def _is_whole(answer: bytes) -> bool:
    """Whether it has come to the end of its body; one that is left before that makes proxies end their own connection as well."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return bool(end) and len(body) >= int(length[1] if length else 0)


def main() -> None:
    address, port, threads, ca_file, client_file, *hosts = sys.argv[1:]
    load = Load(address, int(port), ca_file, client_file, hosts)
    workers = [threading.Thread(target=load.work, args=(number,)) for number in range(int(threads))]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    sys.stdin.read()
    load.over.set()
    for worker in workers:
        worker.join()
    seconds = time.monotonic() - began
    requests = sum(load.statuses.values()) + sum(load.failures.values())
    found = {"statuses": load.statuses, "served": load.served, "failures": load.failures}
    json.dump({**found, "seconds": seconds, "requests": requests, "per_second": round(requests / seconds, 1)}, sys.stdout)


@contextmanager
def under_load(
    address: str, port: int, hosts: Sequence[str], *, ca_file: Path | None = None, client_file: Path | None = None, threads: int = 8
) -> Iterator[dict[str, Any]]:
    """What the load came to is in the dict afterwards."""
    command = [sys.executable, __file__, address, str(port), str(threads), str(ca_file or "-"), str(client_file or "-"), *hosts]
    found: dict[str, Any] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline() == "begun\n"
            yield found
            found.update(json.loads(process.communicate(timeout=60)[0]))
        finally:
            process.kill()


if __name__ == "__main__":
    main()
