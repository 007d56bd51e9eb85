# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes in, parsed once: certificates, private keys, PKCS#12 bundles, CRLs and OCSP staples as frozen values.

Every `read_...` takes the content and `where` it came from, and raises `Rejected` (and nothing else) where the content cannot be worked
with at all. What is wrong with content that can be read is told by `checks`. No repr and no message holds key material.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from ..problems import Problem, Rejected
from .pem import CERTIFICATE_LABELS, CRL_LABELS, LARGEST, PRIVATE_KEY_LABELS, Block, der_kind, identify, scan

if TYPE_CHECKING:
    import ipaddress

    from cryptography import x509
    from cryptography.x509 import ocsp

_Extension = TypeVar("_Extension", bound="x509.ExtensionType")

_EXPLICIT_CURVE = bytes.fromhex("06072a8648ce3d020130")  # id-ecPublicKey, and then a structure instead of a curve's OID
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521", "secp224r1": "P-224", "secp192r1": "P-192"}


def fingerprint(data: bytes) -> str:
    """SHA-256 of `data` as community.crypto prints it: lower case, colons between bytes."""
    return hashlib.sha256(data).digest().hex(":")


def _rejected(code: str, where: str, message: str, remedy: str) -> Rejected:
    return Rejected(Problem(code, where, message, remedy))


@dataclass(frozen=True)
class KeyKind:
    """What sort of key it is, for example RSA 2048 or ECDSA P-256."""

    type: str
    """`RSA`, `ECDSA`, `Ed25519`, `Ed448`, `DSA` or `unknown`."""
    size: int | None = None
    """Bits; None where the type says it."""
    curve: str | None = None
    """ECDSA only: `P-256`, `P-384`, `P-521`, or the name as SEC or Brainpool give it."""

    def __str__(self) -> str:
        detail = self.curve or self.size
        return f"{self.type} {detail}" if detail else self.type


def _kind(key: Any) -> KeyKind:
    """The kind of a public or private key object."""
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        return KeyKind("RSA", key.key_size)
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        return KeyKind("ECDSA", key.key_size, _CURVES.get(key.curve.name, key.curve.name))
    if isinstance(key, ed25519.Ed25519PublicKey | ed25519.Ed25519PrivateKey):
        return KeyKind("Ed25519")
    if isinstance(key, ed448.Ed448PublicKey | ed448.Ed448PrivateKey):
        return KeyKind("Ed448")
    if isinstance(key, dsa.DSAPublicKey | dsa.DSAPrivateKey):
        return KeyKind("DSA", key.key_size)
    return KeyKind("unknown")


