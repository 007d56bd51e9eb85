# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether gateways get the credentials that Gateways and DestinationRules name: where istiod looks, what it needs there, and who may. Pure.

Secrets and references are judged here once, for ingress and egress, Istio's Gateways and the Gateway API's.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..istio.credential import decode, read_as_istiod
from ..istio.keepers import CERT_MANAGER, keepers
from ..istio.names import CA_SUFFIX
from ..istio.reference import namespace_problems, parse_reference
from ..istio.reference_grants import grant_problems, named_in
from ..istio.usage import Use
from ..objects.compare import owners
from ..objects.kinds import (
    DESTINATION_RULE,
    GATEWAY,
    GATEWAY_API,
    POD,
    REFERENCE_GRANT,
    SECRET,
    Manifest,
    Ref,
    ref_of,
)
from ..problems import Rejected
from ..tls import material
from ..tls.paths import names_match
from .listeners import field_of, from_problems
from .readings import mounted_secrets, spec_of
from .rule import Found, Rule
from .view import MeshView

_PAIR = "tls.crt and tls.key (or cert and key)"
_CA = "ca.crt (or cacert)"
_NOT_FOR_GATEWAYS = ("istio.io/ca-root", "istio.io/key-and-cert", "helm.sh/release.v1")


def use_ref(use: Use) -> Ref:
    return Ref(use.kind, use.namespace, use.name, use.group)


def places_of(view: MeshView, use: Use) -> tuple[str, ...]:
    """The namespaces in which istiod looks."""
    return (use.lookup.namespace,) if use.lookup.namespace else view.homes_of(use_ref(use))


def secrets(view: MeshView) -> Iterator[Found]:
    told: set[tuple[str, ...]] = set()
    for use in view.uses:
        lookup = use.lookup
        for place in places_of(view, use):
            if not all(view.knows_credential(lookup.kind, place, name) for name in lookup.names):
                continue
            name = next((name for name in lookup.names if view.credential(lookup.kind, place, name) is not None), None)
            if name is None:
                key = ("missing", str(use_ref(use)), use.field.rpartition(".")[0], place, lookup.names[-1])
                if key not in told:
                    told.add(key)
                    yield _missing(view, use, place)
            else:
                yield from _incomplete(view, use, place, name)


def _missing(view: MeshView, use: Use, place: str) -> Found:
    lookup = use.lookup
    name = lookup.names[-1]
    elsewhere = [one for one in view.namespaces_with(lookup.kind, name) if one != place]
    seen = f"; there is one in {', '.join(elsewhere[:3])}, which istiod does not serve to this gateway" if elsewhere else ""
    remedy = f"create it in {place} first (meshops.istio.istio_tls_credential)"
    if use.namespace in elsewhere:
        remedy = f"move the one in {use.namespace} there: istiod looks where the workloads run, not where the {use.kind} object is"
    home = "" if lookup.namespace else ", where the gateway's pods run"
    names = " or ".join(dict.fromkeys(lookup.names)) if lookup.role == "ca" else name
    return Found(
        "credential_missing",
        use_ref(use),
        use.field,
        f"expected {lookup.kind} {names} in {place}{home}, found none{seen}: {_effect(use)}",
        remedy,
        cause=f"{lookup.kind} {place}/{name}",
    )


def _effect(use: Use) -> str:
    lookup = use.lookup
    if use.kind == "BackendTLSPolicy":
        return "istiod blocks what goes to the backend"
    if use.group == GATEWAY_API:
        return "istiod closes the listener"
    if use.kind == "DestinationRule":
        return "the gateway answers 503, and one that starts meanwhile waits 15 s for it"
    if lookup.role == "pair":
        return "handshakes will be reset until it exists"
    if lookup.kind == "ConfigMap":
        return "every client will be refused until it exists"
    return "there is no CA to verify clients with, and handshakes will be reset"


def data_of(kind: str, item: Manifest) -> dict[str, bytes]:
    """What a Secret or a ConfigMap holds."""
    return {key: value.encode() for key, value in (item.get("data") or {}).items()} if kind == "ConfigMap" else decode(item)


