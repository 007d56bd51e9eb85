# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CA rotations in stages at a real ingress gateway, which clients of both CAs ask without a pause, and at the egress gateway."""

from __future__ import annotations

import collections
import contextlib
import getpass
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.live.handshake import Contexts
from ansible_collections.meshops.istio.plugins.module_utils.live.probe import probe
from ansible_collections.meshops.istio.plugins.module_utils.live.request import Request
from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import Issued, Pki, key_pem

from .conftest import ROOT, Mesh, Run
from .load import under_load
from .test_rotation import INGRESS, MARKER, istiod_stands_still

ROTATION = "meshops.istio.istio_tls_rotation"
CREDENTIAL = "meshops.istio.istio_tls_credential"
EGRESS = "http://127.0.0.1:15200"
CA_USAGE = ("key_cert_sign", "crl_sign")


@dataclass
class Clients:
    """Two CAs that issue clients, one that issues servers, and everything of them as files."""

    directory: Path
    pki: Pki = field(default_factory=lambda: Pki(datetime.now(UTC)))
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10**6)))

    def __post_init__(self) -> None:
        self.old, self.new = (self.pki.issue(name, ca=True, usage=CA_USAGE) for name in ("Old clients", "New clients"))
        self.servers, self.other_servers = (self.pki.issue(name, ca=True, usage=CA_USAGE) for name in ("Servers", "Other servers"))

    def file(self, content: bytes) -> str:
        path = self.directory / str(next(self.numbers))
        path.write_bytes(content)
        return str(path)

    def client(self, ca: Issued) -> Issued:
        name = f"client-{next(self.numbers)}"
        return self.pki.issue(name, ca, purposes=("clientAuth",), key="P-256#client")

    def server(self, host: str, ca: Issued | None = None) -> Issued:
        return self.pki.issue(host, ca or self.servers, purposes=("serverAuth", "clientAuth"), key=f"P-256#{next(self.numbers)}")

    def pair(self, one: Issued, prefix: str = "") -> dict[str, str]:
        return {f"{prefix}certificate_path": self.file(one.pem), f"{prefix}private_key_path": self.file(key_pem(one.key))}


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Clients:
    return Clients(tmp_path_factory.mktemp("ca-rotation"))


@dataclass
class Asking:
    """A client that asks without a pause, each time with a new connection."""

    request: Request
    answers: list[str] = field(default_factory=list)

    def failures(self) -> dict[str, int]:
        return dict(collections.Counter(what for what in self.answers if what != "404"))


@dataclass
class Shop:
    """A MUTUAL host at the ingress gateway."""

    mesh: Mesh
    name: str
    clients: Clients

    @property
    def host(self) -> str:
        return f"{self.name}.example.com"

    def peer(self, client: Issued) -> dict[str, Any]:
        """As an option: nothing is routed, so the answer of who gets in is 404."""
        return {
            "host": self.host,
            "address": self.mesh.environment["INGRESS_HOST"],
            "ca_certificate_path": self.clients.file(self.clients.servers.pem),
            "expect": {"status": 404},
            **self.clients.pair(client, "client_"),
        }

    def ask(self, client: Issued) -> str:
        return _answer(self.request(client), Contexts())

    def request(self, client: Issued) -> Request:
        address = self.mesh.environment["INGRESS_HOST"], int(self.mesh.environment["SECURE_INGRESS_PORT"])
        return Request(
            self.host, *address, ca=self.clients.servers.pem, client_certificate=client.pem, client_private_key=key_pem(client.key)
        )

    @contextlib.contextmanager
    def asking(self, *asked: Issued) -> Iterator[list[Asking]]:
        ended, made = threading.Event(), [Asking(self.request(one)) for one in asked]

        def go_on(one: Asking) -> None:
            contexts = Contexts()
            while not ended.wait(0.02):
                one.answers.append(_answer(one.request, contexts))

        threads = [threading.Thread(target=go_on, args=(one,)) for one in made]
        for thread in threads:
            thread.start()
        try:
            yield made
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    def loaded(self, client: Issued) -> contextlib.AbstractContextManager[dict[str, Any]]:
        """As many new connections of a client as can be made, meanwhile."""
        both = Path(self.clients.file(client.pem + key_pem(client.key)))
        place = self.mesh.environment["INGRESS_HOST"], int(self.mesh.environment["SECURE_INGRESS_PORT"])
        return under_load(*place, [self.host], ca_file=Path(self.clients.file(self.clients.servers.pem)), client_file=both, threads=4)

    def rotation(self, until: str | None = None, name: str = "", **more: Any) -> dict[str, Any]:
        """A task; `until` and what else belongs into `ca_rotation` (`ca`)."""
        staged = {"ca_rotation": {"until_stage": until, **more.pop("ca", {})}} if until else {}
        return {ROTATION: {"name": name or self.name, "admin_urls": [INGRESS], "proof_timeout": 20, **staged, **more}}

    def run(self, *tasks: dict[str, Any], flags: tuple[str, ...] = ()) -> Run:
        return self.mesh.playbook([{**task, "ignore_errors": True} for task in tasks], *flags)

    def serve(self, mode: str = "MUTUAL", **server: Any) -> None:
        one = {"hosts": [self.host], "mode": mode, "credential_name": self.name, **server}
        gateway = {"name": self.name, "namespace": "istio-system", "servers": [one], "selector": {"istio": "ingressgateway"}}
        self.mesh.task("ingress_tls_gateway", gateway).ok()

    def wait(self, client: Issued, wanted: str) -> float:
        """Seconds until a client gets this answer."""
        started = time.monotonic()
        while (found := self.ask(client)) != wanted:
            assert time.monotonic() - started < 20, f"{self.host} answers {found}"
            time.sleep(0.05)
        return time.monotonic() - started


