# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing of one call reaches the next that runs in the same process."""

from __future__ import annotations

import gc
import locale
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common import warnings as ansible_warnings
from ansible_collections.meshops.istio.plugins.module_utils.cluster.reconcile import Stopped
from ansible_collections.meshops.istio.plugins.plugin_utils.worker import borrowed, is_mine, stoppable


def state() -> dict[str, Any]:
    mask = os.umask(0o022)
    os.umask(mask)
    return {
        "directory": Path.cwd(),
        "environment": dict(os.environ),
        "language": locale.setlocale(locale.LC_ALL),
        "mask": mask,
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "log handlers": logging.getLogger().handlers,
        "temporary": tempfile.tempdir,
        "garbage": (gc.get_threshold(), gc.get_freeze_count()),
        "warnings": (list(ansible_warnings._global_warnings), list(ansible_warnings._global_deprecations)),
        "signals": [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)],
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
    }


def leave_everything(directory: Path) -> None:
    os.chdir(directory)
    os.umask(0o007)
    os.environ["MESHOPS_NEW"] = "left"
    os.environ["HOME"] = "/left"
    del os.environ["PATH"]
    locale.setlocale(locale.LC_ALL, "C")
    print("printed")  # noqa: T201 - what is printed is the result
    sys.stdin = sys.stderr
    logging.getLogger().addHandler(logging.StreamHandler())
    tempfile.tempdir = "/left"
    gc.set_threshold(1)
    warned: Any = ansible_warnings._global_warnings  # a list, since ansible-core 2.19 a dictionary
    warned.append("left") if isinstance(warned, list) else warned.update(left=None)


@pytest.fixture(autouse=True)
def language() -> Iterator[None]:
    before = locale.setlocale(locale.LC_ALL)
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.mark.parametrize("error", [None, SystemExit, Stopped, ZeroDivisionError])
def test_everything_is_put_back_however_a_call_ends(tmp_path: Path, error: type[BaseException] | None) -> None:
    gc.unfreeze()  # what an earlier test's module froze goes as it is no longer used, and would count
    before = state()
    try:
        with borrowed(str(tmp_path), {"HOME": "/task", "MESHOPS_TASK": "1"}) as printed:
            leave_everything(Path("/"))
            if error:
                raise error
    except BaseException as raised:
        assert error is not None and isinstance(raised, error)
    assert state() == before
    assert printed.getvalue() == "printed\n"


def test_a_call_finds_what_a_module_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHOPS_CONTROLLER", "1")
    with borrowed(str(tmp_path), {"MESHOPS_TASK": "2", "TMPDIR": str(tmp_path)}):
        assert Path.cwd() == tmp_path
        assert (os.environ["MESHOPS_CONTROLLER"], os.environ["MESHOPS_TASK"]) == ("1", "2")
        assert (sys.stdin.read(), sys.stdout.isatty()) == ("", False)
        assert tempfile.gettempdir() == str(tmp_path)


def test_what_libraries_log_goes_nowhere(tmp_path: Path) -> None:
    """Ansible's own handler writes to the file of log_path, where a URL with a login would stay."""
    log = tmp_path / "ansible.log"
    handler = logging.FileHandler(log)
    logging.getLogger().addHandler(handler)
    try:
        with borrowed(str(tmp_path), {}):
            logging.getLogger("urllib3.connectionpool").warning("Retrying http://u:password@h")
        logging.getLogger("ansible").warning("kept")
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert log.read_text() == "kept\n"


def test_no_file_with_a_login_is_left(tmp_path: Path) -> None:
    """The `kubernetes` package writes certificates and keys of a kubeconfig into temporary files."""
    from kubernetes.config import kube_config

    with borrowed(str(tmp_path), {"TMPDIR": str(tmp_path)}):
        kube_config._create_temp_file_with_content("a key")
        assert [path.read_text() for path in tmp_path.iterdir()] == ["a key"]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_gone_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with borrowed(str(tmp_path), {}):
        assert Path.cwd() == tmp_path


# --- signals


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """What the worker's own handlers hear, in place of ending it."""
    came: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda number, __: came.append(number)) for number in numbers}
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


def stopped_by(*numbers: int) -> Callable[[], str]:
    def work() -> str:
        told = ""
        for number in numbers:
            try:
                os.kill(os.getpid(), number)
            except Stopped as stopped:
                told += f"stopped by {stopped}"
        return told

    return work


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_call_and_then_the_worker(heard: list[int], number: signal.Signals) -> None:
    before = state()
    assert stoppable(stopped_by(number)) == f"stopped by {number.name}"
    assert heard == [number]
    assert state() == before


def test_only_the_first_of_several_counts(heard: list[int]) -> None:
    assert stoppable(stopped_by(signal.SIGINT, signal.SIGTERM, signal.SIGINT)) == "stopped by SIGINT"
    assert heard == [signal.SIGINT]


def test_what_the_worker_ignores_is_ignored(heard: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert stoppable(stopped_by(signal.SIGINT)) == ""
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN and heard == []


def test_the_end_of_the_tasks_time_comes_through(heard: list[int]) -> None:
    """Ansible's `timeout` raises in the middle of the call; the handlers are put back all the same."""

    class Late(BaseException):
        pass

    def late(*__: Any) -> None:
        raise Late

    before = state()["signals"][:2]
    alarm = signal.signal(signal.SIGALRM, late)
    try:
        with pytest.raises(Late):
            stoppable(lambda: signal.raise_signal(signal.SIGALRM))
    finally:
        signal.signal(signal.SIGALRM, alarm)
    assert state()["signals"][:2] == before and heard == []


# --- interpreters


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a virtual environment's programs, in which Ansible runs."""
    for name in ("mine", "other"):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / name)], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "mine" / "bin" / "python"))
    return tmp_path


@pytest.mark.parametrize("name", ["python", "python3", f"python3.{sys.version_info.minor}", "../bin/python"])
def test_every_name_of_one_interpreter_is_the_same(environment: Path, name: str) -> None:
    assert is_mine(f"{environment}/mine/bin/{name}")


def test_a_link_to_the_environment_is_the_same(environment: Path) -> None:
    (environment / "link").symlink_to(environment / "mine")
    assert is_mine(f"{environment}/link/bin/python")


def test_another_environment_of_the_same_python_is_another(environment: Path) -> None:
    """Both link to one file, but what is installed differs."""
    assert not is_mine(f"{environment}/other/bin/python")
    assert not is_mine(str(Path(sys.executable).resolve()))
    assert not is_mine(f"{environment}/mine/bin/activate")
