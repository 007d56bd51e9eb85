# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's metrics with what they are for: promtool, node exporter's textfile collector and the push gateway, all of Debian (tools/prometheus.sh)."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.report.data import digest
from ansible_collections.meshops.istio.plugins.module_utils.report.metrics import as_metrics
from ansible_collections.meshops.istio.plugins.module_utils.report.model import Report
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import NOW
from ansible_collections.meshops.istio.tests.unit.report.results import hostile, several
from ansible_collections.meshops.istio.tests.unit.report.test_report_metrics import expressions

from .spare import ADDRESS, free_port, until

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".cache" / "prometheus"
MONITORING = ROOT / "docs" / "monitoring"
pytestmark = pytest.mark.skipif(not (TOOLS / "promtool").is_file(), reason="there is no promtool: tools/prometheus.sh (Debian)")


def promtool(*words: str | Path, given: str = "") -> str:
    done = subprocess.run([TOOLS / "promtool", *words], input=given, text=True, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def text_of(report: Report) -> str:
    return as_metrics(report, digest(report))


# --- rules


def test_the_rules_are_rules_and_fire_as_they_say() -> None:
    promtool("check", "rules", MONITORING / "alerts.yml")
    promtool("test", "rules", MONITORING / "alerts_test.yml")


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    rules = [rule for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
    tests = yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]
    fired = {
        (case["alertname"], alert["exp_labels"]["severity"])
        for test in tests
        for case in test["alert_rule_test"]
        for alert in case["exp_alerts"]
    }
    assert fired == {(rule["alert"], rule["labels"]["severity"]) for rule in rules if "alert" in rule}


def test_the_dashboard_asks_in_prometheus_language(tmp_path: Path) -> None:
    asked = [{"record": f"asked:{number}", "expr": text.replace("$cluster", ".*")} for number, text in enumerate(expressions().values())]
    (tmp_path / "asked.yml").write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": asked}]}))
    promtool("check", "rules", tmp_path / "asked.yml")


def test_faults_of_a_report_raise_their_alerts(tmp_path: Path) -> None:
    """The clock of promtool begins at 0, two days before the report was made."""
    began = int(NOW.timestamp()) - int(timedelta(days=2).total_seconds())
    series = []
    for line in text_of(several()).splitlines():
        name, __, value = line.rpartition(" ")
        if not line.startswith("#"):
            moved = int(value) - began if "_timestamp_seconds{" in name else int(value)
            series.append({"series": name, "values": f"{moved}+0x49"})
    wanted = {
        "GatewayCertificateEnded": 1,
        "GatewayCertificateEndsSoon": 1,
        "GatewayHostBroken": 3,
        "GatewayHostNotProven": 1,
        "GatewayProblemsFound": 1,
        "GatewayClusterNotReached": 1,
    }
    samples = [{"labels": f'{{alertname="{name}"}}', "value": number} for name, number in wanted.items()]
    case = {"expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": "48h", "exp_samples": samples}
    test = {"interval": "1h", "input_series": series, "promql_expr_test": [case]}
    rules = {"rule_files": [str(MONITORING / "alerts.yml")], "evaluation_interval": "1h", "tests": [test]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(rules))
    promtool("test", "rules", tmp_path / "test.yml")


# --- readers


@pytest.mark.parametrize("report", [several(), hostile()], ids=["several", "hostile"])
def test_promtool_has_nothing_against_names_and_values(report: Report) -> None:
    assert promtool("check", "metrics", given=text_of(report)).strip() == ""


def fetched(url: str, data: bytes | None = None) -> str:
    request = urllib.request.Request(url, data, method="PUT" if data else "GET")  # noqa: S310 (loopback)
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return str(answer.read().decode())


@contextmanager
def serving(directory: Path, program: str, words: Sequence[str]) -> Iterator[str]:
    """The program from when it answers until it has ended: its address."""
    address = f"{ADDRESS}:{free_port()}"
    command = [TOOLS / program, f"--web.listen-address={address}", *words]
    with (directory / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            until(lambda: _answers(process, f"http://{address}/metrics"), program)
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(20)


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    assert process.poll() is None, "it ended"
    try:
        return bool(fetched(url))
    except (urllib.error.URLError, OSError):
        return False


def samples(text: str, *ignored: str) -> dict[Any, float]:
    """The report's samples, by name and labels."""
    parser = pytest.importorskip("prometheus_client.parser")
    return {
        (one.name, frozenset((name, value) for name, value in one.labels.items() if name not in ignored)): one.value
        for family in parser.text_string_to_metric_families(text)
        for one in family.samples
        if one.name.startswith("meshops_")
    }


@pytest.mark.parametrize("report", [several(), hostile()], ids=["several", "hostile"])
def test_node_exporter_reads_the_file(tmp_path: Path, report: Report) -> None:
    (tmp_path / "report.prom").write_text(text_of(report), encoding="utf-8")
    words = ("--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={tmp_path}")
    with serving(tmp_path, "prometheus-node-exporter", words) as address:
        answer = fetched(f"{address}/metrics")
    assert re.search(r"^node_textfile_scrape_error 0$", answer, re.MULTILINE), (tmp_path / "log").read_text()[-2000:]
    assert samples(answer) == samples(text_of(report)) != {}


def test_the_push_gateway_takes_it_and_a_second_one_replaces_it(tmp_path: Path) -> None:
    with serving(tmp_path, "prometheus-pushgateway", ()) as address:
        for report in (hostile(), several()):
            fetched(f"{address}/metrics/job/meshops", text_of(report).encode())
            assert samples(fetched(f"{address}/metrics"), "job", "instance") == samples(text_of(report)) != {}
        states = json.loads(fetched(f"{address}/api/v1/metrics"))["data"]
    assert [one["last_push_successful"] for one in states] == [True]
