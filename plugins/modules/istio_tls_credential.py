#!/usr/bin/python
# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module istio_tls_credential: the Secrets that Istio's gateways serve from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: istio_tls_credential
short_description: Manage the TLS credentials that Istio's gateways serve from
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Puts certificates, private keys, client CAs and CRLs into the Secrets that O(credentials) or O(name) tell, in place and in one write each.
  - Everything is checked before anything is written - that the key matches, the chain is whole and in order, the hosts are covered, nothing
    has expired, and that Envoy can load it all.
  - After the write istiod reads what was asked for, and nothing else. Keys of other managers that istiod would read first are an error, or
    are removed with O(force_conflicts=true).
  - Other tools that keep such a Secret and will undo the change (External Secrets, Sealed Secrets, Vault, Reflector, Argo CD, Flux, Helm, ...) are
    told as the warning C(kept_by_another).
  - One call takes one credential, or a whole list of them; a list of hundreds costs little more than one.
  - With O(prove=true) it is proven that every gateway serves what was written. Where Envoy refuses one Secret, good ones that were written at the
    same time may stay on their old certificate; they are sent once more.
  - Layout V(split) is two Secrets and so two writes. The CA's Secret is written first and removed last; what an interruption leaves is
    reported, and finished by the next run.
extends_documentation_fragment:
  - meshops.istio.auth
  - meshops.istio.objects
  - meshops.istio.ways
  - meshops.istio.attributes
attributes:
  check_mode:
    details:
      - Needs read rights only. Where the login may write, the server's dry run is asked as well.
  diff_mode:
    details:
      - Shows fingerprints, names and dates, never keys or certificates.
