# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs at once on the same objects. A proxy before the API server lets their writes through in a stated order, after both have read.

Nobody's work is undone unseen: the later run finds its own wish fulfilled, or says who was faster and leaves the object as it is.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import Mesh, Pair
from .faultproxy import Fault, FaultProxy, Request, Wait, fault_proxy
from .process import Finished, Running, run

CREDENTIAL = "istio_tls_credential"
Issue = Callable[..., Pair]
OVERTAKEN = "during this run. Nothing was overwritten; run again"
DELETED = "was deleted by something else during this run. It was not made again; run again"


@dataclass
class Race:
    """Two modules, each behind a proxy of its own. Nothing is written before both want to write; then writes go in the order of `turns`,
    for example `abab`; a run that has ended is passed over."""

    proxies: dict[str, FaultProxy]
    login: dict[str, str]
    running: dict[str, Running] = field(default_factory=dict)
    turns: str = ""
    taken: int = 0
    ready: set[str] = field(default_factory=set)
    between: Callable[[], None] | None = None
    """Called once, before the first write goes through."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def arguments(self, who: str, **more: Any) -> dict[str, Any]:
        proxy = self.proxies[who]
        return {"host": proxy.url, "ca_cert": str(proxy.ca_path), "api_key": self.login["api_key"], **more}

    def _has_ended(self, who: str) -> bool:
        return who not in self.running or self.running[who].has_ended

    def _is_turn(self, who: str) -> bool:
        with self.lock:
            if not all(one in self.ready or self._has_ended(one) for one in set(self.turns)):
                return False
            if self.between:
                self.between()
                self.between = None
            while self.taken < len(self.turns) and self.turns[self.taken] != who and self._has_ended(self.turns[self.taken]):
                self.taken += 1
            return self.taken >= len(self.turns) or self.turns[self.taken] == who

    def decide(self, who: str) -> Callable[[Request], Fault]:
        def wait() -> None:
            self.ready.add(who)
            deadline = time.monotonic() + 60
            while not self._is_turn(who) and time.monotonic() < deadline:
                time.sleep(0.01)

        def done() -> None:
            with self.lock:
                self.taken += 1

        return lambda request: Wait(until=wait, then=done) if request.is_write else None

    def run(self, module: str, a: dict[str, Any], b: dict[str, Any], turns: str) -> tuple[Finished, Finished]:
        self.turns, self.taken, self.ready = turns, 0, set()
        for who in "ab":
            self.proxies[who].reset(self.decide(who))
        self.running = {who: Running(module, self.arguments(who, **given)) for who, given in (("a", a), ("b", b)) if who in turns}
        found = {who: running.finish() for who, running in self.running.items()}
        return found["a"], found.get("b", found["a"])


@pytest.fixture
def login(mesh: Mesh, tmp_path: Path) -> dict[str, str]:
    """The administrator's, as a module's arguments."""
    config = yaml.safe_load(Path(mesh.environment["KUBECONFIG"]).read_text())
    cluster = config["clusters"][0]["cluster"]
    ca = tmp_path / "api-ca.crt"
    ca.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    return {"host": cluster["server"], "ca_cert": str(ca), "api_key": config["users"][0]["user"]["token"]}


@pytest.fixture
def race(login: dict[str, str], tmp_path: Path) -> Iterator[Race]:
    with contextlib.ExitStack() as stack:
        proxies = {}
        for who in "ab":
            directory = tmp_path / who
            directory.mkdir()
            proxies[who] = stack.enter_context(fault_proxy(login["host"], login["ca_cert"], directory))
        yield Race(proxies, login)


def secret(mesh: Mesh, namespace: str, name: str) -> dict[str, str]:
    found = mesh.get("secret", namespace, name)
    return {key: base64.b64decode(value).decode() for key, value in ((found or {}).get("data") or {}).items()}


def holds(mesh: Mesh, namespace: str, name: str, pair: Pair) -> bool:
    data = secret(mesh, namespace, name)
    found = [data.get(one) or data.get(other) or "" for one, other in (("tls.crt", "cert"), ("tls.key", "key"))]
    return [text.split() for text in found] == [pair.certificate.split(), pair.private_key.split()]


def wanted(pair: Pair, namespace: str, **more: Any) -> dict[str, Any]:
    return {"name": "raced", "namespace": namespace, "certificate": pair.certificate, "private_key": pair.private_key, **more}


def assert_overtaken(loser: Finished, name: str, manager: str = "meshops.istio") -> None:
    loser.fails()
    assert f"/{name} was changed by field manager {manager} at 20" in loser.message
    assert OVERTAKEN in loser.message
    assert name not in loser.named("applied") and name in loser.named("failures")


# --- credentials


@pytest.mark.parametrize("exists", [False, True], ids=["created", "updated"])
def test_who_wants_the_same_succeeds_twice(
    mesh: Mesh, namespace: str, issue: Issue, race: Race, login: dict[str, str], exists: bool
) -> None:
    old, new = issue(), issue()
    if exists:
        run(CREDENTIAL, {**login, **wanted(old, namespace)}).ok()
    first, second = race.run(CREDENTIAL, wanted(new, namespace), wanted(new, namespace), "ab")
    first.ok()
    second.ok()
    assert holds(mesh, namespace, "raced", new)
    assert not run(CREDENTIAL, {**login, **wanted(new, namespace)}).ok().result["changed"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("exists", [False, True], ids=["created", "updated"])
def test_who_wants_something_else_and_comes_later_is_told(
    mesh: Mesh, namespace: str, issue: Issue, race: Race, login: dict[str, str], exists: bool, force: bool
) -> None:
    """`force_conflicts` is about other field managers, not about racing with oneself."""
    old, new, other = issue(), issue(), issue()
    if exists:
        run(CREDENTIAL, {**login, **wanted(old, namespace)}).ok()
    first, second = race.run(CREDENTIAL, wanted(new, namespace), wanted(other, namespace, force_conflicts=force), "ab")
    first.ok()
    assert_overtaken(second, "raced")
    assert holds(mesh, namespace, "raced", new), "the faster one's work stands"
    run(CREDENTIAL, {**login, **wanted(other, namespace)}).ok()
    assert holds(mesh, namespace, "raced", other)


ORDERS = ["".join(order) for order in sorted(set(itertools.permutations("aabb")))]


@pytest.mark.parametrize("turns", ORDERS)
def test_a_split_credential_is_never_made_of_two_runs(
    mesh: Mesh, namespace: str, issue: Issue, race: Race, login: dict[str, str], turns: str
) -> None:
    """Whichever way the four writes interleave, the pair and the client CA are of one and the same run."""
    old, new, other = issue(ca="old"), issue(ca="new"), issue(ca="other")
    run(CREDENTIAL, {**login, **wanted(old, namespace, layout="split", ca_certificate=old.ca)}).ok()
    asked = {"a": new, "b": other}
    arguments = [wanted(pair, namespace, layout="split", ca_certificate=pair.ca) for pair in asked.values()]
    finished = dict(zip("ab", race.run(CREDENTIAL, *arguments, turns), strict=True))
    winner, loser = ("a", "b") if turns[0] == "a" else ("b", "a")
    finished[winner].ok()
    assert_overtaken(finished[loser], "raced-cacert")
    assert not finished[loser].named("applied") and finished[loser].named("not_tried") == {"raced"}
    assert holds(mesh, namespace, "raced", asked[winner])
    assert secret(mesh, namespace, "raced-cacert")["cacert"].split() == asked[winner].ca.split()


@pytest.mark.parametrize("turns", ORDERS)
def test_one_run_keeps_the_ca_apart_and_another_drops_it(
    mesh: Mesh, namespace: str, issue: Issue, race: Race, login: dict[str, str], turns: str
) -> None:
    """One begins with the CA and the other ends with it: also here what stands at the end is one run's, or the other is told."""
    old, new, other = issue(ca="old"), issue(ca="new"), issue(ca="other")
    run(CREDENTIAL, {**login, **wanted(old, namespace, layout="split", ca_certificate=old.ca)}).ok()
    a, b = race.run(CREDENTIAL, wanted(new, namespace, layout="split", ca_certificate=new.ca), wanted(other, namespace), turns)
    won = [finished for finished in (a, b) if not finished.failed]
    ca = secret(mesh, namespace, "raced-cacert")
    assert len(won) == 1, "one of them finishes, the other is told"
    loser = (b if won[0] is a else a).fails()
    assert OVERTAKEN in loser.message or DELETED in loser.message
    if won[0] is a:
        assert holds(mesh, namespace, "raced", new) and ca["cacert"].split() == new.ca.split()
    else:
        assert holds(mesh, namespace, "raced", other) and not ca


