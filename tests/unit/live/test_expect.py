# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.live.expect import Expect, Verdict, check, explain, judge, until
from ansible_collections.meshops.istio.plugins.module_utils.live.request import FAILURES, Request, Result
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected

FINGERPRINT = ":".join(["ab"] * 32)
LEAF = {
    "fingerprint_sha256": FINGERPRINT,
    "serial": "0A1B",
    "subject": "CN=leaf",
    "issuer": "CN=issuing",
    "sans": ["b.example.com", "c.example.com"],
    "not_before": "2026-01-01T00:00:00Z",
    "not_after": "2026-02-01T00:00:00Z",
}
FINE = Result(
    "http",
    443,
    address="192.0.2.1",
    sni="a.example.com",
    protocol="TLSv1.3",
    peer_chain=(LEAF,),
    status=418,
    headers={"server": "istio-envoy", "x-a": "some value"},
    text="-=[ teapot ]=-",
)
REFUSED = Result("tls", 443, failure="certificate_required", alert="certificate_required", detail="said so", peer_chain=(LEAF,))
RESET = Result("tls", 443, failure="connection_reset", detail="closed")


@pytest.mark.parametrize(
    ("expect", "result", "unmet"),
    [
        (Expect(), FINE, None),
        (Expect(), REFUSED, "expected the request to succeed, found failure certificate_required at the TLS handshake (said so)"),
        (Expect(), Result("tls", 443), None),  # scheme tls
        (Expect(status=(418,)), FINE, None),
        (Expect(status=(200, 418)), FINE, None),
        (Expect(status=(200, 204)), FINE, "expected status 200 or 204, found status 418 from server istio-envoy ('-=[ teapot ]=-')"),
        (Expect(status=(200,)), RESET, "expected status 200, found failure connection_reset at the TLS handshake (closed)"),
        (Expect(status=(200,)), Result("tls", 443), "expected status 200, found a completed TLS handshake"),
        (
            Expect(status=(200,)),
            replace(FINE, failure="http_timeout", detail="late"),
            "expected status 200, found status 418, then failure http_timeout at the HTTP exchange (late)",
        ),
        (Expect(text="teapot"), FINE, None),
        (Expect(text="Teapot"), FINE, "expected text 'Teapot' in the body, found '-=[ teapot ]=-' (status 418)"),
        (Expect(text="x"), replace(FINE, text=""), "expected text 'x' in the body, found an empty body (status 418)"),
        (Expect(text_regex=r"\[ \w+ \]"), FINE, None),
        (Expect(text_regex="^tea"), FINE, "expected a match of '^tea' in the body, found"),
        (Expect(headers={"Server": "envoy", "X-A": ""}), FINE, None),
        (Expect(headers={"Server": "nginx"}), FINE, "expected header Server with 'nginx', found 'istio-envoy'"),
        (Expect(headers={"Via": ""}), FINE, "expected header Via with '', found none"),
        (Expect(fingerprint=(FINGERPRINT.upper(),)), FINE, None),
        (Expect(fingerprint=("AB" * 32,)), FINE, None),
        (Expect(fingerprint=(f"sha256 Fingerprint={FINGERPRINT.upper()}",)), FINE, None),
        (Expect(fingerprint=(f"SHA256:{FINGERPRINT}",)), FINE, None),
        (Expect(fingerprint=("cd" * 32, "ab" * 32)), FINE, None),
        (Expect(fingerprint=("cd" * 32,)), FINE, f"expected the certificate with fingerprint {'cd' * 32}, found {FINGERPRINT}"),
        (Expect(fingerprint=("cd" * 32,)), replace(FINE, peer_chain=()), "found none"),
        (Expect(credential={"a/b": "cd:cd", "a/c": FINGERPRINT}), FINE, None),
        (
            Expect(credential={"a/b": "cd:cd", "a/c": ""}),
            FINE,
            "expected the certificate in credential a/b (fingerprint cd:cd) or a/c (which has none), "
            f"found fingerprint {FINGERPRINT} (CN=leaf, valid from 2026-01-01T00:00:00Z)",
        ),
        (Expect(credential={"a/b": ""}), replace(FINE, peer_chain=()), "found none"),
        (Expect(serial=("a1b",)), FINE, None),
        (Expect(serial=("0x0A1B",)), FINE, None),
        (Expect(serial=("serial=0A:1B",)), FINE, None),
        (Expect(serial=("1B",)), FINE, "expected the certificate with serial number 1B, found 0A1B"),
        (Expect(protocol="TLSv1.3"), FINE, None),
        (Expect(protocol="TLSv1.2"), FINE, "expected TLSv1.2, found TLSv1.3"),
        (Expect(protocol="TLSv1.2"), replace(FINE, protocol=None), "expected TLSv1.2, found no TLS"),
        (Expect(failure=("certificate_required",)), REFUSED, None),
        (Expect(failure=("unknown_ca", "certificate_required")), REFUSED, None),
        (Expect(failure=("unknown_ca",)), REFUSED, "expected failure unknown_ca, found failure certificate_required at the TLS handshake"),
        (Expect(failure=("unknown_ca",)), FINE, "expected failure unknown_ca, found status 418 from server istio-envoy"),
        (Expect(alert=("certificate_required",)), REFUSED, None),
        (Expect(alert=("unknown_ca",)), REFUSED, "expected the server's alert unknown_ca, found alert certificate_required"),
        (Expect(alert=("unknown_ca",)), RESET, "expected the server's alert unknown_ca, found failure connection_reset"),
        (Expect(failure=("certificate_required",), fingerprint=(FINGERPRINT,)), REFUSED, None),
        (Expect(failure=("certificate_required",), fingerprint=("cd" * 32,)), REFUSED, "expected the certificate with fingerprint"),
    ],
)
def test_judge(expect: Expect, result: Result, unmet: str | None) -> None:
    assert check(expect) == []
    reasons = judge(result, expect)
    if unmet is None:
        assert reasons == []
    else:
        assert len(reasons) == 1
        assert unmet in reasons[0]


