# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the nodes found when they dialled each other, by their positions in the order of the plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import number_ranges

from .findings import names, some
from .mesh_blame import Blame, Pairs, blame, both_ways

Plan = Mapping[str, Any]
Results = Mapping[str, Mapping[str, Any]]

SHOWN = 5
"""Groups of pairs that a finding names; the further ones are counted."""


class Mesh:
    """The results by positions.

    Args:
        plan: the launch plan.
        listeners: node to what port_listener returned.
        probes: node to ``mesh`` of port_probe.
    """

    def __init__(self, plan: Plan, listeners: Results, probes: Results) -> None:
        self.plan = plan
        self.probes = probes
        self.order = list(plan["nodes"])
        self.position = {node: position for position, node in enumerate(self.order)}
        self.machines = [plan["nodes"][node]["machine"] for node in self.order]
        self.sources = {self.position[node] for node in probes}
        self.listening = {self.position[node] for node, found in listeners.items() if found.get("listening")}

    def names_of(self, positions: Iterable[int]) -> tuple[str, ...]:
        return tuple(self.order[position] for position in sorted(positions))

    def failed(self) -> dict[str, dict[int, set[int]]]:
        """Outcome to the pairs of which it came."""
        found: dict[str, dict[int, set[int]]] = {}
        for node, probe in self.probes.items():
            for said, positions in probe["failed"].items():
                found.setdefault(said, {})[self.position[node]] = set(number_ranges.unpack(positions))
        return found

    def afar(self, name: str) -> dict[str, dict[int, list[int]]]:
        """Node to value to those positions on other machines of which the probe says it (`paths`, `interfaces`)."""
        found: dict[str, dict[int, list[int]]] = {}
        for node, probe in self.probes.items():
            machine = self.machines[self.position[node]]
            for value, packed in probe[name].items():
                positions = [each for each in number_ranges.unpack(packed) if self.machines[each] != machine]
                if positions:
                    found.setdefault(node, {})[int(value)] = positions
        return found

    def blame(self, pairs: Pairs) -> Blame:
        """Whom the failed pairs point at, and in which direction."""
        return blame(pairs, self.sources, self.listening, self.machines)

    def blame_ends(self, pairs: Pairs) -> tuple[list[int], dict[int, set[int]]]:
        """The same for what belongs to a path and not to a direction.

        Returns:
            The nodes to which all paths are bad, and what is left: each pair once, by its first node.
        """
        found = self.blame(both_ways(pairs))
        ends = {*found.incoming, *found.outgoing}
        left = {
            source: {target for target in row if source < target} - ends
            for source, row in found.pairs.items()
            if source not in ends
        }
        return sorted(ends), {source: row for source, row in left.items() if row}

    def both_ends(self, pairs: Pairs) -> tuple[str, ...]:
        """Every node of the pairs."""
        return self.names_of({*pairs, *(target for row in pairs.values() for target in row)})

    def shown(self, pairs: Pairs, arrow: str = "->") -> str:
        """Pairs for people; sources with the same targets stand together."""
        sources: dict[frozenset[int], list[int]] = {}
        for source, row in sorted(pairs.items()):
            sources.setdefault(frozenset(row), []).append(source)
        groups = [
            f"{names(self.names_of(group), 3)} {arrow} {names(self.names_of(row), 3)}" for row, group in sources.items()
        ]
        return some(groups, SHOWN)
