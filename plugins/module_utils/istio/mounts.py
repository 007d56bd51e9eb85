# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets mounted into a gateway's Deployment: from what is asked for and the live Deployment to a manifest and to problems. Pure.

A Deployment belongs to others (istioctl, Helm, istiod), so the manifest holds our volumes and mounts and nothing else. Volumes and mounts
are lists that server-side apply merges by name and by path. Their owners, recorded by the API server, tell which of them are ours: what an
earlier call made stays, unless it is asked to go, although an apply removes what its manager no longer asks for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..problems import Problem, Rejected
from ..tls.material import fingerprint as fingerprint_of
from ..tls.pem import CERTIFICATE_LABELS, CRL_LABELS, PRIVATE_KEY_LABELS, scan

Manifest = Mapping[str, Any]
Place: TypeAlias = "tuple[str, str]"
"""A mount: its container and its path."""
Action = Literal["created", "updated", "deleted", "unchanged"]

PROXY_CONTAINER = "istio-proxy"
MAY_COME = ("deployment_missing", "secret_missing", "secret_key_missing")
"""Codes of what an earlier task of the same play may be about to make."""

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_OBJECT_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_OCTAL = re.compile(r"0?o?([0-7]{3})")
_SHA256 = re.compile(r"\\?([0-9a-f]{64}) [ *](.+)")

_NOTHING: Manifest = {"f:": {}}
"""Managed fields that name no part."""