def test_judge_names_everything_that_is_unmet() -> None:
    expect = Expect(status=(200,), text="hello", headers={"via": "x"}, fingerprint=("cd" * 32,), serial=("1",), protocol="TLSv1.2")
    assert len(judge(FINE, expect)) == 6


@pytest.mark.parametrize(
    ("where", "expect"),
    [
        ("fingerprint", Expect(fingerprint=("ab" * 20,))),  # SHA-1
        ("serial", Expect(serial=("12x",))),
        ("failure", Expect(failure=("unkown_ca",))),
        ("text_regex", Expect(text_regex="(")),
        ("failure", Expect(failure=("unknown_ca",), status=(200,))),
        ("alert", Expect(alert=("unknown_ca",), headers={"a": "b"})),
    ],
)
def test_expectations_that_cannot_be(where: str, expect: Expect) -> None:
    assert [problem.where for problem in check(expect)] == [f"expect.{where}"]
    with pytest.raises(Rejected):
        until(Request("a.example.com"), expect, attempt=lambda request: FINE)


class Clock:
    """Time that passes only by sleeping and by attempts, which take 0.5 s."""

    def __init__(self, results: Iterator[Result]) -> None:
        self.now, self.results, self.began = 100.0, results, []

    def attempt(self, request: Request) -> Result:
        self.began.append(self.now - 100.0)
        self.now += 0.5
        return next(self.results)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def cycle(*results: Result) -> Iterator[Result]:
    yield from results[:-1]
    while True:
        yield results[-1]


@pytest.mark.parametrize(
    ("results", "given", "begun", "met", "successes"),
    [
        (cycle(FINE), {}, [0], True, 1),
        (cycle(RESET), {}, [0], False, 0),  # no timeout: one attempt
        (cycle(RESET), {"delay": 0}, [0], False, 0),
        (cycle(RESET), {"timeout": 4}, [0, 1.5, 3], False, 0),
        (cycle(RESET, RESET, FINE), {"timeout": 30}, [0, 1.5, 3], True, 1),
        (cycle(FINE), {"timeout": 30, "consecutive": 3}, [0, 1.5, 3], True, 3),
        (cycle(FINE, FINE, RESET, FINE), {"timeout": 30, "consecutive": 3}, [0, 1.5, 3, 4.5, 6, 7.5], True, 3),
        (cycle(FINE), {"consecutive": 3, "delay": 0.1}, [0, 0.6, 1.2], True, 3),  # a row that has begun is finished
        (cycle(FINE, RESET), {"consecutive": 3}, [0, 1.5], False, 0),
        (cycle(RESET, FINE, RESET, FINE, RESET), {"timeout": 7, "consecutive": 2}, [0, 1.5, 3, 4.5, 6], False, 0),
    ],
)
def test_until(results: Iterator[Result], given: dict[str, Any], begun: list[float], met: bool, successes: int) -> None:
    clock = Clock(results)
    verdict = until(Request("a.example.com"), Expect(), attempt=clock.attempt, clock=lambda: clock.now, sleep=clock.sleep, **given)
    assert clock.began == pytest.approx(begun)
    assert (not verdict.unmet, verdict.attempts, verdict.successes) == (met, len(begun), successes)
    assert verdict.elapsed == pytest.approx(begun[-1] + 0.5)


