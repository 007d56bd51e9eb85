# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many of one thing in one run: hosts that are verified, beside Python threads that do no more than that, and clusters, beside the same as modules."""

from __future__ import annotations

import hashlib
import socket
import ssl
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trustme
import yaml
from report import CORE, THREADS
from sandbox_shell import timed

if TYPE_CHECKING:
    from bench import Bench

PROBE = "tls_probe"
SIDE_BY_SIDE = 16
GATEWAY = {"name": "bench-hosts", "namespace": "istio-system"}
DOMAIN = "bench-hosts.example.com"


def hosts(bench: Bench, count: int) -> None:
    """Each with a new handshake, verified against a CA and compared with a certificate's fingerprint. A task with one host is taken off, so that what
    is left is the hosts; the threads count neither Python's start nor its imports."""
    authority = trustme.CA()
    leaf = authority.issue_cert(f"*.{DOMAIN}")
    certificate, key, ca = (bench.directory / f"hosts.{ending}" for ending in ("crt", "key", "ca"))
    certificate.write_bytes(leaf.cert_chain_pems[0].bytes())
    key.write_bytes(leaf.private_key_pem.bytes())
    ca.write_bytes(authority.cert_pem.bytes())
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()
    names = [f"host-{number}.{DOMAIN}" for number in range(count)]
    address = (bench.env["INGRESS_HOST"], int(bench.env["SECURE_INGRESS_PORT"]))
    common = {"address": address[0], "port": address[1], "scheme": "tls", "ca_certificate_path": str(ca), "parallel": SIDE_BY_SIDE}
    secret = {**GATEWAY, "certificate_path": str(certificate), "private_key_path": str(key)}
    server = {"hosts": [f"*.{DOMAIN}"], "mode": "SIMPLE", "credential_name": GATEWAY["name"]}
    bench.playbook(
        "hosts-made",
        {"meshops.istio.istio_tls_credential": secret},
        {"meshops.istio.ingress_tls_gateway": {**GATEWAY, "selector": {"istio": "ingressgateway"}, "servers": [server]}},
        {"meshops.istio.tls_probe": {**common, "timeout": 60, "probes": _each(names[:1], fingerprint)}},
    )()
    try:
        one, many = (
            bench.playbook(
                f"hosts-{len(some)}", {"meshops.istio.tls_probe": {**common, "probes": "{{ bench }}"}}, value=_each(some, fingerprint)
            )
            for some in (names[:1], names)
        )
        taken: dict[str, list[float]] = {PROBE: [], THREADS: []}
        one()
        for __ in range(bench.runs):
            taken[PROBE].append(-timed(one) + timed(many))
            taken[THREADS].append(timed(lambda: _handshakes(names, address, ca, fingerprint)))
        for subject, times in taken.items():
            bench.record(f"{count} hosts verified", subject, statistics.median(times))
    finally:
        bench.playbook(
            "hosts-gone",
            {"meshops.istio.ingress_tls_gateway": {**GATEWAY, "state": "absent"}},
            {"meshops.istio.istio_tls_credential": {**GATEWAY, "state": "absent"}},
        )()


def clusters(bench: Bench, count: int, forks: int, credential: dict[str, Any], definition: dict[str, Any]) -> None:
    """One playbook for all of them, which puts a credential in place that is there already and looks at it. They are one API server here, so
    that the controller decides how long it takes."""
    inventory = bench.directory / "clusters.yml"
    variables = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    inventory.write_text(yaml.safe_dump({"all": {"vars": variables, "hosts": {f"cluster-{number}": None for number in range(count)}}}))
    about = {name: credential[name] for name in ("name", "namespace")}
    ours = [{"meshops.istio.istio_tls_credential": credential}, {"meshops.istio.istio_tls_credential_info": about}]
    read = {"api_version": "v1", "kind": "Secret", "name": definition["metadata"]["name"], "namespace": definition["metadata"]["namespace"]}
    subjects = {
        "meshops.istio": ours,
        "meshops.istio, as modules": [{**task, "environment": {"MESHOPS_IN_PROCESS": "false"}} for task in ours],
        CORE: [{CORE: {"definition": definition}}, {f"{CORE}_info": read}],
    }
    flags = ("-i", str(inventory), "--forks", str(forks))
    runs = {
        subject: (bench.playbook(f"clusters-{number}", *tasks, flags=flags), lambda: None)
        for number, (subject, tasks) in enumerate(subjects.items())
    }
    bench.race(f"{count} clusters, {forks} forks", runs, bench.runs)


def _each(names: list[str], fingerprint: str) -> list[dict[str, Any]]:
    return [{"name": name, "host": name, "expect": {"fingerprint": [fingerprint]}} for name in names]


def _handshakes(names: list[str], address: tuple[str, int], ca: Path, fingerprint: str) -> None:
    context = ssl.create_default_context(cafile=ca)

    def served(name: str) -> str:
        with socket.create_connection(address, 10) as plain, context.wrap_socket(plain, server_hostname=name) as secured:
            return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()

    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        if wrong := [name for name, found in zip(names, threads.map(served, names), strict=True) if found != fingerprint]:
            raise SystemExit(f"bench: {len(wrong)} hosts serve another certificate")
