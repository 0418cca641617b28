#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_targets
short_description: Put together what every node is to dial
version_added: "0.1.0"
description:
  - Takes what M(gpufleet.axolotl.port_listener) returned on every node, and returns one value for
    M(gpufleet.axolotl.port_probe) on all of them.
author:
  - gpufleet.axolotl contributors (@gpufleet)
extends_documentation_fragment:
  - gpufleet.axolotl.attributes.fleet_action
attributes:
  check_mode:
    support: full
    description: It only reads what was registered.
options:
  plan:
    description: The launch plan.
    type: dict
    required: true
  listener:
    description: Name of the variable under which the results of M(gpufleet.axolotl.port_listener) were registered.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Tell the nodes whom to dial
  gpufleet.axolotl.mesh_targets:
    plan: "{{ gpufleet_plan.plan }}"
    listener: _preflight_listener
  run_once: true
  register: _preflight_targets
"""

RETURN = r"""
mesh:
  description: What to hand to M(gpufleet.axolotl.port_probe), as JSON.
  returned: always
  type: str
nodes:
  description: How many nodes listen.
  returned: always
  type: int
"""
