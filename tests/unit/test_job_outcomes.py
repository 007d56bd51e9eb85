# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter job_outcomes: what became of each cluster, from events as ansible-runner and AWX have them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.meshops.istio.plugins.filter.job_outcomes import job_outcomes

Event = dict[str, Any]


def event(counter: int, kind: str, host: str = "", **data: Any) -> Event:
    return {"counter": counter, "event": kind, "event_data": {**({"host": host} if host else {}), **data}}


def stats(counter: int, *processed: str, failures: tuple[str, ...] = (), dark: tuple[str, ...] = ()) -> Event:
    counts = {name: dict.fromkeys(hosts, 1) for name, hosts in (("processed", processed), ("failures", failures), ("dark", dark))}
    return event(counter, "playbook_on_stats", **counts)


WHOLE = [
    event(1, "playbook_on_start"),
    event(2, "runner_on_ok", "a", task="One"),
    event(3, "runner_on_failed", "b", task="One", res={"msg": "no answer\nfrom the API server"}),
    event(4, "runner_on_failed", "a", task="Two", res={"msg": "does not matter"}, ignore_errors=True),
    event(5, "runner_on_unreachable", "c", task="One", res={"msg": "no route"}),
    event(6, "runner_on_failed", "d", task="One", res={"msg": "2 items failed", "results": [{"msg": "x", "failed": True}, {"msg": "y"}]}),
    event(7, "runner_on_failed", "e", task="One", res={"msg": "rescued later"}),
    stats(8, "a", "b", "c", "d", "e", failures=("b", "d"), dark=("c",)),
]
LOST = [
    event(1, "runner_on_start", "f", task="One"),
    event(2, "runner_on_start", "g", task="One"),
    event(3, "runner_on_ok", "f", task="One"),
    event(4, "runner_on_failed", "h", task="One", res={"censored": "hidden by no_log"}),
]


def told(jobs: list[Any], clusters: str) -> dict[str, tuple[str, str]]:
    return {one["cluster"]: (one["outcome"], one["message"]) for one in job_outcomes(jobs, list(clusters))}


def test_each_cluster_has_an_outcome_and_a_reason_in_one_line() -> None:
    assert told([WHOLE, LOST], "abcdefghi") == {
        "a": ("done", ""),
        "b": ("failed", "no answer from the API server"),
        "c": ("unreachable", "no route"),
        "d": ("failed", "x"),
        "e": ("done", ""),
        "f": ("not_done", "the job was lost after the task 'One'"),
        "g": ("not_done", "the job was lost"),
        "h": ("failed", "hidden by no_log"),
        "i": ("not_done", "no job has begun it"),
    }


def test_order_of_events_is_that_of_their_counters() -> None:
    failed = [event(2, "runner_on_failed", "a", res={"msg": "the last"}), event(1, "runner_on_failed", "a", res={"msg": "the first"})]
    assert told([[*failed, stats(3, "a", failures=("a",))]], "a") == {"a": ("failed", "the last")}


def test_a_later_job_has_the_last_word_where_it_has_one() -> None:
    assert told([LOST, [stats(1, "f", "g")]], "fgh") == {"f": ("done", ""), "g": ("done", ""), "h": ("failed", "hidden by no_log")}
    assert told([[stats(1, "f")], LOST], "f")["f"][0] == "not_done"


def test_artifacts_are_read_and_what_is_half_written_is_left_out(tmp_path: Path) -> None:
    directory = tmp_path / "1" / "job_events"
    directory.mkdir(parents=True)
    for one in WHOLE:
        (directory / f"{one['counter']}-some-uuid.json").write_text(json.dumps(one))
    (directory / "9-some-uuid.json").write_text('{"counter": 9, "eve')
    (directory / "11-some-uuid.json").write_text("[" * 200_000)
    os.mkfifo(directory / "12-some-uuid.json")
    (directory / "10-some-uuid-partial.json").write_text(json.dumps(event(10, "runner_on_failed", "a", res={"msg": "x"})))
    assert told([str(directory.parent)], "ab") == told([WHOLE], "ab")


@pytest.mark.parametrize(
    "jobs, expected",
    [
        ("artifacts/1", "expected a list of jobs, each a directory of artifacts or a list of events, found str"),
        ([{"counter": 1}], "expected a job as a directory of artifacts or a list of events, found dict"),
        ([["x"]], "expected a list of events in each job, found something else among them"),
        (["/nonexistent/1"], "with job_events in it, found none at /nonexistent/1; give what stands below artifacts/, such as artifacts/1"),
    ],
)
def test_other_input_is_refused_in_a_sentence(jobs: Any, expected: str) -> None:
    with pytest.raises(AnsibleFilterError, match=expected):
        job_outcomes(jobs, ["a"])
