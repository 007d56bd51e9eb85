# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proof that a credential is served: fresh handshakes at every way in, and what each gateway proxy holds.

Time proves nothing: istiod sends within 100 ms or, where Envoy refused something beside it, never. So it is asked until the answers are right, and
what is stuck is sent once more by a harmless change of its own Secret, which is what frees it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

from ..istio.names import CA_SUFFIX
from ..istio.proxy import Look, Source
from ..istio.proxy_expect import Expected, ExpectedCredential, judge, plain_fingerprint
from ..istio.rotation_plan import State
from ..istio.served import Served
from ..live.envoy import look_at
from ..live.presented import Ask, asked_for, asker, presented
from ..problems import Problem
from ..progress import tell
from ..tls.facts import rfc3339
from ..wait import growing, until

_HANDSHAKES = 16
"""Side by side."""
_FIRST_PAUSE = 0.05
_PAUSE = 0.2
_BETWEEN_LOOKS = 1.0
"""Seconds between two readings of what all proxies hold: of one with hundreds of credentials it is a megabyte."""
_BETWEEN_WHOLE_LOOKS = 5.0
"""Seconds between two readings of all that they are configured with, where these do not hold what they should."""
_PATIENCE = 3.0
"""Seconds after which what has not come is sent once more, while nothing else of the wave comes either; a push takes a tenth of it."""
_BETWEEN_TOUCHES = 0.3
"""Seconds between two of these, so that each travels by itself: istiod collects what changes within 0.1 s."""

_T = TypeVar("_T")
Key: TypeAlias = tuple[str, str]
"""(namespace, name) of a credential."""


@dataclass(frozen=True)
class Endpoint:
    """One way to one host."""

    key: Key
    host: str
    """Sent as SNI; a name or an address."""
    address: str
    port: int
    required: bool = True
    """Whether it must present the certificate; not where the server chooses between several."""
    reached: bool = True
    """Whether anything answered there before."""

    def __str__(self) -> str:
        return f"{self.host} at {self.address}:{self.port}"


@dataclass(frozen=True)
class Shake:
    """What came of a handshake."""

    endpoint: Endpoint
    at: datetime
    served: str | None
    """Fingerprint of the served certificate."""
    failure: str | None
    unreachable: bool

    def as_result(self) -> dict[str, Any]:
        one = self.endpoint
        place = {"host": one.host, "address": one.address, "port": one.port}
        return {"at": rfc3339(self.at), **place, "served": self.served, "failure": None if self.served else self.failure}


@dataclass
class Target:
    """What has to be proven of one credential."""

    key: Key
    wanted: State
    endpoints: list[Endpoint] = field(default_factory=list)
    proxies: bool = True
    """Whether proxies that refer to it must hold it."""
    since: float = 0.0
    """When it was written (monotonic)."""
    # what has been found out
    last: dict[Endpoint, Shake] = field(default_factory=dict)
    shown: set[Endpoint] = field(default_factory=set)
    """Ways at which it was presented several times in a row."""
    lacks: list[str] = field(default_factory=list)
    stuck: bool = False
    """Whether something that is reached serves or holds another state."""
    proven_by: list[str] = field(default_factory=list)
    """Proxies that hold it."""
    proven_after: float | None = None
    """Seconds from the write to the proof."""
    touched: int = 0
    touched_at: float = 0.0
    held_up_by: list[Key] = field(default_factory=list)
    """Credentials that were refused beside it, where it came only after it was sent once more."""

    @property
    def name(self) -> str:
        return self.key[1]

    def as_result(self) -> dict[str, Any]:
        """What was found out: handshakes, the proxies that hold it, seconds from the write to the proof."""
        return {
            "handshakes": [shake.as_result() for shake in self.last.values()],
            "proxies": self.proven_by,
            "seconds": None if self.proven_after is None else round(self.proven_after, 3),
            "sent_again": self.touched,
            "held_up_by": ["/".join(each) for each in self.held_up_by],
        }


Touch: TypeAlias = "Callable[[Key], bool]"
"""Has a credential's Secret sent once more; False where somebody else has changed it."""


