# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sixty clusters through ansible-runner's streaming form, which is how AWX reaches other nodes: three nodes, one of which is lost in the middle, and
a cluster that is dead, one that is slow and one whose login has expired. A cluster is a context of one kubeconfig, with a Secret of its own."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.filter.job_outcomes import job_outcomes
from ansible_collections.meshops.istio.sandbox import layout, pki
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from .conftest import Mesh, Pair
from .node import Node, Way, nodes, trouble
from .runner import Job, Stream, job, sliced, stream
from .test_secrets_never_leak import canaries

CLUSTERS = [f"cluster{number:02}" for number in range(60)]
SLICES = [sliced(CLUSTERS, number, 3) for number in range(3)]
HEALTHY, LOST, TROUBLED = SLICES
DEAD, SLOW, EXPIRED = TROUBLED[:3]
STUCK = set(LOST[:3])
"""They get no answer until their node is lost, so that it is lost in the middle whatever the machine's speed."""
API, DEAD_PORT, SLOW_PORT, STUCK_PORT = layout.API[1], 16501, 16502, 16503
"""On a node's own loopback, where nothing else listens."""
PUT, LOOK = "Put the certificate in place", "Look at it"
PATIENCE = 240.0
"""Seconds for what takes ten on an idle machine."""


def play(namespace: str) -> list[dict[str, Any]]:
    login = {"kubeconfig": "{{ playbook_dir }}/kubeconfig", "context": "{{ inventory_hostname }}"}
    put = {
        "name": "{{ inventory_hostname }}",
        "namespace": namespace,
        "certificate_path": "{{ playbook_dir }}/tls.crt",
        "private_key": "{{ lookup('ansible.builtin.file', playbook_dir ~ '/tls.key') }}",
    }
    look = {"name": "{{ inventory_hostname }}", "namespace": namespace}
    tasks = [
        {"name": PUT, "meshops.istio.istio_tls_credential": put},
        {"name": LOOK, "meshops.istio.istio_tls_credential_info": look},
    ]
    return [
        {"hosts": "all", "gather_facts": False, "module_defaults": {"group/meshops.istio.istio": login}, "tasks": tasks},
    ]


