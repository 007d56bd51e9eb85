# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m sandbox COMMAND`, from the repository's root, with the Python of .venv."""

from __future__ import annotations

import argparse
import subprocess
import sys

from . import build, extra, lifecycle, nginx
from .progress import Failure, say


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m sandbox", description="An Istio mesh on loopback, without containers.")
    commands = made.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="build what is not built, start what does not run, write .sandbox/env")
    commands.add_parser("down", help="stop everything; logs and built programs stay")
    commands.add_parser("status", help="what runs and whether it is healthy: exit code 0 healthy, 1 not healthy, 3 not running")
    commands.add_parser("build", help="only build the programs")
    commands.add_parser("nginx", help="print the path of a real nginx, unpacking one if need be")
    run = commands.add_parser("run", help="run one more process with the sandbox, until `stop NAME` or `down`")
    run.add_argument("name", help="its name in `status` and of its log")
    run.add_argument("--listens", metavar="ADDRESS:PORT", action="append", default=[], help="must be free before, and is waited for")
    run.add_argument("--reads", metavar="FILE", action="append", default=[], help="started anew when this file was written since the start")
    run.add_argument("argv", nargs="+", metavar="-- COMMAND", help="stays in the foreground: for nginx `-g 'daemon off;'`")
    stop = commands.add_parser("stop", help="stop a process that `run` started")
    stop.add_argument("name")
    for command in (run, stop):
        command.add_argument("--check", action="store_true", help="only tell what would be done: started, replaced, stopped or unchanged")
    return made


def main() -> int:
    arguments = parser().parse_args()
    try:
        match arguments.command:
            case "up":
                lifecycle.up()
            case "down":
                lifecycle.down()
            case "status":
                return lifecycle.status()
            case "build":
                build.build()
            case "nginx":
                print(nginx.find())
            case "run":
                print(extra.run(arguments.name, arguments.argv, arguments.listens, arguments.reads, check=arguments.check))
            case "stop":
                print(extra.stop_named(arguments.name, check=arguments.check))
    except Failure as failure:
        say(f"sandbox: {failure}")
        return 1
    except subprocess.CalledProcessError as error:
        say(f"sandbox: `{' '.join(map(str, error.cmd))}` failed with exit code {error.returncode}")
        return 1
    except KeyboardInterrupt:
        say("sandbox: interrupted")
        return 130
    return 0


sys.exit(main())
