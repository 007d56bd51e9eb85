# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m sandbox.kind COMMAND`, from the repository's root, with the Python of .venv."""

from __future__ import annotations

import argparse
import sys

from ..progress import Clock, Failure, say
from . import cluster, docker, images


def parser() -> argparse.ArgumentParser:
    described = f"A kind cluster with Istio. {images.VARIABLE}=pull uses published images, build makes them, auto (default) finds out."
    made = argparse.ArgumentParser(prog="python -m sandbox.kind", description=described)
    commands = made.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="make the cluster unless it is there and healthy, write .sandbox/kind/env")
    commands.add_parser("down", help="remove the cluster, and stop Docker where we started it; images stay")
    commands.add_parser("status", help="whether it is healthy: exit code 0 healthy, 1 not healthy, 3 not running")
    commands.add_parser("build", help="only what `up` would do before it makes the cluster; Docker goes on running")
    return made


def main() -> int:
    arguments = parser().parse_args()
    try:
        match arguments.command:
            case "up":
                cluster.up()
            case "down":
                cluster.down()
            case "status":
                return cluster.status()
            case "build":
                with cluster.locked():
                    docker.ensure()
                    say(cluster.node_image(Clock()))
    except Failure as failure:
        say(f"sandbox.kind: {failure}")
        return 1
    except KeyboardInterrupt:
        say("sandbox.kind: interrupted")
        return 130
    return 0


sys.exit(main())
