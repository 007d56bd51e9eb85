# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of which only the path is known: a pipe would be waited for, and a device may have no end."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

_KINDS = ((stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))


LARGEST = 16 * 1024 * 1024
"""Bytes: a kubeconfig with thousands of clusters."""
LARGEST_RESULT = 256 * 1024 * 1024
"""Bytes of a diagnosis: some hundred thousand findings."""


@contextlib.contextmanager
def regular_file(path: str) -> Iterator[BinaryIO]:
    """A file that is open for reading. OSError; where it is no regular file, its `strerror` says what it is."""
    if "\0" in path:
        raise OSError(errno.EINVAL, "a null byte in its name", path)  # Python's own words differ from version to version
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, next((name for test, name in _KINDS if test(mode)), "no regular file"), path)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def contents(path: str | os.PathLike[str], most: int = LARGEST) -> bytes:
    """All of a regular file. OSError, also where it is larger than `most` bytes."""
    with regular_file(os.fspath(path)) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"more than {most >> 20} MiB", path)
    return content
