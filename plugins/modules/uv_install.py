#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: uv_install
short_description: Install uv of one version in a folder of its own
version_added: "0.1.0"
description:
  - Makes a virtual environment in O(path) where there is none, and has its pip install uv.
  - Two at once in one folder wait for each other, also on nodes that share its storage.
  - By pip's command, since Ansible's module for pip needs a library (packaging) that a node's own Python may not have.
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  path:
    description: The folder.
    type: path
    required: true
  version:
    description: The exact version; empty for the newest.
    type: str
    default: ""
  virtualenv_command:
    description: The command that makes a virtual environment; the folder is appended.
    type: list
    elements: str
    default: [python3, -m, venv]
  find_links:
    description: Folder with the wheel of uv. When empty, it comes from the index that pip is configured with.
    type: path
    default: ""
  timeout:
    description: Seconds that each step may take.
    type: int
    default: 600
attributes:
  check_mode:
    support: full
    description: In check mode nothing is written.
  diff_mode:
    support: none
    description: There is no text to compare.
"""

EXAMPLES = r"""
- name: Install uv
  gpufleet.axolotl.uv_install:
    path: /srv/axolotl/tools
    version: 0.13.9
"""

RETURN = r"""
uv:
  description: The uv that is there now, or would be.
  returned: success
  type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.commands import run
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.folder_lock import FolderBusy, only_one_in
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.uv import find_uv


class InstallError(Exception):
    """A step failed; the message says which, and what it said."""


def install(params):
    """Install it unless it is there; whether anything was done."""
    with only_one_in(params["path"], params["timeout"]):
        python, uv = (os.path.join(params["path"], "bin", name) for name in ("python", "uv"))
        if find_uv(params["version"], os.path.dirname(uv)) == uv:  # whoever was at work here before has installed it
            return False
        if not os.path.exists(os.path.join(params["path"], "bin", "pip")):
            do([*params["virtualenv_command"], params["path"]], params["timeout"])
        wanted = f"uv=={params['version']}" if params["version"] else "uv"
        source = ["--no-index", "--find-links", params["find_links"]] if params["find_links"] else []
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        do([*pip, *source, wanted], params["timeout"])
    return True


def do(command, timeout):
    """Run one step."""
    done = run(command, timeout)
    if done.rc or done.timed_out:
        raise InstallError(f"{' '.join(command)} failed: {done.message()}")


def main():
    """Install uv where it is missing."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "version": {"type": "str", "default": ""},
            "virtualenv_command": {"type": "list", "elements": "str", "default": ["python3", "-m", "venv"]},
            "find_links": {"type": "path", "default": ""},
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    uv = os.path.join(module.params["path"], "bin", "uv")
    try:
        changed = module.check_mode or install(module.params)
    except (InstallError, FolderBusy, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, uv=uv)


if __name__ == "__main__":
    main()
