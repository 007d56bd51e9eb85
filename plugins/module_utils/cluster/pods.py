# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods: which there are, running a command in one, reading its log.

Needs the rights of docs/rbac/pods.yaml: list pods; get and create pods/exec (a websocket is a GET, which Kubernetes 1.35 and newer let
nobody open who may not create); get pods/log.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..objects.kinds import POD
from .client import Cluster, ClusterError
from .transport import ended_after

# https://kubernetes.io/docs/reference/using-api/websocket-protocol: a channel's number before each message; v5 can close one
_V5, _V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSE = 0, 1, 2, 3, 255
_CHUNK = 32 * 1024  # bytes of input in one message
OUTPUT_LIMIT = 256 * 1024 * 1024
"""Bytes of output that are kept of a command; more is an error."""


class PodError(ClusterError):
    """A command could not be run in a Pod, or not to its end; `str()` names the Pod."""


@dataclass(frozen=True)
class Pod:
    """One Pod as far as it matters here."""

    namespace: str
    name: str
    uid: str
    phase: str
    """Pending, Running, Succeeded, Failed or Unknown."""
    ready: bool
    terminating: bool
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    containers: tuple[str, ...]
    """Names, with those of init containers that go on running (native sidecars) behind them."""
    running: frozenset[str]
    """Those of the containers that run."""
    troubles: tuple[str, ...] = ()
    """Why it is not ready, each as `container: reason: message`."""

    def __str__(self) -> str:
        return f"Pod {self.namespace}/{self.name}"

    @property
    def default_container(self) -> str:
        """Where kubectl would run a command: the annotated container, or the first one."""
        return self.annotations.get("kubectl.kubernetes.io/default-container") or self.containers[0]


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)


def list_pods(cluster: Cluster, namespace: str | None, selector: Mapping[str, str] | str) -> list[Pod]:
    """The Pods that a selector matches and that have not ended, by name; those of all namespaces with None."""
    text = selector if isinstance(selector, str) else ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    pods = [pod_of(item) for item in cluster.list(POD, namespace, label_selector=text)]
    return sorted((pod for pod in pods if pod.phase not in ("Succeeded", "Failed")), key=lambda pod: (pod.namespace, pod.name))


def pick_pod(cluster: Cluster, namespace: str, name: str | None, selector: Mapping[str, str]) -> Pod:
    """The Pod of that name, or the first one by name that the selector matches and that runs, ready ones first. Raises PodError."""
    if name:
        pod = get_pod(cluster, namespace, name)
        if pod is None:
            raise PodError(f"there is no Pod {name} in namespace {namespace}; correct name or namespace, or give a selector")
        return pod
    pods = [pod for pod in list_pods(cluster, namespace, selector) if not pod.terminating]
    labels = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    if not pods:
        raise PodError(f"there is no Pod with the labels {labels} in namespace {namespace}; correct selector or namespace")
    running = [pod for pod in pods if pod.running]
    if not running:
        found = "; ".join(f"{pod} is {pod.phase}{f' ({trouble})' if (trouble := ', '.join(pod.troubles)) else ''}" for pod in pods[:3])
        raise PodError(f"no Pod with the labels {labels} in namespace {namespace} runs: {found}")
    return min(running, key=lambda pod: not pod.ready)


def get_pod(cluster: Cluster, namespace: str, name: str) -> Pod | None:
    item = cluster.get(POD, namespace, name)
    return pod_of(item) if item else None


def pod_of(item: Mapping[str, Any]) -> Pod:
    """The Pod of a live object."""
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    sidecars = [one for one in spec.get("initContainers") or [] if one.get("restartPolicy") == "Always"]
    statuses = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    conditions = {one["type"]: one for one in status.get("conditions") or []}
    ready = conditions.get("Ready") or {}
    troubles = [trouble for one in statuses if (trouble := _trouble(one))]
    for kind in ("PodScheduled", "Ready"):
        condition = conditions.get(kind) or {}
        if condition.get("status") == "False" and condition.get("message") and not (kind == "Ready" and troubles):
            troubles.append(f"{condition.get('reason')}: {condition['message']}")
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        phase=status.get("phase", "Unknown"),
        ready=ready.get("status") == "True",
        terminating="deletionTimestamp" in metadata,
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        containers=tuple(one["name"] for one in [*(spec.get("containers") or []), *sidecars]),
        running=frozenset(one["name"] for one in statuses if "running" in (one.get("state") or {})),
        troubles=tuple(troubles),
    )


def _trouble(status: Mapping[str, Any]) -> str | None:
    """Why a container does not run, for example `istio-proxy: CrashLoopBackOff: back-off 10s restarting failed container`."""
    for state, ordinary in (("waiting", ("ContainerCreating", "PodInitializing")), ("terminated", ("Completed",))):
        found = (status.get("state") or {}).get(state)
        if found and found.get("reason") not in ordinary:
            return ": ".join(str(part) for part in (status["name"], found.get("reason"), found.get("message")) if part)
    return None


