# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a row is held against a fleet: who is taken to be right, within which nodes, and what goes unsaid."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.fleets import plan_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.rule_table import AT_LEAST, EQUAL_IN_GROUP, Row, examine

ROW = Row("speed", "speed", lambda fingerprint: fingerprint["speed"], "make it the same")


def fleet(
    *speeds: Any, groups: tuple[str, ...] = (), **parity: Any
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """A plan and the fingerprints of nodes with these speeds."""
    plan = plan_of(len(speeds))
    plan["parity"].update(parity)
    for node, group in zip(plan["nodes"], groups, strict=False):
        plan["nodes"][node]["group"] = group
    return plan, {node: {"speed": speed} for node, speed in zip(plan["nodes"], speeds, strict=True)}


def found(row: Row, plan: Any, prints: Any, **options: Any) -> dict[tuple[str, ...], tuple[str, str]]:
    """Hosts of each finding to what was expected and found."""
    findings, _agreed = examine([row], plan, prints, **options)
    return {finding.hosts: (finding.expected, finding.found) for finding in findings}


def test_most_are_right_and_the_outlier_is_named_with_both_values() -> None:
    assert found(ROW, *fleet(1, 2, 2)) == {("node0",): ("speed 2, as on node1, node2", "speed 1")}


def test_the_head_is_right_where_it_is_the_reference() -> None:
    expected = {("node1", "node2"): ("speed 1, as on node0", "speed 2")}
    assert found(ROW, *fleet(1, 2, 2, reference="head")) == expected


def test_a_head_that_was_not_read_leaves_it_to_the_majority() -> None:
    assert list(found(ROW, *fleet(None, 1, 2, 2, reference="head"))) == [("node1",)]


@pytest.mark.parametrize("pinned", [3, "3"])
def test_a_pinned_value_is_right_whatever_the_nodes_have(pinned: Any) -> None:
    assert found(ROW, *fleet(2, 2, pinned={"speed": pinned})) == {("node0", "node1"): ("speed 3", "speed 2")}
    assert found(ROW, *fleet(3, 3, pinned={"speed": pinned})) == {}


def test_a_pinned_list_equals_what_was_read_as_a_tuple() -> None:
    assert found(ROW, *fleet((1, 2), (1, 2), pinned={"speed": [1, 2]})) == {}
    assert list(found(ROW, *fleet((1, 2), (1, 2), pinned={"speed": [2, 1]}))) == [("node0", "node1")]


def test_what_was_recorded_breaks_a_tie_but_does_not_outvote_most() -> None:
    recorded = {"": {"speed": 2}}
    assert list(found(ROW, *fleet(1, 2), recorded=recorded)) == [("node0",)]
    assert list(found(ROW, *fleet(1, 1, 2), recorded=recorded)) == [("node2",)]


def test_groups_are_compared_each_by_itself_where_the_row_says_so() -> None:
    plan, prints = fleet(1, 1, 1, 2, 2, 3, groups=("a", "a", "a", "b", "b", "b"))
    grouped = Row("speed", "speed", ROW.read, "x", EQUAL_IN_GROUP)
    assert found(grouped, plan, prints) == {("node5",): ("speed 2, as on node3, node4", "speed 3")}
    assert set(found(ROW, plan, prints)) == {("node3", "node4"), ("node5",)}


def test_what_nodes_agree_on_is_told_by_group() -> None:
    plan, prints = fleet(1, 1, 2, 2, groups=("a", "a", "b", "b"))
    other = Row("other", "other", ROW.read, "x")
    findings, agreed = examine([Row("speed", "speed", ROW.read, "x", EQUAL_IN_GROUP), other], plan, prints)
    assert [finding.id for finding in findings] == ["other"]
    assert agreed == {"a": {"speed": 1}, "b": {"speed": 2}}


def test_a_node_without_a_value_is_not_compared() -> None:
    assert found(ROW, *fleet(None, 1, 1)) == {}
    assert examine([ROW], *fleet(None, None)) == ([], {})


def test_at_least() -> None:
    row = Row("speed", "a speed of", ROW.read, "x", AT_LEAST, wanted=lambda _plan: 5)
    expected = ("at least a speed of 5", "a speed of 4")
    assert found(row, *fleet(5, 4, 6, 4)) == {("node1", "node3"): expected}
    assert found(row, *fleet(5, 4, pinned={"speed": 4})) == {}


def test_a_consequence_goes_unsaid_where_its_cause_was_said() -> None:
    row = Row("speed", "speed", ROW.read, "x", behind=("engine",))
    cause = Finding("engine", ("node2",), "", "", "")
    assert found(row, *fleet(1, 1, 2), earlier=[cause]) == {}
    assert list(found(row, *fleet(1, 2, 2, 2), earlier=[cause])) == [("node0",)]


def test_a_row_may_stand_behind_one_above_it() -> None:
    plan, prints = fleet(1, 1, 2)
    findings, _agreed = examine([ROW, Row("echo", "echo", ROW.read, "x", behind=("speed",))], plan, prints)
    assert [finding.id for finding in findings] == ["speed"]


@given(st.lists(st.sampled_from([None, 1, 2, (1, 2)]), min_size=1, max_size=8), st.randoms())
def test_the_order_of_the_hosts_does_not_matter(speeds: list[Any], random: Any) -> None:
    plan, prints = fleet(*speeds)
    shuffled = list(prints.items())
    random.shuffle(shuffled)
    findings, agreed = examine([ROW], plan, prints)
    others, also = examine([ROW], plan, dict(shuffled))
    assert {(frozenset(one.hosts), one.found) for one in findings} == {
        (frozenset(one.hosts), one.found) for one in others
    }
    assert agreed == also