def _incomplete(view: MeshView, use: Use, place: str, name: str) -> Iterator[Found]:
    lookup = use.lookup
    item = view.credential(lookup.kind, place, name) or {}
    data = data_of(lookup.kind, item)
    reading = read_as_istiod(data)
    keys = ", ".join(sorted(key for key, value in data.items() if value)) or "no keys"
    cause = f"{lookup.kind} {place}/{name}"
    secret = (view.ref_of_credential(lookup.kind, place, name),)
    if lookup.role == "pair" and not (reading.certificate and reading.private_key):
        use_case = "put the client certificate with its key there" if use.kind == "DestinationRule" else "store them under these names"
        yield Found(
            "credential_without_pair",
            use_ref(use),
            use.field,
            f"expected {_PAIR} in {cause}, found {keys}",
            use_case + undone_by(item),
            others=secret,
            cause=cause,
        )
    if lookup.role == "ca" and not reading.ca_certificate:
        issued = " (cert-manager writes ca.crt only where the issuer gives one; ACME issuers give none)" if _from_cert_manager(item) else ""
        what = "the CA that issued the server's certificate, a public one included" if use.kind == "DestinationRule" else "the clients' CA"
        effect = "istiod cannot supply the CA and the gateway answers 503" if use.kind == "DestinationRule" else "no client can be verified"
        ca_secret = lookup.names[0] if lookup.names[0].endswith(CA_SUFFIX) else name + CA_SUFFIX
        remedy = f"add {what}" + (f", in a Secret {ca_secret} of its own" if issued else undone_by(item))
        yield Found(
            "credential_without_ca",
            use_ref(use),
            use.field,
            f"expected {_CA} in {cause}, found {keys}{issued}: {effect}",
            remedy,
            others=secret,
            cause=cause,
        )


def undone_by(secret: Manifest | None) -> str:
    """Who else keeps a Secret and undoes a change of it, to be put behind a remedy; empty where nobody does."""
    managers = {name for path, names in owners(secret or {}) if path[:1] == ("data",) for name in names}
    keeper = next(iter(keepers(secret, managers)), None)
    if keeper is None:
        return ""
    return f"; {keeper.tool} keeps this Secret ({keeper.source}) and undoes a change {keeper.undoes}: {keeper.remedy}"


def _from_cert_manager(item: Manifest) -> bool:
    return any(keeper.tool == CERT_MANAGER for keeper in keepers(item))


# --- references


def references(view: MeshView) -> Iterator[Found]:
    for one in view.listeners:
        texts = [(one.tls.get("credentialName"), "credentialName"), (one.tls.get("caCertCredentialName"), "caCertCredentialName")]
        texts += [(text, f"credentialNames[{index}]") for index, text in enumerate(one.tls.get("credentialNames") or ())]
        homes = view.home_of(one.selector)
        for text, name in texts if one.mode in ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL") else ():
            yield from _reference(one.gateway, f"{one.field}.tls.{name}", text, homes)
    for tls in view.client_tls:
        yield from _reference(tls.rule, f"{tls.field}.credentialName", tls.credential, view.homes_of(tls.rule))


def _reference(ref: Ref, field: str, text: object, homes: tuple[str, ...]) -> Iterator[Found]:
    if not text or not homes:
        return
    try:
        problems = namespace_problems(parse_reference(str(text), field), field, homes)
    except Rejected as rejected:
        problems = rejected.problems
    for problem in problems:
        yield Found(problem.code, ref, field, problem.message, problem.remedy)


def grants(view: MeshView) -> Iterator[Found]:
    for gateway in view.gateways:
        named = list(named_in(gateway, field_of))
        homes = view.home_of(spec_of(gateway).get("selector") or {})
        known = all(view.snapshot.knows(REFERENCE_GRANT, one.namespace) for one in named)
        found = grant_problems(named, gateway["metadata"].get("namespace", ""), homes, view.snapshot.of(REFERENCE_GRANT) if known else None)
        yield from from_problems(found, gateway)


def rights(view: MeshView) -> Iterator[Found]:
    """istiod reviews access to Secrets that hold a key; those with a CA alone it gives to every proxy of the namespace."""
    told: set[tuple[Ref, tuple[str, str]]] = set()
    for use in view.uses:
        if use.lookup.role != "pair" or use.lookup.kind != "Secret" or use.group == GATEWAY_API or view.is_by_grant(use):
            continue
        for account in view.accounts_of(use_ref(use)):
            if (use_ref(use), account) not in told and view.may_list_secrets(account) is False:
                told.add((use_ref(use), account))
                yield Found(
                    "gateway_may_not_list_secrets",
                    use_ref(use),
                    use.field,
                    f"the gateway's service account {'/'.join(account)} may not list Secrets in {account[0]}, so istiod will not serve it the credential",
                    f"bind a Role with the verbs get, list and watch on secrets in {account[0]} to it (Istio's gateway charts do)",
                    cause="/".join(account),
                )


