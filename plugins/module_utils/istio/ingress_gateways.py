# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Gateways of one call, one or a list: what each takes from beside the list, and what they are to each other. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..objects.kinds import GATEWAY, Ref, ref_of
from ..problems import Problem, Rejected
from .ingress import IngressGateway, gateway_manifest, manifests
from .ingress_arguments import DEFAULT_NAMESPACE, from_arguments
from .names import metadata_problems

Options = Mapping[str, Any]
Manifest = Mapping[str, Any]

DEFAULTS = {"namespace": DEFAULT_NAMESPACE, "prune": True}
SHARED = ("namespace", "selector", "prune", "state", "force_conflicts")


@dataclass(frozen=True)
class Asked:
    """One Gateway as it was asked for."""

    where: str
    """What stands before the arguments' names in messages; empty for the only Gateway."""
    options: Options
    ref: Ref
    gateway: IngressGateway | None
    """None: it should not exist."""

    def at(self, problems: Iterable[Problem]) -> Iterator[Problem]:
        """The problems, each where it is in the call."""
        return (replace(problem, where=f"{self.where}{problem.where}") for problem in problems)


def read_gateways(params: Options) -> list[Asked]:
    """Every Gateway of a call; raises Rejected with everything that keeps any of them from being read."""
    found: list[Asked] = []
    problems: list[Problem] = []
    for where, options in _items(params):
        try:
            found.append(_asked(where, options))
        except Rejected as rejected:
            problems += (replace(problem, where=f"{where}{problem.where}") for problem in rejected.problems)
    if problems := [*problems, *_given_twice(found)]:
        raise Rejected(problems)
    return found


def _items(params: Options) -> Iterator[tuple[str, dict[str, Any]]]:
    listed: Sequence[Options] | None = params.get("gateways")
    for number, item in enumerate([params] if listed is None else listed):
        options = dict(item)
        for option in SHARED:
            if options.get(option) is None:
                options[option] = params[option] if params.get(option) is not None else DEFAULTS.get(option)
        for option in ("labels", "annotations"):
            options[option] = {**(params.get(option) or {}), **(item.get(option) or {})}
        yield "" if listed is None else f"gateways[{number}] ({item.get('name') or 'no name'}): ", options


def _asked(where: str, options: Options) -> Asked:
    if not options.get("name"):
        raise Rejected(Problem("no_name", "name", "expected the Gateway's name, found none", "give name"))
    name, namespace = options["name"], options["namespace"]
    ref = GATEWAY.ref(namespace, name)
    if options["state"] == "absent":
        metadata = {"name": name, "namespace": namespace}
        if problems := metadata_problems({"kind": "Gateway", "metadata": metadata}, f"Gateway {namespace}/{name}"):
            raise Rejected(problems)
        return Asked(where, options, ref, None)
    if options.get("servers") is None:
        message = "expected the servers of a Gateway that should exist, found none"
        raise Rejected(Problem("servers_missing", "servers", message, "list them, or set state to absent to remove the Gateway"))
    return Asked(where, options, ref, from_arguments(options))


def _given_twice(asked: Sequence[Asked]) -> Iterator[Problem]:
    """Objects that two Gateways of the call ask for."""
    refs = Counter(ref for one in asked for ref in dict.fromkeys([one.ref, *(map(ref_of, manifests(one.gateway)) if one.gateway else ())]))
    for ref, count in refs.items():
        if count > 1:
            remedy = "leave out all but one" if ref.kind == GATEWAY.kind else "give the routes of each Gateway names of their own"
            yield Problem("given_twice", "gateways", f"expected every object once, found {ref} {count} times", remedy)


@dataclass(frozen=True)
class Beside:
    """The other Gateways of the call."""

    made: tuple[Manifest, ...]
    gone: frozenset[Ref]


def beside_of(one: Asked, asked: Sequence[Asked]) -> Beside:
    others = [other for other in asked if other is not one]
    return Beside(
        tuple(gateway_manifest(other.gateway) for other in others if other.gateway),
        frozenset(other.ref for other in others if not other.gateway),
    )
