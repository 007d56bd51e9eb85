#!/usr/bin/python
# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module istio_tls_rotation: another certificate in a credential's place, proven or put back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: istio_tls_rotation
short_description: Rotate TLS credentials as a transaction, proven in every proxy and rolled back by itself
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Replaces what is in a credential (certificate, key, client CA, CRL) in place, in one write for each Secret.
  - First everything is checked, as M(meshops.istio.istio_tls_credential) does, and the old state is tried. What fails already is a warning, and
    the rotation is not judged by it.
  - Then the new state is proven. Every gateway proxy that uses the credential must hold it, and fresh handshakes with every host, at every
    address where the gateways are reached, must present it several times in a row.
  - When the proof fails, the old state is put back and proven in the same way.
  - What was there before is kept in the Secret itself until the proof, under keys that begin with C(previous.), which istiod does not read. A run
    that is killed between write and proof is finished or undone by the next one.
  - When Envoy refuses one credential of a batch, others beside it may stay on their old certificate. Such a credential is sent once more, by a
    harmless change of its own Secret.
  - Check mode returns the plan. It says what changes, who uses the credential and what breaks.
extends_documentation_fragment:
  - meshops.istio.auth
  - meshops.istio.ways
  - meshops.istio.attributes
attributes:
  check_mode:
    details:
      - Returns the plan. Needs read rights only.
  diff_mode:
    details:
      - Shows fingerprints, names and dates, never keys or certificates.