# What istiod's injector adds to a gateway's pod, where the Deployment does not show it. A volume of the same name is merged into the
# injector's, a mount at the same path displaces it: manifests/charts/istio-control/istio-discovery/files/gateway-injection-template.yaml
_INJECTED = {
    "workload-socket": "/var/run/secrets/workload-spiffe-uds",
    "credential-socket": "/var/run/secrets/credential-uds",
    "workload-certs": "/var/run/secrets/workload-spiffe-credentials",
    "gke-workload-certificate": "/var/run/secrets/workload-spiffe-credentials",
    "istiod-ca-cert": "/var/run/secrets/istio",
    "istio-data": "/var/lib/istio/data",
    "istio-envoy": "/etc/istio/proxy",
    "istio-token": "/var/run/secrets/tokens",
    "istio-podinfo": "/etc/istio/pod",
    "istio-certs": "/etc/certs",
    "custom-bootstrap-volume": "/etc/istio/custom-bootstrap",
}
_INJECTED_BY_KUBERNETES = "/var/run/secrets/kubernetes.io/serviceaccount"
# What a proxy's image needs to run: its programs, libraries and templates, and the system's CA certificates.
_IMAGE = (
    *("/bin", "/dev", "/etc/ssl/certs", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr/bin", "/usr/lib", "/usr/local/bin"),
    *("/usr/share/ca-certificates", "/var/lib/istio/envoy"),
)


@dataclass(frozen=True)
class Mount:
    """One Secret as a directory of files, one for each of its keys."""

    path: str
    secret: str
    volume: str
    where: str
    """The argument that asks for it, for error messages."""
    named: bool = False
    """Whether the volume's name was asked for, and not made from the Secret's."""
    keys: tuple[str, ...] = ()
    """Keys that the Secret must have."""
    optional: bool = False
    """Whether the pods may start without the Secret."""
    mode: int | None = None
    """Permission bits of the files; Kubernetes' 0644 by default."""


@dataclass(frozen=True)
class Request:
    """What a module's arguments ask for."""

    mounts: tuple[Mount, ...]
    container: str
    absent: bool = False
    prune: bool = False
    force: bool = False


@dataclass(frozen=True)
class Planned:
    """One mount, and what becomes of it."""

    path: str
    secret: str
    volume: str
    container: str
    action: Action

    def as_result(self) -> dict[str, str]:
        return {"path": self.path, "secret": self.secret, "volume": self.volume, "container": self.container, "action": self.action}


@dataclass(frozen=True)
class Change:
    """What to apply, and what that means."""

    manifest: dict[str, Any]
    mounts: tuple[Planned, ...]
    notes: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        words = {"created": "is not mounted", "updated": "is mounted differently", "deleted": "is no longer wanted"}
        return tuple(f"{one.path} {words[one.action]}" for one in self.mounts if one.action != "unchanged")


# --- arguments


def from_arguments(params: Mapping[str, Any]) -> Request:
    """What the arguments `mounts`, `container`, `state`, `prune` and `force_conflicts` ask for; raises Rejected with every problem."""
    absent = params.get("state") == "absent"
    problems: list[Problem] = []
    given = params.get("mounts")
    if given is None and not absent:
        problems.append(
            Problem("mounts_missing", "mounts", "expected the Secrets to mount, found nothing", "name at least a secret and a path")
        )
    mounts = tuple(_mount(item, f"mounts[{number}]", absent, problems) for number, item in enumerate(given or ()))
    problems += _twice(mounts)
    if problems:
        raise Rejected(problems)
    return Request(
        mounts, params.get("container") or PROXY_CONTAINER, absent, bool(params.get("prune")), bool(params.get("force_conflicts"))
    )


def _mount(item: Mapping[str, Any], where: str, absent: bool, problems: list[Problem]) -> Mount:
    path, secret = item.get("path") or "", item.get("secret") or ""
    where = f"{where} ({path})" if path else where
    clean = "/" + "/".join(part for part in path.split("/") if part)
    if not path.startswith("/") or ":" in path or "\0" in path or "\n" in path or {".", ".."} & set(path.split("/")) or clean == "/":
        problems.append(
            Problem(
                "mount_path_invalid",
                where,
                f"expected an absolute path of a directory, without ':', '.' and '..', found {path!r}",
                "write it like /etc/nginx-client-certs",
            )
        )
    if (secret or not absent) and (len(secret) > 253 or not _OBJECT_NAME.fullmatch(secret)):
        problems.append(
            Problem(
                "secret_name_invalid",
                where,
                f"expected the name of a Secret (up to 253 lower-case letters, digits, '-' and '.'), found {secret!r}",
                "name the Secret in the gateway's namespace; a namespace cannot be named with it",
            )
        )
    volume = item.get("volume") or _volume_name(secret)
    if item.get("volume") and not _LABEL.fullmatch(volume):
        problems.append(
            Problem(
                "volume_name_invalid",
                where,
                f"expected up to 63 lower-case letters, digits and '-' as a volume's name, found {volume!r}",
                "choose such a name, or leave volume out: it is then made from the Secret's name",
            )
        )
    keys = tuple(dict.fromkeys(item.get("keys") or ()))
    problems += [
        Problem("secret_key_invalid", where, f"expected a key of a Secret (letters, digits, '-', '_' and '.'), found {key!r}", "correct it")
        for key in keys
        if not _KEY.fullmatch(key)
    ]
    mode = _mode(item.get("mode"), where, problems)
    return Mount(clean, secret, volume, where, bool(item.get("volume")), keys, bool(item.get("optional")), mode)


def _mode(text: str | None, where: str, problems: list[Problem]) -> int | None:
    if text is None:
        return None
    found = _OCTAL.fullmatch(text)
    if not found:
        message = f"expected permission bits in octal, as a quoted text, found {text!r}"
        problems.append(Problem("mode_invalid", where, message, "write mode: '0440', in quotes, because YAML reads 0440 as 288"))
        return None
    return int(found[1], 8)


def _volume_name(secret: str) -> str:
    """The Secret's name, as in Istio's walkthrough; where that is no name for a volume, one that is made from it."""
    if _LABEL.fullmatch(secret):
        return secret
    digest = hashlib.sha256(secret.encode()).hexdigest()[:8]
    return f"{secret.replace('.', '-')[:54].rstrip('-')}-{digest}"


def _twice(mounts: Sequence[Mount]) -> Iterator[Problem]:
    for number, one in enumerate(mounts):
        for other in mounts[:number]:
            if one.path == other.path:
                yield Problem("given_twice", one.where, f"{other.where} is mounted at the same path", "give every mount a path of its own")
            elif _nested(one.path, other.path):
                yield _nesting(one.where, f"{other.where} of the same call")
            if (
                one.secret
                and one.volume == other.volume
                and (one.secret, one.optional, one.mode)
                != (
                    other.secret,
                    other.optional,
                    other.mode,
                )
            ):
                yield Problem(
                    "volume_given_twice",
                    one.where,
                    f"its volume {one.volume} is that of {other.where} too, with another secret, optional or mode",
                    "give one of them another volume, or make them agree",
                )


def _nested(one: str, other: str) -> bool:
    return one.startswith(other + "/") or other.startswith(one + "/")


def _nesting(where: str, other: str) -> Problem:
    return Problem(
        "mount_path_nested",
        where,
        f"the path lies below {other}, or that below it: a Secret's files are read-only, and a container with such mounts does not start",
        "choose a path beside it, for example /etc/<name of the Secret>",
    )


# --- the live Deployment


def pod_spec(deployment: Manifest) -> Manifest:
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


def is_injected(deployment: Manifest) -> bool:
    """Whether the mesh's injector fills in the proxy (gateway injection), so that the Deployment does not show all its mounts."""
    annotations = (deployment["spec"]["template"].get("metadata") or {}).get("annotations") or {}
    templates = str(annotations.get("inject.istio.io/templates") or "").split(",")
    return any(one.get("image") == "auto" for one in pod_spec(deployment)["containers"]) or "gateway" in templates


def choose(deployments: Sequence[Manifest], selector: Mapping[str, str], namespace: str) -> Manifest | Problem:
    """The only Deployment whose pods carry the labels of a Gateway's selector."""
    wanted = selector.items()
    found = [item for item in deployments if wanted <= ((item["spec"]["template"].get("metadata") or {}).get("labels") or {}).items()]
    where = f"selector ({','.join(f'{key}={value}' for key, value in sorted(wanted))})"
    if not wanted:
        return Problem(
            "selector_empty", "selector", "expected the labels of the gateway's pods, found none", "write it like {istio: egressgateway}"
        )
    if len(found) == 1:
        return found[0]
    if found:
        return Problem(
            "deployment_ambiguous",
            where,
            f"expected one Deployment in namespace {namespace} whose pods carry these labels, found {names(found)}",
            "name one of them, or add the label that tells them apart; for each of them a task of its own",
        )
    return missing(where, f"a Deployment in namespace {namespace} whose pods carry these labels", deployments)


def missing(where: str, expected: str, deployments: Sequence[Manifest]) -> Problem:
    found = f"found only {names(deployments)}" if deployments else "found none"
    return Problem("deployment_missing", where, f"expected {expected}, {found}", "name the Deployment that runs the gateway's pods")


def names(items: Iterable[Manifest], most: int = 10) -> str:
    known = sorted(item["metadata"]["name"] for item in items)
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")


@dataclass(frozen=True)
class Owned:
    """What a field manager applied of a pod template's volumes and mounts, as it applied them."""

    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    mounts: dict[Place, dict[str, Any]] = field(default_factory=dict)


def owned(live: Manifest, manager: str) -> Owned:
    """Taken out of the live object along `metadata.managedFields`, so that applying it again changes nothing."""
    part = _part(pod_spec(live), _fields(live, lambda entry: entry.get("manager") == manager and entry.get("operation") == "Apply"))
    return Owned(
        {volume["name"]: volume for volume in part.get("volumes") or ()},
        {
            (container["name"], mount["mountPath"]): mount
            for container in part.get("containers") or ()
            for mount in container.get("volumeMounts") or ()
        },
    )


def _fields(live: Manifest, chosen: Callable[[Manifest], bool]) -> Manifest:
    """The managed fields below the pod template's spec of the first entry that is chosen."""
    for entry in (live.get("metadata") or {}).get("managedFields") or ():
        if chosen(entry) and not entry.get("subresource"):
            fields: Manifest = entry.get("fieldsV1") or {}
            for step in ("f:spec", "f:template", "f:spec"):
                fields = fields.get(step) or {}
            return fields or _NOTHING
    return _NOTHING


def _part(value: Any, fields: Manifest) -> Any:
    """The part of a value that managed fields name; all of it where they name no part."""
    parts = {key: below or {} for key, below in fields.items() if key != "."}
    if not parts:
        return value
    if isinstance(value, Mapping):
        return {key[2:]: _part(value[key[2:]], below) for key, below in parts.items() if key.startswith("f:") and key[2:] in value}
    # in the live order: an apply that orders the items otherwise changes the template, and so replaces every pod
    owned_items = [(json.loads(key[2:]), below) for key, below in parts.items() if key.startswith("k:")]
    return [{**key, **_part(item, below)} for item in value for key, below in owned_items if key.items() <= item.items()]


def _other_managers(live: Manifest, place: Place, manager: str) -> list[str]:
    """Who else set a mount."""
    found = set()
    for entry in (live.get("metadata") or {}).get("managedFields") or ():
        name = str(entry.get("manager") or "an unnamed manager")
        if name == manager:
            continue
        part = _part(pod_spec(live), _fields(live, lambda one, entry=entry: one is entry))  # type: ignore[misc]
        for container in part.get("containers") or ():
            mounts = container.get("volumeMounts") or ()
            if container.get("name") == place[0] and any(mount.get("mountPath") == place[1] for mount in mounts):
                found.add(name)
    return sorted(found)


def _mounts(spec: Manifest) -> dict[Place, dict[str, Any]]:
    """Every mount of the pods, init containers' included."""
    return {
        (container["name"], _clean(mount["mountPath"])): mount
        for kind in ("containers", "initContainers")
        for container in spec.get(kind) or ()
        for mount in container.get("volumeMounts") or ()
    }


def _clean(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part)


def _volumes(spec: Manifest) -> dict[str, dict[str, Any]]:
    return {volume["name"]: volume for volume in spec.get("volumes") or ()}


def _volume(mount: Mount, name: str) -> dict[str, Any]:
    source: dict[str, Any] = {"secretName": mount.secret}
    if mount.optional:
        source["optional"] = True
    if mount.mode is not None:
        source["defaultMode"] = mount.mode
    return {"name": name, "secret": source}


def _secret_of(volume: Manifest | None) -> Manifest:
    """A volume's Secret, if it is one with all its keys under their own names."""
    source: Manifest = (volume or {}).get("secret") or {}
    return {} if source.get("items") else source


def _satisfied(mount: Mount, there: Manifest | None, volumes: Mapping[str, Manifest]) -> bool:
    """Whether what something else mounted is what is asked for."""
    if there is None or there.get("subPath") or there.get("subPathExpr"):
        return False
    source = _secret_of(volumes.get(there["name"]))
    return (
        source.get("secretName") == mount.secret
        and (not mount.optional or bool(source.get("optional")))
        and mount.mode in (None, source.get("defaultMode"))
        and (not mount.named or there["name"] == mount.volume)
    )


def _name_for(mount: Mount, container: str, mine: Owned, volumes: Mapping[str, Manifest]) -> str:
    """The volume's name: an earlier one of ours for the same mount stays, because another name would be another rollout."""
    there = mine.mounts.get((container, mount.path))
    if (
        there
        and not mount.named
        and there["name"] in mine.volumes
        and _secret_of(volumes.get(there["name"])).get("secretName") == mount.secret
    ):
        return str(there["name"])
    return mount.volume


# --- the change


def plan(live: Manifest, request: Request, manager: str) -> Change:
    """What to apply as `manager` so that the request holds, and what becomes of each mount."""
    mine = owned(live, manager)
    return _absent(live, request, mine, manager) if request.absent else _present(live, request, mine, manager)


def _present(live: Manifest, request: Request, mine: Owned, manager: str) -> Change:
    spec = pod_spec(live)
    there, volumes = _mounts(spec), _volumes(spec)
    notes: list[str] = []
    planned: list[Planned] = []
    mounts: dict[Place, dict[str, Any]] = {}
    made: dict[str, dict[str, Any]] = {}
    for mount in request.mounts:
        place = (request.container, mount.path)
        found = there.get(place)
        if place not in mine.mounts and _satisfied(mount, found, volumes):
            name = found["name"] if found else ""
            planned.append(Planned(mount.path, mount.secret, name, request.container, "unchanged"))
            notes.append(f"{mount.path} is mounted by {_by(live, place, manager)} as asked for, and left to it")
            continue
        name = _name_for(mount, request.container, mine, volumes)
        mounts[place] = {"mountPath": mount.path, "name": name, "readOnly": True}
        made[name] = _volume(mount, name)
        same = _same(mounts[place], found, mine.mounts.get(place)) and _same(made[name], volumes.get(name), mine.volumes.get(name))
        action: Action = "created" if found is None else "unchanged" if same else "updated"
        planned.append(Planned(mount.path, mount.secret, name, request.container, action))
    kept: dict[Place, dict[str, Any]] = {}
    for place, mount_of_ours in mine.mounts.items():
        if place not in mounts and request.prune:
            planned += _going(live, place, mount_of_ours, volumes, manager, notes)
        else:
            kept[place] = mounts.get(place, mount_of_ours)
    return _change(live, mine, {**kept, **mounts}, made, planned, notes)


def _absent(live: Manifest, request: Request, mine: Owned, manager: str) -> Change:
    spec = pod_spec(live)
    there, volumes = _mounts(spec), _volumes(spec)
    notes: list[str] = []
    planned: list[Planned] = []
    kept = dict(mine.mounts)
    for place in [(request.container, mount.path) for mount in request.mounts] or list(mine.mounts):
        if place in kept:
            planned += _going(live, place, kept.pop(place), volumes, manager, notes)
        elif place in there:
            notes.append(f"{place[1]} stays: it was mounted by {_by(live, place, manager)}, not by this module")
    return _change(live, mine, kept, {}, planned, notes)


def _by(live: Manifest, place: Place, manager: str) -> str:
    return ", ".join(_other_managers(live, place, manager)) or "something else"


def _going(
    live: Manifest, place: Place, mount: Manifest, volumes: Mapping[str, Manifest], manager: str, notes: list[str]
) -> Iterator[Planned]:
    others = _other_managers(live, place, manager)
    if others:
        notes.append(f"{place[1]} stays: {', '.join(others)} mounts it too")
    secret = str(_secret_of(volumes.get(mount["name"])).get("secretName") or "")
    yield Planned(place[1], secret, mount["name"], place[0], "unchanged" if others else "deleted")


def _same(wanted: Manifest, live: Manifest | None, before: Manifest | None) -> bool:
    """Whether an apply changes nothing: all is there, and nothing that we set before is missing from it now."""
    return live is not None and _within(wanted, live) and (before is None or _within(before, wanted))


def _within(part: Any, whole: Any) -> bool:
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(key in whole and _within(value, whole[key]) for key, value in part.items())
    return bool(part == whole)


def _change(
    live: Manifest,
    mine: Owned,
    mounts: Mapping[Place, dict[str, Any]],
    made: Mapping[str, dict[str, Any]],
    planned: Sequence[Planned],
    notes: list[str],
) -> Change:
    used = {mount["name"] for mount in mounts.values()}
    foreign = {mount["name"]: place for place, mount in _mounts(pod_spec(live)).items() if place not in mine.mounts}
    volumes = {name: volume for name, volume in mine.volumes.items() if name in used or name in foreign}
    notes += [f"volume {name} stays: {' in container '.join(reversed(foreign[name]))} uses it too" for name in volumes if name not in used]
    return Change(_manifest(live, {**volumes, **made}, mounts), tuple(planned), tuple(notes))


def _manifest(live: Manifest, volumes: Mapping[str, Any], mounts: Mapping[Place, Any]) -> dict[str, Any]:
    metadata = live["metadata"]
    containers: dict[str, list[Any]] = {}
    for (container, __), mount in mounts.items():
        containers.setdefault(container, []).append(mount)
    spec: dict[str, Any] = {}
    if containers:
        spec["containers"] = [{"name": name, "volumeMounts": inner} for name, inner in containers.items()]
    if volumes:
        spec["volumes"] = list(volumes.values())
    made: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
    }
    return {**made, "spec": {"template": {"spec": spec}}} if spec else made


