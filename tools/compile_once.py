# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what Python compiles of zip files, as it keeps it of other modules: in the directory that MESHOPS_COMPILED names, and nowhere without it.

Ansible hands a module to its interpreter as a zip file of sources, a hundred and more, which are compiled anew for each task: more than half of its time.
The checks run thousands of such tasks. They are the same sources, from the same zip file, found by their content. `tools/environment.py` puts this
where each Python of its environments imports it at its start; what users run, and the benchmark, has none of it.
"""

from __future__ import annotations

import os

DIRECTORY = os.environ.get("MESHOPS_COMPILED")


def install(directory: str) -> None:
    import marshal
    import sys
    import zipimport
    from types import CodeType
    from typing import Any

    genuine: Any = zipimport._compile_source  # type: ignore[attr-defined]

    def compile_source(pathname: str, source: bytes) -> CodeType:
        from hashlib import blake2b

        name = blake2b(source + pathname.rpartition(".zip")[2].encode(), digest_size=20).hexdigest()
        path = os.path.join(directory, f"{name}.{sys.implementation.cache_tag}")  # noqa: PTH118 (pathlib would be imported for it)
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                found: CodeType = marshal.load(file)  # noqa: S302 (our own file)
                return found
        except (OSError, EOFError, ValueError):
            pass  # the first time, or it was half written
        made: CodeType = genuine(pathname, source)
        try:
            unfinished = f"{path}.{os.getpid()}"
            with open(unfinished, "wb") as file:  # noqa: PTH123
                marshal.dump(made, file)
            os.rename(unfinished, path)  # noqa: PTH104
        except OSError:
            pass  # a disk that is full, or another user's directory
        return made

    zipimport._compile_source = compile_source  # type: ignore[attr-defined]


if DIRECTORY:
    install(DIRECTORY)
