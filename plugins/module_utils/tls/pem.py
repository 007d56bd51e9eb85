# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PEM blocks in a file, as strictly as Envoy reads them, and what a file is that holds none.

Envoy (BoringSSL) finds a block only where a line begins with `-----BEGIN`: a byte order mark, an indented block or two blocks on one
line make it refuse the whole credential, while text between blocks and CRLF line ends are fine. Python's readers are more forgiving, so
what they accept says nothing about Envoy; hence this reader.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..problems import Problem, Rejected

LARGEST = 4 * 1024 * 1024
"""Bytes that are looked at: far more than a Secret may hold (1 MiB), and enough for every bundle of public CAs."""

_BOUNDARY = re.compile(rb"-----(BEGIN|END)([^\r\n]*)")
_LABEL = re.compile(rb" ([^-\r\n]{1,60})-----[ \t]*")
_PATH = re.compile(
    rb"(?:[~.]{0,2}/|[A-Za-z]:\\)?[^\s\x00-\x1f\x7f<>|]{1,400}\.(?:pem|crt|cer|cert|key|p12|pfx|der|crl|txt)|[~.]{0,2}/[^\n\x00]{1,400}"
)
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{16,}={0,2}")

PRIVATE_KEY_LABELS = frozenset(
    {
        "PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "DSA PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "ANY PRIVATE KEY",
    }
)
CERTIFICATE_LABELS = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})
TRUSTED_LABEL = "TRUSTED CERTIFICATE"
"""OpenSSL's: a certificate and trust settings (see `trusted`)."""
PKCS7_LABELS = frozenset({"PKCS7", "PKCS #7 SIGNED DATA", "CMS"})
CRL_LABELS = frozenset({"X509 CRL"})


@dataclass(frozen=True)
class Block:
    """One block of a PEM file; `number` counts the file's blocks from 1, `line` its lines from 1."""

    label: str
    number: int
    line: int
    text: bytes = field(repr=False)
    """From `-----BEGIN` to the end of the END line, as it stands in the file (without the line end)."""
    body: bytes = field(repr=False)

    def der(self) -> bytes | None:
        """The decoded content, or None where it is no Base64."""
        try:
            return base64.b64decode(self.body.translate(None, b" \t\r\n"), validate=True)
        except binascii.Error:
            return None


@dataclass(frozen=True)
class Found:
    """What a file turned out to be instead, in words that fit behind "found", and the remedy."""

    what: str
    remedy: str


def pem_of(label: str, der: bytes) -> bytes:
    """One block: 64 columns, LF, with a final line end."""
    body = base64.b64encode(der)
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return b"\n".join([f"-----BEGIN {label}-----".encode(), *lines, f"-----END {label}-----".encode(), b""])


def scan(data: bytes) -> tuple[tuple[Block, ...], tuple[str, ...]]:
    """The blocks in `data` and what is wrong with its structure, one phrase each that names block and line."""
    blocks: list[Block] = []
    defects: list[str] = []
    number = 0
    start: tuple[str, int, int, int] | None = None  # label, offset of BEGIN, offset behind its line, number of the line
    line, counted, line_start = 1, 0, 0
    for match in _BOUNDARY.finditer(data):
        at, kind = match.start(), match[1]
        line += data.count(b"\n", counted, at)
        line_start = max(line_start, data.rfind(b"\n", counted, at) + 1)
        counted = at
        if at != line_start:
            defects.append(_off_the_line(data[max(line_start, at - 1024) : at], match[2], line))
            start = None
            continue
        label = _LABEL.fullmatch(match[2])
        if label is None:
            defects.append(_no_boundary(kind, match[2], line))
            start = None
            continue
        name = label[1].decode("ascii", "replace")
        if kind == b"BEGIN":
            number += 1
            if start is not None:
                defects.append(_truncated(number - 1, start[0], start[3]))
            start = (name, at, match.end(), line)
        elif start is None:
            defects.append(f"line {line} ends a block ({name}) that no line begins")
        elif start[0] != name:
            defects.append(f"block {number} begins as {start[0]} in line {start[3]} and ends as {name} in line {line}")
            start = None
        else:
            blocks.append(Block(name, number, start[3], data[start[1] : match.end()], data[start[2] : at]))
            start = None
    if start is not None:
        defects.append(_truncated(number, start[0], start[3]))
    return tuple(blocks), tuple(defects)


def _no_boundary(kind: bytes, rest: bytes, line: int) -> str:
    if b"\\n" in rest:
        return f"line {line} holds the two characters \\n where line ends belong"
    if kind == b"BEGIN" and b"-----END" in rest:
        return f"line {line} holds a whole block: its line ends are missing, as from a variable that a shell read without quotes"
    if b"-----BEGIN" in rest:
        return f"line {line} holds two boundaries: a line end is missing behind -----END...-----"
    return f"line {line} is no proper PEM boundary (five dashes, BEGIN or END, a label, five dashes)"


def _truncated(number: int, label: str, line: int) -> str:
    return f"block {number} ({label}, line {line}) is truncated: it has no END line"


