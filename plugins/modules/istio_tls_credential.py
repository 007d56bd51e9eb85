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
  - Layout V(split) is two Secrets and so two writes. The CA's Secret is written first and removed last; what an interruption leaves is
    reported, and finished by the next run.
extends_documentation_fragment:
  - meshops.istio.auth
  - meshops.istio.objects
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details:
      - Needs read rights only. Where the login may write, the server's dry run is asked as well.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: full
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
          - Whether this credential should exist; what O(state) says where nothing is said.
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
            - Namespace of the gateway's workloads (not of the Gateway object). V(istio-system) where nothing is said.
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
            - The certificate and its chain in PEM format, leaf first.
          type: str
        certificate_path:
          description:
            - File with the certificate and its chain in PEM format, leaf first.
          type: path
        private_key:
          description:
            - The certificate's private key in PEM format.
          type: str
        private_key_path:
          description:
            - File with the certificate's private key in PEM format.
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
            - CA certificates in PEM format that clients (at an ingress gateway) or servers (at an egress gateway) are verified with.
            - One that is usable is enough; what is wrong with the others (expired, doubled) is a warning.
            - An expired certificate that Envoy might take in place of a valid one of the same CA is left out, with a warning.
            - A peer's own certificate can stand here as well, to trust that peer alone.
          type: str
        ca_certificate_path:
          description:
            - File with such CA certificates.
          type: path
        crl:
          description:
            - Revocation lists of those CAs in PEM format.
          type: str
        crl_path:
          description:
            - File with revocation lists of those CAs in PEM format.
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
            - The time that certificates must remain valid at least, for example V(30d), V(12h) or V(1w2d). V(0d) where nothing is said.
            - Of several CAs in O(ca_certificate) one has to; the others are a warning.
          type: str
        not_before_tolerance:
          description:
            - How far the clocks of this machine and of the CA may be apart. What becomes valid within this time is accepted with a warning
              that says when; until then peers with the right time refuse it. V(60s) where nothing is said.
          type: str
        on_invalid:
          description:
            - Whether what is wrong with the certificates ends the task (V(fail), the default) or becomes a warning.
            - What cannot be stored at all is an error in any case.
          type: str
          choices: [fail, warn]
        trust_anchors:
          description:
            - Root certificates in PEM format with which the chain has to be complete; a chain that is not is an error.
            - Without them, a chain that visibly lacks intermediates is the warning C(chain_unverified). Roots that browsers or this machine
              trust, and those in O(ca_certificate), are known then.
          type: str
        trust_anchors_path:
          description:
            - File with such root certificates.
          type: path
        replace:
          description:
            - Delete and make anew what cannot be changed in place, for example an immutable Secret.
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
"""

RETURN = r"""
credentials:
  description: What was done about each credential, in the order given.
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

import base64
import binascii
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.arguments import (
    OBJECT_OPTIONS,
    content_or_path,
    duration,
    system_roots,
)
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import Cluster
from ansible_collections.meshops.istio.plugins.module_utils.cluster.credentials import Wanted, plan_credential, refs
from ansible_collections.meshops.istio.plugins.module_utils.cluster.reconcile import Unit, execute, problems_of, read
from ansible_collections.meshops.istio.plugins.module_utils.cluster.usage import find_uses
from ansible_collections.meshops.istio.plugins.module_utils.istio.credential import Credential, shape_problems
from ansible_collections.meshops.istio.plugins.module_utils.istio.credential_material import (
    PARTS,
    Checked,
    Demands,
    Source,
    check_material,
    describe_data,
)
from ansible_collections.meshops.istio.plugins.module_utils.istio.names import metadata_problems
from ansible_collections.meshops.istio.plugins.module_utils.istio.usage import deletion_problems
from ansible_collections.meshops.istio.plugins.module_utils.module import Call, run_module
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem, Rejected, errors, warnings
from ansible_collections.meshops.istio.plugins.module_utils.tls.checks import Roots
from ansible_collections.meshops.istio.plugins.module_utils.tls.forms import certificates_as_pem
from ansible_collections.meshops.istio.plugins.module_utils.tls.material import read_chain

