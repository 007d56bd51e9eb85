# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role awx_content with the real modules of awx.awx, against what stands in for AWX's API. No mesh is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .awx_controller import TOKEN, Controller, serving
from .awx_in_process import overlay

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / ".venv" / "collections"
AWX = COLLECTIONS / "ansible_collections" / "awx" / "awx"
SECRETS = ("password-of-the-hook", "token-of-the-store", "login-in-the-kubeconfig", TOKEN)
KUBECONFIG = {
    "contexts": [{"name": "prod:eu/1"}, {"name": "prod:eu/2"}, {"name": "test"}],
    "users": [{"name": "u", "user": {"token": "login-in-the-kubeconfig"}}],
}
HOOK = {
    "name": "hook",
    "notification_type": "webhook",
    "notification_configuration": {
        "url": "https://hooks.example.com",
        "headers": {},
        "username": "meshops",
        "password": "password-of-the-hook",
    },
}
STORE = {
    "name": "store",
    "credential_type": "meshops key store",
    "inputs": {"url": "https://store.example.com", "token": "token-of-the-store"},
}
SMALL: dict[str, Any] = {
    **{"awx_content_execution_environment": {"image": "registry.example.com/meshops:1"}, "awx_content_templates": ["diagnose"]},
    **{"awx_content_workflow": False, "awx_content_schedules": []},
}
PREFIX = "meshops "
TEMPLATES = {"site", "ingress TLS", "egress mTLS", "plan", "rotate", "rotate back", "renew", "diagnose", "report"}
Play = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"{overlay(AWX, tmp_path_factory.mktemp('awx'))}:{COLLECTIONS}"


@pytest.fixture
def controller() -> Controller:
    return Controller()


