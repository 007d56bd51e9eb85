# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event source's documentation and the rulebooks say what there is."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.events import options
from ansible_collections.meshops.istio.plugins.module_utils.events.occasions import TYPES

ROOT = Path(__file__).resolve().parents[3]
EDA = ROOT / "extensions" / "eda"
RULEBOOKS = sorted((EDA / "rulebooks").glob("*.yml"))
LOGIN = {"kubeconfig", "context"}
"""What DOCUMENTATION leaves to the modules', and rulebooks give."""


def told() -> dict[str, Any]:
    tree = ast.parse((EDA / "plugins" / "event_source" / "gateway_tls.py").read_text())
    named = (node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name))
    texts = {node.targets[0].id: node.value for node in named if isinstance(node.targets[0], ast.Name)}
    return {name: yaml.safe_load(ast.literal_eval(texts[name])) for name in ("DOCUMENTATION", "EXAMPLES")}


def arguments(rulebook: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = rulebook[0]["sources"][0]["meshops.istio.gateway_tls"]
    return found


def test_every_option_is_documented_with_its_default() -> None:
    documented = told()["DOCUMENTATION"]["options"]
    assert documented.keys() - LOGIN == options._SETTINGS.keys()
    assert documented["events"]["choices"] == sorted(TYPES, key=documented["events"]["choices"].index) and len(TYPES) == 7
    for name, default in options._SETTINGS.items():
        if name != "events":
            assert documented[name].get("default", "") == default, name


def test_the_example_uses_options_that_there_are() -> None:
    assert arguments(told()["EXAMPLES"]).keys() <= options._SETTINGS.keys() | LOGIN


@pytest.mark.parametrize("path", RULEBOOKS, ids=lambda path: path.stem)
def test_a_rulebook_starts_the_playbook_of_its_name_once_a_credential(path: Path) -> None:
    rulebook = yaml.safe_load(path.read_text())
    given = arguments(rulebook)
    assert given.keys() <= options._SETTINGS.keys() | LOGIN and set(given.get("events", ())) <= set(TYPES)
    (rule,) = rulebook[0]["rules"]
    assert rule["action"]["run_playbook"]["name"] == f"meshops.istio.{path.stem}" and (ROOT / "playbooks" / path.name).is_file()
    grouped = rule["throttle"]["group_by_attributes"]
    assert grouped == (["event.cluster"] if path.stem == "report" else ["event.cluster", "event.namespace", "event.credential"])


def test_the_page_names_every_event_and_every_variable() -> None:
    page = (EDA / "README.md").read_text()
    assert [name for name in TYPES if f"| `{name}` |" not in page] == []
    variables = {
        word for path in RULEBOOKS for word in path.read_text().replace("|", " ").split() if word.startswith(("gateway_tls_", "renewal_"))
    }
    assert len(variables) > 15 and [name for name in sorted(variables) if f"`{name.rstrip(':')}`" not in page] == []
