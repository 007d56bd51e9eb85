# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a call changes in the process that it runs in, put back when it is over: the next item of a loop runs in the same one."""

from __future__ import annotations

import contextlib
import gc
import io
import locale
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from ansible.module_utils.common import warnings as ansible_warnings
from ansible_collections.meshops.istio.plugins.module_utils.module import ALLOCATIONS, SIGNALS, stop_at_signals

Result = TypeVar("Result")


@contextlib.contextmanager
def borrowed(directory: str, environment: Mapping[str, str]) -> Iterator[io.StringIO]:
    """The worker as a module finds its own process: in this directory, with these variables besides, without a terminal. Gives what is printed."""
    printed = io.StringIO()
    with contextlib.ExitStack() as stack, open(os.devnull) as nothing:  # noqa: PTH123 - a standard stream
        stack.callback(_put_back, _as_it_is())
        os.chdir(directory)
        os.environ.update(environment)
        tempfile.tempdir = None  # Python looks for TMPDIR but once
        sys.stdin, sys.stdout, sys.stderr = nothing, printed, io.StringIO()
        logging.getLogger().handlers = [logging.NullHandler()]  # otherwise what libraries log is written to Ansible's log
        gc.set_threshold(ALLOCATIONS)
        _forget_warnings()
        yield printed


@dataclass(frozen=True)
class _Before:
    directory: str | None
    environment: Mapping[str, str]
    language: str
    mask: int
    streams: tuple[object, object, object]
    log_handlers: list[logging.Handler]
    temporary: str | None
    threshold: tuple[int, int, int]


def _as_it_is() -> _Before:
    mask = os.umask(0o077)
    os.umask(mask)
    directory = None
    with contextlib.suppress(OSError):  # it may be gone
        directory = os.getcwd()  # noqa: PTH109
    return _Before(
        directory=directory,
        environment=dict(os.environ),
        language=locale.setlocale(locale.LC_ALL),
        mask=mask,
        streams=(sys.stdin, sys.stdout, sys.stderr),
        log_handlers=logging.getLogger().handlers,
        temporary=tempfile.tempdir,
        threshold=gc.get_threshold(),
    )


def _put_back(before: _Before) -> None:
    with _undisturbed():
        sys.stdin, sys.stdout, sys.stderr = before.streams  # type: ignore[assignment]
        if before.directory is not None:
            os.chdir(before.directory)
        for name in os.environ.keys() - before.environment.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in before.environment.items() if os.environ.get(name) != value})
        locale.setlocale(locale.LC_ALL, before.language)
        os.umask(before.mask)
        tempfile.tempdir = before.temporary
        logging.getLogger().handlers = before.log_handlers
        gc.set_threshold(*before.threshold)
        _forget_warnings()
        if loader := sys.modules.get("kubernetes.config.kube_config"):
            loader._cleanup_temp_files()  # it has them removed when Python ends, and Ansible's workers end otherwise


def _forget_warnings() -> None:
    """Before ansible-core 2.19 a module's warnings are kept for its process. Since then a plugin's go to the display, which adds them to the result."""
    for kept in (ansible_warnings._global_warnings, ansible_warnings._global_deprecations):
        kept.clear()


def stoppable(work: Callable[[], Result]) -> Result:
    """What it gives. A signal that asks to stop raises Stopped in it once, as in a module; afterwards what Ansible does at that signal happens: the
    worker ends, and no other item of a loop begins."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    came = stop_at_signals()
    for number, handler in handlers.items():
        if handler == signal.SIG_IGN:  # nohup
            signal.signal(number, handler)
    try:
        return work()
    finally:
        with _undisturbed():
            for number, handler in handlers.items():
                signal.signal(number, handler or signal.SIG_DFL)
            for number in came:
                os.kill(os.getpid(), number)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals and the end of the task's time wait until this is over."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, signal.SIGALRM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_mine(path: str) -> bool:
    """Whether it is the interpreter of this process: of the same virtual environment, under whatever name."""
    mine = sys.executable or ""
    return _folder(path) == _folder(mine) and os.path.realpath(path) == os.path.realpath(mine)


def _folder(path: str) -> str:
    return os.path.realpath(os.path.dirname(path))  # noqa: PTH120
