#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: infiniband_info
short_description: Reads what is left to do until a node has the wanted InfiniBand stack
version_added: 0.1.0
description:
  - Reads operating system, kernel, packages, modules, tools, limits and active runs of a node, and returns what is to
    be installed, held, built or loaded, and what stands in the way.
  - Where DOCA-OFED is wanted and not there yet, its repository is asked with the node's package manager in a temporary
    folder, so that a wrong key or version is known before the node is changed.
  - What stands in the way is returned in C(problem), it is no failure of this module. It needs root to read all of it.
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  provider:
    description: The wanted stack.
    type: str
    choices: [inbox, doca]
    required: true
  systems:
    description:
      - Family of operating systems to its names of packages, files and commands; C(vars/main) of the role
        gpufleet.axolotl.infiniband has it.
    type: dict
    required: true
  modules:
    description: Kernel modules that must be loaded.
    type: list
    elements: str
    default: []
  doca_version:
    description: Exact version of DOCA.
    type: str
    default: ''
  doca_repository:
    description: URL under which the versions of DOCA lie.
    type: str
    default: ''
  doca_key:
    description: The key with which the repository is signed, as armored text.
    type: str
    default: ''
  root:
    description: Folder of the account that trains; its owner is whose limits are read.
    type: path
    default: ''
  runs:
    description: Folder with the node's runs.
    type: path
    default: ''
attributes:
  check_mode:
    support: full
    description: The module changes nothing.
  diff_mode:
    support: none
    description: The module changes nothing.
"""

EXAMPLES = r"""
- name: Read the stack
  gpufleet.axolotl.infiniband_info:
    provider: inbox
    systems: "{{ _infiniband_systems }}"
    modules: [mlx5_core, ib_umad]
    runs: /opt/axolotl/runs
  register: infiniband
"""

RETURN = r"""
problem:
  description: Why nothing may be done, with the remedy; empty where nothing stands in the way.
  type: str
  returned: success
system:
  description:
    - C(id), C(version) and C(family) of the operating system, C(kernel), and whether it C(is_guest), a container.
  type: dict
  returned: success
prepare:
  description: Packages to install before the repository of DOCA can be added.
  type: list
  elements: str
  returned: success
headers:
  description: Headers of the running kernel to install before what DKMS builds with them.
  type: list
  elements: str
  returned: success
install:
  description: Packages to install, as the package manager takes them. DOCA's profile has its exact version.
  type: list
  elements: str
  returned: success
hold:
  description: Packages of DOCA to hold, name to version.
  type: dict
  returned: success
repository:
  description: C(url) of DOCA's repository, and whether it is C(configured) with this URL and key.
  type: dict
  returned: success
build:
  description: DKMS modules that are not built for the running kernel.
  type: list
  elements: str
  returned: success
load:
  description: Kernel modules to load; empty in a container.
  type: list
  elements: str
  returned: success
reboot:
  description: Why the node must be rebooted, empty where it need not.
  type: str
  returned: success
missing_tools:
  description: Tools that the stack should bring and that are not there.
  type: list
  elements: str
  returned: success
active_runs:
  description: Ids of the runs that are active on the node.
  type: list
  elements: str
  returned: success
manager:
  description:
    - C(pid) and C(memlock) (bytes, -1 for unlimited) of the running systemd manager of the account that trains, V(null)
      where it has none.
  type: dict
  returned: success
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.core import infiniband_state
from ..module_utils.node import infiniband_needs, infiniband_stack, run_reader

NOTHING = {
    "prepare": [],
    "headers": [],
    "install": [],
    "hold": {},
    "build": [],
    "repository": {"url": "", "configured": False},
}


def wanted(options: dict, family: str) -> infiniband_needs.Wanted:
    """The options for this node's family of systems."""
    return infiniband_needs.Wanted(
        options["provider"],
        options["systems"][family],
        options["modules"],
        options["doca_version"],
        options["doca_repository"],
        options["doca_key"],
        options["systems"][family]["doca_source"],
    )


def reboot_reason(release: str) -> str:
    """Why the loaded drivers are not those that would be loaded now; empty where they are."""
    loaded, on_disk = infiniband_stack.loaded_sources(), infiniband_stack.sources_on_disk(release)
    stale = infiniband_state.stale_drivers(loaded, on_disk)
    return f"the loaded {', '.join(stale)} is not the one that is installed" if stale else ""


def account(root: str) -> int:
    """Who trains here: the owner of its folder, and before there is one whoever became root to get here."""
    try:
        return os.stat(root).st_uid
    except OSError:
        return int(os.environ.get("SUDO_UID", "0"))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "provider": {"type": "str", "choices": ["inbox", "doca"], "required": True},
            "systems": {"type": "dict", "required": True},
            "modules": {"type": "list", "elements": "str", "default": []},
            "doca_version": {"type": "str", "default": ""},
            "doca_repository": {"type": "str", "default": ""},
            "doca_key": {"type": "str", "default": "", "no_log": False},
            "root": {"type": "path", "default": ""},
            "runs": {"type": "path", "default": ""},
        },
        supports_check_mode=True,
    )
    options = module.params
    system, kernel = infiniband_stack.system(), infiniband_stack.kernel()
    found, problem = NOTHING, infiniband_state.unknown_system(system, options["systems"])
    if not problem:
        try:
            found = infiniband_needs.needs(wanted(options, system.family), system)
        except infiniband_needs.Obstacle as error:
            problem = str(error)
    uid = account(options["root"])
    module.exit_json(
        changed=False,
        problem=problem,
        system={**system._asdict(), "kernel": kernel.release, "is_guest": kernel.is_guest},
        load=[] if kernel.is_guest else infiniband_stack.unloaded(options["modules"]),
        reboot=reboot_reason(kernel.release),
        missing_tools=infiniband_stack.missing_tools(),
        active_runs=[run.run_id for run in run_reader.active_runs(options["runs"])] if options["runs"] else [],
        manager=infiniband_stack.user_manager(uid) if uid else None,
        **found,
    )


if __name__ == "__main__":
    main()
