# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as metrics: read strictly in both formats, bounded, and what alert rules and dashboard ask for is there."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.report.data import digest
from ansible_collections.meshops.istio.plugins.module_utils.report.metrics import FAMILIES, as_metrics
from ansible_collections.meshops.istio.plugins.module_utils.report.model import Report
from ansible_collections.meshops.istio.plugins.module_utils.report.reading import cluster_of, report_of
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import NOW
from ansible_collections.meshops.istio.tests.unit.report.results import faulty, hostile, many, several

MONITORING = Path(__file__).resolve().parents[3] / "docs" / "monitoring"
EMPTY = report_of([])
REPORTS = {"several": several(), "hostile": hostile(), "empty": EMPTY}
Found = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Found:
    """Samples as OpenMetrics' strict reader finds them, which are those that a reader of Prometheus' text format finds."""
    client = pytest.importorskip("prometheus_client", reason="only the newest environment has prometheus_client")
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict

    def samples(reader: Any) -> list[Any]:
        return [(one.name, one.labels, one.value, one.timestamp) for family in reader(text) for one in family.samples]

    found = samples(strict)
    assert found == samples(client.parser.text_string_to_metric_families)
    assert all(timestamp is None for *__, timestamp in found), "the textfile collector refuses times of samples"
    by_name = {(name, frozenset(labels.items())): value for name, labels, value, __ in found}
    assert len(by_name) == len(found), "a series twice"
    return by_name


def metrics(report: Report, **more: Any) -> Found:
    return read(as_metrics(report, digest(report), **more))


def of(found: Found, family: str, **labels: str) -> list[float]:
    """Values of the series of a family with these labels."""
    return [value for (name, given), value in found.items() if name == family and given.issuperset(labels.items())]


def changed(**survey: Any) -> Report:
    result = json.loads(json.dumps(faulty()))
    result["survey"] |= survey
    return report_of([cluster_of("west", result, "")])


@pytest.mark.parametrize("name", REPORTS)
def test_both_formats_take_it(name: str) -> None:
    text = as_metrics(REPORTS[name], digest(REPORTS[name]))
    assert of(read(text), "meshops_report_info") == [1]
    assert text.endswith("\n# EOF\n") and "\n\n" not in text
    families = re.findall(r"^# TYPE (\S+) gauge$", text, re.MULTILINE)
    assert families == [one for one in FAMILIES if one in families] == re.findall(r"^# HELP (\S+) ", text, re.MULTILINE)


def test_it_says_what_the_report_says() -> None:
    found, report = metrics(several()), several()
    assert of(found, "meshops_cluster_reachable", cluster="south") == [0] and of(found, "meshops_cluster_reachable", cluster="west") == [1]
    assert {dict(labels)["cluster"] for name, labels in found if name.startswith(("meshops_host", "meshops_credential"))} == {
        "east",
        "west",
    }
    now = NOW.replace(microsecond=0).timestamp()
    assert of(found, "meshops_cluster_diagnosis_timestamp_seconds") == [now, now]
    assert of(found, "meshops_cluster_findings", cluster="west", severity="error") == [3] == [report.count("error")]
    assert of(found, "meshops_cluster_findings", cluster="east", severity="error") == [0]
    assert of(found, "meshops_cluster_rule_findings", cluster="west", code="credential_missing", severity="error") == [1]
    assert of(found, "meshops_cluster_suppressed_findings", cluster="west") == [1]
    states = {dict(labels)["host"]: dict(labels)["state"] for name, labels in found if name == "meshops_host_state"}
    assert states["api.example.com"] == "broken" and states["login.example.com"] == "doubtful" and states["shop.example.com"] == "right"


def test_ends_and_proofs_of_hosts_and_credentials() -> None:
    found, now = metrics(several()), NOW.replace(microsecond=0)
    ends = (now + timedelta(days=5)).timestamp()
    host, credential = {"cluster": "west", "host": "login.example.com"}, {"cluster": "west", "credential": "login"}
    assert of(found, "meshops_host_expiry_timestamp_seconds", **host) == [ends]
    assert of(found, "meshops_credential_expiry_timestamp_seconds", **credential, role="leaf", used="true") == [ends]
    (chain,) = of(found, "meshops_credential_expiry_timestamp_seconds", **credential, role="chain")
    (root,) = of(found, "meshops_credential_expiry_timestamp_seconds", **credential, role="trusted")
    assert ends < chain < root
    assert of(found, "meshops_host_proven", **host) == [1] and of(found, "meshops_host_proof_timestamp_seconds", **host) == [
        now.timestamp()
    ]
    assert of(found, "meshops_credential_proof_timestamp_seconds", **credential) == [now.timestamp()]
    assert of(found, "meshops_host_findings", **host, severity="error") == of(found, "meshops_credential_findings", **credential) == [1]
    assert len(of(found, "meshops_credential_info", **credential, credential_namespace="istio-system", kind="Secret")) == 1
    assert of(found, "meshops_host_proven", host="api.example.com") == [0]
    assert of(found, "meshops_host_proof_timestamp_seconds", host="api.example.com") == [], "the last one is in the history"
    assert of(found, "meshops_host_proven", cluster="east") == [], "no handshake was made there"


