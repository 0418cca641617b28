# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `axolotl_launcher: auto` becomes, when preflight has told what carries the training."""

from __future__ import annotations

from typing import Any

from . import data_network, launch_plan, launchers
from .data_network import Fingerprints, Plan


def chosen(plan: Plan, fingerprints: Fingerprints) -> dict[str, Any]:
    """The plan with a launcher that is one, and `launcher_reason`, why it is this one; empty where it was asked for."""
    if plan["launcher"] != launchers.AUTO:
        return {**plan, "launcher_reason": ""}
    fabric = data_network.fabric(plan, fingerprints)
    head = fingerprints.get(plan["head"])
    if head and launchers.OPTION in head["release"]["unknown_options"]:
        name, reason = "torchrun_legacy", f"this commit's axolotl train has no {launchers.OPTION}"
    elif plan["rendezvous"] == "c10d":
        name, reason = "torchrun", "axolotl_rendezvous is c10d"
    elif any(fabric.usable.values()):
        name, reason = "torchrun", f"the training goes over {fabric.name}"
    else:
        name, reason = "accelerate", "the training goes over plain Ethernet"
    nodes = {
        node: {
            **part,
            "start": {**part["start"], "launcher": name, **launchers.start(name, launch_plan.job(plan, part))},
        }
        if part["start"]
        else part
        for node, part in plan["nodes"].items()
    }
    return {**plan, "launcher": name, "launcher_reason": f"auto: {reason}", "nodes": nodes}