def expired(token: str) -> str:
    """The same service account's token, which ended an hour ago; signed as the API server signs."""
    padded = token.split(".")[1] + "=="
    claims = json.loads(base64.urlsafe_b64decode(padded))
    claims |= {name: int(time.time()) - ago for name, ago in (("iat", 7200), ("nbf", 7200), ("exp", 3600))}
    key = serialization.load_pem_private_key(pki.ACCOUNTS_KEY.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    parts = [base64url(json.dumps(part).encode()) for part in ({"alg": "ES256", "typ": "JWT"}, claims)]
    signature = decode_dss_signature(key.sign(".".join(parts).encode(), ec.ECDSA(hashes.SHA256())))
    return ".".join([*parts, base64url(b"".join(number.to_bytes(32, "big") for number in signature))])


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def kubeconfig(mesh: Mesh, *, mended: bool) -> str:
    """Contexts by the clusters' names; what is mended leads to the API server like the others."""
    config: dict[str, Any] = yaml.safe_load(Path(mesh.environment["KUBECONFIG"]).read_text())
    operator = yaml.safe_load(Path(mesh.environment["OPERATOR_KUBECONFIG"]).read_text())["users"][0]["user"]["token"]
    entry, user = config["clusters"][0], config["users"][0]
    ports = {} if mended else {DEAD: DEAD_PORT, SLOW: SLOW_PORT, **dict.fromkeys(STUCK, STUCK_PORT)}
    config["clusters"] = [
        {"name": str(port), "cluster": {**entry["cluster"], "server": f"https://127.0.0.1:{port}"}} for port in {API, *ports.values()}
    ]
    config["users"] = [{**user, "name": "valid"}, {"name": "expired", "user": {"token": expired(operator)}}]
    config["contexts"] = [
        {
            "name": name,
            "context": {"cluster": str(ports.get(name, API)), "user": "expired" if name == EXPIRED and not mended else "valid"},
        }
        for name in CLUSTERS
    ]
    config["current-context"] = ""
    return yaml.safe_dump(config)


@dataclass(frozen=True)
class Fleet:
    """A namespace, and what a job in it needs."""

    mesh: Mesh
    namespace: str
    pair: Pair
    directory: Path
    environment: dict[str, str]

    def job(self, name: str, clusters: list[str], *, mended: bool) -> Job:
        files = {
            "kubeconfig": kubeconfig(self.mesh, mended=mended),
            "tls.crt": self.pair.certificate,
            "tls.key": self.pair.private_key,
            "ansible.cfg": "[defaults]\nstrategy = free\n",  # no cluster waits for another one's task
        }
        inventory = {"all": {"hosts": {cluster: {"ansible_connection": "local"} for cluster in clusters}}}
        return job(self.directory / name, inventory, play(self.namespace), files=files)

    def there(self) -> set[str]:
        """The clusters that have their certificate."""
        names = self.mesh.kubectl("get", "secrets", "-n", self.namespace, "-o", "name", "-l", "app.kubernetes.io/managed-by=meshops.istio")
        return {name.rpartition("/")[2] for name in names.split()}


@dataclass(frozen=True)
class FirstRun:
    fleet: Fleet
    jobs: tuple[Job, Job, Job]
    codes: tuple[tuple[int, ...], ...]
    logs: tuple[str, ...]
    passed_by: bool
    """Whether others of the slow cluster's job had finished while it waited for its first answer."""
    there: set[str]
    """The clusters that had their certificate when all was over."""

    def outcomes(self) -> dict[str, dict[str, str]]:
        return {one["cluster"]: one for one in job_outcomes([str(one.artifacts) for one in self.jobs], CLUSTERS)}


@pytest.fixture(scope="module")
def fleet(mesh: Mesh, issue: Callable[..., Pair], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    if why := trouble():
        pytest.skip(why)
    namespace = f"runner-{uuid.uuid4().hex[:8]}"
    directory = tmp_path_factory.mktemp("runner")
    environment = mesh.env() | {"ANSIBLE_NOCOLOR": "1"}
    del environment["KUBECONFIG"], environment["ANSIBLE_INVENTORY"]  # a node knows what it is sent
    mesh.kubectl("create", "namespace", namespace)
    # a worker that is killed leaves there what it was sent
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as short:
        yield Fleet(mesh, namespace, issue("fleet.example.com"), directory, {**environment, "TMPDIR": short})
    mesh.kubectl("delete", "namespace", namespace, "--wait=false")


def ended(one: Job) -> set[str]:
    """The clusters that have their last result: a good one of the last task, or a bad one."""
    return {data["host"] for data in [*one.named("runner_on_ok", LOOK), *one.named("runner_on_failed")]}


@pytest.fixture(scope="module")
def first(fleet: Fleet) -> Iterator[FirstRun]:
    api = Way(API, layout.API)
    slow = Way(SLOW_PORT, layout.API, latency=0.1, rate=20_000, hold=True)
    stuck = Way(STUCK_PORT, layout.API, hold=True)
    jobs = [fleet.job(f"slice{number}", hosts, mended=False) for number, hosts in enumerate(SLICES)]
    streams: list[Stream] = []
    with nodes([api], [Way(API, layout.API), stuck], [Way(API, layout.API), slow]) as made:
        try:
            for node, one in zip(made, jobs, strict=True):
                streams.append(stream(one, fleet.environment, node.inside("ansible-runner", "worker"), "--forks", "20", "-vvv"))
            passed_by = interfere(made[1], jobs, stuck, slow)
            codes = tuple(one.wait(PATIENCE) for one in streams)
        finally:
            for one in streams:
                one.close()
    logs = tuple(one.log.read_text() for one in streams)
    yield FirstRun(fleet, (jobs[0], jobs[1], jobs[2]), codes, logs, passed_by, fleet.there())


def interfere(node: Node, jobs: list[Job], stuck: Way, slow: Way) -> bool:
    """Loses the node once some of its clusters are done, and lets the slow cluster have its answers once another one of its job is; whether that came
    about before our patience ended, which is that of a request (30 s for an answer, and as much for attempts after it)."""
    passed_by, alive = False, True
    begun: list[float] = []
    deadline = time.monotonic() + PATIENCE
    while alive or not slow.let.is_set():
        assert time.monotonic() < deadline, "neither half of a job came about"
        if alive and stuck.held.is_set() and len(ended(jobs[1])) >= 3:
            node.kill()
            alive = False
        if slow.held.is_set() and not slow.let.is_set():
            begun = begun or [time.monotonic()]
            passed_by = bool(ended(jobs[2]) - {DEAD, EXPIRED})
            if passed_by or time.monotonic() > begun[0] + 50:
                slow.let.set()
        time.sleep(0.3)
    return passed_by


def test_two_nodes_finish_while_the_third_is_lost(first: FirstRun) -> None:
    outcomes = first.outcomes()
    assert {name for name in HEALTHY if outcomes[name]["outcome"] == "done"} == set(HEALTHY), first.logs[0]
    assert {name for name in LOST if outcomes[name]["outcome"] == "not_done"} == set(LOST), "no end was told of them"
    assert all(outcomes[name]["message"].startswith("the job was lost") for name in LOST)
    assert any(outcomes[name]["message"].endswith(f"after the task '{LOOK}'") for name in LOST), (
        "not begun, and not finished: in the middle"
    )
    assert {name for name in TROUBLED if outcomes[name]["outcome"] == "done"} == {*TROUBLED} - {DEAD, EXPIRED}, first.logs[2]
    assert first.there.isdisjoint({*STUCK, DEAD, EXPIRED})
    assert first.there >= {*HEALTHY, *TROUBLED} - {DEAD, EXPIRED}


def test_dead_slow_and_expired_hold_nobody_up_and_say_why(first: FirstRun) -> None:
    outcomes = first.outcomes()
    assert re.fullmatch(
        rf"no answer from the API server at https://127\.0\.0\.1:{DEAD_PORT} after \d+ attempts \(Connection refused\); "
        "nothing listens there: check that it runs and that kubeconfig, context or host name the right cluster",
        outcomes[DEAD]["message"],
    )
    assert "does not accept the login (401" in outcomes[EXPIRED]["message"] and "has expired; log in again" in outcomes[EXPIRED]["message"]
    assert first.passed_by, "others did not finish while the slow cluster had no answer: they waited for it"
    (slow,) = [data for data in first.jobs[2].named("runner_on_ok", LOOK) if data["host"] == SLOW]
    assert slow["res"]["credentials"][0]["certificate"]
    took = {data["host"]: data["duration"] for data in first.jobs[2].named("runner_on_failed")}
    assert set(took) == {DEAD, EXPIRED} and max(took.values()) < 60, took


def test_no_key_and_no_login_is_in_events_and_artifacts(first: FirstRun) -> None:
    """With -vvv. What a job was given is in its private data directory, as with AWX; what it leaves is looked through as a whole."""
    config = yaml.safe_load(kubeconfig(first.fleet.mesh, mended=False))
    secrets = canaries(first.fleet.pair.private_key) | {user["user"]["token"] for user in config["users"]}
    looked_at = 0
    for one in first.jobs:
        for path in one.artifacts.parent.parent.rglob("*"):
            if path.is_file() and not path.is_relative_to(one.private):
                text = path.read_text(errors="replace")
                assert not [secret for secret in secrets if secret in text], path
                looked_at += 1
    assert looked_at > 2 * 60
    assert any(event["event"] == "verbose" for event in first.jobs[0].events()), "-vvv says nothing"


def test_the_next_run_finishes_the_rest_and_changes_only_that(first: FirstRun) -> None:
    fleet = first.fleet
    left, limit = unfinished(fleet, first.jobs)
    assert limit == [*(name for name in CLUSTERS if name in LOST or name in (DEAD, EXPIRED))]
    assert f"{DEAD}: failed: no answer from the API server" in left and f"{min(STUCK)}: not done: the job was lost" in left
    again = fleet.job("again", limit, mended=True)
    mark = fleet.mesh.audit_mark()
    with nodes([Way(API, layout.API)]) as (node,):
        running = stream(again, fleet.environment, node.inside("ansible-runner", "worker"), "--forks", "20")
        try:
            running.wait(PATIENCE)
        finally:
            running.close()
    changed = {data["host"] for data in again.named("runner_on_ok", PUT) if data["res"]["changed"]}
    assert changed == set(CLUSTERS) - first.there, "the others had it"
    written = fleet.mesh.writes_since(mark, "admin")
    assert sorted(line.split()[-1] for line in written if line.split()[1] == "secrets") == sorted(changed)
    assert fleet.there() == set(CLUSTERS)
    assert {one["outcome"] for one in job_outcomes([str(one.artifacts) for one in (*first.jobs, again)], CLUSTERS)} == {"done"}


def unfinished(fleet: Fleet, jobs: tuple[Job, ...]) -> tuple[str, list[str]]:
    """What the playbook says, and the limit that it writes."""
    inventory, limit = fleet.directory / "all.yml", fleet.directory / "left.txt"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {name: {} for name in CLUSTERS}}}))
    given = {"unfinished_jobs": [str(one.artifacts) for one in jobs], "unfinished_limit": str(limit)}
    command = ["ansible-playbook", "-i", str(inventory), "meshops.istio.unfinished", "-e", json.dumps(given)]
    done = subprocess.run(command, env=fleet.environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, limit.read_text().split()
