# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which certificate a gateway should serve: the one that istiod reads from its credential's Secret."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..istio.credential import decode, read_as_istiod, reading_problems
from ..istio.names import metadata_problems
from ..istio.reference import pair_problems, parse_reference
from ..objects.kinds import SECRET, Ref
from ..problems import Problem, Rejected
from ..tls.material import read_chain
from .client import Cluster
from .reconcile import read


def secret_of(text: str, namespace: str, where: str) -> Ref:
    """The Secret of a credential, `name` (in this namespace), `namespace/name`, or as a Gateway names it. Raises Rejected where it is none."""
    reference = parse_reference(text, where)
    if problems := pair_problems(reference, where):
        raise Rejected(problems)
    if reference.scheme not in ("kubernetes", "kubernetes-gateway"):
        message = f"expected the name of a Secret, found {text!r}, of which the API server has no certificate"
        raise Rejected(Problem("credential_name", where, message, "compare with expect.fingerprint instead"))
    ref = Ref("Secret", reference.namespace or namespace, reference.name)
    if problems := metadata_problems({"kind": "Secret", "metadata": {"name": ref.name, "namespace": ref.namespace}}, where):
        raise Rejected(problems)
    return ref


def certificates(cluster: Cluster, wanted: Mapping[Ref, str]) -> tuple[dict[Ref, str], list[Problem]]:
    """The fingerprint of each credential's certificate, and what is wrong with those that have none; `wanted` says which argument asks."""
    found: dict[Ref, str] = {}
    problems: list[Problem] = []
    for ref, secret in read(cluster, [(SECRET, ref) for ref in wanted]).items():
        try:
            found[ref] = _fingerprint(ref, secret, wanted[ref])
        except Rejected as rejected:
            problems += rejected.problems
    return found, problems


def renewal(cluster: Cluster) -> Callable[[Iterable[Ref]], dict[Ref, str]]:
    """Reads credentials again while somebody waits for them: an empty fingerprint where there is no certificate now."""

    def again(refs: Iterable[Ref]) -> dict[Ref, str]:
        wanted = dict.fromkeys(refs, "")
        return {**wanted, **certificates(cluster, wanted)[0]}

    return again


def _fingerprint(ref: Ref, secret: Mapping[str, Any] | None, where: str) -> str:
    place = f"Secret {ref.namespace}/{ref.name}"
    if secret is None:
        message = f"expected {place} with the certificate that is to be served, found no such Secret"
        remedy = "make it with istio_tls_credential; without a namespace the name is looked up in credential_namespace"
        raise Rejected(Problem("credential_missing", where, message, remedy))
    data = decode(secret)
    certificate = read_as_istiod(data).certificate
    if certificate is None:
        problems = [problem for problem in reading_problems(data, where=place) if problem.severity == "error"]
        found = "; ".join(problem.message for problem in problems) or f"found {', '.join(sorted(data))}"
        message = f"expected certificate and key in {place}, which istiod serves no certificate from: {found}"
        raise Rejected(Problem("credential_incomplete", where, message, "complete it with istio_tls_credential"))
    return read_chain(certificate, where=f"{where}: {place}")[0].fingerprint
