# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the modules that deal with a recorded run are told which one."""

from __future__ import annotations


class ModuleDocFragment:
    """`gpufleet.axolotl.run`."""

    DOCUMENTATION = r"""
options:
  runs:
    description: Absolute path of the folder with this node's runs.
    type: path
    required: true
"""
