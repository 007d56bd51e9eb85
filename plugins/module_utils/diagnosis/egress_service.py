# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an egress gateway originates the TLS that it should: the originating rule, files, and the ServiceEntry. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..istio.choice import MergedRule, is_shown, rule_for, title
from ..objects.kinds import DESTINATION_RULE, SERVICE_ENTRY, VIRTUAL_SERVICE, Manifest, Ref, ref_of
from .egress_case import Case, clients_of, destinations, each_path, gateway_labels, gateway_name, workloads_of
from .egress_paths import HTTP, TCP, TLS
from .listeners import file_fault
from .readings import spec_of
from .rule import Found, Rule


def originating(case: Case) -> Iterator[Found]:
    path = case.path
    mine = path.objects.get("originating_rule")
    merged = rule_for(case.view.rules, path.gateway.namespace, path.host, path.home, gateway_labels(case))
    if path.server_mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH") or path.protocol == "TLS":
        return  # the applications speak TLS themselves
    if path.asked:
        at = case.at("originating_rule")
        if merged is None or not any(ref_of(rule) == mine for rule in merged.rules):
            instead = f"uses {', '.join(title(rule) for rule in merged.rules)} instead" if merged else "finds no rule at all"
            yield _invisible(case, at[0], instead, merged is not None)
            return
        if merged.policy_from is not None and ref_of(merged.policy_from) != mine:
            yield _overridden(case, at[0], merged.policy_from)
            return
    tls = (merged.tls(path.tls_port) if merged else None) or {}
    for target in destinations(case, gateway_name(case)):
        number = target["port"].get("number")
        if target["host"] == path.host and number != path.tls_port:
            tls = (merged.tls(number) if merged and number else None) or {}
    if tls.get("mode") not in ("SIMPLE", "MUTUAL"):
        yield from _no_origination(case, str(tls.get("mode", "none")), merged)


def _overridden(case: Case, rule: Ref, first: Manifest) -> Found:
    return case.found(
        "originating_rule_overridden",
        (rule, "", ""),
        f"the older {title(first)} has a trafficPolicy for {case.path.host}, and istiod keeps the first: this rule's TLS is ignored",
        "delete that rule, or move its settings into subsets",
    )


def _no_origination(case: Case, mode: str, merged: MergedRule | None) -> Iterator[Found]:
    """A path of others need not originate TLS: only where the port takes TLS, or a rule of theirs asks for it, something is wrong."""
    path = case.path
    if path.asked:
        yield case.found(
            "no_origination",
            case.at("originating_rule"),
            f"it originates no TLS towards the port that the route leads to (mode {mode})",
            f"give tls for port {path.tls_port}, and route to that port",
        )
        return
    used = merged.rules if merged else ()
    first = merged.policy_from if merged else None
    elsewhere = [rule for rule in case.view.rules_for(path.host) if _originates(rule)]
    if first is not None and first not in elsewhere and any(rule in used for rule in elsewhere):
        yield from (_overridden(case, ref_of(rule), first) for rule in elsewhere if rule in used)
        return
    if elsewhere and not any(rule in used for rule in elsewhere):
        instead = f"uses {', '.join(map(title, used))} instead" if used else "finds no rule at all"
        yield _invisible(case, ref_of(elsewhere[0]), instead, bool(used))
    elif elsewhere or _takes_tls(case):
        yield case.found(
            "no_origination",
            (ref_of(elsewhere[0]), "", "") if elsewhere else case.at("virtual_service"),
            f"nothing originates TLS towards port {path.tls_port} of {path.host}, to which the gateway's route leads (mode {mode}): the gateway "
            "sends plain text to a port that takes TLS",
            f"give tls for port {path.tls_port} in a DestinationRule for {path.host}, and route to that port",
        )


def _originates(rule: Manifest) -> bool:
    policy = spec_of(rule).get("trafficPolicy") or {}
    settings = [policy.get("tls"), *(port.get("tls") for port in policy.get("portLevelSettings") or ())]
    return any((tls or {}).get("mode") in ("SIMPLE", "MUTUAL") for tls in settings)


def _takes_tls(case: Case) -> bool:
    """Whether the ServiceEntry says that the port takes TLS."""
    for port in spec_of(case.made("service_entry")).get("ports") or ():
        if port.get("number") == case.path.tls_port:
            return str(port.get("protocol", "")).upper() in TLS
    return False


def _invisible(case: Case, rule: Ref, instead: str, another: bool) -> Found:
    namespace = case.path.gateway.namespace
    return case.found(
        "originating_rule_invisible",
        (rule, "spec.exportTo", ""),
        f"the gateway in {namespace} does not see it and {instead}, so it would send plaintext or the wrong certificate",
        f"keep the rule in {namespace}" + (", and delete the other one" if another else ""),
    )