def restoration(before: Manifest, applied: Manifest, manager: str) -> dict[str, Any]:
    """What to apply so that the template is again as it was before `applied`: what we had applied until then, and the old values of what
    was taken over from others."""
    mine = owned(before, manager)
    spec = pod_spec(before)
    there, volumes = _mounts(spec), _volumes(spec)
    taken = ((applied.get("spec") or {}).get("template") or {}).get("spec") or {}
    old_mounts = {
        (container["name"], mount["mountPath"]): _restricted(found, mount)
        for container in taken.get("containers") or ()
        for mount in container["volumeMounts"]
        if (found := there.get((container["name"], mount["mountPath"])))
    }
    old_volumes = {
        volume["name"]: _restricted(found, volume) for volume in taken.get("volumes") or () if (found := volumes.get(volume["name"]))
    }
    return _manifest(before, {**old_volumes, **mine.volumes}, {**old_mounts, **mine.mounts})


def alike(one: Any, other: Any) -> bool:
    """Whether two templates differ in the order of their lists at most: what an apply adds again stands at the end."""
    return bool(_sorted(one) == _sorted(other))


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(inner) for key, inner in value.items()}
    return sorted((_sorted(inner) for inner in value), key=json.dumps) if isinstance(value, list) else value


def _restricted(value: Any, to: Any) -> Any:
    if isinstance(value, Mapping) and isinstance(to, Mapping):
        return {key: _restricted(inner, to[key]) for key, inner in value.items() if key in to}
    return value


