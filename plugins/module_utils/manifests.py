# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes objects from files: manifests, directories of them, dumps, and archives, without unpacking anything to disk."""

from __future__ import annotations

import base64
import binascii
import io
import os
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any

from .istio.snapshot import placed
from .objects.kinds import Manifest, Ref, ref_of
from .problems import Problem, Rejected
from .regular_file import regular_file

_SUFFIXES = (".yaml", ".yml", ".json")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
_LARGEST = 256 * 1024 * 1024
"""Bytes of one file, and of all that is read from one archive."""
_DEEPEST = 64


@dataclass(frozen=True)
class Source:
    """Where an object stands."""

    file: str
    """Relative to the Git repository that it is in, else to the working directory, else absolute; of a file in an archive, both with `: ` between."""
    line: int
    """Of the object's first line, counted from 1."""


@dataclass
class Manifests:
    """What was found in files."""

    objects: list[Manifest] = field(default_factory=list, repr=False)  # Secrets are among them
    notes: list[str] = field(default_factory=list)
    """What was passed over, and why."""
    files: int = 0
    sources: dict[Ref, Source] = field(default_factory=dict)
    """Of each object; of one that is there several times, the last, which is the one that counts."""


def read_manifests(paths: Sequence[str], option: str) -> Manifests:
    """Everything in the files, directories and archives. Raises Rejected for a path that cannot be read at all, or that holds no object."""
    found = Manifests()
    for number, text in enumerate(paths):
        where, before = f"{option}[{number}] {text}", len(found.objects)
        try:
            _read_path(Path(text), found)
        except OSError as error:
            raise Rejected(_unreadable(where, f"found: {error.strerror or error}", "correct the path, or its permissions")) from None
        except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
            raise Rejected(_unreadable(where, f"found an archive that cannot be read ({error})", "make it again")) from None
        if len(found.objects) == before:
            message = "found no Kubernetes object in it"
            raise Rejected(_unreadable(where, message, "name files with manifests (YAML or JSON), directories, or archives of them"))
    return found


def _unreadable(where: str, found: str, remedy: str) -> Problem:
    return Problem("manifests_unreadable", where, f"expected manifests, {found}", remedy)


def _read_path(path: Path, found: Manifests) -> None:
    if path.is_dir():
        for inner in sorted(one for one in path.rglob("*") if one.is_file()):
            if inner.name.lower().endswith((*_SUFFIXES, *_ARCHIVES)) and ".git" not in inner.parts:
                _read_path(inner, found)
        return
    name = path.name.lower()
    if name.endswith(".zip"):
        with regular_file(str(path)) as file, zipfile.ZipFile(file) as archive:
            _read_members(((one.filename, archive.open(one), one.file_size) for one in archive.infolist() if not one.is_dir()), path, found)
        return
    if name.endswith(_ARCHIVES):
        with regular_file(str(path)) as file, tarfile.open(fileobj=file) as opened:
            _read_members(_tar_members(opened), path, found)
        return
    with regular_file(str(path)) as file:
        _read_text(file.read(_LARGEST + 1), str(path), _shown(path), found)


def _tar_members(archive: tarfile.TarFile) -> Iterator[tuple[str, IO[bytes], int]]:
    for one in archive:
        if one.isfile() and (opened := archive.extractfile(one)):
            yield one.name, opened, one.size


def _read_members(members: Iterator[tuple[str, IO[bytes], int]], where: Path, found: Manifests) -> None:
    left = _LARGEST
    for name, opened, size in members:
        if not name.lower().endswith(_SUFFIXES):
            continue
        left -= size
        if left < 0:
            found.notes.append(f"{where}: only its first {_LARGEST >> 20} MiB were read")
            return
        with opened:
            _read_text(opened.read(size), f"{where}: {name}", f"{_shown(where)}: {name}", found)


