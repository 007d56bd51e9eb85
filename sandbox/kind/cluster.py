# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster as a whole: made with kind, furnished with Istio, judged, removed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .. import build, exports, kube, layout, lifecycle, pki
from ..progress import Clock, Failure, say
from . import commands, docker, images, programs
from .layout import CLUSTER, CONTAINER, ENV, HERE, INVENTORY, KUBECONFIG, LOGS, OPERATOR_KUBECONFIG, STATE

NAMESPACE, INGRESS = "istio-system", layout.INGRESS_GATEWAY
ISTIOCTL = layout.BIN / "istioctl"
BUILT = f"{images.REPOSITORY}:"


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One at a time."""
    STATE.mkdir(parents=True, exist_ok=True)
    STATE.parent.chmod(0o700)
    with (STATE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another `sandbox.kind` command is at work here: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def kind(*arguments: str | Path, seconds: float | None = None) -> str:
    return commands.run([programs.path("kind"), *arguments], environment=docker.environment(), seconds=seconds)


def kubectl(*arguments: str | Path, text: str | None = None) -> str:
    environment = {"KUBECONFIG": str(KUBECONFIG), "KUBECACHEDIR": str(STATE / "kube-cache")}
    return commands.run([layout.BIN / "kubectl", "--request-timeout=20s", *arguments], environment=environment, text=text, seconds=400)


def container() -> dict[str, Any] | None:
    """What Docker says of the node, or None when there is none."""
    try:
        found: dict[str, Any] = json.loads(docker.docker("container", "inspect", CONTAINER, seconds=20))[0]
    except Failure:
        return None
    return found


def address_of(node: dict[str, Any]) -> str:
    return str(node["NetworkSettings"]["Networks"]["kind"]["IPAddress"])


def create(image: str, clock: Clock) -> None:
    options: list[str | Path] = ["--name", CLUSTER, "--image", image, "--config", HERE / "cluster.yaml", "--kubeconfig", KUBECONFIG]
    if not image.startswith(BUILT):
        say("kind pulls the node image, some hundred megabytes, where Docker does not have it yet")
    try:
        kind("create", "cluster", *options, "--retain", seconds=600)
    except Failure as failure:
        kept = LOGS / "node"
        shutil.rmtree(kept, ignore_errors=True)
        with contextlib.suppress(Failure):
            kind("export", "logs", "--name", CLUSTER, kept, seconds=120)
        raise Failure(f"{failure}\nThe node's logs are in {kept}") from None
    KUBECONFIG.chmod(0o600)
    clock.lap(f"kind cluster {CLUSTER}")


def settings_of_istio(image: str) -> list[str]:
    """Its own images, or ours on a node image of ours."""
    if image.startswith(BUILT):
        plain = ["--filename", str(HERE / "istio-plain-envoy.yaml")]
        return [*plain, "--set", f"hub={images.BUILT_HUB}", "--set", f"tag={images.BUILT_TAG}"]
    pins = images.pins()["istio"]
    return ["--set", f"hub={pins['hub']}", "--set", f"tag={pins['tag']}"]


def pods() -> str:
    try:
        return kubectl("get", "pods", "--all-namespaces", "--output=wide")
    except Failure:
        return "(the API server does not answer)\n"


def warnings() -> str:
    """The newest Events that tell of trouble."""
    try:
        events = kubectl("get", "events", "--all-namespaces", "--field-selector=type=Warning", "--sort-by=.lastTimestamp")
        return "\n".join(events.splitlines()[-15:])
    except Failure:
        return ""


def install_istio(image: str, clock: Clock) -> None:
    command: list[str | Path] = [
        ISTIOCTL,
        "install",
        "--skip-confirmation",
        "--readiness-timeout=300s",
        "--filename",
        HERE / "istio.yaml",
        *settings_of_istio(image),
    ]
    try:
        commands.run(command, environment={"KUBECONFIG": str(KUBECONFIG)}, seconds=600)
    except Failure as failure:
        raise Failure(f"{failure}\n{pods()}{warnings()}") from None
    clock.lap("Istio: istiod, ingress gateway, egress gateway")


def publish_ingress(address: str) -> None:
    """As a load balancer's controller would: kube-proxy then answers at the node's address on the Service's own ports."""
    status = {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}
    kubectl("--namespace", NAMESPACE, "patch", "service", INGRESS, "--subresource=status", "--type=merge", "--patch", json.dumps(status))


