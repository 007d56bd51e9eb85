#!/usr/bin/python
# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module istio_tls_credential_info: what istiod reads from the Secrets that are there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: istio_tls_credential_info
short_description: Show the TLS credentials that Istio's gateways serve from
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Reads Secrets as istiod does and tells what a gateway would get from them - certificate, CA, validity, what is wrong - and which Gateways
    and DestinationRules refer to them.
  - Never returns keys, and certificates themselves only with O(contents).
extends_documentation_fragment:
  - meshops.istio.auth
  - meshops.istio.attributes
attributes:
  diff_mode:
    support: none
options:
  name:
    description:
      - Name of one credential. Without O(name) and O(names), every Secret in the namespace from which istiod could read something is shown.
    type: str
  names:
    description:
      - Names of several credentials.
    type: list
    elements: str
  namespace:
    description:
      - Namespace of the gateway's workloads.
    type: str
    default: istio-system
  min_remaining:
    description:
      - A certificate that remains valid for less is reported as C(expires_soon), for example V(30d).
    type: str
    default: 0d
  not_before_tolerance:
    description:
      - How far the clocks of this machine and of the CA may be apart. What becomes valid within this time is a warning, what does later an
        error, as M(meshops.istio.istio_tls_credential) has it.
    type: str
    default: 60s
  hosts:
    description:
      - Hosts that the certificate has to cover, as M(meshops.istio.istio_tls_credential) reads them.
    type: list
    elements: str
  contents:
    description:
      - Return what is public of each credential as PEM too, in the form in which M(meshops.istio.istio_tls_rotation) takes it. With it, a rotation
        can replace the pair and keep the CA of the clients as it is.
    type: bool
    default: false
seealso:
  - module: meshops.istio.istio_tls_credential
"""

EXAMPLES = r"""
- name: What is there
  meshops.istio.istio_tls_credential_info:
    min_remaining: 30d
  register: credentials

- name: Complain about what is wrong or soon will be
  ansible.builtin.assert:
    that: item.problems | length == 0
    fail_msg: "{{ item.name }}: {{ item.problems | map(attribute='message') | join('; ') }}"
  loop: "{{ credentials.credentials }}"
  loop_control:
    label: "{{ item.name }}"
"""

RETURN = r"""
credentials:
  description: One entry a credential.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The credential's name.
      type: str
    namespace:
      description: Its namespace.
      type: str
    exists:
      description: Whether there is such a Secret; where there is none, the entry ends here.
      type: bool
    type:
      description: The Secret's type, which istiod does not look at.
      type: str
    layout:
      description: What istiod reads - V(tls), V(generic), V(split), V(mixed), V(ca-only) or V(none).
      type: str
    secret_keys:
      description: The Secret's keys. Also as C(keys), which Jinja reaches by C(['keys']) only.
      type: list
      elements: str
    managed:
      description: Whether this collection made it.
      type: bool
    managers:
      description: The field managers that set its data.
      type: list
      elements: str
    kept_by:
      description:
        - Other tools that keep it and would undo what is written to it (cert-manager, External Secrets, Argo CD, ...), with C(tool), C(source)
          (what it is kept for) and C(evidence) (the owner reference, annotation, label or field manager).
      type: list
      elements: dict
    certificate:
      description:
        - Facts about the leaf certificate - C(fingerprint_sha256), C(serial), C(subject), C(sans), C(issuer), C(not_before), C(not_after), C(days_left).
      type: dict
    ca_certificate:
      description: The same facts about the first CA certificate that has not expired, where there is one.
      type: dict
    days_left:
      description: Days until the first of them expires, rounded down.
      type: int
    problems:
      description: What is wrong, with C(code), C(where), C(message), C(remedy) and C(severity).
      type: list
      elements: dict
    contents:
      description:
        - What is public of it as PEM, with C(layout), C(certificate) (the chain), C(ca_certificate) and C(crl), each where it is there and can be read.
        - Of a C(-cacert) Secret that another credential keeps nothing is among it.
      type: dict
      returned: when O(contents=true)
    used_by:
      description:
        - What refers to it, with C(group) (of the API, because there are two kinds of Gateways), C(kind), C(namespace), C(name), C(field) and C(for)
          (V(pair) or V(ca)). Gateways and ListenerSets of the Kubernetes Gateway API are among it.
      type: list
      elements: dict
