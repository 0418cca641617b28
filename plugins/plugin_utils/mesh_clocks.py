# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the clocks agree, from what the nodes read of each other's when they dialled."""

from __future__ import annotations

from collections.abc import Iterator

from .findings import Finding
from .mesh_view import Mesh, Plan, Results

MAX_DIFFERENCE = 1.0
"""Seconds; more makes the logs of two nodes contradict each other about what came first."""


def offsets(plan: Plan, probes: Results) -> dict[str, tuple[float, float]]:
    """Seconds by which each node's clock is ahead of the head's, and by how much that can be wrong.

    Most nodes have read the head's own; the others are compared by way of nodes that both have read.
    """
    order = list(plan["nodes"])
    edges: dict[str, list[tuple[str, float, float]]] = {}
    for node, probe in probes.items():
        for position, offset, error in probe["clocks"]:
            edges.setdefault(node, []).append((order[position], offset, error))
            edges.setdefault(order[position], []).append((node, -offset, error))
    found = {plan["head"]: (0.0, 0.0)} if plan["head"] in edges else {}
    queue = list(found)
    for node in queue:  # it grows meanwhile: breadth first, so that few errors add up
        ahead, unsure = found[node]
        for other, offset, error in edges.get(node, ()):
            if other not in found:
                found[other] = (ahead + offset, unsure + error)
                queue.append(other)
    return found


def examine(mesh: Mesh) -> Iterator[Finding]:
    """Nodes whose clock is too far from the median, by more than the reading can be wrong."""
    known = offsets(mesh.plan, mesh.probes)
    ahead = sorted(offset for offset, _error in known.values())
    if not ahead:
        return
    # Of an even number the middle one that is nearer to the head's: of two nodes, the head is taken to be right.
    middle = min(ahead[(len(ahead) - 1) // 2], ahead[len(ahead) // 2], key=abs)
    wrong = {
        node: offset - middle
        for node, (offset, error) in sorted(known.items(), key=lambda item: mesh.position[item[0]])
        if abs(offset - middle) - error > MAX_DIFFERENCE
    }
    if wrong:
        shown = ", ".join(f"{node} {offset:+.1f} s" for node, offset in list(wrong.items())[:8])
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        yield Finding(
            "clock_offset",
            tuple(wrong),
            f"clocks within {MAX_DIFFERENCE:.0f} s of the fleet's median",
            shown + more,
            "have chrony or systemd-timesyncd set the clocks from one source; see chronyc tracking or timedatectl",
        )
