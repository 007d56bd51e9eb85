# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From results to the model of a report."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster.faults import sentence
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.plugins.module_utils.report.data import digest
from ansible_collections.meshops.istio.plugins.module_utils.report.drawing import breaks_at, stations
from ansible_collections.meshops.istio.plugins.module_utils.report.findings import unexplained
from ansible_collections.meshops.istio.plugins.module_utils.report.model import Report
from ansible_collections.meshops.istio.plugins.module_utils.report.reading import cluster_of, not_looked_at, report_of
from ansible_collections.meshops.istio.plugins.module_utils.report.words import headline, left, overall, span_of, summary
from ansible_collections.meshops.istio.plugins.module_utils.tls.facts import rfc3339
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import NOW
from ansible_collections.meshops.istio.tests.unit.report.results import RIGHT, compared, faulty, host, result, several


def one(found: dict[str, Any]) -> Report:
    return report_of([cluster_of("west", found, "west")])


def test_states_of_hosts_are_their_own() -> None:
    """Only the host that a finding is about is broken, and one whose certificate ends soon still works."""
    states = {each.name: each.state for each in several().hosts if each.cluster == "west"}
    assert states == {
        "api.example.com": "broken",
        "httpbin.example.com": "right",
        "login.example.com": "doubtful",
        "nginx.example.net": "right",
        "old.example.com": "broken",
        "shop.example.com": "right",
        "status.example.com": "broken",
    }


def test_causes_are_told_and_symptoms_belong_to_them() -> None:
    report = one(faulty())
    errors = [found for __, found in report.causes if found.severity == "error"]
    assert [found.code for found in errors] == ["credential_missing", "expires_soon", "host_not_covered"]
    (cluster,) = report.clusters
    assert [each.code for each in cluster.symptoms(errors[0])] == ["no_certificate_served"]
    assert {each.name for found in errors for each in cluster.affected(found)} == {
        f"{name}.example.com" for name in ("api", "login", "status")
    }
    assert headline(report) == "3 problems"
    assert "old.example.com" in summary(report)


def test_a_host_that_breaks_without_a_finding_is_not_lost() -> None:
    report = one(faulty())
    assert [each.name for each in unexplained(report)] == ["old.example.com"], "its finding is suppressed"


def test_what_is_right_has_nothing_to_do() -> None:
    report = one(result([*RIGHT, *host("shop")]))
    assert (headline(report), overall(report)) == ("Nothing is broken", "right")
    assert {each.state for each in report.hosts} == {"right"}
    assert not report.handshakes and report.clusters[0].handshakes is None


def test_a_way_breaks_at_its_station() -> None:
    ways = {each.name: each for each in several().hosts if each.cluster == "west"}
    names = [station.name for station in stations(ways["api.example.com"])]
    assert names == ["Client", "Gateway", "Certificate", "Route", "Workload"]
    assert [station.state for station in stations(ways["api.example.com"])] == ["broken", "right", "broken", "right", "right"]
    assert breaks_at(ways["api.example.com"]) == "certificate", "the client only sees it"
    egress = stations(ways["nginx.example.net"])
    assert [station.name for station in egress] == ["Workload", "Sidecar", "Gateway", "Certificate", "Service"]
    assert [station.state for station in egress] == ["", "right", "right", "right", "right"]
    assert egress[3].what == "istio-system/client-credential"


def test_a_certificate_of_several_clusters_is_there_once() -> None:
    report = several()
    shared = [each for each in report.certificates if len(each.clusters) > 1]
    assert {"Root of a shop", "Issuer of a shop"} <= {each.subject.removeprefix("CN=") for each in shared}
    assert len({each.fingerprint for each in report.certificates}) == len(report.certificates)
    ends = [each.not_after for each in report.certificates]
    assert ends == sorted(ends)


def test_chains_are_known() -> None:
    by_subject = {each.subject: each for each in one(faulty()).certificates}
    leaf, issuer, root = (by_subject[f"CN={name}"] for name in ("shop.example.com", "Issuer of a shop", "Root of a shop"))
    assert (leaf.issued_by, issuer.issued_by, root.issued_by) == (issuer.fingerprint, root.fingerprint, "")
    assert leaf.hosts == ("shop.example.com",) and leaf.used_by == ("Gateway default/shop",)
    assert {place.role for place in root.places} == {"trusted"}


def test_certificates_themselves_are_there_only_when_asked_for() -> None:
    assert not any(each.pem for each in one(faulty()).certificates)
    shown = one(result([*RIGHT], content=True)).certificates
    assert shown and all(each.pem.startswith("-----BEGIN CERTIFICATE-----") for each in shown)
    assert "PRIVATE" not in str(shown)


