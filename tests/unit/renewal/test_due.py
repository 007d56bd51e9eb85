# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When credentials are due, and what a calendar and the CA make of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.plugins.module_utils.renewal.due import (
    Advice,
    Offer,
    Policy,
    Served,
    decide,
    fraction,
    renewal_time,
)
from ansible_collections.meshops.istio.plugins.module_utils.renewal.options import advice_of, policy_of, served_of, span

ISSUED = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SERVED = Served(ISSUED, ISSUED + 90 * DAY, ("shop.example.com", "*.shop.example.com"), "aa")
DEFAULTS: dict[str, Any] = {"min_remaining": "30d", "spread": "0d", "emergency_remaining": "5d"}


def policy(**options: Any) -> Policy:
    return policy_of({**DEFAULTS, **options}, "")


def after(days: float, served: Served | None = SERVED, key: str = "istio-system/shop", **more: Any) -> Any:
    """What is decided so many days after the certificate was issued."""
    options = {name: more.pop(name) for name in list(more) if name in (*DEFAULTS, "windows", "freezes")}
    return decide(key, served, policy(**options), ISSUED + days * DAY, **more)


@pytest.mark.parametrize(
    ("days", "options", "outcome", "reason"),
    [
        (59, {}, "not_due", "due 2026-03-02T00:00:00Z by min_remaining"),
        (60, {}, "due", "30 days remain; due since 2026-03-02T00:00:00Z by min_remaining"),
        (59.9, {"min_remaining": "33.33%"}, "not_due", "due 2026-03-02"),
        (60.1, {"min_remaining": "33.33%"}, "due", "29 days remain"),
        (89.5, {"min_remaining": "0d", "spread": "1d"}, "due", "12 hours remain"),
        (95, {}, "due", "it expired 2026-04-01T00:00:00Z"),
        # one that does not live as long as min_remaining would be due in every run
        (10, {"min_remaining": "100d"}, "not_due", "a third of its lifetime"),
        (61, {"min_remaining": "100d"}, "due", "a third of its lifetime"),
    ],
)
def test_what_remains_decides(days: float, options: dict[str, str], outcome: str, reason: str) -> None:
    decision = after(days, **options)
    assert decision.outcome == outcome
    assert reason in decision.reason
    assert (decision.until is not None) == (outcome == "not_due")


def test_a_missing_certificate_and_one_that_lacks_a_host_are_due() -> None:
    assert after(1, None).is_due
    freeze = [{"from": "2026-01-01", "until": "2026-02-01"}]
    assert after(1, None, freezes=freeze).is_due
    assert after(1, hosts=["shop.example.com", "a.shop.example.com"]).outcome == "not_due"
    decision = after(1, hosts=["shop.example.com", "new.example.com", "192.0.2.1"])
    assert decision.is_due and "does not cover new.example.com, 192.0.2.1" in decision.reason
    assert after(1, hosts=["new.example.com"], freezes=freeze).outcome == "deferred"


def test_a_thousand_of_one_day_are_due_on_many() -> None:
    spread = policy(spread="10d")
    at = [renewal_time(f"istio-system/shop-{number}", SERVED, spread)[0] for number in range(1000)]
    days = [(ISSUED + 60 * DAY - moment).days for moment in at]
    assert min(days) == 0 and max(days) == 9
    assert all(60 < days.count(day) < 140 for day in range(10))
    assert all(moment <= ISSUED + 60 * DAY for moment in at)  # earlier, never later
    assert at[7] == renewal_time("istio-system/shop-7", SERVED, spread)[0]


def test_the_spread_never_makes_what_was_just_issued_due() -> None:
    short = Served(ISSUED, ISSUED + 6 * DAY, (), "bb")
    at = [renewal_time(str(number), short, policy(min_remaining="2d", spread="30d"))[0] for number in range(200)]
    assert min(at) >= ISSUED + 2 * DAY


def test_the_fraction_is_one() -> None:
    found = [fraction(str(number)) for number in range(500)]
    assert all(0 <= each < 1 for each in found) and min(found) < 0.05 and max(found) > 0.95


# --- the CA's renewal information


ADVICE = Advice(ISSUED + 40 * DAY, ISSUED + 42 * DAY, "https://ca.example.com/incident")


