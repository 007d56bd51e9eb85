# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection promises about itself."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "plugins" / "modules").glob("*.py"))
SOURCES = sorted(
    path for folder in ("plugins", "sandbox", "tests", "tools") for path in (ROOT / folder).rglob("*.py") if "output" not in path.parts
)
HEADER = (
    "# Copyright (c) 2026 The meshops.istio developers",
    "# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "# SPDX-License-Identifier: GPL-3.0-or-later",
)


def load(text: str) -> Any:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe


@cache
def told_by(path: Path) -> dict[str, Any]:
    """What a module's DOCUMENTATION, EXAMPLES and RETURN hold."""
    tree = ast.parse(path.read_text())
    return {
        node.targets[0].id: load(ast.literal_eval(node.value))
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in ("DOCUMENTATION", "EXAMPLES", "RETURN")
    }


def test_the_action_group_is_every_module() -> None:
    runtime = load((ROOT / "meta" / "runtime.yml").read_text())
    assert runtime["action_groups"] == {"istio": [path.stem for path in MODULES if path.stem != "__init__"]}
    assert runtime["requires_ansible"] == ">=2.16.0"


def test_galaxy_names_what_is_used() -> None:
    galaxy = load((ROOT / "galaxy.yml").read_text())
    assert (galaxy["namespace"], galaxy["name"]) == ("meshops", "istio")
    assert {"kubernetes.core", "community.crypto"} <= galaxy["dependencies"].keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_runs_in_ansibles_process_too(path: Path) -> None:
    """Its action plugin names it, and it has what runs it: options, rules, and what it does."""
    action = ROOT / "plugins" / "action" / path.name
    assert f"    module = {path.stem}\n" in action.read_text()
    body = ast.parse(path.read_text()).body
    named = {node.target.id for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    assert {"SPEC", "CONSTRAINTS", "act"} <= named | {node.name for node in body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_is_documented(path: Path) -> None:
    told = told_by(path)
    assert told.keys() == {"DOCUMENTATION", "EXAMPLES", "RETURN"}
    assert told["DOCUMENTATION"]["module"] == path.stem
    used = {key.rpartition(".")[2] for example in told["EXAMPLES"] for key in example if key.startswith("meshops.istio.")}
    assert path.stem in used and used <= {module.stem for module in MODULES}


def test_a_rotation_describes_what_a_credential_has_in_the_same_words() -> None:
    """They are read by the same code. Labels and annotations are a credential's own there, and a rotation's here."""
    rotation, credential = (
        told_by(ROOT / "plugins" / "modules" / f"{module}.py")["DOCUMENTATION"]["options"][of]["suboptions"]
        for module, of in (("istio_tls_rotation", "rotations"), ("istio_tls_credential", "credentials"))
    )
    shared = rotation.keys() & credential.keys() - {"labels", "annotations"}
    assert len(shared) > 20
    assert {name: rotation[name]["description"] for name in shared} == {name: credential[name]["description"] for name in shared}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_modules_examples_use_options_that_there_are(path: Path) -> None:
    told = told_by(path)
    fragments = [name.rpartition(".")[2] for name in told["DOCUMENTATION"].get("extends_documentation_fragment", [])]
    options = dict(told["DOCUMENTATION"].get("options", {}))
    for fragment in fragments:
        source = ast.parse((ROOT / "plugins" / "doc_fragments" / f"{fragment}.py").read_text())
        texts = [node.value for node in ast.walk(source) if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)]
        options = {**load(texts[0].value).get("options", {}), **options}

    def unknown(given: Any, known: dict[str, Any], place: str) -> list[str]:
        found = []
        known = {**known, **{alias: option for option in known.values() for alias in option.get("aliases", ())}}
        for name, value in given.items():
            if name not in known:
                found.append(f"{place}{name}")
            elif known[name].get("suboptions") and isinstance(value, dict | list):
                for item in value if isinstance(value, list) else [value]:
                    found += unknown(item, known[name]["suboptions"], f"{place}{name}.") if isinstance(item, dict) else []
        return found

    for example in told["EXAMPLES"]:
        assert unknown(example.get(f"meshops.istio.{path.stem}", {}), options, "") == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_say_whose_they_are(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines()[:5] if not line.startswith("#!")]
    assert not lines or tuple(lines[:3]) == HEADER
    if lines and "plugins" in path.parts:
        assert "from __future__ import annotations" in path.read_text()
