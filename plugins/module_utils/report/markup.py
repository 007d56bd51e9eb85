# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where text becomes part of a format: whatever is not made here is escaped. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TypeAlias

_VOID = {"meta": ">", "input": ">", "use": "/>", "circle": "/>", "line": "/>", "rect": "/>", "path": "/>"}
"""Elements without content, and how they end."""
_NOT_IN_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ACTED_UPON = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of text: names that hold them are not what they seem."""
_HARMLESS = re.compile(r"[ !#-%(-;=?-~]*")
"""Most of what is written: a large page is made in half the time."""
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~&-])")
Child: TypeAlias = "str | int | Iterable[Child] | None"


class Markup(str):
    """Text that is HTML or XML already."""

    __slots__ = ()


def plain(text: object) -> str:
    """Text with every character that would be acted upon shown as a replacement character."""
    return _NOT_IN_XML.sub("\ufffd", _ACTED_UPON.sub("\ufffd", str(text)))


def escaped(text: object) -> Markup:
    """Text as HTML, as XML, or as the value of an attribute."""
    if isinstance(text, Markup):
        return text
    text = str(text)
    return Markup(text if _HARMLESS.fullmatch(text) else html.escape(plain(text)))


def joined(*children: Child) -> Markup:
    return _joined(children)


def _joined(children: Iterable[Child]) -> Markup:
    parts: list[str] = []
    for child in children:
        if child is not None:
            parts.append(escaped(child) if isinstance(child, str | int) else _joined(child))
    return Markup("".join(parts))


def tag(name: str, /, *children: Child, **attributes: object) -> Markup:
    """An element of HTML. An attribute that is None or False is left out, one that is True has no value; `class_` is `class`, `data_x` `data-x`."""
    written = []
    for key, value in attributes.items():
        if value is not None and value is not False:
            shown = key.rstrip("_").replace("_", "-")
            written.append(f" {shown}" if value is True else f' {shown}="{escaped(value)}"')
    start = f"<{name}{''.join(written)}"
    return Markup(start + _VOID[name] if name in _VOID and not children else f"{start}>{_joined(children)}</{name}>")


def xml(name: str, /, *children: Child, **attributes: object) -> Markup:
    """An element of XML, which wants every element closed and every attribute with a value."""
    written = "".join(f' {key.rstrip("_")}="{escaped(value)}"' for key, value in attributes.items() if value is not None)
    return Markup(f"<{name}{written}>{_joined(children)}</{name}>")


def markdown(text: object) -> str:
    """Text in a line of Markdown, nothing of which is a mark."""
    return _MARKDOWN.sub(r"\\\1", " ".join(plain(text).split()))


def calendar(text: object) -> str:
    """A TEXT value of iCalendar (RFC 5545, 3.3.11)."""
    lines = str(text).replace("\r\n", "\n").split("\n")
    safe = (plain(line).replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,") for line in lines)
    return "\\n".join(safe)


def label_value(text: object) -> str:
    """The value of a label in Prometheus' text format and in OpenMetrics, between its quotation marks."""
    return plain(" ".join(str(text).split("\n"))).replace("\\", "\\\\").replace('"', '\\"')
