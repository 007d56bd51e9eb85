# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found in pods, told without a byte of it, and what is done where a rollout or a file is not as it should be.

The cluster is one in memory: applies are carried out by a controller that is as quick as its Secrets are there, and commands in pods run on a
file system of the kubelet's.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster import mounted
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ApiError, Unreachable
from ansible_collections.meshops.istio.plugins.module_utils.cluster.mounted import Settings, contents, find, inspect, keys_of, settle
from ansible_collections.meshops.istio.plugins.module_utils.cluster.pods import PodError, Ran
from ansible_collections.meshops.istio.plugins.module_utils.istio.mount_arguments import Request, from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.mounted_files import files
from ansible_collections.meshops.istio.plugins.module_utils.istio.mounts import plan
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import Resource
from ansible_collections.meshops.istio.plugins.module_utils.objects.ownership import FIELD_MANAGER
from ansible_collections.meshops.istio.plugins.module_utils.problems import Problem

CASES = Path(__file__).parent.parent / "istio" / "data" / "gateway_deployments.json"
RECORDED = {case["name"]: case for case in json.loads(CASES.read_text())}
REVISION = "deployment.kubernetes.io/revision"
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n"
KEY = b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
DATA = {"nginx-client-certs": {"tls.crt": CERTIFICATE, "tls.key": KEY}}
CLIENT = {"path": "/etc/nginx-client-certs", "secret": "nginx-client-certs", "keys": ["tls.crt", "tls.key"]}
ASKED = from_arguments({"mounts": [CLIENT]})
NOW = Settings(timeout=10, verify=True, restore=False)


def denied(verb: str, resource: Resource, namespace: str) -> ApiError:
    said = {"message": f'{resource.plural} is forbidden: User "u" cannot {verb} resource "{resource.plural}" in API group ""'}
    return ApiError(403, verb, resource, namespace, "", said, "https://api")


