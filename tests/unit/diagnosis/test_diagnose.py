# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Correct sets have no finding; a fault in one of them has exactly the expected ones."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.diagnose import Findings, Suppression, diagnose
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.table import RULES
from ansible_collections.meshops.istio.plugins.module_utils.istio.snapshot import Coverage, snapshot_of
from ansible_collections.meshops.istio.tests.unit.diagnosis.all_faults import ALL
from ansible_collections.meshops.istio.tests.unit.diagnosis.correct import (
    CORRECT,
    CREDENTIAL,
    EGRESS_SET,
    INGRESS_SET,
    RULE,
    TLS,
    base,
    egress,
    replaced,
    second,
)
from ansible_collections.meshops.istio.tests.unit.diagnosis.sets import (
    INGRESS,
    NOW,
    Manifest,
    changed,
    everything,
    objects,
    pair,
)
from ansible_collections.meshops.istio.tests.unit.diagnosis.test_observed import CASES as OBSERVED
from ansible_collections.meshops.istio.tests.unit.diagnosis.test_originations import CASES as ORIGINATIONS

ROOT = Path(__file__).parents[3] / "plugins" / "module_utils"


def look(items: list[Manifest], **more: Any) -> Findings:
    return diagnose(everything(items, more.pop("mesh", None)), now=NOW, **more)


def codes(items: list[Manifest], hints: Collection[str] = (), **more: Any) -> list[str]:
    """Of errors and warnings, and of these hints."""
    return [one.code for one in look(items, **more).findings if one.severity != "hint" or one.code in hints]


@pytest.mark.parametrize("items", CORRECT.values(), ids=CORRECT)
def test_a_correct_set_has_no_finding(items: list[Manifest]) -> None:
    assert look(items).suppressed == ()
    assert codes(items) == []


@pytest.mark.parametrize("case", ALL.values(), ids=ALL)
def test_a_fault_is_named_and_nothing_else(case: tuple[list[Manifest], list[str]]) -> None:
    items, expected = case
    assert codes(items, hints=expected) == expected


def test_namespaces_that_istiod_does_not_read() -> None:
    mesh = {"discoverySelectors": [{"matchLabels": {"mesh": "yes"}}]}
    (finding,) = [
        one for one in look(INGRESS_SET, mesh=mesh).findings if one.code == "namespace_not_discovered" and "default" in str(one.objects[0])
    ]
    assert finding.severity == "warning"


def test_every_rule_has_a_case_in_which_it_fires() -> None:
    fired = {code for __, expected in ALL.values() for code in expected} | set(ORIGINATIONS) | {"namespace_not_discovered"}
    judged = "".join(path.read_text() for path in (Path(__file__).parents[1]).rglob("*.py") if path.parent.name in ("tls", "istio"))
    elsewhere = {rule.code for rule in RULES if rule.id[3:5] in ("02", "09") and f'"{rule.code}"' in judged}
    elsewhere |= {rule.code for rule in RULES if rule.id[3:5] == "10" and rule.code in OBSERVED}
    beside = {"gateway_not_merged", "redirect_of_served_host"} if "gateway_not_merged" in judged else set()
    assert {rule.code for rule in RULES} - fired - elsewhere - beside == {"bypass_possible", "credential_unused"}  # hints, below


def test_every_code_of_a_check_has_a_rule() -> None:
    """What judges certificates tells codes; one that no rule has would never be told."""
    known = {code for rule in RULES for code in (rule.code, *rule.aliases)}
    pattern = re.compile(r"\b(?:error|warning|Problem|_Flaw)\(\s*\"([a-z_]+)\"")
    told = {code for path in (ROOT / "tls").glob("*.py") for code in pattern.findall(path.read_text())}
    assert len(told) > 40
    assert told - known == set()


# --- what a finding is


def test_one_cause_with_many_places_is_one_finding() -> None:
    others = [{**one, "metadata": {**one["metadata"], "name": f"g{index}"}} for index, one in enumerate(objects(INGRESS)[:1] * 5)]
    hosts = [
        changed([one], "Gateway", one["metadata"]["name"], spec__servers__0__hosts=[f"h{index}.example.com"])[0]
        for index, one in enumerate(others)
    ]
    (missing,) = [one for one in look([*base(), *hosts]).findings if one.code == "credential_missing"]
    assert (missing.id, missing.severity, len(missing.evidence)) == ("MIT0101", "error", 5)
    assert [str(ref) for ref in missing.objects] == [f"Gateway default/g{index}" for index in range(5)]
    assert missing.as_result()["objects"][0] == {"group": "networking.istio.io", "kind": "Gateway", "namespace": "default", "name": "g0"}


