# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the programs of Kubernetes and Istio from their Go modules, through Go's own cache, and says how far it is."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import queue
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from . import go
from .layout import BIN, PROGRAMS, SHARE
from .progress import Failure, Ticker, say

ETCD = "go.etcd.io/etcd/server/v3"
PACKAGES = (
    "k8s.io/kubernetes/cmd/kube-apiserver",
    "k8s.io/kubernetes/cmd/kube-controller-manager",
    "k8s.io/kubernetes/cmd/kubectl",
    "istio.io/istio/pilot/cmd/pilot-discovery",
    "istio.io/istio/pilot/cmd/pilot-agent",
    "istio.io/istio/istioctl/cmd/istioctl",
    "github.com/mccutchen/go-httpbin/v2/cmd/go-httpbin",
)
NAMES = ("etcd", *(package.rsplit("/", 1)[-1] for package in PACKAGES))
SHARED = {
    "crds.yaml": "manifests/charts/base/files/crd-all.gen.yaml",
    "envoy_bootstrap.json": "tools/packaging/common/envoy_bootstrap.json",
}
ISTIO_VERSION = "1.31.1"
"""What istiod says it is; the module in go.mod is a commit, which has no release number of its own."""
FLAGS = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly"}
GARBAGE = "400"
"""How much more memory than it needs a compiler may take, in percent; with Go's 100 it spends a tenth more time looking for what it no longer needs."""
STAMP = BIN / ".built-from"


def wanted_stamp() -> str:
    parts = [(PROGRAMS / "go.mod").read_text(), (PROGRAMS / "go.sum").read_text(), ETCD, PACKAGES, SHARED, ISTIO_VERSION, FLAGS]
    return hashlib.sha256(json.dumps([*parts, platform.machine()]).encode()).hexdigest()


def is_built() -> bool:
    files = [*(BIN / name for name in NAMES), *(SHARE / name for name in SHARED)]
    return STAMP.is_file() and STAMP.read_text() == wanted_stamp() and all(path.is_file() for path in files)


def linker_flags(kubernetes: str, istio: str) -> str:
    """What the programs answer to `version`. `kubernetes` is `v1.36.3`, `istio` a pseudo-version that ends in the commit."""
    major, minor, __ = kubernetes.lstrip("v").split(".", 2)
    base, build = "k8s.io/component-base/version", "istio.io/istio/pkg/version"
    values = {
        f"{base}.gitVersion": kubernetes,
        f"{base}.gitMajor": major,
        f"{base}.gitMinor": minor,
        f"{build}.buildVersion": ISTIO_VERSION,
        f"{build}.buildGitRevision": istio.rsplit("-", 1)[-1],
        f"{build}.buildStatus": "Clean",
        f"{build}.buildTag": ISTIO_VERSION,
    }
    return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in values.items())])