@pytest.fixture
def play(controller: Controller, collections: str) -> Iterator[Play]:
    with serving(controller) as url:
        login = {"controller_host": url, "controller_oauthtoken": TOKEN, "validate_certs": False}

        def run(variables: dict[str, Any], *words: str, path: str = collections) -> tuple[int, str]:
            controller.writes.clear()
            # each request of the modules would read the machine's CA certificates
            settings = {"ANSIBLE_COLLECTIONS_PATH": path, "ANSIBLE_NOCOLOR": "1", "SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
            settings["ANSIBLE_COLLECTIONS_SCAN_SYS_PATH"] = "false"
            command = [Path(sys.executable).with_name("ansible-playbook"), ROOT / "playbooks" / "awx.yml", *words]
            given = ["-e", json.dumps({"awx_content_controller": login, **variables})]
            done = subprocess.run([*command, *given], env={**os.environ, **settings}, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout + done.stderr

        yield run


def changed(answer: tuple[int, str]) -> int:
    code, output = answer
    found = re.search(r"changed=(\d+) ", output)
    assert code == 0 and found, output
    return int(found[1])


def test_a_fleet_is_made_kept_and_removed(controller: Controller, play: Play, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(KUBECONFIG))
    fleet = {
        **{"awx_content_execution_environment": {"image": "registry.example.com/meshops:1"}, "awx_content_notifications": [HOOK]},
        **{"awx_content_inventory_kind": "kubeconfig", "awx_content_kubeconfig": str(kubeconfig), "awx_content_contexts": ["prod:.*"]},
        **{"awx_content_credentials": [STORE], "awx_content_template_options": {"renew": {"timeout": 7200}}},
    }
    answer = play(fleet, "-vvv")
    assert changed(answer) > 0
    assert not [secret for secret in SECRETS if secret in answer[1]]
    look_at_the_fleet(controller)

    assert (changed(play(fleet)), controller.writes) == (0, [])

    assert changed(play({**fleet, "awx_content_state": "absent"})) > 0
    left = {kind: [*controller.named(kind)] for kind, objects in controller.objects.items() if objects}
    assert left == {"organizations": ["Default"], "credential_types": ["OpenShift or Kubernetes API Bearer Token"]}


def look_at_the_fleet(controller: Controller) -> None:
    assert controller.ignored == {("workflow_job_template_nodes", "type")}, "fields that AWX does not know"
    hosts = {name: json.loads(host["variables"]) for name, host in controller.named("hosts").items()}
    assert hosts == {f"prod-eu-{number}": {"meshops_login": {"context": f"prod:eu/{number}"}} for number in (1, 2)}
    variables = json.loads(controller.named("inventories")[f"{PREFIX}clusters"]["variables"])
    assert variables == {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    kind = controller.named("credential_types")[f"{PREFIX}kubeconfig"]
    assert kind["injectors"] == {"file": {"template": "{{ kubeconfig }}"}, "env": {"K8S_AUTH_KUBECONFIG": "{{ tower.filename }}"}}
    assert yaml.safe_load(controller.named("credentials")[f"{PREFIX}fleet login"]["inputs"]["kubeconfig"]) == KUBECONFIG

    templates = controller.named("job_templates")
    assert templates.keys() == {f"{PREFIX}{name}" for name in TEMPLATES}
    for name, template in templates.items():
        assert controller.linked("job_templates", name, "credentials") == {f"{PREFIX}fleet login", "store"}
        assert (ROOT / template["playbook"]).is_file() and template["forks"] == 20
        assert controller.linked("job_templates", name, "notification_templates_error") == {"hook"}
        told = controller.linked("job_templates", name, "notification_templates_success")
        assert told == ({"hook"} if name == f"{PREFIX}plan" else set())
        assert controller.surveys[("job_templates", template["id"])]["spec"]
    assert templates[f"{PREFIX}plan"]["job_type"] == "check" and templates[f"{PREFIX}renew"]["timeout"] == 7200
    assert json.loads(templates[f"{PREFIX}rotate"]["extra_vars"]) == {"rotate_plan_required": True}

    nodes = controller.named("workflow_job_template_nodes")
    ways = {(name, way, to) for name in nodes for way in ("success", "failure", "always") for to in follow(controller, name, way)}
    assert ways == {
        *(("plan", "success", "approve"), ("approve", "success", "rotate"), ("rotate", "success", "diagnose")),
        *(("rotate", "failure", "back"), ("diagnose", "failure", "back"), ("diagnose", "success", "report"), ("back", "always", "report")),
    }
    approval = controller.objects["workflow_approval_templates"][nodes["approve"]["unified_job_template"]]
    assert approval["timeout"] == 86400 and "meshops_rotation_plan" in approval["description"]
    assert controller.linked("workflow_job_templates", f"{PREFIX}rotation", "notification_templates_approvals") == {"hook"}
    assert {name: one["rrule"].partition("RRULE:")[2] for name, one in controller.named("schedules").items()} == {
        f"{PREFIX}renew every night": "FREQ=DAILY;INTERVAL=1",
        f"{PREFIX}report every night": "FREQ=DAILY;INTERVAL=1",
        f"{PREFIX}diagnose every hour": "FREQ=HOURLY;INTERVAL=1",
    }


def follow(controller: Controller, name: str, way: str) -> set[str]:
    return controller.linked("workflow_job_template_nodes", name, f"{way}_nodes")


def test_check_mode_writes_nothing_and_what_differs_is_corrected(controller: Controller, play: Play) -> None:
    small = {**SMALL, "awx_content_clusters": [{"name": "a"}, {"name": "b"}]}
    code, output = play(small, "--check")
    assert code == 0 and "job templates: meshops diagnose would be made" in output and controller.writes == []
    play(small)
    other = {
        **small,
        "awx_content_forks": 5,
        "awx_content_clusters": [{"name": "a", "login": {"context": "x"}}, {"name": "b", "state": "absent"}],
    }
    assert changed(play(other, "--check")) > 0 and controller.writes == []
    assert changed(play(other)) > 0
    assert sorted((method, path.split("/")[3]) for method, path, __ in controller.writes) == [
        *(("DELETE", "hosts"), ("PATCH", "hosts"), ("PATCH", "job_templates"))
    ]


def test_clusters_are_chosen_from_inventories_that_are_there(controller: Controller, play: Play) -> None:
    controller.create("inventories", {"name": "everything", "organization": 1})
    compose = {"plugin": "ansible.builtin.constructed", "compose": {"meshops_login": "{'context': inventory_hostname}"}}
    chosen = {
        **{**SMALL, "awx_content_inventory_kind": "constructed", "awx_content_input_inventories": ["everything"]},
        **{"awx_content_constructed": {"source_vars": compose, "limit": "istio"}},
    }
    assert changed(play(chosen)) > 0
    assert controller.linked("inventories", f"{PREFIX}clusters", "input_inventories") == {"everything"}
    (source,) = controller.objects["inventory_sources"].values()
    assert (json.loads(source["source_vars"]), source["limit"]) == (compose, "istio")


WITHOUT_CA = {
    "name": "k",
    "credential_type": "OpenShift or Kubernetes API Bearer Token",
    "inputs": {"host": "https://k", "verify_ssl": True},
}


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"awx_content_organization": "Elsewhere"}, "expected an organization of the controller, found none called Elsewhere"),
        ({"awx_content_credentials": [WITHOUT_CA]}, "expected ssl_ca_cert beside verify_ssl, found none"),
        ({"awx_content_controller": {"controller_host": "http://127.0.0.1:1"}}, "found that it does not answer"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(
    controller: Controller, play: Play, variables: dict[str, Any], sentence: str
) -> None:
    code, output = play({**SMALL, "awx_content_no_log": False, **variables})
    assert code == 2 and sentence in output and controller.writes == []


def test_without_the_collection_of_awx_it_says_so(play: Play, tmp_path: Path) -> None:
    ours = tmp_path / "ansible_collections" / "meshops" / "istio"
    ours.parent.mkdir(parents=True)
    ours.symlink_to(ROOT)
    code, output = play(SMALL, path=str(tmp_path))
    assert (
        code == 2 and "expected the collection awx.awx, found none: install it with `ansible-galaxy collection install awx.awx`" in output
    )


GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gateway-of-%s, namespace: %s}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [%s.example.com], tls: {mode: SIMPLE, credentialName: none}}]
"""


def test_answers_may_be_empty_and_lists_are_texts(tmp_path: Path) -> None:
    """As a job gets them from a survey."""
    manifests = tmp_path / "gateways.yml"
    manifests.write_text("---".join(GATEWAY % (name, name, name) for name in ("shop", "bank", "other")))
    answers = {
        **{
            "meshops_hosts": "",
            "diagnose_paths": [str(manifests)],
            "diagnose_namespaces": "",
            "diagnose_explain": "shop.example.com, bank.example.com",
        },
        **{"diagnose_handshakes": "false", "diagnose_min_remaining": "", "diagnose_fail_on": "never", "diagnose_proxies": ""},
    }
    command = [Path(sys.executable).with_name("ansible-playbook"), ROOT / "playbooks" / "diagnose.yml", "-v", "-i", "cluster,"]
    done = subprocess.run(
        [*command, "-e", json.dumps(answers)], capture_output=True, text=True, check=False, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = re.findall(r"^ok: \[cluster\] => (.*)$", done.stdout, re.MULTILINE)
    assert [host["host"] for host in json.loads(result)["explained"]] == ["shop.example.com", "bank.example.com"]
