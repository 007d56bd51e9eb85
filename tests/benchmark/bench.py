# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long our modules take, beside what a user would use instead and beside what no module can beat. `make bench` runs it.

Everything is measured in one run on one machine against one API server, as whole `ansible-playbook` (or kubectl) processes, and told as
medians and ratios. Writes .bench/results.json and prints a table in Markdown.

    python tests/benchmark/bench.py [--sizes 1,100,1000] [--services 200] [--runs 3]
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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.meshops.istio.plugins.modules import istio_tls_credential

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = Path(__file__).resolve().parent / "library"
NAMESPACE = "meshops-bench"
LIMIT = "no-op module and raw HTTP"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def sandbox_environment() -> dict[str, str]:
    script = ROOT / ".sandbox" / "env"
    if not script.is_file():
        sys.exit("bench: the sandbox does not run: make sandbox")
    printed = subprocess.run(["bash", "-c", '. "$0" && env -0', str(script)], capture_output=True, check=True)
    return dict(line.split("=", 1) for line in printed.stdout.decode().split("\0") if "=" in line)


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

    def playbook(self, name: str, task: dict[str, Any], variables: Path | None = None) -> Callable[[], None]:
        path = self.directory / f"{name}.yml"
        path.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [task]}], width=10**6))
        extra = ["-e", f"@{variables}"] if variables else []
        return lambda: void(self.command("ansible-playbook", path, *extra))

    def seconds(self, what: Callable[[], None], before: Callable[[], None] = lambda: None, runs: int = 0) -> float:
        """Median of several runs, each after `before`, which is not counted."""
        taken = []
        for __ in range(runs or self.runs):
            before()
            start = time.monotonic()
            what()
            taken.append(time.monotonic() - start)
        return statistics.median(taken)

    def record(self, scenario: str, subject: str, seconds: float, **more: Any) -> float:
        self.figures.append({"scenario": scenario, "subject": subject, "seconds": round(seconds, 3), **more})
        say(f"bench: {scenario:<34} {subject:<34} {seconds:8.2f} s  {' '.join(f'{key}={value}' for key, value in more.items())}")
        return seconds

    def requests(self) -> dict[str, int]:
        """Requests in the audit log so far, by verb, in our namespace."""
        time.sleep(0.4)
        counted: dict[str, int] = {}
        for line in (ROOT / ".sandbox" / "logs" / "audit.log").read_text().splitlines():
            event = json.loads(line)
            if (event.get("objectRef") or {}).get("namespace") == NAMESPACE:
                counted[event["verb"]] = counted.get(event["verb"], 0) + 1
        return counted

    @contextmanager
    def counted(self) -> Iterator[dict[str, int]]:
        before, found = self.requests(), {}
        yield found
        found |= {verb: number - before.get(verb, 0) for verb, number in self.requests().items() if number > before.get(verb, 0)}

    def empty(self) -> None:
        self.command("kubectl", "delete", "--raw", f"/api/v1/namespaces/{NAMESPACE}/secrets")


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


def as_secrets(made: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": pair["name"], "namespace": NAMESPACE},
            "type": "kubernetes.io/tls",
            "data": {
                "tls.crt": base64.b64encode(pair["crt"].encode()).decode(),
                "tls.key": base64.b64encode(pair["key"].encode()).decode(),
            },
        }
        for pair in made
    ]


# -- what is measured --------------------------------------------------------------------------------------------------------------------