def _off_the_line(before: bytes, rest: bytes, line: int) -> str:
    if before.strip() == b"":
        return f"the PEM boundary in line {line} is indented, which Envoy does not read"
    if before.endswith(b"\r"):
        return f"the lines end in a bare carriage return before the boundary in line {line}, which Envoy does not read"
    if not any(letter.isprintable() and not letter.isspace() for letter in before.decode("utf-8", "replace")):
        return f"invisible characters stand before the PEM boundary in line {line}"
    if b"\\n" in before or b"\\n" in rest:
        return f"line {line} holds the two characters \\n where line ends belong"
    return f"the PEM boundary in line {line} does not stand at the line's beginning"


def identify(data: bytes) -> Found:
    """What `data` is, where it holds none of the blocks that were looked for. Nothing of its content is told, but labels of PEM blocks."""
    if len(data) > LARGEST:
        return Found(f"{len(data)} bytes", f"Give a file of at most {LARGEST // 1024 // 1024} MiB; a Secret holds 1 MiB at most")
    text = data.strip()
    if not text:
        return Found(
            "nothing: it is empty" if not data else "nothing but white space", "Look whether the file was written, or the variable set"
        )
    encoded = _encoding(data)
    if encoded:
        return encoded
    if text.startswith(b"$ANSIBLE_VAULT;"):
        return Found("a text encrypted by Ansible Vault", "Give it as content through a lookup that decrypts it, or decrypt the file first")
    if b"-----BEGIN" in data or b"-----END" in data:
        return _blocks(data)
    for begins, what, remedy in _ENCODED:
        if text.startswith(begins):
            return Found(what, remedy)
    return (
        _binary(data, text)
        or _text(text)
        or Found("neither PEM nor any other known format", "Give the file in PEM: text with -----BEGIN ...----- lines")
    )


