# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether AuthorizationPolicies let requests pass a gateway, as far as objects tell it: for ingress and egress alike. Pure.

From istiod's pilot/pkg/model/authorization.go, policyattachment.go and pilot/pkg/security/authz: a DENY rule that matches refuses; where a
workload has ALLOW policies, one of their rules must match. What depends on the request (paths, headers, addresses, tokens) is left open.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from .choice import title
from .names import subset_of
from .workload import Workload

Manifest = Mapping[str, Any]
Match: TypeAlias = "bool | None"
"""Whether requests match: all, none, or it depends (None)."""

_GATEWAY_API = "gateway.networking.k8s.io/gateway-name"
_DRY_RUN = "istio.io/dry-run"


@dataclass(frozen=True)
class Request:
    """What is known of the requests in question."""

    hosts: tuple[str, ...]
    """Empty where they are not HTTP."""
    port: int | str | None
    """The port that the gateway's pods listen on; None where it is not known."""
    namespaces: tuple[str, ...] | None = None
    """Of the clients in the mesh; None where they are not known."""
    in_mesh: bool = True
    """Whether clients show an identity of the mesh (mutual TLS of Istio); from outside they show none."""


@dataclass(frozen=True)
class Refusal:
    """Why a gateway answers 403."""

    policies: tuple[str, ...]
    """Their titles, for example `AuthorizationPolicy istio-system/deny-all`."""
    reason: str
    clients: str | None = None
    """The namespace of the clients that are refused; None: all of them."""


@dataclass(frozen=True)
class Verdict:
    refusals: tuple[Refusal, ...] = ()
    open: tuple[str, ...] = ()
    """Titles of ALLOW policies on which it depends whether requests pass."""


def judge(policies: Iterable[Manifest], workload: Workload, request: Request, root_namespace: str) -> Verdict:
    """What the policies that apply to a gateway's workload make of the requests."""
    attached = [one for one in policies if _attaches(one, workload, root_namespace)]
    deny = [one for one in attached if _action(one) == "DENY"]
    allow = [one for one in attached if _action(one) == "ALLOW"]
    refusals: list[Refusal] = []
    undecided = False
    for clients in request.namespaces or (None,):
        denying = [one for one in deny if any(_matches(rule, request, clients) for rule in _rules(one))]
        if denying:
            refusals.append(Refusal(tuple(map(title, denying)), "denies it", clients))
            continue
        if not allow:
            continue
        answers = [_matches(rule, request, clients) for one in allow for rule in _rules(one)]
        if True in answers:
            continue
        if None in answers:
            undecided = True
            continue
        refusals.append(Refusal(tuple(map(title, allow)), "allows something else" if answers else "allows nothing", clients))
    return Verdict(tuple(dict.fromkeys(refusals)), tuple(map(title, allow)) if undecided else ())


def _action(policy: Manifest) -> Literal["ALLOW", "DENY", "OTHER"]:
    action = (policy.get("spec") or {}).get("action") or "ALLOW"
    return "ALLOW" if action == "ALLOW" else "DENY" if action == "DENY" else "OTHER"


def _rules(policy: Manifest) -> Sequence[Manifest]:
    return (policy.get("spec") or {}).get("rules") or ()


def _attaches(policy: Manifest, workload: Workload, root_namespace: str) -> bool:
    metadata, spec = policy["metadata"], policy.get("spec") or {}
    namespace = metadata.get("namespace")
    if namespace not in (root_namespace, workload.namespace) or (metadata.get("annotations") or {}).get(_DRY_RUN) == "true":
        return False
    targets = [*(spec.get("targetRefs") or ()), *([spec["targetRef"]] if spec.get("targetRef") else ())]
    if targets:  # they are for gateways of the Gateway API, in the policy's own namespace
        name = workload.labels.get(_GATEWAY_API)
        return namespace == workload.namespace and any(one.get("kind") == "Gateway" and one.get("name") == name for one in targets)
    selector = (spec.get("selector") or {}).get("matchLabels") or {}
    return bool(selector.items() <= workload.labels.items())


# --- one rule


def _all(matches: Iterable[Match]) -> Match:
    found = list(matches)
    return False if False in found else None if None in found else True