options:
  credentials:
    description:
      - Several credentials in one call, each with the options of this module from O(name) to O(trust_anchors_path).
      - What an item leaves out of O(namespace), O(layout), O(purpose), O(min_remaining), O(not_before_tolerance), O(on_invalid),
        O(trust_anchors), O(trust_anchors_path), O(replace) and O(override_cert_manager) is taken from the option of the same name beside the
        list.
    type: list
    elements: dict
    suboptions:
      state:
        description:
          - "Whether this credential should exist. Default: the value of O(state)."
        type: str
        choices: [present, absent]
      labels:
        description:
          - Labels for this credential's Secrets, beside those of O(labels).
        type: dict
      annotations:
        description:
          - Annotations for this credential's Secrets, beside those of O(annotations).
        type: dict
      <<: &credential
        name:
          description:
            - Name of the credential, as a Gateway's C(credentialName) refers to it, and so of its Secret.
            - A name that ends in V(-cacert) is a CA alone for istiod.
          type: str
        namespace:
          description:
            - "Namespace of the gateway's workloads (not of the Gateway object). Default: V(istio-system)."
          type: str
        layout:
          description:
            - V(tls) has the keys C(tls.crt), C(tls.key), C(ca.crt), C(ca.crl) and C(tls.ocsp-staple); the default.
            - V(generic) has C(cert), C(key), C(cacert) and C(crl).
            - V(split) has C(cert) and C(key), and C(cacert) and C(crl) in a second Secret whose name ends in C(-cacert).
          type: str
          choices: [tls, generic, split]
        certificate:
          description:
            - The certificate and its chain, leaf first, in PEM, or base64 of DER or PKCS#7. It is stored as plain PEM.
          type: str
        certificate_path:
          description:
            - File with the certificate and its chain, leaf first. PEM, DER or PKCS#7, with other text around it and in UTF-16, too.
          type: path
        private_key:
          description:
            - The certificate's private key, in PEM, or base64 of DER.
          type: str
        private_key_path:
          description:
            - File with the certificate's private key, in PEM or DER.
          type: path
        private_key_passphrase:
          description:
            - Passphrase of an encrypted private key. The key is stored decrypted, as Envoy needs it.
          type: str
        pkcs12:
          description:
            - Certificate, chain and key as a PKCS#12 bundle, encoded in base64; in place of O(certificate) and O(private_key).
          type: str
        pkcs12_path:
          description:
            - File with certificate, chain and key as a PKCS#12 bundle.
          type: path
        pkcs12_passphrase:
          description:
            - Passphrase of the PKCS#12 bundle.
          type: str
        ca_certificate:
          description:
            - CA certificates, in PEM, or base64 of DER or PKCS#7, that clients (at an ingress gateway) or servers (at an egress gateway) are verified with.
            - One that is usable is enough; what is wrong with the others (expired, doubled) is a warning.
            - An expired certificate that Envoy might take in place of a valid one of the same CA is left out, with a warning.
            - A peer's own certificate can stand here as well, to trust that peer alone.
          type: str
        ca_certificate_path:
          description:
            - File with such CA certificates, in PEM, DER or PKCS#7.
          type: path
        ca_certificate_key:
          description:
            - Key of a Secret that holds nothing but O(ca_certificate), and so the file's name where pods mount the Secret, such as
              V(ca-chain.cert.pem).
            - istiod reads no such key. For a gateway's C(credentialName), leave it out.
          type: str
        crl:
          description:
            - Revocation lists of those CAs, in PEM, or base64 of DER.
          type: str
        crl_path:
          description:
            - File with revocation lists of those CAs, in PEM or DER.
          type: path
        ocsp_staple:
          description:
            - OCSP response to staple, DER encoded in base64; with layout V(tls) only.
          type: str
        ocsp_staple_path:
          description:
            - File with an OCSP response to staple, in DER format.
          type: path
        hosts:
          description:
            - Hosts that the certificate has to cover; wildcards such as V(*.example.com) are hosts too.
            - Hosts are names or addresses, without scheme, port or path. International names are read by IDNA 2008, so that V(münchen.example)
              is V(xn--mnchen-3ya.example), for which the package C(idna) is needed, a part of C(kubernetes)' requirements. Upper case, a final
              dot and brackets around IPv6 make no difference. All modules of the collection read hosts like this.
          type: list
          elements: str
        purpose:
          description:
            - What the certificate is for. V(server) (the default) at an ingress gateway, V(client) at an egress gateway that originates mutual TLS.
          type: str
          choices: [server, client]
        min_remaining:
          description:
            - "The time that certificates must remain valid at least, for example V(30d), V(12h) or V(1w2d). Default: V(0d)."
            - Of several CAs in O(ca_certificate) one has to; the others are a warning.
          type: str
        not_before_tolerance:
          description:
            - "How far the clocks of this machine and of the CA may be apart. What becomes valid within this time is accepted with a warning
              that says when; until then peers with the right time refuse it. Default: V(60s)."
          type: str
        on_invalid:
          description:
            - Whether what is wrong with the certificates ends the task (V(fail), the default) or becomes a warning.
            - What cannot be stored at all is an error in any case.
          type: str
          choices: [fail, warn]
        trust_anchors:
          description:
            - Root certificates, in the forms of O(ca_certificate), with which the chain has to be complete; a chain that is not is an error.
            - Without them, a chain that visibly lacks intermediates is the warning C(chain_unverified). Roots that browsers or this machine
              trust, and those in O(ca_certificate), are known then.
          type: str
        trust_anchors_path:
          description:
            - File with such root certificates.
          type: path
        replace:
          description:
            - Delete and create again what cannot be changed in place, for example an immutable Secret.
          type: bool
        override_cert_manager:
          description:
            - Write to a Secret that cert-manager keeps. It undoes the change at the next renewal; better keep the client CA in a credential of its
              own, named as the Secret with C(-cacert) added.
          type: bool
  details:
    description:
      - Of which credentials the whole facts are returned. V(auto) means all of them in a call of up to 100, and of those that change in a larger one.
    type: str
    choices: [auto, all, changed]
    default: auto
  prove:
    description:
      - Prove each credential after the write. Every gateway proxy that uses it must hold it, and fresh handshakes with every host, at every
        address where the gateways are reached, must present it several times in a row.
      - What does not come within 3 s is sent once more, by a harmless change of its own Secret.
      - The task fails when something is not proven within O(proof_timeout). What was written stays;
        M(meshops.istio.istio_tls_rotation) is what goes back by itself.
      - In check mode nothing is proven.
    type: bool
    default: false
  proof_timeout:
    description:
      - Seconds in which all must be proven.
    type: float
    default: 60
  request_timeout:
    description:
      - Seconds for one page of a proxy's administration interface, with O(prove=true).
    type: float
    default: 30
  <<: *credential
  state:
    description:
      - Whether the credentials should exist.
      - A Secret that something else made, or that holds keys of others, is deleted only with O(force_conflicts=true).
    type: str
    choices: [present, absent]
    default: present
  labels:
    description:
      - Labels for every Secret made.
      - V(app.kubernetes.io/managed-by) and V(meshops.istio/owner) are set by the module and cannot be given other values.
    type: dict
  annotations:
    description:
      - Annotations for every Secret made.
    type: dict
notes:
  - Paths are read where the module runs, which is the controller for C(connection=local).
seealso:
  - module: meshops.istio.istio_tls_credential_info
  - module: meshops.istio.ingress_tls_gateway
  - module: meshops.istio.istio_tls_rotation
