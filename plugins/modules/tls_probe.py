#!/usr/bin/python
# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module tls_probe: one TLS handshake or HTTP(S) request, and whether what came of it was expected."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_probe
short_description: Prove by requests what TLS endpoints serve, or refuse
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Makes one TLS handshake or HTTP(S) request as C(curl --resolve) does - address and server name apart, with a CA and a client certificate
    of its own - and returns how far it came, what certificates were served and what was answered.
  - With O(probes), makes a list of them side by side. All are made, and all failures are reported in one message, in the order of the list.
  - With O(expect), tries until what is expected is there. A failure can be expected too - then it is a success if the request fails in
    that way, and a failure if it does not.
  - The request is made from the host that the task runs on, or with O(from_pod) inside a Pod, for example one with a sidecar. Redirects are not
    followed. Proxies of the environment are used only where neither O(address) nor O(from_pod) says where to connect; see O(request_proxy).
  - Names are compared with the certificate's subject alternative names; a common name alone counts for nothing, as for all current clients.
    Every certificate in O(ca_certificate) is trusted as it is, an intermediate too, as curl and Envoy do.
extends_documentation_fragment:
  - meshops.istio.auth
  - meshops.istio.attributes
attributes:
  check_mode:
    details:
      - The request is made in check mode too if O(method) is V(GET), V(HEAD) or V(OPTIONS); with any other, or with O(scheme=tcp) and O(body), it
        is skipped.
  diff_mode:
    support: none
