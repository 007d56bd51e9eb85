# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as JUnit's XML, as GitLab, Jenkins and others read it: a suite a cluster, a case a finding or a host. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .markup import Markup, joined, xml
from .model import Cluster, Finding, Host, Report, Source
from .words import moment


def as_junit(report: Report, digest: str) -> str:
    """An error of a finding, or a host that breaks, is a failure; a warning is output of a case that passed; what was not looked at is skipped."""
    suites = [_suite(one) for one in report.clusters]
    root = xml(
        "testsuites",
        suites,
        name="gateway TLS",
        tests=_sum(report, 0),
        failures=_sum(report, 1),
        errors=_sum(report, 2),
        skipped=_sum(report, 3),
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- meshops-content {digest} -->\n{root}\n'


def _counts(one: Cluster) -> tuple[int, int, int, int]:
    """Cases; of them failures, errors and skipped ones."""
    if one.error:
        return 1, 0, 1, 0
    failures = one.count("error") + sum(host.state == "broken" for host in one.hosts)
    return len(one.findings) + len(one.hosts) + len(one.not_looked_at), failures, 0, len(one.not_looked_at)


def _sum(report: Report, which: int) -> int:
    return sum(_counts(one)[which] for one in report.clusters)


def _suite(one: Cluster) -> Markup:
    tests, failures, errors, skipped = _counts(one)
    cases = [_unreached(one)] if one.error else [*_hosts(one), *map(_finding, one.findings), *_skipped(one)]
    properties = xml("properties", xml("property", name="cluster", value=one.name))
    return xml(
        "testsuite",
        properties,
        cases,
        name=one.name,
        tests=tests,
        failures=failures,
        errors=errors,
        skipped=skipped,
        timestamp=moment(one.looked_at) if one.looked_at else None,
        time=0,
    )


def _case(cluster: str, kind: str, name: str, inner: Markup | None = None, source: Source | None = None) -> Markup:
    where = {"file": source.file, "line": source.line} if source else {}
    return xml("testcase", inner, name=name, classname=f"{cluster}.{kind}", **where, time=0)


def _unreached(one: Cluster) -> Markup:
    return _case(one.name, "cluster", "is looked at", xml("error", one.error, message=one.error.splitlines()[0], type="not_looked_at"))


def _hosts(one: Cluster) -> Iterator[Markup]:
    for host in one.hosts:
        yield _case(one.name, host.direction, host.name, _broken(host) if host.state == "broken" else None)


def _broken(host: Host) -> Markup:
    stages = "\n".join(f"{stage.state}: {stage.name}: {stage.what}" for stage in host.stages)
    return xml("failure", stages, message=host.verdict, type="broken")


def _finding(one: Finding) -> Markup:
    name = f"{one.id} {one.title}: {one.objects[0] if one.objects else one.code}"
    lines = "\n".join([*one.evidence, f"To do: {one.remedy}"])
    if one.severity == "error":
        inner = xml("failure", lines, message=one.evidence[0] if one.evidence else one.title, type=one.code)
    else:
        inner = xml("system-out", joined(f"{one.severity}: ", lines))
    return _case(one.cluster, "findings", name, inner, next((source for __, source in one.located if source), None))


def _skipped(one: Cluster) -> Iterator[Markup]:
    for each in one.not_looked_at:
        yield _case(one.name, "not looked at", each, xml("skipped", message="not looked at"))
