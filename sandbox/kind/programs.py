# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Go programs that the sandbox does not need: kind itself, and what a node is made of."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from pathlib import Path

from .. import build
from ..layout import PROGRAMS as SANDBOX_PROGRAMS
from .layout import BIN, PROGRAMS

CONTAINERD = "github.com/containerd/containerd/v2/cmd"
TOOLS = {"kind": "sigs.k8s.io/kind", "runcwrap": "./runcwrap"}
NODE = (
    f"{CONTAINERD}/containerd",
    f"{CONTAINERD}/containerd-shim-runc-v2",
    f"{CONTAINERD}/ctr",
    "sigs.k8s.io/cri-tools/cmd/crictl",
    "./coredns",
    "./pause",
    "./runcwrap",
)
KUBERNETES = tuple(f"k8s.io/kubernetes/cmd/{name}" for name in ("kubeadm", "kubelet", "kube-proxy", "kube-scheduler"))
FLAGS = ("-tags", "no_btrfs,no_devmapper,no_zfs", "-ldflags", "-s -w")


def path(name: str) -> Path:
    return BIN / name


def sources() -> str:
    """A digest of all that decides about the programs of `NODE`, `KUBERNETES` and `TOOLS`."""
    files = [PROGRAMS / "go.mod", PROGRAMS / "go.sum", *sorted(PROGRAMS.glob("*/*.go"))]
    parts = [*(file.read_text() for file in files), TOOLS, NODE, KUBERNETES, FLAGS, build.wanted_stamp(), platform.machine()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _compile(directory: Path, packages: Sequence[str], flags: Sequence[str]) -> None:
    BIN.mkdir(parents=True, exist_ok=True)
    build.compile_all(directory, [(f"{BIN}/", packages)], flags)


def build_tool(name: str) -> None:
    """`kind` or `runcwrap`."""
    stamp = BIN / f".{name}-built-from"
    if not (path(name).is_file() and stamp.is_file() and stamp.read_text() == sources()):
        _compile(PROGRAMS, [TOOLS[name]], FLAGS)
        stamp.write_text(sources())


def build_node() -> None:
    """Go finds out by itself what is new."""
    _compile(PROGRAMS, NODE, FLAGS)
    kubernetes, istio, __ = build.versions()
    _compile(SANDBOX_PROGRAMS, KUBERNETES, ["-ldflags", build.linker_flags(kubernetes, istio)])
