# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of every module that reaches gateways and asks their proxies; the argument spec is `WAYS` in module_utils/rotation/targets.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  addresses:
    description:
      - Where the gateways are reached, each as V(address) or V(address:port). The default is what the gateways' Services say (load balancers, external
        addresses, else node ports).
    type: list
    elements: str
    default: []
  ports:
    description:
      - "Ports at which the servers' ports are reached at the O(addresses), for example V(30443) for V(443)."
    type: dict
  admin_urls:
    description:
      - Addresses of Envoy's administration interface, for gateways that are no Pods. Those of Pods are asked through the API server.
    type: list
    elements: str
    default: []
"""