class Api:
    """A cluster with one gateway of two revisions: r1 as it was recorded, r2 once something was applied."""

    def __init__(
        self, secrets: dict[str, dict[str, bytes]], *, forbidden: tuple[str, ...] = (), programs: tuple[str, ...] = ("sha256sum",)
    ):
        self.before: dict[str, Any] = copy.deepcopy(RECORDED["istioctl"]["live"])
        self.before["metadata"]["uid"] = "d"
        self.secrets, self.forbidden, self.programs = secrets, forbidden, programs
        self.kubelet: dict[str, bytes] | None = None
        """The files in the pods, by path; those of the Secrets where nothing is said."""
        self.unreadable: set[str] = set()
        self.applied: list[dict[str, Any]] = []
        self.commands: list[list[str]] = []
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def new(self) -> bool:
        return bool(self.applied and self.applied[-1].get("spec"))

    @property
    def starts(self) -> bool:
        return not self.new or "nginx-client-certs" in self.secrets

    def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        if resource.kind in self.forbidden:
            raise denied("get", resource, namespace)
        if resource.kind == "Secret":
            data = self.secrets.get(name)
            encoded = {key: base64.b64encode(value).decode() for key, value in (data or {}).items()}
            return None if data is None else {"kind": "Secret", "data": encoded}
        assert resource.kind == "Deployment"
        if name != self.before["metadata"]["name"]:
            return None
        counts = {"updatedReplicas": 1, "replicas": 1 if self.starts else 2, "availableReplicas": 1}
        live = {**self.before, "status": {"observedGeneration": 1, **counts}}
        live["metadata"] = {**live["metadata"], "generation": 1, "annotations": {REVISION: "2" if self.new else "1"}}
        return live

    def list(self, resource: Resource, namespace: str | None = None, *, label_selector: str = "") -> Iterator[dict[str, Any]]:
        if resource.kind in self.forbidden:
            raise denied("list", resource, str(namespace))
        if resource.kind == "Deployment":
            return iter([self.before])
        if resource.kind == "Event":
            return iter([{"type": "Warning", "reason": "FailedMount", "message": 'secret "nginx-client-certs" not found'}])
        owners = [{"uid": "d", "controller": True}]
        if resource.kind == "ReplicaSet":
            made = [{"name": f"r{n}", "uid": f"r{n}", "annotations": {REVISION: str(n)}, "ownerReferences": owners} for n in (1, 2)]
            return iter([{"metadata": one} for one in made])
        ready = [("r2" if self.new and self.starts else "r1", True)] + ([("r2", False)] if not self.starts else [])
        return iter([self.pod(owner, is_ready) for owner, is_ready in ready])

    def pod(self, owner: str, ready: bool) -> dict[str, Any]:
        return {
            "metadata": {"name": f"pod-{owner}", "namespace": "n", "ownerReferences": [{"uid": owner, "controller": True}]},
            "spec": {"containers": [{"name": "istio-proxy"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]},
        }

    def apply(self, resource: Resource, manifest: dict[str, Any], *, force: bool = False) -> dict[str, Any]:
        assert force
        self.applied.append(manifest)
        return self.before

    def run(self, __: Any, namespace: str, pod: str, command: list[str], *, container: str, timeout: float) -> Ran:
        assert container == "istio-proxy"
        self.commands.append(command)
        if "Exec" in self.forbidden:
            raise denied("create", Resource("", "v1", "pods/exec", "Pod"), namespace)
        program, *rest = command
        if program not in self.programs:
            raise PodError(f"Pod {namespace}/{pod}: there is no program {program} in the container; name a container that has it")
        disk = {f"/etc/{name}/{key}": value for name, data in self.secrets.items() for key, value in data.items()}
        disk = disk if self.kubelet is None else self.kubelet
        out, err, code = b"", b"", 0
        for path in rest[rest.index("--") + 1 :]:
            if path in self.unreadable or path not in disk:
                reason = b"Permission denied" if path in self.unreadable else b"No such file or directory"
                err, code = err + program.encode() + b": " + path.encode() + b": " + reason + b"\n", 1
            elif program == "sha256sum":
                out += hashlib.sha256(disk[path]).hexdigest().encode() + b"  " + path.encode() + b"\n"
            else:
                out += disk[path] if program == "cat" else str(len(disk[path])).encode() + b" " + path.encode() + b"\n"
        return Ran(code, out, err)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Any:
    def made(secrets: dict[str, dict[str, bytes]] | None = None, **more: Any) -> Api:
        cluster = Api(DATA if secrets is None else secrets, **more)
        monkeypatch.setattr(mounted, "run", cluster.run)
        monkeypatch.setattr(mounted, "until", partial(mounted.until, sleep=cluster.sleep))
        monkeypatch.setattr(mounted, "wait", lambda *given, **named: REAL_WAIT(*given, sleep=cluster.sleep, **named))
        return cluster

    return made


REAL_WAIT = mounted.wait


def states(seen: mounted.Seen) -> dict[str, str]:
    return {file.key: state for file, state in seen.files}


def looked_at(cluster: Api, asked: Request = ASKED, data: Any = None) -> mounted.Seen:
    return inspect(cluster, "n", "p", "istio-proxy", files(asked, DATA if data is None else data))  # type: ignore[arg-type]


# --- one pod


DISKS = [
    (None, {"tls.crt": "same", "tls.key": "same"}),
    ({}, {"tls.crt": "missing", "tls.key": "missing"}),
    ({"/etc/nginx-client-certs/tls.crt": CERTIFICATE}, {"tls.crt": "same", "tls.key": "missing"}),
    (
        {"/etc/nginx-client-certs/tls.crt": CERTIFICATE + b"\n", "/etc/nginx-client-certs/tls.key": KEY[:-2] + b"x\n"},
        {"tls.crt": "differs", "tls.key": "differs"},
    ),
]


@pytest.mark.parametrize(("disk", "expected"), DISKS)
@pytest.mark.parametrize("programs", [("sha256sum",), ("cat", "wc")])
def test_files_are_compared(api: Any, disk: dict[str, bytes] | None, expected: dict[str, str], programs: tuple[str, ...]) -> None:
    cluster = api(programs=programs)
    cluster.kubelet = disk
    by_size = {"same": "same_size", "differs": "same_size"}  # of a key only the size is known without sha256sum
    if programs != ("sha256sum",):
        expected = {**expected, "tls.key": by_size.get(expected["tls.key"], expected["tls.key"])}
    assert states(looked_at(cluster)) == expected


def test_a_distroless_image_is_said_to_be_one(api: Any) -> None:
    seen = looked_at(api(programs=()))
    assert (states(seen), seen.method) == ({"tls.crt": "unknown", "tls.key": "unknown"}, "none")
    assert seen.wrong == []


def test_a_key_is_never_printed(api: Any) -> None:
    for programs in (("sha256sum",), ("cat", "wc"), ("cat",)):
        cluster = api(programs=programs)
        looked_at(cluster)
        assert not any(command[0] == "cat" and "tls.key" in command[-1] for command in cluster.commands)


@pytest.mark.parametrize("programs", [("sha256sum",), ("cat", "wc")])
def test_what_the_proxy_may_not_read_is_told(api: Any, programs: tuple[str, ...]) -> None:
    cluster = api(programs=programs)
    cluster.unreadable = {"/etc/nginx-client-certs/tls.key"}
    assert states(looked_at(cluster))["tls.key"] == "unreadable"


def test_without_the_secret_presence_is_all_that_is_known(api: Any) -> None:
    cluster = api(DATA)
    assert states(looked_at(cluster, data={})) == {"tls.crt": "present", "tls.key": "present"}
    cluster.kubelet = {}
    assert states(looked_at(cluster, data={})) == {"tls.crt": "missing", "tls.key": "missing"}


# --- the whole way


def mounting(cluster: Api, settings: Settings = NOW, notes: list[str] | None = None) -> dict[str, Any]:
    change = plan(cluster.before, ASKED, FIELD_MANAGER)
    cluster.applied.append(change.manifest)
    return settle(cluster, cluster.before, change, ASKED, settings, [] if notes is None else notes)  # type: ignore[arg-type]


def test_a_rollout_is_verified_in_its_new_pods(api: Any) -> None:
    result = mounting(api())
    assert result["rollout"]["complete"] and "failed" not in result
    fingerprint = ":".join(f"{byte:02x}" for byte in hashlib.sha256(b"\x00\x01\x02").digest())
    common = {"secret": "nginx-client-certs", "state": "same"}
    assert result["verified"] == [
        {
            "pod": "pod-r2",
            "method": "sha256sum",
            "files": [
                {
                    "path": "/etc/nginx-client-certs/tls.crt",
                    "key": "tls.crt",
                    "kind": "certificate",
                    "fingerprint_sha256": fingerprint,
                    **common,
                },
                {"path": "/etc/nginx-client-certs/tls.key", "key": "tls.key", "kind": "private_key", **common},
            ],
        }
    ]


def test_no_byte_and_no_digest_of_a_key_is_in_a_result(api: Any) -> None:
    for disk in (None, {"/etc/nginx-client-certs/tls.key": b"other"}):
        cluster = api()
        cluster.kubelet = disk
        told = json.dumps(mounting(cluster))
        for secret in (KEY.decode(), "c2VjcmV0", hashlib.sha256(KEY).hexdigest(), hashlib.sha256(b"other").hexdigest()):
            assert secret not in told


def test_a_missing_secret_is_named(api: Any) -> None:
    result = mounting(api({}))
    assert result["failed"]
    assert result["msg"] == (
        "Deployment recorded-deployments/gateway was not rolled out within 10 s: pod pod-r2 not ready: FailedMount: secret "
        '"nginx-client-certs" not found. What was applied stays - the previous pods go on serving; mend the cause and run again, or remove the '
        "mounts (state: absent), or set restore_on_failure"
    )
    assert "verified" not in result and "restored" not in result


def test_the_previous_template_is_put_back(api: Any) -> None:
    cluster = api({})
    result = mounting(cluster, Settings(10, True, True))
    assert (result["failed"], result["restored"], result["restoration"]["complete"]) == (True, True, True)
    assert "The previous template was put back, and was rolled out after 0.0 s" in result["msg"]
    assert [bool(manifest.get("spec")) for manifest in cluster.applied] == [True, False]


def test_a_restoration_that_is_refused_is_told(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = api({})

    def refuse(resource: Resource, manifest: dict[str, Any], *, force: bool) -> dict[str, Any]:
        raise denied("patch", resource, "n")

    monkeypatch.setattr(cluster, "apply", refuse)
    result = mounting(cluster, Settings(10, True, True))
    assert (result["failed"], result["restored"]) == (True, False)
    assert "could not be put back: permission denied" in result["msg"]


def test_what_was_written_is_told_when_the_api_server_goes_away(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = api()

    def silent(*__: Any) -> None:
        cluster.now += 5
        raise Unreachable("no answer from the API server at https://api")

    monkeypatch.setattr(cluster, "get", silent)
    result = mounting(cluster)
    assert result["failed"] and cluster.now >= 10
    assert "gateway could not be followed: no answer from the API server at https://api. What was applied stays" in result["msg"]


def test_what_this_run_did_not_begin_is_not_undone(api: Any) -> None:
    cluster = api({})
    cluster.applied.append(plan(cluster.before, ASKED, FIELD_MANAGER).manifest)
    result = settle(cluster, cluster.before, None, ASKED, Settings(10, True, True), [])
    assert result["failed"] and "restored" not in result and len(cluster.applied) == 1
    assert "This run changed nothing" in result["msg"]


def test_changed_files_are_waited_for(api: Any) -> None:
    cluster = api()
    cluster.kubelet = {"/etc/nginx-client-certs/tls.crt": b"old", "/etc/nginx-client-certs/tls.key": b"old"}
    real = cluster.run

    def later(*given: Any, **named: Any) -> Ran:
        if cluster.now >= 4:
            cluster.kubelet = None
        return real(*given, **named)

    mounted.run = later  # the fixture puts it back
    result = mounting(cluster)
    assert "failed" not in result and cluster.now >= 4
    assert {file["state"] for file in result["verified"][0]["files"]} == {"same"}


@pytest.mark.parametrize(("times", "fails"), [(2, False), (3, True)])
def test_a_connection_that_ends_is_tried_again(api: Any, times: int, fails: bool) -> None:
    cluster = api()
    real, ended = cluster.run, iter(range(times))

    def run(*given: Any, **named: Any) -> Ran:
        if next(ended, None) is not None:
            raise PodError("Pod n/pod-r2: the connection ended while sha256sum ran (gone); try again")
        return real(*given, **named)

    mounted.run = run  # the fixture puts it back
    result = mounting(cluster)
    assert result.get("failed", False) == fails
    assert ("verified" in result) != fails


def test_without_pods_no_file_is_looked_at(api: Any) -> None:
    cluster, notes = api(), []
    cluster.pod = lambda *_: {"metadata": {"name": "p", "namespace": "n"}}
    assert mounting(cluster, notes=notes)["verified"] == []
    assert notes == ["no files were looked at: the Deployment has no pods that are ready"]


def test_files_that_stay_wrong_are_a_failure(api: Any) -> None:
    cluster = api()
    cluster.kubelet = {"/etc/nginx-client-certs/tls.crt": b"old"}
    result = mounting(cluster, Settings(10, True, True))
    assert "/etc/nginx-client-certs/tls.crt (another content) in pod pod-r2" in result["msg"]
    assert "/etc/nginx-client-certs/tls.key (not there) in pod pod-r2" in result["msg"]
    assert result["restored"] is True
    assert 8 <= cluster.now <= 10


@pytest.mark.parametrize(
    ("settings", "more", "note"),
    [
        (NOW, {"forbidden": ("Exec",)}, "no files were looked at: permission denied"),
        (NOW, {"programs": ()}, "not all files were compared in pod-r2"),
        (NOW, {"forbidden": ("Secret",)}, "Secret recorded-deployments/nginx-client-certs was not checked: this user may not get it"),
        (Settings(10, False, False), {}, None),
    ],
)
def test_what_could_not_be_looked_at_is_noted(api: Any, settings: Settings, more: dict[str, Any], note: str | None) -> None:
    notes: list[str] = []
    result = mounting(api(**more), settings, notes)
    assert "failed" not in result
    assert len(set(notes)) == (1 if note else 0)
    assert note is None or notes[0].startswith(note)


# --- finding things


def test_a_deployment_by_name_or_by_its_pods(api: Any) -> None:
    cluster = api()
    for name, selector in (("gateway", None), (None, {"istio": "egressgateway"})):
        found = find(cluster, "n", name, selector)
        assert not isinstance(found, Problem)
        assert (found["kind"], found["metadata"]["name"]) == ("Deployment", "gateway")


def test_what_there_is_instead_is_named_where_it_may_be_seen(api: Any) -> None:
    found = find(api(), "n", "gatevay", None)
    assert isinstance(found, Problem)
    assert found.message == "expected a Deployment of that name in namespace n, found only gateway"


def test_contents_of_secrets(api: Any) -> None:
    found = contents(api(), "n", from_arguments({"mounts": [CLIENT, {"path": "/b", "secret": "b"}]}), [])
    assert found == {**DATA, "b": None}
    assert keys_of({**found, "c": {"k": b""}}) == {"nginx-client-certs": frozenset({"tls.crt", "tls.key"}), "b": None, "c": frozenset()}
