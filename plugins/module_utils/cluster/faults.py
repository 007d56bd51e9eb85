# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why no answer came, and what to do about that: each fault of a connection has its own remedy."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from ..proxy_choice import Proxy

# https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/
_NOT_YET_VALID, _EXPIRED = (9,), (10,)
_WRONG_NAME = (62, 64)
_TOO_WEAK = (66, 67, 68)
_NO_CA = (24, 25, 79)
_STRICT = range(80, 97)  # what VERIFY_X509_STRICT adds


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it wraps, from the outside in."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        named = (getattr(error, "reason", None), getattr(error, "original_error", None), *error.args[:1])
        error = next((inner for inner in named if isinstance(inner, BaseException)), error.__cause__ or error.__context__)


def innermost(error: BaseException) -> str:
    """The cause that says something, without the wrappers around it and without memory addresses."""
    last = list(causes(error))[-1]
    text = getattr(last, "verify_message", "") or getattr(last, "strerror", "") or str(last)
    return re.sub(r"<[^<>]* object at 0x[0-9a-f]+>:? ?", "", str(text)).strip() or type(last).__name__


def is_final(error: BaseException) -> bool:
    """Whether trying again would end the same way."""
    return any(isinstance(one, ssl.SSLCertVerificationError) or _is_no_tls(one) for one in causes(error))


def sentence(
    error: BaseException,
    host: str,
    attempts: int,
    *,
    proxy: Proxy | None = None,
    asked_name: str = "",
    names: Callable[[], Sequence[str]] = tuple,
) -> str:
    """What is the matter with a connection to `host`. `names` finds out what the certificate that is served is for."""
    through = f" through the proxy {proxy}" if proxy else ""
    if proxy and (said := _about_the_proxy(error)):
        return of_the_proxy(proxy, host, said)
    if any(_is_no_tls(one) for one in causes(error)):
        return (
            f"what answers at {host}{through} speaks no TLS; write http:// where it is meant to (kubectl proxy), else check the port"
            f"{' and the proxy' if proxy else ''}"
        )
    refused = next((one for one in causes(error) if isinstance(one, ssl.SSLCertVerificationError)), None)
    if refused is not None:
        return (
            f"the certificate of the API server at {host} cannot be verified ({innermost(refused)}){through}; "
            f"{_certificate_remedy(refused, asked_name or urlsplit(host).hostname or host, names)}"
        )
    if any("ALERT" in str(getattr(one, "reason", "") or "") for one in causes(error)):
        return (
            f"the API server at {host} ended the TLS handshake ({innermost(error)}){through}; "
            "it may want another client certificate: renew the one in client_cert or in the kubeconfig"
        )
    tries = f"{attempts} attempts" if attempts > 1 else "1 attempt"
    return (
        f"no answer from the API server at {host}{through} after {tries} ({innermost(error)}); "
        f"{_silence_remedy(error)}{' and that the proxy leads there' if proxy else ''}"
    )


def _silence_remedy(error: BaseException) -> str:
    found = list(causes(error))
    if any(isinstance(one, socket.gaierror) for one in found):
        return "this name is not known here: correct the name in kubeconfig, context or host, or check this machine's DNS"
    check = "check that it runs and that kubeconfig, context or host name the right cluster"
    if any(isinstance(one, ConnectionRefusedError) for one in found):
        return f"nothing listens there: {check}"
    kinds = {type(one).__name__ for one in found}
    if "ConnectTimeoutError" in kinds:
        return f"nothing answers there, as behind a firewall: {check}"
    if "ReadTimeoutError" in kinds:
        return f"it took the connection and did not answer in time: see whether it is overloaded (`kubectl get --raw /readyz`), and {check}"
    return check


def of_the_proxy(proxy: Proxy, host: str, said: str) -> str:
    return f"the proxy {proxy} gave no connection to the API server at {host} ({said}); {_proxy_remedy(proxy, host, said)}"


def _certificate_remedy(refused: ssl.SSLCertVerificationError, name: str, names: Callable[[], Sequence[str]]) -> str:
    code = getattr(refused, "verify_code", 0)
    if code in _WRONG_NAME:
        found = list(names())
        lists = f"it is for {', '.join(found[:8])}{', ...' if len(found) > 8 else ''} and " if found else "it is "
        example = next((one for one in found if "*" not in one), "a name that it has")
        return (
            f"{lists}not for {name}: reach the server by a name that its certificate covers, or set `tls-server-name: {example}` "
            "for the cluster in the kubeconfig"
        )
    if code in _EXPIRED:
        return (
            "it, or a CA above it, has expired: renew the certificate on the cluster (kubeadm certs renew, or its provider's way), "
            f"unless the clock here is wrong: it says {_now()}"
        )
    if code in _NOT_YET_VALID:
        return f"it, or a CA above it, is not valid yet: compare the clocks, the one here says {_now()}, or wait"
    if code in _TOO_WEAK:
        return (
            "its key or signature is weaker than OpenSSL here allows: issue it again with RSA of 2048 bits or more, or ECDSA, and SHA-256"
        )
    if code in _NO_CA:
        return "the certificate that issued it is no CA: pass the CA's certificate with ca_cert or in the kubeconfig"
    if code in _STRICT:
        return "it lacks what RFC 5280 asks of certificates: issue the cluster's CA again with key usage and key identifiers"
    return "pass the CA that issued it with ca_cert or in the kubeconfig (certificate-authority-data)"


def _about_the_proxy(error: BaseException) -> str:
    """What a proxy said instead of opening a connection, or why it was not reached; empty where it did its part."""
    found = list(causes(error))
    for one in found:
        if type(one).__name__ in ("ProxyRefused", "ProxyError") or "Tunnel connection failed" in str(one):
            if any(_is_no_tls(inner) for inner in found):
                return "it speaks no TLS: write http:// in its URL"
            return str(one) if type(one).__name__ == "ProxyRefused" else innermost(one)
    return ""


def _proxy_remedy(proxy: Proxy, host: str, said: str) -> str:
    if "407 " in said or "login" in said:
        return f"give the login that the proxy wants in the URL of {proxy.source}, or as proxy_headers"
    if proxy.source.lower().endswith("_proxy"):
        no_proxy = "no_proxy" if proxy.source.islower() else "NO_PROXY"
        return f"check the proxy, or add {urlsplit(host).hostname} to {no_proxy} where the server is reached without it"
    return f"check the proxy, or correct or remove {proxy.source} where the server is reached without it"


def _is_no_tls(error: BaseException) -> bool:
    reason = str(getattr(error, "reason", "") or "")
    return isinstance(error, ssl.SSLError) and reason in (
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