@dataclass
class Prover:
    """Proves targets together; a proof of one never waits for another's."""

    sources: Callable[[], list[Source]]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    consecutive: int = 3
    timeout: float = 60.0
    handshake_timeout: float = 5.0
    shake: Ask = field(default_factory=asker)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    looks: list[Look] = field(default_factory=list)
    """The last reading of the proxies."""
    silent: dict[str, str] = field(default_factory=dict)
    """Proxies that did not answer before the rotation, and why: they are no judges of it."""

    def look_before(self) -> list[Look]:
        """Reads the proxies; those that do not answer are no judges. The ones that do."""
        self._look(whole=True)
        self.silent = {look.source.name: look.error for look in self.looks if look.error}
        return self.answering()

    def answering(self) -> list[Look]:
        """The last reading, without what did not answer."""
        return [look for look in self.looks if not look.error]

    def _look(self, *, whole: bool) -> None:
        """Whole: also what they are configured with, and not only what they hold."""
        known = {} if whole else {look.source.name: look.proxy for look in self.looks if look.proxy}
        sources = [source for source in self.sources() if source.name not in self.silent]
        self.looks = look_at(sources, self.now(), known)

    def prove(self, targets: Sequence[Target], touch: Touch | None = None) -> list[Target]:
        """Asks until all of them are proven or the time is over; those that are not, with what they lack."""
        pending = list(targets)
        started = looked = wholly = moved = self.clock()

        def once() -> bool:
            nonlocal pending, looked, wholly, moved
            moved = self.clock() if self._try_endpoints(pending) else moved
            fresh = not any(target.proxies for target in pending)
            now = self.clock()
            last = now + _PAUSE >= started + self.timeout
            if not fresh and (last or now - looked >= _BETWEEN_LOOKS or not any(map(self._unproven, pending))):  # or only proxies are left
                whole = last or now - wholly >= _BETWEEN_WHOLE_LOOKS
                self._look(whole=whole)
                looked, fresh = self.clock(), True
                wholly = looked if whole else wholly
            for target in pending:
                target.stuck = _serves_another(target)
                target.lacks = [*self._unproven(target), *self._held_otherwise(target)] if fresh else target.lacks or ["not looked at yet"]
                if fresh and not target.lacks:
                    target.proven_after = self.clock() - target.since
            left = [target for target in pending if target.proven_after is None]
            moved = self.clock() if len(left) < len(pending) else moved
            pending = left
            tell("credentials of this wave proven", len(targets) - len(pending), len(targets))
            if touch and not last:
                self._free(pending, touch, moved)
            return not pending

        until(once, timeout=self.timeout, delay=growing(_FIRST_PAUSE, _PAUSE), clock=self.clock, sleep=self.sleep)
        # what is not taken though it was sent by itself is refused for its own sake
        refused = [target.key for target in pending if target.touched]
        for target in targets:
            target.held_up_by = refused if target.touched and target.proven_after is not None else []
        return pending

    def doubts_before(self, targets: Iterable[Target]) -> tuple[list[Shake], list[Problem]]:
        """One handshake with every endpoint; those that are not reached are not asked afterwards, and told."""
        targets = list(targets)
        shakes = _side_by_side(self._once, [(endpoint,) for target in targets for endpoint in target.endpoints])
        found, by_key = [], dict[Key, list[Shake]]()
        for shake in shakes:
            by_key.setdefault(shake.endpoint.key, []).append(shake)
        for target in targets:
            own = by_key.get(target.key, [])
            unreached = {shake.endpoint: shake for shake in own if shake.unreachable}
            if not unreached:
                continue
            target.endpoints = [replace(each, required=False, reached=False) if each in unreached else each for each in target.endpoints]
            shown = "; ".join(f"{each} ({shake.failure})" for each, shake in list(unreached.items())[:3])
            found.append(
                Problem(
                    "unreachable_before",
                    f"credential {'/'.join(target.key)}",
                    f"{len(unreached)} of its {len(own)} ways in were not reached before: {shown}",
                    "look at the gateway's Service and its address, or name the addresses that count with addresses",
                    "warning",
                )
            )
        return shakes, found

    def _try_endpoints(self, targets: Sequence[Target]) -> bool:
        """Several handshakes in a row with each, as long as they are good; whether any way was shown to be."""
        waiting = [(target, one) for target in targets for one in target.endpoints if one.reached and one not in target.shown]
        good = 0

        def in_a_row(target: Target, endpoint: Endpoint) -> tuple[Shake, bool]:
            for __ in range(self.consecutive):
                shake = self._once(endpoint)
                if shake.served is None or shake.served != target.wanted.fingerprint:
                    return shake, False
            return shake, True

        for (target, one), (shake, shown) in zip(waiting, _side_by_side(in_a_row, waiting), strict=True):
            target.last[one] = shake
            if shown:
                target.shown.add(one)
                good += 1
        return good > 0

    def _once(self, endpoint: Endpoint) -> Shake:
        found = presented(endpoint.host, endpoint.address, endpoint.port, timeout=self.handshake_timeout, ask=self.shake)
        return Shake(endpoint, self.now(), found.fingerprint, found.failure, not found.reached)

    def _unproven(self, target: Target) -> list[str]:
        """What handshakes do not show."""
        found = []
        for one in target.endpoints:
            if one in target.shown or not one.required:
                continue
            shake = target.last[one]
            found.append(f"{one} still presents {shake.served}" if shake.served else f"{one}: no certificate ({shake.failure})")
        return found

    def _held_otherwise(self, target: Target) -> list[str]:
        """What proxies hold instead."""
        if not target.proxies:
            return []
        found, target.proven_by = [], []
        expected = _expected(target)
        for look in self.looks:
            if look.error:
                found.append(look.error)
            elif look.proxy and _refers(look, target.name):
                lacks = [*judge(look.proxy, expected), *(_ca_lacks(look, target) if target.wanted.cas else [])]
                found += [f"{look.source.name}: {lack}" for lack in lacks]
                target.stuck = target.stuck or bool(lacks)
                target.proven_by += [] if lacks else [look.source.name]
        return found

    def _free(self, pending: Sequence[Target], touch: Touch, moved: float) -> None:
        """Sends what is stuck once more, one by one: freeing is what a change of its own Secret does, and nothing else. `moved`: when another one
        came last; as long as they come, istiod and Envoy are merely slow."""
        for target in pending:
            if not target.stuck or self.clock() - max(target.since, target.touched_at, moved) < _PATIENCE * (1 + target.touched):
                continue
            if touch(target.key):
                target.touched += 1
                self.sleep(_BETWEEN_TOUCHES)
            target.touched_at = self.clock()