def test_the_time_of_the_ca_counts_and_never_later_than_min_remaining() -> None:
    assert after(39.9, advice=ADVICE).outcome == "not_due"
    decision = after(42, advice=ADVICE)
    assert decision.is_due and "the CA's renewal information (https://ca.example.com/incident)" in decision.reason
    chosen = {renewal_time(str(number), SERVED, policy(), ADVICE)[0] for number in range(100)}
    assert len(chosen) == 100 and all(ADVICE.start <= moment <= ADVICE.end for moment in chosen)
    late = Advice(ISSUED + 80 * DAY, ISSUED + 81 * DAY)
    assert after(60, advice=late).is_due and after(59, advice=late).outcome == "not_due"


def test_a_time_of_the_ca_early_in_its_life_opens_the_emergency_door() -> None:
    freeze = [{"from": "2026-01-01", "until": "2026-03-31", "reason": "sale"}]
    early = Advice(ISSUED + 2 * DAY, ISSUED + 3 * DAY)
    assert after(2, advice=early, freezes=freeze).outcome == "not_due"
    decision = after(3, advice=early, freezes=freeze)
    assert decision.is_due and "the CA wanted it renewed by 2026-01-04T00:00:00Z" in decision.reason
    usual = Advice(ISSUED + 58 * DAY, ISSUED + 59 * DAY)
    assert after(60, advice=usual, freezes=freeze).outcome == "deferred"


