# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real kubectl and we ask the same server as the same user, or both refuse: seen by a server, and a proxy, that record."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.cluster.client import ClusterError, connect
from ansible_collections.meshops.istio.plugins.module_utils.cluster.resources import SECRET

from .spare import BIN

HEADERS = ("authorization", "impersonate-user", "impersonate-uid", "impersonate-group")


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers every GET with a Secret, whether it is asked itself or as a proxy."""

    seen: ClassVar[list[tuple[str, tuple[tuple[str, str], ...]]]] = []

    def log_message(self, *__: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        headers = [(name.lower(), value) for name, value in self.headers.items()]
        wanted = sorted(one for one in headers if one[0] in HEADERS or one[0].startswith("impersonate-extra-"))
        self.seen.append((f"{self.server.server_address[1]} {self.path.partition('?')[0]}", tuple(wanted)))
        body = json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "n"}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def ports() -> Iterator[list[int]]:
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder) for __ in range(3)]
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield [server.server_address[1] for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


def config(name: str, server: str, user: Any = None, current: str | None = None, **cluster: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, **cluster}}],
        "users": [{"name": name, "user": user or {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name if current is None else current,
    }


ONE, TWO, PROXY = "http://127.0.0.1:{0}", "http://127.0.0.1:{1}", "http://127.0.0.1:{2}"
AWAY = "http://api.example.com:8080"
ALL = {"as": "jane", "as-uid": "7", "as-groups": ["g", "h"], "as-user-extra": {"scopes/x y%": ["view", "list"]}}
TABLE: dict[str, tuple[list[Any], dict[str, str], str]] = {
    # name: files, variables, context
    "the first file's context": ([config("a", ONE), config("b", TWO)], {}, ""),
    "the first that names one": ([config("a", ONE, current=""), config("b", TWO)], {}, ""),
    "an empty file first": ([None, config("b", TWO)], {}, ""),
    "a context by name": ([config("a", ONE), config("b", TWO)], {}, "b"),
    "the first entry of a name": ([config("a", ONE), config("a", TWO)], {}, ""),
    "no context": ([config("a", ONE, current="")], {}, "c"),
    "a server with a path": ([config("a", ONE + "/k8s/clusters/c-1")], {}, ""),
    "no token over http": ([config("a", ONE, {"token": "t"})], {}, ""),
    "impersonation": ([config("a", ONE, ALL)], {}, ""),
    "groups and nobody": ([config("a", ONE, {"as-groups": ["g"]})], {}, ""),
    "two logins": ([config("a", ONE, {"token": "t", "username": "u"})], {}, ""),
    "a number as token": ([config("a", ONE, {"token": 5})], {}, ""),
    "a name twice": ([{**config("a", ONE), "users": [{"name": "a", "user": {}}] * 2}], {}, ""),
    "both certificate-authority": ([config("a", ONE, **{"certificate-authority": "/x", "certificate-authority-data": "eA=="})], {}, ""),
    "loopback and HTTP_PROXY": ([config("a", ONE)], {"HTTP_PROXY": PROXY}, ""),
    "HTTP_PROXY": ([config("a", AWAY)], {"HTTP_PROXY": PROXY}, ""),
    "two spellings": ([config("a", AWAY)], {"HTTP_PROXY": TWO, "http_proxy": PROXY}, ""),
    "a proxy without scheme": ([config("a", AWAY)], {"HTTP_PROXY": "127.0.0.1:{2}"}, ""),
    "proxy-url, for loopback too": ([config("a", ONE, **{"proxy-url": PROXY})], {}, ""),
    "proxy-url before variables": ([config("a", AWAY, **{"proxy-url": PROXY})], {"HTTP_PROXY": TWO, "NO_PROXY": "*"}, ""),
    "proxy-url of a scheme that is none": ([config("a", ONE, **{"proxy-url": "ftp://x"})], {}, ""),
}


def filled(value: Any, ports: list[int]) -> Any:
    return json.loads(json.dumps(value).replace("{0}", str(ports[0])).replace("{1}", str(ports[1])).replace("{2}", str(ports[2])))


@pytest.mark.parametrize("name", TABLE)
def test_the_same_as_kubectl(name: str, ports: list[int], tmp_path: Path) -> None:
    files, variables, context = filled(TABLE[name], ports)
    paths = []
    for number, content in enumerate(files):
        path = tmp_path / str(number)
        path.write_text("" if content is None else yaml.safe_dump(content))
        paths.append(str(path))
    paths.insert(1, str(tmp_path / "missing"))
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "KUBECONFIG": ":".join(paths), **variables}
    Recorder.seen = []
    more = ["--context", context] if context else []
    asked = [str(BIN / "kubectl"), *more, "get", "--raw", "/api/v1/namespaces/n/secrets/a"]
    theirs = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    seen_of_kubectl = list(Recorder.seen)
    Recorder.seen = []
    try:
        connect({"context": context or None}, environment).get(SECRET, "n", "a")
    except ClusterError as error:
        assert theirs.returncode and not seen_of_kubectl, f"kubectl takes it: {error}"
        return
    assert theirs.returncode == 0, theirs.stderr
    assert seen_of_kubectl[-1:] == Recorder.seen, name
