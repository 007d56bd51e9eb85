# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proving: asked until the answers are right, each credential by itself, and what is stuck is sent once more."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ApiError
from ansible_collections.meshops.istio.plugins.module_utils.istio.proxy import Source
from ansible_collections.meshops.istio.plugins.module_utils.istio.rotation_plan import State
from ansible_collections.meshops.istio.plugins.module_utils.istio.served import Served
from ansible_collections.meshops.istio.plugins.module_utils.live.presented import asked_for
from ansible_collections.meshops.istio.plugins.module_utils.live.request import Request, Result
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import POD
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.plugins.module_utils.rotation.proof import Prover, Target, endpoints_of
from ansible_collections.meshops.istio.plugins.module_utils.rotation.targets import Address, as_far_as_allowed, read_address, way_problems
from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import Pki

PKI = Pki()
OLD, NEW = (State((PKI.issue("a.example.com", key=f"P-256#{name}").certificate,)) for name in ("old", "new"))
NOW = datetime(2026, 11, 27, tzinfo=UTC)


class World:
    """A clock, and gateways that present what they are told to."""

    def __init__(self, served: Callable[[str, float], str | None]) -> None:
        self.time, self.served, self.asked = 100.0, served, list[str]()

    def shake(self, request: Request) -> Result:
        self.asked.append(request.host)
        found = self.served(request.host, self.time - 100)
        if found is None:
            return Result("tcp", 443, failure="connection_refused")
        return Result("tls", 443, peer_chain=({"fingerprint_sha256": found},))

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def prover(self, **more: float) -> Prover:
        return Prover(list, now=lambda: NOW, shake=self.shake, clock=lambda: self.time, sleep=self.sleep, timeout=more.get("timeout", 10.0))


def target(name: str = "c", *hosts: str, wanted: State = NEW) -> Target:
    server = Served("Gateway", "n", "g", 443, hosts or (f"{name}.example.com",), (), True)
    found = Target(("n", name), wanted, endpoints_of(("n", name), [server], wanted, lambda one: [("192.0.2.1", one.port)]), proxies=False)
    found.since = 100.0
    return found


def test_it_is_asked_until_it_is_right_several_times_in_a_row() -> None:
    world = World(lambda host, after: NEW.fingerprint if after >= 1 else OLD.fingerprint)
    one = target()
    assert world.prover().prove([one]) == []
    assert one.proven_after is not None and 1 <= one.proven_after < 3
    assert world.asked[-3:] == ["c.example.com"] * 3


def test_what_is_not_proven_says_what_is_served() -> None:
    world = World(lambda host, after: OLD.fingerprint)
    (one,) = world.prover().prove([target()])
    assert one.lacks == [f"c.example.com at 192.0.2.1:443 still presents {OLD.fingerprint}"]
    world = World(lambda host, after: None)
    (one,) = world.prover().prove([target()])
    assert one.lacks == ["c.example.com at 192.0.2.1:443: no certificate (connection_refused)"]


def test_one_does_not_wait_for_another() -> None:
    world = World(lambda host, after: NEW.fingerprint if host.startswith("good") else OLD.fingerprint)
    good, bad = target("good"), target("bad")
    assert world.prover().prove([good, bad]) == [bad]
    assert good.proven_after is not None and good.proven_after < 1.0


def test_what_is_stuck_is_sent_once_more_and_then_proven() -> None:
    touched: list[float] = []
    world = World(lambda host, after: NEW.fingerprint if touched else OLD.fingerprint)

    def touch(key: tuple[str, str]) -> bool:
        touched.append(world.time - 100)
        return True

    one = target()
    assert world.prover().prove([one], touch) == []
    assert len(touched) == 1 and touched[0] >= 3
    assert one.touched == 1


def test_proxies_are_asked_when_handshakes_show_it_and_else_once_a_second() -> None:
    """Reading a proxy is dear; what it held before the push arrived is of no interest."""
    asked: list[float] = []
    world = World(lambda host, after: NEW.fingerprint if after >= 0.3 else OLD.fingerprint)

    def sources() -> list[Source]:
        asked.append(round(world.time - 100, 2))
        return []

    prover = Prover(sources, now=lambda: NOW, shake=world.shake, clock=lambda: world.time, sleep=world.sleep, timeout=10.0)
    one = replace(target(), proxies=True, since=100.0)
    assert prover.prove([one]) == [] and asked == [0.35]
    never = World(lambda host, after: OLD.fingerprint)
    asked.clear()
    world = never
    prover = Prover(sources, now=lambda: NOW, shake=never.shake, clock=lambda: never.time, sleep=never.sleep, timeout=3.0)
    assert prover.prove([replace(target(), proxies=True, since=100.0)])
    assert len(asked) in (3, 4)


def test_a_proxy_is_read_as_a_whole_before_and_then_only_its_secrets() -> None:
    """As a whole again now and then, where it does not hold what it should: what it is configured with may have changed."""
    recorded = json.loads((Path(__file__).parents[1] / "istio" / "data" / "proxy_ingress.json").read_text())
    read: list[str] = []

    def page(path: str) -> bytes:
        name, __, query = path.partition("?")
        read.append("secrets" if query.startswith("resource=") else name)
        found = recorded[name]
        if query.startswith("resource="):
            entries = [one["dynamic_active_secrets"] for one in found["configs"] if one["@type"].endswith("SecretsConfigDump")]
            return json.dumps({"configs": entries[0]}).encode()
        return (found if isinstance(found, str) else json.dumps(found)).encode()

    world = World(lambda host, after: NEW.fingerprint)
    prover = Prover(
        lambda: [Source("p", page)], now=lambda: NOW, shake=world.shake, clock=lambda: world.time, sleep=world.sleep, timeout=7.0
    )
    assert [look.source.name for look in prover.look_before()] == ["p"] and sorted(read) == ["certs", "config_dump", "server_info", "stats"]
    read.clear()
    (one,) = prover.prove([replace(target("recorded-good"), proxies=True)])
    assert len(one.lacks) == 1 and f"with fingerprint {NEW.fingerprint}" in one.lacks[0]
    assert sorted(read[:2]) == ["certs", "secrets"] and read.count("config_dump") == read.count("stats") == 2