def files(case: Case) -> Iterator[Found]:
    path = case.path
    for workload in workloads_of(case) or ():
        for option, file in path.files.items():
            if fault := file_fault(workload, file):
                code, message = fault
                mount = "mount the Secret there" if code == "file_not_mounted" else "mount the whole Secret without subPath"
                yield case.found(
                    code,
                    case.at("originating_rule", "tls", f"certificate_files.{option}"),
                    message,
                    f"{mount}, or use {case.word('credential_name', 'credentialName')}, which needs no mount",
                    cause=f"{workload.namespace} {file}",
                )


def _wrong_protocols(case: Case) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """Ports of the service, what no other ServiceEntry may declare them as, and what is expected."""
    path = case.path
    yield path.http_port, (*HTTP, *TLS) if path.is_tcp else TLS, path.protocol
    if path.tls_port != path.http_port:
        yield path.tls_port, (*HTTP, *TCP), "TLS"


def service_entry(case: Case) -> Iterator[Found]:
    path = case.path
    if path.asked and path.host.endswith(f".svc.{path.gateway.cluster_domain}"):
        yield case.found(
            "host_is_mesh_service",
            case.at("service_entry", "spec.hosts", "host"),
            f"{path.host} is a Service of the cluster itself, which sidecars know already",
            "give the name by which clients know the external service, and the Service's as an endpoint's address",
            "warning",
        )
    if path.objects.get("service_entry") is None or path.protocol == "TLS":
        return
    for other in case.view.service_entries.get(path.host, ()):
        if case.owns(other):
            continue
        viewers = [viewer for viewer in (*case.viewers, path.gateway.namespace) if is_shown(other, viewer)]
        if not viewers:
            continue
        protocols = {port.get("number"): str(port.get("protocol", "")).upper() for port in other["spec"].get("ports") or ()}
        conflict = next(
            (
                f"declares port {number} as {protocols[number]}, where {expected} is expected"
                for number, wrong, expected in _wrong_protocols(case)
                if protocols.get(number) in wrong
            ),
            None,
        )
        if conflict:
            yield case.found(
                "port_protocol_conflict",
                case.at("service_entry"),
                f"{title(other)} has the host {path.host}, too, and {conflict}",
                "delete that ServiceEntry, or choose other ports",
            )
        else:
            yield case.found(
                "host_declared_twice",
                case.at("service_entry"),
                f"{title(other)} has the host {path.host}, too, and istiod uses one of the two or both",
                "delete that ServiceEntry, or take the host out of it",
                "warning",
            )


def plaintext_endpoint(case: Case) -> Iterator[Found]:
    path = case.path
    if not path.asked and not path.mode:
        return
    entry = spec_of(case.made("service_entry"))
    name = path.tls_port_name
    target = next((port.get("targetPort") for port in entry.get("ports") or () if port.get("number") == path.tls_port), None)
    for index, endpoint in enumerate(entry.get("endpoints") or ()):
        ports = endpoint.get("ports") or {}
        number = ports.get(name, target or path.tls_port)
        if number == 80 or (path.http_port != path.tls_port and number == ports.get(path.mesh_port_name)):
            yield case.found(
                "tls_to_plaintext_port",
                case.at("service_entry", f"spec.endpoints[{index}]", f"endpoints[{index}].ports.{name}"),
                f"the gateway would speak TLS to port {number} of {endpoint.get('address')}, which is the port for plaintext (WRONG_VERSION_NUMBER)",
                f"map {name} to the port on which the endpoint takes TLS",
                "warning",
            )
    if not entry.get("endpoints") and (target or path.tls_port) == 80:
        yield case.found(
            "tls_to_plaintext_port",
            case.at("service_entry", "spec.ports", "tls_port"),
            f"the gateway would speak TLS to port 80 of {path.host}, which is the port for plaintext (WRONG_VERSION_NUMBER)",
            f"set {case.word('tls_port', 'the port of the route and of the rule')} to the port on which the service takes TLS",
            "warning",
        )


def resolution(case: Case) -> Iterator[Found]:
    if case.path.resolution == "NONE" and case.path.protocol != "TLS":
        yield case.found(
            "no_endpoints_at_gateway",
            case.at("service_entry", "spec.resolution", "resolution"),
            "with NONE a gateway has no endpoint to connect to (it does not know which address the client asked for): requests through it get 503",
            "use DNS, or STATIC with endpoints",
            "warning",
        )


