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
    findings, _ = rules_steps.reached({}, {"node0": {"ping": "pong"}, "node1": UNREACHABLE, "node2": None})
    assert short(findings) == [("unreachable", ("node1",), "error")]
    assert rules_steps.reached({}, {"node0": {"ping": "pong"}})[0] == []


def test_provision_names_the_task_that_failed() -> None:
    results: dict[str, Any] = {
        "node0": {"failed_task": ""},
        "node1": {"failed_task": "Install", "message": "disk full\n"},
        "node2": {"failed_task": "Install", "message": "disk full\n"},
        "node3": None,
    }
    findings, _ = rules_steps.provisioned({}, results)
    assert short(findings) == [
        ("provision_failed", ("node1", "node2"), "error"),
        ("limited", ("node3",), "warning"),
    ]
    assert (findings[0].expected, findings[0].found) == ("Install works", "disk full")
    assert rules_steps.provisioned({}, {"node0": {"failed_task": ""}})[0] == []


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
    findings, found = rules_steps.collected({}, {"node0": {"run_id": "run1"}, "node1": {"run_id": "run2"}})
    assert short(findings) == [("runs_differ", ("node0", "node1"), "error")]
    assert findings[0].found == "run1 on node0; run2 on node1"
    assert found["run_id"] is None


def test_only_one_run_is_the_run() -> None:
    results: dict[str, Any] = {"node0": {"left": [], "stopped": ["run1"]}, "node1": {"left": [], "stopped": ["run2"]}}
    assert rules_steps.stopped({}, results)[1]["run_id"] is None


def test_every_node_has_the_run_that_is_collected() -> None:
    results: dict[str, Any] = {"node0": {"run_id": "run1"}, "node1": {"run_id": None}, "node2": UNREACHABLE}
    findings, found = rules_steps.collected({}, results)
    assert short(findings) == [("unreachable", ("node2",), "error"), ("run_missing", ("node1",), "error")]
    assert found == {"collected": {"node0": "run1"}, "run_id": "run1"}
