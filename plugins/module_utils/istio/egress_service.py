# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the gateway originates the TLS that was asked for: the originating rule, the credential or files, and the ServiceEntry."""

from __future__ import annotations

from collections.abc import Iterator

from ..problems import Problem
from .choice import is_shown, rule_for, title
from .credential import read_as_istiod
from .egress import Origination
from .egress_view import HTTP, TCP, TLS, Case, clients_of, destinations, gateway_labels, owner_of, workloads_of
from .reference import Lookup, ca_lookup, pair_lookup, parse_reference


def originating(case: Case) -> Iterator[Problem]:
    one = case.one
    mine = one.objects["originating_rule"]
    what = f"DestinationRule {mine}"
    home = one.objects["service_entry"].namespace
    merged = rule_for(case.view.rules, one.gateway.namespace, one.host, home, gateway_labels(case))
    if merged is None or not any(owner_of(rule) == one.owner for rule in merged.rules):
        instead = f"uses {', '.join(title(rule) for rule in merged.rules)} instead" if merged else "finds no rule at all"
        yield case.problem(
            "originating_rule_invisible",
            what,
            f"the gateway in {one.gateway.namespace} does not see it and {instead}, so it would send plaintext or the wrong certificate",
            f"keep the rule in {one.gateway.namespace}" + (", and delete the other one" if merged else ""),
        )
        return
    if merged.policy_from is not None and owner_of(merged.policy_from) != one.owner:
        yield case.problem(
            "originating_rule_overridden",
            what,
            f"the older {title(merged.policy_from)} has a trafficPolicy for {one.host}, and istiod keeps the first: this rule's TLS is ignored",
            "delete that rule, or move its settings into subsets",
        )
        return
    tls = merged.tls(one.tls_port) or {}
    for target in destinations(case.objects.get("virtual_service"), gateway=str(one.objects["gateway"])):
        number = (target.get("port") or {}).get("number")
        if target.get("host") == one.host and number != one.tls_port:
            tls = merged.tls(number) or {} if number else {}
    if tls.get("mode") not in ("SIMPLE", "MUTUAL"):
        yield case.problem(
            "no_origination",
            what,
            f"it originates no TLS towards the port that the route leads to (mode {tls.get('mode', 'none')})",
            f"give tls for port {one.tls_port}, and route to that port",
        )
    elif tls.get("sni") and not tls.get("subjectAltNames"):
        yield case.problem(
            "no_host_check",
            what,
            "sni without subjectAltNames turns the check of the server's name off: any certificate that chains to the CA will do",
            f"set subject_alt_names, for example [{one.host}]",
            "warning",
        )


def lookups(one: Origination) -> tuple[Lookup, ...]:
    """What istiod reads for the gateway. In mode SIMPLE it asks for the CA alone."""
    if not one.credential_name:
        return ()
    reference = parse_reference(one.credential_name, "credential_name")
    return (*(pair_lookup(reference, "credential_name") if one.mode == "MUTUAL" else ()), *ca_lookup(reference, "credential_name"))


def credential(case: Case) -> Iterator[Problem]:
    one, known = case.one, case.view.snapshot.secret_keys
    for lookup in lookups(one):
        place = lookup.namespace or one.gateway.namespace
        if any((place, name) not in known for name in lookup.names):
            continue
        name = next((name for name in lookup.names if known[(place, name)] is not None), None)
        if name is None:
            if lookup.role == "pair" or one.mode == "SIMPLE":
                yield _credential_missing(case, lookup, place)
            continue
        keys = known[(place, name)] or frozenset()
        reading = read_as_istiod(dict.fromkeys(keys, b"-"))
        found = ", ".join(sorted(keys)) or "no keys"
        if lookup.role == "pair" and not (reading.certificate and reading.private_key):
            yield case.problem(
                "credential_without_pair",
                "credential_name",
                f"expected tls.crt and tls.key (or cert and key) in {lookup.kind} {place}/{name}, found {found}",
                "put the client certificate with its key there",
            )
        if lookup.role == "ca" and not reading.ca_certificate:
            yield case.problem(
                "credential_without_ca",
                "credential_name",
                f"expected ca.crt (or cacert) in {lookup.kind} {place}/{name}, found {found}: istiod cannot supply the CA and the gateway answers 503",
                "add the CA that issued the server's certificate, a public one included",
            )


