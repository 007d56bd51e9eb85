# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of objects, domains, ports and durations, as Istio and the API server admit them.

Every function takes a value and `where`, its name for the user (his argument, say), and returns problems.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..problems import Problem
from ..tls.names import NoHost, read, shown, split_namespace

CA_SUFFIX = "-cacert"
"""istiod takes a credential with this suffix for a CA certificate alone."""

Manifest = Mapping[str, Any]
Found = Iterator[Problem]

_LABEL = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?")  # Istio's, which admits upper case
_WILDCARD_LABEL = re.compile(r"\*|(?:\*-?)?[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?")
_KUBERNETES_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_OBJECT_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
_FORBIDDEN_ANNOTATIONS = (
    "istio.io/dry-run",
    "internal.istio.io/webhook-always-reject",
    "internal.istio.io/parents",
    "internal.istio.io/parent-namespace",
)


def metadata_problems(manifest: Manifest, where: str) -> tuple[Problem, ...]:
    """Name, namespace, labels and annotations, as the API server and istiod want them."""
    return tuple(_metadata(manifest, where))


def _metadata(manifest: Manifest, where: str) -> Found:
    metadata = manifest["metadata"]
    name, namespace = metadata["name"], metadata["namespace"]
    if manifest["kind"] == "Gateway":
        if not is_dns_label(name):
            yield Problem(
                "gateway_name",
                where,
                f"expected a Gateway's name of up to 63 lower-case letters, digits and '-', without dots, found {name!r}",
                "choose such a name",
            )
    elif not is_object_name(name):
        yield Problem(
            "object_name",
            where,
            f"expected a name of up to 253 lower-case letters, digits, '-' and '.', found {name!r}",
            "choose such a name",
        )
    if not is_dns_label(namespace):
        yield Problem(
            "namespace_name",
            where,
            f"expected a namespace of up to 63 lower-case letters, digits and '-', found {namespace!r}",
            "name an existing namespace",
        )
    yield from _labels(metadata.get("labels") or {}, where)
    for key in metadata.get("annotations") or {}:
        yield from _key(key, where, "annotation")
        if key in _FORBIDDEN_ANNOTATIONS:
            yield Problem("annotation", where, f"istiod refuses the annotation {key} here", "leave it out")


def label_problems(labels: Mapping[str, str], where: str) -> tuple[Problem, ...]:
    """Labels, or a selector made of them."""
    return tuple(_labels(labels, where))


def _labels(labels: Mapping[str, str], where: str) -> Found:
    for key, value in labels.items():
        yield from _key(key, where, "label")
        if len(value) > 63 or (value and not _QUALIFIED_NAME.fullmatch(value)):
            yield Problem(
                "label",
                where,
                f"expected up to 63 letters, digits, '-', '_' and '.' as the value of label {key}, found {value!r}",
                "shorten it, or use an annotation, which may hold any text",
            )


def _key(key: str, where: str, what: str) -> Found:
    prefix, separator, name = key.rpartition("/")
    valid_prefix = not separator or is_object_name(prefix)
    if not valid_prefix or len(name) > 63 or not _QUALIFIED_NAME.fullmatch(name):
        yield Problem(
            what,
            where,
            f"expected [domain/]name as {what} key, found {key!r}",
            "write it in that form, of letters, digits, '-', '_' and '.'",
        )


def is_object_name(text: str) -> bool:
    """Whether most kinds of objects may be called so: a DNS subdomain in lower case (RFC 1123)."""
    return len(text) <= 253 and bool(_OBJECT_NAME.fullmatch(text))


def is_dns_label(text: str) -> bool:
    """Whether a namespace or a volume may be called so: a DNS label in lower case (RFC 1123)."""
    return is_label(text, _KUBERNETES_LABEL)


