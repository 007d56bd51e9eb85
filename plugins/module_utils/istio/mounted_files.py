# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that mounts show, and whether they are the Secrets': never their content. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..tls.material import fingerprint as fingerprint_of
from ..tls.pem import CERTIFICATE_LABELS, CRL_LABELS, PRIVATE_KEY_LABELS, TRUSTED_LABEL, scan
from ..tls.trusted import certificate_and_rest
from .mount_arguments import Request

_SHA256 = re.compile(r"\\?([0-9a-f]{64}) [ *](.+)")


@dataclass(frozen=True)
class File:
    """A file that a mounted Secret must have become; nothing of its content but digests."""

    path: str
    secret: str
    key: str
    kind: Literal["certificate", "crl", "private_key", "other"]
    sha256: str = field(default="", repr=False)
    """Empty where the Secret could not be read."""
    size: int = -1
    fingerprint: str = ""
    """Of a certificate (the first one, where there are several)."""

    @property
    def public(self) -> bool:
        return self.kind in ("certificate", "crl")

    def as_result(self, state: str) -> dict[str, Any]:
        shown: dict[str, Any] = {"path": self.path, "secret": self.secret, "key": self.key, "kind": self.kind, "state": state}
        return {**shown, **({"fingerprint_sha256": self.fingerprint} if self.fingerprint and state == "same" else {})}


def files(request: Request, data: Mapping[str, Mapping[str, bytes] | None]) -> tuple[File, ...]:
    """The files that the mounts must show. Of Secrets that are not there, none; of those that could not be read (and so are not in
    `data`) the keys that were asked for, by their names alone."""
    found: list[File] = []
    for mount in request.mounts:
        if mount.secret in data:
            content = sorted((data[mount.secret] or {}).items())
            found += [_file(f"{mount.path}/{key}", mount.secret, key, value) for key, value in content]
        else:
            found += [File(f"{mount.path}/{key}", mount.secret, key, "other") for key in mount.keys]
    return tuple(found)


def _file(path: str, secret: str, key: str, content: bytes) -> File:
    blocks, __ = scan(content)
    labels = {block.label for block in blocks}
    fingerprint = ""
    kind: Literal["certificate", "crl", "private_key", "other"] = "other"
    if labels & PRIVATE_KEY_LABELS or b"PRIVATE KEY" in content:
        kind = "private_key"
    elif labels and labels <= CERTIFICATE_LABELS | {TRUSTED_LABEL}:
        kind = "certificate"
        der = blocks[0].der()
        fingerprint = fingerprint_of(certificate_and_rest(der)[0]) if der else ""
    elif labels and labels <= CRL_LABELS:
        kind = "crl"
    return File(path, secret, key, kind, hashlib.sha256(content).hexdigest(), len(content), fingerprint)


def digests(printed: str) -> dict[str, str]:
    """File and digest, from what `sha256sum` prints."""
    return {found[2]: found[1] for line in printed.splitlines() if (found := _SHA256.fullmatch(line))}
