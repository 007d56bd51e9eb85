# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The administration pages of a proxy that runs in a Pod, read through the API server: as `istioctl proxy-config` does it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from ..istio.proxy import Log, Source, Unread
from .client import ApiError, Cluster
from .pods import Pod, PodError, list_pods, read_log, run

CONTAINER = "istio-proxy"
_TRANSIENT = (400, 404, 500)
"""A Pod or container that is not there yet, or not any more. What is wrong with the login or the rights stays as it is."""


def proxies_in_pods(cluster: Cluster, namespace: str, selector: Mapping[str, str], *, timeout: float) -> tuple[list[Source], list[Log]]:
    """The Pods with a proxy that a selector matches, those that are going away left out."""
    pods = [pod for pod in list_pods(cluster, namespace, selector) if not pod.terminating]
    return [_source(cluster, pod, timeout) for pod in pods], [_log(cluster, pod) for pod in pods]


def _source(cluster: Cluster, pod: Pod, timeout: float) -> Source:
    trouble = ""
    if CONTAINER not in pod.containers:
        trouble = f"it has no container {CONTAINER}, but {', '.join(pod.containers)}"
    elif CONTAINER not in pod.running:
        trouble = f"its container {CONTAINER} does not run: {'; '.join(pod.troubles) or pod.phase}"
    facts = {"namespace": pod.namespace, "pod": pod.name, "admin_url": None, "troubles": list(pod.troubles)}
    return Source(str(pod), lambda path: read_page(cluster, pod, path, timeout=timeout), pod.ready, facts, trouble)


def read_page(cluster: Cluster, pod: Pod, path: str, *, timeout: float) -> bytes:
    """A page of Envoy's administration interface. Raises Unread where it cannot be had, and ApiError where it may not."""
    try:
        ran = run(cluster, pod.namespace, pod.name, ["pilot-agent", "request", "GET", path], container=CONTAINER, timeout=timeout)
    except PodError as error:
        raise Unread(str(error)) from None
    except ApiError as error:
        if error.status not in _TRANSIENT:
            raise
        raise Unread(str(error)) from None
    if ran.code:
        said = " ".join(ran.stderr.decode("utf-8", "replace").split())[:300]
        raise Unread(f"{pod}: its proxy did not answer ({said or f'exit code {ran.code}'})")
    return ran.stdout


def _log(cluster: Cluster, pod: Pod) -> Log:
    def lines(since: datetime | None) -> Iterable[tuple[datetime | None, str]]:
        try:
            yield from read_log(cluster, pod.namespace, pod.name, container=CONTAINER, since=since)
        except ApiError as error:
            if error.status not in _TRANSIENT:
                raise

    return Log(str(pod), lines)
