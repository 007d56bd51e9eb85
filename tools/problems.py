# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes docs/problems.md from the table of rules: `python tools/problems.py`. tests/unit/diagnosis/test_problems_page.py holds it to the table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.rule import Rule
from ansible_collections.meshops.istio.plugins.module_utils.diagnosis.table import RULES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "problems.md"
SUBJECTS = {
    "01": "Credentials: where istiod looks for them, and what it needs there",
    "02": "What is in credentials: certificates, keys, CAs, CRLs",
    "03": "Servers of Gateways",
    "04": "Routes at gateways",
    "05": "Ways through egress gateways",
    "06": "TLS that proxies originate",
    "07": "What is around gateways",
    "08": "The Gateway API",
    "09": "What istiod's webhook refuses",
    "10": "What gateways and proxies show",
}
HEAD = """<!--
Copyright (c) 2026 The meshops.istio developers
GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later
Made by tools/problems.py from plugins/module_utils/diagnosis: change it there.
-->

# Problems, and what to do about them

Each problem has an ID, a code and a severity, and these do not change. An **error** breaks requests, or lets in whom it should not; a **warning**
may; a **hint** is good to know, and no fault. Modules show the code at the end of a sentence and in their `problems`; some lower errors of others'
objects to warnings. The annotation `meshops.istio/ignore` on an object, with a line such as `MIT0601: a test server`, keeps a diagnosis from telling
the problem there.
"""


def page(rules: Sequence[Rule] = RULES) -> str:
    return "\n".join(_lines(rules)) + "\n"


def _lines(rules: Sequence[Rule]) -> Iterator[str]:
    yield HEAD.rstrip()
    for subject, title in SUBJECTS.items():
        yield f"\n## {title}\n"
        yield "| ID | code | severity | problem | what happens | what to do |"
        yield "|---|---|---|---|---|---|"
        for rule in rules:
            if rule.id[3:5] == subject:
                codes = "<br>".join(f"`{code}`" for code in (rule.code, *rule.aliases))
                cells = (rule.id, codes, rule.severity, rule.title, rule.meaning, rule.remedy)
                yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE}: {len(RULES)} problems\n")
