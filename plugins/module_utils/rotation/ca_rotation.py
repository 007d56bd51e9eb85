# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CA rotation from its arguments: what it comes from and leads to, and what peers of both CAs must see in each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ..arguments import content_or_path, duration
from ..istio.ca_stages import UNTIL, Aim, Stage
from ..istio.credential import Credential
from ..istio.credential_material import Demands, Source, check_material
from ..probes import PROBE_OPTIONS, Probe, expectation
from ..problems import Problem, Rejected
from ..tls.certificate_checks import TOLERANCE
from . import user_probes

PEERS: dict[str, Any] = {"type": "list", "elements": "dict", "options": {"name": {"type": "str"}, **PROBE_OPTIONS}}
_OLD = ("ca_certificate", "crl", "certificate", "private_key")
CA_ROTATION: dict[str, Any] = {
    "type": "dict",
    "options": {
        "until_stage": {"type": "str", "required": True, "choices": list(UNTIL)},
        "old_ca_certificate": {"type": "str"},
        "old_ca_certificate_path": {"type": "path"},
        "old_crl": {"type": "str"},
        "old_crl_path": {"type": "path"},
        "old_certificate": {"type": "str"},
        "old_certificate_path": {"type": "path"},
        "old_private_key": {"type": "str", "no_log": True},
        "old_private_key_path": {"type": "path", "no_log": False},
        "old_peers": PEERS,
        "new_peers": PEERS,
    },
}
_REFUSED: Mapping[str, dict[str, Any]] = {
    # how a gateway refuses a client, and how one that originates TLS tells that it refused the server
    "https": {"failure": ["client_certificate_refused"]},
    "tls": {"failure": ["client_certificate_refused"]},
    "http": {"status": [503]},
    "tcp": {"failure": ["connection_reset"]},
}
_IN_A_ROW = 3
_DELAY = 0.2


@dataclass(frozen=True)
class CaRotation:
    """One as it was asked for."""

    aim: Aim
    old_peers: Sequence[Probe] = ()
    """What peers with certificates of the old CA ask."""
    new_peers: Sequence[Probe] = ()
    found: Stage = "before"
    """The stage in which the cluster was found."""
    not_before_tolerance: timedelta = TOLERANCE

    def proofs(self, stage: Stage) -> tuple[list[Probe], list[Probe]]:
        """What must get in in a stage, and what must be refused: the new CA's peers get in, and the old one's do until it is dropped."""
        new = [_named(one, "new peer") for one in self.new_peers]
        if stage == "drop":
            return new, [refused(one, "old peer refused") for one in self.old_peers]
        return [*new, *(_named(one, "old peer") for one in self.old_peers)], []


def from_arguments(given: Mapping[str, Any], new: Credential, where: str, now: datetime) -> tuple[CaRotation | None, list[Problem]]:
    """The `ca_rotation` among the options of one rotation, and what is wrong with it; `new` is the credential as it is to be in the end."""
    options = given["ca_rotation"]
    if options is None:
        return None, []
    sources, problems = {}, list[Problem]()
    for part in _OLD:
        try:
            data, place = content_or_path(options, f"old_{part}", where=f"{where}ca_rotation.")
            if data is not None:
                sources[part] = Source(data, place)
        except Rejected as rejected:
            problems += rejected.problems
    found = check_material(sources, Demands(), now=now)
    problems += found.unusable
    pair = {part: source for part, source in sources.items() if part in ("certificate", "private_key")}
    if len(pair) == 1:
        message = f"expected old_certificate and old_private_key, found only old_{next(iter(pair))}"
        problems.append(Problem("incomplete_pair", f"{where}ca_rotation", message, "give the other one too"))
    elif pair:
        problems += [problem for problem in check_material(pair, Demands(), now=now).problems if problem.code == "key_mismatch"]
    old = Credential(new.name, new.namespace, new.layout, **{part: found.parts.get(part) for part in _OLD})
    aim = Aim(new, old, options["until_stage"], where)
    peers = {}
    for name in ("old_peers", "new_peers"):
        peers[name], wrong = user_probes.read(options[name], f"{where}ca_rotation.{name}: ")
        problems += wrong
    problems += [problem for one in peers["old_peers"] for problem in refusal_problems(one, f"{where}ca_rotation.old_peers")]
    try:
        tolerance = duration(given["not_before_tolerance"], where="")
    except Rejected:  # told where the credential's other options are read
        tolerance = TOLERANCE
    return CaRotation(aim, peers["old_peers"], peers["new_peers"], not_before_tolerance=tolerance), problems


def refused(probe: Probe, what: str) -> Probe:
    """A probe that holds where the gateway refuses the certificate, and not where nothing answers."""
    expect = _REFUSED[probe.request.scheme]
    made = _named(probe, what)
    return replace(made, expect=expectation(expect), options={**made.options, "expect": expect}, credentials=())


def goes_by_pool(probe: Probe) -> bool:
    """Whether a request goes through an egress gateway, which uses a connection of before as long as it has one."""
    return probe.request.scheme in ("http", "tcp")


def refusals(listed: Sequence[Mapping[str, Any]] | None, where: str) -> tuple[list[Probe], list[Problem]]:
    """The probes of the option `refused`, and what is wrong with them."""
    probes, problems = user_probes.read(listed, f"{where}refused: ")
    problems = [*problems, *(problem for one in probes for problem in refusal_problems(one, f"{where}refused"))]
    return [refused(one, "refused") for one in probes], problems


def refusal_problems(probe: Probe, where: str) -> list[Problem]:
    """A request without a certificate would be refused whatever the gateway trusts."""
    pod = probe.options["from_pod"] or {}
    if probe.request.scheme not in ("https", "tls") or probe.request.client_certificate or pod.get("client_certificate_path"):
        return []
    message = f"{probe.name}: expected a client certificate, whose refusal would prove something, found none"
    return [Problem("no_client_certificate", where, message, "give client_certificate_path and client_private_key_path")]


def _named(probe: Probe, what: str) -> Probe:
    """One that must hold several times in a row: a gateway may have several replicas."""
    options = {**probe.options, "consecutive": max(probe.options["consecutive"], _IN_A_ROW), "delay": min(probe.options["delay"], _DELAY)}
    return replace(probe, name=f"{what}: {probe.name}", options=options)
