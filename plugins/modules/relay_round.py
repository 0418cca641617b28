#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: relay_round
short_description: Plans who fetches from whom in the next round of a relay
version_added: 0.1.0
description:
  - Runs once on the controller and reads what M(gpufleet.axolotl.file_server) and M(gpufleet.axolotl.file_fetch)
    returned on each node.
  - Every node that holds the content gives it to one that lacks it, so that their number doubles with each round. When
    no node holds it, one is named to which the controller sends its copy; a second one only when the first was lost.
author:
  - gpufleet.axolotl contributors (@gpufleet)
options:
  entries:
    description: What is relayed, as M(gpufleet.axolotl.tree_digest) lists it.
    type: list
    elements: dict
    required: true
  last:
    description: RV(relay) of the round before. Empty for the first.
    type: dict
    default: {}
  offered:
    description: Name of the variable in which the result of M(gpufleet.axolotl.file_server) is registered.
    type: str
    required: true
  fetched:
    description: Name of the variable in which the result of M(gpufleet.axolotl.file_fetch) is registered.
    type: str
    required: true
extends_documentation_fragment:
  - gpufleet.axolotl.attributes.fleet_action
attributes:
  check_mode:
    support: full
    description: It only plans.
"""

EXAMPLES = r"""
- name: Plan the first round
  gpufleet.axolotl.relay_round:
    entries: "{{ pack.entries }}"
    offered: relay_offered
    fetched: relay_fetched
  run_once: true
  register: relay_round
"""

RETURN = r"""
relay:
  description: How far the relay has come, and what to do in this round.
  type: dict
  returned: success
  contains:
    seed:
      description: The node that the controller sends its copy to in this round.
      type: str
    fetches:
      description: Fetching node to source.
      type: dict
    ports:
      description: Port by node that offers it.
      type: dict
    servers:
      description: Identity of the process that offers it, by node.
      type: dict
    tries:
      description: Number of failed attempts by node that lacks it.
      type: dict
    doubts:
      description: Number of failed attempts by source.
      type: dict
    problems:
      description: What the last attempt of a node said that lacks it.
      type: dict
    copies:
      description: How many copies the controller has sent.
      type: int
    done:
      description: Whether there is nothing more to do.
      type: bool
serve:
  description: Whether nodes that fetch in this round are needed as sources for the next.
  type: bool
  returned: success
"""
