# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a step succeeded on every node."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import rules_steps
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding

UNREACHABLE = {"unreachable": True, "msg": "no route to host"}


def short(findings: list[Finding]) -> list[tuple[str, tuple[str, ...], str]]:
    return [(finding.id, finding.hosts, finding.severity) for finding in findings]


def test_everybody_that_takes_part_is_reached() -> None:
    findings, _unused = rules_steps.reached({}, {"node0": {"ping": "pong"}, "node1": UNREACHABLE, "node2": None}, {})
    assert short(findings) == [("unreachable", ("node1",), "error")]
    assert rules_steps.reached({}, {"node0": {"ping": "pong"}}, {})[0] == []


def test_root_is_asked_for_where_settings_need_it() -> None:
    plan = {"root_for": ["axolotl_user is train"]}
    answers = {"node0": {"ping": "pong"}, "node1": {"ping": "pong"}, "node2": UNREACHABLE}
    denied = {"failed": True, "msg": "sudo: a password is required"}
    root = {"node0": {"ping": "pong"}, "node1": denied, "node2": UNREACHABLE}
    findings, _unused = rules_steps.reached(plan, answers, root)
    assert short(findings) == [("unreachable", ("node2",), "error"), ("root_denied", ("node1",), "error")]
    assert findings[1].expected == "root by become, since axolotl_user is train"
    assert findings[1].found == "sudo: a password is required"
    skipped: dict[str, Any] = {node: {"skipped": True} for node in answers}
    assert short(rules_steps.reached(plan, answers, skipped)[0]) == [("unreachable", ("node2",), "error")]


def test_provision_names_the_task_that_failed() -> None:
    results: dict[str, Any] = {
        "node0": {"failed_task": ""},
        "node1": {"failed_task": "Install", "message": "disk full\n"},
        "node2": {"failed_task": "Install", "message": "disk full\n"},
        "node3": None,
    }
    reached: dict[str, Any] = {node: {"ping": "pong"} for node in ("node0", "node1", "node2")}
    findings, _unused = rules_steps.provisioned({}, results, {**reached, "node3": None})
    assert short(findings) == [
        ("provision_failed", ("node1", "node2"), "error"),
        ("limited", ("node3",), "warning"),
    ]
    assert (findings[0].expected, findings[0].found) == ("Install works", "disk full")
    assert rules_steps.provisioned({}, {"node0": {"failed_task": ""}}, reached)[0] == []


def test_a_node_that_was_lost_during_provision_is_no_warning() -> None:
    results = {"node0": {"failed_task": ""}, "node1": None, "node2": None}
    findings, _unused = rules_steps.provisioned({}, results, {"node0": {"ping": "pong"}, "node1": {"ping": "pong"}})
    assert short(findings) == [("unreachable", ("node1",), "error"), ("limited", ("node2",), "warning")]
    assert findings[0].found == "lost on the way"


def test_every_supervisor_came_up() -> None:
    results: dict[str, Any] = {
        "node0": {"supervisor": "systemd"},
        "node1": {"failed": True, "msg": "no"},
        "node2": None,
    }
    findings, found = rules_steps.started({}, results)
    assert short(findings) == [("module_failed", ("node1",), "error"), ("limited", ("node2",), "error")]
    assert found == {"supervisors": {"node0": "systemd"}}


def test_nothing_is_left_after_a_stop() -> None:
    results: dict[str, Any] = {
        "node0": {"left": [], "stopped": ["run1"], "known": True},
        "node1": {"left": [7, 8], "stopped": ["run1"]},
        "node2": UNREACHABLE,
        "node3": None,
    }
    findings, found = rules_steps.stopped({}, results)
    assert short(findings) == [
        ("unreachable", ("node2",), "error"),
        ("processes_left", ("node1",), "error"),
        ("limited", ("node3",), "warning"),
    ]
    assert findings[1].found == "pids 7, 8"
    assert found["stopped"]["node0"] == ["run1"]
    assert found["run_id"] == "run1"
    assert rules_steps.stopped({}, {"node0": {"left": [], "stopped": [], "known": True}})[0] == []


