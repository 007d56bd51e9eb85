# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as metrics, for node exporter's textfile collector, a push gateway, or whatever else reads Prometheus' text format. Pure.

What is written is both OpenMetrics 1.0 and Prometheus' text format 0.0.4, which node exporter and the push gateway read: gauges only (0.0.4 knows
no type `info`, and counters are called differently), no times of samples (the textfile collector refuses them), no empty lines and no comments
(OpenMetrics refuses them) but the closing `# EOF` (a comment in 0.0.4).
https://prometheus.io/docs/specs/om/open_metrics_spec/, https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from .markup import label_value
from .model import ROLES, SEVERITIES, STATES, Certificate, Cluster, Finding, Handshake, Host, Report

LIMIT = 1000
"""So many hosts, and so many credentials, of one cluster have series of their own, unless something else is asked for."""
_LONGEST = 256
"""Characters of a label's value: names of hosts and objects have 253 at most."""
Sample: TypeAlias = "tuple[str, Mapping[str, str], float]"
"""(family, labels, value)"""
FAMILIES = {
    "meshops_report_info": "What the report says, as a digest, whenever that was looked at. Always 1.",
    "meshops_cluster_reachable": "Whether the cluster could be looked at, 1 or 0. One that could not be has no other series.",
    "meshops_cluster_diagnosis_timestamp_seconds": "When the cluster was looked at.",
    "meshops_cluster_findings": "Findings, without symptoms that another finding explains, and without suppressed ones.",
    "meshops_cluster_rule_findings": "The same by rule, for rules that found something.",
    "meshops_cluster_suppressed_findings": "Findings that are not to be told.",
    "meshops_cluster_not_looked_at": "Things of the cluster that could not be looked at, of which nothing is known.",
    "meshops_cluster_left_out": "Hosts and credentials beyond the limit, which have no series of their own.",
    "meshops_host_state": "A host that is served, or an external service behind an egress gateway, with its state: "
    "right, doubtful, unknown or broken. Always 1.",
    "meshops_host_findings": "Findings that concern the host, for severities with any.",
    "meshops_host_expiry_timestamp_seconds": "When the first of the certificates ends that the host is served with.",
    "meshops_host_proven": "Whether every handshake with the host got the certificate that its Secret has, 1 or 0. None where no handshake was made.",
    "meshops_host_proof_timestamp_seconds": "When handshakes proved that; none where they proved the contrary.",
    "meshops_credential_expiry_timestamp_seconds": "When the first certificate of this role in the Secret or ConfigMap ends: leaf is presented, "
    "chain is sent with it, trusted is what peers are verified with.",
    "meshops_credential_info": "The certificate that the Secret presents. Always 1.",
    "meshops_credential_findings": "Findings that name the Secret or ConfigMap, for severities with any.",
    "meshops_credential_proof_timestamp_seconds": "When a handshake got the certificate of the Secret.",
}
"""All of them gauges, with what they mean, in the order in which they are written."""


def as_metrics(report: Report, digest: str, limit: int = LIMIT) -> str:
    """The text. Of each cluster at most `limit` hosts (the worst first) and as many credentials (those in use first, then what ends first)."""
    found: dict[str, dict[str, float]] = {name: {} for name in FAMILIES}
    for name, labels, value in _samples(report, digest, limit):
        found[name].setdefault(_labels(labels), value)  # names that differ only in what cannot be shown are one series
    lines = []
    for name, samples in found.items():
        if samples:
            lines += [f"# HELP {name} {FAMILIES[name]}", f"# TYPE {name} gauge"]
            lines += [f"{name}{labels} {_number(value)}" for labels, value in samples.items()]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{label_value(_bounded(value))}"' for name, value in labels.items()) + "}"


