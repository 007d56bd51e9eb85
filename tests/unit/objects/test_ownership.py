# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.objects.ownership import metadata, owner_value

LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
"""https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set"""


@pytest.mark.parametrize(
    "name", ["x", "my-gateway", "a.example.com", "a" * 52, "a" * 53, "a" * 253, "a" * 40 + "-" * 15 + "b", "a." * 100 + "b"]
)
def test_owner_values_are_label_values(name: str) -> None:
    value = owner_value("credential", name)
    assert LABEL_VALUE.fullmatch(value), value
    assert (value == f"credential.{name}") == (len(f"credential.{name}") <= 63)
    assert value == owner_value("credential", name)


def test_long_names_stay_apart() -> None:
    names = ["a" * 252 + letter for letter in "bcd"]
    assert len({owner_value("credential", name) for name in names}) == 3
    assert owner_value("gateway", names[0]) != owner_value("credential", names[0])


def test_ours_cannot_be_displaced_and_nothing_empty_is_sent() -> None:
    made = metadata("x", "n", owner="credential.x", labels={"meshops.istio/owner": "me", "a": "b"})
    assert made == {
        "name": "x",
        "namespace": "n",
        "labels": {"a": "b", "app.kubernetes.io/managed-by": "meshops.istio", "meshops.istio/owner": "credential.x"},
    }
    assert metadata("x", "n", owner="o", annotations={})["labels"].keys() == {"app.kubernetes.io/managed-by", "meshops.istio/owner"}
