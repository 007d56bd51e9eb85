# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a gateway's Deployment to its pods: which it is, whether its rollout succeeds, and whether the files that a mounted Secret must have
become are in each pod and have the Secret's content. No key leaves the pod.

Programs that the proxy's image may have are used: `sha256sum`; where there is none, `cat` for what is public and `wc` for the size of the
rest. A distroless image has none of them, and that is said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..istio.credential import decode
from ..istio.mount_arguments import Request
from ..istio.mounted_files import File, digests, files
from ..istio.mounts import Change, alike, choose, missing, restoration
from ..objects.kinds import DEPLOYMENT, SECRET, with_kind
from ..objects.ownership import FIELD_MANAGER
from ..problems import Problem
from ..progress import tell
from ..wait import until
from .client import ApiError, Cluster, ClusterError
from .pods import PodError, Ran, run
from .rollout import PodState, look, wait

State = Literal["same", "same_size", "present", "differs", "missing", "unreadable", "unknown"]
WRONG: tuple[State, ...] = ("differs", "missing", "unreadable")

Manifest = Mapping[str, Any]

_TIMEOUT = 30.0  # seconds that a command may take
_PAUSE = 2.0  # seconds between two looks
_FAILURES = 3  # so often commands may fail to run: a pod that is scaled away, a connection that ends
_NO_PROGRAM = "there is no program"  # of pods.run


@dataclass(frozen=True)
class Seen:
    """What was found in one pod."""

    pod: str
    method: str
    """The programs that were used, or `none`."""
    files: tuple[tuple[File, State], ...]

    @property
    def wrong(self) -> list[tuple[File, State]]:
        return [(file, state) for file, state in self.files if state in WRONG]

    def as_result(self) -> dict[str, Any]:
        return {"pod": self.pod, "method": self.method, "files": [file.as_result(state) for file, state in self.files]}


def inspect(cluster: Cluster, namespace: str, pod: str, container: str, expected: Sequence[File]) -> Seen:
    """Looks at the files in one pod. Raises PodError where no command can be run, and ApiError without the right to."""
    if not expected:
        return Seen(pod, "none", ())
    ran = _try(cluster, namespace, pod, container, ["sha256sum", "--", *(file.path for file in expected)])
    if ran is not None:
        found = digests(ran.stdout.decode("utf-8", "replace"))
        unreadable = _unreadable(ran, expected)
        return Seen(pod, "sha256sum", tuple((file, _by_digest(file, found.get(file.path), file.path in unreadable)) for file in expected))
    states: list[tuple[File, State]] = []
    used: set[str] = set()
    for file in expected:
        program = ["cat", "--"] if file.public else ["wc", "-c", "--"]
        ran = _try(cluster, namespace, pod, container, [*program, file.path])
        if ran is None:
            states.append((file, "unknown"))
            continue
        used.add(program[0])
        states.append((file, _by_content(file, ran)))
    return Seen(pod, ", ".join(sorted(used)) or "none", tuple(states))


def _try(cluster: Cluster, namespace: str, pod: str, container: str, command: Sequence[str]) -> Ran | None:
    """A command's end; None where the container has no such program."""
    try:
        return run(cluster, namespace, pod, command, container=container, timeout=_TIMEOUT)
    except PodError as error:
        if _NO_PROGRAM in str(error):
            return None
        raise


def _unreadable(ran: Ran, expected: Iterable[File]) -> set[str]:
    said = ran.stderr.decode("utf-8", "replace").splitlines()
    return {file.path for file in expected if any(file.path in line and "Permission denied" in line for line in said)}


def _by_digest(file: File, digest: str | None, unreadable: bool) -> State:
    if digest is None:
        return "unreadable" if unreadable else "missing"
    if not file.sha256:
        return "present"
    return "same" if digest == file.sha256 else "differs"


def _by_content(file: File, ran: Ran) -> State:
    if ran.code:
        return "unreadable" if _unreadable(ran, [file]) else "missing"
    if not file.sha256:
        return "present"
    if file.public:
        return "same" if hashlib.sha256(ran.stdout).hexdigest() == file.sha256 else "differs"
    size = ran.stdout.split()[:1]
    return "same_size" if size == [str(file.size).encode()] else "differs"


# --- from the Deployment to its pods


@dataclass(frozen=True)
class Settings:
    """How long to wait, and what to do then."""

    timeout: float
    """Seconds."""
    verify: bool
    restore: bool


def find(cluster: Cluster, namespace: str, name: str | None, selector: Mapping[str, str] | None) -> Manifest | Problem:
    """The gateway's Deployment, or why there is none."""
    live = cluster.get(DEPLOYMENT, namespace, name) if name else None
    if live is not None:
        return live
    try:
        others = [with_kind(item, DEPLOYMENT) for item in cluster.list(DEPLOYMENT, namespace)]
    except ApiError as error:
        if not error.missing_verb or not name:
            raise
        others = []  # they would only be named
    if name:
        return missing(f"name {name}", f"a Deployment of that name in namespace {namespace}", others)
    return choose(others, {str(key): str(value) for key, value in (selector or {}).items()}, namespace)


def contents(cluster: Cluster, namespace: str, request: Request, notes: list[str]) -> dict[str, dict[str, bytes] | None]:
    """What is in the Secrets; None for what does not exist, and nothing for what this user may not read."""
    found: dict[str, dict[str, bytes] | None] = {}
    for name in dict.fromkeys(mount.secret for mount in request.mounts):
        try:
            item = cluster.get(SECRET, namespace, name)
        except ApiError as error:
            if not error.missing_verb:
                raise
            notes.append(f"Secret {namespace}/{name} was not checked: this user may not {error.missing_verb} it")
            continue
        found[name] = None if item is None else decode(item)
    return found


