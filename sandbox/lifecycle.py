# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts, stops and judges the sandbox as a whole."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import build, control_plane, exports, istio, kube, layout, nginx, ports, preflight, workloads
from .layout import at
from .processes import Record, is_alive, last_lines, obituary, records, stop, stop_strays, strays, wait_for
from .progress import Clock, Failure, say

COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "istiod",
    "httpbin",
    "helloworld-v1",
    *(proxy.name for proxy in istio.PROXIES),
)
STAMP = layout.RUN / "started-with"


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One at a time."""
    layout.STATE.mkdir(parents=True, exist_ok=True)
    with (layout.STATE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another `sandbox` command is at work here: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def checks() -> dict[str, Callable[[], bool]]:
    """What each part must answer to count as healthy."""
    http: dict[str, str] = {
        "etcd": f"http://{at(layout.ETCD)}/health",
        "istiod": f"http://{at(layout.ISTIOD_HTTP)}/ready",
        "httpbin": f"http://{at(layout.HTTPBIN_BACKEND)}/status/200",
        "helloworld-v1": f"http://{at(layout.HELLOWORLD_BACKEND)}/hello",
        **{proxy.name: proxy.status for proxy in istio.PROXIES},
    }
    answers = {name: (lambda url=url: kube.answers_http(url)) for name, url in http.items()}
    return {**answers, "kube-apiserver": control_plane.is_ready}


def holds(check: Callable[[], bool], seconds: float = 5.0) -> bool:
    """With some patience: a busy machine answers late, and to start anew would cost users their objects."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def dead_extras() -> list[str]:
    """What was started with `run` and ended by itself: worth telling, but no reason to start the sandbox anew."""
    return [obituary(record) for record in records() if record.name not in COMPONENTS and not is_alive(record)]


def troubles() -> list[str]:
    """What is wrong with the running sandbox itself; nothing when it is healthy."""
    found = []
    known = {record.name: record for record in records()}
    probe = checks()
    for name in COMPONENTS:
        record = known.get(name)
        if record is None:
            found.append(f"{name} was not started")
        elif not is_alive(record):
            found.append(obituary(record))
        elif name in probe and not holds(probe[name]):
            found.append(f"{name} (pid {record.pid}) runs but does not answer. The last lines of {record.log}:\n{last_lines(record.log)}")
    if found:
        return found
    found += [
        f"{name} does not answer through the client's sidecar"
        for name in workloads.THROUGH_THE_MESH
        if not holds(functools.partial(workloads.answers_through_the_mesh, name))
    ]
    if not holds(istio.webhook_refuses):
        found.append("istiod's validating webhook is not in force: see ValidatingWebhookConfiguration istio-validator-istio-system")
    if not layout.ENV.is_file():
        found.append(f"{layout.ENV} is missing")
    return found


def require_environment() -> None:
    if not istio.envoy().is_file():
        raise Failure(f"{istio.envoy()} is missing: run `make environment`")


def clean() -> None:
    """Stops what runs, whatever state it is in: the API server before etcd, or it hangs; and removes what lives only while it runs."""
    running = records()
    last = ("kube-apiserver", "etcd")
    stop([record for record in running if record.name not in last], grace=3)
    for name in last:
        stop([record for record in running if record.name == name])
    if number := stop_strays():
        say(f"stopped {number} processes that an earlier sandbox left behind")
    shutil.rmtree(layout.RUN, ignore_errors=True)
    for path in (layout.ENV, layout.KUBECONFIG, layout.OPERATOR_KUBECONFIG):
        path.unlink(missing_ok=True)


def bring_up(clock: Clock) -> None:
    layout.STATE.chmod(0o700)
    if layout.LOGS.is_dir():
        shutil.rmtree(layout.PREVIOUS_LOGS, ignore_errors=True)
        layout.LOGS.rename(layout.PREVIOUS_LOGS)
    for directory in (layout.LOGS, layout.RUN, layout.RUN / "tmp"):
        directory.mkdir(parents=True, mode=0o700)
    STAMP.write_text(build.wanted_stamp())
    control_plane.bring_up()
    clock.lap(f"etcd, kube-apiserver (https://{at(layout.API)}), kube-controller-manager")
    applications = workloads.bring_up()
    istiod = istio.bring_up_istiod()
    clock.lap(f"istiod ({at(layout.ISTIOD_XDS)}), Istio's CRDs, gateway Services, httpbin, helloworld-v1")
    istio.bring_up_proxies()
    clock.lap(f"ingress gateway ({layout.INGRESS}), egress gateway ({layout.EGRESS}), client's sidecar ({at(layout.MESH_HTTP)})")
    exports.make_operator()
    clock.lap("the operator's service account with the shipped Role")
    workloads.wait([*applications, istiod, *(record for record in records() if record.name == layout.CLIENT_SIDECAR)])
    clock.lap("httpbin and helloworld-v1 answer through the mesh")
    wait_for("istiod's webhook to refuse what is wrong", istio.webhook_refuses, [istiod])
    exports.write()
    clock.lap("all ready: `. .sandbox/env`")


def up() -> None:
    preflight.require()
    require_environment()
    with locked():
        try:
            nginx.find()
        except Failure as failure:
            say(f"note: servers outside the mesh will not be available: {failure}")
        build.build()
        clock = Clock()
        if records() or strays():
            wrong = troubles()
            if STAMP.is_file() and STAMP.read_text() != build.wanted_stamp():
                wrong.append("it runs programs of another version")
            if not wrong:
                exports.make_operator()
                exports.write()
                for trouble in dead_extras():
                    say(trouble)
                clock.lap("already running and healthy: `. .sandbox/env`")
                return
            say("the sandbox is not healthy and is started anew:\n" + "\n".join(wrong))
        clean()
        ports.require_free(ports.needed())
        # an interruption leaves nothing half started either
        signal.signal(signal.SIGTERM, lambda *__: sys.exit(143))
        try:
            bring_up(clock)
        except BaseException:
            say("the start did not succeed: stopping what was started")
            clean()
            raise


def down() -> None:
    if not layout.STATE.is_dir():
        say("the sandbox does not run")
        return
    with locked():
        clock = Clock()
        running = len(records())
        clean()
        clock.lap(f"stopped {running} components; logs are left in {layout.LOGS}" if running else "the sandbox does not run")


def describe(record: Record) -> str:
    state = "running" if is_alive(record) else "DEAD"
    since = time.strftime("%F %T", time.localtime(Path(f"/proc/{record.pid}").stat().st_ctime)) if state == "running" else "-"
    places = " ".join(at(place) for place in record.ports)
    return f"{record.name:<24} {state:<8} pid {record.pid:<8} since {since:<20} {places}"


def status() -> int:
    """0 healthy, 1 something is wrong, 3 not running (as systemctl has it)."""
    found = records()
    if not found:
        left = strays()
        say(
            f"the sandbox does not run; processes of it are left: {left}, `make down` ends them"
            if left
            else "the sandbox does not run: `make sandbox`"
        )
        return 1 if left else 3
    for record in found:
        print(describe(record))
    wrong, extras = troubles(), dead_extras()
    for trouble in (*wrong, *extras):
        print(trouble)
    if wrong:
        print("NOT healthy: `make sandbox` starts it anew")
    elif extras:
        print("healthy, apart from what was started beside it")
    else:
        print("healthy")
    return 1 if wrong or extras else 0


def require_running() -> None:
    if not layout.ENV.is_file():
        raise Failure("the sandbox does not run: `make sandbox`")