def _spki(public_key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    data: bytes = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return data


@dataclass(frozen=True)
class Certificate:
    """One X.509 certificate; equal to another with the same DER. What is derived is computed once, when it is first asked for."""

    der: bytes = field(repr=False)
    parsed: x509.Certificate = field(repr=False, compare=False)

    @cached_property
    def pem(self) -> bytes:
        """The certificate alone, 64 columns, LF, with a final line end."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self.parsed.public_bytes(Encoding.PEM)

    @cached_property
    def subject_name(self) -> x509.Name:
        return self.parsed.subject

    @cached_property
    def issuer_name(self) -> x509.Name:
        return self.parsed.issuer

    @cached_property
    def subject(self) -> str:
        """RFC 4514; may be empty."""
        return self.subject_name.rfc4514_string()

    @cached_property
    def issuer(self) -> str:
        """RFC 4514."""
        return self.issuer_name.rfc4514_string()

    @cached_property
    def common_name(self) -> str | None:
        from cryptography.x509.oid import NameOID

        names = self.subject_name.get_attributes_for_oid(NameOID.COMMON_NAME)
        if not names:
            return None
        value = names[-1].value
        return value if isinstance(value, str) else value.decode("utf-8", "replace")

    @cached_property
    def label(self) -> str:
        """What to call the certificate in a message: its subject, else its first name, else its serial number."""
        if self.subject:
            return self.subject
        return self.names[0] if self.names else f"serial {self.serial}"

    @cached_property
    def serial_number(self) -> int:
        return self.parsed.serial_number

    @cached_property
    def serial(self) -> str:
        """Upper-case hexadecimal without separators, whole bytes."""
        text = f"{abs(self.serial_number):X}"
        return ("-" if self.serial_number < 0 else "") + ("0" + text if len(text) % 2 else text)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256."""
        return fingerprint(self.der)

    @cached_property
    def not_before(self) -> datetime:
        return self.parsed.not_valid_before_utc

    @cached_property
    def not_after(self) -> datetime:
        return self.parsed.not_valid_after_utc

    @cached_property
    def version(self) -> int:
        """1 or 3."""
        from cryptography import x509

        return 3 if self.parsed.version is x509.Version.v3 else 1

    def extension(self, kind: type[_Extension]) -> _Extension | None:
        """The extension of that class, or None."""
        value = self._extensions.get(kind)
        return value if isinstance(value, kind) else None

    @cached_property
    def _extensions(self) -> dict[type, x509.ExtensionType]:
        return {type(extension.value): extension.value for extension in self.parsed.extensions}

    @cached_property
    def _alternative_names(self) -> tuple[x509.GeneralName, ...]:
        from cryptography import x509

        names = self.extension(x509.SubjectAlternativeName)
        return tuple(names) if names is not None else ()

    @cached_property
    def dns_names(self) -> tuple[str, ...]:
        """The SAN's DNS names, lower case, in their order; international ones in their ASCII form (`xn--`)."""
        from cryptography import x509

        return tuple(name.value.lower() for name in self._alternative_names if isinstance(name, x509.DNSName))

    @cached_property
    def ip_addresses(self) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]:
        import ipaddress

        from cryptography import x509

        return tuple(
            name.value
            for name in self._alternative_names
            if isinstance(name, x509.IPAddress) and isinstance(name.value, ipaddress.IPv4Address | ipaddress.IPv6Address)
        )

    @cached_property
    def uris(self) -> tuple[str, ...]:
        """The SAN's URIs, SPIFFE identities among them."""
        from cryptography import x509

        return tuple(name.value for name in self._alternative_names if isinstance(name, x509.UniformResourceIdentifier))

    @cached_property
    def emails(self) -> tuple[str, ...]:
        from cryptography import x509

        return tuple(name.value for name in self._alternative_names if isinstance(name, x509.RFC822Name))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every subject alternative name as text: DNS names, IP addresses, URIs, mail addresses."""
        return (*self.dns_names, *map(str, self.ip_addresses), *self.uris, *self.emails)

    @cached_property
    def is_ca(self) -> bool:
        """Whether basicConstraints say CA; False where the extension is absent."""
        from cryptography import x509

        constraints = self.extension(x509.BasicConstraints)
        return constraints is not None and constraints.ca

    @cached_property
    def path_length(self) -> int | None:
        """How many intermediates may stand below this CA; None is any number."""
        from cryptography import x509

        constraints = self.extension(x509.BasicConstraints)
        return constraints.path_length if constraints is not None and constraints.ca else None

    @cached_property
    def key_usage(self) -> frozenset[str] | None:
        """The keyUsage bits that are set, by their names in RFC 5280 (`digitalSignature`, ...); None without the extension."""
        from cryptography import x509

        usage = self.extension(x509.KeyUsage)
        if usage is None:
            return None
        bits = {
            "digitalSignature": usage.digital_signature,
            "nonRepudiation": usage.content_commitment,
            "keyEncipherment": usage.key_encipherment,
            "dataEncipherment": usage.data_encipherment,
            "keyAgreement": usage.key_agreement,
            "keyCertSign": usage.key_cert_sign,
            "cRLSign": usage.crl_sign,
        }
        return frozenset(name for name, is_set in bits.items() if is_set)

    @cached_property
    def extended_key_usage(self) -> tuple[str, ...] | None:
        """The purposes by name (`serverAuth`, ...; an unknown one as its dotted OID); None without the extension."""
        from cryptography import x509

        usage = self.extension(x509.ExtendedKeyUsage)
        if usage is None:
            return None
        return tuple(_PURPOSES.get(purpose.dotted_string, purpose.dotted_string) for purpose in usage)

    @cached_property
    def must_staple(self) -> bool:
        """Whether the certificate promises an OCSP staple (RFC 7633)."""
        from cryptography import x509

        feature = self.extension(x509.TLSFeature)
        return feature is not None and x509.TLSFeatureType.status_request in feature

    @cached_property
    def public_key(self) -> Any:
        """The public key object, or None where the library does not know its kind."""
        try:
            return self.parsed.public_key()
        except Exception:  # UnsupportedAlgorithm, ValueError: explicit curve parameters, unknown algorithms
            return None

    @cached_property
    def key(self) -> KeyKind:
        return _kind(self.public_key)

    @cached_property
    def has_explicit_curve(self) -> bool:
        """Whether an ECDSA key spells out its curve's parameters: Envoy refuses that even for a curve that it knows."""
        return _EXPLICIT_CURVE in self.der

    @cached_property
    def spki(self) -> bytes | None:
        """The public key in DER (SubjectPublicKeyInfo), None where its kind is unknown."""
        return None if self.public_key is None else _spki(self.public_key)

    @cached_property
    def signature_hash(self) -> str | None:
        """`sha256`, `sha1`, ...; None where the signature's algorithm has none of its own (Ed25519) or is unknown."""
        try:
            algorithm = self.parsed.signature_hash_algorithm
        except Exception:  # UnsupportedAlgorithm
            return None
        return algorithm.name if algorithm is not None else None

    @cached_property
    def is_self_issued(self) -> bool:
        return self.subject == self.issuer

    @cached_property
    def is_self_signed(self) -> bool:
        return signed_by(self, self) is not False


