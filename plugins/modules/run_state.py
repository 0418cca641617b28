#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_state
short_description: Tell what of a run is on this node
version_added: "0.1.0"
description:
  - Reads the run's record and holds it against the processes that really are there.
  - On the head it also returns what the head's supervisor knows of every node.
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
- name: See what runs
  gpufleet.axolotl.run_state:
    runs: /opt/axolotl/runs
"""

RETURN = r"""
run:
  description:
    - The run (run_id, path, node, node_rank, fleet, plan, state, supervisor_alive, processes, watch), or null where
      this node has none.
    - C(state) is the supervisor's record, C(processes) the pids that are alive, C(watch) the head's view.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node import run_reader


def main() -> None:
    module = AnsibleModule(
        argument_spec={"runs": {"type": "path", "required": True}, "run_id": {"type": "str", "default": ""}},
        supports_check_mode=True,
    )
    folder = run_reader.find_run(module.params["runs"], module.params["run_id"])
    module.exit_json(changed=False, run=run_reader.read_run(folder) if folder else None)


if __name__ == "__main__":
    main()
