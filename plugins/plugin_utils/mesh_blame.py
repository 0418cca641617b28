# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a pattern of failed pairs points at: a million pairs can fail, and mostly do for one reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence, Set
from typing import NamedTuple

Pairs = Mapping[int, Set[int]]
"""Source to the targets, as positions in the order of the plan."""


class Blame(NamedTuple):
    """Where the fault is.

    Attributes:
        incoming: nodes to which nobody comes through.
        outgoing: nodes that come through to nobody.
        pairs: what is explained by neither.
    """

    incoming: list[int]
    outgoing: list[int]
    pairs: dict[int, set[int]]


def blame(failed: Pairs, sources: Set[int], targets: Set[int], machines: Sequence[Hashable]) -> Blame:
    """Find the nodes that explain the failed pairs.

    A node is blamed when all its pairs with other machines failed, and these are at least two: of a single pair nobody
    can tell which end is at fault. What comes in is looked at first, for that is what firewalls mostly refuse.

    Args:
        failed: the pairs that failed.
        sources: who dialled.
        targets: who could be dialled.
        machines: for each position the machine, since nodes that share one don't need a network to meet.
    """
    dialling = Counter(machines[source] for source in sources)
    came = Counter(target for source, row in failed.items() for target in row if machines[source] != machines[target])
    incoming = [
        target
        for target in sorted(targets)
        if came[target] >= 2 and came[target] == len(sources) - dialling[machines[target]]
    ]
    blamed = set(incoming)
    left = targets - blamed
    dialled = Counter(machines[target] for target in left)
    outgoing, pairs = [], {}
    for source, row in sorted(failed.items()):
        remaining = set(row) - blamed
        afar = sum(machines[source] != machines[target] for target in remaining)
        if afar >= 2 and afar == len(left) - dialled[machines[source]]:
            outgoing.append(source)
        elif remaining:
            pairs[source] = remaining
    return Blame(incoming, outgoing, pairs)


def both_ways(pairs: Pairs) -> dict[int, set[int]]:
    """The pairs with each one's opposite, for what belongs to the path and not to a direction."""
    found: dict[int, set[int]] = {}
    for source, row in pairs.items():
        for target in row:
            found.setdefault(source, set()).add(target)
            found.setdefault(target, set()).add(source)
    return found
