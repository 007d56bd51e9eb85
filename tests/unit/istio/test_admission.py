# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import inspect
import re

import pytest
from admission_cases import CASES, Case, gateway, http, port, server
from ansible_collections.meshops.istio.plugins.module_utils.istio import admission, admission_routes, names
from ansible_collections.meshops.istio.plugins.module_utils.istio.admission import gateway_problems
from ansible_collections.meshops.istio.plugins.module_utils.istio.admission_routes import virtual_service_problems
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem, errors, warnings


def problems(case: Case) -> tuple[Problem, ...]:
    rules = gateway_problems if case.manifest["kind"] == "Gateway" else virtual_service_problems
    return rules(case.manifest, "here")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cases(case: Case) -> None:
    found = problems(case)
    assert [problem.code for problem in errors(found)] == list(case.errors)
    assert [problem.code for problem in warnings(found)] == list(case.warnings)
    assert all(problem.where.startswith("here") and problem.message and problem.remedy for problem in found)


def test_every_rule_fires_in_some_case() -> None:
    codes = {code for module in (admission, admission_routes) for code in re.findall(r'Problem\(\s*"(\w+)"', inspect.getsource(module))}
    codes |= set(re.findall(r'Problem\(\s*"(\w+)"', inspect.getsource(names))) - {"namespace_name"}
    assert codes - {code for case in CASES for code in (*case.errors, *case.warnings)} == {"destination_and_redirect"}
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_rule_with_route_and_redirect_is_refused() -> None:
    found = virtual_service_problems(http(redirect={"uri": "/"}), "here")
    assert [problem.code for problem in found] == ["destination_and_redirect"]


def test_a_namespace_must_be_one() -> None:
    assert [problem.code for problem in gateway_problems(gateway(server(), namespace="a_b"), "here")] == ["namespace_name"]


def test_servers_and_rules_are_named_as_the_caller_wants() -> None:
    manifest = gateway(server(hosts=["a"]), server(hosts=["b.example.com"], port=port(0, "b")))
    assert [problem.where for problem in gateway_problems(manifest, "g", lambda index: f"servers[{index}]")] == ["servers[0]", "servers[1]"]
    (problem,) = virtual_service_problems(http(match=[{}, {"port": 0}, {"port": 70000}]), "v", lambda kind, index: f"{kind}/{index}")
    assert problem.where == "http/0.match[2]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5s", 5000),
        ("250ms", 250),
        ("1m30s", 90_000),
        ("1h", 3_600_000),
        ("0.25s", 250),
        ("1.001s", 1001),
        ("0.0001s", 0.1),
        ("5", None),
        ("", None),
        ("s", None),
        ("-5s", None),
        ("5 s", None),
    ],
)
def test_milliseconds(text: str, expected: float | None) -> None:
    assert names.milliseconds(text) == expected


@pytest.mark.parametrize(
    ("one", "other", "common", "subset"),
    [
        ("a.example.com", "a.example.com", True, True),
        ("a.example.com", "b.example.com", False, False),
        ("a.example.com", "*.example.com", True, True),
        ("*.example.com", "a.example.com", True, False),
        ("*.a.example.com", "*.example.com", True, True),
        ("*.example.com", "*.a.example.com", True, False),
        ("*", "*.example.com", True, False),
        ("example.com", "*.example.com", False, False),
        ("a.example.org", "*", True, True),
    ],
)
def test_wildcards(one: str, other: str, common: bool, subset: bool) -> None:
    assert names.matches(one, other) is common
    assert names.subset_of(one, other) is subset