def run(
    cluster: Cluster,
    namespace: str,
    name: str,
    command: Sequence[str],
    *,
    container: str | None = None,
    stdin: bytes | None = None,
    timeout: float = 30.0,
    keep: int | None = None,
) -> Ran:
    """Runs a command in a Pod's container (the default one with None), as `kubectl exec` does without a terminal.

    The command's arguments are in the API server's audit log and in the node's list of processes: what is secret belongs in `stdin`, which
    ends after what is given. Of the standard output `keep` bytes are kept; without it, more than `OUTPUT_LIMIT` is an error.

    Raises PodError where the command does not start, or has not ended within `timeout` seconds (it may go on
    running then), and ApiError where the API server refuses (no such Pod or container, no right to `create` or `get` pods/exec).
    """
    import websocket

    where = f"Pod {namespace}/{name}{f', container {container}' if container else ''}"
    query = [("command", part) for part in command]
    query += [("stdout", "true"), ("stderr", "true"), *([("stdin", "true")] if stdin is not None else [])]
    query += [("container", container)] if container else []
    deadline = time.monotonic() + timeout
    channel = cluster.websocket(POD, namespace, name, "exec", query, (_V5, _V4))
    output: dict[int, bytearray] = {_STDOUT: bytearray(), _STDERR: bytearray(), _STATUS: bytearray()}
    try:
        with ended_after(timeout, channel.sock):  # also a message that never ends
            if stdin is not None:
                if channel.getsubprotocol() != _V5:
                    raise PodError(f"{where}: cannot end the command's input: the API server is older than Kubernetes 1.30; upgrade it")
                _write(channel, stdin)
            _read(channel, output, deadline, keep)
        if sum(map(len, output.values())) > OUTPUT_LIMIT:
            raise PodError(f"{where}: {command[0]} wrote more than {OUTPUT_LIMIT >> 20} MiB, which is more than is read")
    except (TimeoutError, websocket.WebSocketTimeoutException):
        raise _too_long(where, command[0], timeout) from None
    except (OSError, websocket.WebSocketException) as error:
        if time.monotonic() >= deadline:
            raise _too_long(where, command[0], timeout) from None
        if not output[_STATUS]:  # some servers end the connection without a closing message, once everything is said
            raise PodError(f"{where}: the connection ended while {command[0]} ran ({error or type(error).__name__}); try again") from None
    finally:
        channel.shutdown()
    return Ran(_exit_code(bytes(output[_STATUS]), where, command[0]), bytes(output[_STDOUT]), bytes(output[_STDERR]))


def _read(channel: Any, output: Mapping[int, bytearray], deadline: float, keep: int | None) -> None:
    """Until the command has ended, or too much has come."""
    import websocket

    while sum(map(len, output.values())) <= OUTPUT_LIMIT:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        channel.settimeout(left)
        opcode, message = channel.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return
        if message and message[0] in output:
            output[message[0]].extend(message[1:])
        if keep is not None:
            del output[_STDOUT][keep:]


def _too_long(where: str, program: str, timeout: float) -> PodError:
    return PodError(f"{where}: {program} has not ended within {timeout:g} s; allow it more time, or look what it waits for")


def _write(channel: Any, data: bytes) -> None:
    import websocket

    try:
        for start in range(0, len(data), _CHUNK):
            channel.send_binary(bytes([_STDIN]) + data[start : start + _CHUNK])
        channel.send_binary(bytes([_CLOSE, _STDIN]))
    except (OSError, websocket.WebSocketException):
        return  # a command that ends early reads no more; what it said is still to be read


def _exit_code(status: bytes, where: str, program: str) -> int:
    """The exit code in the Status that ends an exec; raises PodError where the command did not run."""
    try:
        said = json.loads(status)
    except ValueError:
        raise PodError(f"{where}: the connection ended before it was said how {program} ended; try again") from None
    if said.get("status") == "Success":
        return 0
    for cause in (said.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    message = str(said.get("message") or said)
    if "executable file not found" in message or "no such file or directory" in message:
        raise PodError(f"{where}: there is no program {program} in the container; name a container that has it")
    raise PodError(f"{where}: {program} could not be run: {message}")


def read_log(
    cluster: Cluster, namespace: str, name: str, *, container: str | None = None, since: datetime | None = None
) -> Iterator[tuple[datetime | None, str]]:
    """A container's log since a time (or all that is kept of it), line by line as it comes: when each was written, and what."""
    query = {"timestamps": "true", **({"container": container} if container else {})}
    if since is not None:
        query["sinceTime"] = since.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")  # the API takes whole seconds
    for line in cluster.lines(POD, namespace, name, "log", query):
        stamp, __, text = line.partition(" ")
        written = _time(stamp)
        if written is None:
            yield None, line
        elif since is None or written >= since:
            yield written, text


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