options:
  probes:
    description:
      - Several probes, made side by side. Each takes the options that it leaves out from beside the list.
      - O(headers) and O(secret_headers) are added to those beside the list. All other options replace what is there. Of CA certificates, and
        of client certificates with their keys, nothing is taken from beside the list if the probe has any of its own, or speaks plain HTTP.
      - A host of a fleet is one item here. A list takes one connection to the cluster, and reads a CA or a key that many items name once.
    type: list
    elements: dict
    suboptions: &probe
      name:
        description:
          - "What the probe proves. It is shown in messages and results. Default: the host."
        type: str
      host:
        description:
          - Who is asked - the name that the certificate must be for, the V(Host) header and the SNI. A name or an address, without port or path.
            An international name is asked for in its V(xn--) form (IDNA 2008).
          - Required, here or beside O(probes).
        type: str
      address:
        description:
          - "Where to connect, an address or a name. Default: what O(host) resolves to."
        type: str
      port:
        description:
          - "The port to connect to. It is no part of the V(Host) header. Default: V(443), or V(80) with O(scheme=http). Required with O(scheme=tcp)."
        type: int
      ports:
        description:
          - "Ports at O(address) that stand for others, for example V({443: 30443}) for a node port. O(port) is looked up here first."
          - A probe with an O(address) of its own does not take these from beside O(probes).
        type: dict
      scheme:
        description:
          - "V(https), V(http) for a request without TLS, or V(tls) to end after the handshake. Default: V(https)."
          - V(tcp) for a connection without TLS and HTTP, as an application makes it to a database behind an egress gateway. O(body) is sent as it
            is, and what the server says is RV(body), until it is silent for a second (without O(body)), or ends the connection. A connection that
            ends before anything was said is the failure V(connection_reset). Ask for an answer with O(body) and O(expect.text); without them an
            open connection is all that is proven.
        type: str
        choices: [https, http, tls, tcp]
      sni:
        description:
          - "The server name to send in the handshake. An empty string sends none. Default: O(host)."
        type: str
      verify:
        description:
          - "Whether the served certificate must be trusted, in date and for O(host). Default: V(true)."
        type: bool
      ca_certificate:
        description:
          - Trusted CA certificates, as content. PEM, or base64 of DER or PKCS#7. What else stands beside the certificates is left out.
        type: str
      ca_certificate_path:
        description:
          - Path of the trusted CA certificates. PEM, DER or PKCS#7, with other text around it and in UTF-16, too.
        type: path
      trust_system_store:
        description:
          - "Whether to trust the system's CAs too. Default: only when no CA certificate is given."
        type: bool
      client_certificate:
        description:
          - Client certificate, with its chain behind it, as content in PEM. The key may stand beside it.
        type: str
      client_certificate_path:
        description:
          - Path of the client certificate. PEM, with its chain behind it, DER, PKCS#7, or PKCS#12 with the key in it.
        type: path
      client_private_key:
        description:
          - The client certificate's private key, as content in PEM. It is handed to OpenSSL in memory, and touches no file.
          - Not needed where the certificate's file holds the key too.
        type: str
      client_private_key_path:
        description:
          - Path of the client certificate's private key. PEM, DER, or PKCS#12.
        type: path
      client_private_key_passphrase:
        description:
          - Passphrase of an encrypted private key or PKCS#12 file.
        type: str
      min_version:
        description:
          - "The lowest TLS version to offer. Default: V(TLSv1.2), or O(max_version) if that is lower."
        type: str
        choices: [TLSv1, TLSv1.1, TLSv1.2, TLSv1.3]
      max_version:
        description:
          - "The highest TLS version to offer. Default: the highest there is."
        type: str
        choices: [TLSv1, TLSv1.1, TLSv1.2, TLSv1.3]
      alpn:
        description:
          - "The protocols to offer. Default: V(http/1.1) with O(scheme=https), in which requests are always made, and none with O(scheme=tls)."
        type: list
        elements: str
      method:
        description:
          - "The request's method. Default: V(GET)."
        type: str
      path:
        description:
          - "The request's path and query, percent-encoded. Default: V(/)."
        type: str
      headers:
        description:
          - The request's headers. V(Host) may be among them.
        type: dict
      secret_headers:
        description:
          - Further headers, whose values appear in no output or log, for example V(Authorization). Where the server repeats one of them, or a word of it,
            that is hidden too.
        type: dict
      body:
        description:
          - The request's body. A dictionary or a list is sent as JSON. With O(scheme=tcp), what is said to the server, for example C("PING\r\n").
        type: raw
      request_timeout:
        description:
          - "Seconds that one request may take in all. Default: V(10)."
        type: float
      request_proxy:
        description:
          - URL of an HTTP proxy to go through, such as V(http://proxy.example.com:3128), or V(none) to connect directly.
          - "Default: the one that the environment names, by C(kubectl)'s rules - E(HTTPS_PROXY), or E(HTTP_PROXY) with O(scheme=http), unless
            E(NO_PROXY) has O(host), loopback never, and E(ALL_PROXY) not at all. With O(address) or O(from_pod) the connection is direct."
          - A proxy that opens TLS is seen by its certificates, which are RV(peer_chain) then.
        type: str
      from_pod:
        description:
          - Make the request inside this Pod, as C(kubectl exec ... curl) does. Its container needs C(curl) (7.63 or newer; 7.88 or newer with
            OpenSSL, so that the served certificates are told), and C(sh) if certificates are given as content or as files of this host.
          - Certificates, keys, headers and body are handed over on C(curl)'s standard input. They are in no arguments, and leave no files behind.
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
              - Labels of the Pod, instead of O(from_pod.name). Of several that run the first one by name makes the request, a ready one if there is any.
            type: dict
          container:
            description:
              - "The container. Default: the one that C(kubectl exec) takes, the annotated or first one."
            type: str
          api_server:
            description:
              - "URL of the cluster's API server. Default: O(api_server)."
            type: str
          ca_certificate_path:
            description:
              - Path of the trusted CA certificates in the container, instead of O(ca_certificate).
            type: str
          client_certificate_path:
            description:
              - Path of the client certificate in the container, instead of O(client_certificate).
            type: str
          client_private_key_path:
            description:
              - Path of the client certificate's private key in the container, instead of O(client_private_key).
            type: str
      expect:
        description:
          - What should come of the request; everything given must hold.
          - Without it, the request must get through to the end, whatever the HTTP status.
        type: dict
        suboptions:
          status:
            description:
              - The HTTP status is any of these.
            type: list
            elements: int
          text:
            description:
              - The body holds this text. Its first MiB is looked at.
            type: str
          text_regex:
            description:
              - This regular expression matches somewhere in the body. Looking for it may take 2 seconds.
            type: str
          headers:
            description:
              - The response has these headers, and their values hold these texts. An empty text asks for no more than the header.
            type: dict
          credential:
            description:
              - The served certificate is the one in any of these credentials, as istiod reads it from the Secret, whatever its layout. A server with
                several certificates has several credentials.
              - The name of a Secret in O(credential_namespace), C(namespace/name), or a reference as Gateways have it.
              - The Secret is read before the first request, and again before another attempt if a different certificate was served.
            type: list
            elements: str
          fingerprint:
            description:
              - The SHA-256 fingerprint of the served certificate is any of these, with or without colons, in upper or lower case.
            type: list
            elements: str
          serial:
            description:
              - The serial number of the served certificate is any of these, hexadecimal. Quote it, so that it stays text.
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
              - V(name_not_resolved) - the address did not resolve.
              - V(connection_refused) - nothing listens on the port.
              - V(connection_timeout) - the TCP connection was not answered in time.
              - V(unreachable) - there is no way to the address.
              - V(proxy_failed) - the proxy on the way was not reached, or did not connect; see O(request_proxy).
              - V(connection_reset) - the peer ended the connection, by a reset or by closing it without an answer. Envoy does that during the
                handshake when no server matches the SNI, and when a credential's Secret is missing.
              - V(tls_timeout) - the handshake was not answered in time.
              - V(not_tls) - what answers does not speak TLS.
              - V(unknown_ca) - the served chain is not trusted here, because its issuer is none of the trusted CAs or only has the name of one.
              - V(name_mismatch) - the served certificate is not for O(host).
              - V(expired) - a certificate of the served chain has expired.
              - V(not_yet_valid) - a certificate of the served chain is not valid yet.
              - V(certificate_invalid) - the served chain is refused here for another reason, such as its purpose or the size of a key.
              - V(certificate_required) - the server wants a client certificate, and none was given.
              - V(client_certificate_refused) - the server does not accept the client certificate; RV(alert) holds its reason, for example
                V(unknown_ca).
              - V(protocol_version) - there is no TLS version in common.
              - V(unrecognized_name) - the server says that it does not serve the SNI.
              - V(handshake_failure) - the handshake failed in another way; RV(alert) holds what the server said, if it said anything.
              - V(http_timeout) - the response did not come, or did not end, in time.
              - V(http_malformed) - what came is not an HTTP response.
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
              - The request fails, and the server sends any of these TLS alerts (RFC 8446, section 6), for example V(certificate_required).
            type: list
            elements: str
      credential_namespace:
        description:
          - "Namespace of the credentials in O(expect.credential) that name none - the one of the gateway's workloads. Default: V(istio-system)."
        type: str
      timeout:
        description:
          - Seconds during which attempts are begun until one is as expected. V(0) makes one attempt.
          - "Default: V(30) with O(expect), and V(0) without."
        type: float
      delay:
        description:
          - "Seconds between attempts. Default: V(1)."
        type: float
      consecutive:
        description:
          - "How many attempts in a row must be as expected, each on a connection of its own, for example because several gateways answer behind
            one address. A row that has begun is finished even after O(timeout). Default: V(1)."
        type: int
  parallel:
    description:
      - How many of O(probes) are made at the same time.
    type: int
    default: 16
  api_server:
    description:
      - URL of the API server, or E(K8S_AUTH_HOST), for O(expect.credential) and O(from_pod) - what other modules call C(host), which is
        something else here. Beside O(probes) a URL as O(host) is taken for it too.
    type: str
  <<: *probe
requirements:
  - cryptography
  - idna, for international names only
notes:
  - The options with which other modules log in to the cluster are used for O(from_pod) and O(expect.credential). Without these they are accepted,
    so that C(module_defaults) for the group C(meshops.istio.istio) suits this module too, and not used, and the C(kubernetes) library is not
    needed.
  - O(from_pod) needs the rights C(get) and C(list) on C(pods), and C(get) and C(create) on C(pods/exec), in the Pod's namespace;
    C(docs/rbac/pods.yaml) grants them. O(expect.credential) needs C(get) on the Secret. More than eight of a namespace are listed, which needs
    C(list).
  - Mind that O(ca_cert), O(client_cert), O(client_key) and O(validate_certs) are about the cluster; what they are for other clients is here
    O(ca_certificate_path), O(client_certificate_path), O(client_private_key_path) and O(verify).
  - C(curl) sends the name that it verifies, so that O(from_pod) takes another O(sni) than O(host) only with O(verify=false). It trusts either the
    system's CAs or O(ca_certificate). Where it refuses the served chain, a second handshake (for one second at most, after which nothing is
    sent) shows what was served.
  - Resolving a name, connecting, shaking hands and asking share O(request_timeout).