def _bounded(text: str) -> str:
    """Whole where it is short enough; else its beginning, and what tells it from others that begin alike."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 10]}~{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:9]}"


def _number(value: float) -> str:
    """Without an exponent, in which seconds would be lost."""
    return str(int(value))


def _samples(report: Report, digest: str, limit: int) -> Iterator[Sample]:
    yield "meshops_report_info", {"content": digest}, 1
    for one in report.clusters:
        yield "meshops_cluster_reachable", {"cluster": one.name}, not one.error
    causes: dict[str, list[Finding]] = {}
    for cluster, cause in report.causes:
        causes.setdefault(cluster.name, []).append(cause)
    for one in report.reached:
        yield from _cluster(one, causes.get(one.name, ()))
        yield from _hosts(one, limit)
        yield from _credentials(one, limit)


def _cluster(one: Cluster, causes: Sequence[Finding]) -> Iterator[Sample]:
    mine = {"cluster": one.name}
    if one.looked_at:
        yield "meshops_cluster_diagnosis_timestamp_seconds", mine, one.looked_at.timestamp()
    for severity in SEVERITIES:
        yield "meshops_cluster_findings", {**mine, "severity": severity}, sum(each.severity == severity for each in causes)
    for (id_, code, severity), number in Counter((each.id, each.code, each.severity) for each in causes).items():
        yield "meshops_cluster_rule_findings", {**mine, "id": id_, "code": code, "severity": severity}, number
    yield "meshops_cluster_suppressed_findings", mine, len(one.suppressed)
    yield "meshops_cluster_not_looked_at", mine, len(one.not_looked_at)


def _counted(family: str, labels: Mapping[str, str], severities: Sequence[str]) -> Iterator[Sample]:
    for severity in SEVERITIES:
        if severity in severities:
            yield family, {**labels, "severity": severity}, severities.count(severity)


# --- hosts


def _hosts(one: Cluster, limit: int) -> Iterator[Sample]:
    ways: dict[tuple[str, str], Host] = {}
    for host in sorted(one.hosts, key=lambda host: (STATES.index(host.state), host.direction == "egress", host.name)):
        ways.setdefault((host.name, host.direction), host)  # the worst of several ways to one host
    ends = _ends(one)
    shaken = _shaken(one, ways)
    for host in list(ways.values())[:limit]:
        labels = {"cluster": one.name, "host": host.name, "direction": host.direction}
        yield "meshops_host_state", {**labels, "state": host.state}, 1
        yield from _counted("meshops_host_findings", labels, [one.findings[number].severity for number in host.findings])
        if host.name in ends:
            yield "meshops_host_expiry_timestamp_seconds", labels, ends[host.name].timestamp()
        tried = shaken.get(host.name, ()) if host.direction == "ingress" else ()
        if tried:
            proven = all(each.right for each in tried)
            yield "meshops_host_proven", labels, proven
            if proven:
                yield "meshops_host_proof_timestamp_seconds", labels, min(each.at for each in tried).timestamp()
    yield "meshops_cluster_left_out", {"cluster": one.name, "of": "hosts"}, max(0, len(ways) - limit)


def _ends(one: Cluster) -> dict[str, datetime]:
    """By host, when the first of its certificates ends."""
    found: dict[str, datetime] = {}
    for certificate in one.certificates:
        for host in certificate.hosts:
            found[host.lower()] = min(found.get(host.lower(), certificate.not_after), certificate.not_after)
    return found


def _shaken(one: Cluster, names: Iterable[tuple[str, str]]) -> dict[str, list[Handshake]]:
    """Handshakes by host; a host with a wildcard has those with a name that stands for it."""
    known = {name for name, direction in names if direction == "ingress"}
    found: dict[str, list[Handshake]] = {}
    for each in one.handshakes or ():
        name = next((name for name in (each.host, f"*.{each.host.partition('.')[2]}", "*") if name in known), each.host)
        found.setdefault(name, []).append(each)
    return found


# --- credentials


def _credentials(one: Cluster, limit: int) -> Iterator[Sample]:
    held: dict[str, list[tuple[str, Certificate]]] = {}
    for certificate in one.certificates:
        for place in certificate.places:
            held.setdefault(place.object, []).append((place.role, certificate))
    proven = {each.served: each.at for each in one.handshakes or () if each.right and each.served}
    told: dict[str, list[str]] = {}
    for finding in one.findings:
        for name in dict.fromkeys(finding.objects):
            told.setdefault(name, []).append(finding.severity)
    for name in sorted(held, key=lambda name: _urgency(name, held[name]))[:limit]:
        yield from _credential(one.name, name, held[name], proven)
        yield from _counted("meshops_credential_findings", _named(one.name, name), told.get(name, ()))
    yield "meshops_cluster_left_out", {"cluster": one.name, "of": "credentials"}, max(0, len(held) - limit)


def _urgency(name: str, held: Sequence[tuple[str, Certificate]]) -> tuple[bool, datetime, str]:
    return not any(each.is_used for __, each in held), min(each.not_after for __, each in held), name


def _credential(cluster: str, name: str, held: Sequence[tuple[str, Certificate]], proven: Mapping[str, datetime]) -> Iterator[Sample]:
    labels = _named(cluster, name)
    used = str(any(each.is_used for __, each in held)).lower()
    for role in ROLES:
        if ends := [each.not_after for at, each in held if at == role]:
            yield "meshops_credential_expiry_timestamp_seconds", {**labels, "role": role, "used": used}, min(ends).timestamp()
    for leaf in [each for at, each in held if at == "leaf"][:1]:
        yield "meshops_credential_info", {**labels, "fingerprint_sha256": leaf.fingerprint, "issuer": leaf.issuer}, 1
        if leaf.fingerprint in proven:
            yield "meshops_credential_proof_timestamp_seconds", labels, proven[leaf.fingerprint].timestamp()


def _named(cluster: str, name: str) -> dict[str, str]:
    """Labels of `Kind namespace/name`. Not `namespace`, which Prometheus often has as a label of what it reads from."""
    kind, __, rest = name.partition(" ")
    namespace, __, short = rest.rpartition("/")
    return {"cluster": cluster, "kind": kind, "credential_namespace": namespace, "credential": short}
