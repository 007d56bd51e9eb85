# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What originations read of a cluster, with all rights and with few, and the plans that come of it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ApiError
from ansible_collections.meshops.istio.plugins.module_utils.cluster.cluster_dns import with_dns
from ansible_collections.meshops.istio.plugins.module_utils.cluster.egress import plan_absent, plan_present, read_live, take_snapshot
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.originations import check_set
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.view import MeshView
from ansible_collections.meshops.istio.plugins.module_utils.istio.egress import Origination
from ansible_collections.meshops.istio.plugins.module_utils.istio.egress_arguments import from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.egress_objects import manifests
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import (
    AUTHORIZATION_POLICY,
    NAMESPACE,
    POD,
    SECRET,
    SERVICE,
    SIDECAR,
    WORKLOAD_ENTRY,
    Resource,
)

NGINX: dict[str, Any] = {"name": "nginx", "host": "nginx.example.com", "credential_name": "client-credential"}


class Api:
    """An API server in memory: its objects, and what it forbids as (verb, plural, namespace; "" for the whole cluster)."""

    host = "https://api"

    def __init__(self, *objects: dict[str, Any], forbidden: tuple[tuple[str, str, str], ...] = (), may_list_secrets: bool = True) -> None:
        self.objects = objects
        self.forbidden = forbidden
        self.may_list_secrets = may_list_secrets
        self.asked: list[tuple[str, str, str]] = []

    def _ask(self, verb: str, resource: Resource, namespace: str) -> None:
        self.asked.append((verb, resource.plural, namespace))
        if (verb, resource.plural, namespace) in self.forbidden:
            message = f'{resource.plural} is forbidden: User "u" cannot {verb} resource "{resource.plural}"'
            raise ApiError(403, verb, resource, namespace, "", {"message": message}, self.host)

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        self._ask("get", resource, namespace)
        for item in self.objects:
            if (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]) == (resource.kind, namespace, name):
                return item
        return None

    def list(self, resource: Resource, namespace: str | None = None, *, label_selector: str = "") -> Iterator[dict[str, Any]]:
        self._ask("list", resource, namespace or "")
        wanted = dict(pair.split("=") for pair in label_selector.split(",") if pair)
        for item in self.objects:
            metadata = item["metadata"]
            if (
                item["kind"] == resource.kind
                and namespace in (None, metadata.get("namespace"))
                and wanted.items() <= metadata.get("labels", {}).items()
            ):
                yield {key: value for key, value in item.items() if key not in ("kind", "apiVersion")}

    def create(self, resource: Resource, manifest: dict[str, Any]) -> dict[str, Any]:
        self._ask("create", resource, "")
        assert manifest["spec"]["resourceAttributes"] == {"namespace": "istio-system", "verb": "list", "resource": "secrets"}
        return {"status": {"allowed": self.may_list_secrets}}


def one(**changes: Any) -> Origination:
    (made,) = from_arguments({**NGINX, **changes})
    return made


def made_of(origination: Origination) -> list[dict[str, Any]]:
    """The objects as they are after an apply."""
    return [
        {**made, "metadata": {**made["metadata"], "managedFields": [{"manager": "meshops.istio", "fieldsV1": {}}]}}
        for made in manifests(origination)
    ]


def pod(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "istio-system", "labels": {"istio": "egressgateway"}},
        "spec": {"serviceAccountName": "egress", **spec},
        "status": {"phase": "Running"},
    }


EGRESS_SERVICE = {
    "kind": "Service",
    "metadata": {"name": "istio-egressgateway", "namespace": "istio-system"},
    "spec": {"ports": [{"port": 443}]},
}
CREDENTIAL = {
    "kind": "Secret",
    "metadata": {"name": "client-credential", "namespace": "istio-system"},
    "data": {"tls.crt": base64.b64encode(b"x").decode(), "tls.key": ""},
}
FOREIGN = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "egress-nginx", "namespace": "istio-system"},
    "spec": {},
}


def test_one_list_of_each_kind() -> None:
    api = Api(*made_of(one()))
    live = read_live(api, [one(name=f"n{i}", host=f"n{i}.example.com") for i in range(20)])  # type: ignore[arg-type]
    kinds = ("destinationrules", "gateways", "networkpolicies", "serviceentries", "virtualservices")
    assert sorted(api.asked) == [("list", kind, "") for kind in kinds]
    assert len(live.objects) == 5
    assert live.unread == []