seealso:
  - module: ansible.builtin.uri
  - module: meshops.istio.gateway_proxy_info
  - module: meshops.istio.ingress_tls_gateway
  - module: meshops.istio.istio_tls_credential
"""

EXAMPLES = r"""
- name: Every shop is served with the certificate in its credential
  meshops.istio.tls_probe:
    address: "{{ ingress_host }}"
    ca_certificate_path: example.com.crt
    probes:
      - name: the shop answers
        host: shop.example.com
        expect:
          status: 200
          credential: shop-credential
      - name: partners are asked for a certificate
        host: partners.example.com
        expect:
          failure: certificate_required
      - name: plain HTTP is redirected
        host: shop.example.com
        scheme: http
        expect:
          status: 301

- name: The gateway answers for httpbin
  meshops.istio.tls_probe:
    host: httpbin.example.com
    address: "{{ ingress_host }}"
    port: "{{ secure_ingress_port }}"
    path: /status/418
    ca_certificate_path: example.com.crt
    expect:
      status: 418

- name: After a rotation every gateway serves the new certificate
  meshops.istio.tls_probe:
    host: httpbin.example.com
    address: "{{ ingress_host }}"
    ca_certificate_path: new-ca.crt
    expect:
      credential: istio-system/httpbin-credential
    consecutive: 10
    delay: 0.2