def credentials(bench: Bench, size: int) -> None:
    made = pairs(bench.directory / f"pki-{size}", size)
    other = pairs(bench.directory / f"other-{size}", 1)[0]
    subjects: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {}
    for form, shape in (("content", as_content), ("paths", as_paths)):
        changed = [{**made[0], **{key: other[key] for key in ("crt", "key", "crt_path", "key_path")}}, *made[1:]]
        runs = []
        for kind, material in (("same", made), ("one", changed)):
            variables = bench.directory / f"{form}-{kind}-{size}.json"
            variables.write_text(json.dumps({"bench_credentials": shape(material)}))
            task = {"meshops.istio.istio_tls_credential": {"namespace": NAMESPACE, "credentials": "{{ bench_credentials }}"}}
            runs.append(bench.playbook(f"ours-{form}-{kind}-{size}", task, variables))
        subjects[f"istio_tls_credential, {form}"] = (runs[0], runs[1])
    runs = []
    for kind, material in (("same", made), ("one", [{**made[0], "crt": other["crt"], "key": other["key"]}, *made[1:]])):
        variables = bench.directory / f"secrets-{kind}-{size}.json"
        variables.write_text(json.dumps({"bench_secrets": as_secrets(material)}))
        runs.append(bench.playbook(f"core-{kind}-{size}", {"kubernetes.core.k8s": {"definition": "{{ bench_secrets }}"}}, variables))
    subjects["kubernetes.core.k8s"] = (runs[0], runs[1])
    runs = []
    for kind, material in (("same", made), ("one", [{**made[0], "crt": other["crt"], "key": other["key"]}, *made[1:]])):
        manifest = bench.directory / f"kubectl-{kind}-{size}.json"
        manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": as_secrets(material)}))
        runs.append(lambda path=manifest: void(bench.command("kubectl", "apply", "--server-side", "--force-conflicts", "-f", path)))
    subjects["kubectl apply --server-side"] = (runs[0], runs[1])

    # the slow ones once: their spread is small beside their length; and the quick ones more often
    ours = bench.runs * 3 if size == 1 else bench.runs
    others = 1 if size >= 1000 else ours
    for subject, (same, one) in subjects.items():
        slow = others if not subject.startswith("istio") else ours
        bench.record(f"{size} created", subject, bench.seconds(same, before=bench.empty, runs=slow))
        same()
        with bench.counted() as requests:
            same()
        bench.record(f"{size} unchanged", subject, bench.seconds(same, runs=slow), requests=requests)
        bench.record(f"{size}, one changed", subject, bench.seconds(one, before=same, runs=slow))
    limits(bench, size, made)


def module_result(bench: Bench, arguments: dict[str, Any]) -> dict[str, Any]:
    """What the module returns, started as Ansible starts it: with its arguments on standard input."""
    command = [bench.env["ANSIBLE_PYTHON_INTERPRETER"], str(ROOT / "plugins" / "modules" / "istio_tls_credential.py")]
    given = json.dumps({"ANSIBLE_MODULE_ARGS": {"namespace": NAMESPACE, "kubeconfig": bench.env["KUBECONFIG"], **arguments}})
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=bench.env, check=False)
    if done.returncode:
        sys.exit(f"bench: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    told = [warning if isinstance(warning, str) else warning["event"]["msg"] for warning in found.get("warnings", [])]
    return {key: value for key, value in found.items() if key != "invocation"} | {"warnings": told}


def limits(bench: Bench, size: int, made: list[dict[str, str]]) -> None:
    """What no module can beat: Ansible with the same arguments and the very results, and the bare requests."""
    noop: dict[tuple[str, str], float] = {}
    for form, shape in (("content", as_content), ("paths", as_paths)):
        bench.empty()
        for scenario in ("created", "unchanged"):
            returns = bench.directory / f"returns-{form}-{scenario}-{size}.json"
            returns.write_text(json.dumps(module_result(bench, {"credentials": shape(made)})))
            variables = bench.directory / f"noop-{form}-{size}.json"
            variables.write_text(json.dumps({"bench_credentials": shape(made)}))
            task = {"noop": {"namespace": NAMESPACE, "credentials": "{{ bench_credentials }}", "returns": str(returns)}}
            run = bench.playbook(f"noop-{form}-{scenario}-{size}", task, variables)
            noop[form, scenario] = bench.record(f"{size} {scenario}", f"no-op module, {form}", bench.seconds(run))
    bench.empty()
    for scenario, seconds in zip(("created", "unchanged"), raw_http(bench, made), strict=True):
        bench.record(f"{size} {scenario}", "raw HTTP", seconds)
        for form in ("content", "paths"):
            bench.record(f"{size} {scenario}", f"{LIMIT}, {form}", noop[form, scenario] + seconds)


def raw_http(bench: Bench, made: list[dict[str, str]]) -> tuple[float, float]:
    """Seconds to create every Secret on eight kept-alive connections, and to list them."""
    from concurrent.futures import ThreadPoolExecutor

    import urllib3

    kubeconfig = yaml.safe_load(Path(bench.env["KUBECONFIG"]).read_text())
    cluster, user = kubeconfig["clusters"][0]["cluster"], kubeconfig["users"][0]["user"]
    options: dict[str, Any] = {"maxsize": 8, "cert_reqs": "CERT_NONE", "assert_hostname": False}
    with tempfile.TemporaryDirectory() as scratch:
        headers = {"Content-Type": "application/json"}
        if "token" in user:
            headers["Authorization"] = f"Bearer {user['token']}"
        for name, key in (("cert_file", "client-certificate"), ("key_file", "client-key")):
            if f"{key}-data" in user:
                path = Path(scratch) / name
                path.write_bytes(base64.b64decode(user[f"{key}-data"]))
                options[name] = str(path)
            elif key in user:
                options[name] = user[key]
        urllib3.disable_warnings()
        pool = urllib3.PoolManager(**options)
        url = f"{cluster['server']}/api/v1/namespaces/{NAMESPACE}/secrets"
        bodies = [json.dumps(secret) for secret in as_secrets(made)]

        def post(body: str) -> None:
            answer = pool.request("POST", url, body=body, headers=headers)
            assert answer.status == 201, answer.data[:300]

        start = time.monotonic()
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(post, bodies))
        created = time.monotonic() - start
        start = time.monotonic()
        answer = pool.request("GET", url, headers=headers)
        assert len(json.loads(answer.data)["items"]) == len(made)
        return created, time.monotonic() - start


