# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long our modules take, beside what a user would use instead and beside what no module can beat. `make bench` runs it.

Everything is measured in one run on one machine against one API server, as whole `ansible-playbook` (or kubectl) processes, and told as
medians and ratios. Writes .bench/results.json and prints a table in Markdown.

    python tests/benchmark/bench.py [--sizes 1,100,1000] [--services 200] [--further 20] [--rotations 500] [--hosts 1000] [--clusters 20]
                                    [--forks 10] [--runs 3] [--results .bench/results.json]
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.meshops.istio.plugins.modules import istio_tls_credential
from ansible_collections.meshops.istio.sandbox import layout
from many import clusters, hosts
from report import CORE, LIMIT, table
from rotations import rotations
from sandbox_shell import sandbox_environment, say, timed

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = Path(__file__).resolve().parent / "library"
NAMESPACE = "meshops-bench"
OWN_NAMESPACES = [f"{NAMESPACE}-{whose}" for whose in ("content", "paths", "core", "kubectl", "noop", "raw")]
KUBECTL = "kubectl apply --server-side"


class Bench:
    """One run: where its files are, and every figure measured so far."""

    def __init__(self, directory: Path, runs: int) -> None:
        self.directory = directory
        self.runs = runs
        self.env = sandbox_environment() | {"ANSIBLE_LIBRARY": str(LIBRARY), "ANSIBLE_NOCOLOR": "1"}
        self.figures: list[dict[str, Any]] = []
        options = directory / "options.json"
        options.write_text(json.dumps(istio_tls_credential.CREDENTIAL_OPTIONS))
        self.env["BENCH_OPTIONS"] = str(options)

    # -- running ---------------------------------------------------------------------------------------------------------------------

    def command(self, *words: str | Path, check: bool = True) -> str:
        done = subprocess.run([str(word) for word in words], env=self.env, capture_output=True, text=True, cwd=self.directory, check=False)
        if check and done.returncode:
            sys.exit(f"bench: {' '.join(map(str, words))}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done.stdout

    def kubectl_apply(self, name: str, objects: list[dict[str, Any]]) -> Callable[[], None]:
        path = self.directory / f"kubectl-{name}.json"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        return lambda: void(self.command("kubectl", "apply", "--server-side", "--force-conflicts", "-f", path))

    def playbook(self, name: str, *tasks: dict[str, Any], value: Any = None, flags: tuple[str, ...] = ()) -> Callable[[], None]:
        """A playbook of these tasks, for which the variable `bench` has that value."""
        path, variables = self.directory / f"{name}.yml", self.directory / f"{name}.json"
        path.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [dict(task) for task in tasks]}], width=10**6))
        variables.write_text(json.dumps({"bench": value}))
        return lambda: void(self.command("ansible-playbook", path, "-e", f"@{variables}", *flags))

    def race(
        self,
        scenario: str,
        subjects: dict[str, tuple[Callable[[], None], Callable[[], None]]],
        rounds: int,
        requests: dict[str, dict[str, int]] | None = None,
    ) -> None:
        """Medians of several rounds, each of which runs every subject once, so that what slows the machine down slows all of them. What a
        subject does before (the second one) is not counted."""
        taken: dict[str, list[float]] = {subject: [] for subject in subjects}
        for __ in range(rounds):
            for subject, (run, before) in subjects.items():
                before()
                taken[subject].append(timed(run))
        medians = {subject: statistics.median(times) for subject, times in taken.items()}
        for form in FORMS:
            if f"no-op module, {form}" in medians:
                medians[f"{LIMIT}, {form}"] = medians[f"no-op module, {form}"] + medians["raw HTTP"]
        for subject, seconds in medians.items():
            self.record(scenario, subject, seconds, **({"requests": requests[subject]} if requests and subject in requests else {}))

    def record(self, scenario: str, subject: str, seconds: float, **more: Any) -> None:
        self.figures.append({"scenario": scenario, "subject": subject, "seconds": round(seconds, 3), **more})
        say(f"bench: {scenario:<34} {subject:<34} {seconds:8.2f} s  {' '.join(f'{key}={value}' for key, value in more.items())}")

    def requests(self, namespace: str) -> dict[str, int]:
        """Requests in the audit log so far, by verb, in a namespace."""
        time.sleep(0.4)
        counted: dict[str, int] = {}
        for line in layout.AUDIT_LOG.read_text().splitlines():
            event = json.loads(line)
            if (event.get("objectRef") or {}).get("namespace") == namespace:
                counted[event["verb"]] = counted.get(event["verb"], 0) + 1
        return counted

    @contextmanager
    def counted(self, namespace: str) -> Iterator[dict[str, int]]:
        before, found = self.requests(namespace), {}
        yield found
        found |= {verb: number - before.get(verb, 0) for verb, number in self.requests(namespace).items() if number > before.get(verb, 0)}

    def emptying(self, namespace: str) -> Callable[[], None]:
        return lambda: void(self.command("kubectl", "delete", "--raw", f"/api/v1/namespaces/{namespace}/secrets"))


