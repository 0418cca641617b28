#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_findings
short_description: Hold what the nodes returned against the rules
version_added: "0.1.0"
description:
  - Compares the results that a task registered on every node, once, on the controller. A node that was unreachable,
    failed or left out by C(--limit) is a finding too.
  - It fails nothing by itself; hand its findings to M(gpufleet.axolotl.verdict).
author:
  - gpufleet.axolotl contributors (@gpufleet)
extends_documentation_fragment:
  - gpufleet.axolotl.attributes.fleet_action
attributes:
  check_mode:
    support: full
    description: It only compares.
options:
  rules:
    description: The table of rules to apply.
    type: str
    choices: [reached, storage, provisioned, data, preflight, started, run, status, stopped, collected]
    required: true
  results:
    description:
      - Name of a result to the name of the variable under which a task registered it.
      - V(preflight) needs C(fingerprint), C(listener), C(probe) and C(marker), and takes C(controller_inputs) and
        C(differences); V(data) needs C(fingerprint) and takes C(controller_inputs); V(storage) C(step) and C(marker);
        V(run) and V(status) need C(evidence); the others need C(step).
    type: dict
    required: true
  plan:
    description: The launch plan.
    type: dict
"""

EXAMPLES = r"""
- name: Judge the fleet
  gpufleet.axolotl.fleet_findings:
    rules: preflight
    plan: "{{ gpufleet_plan.plan }}"
    results:
      fingerprint: _preflight_fingerprint
      listener: _preflight_listener
      probe: _preflight_probe
  run_once: true
  register: preflight_judgement
"""

RETURN = r"""
findings:
  description: What is wrong (id, severity, hosts, expected, found, remedy).
  returned: always
  type: list
  elements: dict
evidence:
  description: What was found, for the artifact; its keys depend on the rules.
  returned: always
  type: dict
plan:
  description:
    - The launch plan, completed with what could be derived from the nodes (C(derived) of each, which is part of its
      environment then).
  returned: with the rules V(preflight)
  type: dict
"""
