# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A smoke run: a few steps of the very training, to say go or no-go before it is started for days."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from .findings import Finding

STEPS = 2
"""The second shows that the first step's update went through; at the last one transformers writes a checkpoint."""
FOLDER = "smoke"
"""Below the work folder, for what smoke runs write; each has a folder of its own there, which is removed again."""
VERBOSE = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,BOOTSTRAP,ENV,NET"}
"""Has NCCL say who joined which communicator over which network. Too much for production."""
HOUR = 3600.0


def overrides(known: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """The overrides of a smoke run: short, every loss logged, and what it writes apart from the training's own."""
    return {**known, "max_steps": STEPS, "logging_steps": 1, "output_dir": f"./{FOLDER}/{run_id}"}


def what(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What a smoke run proves something about: the same release, config, nodes and launcher."""
    return {
        "release_id": plan["release_id"],
        "config_sha256": plan["config"]["sha256"],
        "launcher": plan["launcher"],
        "nodes": list(plan["nodes"]),
    }


def passed(plan: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The record of a smoke run that passed, at a time in seconds since 1970."""
    return {**what(plan), "run_id": plan["run_id"], "at": now}


def demanded(plan: Mapping[str, Any], records: Sequence[Mapping[str, Any]], hours: int, now: float) -> list[Finding]:
    """Whether a smoke run that is young enough has passed.

    Args:
        plan: of the launch; with launcher `auto` the launcher does not count.
        records: of smoke runs that passed.
        hours: within which one must have passed; 0 where none is demanded.
        now: seconds since 1970.
    """
    if not hours or plan["smoke"]:
        return []
    wanted = what(plan)
    if wanted["launcher"] == "auto":
        del wanted["launcher"]
    same = [record for record in records if {name: record.get(name) for name in wanted} == wanted]
    newest = max((float(record.get("at") or 0) for record in same), default=None)
    if newest is not None and now - newest <= hours * HOUR:
        return []
    found = "none" if newest is None else f"the last one passed {time.strftime('%F %R UTC', time.gmtime(newest))}"
    expected = f"a smoke run of this release and config on these nodes within {hours} h (axolotl_require_smoke)"
    return [Finding("smoke_missing", (), expected, found, "launch with -e smoke=true first")]