def is_label(text: str, pattern: re.Pattern[str] = _LABEL) -> bool:
    return len(text) <= 63 and bool(pattern.fullmatch(text))


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def domain_fault(text: str) -> str | None:
    """Why a text is no domain name, a wildcard as its first label admitted; None where it is one."""
    if not text:
        return "it is empty"
    if len(text) > 255:
        return "it is longer than 255 characters"
    first, separator, rest = text.partition(".")
    if not is_label(first, _WILDCARD_LABEL):
        return f"{first!r} is no label of a domain name" if first else "a label is empty"
    if not separator:
        return None
    labels = rest.split(".")
    if labels[-1].isdigit():
        return "its last label is a number"
    for position, label in enumerate(labels):
        if not label and position == len(labels) - 1:
            return None  # a dot at the end
        if not is_label(label):
            return f"{label!r} is no label of a domain name" if label else "a label is empty"
    return None


def host_problems(host: str, where: str) -> tuple[Problem, ...]:
    """One entry of a Gateway server's `hosts`: `name`, `*.name`, `*`, an address, each with a namespace, `.` or `*` before a slash."""
    return tuple(_host(host, where))


def _host(host: str, where: str) -> Found:
    namespace, name = split_namespace(host)
    if namespace not in (None, "*", ".") and not is_label(namespace or ""):
        yield Problem(
            "host_namespace",
            where,
            f"expected a namespace, '.' or '*' before the slash of host {host!r}, found {namespace!r}",
            "name the namespace whose VirtualServices may use the host, or leave it out together with the slash",
        )
    if is_address(name):
        if ":" in name:
            yield Problem("host", where, f"istiod takes no IPv6 address as host, found {host!r}", "use '*', or a domain name")
        return
    if "*" in name and name != "*" and not name.startswith("*.") and not domain_fault(name):
        yield Problem(
            "host_partial_wildcard",
            where,
            f"expected the wildcard of host {host!r} to be a whole label, found {name.partition('.')[0]!r}",
            "write *.example.com, or list the names",
        )
    elif isinstance(found := read(name), NoHost):
        yield Problem("host", where, f"expected a domain name as host, found {shown(host)!r}: {found.why}", found.remedy)
    elif fault := domain_fault(found):  # istiod is stricter, with underscores for one
        yield Problem("host", where, f"expected a domain name that istiod takes as host, found {host!r}: {fault}", "use another name")
    elif name != "*" and "." not in name:
        yield _short_name(host, name, where)


def _short_name(host: str, name: str, where: str) -> Problem:
    return Problem(
        "host_short_name", where, f"expected a name with a domain as host, found {host!r}", f"write it out, for example {name}.example.com"
    )


def port_problems(number: Any, where: str) -> tuple[Problem, ...]:
    if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= 65535:
        return ()
    return (Problem("port_number", where, f"expected a port from 1 to 65535, found {number!r}", "give such a number"),)


def matches(one: str, other: str) -> bool:
    """Whether two domain names, either of which may be a wildcard, have a name in common."""
    if one.startswith("*") and other.startswith("*"):
        shorter, longer = sorted((one[1:], other[1:]), key=len)
        return longer.endswith(shorter)
    if one.startswith("*"):
        return other.endswith(one[1:])
    if other.startswith("*"):
        return one.endswith(other[1:])
    return one == other


def subset_of(one: str, other: str) -> bool:
    """Whether every name that `one` stands for is one that `other` stands for."""
    if one.startswith("*"):
        return other.startswith("*") and len(one) >= len(other) and one[1:].endswith(other[1:])
    return one.endswith(other[1:]) if other.startswith("*") else one == other


def milliseconds(text: str) -> float | None:
    """A duration such as `5s`, `1m30s` or `250ms` in milliseconds; None where it is none."""
    found = _DURATION.fullmatch(text.strip())
    if not text.strip() or not found or not any(found.groups()):
        return None
    hours, minutes, seconds, thousandths = found.groups()
    return int(hours or 0) * 3_600_000 + int(minutes or 0) * 60_000 + round(float(seconds or 0) * 1000, 6) + int(thousandths or 0)


def duration_problems(text: str, where: str) -> tuple[Problem, ...]:
    found = milliseconds(text)
    if found is not None and found >= 1 and found == int(found):
        return ()
    return (
        Problem(
            "duration",
            where,
            f"expected a duration of whole milliseconds, at least 1ms, found {text!r}",
            "write it like 5s, 250ms or 1m30s",
        ),
    )
