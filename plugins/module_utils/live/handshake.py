# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The TLS handshake of a request, and what its failures and alerts mean."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..memory_file import unnamed_file
from ..problems import Problem, Rejected
from ..tls import names
from ..tls.pem import identify
from .reach import first_hop, reach
from .request import VERSIONS, Failed, Request
from .wire import left

if TYPE_CHECKING:
    from ..tls.certificate import Certificate

_SETTLE_SECONDS = 0.5
_HANDSHAKE, _CERTIFICATE_REQUEST = 22, 13  # RFC 8446, B.1 and B.3
_REQUESTED = "certificate_was_requested"


class Contexts:
    """What handshakes go by, made once for all requests that agree in it: reading a bundle of CAs or a key takes longer than a handshake."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], ssl.SSLContext] = {}

    def of(self, request: Request) -> ssl.SSLContext:
        """Raises Rejected as `tls_context` does. No request may change what it gets, because others use it at the same time."""
        key = (
            *(request.verify, _name_in_handshake(request), request.min_version, request.max_version, _protocols(request)),
            *(request.ca, _trusts_system(request)),
            *(request.client_certificate, request.client_private_key, request.client_private_key_passphrase),
        )
        if key not in self._made:
            self._made[key] = tls_context(request)
        return self._made[key]


def tls_context(request: Request) -> ssl.SSLContext:
    """What the handshake goes by. Raises Rejected when CA, client certificate or key cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = _name_in_handshake(request)
    if not request.verify:
        context.verify_mode = ssl.CERT_NONE
    # Python 3.13 makes RFC 5280's strictest reading the default, which private CAs fail for trifles (no key usage, no authority key
    # identifier) that neither curl nor Envoy minds. A partial chain is what both of them accept: every certificate in `ca` is an anchor.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False
    _limit_versions(context, request)
    if protocols := _protocols(request):
        context.set_alpn_protocols(list(protocols))
    if request.ca is not None:
        _load_ca(context, request.ca)
    if _trusts_system(request):
        context.load_default_certs()
    if request.client_certificate is not None:
        _load_client(context, request.client_certificate, request.client_private_key, request.client_private_key_passphrase)
    return context


def _name_in_handshake(request: Request) -> bool:
    """Whether OpenSSL compares the name during the handshake: where it is the SNI too, or an address, which is sent as none. Otherwise we do,
    after it."""
    name = names.normalise(request.host) or ""
    sent = request.sent_sni
    return request.verify and (sent or name) == name and (bool(sent) or names.address(name) is not None)


def _protocols(request: Request) -> tuple[str, ...]:
    return request.alpn if request.alpn is not None else (("http/1.1",) if request.scheme == "https" else ())


def _trusts_system(request: Request) -> bool:
    return request.trust_system_store if request.trust_system_store is not None else request.ca is None


def _limit_versions(context: ssl.SSLContext, request: Request) -> None:
    """TLS 1.2 and 1.3, unless asked for others."""
    lowest = VERSIONS[request.min_version or min("TLSv1.2", request.max_version or "TLSv1.2")]
    if lowest < ssl.TLSVersion.TLSv1_2:
        # otherwise it is our own side that refuses old versions, and nothing is learnt of the server
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # they are asked for in order to see them refused
        context.minimum_version = lowest
        if request.max_version:
            context.maximum_version = VERSIONS[request.max_version]


def _load_ca(context: ssl.SSLContext, ca: bytes) -> None:
    try:
        context.load_verify_locations(cadata=ca.decode("ascii", "ignore"))  # only comments around the PEM blocks are not ASCII
    except (ssl.SSLError, ValueError):
        found = identify(ca)
        raise Rejected(
            Problem(
                "not_pem",
                "ca_certificate",
                f"expected one or more certificates in PEM, found {found.what}",
                found.remedy,
            )
        ) from None


def _load_client(context: ssl.SSLContext, certificate: bytes, key: bytes | None, passphrase: str | None) -> None:
    asked: list[bool] = []

    def answer() -> str:
        asked.append(True)  # without this callback OpenSSL would ask at the terminal
        return passphrase or ""

    if key is None and b"PRIVATE KEY-----" not in certificate:
        raise Rejected(
            Problem(
                "key_missing",
                "client_certificate",
                "there is a client certificate but no key",
                "Give client_private_key or client_private_key_path too",
            )
        )
    try:
        with unnamed_file(certificate) as certificate_file, unnamed_file(certificate if key is None else key) as key_file:
            context.load_cert_chain(certificate_file, key_file, answer)
    except (OSError, ValueError) as error:  # through a pipe OpenSSL's own reasons are lost in a failed seek
        reason = _reason(error) if isinstance(error, (ssl.SSLError, ValueError)) else "perhaps they do not belong together"
        if "KEY_VALUES_MISMATCH" in reason or "KEY_TYPE_MISMATCH" in reason:
            problem = Problem(
                "key_mismatch",
                "client_private_key",
                "the key is not the one of the client certificate",
                "Give the key that the certificate was issued for; the client's own certificate comes first in its file",
            )
        elif asked and not passphrase:
            problem = Problem("passphrase_missing", "client_private_key", "the key is encrypted", "Give client_private_key_passphrase")
        elif asked:
            problem = Problem(
                "passphrase_wrong", "client_private_key_passphrase", "the passphrase does not open the key", "Give the key's passphrase"
            )
        else:
            problem = _unreadable(certificate, key, reason)
        raise Rejected(problem) from None