def _answer(request: Request, contexts: Contexts) -> str:
    found = probe(request, contexts)
    return found.alert or found.failure or str(found.status)


@pytest.fixture
def shop(mesh: Mesh, clients: Clients) -> Iterator[Shop]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield Shop(mesh, name, clients)
    mesh.task("ingress_tls_gateway", {"name": name, "namespace": "istio-system", "state": "absent"})
    mesh.kubectl("delete", "secret", name, f"{name}-cacert", "-n", "istio-system", "--ignore-not-found")


def killed(shop: Shop, task: dict[str, Any]) -> None:
    """A run that ends between the write of a stage and its proof."""
    book = shop.mesh.scratch / f"killed-{shop.name}.json"
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with istiod_stands_still():
        run = subprocess.Popen(
            ["ansible-playbook", str(book)], env=shop.mesh.env("operator"), cwd=shop.mesh.scratch, start_new_session=True, **quiet
        )
        try:
            deadline = time.monotonic() + 120
            while not (marker := _marker(shop)):
                assert time.monotonic() < deadline and run.poll() is None
                time.sleep(0.1)
            os.kill(
                int(json.loads(marker)["holder"].split(":")[-2]), signal.SIGKILL
            )  # the worker, which Ansible makes a session of its own
        finally:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()


def _marker(shop: Shop) -> str:
    secret = shop.mesh.get("secret", "istio-system", f"{shop.name}-cacert") or {"metadata": {}}
    return str((secret["metadata"].get("annotations") or {}).get(MARKER) or "")


def outcomes(result: dict[str, Any], number: int = 0) -> list[tuple[str, str]]:
    return [(each["stage"], each["outcome"]) for each in result["rotations"][number]["ca_rotation"]["stages"]]


def reached(result: dict[str, Any], number: int = 0) -> tuple[str, str]:
    told = result["rotations"][number]["ca_rotation"]
    return told["found"], told["reached"]


