# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command that has a syslog of its own: python own_syslog.py FILE COMMAND... appends every message to FILE.

The C library writes to /dev/log and to nothing else. So the command sees a /dev of its own, which holds what is in the real one, and that socket.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

DEV = Path("/dev")


def own_dev(directory: Path) -> None:
    """Replaces /dev, in this mount namespace, by links to what it held."""
    subprocess.run(["mount", "--rbind", DEV, directory], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "own-dev", DEV], check=True)
    for each in directory.iterdir():
        if each.name != "log":
            (DEV / each.name).symlink_to(each)


def main(path: str, *command: str) -> int:
    if "OWN_SYSLOG" not in os.environ:
        directory = tempfile.mkdtemp()
        as_root = ["--map-root-user"] if os.geteuid() else []
        again = ["unshare", "--mount", *as_root, sys.executable, __file__, path, *command]
        code = subprocess.run(again, env={**os.environ, "OWN_SYSLOG": directory}, check=False).returncode
        Path(directory).rmdir()  # what was mounted there went with the namespace
        return code
    own_dev(Path(os.environ.pop("OWN_SYSLOG")))
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(str(DEV / "log"))

    def receive() -> None:
        with Path(path).open("ab", buffering=0) as file:
            while message := log.recv(2**20):
                file.write(message + b"\n")

    receiving = threading.Thread(target=receive)
    receiving.start()
    code = subprocess.run(command, check=False).returncode
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"", str(DEV / "log"))  # messages come in order: this one ends it
    receiving.join()
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