def test_nothing_is_sent_again_as_long_as_others_come() -> None:
    """On a slow machine it takes more than the patience for one until all have come."""
    world = World(lambda host, after: NEW.fingerprint if after >= float(host[1]) else OLD.fingerprint)

    def touch(key: tuple[str, str]) -> bool:
        raise AssertionError("it was on its way")

    assert world.prover().prove([target(f"t{number}") for number in range(0, 9, 2)], touch) == []


def test_what_was_held_up_knows_whose_refusal_it_was() -> None:
    """`bad` is never taken; `good` comes when it is sent by itself."""
    sent: list[str] = []

    def touch(key: tuple[str, str]) -> bool:
        sent.append(key[1])
        return True

    world = World(
        lambda host, after: NEW.fingerprint if host.startswith("quick") or (host.startswith("good") and "good" in sent) else OLD.fingerprint
    )
    bad, good, quick = target("bad"), target("good"), target("quick")
    assert world.prover().prove([bad, good, quick], touch) == [bad]
    assert (bad.held_up_by, good.held_up_by, quick.held_up_by) == ([], [("n", "bad")], [])
    assert sent.count("good") == 1


def test_what_is_not_reached_before_is_not_required_afterwards() -> None:
    world = World(lambda host, after: None if host.startswith("gone") else OLD.fingerprint)
    gone, there = target("gone"), target("there")
    shakes, (doubt,) = world.prover().doubts_before([gone, there])
    assert len(shakes) == 2 and (doubt.code, doubt.where, doubt.severity) == ("unreachable_before", "credential n/gone", "warning")
    assert [one.required for one in (*gone.endpoints, *there.endpoints)] == [False, True]


def test_what_is_not_reached_is_not_sent_again() -> None:
    world = World(lambda host, after: None)

    def touch(key: tuple[str, str]) -> bool:
        raise AssertionError("the Secret is not at fault")

    assert world.prover().prove([target()], touch)


@pytest.mark.parametrize(("flapping", "proven"), [((True, False), False), ((True,), True)])
def test_a_replica_that_stays_old_is_found_by_several_in_a_row(flapping: tuple[bool, ...], proven: bool) -> None:
    world = World(lambda host, after: NEW.fingerprint if flapping[len(world.asked) % len(flapping)] else OLD.fingerprint)
    assert (world.prover().prove([target()]) == []) is proven


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("a.example.com", "a.example.com"),
        ("*.example.com", "meshops-probe.example.com"),
        ("*", "a.example.com"),
    ],
)
def test_a_name_for_every_host(host: str, asked: str) -> None:
    assert asked_for(host, NEW.chain[0].dns_names) == asked


def test_a_way_is_asked_once_however_many_servers_have_it() -> None:
    servers = [Served("Gateway", "n", name, 443, ("a.example.com",), (), True) for name in ("g", "h")]
    assert len(endpoints_of(("n", "c"), servers, NEW, lambda one: [("192.0.2.1", 443), ("192.0.2.2", 443)])) == 2


def test_a_server_that_chooses_between_several_need_not_present_it() -> None:
    server = Served("Gateway", "n", "g", 443, ("a.example.com",), (), True, alternatives=2)
    assert [one.required for one in endpoints_of(("n", "c"), [server], NEW, lambda one: [("192.0.2.1", 443)])] == [False]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.7", Address("203.0.113.7")),
        ("203.0.113.7:8443", Address("203.0.113.7", 8443)),
        ("gw.example.com:1", Address("gw.example.com", 1)),
        ("[2001:db8::1]:443", Address("2001:db8::1", 443)),
        ("[2001:db8::1]", Address("2001:db8::1")),
        ("2001:db8::1", Address("2001:db8::1")),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert read_address(text, "addresses[0]") == expected


@pytest.mark.parametrize("there", ["x", "-1", "123456", 1.5, None])
def test_what_is_no_port(there: object) -> None:
    given = {"admin_urls": [], "ports": {"443": there}, "request_timeout": 1.0}
    assert [(problem.code, problem.where) for problem in way_problems(given)] == [("invalid_request", "ports")]
    assert way_problems({**given, "ports": {443: "30443"}}) == []


@pytest.mark.parametrize("text", ["", "https://x", "x:y", "x:70000", "a/b", "x:"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(Rejected, match=r"addresses\[0\]"):
        read_address(text, "addresses[0]")


@pytest.mark.parametrize(("status", "raised"), [(403, False), (401, True)])
def test_proxies_that_this_user_may_not_ask_are_no_judges(status: int, raised: bool) -> None:
    """With rights on Secrets alone a rotation is proven by handshakes; a login that is refused is another matter."""

    message = {
        "message": 'pods "gateway" is forbidden: User "u" cannot get resource "pods/exec" in API group "" in the namespace "istio-system"'
    }

    def page(__: str) -> bytes:
        raise ApiError(status, "get", POD, "istio-system", "gateway", message, "https://api")

    prover = Prover(lambda: [as_far_as_allowed(Source("Pod istio-system/gateway", page))])
    if raised:
        with pytest.raises(ApiError):
            prover.look_before()
        return
    assert prover.look_before() == []
    assert list(prover.silent) == ["Pod istio-system/gateway"] and "may not get pods" in prover.silent["Pod istio-system/gateway"]