def test_all_stages_and_back(shop: Shop, clients: Clients) -> None:
    """A new client CA and a new server certificate, in layout split; a stop after the first stage, a run that is killed, and the way back."""
    old, new = clients.client(clients.old), clients.client(clients.new)
    first, second = clients.pair(clients.server(shop.host)), clients.pair(clients.server(shop.host))
    old_ca, new_ca = clients.file(clients.old.pem), clients.file(clients.new.pem)
    shop.mesh.playbook([{CREDENTIAL: {"name": shop.name, "layout": "split", **first, "ca_certificate_path": old_ca}}]).ok()
    shop.serve()
    shop.wait(old, "404")
    peers = {"old_peers": [shop.peer(old)], "new_peers": [shop.peer(new)]}
    going = {**second, "layout": "split", "ca_certificate_path": new_ca, "ca": peers}

    def drop(**more: Any) -> dict[str, Any]:
        return shop.rotation("drop", **{**going, **more})

    mark = shop.mesh.audit_mark()
    (planned,) = shop.run(drop(), flags=("--check",)).ok().results()
    assert planned["changed"] and shop.mesh.writes_since(mark) == []
    assert planned["rotations"][0]["ca_rotation"]["found"] == "before"
    assert [one["stage"] for one in planned["plan"]["rotations"]] == ["trust", "switch", "drop"]
    assert "stage drop" in planned["plan_text"] and "CA that goes: CN=Old clients" in planned["plan_text"]

    with contextlib.ExitStack() as through:
        with shop.loaded(old) as olds:
            trusted, again = shop.run(shop.rotation("trust", **going), shop.rotation("trust", **going)).ok().results()
            assert reached(trusted) == ("before", "trust") and outcomes(trusted) == [("trust", "rotated")]
            assert reached(again) == ("trust", "trust") and not again["changed"]
            news = through.enter_context(shop.loaded(new))
            (switched,) = shop.run(shop.rotation("switch", **going)).ok().results()
            assert reached(switched) == ("trust", "switch"), switched
        killed(shop, drop())
        done, second_run = shop.run(drop(), drop()).ok().results()
    assert reached(done) == ("switch", "drop") and outcomes(done) == [("drop", "rotated")]
    assert "this run finishes it" in done["rotations"][0]["recovered"]
    assert not second_run["changed"] and second_run["rotations"][0]["outcome"] == "unchanged"
    for load in (olds, news):
        assert load["failures"] == {} and load["statuses"] == {"404": load["requests"]} and load["requests"] > 200, load
        assert len(load["served"]) == 2  # the old server certificate, and the new one
    assert (shop.ask(old), shop.ask(new)) == ("unknown_ca", "404")
    probes = done["rotations"][0]["proof"]["probes"]
    assert [(one["name"].partition(":")[0], one.get("alert") or one["status"]) for one in probes] == [
        ("new peer", 404),
        ("old peer refused", "unknown_ca"),
    ]

    # back: what the Secret no longer has is asked for
    refused, back = shop.run(
        shop.rotation("trust", **going),
        shop.rotation("trust", **{**going, "ca": {**peers, "old_ca_certificate_path": old_ca, **_old(first)}}),
    ).results()
    assert {problem["code"] for problem in refused["problems"]} == {"old_ca_missing", "old_certificate_missing"}
    assert reached(back) == ("drop", "trust") and outcomes(back) == [("switch", "rotated"), ("trust", "rotated")], back
    assert (shop.ask(old), shop.ask(new)) == ("404", "404")


def _old(pair: dict[str, str]) -> dict[str, str]:
    return {f"old_{name}": path for name, path in pair.items()}


def test_a_stage_that_is_not_proven_is_put_back(shop: Shop, clients: Clients) -> None:
    """The new side's client has a certificate of another CA. Nothing of the later stages is tried, and the next run begins where this one did.
    Another rotation of the list goes on, which nothing uses."""
    old, new, other = clients.client(clients.old), clients.client(clients.new), f"{shop.name}-other"
    old_ca, new_ca = clients.file(clients.old.pem), clients.file(clients.new.pem)
    own = {"name": shop.name, "layout": "split", **clients.pair(clients.server(shop.host)), "ca_certificate_path": old_ca}
    alone = {"name": f"{other}-cacert", "layout": "generic", "ca_certificate_path": old_ca}
    shop.mesh.playbook([{CREDENTIAL: {"credentials": [own, alone]}}]).ok()
    shop.serve()
    shop.wait(old, "404")
    wrong = {"old_peers": [shop.peer(old)], "new_peers": [shop.peer(clients.client(clients.servers))]}
    right = {"old_peers": [shop.peer(old)], "new_peers": [shop.peer(new)]}
    listed = [
        {"name": shop.name, "layout": "split", "ca_certificate_path": new_ca, "ca_rotation": {"until_stage": "drop", **wrong}},
        {**alone, "ca_certificate_path": new_ca, "ca_rotation": {"until_stage": "drop"}},
    ]
    both = {ROTATION: {"rotations": listed, "max_failures": 1, "admin_urls": [INGRESS], "proof_timeout": 4}}
    try:
        with shop.asking(old) as (olds,):
            planned = {**shop.rotation("trust", layout="split", ca_certificate_path=new_ca, ca=right), "check_mode": True}
            failed, looked = shop.run(both, planned).results()
        assert outcomes(failed) == [("trust", "rolled_back"), ("drop", "not_tried")] and reached(failed) == ("before", "before")
        assert outcomes(failed, 1) == [("trust", "rotated"), ("drop", "rotated")] and reached(failed, 1) == ("before", "drop")
        assert "stage trust: probe new peer" in failed["msg"] and "unknown_ca" in failed["msg"]
        assert looked["rotations"][0]["ca_rotation"]["found"] == "before"
        assert olds.failures() == {} and shop.ask(new) == "unknown_ca"
    finally:
        shop.mesh.kubectl("delete", "secret", f"{other}-cacert", "-n", "istio-system", "--ignore-not-found")


