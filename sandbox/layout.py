# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where everything is: files, loopback addresses and ports. Imports nothing of the sandbox."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "sandbox" / "programs"
MANIFESTS = ROOT / "sandbox" / "manifests"
INVENTORY = ROOT / "sandbox" / "inventory.yml"
VENV = ROOT / ".venv"
OPERATOR_RBAC = ROOT / "docs" / "rbac" / "fleet.yaml"
OPERATOR_ADMISSION = ROOT / "docs" / "rbac" / "admission.yaml"
OPERATOR_CLIENTS = MANIFESTS / "operator.yaml"

BUILT = ROOT / ".sandbox"
"""What is built once, for every sandbox and for kind."""
BIN = BUILT / "bin"
SHARE = BUILT / "share"
"""What Istio ships beside its programs: CRDs and Envoy's bootstrap template."""
GO = BUILT / "go"
NGINX = BUILT / "nginx"

DIRECTORY = "MESHOPS_SANDBOX_DIRECTORY"
"""The variable that names another place for what a sandbox keeps; one in a network of its own has to have it: see tools/own_mesh.py."""
STATE = Path(os.environ.get(DIRECTORY) or BUILT)
LOGS = STATE / "logs"
PREVIOUS_LOGS = STATE / "logs.previous"
RUN = STATE / "run"
"""Everything that lives only while the sandbox runs: etcd's data, keys, tokens, process records."""
ENV = STATE / "env"
KUBECONFIG = STATE / "kubeconfig"
OPERATOR_KUBECONFIG = STATE / "operator.kubeconfig"
AUDIT_LOG = LOGS / "audit.log"

MARK = {"meshops.istio/sandbox": "true"}
"""The label on every object that the sandbox makes for itself."""

# Addresses. The client's sidecar listens on 127.0.0.1:<port of each Service> (interception mode NONE), so whatever else listens on such a
# port has an address of its own.
LOCAL = "127.0.0.1"
INGRESS = "127.0.0.11"
EGRESS = "127.0.0.12"
CLIENT = "127.0.0.13"
HTTPBIN = "127.0.0.21"
HELLOWORLD = "127.0.0.22"

API = (LOCAL, 16443)
ETCD = (LOCAL, 12379)
ETCD_PEERS = (LOCAL, 12380)
CONTROLLERS = (LOCAL, 16257)
ISTIOD_HTTP = (LOCAL, 15080)
ISTIOD_GRPC = (LOCAL, 15010)
ISTIOD_XDS = (LOCAL, 15012)
ISTIOD_MONITORING = (LOCAL, 15014)
ISTIOD_CONTROLZ = (LOCAL, 15016)
ISTIOD_WEBHOOK = (LOCAL, 15017)
INGRESS_HTTP = (INGRESS, 80)
INGRESS_HTTPS = (INGRESS, 443)
EGRESS_HTTP = (EGRESS, 8080)
EGRESS_HTTPS = (EGRESS, 8443)
MESH_HTTP = (LOCAL, 80)
MESH_HTTPS = (LOCAL, 443)
MESH_HTTPBIN = (LOCAL, 8000)
MESH_HELLOWORLD = (LOCAL, 5000)
HTTPBIN_BACKEND = (HTTPBIN, 8000)
HELLOWORLD_BACKEND = (HELLOWORLD, 5000)

INGRESS_GATEWAY = "istio-ingressgateway"
EGRESS_GATEWAY = "istio-egressgateway"
CLIENT_SIDECAR = "client"
PROXY_PORTS = {INGRESS_GATEWAY: 15100, EGRESS_GATEWAY: 15200, CLIENT_SIDECAR: 15300}
"""Where a proxy's own ports begin: Envoy's admin page; +20 the agent's status, +21 Envoy's, +90 Prometheus."""
PORTS = {
    "etcd": (ETCD, ETCD_PEERS),
    "kube-apiserver": (API,),
    "kube-controller-manager": (CONTROLLERS,),
    "istiod": (ISTIOD_HTTP, ISTIOD_WEBHOOK, ISTIOD_GRPC, ISTIOD_XDS, ISTIOD_MONITORING, ISTIOD_CONTROLZ),
    "httpbin": (HTTPBIN_BACKEND,),
    "helloworld-v1": (HELLOWORLD_BACKEND,),
    **{name: tuple((LOCAL, first + offset) for offset in (0, 20, 21, 90)) for name, first in PROXY_PORTS.items()},
}
"""Where each process listens from its start on."""
MESH_PORTS = {
    INGRESS_HTTP: "the ingress gateway (HTTP)",
    INGRESS_HTTPS: "the ingress gateway (HTTPS)",
    EGRESS_HTTP: "the egress gateway (HTTP)",
    EGRESS_HTTPS: "the egress gateway (HTTPS)",
    MESH_HTTP: "the client's sidecar (Services on port 80)",
    MESH_HTTPS: "the client's sidecar (Services on port 443)",
    MESH_HTTPBIN: "the client's sidecar (httpbin)",
    MESH_HELLOWORLD: "the client's sidecar (helloworld-v1)",
}
"""Where Envoy listens once Gateways and Services are there."""
EGRESS_LOG = LOGS / f"{EGRESS_GATEWAY}.log"


def at(place: tuple[str, int]) -> str:
    return f"{place[0]}:{place[1]}"
