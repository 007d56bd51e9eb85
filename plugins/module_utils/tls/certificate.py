# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One X.509 certificate and its key's kind, as frozen values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from .pem import pem_of

if TYPE_CHECKING:
    import ipaddress

    from cryptography import x509

_Extension = TypeVar("_Extension", bound="x509.ExtensionType")

_EXPLICIT_CURVE = bytes.fromhex("06072a8648ce3d020130")  # id-ecPublicKey, and then a structure instead of a curve's OID
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521", "secp224r1": "P-224", "secp192r1": "P-192"}


def fingerprint(data: bytes) -> str:
    """SHA-256 of `data` as community.crypto prints it: lower case, colons between bytes."""
    return hashlib.sha256(data).digest().hex(":")


@dataclass(frozen=True)
class KeyKind:
    """What sort of key it is, for example RSA 2048 or ECDSA P-256."""

    type: str
    """`RSA`, `RSASSA-PSS` (of certificates: a key that is limited to it), `ECDSA`, `Ed25519`, `Ed448`, `DSA` or `unknown`."""
    size: int | None = None
    """Bits; None where the type says it."""
    curve: str | None = None
    """ECDSA only: `P-256`, `P-384`, `P-521`, or the name as SEC or Brainpool give it."""

    def __str__(self) -> str:
        detail = self.curve or self.size
        return f"{self.type} {detail}" if detail else self.type


def kind_of(key: Any) -> KeyKind:
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


def spki_of(public_key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    data: bytes = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return data


@dataclass(frozen=True)
class Certificate:
    """One X.509 certificate; equal to another with the same DER. What is derived is computed once, when it is first asked for."""

    der: bytes = field(repr=False)
    parsed: x509.Certificate = field(repr=False, compare=False)
    """For facts; a copy in stricter DER where the library does not read the original (see `lenient`)."""

    @cached_property
    def pem(self) -> bytes:
        """The certificate alone, 64 columns, LF, with a final line end."""
        return pem_of("CERTIFICATE", self.der)

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
        from .fields import fields

        kind = kind_of(self.public_key)
        return KeyKind("RSASSA-PSS", kind.size) if fields(self.der).has_pss_key else kind

    @cached_property
    def has_large_exponent(self) -> bool:
        """Whether an RSA key's exponent has more than the 33 bits that Envoy's library takes; 65537 has 17."""
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = self.public_key
        return isinstance(key, rsa.RSAPublicKey) and key.public_numbers().e.bit_length() > 33

    @cached_property
    def has_explicit_curve(self) -> bool:
        """Whether an ECDSA key spells out its curve's parameters: Envoy refuses that even for a curve that it knows."""
        return _EXPLICIT_CURVE in self.der

    @cached_property
    def spki(self) -> bytes | None:
        """The public key in DER (SubjectPublicKeyInfo), None where its kind is unknown."""
        return None if self.public_key is None else spki_of(self.public_key)

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
        from .paths import names_match

        return names_match(self, self)

    @cached_property
    def is_self_signed(self) -> bool:
        from .paths import signed_by

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