_PURPOSES = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
    "2.5.29.37.0": "anyExtendedKeyUsage",
}


def names_match(certificate: Certificate, issuer: Certificate) -> bool:
    """Whether `certificate` names `issuer` as its issuer; says nothing about the signature."""
    return certificate.issuer == issuer.subject


@lru_cache(maxsize=4096)  # a fleet's certificates share their intermediates, and a signature takes 0.1 to 0.3 ms to verify
def signed_by(certificate: Certificate, issuer: Certificate) -> bool | None:
    """Whether `issuer` issued `certificate`: names and signature. None: the names match, but the signature's algorithm (MD5, say) is one
    that the library refuses to verify."""
    from cryptography.exceptions import InvalidSignature

    if not names_match(certificate, issuer):
        return False
    try:
        certificate.parsed.verify_directly_issued_by(issuer.parsed)
    except InvalidSignature:
        return False
    except TypeError:  # the issuer's key is of a kind that signs nothing
        return False
    except Exception:  # ValueError, UnsupportedAlgorithm: the names were compared above, so it is the algorithm
        return _verify_weak(certificate, issuer)
    return True


def _verify_weak(certificate: Certificate, issuer: Certificate) -> bool | None:
    """RSA signatures over SHA-1, which `verify_directly_issued_by` refuses."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key, algorithm = issuer.public_key, None
    try:
        algorithm = certificate.parsed.signature_hash_algorithm
    except Exception:
        return None
    if algorithm is None or not isinstance(key, rsa.RSAPublicKey):
        return None
    try:
        key.verify(certificate.parsed.signature, certificate.parsed.tbs_certificate_bytes, padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        return False
    except Exception:
        return None
    return True


def chain_pem(chain: Iterable[Certificate]) -> bytes:
    """The certificates in PEM, in the given order and nothing else: always of a form that Envoy reads."""
    return b"".join(certificate.pem for certificate in chain)


def read_chain(data: bytes, *, where: str) -> tuple[Certificate, ...]:
    """The certificates in a PEM file (a chain, leaf first, or a bundle of CAs), in the file's order; at least one.

    Text around the blocks (`openssl x509 -text`), CRLF and blocks that Envoy skips (DH PARAMETERS) are fine. Rejected with `not_pem`,
    `private_key_in_certificate` (it would be stored, and shown, as if it were public), `crl_in_certificate` (Envoy would apply a CRL in a
    CA file, while this reader would drop it), `certificate_unreadable`.
    """
    _limit(data, where)
    blocks, defects = scan(data)
    if any(block.label in PRIVATE_KEY_LABELS for block in blocks):
        line = next(block.line for block in blocks if block.label in PRIVATE_KEY_LABELS)
        raise _rejected(
            "private_key_in_certificate",
            where,
            f"expected certificates only, found a private key too (line {line}): it would be stored where certificates belong",
            "Give the key through its own option, and the certificates in a file without it",
        )
    if any(block.label in CRL_LABELS for block in blocks):
        raise Rejected(
            Problem("crl_in_certificate", where, "expected certificates only, found a CRL too", "Give the CRL through its own option")
        )
    _reject_defects(data, blocks, defects, "PEM certificates", CERTIFICATE_LABELS, where)
    problems: list[Problem] = []
    certificates = []
    for block in blocks:
        if block.label == "TRUSTED CERTIFICATE":
            problems.append(
                _unreadable(
                    block,
                    where,
                    "is an OpenSSL TRUSTED CERTIFICATE, which holds more than a certificate",
                    "Convert it: openssl x509 -in FILE -out FILE.pem",
                )
            )
        if block.label in CERTIFICATE_LABELS:
            certificate = _parse_certificate(block.der())
            if isinstance(certificate, str):
                problems.append(_unreadable(block, where, certificate, "Fetch the certificate again from where it was issued"))
            else:
                certificates.append(certificate)
    if problems:
        raise Rejected(problems)
    return tuple(certificates)


def _unreadable(block: Block, where: str, what: str, remedy: str) -> Problem:
    return Problem(
        "certificate_unreadable", where, f"expected an X.509 certificate, block {block.number} (line {block.line}) {what}", remedy
    )


@lru_cache(maxsize=4096)  # what is to be written and what is there are mostly the same, and so are intermediates
def _parse_certificate(der: bytes | None) -> Certificate | str:
    """The certificate, or what is wrong with it. Everything that could fail later is looked at here, so that the properties never raise."""
    from cryptography import x509

    if der is None:
        return "is not valid Base64"
    try:
        with warnings.catch_warnings():  # a serial number that is not positive is told by `checks`
            warnings.simplefilter("ignore")
            certificate = from_x509(x509.load_der_x509_certificate(der), der)
            __: object = (certificate.serial_number, certificate.version, certificate.not_before, certificate.not_after)
    except Exception:  # ValueError and others, not documented
        return "is not a valid certificate"
    try:
        __ = (certificate.subject, certificate.issuer, certificate.common_name)
    except Exception:
        return "has a subject or issuer that cannot be read"
    try:
        __ = (certificate.names, certificate.key_usage, certificate.extended_key_usage, certificate.is_ca, certificate.must_staple)
    except Exception:  # ValueError, x509.DuplicateExtension
        return "has an extension that cannot be read, or one twice"
    return certificate


def from_x509(certificate: x509.Certificate, der: bytes | None = None) -> Certificate:
    """A certificate that somebody else parsed already, for example a peer's."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return Certificate(der if der is not None else certificate.public_bytes(Encoding.DER), certificate)


