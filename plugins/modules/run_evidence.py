#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_evidence
short_description: Read what one node's part of a run proves
version_added: "0.1.0"
description:
  - Reads the trainer's log where it lies, so that only a summary travels, together with the connections that the
    supervisor saw the trainer processes hold, the checkpoints that the run wrote, and what is still alive.
author:
  - gpufleet.axolotl contributors (@gpufleet)
extends_documentation_fragment:
  - gpufleet.axolotl.attributes.read_only
  - gpufleet.axolotl.run
options:
  run_id:
    description: The run; empty means the newest active one, else the newest.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Read the evidence
  gpufleet.axolotl.run_evidence:
    runs: /opt/axolotl/runs
"""

RETURN = r"""
evidence:
  description:
    - C(run) (the record held against the living processes), C(log) (losses, steps, errors, NCCL ranks), C(log_tail),
      C(connections) and C(checkpoints); null where this node has no such run.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node import run_reader
from ..module_utils.node.evidence_reader import read_evidence


def main() -> None:
    module = AnsibleModule(
        argument_spec={"runs": {"type": "path", "required": True}, "run_id": {"type": "str", "default": ""}},
        supports_check_mode=True,
    )
    folder = run_reader.find_run(module.params["runs"], module.params["run_id"])
    module.exit_json(changed=False, evidence=read_evidence(folder) if folder else None)


if __name__ == "__main__":
    main()
