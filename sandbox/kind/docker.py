# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker: the one that runs already, or one of our own, with its data under .sandbox, which `down` stops."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from .. import processes
from ..progress import Failure, say
from . import commands, programs
from .layout import DOCKER, LOGS, STATE

RECORD = STATE / "dockerd.json"
LOG = LOGS / "dockerd.log"
# a socket's path may have no more than 107 characters, so it cannot stand below the repository
RUN = Path("/run") / f"meshops-kind-{hashlib.sha256(str(STATE).encode()).hexdigest()[:8]}"
SOCKET = RUN / "docker.sock"
SYS_RESOURCE = 24
"""Bit of CAP_SYS_RESOURCE."""


def has_sys_resource(status: str | None = None) -> bool:
    """Whether a privileged container can have all that runc wants to give it."""
    match = re.search(r"^CapBnd:\s*([0-9a-f]+)$", status or Path("/proc/self/status").read_text(), re.MULTILINE)
    return bool(match and int(match[1], 16) >> SYS_RESOURCE & 1)


def own() -> processes.Record | None:
    """The daemon that we started, when it lives."""
    try:
        data = json.loads(RECORD.read_text())
        record = processes.Record("dockerd", data["pid"], data["started"], ())
    except (OSError, ValueError, KeyError):
        return None
    return record if processes.is_alive(record) else None


def environment() -> Mapping[str, str]:
    """What `docker` and `kind` need to find the daemon."""
    return {"DOCKER_HOST": f"unix://{SOCKET}"} if own() else {}


def docker(*arguments: str | Path, text: str | None = None, seconds: float | None = None) -> str:
    return commands.run(["docker", *arguments], environment=environment(), text=text, seconds=seconds)


def answers() -> bool:
    return bool(shutil.which("docker")) and commands.works(["docker", "info"], environment=environment())


def _why_not() -> str:
    """What the Docker that should run says."""
    try:
        docker("info", "--format", "{{.ServerVersion}}", seconds=20)
    except Failure as failure:
        return str(failure)
    return ""


def _start() -> None:
    daemon = commands.find("dockerd")
    assert daemon  # noqa: S101  `ensure` has seen to it
    for directory in (LOGS, DOCKER, RUN):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [daemon, f"--host=unix://{SOCKET}", f"--data-root={DOCKER}", f"--exec-root={RUN / 'exec'}", f"--pidfile={RUN / 'pid'}"]
    if not has_sys_resource():
        programs.build_tool("runcwrap")
        command += [f"--add-runtime=runcwrap={programs.path('runcwrap')}", "--default-runtime=runcwrap"]
    # the sandbox ends whatever carries its mark
    inherited = {name: value for name, value in os.environ.items() if name != processes.MARK}
    search = f"{inherited.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # iptables
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd="/",
            env={**inherited, "PATH": search},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = processes.identity(process.pid) or ""
    RECORD.write_text(json.dumps({"pid": process.pid, "started": started}))
    deadline = time.monotonic() + 60
    while not answers():
        if process.poll() is not None or time.monotonic() > deadline:
            stop()
            raise Failure(f"dockerd did not start. The last lines of {LOG}:\n{processes.last_lines(LOG)}")
        time.sleep(0.2)
    process.returncode = 0  # it goes on after we end


def prepare_host() -> None:
    """What kind and a node full of Pods want of the machine, where we may give it."""
    if os.geteuid() != 0:
        return
    Path("/lib/modules").mkdir(exist_ok=True)  # kind mounts it into the node
    instances = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(instances.read_text()) < 1024:
        say(f"setting {instances} to 1024")
        instances.write_text("1024")


def ensure() -> str:
    """Makes sure that a Docker answers; says which one."""
    if answers():
        prepare_host()
        return "own Docker" if own() else "the Docker that runs here"
    if not commands.find("dockerd"):
        # Debian 13 and newer have the command line in a package of its own
        split = shutil.which("apt-cache") and commands.works(["apt-cache", "show", "docker-cli"])
        wanted = {"dockerd": "docker.io", "docker": "docker-cli" if split else "docker.io", "iptables": "iptables"}
        commands.require(wanted, "the kind cluster")
        if answers():  # its package starts it where there is an init system
            prepare_host()
            return "Docker, which was installed"
    if os.geteuid() != 0:
        raise Failure(
            f"Docker does not answer, and only root can start it. {_why_not()}\nStart it (`sudo systemctl start docker`), and let this user "
            "use it (`sudo usermod --append --groups docker `, then log in anew)"
        )
    stop()  # of an earlier one
    _start()
    prepare_host()
    return "own Docker, which was started"


def has_died() -> bool:
    """Whether the one that we started ended without us."""
    return RECORD.is_file() and not own()


def revive() -> None:
    """One that was killed has left containers behind, which only its successor ends."""
    if has_died() and commands.find("dockerd") and os.geteuid() == 0:
        say("the Docker that we started has ended by itself: starting it again to clean up")
        _start()


def stop() -> bool:
    """Ends the daemon that we started, with its containers; False when there was none."""
    record = own()
    if record:
        processes.end([record.pid], 30)
    RECORD.unlink(missing_ok=True)
    shutil.rmtree(RUN, ignore_errors=True)
    return record is not None
