# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who keeps a Secret: every sign of every tool, and what looks like one and is none."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.keepers import LAST_APPLIED, keepers, last_applied_keys


def owner(kind: str, api: str, name: str = "shop", *, controller: bool = True) -> dict[str, Any]:
    return {"ownerReferences": [{"apiVersion": api, "kind": kind, "name": name, "uid": "u", "controller": controller}]}


def note(key: str, value: str = "shop", **more: str) -> dict[str, Any]:
    return {"annotations": {key: value, **more}}


def label(key: str, value: str = "shop") -> dict[str, Any]:
    return {"labels": {key: value}}


def secret(metadata: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "Secret", "metadata": {"name": "x", "namespace": "n", **metadata}}


@pytest.mark.parametrize(
    ("metadata", "tool", "source"),
    [
        (note("cert-manager.io/certificate-name"), "cert-manager", "Certificate shop"),
        (owner("Certificate", "cert-manager.io/v1"), "cert-manager", "Certificate shop"),
        (owner("ExternalSecret", "external-secrets.io/v1"), "External Secrets", "ExternalSecret shop"),
        (owner("ExternalSecret", "external-secrets.io/v1beta1", controller=False), "External Secrets", "ExternalSecret shop"),
        (owner("Password", "generators.external-secrets.io/v1alpha1"), "External Secrets", "Password shop"),
        (label("reconcile.external-secrets.io/managed", "true"), "External Secrets", "an ExternalSecret"),
        (label("reconcile.external-secrets.io/created-by"), "External Secrets", "an ExternalSecret"),
        (note("reconcile.external-secrets.io/data-hash"), "External Secrets", "an ExternalSecret"),
        (owner("Bundle", "trust.cert-manager.io/v1alpha1"), "trust-manager", "Bundle shop"),
        (label("trust.cert-manager.io/bundle"), "trust-manager", "a Bundle"),
        (label("hnc.x-k8s.io/inherited-from"), "Hierarchical Namespaces", None),
        (label("generate.kyverno.io/policy-name"), "Kyverno", None),
        (note("configmanagement.gke.io/managed", "enabled"), "Config Sync", "a repository"),
        (label("kapp.k14s.io/app", "1"), "kapp", "an app"),
        (label("objectset.rio.cattle.io/hash"), "Rancher", "an object set"),
        (owner("SealedSecret", "bitnami.com/v1alpha1"), "Sealed Secrets", "SealedSecret shop"),
        (owner("VaultStaticSecret", "secrets.hashicorp.com/v1beta1"), "Vault Secrets Operator", "VaultStaticSecret shop"),
        (owner("VaultPKISecret", "secrets.hashicorp.com/v1beta1"), "Vault Secrets Operator", "VaultPKISecret shop"),
        (label("secrets.hashicorp.com/vso-ownerRefUID", "u"), "Vault Secrets Operator", None),
        (label("secrets-store.csi.k8s.io/managed", "true"), "Secrets Store CSI Driver", "a SecretProviderClass"),
        (note("reflector.v1.k8s.emberstack.com/reflects", "certificates/shop"), "Reflector", "Secret certificates/shop"),
        (note("replicator.v1.mittwald.de/replicate-from", "certificates/shop"), "kubernetes-replicator", "Secret certificates/shop"),
        (note("replicator.v1.mittwald.de/replicated-from-version", "12"), "kubernetes-replicator", "another Secret"),
        (label("kubed.appscode.com/origin.name"), "Config Syncer", "another Secret"),
        (note("kubed.appscode.com/origin", "{}"), "Config Syncer", "another Secret"),
        (note("service.beta.openshift.io/originating-service-name"), "OpenShift's service CA", "Service shop"),
        (note("argocd.argoproj.io/tracking-id", "shop:/Secret:n/x"), "Argo CD", "Application shop"),
        (label("argocd.argoproj.io/instance"), "Argo CD", "Application shop"),
        (note("clustersecret.io/created-by", "ClusterSecrets"), "ClusterSecret", "a ClusterSecret"),
        (note("secrets.doppler.com/version", "W/123"), "Doppler", "a DopplerSecret"),
        (note("config.k8s.io/owning-inventory", "gitlab-1"), "an inventory's applier", "an inventory"),
        (
            note("configmanagement.gke.io/managed", "enabled") | {"labels": {}},
            "Config Sync",
            "a repository",
        ),
        (label("kustomize.toolkit.fluxcd.io/name"), "Flux", "Kustomization shop"),
        (label("helm.toolkit.fluxcd.io/name"), "Flux", "HelmRelease shop"),
        (note("meta.helm.sh/release-name"), "Helm", "release shop"),
        (owner("OnePasswordItem", "onepassword.com/v1"), "the controller of OnePasswordItem shop", "OnePasswordItem shop"),
    ],
)
def test_a_sign_names_the_tool_and_what_it_keeps_the_secret_for(metadata: dict[str, Any], tool: str, source: str | None) -> None:
    (keeper,) = keepers(secret(metadata))
    assert keeper.tool == tool and source in (keeper.source, None)
    sign = next(iter(metadata.get("annotations") or metadata.get("labels") or ["owner reference"]))
    assert sign in keeper.evidence and keeper.undoes and keeper.remedy


