# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Python an environment is made with."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"


def python(home: Path, *versions: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"HOME": str(home), "PATH": "/usr/bin:/bin", **environment}
    return subprocess.run([ROOT / "tools" / "python", *versions], env=variables, capture_output=True, text=True, check=False)


def fake(path: Path, version: str) -> str:
    """What answers as a Python of that version does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n[ "$3" = {version} ] && echo "$0"\n')
    path.chmod(0o700)
    return str(path)


def test_on_path_before_pyenvs_before_uvs_folder(tmp_path: Path) -> None:
    uv = fake(tmp_path / ".local/share/uv/python/cpython-3.98.1-linux-x86_64-gnu/bin/python", "3.98")
    assert python(tmp_path, "3.99", "3.98").stdout == f"{uv}\n"
    pyenv = fake(tmp_path / ".pyenv/versions/3.98.7/bin/python", "3.98")
    assert python(tmp_path, "3.99", "3.98").stdout == f"{pyenv}\n"
    on_path = fake(tmp_path / "bin" / "python3.98", "3.98")
    assert python(tmp_path, "3.99", "3.98", PATH=f"{tmp_path}/bin:/usr/bin:/bin").stdout == f"{on_path}\n"
    newer = fake(tmp_path / "elsewhere" / "3.99.0" / "bin" / "python", "3.99")
    assert python(tmp_path, "3.99", "3.98", PYENV_ROOT=str(tmp_path / "none")).stdout == f"{uv}\n"
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "versions").symlink_to(tmp_path / "elsewhere")
    assert python(tmp_path, "3.99", "3.98", PYENV_ROOT=str(tmp_path / "root")).stdout.endswith("/versions/3.99.0/bin/python\n"), newer


def test_the_one_that_the_user_names_counts_where_it_is_suitable(tmp_path: Path) -> None:
    named, other = fake(tmp_path / "mine", "3.98"), fake(tmp_path / ".pyenv/versions/3.99.1/bin/python", "3.99")
    assert python(tmp_path, "3.99", "3.98", PYTHON=named).stdout == f"{named}\n"
    assert python(tmp_path, "3.99", PYTHON=named).stdout == f"{other}\n"


def test_a_virtual_environments_own_python_is_found(tmp_path: Path) -> None:
    """A virtual environment that was made of another would end with it."""
    found = Path(python(tmp_path, OWN, PYTHON=sys.executable).stdout.strip())
    asked = [found, "-c", "import sys; print(sys.prefix == sys.base_prefix)"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "True\n"


def test_none_ends_in_a_sentence(tmp_path: Path) -> None:
    done = python(tmp_path, "3.99", "3.98")
    assert done.returncode == 1 and done.stdout == ""
    assert "expected Python 3.99 or 3.98 with the modules venv and ensurepip; found none on PATH" in done.stderr
    assert str(tmp_path / ".pyenv") in done.stderr and "PYTHON=/path/to/python3" in done.stderr


@pytest.mark.parametrize("group", ["dev", "middle", "oldest", "events", "artefact"])
def test_every_environment_says_its_pythons_and_collections(group: str) -> None:
    parsed = tomllib.loads((ROOT / "pyproject.toml").read_text())
    settings = parsed["tool"]["meshops"]
    assert settings["pythons"][group] and settings["collections"][group] and parsed["dependency-groups"][group]