def _unreadable(certificate: bytes, key: bytes | None, reason: str) -> Problem:
    for where, data, what, label in (
        ("client_certificate", certificate, "a certificate in PEM", b"CERTIFICATE-----"),
        ("client_private_key", key or certificate, "a private key in PEM", b"PRIVATE KEY-----"),
    ):
        if label not in data:
            found = identify(data)
            return Problem("not_pem", where, f"expected {what}, found {found.what}", found.remedy)
    return Problem(
        "key_unreadable",
        "client_certificate, client_private_key",
        f"expected a certificate and its private key, found something that OpenSSL cannot use ({reason})",
        "Look at them with `openssl x509 -noout -text` and `openssl pkey -noout`",
    )


def _reason(error: Exception) -> str:
    return (getattr(error, "reason", None) or str(error)).split(" (_ssl.c")[0]


def shake_hands(
    connection: socket.socket, context: ssl.SSLContext, request: Request, deadline: float, seen: dict[str, Any]
) -> ssl.SSLSocket:
    name = names.normalise(request.host) or ""
    in_handshake = _name_in_handshake(request)
    awaits_verdict = request.scheme == "tls" and request.awaits_verdict
    notes_requests = awaits_verdict and _notes_requests(context)
    secured = context.wrap_socket(connection, server_hostname=name if in_handshake else request.sent_sni, do_handshake_on_connect=False)
    try:
        secured.settimeout(left(deadline))
        secured.do_handshake()
    except OSError as error:
        with secured:
            seen["chain"] = served_chain(secured)
            failed = tls_failure(error, chain=bool(seen["chain"]), authenticated=request.client_certificate is not None)
            if isinstance(error, ssl.SSLCertVerificationError) and not seen["chain"]:
                seen["chain"] = _unverified_chain(request, deadline)
        raise failed from None
    cipher = secured.cipher()
    seen.update(chain=served_chain(secured), protocol=secured.version(), cipher=cipher and cipher[0], alpn=secured.selected_alpn_protocol())
    if request.verify and not in_handshake and not covered(name, seen["chain"]):
        secured.close()
        raise Failed("name_mismatch", f"the certificate is not valid for {name!r}")
    seen["verified"] = request.verify
    if awaits_verdict and secured.version() == "TLSv1.3" and (not notes_requests or hasattr(secured, _REQUESTED)):
        try:
            _settle(secured, deadline)
        except OSError as error:
            secured.close()
            raise tls_failure(error, chain=True, authenticated=request.client_certificate is not None) from None
    return secured


def _notes_requests(context: ssl.SSLContext) -> bool:
    """Makes it known of each connection whether the server asked for a client certificate: only then is there a verdict to wait for, and half a
    second for each of a thousand hosts is long. Python tells it by what its own tests use; another Python may lack that."""
    if not hasattr(context, "_msg_callback"):
        return False
    context._msg_callback = _note_request
    return True


def _note_request(connection: Any, direction: str, __: object, content: int, message: int, *___: object) -> None:
    if (direction, content, message) == ("read", _HANDSHAKE, _CERTIFICATE_REQUEST):
        setattr(connection, _REQUESTED, True)


def _settle(secured: ssl.SSLSocket, deadline: float) -> None:
    """Wait for the server's verdict on the client certificate, which in TLS 1.3 comes after our side of the handshake is done.

    A server that is content sends session tickets, closes or speaks; one that says nothing within a moment, as Envoy, is taken to be content.
    Raises what the server's alert raises. (`unwrap` cannot be used for this: OpenSSL swallows an alert that it meets while closing.)
    """
    if select.select([secured], [], [], min(left(deadline), _SETTLE_SECONDS))[0]:
        secured.settimeout(0)
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLEOFError):
            secured.recv(1)


def served_chain(secured: ssl.SSLSocket) -> tuple[bytes, ...]:
    """The chain that the server sent, in DER, leaf first, trusted or not; empty if none was kept."""
    if hasattr(secured, "get_unverified_chain"):  # public since Python 3.13
        return tuple(secured.get_unverified_chain())
    import _ssl

    chain = secured._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    return tuple(certificate.public_bytes(_ssl.ENCODING_DER) for certificate in chain or ())


