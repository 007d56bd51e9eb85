#!/usr/bin/python
# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module gateway_diagnose: what is wrong with the TLS of gateways, why, and what to do."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_diagnose
short_description: Find out what is wrong with the TLS of Istio's gateways, why, and what to do
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Judges Gateways, VirtualServices, DestinationRules, ServiceEntries, credentials and what is around them, whoever made them, by one table of rules.
    Every rule has an ID, a meaning and a remedy; see C(docs/problems.md) of this collection.
  - Reads a live cluster with one LIST for each kind, or files instead (O(paths)), or judges changes before they are made (O(changes)).
  - With O(handshakes), it also shakes hands with every host at every address of the gateways. With O(proxies), it reads what every proxy holds.
  - What could not be looked at is said, and nothing is concluded from it.
  - Changes nothing.
extends_documentation_fragment:
  - meshops.istio.auth
  - meshops.istio.ways
  - meshops.istio.attributes
attributes:
  diff_mode:
    support: none
options:
  namespaces:
    description:
      - Look only at these namespaces. The default is whatever may be read.
    type: list
    elements: str
  paths:
    description:
      - Files, directories or archives (tar, zip) with manifests in YAML or JSON, in place of a cluster. For example a GitOps repository, rendered
        charts, the output of C(kubectl get -o yaml), or an archive of C(istioctl bug-report).
      - Kinds of which there is no object in the files are not looked at.
    type: list
    elements: path
  changes:
    description:
      - Manifests (as in O(paths)) that are laid over what is there, as if they were applied. Findings are those that they bring.
    type: list
    elements: path
  explain:
    description:
      - Hosts whose whole way is told stage by stage, from the client to the workload.
    type: list
    elements: str
    default: []
  survey:
    description:
      - Also return everything that was looked at, in RV(survey). M(meshops.istio.gateway_report) makes reports of it.
    type: bool
    default: false
  certificate_content:
    description:
      - With O(survey), also return the certificates themselves, in PEM. Keys are never returned.
    type: bool
    default: false
  handshakes:
    description:
      - Shake hands with every host that the Gateways serve.
    type: bool
    default: false
  proxies:
    description:
      - Ask the gateways' proxies what they hold and refuse. Pods are asked through the API server.
    type: bool
    default: false
  request_timeout:
    description:
      - Seconds for one handshake, and for one page of a proxy.
    type: float
    default: 10
  min_remaining:
    description:
      - Certificates that end sooner are told as C(expires_soon), for example V(30d).
    type: str
    default: 14d
  suppress:
    description:
      - Findings that are not to be told, with a reason. They are in RV(suppressed). The annotation C(meshops.istio/ignore) on an object does the same.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description:
          - ID or code of the rule, V(*) for every rule.
        type: str
        required: true
      namespace:
        description:
          - Only for objects of this namespace.
        type: str
        default: ""
      reason:
        description:
          - Why it is not to be told.
        type: str
        required: true
  since:
    description:
      - JSON file with an earlier result of this module. What is new and gone since is told in RV(compared).
    type: path
  save:
    description:
      - File in which the result is written as JSON, for O(since) of a later run.
    type: path
  fail_on:
    description:
      - What makes the task fail.
    type: str
    choices: [error, warning, never]
    default: error
notes:
  - Paths are read where the module runs, which is the controller for C(connection=local).
seealso:
  - module: meshops.istio.gateway_report
  - module: meshops.istio.gateway_proxy_info
  - module: meshops.istio.tls_probe
"""

EXAMPLES = r"""
- name: What is wrong with the gateways of this cluster
  meshops.istio.gateway_diagnose:
    handshakes: true
    fail_on: never
  register: diagnosis

- name: Why one host does not work
  meshops.istio.gateway_diagnose:
    explain: [shop.example.com]
    handshakes: true
    fail_on: never

- name: Judge a pull request without a cluster
  meshops.istio.gateway_diagnose:
    paths: [manifests/]

- name: What would these manifests break
  meshops.istio.gateway_diagnose:
    changes: [new-gateway.yaml]
