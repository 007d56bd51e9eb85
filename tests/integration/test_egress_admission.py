# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What we build is what istiod's webhook and the API server admit; what we refuse by argument, they refuse or serve wrongly."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.meshops.istio.plugins.module_utils.istio.egress_arguments import from_arguments
from ansible_collections.meshops.istio.plugins.module_utils.istio.egress_objects import manifests

from .conftest import Mesh

# a name that nothing of the walkthrough has
PARTNER: dict[str, Any] = {"name": "admitted", "host": "nginx.example.com", "credential_name": "client-credential"}
FILES = {"certificate": "/c/tls.crt", "private_key": "/c/tls.key", "ca_certificate": "/ca/ca.crt", "crl": "/ca/ca.crl"}


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoints": [{"address": "my-nginx.mesh-external.svc.cluster.local", "ports": {"https": 443}}], "direct_tls": True},
        {"credential_name": None, "certificate_files": FILES},
        {"credential_name": None, "certificate_files": {**FILES, "ca_certificate": "system"}},
        {"credential_name": None, "mode": "SIMPLE"},
        {"mode": "SIMPLE", "credential_name": "configmap://istio-system/roots"},
        {"mode": "SIMPLE", "credential_name": "roots-cacert"},
        {"subject_alt_names": ["spiffe://partner/api", "*.example.com"], "sni": "edge.example.net"},
        {
            "resolution": "STATIC",
            "endpoints": [
                {"address": "192.0.2.1", "ports": {"https": 9443, "http": 8080}, "labels": {"a": "b"}, "locality": "eu/a/b", "weight": 3},
                {"address": "2001:db8::1"},
            ],
        },
        {"resolution": "NONE"},
        {"protocol": "GRPC", "http_port": 8080, "tls_port": 8443},
        {"protocol": "HTTP2", "gateway": {"port": 8443}},
        {"protocol": "TCP", "http_port": 27017},
        {"protocol": "TCP", "http_port": 6379, "tls_port": 6380, "addresses": ["192.0.2.7", "2001:db8::7"], "direct_tls": True},
        {
            "protocol": "TCP",
            "http_port": 9092,
            "resolution": "STATIC",
            "addresses": ["192.0.2.0/24"],
            "endpoints": [{"address": "192.0.2.1", "ports": {"tls": 9094}}],
        },
        {"resolution": "DNS_ROUND_ROBIN"},
        {"resolution": "DNS_ROUND_ROBIN", "protocol": "TCP", "http_port": 6379, "endpoints": [{"address": "cache.example.net"}]},
        {"export_to": ["shop", "istio-system", "."], "namespace": "istio-system"},
        {"rule_export_to": ["*"]},
        {"name": "n" * 56},
        {"host": "a." + "b" * 63 + ".example.com"},
        {"prevent_bypass": True, "client_namespaces": ["default"]},
    ],
)
def test_admitted(mesh: Mesh, changes: dict[str, Any]) -> None:
    (one,) = from_arguments({**PARTNER, **changes})
    objects = manifests(one, labels={"team": "shop"}, annotations={"ticket": "42"})
    printed = mesh.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(objects))
    assert printed.count("created (server dry run)") == len(objects)
