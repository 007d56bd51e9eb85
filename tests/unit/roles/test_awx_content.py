# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role awx_content asks for and says, held to the playbooks that get the answers, and the hosts that it makes of clusters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.meshops.istio.plugins.filter.awx_clusters import awx_clusters
from ansible_collections.meshops.istio.plugins.modules.gateway_diagnose import SPEC as DIAGNOSE
from ansible_collections.meshops.istio.plugins.modules.istio_tls_rotation import SPEC as ROTATION
from dateutil.rrule import rrulestr
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles" / "awx_content"
ROLES = {"site": "sample_workloads", "ingress_tls": "ingress_tls", "egress_mtls": "egress_mtls", "renew": "renewal", "report": "report"}
PLAYBOOKS = {
    **{"diagnose": ("diagnose.yml", "diagnose_", DIAGNOSE), "plan": ("rotate_credentials.yml", "rotate_", ROTATION)},
    **{"rotate": ("rotate_credentials.yml", "rotate_", ROTATION), "workflow": ("rotate_credentials.yml", "rotate_", ROTATION)},
    "rotate_back": ("rotate_back.yml", "rotate_", ROTATION),
}


class Loader(yaml.SafeLoader):
    """Knows what Ansible leaves untemplated."""


Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))


def load(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=Loader)  # noqa: S506 - it is a safe one


def surveys() -> dict[str, list[dict[str, Any]]]:
    data = load(ROLE / "vars" / "main" / "surveys.yml")

    def resolve(value: Any) -> Any:
        named = re.fullmatch(r"\{\{ (\w+)(\[1:\])? \}\}", value) if isinstance(value, str) else None
        if named:
            return resolve(data[named[1]])[1 if named[2] else 0 :]
        return (
            {key: resolve(one) for key, one in value.items()}
            if isinstance(value, dict)
            else [*map(resolve, value)]
            if isinstance(value, list)
            else value
        )

    found: dict[str, list[dict[str, Any]]] = resolve(data["__awx_content_surveys"])
    return found


QUESTIONS = [
    pytest.param(template, question, id=f"{template}-{question['variable']}") for template, asked in surveys().items() for question in asked
]


def option_of(template: str, variable: str) -> dict[str, Any]:
    """What is known of the option that gets the answer: of a role, or of the module that a playbook hands it to."""
    if template in ROLES:
        specs = load(ROOT / "roles" / ROLES[template] / "meta" / "argument_specs.yml")
        found: dict[str, Any] = specs["argument_specs"]["main"]["options"][variable]
        return found
    playbook, prefix, spec = PLAYBOOKS[template]
    empty = (
        rf"\b{variable}\)? \| default\([^)]*true\)|\b{variable} \| default\(''\) != ''|is string else {variable}\) \| default\([^)]*true\)"
    )
    assert re.search(empty, (ROOT / "playbooks" / playbook).read_text()), "an empty answer must count as none"
    return {"type": "str"} if variable == "rotate_waves" else dict(spec[variable.removeprefix(prefix)])


@pytest.mark.parametrize(("template", "question"), QUESTIONS)
def test_an_answer_fits_the_option_that_it_is_for(template: str, question: dict[str, Any]) -> None:
    option = option_of(template, question["variable"])
    kind, choices = option.get("type", "str"), question.get("choices")
    assert set(question) <= {"variable", "question_name", "question_description", "type", "choices", "default", "min", "max", "required"}
    if question["type"] == "multiplechoice":
        assert question["default"] in choices
        assert choices == ["false", "true"] if kind == "bool" else set(choices) <= {*option.get("choices", choices)}
    elif question["type"] == "integer":
        assert kind in ("int", "float") and question["min"] <= question["default"] <= question["max"]
    else:
        assert question["type"] == "text" and kind in ("str", "list")
    # an answer that is required cannot be empty; one that is not has no default, which would win over the inventory
    assert question["required"] == ("default" in question) == (question["type"] != "text")
    if template in ROLES and "default" in question and "default" in option:
        assert str(option["default"]).lower() == str(question["default"])


def test_every_template_is_asked_for_and_runs_a_playbook_that_there_is() -> None:
    templates = load(ROLE / "vars" / "main" / "templates.yml")["__awx_content_usual_templates"]
    keys = [template["key"] for template in templates]
    assert {*keys, "workflow"} == surveys().keys()
    assert keys == load(ROLE / "defaults" / "main.yml")["awx_content_templates"]
    for template in templates:
        assert (ROOT / template["playbook"].replace("{{ awx_content_playbooks }}", "playbooks")).is_file()