def keys_of(data: Mapping[str, Mapping[str, bytes] | None]) -> dict[str, frozenset[str] | None]:
    """The keys that have content."""
    return {name: None if content is None else frozenset(key for key, value in content.items() if value) for name, content in data.items()}


def settle(
    cluster: Cluster, before: Manifest, change: Change | None, request: Request, settings: Settings, notes: list[str]
) -> dict[str, Any]:
    """Waits for the rollout, looks into the pods, and where either fails puts the template back as it was `before`, if that is wanted.

    `change` is what this run applied, None where it applied nothing. A result with `failed` tells everything that is known.
    """
    result: dict[str, Any] = {}
    try:
        failure, serving = _succeed(cluster, before, request, settings, notes, result)
    except ClusterError as error:
        failure, serving = (
            f"Deployment {before['metadata']['namespace']}/{before['metadata']['name']} could not be followed: {error}",
            False,
        )
    if not failure:
        return result
    if change is None:
        return {**result, "failed": True, "msg": f"{failure}. This run changed nothing; mend the cause and run again"}
    if not settings.restore:
        still = "the previous pods go on serving; " if serving else ""
        remedy = f"{still}mend the cause and run again, or remove the mounts (state: absent), or set restore_on_failure"
        return {**result, "failed": True, "msg": f"{failure}. What was applied stays - {remedy}"}
    return {**result, **_restore(cluster, before, change, settings, failure, notes)}


def _succeed(
    cluster: Cluster, before: Manifest, request: Request, settings: Settings, notes: list[str], result: dict[str, Any]
) -> tuple[str, bool]:
    """What failed, empty where nothing did, and whether pods of the previous template are left; what is known goes into the result."""
    namespace, name = before["metadata"]["namespace"], before["metadata"]["name"]
    where = f"Deployment {namespace}/{name}"
    deadline = cluster.clock() + settings.timeout
    rollout = wait(cluster, namespace, name, timeout=settings.timeout, notes=notes)
    result["rollout"] = rollout.as_result()
    if not rollout.complete:
        given_up = "" if rollout.look.hopeless else f" within {settings.timeout:g} s"
        failure = f"{where} was not rolled out{given_up}: {'; '.join(rollout.troubles)}"
        return failure, any(pod.generation == "old" and pod.state == "ready" for pod in rollout.look.pods)
    if not settings.verify or request.absent or not request.mounts:
        return "", False
    seen = _verify(cluster, namespace, name, request, deadline, notes)
    result["verified"] = [one.as_result() for one in seen]
    wrong = [f"{file.path} ({_WORDS[state]}) in pod {one.pod}" for one in seen for file, state in one.wrong]
    return f"{where} was rolled out, but not all files are those of the Secrets: {', '.join(wrong[:5])}" if wrong else "", False


_WORDS: dict[State, str] = {"differs": "another content", "missing": "not there", "unreadable": "the proxy may not read it"}


def _verify(cluster: Cluster, namespace: str, name: str, request: Request, deadline: float, notes: list[str]) -> list[Seen]:
    """Looks into each pod until its files are the Secrets', or the time is over. Pods and Secrets are read anew each time, as they may change."""
    failures = 0
    seen: list[Seen] | None = None
    """None where it may not be looked."""

    def once() -> bool | None:
        nonlocal failures, seen
        try:
            expected = files(request, contents(cluster, namespace, request, notes))
            pods = [pod.name for pod in _current(cluster, namespace, name) if pod.state == "ready"]
            seen = [inspect(cluster, namespace, pod, request.container, expected) for pod in pods]
        except (ApiError, PodError) as error:
            if isinstance(error, ApiError) and error.missing_verb:
                notes.append(f"no files were looked at: {error}")
                seen = None
                return True
            failures += 1
            if failures == _FAILURES:
                raise
            return None
        tell(f"comparison of the files in the pods of Deployment {namespace}/{name}")
        return not any(one.wrong for one in seen)

    until(once, timeout=deadline - cluster.clock(), delay=_PAUSE, clock=cluster.clock)
    if seen is None:
        return []
    if not seen:
        notes.append("no files were looked at: the Deployment has no pods that are ready")
    unknown = sorted({one.pod for one in seen for __, state in one.files if state == "unknown"})
    if unknown:
        notes.append(f"not all files were compared in {', '.join(unknown)}: its container has no sha256sum, cat or wc (a distroless image)")
    return seen


def _current(cluster: Cluster, namespace: str, name: str) -> tuple[PodState, ...]:
    found = look(cluster, namespace, name)
    return found.new if found else ()


def _restore(cluster: Cluster, before: Manifest, change: Change, settings: Settings, failure: str, notes: list[str]) -> dict[str, Any]:
    """Puts the previous template back. Its ReplicaSet still has the previous pods, so that usually none has to be started."""
    namespace, name = before["metadata"]["namespace"], before["metadata"]["name"]
    try:
        restored = cluster.apply(DEPLOYMENT, restoration(before, change.manifest, FIELD_MANAGER), force=True)
        again = wait(cluster, namespace, name, timeout=settings.timeout, notes=notes)
    except ClusterError as error:
        return {"restored": False, "failed": True, "msg": f"{failure}. The previous template could not be put back: {error}"}
    same = alike(restored["spec"]["template"], before["spec"]["template"])
    if again.complete and same:
        words = f"The previous template was put back, and was rolled out after {again.elapsed:.1f} s; mend the cause and run again"
    elif again.complete:
        words = "Our part of the previous template was put back and rolled out; something else has changed the rest meanwhile"
    else:
        words = f"The previous template was put back, but was not rolled out within {settings.timeout:g} s: {'; '.join(again.troubles)}"
    return {"restored": again.complete, "restoration": again.as_result(), "failed": True, "msg": f"{failure}. {words}"}
