# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials as Secrets: which keys a layout has, and which of a Secret's keys istiod would read. Pure.

istiod's rules are those of `pilot/pkg/credentials/kube/secrets.go` (ExtractCertInfo, ExtractRoot) in
https://github.com/istio/istio/blob/release-1.31/pilot/pkg/credentials/kube/secrets.go
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..objects.ownership import metadata, owner_value
from ..problems import Problem
from .names import CA_SUFFIX, is_dns_label, is_object_name

Layout = Literal["tls", "generic", "split"]
LAYOUTS: tuple[Layout, ...] = ("tls", "generic", "split")

TLS_TYPE = "kubernetes.io/tls"
OPAQUE_TYPE = "Opaque"
_UNREAD_TYPES = ("helm.sh/release.v1", "kubernetes.io/service-account-token")
"""Types that istiod's informer filters out; any other type is read."""
_SIZE_LIMIT = 1024 * 1024
"""Bytes of data in one Secret: MaxSecretSize in https://github.com/kubernetes/kubernetes/blob/master/pkg/apis/core/types.go"""

READ_KEYS = frozenset(("cert", "key", "cacert", "crl", "tls.crt", "tls.key", "ca.crt", "ca.crl", "tls.ocsp-staple"))
"""Every key that istiod looks at."""


@dataclass(frozen=True)
class Credential:
    """What a gateway is to have: a certificate with its key, and perhaps a CA for the clients; PEM (the staple is DER)."""

    name: str
    namespace: str
    layout: Layout
    certificate: bytes | None = None
    private_key: bytes | None = None
    ca_certificate: bytes | None = None
    crl: bytes | None = None
    ocsp_staple: bytes | None = None
    ca_key: str | None = None
    """The Secret's only key, with the CA in it: for pods that mount the Secret. istiod does not read it, unless it is one of `READ_KEYS`."""

    def __repr__(self) -> str:  # key material stays out of tracebacks and test output
        return f"Credential({self.namespace}/{self.name}, {self.layout})"

    @property
    def owner(self) -> str:
        return owner_value("credential", self.name)


@dataclass(frozen=True)
class Reading:
    """What istiod takes from one Secret's data, and from which keys; an empty value counts as absent."""

    certificate: bytes | None = None
    private_key: bytes | None = None
    ocsp_staple: bytes | None = None
    ca_certificate: bytes | None = None
    ca_crl: bytes | None = None
    keys: tuple[str, ...] = ()
    """The keys that the above came from."""

    def __repr__(self) -> str:
        return f"Reading(keys={self.keys})"


def read_as_istiod(data: Mapping[str, bytes]) -> Reading:
    """What istiod would read from a Secret with this data."""
    keys: list[str] = []

    def take(key: str) -> bytes | None:
        value = data.get(key) or None
        if value is not None and key not in keys:
            keys.append(key)
        return value

    certificate = private_key = staple = ca = ca_crl = None
    if data.get("cert") and data.get("key"):
        certificate, private_key = take("cert"), take("key")
    elif data.get("tls.crt") and data.get("tls.key"):
        certificate, private_key, staple = take("tls.crt"), take("tls.key"), take("tls.ocsp-staple")
    if data.get("cacert"):
        ca, ca_crl = take("cacert"), take("crl")
    elif data.get("ca.crt"):
        ca, ca_crl = take("ca.crt"), take("ca.crl")
    return Reading(certificate, private_key, staple, ca, ca_crl, tuple(keys))


def read_with_ca(name: str, data: Mapping[str, Mapping[str, bytes]]) -> tuple[Reading, Reading]:
    """What istiod would read of a credential's pair, and of its CA: from the `-cacert` Secret first. `data`: Secret name -> its data."""
    own, twin = (read_as_istiod(data.get(one) or {}) for one in (name, name + CA_SUFFIX))
    return own, twin if twin.ca_certificate else own


def reading_problems(data: Mapping[str, bytes], *, where: str) -> tuple[Problem, ...]:
    """What a Secret holds that istiod passes over in silence, or cannot use."""
    reading = read_as_istiod(data)
    return (*_crl_problems(data, reading, where), *_pair_problems(data, reading, where), *_unread_problems(data, reading, where))


def _crl_problems(data: Mapping[str, bytes], reading: Reading, where: str) -> list[Problem]:
    found = []
    for crl, ca, other in (("crl", "cacert", "ca.crt"), ("ca.crl", "ca.crt", "cacert")):
        if data.get(crl) and crl not in reading.keys and other in reading.keys:
            found.append(
                Problem(
                    "crl_wrong_key",
                    where,
                    f"the CRL in {crl} is read only beside {ca}, but the CA is in {other}: istiod ignores it in silence, and revoked certificates pass",
                    f"put the CRL in {'ca.crl' if other == 'ca.crt' else 'crl'}",
                )
            )
    if (data.get("crl") or data.get("ca.crl")) and not reading.ca_certificate:
        found.append(
            Problem(
                "crl_without_ca",
                where,
                "a CRL is read only together with a CA in the same Secret, and there is none: istiod ignores it in silence",
                f"put it beside the CA, into the Secret whose name ends in {CA_SUFFIX} if the CA is there",
                "warning",
            )
        )
    return found


