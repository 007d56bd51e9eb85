# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.objects.kinds import API_GATEWAY, GATEWAY, NODE, SECRET, Ref, ref_of
from ansible_collections.meshops.istio.plugins.module_utils.objects.ownership import is_ours, metadata, owner_of


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_two_kinds_of_gateways_of_one_name_are_two_objects(version: str) -> None:
    mine = ref_of({"apiVersion": f"networking.istio.io/{version}", "kind": "Gateway", "metadata": {"name": "g", "namespace": "n"}})
    other = ref_of({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g", "namespace": "n"}})
    assert mine == GATEWAY.ref("n", "g") != other == API_GATEWAY.ref("n", "g")
    assert [str(mine), str(other), str(NODE.ref("", "a"))] == ["Gateway n/g", "Gateway n/g (Gateway API)", "Node a"]
    assert SECRET.ref("n", "s") == Ref("Secret", "n", "s")


def test_whose_an_object_is() -> None:
    ours = {"metadata": metadata("a", "b", owner="gateway.g")}
    assert owner_of(ours) == "gateway.g" and is_ours(ours)
    for other in (None, {}, {"metadata": {"labels": {"meshops.istio/owner": "gateway.g"}}}, {"metadata": {"labels": None}}):
        assert owner_of(other) is None and not is_ours(other)
