#!/usr/bin/python
# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module acme_http_challenge: the ingress gateway answers ACME's HTTP-01 challenges itself."""

from __future__ import annotations

DOCUMENTATION = r"""
module: acme_http_challenge
short_description: Answer ACME's HTTP-01 challenges through the ingress gateway
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Lets the ingress gateway answer an ACME server's HTTP-01 challenges (RFC 8555) itself. No server behind the gateway is needed.
  - The answers are C(VirtualServices) of their own. Gateways and VirtualServices of others stay as they are, and so do their routes. Where a wildcard
    or a catch-all takes a host's requests, it goes on taking all of them but the challenge.
  - Where no Gateway takes a host's plain HTTP requests, a Gateway is made for as long as the challenge lasts.
  - Where plain HTTP is redirected to HTTPS, the challenge is answered on HTTPS, since ACME servers follow redirects.
  - The role P(meshops.istio.renewal#role) uses it with M(community.crypto.acme_certificate).
extends_documentation_fragment:
  - meshops.istio.auth
  - meshops.istio.attributes
options:
  name:
    description:
      - Name of the Gateway that may be made, and beginning of the VirtualServices' names. With O(state=absent) everything that was made under this
        name is removed.
    type: str
    required: true
  namespace:
    description:
      - Namespace of a Gateway that is made. That of the gateway's workloads always does.
      - The VirtualServices are made in the namespaces of the Gateways that they are bound to.
    type: str
    default: istio-system
  selector:
    description:
      - "Labels of the gateway's workloads. Default: the label C(istio) with the value V(ingressgateway)."
    type: dict
  port:
    description:
      - Port of the gateway's Service at which the ACME server asks. Public CAs ask at port 80 only.
    type: int
    default: 80
  challenges:
    description:
      - The challenges. Answers to others that were made under this name before are removed. Required for O(state=present).
    type: list
    elements: dict
    suboptions:
      host:
        description:
          - The host that is to be proven.
        type: str
        required: true
      token:
        description:
          - The challenge's token, which is the last part of the path that the ACME server asks for.
        type: str
        required: true
      key_authorization:
        description:
          - The answer. It is public, and no key.
        type: str
        required: true
  state:
    description:
      - Whether the answers should be there.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: community.crypto.acme_certificate
  - module: meshops.istio.tls_probe
"""

EXAMPLES = r"""
- name: Answer what the ACME server asks for
  meshops.istio.acme_http_challenge:
    name: shop-acme
    challenges:
      - host: shop.example.com
        token: "{{ challenge.resource | basename }}"
        key_authorization: "{{ challenge.resource_value }}"
  vars:
    challenge: "{{ order.challenge_data['shop.example.com']['http-01'] }}"
  register: answered

- name: It is answered
  meshops.istio.tls_probe:
    address: 203.0.113.7
    probes: "{{ answered.probes }}"

- name: Done
  meshops.istio.acme_http_challenge:
    name: shop-acme
    state: absent
"""

RETURN = r"""
changes:
  description: What was (or would be) changed, and why.
  returned: success
  type: list
  elements: dict
probes:
  description: Requests as M(meshops.istio.tls_probe) makes them, one a challenge, that show whether it is answered.
  returned: success
  type: list
  elements: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.call import Call
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ApiError, Cluster
from ansible_collections.meshops.istio.plugins.module_utils.cluster.observe import list_where_allowed
from ansible_collections.meshops.istio.plugins.module_utils.cluster.reconcile import execute, owned, read
from ansible_collections.meshops.istio.plugins.module_utils.istio.http_challenge import (
    Answers,
    Asked,
    Challenge,
    answers,
    argument_problems,
    probes_of,
)
from ansible_collections.meshops.istio.plugins.module_utils.istio.ingress_arguments import DEFAULT_SELECTOR
from ansible_collections.meshops.istio.plugins.module_utils.istio.names import metadata_problems
from ansible_collections.meshops.istio.plugins.module_utils.module import run_module
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import GATEWAY, VIRTUAL_SERVICE, ref_of, resource_of
from ansible_collections.meshops.istio.plugins.module_utils.objects.ownership import owned_by
from ansible_collections.meshops.istio.plugins.module_utils.objects.plan import Unit, plan_apply, plan_delete, problems_of
from ansible_collections.meshops.istio.plugins.module_utils.tls.names import canonical

SPEC: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "istio-system"},
    "selector": {"type": "dict"},
    "port": {"type": "int", "default": 80},
    "challenges": {
        "type": "list",
        "elements": "dict",
        "no_log": False,
        "options": {
            "host": {"type": "str", "required": True},
            "token": {"type": "str", "required": True, "no_log": False},
            "key_authorization": {"type": "str", "required": True, "no_log": False},
        },
    },
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
CONSTRAINTS: dict[str, Any] = {"required_if": [("state", "present", ["challenges"])]}


def asked_of(params: Mapping[str, Any]) -> Asked:
    selector = DEFAULT_SELECTOR if params["selector"] is None else params["selector"]
    return Asked(
        params["name"],
        params["namespace"],
        {str(key): str(value) for key, value in selector.items()},
        params["port"],
        tuple(
            Challenge(canonical(one["host"]), one["token"], one["key_authorization"])
            for one in (params["challenges"] or () if params["state"] == "present" else ())
        ),
    )


def made_before(cluster: Cluster, asked: Asked) -> list[dict[str, Any]]:
    """What there is of ours for these challenges, the Gateway first; where the cluster may not be listed, in the namespace."""
    selector = owned_by(asked.owner)
    found = []
    for resource in (GATEWAY, VIRTUAL_SERVICE):
        try:
            found += owned(cluster, resource, None, selector)
        except ApiError as error:
            if not error.missing_verb:
                raise
            found += owned(cluster, resource, asked.namespace, selector)
    return found


def plan(cluster: Cluster, asked: Asked, made: Answers) -> Unit:
    live = read(cluster, [(resource_of(manifest), ref_of(manifest)) for manifest in made.manifests])
    wanted = {ref_of(manifest): manifest for manifest in made.manifests}
    plans = [plan_apply(manifest, live[ref]) for ref, manifest in wanted.items()]
    left = [item for item in made_before(cluster, asked) if ref_of(item) not in wanted]
    reason = "no challenge needs it any more"
    return Unit((*plans, *(plan_delete(ref_of(item), resource_of(item), item, reason=reason) for item in left)))


def act(call: Call) -> dict[str, Any]:
    asked = asked_of(call.params)
    call.judge(metadata_problems({"kind": "Gateway", "metadata": {"name": asked.name, "namespace": asked.namespace}}, f"name {asked.name}"))
    call.judge(argument_problems(asked))
    cluster = call.connect()
    seen = [
        list_where_allowed(cluster, resource, asked.namespace, call.notes) for resource in (GATEWAY, VIRTUAL_SERVICE) if asked.challenges
    ]
    made = answers(asked, *seen) if seen else Answers((), (), ())
    call.judge(made.problems)
    unit = plan(cluster, asked, made)
    call.judge(problems_of([unit]))
    outcome = execute(cluster, [unit], check_mode=call.check_mode)
    return call.finish(outcome, changes=[each.as_result() for each in unit.plans if each.changed], probes=probes_of(made))


def main() -> None:
    run_module(SPEC, act, **CONSTRAINTS)


if __name__ == "__main__":
    main()