def test_a_change_that_is_nobody_s_concern_is_no_reason_to_fail(
    mesh: Mesh, namespace: str, issue: Issue, race: Race, login: dict[str, str]
) -> None:
    old, new = issue(), issue()
    run(CREDENTIAL, {**login, **wanted(old, namespace)}).ok()
    race.between = lambda: void(mesh.kubectl("label", "secret", "raced", "-n", namespace, "team=blue"))
    race.run(CREDENTIAL, wanted(new, namespace), {}, "a")[0].ok()
    assert holds(mesh, namespace, "raced", new)
    assert (mesh.get("secret", namespace, "raced") or {})["metadata"]["labels"]["team"] == "blue"


def void(__: Any) -> None:
    return None


@pytest.mark.parametrize("what", ["deleted", "made anew", "given another key"])
def test_what_others_do_meanwhile_is_seen(
    mesh: Mesh, namespace: str, issue: Issue, race: Race, login: dict[str, str], what: str, tmp_path: Path
) -> None:
    old, new, other = issue(), issue(), issue()
    run(CREDENTIAL, {**login, **wanted(old, namespace)}).ok()

    def meddle() -> None:
        if what == "given another key":
            data = base64.b64encode(other.certificate.encode()).decode()
            mesh.kubectl("patch", "secret", "raced", "-n", namespace, "-p", f'{{"data":{{"cert":"{data}"}}}}', "--field-manager=someone")
            return
        mesh.kubectl("delete", "secret", "raced", "-n", namespace)
        if what == "made anew":
            mesh.kubectl(
                *("create", "secret", "tls", "raced", "-n", namespace, "--field-manager=someone"),
                f"--cert={other.certificate_path}",
                f"--key={other.private_key_path}",
            )

    race.between = meddle
    finished = race.run(CREDENTIAL, wanted(new, namespace), {}, "a")[0].fails()
    if what == "deleted":
        assert f"Secret {namespace}/raced {DELETED}" in finished.message
        assert mesh.get("secret", namespace, "raced") is None, "nobody brought it back"
    elif what == "made anew":
        assert "data.tls.crt (managed by someone), data.tls.key (managed by someone); set force_conflicts" in finished.message
        assert holds(mesh, namespace, "raced", other)
    else:
        assert_overtaken(finished, "raced", "someone")
        assert not holds(mesh, namespace, "raced", new)


