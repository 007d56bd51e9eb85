# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who else keeps a Secret, and will undo what is written to it: told by owner reference, annotation, label and field manager. Pure.

A source is not a copy: what Reflector, replicator or Config Syncer copy *from* a Secret does not undo a change to it. Who merely wrote once
(kubectl, in its several names) keeps nothing either.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Manifest = Mapping[str, Any]
CERT_MANAGER = "cert-manager"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""Where `kubectl apply` keeps the whole object as it was given, a Secret's keys included."""


@dataclass(frozen=True)
class Keeper:
    """One tool that keeps a Secret."""

    tool: str
    source: str
    """What it keeps the Secret for, as far as it can be told: `ExternalSecret shop-tls`; else the tool's own word for it."""
    evidence: str
    """How that is known, for example `owner reference` or `label secrets-store.csi.k8s.io/managed`."""
    undoes: str
    """When it undoes a change, as the end of a sentence."""
    remedy: str

    def as_result(self) -> dict[str, str]:
        return {"tool": self.tool, "source": self.source, "evidence": self.evidence}


@dataclass(frozen=True)
class _Tool:
    """What tells a tool's Secrets from others."""

    name: str
    source: str
    undoes: str
    remedy: str
    group: str = ""
    """API group of its owner references; those of groups below it count too."""
    annotations: tuple[str, ...] = ()
    """Annotations; one that ends in `*` stands for all that begin so."""
    labels: tuple[str, ...] = ()
    managers: tuple[str, ...] = ()
    """How the names of its field managers begin; one counts only where it set data."""


_TOOLS = (
    _Tool(
        CERT_MANAGER,
        "a Certificate",
        "at the next renewal",
        "change the Certificate",
        group="cert-manager.io",
        annotations=("cert-manager.io/certificate-name",),
    ),
    _Tool(
        "trust-manager",
        "a Bundle",
        "at once, when it sees the change or the Bundle's sources change",
        "change the sources of the Bundle",
        group="trust.cert-manager.io",
        labels=("trust.cert-manager.io/bundle",),
        managers=("trust-manager",),
    ),
    _Tool(
        "External Secrets",
        "an ExternalSecret",
        "at its next refresh",
        "change what the ExternalSecret reads, or the ExternalSecret",
        group="external-secrets.io",
        annotations=("reconcile.external-secrets.io/*",),
        labels=("reconcile.external-secrets.io/*",),
        managers=("external-secrets", "externalsecrets.external-secrets.io/"),
    ),
    _Tool(
        "Sealed Secrets",
        "a SealedSecret",
        "when it next looks at its SealedSecret",
        "seal the new content (kubeseal) and apply that",
        group="bitnami.com",
    ),
    _Tool(
        "Vault Secrets Operator",
        "a VaultStaticSecret, VaultDynamicSecret or VaultPKISecret",
        "at its next refresh",
        "change what is in Vault",
        group="secrets.hashicorp.com",
        labels=("secrets.hashicorp.com/*",),
        managers=("vault-secrets-operator",),
    ),
    _Tool(
        "Secrets Store CSI Driver",
        "a SecretProviderClass",
        "at its next rotation, and deletes the Secret with the last pod that mounts it",
        "change what is in the external store",
        group="secrets-store.csi.x-k8s.io",
        labels=("secrets-store.csi.k8s.io/managed",),
        managers=("secrets-store-csi",),
    ),
    _Tool(
        "Reflector",
        "another Secret",
        "at once, when it sees the copy or the original change",
        "change the original, which it copies",
        annotations=("reflector.v1.k8s.emberstack.com/reflects",),
    ),
    _Tool(
        "kubernetes-replicator",
        "another Secret",
        "when the original changes",
        "change the original, which it copies",
        annotations=("replicator.v1.mittwald.de/replicate-from", "replicator.v1.mittwald.de/replicated-from-version"),
    ),
    _Tool(
        "Config Syncer",
        "another Secret",
        "when it next compares copy and original",
        "change the original, which it copies",
        annotations=("kubed.appscode.com/origin*",),
        labels=("kubed.appscode.com/origin*",),
    ),
    _Tool(
        "ClusterSecret",
        "a ClusterSecret",
        "when it next looks at the ClusterSecret, and in new namespaces",
        "change the ClusterSecret, which it copies",
        annotations=("clustersecret.io/created-by",),
    ),
    _Tool(
        "Doppler",
        "a DopplerSecret",
        "within a minute, when it next compares the two",
        "change what is in Doppler",
        group="secrets.doppler.com",
        annotations=("secrets.doppler.com/version",),
    ),
    _Tool(
        "Hierarchical Namespaces",
        "the Secret of a parent namespace",
        "at once, or refuses it",
        "change the original, which it copies",
        labels=("hnc.x-k8s.io/inherited-from",),
    ),
    _Tool(
        "Kyverno",
        "a policy that generates it",
        "when the policy or its source changes, and at once with synchronize",
        "change the source that the policy copies, or the policy",
        labels=("generate.kyverno.io/policy-name", "kyverno.io/generated-by-kind"),
        managers=("kyverno",),
    ),
    _Tool(
        "OpenShift's service CA",
        "a Service",
        "when it next looks at the Secret",
        "put the certificate into a Secret of its own",
        annotations=("service.beta.openshift.io/originating-service-name", "service.alpha.openshift.io/originating-service-name"),
    ),
    _Tool(
        "Argo CD",
        "an Application",
        "at its next sync, with self-heal within minutes",
        "change it in the repository, or take the Secret out of the Application",
        annotations=("argocd.argoproj.io/tracking-id",),
        labels=("argocd.argoproj.io/instance",),
        managers=("argocd",),
    ),
    _Tool(
        "Flux",
        "a Kustomization or HelmRelease",
        "at its next reconciliation",
        "change it in the repository, or annotate the Secret with kustomize.toolkit.fluxcd.io/reconcile: disabled",
        labels=("kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/name"),
        managers=("kustomize-controller", "helm-controller"),
    ),
    _Tool(
        "Config Sync",
        "a repository",
        "at once, when it sees the change",
        "change it in the repository, or annotate the Secret with configmanagement.gke.io/managed: disabled",
        annotations=("configmanagement.gke.io/managed", "configsync.gke.io/*"),
        managers=("configsync",),
    ),
    _Tool(
        "an inventory's applier",
        "an inventory",
        "when it next applies that",
        "change it where the inventory is defined (kpt, GitLab's agent, Talos)",
        annotations=("config.k8s.io/owning-inventory",),
    ),
    _Tool(
        "kapp",
        "an app",
        "at the next deploy, with kapp-controller within minutes",
        "change it in the app's configuration, or take the Secret out of it",
        labels=("kapp.k14s.io/app",),
    ),
    _Tool(
        "Rancher",
        "an object set",
        "when it next applies that",
        "change it where the set is defined (Fleet's repository, k3s' manifests, or Rancher)",
        labels=("objectset.rio.cattle.io/hash",),
        annotations=("objectset.rio.cattle.io/*",),
    ),
    _Tool(
        "Helm",
        "a release",
        "at the next helm upgrade or rollback",
        "change the chart's values, or take the Secret out of the chart",
        annotations=("meta.helm.sh/release-name",),
        managers=("helm",),
    ),
    _Tool(
        "Terraform",
        "a configuration",
        "at the next apply",
        "change it in the configuration, or take the Secret out of it",
        managers=("Terraform", "HashiCorp"),
    ),
    _Tool("Pulumi", "a program", "at the next update", "change it in the program, or take the Secret out of it", managers=("pulumi",)),
)