def unused(view: MeshView) -> Iterator[Found]:
    """Pairs beside gateways that nothing names, and no pod mounts."""
    if not all(view.snapshot.coverage(kind).everywhere for kind in (GATEWAY, DESTINATION_RULE, POD)):
        return
    used = {(place, name) for use in view.uses for place in places_of(view, use) for name in use.lookup.names}
    mounted = mounted_secrets(view.snapshot.of(POD))
    for secret in view.snapshot.of(SECRET):
        ref = ref_of(secret)
        if ref.namespace not in view.gateway_namespaces or (ref.namespace, ref.name) in used or ref.name in mounted:
            continue
        if read_as_istiod(decode(secret)).private_key and secret.get("type") not in _NOT_FOR_GATEWAYS:
            yield Found(
                "credential_unused",
                ref,
                "",
                "the Secret holds a certificate with its key beside gateways, and no Gateway, ListenerSet or DestinationRule names it",
                f"delete it where nobody needs it: kubectl delete secret {ref.name} --namespace {ref.namespace}",
            )


# --- CAs beside cert-manager's certificates


def client_cas(view: MeshView) -> Iterator[Found]:
    """ca.crt in a Secret of cert-manager's is the CA of the server's certificate: it is rarely meant as the clients'."""
    for use in view.uses:
        if use.lookup.role != "ca" or use.lookup.kind != "Secret" or use.kind == "DestinationRule":
            continue
        for place in places_of(view, use):
            name = next((name for name in use.lookup.names if view.credential("Secret", place, name) is not None), None)
            item = view.credential("Secret", place, name) if name else None
            if item is None or not _from_cert_manager(item) or read_as_istiod(decode(item)).ca_certificate is None:
                continue
            if _is_patched(item):
                yield _client_ca("client_ca_patched", use, ref_of(item), str(name))
            elif read_as_istiod(decode(item)).certificate is not None:
                yield _client_ca("client_ca_of_server", use, ref_of(item), str(name))


def _client_ca(code: str, use: Use, secret: Ref, name: str) -> Found:
    message = (
        f"the clients' CA is in {secret}, which cert-manager keeps: it will write its own ca.crt there at the next renewal"
        if code == "client_ca_patched"
        else f"clients are verified with ca.crt of {secret}, which cert-manager made: that is the CA that issued the server's certificate, so "
        "whoever has a certificate of it is let in, and nobody else"
    )
    remedy = f"put the clients' CA into a Secret {name.removesuffix(CA_SUFFIX)}{CA_SUFFIX}, which istiod reads first and cert-manager leaves alone"
    return Found(code, use_ref(use), use.field, message, remedy, others=(secret,), cause=str(secret))


def _is_patched(secret: Manifest) -> bool:
    """Whether something else than cert-manager set the CA: by the field managers, else by what the CA has issued."""
    managers = {name for path, names in owners(secret) if path == ("data", "ca.crt") for name in names}
    if managers:
        return not any(name.startswith("cert-manager") for name in managers)
    reading = read_as_istiod(decode(secret))
    try:
        chain = material.read_chain(reading.certificate or b"", where="") if reading.certificate else ()
        cas = material.read_cas(reading.ca_certificate or b"", where="")
    except Rejected:
        return False
    return bool(chain) and not any(names_match(issued, ca) for issued in chain for ca in cas)


