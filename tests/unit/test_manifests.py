# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects from files, as people have them."""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.manifests import read_manifests
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import ref_of
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected

ONE = "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: n}\nstringData: {tls.crt: x}\n"
TWO = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, creationTimestamp: 2026-01-01T00:00:00Z}\nspec: {}\n"


def names(*paths: Path) -> list[str]:
    found = read_manifests([str(path) for path in paths], "paths")
    return [f"{item['kind']} {item['metadata']['namespace']}/{item['metadata']['name']}" for item in found.objects]


def test_several_documents_and_empty_ones(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"---\n{ONE}---\n# nothing\n---\n{TWO}")
    assert names(tmp_path / "a.yaml") == ["Secret n/a", "Gateway default/g"]


def test_what_the_api_server_would_show(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{ONE}---\n{TWO}")
    secret, gateway = read_manifests([str(tmp_path / "a.yaml")], "paths").objects
    assert secret["data"] == {"tls.crt": base64.b64encode(b"x").decode()} and "stringData" not in secret
    assert gateway["metadata"]["creationTimestamp"].startswith("2026-01-01")


@pytest.mark.parametrize("kind", ["List", "GatewayList"])
def test_a_dump_of_kubectl(tmp_path: Path, kind: str) -> None:
    item = {"metadata": {"name": "g", "namespace": "n"}, "spec": {}}
    if kind == "List":
        item |= {"apiVersion": "networking.istio.io/v1", "kind": "Gateway"}
    (tmp_path / "a.json").write_text(json.dumps({"apiVersion": "networking.istio.io/v1", "kind": kind, "items": [item]}))
    assert names(tmp_path / "a.json") == ["Gateway n/g"]


def test_a_directory_with_other_things_in_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "b.yaml").write_text(ONE)
    (tmp_path / "sub" / "a.yml").write_text(ONE)
    (tmp_path / "readme.md").write_text("kind: Secret")
    (tmp_path / "values.yaml").write_text("replicas: 3\nkind: nothing\n")
    assert names(tmp_path) == ["Secret n/a"]


def test_archives(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name in ("../../etc/a.yaml", "dir/b.json"):
            member = tarfile.TarInfo(name)
            data = (
                ONE.encode()
                if name.endswith("yaml")
                else json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}).encode()
            )
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as zipped:
        zipped.writestr("x/c.yaml", TWO)
    assert names(tmp_path / "a.tar.gz", tmp_path / "b.zip") == ["Secret n/a", "Service default/s", "Gateway default/g"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "b.zip"]


def test_what_is_no_yaml_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{ONE}---\nmetadata: {{{{ .Values.x }}}}\n  b: [\n")
    (tmp_path / "b.yaml").write_text(TWO)
    found = read_manifests([str(tmp_path)], "paths")
    assert len(found.objects) == 2
    assert len(found.notes) == 1 and "a.yaml" in found.notes[0] and "is no YAML" in found.notes[0]


@pytest.mark.parametrize("name", ["missing.yaml", "empty.yaml", "broken.tar.gz", "broken.zip"])
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.yaml").write_text("a: b\n")
    for broken in ("broken.tar.gz", "broken.zip"):
        (tmp_path / broken).write_bytes(b"not an archive")
    with pytest.raises(Rejected) as refused:
        read_manifests([str(tmp_path / name)], "paths")
    (problem,) = refused.value.problems
    assert problem.code == "manifests_unreadable" and problem.where == f"paths[0] {tmp_path / name}"


@pytest.mark.parametrize("name", ["pipe.yaml", "pipe.tar.gz", "pipe.zip"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(Rejected, match="found: a pipe"):
        read_manifests([str(tmp_path / name)], "paths")
    with pytest.raises(Rejected, match="found no Kubernetes object"):  # in a directory they are passed over
        read_manifests([str(tmp_path)], "paths")


@pytest.mark.parametrize("value", ["3", "[1]", "'%%%'", "{a: b}", "null"])
def test_placeholders_in_secrets(tmp_path: Path, value: str) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {tls.crt: VALUE}\n".replace("VALUE", value))
    (secret,) = read_manifests([str(tmp_path / "a.yaml")], "paths").objects
    assert secret["data"] == {"tls.crt": ""}


# --- where objects stand


def lines(*paths: Path) -> dict[str, tuple[str, int]]:
    return {str(ref): (source.file, source.line) for ref, source in read_manifests([str(path) for path in paths], "paths").sources.items()}


def test_every_object_knows_its_file_and_line(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.yaml").write_text(f"# for the shop\n---\n# a secret\n{ONE}---\n\n{TWO}")
    assert lines(tmp_path) == {"Secret n/a": ("sub/a.yaml", 4), "Gateway default/g": ("sub/a.yaml", 10)}


def test_items_of_lists_have_lines_of_their_own(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: elsewhere")
    item = "apiVersion: v1\n  kind: Service\n  metadata: {name: NAME}\n"
    items = "".join(f"- {item.replace('NAME', name)}" for name in "ab")
    (tmp_path / "a.yaml").write_text(f"kind: List\napiVersion: v1\nitems:\n{items}---\n{items}".replace("name: b}\n---", "name: c}\n---"))
    assert lines(tmp_path / "a.yaml") == {f"Service default/{name}": ("a.yaml", line) for name, line in (("a", 11), ("c", 7), ("b", 14))}


@pytest.mark.parametrize(
    "text",
    [
        "x: &x {items: [OBJECT]}\n<<: *x\nkind: List\n",  # merged, so that it stands elsewhere
        "kind: List\nitems: [1]\nitems: [OBJECT]\n",
        "kind: List\nitems: &y [OBJECT]\nagain: *y\n",
        "[[[OBJECT]]]\n",
    ],
)
def test_strange_lists_have_lines_too(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text.replace("OBJECT", "{apiVersion: v1, kind: Service, metadata: {name: s}}"))
    found = read_manifests([str(tmp_path)], "paths")
    assert found.notes == [] and len(found.objects) == 1
    assert 1 <= found.sources[ref_of(found.objects[0])].line <= 3


def test_the_last_of_several_counts(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ONE)
    (tmp_path / "b.yaml").write_text(f"\n{ONE}")
    assert [(Path(file).name, line) for file, line in lines(tmp_path).values()] == [("b.yaml", 2)]


def test_outside_a_repository_files_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a.yaml").write_text(ONE)
    (tmp_path / "b.yaml").write_text(TWO)
    with zipfile.ZipFile(tmp_path / "here" / "c.zip", "w") as zipped:
        zipped.writestr("x/c.yaml", ONE.replace("name: a", "name: c"))
    monkeypatch.chdir(tmp_path / "here")
    assert lines(Path(), tmp_path / "b.yaml") == {
        "Secret n/a": ("a.yaml", 1),
        "Secret n/c": ("c.zip: x/c.yaml", 1),
        "Gateway default/g": (f"{tmp_path}/b.yaml", 1),
    }