def shown(live: Manifest, change: Change) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a diff shows of the template before and after: the mounts in question, by container and path."""
    spec = pod_spec(live)
    there, volumes = _mounts(spec), _volumes(spec)
    applied = ((change.manifest.get("spec") or {}).get("template") or {}).get("spec") or {}
    after_volumes = {
        **volumes,
        **{volume["name"]: {**volumes.get(volume["name"], {}), **volume} for volume in applied.get("volumes") or ()},
    }
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for one in change.mounts:
        place = (one.container, one.path)
        if place in there:
            before.setdefault(one.container, {})[one.path] = _source(volumes.get(there[place]["name"]))
        if one.action == "unchanged":
            after.setdefault(one.container, {})[one.path] = before[one.container][one.path]
        elif one.action != "deleted":
            after.setdefault(one.container, {})[one.path] = _source(after_volumes.get(one.volume))
    return before, after


def _source(volume: Manifest | None) -> dict[str, Any]:
    """Where a volume's files come from."""
    rest = {key: value for key, value in (volume or {}).items() if key != "name"}
    return {"volume": (volume or {}).get("name", ""), **{kind: value for kind, value in rest.items() if isinstance(value, Mapping)}}


# --- problems


def check(live: Manifest, request: Request, secrets: Mapping[str, frozenset[str] | None], manager: str) -> tuple[Problem, ...]:
    """What would keep the mounts from working. `secrets` has the keys with content of each Secret that could be read, None where there is none."""
    if request.absent:
        return ()
    where = f"Deployment {live['metadata']['namespace']}/{live['metadata']['name']}"
    spec = pod_spec(live)
    problems: list[Problem] = []
    if (live.get("spec") or {}).get("paused"):
        problems.append(
            Problem(
                "deployment_paused",
                where,
                "expected a Deployment that rolls out changes, found one that is paused",
                f"resume it: kubectl rollout resume deployment/{live['metadata']['name']} -n {live['metadata']['namespace']}",
            )
        )
    if not any(one["name"] == request.container for one in spec["containers"]):
        problems.append(
            Problem(
                "container_missing",
                f"container {request.container}",
                f"expected a container of that name in {where}, found {', '.join(one['name'] for one in spec['containers'])}",
                "name the container that runs the proxy",
            )
        )
    mine = owned(live, manager)
    for mount in request.mounts:
        problems += _secret_problems(mount, live["metadata"]["namespace"], secrets)
        problems += _path_problems(mount, request, live, mine, manager)
        problems += _volume_problems(mount, request, live, mine)
    return tuple(problems)


