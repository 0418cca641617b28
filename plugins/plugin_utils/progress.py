# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run is doing, in one line, from the head's view of all nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from .findings import names


def line(watch: Mapping[str, Any], seconds: float) -> str:
    """One line of progress.

    Args:
        watch: the head's view (nodes with phase, step, loss ...; order and reason).
        seconds: since when it is followed.
    """
    nodes = watch.get("nodes", {})
    phases = Counter(node["phase"] for node in nodes.values())
    parts = [f"{int(seconds) // 3600:02}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"]
    speaker: Mapping[str, Any] = max(nodes.values(), key=lambda node: node.get("step") or 0, default={})
    if speaker.get("total_steps"):
        parts.append(f"step {speaker['step']}/{speaker['total_steps']}")
    loss = next((node["loss"] for node in nodes.values() if node.get("loss") is not None), None)
    if loss is not None:
        parts.append(f"loss {loss:g}")
    parts.append(", ".join(f"{count} of {len(nodes)} nodes {phase}" for phase, count in sorted(phases.items())))
    waiting = [name for name, node in nodes.items() if node["phase"] == "joining" and node.get("silent_for") is None]
    if waiting and len(waiting) < len(nodes):
        parts.append(f"waiting for {names(waiting)}")
    silent = [name for name, node in nodes.items() if (node.get("silent_for") or 0) > 5 and node["phase"] != "ended"]
    if silent:
        parts.append(f"nothing heard of {names(silent)}")
    if watch.get("reason"):
        parts.append(f"ending: {watch['reason']}")
    return "  ".join(parts)


def has_ended(watch: Mapping[str, Any]) -> bool:
    """Whether every node's part has ended."""
    nodes = watch.get("nodes", {})
    return bool(nodes) and all(node["phase"] == "ended" for node in nodes.values())
