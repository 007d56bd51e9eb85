# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`ansible-test sanity` over a copy of the working tree, without containers.

    .venv/bin/python tools/sanity.py [arguments of `ansible-test sanity`, for example --test validate-modules]

ansible-test wants a path that ends in ansible_collections/NAMESPACE/NAME, under git, with the collections that are depended on beside it.
The copy holds what git tracks and what it would track (new files that are not ignored). Everything that ansible-test installs and caches
stays in .cache/sanity.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "sanity"
VENV = Path(sys.prefix)
COPY = CACHE / "ansible_collections" / "meshops" / "istio"
HOME = CACHE / "home"
BOOTSTRAPS = ("get_pip_25_2.py", "get_pip_24_2.py", "get_pip_23_1_2.py")
"""The names that ansible-core 2.21, 2.19 and 2.16 look for; the Python of their virtual environments runs their sanity tests."""
# what pip and git read and keep in the user's home; ansible-test's own files there go into a home of its own
SHARED = (".cache", ".config", ".gitconfig", ".netrc", ".pip")


def refuse_exceptions() -> None:
    """An entry in tests/sanity/ignore-*.txt silences a check; this collection has none."""
    for path in sorted((ROOT / "tests" / "sanity").glob("ignore-*.txt")):
        if path.read_text().strip():
            sys.exit(f"sanity: {path.relative_to(ROOT)} has entries; expected none: mend what ansible-test reports instead")


def git(*words: str, cwd: Path) -> str:
    identity = ("-c", "user.name=sanity", "-c", "user.email=sanity@localhost", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *identity, *words], cwd=cwd, check=True, capture_output=True, text=True).stdout


def copy_tree() -> None:
    shutil.rmtree(CACHE / "ansible_collections", ignore_errors=True)
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0"):
        source = ROOT / name
        if not name or not (source.is_file() or source.is_symlink()):  # deleted, but not yet in the index
            continue
        (COPY / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, COPY / name, follow_symlinks=False)
    git("init", "--quiet", cwd=COPY)
    git("add", "--all", cwd=COPY)
    git("commit", "--quiet", "--no-verify", "--message", "copy", cwd=COPY)
    for namespace in (VENV / "collections" / "ansible_collections").iterdir():
        if namespace.name != "meshops":
            (COPY.parents[1] / namespace.name).symlink_to(namespace, target_is_directory=namespace.is_dir())


def lay_out_home() -> None:
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for name in BOOTSTRAPS:
        shutil.copy(ROOT / "tools" / "pip_bootstrap.py", cache / name)
    for name in SHARED:
        theirs, ours = Path.home() / name, HOME / name
        if theirs.exists() and not ours.is_symlink():
            ours.symlink_to(theirs)


def main() -> int:
    refuse_exceptions()
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:  # another run may be using the copy
        fcntl.flock(lock, fcntl.LOCK_EX)
        copy_tree()
        lay_out_home()
        return sanity()


def sanity() -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"HOME": str(HOME), "PATH": f"{VENV / 'bin'}:{os.environ['PATH']}"}
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = [str(VENV / "bin" / "ansible-test"), "sanity", "--python", version, "--color", "no", *sys.argv[1:]]
    return subprocess.run(command, cwd=COPY, env=environment, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
