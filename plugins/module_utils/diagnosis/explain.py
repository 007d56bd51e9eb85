# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host's whole way, stage by stage: what is right on it, and at which stage it breaks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

from ..istio.credential import decode, read_as_istiod
from ..istio.http_routes import ways
from ..istio.listeners import Listener, listeners_of
from ..objects.kinds import API_GATEWAY, HTTP_ROUTE, LISTENER_SET, SECRET, VIRTUAL_SERVICE, Ref, ref_of
from ..problems import Rejected
from ..tls.facts import describe
from ..tls.material import read_chain
from ..tls.names import pattern_covers
from .diagnose import Finding
from .egress_paths import EgressPath
from .observed import is_wrong
from .readings import spec_of
from .view import MeshView

State = Literal["right", "broken", "doubtful", "unknown"]
Place: TypeAlias = "tuple[Ref, str]"
"""(object, field); an empty field is the whole object"""
_SUBJECTS = {
    "server": ("03", "07", "08"),
    "gateway": ("03", "07"),
    "credential": ("01", "02"),
    "route": ("04", "06"),
    "handshake": ("10",),
    "TLS of the gateway to outside": ("03", "05", "06"),
    "client credential": ("01", "02"),
}
"""The subjects of findings that concern a stage; every subject where it is not named."""
_NOT_YET = ("expires_soon",)
"""What is to be mended, while everything still works."""


@dataclass(frozen=True)
class Stage:
    name: str
    state: State
    what: str
    """One sentence: what is there, or what is missing."""
    refs: tuple[Ref, ...] = ()
    at: tuple[Place, ...] = ()
    """The places whose findings are about this stage."""
    findings: tuple[Finding, ...] = ()
    """These findings."""

    def as_result(self) -> dict[str, Any]:
        return {
            "stage": self.name,
            "state": self.state,
            "what": self.what,
            "objects": list(map(str, self.refs)),
            "findings": list(dict.fromkeys(one.id for one in self.findings)),
        }


