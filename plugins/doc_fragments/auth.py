# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How to reach the cluster; the argument spec is `AUTH_OPTIONS` in module_utils/arguments.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of a kubeconfig file (several, separated by V(:), are merged), or its content as a dictionary.
      - It is read by kubectl's rules. Of several files the first that has a cluster, user or context of a name counts, and so does the first
        C(current-context); relative paths are relative to the file that holds them; C(proxy-url), C(tls-server-name), C(tokenFile), C(as) and its
        relatives and C(exec) are heeded; what kubectl refuses is refused. No login of a kubeconfig is sent to an V(http://) server.
      - E(K8S_AUTH_KUBECONFIG) and then E(KUBECONFIG) are used where it is not given.
      - Where nothing names a cluster, the pod's own service account is used, or else C(~/.kube/config). Where both are there, a note says which was used.
    type: raw
  context:
    description:
      - The kubeconfig's context to use, or E(K8S_AUTH_CONTEXT).
      - With O(kubeconfig) or O(context) given, the server and the login are the kubeconfig's; E(K8S_AUTH_HOST), E(K8S_AUTH_API_KEY) and the like are
        not mixed into it.
    type: str
  host:
    description:
      - URL of the API server, or E(K8S_AUTH_HOST).
    type: str
  api_key:
    description:
      - Token to log in with, or E(K8S_AUTH_API_KEY).
    type: str
  username:
    description:
      - User for HTTP basic authentication, or E(K8S_AUTH_USERNAME). Few clusters accept that.
    type: str
  password:
    description:
      - Password for HTTP basic authentication, or E(K8S_AUTH_PASSWORD).
    type: str
  validate_certs:
    description:
      - Whether to verify the API server's certificate, or E(K8S_AUTH_VERIFY_SSL).
    type: bool
    aliases: [verify_ssl]
  ca_cert:
    description:
      - Path of the CA certificate that the API server's certificate is verified with, or E(K8S_AUTH_SSL_CA_CERT).
    type: path
    aliases: [ssl_ca_cert]
  client_cert:
    description:
      - Path of the client certificate to log in with, or E(K8S_AUTH_CERT_FILE).
    type: path
    aliases: [cert_file]
  client_key:
    description:
      - Path of the client certificate's private key, or E(K8S_AUTH_KEY_FILE).
    type: path
    aliases: [key_file]
  proxy:
    description:
      - URL of a proxy to the API server (V(http://), V(https://) or V(socks5://)), or E(K8S_AUTH_PROXY).
      - Where neither is given, the kubeconfig's C(proxy-url) counts, and then E(HTTPS_PROXY) (for an V(http://) server E(HTTP_PROXY)) as for kubectl.
        The variables do not count for loopback addresses and C(localhost), nor for what E(NO_PROXY) covers. E(ALL_PROXY) is not looked at.
    type: str
  no_proxy:
    description:
      - Comma-separated hosts that are reached without the proxy, or E(K8S_AUTH_NO_PROXY). Counts for O(proxy), and in place of E(NO_PROXY).
    type: str
  proxy_headers:
    description:
      - Headers for the proxy.
    type: dict
    suboptions:
      proxy_basic_auth:
        description:
          - C(user:password) for the proxy, or E(K8S_AUTH_PROXY_HEADERS_PROXY_BASIC_AUTH).
        type: str
      basic_auth:
        description:
          - C(user:password) for basic authentication, or E(K8S_AUTH_PROXY_HEADERS_BASIC_AUTH).
        type: str
      user_agent:
        description:
          - The user agent, or E(K8S_AUTH_PROXY_HEADERS_USER_AGENT).
        type: str
  persist_config:
    description:
      - Whether a refreshed token is written back to the kubeconfig, or E(K8S_AUTH_PERSIST_CONFIG).
    type: bool
  impersonate_user:
    description:
      - User to act as, or E(K8S_AUTH_IMPERSONATE_USER).
    type: str
  impersonate_groups:
    description:
      - Groups to act as, or E(K8S_AUTH_IMPERSONATE_GROUPS), separated by commas.
    type: list
    elements: str
requirements:
  - kubernetes >= 24.2.0
  - urllib3 >= 2.0.0, a part of C(kubernetes)' requirements
"""
