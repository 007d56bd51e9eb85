# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module in Ansible's own process, and as a module as ever: what a user sees is the same.

One playbook for all calls, run both ways on every ansible-core that there is an environment for; results and output are compared as a whole.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT, Mesh, Pair, Run

Issue = Callable[..., Pair]
Task = dict[str, Any]
VENVS = [path for name in (".venv", ".venv-2.16", ".venv-2.19") if ((path := ROOT / name) / "bin" / "ansible-playbook").is_file()]
"""The versions of ansible-core that are supported; what other environments have is there already."""
NAMESPACE = f"test-{uuid.uuid4().hex[:8]}"
OWN = "runs in Ansible's own process"


def credential(name: str, **more: Any) -> Task:
    return {"meshops.istio.istio_tls_credential": {"name": name, "namespace": NAMESPACE, **more}}


def info(**arguments: Any) -> Task:
    return {"meshops.istio.istio_tls_credential_info": {"namespace": NAMESPACE, **arguments}}


def gateway(**more: Any) -> Task:
    routes = [{"destination": {"host": f"shop.{NAMESPACE}.svc.cluster.local", "port": 80}}]
    server = {"hosts": ["shop.example.com"], "credential_name": "no-such-credential", "routes": routes}
    given = {"name": "shop", "namespace": NAMESPACE, "selector": {"istio": "none"}, "servers": [server], **more}
    return {"meshops.istio.ingress_tls_gateway": {name: value for name, value in given.items() if value is not None}}


def egress(**more: Any) -> Task:
    given = {"name": "pay", "host": "pay.example.org", "namespace": NAMESPACE, "credential_name": "pay", "on_invalid": "warn", **more}
    return {"meshops.istio.egress_mtls_origination": {name: value for name, value in given.items() if value is not None}}


def mount(**more: Any) -> Task:
    mounts = [{"path": "/etc/certs", "secret": "one"}]
    return {"meshops.istio.gateway_credential_mount": {"name": "gw", "namespace": NAMESPACE, "mounts": mounts, "wait": False, **more}}


def proxies(**arguments: Any) -> Task:
    return {"meshops.istio.gateway_proxy_info": {"timeout": 0, **arguments}}


def probe(**more: Any) -> Task:
    return {"meshops.istio.tls_probe": {"host": "shop.example.com", "address": "127.0.0.1", "port": 1, "timeout": 0, **more}}


