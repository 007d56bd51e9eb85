# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rule is, and what it finds. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..objects.kinds import Ref, Resource

if TYPE_CHECKING:
    from .view import MeshView

Severity = Literal["error", "warning", "hint"]
"""An error breaks requests or lets in whom it should not; a warning may; a hint is good to know, and no fault."""


@dataclass(frozen=True)
class Found:
    """One place where a rule's fault is."""

    code: str
    ref: Ref
    """The object to look at first."""
    field: str
    """Where in the object, for example `spec.servers[1].tls.credentialName`; empty for the whole."""
    message: str
    """What was expected and what was found, without a full stop. It never holds key material."""
    remedy: str
    """What to do about it, without a full stop."""
    severity: Severity | None = None
    """Where it differs from the rule's."""
    others: tuple[Ref, ...] = ()
    """Further objects that take part."""
    argument: str = ""
    """The argument of a module that asked for it, where one did."""
    cause: str = ""
    """What the fault is about, where several places have it for one cause: a missing Secret, say."""
    other_field: str = ""
    """The place in the first of the other objects."""


Findings: TypeAlias = Iterator["Found"]
Check: TypeAlias = Callable[["MeshView"], "Findings"]


@dataclass(frozen=True)
class Rule:
    """A row of the table: one fault that is told."""

    id: str
    """`MIT` and four digits; the first two are the subject's."""
    code: str
    severity: Severity
    title: str
    meaning: str
    """What happens, and why."""
    remedy: str
    """What to do in general; a finding says it with names."""
    check: Check
    """What finds it; one function may find several faults."""
    needs: tuple[Resource, ...] = ()
    """Kinds without which it cannot be told: where one was not read at all, the rule says so instead."""
    may_come: bool = False
    """Whether an earlier task of a play may be about to make what is missing."""
    aliases: tuple[str, ...] = ()
    """Further codes under which modules tell it."""
    also: tuple[Check, ...] = ()
    """Further functions that find the same fault in other objects."""