def test_with_fewer_rights_less_is_seen_and_that_is_said() -> None:
    elsewhere = {**FOREIGN, "metadata": {"name": "other", "namespace": "shop"}}
    beside = {**FOREIGN, "metadata": {"name": "beside", "namespace": "istio-system"}}
    objects = (*made_of(one()), elsewhere, beside)
    api = Api(*objects, forbidden=(("list", "gateways", ""),))
    live = read_live(api, [one()])  # type: ignore[arg-type]
    assert {item["metadata"]["name"] for item in live.of("Gateway")} == {"egress-nginx", "beside"}
    assert live.unread == ["gateways of other namespaces than istio-system (this user may not list those of the whole cluster)"]
    api = Api(*objects, forbidden=(("list", "gateways", ""), ("list", "gateways", "istio-system")))
    live = read_live(api, [one()])  # type: ignore[arg-type]
    assert [item["metadata"]["name"] for item in live.of("Gateway")] == ["egress-nginx"]
    assert ("get", "gateways", "istio-system") in api.asked
    assert live.unread[1] == "gateways in istio-system but those named by this call (this user may not list them)"
    with pytest.raises(ApiError):
        read_live(Api(*objects, forbidden=(*api.forbidden, ("get", "gateways", "istio-system"))), [one()])  # type: ignore[arg-type]


def test_snapshot() -> None:
    mounts = [{"mountPath": "/etc/c"}]
    machine = {
        "kind": "WorkloadEntry",
        "metadata": {"name": "machine", "namespace": "istio-system"},
        "spec": {"labels": {"istio": "egressgateway"}, "serviceAccount": "vm"},
    }
    api = Api(
        EGRESS_SERVICE,
        CREDENTIAL,
        pod(
            "running",
            containers=[{"name": "istio-proxy", "volumeMounts": mounts}, {"name": "sidekick", "volumeMounts": [{"mountPath": "/x"}]}],
        ),
        {**pod("done"), "status": {"phase": "Succeeded"}},
        machine,
        {**machine, "metadata": {"name": "other", "namespace": "istio-system"}, "spec": {"labels": {"istio": "ingressgateway"}}},
    )
    snapshot = take_snapshot(api, [one()], read_live(api, [one()]))  # type: ignore[arg-type]
    pods = [item["metadata"]["name"] for kind in (POD, WORKLOAD_ENTRY) for item in snapshot.of(kind)]
    assert sorted(pods) == ["done", "machine", "running"]
    assert snapshot.knows(POD, "istio-system") and not snapshot.knows(POD, "shop")
    assert [item["metadata"]["name"] for item in snapshot.of(SERVICE)] == ["istio-egressgateway"]
    assert snapshot.get(SECRET, "istio-system", "client-credential") == CREDENTIAL
    assert snapshot.knows(SECRET, "istio-system", "client-credential-cacert")
    assert snapshot.get(SECRET, "istio-system", "client-credential-cacert") is None
    assert snapshot.may_list_secrets == {("istio-system", "egress"): True, ("istio-system", "vm"): True}
    assert "tls.crt" not in repr(snapshot)


def test_snapshot_without_rights() -> None:
    forbidden = (
        ("get", "services", "istio-system"),
        ("get", "secrets", "istio-system"),
        ("list", "pods", "istio-system"),
        ("create", "subjectaccessreviews", ""),
    )
    api = Api(EGRESS_SERVICE, CREDENTIAL, pod("running"), forbidden=forbidden)
    snapshot = take_snapshot(api, [one()], read_live(api, [one()]))  # type: ignore[arg-type]
    known = [snapshot.knows(kind, "istio-system", name) for kind, name in ((SERVICE, "istio-egressgateway"), (SECRET, "client-credential"))]
    assert known == [False, False] and not snapshot.knows(POD, "istio-system")
    assert snapshot.may_list_secrets == {} and not snapshot.of(SECRET)


def thing(kind: str, name: str, namespace: str | None = None, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, **({"namespace": namespace} if namespace else {})}, **more}


AROUND = (
    thing("Namespace", "shop"),
    thing("Namespace", "istio-system"),
    thing("ConfigMap", "istio", "istio-system", data={"mesh": "discoverySelectors:\n- matchLabels: {a: b}\n"}),
    thing("Sidecar", "narrow", "shop"),
    thing("Sidecar", "another's", "elsewhere"),
    thing("AuthorizationPolicy", "deny", "istio-system"),
    thing("AuthorizationPolicy", "another's", "shop"),
)


