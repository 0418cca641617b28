# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the nodes' storage is what the inventory says, from who sees a marker."""

from __future__ import annotations

from typing import Any

import pytest
from unit.fleets import plan_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import rules_storage


def look(seen: bool, **changes: Any) -> dict[str, Any]:
    """What a node sees of the folder."""
    found = {"root": "/opt/axolotl", "exists": True, "seen": seen, "writable": True, "owner": 1000, "uid": 1000}
    return {**found, "file_system": "nfs4 store:/export", **changes}


def judged(storage: str, *nodes: dict[str, Any]) -> list[tuple[str, tuple[str, ...]]]:
    plan = plan_of(3, storage=storage)
    seen = {f"node{number}": found for number, found in enumerate(nodes)}
    return [(finding.id, finding.hosts) for finding in rules_storage.examine(plan, seen)]


def test_storage_that_is_as_declared() -> None:
    assert judged("shared", look(True), look(True), look(True)) == []
    assert judged("local", look(True), look(False), look(False)) == []


def test_a_node_that_does_not_see_the_marker_is_named() -> None:
    assert judged("shared", look(True), look(False), look(True)) == [("storage_not_shared", ("node1",))]


def test_nodes_are_told_apart_by_what_they_see_instead() -> None:
    found = judged("shared", look(True), look(False, file_system="ext4 /dev/sda1"), look(False, exists=False))
    assert found == [("storage_not_shared", ("node1",)), ("storage_not_shared", ("node2",))]


def test_a_node_that_sees_what_it_should_not_is_named() -> None:
    assert judged("local", look(True), look(False), look(True)) == [("storage_is_shared", ("node2",))]


def test_an_account_of_another_uid_is_named() -> None:
    assert judged("shared", look(True), look(True, writable=False, uid=1001), look(True)) == [
        ("storage_not_writable", ("node1",))
    ]


@pytest.mark.parametrize(
    ("storage", "result", "expected"),
    [
        ("shared", {"marker": "x", "problem": ""}, []),
        ("shared", {"marker": "", "problem": "/opt/axolotl: read-only file system"}, ["storage_not_writable"]),
        ("shared", {"skipped": True}, []),
        ("shared", {"unreachable": True, "msg": "no route"}, ["unreachable"]),
    ],
)
def test_a_marker_that_could_not_be_made_proves_nothing(
    storage: str, result: dict[str, Any], expected: list[str]
) -> None:
    findings = rules_storage.marked(plan_of(3, storage=storage), {"node0": result})
    assert [finding.id for finding in findings] == expected
