# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of rules by itself, and the page that is made of it."""

from __future__ import annotations

import re
from collections import Counter

from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.table import RULES
from ansible_collections.meshops.istio.tools.problems import PAGE, SUBJECTS, page


def test_the_page_is_that_of_the_table() -> None:
    assert PAGE.read_text() == page(), "run python tools/problems.py"


def test_ids_and_codes_are_unique() -> None:
    assert [one for one, count in Counter(rule.id for rule in RULES).items() if count > 1] == []
    assert [one for one, count in Counter(code for rule in RULES for code in (rule.code, *rule.aliases)).items() if count > 1] == []


def test_every_row_is_whole() -> None:
    for rule in RULES:
        assert re.fullmatch(r"MIT\d{4}", rule.id) and rule.id[3:5] in SUBJECTS, rule.id
        assert re.fullmatch(r"[a-z][a-z0-9_]+", rule.code), rule.id
        assert rule.title and not rule.title.endswith("."), rule.id
        assert rule.meaning.endswith(".") and rule.remedy.endswith("."), rule.id
        assert rule.needs or rule.id[3:5] == "05" or rule.code == "malformed_object", f"{rule.id}: which kinds does it look at?"
