# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Envoy answers in its own name, and what is behind it.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/response_code_details"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_HEAD = 1000  # characters of a body in which Envoy's words are looked for


@dataclass(frozen=True)
class Answer:
    """A kind of answer, and its likely cause with what to look at."""

    status: int
    body: str | None
    """A regular expression at the beginning of the body. Envoy's words, so it does not matter which Envoy; None for any body, and "" for an empty
    one: then only an answer counts for which no workload was asked."""
    cause: str


ANSWERS: tuple[Answer, ...] = (
    # the first that fits
    Answer(
        403,
        r"RBAC: access denied",
        "an AuthorizationPolicy denies it, by a DENY rule that matches or because there are ALLOW policies and none matches: look at those that "
        "select these pods, in their namespace and in the root namespace (kubectl get authorizationpolicies -A)",
    ),
    Answer(
        403,
        "",
        "a filter refused it without a word: look at an AuthorizationPolicy with action CUSTOM (external authorization); an Upgrade that Envoy does "
        "not admit is answered like this too",
    ),
    Answer(
        401, r"Jwt |Jwks |Audiences in Jwt", "a RequestAuthentication refuses the token: compare its issuer, audiences and keys with it"
    ),
    Answer(404, None, "no VirtualService of the Gateway routes this host and path"),
    Answer(413, None, "the request's body is larger than a filter keeps: look for EnvoyFilters with a limit"),
    Answer(
        421, None, "the Host header is not for the server that the SNI chose: make host and sni the same, or look which Gateway has them"
    ),
    Answer(426, None, "it takes no HTTP/1.0: leave alpn out, or offer http/1.1; a client between here and there may speak HTTP/1.0 too"),
    Answer(429, r"local_rate_limited", "a local rate limit is used up: look at the EnvoyFilters that set one"),
    Answer(431, None, "the request's headers are more than it takes, 60 KiB and 100 of them unless set otherwise: send fewer"),
    Answer(
        502,
        "",
        "it knows no such host and may not pass it on (outboundTrafficPolicy REGISTRY_ONLY): make a ServiceEntry for it, and look at the "
        "client's Sidecar",
    ),
    Answer(
        503,
        "",
        "it has no cluster for the route's destination: look whether its Service exists and is exported to this namespace, whether a DestinationRule "
        "has the route's subset, and whether the credential of its tls settings is there",
    ),
    Answer(
        503,
        r"no healthy upstream",
        "the route's destination has no endpoints that are ready: look at its Service's selector, its pods and EndpointSlices, and at outlierDetection",
    ),
    Answer(
        503,
        r"upstream connect error.*CERTIFICATE_VERIFY_FAILED",
        "it does not trust the destination's certificate: compare the CA and subjectAltNames of the DestinationRule's tls settings with it",
    ),
    Answer(
        503,
        r"upstream connect error.*(WRONG_VERSION_NUMBER|HTTP_REQUEST)",
        "it speaks TLS to a destination that does not: look at the DestinationRule's tls mode, and at the destination's port",
    ),
    Answer(
        503,
        r"upstream connect error.*(TLS_error|TLS error|Secret is not supplied)",
        "the TLS handshake with the destination failed: look at the DestinationRule's tls settings (credential, CA, sni), and which client "
        "certificate the destination wants",
    ),
    Answer(
        503,
        r"upstream connect error.*overflow",
        "a circuit breaker is open: look at connectionPool in the DestinationRule, and at the destination's load",
    ),
    Answer(
        503,
        r"upstream connect error.*timeout",
        "the destination does not take the connection in time: look at its address, at NetworkPolicies and at firewalls",
    ),
    Answer(
        503,
        r"upstream connect error.*connect(ion)? (failure|error)",
        "the destination refuses the connection or the TLS handshake: look at its port, and at the TLS towards it (the DestinationRule's tls "
        "settings, PeerAuthentication)",
    ),
    Answer(
        503,
        r"upstream connect error",
        "the destination ended the connection before it answered: it may speak TLS where plain HTTP was sent, or the other way round (the "
        "DestinationRule's tls settings, the port's name, PeerAuthentication)",
    ),
    Answer(503, None, "look at the route's destination (host, port, subset), its endpoints, and the TLS towards it"),
    Answer(504, r"upstream request timeout", "the destination took longer than the route's timeout: raise timeout in the VirtualService"),
)

_TLS_WANTED = re.compile(r"(client sent an HTTP request to an HTTPS server|.{0,400}plain HTTP request was sent to HTTPS port)", re.I | re.S)


def cause(status: int, headers: Mapping[str, str], body: str, *, scheme: str) -> str:
    """The likely cause of an answer that was not expected, as a sentence without a full stop; empty where the answer is the workload's own.

    `headers` with names in lower case.
    """
    beginning = body[:_HEAD]
    alone = "envoy" in headers.get("server", "") and "x-envoy-upstream-service-time" not in headers
    if status == 400 and _TLS_WANTED.match(beginning):
        if scheme == "http" and "x-envoy-upstream-service-time" not in headers:
            return "The port speaks TLS: use scheme https"
        return "The destination speaks TLS and got plain HTTP: give it tls mode SIMPLE in a DestinationRule, or route to its plain port"
    if alone and scheme == "http" and status in (301, 308) and headers.get("location", "").startswith("https://"):
        return "The Gateway redirects to HTTPS (httpsRedirect): use scheme https"
    for answer in ANSWERS:
        if answer.status != status:
            continue
        if answer.body and re.match(answer.body, beginning, re.DOTALL):
            who = "Envoy answered this itself" if alone else "The proxy of the workload behind it answered this"
            return f"{who}: {answer.cause}"
        if alone and (answer.body is None or (answer.body == "" and not body)):
            return f"Envoy answered this itself: {answer.cause}"
    return ""
