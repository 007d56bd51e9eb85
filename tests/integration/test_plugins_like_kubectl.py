# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real kubectl and we run the same login plugins (exec) in the same way and make the same of what they say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from .recording import Case, World, compare, only, recording, theirs_and_ours

SERVER = "https://127.0.0.1:<tls>"
CA, CA_DATA, INSECURE = (
    {"certificate-authority": "<ca.crt>"},
    {"certificate-authority-data": "<data:ca.crt>"},
    {"insecure-skip-tls-verify": True},
)
GROUP = "client.authentication.k8s.io"
# writes down what it was given, and says what stands in the file that its last argument names; the second time what stands in FILE-again, if anything
PROGRAM = """#!/bin/sh
for last; do :; done
here=$(dirname "$0")
printf '%s|%s|%s|%s\\n' "$*" "$PROFILE" "$(printf %s "$KUBERNETES_EXEC_INFO")" "$(cat)" >> "$here/plugin.log"
echo "asking" >&2
[ -n "$last" ] || exit 5
[ -e "$here/$last" ] || { echo "session expired, log in again" >&2; exit 3; }
if [ -e "$here/$last-again" ] && [ "$(wc -l < "$here/plugin.log")" -gt 1 ]; then cat "$here/$last-again"; else cat "$here/$last"; fi
"""


def said(status: Any, version: str = "v1", kind: str = "ExecCredential") -> dict[str, Any]:
    return {"kind": kind, "apiVersion": f"{GROUP}/{version}", "status": status}


SAYS: dict[str, Any] = {
    "token": said({"token": "t"}),
    "fresh": said({"token": "t", "expirationTimestamp": "2999-01-01T00:00:00Z"}),
    "stale": said({"token": "t", "expirationTimestamp": "2001-01-01T00:00:00Z"}),
    "stale-again": said({"token": "t", "expirationTimestamp": "2999-01-01T00:00:00Z"}),
    "certificate": said({"clientCertificateData": "<jane.crt>", "clientKeyData": "<jane.key>"}),
    "both": said({"token": "t", "clientCertificateData": "<jane.crt>", "clientKeyData": "<jane.key>"}),
    "old": said({"token": "t"}, "v1beta1"),
    "oldest": said({"token": "t"}, "v1alpha1"),
    "refused": said({"token": "refused"}),
    "refused-then-good": said({"token": "refused"}),
    "refused-then-good-again": said({"token": "t"}),
    "gone": said({"clientCertificateData": "<gone.crt>", "clientKeyData": "<gone.key>"}),
    "gone-again": said({"clientCertificateData": "<jane.crt>", "clientKeyData": "<jane.key>"}),
    "refused-then-none": said({"token": "refused"}),
    "refused-then-none-again": "",
    "no-status": {"kind": "ExecCredential", "apiVersion": f"{GROUP}/v1"},
    "empty": said({}),
    "half": said({"clientCertificateData": "<jane.crt>"}),
    "mixed": said({"clientCertificateData": "<jane.crt>", "clientKeyData": "<john.key>"}),
    "no-certificate": said({"clientCertificateData": "x", "clientKeyData": "y"}),
    "other-kind": said({"token": "t"}, kind="Secret"),
    "other-group": {"kind": "ExecCredential", "apiVersion": "v1", "status": {"token": "t"}},
    "text": "Please open your browser",
    "nothing": "",
    "yaml": f"kind: ExecCredential\napiVersion: {GROUP}/v1\nstatus: {{token: t}}\n",
    "number": said({"token": 5}),
    "line": said({"token": "t\n"}),
}


def plugin(
    *arguments: str, user: Mapping[str, Any] | None = None, cluster: Mapping[str, Any] | None = None, server: str = SERVER, **given: Any
) -> Any:
    """(server, user, cluster)"""
    inner = {"apiVersion": f"{GROUP}/v1", "command": "<plugin>", "args": list(arguments), "interactiveMode": "Never", **given}
    return (
        server,
        {**(user or {}), "exec": {key: value for key, value in inner.items() if value is not None}},
        CA if cluster is None else cluster,
    )


