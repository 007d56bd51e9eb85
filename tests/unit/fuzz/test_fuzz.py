# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random input: whatever is given, the answer is a result or a problem in words, never a traceback, and never takes long.

Every run begins with seeds that are always the same and goes on with its own. A failure names its seed and shows the whole input;
MESHOPS_FUZZ_SEED=... repeats the same changes (to material that is made anew), MESHOPS_FUZZ_SECONDS=... makes a run longer.
What was found once stays below as a case.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import io
import itertools
import json
import os
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.cluster import client
from ansible_collections.meshops.istio.plugins.module_utils.istio.credential_material import Demands, Source, check_material, describe_data
from ansible_collections.meshops.istio.plugins.module_utils.live import probe as live_probe
from ansible_collections.meshops.istio.plugins.module_utils.problems import Rejected
from ansible_collections.meshops.istio.plugins.module_utils.tls import forms
from ansible_collections.meshops.istio.plugins.module_utils.tls import material as tls_material
from ansible_collections.meshops.istio.plugins.module_utils.tls.lenient import element, elements
from ansible_collections.meshops.istio.plugins.module_utils.tls.pem import pem_of
from ansible_collections.meshops.istio.tests.unit.bad_material import PASSPHRASE, material
from ansible_collections.meshops.istio.tests.unit.fuzz.mutation import mutated, mutated_value
from ansible_collections.meshops.istio.tests.unit.modules.test_tls_probe import module_arguments
from ansible_collections.meshops.istio.tests.unit.test_bad_input import TABLE, away_from_clusters, filled, signals
from ansible_collections.meshops.istio.tests.unit.tls.tls_pki import NOW, Pki

__all__ = ["away_from_clusters", "signals"]  # fixtures

SECONDS = float(os.environ.get("MESHOPS_FUZZ_SECONDS", "10"))
SEED = int(os.environ.get("MESHOPS_FUZZ_SEED", "0")) or time.time_ns() % 2**32
LONGEST = 5.0
"""Seconds that one input may take, on a busy machine."""

READERS: dict[str, Callable[[bytes], object]] = {
    "chain": lambda data: tls_material.read_chain(data, where="w"),
    "key": lambda data: tls_material.read_private_key(data, passphrase=None, where="w"),
    "encrypted key": lambda data: tls_material.read_private_key(data, passphrase=PASSPHRASE, where="w"),
    "bundle": lambda data: tls_material.read_pkcs12(data, passphrase=PASSPHRASE, where="w"),
    "crls": lambda data: tls_material.read_crls(data, where="w"),
    "staple": lambda data: tls_material.read_ocsp_staple(data, where="w"),
    "secret": lambda data: describe_data({"tls.crt": data, "tls.key": data, "ca.crt": data, "ca.crl": data, "cacert": data}, NOW),
}


def corpus() -> dict[str, bytes]:
    return {name: data for name, data in material().items() if len(data) < 20_000}


def several(chance: random.Random, pool: list[bytes]) -> dict[str, bytes]:
    """Parts of a credential, one of them spoiled."""
    kinds = {
        "certificate": ("certificate", "wildcard", "for clients", "without a name", "chain with a stranger", "expired"),
        "private_key": ("key", "encrypted key", "other key"),
        "ca_certificate": ("ca", "other ca", "certificate"),
        "crl": ("crl", "crl that revokes", "other ca's crl"),
        "ocsp_staple": ("staple", "delegated staple", "expired staple"),
        "pkcs12": ("bundle", "bundle without key"),
    }
    given = {part: material()[chance.choice(names)] for part, names in kinds.items() if part != "pkcs12" and chance.random() < 0.8}
    part = chance.choice(list(kinds))
    given[part] = mutated(chance, chance.choice((material()[chance.choice(kinds[part])], chance.choice(pool))), pool)
    return given


def judge(given: Mapping[str, bytes], purpose: Literal["server", "client"] = "server") -> None:
    """What was read is also judged and described: many a property of a certificate is looked at only then."""
    demands = Demands(("a.example.com", "*.b.example.com"), purpose)
    sources = {name: Source(data, name) for name, data in given.items()}
    checked = check_material(sources, demands, now=NOW, private_key_passphrase=PASSPHRASE, pkcs12_passphrase=PASSPHRASE)
    for problem in (*checked.problems, *checked.unusable):
        assert problem.message and problem.remedy and len(str(problem)) < 20_000


