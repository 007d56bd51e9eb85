# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter renewals: which credentials of the role renewal are due, and why."""

from __future__ import annotations

DOCUMENTATION = r"""
name: renewals
short_description: Decide which credentials are due for renewal
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Decides for each credential of the role P(meshops.istio.renewal#role) whether it is due, and says why, or until when it is not.
  - The moment follows from the certificate that is served, the policy, the CA's renewal information, and the credential's name, which spreads them.
positional: _input
options:
  _input:
    description: The credentials, each with C(name), and maybe C(namespace), C(hosts), C(source) and any of O(policy).
    type: list
    elements: dict
    required: true
  served:
    description: What M(meshops.istio.istio_tls_credential_info) shows of them, in RV(meshops.istio.istio_tls_credential_info#module:credentials).
    type: list
    elements: dict
    required: true
  policy:
    description: C(min_remaining), C(spread), C(emergency_remaining), C(windows) and C(freezes), as the role has them.
    type: dict
    required: true
  renewal_info:
    description: The CA's renewal information (RFC 9773) by C(namespace/name).
    type: dict
    default: {}
  offered:
    description: What P(community.crypto.x509_certificate_info#filter) shows of the files of those whose C(source) is V(files), by C(namespace/name).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: What is due
  ansible.builtin.debug:
    msg: "{{ renewal_credentials | meshops.istio.renewals(served=shown.credentials, policy=policy) | selectattr('outcome', 'equalto', 'due') }}"
  vars:
    policy: {min_remaining: 33%, spread: 5%, emergency_remaining: 10%}
"""

RETURN = r"""
_value:
  description:
    - One entry a credential, with C(key) (its namespace and name), C(name), C(namespace), C(outcome), C(reason), C(until), C(credential) (as
      it was given), C(live) (what is shown of it now), and C(rotation) (an item of O(meshops.istio.istio_tls_rotation#module:rotations) that lacks the
      new certificate and key, and keeps everything else).
    - C(outcome) is V(due), V(not_due), V(deferred) (due, and the calendar is closed), V(waiting) (due, and the files hold nothing newer) or V(failed).
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.plugins.module_utils.renewal.due import Decision, decide
from ansible_collections.meshops.istio.plugins.module_utils.renewal.options import advice_of, offer_of, policy_of, served_of
from ansible_collections.meshops.istio.plugins.module_utils.tls.facts import rfc3339
from ansible_collections.meshops.istio.plugins.module_utils.tls.names import normalise, shown

Options = Mapping[str, Any]

_CA = ("ca_certificate", "ca_certificate_path")
_PASSED_ON = (
    *("name", "layout", "hosts", "purpose", "probes", "labels", "annotations", "on_invalid", "replace", "override_cert_manager"),
    *(*_CA, "crl", "crl_path", "trust_anchors", "trust_anchors_path", "not_before_tolerance"),
)
"""Options of istio_tls_rotation that a credential of the role may have."""
_OWN = (
    *("namespace", "source", "acme", "pki_certificate", "certificate_path", "private_key_path", "reuse_key"),
    *("key_type", "key_curve", "key_size"),
)
_SOURCES = ("acme", "files", "pki")


def renewals(
    credentials: Sequence[Options],
    served: Sequence[Options],
    policy: Options,
    renewal_info: Options | None = None,
    offered: Options | None = None,
) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    live = {(one["namespace"], one["name"]): one for one in served}
    decided, keys = [], set()
    for number, credential in enumerate(credentials):
        name, namespace = credential["name"], credential.get("namespace") or "istio-system"
        key = f"{namespace}/{name}"
        if key in keys:
            raise AnsibleFilterError(f"renewal_credentials[{number}]: expected every credential once, found {key} again. Remove one")
        keys.add(key)
        facts = live.get((namespace, name))
        credential = _checked(number, credential, policy)
        given = {option: credential[option] for option in policy if credential.get(option) is not None}
        try:
            decision = _hindered(credential, facts) or decide(
                key,
                served_of(facts),
                policy_of({**policy, **given}, f"renewal_credentials[{number}] ({name}): "),
                now,
                hosts=credential.get("hosts") or (),
                advice=advice_of((renewal_info or {}).get(key)),
                from_files=credential.get("source") == "files",
                offer=offer_of((offered or {}).get(key)),
            )
        except Rejected as rejected:
            raise AnsibleFilterError(str(rejected)) from None
        until = rfc3339(decision.until) if decision.until else ""
        told = {"key": key, "name": name, "namespace": namespace, "outcome": decision.outcome, "reason": decision.reason, "until": until}
        decided.append({**told, "credential": credential, "live": facts or {}, "rotation": _rotation(credential, namespace, facts)})
    return decided


def _checked(number: int, credential: Options, policy: Options) -> Options:
    """With its hosts as they are compared. A source of the user's own may look at further options; ours do not."""
    where = f"renewal_credentials[{number}] ({credential['name']})"
    unknown = sorted(set(credential) - {*_PASSED_ON, *_OWN, *policy})
    source = str(credential.get("source"))
    if source not in _SOURCES and not Path(source).expanduser().is_file():
        expected = f"{', '.join(_SOURCES)} or the path of a file with tasks"
        raise AnsibleFilterError(f"{where}: expected as source {expected}, found {source}. Correct it")
    if source == "files" and not (credential.get("certificate_path") and credential.get("private_key_path")):
        raise AnsibleFilterError(
            f"{where}: expected a certificate_path and a private_key_path with source files, found not both. Give them"
        )
    if unknown and source in _SOURCES:
        raise AnsibleFilterError(f"{where}: expected options of the role, found {', '.join(unknown)}. Correct or remove them")
    hosts = {str(host): normalise(str(host)) for host in credential.get("hosts") or ()}
    if wrong := [shown(host) for host, found in hosts.items() if found is None]:
        raise AnsibleFilterError(f"{where}: expected hosts such as shop.example.com, found {', '.join(wrong)}. Correct them")
    return {**credential, "hosts": list(hosts.values())} if hosts else credential


def _hindered(credential: Options, facts: Options | None) -> Decision | None:
    """What would make the rotation fail after a certificate was issued for it."""
    keepers = [one["source"] for one in (facts or {}).get("kept_by") or () if one["tool"] == "cert-manager"]
    if keepers and not credential.get("override_cert_manager"):
        return Decision(
            "failed", f"cert-manager keeps the Secret for its {keepers[0]} and renews it itself: take it off renewal_credentials"
        )
    ca = (facts or {}).get("ca_certificate") or {}
    if "unreadable" in ca and not any(credential.get(option) for option in _CA):
        return Decision("failed", "its CA cannot be read, so that it could not be kept: give ca_certificate_path")
    return None


def _rotation(credential: Options, namespace: str, facts: Options | None) -> dict[str, Any]:
    """All but the pair stays what it is: what the user gives, else what is live."""
    given = {option: value for option, value in credential.items() if value is not None and option in _PASSED_ON}
    live = dict((facts or {}).get("contents") or {})
    kept = {option: live[option] for option in ("layout", "ca_certificate", "crl") if live.get(option)}
    if any(option in given for option in (*_CA, "crl", "crl_path")):
        kept = {option: value for option, value in kept.items() if option == "layout"}
    return {**kept, **given, "namespace": namespace}


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"renewals": renewals}
