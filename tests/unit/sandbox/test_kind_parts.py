# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What decides about the kind cluster: which images, which Docker, whether a cluster that is there will do."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.sandbox import layout, processes
from ansible_collections.meshops.istio.sandbox.kind import cluster, commands, docker, images, programs
from ansible_collections.meshops.istio.sandbox.kind.images import Image
from ansible_collections.meshops.istio.sandbox.kind.layout import HERE, PROGRAMS
from ansible_collections.meshops.istio.sandbox.progress import Failure


def fake(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the machine's own Docker and cluster."""
    monkeypatch.delenv(images.VARIABLE, raising=False)
    for module, name in ((docker, "RECORD"), (docker, "RUN"), (docker, "LOGS"), (docker, "DOCKER"), (docker, "LOG")):
        monkeypatch.setattr(module, name, tmp_path / name)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    (tmp_path / "path").mkdir()
    return tmp_path


# Which images.


def test_the_variable_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(images.VARIABLE, "download")
    with pytest.raises(Failure, match="MESHOPS_IMAGES=download: expected auto, pull or build"):
        images.choice()


@pytest.mark.parametrize("chosen", ["pull", "build"])
def test_the_variable_decides(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(images.VARIABLE, chosen)
    assert images.decide() == (chosen, "MESHOPS_IMAGES says so")


@pytest.mark.parametrize(
    ("script", "mode", "why"),
    [
        ("exit 0", "pull", "could be pulled"),
        ("echo one >&2; echo 'lookup registry: no such host' >&2; exit 1", "build", "could not be pulled: lookup registry: no such host"),
        ("sleep 5", "build", "did not end within 0 s"),
    ],
)
def test_otherwise_one_small_image_is_tried(script: str, mode: str, why: str, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{state}/path:/bin:/usr/bin")
    fake(state / "path" / "docker", f'echo "$*" >> {state}/asked; {script}')
    found, told = images.decide(seconds=0.3)
    assert found == mode
    assert why in told
    assert (state / "asked").read_text() == "pull --quiet docker.io/curlimages/curl:8.16.0\n"


def test_every_image_is_pinned() -> None:
    pins = images.pins()
    assert re.search(r":v[\d.]+@sha256:[0-9a-f]{64}$", pins["node"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", pins["istio"]["tag"])
    for names in pins["samples"].values():
        assert re.search(r":v?\d+(\.\d+)+$", names[0]), names


def test_the_samples_are_those_that_the_roles_name() -> None:
    defaults = yaml.safe_load((layout.ROOT / "roles" / "sample_workloads" / "defaults" / "main.yml").read_text())
    names = {name for image in images.sample_images() for name in image.names}
    assert {value for key, value in defaults.items() if key.endswith("_image")} <= names


def test_istio_uses_the_images_of_the_same_kind_as_the_node() -> None:
    built = cluster.settings_of_istio(f"{images.REPOSITORY}:0123456789ab")
    names = {name for image in images.istio_images() for name in image.names}
    hub, tag = (next(word.partition("=")[2] for word in built if word.startswith(f"{key}=")) for key in ("hub", "tag"))
    assert names == {f"docker.io/{hub}/pilot:{tag}", f"docker.io/{hub}/proxyv2:{tag}"}
    assert str(HERE / "istio-plain-envoy.yaml") in built
    pulled = cluster.settings_of_istio(images.pins()["node"])
    assert pulled == ["--set", "hub=docker.io/istio", "--set", f"tag={images.pins()['istio']['tag']}"]


@pytest.mark.parametrize(
    ("choice", "image", "right"),
    [
        ("auto", "docker.io/kindest/node:v1.37.0@sha256:aa", True),
        ("auto", "kindest/node@sha256:aa", True),
        ("auto", "meshops/kind-node:new", True),
        ("auto", "meshops/kind-node:old", False),
        ("auto", "docker.io/kindest/node:v1.36.0@sha256:bb", False),
        ("pull", "meshops/kind-node:new", False),
        ("build", "docker.io/kindest/node:v1.37.0@sha256:aa", False),
        ("build", "meshops/kind-node:new", True),
    ],
)
def test_which_clusters_will_do(choice: str, image: str, right: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(images.VARIABLE, choice)
    monkeypatch.setattr(images, "pins", lambda: {"node": "docker.io/kindest/node:v1.37.0@sha256:aa"})
    monkeypatch.setattr(images, "node_name", lambda: "meshops/kind-node:new")
    assert cluster.is_right(image) is right


# Images of our own.


def test_the_archive_holds_every_layer_once_and_names_it_by_its_content(tmp_path: Path) -> None:
    base, program = tmp_path / "base.tar", tmp_path / "program"
    base.write_bytes(b"Debian")
    program.write_bytes(b"a program")
    on_base = [Image([f"docker.io/x/{name}:1"], {}, {"Cmd": [name]}) for name in ("curl", "nginx")]
    alone = Image(["registry.k8s.io/pause:3"], {"usr/local/bin/pause": program}, {"Entrypoint": ["/pause"]}, on_debian=False)
    on_both = Image(["docker.io/x/proxy:1", "docker.io/x/proxy:2"], {"usr/local/bin/proxy": program})
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        images.write_archive(archive, [*on_base, alone, on_both], base, tmp_path)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        names = archive.getnames()
        content = {name: archive.extractfile(name).read() for name in names}
    base_layer = f"{hashlib.sha256(b'Debian').hexdigest()}.tar"
    assert names.count(base_layer) == 1
    for name in names:
        if name.endswith(".tar"):
            assert name == f"{hashlib.sha256(content[name]).hexdigest()}.tar"
    manifest = json.loads(content["manifest.json"])
    assert [one["RepoTags"] for one in manifest] == [list(image.names) for image in (*on_base, alone, on_both)]
    assert [len(one["Layers"]) for one in manifest] == [1, 1, 1, 2]
    for one in manifest:
        configuration = json.loads(content[one["Config"]])
        assert [f"{digest.removeprefix('sha256:')}.tar" for digest in configuration["rootfs"]["diff_ids"]] == one["Layers"]
    (layer,) = manifest[2]["Layers"]
    with tarfile.open(fileobj=io.BytesIO(content[layer])) as opened:
        (member,) = opened.getmembers()
    assert (member.name, member.mode, member.uid, member.mtime) == ("usr/local/bin/pause", 0o755, 0, 0)


@pytest.mark.parametrize("changed", ["netpol.py", "images.yml", "node/usr/local/bin/podnet"])
def test_another_node_image_is_wanted_when_what_it_is_made_from_changes(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "kind"
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, path in (("HERE", copy), ("NODE", copy / "node"), ("PINS", copy / "images.yml")):
        monkeypatch.setattr(images, name, path)
    before = images.node_name()
    assert re.fullmatch(r"meshops/kind-node:[0-9a-f]{12}", before)
    with (copy / changed).open("a") as opened:
        opened.write("# more\n")
    assert images.node_name() != before


def test_units_that_are_enabled_are_there() -> None:
    units = images.NODE / "etc" / "systemd" / "system"
    assert {path.name for path in units.iterdir()} == set(images.ENABLED)


def test_only_root_can_make_a_node_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Failure, match=r"by root only.* MESHOPS_IMAGES=pull needs neither"):
        images.require_builder()


def test_the_programs_are_pinned() -> None:
    tools = (PROGRAMS / "go.mod").read_text()
    for package in (*programs.TOOLS.values(), *programs.NODE):
        if package.startswith("./"):
            assert (PROGRAMS / package / "main.go").is_file()
        else:
            assert re.search(rf"^(tool |\t){re.escape(package)}$", tools, re.MULTILINE), package
    sandbox = (layout.PROGRAMS / "go.mod").read_text()
    for package in programs.KUBERNETES:
        assert re.search(rf"^(tool |\t){re.escape(package)}$", sandbox, re.MULTILINE), package


# Docker.


@pytest.mark.parametrize(("bounding", "has"), [("000001ffffffffff", True), ("000001fffeffffff", False), ("0000000000000000", False)])
def test_whether_the_machine_permits_all_that_runc_wants(bounding: str, has: bool) -> None:
    assert docker.has_sys_resource(f"Name:\tx\nCapPrm:\t000001ffffffffff\nCapBnd:\t{bounding}\n") is has


def test_a_docker_that_answers_is_taken(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(state / "path" / "docker", "exit 0")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert docker.ensure() == "the Docker that runs here"
    assert docker.environment() == {}


def test_a_docker_that_does_not_answer_needs_root(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(state / "path" / "docker", "echo 'permission denied while trying to connect' >&2; exit 1")
    fake(state / "path" / "dockerd", "exit 1")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Failure, match=r"only root can start it(.|\n)*permission denied(.|\n)*sudo systemctl start docker"):
        docker.ensure()


def test_what_is_missing_and_cannot_be_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(commands, "find", lambda program: None)
    with pytest.raises(Failure, match=r"the kind cluster needs docker.io iptables: as root, `apt-get install docker.io iptables`"):
        docker.ensure()


def test_our_own_docker_is_known_by_more_than_its_number(state: Path) -> None:
    ours = {"pid": os.getpid(), "started": processes.identity(os.getpid())}
    docker.RECORD.write_text(json.dumps(ours))
    assert docker.own()
    assert docker.environment() == {"DOCKER_HOST": f"unix://{docker.SOCKET}"}
    docker.RECORD.write_text(json.dumps(ours | {"started": "an earlier boot:1"}))
    assert docker.own() is None
    assert docker.has_died()
    docker.RECORD.write_text("{")
    assert docker.own() is None


def test_failing_commands_tell_what_they_said(state: Path) -> None:
    path = fake(state / "path" / "kind", "echo started; echo 'ERROR: no space left' >&2; exit 3")
    with pytest.raises(Failure, match=r"`kind create cluster` failed with exit code 3:\nERROR: no space left"):
        commands.run([path, "create", "cluster"])


# The cluster.


def node(**changes: Any) -> dict[str, Any]:
    found = {"State": {"Running": True, "Status": "running"}, "NetworkSettings": {"Networks": {"kind": {"IPAddress": "172.18.0.2"}}}}
    return found | changes


def test_a_stopped_node_is_not_healthy() -> None:
    assert cluster.troubles(node(State={"Running": False, "Status": "exited"})) == ["its container meshops-control-plane does not run"]


def deployment(name: str, wanted: int, available: int | None) -> dict[str, Any]:
    status = {} if available is None else {"availableReplicas": available}
    return {"metadata": {"namespace": "istio-system", "name": name}, "spec": {"replicas": wanted}, "status": status}


def test_missing_pods_are_counted() -> None:
    listed = [deployment("istiod", 1, 1), deployment("istio-egressgateway", 2, 1), deployment("off", 0, None), deployment("new", 1, None)]
    assert cluster.unavailable({"items": listed}) == [
        "istio-system/istio-egressgateway: 1 of 2 Pods are available",
        "istio-system/new: 0 of 1 Pods are available",
    ]


def test_env_has_the_names_of_the_sandboxs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ENV", tmp_path / "env")
    cluster.write_env("172.18.0.2")
    script = f". {tmp_path}/env; . {tmp_path}/env; env"
    answer = subprocess.run(["/bin/sh", "-euc", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in answer.stdout.splitlines() if "=" in line)
    assert found["INGRESS_HOST"] == "172.18.0.2"
    assert found["SECURE_INGRESS_PORT"] == "443"
    assert found["NO_PROXY"] == "localhost,127.0.0.1,172.18.0.2"
    assert found["PATH"] == f"{layout.VENV}/bin:{layout.BIN}:/usr/bin:/bin"
    inventory = yaml.safe_load(Path(found["ANSIBLE_INVENTORY"]).read_text())
    assert list(inventory["all"]["hosts"]) == ["kind"]
    assert stat.S_IMODE((tmp_path / "env").stat().st_mode) == 0o600