@dataclass(frozen=True)
class Explainer:
    """Explains hosts of one view; what all of them need is worked out once."""

    view: MeshView
    findings: Sequence[Finding]

    def explain(self, host: str) -> dict[str, Any]:
        """The stages of a host's way, from the client to the workload, and the first that breaks: `{host, verdict, stages}`."""
        name = host.strip().lower().rstrip(".")
        paths = [path for path in self.view.paths if path.host.lower() == name]
        stages = [*(stage for path in paths for stage in self.outward(path)), *self.inward(name)]
        stages = stages or self.straight(name) or [self._nowhere(name)]
        return {"host": host, "verdict": verdict(stages), "stages": _results(stages)}

    def inward(self, name: str) -> list[Stage]:
        """From a client outside to a workload; empty where no Gateway serves the host."""
        patterns = (name, "*", f"*.{name.partition('.')[2]}")
        serving = [self.view.listeners[number] for number in sorted({each for one in patterns for each in self._by_name.get(one, ())})]
        listeners = sorted(dict.fromkeys(each for one in patterns for each in self.listeners.get(one, ())))
        ways = (_inward(self.view, name, [one for one in serving if not self.is_inside(one)]), _at_listeners(self.view, name, listeners))
        return self.judged(stage for way in ways for stage in way)

    def straight(self, name: str) -> list[Stage]:
        """From a workload to a host outside to which no egress gateway leads; empty where nothing describes it."""
        return self.judged(_straight(self.view, name))

    def outward(self, path: EgressPath) -> list[Stage]:
        """From a workload through an egress gateway."""
        stages = self.judged(_outward(self.view, path))
        return [*stages, *self._around(path, stages)]

    def _around(self, path: EgressPath, stages: Sequence[Stage]) -> Iterator[Stage]:
        """What hides, refuses or takes over the way, and is no part of it: a Sidecar, a policy, another rule."""
        route, said = path.objects["virtual_service"], {one for stage in stages for one in stage.findings}
        about = [
            one for one in self.findings if route in one.objects and one.severity != "hint" and one.id[3:5] != "10" and one not in said
        ]
        if about:
            state: State = "broken" if any(one.severity == "error" for one in about) else "doubtful"
            what = "; ".join(f"{one.id} {one.title}" for one in about)
            yield Stage("what is around", state, what, tuple(one.objects[0] for one in about), findings=tuple(about))

    def is_inside(self, one: Listener) -> bool:
        """Whether a server is the inner one of a way through an egress gateway."""
        return one.gateway in self._inside

    @cached_property
    def _by_name(self) -> Mapping[str, Sequence[int]]:
        """Positions of listeners by the hosts that they name."""
        found: dict[str, list[int]] = {}
        for number, one in enumerate(self.view.listeners):
            for name in one.names:
                found.setdefault(name, []).append(number)
        return found

    @cached_property
    def listeners(self) -> Mapping[str, Sequence[tuple[Ref, int]]]:
        """(Gateway or ListenerSet, position) of the Gateway API's listeners, by the hosts that they name."""
        found: dict[str, list[tuple[Ref, int]]] = {}
        for gateway in (*self.view.snapshot.of(API_GATEWAY), *self.view.snapshot.of(LISTENER_SET)):
            for index, one in enumerate(spec_of(gateway).get("listeners") or ()):
                found.setdefault(str(one.get("hostname") or "*").lower(), []).append((ref_of(gateway), index))
        return found

    @cached_property
    def _inside(self) -> frozenset[Ref]:
        return frozenset(ref for path in self.view.paths for ref in path.objects.values())

    @cached_property
    def _findings_at(self) -> Mapping[Ref, Sequence[tuple[str, Finding]]]:
        found: dict[Ref, list[tuple[str, Finding]]] = {}
        for one in self.findings:
            for ref, place in one.places:
                found.setdefault(ref, []).append((place, one))
        return found

    def judged(self, stages: Iterable[Stage]) -> list[Stage]:
        """Stages with what the findings say of them."""
        return [self._with_findings(stage) for stage in stages]

    def _with_findings(self, stage: Stage) -> Stage:
        """A stage with the findings about its places; an error makes it broken, a warning doubtful."""
        wanted = _SUBJECTS.get(stage.name)
        about = dict.fromkeys(one for ref, at in stage.at for place, one in self._findings_at.get(ref, ()) if _touch(at, place))
        told = [one for one in about if one.severity != "hint" and (wanted is None or one.id[3:5] in wanted) and not _clears(stage, one)]
        if not told:
            return stage
        broken = any(one.severity == "error" and one.code not in _NOT_YET for one in told)
        state: State = "broken" if broken else "doubtful" if stage.state == "right" else stage.state
        said = "; ".join(f"{one.id} {one.title}" for one in told)
        return replace(stage, state=state, what=f"{stage.what}. {said}", findings=tuple(told))

    def _nowhere(self, name: str) -> Stage:
        shown = sorted({each for one in self.view.listeners for each in one.names})[:10]
        what = f"no Gateway serves {name}, and no egress gateway leads to it; hosts that are served: {', '.join(shown) or 'none'}"
        return Stage("server", "broken", what)


def verdict(stages: Sequence[Stage]) -> str:
    """One sentence: where a way breaks, else where to look, else that it is right."""
    if broken := next((stage for stage in stages if stage.state == "broken"), None):
        return f"It breaks at: {broken.name}. {broken.what}"
    if doubtful := next((stage for stage in stages if stage.state in ("doubtful", "unknown")), None):
        return f"Nothing is broken as far as can be seen; look at: {doubtful.name}. {doubtful.what}"
    return "Everything on its way is right"


def _touch(one: str, other: str) -> bool:
    """Whether two fields of one object have something in common."""
    return one.startswith(other) or other.startswith(one)


def _clears(stage: Stage, one: Finding) -> bool:
    """Whether a stage that is right for this host shows that a finding is about another host."""
    return stage.state == "right" and (stage.name == "handshake" or one.code == "host_not_covered")


def _results(stages: Iterable[Stage]) -> list[dict[str, Any]]:
    return [stage.as_result() for stage in stages]