def test_an_optional_answer_may_be_empty_in_every_playbook() -> None:
    for path in (ROOT / "playbooks").glob("*.yml"):
        assert "default('all') }}" not in path.read_text(), path


def test_a_message_has_the_plan_and_is_one_that_awx_takes() -> None:
    """AWX draws it up with a job that has no artifacts before it stores it, and takes nothing undefined and no second line."""
    messages = load(ROLE / "vars" / "main" / "objects.yml")["__awx_content_messages"]["success"]
    plan = {"prod": {"id": "1", "text": [f"line {number}" for number in range(9)]}}
    for name, message in messages.items():
        template = ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string(message)
        job = {"id": 42, "name": "plan", "status": "successful", "artifacts": {}}
        given = {"job": job, "job_friendly_name": "Job", "url": "https://awx.example.com/1"}
        assert "\n" not in template.render(given)
        told = template.render({**given, "job": {**job, "artifacts": {"meshops_rotation_plan": plan}}})
        assert "https://awx.example.com/1" in told and "line 4" in told and "\n" not in told
        assert name == "message" or yaml.safe_load(told)["plan"] == plan


def test_schedules_have_rules_that_awx_takes() -> None:
    text = (ROLE / "tasks" / "schedules.yml").read_text()
    for schedule in load(ROLE / "defaults" / "main.yml")["awx_content_schedules"]:
        start = f"DTSTART:20260101T{schedule['at'].replace(':', '')}00"
        first, second = rrulestr(f"{start}\nRRULE:FREQ={schedule.get('frequency', 'DAILY')};INTERVAL=1")[:2]
        assert (second - first).total_seconds() == (3600 if schedule.get("frequency") == "HOURLY" else 86400)
    assert 'DTSTART;TZID={{ awx_content_timezone }}:{{ __awx_content_start }} RRULE:FREQ={{ item.frequency }};INTERVAL=1"' in text


def test_a_list_of_clusters_becomes_hosts() -> None:
    (host,) = awx_clusters([{"name": "prod-1", "login": {"context": "p"}, "variables": {"x": 1}}])
    assert host == {
        "name": "prod-1",
        "description": "",
        "enabled": True,
        "variables": {"meshops_login": {"context": "p"}, "x": 1},
        "state": "present",
    }


def kubeconfig(*contexts: str, **cluster: str) -> dict[str, Any]:
    return {"contexts": [{"name": name} for name in contexts], "clusters": [{"name": "c", "cluster": cluster}]}


def test_contexts_become_hosts_with_names_that_a_host_can_have() -> None:
    hosts = awx_clusters([], kubeconfig("arn:aws:eks:eu:1:cluster/prod", "test"), ["arn.*"])
    assert [(host["name"], host["variables"]) for host in hosts] == [
        ("arn-aws-eks-eu-1-cluster-prod", {"meshops_login": {"context": "arn:aws:eks:eu:1:cluster/prod"}})
    ]


@pytest.mark.parametrize(
    ("clusters", "config", "sentence"),
    [
        ([{"login": {}}], None, "expected a name in each"),
        ([{"name": "a"}, {"name": "a"}], None, "found a twice"),
        ([{"name": "a:1"}], None, "AWX takes it for a pattern or a port"),
        ([{"name": "a", "kubeconfig": "x"}], None, "found kubeconfig"),
        ([], {}, "expected a kubeconfig with contexts"),
        ([], kubeconfig("test"), r"expected a match with one of the kubeconfig's contexts \(test\)"),
        ([], kubeconfig("prod:1", "prod/1"), "found prod-1 twice"),
        ([], kubeconfig("prod", **{"certificate-authority": "/ca.crt"}), "kubectl config view --flatten --raw"),
    ],
)
def test_what_cannot_be_a_host_is_said(clusters: list[dict[str, Any]], config: dict[str, Any] | None, sentence: str) -> None:
    with pytest.raises(AnsibleFilterError, match=sentence):
        awx_clusters(clusters, config, ["prod.*"])


@pytest.mark.parametrize("pattern", ["*-prod", "prod(", {"prod": 1}])
def test_what_is_no_regular_expression_is_said(pattern: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="awx_content_contexts: expected regular expressions, found"):
        awx_clusters([], kubeconfig("prod"), [".*", pattern])