def _secret_problems(mount: Mount, namespace: str, secrets: Mapping[str, frozenset[str] | None]) -> Iterator[Problem]:
    if mount.secret not in secrets:
        return
    found = secrets[mount.secret]
    if found is None:
        if not mount.optional:
            yield Problem(
                "secret_missing",
                mount.where,
                f"expected Secret {mount.secret} in namespace {namespace}, where the gateway's pods run, found none: they would not start",
                "make it first (istio_tls_credential), in this namespace, or set optional",
            )
        return
    lacking = [key for key in mount.keys if key not in found]
    if lacking:
        yield Problem(
            "secret_key_missing",
            mount.where,
            f"expected {', '.join(lacking)} in Secret {namespace}/{mount.secret}, found {', '.join(sorted(found)) or 'nothing'}: "
            f"{mount.path}/{lacking[0]} would not be there",
            "add the key, or correct keys",
        )
    elif not found:
        yield Problem(
            "secret_empty",
            mount.where,
            f"expected files in Secret {namespace}/{mount.secret}, found no key with content",
            "fill it before it is mounted",
            "warning",
        )


def _path_problems(mount: Mount, request: Request, live: Manifest, mine: Owned, manager: str) -> Iterator[Problem]:
    spec = pod_spec(live)
    there, volumes = _mounts(spec), _volumes(spec)
    place = (request.container, mount.path)
    found = there.get(place)
    if found and place not in mine.mounts and not _satisfied(mount, found, volumes) and not request.force:
        yield Problem(
            "mount_path_taken",
            mount.where,
            f"{_by(live, place, manager)} mounts {_described(volumes.get(found['name']), found)} at this path",
            "choose another path, or set force_conflicts to put the Secret in its place",
        )
    going = {one for one in mine.mounts if request.prune} - {(request.container, other.path) for other in request.mounts}
    for (container, path), other in there.items():
        if container == request.container and _nested(mount.path, path) and (container, path) not in going:
            yield _nesting(mount.where, f"{path}, where {_described(volumes.get(other['name']), other)} is mounted")
    hidden = [path for path in _IMAGE if path == mount.path or path.startswith(mount.path + "/")]
    hidden += [path for path in _IMAGE if mount.path.startswith(path + "/") and path in ("/proc", "/sys", "/dev")]
    if hidden:
        yield Problem(
            "mount_path_hides",
            mount.where,
            f"the mount would hide {', '.join(hidden[:3])}, which the proxy's image needs",
            "choose a directory that is not in the image, for example /etc/<name of the Secret>",
        )
    injected = dict.fromkeys([*_INJECTED.values(), _INJECTED_BY_KUBERNETES] if is_injected(live) else [_INJECTED_BY_KUBERNETES])
    for path in injected:
        if (request.container, path) not in there and (path == mount.path or _nested(path, mount.path)):
            yield Problem(
                "mount_path_injected",
                mount.where,
                f"{path} is mounted into every such pod when it is made, which the Deployment does not show",
                "choose a path beside it, for example /etc/<name of the Secret>",
            )


