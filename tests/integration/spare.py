# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Kubernetes API of one's own, to be broken: etcd and kube-apiserver of the sandbox's build, on free ports, gone after the tests.

Without Istio's CRDs and without controllers it is up in a few seconds, and what is done to it is nobody else's trouble.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
import urllib3
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".sandbox" / "bin"
ADDRESS = "127.0.0.1"
ADMIN_TOKEN = "token-of-the-spare-api-s-administrator"
ISSUER = "https://kubernetes.default.svc"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


def until(check: Callable[[], bool], what: str, seconds: float = 60.0, pause: float = 0.05) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"{what} did not come about within {seconds:.0f} s"
        time.sleep(pause)


@dataclass
class SpareApi:
    """One etcd, one kube-apiserver, and what it takes to log in."""

    directory: Path
    ca: trustme.CA = field(default_factory=lambda: trustme.CA(organization_name="spare API"))
    clients: trustme.CA = field(default_factory=lambda: trustme.CA(organization_name="spare API's clients"))
    accounts_key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    etcd_port: int = field(default_factory=free_port)
    peer_port: int = field(default_factory=free_port)

    @property
    def host(self) -> str:
        return f"https://{ADDRESS}:{self.port}"

    @property
    def ca_path(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def login(self) -> dict[str, str]:
        """As a module's arguments."""
        return {"host": self.host, "api_key": ADMIN_TOKEN, "ca_cert": str(self.ca_path)}

    def prepare(self) -> None:
        server = self.ca.issue_cert(ADDRESS, "localhost")
        self.ca.cert_pem.write_to_path(self.ca_path)
        self.clients.cert_pem.write_to_path(self.directory / "clients-ca.crt")
        server.cert_chain_pems[0].write_to_path(self.directory / "server.crt")
        server.private_key_pem.write_to_path(self.directory / "server.key")
        form = serialization.PrivateFormat.TraditionalOpenSSL
        pem = self.accounts_key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        (self.directory / "accounts.key").write_bytes(pem)
        (self.directory / "tokens.csv").write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n')

    def _run(self, name: str, *arguments: str) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(BIN / name), *arguments], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def start_etcd(self) -> None:
        url, peers = f"http://{ADDRESS}:{self.etcd_port}", f"http://{ADDRESS}:{self.peer_port}"
        self._run(
            "etcd",
            "--name=spare",
            f"--data-dir={self.directory / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=spare={peers}",
        )

    def start_api(self) -> None:
        self._run(
            "kube-apiserver",
            f"--etcd-servers=http://{ADDRESS}:{self.etcd_port}",
            f"--bind-address={ADDRESS}",
            f"--advertise-address={ADDRESS}",
            "--endpoint-reconciler-type=none",
            f"--secure-port={self.port}",
            f"--tls-cert-file={self.directory / 'server.crt'}",
            f"--tls-private-key-file={self.directory / 'server.key'}",
            f"--client-ca-file={self.directory / 'clients-ca.crt'}",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.201.0.0/16",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={self.directory / 'accounts.key'}",
            f"--service-account-signing-key-file={self.directory / 'accounts.key'}",
            f"--audit-policy-file={ROOT / 'sandbox' / 'manifests' / 'audit-policy.yaml'}",
            f"--audit-log-path={self.directory / 'audit.log'}",
            "--audit-log-mode=blocking-strict",  # an answer that was given is in the log, whatever happens to the server then
        )

    def start(self) -> None:
        self.start_etcd()
        self.start_api()
        self.wait()

    def wait(self) -> None:
        def ready() -> bool:
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} ended: {(self.directory / f'{name}.log').read_text()[-2000:]}"
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                return bool(self.raw("GET", "/readyz").status == 200)
            return False

        until(ready, "the spare API to be ready")

    def end(self, name: str, number: int = signal.SIGKILL) -> None:
        process = self.processes.pop(name, None)
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
            process.wait(30)

    def stop(self) -> None:
        for name in ("kube-apiserver", "etcd"):  # in this order, or the API server waits for etcd
            self.end(name)

    def raw(self, method: str, path: str, body: object = None, *, content_type: str = "application/json") -> Any:
        """As the administrator, without patience."""
        with urllib3.PoolManager(ca_certs=str(self.ca_path)) as pool:
            return pool.request(
                method,
                self.host + path,
                body=None if body is None else json.dumps(body).encode(),
                headers={"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": content_type},
                retries=False,
                timeout=30,
            )

    def ask(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        answer = self.raw(method, path, body, **more)
        assert answer.status < 300, answer.data
        return json.loads(answer.data)

    def make_namespace(self, name: str) -> None:
        self.ask("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def secrets(self, namespace: str) -> dict[str, dict[str, str]]:
        """name -> key -> content."""
        found = self.ask("GET", f"/api/v1/namespaces/{namespace}/secrets")["items"]
        return {item["metadata"]["name"]: {key: base64.b64decode(value).decode() for key, value in item["data"].items()} for item in found}

    def audit(self, namespace: str, *verbs: str) -> list[dict[str, Any]]:
        """What was answered so far to requests about a namespace's Secrets, dry runs left out."""
        path = self.directory / "audit.log"
        lines = path.read_text().splitlines() if path.exists() else []
        events = [json.loads(line) for line in lines if f'"namespace":"{namespace}"' in line and line.endswith("}")]
        return [event for event in events if event["verb"] in verbs and "dryRun" not in event["requestURI"]]

    def creations(self, namespace: str) -> list[str]:
        """The name of every Secret that an apply made, as often as that happened."""
        return [event["objectRef"]["name"] for event in self.audit(namespace, "patch") if event["responseStatus"]["code"] == 201]

    def writes(self, namespace: str) -> dict[str, int]:
        """How often each Secret was written since it was made, as etcd counts it: what the audit log does not know of when the server dies."""
        start = f"/registry/secrets/{namespace}/".encode()
        query = {"key": base64.b64encode(start).decode(), "range_end": base64.b64encode(start[:-1] + b"0").decode(), "keys_only": True}
        answer = urllib3.request("POST", f"http://{ADDRESS}:{self.etcd_port}/v3/kv/range", json=query, retries=False, timeout=30)
        return {base64.b64decode(item["key"]).decode().rpartition("/")[2]: int(item["version"]) for item in answer.json().get("kvs", [])}

    def account_token(self, namespace: str, name: str, expires_in: float) -> str:
        """A service account's token as the API server signs it, with an end of one's own choice: those that it issues live 10 minutes."""
        self.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
        account = self.ask("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}")
        now = time.time()
        claims = {
            "iss": ISSUER,
            "aud": [ISSUER],
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "iat": int(now - 7200),
            "nbf": int(now - 7200),
            "exp": int(now + expires_in),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": account["metadata"]["uid"]}},
        }
        parts = [_base64url(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims)]
        signature = self.accounts_key.sign(".".join(parts).encode(), padding.PKCS1v15(), hashes.SHA256())
        return ".".join([*parts, _base64url(signature)])

    def client_certificate(self, name: str, valid: datetime.timedelta) -> dict[str, str]:
        """An administrator's certificate, as a module's arguments; `valid` may be negative: how long it still is."""
        now = datetime.datetime.now(datetime.UTC)
        pair = self.clients.issue_cert(
            "client",
            common_name=name,
            organization_name="system:masters",
            not_before=now - datetime.timedelta(days=2),
            not_after=now + valid,
        )
        certificate, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        pair.cert_chain_pems[0].write_to_path(certificate)
        pair.private_key_pem.write_to_path(key)
        return {"host": self.host, "ca_cert": str(self.ca_path), "client_cert": str(certificate), "client_key": str(key)}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture(scope="session")
def spare_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpareApi]:
    assert (BIN / "kube-apiserver").is_file(), "the sandbox's programs are not built: make sandbox"
    api = SpareApi(tmp_path_factory.mktemp("spare-api"))
    api.prepare()
    try:
        api.start()
        yield api
    finally:
        api.stop()


@pytest.fixture
def place(spare_api: SpareApi) -> str:
    """A namespace of the test's own on the spare API."""
    name = f"test-{os.urandom(4).hex()}"
    spare_api.make_namespace(name)
    return name