def visible_rules(case: Case) -> Iterator[Found]:
    """Rules for the host that clients' sidecars see, though only the gateway should: what a module makes must be out of their sight.

    What others made is judged by whether sidecars need it: see `client_tls.py`.
    """
    path = case.path
    for viewer in case.viewers if path.asked else ():
        merged = rule_for(case.view.rules, viewer, path.host, path.home)
        tls = merged.tls(path.tls_port) if merged else None
        if merged is None or tls is None or tls.get("mode") not in ("SIMPLE", "MUTUAL"):
            continue
        rule = merged.policy_from or merged.rules[0]
        remedy = "set rule_export_to to ['.'], so that only the gateway's namespace sees the rule"
        if viewer == path.gateway.namespace:
            remedy = "run clients in another namespace than the gateway"
        elif ref_of(rule) not in path.refs:
            remedy = "delete that rule, or set its exportTo so that only gateways see it"
        at = (ref_of(rule), "spec.exportTo", "")
        credential = str(tls.get("credentialName") or "")
        originates = not credential or credential.startswith("configmap://") or merged.selector is not None
        if not originates:
            yield case.found(
                "sidecars_send_plaintext",
                at,
                f"{clients_of(viewer)} see it, and sidecars originate nothing for a rule with credentialName: past the gateway they send "
                "plaintext to a TLS port",
                remedy,
            )
        elif any(tls.get(option) for option in ("clientCertificate", "privateKey", "caCertificates")):
            yield case.found(
                "sidecars_wait_for_files",
                at,
                f"{clients_of(viewer)} see it, and every sidecar without its certificate files waits 15 s for them at start",
                remedy,
            )
        if originates and path.direct_tls:
            yield case.found(
                "tls_inside_tls",
                at,
                f"{clients_of(viewer)} see it, so their sidecars wrap the TLS that applications speak on port {path.tls_port} in TLS once more",
                remedy,
            )


_ORIGINATING, _FILES, _ENTRY = each_path(originating), each_path(files), each_path(service_entry)
_PLAINTEXT, _RESOLUTION, _VISIBLE = each_path(plaintext_endpoint), each_path(resolution), each_path(visible_rules)

RULES = (
    Rule(
        "MIT0531",
        "originating_rule_invisible",
        "error",
        "The egress gateway does not see the DestinationRule that originates TLS",
        "istiod looks for rules in the gateway's namespace, in the ServiceEntry's and in the root namespace, and obeys exportTo. Without the "
        "rule the gateway sends plain text.",
        "Keep the rule in the gateway's namespace.",
        _ORIGINATING,
        (DESTINATION_RULE, VIRTUAL_SERVICE),
    ),
    Rule(
        "MIT0532",
        "originating_rule_overridden",
        "error",
        "An older DestinationRule decides about the host",
        "istiod merges rules of one host and keeps the oldest trafficPolicy: the TLS of the later rule is ignored.",
        "Delete the older rule, or move its settings into subsets.",
        _ORIGINATING,
        (DESTINATION_RULE,),
    ),
    Rule(
        "MIT0533",
        "no_origination",
        "error",
        "The egress gateway originates no TLS for the port that the route leads to",
        "Plain text goes to a port that takes TLS, and leaves the mesh unencrypted.",
        "Give `tls` for the port in a DestinationRule for the host, and lead the route to that port.",
        _ORIGINATING,
        (DESTINATION_RULE, VIRTUAL_SERVICE),
    ),
    Rule(
        "MIT0534",
        "host_is_mesh_service",
        "warning",
        "The external host is a Service of the cluster",
        "Sidecars know it already, and two services of one name are merged.",
        "Give the name by which clients know the external service, and the Service's name as an endpoint's address.",
        _ENTRY,
    ),
    Rule(
        "MIT0535",
        "port_protocol_conflict",
        "error",
        "Another ServiceEntry declares the port with another protocol",
        "Sidecars may take the port for the other protocol, and the route does not apply.",
        "Delete the other ServiceEntry, or choose other ports.",
        _ENTRY,
        (SERVICE_ENTRY,),
    ),
    Rule(
        "MIT0536",
        "host_declared_twice",
        "warning",
        "Two ServiceEntries have the same host",
        "istiod uses one of the two, or both together.",
        "Delete one of them, or take the host out of it.",
        _ENTRY,
        (SERVICE_ENTRY,),
    ),
    Rule(
        "MIT0537",
        "no_endpoints_at_gateway",
        "warning",
        "A gateway cannot resolve the host",
        "With resolution NONE proxies connect to the address that the client asked for, and a gateway does not know it: 503.",
        "Use resolution DNS, or STATIC with endpoints.",
        _RESOLUTION,
        (SERVICE_ENTRY,),
    ),
    Rule(
        "MIT0538",
        "tls_inside_tls",
        "error",
        "Sidecars wrap TLS of applications in TLS once more",
        "Clients see a rule that originates TLS for the port on which they speak TLS themselves.",
        "Set exportTo so that only gateways see the rule.",
        _VISIBLE,
        (DESTINATION_RULE,),
    ),
)
ASKED = {
    "tls_to_plaintext_port": _PLAINTEXT,
    "sidecars_send_plaintext": _VISIBLE,
    "sidecars_wait_for_files": _VISIBLE,
    "file_not_mounted": _FILES,
    "file_never_refreshed": _FILES,
}
"""What a module's way is asked besides, by the code of a rule that stands elsewhere."""