def test_a_wildcard_is_proven_by_a_name_that_stands_for_it() -> None:
    hosts = [{**one, "host": one["host"].replace("shop.", "*.")} for one in faulty()["survey"]["hosts"]]
    assert of(metrics(changed(hosts=hosts)), "meshops_host_proven", host="*.example.com") == [1]


def test_the_worst_of_several_ways_to_a_host_counts() -> None:
    hosts = faulty()["survey"]["hosts"]
    twice = [*hosts, *({**one, "state": "broken"} for one in hosts if one["direction"] == "egress")]
    found = metrics(changed(hosts=twice))
    assert of(found, "meshops_host_state", direction="egress", state="broken") == [1] == of(found, "meshops_host_state", direction="egress")


def test_values_of_labels_are_bounded_and_stay_apart() -> None:
    hosts = [{**faulty()["survey"]["hosts"][0], "host": "a" * 5000 + end} for end in "xy"]
    labels = [dict(one)["host"] for name, one in metrics(changed(hosts=hosts)) if name == "meshops_host_state"]
    assert len(set(labels)) == 2 and all(len(one) == 256 for one in labels)


def test_names_that_differ_in_what_cannot_be_shown_are_one_series() -> None:
    hosts = [{**faulty()["survey"]["hosts"][0], "host": f"a{end}"} for end in "\x01\x02"]
    assert len(of(metrics(changed(hosts=hosts)), "meshops_host_state")) == 1


def test_series_of_a_large_cluster_are_limited_the_urgent_ones_first() -> None:
    report = report_of([cluster_of("west", many(300), "")])
    found = metrics(report, limit=20)
    states = [dict(labels)["state"] for name, labels in found if name == "meshops_host_state"]
    assert len(states) == 20 and states.count("broken") == 3 and states.count("doubtful") == 1
    assert of(found, "meshops_cluster_left_out", of="hosts") == [len(report.hosts) - 20]
    assert of(metrics(report), "meshops_cluster_left_out", of="hosts") == [0]
    few = metrics(report, limit=2)
    assert {dict(labels)["credential"] for name, labels in few if name == "meshops_credential_expiry_timestamp_seconds"} == {"old", "login"}
    assert of(few, "meshops_cluster_left_out", of="credentials") == [len(faulty_credentials()) - 2]


def faulty_credentials() -> set[str]:
    return {place["object"] for one in faulty()["survey"]["certificates"] for place in one["places"]}


# --- what is made of them


def expressions() -> dict[str, str]:
    """Everything that rules and dashboard ask for, by who asks."""
    rules = [rule for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    asked = {f"{rule.get('alert') or rule['record']} {number}": rule["expr"] for number, rule in enumerate(rules)}
    return asked | {f"{panel['title']} {target['refId']}": target["expr"] for panel in panels for target in panel["targets"]}


def test_rules_and_dashboard_ask_for_what_is_written() -> None:
    known = set(FAMILIES) | {"meshops_credential:days_left", "meshops_host:days_left"}
    asked = {name for text in expressions().values() for name in re.findall(r"\bmeshops_[a-z0-9_:]+", text)}
    assert asked <= known, asked - known
    assert {one for one in FAMILIES if one not in asked} == {"meshops_cluster_suppressed_findings", "meshops_host_findings", *FINER}


FINER = {"meshops_credential_info", "meshops_credential_findings", "meshops_credential_proof_timestamp_seconds"}
"""For questions that neither asks."""


def test_every_family_is_described() -> None:
    told = (MONITORING / "README.md").read_text()
    assert [name for name in FAMILIES if f"`{name}`" not in told] == []


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10 and all(panel["description"] for panel in panels)
    taken = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(taken) == len(set(taken)) and max(x for x, __ in taken) < 24, "panels lie beside each other"
    assert {one["name"] for one in dashboard["templating"]["list"]} == {"datasource", "cluster"}
    assert all("$cluster" in target["expr"] for panel in panels for target in panel["targets"])