def test_deleting_does_not_hit_what_was_made_anew(mesh: Mesh, namespace: str, issue: Issue, race: Race, login: dict[str, str]) -> None:
    old, new = issue(), issue()
    run(CREDENTIAL, {**login, **wanted(old, namespace)}).ok()

    def meddle() -> None:
        run(CREDENTIAL, {**login, "name": "raced", "namespace": namespace, "state": "absent"}).ok()
        run(CREDENTIAL, {**login, **wanted(new, namespace)}).ok()

    race.between = meddle
    finished = race.run(CREDENTIAL, {"name": "raced", "namespace": namespace, "state": "absent"}, {}, "a")[0]
    assert_overtaken(finished, "raced")
    assert holds(mesh, namespace, "raced", new)


def test_two_playbooks_of_fifty_credentials(mesh: Mesh, namespace: str, issue: Issue) -> None:
    """Two hosts of one play, which are the same cluster: both end well, and every Secret was written once."""
    pairs = [issue(f"host-{number}.example.com") for number in range(5)]
    listed = [{"name": f"c{number}", **pairs[number % 5].paths} for number in range(50)]
    inventory = mesh.scratch / "twins.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"one": None, "two": None}, "vars": {"ansible_connection": "local"}}}))
    task = {"meshops.istio.istio_tls_credential": {"namespace": namespace, "credentials": listed, "details": "changed"}}
    done = mesh.playbook([task], "-i", str(inventory), "--forks", "2", login="admin").ok()
    assert len(done.results()) == 2 and done.failed == []
    for item in yaml.safe_load(mesh.kubectl("get", "secrets", "-n", namespace, "-o", "yaml", "--show-managed-fields"))["items"]:
        assert len(item["metadata"]["managedFields"]) == 1
    assert len(mesh.kubectl("get", "secrets", "-n", namespace, "-o", "name").split()) == 50


