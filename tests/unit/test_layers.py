# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the table of layers in CONTRIBUTING.md to the code: which room may import which, and what pure rooms keep away from."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
PACKAGE = "ansible_collections.meshops.istio.plugins"

PURE = ("report", "diagnosis", "istio", "objects", "tls", "masking", "kubeconfig", "proxy_choice", "problems")
BELOW = {
    # room -> rooms below it
    "action": ("modules", "plugin_utils"),
    "filter": ("modules", "renewal", "tls", "regular_file", "problems"),
    "plugin_utils": ("module", "call", "progress"),
    "modules": (
        "module",
        "gateway_diagnosis",
        "gateway_report",
        "proxy_reading",
        "rotation",
        "credential_arguments",
        "probes",
        "call",
        "arguments",
        "cluster",
        "live",
        "progress",
        *PURE,
    ),
    "gateway_diagnosis": ("survey", "manifests", "rotation", "call", "arguments", "cluster", "live", "regular_file", "whole_file", *PURE),
    "gateway_events": ("events", "survey", "rotation", "cluster", "regular_file", "whole_file", *PURE),
    "events": ("renewal", "arguments", "diagnosis", "istio", "objects", "tls", "problems"),
    "renewal": ("arguments", "tls", "problems"),
    "gateway_report": ("report", "call", "regular_file", "whole_file", "problems"),
    "proxy_reading": ("call", "progress", "wait", "arguments", "cluster", "live", *PURE),
    "survey": ("rotation", "live", *PURE),
    "manifests": ("regular_file", *PURE),
    "rotation": ("credential_arguments", "probes", "call", "progress", "wait", "whole_file", "arguments", "cluster", "live", *PURE),
    "credential_arguments": ("call", "arguments", "cluster", *PURE),
    "module": ("call", "arguments", "cluster", "live", *PURE),
    "probes": ("arguments", "cluster", "live", *PURE),
    "call": ("cluster", *PURE),
    "arguments": ("cluster", "live", "regular_file", *PURE),
    "report": ("objects", "problems"),
    "cluster": ("memory_file", "progress", "wait", "regular_file", *PURE),
    "live": ("memory_file", "progress", "wait", "regular_file", *PURE),
    "diagnosis": ("istio", "objects", "tls", "problems"),
    "istio": ("objects", "tls", "problems"),
    "objects": ("problems",),
    "masking": ("tls", "problems"),
    "tls": ("problems",),
    "kubeconfig": ("problems",),
    "proxy_choice": ("problems",),
    "memory_file": (),
    "progress": (),
    "wait": (),
    "regular_file": (),
    "whole_file": (),
    "problems": (),
    "doc_fragments": (),
}
LIBRARIES = {
    "action": (),
    "filter": ("ansible",),
    "plugin_utils": ("ansible",),
    "modules": (),
    "gateway_diagnosis": (),
    "gateway_events": (),
    "events": (),
    "renewal": (),
    "gateway_report": (),
    "proxy_reading": (),
    "survey": (),
    "manifests": ("yaml",),
    "rotation": (),
    "credential_arguments": (),
    "module": ("ansible",),
    "call": ("ansible",),
    "probes": (),
    "arguments": (),
    "cluster": ("kubernetes", "urllib3", "websocket", "yaml"),  # all but the first are what kubernetes itself needs
    "live": ("cryptography",),
    "report": (),
    "diagnosis": (),
    "istio": (),
    "objects": (),
    "masking": (),
    "kubeconfig": (),
    "proxy_choice": ("idna",),
    "memory_file": (),
    "wait": (),
    "progress": (),
    "regular_file": (),
    "whole_file": (),
    "tls": ("cryptography", "idna"),
    "problems": (),
    "doc_fragments": (),
}
ALLOWED_IN_PURE_ROOMS = (
    *("__future__", "base64", "binascii", "collections", "dataclasses", "datetime", "enum", "functools", "hashlib", "html", "ipaddress"),
    *("itertools", "json", "math", "posixpath", "re", "string", "textwrap", "typing", "unicodedata", "urllib.parse", "warnings"),
)
"""What computes only: no files, no network, no clock, no processes."""
CLOCKS_AND_FILES = {"now", "today", "utcnow", "open", "print", "input", "exec", "eval", "__import__"}


@dataclass(frozen=True)
class Import:
    name: str
    """Absolute: `json`, or `<collection>.plugins.module_utils.tls.material`."""
    at_start: bool
    """Whether it runs when the module is loaded."""
    line: int

    @property
    def library(self) -> str | None:
        """The third-party package, or None for Python's own and the collection's."""
        first = self.name.split(".")[0]
        return None if first in sys.stdlib_module_names or self.name.startswith("ansible_collections.meshops.istio") else first


def files() -> list[Path]:
    return sorted(path for path in PLUGINS.rglob("*.py") if path.name != "__init__.py" or path.stat().st_size)