def void(__: Any) -> None:
    return None


# -- material ----------------------------------------------------------------------------------------------------------------------------


def pairs(directory: Path, count: int) -> list[dict[str, str]]:
    """`count` RSA-2048 certificates with keys; eight keys take turns, since making 1,000 would take minutes and is nobody's task here."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    keys = [rsa.generate_private_key(65537, 2048) for __ in range(8)]
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench CA")])
    now = datetime.datetime.now(datetime.UTC)
    made = []
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        key = keys[number % len(keys)]
        host = f"host-{number}.example.com"
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]))
            .issuer_name(ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=365))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .sign(keys[0], hashes.SHA256())
        )
        crt = certificate.public_bytes(serialization.Encoding.PEM).decode()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
        (directory / f"{number}.crt").write_text(crt)
        (directory / f"{number}.key").write_text(pem)
        made.append(
            {
                "name": f"bench-{number}",
                "crt": crt,
                "key": pem,
                "crt_path": str(directory / f"{number}.crt"),
                "key_path": str(directory / f"{number}.key"),
            }
        )
    return made


def as_content(made: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"name": pair["name"], "certificate": pair["crt"], "private_key": pair["key"]} for pair in made]


def as_paths(made: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"name": pair["name"], "certificate_path": pair["crt_path"], "private_key_path": pair["key_path"]} for pair in made]


FORMS = {"content": as_content, "paths": as_paths}


def as_secrets(made: list[dict[str, str]], namespace: str) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": pair["name"], "namespace": namespace},
            "type": "kubernetes.io/tls",
            "data": {
                "tls.crt": base64.b64encode(pair["crt"].encode()).decode(),
                "tls.key": base64.b64encode(pair["key"].encode()).decode(),
            },
        }
        for pair in made
    ]


# -- what is measured --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """Something that has to do with a list of credentials in a namespace of its own: what others wrote there would be a change to it."""

    name: str
    namespace: str
    create: Callable[[], None]
    repeat: Callable[[], None]
    """The same when all is there already."""
    change: Callable[[], None] | None = None
    """The same with another certificate for the first credential; a limit has none."""


def credentials(bench: Bench, size: int) -> None:
    made = pairs(bench.directory / f"pki-{size}", size)
    other = pairs(bench.directory / f"other-{size}", 1)[0]
    changed = [{**other, "name": made[0]["name"]}, *made[1:]]

    def writer(name: str, whose: str, apply: Callable[[str, str, list[dict[str, str]]], Callable[[], None]]) -> Subject:
        namespace = f"{NAMESPACE}-{whose}"
        same = apply(f"{whose}-{size}", namespace, made)
        return Subject(name, namespace, same, same, apply(f"{whose}-changed-{size}", namespace, changed))

    def ours(shape: Callable[[list[dict[str, str]]], Any], name: str, namespace: str, material: list[dict[str, str]]) -> Callable[[], None]:
        task = {"meshops.istio.istio_tls_credential": {"namespace": namespace, "credentials": "{{ bench }}"}}
        return bench.playbook(name, task, value=shape(material))

    def core(name: str, namespace: str, material: list[dict[str, str]]) -> Callable[[], None]:
        return bench.playbook(name, {CORE: {"definition": "{{ bench }}"}}, value=as_secrets(material, namespace))

    def kubectl(name: str, namespace: str, material: list[dict[str, str]]) -> Callable[[], None]:
        return bench.kubectl_apply(name, as_secrets(material, namespace))

    writers = [
        *(writer(f"istio_tls_credential, {form}", form, partial(ours, shape)) for form, shape in FORMS.items()),
        writer(CORE, "core", core),
        writer(KUBECTL, "kubectl", kubectl),
    ]
    limits = [*(no_op(bench, form, shape(made)) for form, shape in FORMS.items()), raw_http(bench, made)]
    subjects = [*writers, *limits]
    rounds = bench.runs * 3 if size == 1 else bench.runs  # the quick ones more often
    created = {subject.name: (subject.create, bench.emptying(subject.namespace)) for subject in subjects}
    bench.race(f"{size} created", created, rounds)
    counted = {}
    for subject in writers:
        subject.create()
        with bench.counted(subject.namespace) as counted[subject.name]:
            subject.repeat()
    bench.race(f"{size} unchanged", {subject.name: (subject.repeat, idle) for subject in subjects}, rounds, requests=counted)
    bench.race(f"{size}, one changed", {one.name: (one.change, one.create) for one in writers if one.change}, rounds)
    for subject in subjects:
        bench.emptying(subject.namespace)()


def idle() -> None:
    """Nothing is to be done before."""


def no_op(bench: Bench, form: str, made: list[dict[str, str]]) -> Subject:
    """What no module can beat: Ansible with the same arguments and the very results of a run that creates, and of one that finds all done."""
    namespace = f"{NAMESPACE}-noop"
    bench.emptying(namespace)()
    runs = []
    for kind in ("created", "unchanged"):
        returns = bench.directory / f"returns-{form}-{kind}-{len(made)}.json"
        returns.write_text(json.dumps(module_result(bench, {"namespace": namespace, "credentials": made})))
        task = {"noop": {"namespace": namespace, "credentials": "{{ bench }}", "returns": str(returns)}}
        runs.append(bench.playbook(f"noop-{form}-{kind}-{len(made)}", task, value=made))
    return Subject(f"no-op module, {form}", namespace, *runs)


def module_result(bench: Bench, arguments: dict[str, Any]) -> dict[str, Any]:
    """What the module returns, started as Ansible starts it: with its arguments on standard input."""
    command = [bench.env["ANSIBLE_PYTHON_INTERPRETER"], str(ROOT / "plugins" / "modules" / "istio_tls_credential.py")]
    given = json.dumps({"ANSIBLE_MODULE_ARGS": {"kubeconfig": bench.env["KUBECONFIG"], **arguments}})
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=bench.env, check=False)
    if done.returncode:
        sys.exit(f"bench: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    told = [warning if isinstance(warning, str) else warning["event"]["msg"] for warning in found.get("warnings", [])]
    return found | {"warnings": told}


def raw_http(bench: Bench, made: list[dict[str, str]]) -> Subject:
    """The bare requests that our module sends: a server-side apply for each Secret on eight kept-alive connections, or a LIST."""
    import urllib3

    namespace = f"{NAMESPACE}-raw"
    kubeconfig = yaml.safe_load(Path(bench.env["KUBECONFIG"]).read_text())
    cluster, user = kubeconfig["clusters"][0]["cluster"], kubeconfig["users"][0]["user"]
    options: dict[str, Any] = {"maxsize": 8, "cert_reqs": "CERT_NONE", "assert_hostname": False}
    headers = {"Content-Type": "application/apply-patch+yaml"}
    if "token" in user:
        headers["Authorization"] = f"Bearer {user['token']}"
    for name, key in (("cert_file", "client-certificate"), ("key_file", "client-key")):
        if f"{key}-data" in user:
            path = bench.directory / name
            path.write_bytes(base64.b64decode(user[f"{key}-data"]))
            options[name] = str(path)
        elif key in user:
            options[name] = user[key]
    urllib3.disable_warnings()
    pool = urllib3.PoolManager(**options)
    url = f"{cluster['server']}/api/v1/namespaces/{namespace}/secrets"
    bodies = {secret["metadata"]["name"]: json.dumps(secret) for secret in as_secrets(made, namespace)}

    def send(name: str) -> None:
        answer = pool.request("PATCH", f"{url}/{name}?fieldManager=bench", body=bodies[name], headers=headers)
        assert answer.status == 201, answer.data[:300]

    def create() -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(send, bodies))

    def find() -> None:
        answer = pool.request("GET", url, headers=headers)
        assert len(json.loads(answer.data)["items"]) == len(made)

    return Subject("raw HTTP", namespace, create, find)


def further(bench: Bench, count: int) -> None:
    """What one more task costs, and one more item of a loop, once all is there: a playbook with `count` more of them, less one with the first."""
    made = pairs(bench.directory / "pki-further", 1)
    ours = {"meshops.istio.istio_tls_credential": {"namespace": f"{NAMESPACE}-paths", **as_paths(made)[0]}}
    subjects = {
        "istio_tls_credential": ours,
        "istio_tls_credential, as a module": {**ours, "environment": {"MESHOPS_IN_PROCESS": "false"}},
        CORE: {CORE: {"definition": as_secrets(made, f"{NAMESPACE}-core")[0]}},
    }
    for scenario, more in (("a further task", lambda task: [task] * (count + 1)), ("a further item", lambda task: [loop(task, count + 1)])):
        runs = {}
        for number, (subject, task) in enumerate(subjects.items()):
            first = task if scenario == "a further task" else loop(task, 1)
            name = f"further-{scenario[-4:]}-{number}"
            runs[subject] = bench.playbook(f"{name}-one", first), bench.playbook(f"{name}-many", *more(task))
        taken: dict[str, list[float]] = {subject: [] for subject in subjects}
        for __ in range(bench.runs):
            for subject, (one, many) in runs.items():
                one()
                taken[subject].append((-timed(one) + timed(many)) / count)
        for subject, times in taken.items():
            bench.record(scenario, subject, statistics.median(times))


def loop(task: dict[str, Any], count: int) -> dict[str, Any]:
    return {**task, "loop": list(range(count))}


def memory(bench: Bench, size: int) -> None:
    """Peak resident memory of the module's own process, which is started here as Ansible starts it: with its arguments on standard input."""
    made = pairs(bench.directory / f"pki-{size}", size)
    for form, shape in FORMS.items():
        bench.emptying(f"{NAMESPACE}-{form}")()
        arguments = {"namespace": f"{NAMESPACE}-{form}", "credentials": shape(made), "kubeconfig": bench.env["KUBECONFIG"]}
        module = ROOT / "plugins" / "modules" / "istio_tls_credential.py"
        # a process of its own, so that RUSAGE_CHILDREN holds nothing else
        script = (
            "import resource, subprocess, sys; "
            "done = subprocess.run([sys.executable, sys.argv[1]], stdin=sys.stdin, capture_output=True); "
            "assert done.returncode == 0, done.stdout[-500:] + done.stderr[-500:]; "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        python = bench.env["ANSIBLE_PYTHON_INTERPRETER"]
        given = json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
        done = subprocess.run([python, "-c", script, str(module)], input=given, capture_output=True, text=True, env=bench.env, check=False)
        if done.returncode:
            sys.exit(f"bench: {done.stderr[-3000:]}")
        megabytes = int(done.stdout) / 1024
        bench.figures.append(
            {"scenario": f"{size}, peak memory", "subject": f"istio_tls_credential, {form}", "megabytes": round(megabytes, 1)}
        )
        say(f"bench: {size}, peak memory, {form}: {megabytes:.0f} MB")
        bench.emptying(f"{NAMESPACE}-{form}")()


def services(bench: Bench, count: int) -> None:
    """External services behind one egress gateway, in one call; the others write the objects that our module made of them."""
    wanted = [
        {
            "name": f"partner-{number}",
            "host": f"api-{number}.partner.example",
            "endpoints": [{"address": "127.0.0.99", "ports": {"https": 443}}],
            "resolution": "STATIC",
        }
        for number in range(count)
    ]

    def task(state: str) -> dict[str, Any]:
        common = {"namespace": "istio-system", "mode": "SIMPLE", "services": "{{ bench }}"}
        return {"meshops.istio.egress_mtls_origination": {**common, "state": state}}

    present, absent = (bench.playbook(f"services-{state}", task(state), value=wanted) for state in ("present", "absent"))
    present()
    objects = made_objects(bench)
    absent()
    manifests = bench.directory / "services-manifests.json"
    manifests.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def remove_objects() -> None:
        bench.command("kubectl", "delete", "-f", manifests, "--wait=false")

    subjects = {
        "egress_mtls_origination": (present, absent),
        CORE: (bench.playbook("services-core", {CORE: {"definition": "{{ bench }}"}}, value=objects), remove_objects),
        KUBECTL: (bench.kubectl_apply("services", objects), remove_objects),
    }
    for subject, (apply, remove) in subjects.items():  # one after the other: all write the same objects
        bench.race(f"{count} services created", {subject: (apply, idle)}, 1)
        bench.race(f"{count} services unchanged", {subject: (apply, idle)}, 1)
        remove()


def made_objects(bench: Bench) -> list[dict[str, Any]]:
    """The objects of our services as one would write them by hand: without what the server added."""
    names = ("gateways", "virtualservices", "destinationrules", "serviceentries")
    kinds = ",".join(f"{name}.networking.istio.io" for name in names)  # the Gateway API has gateways too
    ours = "app.kubernetes.io/managed-by=meshops.istio"
    listed = json.loads(bench.command("kubectl", "-n", "istio-system", "get", kinds, "-l", ours, "-o", "json"))["items"]
    return [
        {
            "apiVersion": item["apiVersion"],
            "kind": item["kind"],
            "metadata": {key: item["metadata"][key] for key in ("name", "namespace", "labels") if key in item["metadata"]},
            "spec": item["spec"],
        }
        for item in listed
        if ".partner-" in item["metadata"]["labels"]["meshops.istio/owner"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1,100,1000")
    parser.add_argument("--services", type=int, default=200)
    parser.add_argument("--further", type=int, default=20)
    parser.add_argument("--rotations", type=int, default=500)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--clusters", type=int, default=20)
    parser.add_argument("--forks", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--results", type=Path, default=ROOT / ".bench" / "results.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        bench = Bench(Path(directory), options.runs)
        for namespace in OWN_NAMESPACES:
            bench.command("kubectl", "create", "namespace", namespace, check=False)
        try:
            ping = bench.playbook("ping", {"ansible.builtin.ping": {}})
            ping()
            bench.race("nothing", {"a playbook with one ping": (ping, idle)}, bench.runs)
            if options.further:
                further(bench, options.further)
            sizes = [int(size) for size in options.sizes.split(",") if size]
            for size in sizes:
                credentials(bench, size)
            if sizes:
                memory(bench, max(sizes))
            if options.services:
                services(bench, options.services)
            if options.hosts:
                hosts(bench, options.hosts)
            if options.clusters:
                made = pairs(bench.directory / "pki-clusters", 1)
                ours = {"namespace": f"{NAMESPACE}-paths", **as_paths(made)[0]}
                clusters(bench, options.clusters, options.forks, ours, as_secrets(made, f"{NAMESPACE}-core")[0])
            if options.rotations:
                rotations(bench, options.rotations, min(options.rotations, 100), pairs, as_secrets)
        finally:
            bench.command("kubectl", "delete", "namespace", *OWN_NAMESPACES, "--timeout=60s", check=False)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }
    options.results.parent.mkdir(exist_ok=True)
    options.results.write_text(json.dumps({"machine": machine, "runs": options.runs, "figures": bench.figures}, indent=2))
    print(table(bench.figures))
    note = f"medians of {options.runs} rounds, of {3 * options.runs} for one credential, the services once; the figures are in {options.results}"
    print(f"\n{machine['cores']} cores, Python {machine['python']}; {note}")


if __name__ == "__main__":
    main()
