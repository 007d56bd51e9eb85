# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role pki finds settled, so that it starts no module for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.tests.unit.live.servers import make

ROOT = Path(__file__).resolve().parents[3]
LOOK = yaml.safe_load((ROOT / "roles" / "pki" / "vars" / "main.yml").read_text())["__pki_look"]
WANTED: list[dict[str, Any]] = [
    {"name": "root", "signer": "", "file": ["root"], "is_ca": True, "variables": {"days": 3650}},
    {"name": "shop", "signer": "root", "file": ["shop"], "is_ca": False, "variables": {"sans": ["DNS:shop.example.com"]}},
]
FAR, NEAR = "20000101000000Z", "99990101000000Z"


def look(directory: Path, wanted: list[dict[str, Any]] | None = None, limit: str = FAR, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-I", "-c", LOOK, str(directory), limit, *more]
    done = subprocess.run(command, input=json.dumps(WANTED if wanted is None else wanted), capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "pki"
    (made / "issued").mkdir(parents=True)
    made.chmod(0o700)
    (made / "issued").chmod(0o700)
    root = make("root", ca=True)
    for name, pair in (("root", root), ("shop", make("shop", by=root))):
        for path, content, mode in (
            (made / f"{name}.key", pair.key(), 0o600),
            (made / f"{name}.crt", pair.pem, 0o644),
            (made / "issued" / f"{name}.crt", pair.pem, 0o644),
        ):
            path.write_bytes(content)
            path.chmod(mode)
    return made


def test_nothing_is_settled_before_it_was_noted_and_everything_after_it(directory: Path) -> None:
    assert look(directory)["settled"] == []
    look(directory, WANTED, "", "note")
    found = look(directory)
    assert (found["settled"], found["unmade"], found["foreign"], found["readable"]) == (["root", "shop"], [], [], [])
    for record in (directory / "issued").glob("*.seen"):
        assert record.stat().st_mode & 0o777 == 0o600
    assert look(directory, limit=NEAR)["settled"] == []  # due for renewal


@pytest.mark.parametrize(
    ("change", "settled"),
    [
        (lambda place: (place / "shop.key").unlink(), ["root"]),
        (lambda place: (place / "shop.key").write_text("x"), ["root"]),
        (lambda place: (place / "shop.key").chmod(0o640), ["root"]),
        (lambda place: (place / "shop.crt").write_text("x"), ["root"]),
        (lambda place: (place / "issued" / "shop.crt").write_text("x"), ["root"]),
        (lambda place: (place / "issued" / "shop.seen").write_text("{}"), ["root"]),
        (lambda place: (place / "issued" / "shop.seen").write_text("no JSON"), ["root"]),
        (lambda place: (place / "root.key").write_text("x"), []),  # its certificates are issued anew with it
        (lambda place: (place / "issued" / "root.crt").unlink(), []),
    ],
)
def test_what_has_changed_and_what_is_signed_by_it_is_looked_at(directory: Path, change: Callable[[Path], Any], settled: list[str]) -> None:
    look(directory, WANTED, "", "note")
    change(directory)
    assert look(directory)["settled"] == settled


def test_other_variables_are_looked_at(directory: Path) -> None:
    look(directory, WANTED, "", "note")
    changed = [WANTED[0], {**WANTED[1], "variables": {"sans": ["DNS:other.example.com"]}}]
    assert look(directory, changed)["settled"] == ["root"]


def test_directories_that_are_missing_or_open_are_told(directory: Path, tmp_path: Path) -> None:
    directory.chmod(0o755)
    assert look(directory)["unmade"] == [str(directory)]
    assert look(tmp_path / "none")["unmade"] == [str(tmp_path / "none"), str(tmp_path / "none" / "issued")]