def memory(bench: Bench, size: int) -> None:
    """Peak resident memory of the module's own process, which is started here as Ansible starts it: with its arguments on standard input."""
    made = pairs(bench.directory / f"pki-{size}", size)
    bench.empty()
    for form, shape in (("content", as_content), ("paths", as_paths)):
        arguments = {"ANSIBLE_MODULE_ARGS": {"namespace": NAMESPACE, "credentials": shape(made), "kubeconfig": bench.env["KUBECONFIG"]}}
        module = ROOT / "plugins" / "modules" / "istio_tls_credential.py"
        # a process of its own, so that RUSAGE_CHILDREN holds nothing else
        script = (
            "import resource, subprocess, sys; "
            "done = subprocess.run([sys.executable, sys.argv[1]], stdin=sys.stdin, capture_output=True); "
            "assert done.returncode == 0, done.stdout[-500:] + done.stderr[-500:]; "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        python = bench.env["ANSIBLE_PYTHON_INTERPRETER"]
        done = subprocess.run(
            [python, "-c", script, str(module)], input=json.dumps(arguments), capture_output=True, text=True, env=bench.env, check=False
        )
        if done.returncode:
            sys.exit(f"bench: {done.stderr[-3000:]}")
        megabytes = int(done.stdout) / 1024
        bench.figures.append(
            {"scenario": f"{size}, peak memory", "subject": f"istio_tls_credential, {form}", "megabytes": round(megabytes, 1)}
        )
        say(f"bench: {size}, peak memory, {form}: {megabytes:.0f} MB")


def services(bench: Bench, count: int) -> None:
    """External services behind one egress gateway, in one call."""
    wanted = [
        {
            "name": f"partner-{number}",
            "host": f"api-{number}.partner.example",
            "endpoints": [{"address": "127.0.0.99", "ports": {"https": 443}}],
            "resolution": "STATIC",
        }
        for number in range(count)
    ]
    variables = bench.directory / "services.json"
    variables.write_text(json.dumps({"bench_services": wanted}))

    def task(state: str) -> dict[str, Any]:
        return {
            "meshops.istio.egress_mtls_origination": {
                "namespace": "istio-system",
                "mode": "SIMPLE",
                "services": "{{ bench_services }}",
                "state": state,
            }
        }

    present, absent = (bench.playbook(f"services-{state}", task(state), variables) for state in ("present", "absent"))
    subject = "egress_mtls_origination"
    bench.record(f"{count} services created", subject, bench.seconds(present, before=absent))
    bench.record(f"{count} services unchanged", subject, bench.seconds(present))
    manifests = bench.directory / "services-manifests.yml"
    kinds = "gateways,virtualservices,destinationrules,serviceentries"
    listed = json.loads(
        bench.command("kubectl", "-n", "istio-system", "get", kinds, "-l", "app.kubernetes.io/managed-by=meshops.istio", "-o", "json")
    )["items"]
    ours = [
        {
            "apiVersion": item["apiVersion"],
            "kind": item["kind"],
            "metadata": {key: item["metadata"][key] for key in ("name", "namespace", "labels") if key in item["metadata"]},
            "spec": item["spec"],
        }
        for item in listed
        if ".partner-" in item["metadata"]["labels"]["meshops.istio/owner"]
    ]
    absent()
    manifests.write_text(yaml.safe_dump_all(ours))
    variables = bench.directory / "services-core.json"
    variables.write_text(json.dumps({"bench_objects": ours}))
    core = bench.playbook("services-core", {"kubernetes.core.k8s": {"definition": "{{ bench_objects }}"}}, variables)
    for subject, run in (
        ("kubernetes.core.k8s", core),
        (
            "kubectl apply --server-side",
            lambda: void(bench.command("kubectl", "apply", "--server-side", "--force-conflicts", "-f", manifests)),
        ),
    ):
        bench.record(f"{count} services created", subject, bench.seconds(run, runs=1), objects=len(ours))
        bench.record(f"{count} services unchanged", subject, bench.seconds(run, runs=1), objects=len(ours))
        bench.command("kubectl", "delete", "-f", manifests, "--ignore-not-found")


# -- the table -----------------------------------------------------------------------------------------------------------------------------


def table(figures: list[dict[str, Any]]) -> str:
    """Markdown: a row a measurement, with its ratio to kubernetes.core.k8s, and ours with that to the limit, in the same scenario."""
    seconds = {(figure["scenario"], figure["subject"]): figure["seconds"] for figure in figures if "seconds" in figure}
    lines = [
        "| scenario | with | seconds | beside kubernetes.core.k8s | beside the limit | API requests |",
        "|---|---|---:|---:|---:|---|",
    ]
    for figure in figures:
        scenario, subject = figure["scenario"], figure["subject"]
        if "seconds" not in figure:
            lines.append(f"| {scenario} | {subject} | {figure['megabytes']} MB | | | |")
            continue
        form = subject.removeprefix("istio_tls_credential, ")
        beside = [seconds.get((scenario, "kubernetes.core.k8s")), seconds.get((scenario, f"{LIMIT}, {form}"))]
        ratios = [f"{figure['seconds'] / other:.2f}" if other else "" for other in beside]
        requests = ", ".join(f"{number} {verb}" for verb, number in (figure.get("requests") or {}).items())
        lines.append(f"| {scenario} | {subject} | {figure['seconds']:.2f} | {' | '.join(ratios)} | {requests} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1,100,1000")
    parser.add_argument("--services", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        bench = Bench(Path(directory), options.runs)
        bench.command("kubectl", "create", "namespace", NAMESPACE, check=False)
        try:
            ping = bench.playbook("ping", {"ansible.builtin.ping": {}})
            ping()
            bench.record("nothing", "a playbook with one ping", bench.seconds(ping))
            for size in map(int, options.sizes.split(",")):
                credentials(bench, size)
            memory(bench, max(map(int, options.sizes.split(","))))
            if options.services:
                services(bench, options.services)
        finally:
            bench.command("kubectl", "delete", "namespace", NAMESPACE, "--wait=false", check=False)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }
    target = ROOT / ".bench"
    target.mkdir(exist_ok=True)
    (target / "results.json").write_text(json.dumps({"machine": machine, "runs": options.runs, "figures": bench.figures}, indent=2))
    print(table(bench.figures))
    note = f"medians of {options.runs} runs, the slow ones with 1,000 once; the figures are in .bench/results.json"
    print(f"\n{machine['cores']} cores, Python {machine['python']}; {note}")


if __name__ == "__main__":
    main()