def test_snapshot_of_what_is_around() -> None:
    api = Api(EGRESS_SERVICE, pod("running"), *AROUND)
    clients = one(client_namespaces=["shop", "gone"])
    snapshot = take_snapshot(api, [clients], read_live(api, [clients]))  # type: ignore[arg-type]
    assert [item["metadata"]["name"] for item in snapshot.of(NAMESPACE)] == ["istio-system", "shop"]
    assert snapshot.knows(NAMESPACE, "", "gone") and not snapshot.knows(NAMESPACE, "", "elsewhere")
    assert snapshot.mesh == {"discoverySelectors": [{"matchLabels": {"a": "b"}}]}
    assert [item["metadata"]["name"] for item in snapshot.of(SIDECAR)] == ["narrow"]
    assert [item["metadata"]["name"] for item in snapshot.of(AUTHORIZATION_POLICY)] == ["deny"]
    view = MeshView(snapshot)
    assert [view.has_proxies(place) for place in ("shop", "gone", "elsewhere")] == [False, False, None]


@pytest.mark.parametrize(
    "proxy",
    [
        thing("Pod", "app", "shop", spec={"containers": [{"name": "app"}, {"name": "istio-proxy"}]}),
        thing(
            "Pod",
            "app",
            "shop",
            spec={"containers": [{"name": "app"}], "initContainers": [{"name": "istio-proxy", "restartPolicy": "Always"}]},
        ),
        thing("WorkloadEntry", "machine", "shop", spec={}),
    ],
)
def test_proxies_without_a_label_of_the_namespace(proxy: dict[str, Any]) -> None:
    api = Api(EGRESS_SERVICE, *AROUND, proxy)
    clients = one(client_namespaces=["shop"])
    assert MeshView(take_snapshot(api, [clients], read_live(api, [clients]))).has_proxies("shop") is True  # type: ignore[arg-type]


def test_snapshot_of_what_is_around_without_rights() -> None:
    places = [("list", kind, place) for kind in ("sidecars", "authorizationpolicies", "pods") for place in ("", "shop", "istio-system")]
    api = Api(EGRESS_SERVICE, *AROUND, forbidden=(*places, ("get", "namespaces", ""), ("get", "configmaps", "istio-system")))
    clients = one(client_namespaces=["shop"])
    snapshot = take_snapshot(api, [clients], read_live(api, [clients]))  # type: ignore[arg-type]
    assert snapshot.mesh is None
    assert not any(kind.key in snapshot.read for kind in (NAMESPACE, SIDECAR, AUTHORIZATION_POLICY))
    assert MeshView(snapshot).has_proxies("shop") is None
    notes = check_set([clients], snapshot).notes
    assert "not read: pods and WorkloadEntries in shop (whether they have sidecars)" not in notes  # its labels are unknown, too
    assert any(note.startswith("Namespaces were not read") for note in notes)


def test_nobody_is_asked_about_rights_that_do_not_matter() -> None:
    api = Api(EGRESS_SERVICE, pod("running"))
    simple = one(mode="SIMPLE", credential_name=None)
    take_snapshot(api, [simple], read_live(api, [simple]))  # type: ignore[arg-type]
    assert not [asked for asked in api.asked if asked[1] in ("subjectaccessreviews", "secrets")]


def present(origination: Origination, api: Api, *, prune: bool = True, force: bool = False) -> list[tuple[str, str, str]]:
    live = read_live(api, [origination])  # type: ignore[arg-type]
    unit = plan_present(origination, live, labels={}, annotations={}, force=force, prune=prune)
    return [(plan.action, plan.ref.kind, plan.ref.name) for plan in unit.plans if plan.changed]


def test_plans() -> None:
    assert [kind for __, kind, __ in present(one(), Api())] == [
        "DestinationRule",
        "DestinationRule",
        "Gateway",
        "ServiceEntry",
        "VirtualService",
    ]
    assert present(one(), Api(*made_of(one()))) == []
    changed = present(one(credential_name="other"), Api(*made_of(one())))
    assert changed == [("updated", "DestinationRule", "originate-mtls-for-nginx")]


def test_what_a_service_no_longer_has_is_deleted_last() -> None:
    before = one(direct_tls=True, namespace="old", client_namespaces=["shop"])
    closed = one(prevent_bypass=True, namespace="old", client_namespaces=["shop"])
    api = Api(*made_of(before), *[made for made in made_of(closed) if made["kind"] == "NetworkPolicy"])
    now = one(namespace="old", client_namespaces=["shop"])
    assert present(now, api) == [
        ("deleted", "NetworkPolicy", "nginx-only-through-egress-gateway"),
        ("deleted", "VirtualService", "nginx"),
    ]
    assert present(now, api, prune=False) == []