def make_operator() -> None:
    """The service account with exactly the Roles and limits that are shipped, and a kubeconfig with a new token for it."""
    for file in (layout.OPERATOR_RBAC, layout.OPERATOR_ADMISSION, layout.OPERATOR_CLIENTS):
        kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=sandbox", "--filename", file)
    namespace, account = exports.OPERATOR
    token = kubectl("--namespace", namespace, "create", "token", account, f"--duration={kube.TOKEN_SECONDS}s").strip()
    cluster = yaml.safe_load(KUBECONFIG.read_text())["clusters"][0]["cluster"]
    pki.write_private(OPERATOR_KUBECONFIG, kube.kubeconfig(account, token, cluster))


def variables(address: str) -> dict[str, str]:
    """The same names as in `.sandbox/env`."""
    return {
        "KUBECONFIG": str(KUBECONFIG),
        "OPERATOR_KUBECONFIG": str(OPERATOR_KUBECONFIG),
        "INGRESS_HOST": address,
        "SECURE_INGRESS_PORT": "443",
        "ISTIOCTL": str(ISTIOCTL),
        "ANSIBLE_COLLECTIONS_PATH": str(layout.VENV / "collections"),
        "ANSIBLE_PYTHON_INTERPRETER": str(layout.VENV / "bin" / "python"),
        "ANSIBLE_INVENTORY": str(INVENTORY),
        **docker.environment(),
    }


def write_env(address: str) -> None:
    comment = "Written by `python -m sandbox.kind up`, removed by `down`: . .sandbox/kind/env"
    text = exports.render(comment, variables(address), [layout.VENV / "bin", layout.BIN], ["localhost", "127.0.0.1", address])
    pki.write_private(ENV, text.encode())


def unavailable(deployments: dict[str, Any]) -> list[str]:
    """Of a list of Deployments, those whose Pods are not all there."""
    found = []
    for one in deployments["items"]:
        ready, wanted = one["status"].get("availableReplicas", 0), one["spec"]["replicas"]
        if ready < wanted:
            found.append(f"{one['metadata']['namespace']}/{one['metadata']['name']}: {ready} of {wanted} Pods are available")
    return found


def troubles(node: dict[str, Any]) -> list[str]:
    """What is wrong with the cluster that is there; nothing when it is healthy."""
    if not node["State"]["Running"]:
        return [f"its container {CONTAINER} does not run"]
    missing = [str(path) for path in (KUBECONFIG, OPERATOR_KUBECONFIG, ENV, ISTIOCTL, layout.BIN / "kubectl") if not path.is_file()]
    if missing:
        return [f"{', '.join(missing)} missing"]
    try:
        kubectl("get", "--raw", "/readyz")
        found: list[str] = []
        for namespace in ("kube-system", NAMESPACE):
            found += unavailable(json.loads(kubectl("--namespace", namespace, "get", "deployments", "--output=json")))
        service = json.loads(kubectl("--namespace", NAMESPACE, "get", "service", INGRESS, "--output=json"))
    except Failure as failure:
        return [str(failure)]
    published = [one.get("ip") for one in service["status"].get("loadBalancer", {}).get("ingress", [])]
    if published != [address_of(node)]:
        found.append(f"Service {INGRESS} names the address {published}, and the node has {address_of(node)}")
    return found


def troubles_with_patience(node: dict[str, Any], seconds: float = 15) -> list[str]:
    """A busy machine answers late, and to make the cluster anew would cost users their objects."""
    deadline = time.monotonic() + seconds
    while (found := troubles(node)) and node["State"]["Running"] and time.monotonic() < deadline:
        time.sleep(1)
    return found


