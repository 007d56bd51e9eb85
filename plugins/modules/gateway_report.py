#!/usr/bin/python
# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module gateway_report: reports of what gateway_diagnose found, for people and for pipelines."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_report
short_description: Write a report about the TLS of Istio's gateways, for people and for pipelines
version_added: 0.1.0
author:
  - The meshops.istio developers (@meshops)
description:
  - Makes one report of what M(meshops.istio.gateway_diagnose) found in one cluster or in many. It shows what is broken and what to do, the way of
    every host and egress service with the stage at which it breaks, when every certificate ends and what breaks then, who issued whom, what
    handshakes proved, and which clusters were not looked at.
  - The page (HTML) is one file that loads nothing, can be read on a phone and be printed, and can be searched.
  - The role P(meshops.istio.report#role) diagnoses all clusters of an inventory and then uses this module.
  - The same results make the same bytes. Nothing is asked of any cluster.
  - The options of a login are accepted, so that one C(module_defaults) can be used for all modules of this collection, and not used.
extends_documentation_fragment:
  - meshops.istio.auth
  - meshops.istio.attributes
attributes:
  diff_mode:
    support: none
options:
  clusters:
    description:
      - What is known of each cluster.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - How the report calls it.
        type: str
        required: true
      result:
        description:
          - File that M(meshops.istio.gateway_diagnose) wrote, with its options O(meshops.istio.gateway_diagnose#module:save) and
            O(meshops.istio.gateway_diagnose#module:survey). Where it was also compared with an earlier one
            (O(meshops.istio.gateway_diagnose#module:since)), the report shows what is new and what is gone.
        type: path
      error:
        description:
          - Why the cluster could not be looked at, in place of O(clusters[].result).
        type: str
  directory:
    description:
      - Where the files are written. It is made where it does not exist.
    type: path
    required: true
  name:
    description:
      - What the files are called, without their suffixes.
    type: str
    default: report
  formats:
    description:
      - Which files are written.
      - V(html) is C(.html), a page for people. V(markdown) is C(.md). V(json) is C(.json), described by C(docs/report.schema.json) of this collection.
      - V(junit) is C(.junit.xml), in which problems and hosts that break are failures. V(sarif) is C(.sarif), SARIF 2.1.0. V(ics) is C(.ics), a calendar
        with the end of every certificate that something uses. V(metrics) is C(.prom), which node exporter's textfile collector and a push gateway
        take (OpenMetrics 1.0, and Prometheus' text format too); C(docs/monitoring) of this collection has alert rules and a dashboard for it.
    type: list
    elements: str
    choices: [html, markdown, json, junit, sarif, ics, metrics]
    default: [html, markdown, json, junit, sarif, ics, metrics]
  metrics_directory:
    description:
      - Where the file of V(metrics) is written, for example the directory of node exporter's textfile collector. Without it, O(directory). It is made
        where it does not exist.
    type: path
  metrics_limit:
    description:
      - How many hosts, and how many credentials, of one cluster have metrics of their own at most. Hosts with which something is wrong, and
        credentials whose certificates end first, come first; of the others, the number is told (C(meshops_cluster_left_out)).
    type: int
    default: 1000
notes:
  - Paths are of the machine where the module runs, which is the controller for C(connection=local).
  - C(changed) says whether a report says something new. A file in which only the time of looking is new is written, and is not counted as changed.
seealso:
  - module: meshops.istio.gateway_diagnose
"""

EXAMPLES = r"""
- name: Look at the cluster
  meshops.istio.gateway_diagnose:
    handshakes: true
    survey: true
    save: /tmp/production.json
    fail_on: never

- name: Write the report
  meshops.istio.gateway_report:
    clusters:
      - name: production
        result: /tmp/production.json
    directory: reports
"""

RETURN = r"""
files:
  description: Every file, with its C(path) and whether it says something new (C(changed)).
  returned: success
  type: list
  elements: dict
headline:
  description: What the report says first.
  returned: success
  type: str
  sample: 3 problems
summary:
  description: What stands below it.
  returned: success
  type: str
counts:
  description: How many findings there are of each severity, without symptoms that another finding explains.
  returned: success
  type: dict
hosts:
  description: How many hosts and egress services there are (C(all)), and how many are C(broken).
  returned: success
  type: dict
clusters:
  description: The state of each cluster, V(broken), V(doubtful), V(right) or V(not_looked_at).
  returned: success
  type: dict
"""

from typing import Any

from ansible_collections.meshops.istio.plugins.module_utils.call import Call
from ansible_collections.meshops.istio.plugins.module_utils.gateway_report import run
from ansible_collections.meshops.istio.plugins.module_utils.module import run_module
from ansible_collections.meshops.istio.plugins.module_utils.report.formats import FORMATS
from ansible_collections.meshops.istio.plugins.module_utils.report.metrics import LIMIT

SPEC: dict[str, Any] = {
    "clusters": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"name": {"type": "str", "required": True}, "result": {"type": "path"}, "error": {"type": "str"}},
    },
    "directory": {"type": "path", "required": True},
    "name": {"type": "str", "default": "report"},
    "formats": {"type": "list", "elements": "str", "choices": list(FORMATS), "default": list(FORMATS)},
    "metrics_directory": {"type": "path"},
    "metrics_limit": {"type": "int", "default": LIMIT},
}
CONSTRAINTS: dict[str, Any] = {}


def act(call: Call) -> dict[str, Any]:
    return run(call)


def main() -> None:
    run_module(SPEC, act, **CONSTRAINTS)


if __name__ == "__main__":
    main()
