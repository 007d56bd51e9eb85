# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of several objects istiod uses: who sees an object, which DestinationRule counts, and what comes of rules that it merges. Pure.

From istiod's pilot/pkg/model/push_context.go (setDestinationRules, destinationRule), destination_rule.go (mergeDestinationRule) and
sidecar.go (SidecarScope.DestinationRule), with istiod's defaults: ENABLE_ENHANCED_DESTINATIONRULE_MERGE, and `*` as default exportTo.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .names import is_address, subset_of

Manifest = Mapping[str, Any]

ANYWHERE = ""
"""A viewer in some namespace that has no objects of its own: it sees what is shown to the whole mesh."""
_NOT_YET = "9999"
"""Sorts an object that is still to be created behind every timestamp."""


def age(manifest: Manifest) -> tuple[str, str, str]:
    """Sorts objects as istiod does: the oldest first, and by name within a second."""
    metadata = manifest["metadata"]
    return str(metadata.get("creationTimestamp") or _NOT_YET), metadata["name"], metadata.get("namespace", "")


def title(manifest: Manifest) -> str:
    metadata = manifest["metadata"]
    return f"{manifest['kind']} {metadata.get('namespace', '')}/{metadata['name']}"


def fqdn(host: str, namespace: str, domain: str = "cluster.local") -> str:
    """A host as istiod completes it: short names are Services of the object's own namespace."""
    host = host.lower()
    if "." in host or host == "*" or is_address(host):
        return host
    return f"{host}.{namespace}.svc.{domain}"


def is_shown(manifest: Manifest, viewer: str) -> bool:
    """Whether proxies of a namespace see the object."""
    export_to = (manifest.get("spec") or {}).get("exportTo") or ("*",)
    if "*" in export_to:
        return True
    return viewer != ANYWHERE and (viewer in export_to or ("." in export_to and viewer == manifest["metadata"].get("namespace")))


@dataclass
class MergedRule:
    """DestinationRules of one host that istiod treats as one."""

    export_to: frozenset[str]
    selector: Mapping[str, str] | None
    rules: list[Manifest] = field(default_factory=list)
    subsets: dict[str, tuple[Manifest, Mapping[str, Any]]] = field(default_factory=dict)
    """Name to the rule that brought it first, and the subset."""
    ignored: dict[str, Manifest] = field(default_factory=dict)
    """Name to the first later rule that has such a subset with other settings."""
    policy: Mapping[str, Any] | None = None
    policy_from: Manifest | None = None

    def add(self, rule: Manifest) -> None:
        spec = rule.get("spec") or {}
        self.rules.append(rule)
        for subset in spec.get("subsets") or ():
            first = self.subsets.setdefault(subset["name"], (rule, subset))
            if first[0] is not rule and first[1] != subset:
                self.ignored.setdefault(subset["name"], rule)
        if self.policy is None and spec.get("trafficPolicy"):
            self.policy, self.policy_from = spec["trafficPolicy"], rule

    def tls(self, port: int, subset: str | None = None) -> Mapping[str, Any] | None:
        """The client's TLS settings towards a port; settings of a port replace those of the whole, those of a subset the rule's."""
        own, __ = _tls(self.policy, port)
        if subset is None or subset not in self.subsets:
            return own
        special, by_port = _tls(self.subsets[subset][1].get("trafficPolicy"), port)
        return special if special is not None or by_port else own


def _tls(policy: Mapping[str, Any] | None, port: int) -> tuple[Mapping[str, Any] | None, bool]:
    for settings in (policy or {}).get("portLevelSettings") or ():
        if (settings.get("port") or {}).get("number") == port:
            return settings.get("tls"), True
    return (policy or {}).get("tls"), False


@dataclass
class _Index:
    exact: dict[str, list[MergedRule]] = field(default_factory=dict)
    wildcards: dict[str, list[MergedRule]] = field(default_factory=dict)

    def add(self, host: str, rule: Manifest, export_to: frozenset[str], selector: Mapping[str, str] | None) -> None:
        """istiod's mergeDestinationRule."""
        merged_rules = (self.wildcards if host.startswith("*") else self.exact).setdefault(host, [])
        separately = True
        for merged in merged_rules:
            if export_to == merged.export_to:
                separately = False
            elif merged.export_to and export_to > merged.export_to:
                separately = True
            else:
                separately = True
                continue
            if selector == merged.selector:
                separately = False
            elif selector is not None and merged.selector is not None:
                separately = True
                continue
            merged.add(rule)
        if separately:
            single = MergedRule(export_to, selector)
            single.add(rule)
            merged_rules.append(single)

    def find(self, host: str) -> Sequence[MergedRule]:
        """The rules of the most specific host."""
        if host in self.exact:
            return self.exact[host]
        matching = [pattern for pattern in self.wildcards if subset_of(host, pattern)]
        return self.wildcards[max(matching, key=len)] if matching else ()


@dataclass
class Rules:
    """All DestinationRules, arranged for `rule_for`."""

    root_namespace: str
    local: dict[str, _Index] = field(default_factory=dict)
    exported: dict[str, _Index] = field(default_factory=dict)
    root_local: _Index = field(default_factory=_Index)


def arrange(rules: Iterable[Manifest], *, root_namespace: str, domain: str = "cluster.local") -> Rules:
    """istiod's setDestinationRules."""
    arranged = Rules(root_namespace)
    for rule in sorted(rules, key=lambda one: ("workloadSelector" not in (one.get("spec") or {}), age(one))):
        spec = rule.get("spec") or {}
        namespace = rule["metadata"].get("namespace", "")
        host = fqdn(str(spec.get("host") or ""), namespace, domain)
        selector = (spec.get("workloadSelector") or {}).get("matchLabels") if "workloadSelector" in spec else None
        export_to = frozenset((".",)) if selector is not None else frozenset(spec.get("exportTo") or ())
        if not export_to or export_to & {"*", ".", namespace}:
            arranged.local.setdefault(namespace, _Index()).add(host, rule, export_to, selector)
        if len(export_to) != 1 or not export_to & {".", namespace}:
            arranged.exported.setdefault(namespace, _Index()).add(host, rule, export_to, selector)
        elif namespace == root_namespace:
            arranged.root_local.add(host, rule, export_to, selector)
    return arranged


def rule_for(
    rules: Rules, viewer: str, host: str, service_namespace: str, workload_labels: Mapping[str, str] | None = None
) -> MergedRule | None:
    """The rule that proxies of a namespace use towards a service: their own namespace's, else the service's, else the root's."""
    found: Sequence[MergedRule] = ()
    if viewer != ANYWHERE:
        own = rules.root_local if viewer == rules.root_namespace else rules.local.get(viewer)
        found = own.find(host) if own else ()
    for namespace in (service_namespace, rules.root_namespace):
        if not found and namespace in rules.exported:
            found = [
                merged
                for merged in rules.exported[namespace].find(host)
                if not merged.export_to or "*" in merged.export_to or viewer in merged.export_to
            ]
    chosen = None
    for merged in found:
        if merged.selector is None:
            chosen = merged  # of several rules without a selector, the last one counts
        elif workload_labels is not None and merged.selector.items() <= workload_labels.items():
            return merged
    return chosen
