#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_start
short_description: Start one node's part of a run under supervision
version_added: "0.1.0"
description:
  - Writes this node's part of the launch plan into its run directory, frozen, and starts the supervisor, detached.
  - The supervisor joins the watch of the head, starts the trainer when every node has joined, and ends the whole
    process tree when the trainer fails, a peer fails, contact is lost, or it is told to stop.
  - A start is proven by reading back the record of the living supervisor.
author:
  - gpufleet.axolotl contributors (@gpufleet)
attributes:
  check_mode:
    support: full
    description: Returns the command as a diff and starts nothing.
  diff_mode:
    support: full
    description: Shows the exact command.
options:
  run_directory:
    description: Absolute path of this run's folder on the node.
    type: path
    required: true
  node:
    description:
      - This node's part of the launch plan, as M(gpufleet.axolotl.launch_plan) made it.
    type: dict
    required: true
  watch_key:
    description: The key with which the supervisors of this run prove themselves to each other.
    type: str
    required: true
  secrets:
    description: Environment variables of the trainer that must not be shown anywhere.
    type: dict
    default: {}
  supervisor:
    description:
      - V(systemd) is a transient unit of the system's manager for root, and of the user's own manager for anybody else,
        who then needs lingering (C(loginctl enable-linger)) so that the run outlives the login.
      - V(process) is a detached process, for machines without systemd.
      - V(auto) is V(systemd) where that works, else V(process).
    type: str
    choices: [auto, systemd, process]
    default: auto
"""

EXAMPLES = r"""
- name: Start every node's part
  gpufleet.axolotl.run_start:
    run_directory: "{{ node.run_directory }}"
    node: "{{ node.start }}"
    watch_key: "{{ watch_key }}"
"""

RETURN = r"""
supervisor:
  description: How it is supervised, V(systemd) or V(process).
  returned: always
  type: str
state:
  description: The supervisor's own record right after the start (run_id, node, phase, supervisor pid and start time).
  returned: when started
  type: dict
"""

import contextlib
import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.node import run_reader, supervisor_start
from ..module_utils.node.files import replace_file
from ..module_utils.node.run_directory import RunDirectory, write_json


def stage(folder: RunDirectory, node: dict, watch_key: str, secrets: dict) -> None:
    """Put what the supervisor needs into a folder that is this user's alone."""
    os.makedirs(folder.path, mode=0o700)
    write_json(folder.node_file, node)
    for name, text in node.get("files", {}).items():
        replace_file(os.path.join(folder.path, os.path.basename(name)), text)
    environment = {name: str(value) for name, value in secrets.items()}
    write_json(folder.secrets_file, {"watch_key": watch_key, "environment": environment}, mode=0o600)
    supervisor_start.pack(folder.supervisor_archive)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "run_directory": {"type": "path", "required": True},
            "node": {"type": "dict", "required": True},
            "watch_key": {"type": "str", "required": True, "no_log": True},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "supervisor": {"type": "str", "choices": ["auto", "systemd", "process"], "default": "auto"},
        },
        supports_check_mode=True,
    )
    folder = RunDirectory(module.params["run_directory"])
    node = module.params["node"]
    kind = supervisor_start.choose(module.params["supervisor"])
    shown = ["\n".join(node["argv"]) + "\n", *(f"{name}:\n{text}" for name, text in node.get("files", {}).items())]
    after = {"after_header": f"{node['node']}: argv", "after": "\n".join(shown)}
    diff = {"before_header": "nothing runs", "before": "", **after}
    if module.check_mode:
        module.exit_json(changed=True, supervisor=kind, diff=diff)

    active = run_reader.active_runs(os.path.dirname(folder.path))
    if active:
        module.fail_json(msg=f"run {active[0].run_id} is active on this node: wait for its end, or end it with stop")
    if os.path.exists(folder.path):
        module.fail_json(msg=f"{folder.path} exists: a run id is used once")
    try:
        stage(folder, node, module.params["watch_key"], module.params["secrets"])
        state = supervisor_start.start(folder, kind, node["node"], float(node["stop_grace"]))
    except (OSError, supervisor_start.StartError) as error:
        with contextlib.suppress(OSError):
            os.unlink(folder.secrets_file)
        module.fail_json(msg=f"the run was not started on this node: {error}")
    module.exit_json(changed=True, supervisor=kind, state=state, diff=diff)


if __name__ == "__main__":
    main()
