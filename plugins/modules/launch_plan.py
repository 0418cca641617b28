#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: launch_plan
short_description: Read the inventory into the launch plan
version_added: "0.1.0"
description:
  - Reads the settings of every node in the group C(axolotl_nodes), the config and the release's lock, and returns for
    each node its rank, paths and command. Everything that is wrong comes back at once, as findings.
  - It fails nothing by itself; hand its findings to M(gpufleet.axolotl.verdict).
author:
  - gpufleet.axolotl contributors (@gpufleet)
extends_documentation_fragment:
  - gpufleet.axolotl.attributes.fleet_action
attributes:
  check_mode:
    support: full
    description: It only reads.
options:
  verb:
    description:
      - What the plan is for. V(status), V(stop) and V(collect) need no more than where runs lie; V(provision) does
        without the lock, which it compiles.
    type: str
    choices: [provision, preflight, launch, status, stop, collect]
    required: true
"""

EXAMPLES = r"""
- name: Plan the launch
  gpufleet.axolotl.launch_plan:
    verb: launch
  run_once: true
  register: gpufleet_plan
"""

RETURN = r"""
plan:
  description: The plan, or null where the settings don't allow one. C(nodes) is in rank order; no secret is in it.
  returned: always
  type: dict
findings:
  description: What is wrong (id, severity, hosts, expected, found, remedy).
  returned: always
  type: list
  elements: dict
"""