@pytest.mark.parametrize("given", [{"consecutive": 0}, {"timeout": -1}, {"delay": -1}])
def test_impossible_loops(given: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as rejected:
        until(Request("a.example.com"), Expect(), attempt=lambda request: FINE, **given)
    assert [problem.where for problem in rejected.value.problems] == list(given)


def explained(result: Result, expect: Expect | None = None, **request: Any) -> str:
    asked = Request("a.example.com", "192.0.2.1", 443, **request)
    return explain(asked, Verdict(result, tuple(judge(result, expect or Expect())), 3, 0, 12.3))


def test_message_says_where_expected_found_and_what_to_do() -> None:
    result = replace(REFUSED, address="192.0.2.1", sni="a.example.com")
    assert explained(result, Expect(status=(418,)), path="/status/418") == (
        "GET https://a.example.com/status/418 at 192.0.2.1:443, SNI a.example.com: expected status 418, found failure "
        "certificate_required at the TLS handshake (said so) (attempt 3, after 12 s). "
        "The server is MUTUAL: give client_certificate_path and client_private_key_path."
    )


@pytest.mark.parametrize(
    ("result", "request_", "told"),
    [
        (Result("tls", 443, failure="unknown_ca", peer_chain=(LEAF,)), {"ca": b"x"}, ["checked against ca_certificate", "CN=issuing"]),
        (Result("tls", 443, failure="unknown_ca", peer_chain=(LEAF,)), {}, ["system's trust store", "CN=issuing"]),
        (Result("tls", 443, failure="name_mismatch", peer_chain=(LEAF,)), {}, ["b.example.com, c.example.com", "a.example.com too"]),
        (Result("tls", 443, failure="name_mismatch", peer_chain=({"subject": "CN=a.example.com"},)), {}, ["common name", "DNS:a.example"]),
        (Result("tls", 443, failure="expired", peer_chain=(LEAF,)), {}, ["2026-01-01T00:00:00Z to 2026-02-01T00:00:00Z", "renew"]),
        (Result("tls", 443, failure="connection_reset", sni="a.example.com"), {}, ["matches the SNI a.example.com", "credential"]),
        (Result("tls", 443, failure="connection_reset"), {}, ["SNI none", "a client that sends no SNI"]),
        (Result("tcp", 443, failure="connection_refused", address="::1"), {}, ["at [::1]:443", "Service"]),
        (Result("http", 80, failure="connection_reset"), {"scheme": "http"}, ["GET http://", "use scheme https"]),
        (Result("tls", 443, failure="tls_timeout"), {"scheme": "tls"}, ["tls://a.example.com at"]),
        (Result("dns", 443, failure="name_not_resolved"), {}, ["address"]),
        (Result("http", 443, status=404, headers={"server": "istio-envoy"}), {}, ["VirtualService"]),
        (
            Result("http", 443, status=503, headers={"server": "envoy"}, text="no healthy upstream"),
            {},
            ["'no healthy upstream'", "endpoints"],
        ),
    ],
)
def test_remedies(result: Result, request_: dict[str, Any], told: list[str]) -> None:
    message = explained(result, Expect(status=(200,)), **request_)
    for text in told:
        assert text in message
    assert message.endswith(".")


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("chain", [(), (LEAF,), ({"fingerprint_sha256": FINGERPRINT, "problem": "unreadable"},)])
def test_every_failure_can_be_explained(failure: str, chain: tuple[dict[str, Any], ...]) -> None:
    for stage in ("dns", "tcp", "tls", "http"):
        assert failure in explained(Result(stage, 443, failure=failure, detail="d", peer_chain=chain))


def test_a_met_expectation_needs_no_explanation_of_attempts() -> None:
    make: Callable[..., Verdict] = Verdict
    assert "attempt" not in explain(Request("a.example.com"), make(RESET, ("expected x, found y",), 1, 0, 0.1))


def test_credentials_are_read_again_only_while_another_certificate_is_served() -> None:
    leaves = [{**LEAF, "fingerprint_sha256": fingerprint} for fingerprint in ("old", "new", "new")]
    served = iter([replace(FINE, status=503), *(replace(FINE, peer_chain=(leaf,)) for leaf in leaves)])
    read: list[Expect] = []

    def renew(expect: Expect) -> Expect:
        read.append(expect)
        return replace(expect, credential={"a/b": "new"})

    expect = Expect(status=(418,), credential={"a/b": FINGERPRINT})
    verdict = until(
        Request("a.example.com"), expect, timeout=9, attempt=lambda request: next(served), renew=renew, sleep=lambda seconds: None
    )
    assert (verdict.attempts, verdict.unmet, len(read)) == (3, (), 1)
    assert verdict.expect.credential == {"a/b": "new"}


def test_another_certificate_than_the_credentials_comes_with_what_to_look_at() -> None:
    expect = Expect(credential={"a/b": "cd:cd"})
    verdict = Verdict(FINE, tuple(judge(FINE, expect)), 1, 0, 0.0, expect)
    assert "gateway_proxy_info" in explain(Request("a.example.com"), verdict)