class Calls:
    """Tasks with a name each. Values that are secret, or of several lines, come from variables, as from a vault."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.values: dict[str, str] = {}

    def aside(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.aside(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.aside(inner) for inner in value]
        if isinstance(value, str) and "\n" in value:
            self.values[f"value_{len(self.values)}"] = value
            return f"{{{{ value_{len(self.values) - 1} }}}}"
        return value

    def add(self, name: str, task: Task, **keywords: Any) -> None:
        self.tasks.append({"name": name, "ignore_errors": True, **self.aside(task), **keywords})


def credential_calls(calls: Calls, one: Pair, two: Pair, files: Path) -> None:
    content = {"certificate": one.certificate, "private_key": one.private_key}
    add = calls.add
    add("credential created", credential("one", **one.paths), diff=True)
    add("credential unchanged", credential("one", **one.paths))
    add("credential in check mode", credential("one", **two.paths), check_mode=True, diff=True)
    add("credential updated", credential("one", **two.paths, labels={"a": "b"}), diff=True)
    add("credential of another layout", credential("one", layout="generic", replace=True, **content), diff=True)
    add("credential of two Secrets", credential("two", layout="split", ca_certificate=one.ca, **content), diff=True)
    listed = [{"name": "l1", **one.paths}, {"name": "l2", **two.paths, "hosts": ["test.example.com"]}]
    add("credentials in a list", {"meshops.istio.istio_tls_credential": {"namespace": NAMESPACE, "credentials": listed, "details": "all"}})
    add("credential of relative paths", credential("one", certificate_path="relative.crt", private_key_path="relative.key"))
    add("key of another certificate", credential("one", certificate=one.certificate, private_key=two.private_key))
    add("several problems", credential("one", certificate=one.certificate, private_key=two.private_key, hosts=["no.example.com", "a b"]))
    add("problems as warnings", credential("one", **one.paths, hosts=["no.example.com"], on_invalid="warn", min_remaining="99w"))
    add("nothing to name it by", {"meshops.istio.istio_tls_credential": {"namespace": NAMESPACE}})
    add("an item without a name", {"meshops.istio.istio_tls_credential": {"credentials": [{"certificate": one.certificate}]}})
    add("an empty item", {"meshops.istio.istio_tls_credential": {"credentials": [None]}})
    add("both forms at once", credential("one", credentials=[{"name": "two"}]))
    add("an unknown option", credential("one", certificat="x"))
    add("an unknown option of an item", {"meshops.istio.istio_tls_credential": {"credentials": [{"name": "one", "unknown": 1}]}})
    add("a wrong type", credential("one", force_conflicts="perhaps"))
    add("a wrong choice", credential("one", layout="both"))
    add("a key in an unknown option", credential("one", key=one.private_key))
    add("a key as a path", credential("one", certificate=one.certificate, private_key_path=one.private_key))
    add("a key as a label", credential("one", **content, labels={"key": one.private_key}))
    add("a key as a choice", credential("one", **content, layout=one.private_key))
    add("half a key", credential("one", certificate=one.certificate, private_key=one.private_key[:800]))
    add("no such file", credential("one", certificate_path="/none", private_key_path=str(files)))
    add("no such namespace", credential("one", **one.paths, namespace="no-such-namespace"))
    add("no such namespace, in check mode", credential("one", **one.paths, namespace="no-such-namespace"), check_mode=True)
    add("no such kubeconfig", credential("one", **one.paths, kubeconfig="/none"))
    add("a login that is refused", credential("one", **one.paths, api_key="c4n4ry-c4n4ry"))
    add("a template that is none", credential("one", certificate={"__ansible_unsafe": "{{ x }}"}, private_key="x"))
    add("a task without a log", credential("one", **one.paths), no_log=True)


def keyword_calls(calls: Calls, one: Pair, two: Pair, files: Path) -> None:
    """What stands beside a module in a task."""
    add = calls.add
    home, nowhere = {"HOME": str(files)}, {"K8S_AUTH_KUBECONFIG": "/none"}
    add("environment", credential("one", **one.paths), environment=nowhere)
    add("environment, as a template", credential("one", **one.paths), environment=[nowhere, {"K8S_AUTH_KUBECONFIG": "{{ here }}"}])
    add("environment has a home", credential("one", certificate_path="~/relative.crt", private_key_path="~/relative.key"), environment=home)
    add("environment reads Python's path", credential("one", **one.paths), environment={"PYTHONPATH": "/none"})
    add("the next task has none of it", credential("one", certificate_path="~/relative.crt", private_key_path="~/relative.key"))
    defaults = {"group/meshops.istio.istio": {"kubeconfig": "/none/group"}}
    add("defaults of the group", credential("one", **one.paths), module_defaults=defaults)
    own = {"meshops.istio.istio_tls_credential": {"kubeconfig": "{{ here }}", "details": "all"}}
    add("defaults of the module", credential("one", **one.paths), module_defaults={**defaults, **own})
    add("delegated", credential("one", **one.paths), delegate_to="localhost")
    add("delegated to another Python", credential("one", **one.paths), delegate_to="elsewhere")
    add("become", credential("one", **one.paths), become=True, become_method="ansible.builtin.sudo", become_exe="/none/sudo")
    add("async", credential("one", **one.paths), **{"async": 60, "poll": 1})
    many = credential("{{ item.name }}", certificate_path="{{ item.path }}", private_key_path=str(one.private_key_path))
    items = [{"name": "i1", "path": path} for path in (one.certificate_path, two.certificate_path, one.certificate_path)]
    shown = [{**item, "path": str(item["path"])} for item in items]
    add("a loop with a refusal in the middle", many, loop=shown, loop_control={"label": "{{ item.path | basename }}"})
    logins = [{"api_key": "c4n4ry-c4n4ry"}, {}, {"kubeconfig": "/none"}, {}]
    add("a loop of several logins", info(name="one", api_key="{{ item.api_key | default(omit) }}"), loop=logins)
    homes = [str(files), "/none", str(files)]
    path = {"certificate_path": "~/relative.crt", "private_key_path": "~/relative.key"}
    add("a loop of several environments", credential("one", **path), environment={"HOME": "{{ item }}"}, loop=homes)
    warned = credential("one", **one.paths, hosts=["{{ item }}"], on_invalid="warn")
    add("a loop of warnings", warned, loop=["a.example.com", "test.example.com", "b.example.com"])
    add("until", probe(expect={"failure": ["connection_refused"]}), register="tried", until="tried.attempts == 2", retries=1, delay=0)
    add("until it succeeds", probe(), register="tried", until="tried is failed", retries=2, delay=0)
    add("registered", info(name="one"), register="known", failed_when="known.credentials[0].exists", changed_when="true")
    add("too late", probe(expect={"status": 200}, timeout=20, delay=0.2), timeout=1)
    add("after that, in time", info(name="one"), timeout=60)
    add("a number that is none", probe(timeout=".nan"))
    add("a number beyond all bounds", probe(timeout=1e300))


def other_calls(calls: Calls, one: Pair, api: tuple[str, int, str]) -> None:
    add = calls.add
    add("info about one", info(name="one", hosts=["no.example.com"], min_remaining="99w"))
    add("info about all", info())
    add("info about what is not there", info(names=["nothing", "one"]))
    add("info with a bad name", info(name="A_B"))
    add("info with an unknown option", info(nam="one"))
    add("info with a key as a name", info(name=one.private_key))
    add("info with two forms", info(name="one", names=["two"]))
    add("gateway in check mode", gateway(), check_mode=True, diff=True)
    add("gateway created", gateway(), diff=True)
    add("gateway unchanged", gateway())
    add("gateway changed", gateway(labels={"a": "b"}), diff=True)
    add("gateway with a bad host", gateway(servers=[{"hosts": ["https://x"], "credential_name": "c"}]))
    add("gateway with a bad port", gateway(servers=[{"hosts": ["x.example.com"], "port": "http", "credential_name": "c"}]))
    add("gateway without servers", gateway(servers=None))
    add("gateway with a key where none belongs", gateway(servers=[{"hosts": ["x.example.com"], "private_key": one.private_key}]))
    add("gateway absent", gateway(state="absent", servers=None), diff=True)
    add("egress in check mode", egress(), check_mode=True, diff=True)
    add("egress created", egress(), diff=True)
    add("egress unchanged", egress())
    add("egress with a bad host", egress(host="*.example.com"))
    add("egress with an unknown option", egress(endpoint=[]))
    add("egress with a key as a credential", egress(credential_name=one.private_key))
    add("egress of nothing", egress(name=None, services=[]))
    add("egress absent", egress(state="absent"), diff=True)
    add("mount in check mode", mount(), check_mode=True, diff=True)
    add("mount made", mount(), diff=True)
    add("mount unchanged", mount())
    add("mount without a Deployment", mount(name="nothing"))
    add("mount with a bad path", mount(mounts=[{"path": "etc", "secret": "one"}]))
    add("mount with a key as a path", mount(mounts=[{"path": one.private_key, "secret": "one"}]))
    add("mount with an unknown option", mount(timeouts=1))
    add("mount absent", mount(state="absent", mounts=[]), diff=True)
    add("proxies that nobody runs", proxies(admin_urls=["http://127.0.0.1:1"], expect={"proxies": 1}))
    add("proxies in no Pod", proxies(namespace=NAMESPACE, expect={"credentials": [{"name": "one"}]}))
    add("proxies of a bad URL", proxies(admin_urls=["ftp://x"]))
    add("proxies of a bad expression", proxies(admin_urls=["http://127.0.0.1:1"], access_log={"regex": "(", "paths": ["/none"]}))
    add("proxies with an unknown option", proxies(expect={"credential": []}))
    host, port, ca = api
    server = {"host": host, "address": host, "port": port, "path": "/livez", "request_proxy": "none"}
    add("probe that succeeds", probe(**server, ca_certificate=ca, expect={"status": [200, 401]}))
    add("probe of an unknown CA", probe(**server))
    add("probe that finds another status", probe(**server, ca_certificate=ca, expect={"status": 599}))
    add("probe that is refused", probe())
    add("probe that is to be refused", probe(expect={"failure": ["connection_refused"]}))
    add("probe that would change something", probe(method="POST"), check_mode=True)
    add("probe with a bad option", probe(expect={"status": "x"}))
    add("probe without a host", {"meshops.istio.tls_probe": {}})
    add("probe with a key as a certificate", probe(client_certificate=one.private_key, client_private_key=one.private_key))
    add("probe with a key as a host", probe(host=one.private_key))
    add("probe with what a terminal acts upon", probe(host="\u202e\x1b[31m"))
    secret = {**server, "secret_headers": {"Authorization": "Bearer c4n4ry-c4n4ry"}, "path": "/c4n4ry-c4n4ry"}
    add("probe with a secret header", probe(**secret, ca_certificate=ca, expect={"status": 599}))
    add("probe through a proxy of the environment", probe(address=None), environment={"HTTPS_PROXY": "http://u:c4n4ry@127.0.0.1:1"})


def rotation(**more: Any) -> Task:
    return {"meshops.istio.istio_tls_rotation": {"namespace": NAMESPACE, "proof_timeout": 1, **more}}


def diagnose(**more: Any) -> Task:
    return {"meshops.istio.gateway_diagnose": {"fail_on": "never", **more}}


def rotation_calls(calls: Calls, one: Pair, two: Pair, files: Path) -> None:
    """Rotation, diagnosis and the lists of probes and gateways."""
    add = calls.add
    add("a credential to rotate", credential("one", **one.paths))
    add("a gateway for it", gateway(servers=[{"hosts": ["test.example.com"], "credential_name": "one", "redirect_to_https": False}]))
    add("rotation in check mode", rotation(name="one", **two.paths), check_mode=True, diff=True)
    add("rotation made", rotation(name="one", **two.paths), diff=True)
    add("rotation unchanged", rotation(name="one", **two.paths))
    add("rotation of another certificate's key", rotation(name="one", certificate=one.certificate, private_key=two.private_key))
    add("rotation with an unknown option", rotation(name="one", **one.paths, certificat="x"))
    add("rotation with a key as a plan", rotation(name="one", **one.paths, plan=one.private_key))
    refused = {"host": "test.example.com", "address": "127.0.0.1", "port": 1, "client_certificate": one.private_key}
    add("rotations in a list", rotation(rotations=[{"name": "one", **one.paths}, {"name": "no such", **two.paths, "probes": [refused]}]))
    manifests = files / "manifests.yml"
    manifests.write_text(yaml.safe_dump({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", **FAULTY}))
    add("diagnosis of files", diagnose(paths=[str(manifests)]))
    add("diagnosis that fails", diagnose(paths=[str(manifests)], fail_on="warning"))
    add("diagnosis of a key as a path", diagnose(paths=[one.private_key]))
    add("diagnosis since what is no result", diagnose(paths=[str(manifests)], since=str(manifests)))
    add("diagnosis of the cluster", diagnose(namespaces=[NAMESPACE]))
    listed = {"address": "127.0.0.1", "port": 1, "timeout": 0}
    expected = [{"name": name, "host": f"{name}.example.com", "expect": {"failure": ["connection_refused"]}} for name in ("a", "b")]
    add("probes as expected", {"meshops.istio.tls_probe": {"probes": expected, **listed}})
    add("probes of which one fails", {"meshops.istio.tls_probe": {"probes": [*expected, {"name": "c", "host": "c"}], **listed}})
    add("probes of one name", {"meshops.istio.tls_probe": {"probes": [expected[0], expected[0]], **listed}})
    add("probes with a key in an item", {"meshops.istio.tls_probe": {"probes": [{**refused, "name": "a"}], **listed}})
    servers = [{"hosts": ["l.example.com"], "credential_name": "one"}]
    several = [{"name": name, "selector": {"istio": name}, "servers": servers} for name in ("first", "second")]
    gateways = {"namespace": NAMESPACE, "gateways": several}
    add("gateways made", {"meshops.istio.ingress_tls_gateway": gateways}, diff=True)
    add("gateways of which one is bad", {"meshops.istio.ingress_tls_gateway": {**gateways, "gateways": [*several, {"name": "A_B"}]}})
    add("gateways with a key in an item", {"meshops.istio.ingress_tls_gateway": {"gateways": [{"name": "x", "key": one.private_key}]}})
    add("gateways removed", {"meshops.istio.ingress_tls_gateway": {**gateways, "state": "absent"}}, diff=True)
    add("the gateway for it removed", gateway(state="absent", servers=None))


FAULTY: dict[str, Any] = {
    "metadata": {"name": "faulty", "namespace": "shop"},
    "spec": {
        "selector": {"istio": "ingressgateway"},
        "servers": [{"hosts": ["*"], "port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "tls": {"mode": "SIMPLE"}}],
    },
}


VOLATILE = {"elapsed", "timings", "ansible_job_id", "results_file", "frame", "audit-id", "date", "seconds"}
PROGRESS = re.compile(r"^(?:\S+: meshops\.istio\.\w+: .*, after \d+ s|ASYNC POLL on .*)\n", re.MULTILINE)
"""What tells only how long something took."""
NUMBERS = re.compile(
    r"(?<=\"elapsed\": )[\d.]+|(?<=\"seconds\": )[\d.]+|(?<=\"timings\": )\{[^}]*\}|\bj\d+\.\d+|(?<=\(look )\d+, after [\d.]+(?= s\))|0x[0-9a-f]+"
    r"|[0-9a-f]{8}-[0-9a-f-]{27}|\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT"
)


def settled(value: Any) -> Any:
    """A result without what differs from run to run."""
    if isinstance(value, dict):
        return {name: settled(inner) for name, inner in value.items() if name not in VOLATILE}
    if isinstance(value, list):
        return [settled(inner) for inner in value]
    return NUMBERS.sub("*", PROGRESS.sub("", value)) if isinstance(value, str) else value


def assert_same(here: Any, there: Any, where: str) -> None:
    """The first difference, at its place."""
    if isinstance(here, dict) and isinstance(there, dict):
        assert here.keys() == there.keys(), f"{where}: {here.keys() ^ there.keys()}"
        for name in here:
            assert_same(here[name], there[name], f"{where}.{name}")
    elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for number, (one, other) in enumerate(zip(here, there, strict=True)):
            assert_same(one, other, f"{where}[{number}]")
    else:
        assert here == there, f"{where}: {here!r} in Ansible's process, {there!r} as a module"


@pytest.fixture(scope="module")
def place(mesh: Mesh) -> Iterator[None]:
    """A namespace with a Deployment, whose objects each run makes and removes."""
    template = {"metadata": {"labels": {"app": "gw"}}, "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "gw"}}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gw", "namespace": NAMESPACE}, "spec": spec}
    mesh.kubectl("create", "namespace", NAMESPACE)
    mesh.kubectl("create", "-f", "-", stdin=json.dumps(deployment))
    yield
    mesh.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def calls(request: pytest.FixtureRequest, mesh: Mesh, issue: Issue, tmp_path: Path) -> Calls:
    one, two = issue("test.example.com"), issue("test.example.com")
    for name, path in (("relative.crt", one.certificate_path), ("relative.key", one.private_key_path)):
        (tmp_path / name).write_text(path.read_text())
    cluster = json.loads(mesh.kubectl("config", "view", "--flatten", "--minify", "--raw", "-o", "json"))["clusters"][0]["cluster"]
    host, __, port = cluster["server"].removeprefix("https://").partition(":")
    ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
    made = Calls()
    if request.param == "credentials":
        credential_calls(made, one, two, tmp_path)
    elif request.param == "keywords":
        keyword_calls(made, one, two, tmp_path)
    elif request.param == "rotations and lists":
        rotation_calls(made, one, two, tmp_path)
    else:
        made.add("a credential for the others", credential("one", **one.paths))
        other_calls(made, one, (host, int(port), ca))
    made.add(
        "all removed", credential("{{ item }}", state="absent", force_conflicts=True), loop=["one", "two", "l1", "l2", "i1"], diff=True
    )
    made.values["here"] = mesh.environment["KUBECONFIG"]
    return made


def run_both(
    mesh: Mesh, tmp_path: Path, tasks: list[Task], values: dict[str, Any], venv: Path, *flags: str, **more: str
) -> tuple[Run, Run]:
    """In Ansible's process, then as a module."""
    playbook = tmp_path / "playbook.yml"
    other = {"hosts": "elsewhere", "gather_facts": False, "tasks": []}
    playbook.write_text(yaml.safe_dump([{"hosts": "sandbox", "gather_facts": False, "tasks": tasks}, other], width=10**6))
    (tmp_path / "values.json").write_text(json.dumps(values))
    hosts = {"elsewhere": {"ansible_connection": "local", "ansible_python_interpreter": "/none/python"}}
    (tmp_path / "more.yml").write_text(yaml.safe_dump({"elsewhere_only": {"hosts": hosts}}))
    given = ("-i", mesh.environment["ANSIBLE_INVENTORY"], "-i", str(tmp_path / "more.yml"), f"-e@{tmp_path / 'values.json'}", *flags)
    here, there = (
        # with a seed, because Ansible prints sets
        mesh.playbook(playbook, *given, login="admin", venv=venv, MESHOPS_IN_PROCESS=switch, PYTHONHASHSEED="0", **more)
        for switch in ("true", "false")
    )
    return here, there


