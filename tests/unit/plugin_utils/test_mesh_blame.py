# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pattern of failed pairs points at a node only where it must be that one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.mesh_blame import Blame, blame, both_ways


def judge(failed: dict[int, set[int]], size: int, machines: list[int] | None = None) -> Blame:
    everybody = set(range(size))
    return blame(failed, everybody, everybody, machines or list(range(size)))


def test_nothing_failed() -> None:
    assert judge({}, 5) == ([], [], {})


@pytest.mark.parametrize(
    ("failed", "incoming", "outgoing", "pairs"),
    [
        ({0: {2}, 1: {2}, 3: {2}}, [2], [], {}),
        ({2: {0, 1, 3}}, [], [2], {}),
        ({0: {2}, 1: {2}, 3: {2}, 2: {0, 1, 3}}, [2], [2], {}),
        ({0: {2}}, [], [], {0: {2}}),
        ({0: {2}, 2: {0}}, [], [], {0: {2}, 2: {0}}),
        ({0: {2}, 1: {2}}, [], [], {0: {2}, 1: {2}}),  # the third one came through
        ({0: {2, 3}, 1: {2, 3}, 2: {3}, 3: {2}}, [2, 3], [], {}),
        ({0: {1, 2}, 1: {2}, 3: {2}}, [2], [], {0: {1}}),
        ({0: {2, 3}, 1: {2, 3}, 2: {0, 1}, 3: {0, 1}}, [], [], {0: {2, 3}, 1: {2, 3}, 2: {0, 1}, 3: {0, 1}}),
        ({0: {1, 2, 3}, 1: {0, 2, 3}, 2: {0, 1, 3}, 3: {0, 1, 2}}, [0, 1, 2, 3], [], {}),
    ],
    ids=["in", "out", "isolated", "pair", "pair both ways", "two of three", "two in", "in and pair", "split", "all"],
)
def test_of_four_nodes(failed: dict[int, set[int]], incoming: list[int], outgoing: list[int], pairs: object) -> None:
    assert judge(failed, 4) == (incoming, outgoing, pairs)


@pytest.mark.parametrize("failed", [{0: {1}}, {1: {0}}, {0: {1}, 1: {0}}])
def test_of_two_nodes_nobody_can_tell_which_end_it_is(failed: dict[int, set[int]]) -> None:
    assert judge(failed, 2) == ([], [], failed)


def test_a_neighbour_on_the_same_machine_proves_nothing_of_the_network() -> None:
    machines = [0, 0, 1, 2]  # 0 and 1 share a machine, and reach each other within it
    assert judge({2: {0}, 3: {0}}, 4, machines).incoming == [0]
    assert judge({0: {2, 3}}, 4, machines).outgoing == [0]


def test_who_did_not_dial_is_not_counted() -> None:
    assert blame({0: {3}, 1: {3}}, {0, 1, 3}, {0, 1, 2, 3}, [0, 1, 2, 3]).incoming == [3]


def test_who_does_not_listen_is_not_counted() -> None:
    assert blame({3: {0, 1}}, {0, 1, 2, 3}, {0, 1, 3}, [0, 1, 2, 3]).outgoing == [3]


def test_both_ways() -> None:
    assert both_ways({0: {1, 2}, 2: {0}}) == {0: {1, 2}, 1: {0}, 2: {0}}


@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda pair: pair[0] != pair[1])))
def test_every_failed_pair_is_explained_and_no_other(edges: set[tuple[int, int]]) -> None:
    failed: dict[int, set[int]] = {}
    for source, target in edges:
        failed.setdefault(source, set()).add(target)
    found = judge(failed, 8)
    explained = {(source, node) for node in found.incoming for source in range(8) if source != node}
    assert explained <= edges
    for node in found.outgoing:
        explained |= {(node, target) for target in range(8) if target != node and target not in found.incoming}
    assert explained <= edges
    explained |= {(source, target) for source, row in found.pairs.items() for target in row}
    assert explained == edges
