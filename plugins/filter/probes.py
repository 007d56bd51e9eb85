# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter probes: the checks of the roles, as tls_probe takes them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: probes
short_description: Turn the checks of a role into probes
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Turns the checks of the roles P(meshops.istio.ingress_tls#role) and P(meshops.istio.egress_mtls#role) into O(meshops.istio.tls_probe#module:probes).
  - Without O(serials), the C(credential) of a check becomes O(meshops.istio.tls_probe#module:expect.credential).
  - With O(serials), it becomes an expected header with the serial number of the credential's certificate.
positional: _input
options:
  _input:
    description: The checks, each with the options of a probe, and maybe C(credential) and C(access_log).
    type: list
    elements: dict
    required: true
  serials:
    description: Names of credentials, and the serial numbers of their certificates.
    type: dict
  serial_header:
    description: The header in which the server returns the serial number.
    type: str
  mark:
    description: Beginning of a C(User-Agent) by which the request of each check is found in a log. The SHA-1 of the check's name follows.
    type: str
"""

EXAMPLES = r"""
- name: Make the requests of a role's checks
  meshops.istio.tls_probe:
    address: 203.0.113.10
    probes: "{{ checks | meshops.istio.probes }}"
  vars:
    checks:
      - {name: the shop answers, host: shop.example.com, credential: shop-credential}
"""

RETURN = r"""
_value:
  description: The probes.
  type: list
  elements: dict
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def probes(
    checks: Sequence[Mapping[str, Any]], serials: Mapping[str, str] | None = None, serial_header: str = "", mark: str = ""
) -> list[dict[str, Any]]:
    return [_probe(check, serials, serial_header, mark) for check in checks]


def known_options() -> set[str]:
    from ansible_collections.meshops.istio.plugins.modules.tls_probe import PROBE_OPTIONS

    return {"name", "credential", "access_log", *PROBE_OPTIONS}


def _probe(check: Mapping[str, Any], serials: Mapping[str, str] | None, serial_header: str, mark: str) -> dict[str, Any]:
    if not isinstance(check, Mapping) or not check.get("name") or not check.get("host"):
        raise AnsibleFilterError("expected checks with a name and a host, found one without. Give each a name, which says what it proves")
    if unknown := sorted(set(check) - known_options()):
        raise AnsibleFilterError(f"{check['name']}: expected options of tls_probe, found {', '.join(unknown)}. Correct or remove them")
    made = {option: value for option, value in check.items() if option not in ("credential", "access_log")}
    expect = dict(check.get("expect") or {})
    credential = check.get("credential")
    if credential and serials is None:
        expect["credential"] = [credential]
    elif credential:
        serial = (serials or {}).get(credential)
        if not serial:
            raise AnsibleFilterError(f"{check['name']}: expected a certificate, found no such credential: {credential}. Correct its name")
        expect["headers"] = {**(expect.get("headers") or {}), serial_header: serial}
    if expect:
        made["expect"] = expect
    if mark and check.get("scheme") != "tcp":
        named = hashlib.sha1(str(check["name"]).encode(), usedforsecurity=False).hexdigest()
        made["headers"] = {"User-Agent": f"{mark}/{named}", **(check.get("headers") or {})}
    return made


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"probes": probes}
