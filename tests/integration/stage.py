# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of objects as the unit tests have them, on a real API server: in namespaces and with gateways of their own, one set after the other."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ApiError, Cluster
from ansible_collections.meshops.istio.plugins.module_utils.objects import kinds
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import NAMESPACE, POD, SECRET, Kind, Ref, Resource, ref_of

Manifest = dict[str, Any]
PREFIX = "faults-"
SERVICE_ACCOUNT = Resource("", "v1", "serviceaccounts", "ServiceAccount")
_RESOURCES = {one.key: one for one in (*vars(kinds).values(), SERVICE_ACCOUNT) if isinstance(one, Resource)}
_GATEWAYS = ("ingressgateway", "egressgateway", "ingress")
_FIRST = {"Namespace": 0, "ServiceAccount": 1}
_A_SECOND = 1.1
"""Objects of one second have no age of their own: their names decide."""


_PATIENCE = 120.0


@dataclass
class Stage:
    """What the API server holds of a set. Only what changes from one set to the next is written."""

    cluster: Cluster
    kubectl: Callable[[str, Manifest], object]
    """Applies an object for the field manager that it is given as an option of kubectl."""
    held: dict[Ref, Manifest] = field(default_factory=dict)

    def wait_until_empty(self) -> None:
        """What an earlier run left is gone."""
        deadline = time.monotonic() + _PATIENCE
        while left := [one["metadata"]["name"] for one in self.cluster.list(NAMESPACE) if one["metadata"]["name"].startswith(PREFIX)]:
            assert time.monotonic() < deadline, f"these namespaces are not gone: {left}"
            for name in left:
                self.cluster.delete(NAMESPACE, "", name)
            time.sleep(0.5)

    def show(self, items: Iterable[Manifest]) -> str:
        """The API server holds these objects and no others of ours; the message of the refusal where it does not take one of them."""
        wanted = {ref_of(item): item for item in moved(items)}
        for ref in self._outdated(wanted):
            self._remove(ref)
        try:
            for position, wave in enumerate(_waves([item for ref, item in wanted.items() if self.held.get(ref) != item])):
                if position:
                    time.sleep(_A_SECOND)
                for item in wave:
                    self._apply(item)
        except ApiError as error:
            if error.status not in (400, 403, 422, 500):  # 500 is for what is of another form than its kind
                raise
            return str(error)
        return ""

    def _outdated(self, wanted: Mapping[Ref, Manifest]) -> list[Ref]:
        """What is to go first: what is wanted no more, what cannot be changed, and what would be older than it should be."""
        aged = {ref.key for ref, item in wanted.items() if ref not in self.held or _age(self.held[ref]) != _age(item)}
        several = {key for key in aged if len({_age(item) for ref, item in wanted.items() if ref.key == key}) > 1}
        fixed = (POD.key, SECRET.key)  # a Secret's parts may be of several managers
        return [
            ref
            for ref, item in self.held.items()
            if ref.key != NAMESPACE.key and (ref not in wanted or ref.key in several or (ref.key in fixed and wanted[ref] != item))
        ]

    def _apply(self, item: Manifest) -> None:
        metadata = {key: value for key, value in item["metadata"].items() if key not in ("creationTimestamp", "managedFields")}
        made = {**item, "metadata": metadata}
        managers = item["metadata"].get("managedFields")
        if not managers:
            self.cluster.apply(_RESOURCES[ref_of(item).key], made, force=True)
        for one in managers or ():
            keys = [field.removeprefix("f:") for field in one["fieldsV1"]["f:data"]]
            self.kubectl(f"--field-manager={one['manager']}", {**made, "data": {key: item["data"][key] for key in keys}})
        self.held[ref_of(item)] = item

    def _remove(self, ref: Ref) -> None:
        self.cluster.delete(_RESOURCES[ref.key], ref.namespace, ref.name)
        del self.held[ref]

    def clear(self) -> None:
        """Namespaces go with what is left in them, when the API server finds the time."""
        for ref in sorted(self.held, key=lambda ref: ref.key == NAMESPACE.key):
            self._remove(ref)


