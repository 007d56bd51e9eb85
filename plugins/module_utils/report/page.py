# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML page that needs nothing else: no network, no fonts, and no script to be read. Pure."""

from __future__ import annotations

import base64
import hashlib

from . import certificates, findings, hosts, observations
from .drawing import mark, symbols
from .markup import Markup, joined, tag
from .model import Report
from .script import SCRIPT
from .style import STYLE
from .words import headline, left, listed, overall, subject, summary

_MANY = 300
"""With more hosts and certificates, what is not on the screen is not laid out."""


def as_html(report: Report, digest: str) -> str:
    """The page. `digest` names what it says, whenever that was looked at."""
    title = f"Gateway TLS: {headline(report).lower()}"
    main = tag(
        "main",
        findings.section(report),
        findings.gone_section(report),
        hosts.clusters_section(report),
        hosts.section(report),
        certificates.section(report),
        certificates.chains_section(report),
        observations.handshakes_section(report),
        observations.unseen_section(report),
        observations.suppressed_section(report),
    )
    many = len(report.hosts) + len(report.certificates) > _MANY
    body = tag("body", symbols(), _top(report), main, _foot(), tag("script", Markup(SCRIPT)), class_="many" if many else None)
    page = tag("html", tag("head", _head(title, digest)), body, lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _head(title: str, digest: str) -> Markup:
    """The policy lets nothing be loaded, and no script run but the one of this page, whatever names hold."""
    script = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script}'; base-uri 'none'; form-action 'none'"
    return joined(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="meshops-content", content=digest),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )


def _top(report: Report) -> Markup:
    return tag(
        "header",
        tag("p", f"Gateway TLS, {subject(report)}", class_="soft small"),
        tag("h1", mark(overall(report)), headline(report)),
        tag("p", summary(report), class_="lead"),
        tag("ul", [tag("li", fact) for fact in _facts(report)], class_="facts"),
        _find(report),
        class_="top",
    )


def _facts(report: Report) -> list[Markup]:
    ends = [one for one in report.certificates if one.is_used]
    shaken = report.handshakes
    facts = [joined(tag("b", f"{len(report.certificates):,}"), " certificates")]
    ended = [one.label for one in ends if one.days_left < 0]
    if ended:
        facts.append(joined(tag("b", f"{len(ended)} {'has' if len(ended) == 1 else 'have'} ended"), f": {listed(ended, 2)}"))
    elif ends:
        facts.append(joined("the next one ends ", tag("b", left(ends[0].days_left).removeprefix("ends ")), f": {ends[0].label}"))
    if shaken:
        facts.append(joined(tag("b", f"{sum(one.right for one in shaken)} of {len(shaken)}"), " handshakes got the right certificate"))
    return facts


def _find(report: Report) -> Markup:
    names = [one.name for one in report.clusters]
    every = tag("option", "Every cluster", value="")
    clusters = tag(
        "select", every, [tag("option", name, value=number) for number, name in enumerate(names)], id="cluster", aria_label="Cluster"
    )
    states = tag(
        "select",
        tag("option", "Every state", value=""),
        tag("option", "Broken", value="broken"),
        tag("option", "Broken or doubtful", value="broken doubtful unknown"),
        id="state",
        aria_label="State",
    )
    box = tag(
        "input", id="search", type="search", placeholder="Search: host, Secret, certificate, ID", aria_label="Search", autocomplete="off"
    )
    said = tag("output", id="said", aria_live="polite")
    return tag("form", box, states, clusters if report.is_of_several else None, said, class_="find", id="find", role="search")


def _foot() -> Markup:
    return tag("footer", "Made by meshops.istio. It holds names, dates and fingerprints, and no key.")
