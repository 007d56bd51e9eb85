# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who uses a credential, and with what it can be proven: ways in, proxies, probes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..call import Call
from ..cluster.client import Cluster
from ..cluster.observe import list_where_allowed
from ..cluster.usage import list_of_gateway_api
from ..istio.served import Objects, Presented, Served, Users
from ..objects.kinds import API_GATEWAY, DESTINATION_RULE, GATEWAY, LISTENER_SET
from ..problems import Problem, errors
from .proof import Prover, Target
from .targets import Surroundings

_EGRESS = (("istio", "egressgateway"),)
"""Labels of the proxies that originate TLS for DestinationRules, which name none."""


@dataclass
class Subject:
    """A credential that is to be proven."""

    label: str
    target: Target
    servers: Sequence[Served] = ()
    presented: Sequence[Presented] = ()
    probed: bool = False
    """Whether there are probes of the user's."""

    @property
    def used(self) -> bool:
        return bool(self.servers or self.presented)


def find_users(cluster: Cluster, namespace: str, notes: list[str]) -> Users:
    """`namespace`: where objects are looked for when the cluster may not be listed as a whole."""
    return Users(
        Objects(
            tuple(list_where_allowed(cluster, GATEWAY, namespace, notes)),
            tuple(list_where_allowed(cluster, DESTINATION_RULE, namespace, notes)),
            tuple(list_of_gateway_api(cluster, API_GATEWAY, notes)),
            tuple(list_of_gateway_api(cluster, LISTENER_SET, notes)),
        )
    )


def prover_for(around: Surroundings, subjects: Iterable[Subject], timeout: float) -> Prover:
    """Asks the proxies of whoever uses the credentials."""
    subjects = list(subjects)
    selectors = list(dict.fromkeys(server.selector for one in subjects for server in one.servers))
    if any(one.presented for one in subjects):
        selectors.append(_EGRESS)
    return Prover(lambda: around.proxies(selectors), timeout=timeout)


def judge_means(call: Call, subjects: Sequence[Subject], prover: Prover) -> None:
    """What nobody uses needs no proof; what is used and cannot be proven is not written."""
    for one in subjects:
        if not one.used:
            call.notes.append(f"credential {one.label}: nothing uses it that could be found, so nothing is proven")
            one.target.proxies = False
    used = [one for one in subjects if one.used]
    if not used:
        return
    has_proxies = bool(prover.look_before())
    call.notes += [
        f"proxy {name} did not answer before the write, and the proof does without it: {why}" for name, why in sorted(prover.silent.items())
    ]
    found = []
    for one in used:
        one.target.proxies = one.target.proxies and has_proxies
        if has_proxies or one.probed or one.target.endpoints:
            continue
        found.append(
            Problem(
                "nothing_proves",
                f"credential {one.label}",
                "expected a way to prove it: a gateway that is reached, or a proxy that can be asked, found neither; nothing was written",
                "name the gateways' addresses with addresses, or their proxies with admin_urls, or give probes",
            )
        )
    call.judge(errors(found))