notes:
  description: What could not be read, and why.
  returned: when there is something to note
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.arguments import duration, system_roots
from ansible_collections.meshops.istio.plugins.module_utils.call import Call
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import Cluster
from ansible_collections.meshops.istio.plugins.module_utils.cluster.credentials import kept_by
from ansible_collections.meshops.istio.plugins.module_utils.cluster.reconcile import read
from ansible_collections.meshops.istio.plugins.module_utils.cluster.usage import find_uses
from ansible_collections.meshops.istio.plugins.module_utils.istio.credential import READ_KEYS, decode, layout_of
from ansible_collections.meshops.istio.plugins.module_utils.istio.credential_material import (
    Demands,
    describe_data,
    judge_data,
    public_contents,
)
from ansible_collections.meshops.istio.plugins.module_utils.istio.names import CA_SUFFIX, metadata_problems
from ansible_collections.meshops.istio.plugins.module_utils.istio.usage import Use
from ansible_collections.meshops.istio.plugins.module_utils.module import run_module
from ansible_collections.meshops.istio.plugins.module_utils.objects.compare import owners
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import SECRET, Ref
from ansible_collections.meshops.istio.plugins.module_utils.objects.ownership import is_ours, owner_of, owner_value
from ansible_collections.meshops.istio.plugins.module_utils.tls.roots import Roots

SPEC: dict[str, Any] = {
    "name": {"type": "str"},
    "names": {"type": "list", "elements": "str"},
    "namespace": {"type": "str", "default": "istio-system"},
    "min_remaining": {"type": "str", "default": "0d"},
    "not_before_tolerance": {"type": "str", "default": "60s"},
    "hosts": {"type": "list", "elements": "str"},
    "contents": {"type": "bool", "default": False},
}
CONSTRAINTS: dict[str, Any] = {"mutually_exclusive": [("name", "names")]}


def secrets_to_show(cluster: Cluster, namespace: str, names: list[str]) -> dict[str, Mapping[str, Any] | None]:
    """The Secrets asked for (None where there is none) with their `-cacert` twins, or all that istiod could read something from."""
    if names:
        wanted = list(dict.fromkeys(secret for name in names for secret in (name, name + CA_SUFFIX)))
        return {ref.name: secret for ref, secret in read(cluster, [(SECRET, Ref("Secret", namespace, name)) for name in wanted]).items()}
    return {item["metadata"]["name"]: item for item in cluster.list(SECRET, namespace) if not READ_KEYS.isdisjoint(item.get("data") or {})}


def show(name: str, namespace: str, secrets: Mapping[str, Any], known: list[Use], demands: Demands, call: Call) -> dict[str, Any]:
    secret = secrets.get(name)
    used_by = [use.as_result() for use in known if use.names(name, namespace)]
    if secret is None:
        return {"name": name, "namespace": namespace, "exists": False, "used_by": used_by}
    data = decode(secret)
    twin = decode(secrets.get(name + CA_SUFFIX))
    own = owner_value("credential", name)
    facts = describe_data(data, call.now)
    days = [facts[what]["days_left"] for what in ("certificate", "ca_certificate") if "days_left" in facts.get(what, {})]
    return {
        "name": name,
        "namespace": namespace,
        "exists": True,
        "type": secret.get("type", "Opaque"),
        "layout": layout_of(data, has_ca_secret=bool(twin)),
        "managed": is_ours(secret),
        "managers": sorted({manager for path, managers in owners(secret) if path[0] == "data" for manager in managers}),
        "kept_by": [keeper.as_result() for keeper in kept_by(secret)],
        **facts,
        **({"days_left": min(days)} if days else {}),
        **(
            {"contents": public_contents(data, twin if owner_of(secrets.get(name + CA_SUFFIX)) == own else None)}
            if call.params["contents"]
            else {}
        ),
        "problems": [problem.as_result() for problem in judge_data(data, demands, now=call.now, where=f"Secret {namespace}/{name}")],
        "used_by": used_by,
    }


def act(call: Call) -> dict[str, Any]:
    namespace = call.params["namespace"]
    names = call.params["names"] or ([call.params["name"]] if call.params["name"] else [])
    demands = Demands(
        hosts=tuple(call.params["hosts"] or ()),
        min_remaining=duration(call.params["min_remaining"], where="min_remaining"),
        not_before_tolerance=duration(call.params["not_before_tolerance"], where="not_before_tolerance"),
        roots=Roots(*system_roots()),
    )
    for name in names or ["any"]:
        where = f"name {name}" if names else "namespace"
        call.judge(metadata_problems({"kind": "Secret", "metadata": {"name": name, "namespace": namespace}}, where))
    cluster = call.connect()
    secrets = secrets_to_show(cluster, namespace, names)
    known = find_uses(cluster, namespace, call.notes)
    shown = [show(name, namespace, secrets, known, demands, call) for name in names or sorted(secrets)]
    return {"changed": False, "credentials": shown}


def main() -> None:
    run_module(SPEC, act, **CONSTRAINTS)


if __name__ == "__main__":
    main()