_ENCODED = (
    # how it begins, what it is, what to do
    (b"LS0tLS1CRUdJTi", "PEM that is encoded in Base64 once more, as in a Secret's data", "Decode it first (b64decode)"),
    (b"TFMwdExTMUNSVWRK", "PEM that is encoded in Base64 twice", "Decode it twice (b64decode), and look who encoded a Secret's data again"),
    (b"\x1f\x8b", "a file that is compressed (gzip)", "Unpack it first: gunzip, or tar -xzf"),
    (b"PK\x03\x04", "a ZIP archive", "Unpack it first, and give the file in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "Unpack it first, and give the file in it"),
)


def _encoding(data: bytes) -> Found | None:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"-\x00-\x00-\x00" in data[:4096] or b"\x00-\x00-\x00-" in data[:4096]:
        return Found("text in UTF-16", "Save it as plain ASCII or UTF-8 without a byte order mark")
    if data[:3] == b"\xef\xbb\xbf":
        return Found("text that begins with a UTF-8 byte order mark, which Envoy does not read", "Save it without the byte order mark")
    return None


def _blocks(data: bytes) -> Found:
    blocks, defects = scan(data)
    if defects:
        return Found("; ".join(defects[:3]), "Give the file whole, each boundary on a line of its own")
    labels = sorted({_plain(block.label) for block in blocks})
    if any(block.label in PKCS7_LABELS for block in blocks):
        return Found("a PKCS#7 bundle in PEM (PKCS7)", f"Convert it: {PRINT_CERTIFICATES}")
    encrypted = next((by for label, by in _ENCRYPTED.items() if label in labels), None)
    if encrypted:
        return Found(f"a file encrypted by {encrypted}", "Decrypt it first")
    return Found(f"PEM of another kind ({', '.join(labels)})", "Look whether the files were mixed up")


_ENCRYPTED = {"AGE ENCRYPTED FILE": "age", "PGP MESSAGE": "PGP"}


def _plain(label: str) -> str:
    return "".join(letter for letter in label if letter.isprintable())


_DASHES = re.compile(rb"(?:\xe2\x80[\x90-\x95]|\xe2\x88\x92|[\x96\x97])+ ?BEGIN ")  # in UTF-8, and in Windows-1252
_FIRST_WORDS = (
    # how it begins in lower case, what it is, what to do
    ((b"<!doctype html", b"<html"), "a web page (HTML)", "Look at it: a login page or an error was downloaded in place of the file"),
    ((b"version https://git-lfs",), "a pointer of Git LFS in place of the file", "Fetch the file itself: git lfs pull"),
    ((b"putty-user-key-file",), "a key in PuTTY's own format", "Convert it: puttygen FILE -O private-openssh -o FILE.pem"),
    ((b"ssh-", b"ecdsa-sha2-"), "a public key of SSH", "Give the file in PEM: text with -----BEGIN ...----- lines"),
    ((b"age-encryption.org/",), "a file encrypted by age", "Decrypt it first: age --decrypt"),
)


def _text(text: bytes) -> Found | None:
    """What is text without a single proper boundary."""
    head = text[:4096].lower()
    for words, what, remedy in _FIRST_WORDS:
        if head.startswith(words):
            return Found(what, remedy)
    if head.startswith(b"{") and b'"kty"' in head:
        return Found("a key or certificate as JSON Web Key", "Export it in PEM where it was made")
    if b"ENC[" in text and b"sops" in text:
        return Found(
            "a file encrypted by SOPS", "Give its content through the lookup community.sops.sops, or decrypt the file first (sops decrypt)"
        )
    if b"kind: secret" in head or b'"kind": "secret"' in head or b'"kind":"secret"' in head:
        return Found("the manifest of a Secret", "Give the value of one of its keys, decoded (b64decode)")
    if _DASHES.search(text):
        return Found(
            "PEM whose hyphens became dashes, as in a document or a mail", "Write each boundary with five hyphens: -----BEGIN ...-----"
        )
    return None


def _binary(data: bytes, text: bytes) -> Found | None:
    if data[:4] in (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"):
        return Found("a Java key store", "Convert it to PKCS#12: keytool -importkeystore -deststoretype PKCS12")
    kind = der_kind(data)
    if kind == "PKCS#12":
        return Found("a PKCS#12 bundle", "Give it through the PKCS#12 option, or convert it with openssl pkcs12")
    if kind is not None:
        return Found(f"{kind} in DER, the binary form", f"Convert it to PEM: {_CONVERT.get(kind, 'openssl ... -inform der -outform pem')}")
    if text.startswith(b"MI") and _BASE64.fullmatch(text.translate(None, b" \t\r\n\v\f")):
        return Found("Base64 without the PEM lines around it", "Put -----BEGIN ...----- and -----END ...----- lines around it")
    if b"\n" not in text and _PATH.fullmatch(text):
        return Found("what looks like a path instead of content", "Give a path through the option whose name ends in _path")
    return None


PRINT_CERTIFICATES = "openssl pkcs7 -print_certs -in FILE -out FILE.pem"


def is_pkcs7(der: bytes | None) -> bool:
    """Whether it begins as PKCS#7's signed data, in DER or BER."""
    return der is not None and b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02" in der[:24] and der[:1] == b"\x30"


_CONVERT = {
    "a certificate": "openssl x509 -inform der",
    "a private key": "openssl pkey -inform der",
    "a public key": "openssl pkey -pubin -inform der",
    "a CRL": "openssl crl -inform der",
    "a PKCS#7 bundle": "openssl pkcs7 -inform der -print_certs",
    "a certificate request": "openssl req -inform der",
}


def der_kind(data: bytes) -> str | None:
    """What a DER structure is: `PKCS#12`, `a certificate`, `a private key`, ... or None; `a PKCS#7 bundle` also for BER."""
    if len(data) < 8 or data[:1] != b"\x30":
        return None
    head = data[:64]
    if b"\x02\x01\x03\x30" in head[:12] and b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07" in head:
        return "PKCS#12"
    if is_pkcs7(data):
        return "a PKCS#7 bundle"
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key
    from cryptography.x509 import ocsp

    loaders = (
        ("a certificate", lambda: x509.load_der_x509_certificate(data)),
        ("a CRL", lambda: x509.load_der_x509_crl(data)),
        ("a certificate request", lambda: x509.load_der_x509_csr(data)),
        ("an OCSP response", lambda: ocsp.load_der_ocsp_response(data)),
        ("a private key", lambda: load_der_private_key(data, None, unsafe_skip_rsa_key_validation=True)),
        ("a public key", lambda: load_der_public_key(data)),
    )
    for kind, load in loaders:
        try:
            load()
        except TypeError:  # an encrypted key, whose passphrase was not given
            return "a private key"
        except Exception:  # noqa: S112  what the libraries raise on foreign bytes is not documented
            continue
        return kind
    return None


def rejected(code: str, where: str, message: str, remedy: str) -> Rejected:
    return Rejected(Problem(code, where, message, remedy))


def limit(data: bytes, where: str) -> None:
    """Raise `too_large` for more than `LARGEST` bytes."""
    if len(data) > LARGEST:
        found = identify(data)
        raise rejected("too_large", where, f"expected at most {LARGEST} bytes, found {found.what}", found.remedy)


def reject_defects(data: bytes, blocks: Sequence[Block], defects: Sequence[str], expected: str, labels: frozenset[str], where: str) -> None:
    """Raise where the PEM is damaged, preceded by what Envoy cannot skip, or holds none of `labels`."""
    has_any = any(block.label in labels for block in blocks)
    if defects:
        raise Rejected(
            [
                Problem(
                    "not_pem", where, f"expected {expected}, found that {defect}", "Give the file whole, each boundary on a line of its own"
                )
                for defect in defects[:10]
            ]
            if not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"))
            else not_pem(data, expected, where)
        )
    if not has_any:
        raise Rejected(not_pem(data, expected, where))


def not_pem(data: bytes, expected: str, where: str) -> Problem:
    """The problem of a file that holds none of the blocks that were looked for."""
    found = identify(data)
    return Problem("not_pem", where, f"expected {expected}, found {found.what}", found.remedy)
