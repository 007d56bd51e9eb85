# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talks to the sandbox's Kubernetes: kubectl for manifests, plain requests for the rest. No proxy stands in between."""

from __future__ import annotations

import base64
import functools
import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from string import Template
from typing import Any

import yaml

from . import layout, pki
from .progress import Failure

_DIRECT = urllib.request.ProxyHandler({})
TOKEN_SECONDS = 365 * 24 * 3600


def kubeconfig(user: str, token: str, cluster: dict[str, str] | None = None) -> bytes:
    """A whole kubeconfig: nothing in it points to another file. `cluster` is what another one says of its cluster."""
    ours = cluster or {
        "server": f"https://{layout.at(layout.API)}",
        "certificate-authority-data": base64.b64encode(pki.CA.read_bytes()).decode(),
    }
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "sandbox", "cluster": ours}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": user, "namespace": "default"}}],
            "current-context": "sandbox",
        },
        sort_keys=False,
    ).encode()


@functools.cache
def _opener(kubeconfig_text: str) -> tuple[str, urllib.request.OpenerDirector, str]:
    config = yaml.safe_load(kubeconfig_text)
    cluster = config["clusters"][0]["cluster"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    opener = urllib.request.build_opener(_DIRECT, urllib.request.HTTPSHandler(context=context))
    return cluster["server"], opener, config["users"][0]["user"]["token"]


def request(method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
    """As the administrator. The decoded answer; `urllib.error.HTTPError` and `OSError` as they come."""
    server, opener, token = _opener(layout.KUBECONFIG.read_text())
    headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
    data = None if body is None else json.dumps(body).encode()
    with opener.open(urllib.request.Request(server + path, data, headers, method=method), timeout=10) as answer:  # noqa: S310
        text = answer.read()
    return json.loads(text) if answer.headers.get_content_type() == "application/json" else text.decode()


def answers(path: str) -> bool:
    """Whether a GET succeeds."""
    try:
        request("GET", path)
        return True
    except (OSError, FileNotFoundError, urllib.error.HTTPError):
        return False


def get(path: str) -> Any:
    """The object, or None when there is none."""
    try:
        return request("GET", path)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def answers_http(url: str, *, host: str | None = None) -> bool:
    """Whether something on loopback answers 200."""
    headers = {"Host": host} if host else {}
    try:
        with urllib.request.build_opener(_DIRECT).open(urllib.request.Request(url, headers=headers), timeout=2) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def kubectl(*arguments: str | Path, text: str | None = None) -> str:
    environment = {**os.environ, "KUBECONFIG": str(layout.KUBECONFIG), "KUBECACHEDIR": str(layout.RUN / "kube-cache")}
    command = [str(layout.BIN / "kubectl"), *map(str, arguments)]
    answer = subprocess.run(command, env=environment, input=text, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise Failure(f"`kubectl {' '.join(map(str, arguments))}` failed: {answer.stderr.strip()[-2000:]}")
    return answer.stdout


def apply(*files: Path, text: str | None = None) -> None:
    command = ["apply", "--server-side", "--force-conflicts", "--field-manager=sandbox"]
    for file in files:
        command += ["-f", str(file)]
    kubectl(*command, *(["-f", "-"] if text is not None else []), text=text)


def apply_ours(*names: str) -> None:
    """Manifests of this package: every name of `layout` in capitals may stand in them as `${NAME}`; all objects get our label."""
    documents = []
    for name in names:
        filled = Template((layout.MANIFESTS / name).read_text()).substitute(_substitutes())
        documents += [document for document in yaml.safe_load_all(filled) if document]
    for document in documents:
        document["metadata"].setdefault("labels", {}).update(layout.MARK)
    apply(text=yaml.safe_dump_all(documents))


def _substitutes() -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in vars(layout).items():
        if name.isupper() and isinstance(value, tuple):
            values |= {name: f"{value[0]}:{value[1]}", f"{name}_PORT": str(value[1])}
        elif name.isupper():
            values.setdefault(name, str(value))
    return values


def token(namespace: str, account: str, audience: str | None = None) -> str:
    """A new token of a service account, good for a year: the sandbox may run for long."""
    spec: dict[str, object] = {"expirationSeconds": TOKEN_SECONDS}
    if audience:
        spec["audiences"] = [audience]
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    answer = request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", body)
    return str(answer["status"]["token"])