def case(
    *arguments: str, says: str = "", ours: str = "", wider: str = "", flags: Sequence[str] = (), options: Any = None, **given: Any
) -> Case:
    server, user, cluster = plugin(*arguments, **given)
    return only(server, user, cluster, says=says, ours=ours, wider=wider, flags=flags, options=options or {})


TELLING: dict[str, Any] = {"provideClusterInfo": True}
EXTENSION = {"extensions": [{"name": f"{GROUP}/exec", "extension": {"audience": "x", "deep": [1, {"a": None}]}}]}
TABLE = {
    "a token": case("token"),
    "arguments": case("--cluster", "a b", "", "token"),
    "no arguments": case(args=None, says="ended with status 5"),
    "the environment": case("token", env=[{"name": "PROFILE", "value": "prod"}]),
    "an empty variable": case("token", env=[{"name": "PROFILE"}]),
    "a variable twice": case("token", env=[{"name": "PROFILE", "value": "a"}, {"name": "PROFILE", "value": "b"}]),
    "a variable without a name": case("token", env=[{"value": "a"}], says="name and value as env"),
    "a certificate": case("certificate"),
    "a certificate and a token": case("both"),
    "a token that lasts": case("fresh"),
    "a token that has expired": case("stale"),
    "a relative command": case("token", command="./plugin"),
    "a relative command below": case("token", command="below/../plugin"),
    "a command in PATH": case("token", command="plugin-in-path"),
    "a command that is not there": case(
        "token", command="no-such-plugin", installHint="get it at\nhttps://x", says="install it: get it at https://x"
    ),
    "a path that is not there": case("token", command="/no/plugin", says="there is no such program here"),
    "a command that is no program": case("token", command="<token>", says="cannot be run (Permission denied)"),
    "no command": case("token", command="", says="it has no command"),
    "if available": case("token", interactiveMode="IfAvailable"),
    "always": case("token", interactiveMode="Always", says="(interactiveMode: Always), which a task has not"),
    "another mode": case("token", interactiveMode="Maybe", says="as interactiveMode, found 'Maybe'"),
    "no mode": case("token", interactiveMode=None, says="as interactiveMode, found 'none'"),
    "v1beta1": case("old", apiVersion=f"{GROUP}/v1beta1", interactiveMode=None),
    "v1beta1 of the cluster": case("old", apiVersion=f"{GROUP}/v1beta1", **TELLING),
    "v1alpha1": case("oldest", apiVersion=f"{GROUP}/v1alpha1", says="expected an apiVersion of"),
    "no version": case("token", apiVersion=None, says="expected an apiVersion of"),
    "an answer of another version": case("old", says=f"found '{GROUP}/v1beta1'"),
    "an answer of another group": case("other-group", says="found 'v1'"),
    "an answer of another kind": case("other-kind", says="expected an ExecCredential in JSON"),
    "an answer without a status": case("no-status", says="neither a token nor a certificate"),
    "an answer without a login": case("empty", says="neither a token nor a certificate"),
    "half a pair": case("half", says="only one of certificate and key"),
    "a pair that does not fit": case("mixed", says="gave cannot be used (KEY_VALUES_MISMATCH)"),
    "a pair that is none": case("no-certificate", says="gave cannot be used"),
    "a text": case("text", says="expected an ExecCredential in JSON"),
    "nothing": case("nothing", says="expected an ExecCredential in JSON"),
    "YAML": case("yaml", ours="expected an ExecCredential in JSON"),
    "a number as token": case("number", says="expected text as token"),
    "a token and its line end": case("line", says="holds line ends"),
    "a failure": case("no-such-answer", says="ended with status 3 and said: asking session expired, log in again"),
    "told of the cluster": case("token", **TELLING),
    "told of a CA as data": case("token", cluster=CA_DATA, **TELLING),
    "told of its name": case("token", cluster={**CA, "tls-server-name": "api.example.com"}, **TELLING),
    "told of an insecure one": case("token", cluster=INSECURE, **TELLING),
    "told of a proxy": case("token", cluster={**CA, "proxy-url": "http://me:x@127.0.0.1:<proxy>"}, **TELLING),
    "told of compression": case("token", cluster={**CA, "disable-compression": True}, **TELLING),
    "told of a path": case("token", server=SERVER + "/k8s/c-1", **TELLING),
    "told what it is to know": case("token", cluster={**CA, **EXTENSION}, **TELLING),
    "not told": case("token", cluster={**CA, **EXTENSION}),
    "told of another server": case(
        "token", server="https://gone.example.com", flags=["--server", SERVER], options={"host": SERVER}, **TELLING
    ),
    "told of another CA": case(
        "token",
        cluster={"certificate-authority": "<other-ca.crt>"},
        flags=["--certificate-authority=<ca.crt>"],
        options={"ca_cert": "<ca.crt>"},
        **TELLING,
    ),
    "told that nothing is verified": case("token", flags=["--insecure-skip-tls-verify"], options={"validate_certs": False}, **TELLING),
    "beside a token": case("token", user={"token": "own"}),
    "beside a token file": case("token", user={"tokenFile": "<token>"}),
    "beside a login": case("token", user={"username": "u", "password": "p"}),
    "beside a certificate": case("token", user={"client-certificate": "<john.crt>", "client-key": "<john.key>"}),
    "beside half a certificate": case("token", user={"client-key": "<john.key>"}),
    "beside a password": case("token", user={"password": "p"}),
    "beside an auth-provider": case("token", user={"auth-provider": {"name": "oidc"}}, says="which exclude each other"),
    "for somebody else": case("token", user={"as": "jane", "as-groups": ["g"]}),
    "refused": case("refused", says="does not accept the login"),
    "refused, then with nothing": case("refused-then-none", says="expected an ExecCredential in JSON"),
    "refused, a certificate, then another": case("gone", wider="the request is sent again, with a new connection"),
    "refused, then another": case(
        "refused-then-good", wider="the request is sent again, where kubectl only has the login for the next one"
    ),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("plugins")
    with recording(directory) as started:
        for name in ("plugin", "plugin-in-path"):
            (directory / name).write_text(PROGRAM)
            (directory / name).chmod(0o755)
        (directory / "below").mkdir()
        for name, content in SAYS.items():
            text = content if isinstance(content, str) else json.dumps({**content, "status": inlined(started, content.get("status"))})
            (directory / name).write_text(text)
        yield started


def inlined(world: World, status: Any) -> Any:
    def content(value: Any) -> Any:
        return (world.directory / value[1:-1]).read_text() if isinstance(value, str) and value.startswith("<") else value

    return {key: content(value) for key, value in status.items()} if isinstance(status, dict) else status


def runs(world: World) -> list[tuple[str, str, Any, str]]:
    """(arguments, PROFILE, KUBERNETES_EXEC_INFO, standard input) of each run so far."""
    log = world.directory / "plugin.log"
    lines = [line.split("|") for line in log.read_text().splitlines()] if log.exists() else []
    log.unlink(missing_ok=True)
    return [(arguments, profile, json.loads(information), given) for arguments, profile, information, given in lines]


@pytest.mark.parametrize("name", TABLE)
def test_the_same_as_kubectl(name: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(world.directory), prepend=":")
    monkeypatch.delenv("PROFILE", raising=False)
    runs(world)
    told: list[Any] = []
    theirs, ours = theirs_and_ours(world, TABLE[name], between=lambda: told.append(runs(world)))
    theirs_of_plugin, ours_of_plugin = told[0], runs(world)
    compare(TABLE[name], theirs, ours)
    assert [run for run in ours_of_plugin if run not in theirs_of_plugin] == []
    assert bool(ours_of_plugin) == bool(theirs_of_plugin) and len(ours_of_plugin) <= max(len(theirs_of_plugin), 2)
    if name.startswith("refused"):
        assert len(ours_of_plugin) == len(theirs_of_plugin) == 2