def from_der(der: bytes, *, where: str) -> Certificate:
    """One certificate in DER, as a handshake gives it. Rejected with `certificate_unreadable`."""
    certificate = _parse_certificate(der)
    if isinstance(certificate, str):
        raise _rejected(
            "certificate_unreadable",
            where,
            f"expected an X.509 certificate in DER, this one {certificate}",
            "Issue it again with other software",
        )
    return certificate


def _limit(data: bytes, where: str) -> None:
    if len(data) > LARGEST:
        found = identify(data)
        raise _rejected("too_large", where, f"expected at most {LARGEST} bytes, found {found.what}", found.remedy)


def _reject_defects(
    data: bytes, blocks: Sequence[Block], defects: Sequence[str], expected: str, labels: frozenset[str], where: str
) -> None:
    """Raise where the PEM is damaged, preceded by what Envoy cannot skip, or holds none of `labels`."""
    has_any = any(block.label in labels or block.label == "TRUSTED CERTIFICATE" for block in blocks)
    if defects:
        raise Rejected(
            [
                Problem(
                    "not_pem", where, f"expected {expected}, found that {defect}", "Give the file whole, each boundary on a line of its own"
                )
                for defect in defects[:10]
            ]
            if not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"))
            else _not_pem(data, expected, where)
        )
    if not has_any:
        raise Rejected(_not_pem(data, expected, where))