# --- gateways


def gateway(namespace: str, *hosts: str, **more: Any) -> dict[str, Any]:
    servers = [
        {
            "hosts": [host],
            "credential_name": f"{host.partition('.')[0]}-credential",
            "routes": [{"destination": {"host": "httpbin.default.svc.cluster.local", "port": 8000}}],
        }
        for host in hosts
    ]
    return {"name": "raced", "namespace": namespace, "selector": {"istio": "none"}, "servers": servers, **more}


def served(mesh: Mesh, namespace: str) -> tuple[list[str], list[str]]:
    """The Gateway's hosts, and those that are routed."""
    found = mesh.get("gateways.networking.istio.io", namespace, "raced")
    hosts = [host for server in (found or {"spec": {"servers": []}})["spec"]["servers"] for host in server["hosts"]]
    routes = yaml.safe_load(mesh.kubectl("get", "virtualservices.networking.istio.io", "-n", namespace, "-o", "yaml"))["items"]
    return sorted(hosts), sorted(host for route in routes for host in route["spec"]["hosts"])


@pytest.mark.parametrize("turns", ["aabb", "abab"])
def test_two_runs_of_one_gateway_that_want_the_same(mesh: Mesh, namespace: str, race: Race, turns: str) -> None:
    same = gateway(namespace, "a.example.com")
    first, second = race.run("ingress_tls_gateway", same, same, turns)
    first.ok()
    second.ok()
    assert served(mesh, namespace) == (["a.example.com"], ["a.example.com"])


@pytest.mark.parametrize("turns", ["aaabbb", "ababab", "abbaab"])
@pytest.mark.parametrize("exists", [False, True], ids=["created", "updated"])
def test_two_runs_of_one_gateway_that_want_different_hosts(
    mesh: Mesh, namespace: str, race: Race, login: dict[str, str], turns: str, exists: bool
) -> None:
    """The Gateway is one object, so the second to write it is told; no host that is served ever lacks its route."""
    if exists:
        run("ingress_tls_gateway", {**login, **gateway(namespace, "old.example.com")}).ok()
    asked = {"a": gateway(namespace, "a.example.com"), "b": gateway(namespace, "b.example.com")}
    found = dict(zip("ab", race.run("ingress_tls_gateway", asked["a"], asked["b"], turns), strict=True))
    winner, loser = ("a", "b") if not found["a"].failed else ("b", "a")
    found[winner].ok()
    assert_overtaken(found[loser], "raced")
    hosts, routed = served(mesh, namespace)
    assert hosts == [f"{winner}.example.com"] and set(hosts) <= set(routed)
    run("ingress_tls_gateway", {**login, **asked[loser]}).ok()
    assert served(mesh, namespace) == ([f"{loser}.example.com"], [f"{loser}.example.com"])