def _follow(directory: Path, command: Sequence[str | Path], progress: Callable[[list[str]], str]) -> list[str]:
    """Runs a go command in a module and returns what it printed; `progress` makes the line to show from the lines so far."""
    lines: list[str] = []
    feed: queue.Queue[str | None] = queue.Queue()
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=directory,
        env={"GOGC": GARBAGE, **go.environment(command[0]), **FLAGS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = process.stdout
    assert output is not None  # noqa: S101

    def read() -> None:
        for line in output:
            feed.put(line.rstrip())
        feed.put(None)

    threading.Thread(target=read, daemon=True).start()
    ticker = Ticker()
    try:
        while True:
            try:
                line = feed.get(timeout=0.5)
                if line is None:
                    break
                lines.append(line)
            except queue.Empty:
                pass
            ticker.tell(lambda: progress(lines))
    except BaseException:
        process.terminate()
        raise
    finally:
        ticker.close()
        process.wait()
    if process.returncode:
        told = [line for line in lines if not re.fullmatch(r"[\w./~-]+", line) and not line.startswith("go: downloading")]
        raise Failure(f"`{' '.join(str(word) for word in command[:3])} ...` failed in {directory}:\n" + "\n".join(told[-20:] or lines[-5:]))
    return lines


@functools.cache
def versions() -> tuple[str, str, Path]:
    """Of Kubernetes and Istio in go.mod, and where Istio's module is."""
    wanted = ["k8s.io/kubernetes", "istio.io/istio"]
    # with an empty module cache a module has no directory yet
    _follow(PROGRAMS, [go.find(), "mod", "download", *wanted], lambda __: "fetching Kubernetes' and Istio's own modules")
    lines = _follow(
        PROGRAMS,
        [go.find(), "list", "-m", "-f", "{{.Version}} {{.Dir}}", *wanted],
        lambda __: "asking Go which Kubernetes and Istio go.mod names",
    )
    (kubernetes, __), (istio, directory) = (line.split(" ", 1) for line in lines if not line.startswith("go: "))
    return kubernetes, istio, Path(directory)


def compile_all(directory: Path, outputs: Sequence[tuple[str, Sequence[str]]], flags: Sequence[str]) -> None:
    """Builds packages of a module, each group to a file or, with a slash at the end, into a directory, and tells how far it is."""
    program = go.find()
    start = time.monotonic()

    def elapsed() -> str:
        return f"{time.monotonic() - start:5.0f} s"

    def fetching(lines: list[str]) -> str:
        last = next((line.removeprefix("go: downloading ") for line in reversed(lines) if line.startswith("go: downloading")), "")
        return f"{elapsed()}  fetching Go modules: {sum(line.startswith('go: downloading') for line in lines)} so far  {last}"

    packages = [package for __, group in outputs for package in group]
    listed = _follow(directory, [program, "list", "-deps", "-f", "{{.ImportPath}}", *packages], fetching)
    total = len({line for line in listed if not line.startswith("go: ")})

    def compiling(lines: list[str]) -> str:
        last = next((line for line in reversed(lines) if not line.startswith("go: ")), "linking, or found in the cache")
        return f"{elapsed()}  compiled {sum(not line.startswith('go: ') for line in lines)} of at most {total} packages  {last}"

    for output, group in outputs:
        _follow(directory, [program, "build", "-v", "-trimpath", *flags, "-o", output, *group], compiling)


def make_for_tests(directory: Path, packages: Sequence[str]) -> None:
    """Builds programs that only tests use, where they are missing or old: seconds, for they share nothing with what the sandbox is made of."""
    stamp = BIN / f".{directory.name}-built-from"
    made_from = [(directory / name).read_text() for name in ("go.mod", "go.sum")]
    wanted = hashlib.sha256(json.dumps([*made_from, *packages, platform.machine()]).encode()).hexdigest()
    if not (stamp.is_file() and stamp.read_text() == wanted and all((BIN / package.rpartition("/")[2]).is_file() for package in packages)):
        BIN.mkdir(parents=True, exist_ok=True)
        compile_all(directory, [(f"{BIN}/", packages)], ["-ldflags", "-s -w"])
        stamp.write_text(wanted)


def build() -> None:
    if is_built():
        return
    start = time.monotonic()
    say(f"building {', '.join(NAMES)} with {go.find()} (10 to 15 minutes on two cores with an empty cache, seconds with a full one)")
    BIN.mkdir(parents=True, exist_ok=True)
    STAMP.unlink(missing_ok=True)
    kubernetes, istio, istio_directory = versions()
    compile_all(PROGRAMS, [(str(BIN / "etcd"), [ETCD]), (f"{BIN}/", PACKAGES)], ["-ldflags", linker_flags(kubernetes, istio)])
    SHARE.mkdir(parents=True, exist_ok=True)
    for name, path in SHARED.items():
        shutil.copyfile(istio_directory / path, SHARE / name)
    STAMP.write_text(wanted_stamp())
    say(f"built in {time.monotonic() - start:.0f} s")
