# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which client certificate a server is shown when files are rotated, or a plugin gives another one."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster import transport
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import Cluster, connect
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import SECRET
from ansible_collections.meshops.istio.tests.unit.live.servers import Pair, Pki, listening, make, server_context

PKI = Pki()
PAIRS = {name: make(name, by=PKI.root) for name in ("jane", "john")}
SECRET_OBJECT = json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "n"}}).encode()
UNAUTHORIZED = json.dumps({"kind": "Status", "message": "Unauthorized", "code": 401}).encode()


@contextlib.contextmanager
def server(directory: Path, *refused: str) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The options that lead to it, and who came, by connection; connections are kept."""
    context = server_context(directory, PKI.server, client_ca=PKI.root)
    came: list[str] = []

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            subject = dict(pair for (pair,) in (secured.getpeercert() or {})["subject"])  # type: ignore[misc]
            came.append(str(subject["commonName"]))
            refuses = came[-1] in refused
            while secured.recv(65536):
                body = UNAUTHORIZED if refuses else SECRET_OBJECT
                head = f"HTTP/1.1 {'401 Unauthorized' if refuses else '200 OK'}\r\nContent-Length: {len(body)}\r\n"
                secured.sendall((head + ("Connection: close\r\n\r\n" if refuses else "\r\n")).encode() + body)
                if refuses:
                    return

    (directory / "ca.crt").write_bytes(PKI.root.pem)
    with listening(handle) as listener:
        yield {"host": f"https://127.0.0.1:{listener.port}", "ca_cert": str(directory / "ca.crt")}, came


def put(directory: Path, certificate: Pair, key: Pair | None = None) -> None:
    (directory / "client.crt").write_bytes(certificate.pem)
    (directory / "client.key").write_bytes((key or certificate).key())


def asked(cluster: Cluster) -> None:
    assert cluster.get(SECRET, "n", "a")


def test_files_that_are_rotated_are_presented_once_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_CERTIFICATE_KEPT", 0.0)
    with server(tmp_path) as (options, came):
        put(tmp_path, PAIRS["jane"])
        cluster = connect({**options, "client_cert": str(tmp_path / "client.crt"), "client_key": str(tmp_path / "client.key")}, {})
        asked(cluster)
        put(tmp_path, PAIRS["john"], PAIRS["jane"])  # half of it
        asked(cluster)
        assert came == ["jane"], "one connection, which is kept"
        put(tmp_path, PAIRS["john"])
        cluster.pool.manager.clear()  # the server takes one connection at a time
        asked(cluster)
        asked(cluster)
        assert came == ["jane", "john"]
        cluster.pool.manager.clear()


def test_files_are_not_read_with_every_request(tmp_path: Path) -> None:
    with server(tmp_path) as (options, came):
        put(tmp_path, PAIRS["jane"])
        cluster = connect({**options, "client_cert": str(tmp_path / "client.crt"), "client_key": str(tmp_path / "client.key")}, {})
        read_at: list[Path] = []
        original = Path.read_bytes
        monkey = pytest.MonkeyPatch()
        monkey.setattr(Path, "read_bytes", lambda path: (read_at.append(path), original(path))[1])
        asked(cluster)
        asked(cluster)
        monkey.undo()
        assert read_at == [] and came == ["jane"]
        cluster.pool.manager.clear()


def test_a_plugins_certificate_that_is_refused_gives_way_to_its_next(tmp_path: Path) -> None:
    for name, pair in PAIRS.items():
        status = {"clientCertificateData": pair.pem.decode(), "clientKeyData": pair.key().decode()}
        answer = {"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": status}
        (tmp_path / name).write_text(json.dumps(answer))
    plugin = tmp_path / "plugin"
    plugin.write_text(f'#!/bin/sh\ncd "{tmp_path}" || exit 9\n[ -e ran ] && exec cat john\ntouch ran\ncat jane\n')
    plugin.chmod(0o755)
    exec_ = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    with server(tmp_path, "jane") as (options, came):
        kubeconfig = {
            "clusters": [{"name": "a", "cluster": {"server": options["host"], "certificate-authority": options["ca_cert"]}}],
            "users": [{"name": "a", "user": {"exec": exec_}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "current-context": "a",
        }
        cluster = connect({"kubeconfig": kubeconfig}, {})
        asked(cluster)
        assert came == ["jane", "john"]
        cluster.pool.manager.clear()
