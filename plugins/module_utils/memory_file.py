# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that no directory ever holds, for what takes nothing but paths."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def unnamed_file(content: bytes) -> Iterator[str]:
    """A path from which `ssl`, which takes nothing but paths, reads content that no directory ever holds. ValueError: too long for that."""
    if hasattr(os, "memfd_create"):
        reading = writing = os.memfd_create("pem")
    else:  # a pipe, as a shell's <(...) is; what fits into none is no key
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
    try:
        _fill(writing, content, is_last=reading != writing)
        yield f"/dev/fd/{reading}"
    finally:
        os.close(reading)


def _fill(writing: int, content: bytes, *, is_last: bool) -> None:
    try:
        if os.write(writing, content) < len(content):
            raise ValueError("too long")
    except BlockingIOError:
        raise ValueError("too long") from None
    finally:
        if is_last:
            os.close(writing)