"""

EXAMPLES = r"""
- name: A credential for one host
  meshops.istio.istio_tls_credential:
    name: httpbin-credential
    namespace: istio-system
    certificate_path: httpbin.crt
    private_key_path: httpbin.key
    hosts: [httpbin.example.com]
    min_remaining: 14d

- name: A credential for a MUTUAL server, with the CA that issues the clients' certificates
  meshops.istio.istio_tls_credential:
    name: httpbin-credential
    certificate_path: httpbin.crt
    private_key_path: httpbin.key
    ca_certificate_path: clients-ca.crt
    crl_path: clients-ca.crl

- name: A client CA for a Secret that cert-manager keeps
  meshops.istio.istio_tls_credential:
    name: httpbin-credential-cacert
    layout: generic
    ca_certificate_path: clients-ca.crt

- name: A fleet's credentials in one call
  meshops.istio.istio_tls_credential:
    namespace: istio-system
    min_remaining: 14d
    trust_anchors_path: roots.pem
    credentials:
      - {name: shop-credential, certificate_path: shop.crt, private_key_path: shop.key, hosts: [shop.example.com]}
      - {name: api-credential, pkcs12_path: api.p12, pkcs12_passphrase: "{{ vault_api_passphrase }}", hosts: [api.example.com]}
      - {name: old-credential, state: absent}

- name: A batch, of which each credential must be served afterwards
  meshops.istio.istio_tls_credential:
    credentials: "{{ shop_credentials }}"
    prove: true
    proof_timeout: 30
"""

RETURN = r"""
credentials:
  description: What was done about each credential, in the order given.
  returned: success, and when the proof fails
  type: list
  elements: dict
  contains:
    name:
      description: The credential's name.
      type: str
    namespace:
      description: Its namespace.
      type: str
    action:
      description: V(created), V(updated), V(replaced), V(deleted) or V(unchanged).
      type: str
    reasons:
      description: Why something changed.
      type: list
      elements: str
    secrets:
      description: The Secrets that hold it and what was done about each; only those that change.
      type: list
      elements: dict
    certificate:
      description:
        - Facts about the leaf certificate - C(fingerprint_sha256), C(serial), C(subject), C(sans), C(issuer), C(not_before), C(not_after), C(days_left).
        - Of unchanged credentials in a large call only C(fingerprint_sha256), C(not_after) and C(days_left), and no warnings; see O(details).
      type: dict
    ca_certificate:
      description: The same facts about the first CA certificate that has not expired, where there is one.
      type: dict
    warnings:
      description: What is not an error but will be a problem, with codes and remedies.
      type: list
      elements: dict
    proof:
      description: What O(prove=true) found out; null where nothing uses the credential.
      type: dict
      contains:
        proven:
          description: Whether it is served by every gateway.
          type: bool
        handshakes:
          description: The last handshake with each host at each address, with its time and the fingerprint that was presented.
          type: list
          elements: dict
        proxies:
          description: Proxies that hold it.
          type: list
          elements: str
        seconds:
          description: Seconds from the write to the proof.
          type: float
        sent_again:
          description: How often it was sent once more.
          type: int
        held_up_by:
          description: Credentials of this call that Envoy refused, where this one came only after it was sent once more.
          type: list
          elements: str
        lacks:
          description: What was found instead; only where it is not proven.
          type: list
          elements: str
notes:
  description: What could not be checked and why, for example without the right to write in check mode.
  returned: when there is something to note
  type: list
  elements: str
problems:
  description:
    - What is wrong with the input.
    - Each with C(code), C(where) and C(severity); the sentence with what was expected, what was found and what to do stands in C(msg), in the
      same order. Where there are very many, the ones that have no room there bring C(message) and C(remedy).
  returned: failure
  type: list
  elements: dict
applied:
  description: What was written before a failure.
  returned: failure while writing
  type: list
  elements: dict