def seeds(seconds: float) -> Iterator[tuple[int, random.Random]]:
    """Numbers and the chance that each makes: some that are always the same, then new ones until the time is over."""
    deadline = time.monotonic() + seconds
    for number in itertools.chain(range(50), itertools.count(SEED)):
        if time.monotonic() > deadline:
            return
        yield number, random.Random(number)


@contextlib.contextmanager
def blamed(number: int, data: object) -> Iterator[None]:
    """A failure that can be repeated, and an input that took too long."""
    started = time.monotonic()
    try:
        yield
    except Rejected as rejected:
        assert all(problem.message and problem.remedy and len(str(problem)) < 20_000 for problem in rejected.problems)
    except Exception as error:
        pytest.fail(f"MESHOPS_FUZZ_SEED={number}: {type(error).__name__}: {error}\nthe input was {data!r}")
    taken = time.monotonic() - started
    assert taken < LONGEST, f"MESHOPS_FUZZ_SEED={number}: took {taken:.1f} s"


DEEP = 5_000  # elements within each other: more than Python's stack takes


def nested(tag: int, depth: int = DEEP) -> bytes:
    heads, length = [], 0
    for __ in range(depth):
        size = length.to_bytes((length.bit_length() + 7) // 8 or 1, "big")
        heads.append(bytes((tag, length)) if length < 0x80 else bytes((tag, 0x80 | len(size))) + size)
        length += len(heads[-1])
    return b"".join(reversed(heads))


def deep_inputs() -> Iterator[tuple[str, bytes]]:
    """Nesting alone, behind what tells a kind, and in the places of a real certificate that are read by hand."""
    oid = {name: bytes.fromhex(f"06092a864886f70d01{end}") for name, end in (("data", "0701"), ("signed", "0702"), ("PBES2", "050d"))}
    known: dict[str, Callable[[bytes], bytes]] = {
        "nothing": lambda inner: element(0x30, inner),
        "PKCS#7": lambda inner: element(0x30, oid["signed"] + element(0xA0, inner)),
        "PKCS#12": lambda inner: element(0x30, b"\x02\x01\x03" + element(0x30, oid["data"] + inner)),
        "an encrypted key": lambda inner: element(0x30, element(0x30, oid["PBES2"] + element(0x30, inner)) + element(0x04, b"x")),
    }
    whole = Pki().issue("deep", ca=True).certificate.der
    for tag in (0x30, 0x31, 0xA0, 0x24, 0x04):
        inner = nested(tag)
        for name, around in known.items():
            yield f"{tag:x} in {name}", around(inner)
        yield f"{tag:x} of no told length", bytes((tag | 0x20, 0x80)) * DEEP
        for place in range(2, 8):
            [(__, tbs_and_rest)] = elements(whole)
            (tbs_tag, tbs), *rest = elements(tbs_and_rest)
            parts = list(elements(tbs))
            parts[place] = (parts[place][0], inner)
            spoiled = element(tbs_tag, b"".join(element(*part) for part in parts))
            yield f"{tag:x} in field {place}", element(0x30, spoiled + b"".join(element(*part) for part in rest))


def test_deep_nesting() -> None:
    """Ends in a sentence, and soon: no RecursionError, and no crash of a library's own stack."""
    for name, der in deep_inputs():
        for label in (
            "",
            "CERTIFICATE",
            "TRUSTED CERTIFICATE",
            "PKCS7",
            "PRIVATE KEY",
            "ENCRYPTED PRIVATE KEY",
            "EC PRIVATE KEY",
            "X509 CRL",
        ):
            data = pem_of(label, der) if label else der
            for kind, read in READERS.items():
                with blamed(0, f"{name}, {label or 'DER'}, as {kind}"):
                    read(data)
            for convert in (forms.certificates_as_pem, forms.crls_as_pem, forms.key_as_pem):
                with blamed(0, f"{name}, {label or 'DER'}"):
                    convert(data)


def test_parsers() -> None:
    pool = list(corpus().values())
    count = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns of certificates that it will refuse one day
        for number, chance in seeds(SECONDS / 2):
            data = mutated(chance, chance.choice(pool), pool)
            for read in READERS.values():
                with blamed(number, data):
                    read(data)
            given = several(chance, pool)
            with blamed(number, given):
                judge(given, chance.choice(("server", "client")))
            count += 1
    assert count >= 20


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments that happen to be good lead to the point where a connection would be made, and no further."""

    def refuse(*given: Any, **options: Any) -> Any:
        raise ConnectionRefusedError("this is a test")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr(live_probe.socket, "getaddrinfo", lambda *given, **options: [])
    monkeypatch.setattr(client, "_PATIENCE_AT_FIRST", 0.0)


def run_module(name: str, arguments: Any) -> dict[str, Any]:
    module = importlib.import_module(f"ansible_collections.meshops.istio.plugins.modules.{name}")
    output, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        module_arguments(arguments),
        contextlib.suppress(SystemExit),
    ):
        module.main()
    result: dict[str, Any] = json.loads(output.getvalue())
    assert "exception" not in result and "Traceback" not in output.getvalue() + errors.getvalue(), output.getvalue()[:3000]
    return result


@pytest.mark.usefixtures("away_from_clusters", "signals", "no_network")
def test_parameters(tmp_path: Any) -> None:
    """Arguments of the table of bad input, and good ones, spoiled further."""
    cases = [(name, filled(arguments, tmp_path)) for name, arguments, __ in TABLE.values() if "huge" not in str(arguments)]
    good = {"host": "https://127.0.0.1:1", "api_key": "some-token"}
    count = 0
    for number, chance in seeds(SECONDS / 2):
        name, arguments = chance.choice(cases)
        for __ in range(chance.choice((1, 1, 2, 3))):
            arguments = mutated_value(chance, arguments)
        if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
            continue
        if name not in ("tls_probe", "egress_mtls_origination") and chance.random() < 0.5:
            arguments = {**arguments, **good}
        if name == "tls_probe":
            arguments["timeout"] = 0
        try:
            json.dumps(arguments).encode()
        except ValueError:
            continue
        with blamed(number, (name, arguments)):
            result = run_module(name, arguments)
            assert result.get("msg") or not result.get("failed")
        count += 1
    assert count >= 20


FOUND: dict[str, bytes] = {
    # minutes, because lines were counted from the beginning for every boundary
    "many boundaries in one line": b"-----BEGIN CERTIFICATE-----\r" * 50_000,
    "many short blocks": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" * 5_000,
    # a message of 140 kB
    "many keys": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" * 5_000,
}


@pytest.mark.parametrize("case", FOUND)
def test_what_was_found_once(case: str) -> None:
    for name, read in READERS.items():
        started = time.monotonic()
        try:
            read(FOUND[case])
        except Rejected as rejected:
            assert all(len(str(problem)) < 20_000 for problem in rejected.problems), name
        assert time.monotonic() - started < LONGEST, name


def test_a_passphrase_with_a_null_byte() -> None:
    """The library aborts with something that is no Exception."""
    with pytest.raises(Rejected, match="null byte"):
        tls_material.read_pkcs12(material()["bundle"], passphrase="%\0", where="w")


def test_a_negative_serial_number_and_a_crl() -> None:
    pki = Pki()
    ca = pki.issue("Some CA", ca=True)
    der = pki.issue("a.example.com", ca, serial=0x4142434445464748).certificate.der
    negative = der.replace(b"ABCDEFGH", b"\xc1BCDEFGH")
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(negative) + b"-----END CERTIFICATE-----\n"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge({"certificate": pem, "ca_certificate": ca.pem, "crl": pki.crl(ca, revoked=(ca,)).pem})


def test_a_staple_with_a_hash_that_nobody_knows() -> None:
    sha1, unknown = bytes.fromhex("2b0e03021a"), bytes.fromhex("2b0e03021b")
    good = material()
    assert sha1 in good["staple"]
    judge({"certificate": good["certificate"], "private_key": good["key"], "ocsp_staple": good["staple"].replace(sha1, unknown)})


@pytest.mark.parametrize("arguments", [{"host": "a", "expect": [None]}, {"host": "a", "expect": float("inf")}])
def test_arguments_at_which_ansible_itself_ends_with_a_traceback(arguments: dict[str, Any]) -> None:
    result = run_module("tls_probe", arguments)
    assert "the arguments cannot be read: expected values of the documented types" in result["msg"] and "ansible-doc" in result["msg"]


def test_a_thousand_problems_are_told_in_fifty_lines() -> None:
    block = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    result = run_module("istio_tls_credential", {"name": "c", "certificate": block * 1000, "private_key": "x"})
    assert len(result["problems"]) > 1000 and len(result["msg"].splitlines()) < 60
    assert "and 9" in result["msg"].splitlines()[-1]