def test_findings_are_stable_and_sorted() -> None:
    items = [*base(INGRESS), *second(), *egress(**RULE, **{f"{TLS}__subjectAltNames": None})]
    items = list({str((one["kind"], one["metadata"])): one for one in items}.values())
    findings = look(items).findings
    assert look(list(reversed(items))).findings == findings
    assert [one.severity for one in findings] == sorted((one.severity for one in findings), key=["error", "warning", "hint"].index)


def test_a_bypass_is_a_hint() -> None:
    (hint,) = look(EGRESS_SET).findings
    assert (hint.code, hint.severity) == ("bypass_possible", "hint")


def test_a_credential_that_nothing_uses_is_a_hint() -> None:
    spare = pair("spare", "spare.example.com")
    (hint,) = look([*INGRESS_SET, spare]).findings
    assert (hint.code, hint.severity, str(hint.objects[0])) == ("credential_unused", "hint", "Secret istio-system/spare")
    mounted = changed([*INGRESS_SET, spare], "Pod", "ingress-0", spec__volumes=[{"name": "v", "secret": {"secretName": "spare"}}])
    assert look(mounted).findings == ()


def test_what_was_not_read_is_said_and_nothing_concluded() -> None:
    snapshot = snapshot_of(objects(INGRESS))
    found = diagnose(snapshot, now=NOW)
    assert found.findings == ()
    assert any(note.startswith("secrets were not looked at, because") and "MIT0101" in note for note in found.not_looked_at)
    part = snapshot_of(
        base(INGRESS), read={**snapshot_of(base(INGRESS)).read, ("", "Secret"): Coverage(namespaces=frozenset({"default"}), why="no right")}
    )
    assert diagnose(part, now=NOW).findings == ()
    assert any(
        "only some secrets were looked at (those in default), because no right" in note for note in diagnose(part, now=NOW).not_looked_at
    )


@pytest.mark.parametrize(
    ("suppress", "shown"),
    [
        (Suppression("MIT0601", "a test server"), 0),
        (Suppression("no_host_check", "a test server", "istio-system"), 0),
        (Suppression("*", "a test server", "default"), 1),
        (Suppression("MIT0602", "another rule"), 1),
    ],
)
def test_suppression(suppress: Suppression, shown: int) -> None:
    items = egress(**RULE, **{f"{TLS}__subjectAltNames": None})
    found = look(items, suppress=[suppress])
    assert len([one for one in found.findings if one.code == "no_host_check"]) == shown
    hidden = [one for one in found.suppressed if one.code == "no_host_check"]
    assert [one.suppressed for one in hidden] == ([] if shown else ["a test server"])


def test_suppression_by_an_annotation_of_the_object() -> None:
    items = egress(**RULE, metadata__annotations={"meshops.istio/ignore": "MIT0601: a test server"}, **{f"{TLS}__subjectAltNames": None})
    (hidden,) = look(items).suppressed
    assert (hidden.code, hidden.suppressed) == ("no_host_check", "a test server")


def test_who_undoes_a_change_is_said() -> None:
    kept = {"annotations": {"reconcile.external-secrets.io/data-hash": "x"}, "days": (-90, -1)}
    (expired,) = look(replaced(INGRESS_SET, pair(CREDENTIAL, "httpbin.example.com", **kept))).findings
    assert "External Secrets keeps this Secret" in expired.remedy and "at its next refresh" in expired.remedy


def test_dates_ahead() -> None:
    (soon,) = look(replaced(INGRESS_SET, pair(CREDENTIAL, "httpbin.example.com", days=(-10, 5))), min_remaining_days=14).findings
    assert soon.code == "expires_soon"
    assert codes(INGRESS_SET, min_remaining_days=14) == []


# --- objects from files, which may hold anything


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value below the first level."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from [(*at, key)] if len(at) > 1 else []
        yield from places(one, (*at, key))


def spoiled(items: list[Manifest], place: tuple[Any, ...], value: Any) -> list[Manifest]:
    made = deepcopy(items)
    inner: Any = made
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return made


@pytest.mark.parametrize("name", CORRECT)
def test_spoiled_objects_end_in_findings_and_never_in_an_exception(name: str) -> None:
    items = CORRECT[name]
    for number, place in enumerate(places(items)):
        if number % 11 == 0:  # all of them would take a minute; they were tried
            look(spoiled(items, place, (None, 7, "x", [], {}, [None], {"x": None})[number // 11 % 7]))