RULES = (
    Rule(
        "MIT0101",
        "credential_missing",
        "error",
        "A credential is not where istiod looks for it",
        "istiod looks for a credential in the namespace of the gateway's pods, not in that of the Gateway or DestinationRule. Without it a "
        "server resets every handshake, and an originating gateway answers 503; a gateway pod that starts waits 15 s for it.",
        "Create the Secret in the namespace of the gateway's pods (meshops.istio.istio_tls_credential), or move it there.",
        secrets,
        (SECRET,),
        may_come=True,
    ),
    Rule(
        "MIT0102",
        "credential_without_pair",
        "error",
        "A credential has no certificate with its key",
        "istiod reads cert and key, else tls.crt and tls.key, and both must be there and not empty.",
        "Store certificate and key under these names (meshops.istio.istio_tls_credential).",
        secrets,
        (SECRET,),
        may_come=True,
    ),
    Rule(
        "MIT0103",
        "credential_without_ca",
        "error",
        "A credential has no CA where one is needed",
        "For MUTUAL, istiod takes the CA from X-cacert if there is such a Secret, else from X, and does not go on to X if X-cacert has none. "
        "Without a CA a server verifies no client, and an originating gateway answers 503 (not supplied by SDS).",
        "Store the CA as ca.crt (or cacert) in the credential, or in a Secret whose name ends in -cacert.",
        secrets,
        (SECRET,),
        may_come=True,
    ),
    Rule(
        "MIT0104",
        "credential_in_other_namespace",
        "error",
        "A reference names a Secret of another namespace",
        "istiod serves a Secret only to proxies of its own namespace, whatever the reference says.",
        "Put the Secret into the namespace of the gateway's pods and name it without a namespace.",
        references,
        (GATEWAY, POD),
    ),
    Rule(
        "MIT0105",
        "credential_name",
        "error",
        "istiod cannot read a credential's name",
        "The reference has a form or scheme that istiod does not know, and it serves nothing for it.",
        "Use a Secret's name, or kubernetes-gateway://, configmap:// (for a CA), builtin:// or sds://.",
        references,
        (GATEWAY,),
    ),
    Rule(
        "MIT0106",
        "credential_never_valid",
        "error",
        "A credential is marked as never valid",
        "istiod itself writes invalid:// for references that it refused.",
        "Name the Secret that holds the certificate.",
        references,
        (GATEWAY,),
    ),
    Rule(
        "MIT0107",
        "gateway_may_not_list_secrets",
        "error",
        "The gateway's service account may not list Secrets",
        "Before istiod serves a credential with a key, it asks whether the proxy's service account may list Secrets in its namespace "
        "(SubjectAccessReview). If not, the proxy gets none.",
        "Bind a Role with get, list and watch on secrets in the gateway's namespace to its service account.",
        rights,
        (POD,),
    ),
    Rule(
        "MIT0108",
        "reference_not_granted",
        "error",
        "A kubernetes-gateway:// reference has no ReferenceGrant",
        "A Secret of another namespace is served only where a ReferenceGrant beside it lets Gateways of the Gateway's namespace use it.",
        "Make the ReferenceGrant, and then change the Gateway: a grant that comes later counts only after the next change of both.",
        grants,
        (GATEWAY, POD, REFERENCE_GRANT),
        may_come=True,
    ),
    Rule(
        "MIT0109",
        "ca_not_served",
        "error",
        "istiod serves the pair, but not the CA",
        "For a kubernetes-gateway:// reference with OPTIONAL_MUTUAL istiod does not serve the CA beside the pair.",
        "Name the CA by itself (caCertCredentialName), or use mode MUTUAL.",
        grants,
        (GATEWAY, POD),
    ),
    Rule(
        "MIT0112",
        "credential_unused",
        "hint",
        "Nothing uses a credential",
        "A Secret with a pair is beside gateways, and nothing refers to it: a private key that is kept for nothing, or a name that was misspelt.",
        "Delete it, or correct the reference.",
        unused,
        (SECRET, GATEWAY, DESTINATION_RULE, POD),
    ),
    Rule(
        "MIT0110",
        "client_ca_of_server",
        "warning",
        "Clients are verified with the CA of the server's certificate",
        "cert-manager writes the issuer's CA to ca.crt. As the CA for clients it lets in whoever has a certificate of that issuer, and nobody "
        "else.",
        "Put the clients' CA into a Secret whose name ends in -cacert, which istiod reads first.",
        client_cas,
        (SECRET,),
    ),
    Rule(
        "MIT0111",
        "client_ca_patched",
        "warning",
        "The clients' CA is in a Secret that cert-manager will write again",
        "A ca.crt that was added by hand is lost at the next renewal, and then the wrong clients are let in, or none.",
        "Put the clients' CA into a Secret whose name ends in -cacert, which cert-manager leaves alone.",
        client_cas,
        (SECRET,),
    ),
)
