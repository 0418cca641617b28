# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node found when it dialled all others, in a few hundred bytes whatever their number is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from . import mesh_protocol as protocol
from . import number_ranges

CLOCKS = 8
"""Clocks reported of those that were read: one would do, were it sure that this one is reached by all others too."""


class Outcome(NamedTuple):
    """What came of dialling one port.

    Attributes:
        position: the other node's, in the order of the plan.
        port: the port that was dialled.
        first: whether this is the node's first port, over which the bulk travels and by which the path is judged.
        said: V(reached), or why not.
        mtu: bytes in the largest packet that the path takes, as far as both ends know; 0 where unknown.
        interface: the same of the interface on this side.
        offset: seconds by which the other clock is ahead of this one; None where it was not read.
        error: by how many seconds `offset` can be wrong: half a round trip.
    """

    position: int
    port: int
    first: bool
    said: str
    mtu: int = 0
    interface: int = 0
    offset: float | None = None
    error: float = 0.0


def summarise(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Group the outcomes.

    Returns:
        ``reached`` (count of nodes), ``failed`` (outcome to the nodes, packed), ``ports`` (outcome of each further
        port), ``paths`` and ``interfaces`` (MTU of the path, and on this side, to the nodes, packed), ``clocks``
        ([position, offset, error] of the first CLOCKS nodes).
    """
    first, ports = [], {}
    for outcome in outcomes:
        if outcome.first:
            first.append(outcome)
        else:
            ports[str(outcome.port)] = outcome.said
    failed: dict[str, list[int]] = {}
    paths: dict[str, list[int]] = {}
    interfaces: dict[str, list[int]] = {}
    for outcome in first:
        if outcome.said != protocol.REACHED:
            failed.setdefault(outcome.said, []).append(outcome.position)
        elif outcome.mtu:
            paths.setdefault(str(outcome.mtu), []).append(outcome.position)
        if outcome.interface:
            interfaces.setdefault(str(outcome.interface), []).append(outcome.position)
    read = sorted((each.position, each.offset, each.error) for each in first if each.offset is not None)
    return {
        "reached": len(first) - sum(map(len, failed.values())),
        "failed": _packed(failed),
        "ports": ports,
        "paths": _packed(paths),
        "interfaces": _packed(interfaces),
        "clocks": [[position, round(offset, 4), round(error, 4)] for position, offset, error in read[:CLOCKS]],
    }


def _packed(groups: dict[str, list[int]]) -> dict[str, str]:
    return {name: number_ranges.pack(positions) for name, positions in groups.items()}