def _means(pattern: str, name: str) -> bool:
    return pattern in ("*", name) or (pattern.startswith("*.") and pattern_covers(pattern, name))


# --- from outside to a workload


def _inward(view: MeshView, name: str, serving: Sequence[Listener]) -> Iterator[Stage]:
    for one in serving:
        place = f"{one.gateway} ({one.field}), port {one.number}"
        mode = f"TLS {one.mode}" if one.is_tls else "plain HTTP" + (", which redirects to HTTPS" if one.redirects else "")
        yield Stage("server", "right", f"{place} serves {name} with {mode}", (one.gateway,), ((one.gateway, one.field),))
        yield _pods(view, one)
        if one.is_tls and one.mode not in ("PASSTHROUGH", "AUTO_PASSTHROUGH"):
            yield from _credentials(view, name, one)
        if not one.redirects:
            yield from _routes(view, name, one)
    yield from _seen(view, name)


def _at_listeners(view: MeshView, name: str, listeners: Iterable[tuple[Ref, int]]) -> Iterator[Stage]:
    """Listeners of the Gateway API, with their certificates, and HTTPRoutes from there."""
    for ref, index in listeners:
        one, field = spec_of(view.snapshot.objects[ref])["listeners"][index], f"spec.listeners[{index}]"
        what = f"{ref} ({field}), port {one.get('port')} serves {name} with {one.get('protocol')}"
        yield Stage("server", "right", what, (ref,), ((ref, field), (ref, "spec.tls")))
        for each in (one.get("tls") or {}).get("certificateRefs") or ():
            secret = SECRET.ref(each.get("namespace") or ref.namespace, str(each.get("name")))
            yield replace(credential_stage(view, name, secret), at=((ref, f"{field}.tls"), (ref, "spec.tls"), (secret, "")))
        if one.get("protocol") in ("HTTP", "HTTPS"):
            yield from _http_routes(view, name, ref, one)


def _http_routes(view: MeshView, name: str, ref: Ref, listener: Mapping[str, Any]) -> Iterator[Stage]:
    """A route that is refused beside one that leads is no break. Routes of other kinds may be there, which are not read."""
    found = ways(view.snapshot.of(HTTP_ROUTE), ref, listener, name, view.snapshot.domain)
    if not found:
        known = view.snapshot.coverage(HTTP_ROUTE).everywhere
        what = (
            "no HTTPRoute takes it further: the gateway answers 404, unless a route of another kind does"
            if known
            else "HTTPRoutes were not read"
        )
        yield Stage("route", "doubtful" if known else "unknown", f"listener {listener.get('name')} of {ref}: {what}", (ref,))
    for way in found:
        route = ref_of(way.route)
        if way.refused:
            state: State = "broken" if all(one.refused for one in found) else "doubtful"
            yield Stage("route", state, f"{route} is refused ({way.refused})", (route,))
            continue
        yield Stage("route", "right", f"{route} leads to {', '.join(way.hosts) or way.answers}", (route,))
        for host in way.hosts:
            yield _destination(view, way.route, host)


def _straight(view: MeshView, name: str) -> Iterator[Stage]:
    """To a host outside to which no egress gateway leads."""
    for entry in view.service_entries.get(name, ()):
        ref = ref_of(entry)
        yield Stage(
            "the external service", "right", f"{ref} is there; sidecars connect by themselves, past any gateway", (ref,), ((ref, ""),)
        )
    for rule in view.rules_for(name) if view.service_entries.get(name) else ():
        yield Stage("TLS of sidecars to outside", "right", f"{ref_of(rule)} is there", (ref_of(rule),), ((ref_of(rule), ""),))


