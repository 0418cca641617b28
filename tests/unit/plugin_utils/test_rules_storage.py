# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is declared of axolotl_root against what the nodes see of one marker."""

from __future__ import annotations

from typing import Any

import pytest
from unit.fleets import fingerprints, plan_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import rules_preflight, rules_steps, rules_storage

Seen = dict[str, dict[str, Any]]


def fleet(storage: str, **changes: dict[str, Any]) -> tuple[dict[str, Any], Seen]:
    """Three nodes that see what is declared, but for the changes."""
    plan = plan_of(3, storage=storage)
    facts = {"root": "/opt/axolotl", "exists": True, "writable": True, "owner": 1000, "uid": 1000}
    seen = {
        node: {**facts, "seen": storage == "shared" or node == "node0", "file_system": "nfs4 server:/export"}
        for node in plan["nodes"]
    }
    for node, change in changes.items():
        seen[node].update(change)
    return plan, seen


def found(plan: dict[str, Any], seen: Seen) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.id, finding.hosts) for finding in rules_storage.examine(plan, seen)]


@pytest.mark.parametrize("storage", ["local", "shared"])
def test_what_is_as_declared_is_no_finding(storage: str) -> None:
    assert found(*fleet(storage)) == []
    assert found(fleet(storage)[0], {}) == []


def test_a_node_that_does_not_see_what_is_shared() -> None:
    plan, seen = fleet("shared", node2={"seen": False, "file_system": "ext4 /dev/sda1"})
    (finding,) = rules_storage.examine(plan, seen)
    assert (finding.id, finding.hosts) == ("storage_not_shared", ("node2",))
    assert finding.expected.startswith("/opt/axolotl is the folder that node0 sees (a folder on nfs4 server:/export)")
    assert finding.found.startswith("a folder on ext4 /dev/sda1, without the marker that node0")
    seen["node1"].update(seen=False, exists=False)
    assert found(plan, seen) == [("storage_not_shared", ("node1",)), ("storage_not_shared", ("node2",))]


def test_nodes_that_would_overwrite_each_other() -> None:
    assert found(*fleet("local", node2={"seen": True})) == [("storage_is_shared", ("node2",))]


def test_an_account_that_may_not_write() -> None:
    plan, seen = fleet("shared", node1={"writable": False, "uid": 1001}, node2={"writable": False, "seen": False})
    assert found(plan, seen) == [("storage_not_shared", ("node2",)), ("storage_not_writable", ("node1",))]
    finding = list(rules_storage.examine(plan, seen))[1]
    assert finding.found == "uid 1001 may not; it belongs to uid 1000"
    assert found(*fleet("local", node1={"writable": False})) == []


def test_preflight_has_these_rules() -> None:
    plan, seen = fleet("shared", node2={"seen": False})
    prints = {node: {**known, "storage": seen[node]} for node, known in fingerprints(plan).items()}
    assert [finding.id for finding in rules_preflight.examine(plan, prints)] == ["storage_not_shared"]


@pytest.mark.parametrize(
    ("result", "shared", "local"),
    [
        ({"marker": ".m", "problem": ""}, [], []),
        ({"skipped": True}, [], []),
        ({"marker": "", "problem": "/opt/axolotl: permission denied"}, ["storage_not_writable"], []),
        ({"failed": True, "msg": "no python"}, ["module_failed"], ["module_failed"]),
        ({"unreachable": True, "msg": "gone"}, ["unreachable"], ["unreachable"]),
    ],
)
def test_a_proof_that_was_not_tried_does_not_pass(result: dict[str, Any], shared: list[str], local: list[str]) -> None:
    for storage, expected in (("shared", shared), ("local", local)):
        plan = fleet(storage)[0]
        assert [finding.id for finding in rules_storage.marked(plan, {"node0": result})] == expected


def test_provision_goes_on_with_its_own_storage_when_the_first_node_is_lost() -> None:
    lost = {"node0": {"unreachable": True, "msg": "gone"}}
    assert rules_storage.proven(fleet("local")[0], {}, lost)[0] == []
    assert [finding.id for finding in rules_storage.proven(fleet("shared")[0], {}, lost)[0]] == ["unreachable"]


def test_provision_says_once_what_stopped_it() -> None:
    plan, seen = fleet("shared", node2={"seen": False})
    looked: dict[str, Any] = {node: {"storage": known} for node, known in seen.items()}
    findings, _unused = rules_storage.proven(plan, looked, {})
    judgement = {"findings": [finding.as_dict() for finding in findings]}
    stopped = {"failed_task": rules_steps.STORAGE_GATE, "message": "x"}
    results: dict[str, Any] = {"node0": stopped, "node1": {"failed_task": "Install", "message": "y"}, "node2": stopped}
    answered: dict[str, Any] = {node: {"ping": "pong"} for node in results}
    storage: dict[str, Any] = {"node0": None, "node1": judgement, "node2": judgement}
    said, _unused = rules_steps.provisioned({}, results, answered, {}, storage)
    assert [(finding.id, finding.hosts) for finding in said] == [
        ("storage_not_shared", ("node2",)),
        ("provision_failed", ("node1",)),
    ]
    said, _unused = rules_steps.provisioned({}, results, answered, {}, dict.fromkeys(results))
    assert [finding.id for finding in said] == ["provision_failed", "provision_failed"]
