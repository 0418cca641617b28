#!/usr/bin/python
# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: verdict
short_description: Write the verdict of a verb and fail the play when it is a fail
version_added: "0.1.0"
description:
  - Keeps C(<verb>.json) in the folder C(gpufleet_artifacts_dir) (default C(artifacts) under the folder from which the
    command is run). It is written first as an unfinished fail, which it stays when the command is interrupted.
  - Shows the findings and the verdict, and fails the play when one of them is an error.
author:
  - gpufleet.axolotl contributors (@gpufleet)
extends_documentation_fragment:
  - gpufleet.axolotl.attributes.fleet_action
attributes:
  check_mode:
    support: full
    description: The artifact is written and says that it comes from check mode.
options:
  verb:
    description: The verb whose verdict it is.
    type: str
    required: true
  state:
    description:
      - V(begun) starts the artifact. V(gate) closes it when there are errors and else lets the verb go on. V(final)
        closes it.
    type: str
    choices: [begun, gate, final]
    required: true
  findings:
    description: Findings to add.
    type: list
    elements: dict
    default: []
  plan:
    description: The launch plan.
    type: dict
  evidence:
    description: Evidence to add.
    type: dict
    default: {}
  unfinished:
    description: Whether what was started goes on, so that this is not the last word.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Conclude
  gpufleet.axolotl.verdict:
    verb: launch
    state: final
    findings: "{{ judgement.findings }}"
    evidence: "{{ judgement.evidence }}"
  run_once: true
"""

RETURN = r"""
artifact:
  description: Path of the artifact.
  returned: always
  type: str
"""