def remove() -> bool:
    """Whether there was one."""
    node = container()
    if node:
        docker.docker("container", "rm", "--force", "--volumes", CONTAINER, seconds=120)
    for path in (ENV, KUBECONFIG, OPERATOR_KUBECONFIG):
        path.unlink(missing_ok=True)
    return node is not None


def is_right(image: str) -> bool:
    """Whether a cluster made of it is what `up` would make. Where either way is good, an image of whichever way is."""
    pinned = str(images.pins()["node"])
    right = {
        "pull": image.rpartition("@")[2] == pinned.rpartition("@")[2],
        "build": image.startswith(BUILT) and image == images.node_name(),
    }
    choice = images.choice()
    return any(right.values()) if choice == "auto" else right[choice]


def reasons_to_replace(node: dict[str, Any]) -> list[str]:
    image = str(node["Config"]["Image"])
    return ([] if is_right(image) else [f"it is made of {image}, and another node image is wanted"]) or troubles_with_patience(node)


def node_image(clock: Clock) -> str:
    """Its name; everything that is needed before kind can begin is there afterwards."""
    mode, why = images.decide()
    clock.lap(f"images: {mode}, because {why}")
    if mode == "build":
        images.require_builder()
    with lifecycle.locked():
        build.build()
    programs.build_tool("kind")
    clock.lap("kind, kubectl, istioctl")
    return str(images.pins()["node"]) if mode == "pull" else images.build_node_image(clock)


def up() -> None:
    if sys.platform != "linux":
        raise Failure(f"expected Linux, where the node's address can be reached, found {sys.platform}: run it in a virtual machine")
    images.choice()
    with locked():
        clock = Clock()
        clock.lap(f"Docker: {docker.ensure()}")
        if node := container():
            wrong = reasons_to_replace(node)
            if not wrong:
                make_operator()
                write_env(address_of(node))
                clock.lap("already running and healthy: `. .sandbox/kind/env`")
                return
            say(f"the kind cluster {CLUSTER} is made anew:\n" + "\n".join(wrong))
            remove()
        image = node_image(clock)
        # an interruption leaves nothing half made either
        signal.signal(signal.SIGTERM, lambda *__: sys.exit(143))
        try:
            bring_up(image, clock)
        except BaseException:
            say("the start did not succeed: removing the cluster")
            remove()
            raise


def bring_up(image: str, clock: Clock) -> None:
    create(image, clock)
    node = container()
    if node is None:
        raise Failure(f"kind made a cluster, but Docker knows no container {CONTAINER}")
    install_istio(image, clock)
    publish_ingress(address_of(node))
    kubectl("label", "namespace", "default", "istio-injection=enabled", "--overwrite")
    make_operator()
    kubectl("--namespace", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=180s", "--request-timeout=0")
    write_env(address_of(node))
    if wrong := troubles_with_patience(node, 60):
        raise Failure("the cluster is not healthy:\n" + "\n".join(wrong))
    clock.lap(f"CoreDNS, the operator's service account; the ingress gateway is at {address_of(node)}:443: `. .sandbox/kind/env`")


def down() -> None:
    with locked():
        clock = Clock()
        docker.revive()
        was_there = docker.answers() and remove()
        stopped = docker.stop()
        done = [*(["removed the cluster"] if was_there else []), *(["stopped our Docker"] if stopped else [])]
        clock.lap(f"{' and '.join(done)}; images and logs stay in {STATE}" if done else "the kind cluster does not run")


def status() -> int:
    """0 healthy, 1 something is wrong, 3 not running (as systemctl has it)."""
    node = container() if docker.answers() else None
    if node is None and docker.has_died():
        say("the Docker that we started has ended by itself and may have left processes: `python -m sandbox.kind down` ends them")
        return 1
    if node is None:
        say("the kind cluster does not run: `python -m sandbox.kind up`")
        return 3
    print(f"container {CONTAINER} of {node['Config']['Image']}, {node['State']['Status']}, address {address_of(node)}")
    wrong = troubles(node)
    if node["State"]["Running"]:
        print(pods(), end="")
    for trouble in wrong:
        print(trouble)
    print("NOT healthy: `python -m sandbox.kind up` makes it anew" if wrong else "healthy")
    return 1 if wrong else 0