def _waves(items: Iterable[Manifest]) -> Iterator[list[Manifest]]:
    """In the order of their age, as far as objects of one kind differ in it; what others need first."""
    items = list(items)
    by_kind: dict[Kind, set[str]] = {}
    for item in items:
        by_kind.setdefault(ref_of(item).key, set()).add(_age(item))
    ages = sorted(set().union(*(found for found in by_kind.values() if len(found) > 1)))
    for age in ages or [""]:
        wave = [item for item in items if not ages or (_age(item) if _age(item) in ages else ages[0]) == age]
        yield sorted(wave, key=lambda item: (_FIRST.get(item["kind"], 2), item["metadata"]["name"]))


def _age(item: Manifest) -> str:
    return str(item["metadata"].get("creationTimestamp") or "9")


# --- a set of objects, moved to namespaces of its own


def moved(items: Iterable[Manifest]) -> list[Manifest]:
    """The objects in namespaces of their own, with labels that no other gateway has, and complete as the API server wants them."""
    items = [_placed(item) for item in items]
    homes = {str(item["metadata"].get("namespace") or "") for item in items} - {""}
    names = homes | {item["metadata"]["name"] for item in items if item["kind"] == "Namespace"}
    word = re.compile(rf"(?<![\w.-])({'|'.join(sorted(names, key=len, reverse=True))})(?![\w-])|(?<=\.)({'|'.join(names)})(?=\.svc\b)")
    found = [_complete(_renamed(item, word)) for item in items]
    made = {item["metadata"]["name"] for item in found if item["kind"] == "Namespace"}
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PREFIX + home}} for home in homes if PREFIX + home not in made]
    accounts = {
        (item["metadata"]["namespace"], item["spec"].get("serviceAccountName") or "default") for item in found if item["kind"] == "Pod"
    }
    identities = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": place, "name": name}} for place, name in sorted(accounts)
    ]
    return [*spaces, *identities, *found]


def _placed(item: Manifest) -> Manifest:
    if item["kind"] == "Namespace" or item["metadata"].get("namespace"):
        return item
    return {**item, "metadata": {**item["metadata"], "namespace": "default"}}


def _renamed(item: Manifest, word: re.Pattern[str]) -> Manifest:
    made = {key: value if key == "data" else _texts(value, word) for key, value in item.items()}
    return {**made, "apiVersion": item["apiVersion"], "kind": item["kind"]}


def _texts(value: Any, word: re.Pattern[str]) -> Any:
    if isinstance(value, dict):
        return {key: _texts(one, word) for key, one in value.items()}
    if isinstance(value, list):
        return [_texts(one, word) for one in value]
    if not isinstance(value, str):
        return value
    return PREFIX + value if value in _GATEWAYS else word.sub(lambda found: PREFIX + found[0], value)


def _complete(item: Manifest) -> Manifest:
    """With what the API server demands of a Pod or Service and no rule looks at."""
    if item["kind"] == "Service":
        ports = [
            {"name": f"port-{port['port']}", **port} if len(item["spec"]["ports"]) > 1 else port for port in item["spec"].get("ports") or ()
        ]
        return {**item, "spec": {**item["spec"], "ports": ports}}
    if item["kind"] != "Pod":
        return item
    spec = item["spec"]
    volumes = list(spec.get("volumes") or ())
    containers = []
    for one in spec["containers"]:
        mounts = [{"name": f"volume-{index}", **mount} for index, mount in enumerate(one.get("volumeMounts") or ())]
        volumes += [{"name": mount["name"], "emptyDir": {}} for mount in mounts if mount["name"] not in {one["name"] for one in volumes}]
        containers.append({"image": "none", **one, **({"volumeMounts": mounts} if mounts else {})})
    return {**item, "spec": {**spec, "containers": containers, **({"volumes": volumes} if volumes else {})}}
