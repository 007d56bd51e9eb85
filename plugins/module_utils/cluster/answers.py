# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an API server answers, told from what anything else does: its JSON in the shape that objects have, or a page to be quoted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ..objects.kinds import Resource
from ..proxy_choice import Proxy
from .errors import NOT_SERVED, Unreachable

_DEEPEST = 200  # levels; objects of Kubernetes and Istio have a tenth of that
_METADATA = {
    **dict.fromkeys(("namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"), str),
    **dict.fromkeys(("labels", "annotations"), dict),
    **dict.fromkeys(("ownerReferences", "managedFields", "finalizers"), list),
}


def decode(data: bytes, resource: Resource) -> dict[str, Any] | None:
    """An API server's answer; None for what is none, such as a proxy's page."""
    if resource.group and data.strip() == b"404 page not found":  # all that an API server says about a group that it does not know
        return {"reason": NOT_SERVED, "message": f"the cluster does not serve {resource.kind} ({resource.api_version})"}
    try:
        decoded = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(decoded, dict) or not isinstance(decoded.get("kind"), str) or _is_too_deep(decoded):
        return None
    return (
        {**decoded, "details": decoded.get("details") if isinstance(decoded.get("details"), dict) else {}}
        if decoded["kind"] == "Status"
        else decoded
    )


def no_such_path(answer: Mapping[str, Any] | None, status: int, resource: Resource, host: str) -> str:
    """What is wrong where an API server knows no such kind, though all have it: its URL leads to another path. Empty where it does not say so;
    of an object that is missing it would tell kind and name."""
    told = answer or {}
    is_so = status == 404 and told.get("kind") == "Status" and not resource.group and not told.get("details")
    if not is_so or "could not find the requested resource" not in str(told.get("message")):
        return ""
    path = urlsplit(host).path
    return f"the API server at {host} has no {resource.plural} there; " + (
        f"leave {path} out of its URL" if path else "check that kubeconfig, context, host and proxy name the right one"
    )


def _is_too_deep(decoded: dict[str, Any]) -> bool:
    """Whether anything that looks into each level of it might end with Python's own limit."""
    level: list[Any] = [decoded]
    for __ in range(_DEEPEST):
        level = [
            inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer) if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def check(answer: Mapping[str, Any], verb: str, resource: Resource, namespace: str, name: str, host: str) -> None:
    """Refuses an answer that is not about what was asked for, or not in the shape in which all objects are."""
    wrong = ""
    if verb == "list":
        items, metadata = answer.get("items"), answer.get("metadata")
        if not _is(list, items) or not _is(dict, metadata) or not _is(str, (metadata or {}).get("continue")):
            wrong = "a list in another shape"
        else:
            wrong = next((found for item in items or [] if (found := _misshapen(item))), "")
    elif verb == "watch":
        wrong = _misshapen(answer)
    elif verb in ("get", "patch"):
        wrong = _misshapen(answer)
        metadata = answer.get("metadata") or {}
        if (
            not wrong
            and answer["kind"] != "Status"
            and (metadata.get("name"), metadata.get("namespace") or "") != (name, namespace if resource.namespaced else "")
        ):
            wrong = "an object of another name or namespace"
    if wrong:
        raise Unreachable(
            f"what answers at {host} is no Kubernetes API server: asked to {verb} {resource.kind} {name}, it says {wrong}; "
            "check that kubeconfig, context, host and proxy name the right one"
        )


def _misshapen(item: Any) -> str:
    if not isinstance(item, dict):
        return "something that is no object"
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return "an object without metadata and name"
    fits = (
        all(_is(dict, item.get(key)) for key in ("data", "spec", "status"))
        and all(_is(kind, metadata.get(key)) for key, kind in _METADATA.items())
        and all(isinstance(one, dict) for key in ("ownerReferences", "managedFields") for one in metadata.get(key) or ())
        and all(isinstance(one, str) for one in metadata.get("finalizers") or ())
        and all(isinstance(text, str) for key in ("labels", "annotations") for text in (metadata.get(key) or {}).values())
    )
    return "" if fits else "an object in another shape"


def _is(kind: type, value: Any) -> bool:
    return value is None or isinstance(value, kind)


def stranger_remedy(data: bytes, proxy: Proxy | None) -> str:
    if b"HTTP request to an HTTPS server" in data[:1000]:
        return "write https:// in the server's URL"
    asked = f" (asked through {proxy})" if proxy else ""
    return f"check that kubeconfig, context, host and proxy name the right one{asked}"


def excerpt(data: bytes, headers: Mapping[str, str]) -> str:
    """The beginning of a page, as text, without the login should the page repeat it."""
    text = without_markup(data[:65536].decode("utf-8", "replace"))
    for word in (headers.get("Authorization") or "").split():
        text = text.replace(word, "***")
    return " ".join(text.split())[:200]


def without_markup(page: str) -> str:
    """What a person would read. In time that grows with the page and not with its square, whatever stands in it."""
    return re.sub(r"(?is)<(script|style|head)\b.*?(?:</\1\s*>|\Z)|<[^<>]*>", " ", page)