def test_a_run_that_nobody_knows_can_not_be_stopped() -> None:
    results: dict[str, Any] = {
        "node0": {"left": [], "stopped": [], "known": False},
        "node1": {"left": [], "stopped": [], "known": False},
    }
    assert short(rules_steps.stopped({}, results)[0]) == [("run_missing", (), "error")]
    results["node1"]["known"] = True
    assert rules_steps.stopped({}, results)[0] == []


def test_different_runs_are_not_collected_as_one() -> None:
    arrived = {node: {"dest": "/x"} for node in ("node0", "node1")}
    findings, found = rules_steps.collected({}, {"node0": {"run_id": "run1"}, "node1": {"run_id": "run2"}}, arrived)
    assert short(findings) == [("runs_differ", ("node0", "node1"), "error")]
    assert findings[0].found == "run1 on node0; run2 on node1"
    assert found["run_id"] is None


def test_only_one_run_is_the_run() -> None:
    results: dict[str, Any] = {"node0": {"left": [], "stopped": ["run1"]}, "node1": {"left": [], "stopped": ["run2"]}}
    assert rules_steps.stopped({}, results)[1]["run_id"] is None


def test_every_node_has_the_run_that_is_collected() -> None:
    results: dict[str, Any] = {"node0": {"run_id": "run1"}, "node1": {"run_id": None}, "node2": UNREACHABLE}
    findings, found = rules_steps.collected({}, results, {"node0": {"dest": "/x"}, "node1": {"skipped": True}})
    assert short(findings) == [("unreachable", ("node2",), "error"), ("run_missing", ("node1",), "error")]
    assert found == {"collected": {"node0": "run1"}, "run_id": "run1"}


def test_a_bundle_that_did_not_arrive_is_a_failure() -> None:
    results: dict[str, Any] = {f"node{number}": {"run_id": "run1"} for number in range(4)}
    arrived: dict[str, Any] = {
        "node0": {"dest": "/x"},
        "node1": {"failed": True, "msg": "no space left"},
        "node2": UNREACHABLE,
        "node3": None,
    }
    findings, _unused = rules_steps.collected({}, results, arrived)
    assert short(findings) == [
        ("unreachable", ("node2",), "error"),
        ("module_failed", ("node1",), "error"),
        ("module_failed", ("node3",), "error"),
    ]
    assert [finding.found for finding in findings[1:]] == ["no space left", "the bundle was not fetched"]
    assert rules_steps.collected({"check": True}, results, {})[0] == []


def test_nodes_that_left_the_inventory_are_named() -> None:
    fleet = ["node0", "node1", "node2"]
    collected = rules_steps.collected({}, {"node1": {"run_id": "run1", "fleet": fleet}}, {"node1": {"dest": "/x"}})
    stopped = rules_steps.stopped({}, {"node1": {"left": [], "stopped": ["run1"], "known": True, "fleet": fleet}})
    for findings, _unused in (collected, stopped):
        assert short(findings) == [("node_absent", ("node0", "node2"), "error")]
    assert rules_steps.absent([]) == []


def test_nodes_whose_drivers_are_not_at_work_are_named() -> None:
    fine = {node: {"failed_task": ""} for node in ("node0", "node1", "node2")}
    reached = {node: {"ping": "pong"} for node in fine}
    stack = {"node0": {"reboot": ""}, "node1": {"reboot": "the loaded mlx5_core is another"}, "node2": None}
    (finding,) = rules_steps.provisioned({}, fine, reached, stack)[0]
    assert (finding.id, finding.hosts, finding.severity) == ("reboot_needed", ("node1",), "warning")
    assert finding.found == "the loaded mlx5_core is another"
    assert "infiniband_reboot" in finding.remedy


def test_nodes_that_another_ones_failure_stopped_are_not_lost() -> None:
    reached: dict[str, Any] = {node: {"ping": "pong"} for node in ("node0", "node1")}
    failed = {"failed_task": "Compile the lock", "message": "no such extra", "for_all": True}
    findings, _unused = rules_steps.provisioned({}, {"node0": failed, "node1": None}, reached)
    assert short(findings) == [("provision_failed", ("node0",), "error")]
    findings, _unused = rules_steps.provisioned({}, {"node0": {**failed, "for_all": False}, "node1": None}, reached)
    assert short(findings) == [("provision_failed", ("node0",), "error"), ("unreachable", ("node1",), "error")]