@pytest.mark.parametrize("venv", VENVS, ids=lambda path: path.name)
@pytest.mark.parametrize(
    ("calls", "least"), [("credentials", 30), ("keywords", 20), ("others", 45), ("rotations and lists", 20)], indirect=["calls"]
)
def test_what_a_user_sees_is_the_same_both_ways(mesh: Mesh, place: None, calls: Calls, least: int, tmp_path: Path, venv: Path) -> None:
    here, there = run_both(mesh, tmp_path, calls.tasks, calls.values, venv, "-v")
    assert len(calls.tasks) >= least
    assert [record["task"] for record in here.records] == [task["name"] for task in calls.tasks], here.output[-3000:]
    for mine, other in zip(here.records, there.records, strict=True):
        assert_same(settled(mine), settled(other), mine["task"])
    assert settled(here.output).splitlines() == settled(there.output).splitlines()
    assert here.code == there.code == 0
    outcomes = [record["status"] for record in here.records]
    assert outcomes.count("ok") > least / 4 and outcomes.count("failed") > least / 4, outcomes


# --- which way, and why


WAYS: list[tuple[dict[str, Any], str]] = [
    ({}, OWN),
    ({"vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}}, OWN),
    ({"vars": {"ansible_python_interpreter": "{{ ansible_playbook_python | dirname }}/python3"}}, OWN),
    ({"vars": {"ansible_python_interpreter": "auto_silent"}}, OWN),
    (
        {"vars": {"ansible_python_interpreter": "/usr/bin/python3"}},
        "ansible_python_interpreter is /usr/bin/python3, and Ansible runs with ",
    ),
    ({"delegate_to": "elsewhere"}, "ansible_python_interpreter is /none/python, and"),
    ({"delegate_to": "localhost", "vars": {"ansible_python_interpreter": "auto"}}, OWN),
    ({"become": True, "become_method": "ansible.builtin.sudo", "become_exe": "/none/sudo"}, "become"),
    ({"async": 60, "poll": 1}, "async"),
    ({"environment": {"LD_PRELOAD": "/none", "HOME": "/tmp"}}, "environment sets LD_PRELOAD"),
    ({"environment": {"MESHOPS_IN_PROCESS": "no"}}, "MESHOPS_IN_PROCESS is false"),
    ({"environment": {"MESHOPS_IN_PROCESS": ""}}, OWN),
    (
        {"vars": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}, "ignore_unreachable": True},
        "the connection is not local",
    ),
]


@pytest.mark.parametrize("venv", VENVS, ids=lambda path: path.name)
def test_a_module_runs_where_the_task_asks_for(mesh: Mesh, tmp_path: Path, venv: Path) -> None:
    tasks = [{**probe(), "ignore_errors": True, **keywords} for keywords, __ in WAYS]
    here, there = run_both(mesh, tmp_path, tasks, {}, venv, "-vvv")
    told = [line.partition(" runs in ")[2] for line in here.output.splitlines() if " runs in " in line]
    expected = [OWN.removeprefix("runs in ") if reason == OWN else f"a process of its own: {reason}" for __, reason in WAYS]
    assert [line[: len(words)] for line, words in zip(told, expected, strict=True)] == expected
    assert (
        there.output.count("runs in a process of its own: MESHOPS_IN_PROCESS is false") == len(WAYS) - 1
    )  # of which one task says otherwise


def test_the_first_playbook_works_although_ansible_would_discover_another_python(mesh: Mesh, tmp_path: Path) -> None:
    """An inventory with nothing but a local connection, and in PATH a python3 without the libraries."""
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"production": {"ansible_connection": "local"}}}}))
    (bare / "bin" / "ansible-playbook").symlink_to(ROOT / ".venv" / "bin" / "ansible-playbook")
    more = {"PATH": f"{bare / 'bin'}:{mesh.environment['PATH']}", "ANSIBLE_PYTHON_INTERPRETER": "auto"}
    run = mesh.playbook([probe(expect={"failure": ["connection_refused"]})], "-i", str(inventory), **more).ok()
    [result] = run.results("tls_probe")
    assert "ansible_facts" not in result and "discovered" not in run.output