@pytest.mark.parametrize(
    ("info", "found"),
    [
        (
            {"suggestedWindow": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00.123456789+01:00"}, "explanationURL": "u"},
            Advice(ISSUED, datetime(2026, 1, 1, 23, 0, 0, 123456, UTC), "u"),
        ),
        ({"suggestedWindow": {"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}}, None),
        ({"suggestedWindow": {"start": "soon", "end": "later"}}, None),
        ({}, None),
        (None, None),
    ],
)
def test_renewal_information_that_makes_no_sense_counts_as_none(info: Any, found: Advice | None) -> None:
    assert advice_of(info) == found


# --- the calendar: 2026-03-02 is a Monday


OFFICE = [{"days": ["mon", "Tuesday", "wed", "thu"], "from": "09:00", "until": 1020, "timezone": "Europe/Zurich"}]


@pytest.mark.parametrize(
    ("moment", "opens"),
    [
        ("2026-03-02T08:00:00Z", None),
        ("2026-03-02T15:59:59Z", None),
        ("2026-03-02T16:00:00Z", "2026-03-03T08:00:00Z"),
        ("2026-03-02T07:59:00Z", "2026-03-02T08:00:00Z"),
        ("2026-03-06T12:00:00Z", "2026-03-09T08:00:00Z"),  # a Friday
        ("2026-03-27T12:00:00Z", "2026-03-30T07:00:00Z"),  # summer time began on Sunday
    ],
)
def test_windows_are_times_of_day_where_they_are_meant(moment: str, opens: str | None) -> None:
    calendar = policy(windows=OFFICE).calendar
    now = datetime.fromisoformat(moment)
    assert bool(calendar.closed(now)) == (opens is not None)
    assert calendar.opens(now) == datetime.fromisoformat(opens or moment)


def test_a_window_that_passes_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    calendar = policy(windows=[{"days": ["sat"], "from": "22:00", "until": "04:00"}]).calendar
    assert not calendar.closed(datetime(2026, 3, 8, 3, 59, tzinfo=UTC))
    assert calendar.closed(datetime(2026, 3, 8, 4, 0, tzinfo=UTC))
    assert calendar.closed(datetime(2026, 3, 7, 3, 0, tzinfo=UTC))
    assert calendar.opens(datetime(2026, 3, 8, 4, 0, tzinfo=UTC)) == datetime(2026, 3, 14, 22, 0, tzinfo=UTC)


def test_a_window_without_times_is_a_day() -> None:
    calendar = policy(windows=[{"days": ["tue"]}]).calendar
    assert calendar.opens(datetime(2026, 3, 2, 12, tzinfo=UTC)) == datetime(2026, 3, 3, tzinfo=UTC)
    assert not calendar.closed(datetime(2026, 3, 3, 23, 59, tzinfo=UTC))


def test_a_renewal_waits_for_window_and_freeze_but_not_past_the_door() -> None:
    freeze = {"from": "2026-03-01", "until": "2026-03-20", "reason": "sale"}
    decision = after(60, windows=OFFICE, freezes=[freeze])
    assert decision.outcome == "deferred" and "(sale)" in decision.reason
    assert decision.until == datetime(2026, 3, 23, 8, tzinfo=UTC)  # the 20th is a Friday
    long = [{**freeze, "until": "2026-06-01"}]
    decision = after(60, freezes=long)
    assert decision.until == ISSUED + 85 * DAY
    decision = after(85, freezes=long)
    assert decision.is_due and "less than emergency_remaining is left" in decision.reason
    assert after(85, freezes=long, emergency_remaining="0d").outcome == "deferred"


def test_freezes_may_follow_each_other_and_have_a_zone() -> None:
    calendar = policy(
        freezes=[
            {"from": "2026-12-18T18:00", "until": "2026-12-24", "timezone": "Europe/Zurich"},
            {"from": "2026-12-20T00:00:00Z", "until": "2027-01-04T08:00:00+01:00"},
        ]
    ).calendar
    assert not calendar.closed(datetime(2026, 12, 18, 16, 59, tzinfo=UTC))
    assert calendar.opens(datetime(2026, 12, 18, 17, 0, tzinfo=UTC)) == datetime(2027, 1, 4, 7, tzinfo=UTC)


# --- files that another program writes


def test_files_count_when_they_hold_something_newer() -> None:
    newer = Offer(ISSUED + 50 * DAY, ISSUED + 140 * DAY, "bb")
    same = Offer(SERVED.not_before, SERVED.not_after, "aa")
    older = Offer(ISSUED - 50 * DAY, ISSUED + 40 * DAY, "cc")
    assert "after the one that is served" in after(50, from_files=True, offer=newer).reason
    assert after(50, from_files=True, offer=same).outcome == "not_due"
    assert after(50, from_files=True, offer=older).outcome == "not_due"
    assert after(50, from_files=True).outcome == "not_due"
    for offer in (same, older, None):
        waiting = after(60, from_files=True, offer=offer)
        assert (waiting.outcome, waiting.until) == ("waiting", ISSUED + 85 * DAY)
        assert after(85, from_files=True, offer=offer).outcome == "failed"
    freeze = [{"from": "2026-01-01", "until": "2026-03-31"}]
    assert after(50, from_files=True, offer=newer, freezes=freeze).outcome == "deferred"


# --- options


@pytest.mark.parametrize(
    ("options", "code", "where"),
    [
        ({"min_remaining": "soon"}, "invalid_duration", "min_remaining"),
        ({"spread": "100%"}, "invalid_duration", "spread"),
        ({"emergency_remaining": "-1d"}, "invalid_duration", "emergency_remaining"),
        ({"windows": [{"days": ["someday"]}]}, "invalid_window", "windows[0].days"),
        ({"windows": [{"from": "25:00"}]}, "invalid_window", "windows[0].from"),
        ({"windows": [{"from": "09:00", "timezone": "Nowhere/None"}]}, "invalid_window", "windows[0].timezone"),
        ({"freezes": [{"from": "2026-02-30", "until": "2026-03-01"}]}, "invalid_freeze", "freezes[0].from"),
        ({"freezes": [{"from": "2026-03-01"}]}, "invalid_freeze", "freezes[0].until"),
        ({"freezes": [{"from": "2026-03-02", "until": "2026-03-01"}]}, "invalid_freeze", "freezes[0]"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(options: Any, code: str, where: str) -> None:
    with pytest.raises(Rejected) as caught:
        policy(**options)
    (problem,) = caught.value.problems
    assert (problem.code, problem.where) == (code, where)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(Rejected) as caught:
        policy(min_remaining="x", windows=[{"from": "x"}], freezes=[{"from": "x", "until": "y"}])
    assert len(caught.value.problems) == 3


def test_shares_and_times() -> None:
    assert span("33%", "") == pytest.approx(0.33)
    assert span("5.5 %", "") == pytest.approx(0.055)
    assert span("1w2d", "") == timedelta(days=9)


def test_what_is_served_is_read_from_the_facts_of_the_secret() -> None:
    facts = {"not_before": "2026-01-01T00:00:00Z", "not_after": "2026-04-01T00:00:00Z", "sans": ["a"], "fingerprint_sha256": "aa"}
    assert served_of({"certificate": facts}) == Served(ISSUED, ISSUED + 90 * DAY, ("a",), "aa")
    assert served_of({"certificate": {"unreadable": "it is no PEM"}}) is served_of({"exists": False}) is served_of(None) is None