def _not_pem(data: bytes, expected: str, where: str) -> Problem:
    found = identify(data)
    return Problem("not_pem", where, f"expected {expected}, found {found.what}", found.remedy)


@dataclass(frozen=True)
class PrivateKey:
    """A private key that can be read without a passphrase."""

    key: Any = field(repr=False, compare=False)
    """The library's key object."""
    pem: bytes = field(repr=False)
    """PEM without encryption: the input's own bytes where they are that already, else PKCS#8 (always the same for the same key)."""
    kind: KeyKind
    spki: bytes = field(repr=False)
    """The public key that belongs to it, in DER (SubjectPublicKeyInfo)."""


def read_private_key(data: bytes, *, passphrase: str | bytes | None = None, where: str) -> PrivateKey:
    """The one private key in a PEM file: PKCS#8, PKCS#1 or SEC 1, encrypted or not; EC PARAMETERS before it and text around it are fine.

    Certificates beside the key (a combined file) are left out. A passphrase for a key that is not encrypted is ignored. Rejected with
    `not_pem`, `several_private_keys`, `key_encrypted`, `wrong_passphrase`, `key_unreadable`.
    """
    _limit(data, where)
    blocks, defects = scan(data)
    _reject_defects(data, blocks, defects, "a private key in PEM", PRIVATE_KEY_LABELS, where)
    keys = [block for block in blocks if block.label in PRIVATE_KEY_LABELS]
    if len(keys) > 1:
        lines = ", ".join(str(block.line) for block in keys[:5]) + (", …" if len(keys) > 5 else "")
        raise _rejected(
            "several_private_keys",
            where,
            f"expected one private key, found {len(keys)} (lines {lines}); Envoy would take the first",
            "Leave the one that belongs to the certificate",
        )
    block = keys[0]
    encrypted = block.label == "ENCRYPTED PRIVATE KEY" or b"Proc-Type" in block.body[:200]
    key = _load_key(block, _passphrase(passphrase) if encrypted else None, encrypted, where)
    pem = data if not encrypted and all(other is block or other.label == "EC PARAMETERS" for other in blocks) else None
    if pem is None and not encrypted:
        pem = block.text.replace(b"\r\n", b"\n") + b"\n"
    return _private_key(key, pem, where)


def _passphrase(passphrase: str | bytes | None) -> bytes | None:
    return passphrase.encode() if isinstance(passphrase, str) else passphrase


