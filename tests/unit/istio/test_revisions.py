# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Revisions and tags: names as istiod and its charts give them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.meshops.istio.plugins.module_utils.istio.revisions import asked_for, config_map_name, revision_in, tag_webhook


@pytest.mark.parametrize(
    ("labels", "of_namespace", "expected"),
    [
        ({}, {}, "default"),
        ({"istio.io/rev": "canary"}, {"istio.io/rev": "stable"}, "canary"),
        ({}, {"istio.io/rev": "stable"}, "stable"),
        ({"istio.io/rev": ""}, {}, "default"),
    ],
)
def test_what_a_proxy_asks_for(labels: dict[str, str], of_namespace: dict[str, str], expected: str) -> None:
    assert asked_for(labels, of_namespace) == expected


def test_names() -> None:
    assert (config_map_name("default"), config_map_name("1-31-0")) == ("istio", "istio-1-31-0")
    assert tag_webhook("prod", "istio-system") == "istio-revision-tag-prod"
    assert tag_webhook("prod", "mesh") == "istio-revision-tag-prod-mesh"


@pytest.mark.parametrize(
    ("webhook", "expected"),
    [
        (None, None),
        ({"metadata": {}}, None),
        ({"metadata": {"labels": {"istio.io/tag": "prod", "istio.io/rev": "1-31-0"}}}, "1-31-0"),
    ],
)
def test_the_revision_of_a_tag(webhook: dict[str, Any] | None, expected: str | None) -> None:
    assert revision_in(webhook) == expected
