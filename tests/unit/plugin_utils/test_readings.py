# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unreachable, failed and left-out nodes are findings; nobody drops out silently."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import readings


def rules_of(results: dict[str, Any]) -> list[tuple[str, tuple[str, ...], str]]:
    read = readings.read(results, "value", "reading the node")
    return [(finding.id, finding.hosts, finding.found) for finding in read.findings]


def test_what_every_node_returned() -> None:
    read = readings.read({"node0": {"value": {"a": 1}}, "node1": {"value": None}}, "value", "reading")
    assert read.values == {"node0": {"a": 1}, "node1": None}
    assert read.findings == []


def test_each_kind_of_failure_is_one_finding() -> None:
    results = {
        "node0": {"value": 1},
        "node1": {"unreachable": True, "msg": "ssh: connect to host node1: timed out\nmore"},
        "node2": {"failed": True, "msg": "no python"},
        "node3": {"failed": True, "value": 1, "msg": "no python"},
        "node4": {"failed": True, "module_stderr": "Traceback\n..."},
        "node5": {"changed": False},
        "node6": None,
    }
    assert rules_of(results) == [
        ("unreachable", ("node1",), "ssh: connect to host node1: timed out more"),
        ("module_failed", ("node2", "node3"), "no python"),
        ("module_failed", ("node4",), "Traceback ..."),
        ("module_failed", ("node5",), "no message"),
        ("limited", ("node6",), "left out by --limit"),
    ]
    assert list(readings.read(results, "value", "reading").values) == ["node0"]


def test_nodes_that_fail_in_the_same_way_share_a_finding() -> None:
    results = {f"node{number}": {"unreachable": True, "msg": "no route"} for number in range(3)}
    assert rules_of(results) == [("unreachable", ("node0", "node1", "node2"), "no route")]


def test_a_long_message_is_cut_and_an_empty_one_is_named() -> None:
    assert len(rules_of({"node0": {"failed": True, "msg": "x" * 9999}})[0][2]) == 300
    assert rules_of({"node0": {"failed": True, "msg": " \n "}})[0][2] == "no message"


def test_the_frame_of_a_warning_is_left_out() -> None:
    frame = "@" * 59
    message = f"{frame}\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n{frame}\nIT IS POSSIBLE"
    ((_unused, _unused, found),) = rules_of({"node0": {"unreachable": True, "msg": message}})
    assert "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!" in found
    assert found.endswith("IT IS POSSIBLE")
    assert "@@@" not in found
