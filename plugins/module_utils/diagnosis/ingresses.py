# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module `ingress_tls_gateway` checks in the cluster before it writes: the rules over the cluster as it will be, for what concerns the
Gateway and its routes. All of it are warnings: what a Gateway needs may come after it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..istio.ingress import IngressGateway, manifests, routed_hosts
from ..istio.snapshot import Coverage, Snapshot
from ..objects.kinds import GATEWAY, VIRTUAL_SERVICE, Manifest, Ref, ref_of
from ..problems import Problem
from .diagnose import run
from .rule import Found
from .table import RULES
from .view import MeshView

_TOLD_BEFORE = ("09", "02")
"""Subjects that are judged without the cluster, or are another module's."""
_RULES = tuple(rule for rule in RULES if rule.id[3:5] not in _TOLD_BEFORE and not rule.id.startswith("MIT032"))
MAY_COME = frozenset(rule.code for rule in RULES if rule.may_come)
"""What an earlier task of the same play may be about to make: no fault in check mode."""
_PLACE = re.compile(r"spec\.(servers|http|tls|tcp)\[(\d+)\]")


def check_gateway(
    gateway: IngressGateway, snapshot: Snapshot, beside: Iterable[Manifest] = (), removed: Collection[Ref] = ()
) -> tuple[Problem, ...]:
    """What is wrong with a Gateway in this cluster. `beside` are the manifests of other Gateways of the call, `removed` what it removes."""
    mine = manifests(gateway)
    about = frozenset(map(ref_of, mine))
    readable = {GATEWAY.key: Coverage(), VIRTUAL_SERVICE.key: Coverage(), **snapshot.read}
    laid_over = replace(snapshot, read=readable).with_desired([*mine, *beside], removed)
    view = MeshView(laid_over, about=about)
    places = _places(gateway, mine)
    found = run(view, rules=_RULES, about=about)
    return tuple(dict.fromkeys(Problem(one.code, _where(one, places), one.message, one.remedy, "warning") for one in found))


def _places(gateway: IngressGateway, mine: Sequence[Manifest]) -> Mapping[tuple[Ref, str], str]:
    """The argument that asks for each server and each rule of a route."""
    found: dict[tuple[Ref, str], str] = {}
    own = ref_of(mine[0])
    for index, __ in enumerate(mine[0]["spec"]["servers"]):
        asked = index < len(gateway.servers)
        found[own, f"servers[{index}]"] = gateway.servers[index].where if asked else "http_redirect"
    for group, manifest in zip(routed_hosts(gateway), mine[1:], strict=True):
        for kind, rules in group.rules.items():
            for index, (__, route) in enumerate(rules):
                found[ref_of(manifest), f"{kind}[{index}]"] = route.where
    return found


def _where(one: Found, places: Mapping[tuple[Ref, str], str]) -> str:
    for ref, field in _candidates(one):
        place = _PLACE.match(field)
        if place and (ref, f"{place[1]}[{place[2]}]") in places:
            return places[ref, f"{place[1]}[{place[2]}]"]
    if one.field == "spec.selector":
        return "selector"
    return f"namespace {one.ref.name}" if one.ref.kind == "Namespace" else str(one.ref)


def _candidates(one: Found) -> Iterator[tuple[Ref, str]]:
    yield one.ref, one.field
    if one.others:
        yield one.others[0], one.other_field
