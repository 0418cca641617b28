# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules say of check mode and of where they run, in the words that several share."""

from __future__ import annotations


class ModuleDocFragment:
    """`gpufleet.axolotl.attributes.read_only` and `.fleet_action`."""

    READ_ONLY = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: It changes nothing.
  diff_mode:
    support: none
    description: It changes nothing.
"""

    FLEET_ACTION = r"""
options: {}
attributes:
  action:
    support: full
    description: It runs on the controller alone.
  bypass_host_loop:
    support: full
    description: It runs once and sees every host of the inventory group C(axolotl_nodes).
  diff_mode:
    support: none
    description: It changes nothing on a node.
"""