def test_absent_removes_exactly_what_was_made_in_the_reverse_order() -> None:
    everything = one(direct_tls=True)
    (gone,) = from_arguments({"name": "nginx", "state": "absent"})
    neighbour = made_of(one(name="other", host="other.example.com"))
    notes: list[str] = []
    api = Api(*made_of(everything), *neighbour)
    unit = plan_absent(gone, read_live(api, [gone]), force=False, notes=notes)  # type: ignore[arg-type]
    names = [made["metadata"]["name"] for made in manifests(everything)]
    assert [plan.ref.name for plan in unit.plans] == names[::-1]
    assert notes == []


def test_absent_leaves_what_something_else_made() -> None:
    (gone,) = from_arguments({"name": "nginx", "state": "absent"})
    notes: list[str] = []
    api = Api(FOREIGN)
    live = read_live(api, [gone])  # type: ignore[arg-type]
    assert plan_absent(gone, live, force=False, notes=notes).plans == ()
    assert notes == ["Gateway istio-system/egress-nginx was not made for this service and stays"]
    (plan,) = plan_absent(gone, live, force=True, notes=notes).plans
    assert (plan.action, plan.problems) == ("deleted", ())


# --- the DNS that prevent_bypass lets through


def dns_rules(*objects: dict[str, Any], forbidden: tuple[tuple[str, str, str], ...] = (), **more: Any) -> tuple[list[Any], list[str]]:
    """The policy's rules for the DNS, and the notes."""
    notes: list[str] = []
    closed = one(client_namespaces=["shop"], prevent_bypass=True, **more)
    (found,) = with_dns(Api(*objects, forbidden=forbidden), [closed], notes)  # type: ignore[arg-type]
    (policy,) = [made for made in manifests(found) if made["kind"] == "NetworkPolicy"]
    rules = policy["spec"]["egress"][:-2]  # the last two are istiod's and the gateway's
    return [[(port["protocol"], port["port"]) for port in rule["ports"]] for rule in rules], notes


KUBE_DNS = thing(
    "Service",
    "kube-dns",
    "kube-system",
    spec={"selector": {"k8s-app": "kube-dns"}, "ports": [{"port": 53, "protocol": "UDP", "targetPort": 5353}]},
)
CACHE = thing("DaemonSet", "node-local-dns", "kube-system", spec={})
BOTH = [("UDP", 53), ("TCP", 53)]


def test_dns_as_it_is() -> None:
    assert dns_rules(KUBE_DNS) == ([[("UDP", 5353)]], [])
    assert dns_rules() == ([BOTH], [])
    assert dns_rules(KUBE_DNS, dns={"port": 8053}) == ([[("UDP", 8053), ("TCP", 8053)]], [])
    assert dns_rules(KUBE_DNS, CACHE) == ([[("UDP", 5353)], BOTH], [])
    assert dns_rules(KUBE_DNS, CACHE, forbidden=(("get", "configmaps", "kube-system"),)) == ([[("UDP", 5353)], BOTH], [])


def test_dns_without_rights() -> None:
    forbidden = (("list", "services", "kube-system"), ("get", "daemonsets", "kube-system"), ("get", "configmaps", "kube-system"))
    (ports,), notes = dns_rules(KUBE_DNS, CACHE, forbidden=forbidden)
    assert {("UDP", 53), ("TCP", 53), ("UDP", 5353), ("TCP", 5353), ("UDP", 8053), ("TCP", 8053)} == set(ports)
    assert [note.split(" ")[0] for note in notes] == ["services", "whether"]


def test_dns_is_read_only_for_prevent_bypass() -> None:
    api = Api(KUBE_DNS, CACHE)
    assert with_dns(api, [one()], []) == (one(),)  # type: ignore[arg-type]
    assert api.asked == []


def test_the_cache_is_let_through_by_its_address() -> None:
    closed = one(client_namespaces=["shop"], prevent_bypass=True)
    (found,) = with_dns(Api(CACHE), [closed], [])  # type: ignore[arg-type]
    (policy,) = [made for made in manifests(found) if made["kind"] == "NetworkPolicy"]
    assert policy["spec"]["egress"][1]["to"] == [{"ipBlock": {"cidr": "169.254.20.10/32"}}]