def _pods(view: MeshView, one: Listener) -> Stage:
    pods = view.selected(one.selector)
    labels = ", ".join(f"{key}={value}" for key, value in one.selector.items())
    at = ((one.gateway, "spec.selector"),)
    if not pods:
        state: State = "broken" if view.workloads_complete else "unknown"
        return Stage("gateway", state, f"no pod or machine with the labels {labels} was found", (one.gateway,), at)
    services = sorted({f"{item['metadata'].get('namespace')}/{item['metadata']['name']}" for pod in pods for item in view.services_of(pod)})
    ports = sorted({str(view.pod_port(one.number, pod)) for pod in pods})
    behind = f"behind Service {', '.join(services)}" if services else "behind no Service that was found"
    alone = len(pods) == 1
    what = f"{len(pods)} {'proxy' if alone else 'proxies'} with the labels {labels} {'listens' if alone else 'listen'} on port {', '.join(ports)}, {behind}"
    return Stage("gateway", "right" if services else "doubtful", what, (one.gateway,), at)


def _credentials(view: MeshView, name: str, one: Listener) -> Iterator[Stage]:
    names = view.credentials_of(one)
    at: tuple[Place, ...] = ((one.gateway, f"{one.field}.tls"),)
    if one.mode == "ISTIO_MUTUAL":
        yield Stage("credential", "right", "istiod issues its certificate, and renews it", (one.gateway,), at)
    elif not names:
        what = "its certificate is a file in the gateway's pods, which objects do not show"
        yield Stage("credential", "doubtful", what, (one.gateway,), at)
    for credential in names:
        for place in view.home_of(one.selector):
            ref = SECRET.ref(place, credential)
            yield replace(credential_stage(view, name, ref), at=(*at, (ref, "")))


def credential_stage(view: MeshView, name: str, ref: Ref) -> Stage:
    """The certificate that a host is served with."""
    secret = view.snapshot.objects.get(ref)
    if secret is None:
        known = view.snapshot.knows(SECRET, ref.namespace, ref.name)
        return Stage("credential", "broken" if known else "unknown", f"{ref} {'does not exist' if known else 'was not read'}", (ref,))
    pem = read_as_istiod(decode(secret)).certificate
    if not pem or view.now is None:
        return Stage("credential", "broken", f"istiod reads no certificate with its key from {ref}", (ref,))
    try:
        leaf = read_chain(pem, where=str(ref))[0]
    except Rejected as rejected:
        return Stage("credential", "broken", f"{ref}: {rejected.problems[0].message}", (ref,))
    facts = describe(leaf, view.now)
    covered = name == "*" or any(_means(pattern, name) for pattern in leaf.dns_names) or name in map(str, leaf.ip_addresses)
    expired = leaf.not_after <= view.now
    until = f"expired on {facts['not_after']}" if expired else f"valid for {facts['days_left']} days more ({facts['not_after']})"
    what = f"{ref} has a certificate for {', '.join(leaf.names[:5])} of {facts['issuer']}, {until}"
    state: State = "broken" if expired or not covered else "right"
    return Stage("credential", state, what + ("" if covered else f", which does not cover {name}"), (ref,))


def _routes(view: MeshView, name: str, one: Listener) -> Iterator[Stage]:
    key = f"{one.gateway.namespace}/{one.gateway.name}"
    found = [route for route in view.routes_of_gateway.get(key, ()) if _routes_it(route, name)]
    if not found:
        known = view.snapshot.coverage(VIRTUAL_SERVICE).everywhere
        yield Stage(
            "route", "broken" if known else "unknown", f"no VirtualService routes {name} at {key}: the gateway answers 404", (one.gateway,)
        )
    for route in found:
        spec = spec_of(route)
        rules = [rule for kind in ("http", "tls", "tcp") for rule in spec.get(kind) or ()]
        targets = sorted(
            {str((leg.get("destination") or {}).get("host") or "") for rule in rules for leg in rule.get("route") or ()} - {""}
        )
        yield Stage(
            "route",
            "right",
            f"{ref_of(route)} leads to {', '.join(targets) or 'an answer of its own'}",
            (ref_of(route),),
            ((ref_of(route), ""),),
        )
        for target in targets:
            yield _destination(view, route, target)


def _routes_it(route: Any, name: str) -> bool:
    return any(_means(str(host).lower(), name) for host in spec_of(route).get("hosts") or ())