CREDENTIAL_OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str"},
    "namespace": {"type": "str"},
    "layout": {"type": "str", "choices": ["tls", "generic", "split"]},
    "certificate": {"type": "str"},
    "certificate_path": {"type": "path"},
    "private_key": {"type": "str", "no_log": True},
    "private_key_path": {"type": "path", "no_log": False},
    "private_key_passphrase": {"type": "str", "no_log": True},
    "pkcs12": {"type": "str", "no_log": True},
    "pkcs12_path": {"type": "path"},
    "pkcs12_passphrase": {"type": "str", "no_log": True},
    "ca_certificate": {"type": "str"},
    "ca_certificate_path": {"type": "path"},
    "crl": {"type": "str"},
    "crl_path": {"type": "path"},
    "ocsp_staple": {"type": "str"},
    "ocsp_staple_path": {"type": "path"},
    "hosts": {"type": "list", "elements": "str"},
    "purpose": {"type": "str", "choices": ["server", "client"]},
    "min_remaining": {"type": "str"},
    "not_before_tolerance": {"type": "str"},
    "on_invalid": {"type": "str", "choices": ["fail", "warn"]},
    "trust_anchors": {"type": "str"},
    "trust_anchors_path": {"type": "path"},
    "replace": {"type": "bool"},
    "override_cert_manager": {"type": "bool"},
    "state": {"type": "str", "choices": ["present", "absent"]},
    "labels": {"type": "dict"},
    "annotations": {"type": "dict"},
}
DEFAULTS = {
    "namespace": "istio-system",
    "layout": "tls",
    "purpose": "server",
    "min_remaining": "0d",
    "not_before_tolerance": "60s",
    "on_invalid": "fail",
}
SHARED = (*DEFAULTS, "trust_anchors", "trust_anchors_path", "replace", "override_cert_manager", "state")
BINARY = ("pkcs12", "ocsp_staple")
WHOLE_FACTS_UP_TO = 100