def keepers(secret: Manifest | None, managers: Collection[str] = ()) -> tuple[Keeper, ...]:
    """Every tool that keeps a live Secret. `managers` are the field managers that set its data."""
    metadata: Manifest = (secret or {}).get("metadata") or {}
    if not _has_signs(metadata, managers):  # nearly every Secret, of which a list has thousands
        return ()
    found = [keeper for tool in _TOOLS for keeper in _signs(tool, metadata, managers)]
    if any(keeper.tool == "Flux" for keeper in found):  # which installs its charts with Helm
        found = [keeper for keeper in found if keeper.tool != "Helm"]
    known = {owner.get("name") for owner in _owners(metadata) if _tool_of(owner)}
    found += [
        Keeper(
            f"the controller of {owner.get('kind')} {owner.get('name')}",
            f"{owner.get('kind')} {owner.get('name')}",
            "owner reference",
            "when it next looks at the Secret",
            f"change the {owner.get('kind')}",
        )
        for owner in _owners(metadata)
        if owner.get("controller") and owner.get("name") not in known and not found
    ]
    return tuple(found)


_MARKS = tuple(mark.removesuffix("*") for tool in _TOOLS for mark in (*tool.annotations, *tool.labels))
_MANAGERS = tuple(manager for tool in _TOOLS for manager in tool.managers)


def _has_signs(metadata: Manifest, managers: Collection[str]) -> bool:
    """Whether there is anything that a tool may have left; where there is not, no tool has."""
    marks = (*(metadata.get("annotations") or ()), *(metadata.get("labels") or ()))
    return bool(_owners(metadata)) or any(mark.startswith(_MARKS) for mark in marks) or any(one.startswith(_MANAGERS) for one in managers)