def _pair_problems(data: Mapping[str, bytes], reading: Reading, where: str) -> list[Problem]:
    found = []
    for certificate, key in (("cert", "key"), ("tls.crt", "tls.key")):
        if bool(data.get(certificate)) != bool(data.get(key)):
            present, missing = (certificate, key) if data.get(certificate) else (key, certificate)
            state = "is empty" if missing in data else "is missing"
            found.append(
                Problem("incomplete_pair", where, f"{present} is there and {missing} {state}, so istiod reads neither", f"add {missing}")
            )
    if "cert" in reading.keys and data.get("tls.crt") and data["tls.crt"] != data["cert"]:
        found.append(
            Problem(
                "shadowed_pair",
                where,
                "cert and key are read before tls.crt and tls.key, which hold another certificate that is never served",
                "remove the pair that is not meant",
                "warning",
            )
        )
    return found


def _unread_problems(data: Mapping[str, bytes], reading: Reading, where: str) -> list[Problem]:
    found = []
    if data.get("tls.ocsp-staple") and not reading.ocsp_staple:
        found.append(
            Problem(
                "ocsp_staple_layout",
                where,
                "tls.ocsp-staple is read only beside tls.crt and tls.key, which istiod does not read here: it is ignored in silence",
                "keep the pair in tls.crt and tls.key",
                "warning",
            )
        )
    if not reading.keys:
        keys = [key if value else f"{key} (empty)" for key, value in sorted(data.items())]
        found.append(
            Problem(
                "no_credential",
                where,
                f"expected cert and key, tls.crt and tls.key, cacert, or ca.crt, found {', '.join(keys) or 'no keys'}",
                "add the keys that istiod reads",
            )
        )
    return found


def layout_of(data: Mapping[str, bytes], has_ca_secret: bool = False) -> str:
    """The layout of what istiod reads: `tls`, `generic`, `split`, `mixed` (pair and CA from different layouts), `ca-only` or `none`."""
    keys = read_as_istiod(data).keys
    pair = "generic" if "cert" in keys else "tls" if "tls.crt" in keys else None
    ca = "generic" if "cacert" in keys else "tls" if "ca.crt" in keys else None
    if pair is None:
        return "ca-only" if ca else "none"
    if has_ca_secret:
        return "split"
    return pair if ca in (None, pair) else "mixed"


def secrets(credential: Credential) -> dict[str, dict[str, bytes]]:
    """Secret name -> its data, in the order in which they are added: the CA's Secret of a split credential first.

    Removed they are in reverse. Were the pair's Secret written first, a MUTUAL server would find a pair without its CA in between.
    """

    def present(**values: bytes | None) -> dict[str, bytes]:
        return {key.replace("__", "-").replace("_", "."): value for key, value in values.items() if value}

    if credential.ca_key:
        return {credential.name: {credential.ca_key: credential.ca_certificate} if credential.ca_certificate else {}}
    if credential.layout == "tls":
        return {
            credential.name: present(
                tls_crt=credential.certificate,
                tls_key=credential.private_key,
                ca_crt=credential.ca_certificate,
                ca_crl=credential.crl,
                tls_ocsp__staple=credential.ocsp_staple,
            )
        }
    pair = present(cert=credential.certificate, key=credential.private_key)
    ca = present(cacert=credential.ca_certificate, crl=credential.crl)
    if credential.layout == "generic":
        return {credential.name: {**pair, **ca}}
    return {**({credential.name + CA_SUFFIX: ca} if ca else {}), credential.name: pair}


def secret_type(data: Mapping[str, bytes], live_type: str | None) -> str:
    """The type that a Secret is to have: its own where it exists (it cannot be changed, and istiod does not look at it)."""
    return live_type or (TLS_TYPE if {"tls.crt", "tls.key"} <= data.keys() else OPAQUE_TYPE)


def type_can_hold(live_type: str, data: Mapping[str, bytes]) -> bool:
    """Whether the API server accepts this data in a Secret of this type, and istiod reads it."""
    if live_type == TLS_TYPE:
        return {"tls.crt", "tls.key"} <= data.keys()
    return live_type == OPAQUE_TYPE or (
        not live_type.startswith(("kubernetes.io/", "bootstrap.kubernetes.io/")) and live_type not in _UNREAD_TYPES
    )


def manifest(
    credential: Credential,
    secret_name: str,
    data: Mapping[str, bytes],
    *,
    live_type: str | None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The Secret to apply; `data` rather than `stringData`, which server-side apply does not merge with it."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(secret_name, credential.namespace, owner=credential.owner, labels=labels, annotations=annotations),
        "type": secret_type(data, live_type),
        "data": encode(data),
    }