def _read_text(data: bytes, where: str, shown: str, found: Manifests) -> None:
    if len(data) > _LARGEST:
        found.notes.append(f"{where} was not read: it is larger than {_LARGEST >> 20} MiB")
        return
    import yaml

    found.files += 1
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a large dump takes ten times as long without libyaml
    try:
        for document, node in _documents(loader(io.BytesIO(data))):
            for item, first in _objects(document, node, 0):
                made = _completed(item)
                found.objects.append(made)
                found.sources[ref_of(made)] = Source(shown, first)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        problem = " ".join(str(getattr(error, "problem", None) or error).split())[:120]
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        found.notes.append(f"{where} was not read{f' beyond line {line}' if line is not None else ''}: it is no YAML ({problem})")


def _documents(loader: Any) -> Iterator[tuple[Any, Any]]:
    """What `yaml.load_all` gives, with the node of each, which knows its lines."""
    try:
        while loader.check_node():
            node = loader.get_node()
            yield loader.construct_document(node), node
    finally:
        loader.dispose()


def _objects(document: Any, node: Any, depth: int) -> Iterator[tuple[dict[str, Any], int]]:
    """The objects of a document with their lines: itself, or the items of a list of them."""
    if isinstance(document, list) and depth < _DEEPEST:
        for item, inner in zip(document, _nodes(node, len(document)), strict=True):
            yield from _objects(item, inner, depth + 1)
    elif isinstance(document, dict) and isinstance(document.get("items"), list) and str(document.get("kind") or "List").endswith("List"):
        kind = str(document.get("kind") or "List").removesuffix("List")
        held = next((value for key, value in reversed(node.value) if key.value == "items"), node)
        for item, inner in zip(document["items"], _nodes(held, len(document["items"])), strict=True):
            if isinstance(item, dict) and kind and "kind" not in item:
                item = {"apiVersion": document.get("apiVersion"), "kind": kind, **item}
            yield from _objects(item, inner, depth + 1)
    elif isinstance(document, dict) and all(isinstance(document.get(name), str) for name in ("apiVersion", "kind")):
        metadata = document.get("metadata")
        if isinstance(metadata, dict) and isinstance(metadata.get("name"), str):
            yield document, node.start_mark.line + 1


def _nodes(node: Any, number: int) -> Sequence[Any]:
    """The nodes of a sequence's items; the sequence's own for each where they cannot be told (a merged key)."""
    inner = node.value if isinstance(node.value, list) else []
    return inner if len(inner) == number and not any(isinstance(one, tuple) for one in inner) else [node] * number


@cache
def _repository(directory: Path) -> Path | None:
    """The Git repository that a directory is in."""
    return next((one for one in (directory, *directory.parents) if (one / ".git").exists()), None)


def _shown(path: Path) -> str:
    whole = Path(os.path.abspath(path))  # noqa: PTH100 (links stay as they are written)
    for root in (_repository(whole.parent), Path.cwd()):
        if root and whole.is_relative_to(root):
            return whole.relative_to(root).as_posix()
    return whole.as_posix()


def _completed(item: dict[str, Any]) -> Manifest:
    """An object as the API server would show it: with its namespace, times as text, and a Secret's `stringData` as data."""
    metadata = item["metadata"]
    if "creationTimestamp" in metadata:
        metadata = {**metadata, "creationTimestamp": str(metadata["creationTimestamp"] or "")}
    made = {**item, "metadata": metadata}
    if item["kind"] == "Secret":
        made["data"] = _data(item)
        made.pop("stringData", None)
    return placed(made)


def _data(secret: Mapping[str, Any]) -> dict[str, str]:
    given = secret.get("stringData") if isinstance(secret.get("stringData"), dict) else {}
    plain = {str(key): base64.b64encode(str(value).encode()).decode() for key, value in (given or {}).items()}
    found = secret.get("data") if isinstance(secret.get("data"), dict) else {}
    return {**{str(key): _base64(value) for key, value in (found or {}).items()}, **plain}


def _base64(value: Any) -> str:
    """A value that kubectl would refuse (a placeholder of a template) counts as empty."""
    text = "".join(str(value or "").split()) if isinstance(value, str) else ""
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return text
