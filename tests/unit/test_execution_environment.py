# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told to ansible-builder: the packages are those that plugins/ import, the collections those of galaxy.yml."""

from __future__ import annotations

import ast
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
META = yaml.safe_load((ROOT / "meta" / "execution-environment.yml").read_text())
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text())
DEFINITION = yaml.safe_load((ROOT / "docs" / "execution-environment" / "execution-environment.yml").read_text())
OURS = ("ansible", "ansible_collections")
"""What is there wherever a collection is."""


def lines(of: str) -> list[str]:
    """What a file of requirements names, without its comments."""
    written = (ROOT / META["dependencies"][of]).read_text().splitlines()
    return [line for line in written if line.strip() and not line.startswith("#")]


def requirements() -> dict[str, Requirement]:
    return {canonicalize_name(one.name): one for one in map(Requirement, lines("python"))}


def imported(source: str) -> set[str]:
    """The packages that a source imports, or looks for with find_spec; what is imported for types only is left out."""
    found, tree = set(), ast.parse(source)
    typed = {id(child) for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
             for one in node.body for child in ast.walk(one)}  # fmt: skip
    for node in ast.walk(tree):
        if id(node) in typed:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "find_spec" and isinstance(node.args[0], ast.Constant):
            found.add(str(node.args[0].value))
    return {name.partition(".")[0] for name in found} - {*sys.stdlib_module_names, *OURS}


def used() -> set[str]:
    """The packages of PyPI that plugins/ import, as their names stand there."""
    carried = metadata.packages_distributions()
    names = set[str]().union(*(imported(path.read_text()) for path in (ROOT / "plugins").rglob("*.py")))
    assert "kubernetes" in names
    return {canonicalize_name(carried[name][0]) for name in names}


def test_the_packages_are_those_that_plugins_import() -> None:
    assert set(requirements()) == used()


def test_what_counts_as_imported() -> None:
    source = """
        import os, yaml.nodes
        from kubernetes.client import api
        from . import near
        if TYPE_CHECKING:
            import mypy
        def f():
            from idna import core
            return find_spec("certifi"), find_spec(name)
    """
    assert imported("\n".join(line[8:] for line in source.splitlines())) == {"yaml", "kubernetes", "idna", "certifi"}


def test_packages_have_no_upper_bound_and_suit_what_is_tested() -> None:
    """A cap would keep other collections of the same environment from what they need."""
    for name, one in requirements().items():
        assert {bound.operator for bound in one.specifier} <= {">="}, one
        assert one.specifier.contains(metadata.version(name)), one


def test_documented_bounds_are_those_of_the_environment() -> None:
    documented = (ROOT / "plugins" / "doc_fragments" / "auth.py").read_text()
    for name in ("kubernetes", "urllib3"):
        assert f"  - {name} {str(requirements()[name].specifier).replace('>=', '>= ')}" in documented


@pytest.mark.parametrize("entry", ["python", "system"])
def test_the_named_files_are_read_from_the_artefact(entry: str) -> None:
    """ansible-builder and galaxy-importer take `meta/`, which is always shipped."""
    assert META["dependencies"][entry].startswith("meta/")
    assert lines(entry)


def test_the_definition_has_the_artefact_and_what_galaxy_yml_depends_on() -> None:
    collections: list[dict[str, Any]] = DEFINITION["dependencies"]["galaxy"]["collections"]
    artefact = f"{GALAXY['namespace']}-{GALAXY['name']}-{GALAXY['version']}.tar.gz"
    ours, *others = collections
    (file,) = DEFINITION["additional_build_files"]
    assert file["src"] == artefact and ours == {"name": f"{file['dest']}/{artefact}", "type": "file"}
    assert {one["name"]: one["version"] for one in others} == GALAXY["dependencies"]


def test_the_definition_has_an_ansible_core_that_is_admitted() -> None:
    admitted = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["requires_ansible"]
    assert DEFINITION["dependencies"]["ansible_core"]["package_pip"] == f"ansible-core{admitted}"
