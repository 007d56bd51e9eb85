# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be mounted: from the options of gateway_credential_mount to values. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..problems import Problem, Rejected
from .names import is_dns_label, is_object_name

PROXY_CONTAINER = "istio-proxy"


_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


_OCTAL = re.compile(r"0?o?([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One Secret as a directory of files, one for each of its keys."""

    path: str
    secret: str
    volume: str
    where: str
    """The argument that asks for it, for error messages."""
    named: bool = False
    """Whether the volume's name was asked for, and not made from the Secret's."""
    keys: tuple[str, ...] = ()
    """Keys that the Secret must have."""
    optional: bool = False
    """Whether the pods may start without the Secret."""
    mode: int | None = None
    """Permission bits of the files; Kubernetes' 0644 by default."""


@dataclass(frozen=True)
class Request:
    """What a module's arguments ask for."""

    mounts: tuple[Mount, ...]
    container: str
    absent: bool = False
    prune: bool = False
    force: bool = False


def from_arguments(params: Mapping[str, Any]) -> Request:
    """What the arguments `mounts`, `container`, `state`, `prune` and `force_conflicts` ask for; raises Rejected with every problem."""
    absent = params.get("state") == "absent"
    problems: list[Problem] = []
    given = params.get("mounts")
    if given is None and not absent:
        problems.append(
            Problem("mounts_missing", "mounts", "expected the Secrets to mount, found nothing", "name at least a secret and a path")
        )
    mounts = tuple(_mount(item, f"mounts[{number}]", absent, problems) for number, item in enumerate(given or ()))
    problems += _twice(mounts)
    if problems:
        raise Rejected(problems)
    return Request(
        mounts, params.get("container") or PROXY_CONTAINER, absent, bool(params.get("prune")), bool(params.get("force_conflicts"))
    )


def _mount(item: Mapping[str, Any], where: str, absent: bool, problems: list[Problem]) -> Mount:
    path, secret = item.get("path") or "", item.get("secret") or ""
    where = f"{where} ({path})" if path else where
    clean = clean_path(path)
    if not path.startswith("/") or ":" in path or "\0" in path or "\n" in path or {".", ".."} & set(path.split("/")) or clean == "/":
        problems.append(
            Problem(
                "mount_path_invalid",
                where,
                f"expected an absolute path of a directory, without ':', '.' and '..', found {path!r}",
                "write it like /etc/nginx-client-certs",
            )
        )
    if (secret or not absent) and not is_object_name(secret):
        problems.append(
            Problem(
                "secret_name_invalid",
                where,
                f"expected the name of a Secret (up to 253 lower-case letters, digits, '-' and '.'), found {secret!r}",
                "name the Secret in the gateway's namespace; a namespace cannot be named with it",
            )
        )
    volume = item.get("volume") or _volume_name(secret)
    if item.get("volume") and not is_dns_label(volume):
        problems.append(
            Problem(
                "volume_name_invalid",
                where,
                f"expected up to 63 lower-case letters, digits and '-' as a volume's name, found {volume!r}",
                "choose such a name, or leave volume out: it is then made from the Secret's name",
            )
        )
    keys = tuple(dict.fromkeys(item.get("keys") or ()))
    problems += [
        Problem(
            "secret_key_invalid",
            where,
            f"expected a key of a Secret (letters, digits, '-', '_' and '.'), found {key!r}",
            "use those characters alone",
        )
        for key in keys
        if not _KEY.fullmatch(key)
    ]
    mode = _mode(item.get("mode"), where, problems)
    return Mount(clean, secret, volume, where, bool(item.get("volume")), keys, bool(item.get("optional")), mode)


def _mode(text: str | None, where: str, problems: list[Problem]) -> int | None:
    if text is None:
        return None
    found = _OCTAL.fullmatch(text)
    if not found:
        message = f"expected permission bits in octal, as a quoted text, found {text!r}"
        problems.append(Problem("mode_invalid", where, message, "write mode: '0440', in quotes, because YAML reads 0440 as 288"))
        return None
    return int(found[1], 8)


def _volume_name(secret: str) -> str:
    """The Secret's name, as in Istio's walkthrough; where that is no name for a volume, one that is made from it."""
    if is_dns_label(secret):
        return secret
    digest = hashlib.sha256(secret.encode()).hexdigest()[:8]
    return f"{secret.replace('.', '-')[:54].rstrip('-')}-{digest}"


def _twice(mounts: Sequence[Mount]) -> Iterator[Problem]:
    for number, one in enumerate(mounts):
        for other in mounts[:number]:
            if one.path == other.path:
                yield Problem("given_twice", one.where, f"{other.where} is mounted at the same path", "give every mount a path of its own")
            elif is_nested(one.path, other.path):
                yield nesting_problem(one.where, f"{other.where} of the same call")
            if (
                one.secret
                and one.volume == other.volume
                and (one.secret, one.optional, one.mode)
                != (
                    other.secret,
                    other.optional,
                    other.mode,
                )
            ):
                yield Problem(
                    "volume_given_twice",
                    one.where,
                    f"its volume {one.volume} is that of {other.where} too, with another secret, optional or mode",
                    "give one of them another volume, or make them agree",
                )


def is_nested(one: str, other: str) -> bool:
    return one.startswith(other + "/") or other.startswith(one + "/")


def nesting_problem(where: str, other: str) -> Problem:
    return Problem(
        "mount_path_nested",
        where,
        f"the path lies below {other}, or that below it: a Secret's files are read-only, and a container with such mounts does not start",
        "choose a path beside it, for example /etc/<name of the Secret>",
    )


def clean_path(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part)