def _described(volume: Manifest | None, mount: Manifest) -> str:
    source = (volume or {}).get("secret") or {}
    if source.get("secretName"):
        parts = f", of which only {', '.join(item['key'] for item in source['items'])}" if source.get("items") else ""
        return f"Secret {source['secretName']} (volume {mount['name']}{parts})"
    kind = next((key for key, value in (volume or {}).items() if key != "name" and isinstance(value, Mapping)), "")
    return f"volume {mount['name']}{f' ({kind})' if kind else ''}"


def _volume_problems(mount: Mount, request: Request, live: Manifest, mine: Owned) -> Iterator[Problem]:
    spec = pod_spec(live)
    there, volumes = _mounts(spec), _volumes(spec)
    place = (request.container, mount.path)
    if place not in mine.mounts and _satisfied(mount, there.get(place), volumes):
        return
    name = _name_for(mount, request.container, mine, volumes)
    remedy = "give this one another name with volume"
    if name in _INJECTED and is_injected(live):
        yield Problem("volume_taken", mount.where, f"the mesh's injector adds a volume {name} of its own to every such pod", remedy)
        return
    volume = volumes.get(name)
    if volume is None or _secret_of(volume).get("secretName") == mount.secret:
        return
    asked = {(request.container, other.path) for other in request.mounts}
    others = [path for (container, path), other in there.items() if other["name"] == name and (container, path) not in asked]
    if name not in mine.volumes or others:
        users = f", mounted at {', '.join(others)}" if others else ""
        yield Problem("volume_taken", mount.where, f"{_described(volume, {'name': name})} exists already{users}", remedy)