- name: The old CA fails now
  meshops.istio.tls_probe:
    host: httpbin.example.com
    address: "{{ ingress_host }}"
    ca_certificate_path: old-ca.crt
    expect:
      failure: unknown_ca

- name: Without a client certificate there is no way in
  meshops.istio.tls_probe:
    host: httpbin-mutual.example.com
    address: "{{ ingress_host }}"
    ca_certificate_path: example.com.crt
    expect:
      failure: certificate_required

- name: With one there is
  meshops.istio.tls_probe:
    host: httpbin-mutual.example.com
    address: "{{ ingress_host }}"
    path: /status/418
    ca_certificate_path: example.com.crt
    client_certificate_path: client.crt
    client_private_key: "{{ lookup('community.sops.sops', 'client.key.sops') }}"
    expect:
      status: 418

- name: A plain request through the mesh
  meshops.istio.tls_probe:
    host: nginx.example.com
    address: "{{ mesh_client_address }}"
    port: "{{ mesh_client_port }}"
    scheme: http
    expect:
      status: 200
      text: Welcome to nginx!

- name: Through the sidecar of a Pod, as an application in the mesh would
  meshops.istio.tls_probe:
    from_pod:
      namespace: default
      selector: {app: sleep}
    host: nginx.example.com
    scheme: http
    expect:
      status: 200
      text: Welcome to nginx!

- name: With the certificates that are mounted there
  meshops.istio.tls_probe:
    from_pod:
      selector: {app: sleep}
      ca_certificate_path: /etc/nginx-ca-certs/example.com.crt
      client_certificate_path: /etc/nginx-client-certs/tls.crt
      client_private_key_path: /etc/nginx-client-certs/tls.key
    host: nginx.example.com
    address: my-nginx.mesh-external.svc.cluster.local
    expect:
      status: 200

- name: Look what is served, whether it is trusted or not
  meshops.istio.tls_probe:
    host: partner.example.com
    scheme: tls
    verify: false
  register: partner
"""

RETURN = r"""
results:
  description:
    - What became of each of O(probes), in their order. Each has the values that are returned without O(probes), and those below.
    - A probe that could not be made at all (its Pod does not exist, for example) has the values below only.
  returned: with O(probes)
  type: list
  elements: dict
  contains:
    name:
      description: The probe's name.
      type: str
    failed:
      description: Whether it failed.
      type: bool
    msg:
      description: Why it failed, or why it was skipped in check mode.
      type: str
      returned: when it failed or was skipped
    skipped:
      description: Whether it was skipped in check mode.
      type: bool
      returned: when it was skipped
stage:
  description: The stage that was reached, V(dns), V(tcp), V(tls) or V(http); the one in which the request failed, or the last one.
  returned: when a request was made without O(probes)
  type: str
  sample: http
failure:
  description: In which way the request failed, see O(expect.failure), or null.
  returned: when a request was made without O(probes)
  type: str
  sample: certificate_required
detail:
  description: The failure in words.
  returned: when a request was made without O(probes)
  type: str
alert:
  description: The TLS alert that the server sent, as RFC 8446 names it, or null.
  returned: when a request was made without O(probes)
  type: str
  sample: certificate_required
address:
  description: The IP address that was connected to, or tried last, or null where a proxy connects.
  returned: when a request was made without O(probes)
  type: str
  sample: 192.0.2.1
