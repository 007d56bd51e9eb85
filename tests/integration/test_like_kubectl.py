# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real kubectl and we ask the same server as the same user in the same way, or both refuse: seen by servers and proxies that record.

In the tables, <name> stands for the port of a listener, the path of a file or its base64 (see recording.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from .recording import Case, World, compare, config, only, recording, theirs_and_ours

LOCAL, NAMED, AWAY = "https://127.0.0.1:<tls>", "https://localhost:<tls>", "https://api.example.com:<tls>"
ONE, TWO, FAR = "http://127.0.0.1:<one>", "http://127.0.0.1:<two>", "http://api.example.com:8080"
PROXY = "http://127.0.0.1:<proxy>"
CA = {"certificate-authority": "<ca.crt>"}
CA_DATA = {"certificate-authority-data": "<data:ca.crt>"}
INSECURE = {"insecure-skip-tls-verify": True}
TOKEN = {"token": "t"}
ASKS = "kubectl asks somebody for a login; a task can only go on without one"
JANE = {"client-certificate": "<jane.crt>", "client-key": "<jane.key>"}
JANE_DATA = {"client-certificate-data": "<data:jane.crt>", "client-key-data": "<data:jane.key>"}
ACTS = {"as": "jane", "as-uid": "7", "as-groups": ["g", "h"], "as-user-extra": {"scopes/x y%": ["view", "list"], "Ä": ["1"]}}


def two(first: Any, second: Any, **more: Any) -> Case:
    return Case([first, second], **more)


FILES = {
    "the first file's context": two(config(ONE), config(TWO, name="b")),
    "the first that names one": two(config(ONE, current=""), config(TWO, name="b")),
    "an empty file first": two(None, config(TWO, name="b")),
    "a context by name": two(config(ONE), config(TWO, name="b"), flags=["--context=b"], options={"context": "b"}),
    "a context that is not there": only(ONE, flags=["--context=b"], options={"context": "b"}, says="it has no context 'b'"),
    "the first entry of a name": two(config(ONE), config(TWO)),
    "the first user of a name": two(config(LOCAL, TOKEN, **CA), {"users": [{"name": "a", "user": {"token": "later"}}]}),
    "all of a user is the first's": two({"users": [{"name": "a", "user": {"username": "u"}}]}, config(LOCAL, TOKEN, **CA)),
    "no context": Case([config(ONE, current="")], flags=["--context=c"], options={"context": "c"}, says="it has no context 'c'"),
    "no current-context": Case([config(ONE, current="")], says="it names no current-context"),
    "a server with a path": only(ONE + "/k8s/clusters/c-1"),
    "a server with a path and a slash": only(ONE + "/k8s/clusters/c-1/"),
    "a server in capitals": only("HTTP://127.0.0.1:<one>"),
    "a server without a scheme": only("127.0.0.1:<one>", ours="expected the API server's URL (https://name:port)"),
    "no server": only("", says="it has no server"),
    "a cluster that is not there": Case([{**config(LOCAL), "clusters": []}], says="its cluster 'a' is in no kubeconfig"),
    "a user that is not there": Case([{**config(LOCAL, **CA), "users": []}], says="its user 'a' is in no kubeconfig"),
    "no user": Case([{**config(LOCAL, **CA), "contexts": [{"name": "a", "context": {"cluster": "a"}}]}], wider=ASKS),
    "a user without a login": only(LOCAL, {}, CA, wider=ASKS),
    "no token over http": only(ONE, TOKEN),
    "no basic login over http": only(ONE, {"username": "u", "password": "p"}),
    "no plugin over http": only(
        ONE, {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/no", "interactiveMode": "Never"}}
    ),
    "a number as token": only(ONE, {"token": 5}, says="expected text as token, found a number"),
    "a name twice": Case([{**config(ONE), "users": [{"name": "a", "user": {}}] * 2}], says="stands twice in users"),
    "another kind": Case([{"apiVersion": "v1", "kind": "Secret"}], says="expected a kubeconfig"),
    "another version": Case([{**config(ONE), "apiVersion": "v2"}], says="apiVersion"),
    "what nobody knows": Case([{**config(ONE), "extra": 1, "preferences": {"colors": True}}]),
}
TEXT = """{start}
apiVersion: v1
kind: Config
current-context: a
clusters: [{{name: a, cluster: {{server: "https://127.0.0.1:<tls>", certificate-authority: "<ca.crt>"}}}}]
contexts: [{{name: a, context: {{cluster: a, user: a}}}}]
users:
- name: a
  user: {{{user}}}
{end}
"""


def written(user: str = "token: t", start: str = "", end: str = "", **more: Any) -> Case:
    return Case([TEXT.format(user=user, start=start, end=end)], **more)


POWER = "a token in hexadecimal digits; Python's YAML takes it for a text"
TEXTS = {
    "as it should be": written(),
    "a document's start": written(start="---"),
    "a document's end": written(end="..."),
    "a comment first": written(start="# mine"),
    "a mark of the byte order": written(start="\ufeff"),
    "a second document": written(end="---\nkind: Secret"),
    "a second document, empty": written(end="---"),
    "a directive": written(start="%YAML 1.1\n---"),
    "JSON": Case(
        [
            '{"apiVersion": "v1", "kind": "Config", "current-context": "a", "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:<one>"}}],'
            ' "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}], "users": [{"name": "a", "user": {}}]}'
        ]
    ),
    "an anchor": written("<<: &login {token: t}"),
    "a key twice": written("token: t, token: u"),
    "a list twice": written(end="users: []", says="its user 'a' is in no kubeconfig"),
    "a token in quotes": written("token: 'true'"),
    "a token like a truth": written("token: yes", says="expected text as token, found true or false"),
    "a token like a number": written("token: 0123", says="expected text as token, found a number"),
    "a token like a fraction": written("token: 1.5", says="expected text as token, found a number"),
    "a token like a power": written("token: 1e3", wider=POWER),
    "a token like a power without a sign": written("token: 12345e67", wider=POWER),
    "a token like a time": written("token: 2026-01-31"),
    "a token like a moment": written("token: 2026-01-31T10:00:00Z"),
    "a token like a moment with a space": written("token: 2026-01-31 10:00:00"),
    "a token like hours and minutes": written("token: 12:30:45"),
    "a token like a base": written("token: 0x1F", says="expected text as token, found a number"),
    "a token with underscores": written("token: 1_000", says="expected text as token, found a number"),
    "a token like none": written("token: ~, username: u"),
    "a token that is a list": written("token: [t]", says="expected text as token"),
    "a token over lines": written('token: "a\n  b"'),
    "groups as a text": written("token: t, as: j, as-groups: g", says="expected a list of texts as as-groups"),
    "a group that is none": written("token: t, as: j, as-groups: [~]", ours="expected a list of texts as as-groups"),
    "a group that is a number": written("token: t, as: j, as-groups: [5]", says="expected a list of texts as as-groups"),
    "extra as a list": written("token: t, as: j, as-user-extra: [a]", says="a dictionary of lists as as-user-extra"),
    "extra of a text": written("token: t, as: j, as-user-extra: {a: b}", says="expected a list of texts as a"),
    "extra of none": written("token: t, as: j, as-user-extra: {a: ~}"),
    "what nobody knows": written("token: t, tokens: [5]"),
    "another case": written("Token: t, username: u"),
    "no YAML": Case(["a: [1"], says="expected a kubeconfig in YAML"),
    "words": Case(["just words"], says="expected a kubeconfig"),
    "a list": Case(["- 1"], says="expected a kubeconfig"),
    "a tab": Case(["\t"], says="expected a kubeconfig in YAML"),
    "users that are a dictionary": Case(["users: {a: {}}"], says="whose users are a list"),
    "a user that is a text": Case(["users: [a]"], says="whose users are a list"),
    "a user without a name": Case(["users: [{user: {}}]"], says="names no current-context"),
}
TLS = {
    "a CA as a file": only(LOCAL, TOKEN, CA),
    "a CA as data": only(LOCAL, TOKEN, CA_DATA),
    "a CA beside its file": Case([config(LOCAL, TOKEN, **{"certificate-authority": "ca.crt"})]),
    "a CA among text and others": only(LOCAL, TOKEN, {"certificate-authority": "<both-ca.crt>"}),
    "the server's own certificate as CA": only(LOCAL, TOKEN, {"certificate-authority": "<good.crt>"}),
    "a CA that is not there": only(LOCAL, TOKEN, {"certificate-authority": "/no/ca.crt"}, says="/no/ca.crt"),
    "a CA that is none": only(LOCAL, TOKEN, {"certificate-authority": "<jane.key>"}, says="cannot be read"),
    "an empty CA": only(LOCAL, TOKEN, {"certificate-authority": "<empty>"}, says="cannot be read"),
    "both CAs": only(LOCAL, TOKEN, {**CA, **CA_DATA}, says="both certificate-authority and"),
    "both CAs over http": only(ONE, {}, {**CA, **CA_DATA}, says="both certificate-authority and"),
    "another CA": only(LOCAL, TOKEN, {"certificate-authority": "<other-ca.crt>"}, says="pass the CA that issued it"),
    "the system's CAs": only(LOCAL, TOKEN, says="pass the CA that issued it"),
    "insecure": only(LOCAL, TOKEN, INSECURE),
    "insecure, and a CA": only(LOCAL, TOKEN, {**INSECURE, **CA}, says="exclude each other"),
    "insecure, and a CA, over http": only(ONE, {}, {**INSECURE, **CA}),
    "insecure as a text": only(LOCAL, TOKEN, {"insecure-skip-tls-verify": "true"}, says="write it without quotes"),
    "insecure and expired": only("https://127.0.0.1:<expired>", TOKEN, INSECURE),
    "a name": only(NAMED, TOKEN, CA),
    "a server's name": only(LOCAL, TOKEN, {**CA, "tls-server-name": "api.example.com"}),
    "a server's name as an address": only(NAMED, TOKEN, {**CA, "tls-server-name": "127.0.0.1"}),
    "a server's name that is not its": only(LOCAL, TOKEN, {**CA, "tls-server-name": "other.example.com"}, says="not for other.example.com"),
    "a server's name, insecure": only(LOCAL, TOKEN, {**INSECURE, "tls-server-name": "other.example.com"}),
    "a wrong name": only("https://127.0.0.1:<elsewhere>", TOKEN, CA, says="it is for kubernetes.default, 10.0.0.1 and not for 127.0.0.1"),
    "a wrong name that is named": only("https://127.0.0.1:<elsewhere>", TOKEN, {**CA, "tls-server-name": "kubernetes.default"}),
    "a wrong name that is another address": only("https://127.0.0.1:<elsewhere>", TOKEN, {**CA, "tls-server-name": "10.0.0.1"}),
    "expired": only("https://127.0.0.1:<expired>", TOKEN, CA, says="has expired"),
    "not yet valid": only("https://127.0.0.1:<early>", TOKEN, CA, says="is not valid yet"),
    "TLS to a plain server": only("https://127.0.0.1:<one>", TOKEN, CA, says="speaks no TLS"),
    "plain to a TLS server": only("http://127.0.0.1:<tls>", says="write https:// in the server's URL"),
}
LOGINS = {
    "a token": only(LOCAL, TOKEN, CA),
    "a token and its line end": only(LOCAL, {"token": "t\n"}, CA, says="holds line ends"),
    "a token file": only(LOCAL, {"tokenFile": "<token>"}, CA),
    "a token file beside its file": only(LOCAL, {"tokenFile": "token"}, CA),
    "a token file beside a token": only(LOCAL, {"tokenFile": "<token>", "token": "t"}, CA),
    "a token beside a file that is not there": only(LOCAL, {"tokenFile": "/no/token", "token": "t"}, CA),
    "a token file that is not there": only(LOCAL, {"tokenFile": "/no/token"}, CA, says="/no/token"),
    "an empty token file": only(LOCAL, {"tokenFile": "<empty>"}, CA, says="found no token"),
    "a login": only(LOCAL, {"username": "u", "password": "pä:ss"}, CA),
    "a login without a password": only(LOCAL, {"username": "u"}, CA),
    "a password alone": only(LOCAL, {"password": "p"}, CA, says="a password and no username"),
    "a token and a login": only(LOCAL, {"token": "t", "username": "u"}, CA, says="of which kubectl allows one"),
    "a token and a password": only(LOCAL, {"token": "t", "password": "p"}, CA, says="of which kubectl allows one"),
    "a token file and a login": only(LOCAL, {"tokenFile": "<token>", "username": "u"}, CA, says="of which kubectl allows one"),
    "a token file and a password": only(LOCAL, {"tokenFile": "<token>", "password": "p"}, CA),
    "a token and a login over http": only(ONE, {"token": "t", "username": "u"}, says="of which kubectl allows one"),
    "a certificate": only(LOCAL, JANE, CA),
    "a certificate as data": only(LOCAL, JANE_DATA, CA),
    "a certificate as a file, its key as data": only(LOCAL, {"client-certificate": "<jane.crt>", "client-key-data": "<data:jane.key>"}, CA),
    "a certificate and its key in one file": only(LOCAL, {"client-certificate": "<jane.pem>", "client-key": "<jane.pem>"}, CA),
    "a certificate and a token": only(LOCAL, {**JANE, **TOKEN}, CA),
    "a certificate and a login": only(LOCAL, {**JANE, "username": "u", "password": "p"}, CA),
    "a certificate without a key": only(LOCAL, {"client-certificate": "<jane.crt>"}, CA, says="a client-certificate and no key"),
    "a key without a certificate": only(LOCAL, {"client-key": "<jane.key>"}, CA, says="a client-key and no client-certificate"),
    "a key without a certificate, and a token": only(LOCAL, {"client-key": "<jane.key>", **TOKEN}, CA),
    "another's key": only(LOCAL, {"client-certificate": "<jane.crt>", "client-key": "<john.key>"}, CA, says="cannot be used"),
    "a certificate twice": only(LOCAL, {**JANE, "client-certificate-data": "<data:jane.crt>"}, CA, says="both client-certificate and"),
    "a key twice": only(LOCAL, {**JANE, "client-key-data": "<data:jane.key>"}, CA, says="both client-key and"),
    "a certificate that is not there": only(LOCAL, {"client-certificate": "/no.crt", "client-key": "/no.key"}, CA, says="/no.crt"),
    "a certificate that is not there, over http": only(ONE, {"client-certificate": "/no.crt", "client-key": "/no.key"}, says="/no.crt"),
    "a certificate, insecure": only(LOCAL, JANE, INSECURE),
    "a login that is refused": only(LOCAL, {"token": "refused"}, CA, says="does not accept the login"),
    "acting as somebody": only(LOCAL, {**TOKEN, **ACTS}, CA),
    "acting as somebody over http": only(ONE, ACTS),
    "groups and nobody": only(ONE, {"as-groups": ["g"]}, says="no `as`"),
    "an id and nobody": only(ONE, {"as-uid": "7"}, says="no `as`"),
    "extra and nobody": only(ONE, {"as-user-extra": {"a": ["b"]}}, says="no `as`"),
    "an auth-provider that is gone": only(LOCAL, {"auth-provider": {"name": "gcp"}}, CA, says="gke-gcloud-auth-plugin"),
}
FLAGS = {
    "a server": only(ONE, flags=["--server", TWO], options={"host": TWO}),
    "a server, and the name of the old one": only(
        "https://gone.example.com", TOKEN, {**CA, "tls-server-name": "gone.example.com"}, flags=["--server", LOCAL], options={"host": LOCAL}
    ),
    "a CA": only(LOCAL, TOKEN, flags=["--certificate-authority=<ca.crt>"], options={"ca_cert": "<ca.crt>"}),
    "a CA instead of data": only(
        LOCAL,
        TOKEN,
        {"certificate-authority-data": "<data:other-ca.crt>"},
        flags=["--certificate-authority=<ca.crt>"],
        options={"ca_cert": "<ca.crt>"},
    ),
    "a CA instead of insecure": only(
        LOCAL, TOKEN, INSECURE, flags=["--certificate-authority=<other-ca.crt>"], options={"ca_cert": "<other-ca.crt>"}, says="pass the CA"
    ),
    "insecure": only(LOCAL, TOKEN, flags=["--insecure-skip-tls-verify"], options={"validate_certs": False}),
    "insecure instead of a CA": only(
        LOCAL, TOKEN, {"certificate-authority": "<other-ca.crt>"}, flags=["--insecure-skip-tls-verify"], options={"validate_certs": False}
    ),
    "a token": only(LOCAL, {}, CA, flags=["--token=new"], options={"api_key": "new"}),
    "a token instead of a token": only(LOCAL, TOKEN, CA, flags=["--token=new"], options={"api_key": "new"}),
    "a token instead of a plugin": only(
        LOCAL,
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/no", "interactiveMode": "Never"}},
        CA,
        flags=["--token=new"],
        options={"api_key": "new"},
    ),
    "a login": only(LOCAL, {}, CA, flags=["--username=u", "--password=p"], options={"username": "u", "password": "p"}),
    "a certificate": only(
        LOCAL,
        {},
        CA,
        flags=["--client-certificate=<jane.crt>", "--client-key=<jane.key>"],
        options={"client_cert": "<jane.crt>", "client_key": "<jane.key>"},
    ),
    "a certificate instead of data": only(
        LOCAL,
        JANE_DATA,
        CA,
        flags=["--client-certificate=<john.crt>", "--client-key=<john.key>"],
        options={"client_cert": "<john.crt>", "client_key": "<john.key>"},
    ),
    "acting as somebody": only(
        LOCAL,
        TOKEN,
        CA,
        flags=["--as=jane", "--as-group=g", "--as-group=h"],
        options={"impersonate_user": "jane", "impersonate_groups": ["g", "h"]},
    ),
    "acting as somebody else": only(LOCAL, {**TOKEN, **ACTS}, CA, flags=["--as=john"], options={"impersonate_user": "john"}),
    "other groups": only(LOCAL, {**TOKEN, **ACTS}, CA, flags=["--as-group=x"], options={"impersonate_groups": ["x"]}),
    "groups and nobody": only(LOCAL, TOKEN, CA, flags=["--as-group=x"], options={"impersonate_groups": ["x"]}, says="no user to act as"),
    "a file": Case(
        [config(ONE), config(TWO, name="b")],
        flags=["--kubeconfig=<config-1>"],
        options={"kubeconfig": "<config-1>"},
    ),
    "a file that is not there": only(
        ONE, flags=["--kubeconfig=/no/config"], options={"kubeconfig": "/no/config"}, says="cannot read /no/config"
    ),
    "all of it": Case(
        [],
        flags=["--server", LOCAL, "--certificate-authority=<ca.crt>", "--token=t"],
        options={"host": LOCAL, "ca_cert": "<ca.crt>", "api_key": "t"},
    ),
}


def through(proxy: str, server: str = AWAY, **more: Any) -> Case:
    return only(server, TOKEN, {**(CA if server.startswith("https") else {}), "proxy-url": proxy}, **more)


def told(server: str, **variables: str) -> Case:
    return only(server, TOKEN, CA if server.startswith("https") else {}, variables=variables)


PROXIES = {
    "proxy-url": through(PROXY),
    "proxy-url, for loopback too": through(PROXY, LOCAL),
    "proxy-url, plain": through(PROXY, FAR),
    "proxy-url, plain, for loopback too": through(PROXY, ONE),
    "proxy-url before variables": Case(
        [config(AWAY, TOKEN, **CA, **{"proxy-url": PROXY})], {"HTTPS_PROXY": "http://127.0.0.1:<asking-proxy>", "NO_PROXY": "*"}
    ),
    "proxy-url with a login": through("http://me:s%40cret@127.0.0.1:<asking-proxy>"),
    "proxy-url with a login, plain": through("http://me:s%40cret@127.0.0.1:<asking-proxy>", FAR),
    "proxy-url with a name alone": through("http://me@127.0.0.1:<proxy>"),
    "proxy-url without the login": through(
        "http://127.0.0.1:<asking-proxy>", says="give the login that the proxy wants in the URL of proxy-url"
    ),
    "proxy-url with another login": through("http://me:no@127.0.0.1:<asking-proxy>", says="give the login that the proxy wants"),
    "proxy-url without the login, plain": through("http://127.0.0.1:<asking-proxy>", FAR, says="give the login that the proxy wants"),
    "a proxy by TLS": through("https://127.0.0.1:<tls-proxy>"),
    "a proxy by TLS, and a certificate": only(AWAY, JANE, {**CA, "proxy-url": "https://127.0.0.1:<tls-proxy>"}),
    "a proxy by TLS, plain": only(
        FAR, {}, {**CA, "proxy-url": "https://127.0.0.1:<tls-proxy>"}, wider="the cluster's CA counts for its proxy"
    ),
    "a proxy by TLS that nobody trusts": only(
        AWAY,
        TOKEN,
        {"certificate-authority": "<other-ca.crt>", "proxy-url": "https://127.0.0.1:<tls-proxy>"},
        says="the proxy https://127.0.0.1",
    ),
    "a proxy by TLS, and the server's name": only(
        AWAY,
        TOKEN,
        {**CA, "tls-server-name": "api.example.com", "proxy-url": "https://127.0.0.1:<tls-proxy>"},
        wider="the server's name is not its proxy's",
    ),
    "a proxy by TLS, insecure": only(AWAY, TOKEN, {**INSECURE, "proxy-url": "https://127.0.0.1:<tls-proxy>"}),
    "a proxy that speaks no TLS": through("https://127.0.0.1:<proxy>", says="write http:// in its URL"),
    "SOCKS": through("socks5://127.0.0.1:<socks>"),
    "SOCKS, plain": through("socks5://127.0.0.1:<socks>", "http://api.example.com:<one>"),
    "SOCKS for an address": through("socks5://127.0.0.1:<socks>", LOCAL),
    "SOCKS with a login": through("socks5://me:s%40cret@127.0.0.1:<asking-socks>"),
    "SOCKS without the login": through("socks5://127.0.0.1:<asking-socks>", says="it wants a login"),
    "SOCKS with another login": through("socks5://me:no@127.0.0.1:<asking-socks>", says="does not accept the login"),
    "SOCKS for an international name": through("socks5://127.0.0.1:<socks>", "https://bücher.example:<tls>"),
    "an international name": through(PROXY, "https://Bücher.example:<tls>"),
    "socks5h": through("socks5h://127.0.0.1:<socks>", wider="Go's variables take it, and it is what socks5 does"),
    "proxy-url of a scheme that is none": through("ftp://x", says="found ftp://"),
    "proxy-url without a scheme": through("127.0.0.1:<proxy>", says="proxy-url of cluster 'a'"),
    "a proxy that is not there": through("http://127.0.0.1:1", says="check the proxy, or correct or remove proxy-url of cluster 'a'"),
    "HTTPS_PROXY": told(AWAY, HTTPS_PROXY=PROXY),
    "https_proxy": told(AWAY, https_proxy=PROXY),
    "both spellings": told(AWAY, HTTPS_PROXY=PROXY, https_proxy="http://127.0.0.1:<asking-proxy>"),
    "HTTPS_PROXY without a scheme": told(AWAY, HTTPS_PROXY="127.0.0.1:<proxy>"),
    "HTTPS_PROXY with a login": told(AWAY, HTTPS_PROXY="http://me:s%40cret@127.0.0.1:<asking-proxy>"),
    "HTTPS_PROXY with a login and no scheme": told(AWAY, HTTPS_PROXY="me:s%40cret@127.0.0.1:<asking-proxy>"),
    "HTTPS_PROXY by SOCKS": told(AWAY, HTTPS_PROXY="socks5://127.0.0.1:<socks>"),
    "HTTPS_PROXY by SOCKS, the name looked up there": told(AWAY, HTTPS_PROXY="socks5h://127.0.0.1:<socks>"),
    "HTTPS_PROXY by TLS": told(AWAY, HTTPS_PROXY="https://127.0.0.1:<tls-proxy>"),
    "HTTPS_PROXY and loopback": told(LOCAL, HTTPS_PROXY=PROXY),
    "HTTPS_PROXY and localhost": told(NAMED, HTTPS_PROXY=PROXY),
    "HTTPS_PROXY for plain": told(ONE, HTTPS_PROXY=PROXY),
    "HTTP_PROXY": told(FAR, HTTP_PROXY=PROXY),
    "http_proxy": told(FAR, http_proxy=PROXY),
    "HTTP_PROXY with a login": told(FAR, HTTP_PROXY="http://me:s%40cret@127.0.0.1:<asking-proxy>"),
    "HTTP_PROXY for TLS": told(LOCAL, HTTP_PROXY=PROXY),
    "HTTP_PROXY and loopback": told(ONE, HTTP_PROXY=PROXY),
    "HTTP_PROXY in CGI": only(FAR, variables={"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, says="REQUEST_METHOD is set"),
    "ALL_PROXY": told(LOCAL, ALL_PROXY="socks5://127.0.0.1:<socks>", all_proxy=PROXY),
    "a variable that is no proxy": Case([config(LOCAL, TOKEN, **CA)], {"HTTPS_PROXY": "http://[::1"}),
    "a variable that is no proxy, for a server away": Case(
        [config(AWAY, TOKEN, **CA)], {"HTTPS_PROXY": "http://[::1"}, says="HTTPS_PROXY: expected the URL of a proxy"
    ),
}
ASKED = {  # NO_PROXY, and the server
    "nothing": ("", AWAY),
    "another name": ("example.org", AWAY),
    "a part of the name": ("ample.com", AWAY),
    "a label of the name": ("api", AWAY),
    "the name as one's parent": (".api.example.com", AWAY),
    "another port": ("api.example.com:1", AWAY),
    "a URL": ("https://api.example.com", AWAY),
    "a star in the middle": ("api.*.com", AWAY),
    "two names without a comma": ("example.com example.org", AWAY),
    "a network, for a name": ("0.0.0.0/0", AWAY),
    "another network": ("10.0.0.0/8", "https://192.0.2.1:<tls>"),
    "a part of the address": ("192.0.2", "https://192.0.2.1:<tls>"),
    "a netmask": ("192.0.2.0/255.255.255.0", "https://192.0.2.1:<tls>"),
    "an address and another port": ("192.0.2.1:1", "https://192.0.2.1:<tls>"),
}
EXEMPT = {
    "a star": ("*", AWAY),
    "a star among others": ("example.org, *", AWAY),
    "the name": ("api.example.com", AWAY),
    "the name in capitals": ("API.Example.com", AWAY),
    "the name with spaces": (" other , api.example.com ", AWAY),
    "a parent": ("example.com", AWAY),
    "a parent with a dot": (".example.com", AWAY),
    "a parent with a star": ("*.example.com", AWAY),
    "the name and the port": ("api.example.com:<tls>", AWAY),
    "a port without a number": ("api.example.com:", AWAY),
    "an international name": ("Bücher.example", "https://api.bücher.example:<tls>"),
    "an address": ("192.0.2.1", "https://192.0.2.1:<tls>"),
    "an address and the port": ("192.0.2.1:<tls>", "https://192.0.2.1:<tls>"),
    "a network": ("192.0.2.0/24", "https://192.0.2.1:<tls>"),
    "an address of the sixth version": ("2001:db8::1", "https://[2001:db8::1]:<tls>"),
    "a network of the sixth version": ("2001:db8::/32", "https://[2001:db8::1]:<tls>"),
}
TABLE = {
    f"{group}: {name}": case
    for group, cases in {"files": FILES, "texts": TEXTS, "tls": TLS, "logins": LOGINS, "flags": FLAGS, "proxies": PROXIES}.items()
    for name, case in cases.items()
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with recording(tmp_path_factory.mktemp("recording")) as started:
        yield started


@pytest.mark.parametrize("name", TABLE)
def test_the_same_as_kubectl(name: str, world: World) -> None:
    case = TABLE[name]
    compare(case, *theirs_and_ours(world, case))


def test_the_default_file(world: World) -> None:
    path = world.directory / ".kube" / "config"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(world.filled(config(LOCAL, {"tokenFile": "../token"}, **CA))))
    (their_error, they), (our_error, we) = theirs_and_ours(world, Case([]))
    path.unlink()
    assert they == we and len(we) == 1 and not their_error and not our_error
    (their_error, __), (our_error, __) = theirs_and_ours(world, Case([]))
    assert their_error and "there is no such file" in our_error


@pytest.mark.parametrize("exempt", [False, True])
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_what_is_asked_without_a_proxy(exempt: bool, variable: str, world: World) -> None:
    """What is exempt leads nowhere here, so that nothing arrives."""
    for name, (no_proxy, server) in (EXEMPT if exempt else ASKED).items():
        variables = {"HTTPS_PROXY": PROXY, variable: no_proxy}
        case = only(server, TOKEN, INSECURE, variables=variables, flags=["--request-timeout=3s"])
        (their_error, they), (our_error, we) = theirs_and_ours(world, case)
        assert they == we and bool(we) != exempt, f"{name}: {they} {their_error} {we} {our_error}"