def _credential_missing(case: Case, lookup: Lookup, place: str) -> Problem:
    elsewhere = sorted(
        namespace
        for (namespace, name), keys in case.view.snapshot.secret_keys.items()
        if name in lookup.names and namespace != place and keys
    )
    seen = f"; there is one in {', '.join(elsewhere)}, which istiod does not serve to this gateway" if elsewhere else ""
    return case.problem(
        "credential_missing",
        "credential_name",
        f"expected {lookup.kind} {lookup.names[-1]} in {place}, where the gateway's pods run, found none{seen}: the gateway answers 503, and "
        "one that starts meanwhile waits 15 s for it",
        f"create it in {place} first (meshops.istio.istio_tls_credential)",
    )


def needs_authorization(one: Origination) -> bool:
    """istiod reviews access to Secrets that hold a key; those with a CA alone it gives to every proxy of the namespace."""
    return any(lookup.role == "pair" for lookup in lookups(one))


def authorization(case: Case) -> Iterator[Problem]:
    if not needs_authorization(case.one):
        return
    allowed = case.view.snapshot.may_list_secrets
    for account in dict.fromkeys((workload.namespace, workload.service_account) for workload in workloads_of(case) or ()):
        if allowed.get(account) is False:
            yield case.problem(
                "gateway_may_not_list_secrets",
                "credential_name",
                f"the gateway's service account {'/'.join(account)} may not list Secrets in {account[0]}, so istiod will not serve it the credential",
                f"bind a Role with the verbs get, list and watch on secrets in {account[0]} to it (Istio's gateway charts do)",
            )


def files(case: Case) -> Iterator[Problem]:
    one = case.one
    if not one.files:
        return
    for workload in workloads_of(case) or ():
        if workload.mounts is None:
            continue
        for option, path in one.files.given.items():
            if path == "system" or any(path == mount or path.startswith(mount.rstrip("/") + "/") for mount in workload.mounts):
                continue
            yield case.problem(
                "file_not_mounted",
                f"certificate_files.{option}",
                f"{path} is under no mount of the gateway pod {workload.namespace}/{workload.name}: the gateway would find no such file",
                "mount the Secret there, or use credential_name, which needs no mount",
            )


def _wrong_protocols(one: Origination) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """Ports of the service, what no other ServiceEntry may declare them as, and what is expected."""
    yield one.http_port, (*HTTP, *TLS) if one.is_tcp else TLS, one.protocol
    if one.tls_port != one.http_port:
        yield one.tls_port, (*HTTP, *TCP), "TLS"


def service_entry(case: Case) -> Iterator[Problem]:
    one = case.one
    mine = one.objects["service_entry"]
    if one.host.endswith(f".svc.{one.gateway.cluster_domain}"):
        yield case.problem(
            "host_is_mesh_service",
            "host",
            f"{one.host} is a Service of the cluster itself, which sidecars know already",
            "give the name by which clients know the external service, and the Service's as an endpoint's address",
            "warning",
        )
    for other in case.view.service_entries.get(one.host, ()):
        if owner_of(other) == one.owner:
            continue
        viewers = [viewer for viewer in (*case.viewers, one.gateway.namespace) if is_shown(other, viewer)]
        if not viewers:
            continue
        protocols = {port.get("number"): str(port.get("protocol", "")).upper() for port in other["spec"].get("ports") or ()}
        conflict = next(
            (
                f"declares port {number} as {protocols[number]}, where {expected} is expected"
                for number, wrong, expected in _wrong_protocols(one)
                if protocols.get(number) in wrong
            ),
            None,
        )
        if conflict:
            yield case.problem(
                "port_protocol_conflict",
                f"ServiceEntry {mine}",
                f"{title(other)} has the host {one.host}, too, and {conflict}",
                "delete that ServiceEntry, or choose other ports",
            )
        else:
            yield case.problem(
                "host_declared_twice",
                f"ServiceEntry {mine}",
                f"{title(other)} has the host {one.host}, too, and istiod uses one of the two or both",
                "delete that ServiceEntry, or take the host out of it",
                "warning",
            )