@pytest.mark.parametrize(
    ("days", "words"),
    [(-2, "ended 1 day ago"), (-1, "ended today"), (0, "ends today"), (1, "in 1 day"), (1234, "in 1\u202f234 days")],
)
def test_days_in_words(days: int, words: str) -> None:
    assert left(days) == words


def test_spans() -> None:
    spans = {each.label: span_of(each) for each in one(faulty()).certificates if not each.is_ca}
    assert spans["login.example.com"] == "Within a week"
    assert spans["old.example.com"] == "Ended"


def test_the_digest_is_of_what_is_said_and_not_of_when() -> None:
    before = faulty()
    at, earlier = rfc3339(NOW), rfc3339(NOW - timedelta(seconds=7))
    later = json.loads(json.dumps(before).replace(at, earlier))
    assert later["survey"]["looked_at"] == earlier != before["survey"]["looked_at"]
    assert digest(one(before)) == digest(one(later))
    later["findings"][0]["evidence"] = ["something else"]
    assert digest(one(before)) != digest(one(later))


def test_the_digest_is_not_of_how_often_a_dead_cluster_was_tried() -> None:
    """The more often, the less busy the machine is."""

    def dead(attempts: int, reason: str = "Connection refused") -> str:
        words = sentence(ConnectionError(reason), "https://192.0.2.1:6443", attempts)
        assert f" {attempts} attempt" in words
        return digest(report_of([not_looked_at("dead", words)]))

    assert dead(1) == dead(6) == dead(17)
    assert dead(6) != dead(6, "No route to host")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda found: found.pop("survey"), "no_survey"),
        (lambda found: found.pop("findings"), "unreadable_result"),
        (lambda found: found["findings"][0].update(severity="fatal"), "unreadable_result"),
        (lambda found: found["findings"][0]["objects"][0].update(file="a.yaml", line=0), "unreadable_result"),
        (lambda found: found["findings"][0]["objects"][0].update(file="a.yaml"), "unreadable_result"),
        (lambda found: found.update(compared={"new": [], "gone": [{}], "unchanged": 0}), "unreadable_result"),
        (lambda found: found.update(compared={"new": [], "gone": [], "unchanged": float("inf")}), "unreadable_result"),
        (lambda found: found["survey"].update(min_remaining_days=float("inf")), "unreadable_result"),
        (lambda found: found["survey"].update(min_remaining_days=float("nan")), "unreadable_result"),
        (lambda found: found["survey"].update(looked_at="9999-12-31T23:59:59-23:00"), "unreadable_result"),
        (lambda found: found["survey"]["hosts"][0].update(findings=[float("inf")]), "unreadable_result"),
        (lambda found: found["findings"][0].update(evidence="text"), "unreadable_result"),
        (lambda found: found["survey"].update(looked_at="yesterday"), "unreadable_result"),
        (lambda found: found["survey"]["hosts"][0].update(state="great"), "unreadable_result"),
        (lambda found: found["survey"]["hosts"][0].update(direction="sideways"), "unreadable_result"),
        (lambda found: found["survey"]["hosts"][0].update(findings=[len(found["findings"])]), "unreadable_result"),
        (lambda found: found["survey"]["hosts"][0].update(findings=[-1]), "unreadable_result"),
        (lambda found: found["survey"]["certificates"][0].update(places=[{"object": "x", "role": "spy"}]), "unreadable_result"),
    ],
)
def test_what_is_no_result_is_refused(change: Any, code: str) -> None:
    found = copy.deepcopy(faulty())
    change(found)
    with pytest.raises(Rejected) as refused:
        one(found)
    assert refused.value.problems[0].code == code


@pytest.mark.parametrize("found", [None, [], "text", 3, {}])
def test_other_json_is_refused(found: Any) -> None:
    with pytest.raises(Rejected) as refused:
        cluster_of("west", found, "clusters[0].result x.json")
    assert refused.value.problems[0].where == "clusters[0].result x.json"


# --- since the last time


def test_what_is_new_and_what_is_gone_is_known() -> None:
    (cluster,) = one(compared()).clusters
    assert [each.code for each in cluster.findings if each.is_new] == ["credential_missing"]
    assert cluster.compared and [each.objects[0].partition("/")[2] for each in cluster.compared.gone] == ["former"]
    assert "Findings since the last time: 1 new, 1 gone, " in summary(one(compared()))
    assert "since the last time" not in summary(one(faulty())) and not any(each.is_new for each in one(faulty()).clusters[0].findings)


def test_a_comparison_is_something_new_to_say() -> None:
    assert digest(one(compared())) != digest(one(faulty()))
