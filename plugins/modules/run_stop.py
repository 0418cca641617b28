#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_stop
short_description: End a run on this node and prove that nothing is left
version_added: "0.1.0"
description:
  - Asks the run's supervisor to end its whole process tree. What is alive after its grace time, or has lost its
    supervisor, is found by the run's mark and ended by process identity (pid and start time), never by name.
author:
  - gpufleet.axolotl contributors (@gpufleet)
extends_documentation_fragment:
  - gpufleet.axolotl.run
attributes:
  check_mode:
    support: full
    description: Tells what it would end.
  diff_mode:
    support: none
    description: The processes that it ends are returned instead.
options:
  run_id:
    description: The run; empty means every active one.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: End whatever runs
  gpufleet.axolotl.run_stop:
    runs: /opt/axolotl/runs
"""

RETURN = r"""
stopped:
  description: Ids of the runs that were ended.
  returned: always
  type: list
  elements: str
known:
  description: Whether this node has the named run; true where none was named.
  returned: always
  type: bool
fleet:
  description: Names of all nodes that took part in the runs that were ended.
  returned: always
  type: list
  elements: str
left:
  description: Pids that are still alive; empty unless a process is in uninterruptible sleep or another user's.
  returned: always
  type: list
  elements: int
"""

import signal
import time

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node import processes, run_reader
from ..module_utils.node.run_directory import RunDirectory, read_json


def end(folder: RunDirectory) -> list[int]:
    """End one run; return the pids that are left."""
    supervisor = run_reader.supervisor_of(folder)
    grace = float(read_json(folder.node_file).get("stop_grace") or 0)
    if supervisor:
        processes.send_signal(supervisor, signal.SIGTERM)
        # Its own grace for SIGTERM, 5 s for SIGKILL, 5 s to tell the others.
        processes.wait_until_gone([supervisor], grace + 15)
    for number in (signal.SIGTERM, signal.SIGKILL):
        rest = [*run_reader.processes_of(folder), *filter(None, [run_reader.supervisor_of(folder)])]
        processes.signal_all(rest, number)
        processes.wait_until_gone(rest, grace if number == signal.SIGTERM else 5)
    time.sleep(0.1)  # what was just orphaned is still being reaped
    return [identity.pid for identity in run_reader.processes_of(folder)]


def main() -> None:
    module = AnsibleModule(
        argument_spec={"runs": {"type": "path", "required": True}, "run_id": {"type": "str", "default": ""}},
        supports_check_mode=True,
    )
    run_id = module.params["run_id"]
    folders = [run for run in run_reader.active_runs(module.params["runs"]) if run_id in ("", run.run_id)]
    stopped = [folder.run_id for folder in folders]
    fleet = sorted({name for folder in folders for name in read_json(folder.node_file).get("fleet", [])})
    left: list[int] = []
    if not module.check_mode:
        for folder in folders:
            left.extend(end(folder))
    known = run_id == "" or run_reader.find_run(module.params["runs"], run_id) is not None
    module.exit_json(changed=bool(folders), stopped=stopped, known=known, fleet=fleet, left=left)


if __name__ == "__main__":
    main()
