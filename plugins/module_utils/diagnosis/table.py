# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every rule, in one table: `docs/problems.md` is made of it (tools/problems.py). Pure.

Subjects by the first two digits: 01 credentials, 02 their content, 03 servers of Gateways, 04 routes, 05 ways through egress gateways, 06 TLS
that proxies originate, 07 what is around, 08 the Gateway API, 09 what istiod's webhook refuses, 10 what gateways and proxies show.

A new rule is a function from a `MeshView` to what it finds, and a row beside it in the tuple `RULES` of its file.
"""

from __future__ import annotations

from dataclasses import replace

from . import (
    client_tls,
    credentials,
    egress_first_hop,
    egress_gateway,
    egress_service,
    egress_surroundings,
    egress_tcp,
    gateway_api,
    listener_sets,
    listeners,
    material,
    observed,
    routes,
    servers,
    surroundings,
)
from .egress_case import each_path
from .rule import Check, Rule

_ALSO: dict[str, tuple[Check, ...]] = {
    **{code: (check,) for code, check in egress_service.ASKED.items()},
    "privileged_target_port": (each_path(egress_gateway.skipped),),
    "authorization_refuses": (egress_surroundings.REFUSING,),
    "namespace_not_discovered": (egress_surroundings.UNDISCOVERED,),
    "port_conflict": (gateway_api.beside_istio,),
    "host_conflict": (gateway_api.beside_istio,),
    "redirect_of_served_host": (gateway_api.beside_istio,),
}
"""Where a fault is looked for besides."""

RULES: tuple[Rule, ...] = tuple(
    sorted(
        (
            replace(rule, also=(*rule.also, *_ALSO.get(rule.code, ())))
            for part in (
                credentials,
                material,
                listeners,
                servers,
                routes,
                egress_first_hop,
                egress_gateway,
                egress_tcp,
                egress_service,
                egress_surroundings,
                client_tls,
                surroundings,
                gateway_api,
                listener_sets,
                observed,
            )
            for rule in part.RULES
        ),
        key=lambda rule: rule.id,
    )
)
BY_CODE = {rule.code: rule for rule in RULES}