def _load_key(block: Block, passphrase: bytes | None, encrypted: bool, where: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if block.label == "OPENSSH PRIVATE KEY":
        raise _rejected(
            "key_unreadable",
            where,
            "expected a private key in PKCS#8, PKCS#1 or SEC 1, found one in OpenSSH's own format, which Envoy does not read",
            "Convert a copy of it: ssh-keygen -p -m PEM -f COPY",
        )
    if encrypted and not passphrase:
        raise _rejected(
            "key_encrypted",
            where,
            "expected a private key that can be read, found an encrypted one and no passphrase",
            "Give the passphrase; the key is stored decrypted, as Envoy needs it",
        )
    try:
        return load_pem_private_key(block.text + b"\n", passphrase, unsafe_skip_rsa_key_validation=True)
    except UnsupportedAlgorithm:
        reason = "an algorithm or curve that cannot be read"
    except Exception:  # ValueError, TypeError and others; their texts are not for users
        if encrypted:
            raise _rejected(
                "wrong_passphrase",
                where,
                "expected the passphrase of the private key, found one that does not decrypt it (or the key is damaged)",
                "Give the passphrase with which the key was encrypted",
            ) from None
        reason = "a damaged one, or one of an algorithm or curve that cannot be read"
    raise _rejected(
        "key_unreadable",
        where,
        f"expected a private key ({block.label}, line {block.line}), found {reason}",
        "Make a new key, RSA of 2048 bits or more or ECDSA P-256, and have a certificate issued for it",
    )


def _private_key(key: Any, pem: bytes | None, where: str) -> PrivateKey:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    try:
        spki = _spki(key.public_key())
        consistent = _consistent(key)
        if pem is None and consistent:
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    except Exception:  # key kinds without a public key to write (X25519 has one, DH parameters may not)
        consistent = False
    if not consistent or pem is None:
        raise _rejected(
            "key_unreadable",
            where,
            "expected a private key whose parts belong together, found a damaged one",
            "Restore the key from where it was made, or make a new one and have a certificate issued for it",
        )
    return PrivateKey(key, pem, _kind(key), spki)


def _consistent(key: Any) -> bool:
    """Whether an RSA key's numbers belong together, as BoringSSL asks when it loads one. The primes are not tested: that takes 31 ms."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    if not isinstance(key, rsa.RSAPrivateKey):
        return True
    private = key.private_numbers()
    n, e, p, q, d = private.public_numbers.n, private.public_numbers.e, private.p, private.q, private.d
    return (
        p * q == n
        and p > 1
        and q > 1
        and d * e % (p - 1) == 1
        and d * e % (q - 1) == 1
        and private.dmp1 == d % (p - 1)
        and private.dmq1 == d % (q - 1)
        and private.iqmp * q % p == 1
    )


@dataclass(frozen=True)
class Pkcs12:
    """What a PKCS#12 bundle holds, ready to be stored."""

    chain: tuple[Certificate, ...]
    """The key's certificate and its intermediates in the order in which a server sends them, without a self-signed root: peers have it."""
    key: PrivateKey
    ca: tuple[Certificate, ...]
    """The self-signed root that the chain ends in, if the bundle holds it. It issued *this* certificate: whether it is also the CA of the
    peers is for the user to say."""
    unrelated: tuple[Certificate, ...]
    """Certificates of the bundle that are no part of the chain; they are left out."""

    @property
    def chain_pem(self) -> bytes:
        return chain_pem(self.chain)

    @property
    def key_pem(self) -> bytes:
        return self.key.pem

    @property
    def ca_pem(self) -> bytes | None:
        return chain_pem(self.ca) or None


def read_pkcs12(data: bytes, *, passphrase: str | bytes | None = None, where: str) -> Pkcs12:
    """The pair in a PKCS#12 bundle (.p12, .pfx). No passphrase and an empty one are tried alike.

    Rejected with `not_pkcs12`, `wrong_passphrase`, `pkcs12_without_key`, `pkcs12_without_certificate`, `certificate_unreadable`,
    `key_unreadable`.
    """
    _limit(data, where)
    if der_kind(data) != "PKCS#12":
        found = identify(data)
        remedy = "Give PEM through the PEM options" if b"-----BEGIN" in data else found.remedy
        raise Rejected(Problem("not_pkcs12", where, f"expected a PKCS#12 bundle, found {found.what}", remedy))
    key, leaf, others = _load_pkcs12(data, _passphrase(passphrase), where)
    if key is None:
        raise _rejected(
            "pkcs12_without_key",
            where,
            "expected a PKCS#12 bundle with a private key, found certificates only",
            "Export it again with the key, or give certificates and key in PEM",
        )
    if leaf is None:
        raise _rejected(
            "pkcs12_without_certificate",
            where,
            f"expected a PKCS#12 bundle with the key's certificate, found the key and {len(others)} other certificates",
            "Export it again with the certificate that belongs to the key",
        )
    private_key = _private_key(key, None, where)
    certificates = [_parse_certificate(from_x509(certificate).der) for certificate in (leaf, *others)]
    broken = [certificate for certificate in certificates if isinstance(certificate, str)]
    if broken:
        raise _rejected(
            "certificate_unreadable",
            where,
            f"expected X.509 certificates in the bundle, found one that {broken[0]}",
            "Export the bundle again",
        )
    good = [certificate for certificate in certificates if isinstance(certificate, Certificate)]
    path, rest = build_path(good[0], good[1:])
    roots = tuple(certificate for certificate in path[1:] if certificate.is_self_signed)
    return Pkcs12(tuple(certificate for certificate in path if certificate not in roots), private_key, roots, rest)


def _load_pkcs12(data: bytes, passphrase: bytes | None, where: str) -> tuple[Any, x509.Certificate | None, list[x509.Certificate]]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

    code, what = "wrong_passphrase", "one that does not open it (or the bundle is damaged, or uses an outdated cipher such as RC2)"
    attempts: tuple[bytes | None, ...] = (passphrase,)
    if not passphrase:
        attempts, what = (None, b""), "none, and the bundle does not open without one"
    elif b"\0" in passphrase:
        attempts, what = (), "one with a null byte"  # at which the library would abort
    for attempt in attempts:
        try:
            return load_key_and_certificates(data, attempt)
        except UnsupportedAlgorithm:
            code, what = "not_pkcs12", "a cipher that cannot be read; export it again with AES"
            break
        except Exception:  # noqa: S112  ValueError for wrong passphrases and damage alike
            continue
    if code == "not_pkcs12":
        raise _rejected(
            code,
            where,
            "expected a PKCS#12 bundle encrypted with AES or Triple DES, found a cipher that cannot be read",
            "Export it again: openssl pkcs12 -export",
        )
    raise _rejected(
        code,
        where,
        f"expected the passphrase of the PKCS#12 bundle, found {what}",
        "Give the passphrase with which it was exported; should it be right, export the bundle again with openssl 3",
    )


def build_path(leaf: Certificate, others: Iterable[Certificate]) -> tuple[tuple[Certificate, ...], tuple[Certificate, ...]]:
    """The certificates in chain order, from `leaf` up to the last issuer that is among `others`, and those that are no part of it.

    Where several bear the issuer's name, the one whose key made the signature is taken; if no signature fits, the path ends there.
    """
    path, rest = [leaf], [certificate for certificate in dict.fromkeys(others) if certificate != leaf]
    while not path[-1].is_self_issued or not path[-1].is_self_signed:
        issuer = next((candidate for candidate in rest if signed_by(path[-1], candidate) is not False), None)
        if issuer is None:
            break
        path.append(issuer)
        rest.remove(issuer)
    return tuple(path), tuple(rest)


@dataclass(frozen=True)
class Crl:
    """One certificate revocation list."""

    der: bytes = field(repr=False)
    parsed: x509.CertificateRevocationList = field(repr=False, compare=False)

    @cached_property
    def pem(self) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding

        return self.parsed.public_bytes(Encoding.PEM)

    @cached_property
    def issuer_name(self) -> x509.Name:
        return self.parsed.issuer

    @cached_property
    def issuer(self) -> str:
        """RFC 4514."""
        return self.issuer_name.rfc4514_string()

    @cached_property
    def last_update(self) -> datetime:
        return self.parsed.last_update_utc

    @cached_property
    def next_update(self) -> datetime | None:
        return self.parsed.next_update_utc

    @cached_property
    def count(self) -> int:
        """How many certificates it revokes."""
        return len(self.parsed)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256."""
        return fingerprint(self.der)

    @cached_property
    def is_delta(self) -> bool:
        from cryptography import x509

        return any(isinstance(extension.value, x509.DeltaCRLIndicator) for extension in self.parsed.extensions)

    def revokes(self, certificate: Certificate) -> bool:
        """Whether it lists the certificate, which must be of the same issuer."""
        if certificate.issuer != self.issuer:
            return False
        if certificate.serial_number < 0:  # which the library does not look up
            return any(entry.serial_number == certificate.serial_number for entry in self.parsed)
        return self.parsed.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None

    def signed_by(self, issuer: Certificate) -> bool | None:
        """Names and signature; None where the names match and the signature's algorithm cannot be verified."""
        if issuer.subject != self.issuer:
            return False
        if issuer.public_key is None:
            return None
        try:
            return self.parsed.is_signature_valid(issuer.public_key)
        except TypeError:
            return False
        except Exception:  # UnsupportedAlgorithm
            return None


def crl_pem(crls: Iterable[Crl]) -> bytes:
    """The CRLs in PEM and nothing else."""
    return b"".join(crl.pem for crl in crls)


def read_crls(data: bytes, *, where: str) -> tuple[Crl, ...]:
    """The CRLs in a PEM file; at least one. Envoy takes a file without any (DER, for example) silently and then refuses every certificate.

    Rejected with `not_pem`, `private_key_in_certificate`, `crl_unreadable`.
    """
    from cryptography import x509

    _limit(data, where)
    blocks, defects = scan(data)
    if any(block.label in PRIVATE_KEY_LABELS for block in blocks):
        raise _rejected(
            "private_key_in_certificate",
            where,
            "expected CRLs only, found a private key too",
            "Give the key through its own option, and the CRLs in a file without it",
        )
    _reject_defects(data, blocks, defects, "CRLs in PEM (X509 CRL)", CRL_LABELS, where)
    crls, problems = [], []
    for block in blocks:
        if block.label not in CRL_LABELS:
            continue
        try:
            der = block.der()
            crl = Crl(der or b"", x509.load_der_x509_crl(der or b""))
            __ = (crl.issuer, crl.last_update, crl.next_update, crl.count, crl.is_delta)
            crls.append(crl)
        except Exception:
            problems.append(
                Problem(
                    "crl_unreadable",
                    where,
                    f"expected a CRL in block {block.number} (line {block.line}), found content that is none",
                    "Fetch the CRL again from the CA, and convert it: openssl crl -inform der",
                )
            )
    if problems:
        raise Rejected(problems)
    return tuple(crls)


@dataclass(frozen=True)
class OcspStaple:
    """One successful OCSP response for one certificate."""

    der: bytes = field(repr=False)
    parsed: ocsp.OCSPResponse = field(repr=False, compare=False)

    @property
    def serial_number(self) -> int:
        return self.parsed.serial_number

    @property
    def this_update(self) -> datetime:
        return _ocsp_time(self.parsed, "this_update") or datetime.max

    @property
    def next_update(self) -> datetime | None:
        return _ocsp_time(self.parsed, "next_update")

    @property
    def status(self) -> str:
        """`good`, `revoked` or `unknown`."""
        return self.parsed.certificate_status.name.lower()


def _ocsp_time(response: ocsp.OCSPResponse, name: str) -> datetime | None:
    """An aware time; the aware properties came with cryptography 43."""
    if hasattr(response, f"{name}_utc"):
        value: datetime | None = getattr(response, f"{name}_utc")
        return value
    naive: datetime | None = getattr(response, name)
    return naive.replace(tzinfo=UTC) if naive is not None else None


def read_ocsp_staple(data: bytes, *, where: str) -> OcspStaple:
    """An OCSP response in DER, as Envoy takes it. Rejected with `not_ocsp` or `ocsp_unsuccessful`."""
    from cryptography.x509 import ocsp

    _limit(data, where)
    try:
        response = ocsp.load_der_ocsp_response(data)
    except Exception:
        found = identify(data)
        remedy = "Give the response itself, in DER: openssl ocsp -respout FILE"
        raise _rejected("not_ocsp", where, f"expected an OCSP response in DER, found {found.what}", remedy) from None
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        status = response.response_status.name.lower()
        raise _rejected(
            "ocsp_unsuccessful",
            where,
            f"expected a successful OCSP response, found the responder's answer {status}",
            "Ask the responder again; Envoy refuses the credential with this one",
        )
    staple = OcspStaple(data, response)
    try:
        __ = (staple.serial_number, staple.this_update, staple.next_update, staple.status)
    except Exception:  # ValueError: answers for several certificates
        raise _rejected(
            "not_ocsp",
            where,
            "expected an OCSP response for one certificate, found one for several or for none",
            "Ask for the certificate alone",
        ) from None
    return staple
