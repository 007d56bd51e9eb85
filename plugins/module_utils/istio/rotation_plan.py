# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rotation changes, whom it concerns and what it breaks: told before anything is written, and identified. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ..problems import Problem, Rejected
from ..tls.facts import describe
from ..tls.material import Certificate, read_cas, read_chain
from ..tls.names import covers
from ..tls.paths import issuing_key, same_ca, signed_by
from .credential import read_with_ca
from .served import Presented, Served

Action = Literal["create", "rotate", "unchanged"]
Data = Mapping[str, Mapping[str, bytes]]
"""Secret name -> its data: a credential's own, and its `-cacert` where it has one."""


@dataclass(frozen=True)
class State:
    """What istiod reads of a credential, before or after."""

    chain: tuple[Certificate, ...] = ()
    cas: tuple[Certificate, ...] = ()
    crl: bytes | None = field(default=None, repr=False)

    @property
    def fingerprint(self) -> str | None:
        return self.chain[0].fingerprint if self.chain else None

    def facts(self, now: datetime) -> dict[str, Any] | None:
        if not self.chain and not self.cas:
            return None
        shown: dict[str, Any] = {"certificate": describe(self.chain, now) if self.chain else None}
        if self.cas:
            shown["ca_certificates"] = [
                {"fingerprint_sha256": ca.fingerprint, "subject": ca.subject, "not_after": describe(ca, now)["not_after"]}
                for ca in self.cas
            ]
        if self.crl:
            shown["crl_sha256"] = hashlib.sha256(self.crl).hexdigest()
        return shown


def state_of(name: str, data: Data) -> State:
    """What istiod reads: the CA from the `-cacert` Secret first. What cannot be read counts as absent; the checks tell of it."""
    own, verified = read_with_ca(name, data)
    return State(readable(own.certificate, read_chain), readable(verified.ca_certificate, read_cas), verified.ca_crl)


def readable(pem: bytes | None, read: Callable[..., tuple[Certificate, ...]]) -> tuple[Certificate, ...]:
    """Certificates, none of what istiod and Envoy cannot read either; `read` is `read_chain` or `read_cas`."""
    if not pem:
        return ()
    try:
        return read(pem, where="")
    except Rejected:
        return ()


@dataclass(frozen=True)
class RotationPlan:
    """One credential's rotation."""

    name: str
    namespace: str
    action: Action
    before: State
    after: State
    servers: tuple[Served, ...]
    presented: tuple[Presented, ...]
    made_of: Mapping[str, str]
    """What the identifier is computed from: digests of `live` (the Secrets), `files` (the new content) and `users`."""
    proxies: Mapping[str, int] = field(default_factory=dict)
    """Gateway workloads (by labels) and how many there are; no part of the identifier, since pods come and go."""
    problems: tuple[Problem, ...] = ()
    stage: str = ""
    """Of a CA rotation in stages: the one that this leads to."""

    @property
    def where(self) -> str:
        return f"credential {self.namespace}/{self.name}"

    @property
    def id(self) -> str:
        return identifier([self.namespace, self.name, dict(self.made_of), *([self.stage] if self.stage else [])])

    @property
    def hosts(self) -> list[str]:
        return sorted({host for server in self.servers if server.pair for host in server.hosts})

    def changes(self) -> list[str]:
        """What is different after it, each a clause."""
        if self.action == "unchanged":
            return []
        return [*_leaf_changes(self.before, self.after), *_ca_changes(self.before, self.after)] or ["other content of the Secret"]

    def as_result(self, now: datetime) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "namespace": self.namespace,
            **({"stage": self.stage} if self.stage else {}),
            "action": self.action,
            "changes": self.changes(),
            "before": self.before.facts(now),
            "after": self.after.facts(now),
            "servers": [server.as_result() for server in self.servers],
            "destination_rules": [one.as_result() for one in self.presented],
            "proxies": dict(self.proxies),
            "breaks": [problem.as_result() for problem in self.problems],
            "made_of": dict(self.made_of),
        }

    def text(self) -> str:
        """For people, at an approval."""
        lines = [f"{self.where}{f', stage {self.stage}' if self.stage else ''}: {self.action} (plan {self.id[:12]})"]
        lines += [f"  changes: {change}" for change in self.changes()]
        lines += [f"  served by: {server}" for server in self.servers if server.pair]
        lines += [f"  verifies clients of: {server}" for server in self.servers if not server.pair]
        lines += [f"  presented by: {one}" for one in self.presented]
        lines += [f"  proxies: {count} of {workload}" for workload, count in self.proxies.items()]
        if not self.servers and not self.presented:
            lines.append("  used by: nothing that was found")
        lines += [f"  {problem.severity}: {problem.message}" for problem in self.problems]
        return "\n".join(lines)


