# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a credential, and what they come to: for every module that writes credentials."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .arguments import content_or_path, duration
from .call import Call
from .cluster.credentials import Wanted
from .istio.credential import Credential, shape_problems
from .istio.credential_material import PARTS, Checked, Demands, Source, check_material
from .istio.names import metadata_problems
from .problems import Problem, Rejected, errors, warnings
from .tls.forms import certificates_as_pem
from .tls.material import read_cas
from .tls.roots import Roots

CREDENTIAL_OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str"},
    "namespace": {"type": "str"},
    "layout": {"type": "str", "choices": ["tls", "generic", "split"]},
    "certificate": {"type": "str"},
    "certificate_path": {"type": "path"},
    "private_key": {"type": "str", "no_log": True},
    "private_key_path": {"type": "path", "no_log": False},
    "private_key_passphrase": {"type": "str", "no_log": True},
    "pkcs12": {"type": "str", "no_log": True},
    "pkcs12_path": {"type": "path"},
    "pkcs12_passphrase": {"type": "str", "no_log": True},
    "ca_certificate": {"type": "str"},
    "ca_certificate_path": {"type": "path"},
    "ca_certificate_key": {"type": "str", "no_log": False},
    "crl": {"type": "str"},
    "crl_path": {"type": "path"},
    "ocsp_staple": {"type": "str"},
    "ocsp_staple_path": {"type": "path"},
    "hosts": {"type": "list", "elements": "str"},
    "purpose": {"type": "str", "choices": ["server", "client"]},
    "min_remaining": {"type": "str"},
    "not_before_tolerance": {"type": "str"},
    "on_invalid": {"type": "str", "choices": ["fail", "warn"]},
    "trust_anchors": {"type": "str"},
    "trust_anchors_path": {"type": "path"},
    "replace": {"type": "bool"},
    "override_cert_manager": {"type": "bool"},
    "state": {"type": "str", "choices": ["present", "absent"]},
    "labels": {"type": "dict"},
    "annotations": {"type": "dict"},
}
DEFAULTS = {
    "namespace": "istio-system",
    "layout": "tls",
    "purpose": "server",
    "min_remaining": "0d",
    "not_before_tolerance": "60s",
    "on_invalid": "fail",
}
SHARED = (*DEFAULTS, "trust_anchors", "trust_anchors_path", "replace", "override_cert_manager", "state")
BINARY = ("pkcs12", "ocsp_staple")


def items(params: Mapping[str, Any], listed_as: str = "credentials") -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, options) of every credential; what an item leaves out comes from beside the list `listed_as`, then from the defaults."""
    listed = params[listed_as] if params[listed_as] is not None else [params]
    for number, item in enumerate(listed):
        where = "" if item is params else f"{listed_as}[{number}] ({item['name'] or 'no name'}): "
        options = dict(item)
        for option in SHARED:
            if options[option] is None:
                options[option] = params[option] if params[option] is not None else DEFAULTS.get(option)
        for option in ("labels", "annotations"):
            options[option] = {str(key): str(value) for key, value in {**(params[option] or {}), **(item[option] or {})}.items()}
        if not options["name"]:
            raise Rejected(Problem("no_name", f"{where}name", "expected the credential's name, found none", "give name"))
        yield where, options


def sources(options: Mapping[str, Any], where: str) -> tuple[dict[str, Source], list[Problem]]:
    """The bytes of every part that is given; what cannot be read becomes a problem."""
    found: dict[str, Source] = {}
    problems: list[Problem] = []
    for part in PARTS:
        try:
            data, place = content_or_path(options, part, where=where)
            if data is not None and part in BINARY and options[part] is not None:
                data = base64.b64decode(data, validate=True)
            if data is not None:
                found[part] = Source(data, place)
        except binascii.Error:
            problems.append(
                Problem(
                    "not_base64", place, "expected binary content encoded in base64, found something else", f"encode it, or use {part}_path"
                )
            )
        except Rejected as rejected:
            problems += rejected.problems
    return found, problems


def _rules(call: Call, options: Mapping[str, Any]) -> dict[str, Any]:
    """How far the writing may go, and what is written beside the parts."""
    return {
        "absent": options["state"] == "absent",
        "labels": options["labels"],
        "annotations": options["annotations"],
        "force": call.params["force_conflicts"],
        "replace": bool(options["replace"]),
        "from_cert_manager": bool(options["override_cert_manager"]),
    }


def prepare(
    call: Call, where: str, options: Mapping[str, Any], anchors: dict[Any, Any], roots: Roots
) -> tuple[Wanted, Checked | None, list[Problem]]:
    """One credential: what is wanted, what was found out about it, and its problems as severe as `on_invalid` makes them."""
    rules = _rules(call, options)
    name, namespace, layout, ca_key = options["name"], options["namespace"], options["layout"], options.get("ca_certificate_key")
    where_named = where or f"name {name}: "
    metadata = {"name": name, "namespace": namespace, "labels": options["labels"], "annotations": options["annotations"]}
    found = metadata_problems({"kind": "Secret", "metadata": metadata}, where_named.removesuffix(": "))
    if rules["absent"]:
        return Wanted(Credential(name, namespace, layout, ca_key=ca_key), where_named, **rules), None, list(found)
    given, problems = sources(options, where)
    problems += [problem for problem in found if problem.code in ("label", "annotation")]  # the names are judged as a credential's below
    known = (options["trust_anchors"], options["trust_anchors_path"])
    try:
        if known not in anchors:
            data, place = content_or_path(options, "trust_anchors", where=where)
            anchors[known] = None if data is None else read_cas(certificates_as_pem(data), where=place)
        demands = Demands(
            tuple(options["hosts"] or ()),
            options["purpose"],
            duration(options["min_remaining"], where=f"{where}min_remaining"),
            anchors[known],
            duration(options["not_before_tolerance"], where=f"{where}not_before_tolerance"),
            roots,
        )
    except Rejected as rejected:
        problems += rejected.problems
        demands = Demands()
    checked = check_material(
        given,
        demands,
        now=call.now,
        private_key_passphrase=options["private_key_passphrase"],
        pkcs12_passphrase=options["pkcs12_passphrase"],
    )
    credential = Credential(name, namespace, layout, **checked.parts, ca_key=ca_key)
    shape = shape_problems(credential, where=where_named.removesuffix(": "))
    if problems or checked.unusable:  # what could not be read was given all the same
        shape = tuple(problem for problem in shape if problem.code not in ("nothing_given", "incomplete_pair"))
    problems += [*checked.unusable, *errors(shape)]
    lenient = options["on_invalid"] == "warn"
    judged = [replace(problem, severity="warning") if lenient else problem for problem in checked.problems]
    return Wanted(credential, where_named, **rules), checked, [*problems, *warnings(shape), *judged]


def duplicates(wanted: Sequence[Wanted], listed_as: str = "credentials") -> list[Problem]:
    counted = Counter((ours.credential.namespace, ours.credential.name) for ours in wanted)
    return [
        Problem(
            "given_twice", listed_as, f"expected every credential once, found {namespace}/{name} {count} times", "leave out all but one"
        )
        for (namespace, name), count in counted.items()
        if count > 1
    ]
