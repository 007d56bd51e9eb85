# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From write to proof: `istio_tls_rotation`, beside what is done by hand: `kubectl apply`, and `openssl s_client` until the new serial is served."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.meshops.istio.tests.integration.many_connections import many_connections
from cryptography import x509
from report import SHELL
from sandbox_shell import timed

if TYPE_CHECKING:
    from bench import Bench

OURS = "istio_tls_rotation"
NAMESPACE = "istio-system"
GATEWAY = "bench-rotations"
ADMIN = "http://127.0.0.1:15100"
SCRIPT = """
kubectl apply --server-side --force-conflicts -f "$1" >/dev/null
while read -r host serial; do
  until openssl s_client -connect "$2" -servername "$host" </dev/null 2>/dev/null | openssl x509 -noout -serial 2>/dev/null | grep -q "=$serial$"; do
    sleep 0.1
  done
done < "$3"
"""

Pairs = Sequence[dict[str, str]]


def rotations(bench: Bench, count: int, singles: int, make_pairs: Any, as_secrets: Any) -> None:
    """`count` hosts at the ingress gateway, rotated in one call, and one of them `singles` times."""
    sets = [_named(make_pairs(bench.directory / f"rotation-{number}", count)) for number in range(3)]
    present, absent = ({"name": GATEWAY, "namespace": NAMESPACE, **more} for more in (_servers(sets[0]), {"state": "absent"}))
    credentials = {
        "meshops.istio.istio_tls_credential": {"credentials": "{{ bench }}", "prove": True, "admin_urls": [ADMIN], "proof_timeout": 300}
    }
    bench.playbook("rotation-gateway", {"meshops.istio.ingress_tls_gateway": present})()
    bench.playbook("rotation-first", credentials, value=_rows(sets[0]))()
    try:
        _all_at_once(bench, count, sets, as_secrets)
        _under_load(bench, sets[2][:100], sets[0][:100])
        _one_by_one(bench, [_named(make_pairs(bench.directory / f"rotation-single-{number}", 1)) for number in range(singles)], as_secrets)
    finally:
        bench.playbook("rotation-gone", {"meshops.istio.ingress_tls_gateway": absent})()
        going = {"credentials": "{{ bench }}", "state": "absent", "force_conflicts": True}  # the shell's Secrets among them
        bench.playbook("rotation-away", {"meshops.istio.istio_tls_credential": going}, value=[{"name": one["name"]} for one in sets[0]])()


def _all_at_once(bench: Bench, count: int, sets: Sequence[Pairs], as_secrets: Any) -> None:
    scenario = f"{count} rotated, write to proof"
    task = {"rotations": "{{ bench }}", "admin_urls": [ADMIN], "proof_timeout": 300, "force_conflicts": True}
    run = bench.playbook("rotation-all", {"meshops.istio.istio_tls_rotation": task}, value=_rows(sets[1]))
    bench.record(scenario, OURS, timed(run))
    bench.record(scenario, SHELL, _by_hand(bench, sets[2], as_secrets))


def _under_load(bench: Bench, before: Pairs, after: Pairs) -> None:
    """In one call, while Fortio makes new connections to four of the hosts; each of them verifies what it is served with."""
    task = {"rotations": "{{ bench }}", "admin_urls": [ADMIN], "proof_timeout": 300, "force_conflicts": True}
    run = bench.playbook("rotation-load", {"meshops.istio.istio_tls_rotation": task}, value=_rows(after))
    trusted = bench.directory / "rotation-trusted.crt"
    trusted.write_text("".join(pair["crt"] for pair in (*before, *after)))
    address, port = bench.env["INGRESS_HOST"], int(bench.env["SECURE_INGRESS_PORT"])
    with many_connections(address, port, [_host(pair) for pair in after[:4]], ca_file=trusted) as load:
        seconds = timed(run)
    failed = sum(count for status, count in load["statuses"].items() if status == "-1")
    figures = {"connections": load["requests"], "per_second": round(load["per_second"]), "failed": failed}
    bench.record(f"{len(after)} rotated under load, the whole run", OURS, seconds, load=figures)


def _one_by_one(bench: Bench, sets: Sequence[Pairs], as_secrets: Any) -> None:
    """In one playbook, so that its start is no part of it: the seconds are those from the write to the proof, as the module tells them."""
    scenario, told = "1 rotated, write to proof", bench.directory / "rotation-told.json"
    task = {**_rows(sets[0])[0], "admin_urls": [ADMIN], "force_conflicts": True}
    items = [{"certificate_path": pair["crt_path"], "private_key_path": pair["key_path"]} for (pair,) in sets]
    rotate = {
        "meshops.istio.istio_tls_rotation": {
            **task,
            "certificate_path": "{{ item.certificate_path }}",
            "private_key_path": "{{ item.private_key_path }}",
        },
        "loop": items,
        "loop_control": {"label": "{{ item.certificate_path }}"},
        "register": "rotated",
    }
    seconds = "{{ rotated.results | map(attribute='rotations') | map('first') | map(attribute='proof.seconds') | list | to_json }}"
    bench.playbook("rotation-single", rotate, {"ansible.builtin.copy": {"content": seconds, "dest": str(told), "mode": "0600"}})()
    _percentiles(bench, scenario, OURS, json.loads(told.read_text()))
    _percentiles(bench, scenario, SHELL, [_by_hand(bench, pairs, as_secrets) for pairs in sets])


def _percentiles(bench: Bench, scenario: str, subject: str, seconds: Sequence[float]) -> None:
    ranked = sorted(seconds)

    def at(share: float) -> float:
        return round(ranked[math.ceil(share * len(ranked)) - 1], 3)

    bench.record(scenario, subject, at(0.5), p99=at(0.99), max=at(1.0))


def _by_hand(bench: Bench, pairs: Pairs, as_secrets: Any) -> float:
    objects, wanted, script = (bench.directory / f"rotation-by-hand.{ending}" for ending in ("json", "txt", "sh"))
    objects.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": as_secrets(pairs, NAMESPACE)}))
    serials = [x509.load_pem_x509_certificate(pair["crt"].encode()).serial_number for pair in pairs]
    texts = [f"{serial:X}" for serial in serials]
    lines = [f"{_host(pair)} {'0' * (len(text) % 2)}{text}\n" for pair, text in zip(pairs, texts, strict=True)]
    wanted.write_text("".join(lines))
    script.write_text(SCRIPT)
    address = f"{bench.env['INGRESS_HOST']}:{bench.env['SECURE_INGRESS_PORT']}"
    return timed(lambda: bench.command("bash", script, objects, address, wanted))


def _named(pairs: Pairs) -> list[dict[str, str]]:
    return [{**pair, "name": f"bench-rotation-{number}"} for number, pair in enumerate(pairs)]


def _host(pair: dict[str, str]) -> str:
    return f"host-{Path(pair['crt_path']).stem}.example.com"


def _rows(pairs: Pairs) -> list[dict[str, str]]:
    return [{"name": pair["name"], "certificate_path": pair["crt_path"], "private_key_path": pair["key_path"]} for pair in pairs]


def _servers(pairs: Pairs) -> dict[str, Any]:
    servers = [{"hosts": [_host(pair)], "mode": "SIMPLE", "credential_name": pair["name"]} for pair in pairs]
    return {"selector": {"istio": "ingressgateway"}, "servers": servers}