def items(params: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, options) of every credential; what an item leaves out comes from beside the list, then from the defaults."""
    listed = params["credentials"] if params["credentials"] is not None else [params]
    for number, item in enumerate(listed):
        where = "" if item is params else f"credentials[{number}] ({item['name'] or 'no name'}): "
        options = dict(item)
        for option in SHARED:
            if options[option] is None:
                options[option] = params[option] if params[option] is not None else DEFAULTS.get(option)
        for option in ("labels", "annotations"):
            options[option] = {str(key): str(value) for key, value in {**(params[option] or {}), **(item[option] or {})}.items()}
        if not options["name"]:
            raise Rejected(Problem("no_name", f"{where}name", "expected the credential's name, found none", "give name"))
        yield where, options


def sources(options: Mapping[str, Any], where: str) -> tuple[dict[str, Source], list[Problem]]:
    """The bytes of every part that is given; what cannot be read becomes a problem."""
    found: dict[str, Source] = {}
    problems: list[Problem] = []
    for part in PARTS:
        try:
            data, place = content_or_path(options, part, where=where)
            if data is not None and part in BINARY and options[part] is not None:
                data = base64.b64decode(data, validate=True)
            if data is not None:
                found[part] = Source(data, place)
        except binascii.Error:
            problems.append(
                Problem(
                    "not_base64", place, "expected binary content encoded in base64, found something else", f"encode it, or use {part}_path"
                )
            )
        except Rejected as rejected:
            problems += rejected.problems
    return found, problems


def prepare(
    call: Call, where: str, options: Mapping[str, Any], anchors: dict[Any, Any], roots: Roots
) -> tuple[Wanted, Checked | None, list[Problem]]:
    """One credential: what is wanted, what was found out about it, and its problems as severe as `on_invalid` makes them."""
    rules = {
        "absent": options["state"] == "absent",
        "labels": options["labels"],
        "annotations": options["annotations"],
        "force": call.params["force_conflicts"],
        "replace": bool(options["replace"]),
        "from_cert_manager": bool(options["override_cert_manager"]),
    }
    name, namespace, layout = options["name"], options["namespace"], options["layout"]
    where_named = where or f"name {name}: "
    metadata = {"name": name, "namespace": namespace, "labels": options["labels"], "annotations": options["annotations"]}
    found = metadata_problems({"kind": "Secret", "metadata": metadata}, where_named.removesuffix(": "))
    if rules["absent"]:
        return Wanted(Credential(name, namespace, layout), where_named, **rules), None, list(found)
    given, problems = sources(options, where)
    problems += [problem for problem in found if problem.code in ("label", "annotation")]  # the names are judged as a credential's below
    known = (options["trust_anchors"], options["trust_anchors_path"])
    try:
        if known not in anchors:
            data, place = content_or_path(options, "trust_anchors", where=where)
            anchors[known] = None if data is None else read_chain(certificates_as_pem(data), where=place)
        demands = Demands(
            tuple(options["hosts"] or ()),
            options["purpose"],
            duration(options["min_remaining"], where=f"{where}min_remaining"),
            anchors[known],
            duration(options["not_before_tolerance"], where=f"{where}not_before_tolerance"),
            roots,
        )
    except Rejected as rejected:
        problems += rejected.problems
        demands = Demands()
    checked = check_material(
        given,
        demands,
        now=call.now,
        private_key_passphrase=options["private_key_passphrase"],
        pkcs12_passphrase=options["pkcs12_passphrase"],
    )
    credential = Credential(name, namespace, layout, **checked.parts)
    shape = shape_problems(credential, where=where_named.removesuffix(": "))
    if problems:  # what could not be read was given all the same
        shape = tuple(problem for problem in shape if problem.code not in ("nothing_given", "incomplete_pair"))
    problems += [*checked.unusable, *errors(shape)]
    lenient = options["on_invalid"] == "warn"
    judged = [replace(problem, severity="warning") if lenient else problem for problem in checked.problems]
    return Wanted(credential, where_named, **rules), checked, [*problems, *warnings(shape), *judged]


def duplicates(wanted: list[Wanted]) -> list[Problem]:
    counted = Counter((ours.credential.namespace, ours.credential.name) for ours in wanted)
    return [
        Problem(
            "given_twice", "credentials", f"expected every credential once, found {namespace}/{name} {count} times", "leave out all but one"
        )
        for (namespace, name), count in counted.items()
        if count > 1
    ]


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
    call.judge([*duplicates(wanted), *(problem for __, __, problems in prepared for problem in problems)])
    cluster = call.connect()
    live = read(cluster, [ref for ours in wanted for ref in refs(ours)])
    taken, going = (frozenset(ref for ours in wanted if ours.absent is absent for __, ref in refs(ours)[:1]) for absent in (False, True))
    units = [plan_credential(ours, live, lambda data: describe_data(data, call.now), taken, going) for ours in wanted]
    call.judge(problems_of(units))
    warn_of_uses(call, cluster, wanted, units)
    outcome = execute(cluster, units, check_mode=call.check_mode)
    details = call.params["details"]
    whole = details == "all" or (details == "auto" and len(wanted) <= WHOLE_FACTS_UP_TO)
    return call.finish(outcome, credentials=[result(*item, unit, whole) for item, unit in zip(prepared, units, strict=True)])


def main() -> None:
    run_module(
        {
            **CREDENTIAL_OPTIONS,
            **OBJECT_OPTIONS,
            "credentials": {"type": "list", "elements": "dict", "options": CREDENTIAL_OPTIONS},
            "details": {"type": "str", "choices": ["auto", "all", "changed"], "default": "auto"},
        },
        act,
        mutually_exclusive=[
            ("credentials", option) for option in CREDENTIAL_OPTIONS if option not in SHARED and option not in ("labels", "annotations")
        ],
        required_one_of=[("credentials", "name")],
    )


if __name__ == "__main__":
    main()