def identifier(of: Any) -> str:
    """A SHA-256 of what can be written as JSON."""
    return hashlib.sha256(json.dumps(of, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def digest(data: Data) -> str:
    """Of Secrets' contents. The keys in them make it impossible to guess anything from it."""
    return identifier(
        {name: {key: hashlib.sha256(value).hexdigest() for key, value in sorted(content.items())} for name, content in data.items()}
    )


def make_plan(
    name: str,
    namespace: str,
    *,
    live: Data,
    desired: Data,
    changed: bool,
    servers: Sequence[Served],
    presented: Sequence[Presented],
    proxies: Mapping[str, int],
    metadata: Mapping[str, Any],
    lenient: bool = False,
    stage: str = "",
) -> RotationPlan:
    """`changed`: whether anything is to be written; `lenient`: what breaks is a warning; `stage`: of a CA rotation."""
    before, after = state_of(name, live), state_of(name, desired)
    action: Action = "unchanged" if not changed else "rotate" if any(live.values()) else "create"
    users = [*(server.as_result() for server in servers), *(one.as_result() for one in presented)]
    made_of = {
        "live": digest(live),
        "files": identifier([digest(desired), dict(metadata)]),
        "users": identifier(sorted(users, key=lambda user: json.dumps(user, sort_keys=True))),
    }
    plan = RotationPlan(name, namespace, action, before, after, tuple(servers), tuple(presented), made_of, proxies, stage=stage)
    found = tuple(_breaks(plan, lenient)) if action == "rotate" else ()
    return RotationPlan(**{**plan.__dict__, "problems": found})


# --- what changes, and what breaks ----------------------------------------------------------------------------------------


def _leaf_changes(before: State, after: State) -> list[str]:
    if before.fingerprint == after.fingerprint:
        return []
    if not after.chain:
        return ["the certificate goes"]
    new = after.chain[0]
    facts = f"serial {new.serial}, valid until {new.not_after:%Y-%m-%d}, issued by {new.issuer}"
    if not before.chain:
        return [f"certificate {new.fingerprint} comes ({facts})"]
    old = before.chain[0]
    found = [f"certificate {old.fingerprint} (serial {old.serial}, until {old.not_after:%Y-%m-%d}) becomes {new.fingerprint} ({facts})"]
    gone, come = sorted(set(old.names) - set(new.names)), sorted(set(new.names) - set(old.names))
    found += [f"names that go: {_few(gone)}"] if gone else []
    found += [f"names that come: {_few(come)}"] if come else []
    if old.spki is not None and old.spki == new.spki:
        found.append("the private key stays the same")
    elif str(old.key) != str(new.key):
        found.append(f"the key was {old.key} and becomes {new.key}")
    return found


def _ca_changes(before: State, after: State) -> list[str]:
    gone = [ca for ca in before.cas if not any(same_ca(ca, other) for other in after.cas)]
    come = [ca for ca in after.cas if not any(same_ca(ca, other) for other in before.cas)]
    found = [f"CA that goes: {ca.subject} ({ca.fingerprint})" for ca in gone]
    found += [f"CA that comes: {ca.subject} ({ca.fingerprint})" for ca in come]
    if before.crl != after.crl:
        found.append("another CRL" if before.crl and after.crl else "a CRL comes" if after.crl else "the CRL goes")
    return found


def _breaks(plan: RotationPlan, lenient: bool) -> Iterable[Problem]:
    before, after = plan.before, plan.after
    if before.chain and after.chain and before.fingerprint != after.fingerprint:
        yield from _uncovered(plan, lenient)
        if plan.servers and not _same_issuer(before.chain, after.chain):
            yield Problem(
                "issuer_changed",
                plan.where,
                f"expected the issuer to stay {before.chain[0].issuer}, found {after.chain[0].issuer} or another key of that name: clients that trust "
                "only the old issuer refuse the new certificate",
                "give clients the new CA first, or ignore this where they trust both",
                "warning",
            )
    dropped = [ca for ca in before.cas if not any(same_ca(ca, other) for other in after.cas)]
    if dropped and (plan.servers or plan.presented) and not plan.stage:  # in stages, that is the aim
        who = "clients" if plan.servers else "servers"
        yield Problem(
            "ca_dropped",
            plan.where,
            f"expected every CA that is trusted now to stay, found {_few([ca.subject for ca in dropped])} left out: {who} with certificates of it are "
            "refused from then on",
            "keep it in the bundle until nobody uses it any more, or ignore this where that is the aim",
            "warning",
        )


def _uncovered(plan: RotationPlan, lenient: bool) -> Iterable[Problem]:
    old, new = plan.before.chain[0], plan.after.chain[0]
    hosts = [host for host in plan.hosts if host != "*" and not covers(host, new)]
    lost = [host for host in hosts if covers(host, old)]
    if lost:
        yield Problem(
            "host_no_longer_covered",
            plan.where,
            f"expected a certificate for every host that is served with it, found none of {_few(lost)} in {new.label}: clients would refuse it",
            f"issue it with subjectAltName {', '.join(f'DNS:{host}' for host in lost[:3])}, remove the host from the Gateway, or set on_invalid: warn",
            "warning" if lenient else "error",
        )
    if left := sorted(set(hosts) - set(lost)):
        yield Problem(
            "host_not_covered",
            plan.where,
            f"{_few(left)} is served with it and covered by neither the old nor the new certificate",
            "issue it for that host too, or remove the host from the Gateway",
            "warning",
        )


def revocation_problems(plan: RotationPlan) -> Iterable[Problem]:
    """What a leaked key's replacement must not be, and what it cannot show."""
    before, after = plan.before, plan.after
    if plan.action != "rotate":
        return
    new_pair = before.chain and after.chain and before.fingerprint != after.fingerprint
    if new_pair and before.chain[0].spki is not None and before.chain[0].spki == after.chain[0].spki:
        yield Problem(
            "key_kept",
            plan.where,
            "expected another private key, since revoke says that the old one leaked, found the same key in the new certificate",
            "make a new key and have the certificate issued for it, or leave out revoke",
        )
    if new_pair and plan.presented:
        yield Problem(
            "refusal_not_shown",
            plan.where,
            f"whether the servers of {_few([one.host for one in plan.presented])} refuse the old client certificate cannot be shown from here",
            "have it revoked by its CA, and ask whoever runs the server to refuse it",
            "warning",
        )


def _same_issuer(before: Sequence[Certificate], after: Sequence[Certificate]) -> bool:
    """Whether whoever trusts the issuer of the one trusts that of the other."""
    if any(signed_by(after[0], ca) for ca in before[1:]):
        return True
    if any(old.fingerprint == new.fingerprint for old in before[1:] for new in after[1:]):
        return True
    if before[0].issuer != after[0].issuer or (before[1:] and after[1:]):
        return False
    return issuing_key(before[0]) == issuing_key(after[0])


def _few(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


NEVER_WRITTEN = frozenset(
    (
        *("crl_expired", "crl_incomplete", "crl_signature_invalid", "crl_unsupported", "crl_unreadable", "ca_cannot_sign_crl"),
        *("ocsp_wrong_certificate", "ocsp_missing"),
    )
)
"""With these Envoy refuses every client of a CA, or the whole credential: no `on_invalid` lets a rotation write them."""


def never_written(problems: Iterable[Problem]) -> list[Problem]:
    """The problems that stay errors, whatever else is made a warning."""
    return [problem for problem in problems if problem.code in NEVER_WRITTEN and problem.severity == "error"]


def approval_problems(approved: Any, plans: Sequence[RotationPlan]) -> tuple[Problem, ...]:
    """What has changed since a plan was approved: `approved` is a plan's identifier, or the plan as this module returned it."""
    now = plan_id(plans)
    given = approved.get("id") if isinstance(approved, Mapping) else approved
    if given == now:
        return ()
    changed: list[str] = []
    for old in (approved.get("rotations") or ()) if isinstance(approved, Mapping) else ():
        key = (old.get("namespace"), old.get("name"), old.get("stage") or "")
        plan = next((one for one in plans if (one.namespace, one.name, one.stage) == key), None)
        label = f"{old.get('namespace')}/{old.get('name')}{f' (stage {key[2]})' if key[2] else ''}"
        if plan is None:
            changed.append(f"{label} is no longer among the rotations")
            continue
        words = {
            "live": "the Secret",
            "files": "the new certificate, key or options",
            "users": "the Gateways or DestinationRules that use it",
        }
        changed += [f"{words[what]} of {label}" for what in words if (old.get("made_of") or {}).get(what) != plan.made_of[what]]
    found = f"changed since: {_few(changed)}" if changed else f"found plan {now}"
    return (
        Problem(
            "plan_outdated",
            "plan",
            f"expected the world and the files to be those of the approved plan {given or '(without id)'}, {found}; nothing was written",
            "run in check mode again, look at the new plan, and have it approved",
        ),
    )


def plan_id(plans: Sequence[RotationPlan]) -> str:
    return identifier([plan.id for plan in plans])