def encode(data: Mapping[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode() for key, value in data.items()}


def decode(secret: Mapping[str, Any] | None) -> dict[str, bytes]:
    """The data of a live Secret."""
    decoded = {}
    for key, value in ((secret or {}).get("data") or {}).items():
        try:
            decoded[key] = base64.b64decode(value or "")
        except (binascii.Error, ValueError):  # the API server lets none through; a hand-made one in a test might
            decoded[key] = b""
    return decoded


def shape_problems(credential: Credential, *, where: str) -> tuple[Problem, ...]:
    """What is wrong with a credential regardless of the certificates' content: its name, its parts, its size."""
    rules = (_name_problems, _part_problems, _ca_key_problems, _size_problems)
    return tuple(problem for rule in rules for problem in rule(credential, where))


def _name_problems(credential: Credential, where: str) -> Iterator[Problem]:
    name = credential.name
    if not is_object_name(name):
        yield Problem(
            "invalid_name",
            where,
            f"expected a Secret's name (lower-case letters, digits, '-' and '.', at most 253), found {name!r}",
            "choose such a name; a credential is looked up in the gateway's own namespace, so it is never written as namespace/name",
        )
    longest = 253 - len(CA_SUFFIX)
    if credential.layout == "split" and longest < len(name) <= 253:
        yield Problem(
            "invalid_name",
            where,
            f"layout split adds {CA_SUFFIX} to the name, and a Secret's name has at most 253 characters; expected at most {longest}, found {len(name)}",
            "choose a shorter name, or layout generic or tls, which need one Secret",
        )
    if not is_dns_label(credential.namespace):
        yield Problem(
            "invalid_namespace",
            where,
            f"expected a namespace's name, found {credential.namespace!r}",
            "use lower-case letters, digits and '-', at most 63",
        )


def _part_problems(credential: Credential, where: str) -> Iterator[Problem]:
    name = credential.name
    has_pair = bool(credential.certificate or credential.private_key)
    if bool(credential.certificate) != bool(credential.private_key):
        given, missing = ("certificate", "private_key") if credential.certificate else ("private_key", "certificate")
        yield Problem(
            "incomplete_pair", where, f"expected certificate and private_key, found only {given}", f"give {missing} or {missing}_path too"
        )
    if not has_pair and not credential.ca_certificate:
        yield Problem(
            "nothing_given",
            where,
            "expected a certificate with its private key, or a CA certificate, found neither",
            "give certificate_path and private_key_path",
        )
    if has_pair and name.endswith(CA_SUFFIX):
        yield Problem(
            "cacert_suffix",
            where,
            f"istiod takes a credential whose name ends in {CA_SUFFIX} for a CA alone and would never serve this certificate",
            "choose a name without that suffix",
        )
    if credential.layout == "split" and name.endswith(CA_SUFFIX):
        yield Problem(
            "cacert_suffix", where, f"layout split adds {CA_SUFFIX} to the name itself", f"name it {name.removesuffix(CA_SUFFIX)}"
        )
    if credential.layout == "split" and not has_pair:
        yield Problem(
            "incomplete_pair",
            where,
            "layout split is a pair and its CA in two Secrets, found no pair",
            f"for a CA alone use layout generic and the name {name}{CA_SUFFIX}",
        )
    if credential.crl and not credential.ca_certificate:
        yield Problem(
            "crl_without_ca",
            where,
            "a CRL is read together with the CA certificate that issued it, found none",
            "give ca_certificate or ca_certificate_path too",
        )
    if credential.ocsp_staple and (credential.layout != "tls" or not has_pair):
        yield Problem(
            "ocsp_staple_layout",
            where,
            f"istiod reads an OCSP staple only beside tls.crt and tls.key, found layout {credential.layout}",
            "use layout tls",
        )


def _size_problems(credential: Credential, where: str) -> Iterator[Problem]:
    for secret_name, data in secrets(credential).items():
        size = sum(map(len, data.values()))
        if size > _SIZE_LIMIT:
            largest = max(data, key=lambda key: len(data[key]))
            yield Problem(
                "too_large",
                where,
                f"Secret {secret_name} would hold {size} bytes ({largest}: {len(data[largest])}), and the API server takes {_SIZE_LIMIT} at most",
                "leave out certificates that no client needs, or split the CA bundle",
            )


def _ca_key_problems(credential: Credential, where: str) -> Iterator[Problem]:
    if credential.ca_key is None:
        return
    key = credential.ca_key
    if (
        len(key) > 253
        or not re.fullmatch(r"[-._a-zA-Z0-9]+", key)
        or key.startswith("..")
        or key == "."
        or key in READ_KEYS - {"cacert", "ca.crt"}
    ):
        message = f"expected a key of a Secret (letters, digits, '-', '_' and '.', at most 253) that holds no pair and no CRL for istiod, found {key!r}"
        yield Problem("invalid_key", where, message, "choose another ca_certificate_key, such as ca-chain.cert.pem")
    others = {
        "certificate": credential.certificate,
        "private_key": credential.private_key,
        "crl": credential.crl,
        "ocsp_staple": credential.ocsp_staple,
    }
    given = [name for name, value in others.items() if value] + (["layout split"] if credential.layout == "split" else [])
    if given:
        message = f"ca_certificate_key makes a Secret with a CA alone, for pods that mount it; found {', '.join(given)} too"
        yield Problem("ca_not_alone", where, message, f"leave out {given[0]}, or ca_certificate_key")