proxy:
  description: URL of the proxy that was used, without a login, or null; see O(request_proxy).
  returned: when a request was made without O(probes)
  type: str
  sample: http://proxy.example.com:3128
port:
  description: The port.
  returned: when a request was made without O(probes)
  type: int
  sample: 443
sni:
  description: The server name that was sent, or null.
  returned: when a request was made without O(probes)
  type: str
  sample: httpbin.example.com
protocol:
  description: The agreed TLS version, or null.
  returned: when a request was made without O(probes)
  type: str
  sample: TLSv1.3
cipher:
  description: The agreed cipher suite, as OpenSSL names it, or null.
  returned: when a request was made without O(probes)
  type: str
  sample: TLS_AES_256_GCM_SHA384
alpn:
  description: The agreed application protocol, or null.
  returned: when a request was made without O(probes)
  type: str
  sample: http/1.1
verified:
  description:
    - Whether the served certificate was found to be trusted, in date and for O(host). It was not with O(verify=false), with plain HTTP, and where
      the request failed before.
  returned: when a request was made without O(probes)
  type: bool
peer_chain:
  description: The certificates that the server sent, leaf first; also when they were not trusted.
  returned: when a request was made without O(probes)
  type: list
  elements: dict
  contains:
    fingerprint_sha256:
      description: Fingerprint, lower case with colons.
      type: str
    serial:
      description: Serial number, upper-case hexadecimal.
      type: str
    subject:
      description: Subject (RFC 4514).
      type: str
    common_name:
      description: The subject's common name.
      type: str
    sans:
      description: Subject alternative names.
      type: list
      elements: str
    issuer:
      description: Issuer (RFC 4514).
      type: str
    not_before:
      description: Beginning of its validity.
      type: str
    not_after:
      description: End of its validity.
      type: str
    days_left:
      description: Whole days until then.
      type: int
    key:
      description: Kind and size of its key.
      type: str
    is_ca:
      description: Whether it is a CA certificate.
      type: bool
status:
  description: The HTTP status, or null.
  returned: when a request was made without O(probes)
  type: int
  sample: 418
headers:
  description: The response's headers, with names in lower case. Repeated ones are joined by commas.
  returned: when a request was made without O(probes)
  type: dict
body:
  description: The first 2000 characters of the body, decoded; what cannot be decoded is replaced.
  returned: when a request was made without O(probes)
  type: str
body_truncated:
  description: Whether there is more of the body.
  returned: when a request was made without O(probes)
  type: bool
timings:
  description: Milliseconds that each stage took, V(dns), V(tcp), V(tls) and V(http) as far as they were reached, and V(total).
  returned: when a request was made without O(probes)
  type: dict
pod:
  description: The Pod that made the request (see O(from_pod)), as C(namespace/name), or null.
  returned: when a request was made without O(probes)
  type: str
  sample: default/sleep-7656cf8794-8fhdk
attempts:
  description: How many requests were made. Everything else is about the last one.
  returned: when a request was made without O(probes)
  type: int
successes:
  description: How many of the last requests in a row were as expected.
  returned: when a request was made without O(probes)
  type: int
elapsed:
  description: Seconds that all of it took.
  returned: when a request was made without O(probes)
  type: float
unmet:
  description: What the last request lacks, each as C(expected ..., found ...).
  returned: when a request was made without O(probes)
  type: list
  elements: str
"""

from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.call import Call
from ansible_collections.meshops.istio.plugins.module_utils.module import run_module
from ansible_collections.meshops.istio.plugins.module_utils.probes import PROBE_OPTIONS, carry_out, failure_of, from_arguments

SPEC: dict[str, Any] = {
    "probes": {"type": "list", "elements": "dict", "options": {"name": {"type": "str"}, **PROBE_OPTIONS}},
    "parallel": {"type": "int", "default": 16},
    "api_server": {"type": "str"},
    "name": {"type": "str"},
    **PROBE_OPTIONS,
}
CONSTRAINTS: dict[str, Any] = {"required_one_of": [("host", "probes")]}


def act(call: Call) -> dict[str, Any]:
    results = carry_out(
        from_arguments(call.params), call.params, connect=lambda server: call.connect(host=server), check_mode=call.check_mode
    )
    if call.params["probes"] is None:
        return {"changed": False, **results[0]}
    return {"changed": False, "results": results, **failure_of(results)}


def main() -> None:
    run_module(SPEC, act, **CONSTRAINTS)


if __name__ == "__main__":
    main()
