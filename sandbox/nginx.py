# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds a real nginx for servers outside the mesh: on PATH, or Debian's package unpacked into the sandbox, which installs and starts nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .layout import NGINX
from .progress import Failure, say


def on_path() -> Path | None:
    found = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]))
    return Path(found) if found else None


def _runs(nginx: Path) -> bool:
    try:
        return subprocess.run([nginx, "-v"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def find() -> Path:
    if path := on_path():
        return path
    own = NGINX / "usr" / "sbin" / "nginx"
    if _runs(own):
        return own
    advice = "Install it with your system's package manager (Debian: apt-get install nginx-light) and put it on PATH"
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Failure(f"no nginx on PATH, and this is no Debian from whose package it could be taken. {advice}")
    say(f"no nginx on PATH: unpacking Debian's package into {NGINX}")
    with tempfile.TemporaryDirectory() as scratch:

        def download() -> subprocess.CompletedProcess[str]:
            command = ["timeout", "120", "apt-get", "download", "nginx"]
            return subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)

        answer = download()
        if answer.returncode and os.geteuid() == 0:
            subprocess.run(["timeout", "120", "apt-get", "update", "--quiet"], capture_output=True, check=False)
            answer = download()
        packages = list(Path(scratch).glob("nginx_*.deb"))
        if not packages:
            reason = (answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"])[-1]
            raise Failure(f"no nginx on PATH, and `apt-get download nginx` failed: {reason[-300:]}. {advice}")
        shutil.rmtree(NGINX, ignore_errors=True)
        NGINX.mkdir(parents=True)  # dpkg-deb makes the last directory only, and on a fresh machine there is no other yet
        subprocess.run(["dpkg-deb", "--extract", packages[0], NGINX], check=True)
    if not _runs(own):
        # usually a shared library that the package depends on
        told = subprocess.run([own, "-v"], capture_output=True, text=True, check=False) if own.exists() else None
        raise Failure(
            f"Debian's nginx was unpacked to {own} but does not run: {told.stderr.strip() if told else 'it is not there'}. {advice}"
        )
    return own