def _signs(tool: _Tool, metadata: Manifest, managers: Collection[str]) -> Iterator[Keeper]:
    """The tool as a keeper, once, with the sign that says most; nothing where there is none."""

    def keeper(source: str, evidence: str) -> Keeper:
        return Keeper(tool.name, source, evidence, tool.undoes, tool.remedy)

    if _is_excepted(tool, metadata):
        return
    for owner in _owners(metadata):
        if _tool_of(owner) is tool:
            yield keeper(f"{owner.get('kind')} {owner.get('name')}", "owner reference")
            return
    signs: tuple[tuple[Literal["annotation", "label"], tuple[str, ...]], ...] = (("annotation", tool.annotations), ("label", tool.labels))
    for kind, patterns in signs:
        for key, value in (metadata.get(f"{kind}s") or {}).items():
            if any(key == pattern or (pattern.endswith("*") and key.startswith(pattern[:-1])) for pattern in patterns):
                yield keeper(_source(tool, key, str(value)), f"{kind} {key}")
                return
    for manager in sorted(managers):
        if manager.startswith(tool.managers or ("\0",)):
            yield keeper(tool.source, f"field manager {manager}")
            return


def _source(tool: _Tool, key: str, value: str) -> str:
    """What the sign's value says about what the Secret is kept for."""
    first = value.split(":", 1)[0]
    named = {
        "cert-manager.io/certificate-name": f"Certificate {value}",
        "reflector.v1.k8s.emberstack.com/reflects": f"Secret {value}",
        "replicator.v1.mittwald.de/replicate-from": f"Secret {value}",
        "argocd.argoproj.io/tracking-id": f"Application {first}",
        "argocd.argoproj.io/instance": f"Application {value}",
        "kustomize.toolkit.fluxcd.io/name": f"Kustomization {value}",
        "helm.toolkit.fluxcd.io/name": f"HelmRelease {value}",
        "meta.helm.sh/release-name": f"release {value}",
        "service.beta.openshift.io/originating-service-name": f"Service {value}",
        "service.alpha.openshift.io/originating-service-name": f"Service {value}",
    }
    return named.get(key, tool.source) if value else tool.source


def _is_excepted(tool: _Tool, metadata: Manifest) -> bool:
    """Whether the tool's signs are there, and say that it leaves the Secret alone."""
    annotations: Mapping[str, str] = metadata.get("annotations") or {}
    if tool.name == "Argo CD":  # a copy carries the tracking of its original, which Argo CD passes over
        tracked = annotations.get("argocd.argoproj.io/tracking-id")
        return bool(tracked) and not str(tracked).endswith(f"/Secret:{metadata.get('namespace')}/{metadata.get('name')}")
    if tool.name == "Config Sync":
        return annotations.get("configmanagement.gke.io/managed") == "disabled"
    if tool.name == "an inventory's applier":  # Config Sync is one, and says more by its own signs
        return "configmanagement.gke.io/managed" in annotations
    if tool.name == "Flux":
        setting = str(annotations.get("kustomize.toolkit.fluxcd.io/ssa")).lower()
        return annotations.get("kustomize.toolkit.fluxcd.io/reconcile") == "disabled" or setting in ("ignore", "ifnotpresent")
    return False


def _owners(metadata: Manifest) -> list[Manifest]:
    return list(metadata.get("ownerReferences") or ())


def _tool_of(owner: Manifest) -> _Tool | None:
    """The tool with the nearest group: trust.cert-manager.io is trust-manager's, and not cert-manager's."""
    fitting = [tool for tool in _TOOLS if _of_group(owner, tool.group)]
    return max(fitting, key=lambda tool: len(tool.group), default=None)


def _of_group(owner: Manifest, group: str) -> bool:
    found = str(owner.get("apiVersion")).partition("/")[0]
    return bool(group) and (found == group or found.endswith(f".{group}"))


def last_applied_keys(secret: Manifest) -> dict[str, str]:
    """The private keys (base64) in the annotation that `kubectl apply` leaves, by the Secret's key; empty where there are none."""
    text = ((secret.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED)
    try:
        applied = json.loads(text or "null")
    except (ValueError, RecursionError):
        return {}
    data = applied.get("data") if isinstance(applied, dict) else None
    plain = applied.get("stringData") if isinstance(applied, dict) else None
    found: dict[str, str] = {}
    for key in ("key", "tls.key"):
        if isinstance(data, dict) and isinstance(data.get(key), str) and data[key]:
            found[key] = "".join(data[key].split())
        if isinstance(plain, dict) and isinstance(plain.get(key), str) and plain[key]:
            found[key] = base64.b64encode(plain[key].encode()).decode()
    return found
