# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's identity, and `.sandbox/env`: what a shell sources to work with the sandbox."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import kube, layout, pki
from .progress import Failure

OPERATOR = ("istio-system", "meshops-operator")


def make_operator() -> None:
    """The service account with exactly the Roles and limits that are shipped, and a kubeconfig with a new token for it."""
    if not layout.OPERATOR_RBAC.is_file():
        raise Failure(f"{layout.OPERATOR_RBAC} is missing: it holds the operator's service account and Role")
    kube.apply(layout.OPERATOR_RBAC, layout.OPERATOR_ADMISSION, layout.OPERATOR_CLIENTS)
    namespace, account = OPERATOR
    if kube.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}") is None:
        raise Failure(f"{layout.OPERATOR_RBAC}: expected a ServiceAccount {account} in namespace {namespace}, found none")
    pki.write_private(layout.OPERATOR_KUBECONFIG, kube.kubeconfig(account, kube.token(namespace, account)))


def variables() -> dict[str, str]:
    return {
        "KUBECONFIG": str(layout.KUBECONFIG),
        "OPERATOR_KUBECONFIG": str(layout.OPERATOR_KUBECONFIG),
        "INGRESS_HOST": layout.INGRESS_HTTPS[0],
        "SECURE_INGRESS_PORT": str(layout.INGRESS_HTTPS[1]),
        "MESH_CLIENT": layout.at(layout.MESH_HTTP),
        "EGRESS_LOG": str(layout.EGRESS_LOG),
        "ISTIOCTL": str(layout.BIN / "istioctl"),
        # for `istioctl proxy-status`: there are no Pods through which it could reach istiod
        "ISTIOCTL_XDS_ADDRESS": layout.at(layout.ISTIOD_XDS),
        "ANSIBLE_COLLECTIONS_PATH": str(layout.VENV / "collections"),
        "ANSIBLE_PYTHON_INTERPRETER": str(layout.VENV / "bin" / "python"),
        "ANSIBLE_INVENTORY": str(layout.INVENTORY),
        # where it is another one than usual, for `python -m sandbox` and the inventory
        **({layout.DIRECTORY: str(layout.STATE)} if layout.STATE != layout.BUILT else {}),
    }


def render(comment: str, exported: Mapping[str, str], front: Sequence[Path], direct: Sequence[str]) -> str:
    """For any POSIX shell; may be sourced more than once. `front` goes before PATH; between us and `direct` stands no proxy."""
    lines = [f"# {comment}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in exported.items()]
    path = ":".join(map(str, front))
    lines += [
        f"case $PATH in {shlex.quote(path)}:*) ;; *) PATH={shlex.quote(path)}:$PATH ;; esac",
        "export PATH",
        "# a proxy for the way out must not stand between us and the mesh",
        f'case ",${{NO_PROXY:-}}," in *,{direct[-1]},*) ;; *) NO_PROXY="${{NO_PROXY:+$NO_PROXY,}}{",".join(direct)}" ;; esac',
        "no_proxy=$NO_PROXY",
        "export NO_PROXY no_proxy",
        "",
    ]
    return "\n".join(lines)


def text() -> str:
    direct = ["localhost", layout.LOCAL, "127.0.0.0/8", layout.INGRESS]
    return render(
        "Written by `make sandbox`, removed by `make down`: . .sandbox/env", variables(), [layout.VENV / "bin", layout.BIN], direct
    )


def write() -> None:
    pki.write_private(layout.ENV, text().encode())