def test_crls_in_a_secret_of_their_own(shop: Shop, clients: Clients) -> None:
    """`caCertCredentialName`: revoked clients are refused within seconds, and what would refuse good ones never gets in."""
    kept, stolen, new = clients.client(clients.old), clients.client(clients.old), clients.client(clients.new)
    ca = f"{shop.name}-clients-cacert"
    old_ca, new_ca = clients.file(clients.old.pem), clients.file(clients.new.pem)

    def crl(ca: Issued, *revoked: Issued, days: tuple[float, float] = (-1, 7)) -> str:
        return clients.file(clients.pki.crl(ca, revoked=revoked, days=days).pem)

    pair = clients.pair(clients.server(shop.host))
    first = [{"name": shop.name, **pair}, {"name": ca, "layout": "generic", "ca_certificate_path": old_ca, "crl_path": crl(clients.old)}]
    shop.mesh.playbook([{CREDENTIAL: {"credentials": first}}]).ok()
    shop.serve(ca_cert_credential_name=ca)
    shop.wait(stolen, "404")
    try:
        own = {"name": ca, "layout": "generic", "on_invalid": "warn"}
        with shop.asking(kept, stolen) as (keeps, steals):
            expired, partial, uncovered, revoked = shop.run(
                shop.rotation(**own, ca_certificate_path=old_ca, crl_path=crl(clients.old, days=(-9, -1))),
                shop.rotation(**own, ca_certificate_path=clients.file(clients.old.pem + clients.new.pem), crl_path=crl(clients.old)),
                shop.rotation("drop", **own, ca_certificate_path=new_ca),
                shop.rotation(
                    **own,
                    ca_certificate_path=old_ca,
                    crl_path=crl(clients.old, stolen),
                    refused=[shop.peer(stolen)],
                    probes=[shop.peer(kept)],
                ),
            ).results()
            assert [problem["code"] for problem in expired["problems"]] == ["crl_expired"]
            assert [problem["code"] for problem in partial["problems"]] == ["crl_incomplete"]
            assert [problem["code"] for problem in uncovered["problems"]] == ["crl_incomplete"]  # of the new CA, in stage trust
            (one,) = revoked["rotations"]
            assert one["outcome"] == "rotated" and one["changes"] == ["another CRL"]
            proof = next(probe for probe in one["proof"]["probes"] if probe["name"].startswith("refused"))
            assert proof["alert"] == "certificate_revoked" and proof["seconds"] < 10
            assert keeps.failures() == {} and set(steals.failures()) == {"certificate_revoked"}
            peers = {"old_peers": [shop.peer(kept)], "new_peers": [shop.peer(new)]}
            (done,) = shop.run(shop.rotation("drop", **own, ca_certificate_path=new_ca, crl_path=crl(clients.new), ca=peers)).ok().results()
            assert outcomes(done) == [("trust", "rotated"), ("drop", "rotated")]
            assert set(keeps.failures()) == {"unknown_ca"}
        assert (shop.ask(new), shop.ask(stolen)) == ("404", "unknown_ca")
    finally:
        shop.mesh.kubectl("delete", "secret", ca, "-n", "istio-system", "--ignore-not-found")


# --- origination