def holders(looks: Iterable[Look], fingerprint: str) -> list[tuple[str, str]]:
    """(proxy, credential) of whatever holds a certificate as its own."""
    plain = plain_fingerprint(fingerprint)
    return [
        (look.source.name, secret.name)
        for look in looks
        for secret in (look.proxy.secrets if look.proxy else ())
        if secret.kind == "certificate"
        and any(plain_fingerprint(str(one["fingerprint_sha256"])) == plain for one in secret.certificates[:1])
    ]


def _expected(target: Target) -> Expected:
    wanted = target.wanted
    fingerprints = (wanted.fingerprint,) if wanted.fingerprint else ()
    return Expected((ExpectedCredential(target.name, fingerprints),)) if fingerprints else Expected()


def _refers(look: Look, name: str) -> bool:
    """Whether a proxy is configured with the credential, or has asked for it since it was read as a whole."""
    proxy = look.proxy
    return bool(proxy and (proxy.refers_to(name) or any(map(proxy.secrets_of, (name, name + CA_SUFFIX)))))


def _side_by_side(ask: Callable[..., _T], arguments: Sequence[tuple[Any, ...]]) -> list[_T]:
    if not arguments:
        return []
    with ThreadPoolExecutor(min(_HANDSHAKES, len(arguments))) as threads:
        return list(threads.map(lambda given: ask(*given), arguments))


def _serves_another(target: Target) -> bool:
    """Whether a gateway that is reached presents another state, or none at all."""
    shakes = [target.last[one] for one in target.endpoints if one in target.last]
    return any(not shake.unreachable and shake.served != target.wanted.fingerprint for shake in shakes)


def endpoints_of(key: Key, servers: Iterable[Served], wanted: State, places: Callable[[Served], list[tuple[str, int]]]) -> list[Endpoint]:
    """Every way to every host that is served with a credential."""
    if not wanted.chain:
        return []
    names = [*wanted.chain[0].dns_names, *map(str, wanted.chain[0].ip_addresses)]
    found: dict[tuple[str, str, int], Endpoint] = {}
    for server in servers:
        if not server.pair:
            continue
        for address, port in places(server):
            for host in dict.fromkeys(asked_for(host, names) or "meshops-probe.invalid" for host in server.hosts if host):
                found.setdefault((host, address, port), Endpoint(key, host, address, port, server.alternatives == 1))
    return list(found.values())


def _ca_lacks(look: Look, target: Target) -> list[str]:
    """What a proxy trusts instead of exactly the CAs (and the CRL) that are wanted; one that verifies nobody with them needs none."""
    wanted = {plain_fingerprint(ca.fingerprint) for ca in target.wanted.cas}
    names = (target.name + CA_SUFFIX, target.name)
    held = [one for one in (look.proxy.secrets if look.proxy else ()) if one.kind == "ca" and one.name.rpartition("/")[2] in names]
    found = []
    for one in held:
        there = {plain_fingerprint(str(each["fingerprint_sha256"])) for each in one.certificates}
        if one.state == "warming":
            found.append(f"has asked for the CA of {target.name} and not got it")
        elif there != wanted:
            found.append(
                f"expected {len(wanted)} CA certificates for {target.name}, found {len(there)}, of which {len(there & wanted)} are among them"
            )
        elif one.has_crl != bool(target.wanted.crl):
            found.append(f"expected {'a' if target.wanted.crl else 'no'} CRL for {target.name}, found {'one' if one.has_crl else 'none'}")
        elif not one.in_use:
            found.append(f"got the CA of {target.name} and does not use it: Envoy refused it, or something that came with it")
    return found
