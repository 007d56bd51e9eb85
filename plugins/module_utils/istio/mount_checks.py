# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with mounts, given the Deployment and the Secrets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..problems import Problem
from .mount_arguments import Mount, Request, is_nested, nesting_problem
from .mounts import (
    Manifest,
    Owned,
    is_injected,
    is_satisfied,
    mounts_by_place,
    other_managers_of,
    owned,
    pod_spec,
    secret_of,
    volume_name_for,
    volumes_by_name,
)

MAY_COME = ("deployment_missing", "secret_missing", "secret_key_missing")
"""Codes of what an earlier task of the same play may be about to make."""


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
    there, volumes = mounts_by_place(spec), volumes_by_name(spec)
    place = (request.container, mount.path)
    found = there.get(place)
    if found and place not in mine.mounts and not is_satisfied(mount, found, volumes) and not request.force:
        yield Problem(
            "mount_path_taken",
            mount.where,
            f"{other_managers_of(live, place, manager)} mounts {_described(volumes.get(found['name']), found)} at this path",
            "choose another path, or set force_conflicts to put the Secret in its place",
        )
    going = {one for one in mine.mounts if request.prune} - {(request.container, other.path) for other in request.mounts}
    for (container, path), other in there.items():
        if container == request.container and is_nested(mount.path, path) and (container, path) not in going:
            yield nesting_problem(mount.where, f"{path}, where {_described(volumes.get(other['name']), other)} is mounted")
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
        if (request.container, path) not in there and (path == mount.path or is_nested(path, mount.path)):
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
    there, volumes = mounts_by_place(spec), volumes_by_name(spec)
    place = (request.container, mount.path)
    if place not in mine.mounts and is_satisfied(mount, there.get(place), volumes):
        return
    name = volume_name_for(mount, request.container, mine, volumes)
    remedy = "give this one another name with volume"
    if name in _INJECTED and is_injected(live):
        yield Problem("volume_taken", mount.where, f"the mesh's injector adds a volume {name} of its own to every such pod", remedy)
        return
    volume = volumes.get(name)
    if volume is None or secret_of(volume).get("secretName") == mount.secret:
        return
    asked = {(request.container, other.path) for other in request.mounts}
    others = [path for (container, path), other in there.items() if other["name"] == name and (container, path) not in asked]
    if name not in mine.volumes or others:
        users = f", mounted at {', '.join(others)}" if others else ""
        yield Problem("volume_taken", mount.where, f"{_described(volume, {'name': name})} exists already{users}", remedy)
