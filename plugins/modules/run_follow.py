#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_follow
short_description: Stay with a run until its end and show its progress
version_added: "0.1.0"
description:
  - Asks the head alone, whose supervisor knows the state of every node, and shows one line per interval.
  - Interrupting it leaves the run as it is.
author:
  - gpufleet.axolotl contributors (@gpufleet)
extends_documentation_fragment:
  - gpufleet.axolotl.attributes.fleet_action
attributes:
  check_mode:
    support: full
    description: It only reads.
options:
  runs:
    description: Absolute path of the folder with the head's runs.
    type: path
    required: true
  run_id:
    description: The run to follow.
    type: str
    required: true
  interval:
    description: Seconds between two lines; a change of phase is shown at once.
    type: float
    required: true
  grace:
    description: Seconds without an answer from the head after which it gives up.
    type: float
    required: true
"""

EXAMPLES = r"""
- name: Follow
  gpufleet.axolotl.run_follow:
    runs: /opt/axolotl/runs
    run_id: 20260101T120000Z-1234
    interval: 10
    grace: 120
  delegate_to: node0
  run_once: true
"""

RETURN = r"""
ended:
  description: Whether every node's part has ended.
  returned: always
  type: bool
watch:
  description: The head's last view of all nodes.
  returned: always
  type: dict
lost:
  description: Why following ended before the run did, or null.
  returned: always
  type: str
"""