options:
  rotations:
    description:
      - Several rotations in one call, each with the options of this module from O(name) to O(probes).
      - What an item leaves out of O(namespace), O(layout), O(purpose), O(min_remaining), O(not_before_tolerance), O(on_invalid),
        O(trust_anchors), O(trust_anchors_path), O(replace) and O(override_cert_manager) is taken from the option of the same name beside the
        list.
    type: list
    elements: dict
    suboptions:
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
            - Hosts are names or addresses, without scheme, port or path. International names are read by IDNA 2008, so that
              V(münchen.example) is V(xn--mnchen-3ya.example), for which the package C(idna) is needed, a part of C(kubernetes)'
              requirements. Upper case, a final dot and brackets around IPv6 make no difference. All modules of the collection read hosts
              like this.
          type: list
          elements: str
        purpose:
          description:
            - What the certificate is for. V(server) (the default) at an ingress gateway, V(client) at an egress gateway that originates
              mutual TLS.
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
            - Write to a Secret that cert-manager keeps. It undoes the change at the next renewal; better keep the client CA in a credential
              of its own, named as the Secret with C(-cacert) added.
          type: bool
        probes:
          description:
            - Probes that must hold before and after the rotation, each with the options of M(meshops.istio.tls_probe).
            - A probe that fails before is a warning, and the rotation is not judged by it. One that fails only after it is a reason to go back.
          type: list
          elements: dict
          suboptions: &probe
            name:
              description:
                - What the probe proves.
              type: str
            host:
              description:
                - Who is asked - the name that the certificate must be for, the V(Host) header and the SNI.
              type: str
            address:
              description:
                - Where to connect, an address or a name.
              type: str
            port:
              description:
                - The port to connect to.
              type: int
            ports:
              description:
                - Ports at C(address) that stand for others, for example V({443 - 30443}) for a node port.
              type: dict
            scheme:
              description:
                - V(https), V(http) for a request without TLS, or V(tls) to end after the handshake.
              type: str
              choices: [https, http, tls, tcp]
            sni:
              description:
                - The server name to send in the handshake.
              type: str
            verify:
              description:
                - Whether the served certificate must be trusted, in date and for C(host).
              type: bool
            ca_certificate:
              description:
                - Trusted CA certificates, PEM content.
              type: str
            ca_certificate_path:
              description:
                - Path of the trusted CA certificates, a PEM file.
              type: path
            trust_system_store:
              description:
                - Whether to trust the system's CAs too.
              type: bool
            client_certificate:
              description:
                - Client certificate, with its chain behind it, PEM content.
              type: str
            client_certificate_path:
              description:
                - Path of the client certificate, a PEM file.
              type: path
            client_private_key:
              description:
                - The client certificate's private key, PEM content.
              type: str
            client_private_key_path:
              description:
                - Path of the client certificate's private key, a PEM file.
              type: path
            client_private_key_passphrase:
              description:
                - Passphrase of an encrypted private key.
              type: str
            min_version:
              description:
                - The lowest TLS version to offer.
              type: str
              choices: [TLSv1, TLSv1.1, TLSv1.2, TLSv1.3]
            max_version:
              description:
                - The highest TLS version to offer.
              type: str
              choices: [TLSv1, TLSv1.1, TLSv1.2, TLSv1.3]
            alpn:
              description:
                - The protocols to offer.
              type: list
              elements: str
            method:
              description:
                - The request's method.
              type: str
            path:
              description:
                - The request's path and query, percent-encoded.
              type: str
            headers:
              description:
                - The request's headers.
              type: dict
            secret_headers:
              description:
                - Further headers, whose values appear in no output or log, for example V(Authorization).
              type: dict
            body:
              description:
                - The request's body.
              type: raw
            request_timeout:
              description:
                - Seconds that one request may take in all.
              type: float
            request_proxy:
              description:
                - URL of an HTTP proxy to go through, such as V(http://proxy.example.com:3128), or V(none) to connect directly.
              type: str
            from_pod:
              description:
                - Make the request inside this Pod, as C(kubectl exec ... curl) does.
              type: dict
              suboptions:
                namespace:
                  description:
                    - The Pod's namespace.
                  type: str
                  default: default
                name:
                  description:
                    - The Pod's name.
                  type: str
                selector:
                  description:
                    - Labels of the Pod, instead of C(from_pod.name).
                  type: dict
                container:
                  description:
                    - The container.
                  type: str
                api_server:
                  description:
                    - URL of the cluster's API server.
                  type: str
                ca_certificate_path:
                  description:
                    - Path of the trusted CA certificates in the container, instead of C(ca_certificate).
                  type: str
                client_certificate_path:
                  description:
                    - Path of the client certificate in the container, instead of C(client_certificate).
                  type: str
                client_private_key_path:
                  description:
                    - Path of the client certificate's private key in the container, instead of C(client_private_key).
                  type: str
            expect:
              description:
                - What should come of the request; everything given must hold.
              type: dict
              suboptions:
                status:
                  description:
                    - The HTTP status is any of these.
                  type: list
                  elements: int
                text:
                  description:
                    - The body holds this text.
                  type: str
                text_regex:
                  description:
                    - This regular expression matches somewhere in the body.
                  type: str
                headers:
                  description:
                    - The response has these headers, and their values hold these texts.
                  type: dict
                credential:
                  description:
                    - The served certificate is the one in any of these credentials, as istiod reads it from the Secret, whatever its layout.
                  type: list
                  elements: str
                fingerprint:
                  description:
                    - The SHA-256 fingerprint of the served certificate is any of these, with or without colons, in upper or lower case.
                  type: list
                  elements: str
                serial:
                  description:
                    - The serial number of the served certificate is any of these, hexadecimal.
                  type: list
                  elements: str
                protocol:
                  description:
                    - The TLS version that is agreed.
                  type: str
                  choices: [TLSv1, TLSv1.1, TLSv1.2, TLSv1.3]
                failure:
                  description:
                    - The request fails, in any of these ways.
                  type: list
                  elements: str
                  choices:
                    - name_not_resolved
                    - connection_refused
                    - connection_timeout
                    - unreachable
                    - proxy_failed
                    - connection_reset
                    - tls_timeout
                    - not_tls
                    - unknown_ca
                    - name_mismatch
                    - expired
                    - not_yet_valid
                    - certificate_invalid
                    - certificate_required
                    - client_certificate_refused
                    - protocol_version
                    - unrecognized_name
                    - handshake_failure
                    - http_timeout
                    - http_malformed
                alert:
                  description:
                    - The request fails, and the server sends any of these TLS alerts (RFC 8446, section 6), for example
                      V(certificate_required).
                  type: list
                  elements: str
            credential_namespace:
              description:
                - Namespace of the credentials in C(expect.credential) that name none - the one of the gateway's workloads.
              type: str
            timeout:
              description:
                - Seconds during which attempts are begun until one is as expected.
              type: float
            delay:
              description:
                - Seconds between attempts.
              type: float
            consecutive:
              description:
                - How many attempts in a row must be as expected, each on a connection of its own, for example because several gateways answer
                  behind one address.
              type: int
        refused:
          description:
            - Probes that must be refused after the rotation, for example with a client certificate that a new CRL revokes, each with the options
              of M(meshops.istio.tls_probe). What they expect is given by their scheme, and C(expect) is not looked at.
            - With C(https) and C(tls) the gateway must refuse the client certificate. With C(http), by which a workload in the mesh asks, the
              egress gateway must answer 503, and with C(tcp) the connection must be reset. That nothing answers is no refusal.
          type: list
          elements: dict
          suboptions: *probe
        ca_rotation:
          description:
            - Replaces a CA in stages, so that at no time a peer is cut off that has a certificate of either CA. Each stage is a rotation of its
              own, proven or put back, and the next one begins when it is proven.
            - In stage V(trust) the old and the new CA are trusted. In stage V(switch) the certificate is the new one as well, where
              O(certificate) or O(pkcs12) is given. In stage V(drop) only the new CA is trusted.
            - The stage is read from the cluster, that is from what the Secrets trust and hold now. The same task can be run again at any time,
              goes on where it was interrupted, and goes back where C(until_stage) is an earlier stage.
            - O(ca_certificate) and O(crl) are what is trusted in the end. What is trusted now besides is the old CA. A certificate that is left
              out stays as it is.
            - Where the client CA is a Secret of its own, as beside a Secret that cert-manager keeps, or as C(caCertCredentialName), name that
              one (it ends in V(-cacert)).
          type: dict
          suboptions:
            until_stage:
              description:
                - The stage at which to stop.
              type: str
              required: true
              choices: [trust, switch, drop]
            old_ca_certificate:
              description:
                - The CA certificates in PEM format that go. Needed to go back from stage V(drop). Where it is given, any other CA in the Secret
                  is an error; otherwise it is everything that the Secret trusts and O(ca_certificate) lacks.
              type: str
            old_ca_certificate_path:
              description:
                - File with such CA certificates.
              type: path
            old_crl:
              description:
                - Revocation lists of the old CA in PEM format. The default is those in the Secret. When there is a CRL at all, each CA needs one.
              type: str
            old_crl_path:
              description:
                - File with such revocation lists.
              type: path
            old_certificate:
              description:
                - The old certificate and its chain in PEM format. Needed to go back from stage V(switch) or V(drop) to V(trust) where a
                  certificate was switched.
              type: str
            old_certificate_path:
              description:
                - File with the old certificate and its chain.
              type: path
            old_private_key:
              description:
                - The old certificate's private key in PEM format.
              type: str
            old_private_key_path:
              description:
                - File with the old certificate's private key.
              type: path
            old_peers:
              description:
                - Probes of peers that have a certificate of the old CA, each with the options of M(meshops.istio.tls_probe). They are clients of
                  a MUTUAL server (C(client_certificate_path)), or servers that an egress gateway reaches (C(scheme=http), from the mesh).
                - They must succeed in stages V(trust) and V(switch), and be refused in stage V(drop), as with O(refused).
              type: list
              elements: dict
              suboptions: *probe
            new_peers:
              description:
                - Probes of peers that have a certificate of the new CA. They must succeed in every stage.
              type: list
              elements: dict
              suboptions: *probe
        labels:
          description:
            - Labels for the Secrets.
          type: dict
        annotations:
          description:
            - Annotations for the Secrets.
          type: dict
  <<: *credential
  plan:
    description:
      - The plan that was approved, as check mode returned it in RV(plan), or its C(id).
      - The run stops before it writes when the Secrets, the files or the Gateways are no longer those of the plan.
    type: raw
  request_timeout:
    description:
      - Seconds for one page of a proxy's administration interface.
    type: float
    default: 30
  proof_timeout:
    description:
      - Seconds in which a wave must be proven.
    type: float
    default: 60
  rollback:
    description:
      - Put the old state back when the new one is not proven.
    type: bool
    default: true
  revoke:
    description:
      - The old key or a client's certificate is no longer to be trusted, because the key leaked for example.
      - Nothing of it is kept, and nothing goes back to it, so O(rollback) is without effect. A new certificate must have another key.
      - Old connections are ended as with O(end_old_connections), and the rotation fails where they may go on, or where a proxy still holds the
        old certificate as another credential.
      - To prove that a client is refused, give its certificate to a probe in O(refused).
    type: bool
    default: false
  end_old_connections:
    description:
      - End the connections that were open before the rotation. They keep the old certificate, and what the old CA or CRL allowed, as long as
        they live.
      - Clients of an ingress gateway are asked to leave with the next response, and disconnected after the drain time of the proxies (45 s by
        default). An egress gateway leaves its old connections as soon as no request is under way in them; TCP connections without HTTP stay.
      - For that the Gateways and DestinationRules are changed to a setting that means the same, and changed back as soon as every proxy has it.
        Only those that this collection made, and nothing else changed, are. Where one is not, RV(rotations[].connections.troubles) says so.
      - Needs proxies that can be asked, Pods or O(admin_urls).
    type: bool
    default: false
  drain_timeout:
    description:
      - Seconds to wait for the end of old connections, with O(end_old_connections) or O(revoke).
    type: float
    default: 90
  wave:
    description:
      - How many rotations of a list are made at once, as a number or as a percentage of the list. The first one is made alone before.
    type: str
    default: 20%
  max_failures:
    description:
      - How many rotations of a list may fail. With one more the current wave is put back, and the rest is not tried.
    type: int
    default: 0
  force_conflicts:
    description:
      - Take over fields that another field manager has set to other values, and keys of others that istiod would read first.
    type: bool
    default: false
  evidence:
    description:
      - File in which the evidence is written as JSON, and beside it one for people that ends in C(.txt). It holds fingerprints, handshakes and
        refusals with their times, job and user, and no key.
    type: path
notes:
  - Paths are read and written where the module runs, which is the controller for C(connection=local).
seealso:
  - module: meshops.istio.istio_tls_credential
  - module: meshops.istio.gateway_proxy_info
  - module: meshops.istio.tls_probe
"""

EXAMPLES = r"""
- name: Look what a rotation would change
  meshops.istio.istio_tls_rotation:
    name: shop-credential
    certificate_path: new/shop.crt
    private_key_path: new/shop.key
  check_mode: true
  register: planned

- name: Rotate what was approved
  meshops.istio.istio_tls_rotation:
    name: shop-credential
    certificate_path: new/shop.crt
    private_key_path: new/shop.key
    plan: "{{ planned.plan }}"
    evidence: evidence/shop.json

- name: Rotate, and go back when the shop no longer answers
  meshops.istio.istio_tls_rotation:
    name: shop-credential
    certificate_path: new/shop.crt
    private_key_path: new/shop.key
    probes:
      - host: shop.example.com
        address: 203.0.113.7
        path: /healthz
        ca_certificate_path: company-root.crt
        expect:
          status: 200

- name: Replace a pair whose key has leaked
  meshops.istio.istio_tls_rotation:
    name: shop-credential
    certificate_path: new/shop.crt
    private_key_path: new/shop.key
    revoke: true

- name: Rotate five hundred, fifty at once, and stop when a second one fails
  meshops.istio.istio_tls_rotation:
    rotations: "{{ credentials }}"
    wave: "50"
    max_failures: 1

- name: Let the shop's clients come with certificates of either CA, until all of them have a new one
  meshops.istio.istio_tls_rotation:
    name: shop-credential-cacert
    layout: generic
    ca_certificate_path: new/clients-ca.crt
    ca_rotation:
      until_stage: trust                # later drop, with all the rest as it is
      old_peers: [{host: shop.example.com, client_certificate_path: old-client.crt, client_private_key_path: old-client.key}]
      new_peers: [{host: shop.example.com, client_certificate_path: new-client.crt, client_private_key_path: new-client.key}]

- name: Revoke a client, end its connections, and prove that it is refused
  meshops.istio.istio_tls_rotation:
    name: shop-credential-cacert
    layout: generic
    ca_certificate_path: clients-ca.crt
    crl_path: clients-ca.crl
    revoke: true
    refused: [{host: shop.example.com, client_certificate_path: stolen.crt, client_private_key_path: stolen.key}]
"""

RETURN = r"""
plan:
  description: What is to change. Its C(id) stands for the Secrets, files and users that it was made from.
  returned: always
  type: dict
plan_text:
  description: The plan for people, for example at an approval.
  returned: always
  type: str
rotations:
  description: What became of each rotation.
  returned: success, or failure after the checks
  type: list
  elements: dict
  contains:
    name:
      description: Name of the credential.
      type: str
    namespace:
      description: Its namespace.
      type: str
    outcome:
      description:
        - V(planned), V(unchanged), V(rotated), V(rolled_back), V(failed), V(left_alone) (somebody else changed the Secret meanwhile) or
          V(not_tried).
      type: str
    before:
      description: Facts about the certificate and the CAs before.
      type: dict
    after:
      description: Facts about the new ones.
      type: dict
    changes:
      description: What is different, each a clause.
      type: list
      elements: str
    proof:
      description:
        - The handshakes before and after, the proxies that hold it, the seconds from write to proof, how often it was sent again,
          whose refusal held it up, and what each probe found.
      type: dict
    ca_rotation:
      description:
        - For a rotation with O(ca_rotation). The stage C(found) in the cluster (V(before) is the one before V(trust)), the one that was C(reached),
          C(until) which it was to go, and what became of each of the C(stages).
      type: dict
    connections:
      description: Connections that were open when the new state was proven, for what is in use and was rotated.
      type: dict
      contains:
        open:
          description:
            - Of each proxy that could be asked - C(proxy), C(downstream) (connections of clients, of whatever host of the proxy, as Envoy counts
              them every 5 seconds) and C(upstream) (connections to the servers that the credential is presented to). Null for what there is
              none of.
          type: list
          elements: dict
        ended:
          description: Whether those of before have ended; null where that was not asked for.
          type: bool
        troubles:
          description: Why some may go on, and what to do.
          type: list
          elements: str
    reasons:
      description: Why it failed.
      type: list
      elements: str
    restored:
      description: How going back ended.
      type: str
    recovered:
      description: What was done about an earlier run that was killed.
      type: str
evidence:
  description: The file with the evidence.
  returned: when O(evidence) is given
  type: str
notes:
  description: What could not be looked at, and what was found on the way.
  returned: when there is something to tell
  type: list
  elements: str
"""

from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.call import Call
from ansible_collections.meshops.istio.plugins.module_utils.credential_arguments import CREDENTIAL_OPTIONS, SHARED
from ansible_collections.meshops.istio.plugins.module_utils.module import run_module
from ansible_collections.meshops.istio.plugins.module_utils.rotation.ca_rotation import CA_ROTATION, PEERS
from ansible_collections.meshops.istio.plugins.module_utils.rotation.rotate import rotate
from ansible_collections.meshops.istio.plugins.module_utils.rotation.targets import WAYS

ROTATION_OPTIONS: dict[str, Any] = {
    **{name: option for name, option in CREDENTIAL_OPTIONS.items() if name not in ("state", "ca_certificate_key")},
    "probes": PEERS,
    "refused": PEERS,
    "ca_rotation": CA_ROTATION,
}
SPEC: dict[str, Any] = {
    **ROTATION_OPTIONS,
    "rotations": {"type": "list", "elements": "dict", "options": ROTATION_OPTIONS},
    "plan": {"type": "raw"},
    **WAYS,
    "request_timeout": {"type": "float", "default": 30},
    "proof_timeout": {"type": "float", "default": 60},
    "rollback": {"type": "bool", "default": True},
    "revoke": {"type": "bool", "default": False},
    "end_old_connections": {"type": "bool", "default": False},
    "drain_timeout": {"type": "float", "default": 90},
    "wave": {"type": "str", "default": "20%"},
    "max_failures": {"type": "int", "default": 0},
    "force_conflicts": {"type": "bool", "default": False},
    "evidence": {"type": "path"},
}
CONSTRAINTS: dict[str, Any] = {
    "mutually_exclusive": [
        ("rotations", option) for option in ROTATION_OPTIONS if option not in SHARED and option not in ("labels", "annotations")
    ],
    "required_one_of": [("rotations", "name")],
}


def act(call: Call) -> dict[str, Any]:
    return rotate(call)


def main() -> None:
    run_module(SPEC, act, **CONSTRAINTS)


if __name__ == "__main__":
    main()
