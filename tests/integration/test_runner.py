# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks through `ansible-runner run`, as AWX runs its jobs: the login comes by the environment, what a job hands on are statistics and facts,
and a rotation is planned by one job and carried out by another."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Mesh, Pair
from .runner import Job, job, run
from .test_rotation import INGRESS, Shop, a_shop, fingerprint
from .test_secrets_never_leak import canaries

Issue = Callable[..., Pair]
INVENTORY = {"all": {"hosts": {"production": {"ansible_connection": "local"}}}}
TWO = {"all": {"hosts": {name: {"ansible_connection": "local"} for name in ("new-one", "production")}}}
CACHE = {"fact_cache": "fact_cache", "fact_cache_type": "jsonfile"}
ROTATE, BACK = ([{"import_playbook": f"meshops.istio.{name}"}] for name in ("rotate_credentials", "rotate_back"))
"""What a project of AWX holds, since a job template takes a project's playbook."""


@pytest.fixture(scope="module")
def shop(mesh: Mesh, issue: Issue) -> Iterator[Shop]:
    with a_shop(mesh, issue) as one:
        yield one


@pytest.fixture
def environment(mesh: Mesh) -> dict[str, str]:
    """Without a login: a job has its own."""
    env = mesh.env()
    del env["KUBECONFIG"], env["ANSIBLE_INVENTORY"]
    return env


@pytest.fixture
def login(mesh: Mesh) -> dict[str, str]:
    """As AWX's credential with a kubeconfig gives it."""
    return {"K8S_AUTH_KUBECONFIG": mesh.environment["OPERATOR_KUBECONFIG"]}


def test_what_was_planned_is_approved_and_nothing_else_is_written(
    shop: Shop, issue: Issue, tmp_path: Path, environment: dict[str, str], login: dict[str, str]
) -> None:
    old, new, newer = shop.served(), issue(shop.host), issue(shop.host)

    def rotation(name: str, pair: Pair, *arguments: str, inventory: Any = None, plays: Any = None, **more: Any) -> tuple[int, Job]:
        credential = {"name": shop.name, **pair.paths}
        extra = {
            "rotate_credentials": [credential],
            "rotate_admin_urls": [INGRESS],
            "rotate_proof_timeout": 60,
            "rotate_evidence": "",
            **more,
        }
        one = job(tmp_path / name, inventory or INVENTORY, plays or ROTATE, extra=extra, environment=login)
        return run(one, environment, *arguments), one

    code, planning = rotation("plan", new, "--cmdline=--check")
    assert code == 0
    (plan,) = (plans := planning.told["meshops_rotation_plan"]).values()
    assert set(plans) == {"production"} and set(plan) == {"id", "text"}
    assert plan["text"][0].startswith(f"credential istio-system/{shop.name}: rotate (plan ")
    assert any(fingerprint(new) in line for line in plan["text"]), "an approver cannot tell what would be served"
    assert len(json.dumps(plans)) < 2000
    assert shop.served() == old

    # a cluster that came after the plan; no further wave begins once one failed
    code, waves = rotation("waves", new, inventory=TWO, meshops_rotation_plan=plans, rotate_waves=[1])
    assert code == 2 and waves.told == {}
    (refused,) = waves.named("runner_on_failed")
    assert refused["res"]["msg"].startswith("expected cluster new-one in meshops_rotation_plan, found production; nothing was written: ")
    assert set(waves.statistics["processed"]) == {"new-one"}
    assert shop.served() == old

    code, outdated = rotation("outdated", newer, meshops_rotation_plan=plans)
    assert code == 2
    (refused,) = outdated.named("runner_on_failed")
    assert f"expected the world and the files to be those of the approved plan {plan['id']}" in refused["res"]["msg"]
    assert shop.served() == old

    code, rotated = rotation("rotate", new, meshops_rotation_plan=plans)
    assert code == 0
    assert rotated.statistics["changed"] == {"production": 1}
    assert shop.served() == fingerprint(new)

    # the end of a workflow whose diagnosis failed, where a user listed nothing to go back to, and where one did
    code, nothing = rotation("nothing", new, plays=BACK)
    assert code == 0 and nothing.statistics["changed"] == {}
    code, back = rotation("back", new, plays=BACK, rotate_back_credentials=[{"name": shop.name, **newer.paths}])
    assert code == 0
    assert back.statistics["changed"] == {"production": 1}
    assert shop.served() == fingerprint(newer)
    secrets = canaries(new.private_key, newer.private_key)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or not [secret for secret in secrets if secret in path.read_text(errors="replace")], path


def test_a_diagnosis_ends_in_events_and_facts_go_from_job_to_job(
    shop: Shop, tmp_path: Path, environment: dict[str, str], login: dict[str, str]
) -> None:
    remember = {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"meshops.istio.istio_tls_credential_info": {"name": shop.name}, "register": "found"},
            {
                "ansible.builtin.set_fact": {
                    "cacheable": True,
                    "shop_ends": "{{ found.credentials[0].certificate.not_after }}",
                }
            },
        ],
    }
    extra = {"diagnose_namespaces": ["istio-system"], "diagnose_fail_on": "never", "diagnose_admin_urls": [INGRESS]}
    plays = [{"import_playbook": "meshops.istio.diagnose"}, remember]
    looked = job(tmp_path / "look", INVENTORY, plays, extra=extra, environment=login, settings=CACHE)
    assert run(looked, environment, "-vvv") == 0
    assert looked.statistics["ok"] == {"production": 3} and looked.statistics["changed"] == {}
    (diagnosis,) = looked.named("runner_on_ok", "Find what is wrong")
    assert set(diagnosis["res"]["counts"]) == {"error", "warning", "hint"} and isinstance(diagnosis["res"]["findings"], list)
    assert (looked.artifacts / "status").read_text() == "successful"

    # AWX keeps the facts of each host, and gives them to the next job
    later = [{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.assert": {"that": "shop_ends is match('[0-9]{4}-')"}}]}]
    next_one = job(tmp_path / "later", INVENTORY, later, settings=CACHE)
    shutil.copytree(looked.artifacts / "fact_cache", next_one.artifacts / "fact_cache")
    assert run(next_one, environment) == 0
    secrets = canaries(shop_key(shop))
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or not [secret for secret in secrets if secret in path.read_text(errors="replace")], path


def shop_key(shop: Shop) -> str:

    return base64.b64decode(shop.secret()["data"]["tls.key"]).decode()
