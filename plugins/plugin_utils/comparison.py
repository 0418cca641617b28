# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares one value over all nodes, once: who has which, and who differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple, TypeVar

Value = TypeVar("Value", bound=Hashable)


class Outliers(NamedTuple):
    """What most (or the inventory) say, and who says otherwise."""

    expected: object
    found: dict[object, list[str]]


def by_value(found: Iterable[tuple[str, Value]]) -> dict[Value, tuple[str, ...]]:
    """Each value with the nodes that have it, of pairs of a node and a value; both in the order in which they come."""
    nodes_of: dict[Value, list[str]] = {}
    for node, value in found:
        nodes_of.setdefault(value, []).append(node)
    return {value: tuple(nodes) for value, nodes in nodes_of.items()}


def outliers(
    values: Mapping[str, Value],
    head: str,
    pinned: Value | None = None,
    favoured: Value | None = None,
    follow_head: bool = False,
) -> Outliers:
    """Name the nodes whose value is not the expected one.

    Args:
        values: node to value, in rank order.
        head: the node whose value wins a tie that `favoured` is not part of.
        pinned: the expected value where the inventory gives one; else the majority's is expected.
        favoured: the value that wins a tie before the head's.
        follow_head: expect the head's value, where it has one, whatever the majority's is.

    Returns:
        The expected value, and each other value with its nodes, independent of the order of `values`.
    """
    expected: object = pinned
    if pinned is None and follow_head and head in values:
        expected = values[head]
    elif pinned is None:
        counts = Counter(values.values())
        most = max(counts.values(), default=0)
        candidates = [value for value, count in counts.items() if count == most]
        if favoured in candidates:
            expected = favoured
        else:
            expected = values[head] if values.get(head) in candidates else min(candidates, key=repr, default=None)
    found: dict[object, list[str]] = {}
    for host, value in values.items():
        if value != expected:
            found.setdefault(value, []).append(host)
    return Outliers(expected, found)