def room_of(name: str) -> str | None:
    """The room of a dotted name in the collection: `tls` of `...module_utils.tls.material`."""
    parts = name.removeprefix(f"{PACKAGE}.").split(".")
    if parts[0] != "module_utils":
        return parts[0]
    return parts[1] if len(parts) > 1 else None


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def dotted(path: Path) -> str:
    return ".".join((PACKAGE, *path.relative_to(PLUGINS).with_suffix("").parts))


@cache
def imports(path: Path) -> tuple[Import, ...]:
    tree = parsed(path)

    def walk(node: ast.AST, at_start: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, at_start, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = dotted(path).split(".")[: -node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (Import(f"{module}.{alias.name}", at_start, node.lineno) for alias in node.names)
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for child in node.body:
                yield from walk(child, False)
            for child in node.orelse:
                yield from walk(child, at_start)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from walk(child, at_start and not inside)

    return tuple(walk(tree, True))


FILES = [pytest.param(path, id=str(path.relative_to(PLUGINS))) for path in files()]
MODULE_UTILS = [pytest.param(path, id=str(path.relative_to(PLUGINS))) for path in files() if "module_utils" in path.parts]
PURE_FILES = [pytest.param(path, id=str(path.relative_to(PLUGINS))) for path in files() if room_of(dotted(path)) in PURE]


def test_the_table_is_that_of_contributing() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("| room | holds | may import |")[2].partition("\n\n")[0]
    first_cells = re.findall(r"^\| ([^|]+)\|", table, re.MULTILINE)
    rooms = {Path(name).stem for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)}
    assert rooms == BELOW.keys() - {"doc_fragments"}


def test_every_file_is_in_a_room() -> None:
    assert {room_of(dotted(path)) for path in files()} <= BELOW.keys()
    assert len(files()) > 20


@pytest.mark.parametrize("path", FILES)
def test_a_room_imports_only_rooms_below_it(path: Path) -> None:
    room = str(room_of(dotted(path)))
    for one in imports(path):
        if one.name.startswith(PACKAGE):
            other = room_of(one.name)
            assert other in (BELOW[room] if room == "modules" else (room, *BELOW[room])), (
                f"line {one.line}: {room} may not import {one.name}"
            )


@pytest.mark.parametrize("path", FILES)
def test_a_room_uses_only_its_own_libraries(path: Path) -> None:
    room = str(room_of(dotted(path)))
    for one in imports(path):
        assert one.library is None or one.library in LIBRARIES[room], f"line {one.line}: {room} may not use {one.library}"


@pytest.mark.parametrize("path", MODULE_UTILS)
def test_libraries_are_imported_where_they_are_needed(path: Path) -> None:
    """So that a missing one ends in a sentence, and a module that does not need it starts fast. Ansible itself is always there."""
    early = [one for one in imports(path) if one.at_start and one.library not in (None, "ansible")]
    assert early == []


@pytest.mark.parametrize("path", PURE_FILES)
def test_pure_rooms_only_compute(path: Path) -> None:
    for one in imports(path):
        own = one.name.startswith(PACKAGE) or one.library in LIBRARIES[str(room_of(dotted(path)))]
        known = any(one.name == name or one.name.startswith(f"{name}.") for name in ALLOWED_IN_PURE_ROOMS)
        assert own or known, f"line {one.line}: a pure room may not import {one.name}"
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
            assert called not in CLOCKS_AND_FILES, f"line {node.lineno}: a pure room may not call {called}"


@pytest.mark.parametrize("path", FILES)
def test_only_one_file_knows_ansible_module(path: Path) -> None:
    names = {node.id for node in ast.walk(parsed(path)) if isinstance(node, ast.Name)}
    assert ("AnsibleModule" in names) == (path == PLUGINS / "module_utils" / "module.py")


@pytest.mark.parametrize("path", FILES)
def test_imports_between_rooms_are_relative_and_in_modules_absolute(path: Path) -> None:
    """Ansible's packer needs absolute ones in modules; relative ones elsewhere keep the collection's name out of the rooms."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith(PACKAGE)):
            assert bool(node.level) == ("module_utils" in path.parts), f"line {node.lineno}"


def test_it_would_find_what_it_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PLUGINS", tmp_path)
    path = tmp_path / "module_utils" / "tls" / "bad.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import os\nfrom ..cluster.client import Cluster\nfrom . import pem\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import kubernetes\ntry:\n    import cryptography\nexcept ImportError:\n    pass\n"
        "def f():\n    import socket\n"
    )
    found = {one.name: one for one in imports(path)}
    utils = f"{PACKAGE}.module_utils"
    assert list(found) == [
        "os",
        f"{utils}.cluster.client.Cluster",
        f"{utils}.tls.pem",
        "typing.TYPE_CHECKING",
        "kubernetes",
        "cryptography",
        "socket",
    ]
    assert [name for name, one in found.items() if not one.at_start] == ["kubernetes", "socket"]
    assert found["kubernetes"].library == "kubernetes" and found["socket"].library is None
    for check in (
        test_a_room_imports_only_rooms_below_it,
        test_a_room_uses_only_its_own_libraries,
        test_libraries_are_imported_where_they_are_needed,
        test_pure_rooms_only_compute,
    ):
        with pytest.raises(AssertionError):
            check(path)