def test_a_library_that_ansibles_python_lacks_is_told_by_the_module(mesh: Mesh, tmp_path: Path) -> None:
    """An environment as .venv without `kubernetes`; the same sentence both ways."""
    lacking = tmp_path / "lacking"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(lacking)], check=True)
    [packages] = lacking.glob("lib/python3*/site-packages")
    for path in next((ROOT / ".venv").glob("lib/python3*/site-packages")).iterdir():
        if path.name not in ("urllib3", "kubernetes") and not (packages / path.name).exists():
            (packages / path.name).symlink_to(path)
    program = lacking / "bin" / "ansible-playbook"
    program.write_text(f"#!{lacking / 'bin' / 'python'}\nfrom ansible.cli.playbook import main\nmain()\n")
    program.chmod(0o755)
    (lacking / "collections").symlink_to(ROOT / ".venv" / "collections")
    here, there = run_both(mesh, tmp_path, [{**info(name="one"), "ignore_errors": True}], {}, lacking)
    for run in (here, there):
        assert "Failed to import the required Python library (urllib3)" in run.failed[0]["msg"]
    assert_same(settled(here.records), settled(there.records), "results")


# --- what is encrypted


@pytest.mark.parametrize("venv", VENVS, ids=lambda path: path.name)
def test_values_from_a_vault(mesh: Mesh, place: None, issue: Issue, tmp_path: Path, venv: Path) -> None:
    pair = issue("test.example.com")
    password = tmp_path / "password"
    password.write_text("c4n4ry")
    command = ["ansible-vault", "encrypt_string", "--vault-password-file", str(password), "--stdin-name", "key"]
    encrypted = subprocess.run(command, input=pair.private_key, env=mesh.env(venv=venv), text=True, capture_output=True, check=True).stdout
    (tmp_path / "vault.yml").write_text(encrypted)
    flags = ("--vault-password-file", str(password), f"-e@{tmp_path / 'vault.yml'}", "-v")
    tasks = [
        credential("vaulted", certificate=str(pair.certificate), private_key="{{ key }}", state=state) for state in ("present", "absent")
    ]
    calls = Calls()
    for task in tasks:
        calls.add("vaulted", task)
    here, there = run_both(mesh, tmp_path, calls.tasks, calls.values, venv, *flags)
    assert here.ok().changed == there.ok().changed == ["vaulted", "vaulted"]
    assert_same(settled(here.records), settled(there.records), "results")
    assert "PRIVATE KEY" not in here.output
