# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a launch plan says of the training itself: how many samples make a step, and what a choice of sharding costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from . import rules_fsdp, training_config


def notes(plan: Mapping[str, Any], fingerprints: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sentences to be shown with the plan."""
    return [note for note in (_batch(plan), rules_fsdp.unsharded(plan, fingerprints)) if note]


def _batch(plan: Mapping[str, Any]) -> str:
    factors = training_config.samples_per_step(plan)
    if not factors:
        return ""
    names = " x ".join(factors)
    if factors["world_size"] != plan["world_size"]:
        names += " / tensor_parallel_size / context_parallel_size"
    product = " x ".join(map(str, factors.values()))
    return f"{product} = {math.prod(factors.values())} samples in each step ({names})"