@pytest.mark.parametrize(
    ("manager", "tool"),
    [
        ("external-secrets", "External Secrets"),
        ("externalsecrets.external-secrets.io/shop", "External Secrets"),
        ("vault-secrets-operator", "Vault Secrets Operator"),
        ("secrets-store-csi-driver", "Secrets Store CSI Driver"),
        ("argocd-controller", "Argo CD"),
        ("kustomize-controller", "Flux"),
        ("helm-controller", "Flux"),
        ("helm", "Helm"),
        ("Terraform", "Terraform"),
        ("HashiCorp", "Terraform"),
        ("pulumi-kubernetes-12ab", "Pulumi"),
    ],
)
def test_a_field_manager_is_a_sign(manager: str, tool: str) -> None:
    (keeper,) = keepers(secret({}), [manager, "kubectl"])
    assert keeper.tool == tool and keeper.evidence == f"field manager {manager}"


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        note("reflector.v1.k8s.emberstack.com/reflection-allowed", "true"),
        note("replicator.v1.mittwald.de/replicate-to", "*"),
        note("kubed.appscode.com/sync", ""),
        note("argocd.argoproj.io/tracking-id", "shop:/Secret:other/x"),
        note("argocd.argoproj.io/sync-options", "Prune=false"),
        {"labels": {"kustomize.toolkit.fluxcd.io/name": "shop"}, **note("kustomize.toolkit.fluxcd.io/reconcile", "disabled")},
        {"labels": {"kustomize.toolkit.fluxcd.io/name": "shop"}, **note("kustomize.toolkit.fluxcd.io/ssa", "IfNotPresent")},
        note("sealedsecrets.bitnami.com/managed", "true"),
        note("configmanagement.gke.io/managed", "disabled"),
        note("field.cattle.io/projectId", "c-1:p-1"),
        label("app.kubernetes.io/instance"),
        label("app.kubernetes.io/managed-by", "Helm"),
        owner("Gateway", "networking.istio.io/v1", controller=False),
    ],
)
def test_what_is_no_sign(metadata: dict[str, Any]) -> None:
    managers = [
        "kubectl",
        "kubectl-client-side-apply",
        "kubectl-create",
        "Mozilla",
        "python-requests",
        "meshops.istio",
        "before-first-apply",
    ]
    assert keepers(secret(metadata), managers) == ()


def test_several_keepers_and_fluxs_own_helm() -> None:
    both = secret({**owner("ExternalSecret", "external-secrets.io/v1"), **note("argocd.argoproj.io/tracking-id", "shop:/Secret:n/x")})
    assert [keeper.tool for keeper in keepers(both)] == ["External Secrets", "Argo CD"]
    flux = secret({"labels": {"helm.toolkit.fluxcd.io/name": "shop"}, **note("meta.helm.sh/release-name")})
    assert [keeper.tool for keeper in keepers(flux, ["helm-controller"])] == ["Flux"]
    assert keepers(None) == ()


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (json.dumps({"data": {"tls.key": "b2xk", "tls.crt": "eA=="}}), {"tls.key": b"old"}),
        (json.dumps({"data": {"key": "b2\nxk"}}), {"key": b"old"}),
        (json.dumps({"stringData": {"tls.key": "old"}}), {"tls.key": b"old"}),
        (json.dumps({"data": {"tls.crt": "eA=="}}), {}),
        (json.dumps({"data": None, "stringData": ["tls.key"]}), {}),
        (json.dumps([1]), {}),
        ("", {}),
        ("{", {}),
        ("[" * 100_000, {}),
    ],
)
def test_the_keys_that_kubectl_apply_left(annotation: str, expected: dict[str, bytes]) -> None:
    found = last_applied_keys(secret(note(LAST_APPLIED, annotation)))
    assert {key: base64.b64decode(value) for key, value in found.items()} == expected
