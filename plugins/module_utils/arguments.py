# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that several modules share, and the reading of option values: files, durations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Any

from .problems import Problem, Rejected
from .regular_file import regular_file
from .tls.pem import LARGEST
from .tls.secrets import holds_private_key

AUTH_OPTIONS: dict[str, dict[str, Any]] = {
    # the same names, types and aliases as kubernetes.core's: see plugins/doc_fragments/auth.py
    "kubeconfig": {"type": "raw", "no_log": False},  # what is secret in it module.py finds; a path is to be told
    "context": {"type": "str"},
    "host": {"type": "str"},
    "api_key": {"type": "str", "no_log": True},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "validate_certs": {"type": "bool", "aliases": ["verify_ssl"]},
    "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"]},
    "client_cert": {"type": "path", "aliases": ["cert_file"]},
    "client_key": {"type": "path", "aliases": ["key_file"], "no_log": False},
    "proxy": {"type": "str"},
    "no_proxy": {"type": "str"},
    "proxy_headers": {
        "type": "dict",
        "options": {
            "proxy_basic_auth": {"type": "str", "no_log": True},
            "basic_auth": {"type": "str", "no_log": True},
            "user_agent": {"type": "str"},
        },
    },
    "persist_config": {"type": "bool"},
    "impersonate_user": {"type": "str"},
    "impersonate_groups": {"type": "list", "elements": "str"},
}

OBJECT_OPTIONS: dict[str, dict[str, Any]] = {
    # see plugins/doc_fragments/objects.py
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "labels": {"type": "dict"},
    "annotations": {"type": "dict"},
    "force_conflicts": {"type": "bool", "default": False},
}

_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def duration(text: str, *, where: str) -> timedelta:
    """`30d`, `12h`, `1w2d`, `+30d` as community.crypto writes it; a bare number is days."""
    stripped = text.strip().lstrip("+")
    if re.fullmatch(r"[0-9]+", stripped):
        stripped += "d"
    parts = re.findall(r"([0-9]+)([wdhms])", stripped)
    if not parts or "".join(number + unit for number, unit in parts) != stripped:
        raise Rejected(
            Problem(
                "invalid_duration",
                where,
                f"expected a duration such as 30d, 12h or 1w2d, found {text!r}",
                "write a number and w, d, h, m or s",
            )
        )
    try:
        return sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())
    except (OverflowError, ValueError):  # int() reads no more than 4300 digits
        raise Rejected(
            Problem("invalid_duration", where, f"{stripped[:20]!r} is longer than can be counted", "name a shorter time")
        ) from None


_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)


def system_roots() -> tuple[bytes, bytes]:
    """PEM of the roots that browsers trust, as the package certifi has them, and of those that this machine trusts; empty where there are
    none."""
    certifi = find_spec("certifi")  # to import it takes 0.2 s
    public = _contents(f"{next(iter(certifi.submodule_search_locations or ()), '')}/cacert.pem") if certifi else b""
    return public, next(filter(None, map(_contents, _SYSTEM_BUNDLES)), b"")


def _contents(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(4 * 1024 * 1024)
    except OSError:
        return b""


def moment(text: str, now: datetime, *, where: str) -> datetime:
    """A time in the past: RFC 3339 (`2026-01-31T12:00:00Z`), or a duration before now (`5m`)."""
    if re.match(r"[0-9]{4}-", text.strip()):
        try:
            found = datetime.fromisoformat(text.strip())
            if found.tzinfo is not None:
                return found.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        raise Rejected(
            Problem(
                "invalid_time",
                where,
                f"expected a time with its zone, such as 2026-01-31T12:00:00Z, or a duration such as 5m, found {text!r}",
                "write it as RFC 3339; UTC is a Z at the end",
            )
        )
    try:
        return now - duration(text, where=where)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def content_or_path(options: Mapping[str, Any], name: str, *, where: str) -> tuple[bytes | None, str]:
    """The bytes of `name` or of the file `<name>_path`, and which argument they came from; (None, ...) when neither is given."""
    content, path = options.get(name), options.get(f"{name}_path")
    if content is None and path is None:
        return None, f"{where}{name}"
    if content is not None and path is not None:
        raise Rejected(Problem("given_twice", f"{where}{name}", f"expected one of {name} and {name}_path, found both", "give one of them"))
    if path is not None and ("\n" in path or _looks_like_content(path)):
        raise _path_is_content(name, where)
    if path is not None:
        place, found = f"{where}{name}_path {path[:300]}", "no such file"
        try:
            with regular_file(path) as file:
                return file.read(LARGEST + 1), place  # one more than is looked at where it is larger
        except FileNotFoundError:
            if _LONG_WORD.search(path):
                raise _path_is_content(name, where) from None
        except OSError as error:
            found = str(error.strerror or error)
        raise Rejected(
            Problem("file_unreadable", place, f"expected a readable file, found: {found}", "correct the path, or its permissions")
        )
    return str(content).encode(errors="backslashreplace"), f"{where}{name}"  # what is no text is no PEM either


_LONG_WORD = re.compile(r"(?<![^/])(?=[^/.]*[a-z])(?=[^/.]*[A-Z])(?=[^/.]*[0-9])[A-Za-z0-9+=_-]{48,}(?![^/]*\.)")
"""A part of a path that may be a piece of a key in base64: long, with letters of both cases and digits, and without a dot."""


def _looks_like_content(path: str) -> bool:
    """Whether a path is PEM, or PEM or DER in base64; such a text may be a key, and so no message repeats it."""
    return (
        "-----BEGIN" in path
        or path.lstrip().startswith("LS0tLS1CRUdJTi")
        or _DER_IN_BASE64.match(path.strip()) is not None
        or holds_private_key(path)
    )


_DER_IN_BASE64 = re.compile(r"MI[A-Za-z0-9+/]{46}")


def _path_is_content(name: str, where: str) -> Rejected:
    message = "expected the path of a file, found what looks like content"  # which is not repeated: it may be a key
    return Rejected(Problem("path_is_content", f"{where}{name}_path", message, f"give content as {name}"))