"""

RETURN = r"""
findings:
  description: What is wrong, errors first. One cause is one finding, however many places have it.
  returned: success, or failure because of findings
  type: list
  elements: dict
  contains:
    id:
      description: Stable ID of the rule.
      type: str
      sample: MIT0101
    code:
      description: Stable name of the rule.
      type: str
      sample: credential_missing
    severity:
      description: V(error), V(warning) or V(hint).
      type: str
    title:
      description: What is wrong, in general.
      type: str
    objects:
      description:
        - Where to look, the first first, with C(group), C(kind), C(namespace) and C(name).
        - For objects of O(paths) and O(changes) also C(file), relative to the Git repository that it is in (else to the working directory), and C(line).
      type: list
      elements: dict
    evidence:
      description: One sentence for each place, with what was expected and what was found.
      type: list
      elements: str
    remedy:
      description: What to do.
      type: str
    explained_by:
      description: IDs of findings that are the likely cause, where this is a symptom that a handshake or a proxy showed.
      type: list
      elements: str
counts:
  description: How many findings there are of each severity.
  returned: success, or failure because of findings
  type: dict
not_looked_at:
  description: What could not be looked at, and why.
  returned: success, or failure because of findings
  type: list
  elements: str
suppressed:
  description: Findings that are not to be told, with the reason.
  returned: success, or failure because of findings
  type: list
  elements: dict
explained:
  description: For each host of O(explain) the verdict and the stages of its way.
  returned: success, or failure because of findings
  type: list
  elements: dict
compared:
  description: What is C(new), C(gone) and (as a number) C(unchanged) since O(since).
  returned: when O(since) is given
  type: dict
objects:
  description: How many objects were looked at.
  returned: success, or failure because of findings
  type: int
handshakes:
  description: Every handshake, with host, address, the fingerprint that was served, and whether that is right.
  returned: when O(handshakes) is set
  type: list
  elements: dict
survey:
  description: Everything that was looked at, whether something is wrong with it or not.
  returned: when O(survey) is set
  type: dict
  contains:
    looked_at:
      description: When, in UTC.
      type: str
    min_remaining_days:
      description: What O(min_remaining) comes to.
      type: float
    hosts:
      description: Every host that is served, and every external service behind an egress gateway, with the stages of its way.
      type: list
      elements: dict
    certificates:
      description: Every certificate in the credentials of gateways, with its dates, its issuer, and what uses it. The first that ends is the first.
      type: list
      elements: dict
"""

from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.call import Call
from ansible_collections.meshops.istio.plugins.module_utils.gateway_diagnosis import run
from ansible_collections.meshops.istio.plugins.module_utils.module import run_module
from ansible_collections.meshops.istio.plugins.module_utils.rotation.targets import WAYS

SPEC: dict[str, Any] = {
    "namespaces": {"type": "list", "elements": "str"},
    "paths": {"type": "list", "elements": "path"},
    "changes": {"type": "list", "elements": "path"},
    "explain": {"type": "list", "elements": "str", "default": []},
    "survey": {"type": "bool", "default": False},
    "certificate_content": {"type": "bool", "default": False},
    "handshakes": {"type": "bool", "default": False},
    "proxies": {"type": "bool", "default": False},
    **WAYS,
    "request_timeout": {"type": "float", "default": 10},
    "min_remaining": {"type": "str", "default": "14d"},
    "suppress": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "id": {"type": "str", "required": True},
            "namespace": {"type": "str", "default": ""},
            "reason": {"type": "str", "required": True},
        },
    },
    "since": {"type": "path"},
    "save": {"type": "path"},
    "fail_on": {"type": "str", "choices": ["error", "warning", "never"], "default": "error"},
}
CONSTRAINTS: dict[str, Any] = {"mutually_exclusive": [("paths", "namespaces")]}


def act(call: Call) -> dict[str, Any]:
    return run(call)


def main() -> None:
    run_module(SPEC, act, **CONSTRAINTS)


if __name__ == "__main__":
    main()