def _unverified_chain(request: Request, deadline: float) -> tuple[bytes, ...]:
    """The chain by a second handshake that trusts anything and offers no client certificate: before OpenSSL 3
    a failed handshake keeps nothing of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        connection = reach(first_hop(request, deadline), request, deadline, {"port": request.target_port})
        with connection, context.wrap_socket(connection, server_hostname=request.sent_sni, do_handshake_on_connect=False) as secured:
            secured.settimeout(left(deadline))
            with contextlib.suppress(ssl.SSLError):
                secured.do_handshake()
            return served_chain(secured)
    except (OSError, Failed):
        return ()


def covered(name: str, chain: tuple[bytes, ...]) -> bool:
    try:
        return bool(chain) and names.covers(name, _parsed(chain[0]))
    except Rejected:
        return False


# X509_V_ERR_*, openssl/x509_vfy.h
VERIFY_CODES: Mapping[int, str] = {
    2: "unknown_ca",  # unable to get issuer certificate
    7: "unknown_ca",  # certificate signature failure: a trusted CA has the issuer's name, but another key
    9: "not_yet_valid",
    10: "expired",
    18: "unknown_ca",  # self-signed certificate
    19: "unknown_ca",  # self-signed certificate in certificate chain
    20: "unknown_ca",  # unable to get local issuer certificate
    21: "unknown_ca",  # unable to verify the first certificate
    62: "name_mismatch",
    64: "name_mismatch",  # IP address mismatch
}

_ABOUT_CLIENT_CERTIFICATE = frozenset(
    {
        "bad_certificate",
        "unsupported_certificate",
        "certificate_revoked",
        "certificate_expired",
        "certificate_unknown",
        "unknown_ca",
        "access_denied",
        "decrypt_error",
        "no_certificate",
    }
)
_NOT_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
)
_NO_VERSION = frozenset(
    {
        "UNSUPPORTED_PROTOCOL",
        "NO_PROTOCOLS_AVAILABLE",
        "WRONG_SSL_VERSION",
        "VERSION_TOO_LOW",
        "VERSION_TOO_HIGH",
        "BAD_PROTOCOL_VERSION_NUMBER",
    }
)


def tls_failure(error: OSError, *, chain: bool, authenticated: bool) -> Failed:
    """What an error during the handshake, or on the first read after it, means.

    `chain`: the server's certificates had come by then; `authenticated`: a client certificate was at hand.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failed(VERIFY_CODES.get(error.verify_code, "certificate_invalid"), error.verify_message.rstrip(".") or _reason(error))
    if isinstance(error, TimeoutError):
        return Failed("tls_timeout", "the handshake was not answered in time")
    reason = getattr(error, "reason", None) or ""
    alert = alert_name(reason, str(error))
    if alert:
        return alert_failure(alert, chain=chain, authenticated=authenticated)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return Failed("connection_reset", "the server closed the connection during the handshake, without an alert")
    if isinstance(error, ssl.SSLError):
        if reason in _NOT_TLS:
            return Failed("not_tls", f"what came is not TLS ({reason})")
        if reason in _NO_VERSION:
            return Failed("protocol_version", f"no TLS version in common ({reason})")
        return Failed("handshake_failure", _reason(error))
    return Failed("connection_reset", f"the connection was reset during the handshake, without an alert ({error.strerror or error})")


def alert_failure(alert: str, *, chain: bool, authenticated: bool) -> Failed:
    """What a TLS alert of the server means; see `tls_failure`."""
    said = f"the server's TLS alert says {alert}"
    if alert == "certificate_required":
        return Failed("certificate_required", said, alert)
    if alert in ("protocol_version", "unrecognized_name"):
        return Failed(alert, said, alert)
    if alert in _ABOUT_CLIENT_CERTIFICATE and authenticated:
        return Failed("client_certificate_refused", f"{said} about the client certificate", alert)
    # Before TLS 1.3 there was no alert of its own for this: OpenSSL and BoringSSL send handshake_failure, Go and others
    # bad_certificate, once the server's certificate is out and the client answered without one.
    if chain and not authenticated and (alert == "handshake_failure" or alert in _ABOUT_CLIENT_CERTIFICATE):
        return Failed("certificate_required", f"{said} after its certificate was sent and no client certificate came", alert)
    return Failed("handshake_failure", said, alert)


def alert_name(reason: str, text: str) -> str | None:
    """The alert's name in RFC 8446 out of OpenSSL's reason, such as TLSV13_ALERT_CERTIFICATE_REQUIRED or TLSV1_UNRECOGNIZED_NAME."""
    match = re.match(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?([A-Z_]+)$", reason)
    if match:
        return match[1].lower()
    match = re.search(r" alert ([a-z ]+[a-z])", text)  # Python has no name for some of them, OpenSSL's text has
    return match[1].replace(" ", "_") if match else None


def described(chain: tuple[bytes, ...]) -> tuple[Mapping[str, Any], ...]:
    if not chain:
        return ()
    from ..tls.facts import describe
    from ..tls.material import fingerprint

    found: list[Mapping[str, Any]] = []
    for der in chain:
        try:
            found.append(describe(_parsed(der), datetime.now(UTC)))
        except Rejected as rejected:  # what OpenSSL reads, and the library does not
            found.append({"fingerprint_sha256": fingerprint(der), "problem": rejected.problems[0].message})
    return tuple(found)


@lru_cache(256)
def _parsed(der: bytes) -> Certificate:
    """Servers send the same intermediates, and each of them its own certificate with every attempt."""
    from ..tls.material import from_der

    return from_der(der, where="peer certificate")
