# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a smoke run changes in the plan, and when one is demanded."""

from __future__ import annotations

from typing import Any

import pytest
from unit.fleets import FILES, RUN, inventory, plan_of, trained_together, values_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import (
    evidence,
    launch_plan,
    rules_run,
    smoke_run,
    verdict,
)

NOW = 1_800_000_000.0


def smoke_plan(**changes: Any) -> dict[str, Any]:
    variables = inventory(2, **changes)
    for known in variables.values():
        known["smoke"] = True
    return launch_plan.build(values_of(variables), FILES, RUN)


def test_it_is_short_verbose_and_writes_apart() -> None:
    plan = smoke_plan(overrides={"max_steps": 1000, "seed": 7})
    assert plan["overrides"] == {"max_steps": 2, "seed": 7, "logging_steps": 1, "output_dir": f"./smoke/{RUN}"}
    for part in plan["nodes"].values():
        assert part["paths"]["output_dir"] == f"/opt/axolotl/work/smoke/{RUN}" == part["start"]["output_dir"]
        assert part["start"]["environment"]["NCCL_DEBUG"] == "INFO"
        assert "--max-steps=2" in part["start"]["argv"]


def test_what_is_set_by_hand_stays() -> None:
    plan = smoke_plan(environment={"NCCL_DEBUG": "WARN"})
    assert plan["nodes"]["node0"]["environment"]["NCCL_DEBUG"] == "WARN"


def test_an_ordinary_launch_is_neither() -> None:
    plan = plan_of(2)
    assert (plan["smoke"], plan["overrides"]) == (False, {})
    assert "NCCL_DEBUG" not in plan["nodes"]["node0"]["environment"]


@pytest.mark.parametrize(
    ("hours", "age", "changes", "missing"),
    [
        (0, None, {}, None),
        (24, None, {}, "none"),
        (24, 23.9, {}, None),
        (24, 24.1, {}, "the last one passed 2027-01-14 07:54 UTC"),
        (24, 1, {"config_sha256": "d" * 64}, "none"),
        (24, 1, {"release_id": "other"}, "none"),
        (24, 1, {"launcher": "accelerate"}, "none"),
        (24, 1, {"nodes": ["node0"]}, "none"),
    ],
)
def test_when_one_is_demanded(hours: int, age: float | None, changes: dict[str, Any], missing: str | None) -> None:
    plan = plan_of(2)
    records = [] if age is None else [{**smoke_run.passed(plan, NOW - age * 3600), **changes}]
    findings = smoke_run.demanded(plan, records, hours, NOW)
    assert [(finding.id, finding.found) for finding in findings] == ([("smoke_missing", missing)] if missing else [])


def test_auto_takes_what_passed_with_what_it_became() -> None:
    plan = plan_of(2, launcher="auto")
    assert smoke_run.demanded(plan, [smoke_run.passed({**plan, "launcher": "torchrun"}, NOW)], 1, NOW) == []


def test_the_smoke_run_itself_needs_none() -> None:
    assert smoke_run.demanded({**plan_of(2), "smoke": True}, [], 24, NOW) == []


def test_a_checkpoint_must_have_been_written() -> None:
    nodes = trained_together()
    for node in nodes.values():
        node["run"]["plan"]["smoke"] = True
    plan = evidence.recorded_plan(nodes)
    summary = evidence.summarise(plan, nodes, {node: node for node in nodes})
    (finding,) = rules_run.judge(plan, summary)
    assert finding.id == "smoke_checkpoint"
    states = ["rng_state_0.pth", "rng_state_1.pth"]
    assert rules_run.judge(plan, {**summary, "checkpoints": {"node0": {"checkpoint-2": states}}}) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"verdict": "pass"}, "smoke run: go"),
        ({"verdict": "fail"}, "smoke run: no-go"),
        ({"verdict": "pass", "check": True}, "smoke run: no-go"),
        ({"verdict": "pass", "unfinished": True}, "not finished"),
        ({"verdict": "pass", "plan": {"smoke": False}}, "2 nodes"),
    ],
)
def test_it_ends_in_a_word(changes: dict[str, Any], said: str) -> None:
    artifact = {**verdict.begun("launch", False, {}), "unfinished": False, "nodes": ["a", "b"], "plan": {"smoke": True}}
    assert verdict.line({**artifact, **changes}).endswith(said)