"""

from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.arguments import OBJECT_OPTIONS, system_roots
from ansible_collections.meshops.istio.plugins.module_utils.call import Call
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import Cluster
from ansible_collections.meshops.istio.plugins.module_utils.cluster.credentials import Wanted, plan_credential, refs
from ansible_collections.meshops.istio.plugins.module_utils.cluster.reconcile import execute, read
from ansible_collections.meshops.istio.plugins.module_utils.cluster.usage import find_uses
from ansible_collections.meshops.istio.plugins.module_utils.credential_arguments import (
    CREDENTIAL_OPTIONS,
    SHARED,
    duplicates,
    items,
    prepare,
)
from ansible_collections.meshops.istio.plugins.module_utils.istio.credential_material import Checked, describe_data
from ansible_collections.meshops.istio.plugins.module_utils.istio.usage import deletion_problems
from ansible_collections.meshops.istio.plugins.module_utils.module import run_module
from ansible_collections.meshops.istio.plugins.module_utils.objects.plan import Unit, problems_of
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem
from ansible_collections.meshops.istio.plugins.module_utils.rotation import written
from ansible_collections.meshops.istio.plugins.module_utils.rotation.targets import WAYS
from ansible_collections.meshops.istio.plugins.module_utils.tls.roots import Roots

SPEC: dict[str, Any] = {
    **CREDENTIAL_OPTIONS,
    **OBJECT_OPTIONS,
    "credentials": {"type": "list", "elements": "dict", "options": CREDENTIAL_OPTIONS},
    "details": {"type": "str", "choices": ["auto", "all", "changed"], "default": "auto"},
    "prove": {"type": "bool", "default": False},
    **WAYS,
    "proof_timeout": {"type": "float", "default": 60},
    "request_timeout": {"type": "float", "default": 30},
}
CONSTRAINTS: dict[str, Any] = {
    "mutually_exclusive": [
        ("credentials", option) for option in CREDENTIAL_OPTIONS if option not in SHARED and option not in ("labels", "annotations")
    ],
    "required_one_of": [("credentials", "name")],
}
WHOLE_FACTS_UP_TO = 100


def result(wanted: Wanted, checked: Checked | None, problems: list[Problem], unit: Unit, whole: bool) -> dict[str, Any]:
    main = next(plan for plan in unit.plans if plan.ref.name == wanted.credential.name)
    changing = [plan for plan in unit.plans if plan.changed]
    shown: dict[str, Any] = {
        "name": wanted.credential.name,
        "namespace": wanted.credential.namespace,
        "action": main.action if main.changed or not changing else "updated",
    }
    if changing:
        shown["reasons"] = [reason for plan in changing for reason in plan.reasons]
        shown["secrets"] = [plan.as_result() for plan in changing]
    certificate = checked.certificate if checked else None
    if certificate and not whole and not changing:
        certificate = {fact: certificate[fact] for fact in ("fingerprint_sha256", "not_after", "days_left")}
    if certificate:
        shown["certificate"] = certificate
    if checked and checked.ca_certificate and (whole or changing):
        shown["ca_certificate"] = checked.ca_certificate
    if problems and (whole or changing):
        shown["warnings"] = [problem.as_result() for problem in problems]
    return shown


def warn_of_uses(call: Call, cluster: Cluster, wanted: list[Wanted], units: list[Unit]) -> None:
    """Tells of Secrets that something still refers to, and that are to be deleted. In check mode an earlier task may be about to end that."""
    going = [
        plan.ref for ours, unit in zip(wanted, units, strict=True) if ours.absent for plan in unit.plans[:1] if plan.action == "deleted"
    ]
    if not going:
        return
    known = find_uses(cluster, going[0].namespace, call.notes)
    found = [problem for ref in going for problem in deletion_problems(ref.name, ref.namespace, known)]
    if call.check_mode:
        call.notes += map(str, found)
    else:
        call.judge(found)


def act(call: Call) -> dict[str, Any]:
    anchors: dict[Any, Any] = {}
    roots = Roots(*system_roots())
    prepared = [prepare(call, where, options, anchors, roots) for where, options in items(call.params)]
    wanted = [ours for ours, __, __ in prepared]
    proves = call.params["prove"]
    options = written.argument_problems(call.params) if proves else []
    call.judge([*options, *duplicates(wanted), *(problem for __, __, problems in prepared for problem in problems)])
    cluster = call.connect()
    live = read(cluster, [ref for ours in wanted for ref in refs(ours)])
    taken, going = (frozenset(ref for ours in wanted if ours.absent is absent for __, ref in refs(ours)[:1]) for absent in (False, True))
    units = [plan_credential(ours, live, lambda data: describe_data(data, call.now), taken, going) for ours in wanted]
    call.judge(problems_of(units))
    warn_of_uses(call, cluster, wanted, units)
    proof = written.prepare(call, cluster, wanted, live) if proves and not call.check_mode else None
    outcome = execute(cluster, units, check_mode=call.check_mode)
    details = call.params["details"]
    whole = details == "all" or (details == "auto" and len(wanted) <= WHOLE_FACTS_UP_TO)
    finished = call.finish(outcome, credentials=[result(*item, unit, whole) for item, unit in zip(prepared, units, strict=True)])
    return finished if proof is None else written.with_proof(finished, proof)


def main() -> None:
    run_module(SPEC, act, **CONSTRAINTS)


if __name__ == "__main__":
    main()
