#!/usr/bin/python
# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module gateway_credential_mount: Secrets as files in a gateway's pods."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_credential_mount
short_description: Mount credentials into a gateway's pods, and prove that they are there
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Mounts Secrets as directories of files into the proxies of a gateway's Deployment, for gateways that read certificates from files
    (O(meshops.istio.egress_mtls_origination#module:certificate_files)).
  - Everything is checked before anything is written - that the Secret is there and has its keys, that the path is free and hides nothing that
    the proxy needs, that the volume's name is free, also among what istiod injects.
  - Waits for the rollout, and then looks into every new pod whether the files are the Secret's. When a rollout fails, it says which pod
    does not come up and why, and can put the previous template back.
  - It owns its volumes and mounts alone (server-side apply). All other fields of the Deployment, its replicas among them, are left to whoever
    made it, and a later C(istioctl install) or C(helm upgrade) leaves the mounts in place. Works for gateways that C(istioctl) installed, those of
    Helm charts, and those whose proxy is injected (C(image) V(auto)).
  - When nothing changes, nothing is written and no pod is replaced.
  - Where the gateway can take credentials from Secrets (O(meshops.istio.egress_mtls_origination#module:credential_name)), no mount is
    needed, and a rotation reaches it in a second rather than in about a minute.
extends_documentation_fragment:
  - meshops.istio.auth
  - meshops.istio.attributes
attributes:
  check_mode:
    details:
      - Needs read rights only. Where the login may write, the server's dry run is asked as well.
      - What an earlier task of the same play would have made (the Secret, the Deployment) is no error in check mode, but a note.
      - No rollout is waited for, and no pod is looked into.
options:
  name:
    description:
      - Name of the Deployment.
    type: str
  selector:
    description:
      - Instead of O(name), labels that the pods of exactly one Deployment in O(namespace) carry, as a Gateway's selector has them.
    type: dict
  namespace:
    description:
      - Namespace of the Deployment, and so of the Secrets.
    type: str
    default: istio-system
  container:
    description:
      - The container to mount into.
    type: str
    default: istio-proxy
  mounts:
    description:
      - What to mount. Required with O(state=present).
      - With O(state=absent) the mounts to remove, by their O(mounts[].path); without it, all that this module made in the Deployment.
    type: list
    elements: dict
    suboptions:
      path:
        description:
          - The directory. Every key of the Secret becomes a file in it.
        type: str
        required: true
      secret:
        description:
          - Name of the Secret. Required with O(state=present).
        type: str
      keys:
        description:
          - Keys that the Secret must have, for example those that O(meshops.istio.egress_mtls_origination#module:certificate_files) names.
        type: list
        elements: str
      optional:
        description:
          - Whether the pods may start without the Secret. They then have an empty directory until it is made.
        type: bool
        default: false
      mode:
        description:
          - Permissions of the files, in octal and quoted, for example V('0440'). Kubernetes' V('0644') by default.
          - The proxy does not run as root. It can read files of V('0440') only if the pods have an C(fsGroup).
        type: str
      volume:
        description:
          - Name of the volume. By default the Secret's.
        type: str
  state:
    description:
      - Whether the mounts should exist. V(absent) removes what this module made, and nothing else.
    type: str
    choices: [present, absent]
    default: present
  prune:
    description:
      - Remove mounts of the Deployment that this module made earlier and that are not in O(mounts).
    type: bool
    default: false
  force_conflicts:
    description:
      - Put a Secret in the place of what something else mounts at the same path.
      - Without it that is an error, unless it is the same Secret; then there is nothing to do.
    type: bool
    default: false
  on_invalid:
    description:
      - Whether mounts that would not work end the task (V(fail)) or are written with warnings (V(warn)).
      - What the API server would refuse is an error in any case.
    type: str
    choices: [fail, warn]
    default: fail
  wait:
    description:
      - Wait until the rollout is complete. An earlier one that is not complete yet is waited for too.
    type: bool
    default: true
  timeout:
    description:
      - Seconds that the rollout and RV(verified) may take together. A restoration may take as long again.
    type: float
    default: 300
  verify:
    description:
      - After the rollout, compare the files in every pod with the Secrets, until they agree. The kubelet brings a changed Secret into running
        pods within about a minute.
      - It runs C(sha256sum) in the container. Digests are compared; no key leaves the pod, and no digest of a key is returned.
      - Where the container has no such program, C(cat) is tried for what is public and C(wc) for the size of the rest. A distroless image has
        none of them, which becomes a note.
    type: bool
    default: true
  restore_on_failure:
    description:
      - When the rollout that this task began fails, or the files are not the right ones, put the previous template back and wait for that too. The
        task fails all the same.
    type: bool
    default: false
notes:
  - The rights that it needs are in C(docs/rbac/mounts.yaml).
  - While C(istioctl) and Helm leave the mounts in place when they upgrade a gateway, replacing the Deployment (C(kubectl replace),
    C(helm uninstall)) removes them; running the task again brings them back.
  - A Secret that changes reaches the files without a rollout. Envoy takes them up when they change; connections that are open stay on the old
    certificate.
seealso:
  - module: meshops.istio.egress_mtls_origination
  - module: meshops.istio.istio_tls_credential
  - name: Egress Gateways with TLS Origination
    description: The walkthrough in Istio's documentation.
    link: https://istio.io/latest/docs/tasks/traffic-management/egress/egress-gateway-tls-origination/
"""

EXAMPLES = r"""
- name: The egress gateway's client certificate and the CA of its partners, as files
  meshops.istio.gateway_credential_mount:
    name: istio-egressgateway
    namespace: istio-system
    mounts:
      - path: /etc/nginx-client-certs
        secret: nginx-client-certs
        keys: [tls.crt, tls.key]
      - path: /etc/nginx-ca-certs
        secret: nginx-ca-certs
        keys: [ca-chain.cert.pem]
    timeout: 120
    restore_on_failure: true

- name: The gateway uses them
  meshops.istio.egress_mtls_origination:
    name: nginx
    host: nginx.example.com
    certificate_files:
      certificate: /etc/nginx-client-certs/tls.crt
      private_key: /etc/nginx-client-certs/tls.key
      ca_certificate: /etc/nginx-ca-certs/ca-chain.cert.pem
    subject_alt_names: [nginx.example.com]

- name: Whichever Deployment runs the gateway
  meshops.istio.gateway_credential_mount:
    selector: {istio: egressgateway}
    namespace: egress
    mounts:
      - {path: /etc/partner, secret: partner-client}

- name: One of them is not needed any more
  meshops.istio.gateway_credential_mount:
    name: istio-egressgateway
    mounts:
      - path: /etc/nginx-ca-certs
    state: absent
"""

RETURN = r"""
deployment:
  description: The Deployment, as V(namespace/name).
  returned: when it was found
  type: str
  sample: istio-system/istio-egressgateway
mounts:
  description: What was done (in check mode - would be) about each mount; with O(prune) and O(state=absent) also those that went.
  returned: when the Deployment was found
  type: list
  elements: dict
  contains:
    path:
      description: The directory.
      type: str
    secret:
      description: The Secret.
      type: str
    volume:
      description: The volume.
      type: str
    container:
      description: The container.
      type: str
    action:
      description: V(created), V(updated), V(deleted) or V(unchanged).
      type: str
  sample:
    - {path: /etc/nginx-client-certs, secret: nginx-client-certs, volume: nginx-client-certs, container: istio-proxy, action: created}
rollout:
  description: How the rollout went.
  returned: when it was waited for
  type: dict
  contains:
    complete:
      description: Whether all pods are of the current template, and ready.
      type: bool
    elapsed:
      description: Seconds that it was waited for.
      type: float
    replicas:
      description: How many pods there are to be.
      type: int
    pods:
      description: Each pod that was seen.
      type: list
      elements: dict
      contains:
        name:
          description: Its name.
          type: str
        generation:
          description: V(new) if it is of the current template, else V(old).
          type: str
        state:
          description: V(ready), V(not_ready), V(terminating) or V(gone).
          type: str
        ready_after:
          description: Seconds from its creation until it was ready.
          type: float
          returned: when it is ready
        gone_after:
          description: Seconds from the beginning of the wait until it was gone.
          type: float
          returned: when it is gone
        troubles:
          description: Why it is not ready - what its warnings, its containers and its conditions say.
          type: list
          elements: str
          returned: when there is something
    progress:
      description: Each step, with C(after), seconds from the beginning of the wait, and C(state), in words.
      type: list
      elements: dict
    troubles:
      description: What keeps the rollout from being complete.
      type: list
      elements: str
      returned: when it is not complete
  sample:
    complete: true
    elapsed: 4.6
    replicas: 1
    pods:
      - {name: istio-egressgateway-5946f4f779-r9q6p, generation: new, state: ready, ready_after: 3.0}
      - {name: istio-egressgateway-85c7b8c6b4-fn8ld, generation: old, state: terminating}
    progress:
      - {after: 0.0, state: "0 of 1 new pods ready, 0 made, 1 old"}
      - {after: 0.5, state: "0 of 1 new pods ready, 1 made, 1 old"}
      - {after: 4.1, state: "1 of 1 new pods ready, 1 made, 0 old"}
verified:
  description: What the files in each pod are.
  returned: when they were looked at
  type: list
  elements: dict
  contains:
    pod:
      description: The pod.
      type: str
    method:
      description: The programs that were used, or V(none).
      type: str
    files:
      description:
        - Each file, with its C(path), C(secret), C(key) and C(kind) (V(certificate), V(crl), V(private_key) or V(other)), and for certificates
          C(fingerprint_sha256), of the first one.
        - C(state) is V(same) as in the Secret; V(same_size) where only that could be compared; V(present) where the Secret could not be read;
          V(unknown) where the container has no program for it; or V(differs), V(missing) or V(unreadable), which are failures.
      type: list
      elements: dict
  sample:
    - pod: istio-egressgateway-5946f4f779-r9q6p
      method: sha256sum
      files:
        - path: /etc/nginx-client-certs/tls.crt
          secret: nginx-client-certs
          key: tls.crt
          kind: certificate
          state: same
          fingerprint_sha256: "4f:6a:..."
        - {path: /etc/nginx-client-certs/tls.key, secret: nginx-client-certs, key: tls.key, kind: private_key, state: same}
restored:
  description: Whether the previous template was put back and rolled out.
  returned: when that was tried
  type: bool
restoration:
  description: How the rollout of the previous template went, as RV(rollout).
  returned: when the previous template was put back
  type: dict
problems:
  description:
    - What is wrong with the arguments, or with the mounts in this Deployment.
    - Each with C(code), C(where) and C(severity); the sentence with what was expected, what was found and what to do stands in C(msg), in the
      same order. Where there are very many, the ones that have no room there bring C(message) and C(remedy).
  returned: failure
  type: list
  elements: dict
  sample:
    - code: secret_missing
      where: mounts[0] (/etc/nginx-client-certs)
      severity: error
notes:
  description: What stays because something else made it, and what could not be looked at for want of rights.
  returned: when there is something
  type: list
  elements: str
"""

from dataclasses import replace
from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.call import Call
from ansible_collections.meshops.istio.plugins.module_utils.cluster.mounted import (
    Settings,
    contents,
    find,
    keys_of,
    settle,
)
from ansible_collections.meshops.istio.plugins.module_utils.cluster.reconcile import execute
from ansible_collections.meshops.istio.plugins.module_utils.cluster.rollout import look
from ansible_collections.meshops.istio.plugins.module_utils.istio.mount_arguments import from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.mount_checks import MAY_COME, check
from ansible_collections.meshops.istio.plugins.module_utils.istio.mounts import plan, shown
from ansible_collections.meshops.istio.plugins.module_utils.module import run_module
from ansible_collections.meshops.istio.plugins.module_utils.objects.ownership import FIELD_MANAGER
from ansible_collections.meshops.istio.plugins.module_utils.objects.plan import Unit, plan_apply
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem

SPEC: dict[str, Any] = {
    "name": {"type": "str"},
    "selector": {"type": "dict"},
    "namespace": {"type": "str", "default": "istio-system"},
    "container": {"type": "str", "default": "istio-proxy"},
    "mounts": {
        "type": "list",
        "elements": "dict",
        "options": {
            "path": {"type": "str", "required": True},
            "secret": {"type": "str", "no_log": False},
            "keys": {"type": "list", "elements": "str", "no_log": False},
            "optional": {"type": "bool", "default": False},
            "mode": {"type": "str"},
            "volume": {"type": "str"},
        },
    },
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "prune": {"type": "bool", "default": False},
    "force_conflicts": {"type": "bool", "default": False},
    "on_invalid": {"type": "str", "choices": ["fail", "warn"], "default": "fail"},
    "wait": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 300},
    "verify": {"type": "bool", "default": True},
    "restore_on_failure": {"type": "bool", "default": False},
}
CONSTRAINTS: dict[str, Any] = {"mutually_exclusive": [("name", "selector")], "required_one_of": [("name", "selector")]}


def judge(call: Call, problems: tuple[Problem, ...]) -> None:
    if call.check_mode:  # an earlier task may be about to make it
        call.notes += [str(problem) for problem in problems if problem.code in MAY_COME]
        problems = tuple(problem for problem in problems if problem.code not in MAY_COME)
    call.judge(problems, on_invalid=call.params["on_invalid"])


def act(call: Call) -> dict[str, Any]:
    params = call.params
    namespace = params["namespace"]
    request = from_arguments(params)
    cluster = call.connect()
    live = find(cluster, namespace, params["name"], params["selector"])
    if isinstance(live, Problem):
        if live.code in MAY_COME and (request.absent or call.check_mode):
            call.notes.append(str(live))
            return {"changed": not request.absent}
        call.judge([live])
    data = {} if request.absent else contents(cluster, namespace, request, call.notes)
    judge(call, check(live, request, keys_of(data), FIELD_MANAGER))
    change = plan(live, request, FIELD_MANAGER)
    before, after = shown(live, change)
    applied = plan_apply(change.manifest, live, force=request.force)
    if applied.changed:
        applied = replace(applied, reasons=change.reasons or applied.reasons, before=before, after=after)
    call.judge(applied.problems)
    call.notes += change.notes
    name = live["metadata"]["name"]
    if params["wait"] and not call.check_mode:
        found = look(cluster, namespace, name)  # a right that is missing should be known before anything is written
        if found and not found.complete and applied.changed:
            call.notes.append(f"when this task began, an earlier rollout was not complete: {found}")
    outcome = execute(cluster, [Unit((applied,))], check_mode=call.check_mode)
    result = call.finish(outcome, deployment=f"{namespace}/{name}", mounts=[mount.as_result() for mount in change.mounts])
    if params["wait"] and not call.check_mode:
        settings = Settings(timeout=params["timeout"], verify=params["verify"], restore=params["restore_on_failure"])
        result |= settle(cluster, live, change if outcome.changed else None, request, settings, call.notes)
    return result


def main() -> None:
    run_module(SPEC, act, **CONSTRAINTS)


if __name__ == "__main__":
    main()