def _any(matches: Iterable[Match]) -> Match:
    found = list(matches)
    return True if True in found else None if None in found else False


def _not(match: Match) -> Match:
    return None if match is None else not match


def _matches(rule: Manifest | None, request: Request, clients: str | None) -> Match:
    rule = rule or {}
    sources = [one.get("source") or {} for one in rule.get("from") or ()]
    operations = [one.get("operation") or {} for one in rule.get("to") or ()]
    return _all(
        (
            _any(_source(one, request, clients) for one in sources) if sources else True,
            _any(_operation(one, request) for one in operations) if operations else True,
            _all(_condition(one, request, clients) for one in rule.get("when") or ()),
        )
    )


def _source(source: Manifest, request: Request, clients: str | None) -> Match:
    return _all(
        _field(name, values, lambda name, value: _SOURCES[name](value, request, clients), _SOURCES) for name, values in source.items()
    )


def _operation(operation: Manifest, request: Request) -> Match:
    known = {"hosts": lambda value: _host(value, request), "ports": lambda value: _port(value, request)}
    return _all(_field(name, values, lambda name, value: known[name](value), known) for name, values in operation.items())


def _condition(condition: Manifest, request: Request, clients: str | None) -> Match:
    known: dict[str, Callable[[str], Match]] = {
        "source.namespace": lambda value: _namespace(value, request, clients),
        "source.principal": lambda value: _principal(value, request, clients),
        "destination.port": lambda value: _port(value, request),
    }
    key = str(condition.get("key"))
    if key not in known:
        return None
    wanted, unwanted = condition.get("values") or (), condition.get("notValues") or ()
    return _all((_any(map(known[key], wanted)) if wanted else True, _not(_any(map(known[key], unwanted)))))


def _field(name: str, values: Sequence[str] | None, match: Callable[[str, str], Match], known: Collection[str]) -> Match:
    positive = name[3:4].lower() + name[4:] if name.startswith("not") else name
    if not values:
        return True
    if positive not in known:
        return None
    found = _any(match(positive, str(value)) for value in values)
    return _not(found) if positive != name else found


def _text(pattern: str, text: str) -> bool:
    """Istio's matching of strings: `*`, `prefix*`, `*suffix`, or the whole."""
    if pattern.startswith("*"):
        return text.endswith(pattern[1:])
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def _namespace(pattern: str, request: Request, clients: str | None) -> Match:
    if not request.in_mesh:
        return False
    return (True if pattern == "*" else None) if clients is None else _text(pattern, clients)


def _principal(pattern: str, request: Request, clients: str | None) -> Match:
    """Principals are `<trust domain>/ns/<namespace>/sa/<service account>`, of which the namespace may be known."""
    if not request.in_mesh:
        return False
    if pattern == "*":
        return True
    __, separator, rest = pattern.partition("/ns/")
    namespace, whole, __ = rest.partition("/sa/")
    if clients is None or not separator:
        return None
    if whole:
        return None if namespace == clients else False
    return None if clients.startswith(namespace.rstrip("*").rstrip("/")) else False


def _service_account(pattern: str, request: Request, clients: str | None) -> Match:
    """`<service account>` of the policy's own namespace, or `<namespace>/<service account>`."""
    if not request.in_mesh:
        return False
    namespace, separator, __ = pattern.partition("/")
    return False if separator and clients is not None and namespace != clients else None


def _host(pattern: str, request: Request) -> Match:
    """With or without the port that clients may add; without regard to case."""
    if not request.hosts:
        return None
    pattern = pattern.lower()
    bare = pattern.removesuffix(":*")
    answers = [
        True
        if subset_of(host, bare) or _text(pattern, host)
        else None
        if bare.startswith(f"{host}:") or bare.endswith("*") or subset_of(bare, host)
        else False
        for host in (one.lower() for one in request.hosts)
    ]
    return True if all(answers) else None if any(answer is not False for answer in answers) else False


def _port(pattern: str, request: Request) -> Match:
    return pattern == str(request.port) if isinstance(request.port, int) else None


_SOURCES: dict[str, Callable[[str, Request, str | None], Match]] = {
    "namespaces": _namespace,
    "principals": _principal,
    "serviceAccounts": _service_account,
}
