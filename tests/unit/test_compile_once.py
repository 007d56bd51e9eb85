# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is imported from a zip file is compiled once, for as long as it stays the same, and does what it does without that."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "tools" / "compile_once.py"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where what was compiled is kept; beside it what Python imports at its start, as in an environment."""
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(SOURCE.read_text())
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept"


def run(kept: Path, archive: Path, *, named: bool = True) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "MESHOPS_COMPILED"}
    environment |= {"PYTHONPATH": str(kept.parent / "start"), **({"MESHOPS_COMPILED": str(kept)} if named else {})}
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(archive)!r}); import main"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def packed(path: Path, **sources: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, source in sources.items():
            archive.writestr(f"{name}.py", source)
    return path


def test_the_same_source_is_compiled_once(kept: Path, tmp_path: Path) -> None:
    sources = {"main": "import other; print(other.value, __file__)", "other": "value = 1"}
    assert run(kept, packed(tmp_path / "a.zip", **sources)) == f"1 {tmp_path}/a.zip/main.py\n"
    made = {path.name: path.stat().st_ino for path in kept.iterdir()}
    assert len(made) == 2
    assert run(kept, packed(tmp_path / "b.zip", **sources)) == f"1 {tmp_path}/b.zip/main.py\n"
    assert {path.name: path.stat().st_ino for path in kept.iterdir()} == made


def test_it_is_what_is_run(kept: Path, tmp_path: Path) -> None:
    """So that a test that passes with it has seen it at work."""
    archive = packed(tmp_path / "a.zip", main="print('as written')")
    run(kept, archive)
    (one,) = kept.iterdir()
    run(kept, packed(tmp_path / "b.zip", main="print('something else')"))
    (other,) = (path for path in kept.iterdir() if path != one)
    one.write_bytes(other.read_bytes())
    assert run(kept, archive) == "something else\n"


def test_another_source_and_the_same_in_another_module_are_compiled(kept: Path, tmp_path: Path) -> None:
    where = "import sys; print(sys._getframe().f_code.co_filename.rpartition('/')[2])"
    archive = packed(tmp_path / "a.zip", main=f"{where}\nimport other", other=where)
    assert run(kept, archive) == "main.py\nother.py\n"
    assert run(kept, packed(archive, main="print(2)")) == "2\n"
    assert len([*kept.iterdir()]) == 3


def test_what_is_broken_is_compiled_anew(kept: Path, tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.zip", main="print(1)")
    for content in (b"", b"\xe3", b"not from here"):
        for path in kept.iterdir():
            path.write_bytes(content)
        assert run(kept, archive) == "1\n"


def test_nothing_happens_without_the_variable_or_without_the_directory(kept: Path, tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.zip", main="import zipimport; print(zipimport._compile_source.__module__)")
    assert run(kept, archive, named=False) == "zipimport\n"
    assert not [*kept.iterdir()]
    kept.rmdir()
    assert run(kept, archive) == "sitecustomize\n"
