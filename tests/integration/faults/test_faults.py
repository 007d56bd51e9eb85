# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What breaks in real life, done for real: to an API server that is killed, and through a proxy that spoils what it passes on.

Whatever happens, what a run says it applied is there, running again finishes what was left, and nothing is made twice.
The bounds are those of docs/faults.md.
"""

from __future__ import annotations

import datetime
import re
import signal
import time
from collections.abc import Callable

import pytest

from ..faultproxy import Answer, Break, Fault, FaultProxy, Hang, Request, Wait
from ..process import Running, run
from ..spare import SpareApi, until
from .judging import BATCH, IMPATIENT, MODULE, Credentials, assert_all_there, assert_finishes, assert_told, through

# --- the API server and etcd go away


def kill_midway(api: SpareApi, namespace: str, at: int = 40) -> None:
    """Kills the API server when so many are made."""
    until(lambda: len(api.creations(namespace)) >= at, "the first credentials", pause=0.002)
    api.end("kube-apiserver", signal.SIGKILL)


def test_the_api_server_is_killed_and_restarted_in_the_middle_of_a_batch(spare_api: SpareApi, credentials: Credentials) -> None:
    arguments = credentials(spare_api.login)
    running = Running(MODULE, arguments)
    kill_midway(spare_api, arguments["namespace"])
    before = len(spare_api.creations(arguments["namespace"]))
    spare_api.start_api()
    finished = running.finish().ok()
    spare_api.wait()
    assert 40 <= before < BATCH
    assert {item["action"] for item in finished.result["credentials"]} == {"created"}
    assert_all_there(spare_api, arguments)


def test_the_api_server_is_killed_and_stays_away(spare_api: SpareApi, credentials: Credentials) -> None:
    arguments = credentials(spare_api.login)
    running = Running(MODULE, arguments, settings=IMPATIENT)
    kill_midway(spare_api, arguments["namespace"])
    finished = running.finish()
    spare_api.start_api()
    spare_api.wait()
    there = assert_told(spare_api, arguments, finished)
    assert "no answer from the API server at" in finished.message
    assert len(finished.named("failures")) <= 8, "with the server gone, nothing new is tried"
    assert_finishes(spare_api, arguments, there)


@pytest.mark.parametrize("way", ["frozen", "killed"])
def test_etcd_stops_for_ten_seconds(spare_api: SpareApi, credentials: Credentials, way: str) -> None:
    arguments = credentials(spare_api.login)
    running = Running(MODULE, arguments)
    until(lambda: len(spare_api.creations(arguments["namespace"])) >= 40, "the first credentials", pause=0.002)
    if way == "frozen":
        spare_api.processes["etcd"].send_signal(signal.SIGSTOP)
    else:
        spare_api.end("etcd")
    assert len(spare_api.creations(arguments["namespace"])) < BATCH
    time.sleep(10)
    if way == "frozen":
        spare_api.processes["etcd"].send_signal(signal.SIGCONT)
    else:
        spare_api.start_etcd()
    finished = running.finish()
    spare_api.wait()
    finished.ok()
    assert finished.seconds > 10
    assert_all_there(spare_api, arguments)


# --- what lies between


def every(step: int, fault: Fault, *, method: str = "PATCH") -> Callable[[Request], Fault]:
    return lambda request: fault if request.method == method and request.number % step == 0 else None


SPOILED: dict[str, Fault] = {
    "429": Answer.of(429, "TooManyRequests", "too many requests, please try again later", {"Retry-After": "1"}),
    "500": Answer.of(500, "InternalError", "etcdserver: leader changed"),
    "502 with a page": Answer(502, {"Content-Type": "text/html"}, b"<html>bad gateway</html>"),
    "503": Answer.of(503, "ServiceUnavailable", "apiserver is shutting down", {"Retry-After": "1"}),
    "504": Answer.of(504, "Timeout", "Timeout: request did not complete within the allotted timeout"),
    "dropped before": Break(),
    "dropped after": Break(after=True),
    "reset": Break(reset=True),
    "reset after": Break(after=True, reset=True),
    "half an answer": Break(midway=True),
    "half open": Hang(),
    "half open after": Hang(after=True),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_what_passes_is_retried(spare_api: SpareApi, proxy: FaultProxy, credentials: Credentials, kind: str) -> None:
    """One write in six is spoiled, and the first read: the run succeeds all the same, and each is made once."""
    fault = SPOILED[kind]
    step = 6
    proxy.decide = lambda request: fault if request.number % step == 0 or (request.method == "GET" and request.number == 1) else None
    arguments = credentials(through(proxy), 20)
    settings = {"cluster.transport.READ_TIMEOUT": 1.0} if isinstance(fault, Hang) else None
    finished = run(MODULE, arguments, settings=settings).ok()
    assert {item["action"] for item in finished.result["credentials"]} == {"created"}
    proxy.reset()
    assert_all_there(spare_api, arguments)
    assert finished.seconds < 25


def test_retry_after_is_kept(spare_api: SpareApi, proxy: FaultProxy, credentials: Credentials) -> None:
    proxy.decide = lambda request: SPOILED["429"] if request.method == "PATCH" and request.number <= 3 else None
    run(MODULE, credentials(through(proxy), 3)).ok()
    for name in ("c000", "c001", "c002"):
        first, second = (request.at for request in proxy.writes if request.name == name)
        assert second - first >= 1, f"{name} was sent again before Retry-After was over"


@pytest.mark.parametrize("kind", ["429", "500", "503", "dropped before", "half open"])
def test_what_does_not_pass_ends_within_the_bound(
    spare_api: SpareApi,
    proxy: FaultProxy,
    credentials: Credentials,
    kind: str,
) -> None:
    """From the 41st write on nothing gets through any more: the run ends soon, however long the list, and says how far it came."""
    fault = SPOILED[kind]
    proxy.decide = lambda request: fault if request.method == "PATCH" and request.number > 40 else None
    arguments = credentials(through(proxy))
    finished = run(MODULE, arguments, settings={**IMPATIENT, "cluster.transport.READ_TIMEOUT": 1.0})
    there = assert_told(spare_api, arguments, finished)
    assert len(there) == 40
    assert finished.seconds < 15
    assert len(finished.message) < 4000
    assert_finishes(spare_api, arguments, there)


def test_one_object_that_never_gets_through_holds_up_no_other(
    spare_api: SpareApi,
    proxy: FaultProxy,
    credentials: Credentials,
) -> None:
    proxy.decide = lambda request: SPOILED["500"] if request.name == "c003" and request.is_write else Wait(0.05)
    arguments = credentials(through(proxy))
    finished = run(MODULE, arguments, settings=IMPATIENT)
    there = assert_told(spare_api, arguments, finished)
    assert finished.named("failures") == {"c003"}
    assert len(there) == BATCH - 1
    assert "etcdserver: leader changed" in finished.message


def test_nothing_answers_from_the_start(proxy: FaultProxy, credentials: Credentials) -> None:
    arguments = credentials(through(proxy))
    proxy.close()
    finished = run(MODULE, arguments).fails()
    assert finished.seconds < 20, "8 s of patience where nothing was reached yet"
    assert re.search(r"no answer from the API server at https://127.0.0.1:\d+ after \d+ attempts \(Connection refused\)", finished.message)
    assert "\n" not in finished.message and finished.result["changed"] is False


# --- the server says no


def test_a_race_for_another_object_is_run_again(spare_api: SpareApi, proxy: FaultProxy, credentials: Credentials) -> None:
    """Many writes at once under one quota: the API server gives up some of them with a 409 about the quota, not about the Secret."""
    message = 'Operation cannot be fulfilled on resourcequotas "q": the object has been modified; please apply your changes to the latest version and try again'
    fault = Answer.of(409, "Conflict", message, details={"name": "q", "kind": "resourcequotas"})
    proxy.decide = every(5, fault)
    arguments = credentials(through(proxy), 30)
    run(MODULE, arguments).ok()
    assert_all_there(spare_api, arguments)


def test_an_expired_token(spare_api: SpareApi, place: str, credentials: Credentials) -> None:
    good = {**spare_api.login, "api_key": spare_api.account_token(place, "good", 600)}
    accepted = run(MODULE, credentials(good, 1)).fails()
    assert f"permission denied: system:serviceaccount:{place}:good may not get secrets in namespace {place}" in accepted.message
    late = {**spare_api.login, "api_key": spare_api.account_token(place, "late", -60)}
    refused = run(MODULE, credentials(late, 1)).fails()
    assert "does not accept the login (401" in refused.message and "has expired; log in again" in refused.message
    assert late["api_key"] not in refused.output
    assert refused.seconds < 8, "a login that is refused is not tried again"


def test_an_expired_client_certificate(spare_api: SpareApi, credentials: Credentials) -> None:
    run(MODULE, credentials(spare_api.client_certificate("valid", datetime.timedelta(days=1)), 1)).ok()
    refused = run(MODULE, credentials(spare_api.client_certificate("expired", -datetime.timedelta(days=1)), 2)).fails()
    assert "does not accept the login (401" in refused.message and "client certificate is wrong or has expired" in refused.message


def test_a_login_that_ends_in_the_middle_of_a_batch(spare_api: SpareApi, proxy: FaultProxy, credentials: Credentials) -> None:
    fault = Answer.of(401, "Unauthorized", "Unauthorized")
    proxy.decide = lambda request: fault if request.method == "PATCH" and request.number > 50 else None
    arguments = credentials(through(proxy))
    finished = run(MODULE, arguments)
    there = assert_told(spare_api, arguments, finished)
    assert len(there) == 50
    assert len(proxy.writes) <= 50 + 8, "with the login gone, nothing new is tried"
    assert "does not accept the login" in finished.message
    assert_finishes(spare_api, arguments, there)


def test_a_namespace_that_is_terminating(spare_api: SpareApi, place: str, credentials: Credentials) -> None:
    arguments = credentials(spare_api.login, 3)
    first = arguments["credentials"][0]
    run(MODULE, {**arguments, "credentials": [first]}).ok()
    spare_api.ask("DELETE", f"/api/v1/namespaces/{place}")  # nobody empties it here, so it stays as it is
    finished = run(MODULE, arguments)
    assert finished.fails().named("failures") == {"c001", "c002"} and not finished.result["changed"]
    assert set(spare_api.secrets(place)) == {"c000"}
    assert f"namespace {place} is being terminated; create it again when it is gone, then run again" in finished.message
    assert finished.seconds < 8


def test_a_quota_that_is_full(spare_api: SpareApi, place: str, credentials: Credentials) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"secrets": "3"}}}
    path = f"/api/v1/namespaces/{place}/resourcequotas"
    spare_api.ask("POST", path, quota)
    status = {"status": {"hard": {"secrets": "3"}, "used": {"secrets": "0"}}}  # as its controller would count
    spare_api.ask("PATCH", f"{path}/few/status", status, content_type="application/merge-patch+json")
    arguments = credentials(spare_api.login, 12)

    def limited() -> bool:  # the API server learns of a quota a moment later
        return any("few" in item["metadata"]["name"] for item in spare_api.ask("GET", path)["items"])

    until(limited, "the quota")
    finished = run(MODULE, arguments)
    there = assert_told(spare_api, arguments, finished)
    assert len(there) == 3
    assert "exceeded quota: few" in finished.message and "raise the quota" in finished.message
    assert finished.seconds < 10
    spare_api.ask("DELETE", f"{path}/few")
    until(lambda: not spare_api.ask("GET", path)["items"], "the quota to go")
    assert_finishes(spare_api, arguments, there)