@contextlib.contextmanager
def nginx(directory: Path, *servers: str) -> Iterator[None]:
    """Servers outside the mesh."""
    found = subprocess.run([sys.executable, "-m", "sandbox", "nginx"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    temporary = "".join(f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (directory / "nginx.conf").write_text(f"events {{}} http {{ access_log off; {temporary} {' '.join(servers)} }}")
    user = getpass.getuser()
    arguments = [
        "-e",
        "stderr",
        "-p",
        str(directory),
        "-c",
        str(directory / "nginx.conf"),
        "-g",
        f"daemon off; pid {directory}/pid; user {user};",
    ]
    process = subprocess.Popen([found, *arguments])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def test_the_ca_of_servers_behind_the_egress_gateway(mesh: Mesh, clients: Clients, tmp_path: Path) -> None:
    """Two partners share a client credential. One has a server certificate of the old CA, one of the new; both take clients of both issuers."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    hosts = {"old": f"old.{name}.example.org", "new": f"new.{name}.example.org"}
    verify = clients.file(clients.old.pem + clients.new.pem)
    place = {"old": 8441, "new": 8442}
    servers = []
    for side, ca in (("old", clients.servers), ("new", clients.other_servers)):
        pair = clients.pair(clients.server(hosts[side], ca))
        servers.append(
            f"server {{ listen 127.0.0.79:{place[side]} ssl; server_name {hosts[side]}; ssl_certificate {pair['certificate_path']}; "
            f"ssl_certificate_key {pair['private_key_path']}; ssl_client_certificate {verify}; ssl_verify_client on; "
            f"location / {{ return 200 $ssl_client_s_dn; }} }}"
        )
    services = [
        {
            "name": f"{name}-{side}",
            "host": hosts[side],
            "credential_name": name,
            "resolution": "STATIC",
            "endpoints": [{"address": "127.0.0.79", "ports": {"https": place[side]}}],
        }
        for side in hosts
    ]
    first, second = clients.client(clients.old), clients.client(clients.new)
    old_ca, new_ca = clients.file(clients.servers.pem), clients.file(clients.other_servers.pem)
    address, port = mesh.environment["MESH_CLIENT"].split(":")

    def peer(side: str, **expect: Any) -> dict[str, Any]:
        return {"host": hosts[side], "address": address, "port": int(port), "scheme": "http", "expect": {"status": 200, **expect}}

    def rotation(until: str, **more: Any) -> dict[str, Any]:
        staged = {"until_stage": until, "old_peers": [peer("old")], "new_peers": [peer("new")], **more}
        own = {"name": name, "purpose": "client", **clients.pair(second), "ca_certificate_path": new_ca, "ca_rotation": staged}
        ways = {"admin_urls": [EGRESS], "proof_timeout": 20, "end_old_connections": True}  # or the pool goes on with the ones it has
        return {ROTATION: {**own, **ways}, "ignore_errors": True}

    origination = "meshops.istio.egress_mtls_origination"
    try:
        with nginx(tmp_path, *servers):
            client = {"name": name, "purpose": "client", **clients.pair(first), "ca_certificate_path": old_ca}
            mesh.playbook(
                [
                    {CREDENTIAL: client},
                    {origination: {"services": services}},
                    {"meshops.istio.tls_probe": {**peer("old", text=first.certificate.subject), "timeout": 30, "consecutive": 3}},
                    {"meshops.istio.tls_probe": {**peer("new"), "expect": {"status": 503}, "timeout": 30}},
                ]
            ).ok()
            until, done, again = (
                mesh.playbook(
                    [
                        rotation("trust"),
                        rotation("drop", new_peers=[peer("new", text="client")]),
                        rotation("drop"),
                        {"meshops.istio.tls_probe": {**peer("new", text=second.certificate.subject), "timeout": 5, "delay": 0.2}},
                    ]
                )
                .ok()
                .results("istio_tls_rotation")
            )
            assert reached(until) == ("before", "trust"), until
            assert outcomes(done) == [("switch", "rotated"), ("drop", "rotated")], done
            assert not again["changed"] and reached(again) == ("drop", "drop")
            (refusal,) = (one for one in done["rotations"][0]["proof"]["probes"] if one["name"].startswith("old peer refused"))
            assert refusal["status"] == 503 and refusal["holds"]
            assert done["rotations"][0]["proof"]["proxies"] == [EGRESS]
    finally:
        mesh.playbook([{origination: {"services": [{"name": one["name"]} for one in services], "state": "absent"}}])
        mesh.kubectl("delete", "secret", name, "-n", "istio-system", "--ignore-not-found")