def plaintext_endpoint(case: Case) -> Iterator[Problem]:
    one = case.one
    entry = (case.objects.get("service_entry") or {}).get("spec") or {}
    for index, endpoint in enumerate(entry.get("endpoints") or ()):
        ports = endpoint.get("ports") or {}
        number = ports.get(one.tls_port_name, one.tls_port)
        if number == 80 or (one.http_port != one.tls_port and number == ports.get(one.mesh_port_name)):
            yield case.problem(
                "tls_to_plaintext_port",
                f"endpoints[{index}].ports.{one.tls_port_name}",
                f"the gateway would speak TLS to port {number} of {endpoint.get('address')}, which is the port for plaintext (WRONG_VERSION_NUMBER)",
                f"map {one.tls_port_name} to the port on which the endpoint takes TLS",
                "warning",
            )
    if not entry.get("endpoints") and one.tls_port == 80:
        yield case.problem(
            "tls_to_plaintext_port",
            "tls_port",
            f"the gateway would speak TLS to port 80 of {one.host}, which is the port for plaintext (WRONG_VERSION_NUMBER)",
            "set tls_port to the port on which the service takes TLS",
            "warning",
        )


def resolution(case: Case) -> Iterator[Problem]:
    if case.one.resolution == "NONE":
        yield case.problem(
            "no_endpoints_at_gateway",
            "resolution",
            "with NONE a gateway has no endpoint to connect to (it does not know which address the client asked for): requests through it get 503",
            "use DNS, or STATIC with endpoints",
            "warning",
        )


def visible_rules(case: Case) -> Iterator[Problem]:
    """Rules for the host that clients' sidecars see, though only the gateway should."""
    one = case.one
    home = one.objects["service_entry"].namespace
    for viewer in case.viewers:
        merged = rule_for(case.view.rules, viewer, one.host, home)
        tls = merged.tls(one.tls_port) if merged else None
        if merged is None or tls is None or tls.get("mode") not in ("SIMPLE", "MUTUAL"):
            continue
        seen = title(merged.policy_from or merged.rules[0])
        remedy = "set rule_export_to to ['.'], so that only the gateway's namespace sees the rule"
        if viewer == one.gateway.namespace:
            remedy = "run clients in another namespace than the gateway"
        elif owner_of(merged.policy_from or merged.rules[0]) != one.owner:
            remedy = "delete that rule, or set its exportTo so that only gateways see it"
        credential = str(tls.get("credentialName") or "")
        originates = not credential or credential.startswith("configmap://") or merged.selector is not None
        if not originates:
            yield case.problem(
                "sidecars_send_plaintext",
                seen,
                f"{clients_of(viewer)} see it, and sidecars originate nothing for a rule with credentialName: past the gateway they send "
                "plaintext to a TLS port",
                remedy,
            )
        elif any(tls.get(option) for option in ("clientCertificate", "privateKey", "caCertificates")):
            yield case.problem(
                "sidecars_wait_for_files",
                seen,
                f"{clients_of(viewer)} see it, and every sidecar without its certificate files waits 15 s for them at start",
                remedy,
            )
        if originates and one.direct_tls:
            yield case.problem(
                "tls_inside_tls",
                seen,
                f"{clients_of(viewer)} see it, so their sidecars wrap the TLS that applications speak on port {one.tls_port} in TLS once more",
                remedy,
            )
