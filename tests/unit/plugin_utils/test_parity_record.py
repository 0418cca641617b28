# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The golden record says what has changed on all nodes, and what is no record is said to be none."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.fleets import plan_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.parity_record import InvalidRecord, drift, read, written

AGREED: dict[str, dict[str, Any]] = {
    "": {"python": "3.11.7", "nccl_settings": (("NCCL_DEBUG", "WARN"),)},
    "h100": {"driver": "580"},
}


def found(recorded: Any, agreed: Any) -> list[tuple[str, tuple[str, ...], str, str]]:
    plan = plan_of(3)
    plan["nodes"]["node2"]["group"] = "h100"
    return [(one.id, one.hosts, one.expected, one.found) for one in drift(plan, "parity.json", recorded, agreed)]


def test_what_was_written_reads_as_no_drift() -> None:
    assert found(read(written(AGREED)), AGREED) == []


def test_drift_names_both_values_and_the_nodes_of_the_group() -> None:
    now = {"": {**AGREED[""], "python": "3.11.9"}, "h100": {"driver": "590"}}
    assert found(read(written(AGREED)), now) == [
        ("drift", ("node0", "node1", "node2"), "python 3.11.7, as recorded", "python 3.11.9"),
        ("drift", ("node2",), "driver 580, as recorded", "driver 590"),
    ]


def test_what_nodes_differ_in_or_was_not_recorded_is_no_drift() -> None:
    assert found(read(written(AGREED)), {"": {"torch": "2.13.0"}, "a100": {"driver": "590"}}) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"version": 2, "agreed": {}}', '{"version": 1, "agreed": {"": 1}}']
)
def test_what_is_no_record(text: str) -> None:
    with pytest.raises(InvalidRecord):
        read(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)


@given(
    st.text()
    | JSON.map(json.dumps)
    | st.dictionaries(st.text(), JSON).map(lambda x: json.dumps({"version": 1, "agreed": x}))
)
def test_a_hostile_record_is_one_or_is_none(text: str) -> None:
    with contextlib.suppress(InvalidRecord):
        found(read(text), AGREED)
