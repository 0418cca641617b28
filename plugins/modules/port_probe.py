#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: port_probe
short_description: Try whether every other node can be reached, and how
version_added: "0.1.0"
description:
  - Dials the ports that M(gpufleet.axolotl.port_listener) opened on all other nodes, many at once. It shows each the
    word that it expects and reads its clock, so that neither a firewall that accepts for somebody else nor another
    server on that port passes for the node.
  - To each node it sends 128 KiB and has as much sent back, which does not get through where the path takes smaller
    packets than the two ends believe.
  - It resolves the names by which the nodes are reached.
author:
  - gpufleet.axolotl contributors (@gpufleet)
attributes:
  check_mode:
    support: full
    description: It connects in check mode too; nothing is changed by it.
  diff_mode:
    support: none
    description: It changes nothing.
options:
  mesh:
    description:
      - JSON with C(targets), a list of [position, address, word, port, further ports ...], and C(names), names to the
        addresses that another node found. M(gpufleet.axolotl.mesh_targets) makes it, once for all nodes.
    type: json
    required: true
  position:
    description: This node's own position. Of its own ports only the further ones are dialled.
    type: int
    required: true
  timeout:
    description: Seconds without progress after which a connection is given up.
    type: float
    default: 5.0
  seconds:
    description: Seconds for all connections together.
    type: float
    default: 60.0
"""

EXAMPLES = r"""
- name: Dial the others
  gpufleet.axolotl.port_probe:
    mesh: "{{ _preflight_targets.mesh }}"
    position: 3
"""

RETURN = r"""
mesh:
  description:
    - C(reached) (how many nodes), C(failed) (outcome to the positions of the nodes, as in V(0-2,7)), C(ports) (outcome
      of each further port), C(paths) (MTU of the path to the positions), C(interfaces) (MTU on this side), C(clocks)
      (position, seconds by which that clock is ahead of this one, and by how much that can be wrong), C(names)
      (those that resolve to other addresses here, and how many they are), C(seconds).
  returned: always
  type: dict
"""

import json
import time

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.core.mesh_summary import summarise
from ..module_utils.node import mesh_dialler, names
from ..module_utils.node.mesh_dialler import Target

RESOLVE_SECONDS = 10.0
MAX_NAMES = 16
"""Differing names that are returned; with a broken resolver it would be all of them."""


def read_targets(rows: list) -> list:
    """The ports to dial; over the first of each node goes the bulk."""
    return [
        Target(position, address, port, word, first=port == ports[0])
        for position, address, word, *ports in rows
        for port in ports
    ]


def compare(found: dict, expected: dict) -> dict:
    """What of the names is different here."""
    different = {name: found[name] for name in sorted(expected) if sorted(found[name]) != sorted(expected[name])}
    return {"different": dict(list(different.items())[:MAX_NAMES]), "count": len(different)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "mesh": {"type": "json", "required": True},
            "position": {"type": "int", "required": True},
            "timeout": {"type": "float", "default": 5.0},
            "seconds": {"type": "float", "default": 60.0},
        },
        supports_check_mode=True,
    )
    options = module.params
    begun = time.monotonic()
    mesh = json.loads(options["mesh"])
    targets = mesh_dialler.in_turn(read_targets(mesh["targets"]), options["position"])
    wanted = {target.address for target in targets} | set(mesh["names"])
    addresses = names.resolve_all(wanted, RESOLVE_SECONDS)
    outcomes = mesh_dialler.dial_all(targets, addresses, options["timeout"], options["seconds"])
    found = {**summarise(outcomes), "names": compare(addresses, mesh["names"])}
    found["seconds"] = round(time.monotonic() - begun, 3)
    # Ansible would send the whole list back as part of the result.
    sent = {**options, "mesh": f"{len(mesh['targets'])} nodes"}
    module.exit_json(changed=False, mesh=found, invocation={"module_args": sent})


if __name__ == "__main__":
    main()
