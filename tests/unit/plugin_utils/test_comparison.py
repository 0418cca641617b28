# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who differs: the majority is right, in a tie the head is, and a pinned value always is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.comparison import Outliers, outliers

NODES = st.dictionaries(st.sampled_from([f"node{number}" for number in range(9)]), st.sampled_from("abc"), max_size=9)


def unordered(result: Outliers) -> tuple[object, dict[object, list[str]]]:
    return result.expected, {value: sorted(nodes) for value, nodes in result.found.items()}


def test_equal_values_have_no_outliers() -> None:
    assert outliers({"a": 1, "b": 1}, head="a") == Outliers(1, {})
    assert outliers({}, head="a") == Outliers(None, {})


def test_the_majority_is_right_even_against_the_head() -> None:
    assert outliers({"a": 1, "b": 2, "c": 2}, head="a") == Outliers(2, {1: ["a"]})


def test_in_a_tie_the_head_is_right() -> None:
    assert outliers({"a": 1, "b": 2}, head="a") == Outliers(1, {2: ["b"]})
    assert outliers({"a": 1, "b": 2}, head="b") == Outliers(2, {1: ["a"]})


def test_a_tie_without_the_head_is_still_decided_the_same_way() -> None:
    assert outliers({"a": 1, "b": 2, "c": 3, "d": 2, "e": 3}, head="a").expected == 2
    assert outliers({"e": 3, "d": 2, "c": 3, "b": 2, "a": 1}, head="a").expected == 2


def test_all_can_be_wrong_against_a_pinned_value() -> None:
    assert outliers({"a": 1, "b": 1, "c": 2}, head="a", pinned=3) == Outliers(3, {1: ["a", "b"], 2: ["c"]})
    assert outliers({"a": 3}, head="a", pinned=3) == Outliers(3, {})


@given(NODES, st.randoms(), st.sampled_from([None, "a", "d"]))
def test_the_order_of_the_nodes_does_not_matter(values: dict[str, str], random: object, pinned: str | None) -> None:
    shuffled = list(values.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert unordered(outliers(dict(shuffled), "node0", pinned)) == unordered(outliers(values, "node0", pinned))


@given(NODES, st.sampled_from([None, "a", "d"]))
def test_every_node_is_either_as_expected_or_named_once(values: dict[str, str], pinned: str | None) -> None:
    result = outliers(values, "node0", pinned)
    named = [node for nodes in result.found.values() for node in nodes]
    assert sorted(named) == sorted(node for node, value in values.items() if value != result.expected)
    for value, nodes in result.found.items():
        assert all(values[node] == value for node in nodes)
    if pinned is None and values:
        assert len(named) <= len(values) - max(list(values.values()).count(value) for value in "abc")