def _destination(view: MeshView, route: Any, target: str) -> Stage:
    from ..istio.choice import fqdn

    host = fqdn(target, route["metadata"].get("namespace", ""), view.snapshot.domain)
    entry = view.service_entries.get(host, ())
    service = view.service(host)
    if service is not None:
        ref = ref_of({"apiVersion": "v1", "kind": "Service", **service})
        return Stage("destination", "right", f"{ref} is there", (ref,))
    if entry:
        return Stage("destination", "right", f"{ref_of(entry[0])} describes it", (ref_of(entry[0]),))
    return Stage(
        "destination",
        "doubtful",
        f"no Service and no ServiceEntry {host} was found: the gateway answers 503 where there is none",
        (ref_of(route),),
    )


def _seen(view: MeshView, name: str) -> Iterator[Stage]:
    for one in view.observed.handshakes if view.observed else ():
        if name in (one.host, one.pattern):
            shown = f"{one.place} presents {one.served}" if one.served else f"{one.place}: {one.failure}"
            state: State = "broken" if is_wrong(view, one) else "right" if one.served else "doubtful" if not one.reached else "broken"
            yield Stage("handshake", state, shown, (one.server,), ((one.server, one.field),))


# --- from a workload to outside


def _outward(view: MeshView, path: EgressPath) -> Iterator[Stage]:
    words = {
        "service_entry": "the external service",
        "direct_virtual_service": "route to the gateway",
        "first_hop_rule": "TLS to the gateway",
        "gateway": "server of the gateway",
        "virtual_service": "route of the gateway",
        "originating_rule": "TLS of the gateway to outside",
    }
    for part, name in words.items():
        ref = path.objects.get(part)  # type: ignore[call-overload]
        if part == "service_entry" and ref is None and view.service(path.host) is not None:
            yield Stage(name, "right", f"the Service {path.host} is there")
        elif part == "direct_virtual_service" and ref is None and (not path.asked or _is_led(view, path)):
            yield Stage(name, "right", f"a VirtualService leads sidecars from {path.host} to the gateway")
        elif ref is not None and ref in view.snapshot.objects:
            yield Stage(name, "right", f"{ref} is there", (ref,), tuple((ref, place) for place in _fields(view, path, part)))
        elif part in ("service_entry", "direct_virtual_service", "gateway", "virtual_service"):
            yield Stage(name, "broken", f"{ref or 'an object for it'} was not found", (ref,) if ref else ())
    if path.credential_name:
        ref = SECRET.ref(path.gateway.namespace, path.credential_name)
        there, known = ref in view.snapshot.objects, view.snapshot.knows(SECRET, ref.namespace, ref.name)
        state: State = "right" if there else "broken" if known else "unknown"
        at = ((ref, ""), *([(path.objects["originating_rule"], "")] if "originating_rule" in path.objects else []))
        what = f"{ref} {'is there' if there else 'does not exist' if known else 'was not read'}"
        yield Stage("client credential", state, what, (ref,), at)


def _fields(view: MeshView, path: EgressPath, part: str) -> tuple[str, ...]:
    """Where an object that several services may share is about this one; the empty field where it is about it as a whole."""
    if part == "gateway":
        servers = listeners_of(view.snapshot.objects[path.objects["gateway"]])
        mine = [one.field for one in servers if path.host in one.names]
        return (*mine, "spec.selector") if mine else ("",)
    if part == "first_hop_rule" and path.subset:
        subsets = spec_of(view.snapshot.objects[path.objects["first_hop_rule"]]).get("subsets") or ()
        mine = [f"spec.subsets[{index}]" for index, subset in enumerate(subsets) if subset.get("name") == path.subset]
        return (*mine, "spec.host", "spec.exportTo", "spec.trafficPolicy", "spec.workloadSelector") if mine else ("",)
    return ("",)


def _is_led(view: MeshView, path: EgressPath) -> bool:
    """Whether routes of sidecars take what is sent to the host."""
    return any(view.mesh_routes_of(path.host, port) for port in (path.http_port, path.tls_port))