# --- the files


@dataclass(frozen=True)
class File:
    """A file that a mounted Secret must have become; nothing of its content but digests."""

    path: str
    secret: str
    key: str
    kind: Literal["certificate", "crl", "private_key", "other"]
    sha256: str = field(default="", repr=False)
    """Empty where the Secret could not be read."""
    size: int = -1
    fingerprint: str = ""
    """Of a certificate (the first one, where there are several)."""

    @property
    def public(self) -> bool:
        return self.kind in ("certificate", "crl")

    def as_result(self, state: str) -> dict[str, Any]:
        shown: dict[str, Any] = {"path": self.path, "secret": self.secret, "key": self.key, "kind": self.kind, "state": state}
        return {**shown, **({"fingerprint_sha256": self.fingerprint} if self.fingerprint and state == "same" else {})}


def files(request: Request, data: Mapping[str, Mapping[str, bytes] | None]) -> tuple[File, ...]:
    """The files that the mounts must show. Of Secrets that are not there, none; of those that could not be read (and so are not in
    `data`) the keys that were asked for, by their names alone."""
    found: list[File] = []
    for mount in request.mounts:
        if mount.secret in data:
            content = sorted((data[mount.secret] or {}).items())
            found += [_file(f"{mount.path}/{key}", mount.secret, key, value) for key, value in content]
        else:
            found += [File(f"{mount.path}/{key}", mount.secret, key, "other") for key in mount.keys]
    return tuple(found)


def _file(path: str, secret: str, key: str, content: bytes) -> File:
    blocks, __ = scan(content)
    labels = {block.label for block in blocks}
    fingerprint = ""
    kind: Literal["certificate", "crl", "private_key", "other"] = "other"
    if labels & PRIVATE_KEY_LABELS or b"PRIVATE KEY" in content:
        kind = "private_key"
    elif labels and labels <= CERTIFICATE_LABELS:
        kind = "certificate"
        der = blocks[0].der()
        fingerprint = fingerprint_of(der) if der else ""
    elif labels and labels <= CRL_LABELS:
        kind = "crl"
    return File(path, secret, key, kind, hashlib.sha256(content).hexdigest(), len(content), fingerprint)


def digests(printed: str) -> dict[str, str]:
    """File and digest, from what `sha256sum` prints."""
    return {found[2]: found[1] for line in printed.splitlines() if (found := _SHA256.fullmatch(line))}
