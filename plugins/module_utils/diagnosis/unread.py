# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What could not be looked at, and why: a rule that is silent for want of objects says so. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .rule import Rule
from .view import MeshView


def unread(view: MeshView, rules: Sequence[Rule]) -> tuple[str, ...]:
    """One sentence for each kind that was not read, or only partly, and that a rule needs."""
    found: dict[str, None] = {}
    for resource in dict.fromkeys(resource for rule in rules for resource in rule.needs):
        coverage = view.snapshot.coverage(resource)
        if coverage.everywhere:
            continue
        name = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
        places = ", ".join(sorted(coverage.namespaces))
        concerned = ", ".join(sorted(rule.id for rule in rules if resource in rule.needs))
        if not places and not coverage.names:
            found[f"{name} were not looked at, because {coverage.why or 'they could not be read'}: {concerned}"] = None
        else:
            what = f"those in {places}" if places else f"{len(coverage.names)} that are named"
            found[f"only some {name} were looked at ({what}), because {coverage.why or 'not all could be read'}: {concerned}"] = None
    return tuple(found)
