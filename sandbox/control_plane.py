# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes: etcd, kube-apiserver with RBAC and an audit log, and the controllers that the mesh needs."""

from __future__ import annotations

from . import kube, layout, pki
from .layout import at
from .processes import Component, Record, start, wait_for

CONTROLLERS = (
    "namespace-controller",
    "garbage-collector-controller",
    "endpointslice-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    "clusterrole-aggregation-controller",
)
CONTROLLERS_KUBECONFIG = layout.RUN / "kube-controller-manager" / "kubeconfig"
ISTIOD_KUBECONFIG = layout.RUN / "istiod" / "kubeconfig"


def etcd() -> Component:
    url, peers = f"http://{at(layout.ETCD)}", f"http://{at(layout.ETCD_PEERS)}"
    command = [layout.BIN / "etcd", "--name=sandbox", f"--data-dir={layout.RUN / 'etcd'}", "--unsafe-no-fsync", "--logger=zap"]
    command += [f"--listen-client-urls={url}", f"--advertise-client-urls={url}"]
    command += [f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=sandbox={peers}"]
    return Component("etcd", [str(word) for word in command], ports=layout.PORTS["etcd"])


def apiserver() -> Component:
    command = [
        layout.BIN / "kube-apiserver",
        f"--etcd-servers=http://{at(layout.ETCD)}",
        f"--bind-address={layout.API[0]}",
        f"--secure-port={layout.API[1]}",
        # an address of the loopback may not stand in an Endpoints object, and nobody needs the one of the API
        f"--advertise-address={layout.API[0]}",
        "--endpoint-reconciler-type=none",
        f"--tls-cert-file={pki.SERVER_CERTIFICATE}",
        f"--tls-private-key-file={pki.SERVER_KEY}",
        f"--token-auth-file={pki.TOKENS}",
        "--authorization-mode=Node,RBAC",
        "--service-cluster-ip-range=10.200.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki.ACCOUNTS_KEY}",
        f"--service-account-signing-key-file={pki.ACCOUNTS_KEY}",
        f"--audit-policy-file={layout.MANIFESTS / 'audit-policy.yaml'}",
        f"--audit-log-path={layout.AUDIT_LOG}",
        "--audit-log-maxsize=500",
        "--audit-log-maxbackup=1",
    ]
    # digesting Istio's CRDs is most of the start, and half of that is the collection of garbage
    environment = {"GOGC": "400", "GOMEMLIMIT": "800MiB"}
    return Component("kube-apiserver", [str(word) for word in command], environment, ports=layout.PORTS["kube-apiserver"])


def controllers() -> Component:
    command = [
        layout.BIN / "kube-controller-manager",
        f"--kubeconfig={CONTROLLERS_KUBECONFIG}",
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--controllers={','.join(CONTROLLERS)}",
        f"--service-account-private-key-file={pki.ACCOUNTS_KEY}",
        f"--root-ca-file={pki.CA}",
        f"--bind-address={layout.CONTROLLERS[0]}",
        f"--secure-port={layout.CONTROLLERS[1]}",
        f"--authentication-kubeconfig={CONTROLLERS_KUBECONFIG}",
        "--authentication-skip-lookup",  # nobody aggregates APIs here, so there is no configuration to look up
        f"--authorization-kubeconfig={CONTROLLERS_KUBECONFIG}",
    ]
    return Component("kube-controller-manager", [str(word) for word in command], ports=layout.PORTS["kube-controller-manager"])


def is_ready() -> bool:
    return kube.answers("/readyz")


def bring_up() -> None:
    tokens = pki.make()
    pki.write_private(layout.KUBECONFIG, kube.kubeconfig("admin", tokens["admin"]))
    pki.write_private(CONTROLLERS_KUBECONFIG, kube.kubeconfig("controllers", tokens["system:kube-controller-manager"]))
    pki.write_private(ISTIOD_KUBECONFIG, kube.kubeconfig("istiod", tokens["istiod"]))
    needs: list[Record] = [start(etcd()), start(apiserver())]
    wait_for("kube-apiserver to be ready", is_ready, needs)
    start(controllers())
