# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes what istio_tls_credential takes, does nothing, and returns what it returned: what Ansible itself costs.

The environment's BENCH_OPTIONS names a file with the options of a credential.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.meshops.istio.plugins.module_utils.arguments import AUTH_OPTIONS


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **AUTH_OPTIONS,
            "namespace": {"type": "str"},
            "credentials": {"type": "list", "elements": "dict", "options": json.loads(Path(os.environ["BENCH_OPTIONS"]).read_text())},
            "returns": {"type": "path"},
        },
        supports_check_mode=True,
    )
    returns = json.loads(Path(module.params["returns"]).read_text())
    for warning in returns.pop("warnings", []):
        module.warn(warning)
    module.exit_json(**returns)


if __name__ == "__main__":
    main()
