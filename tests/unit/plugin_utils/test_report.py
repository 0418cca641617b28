# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a run, and the plan shown before it."""

from __future__ import annotations

import shlex
from typing import Any

from unit.fleets import RUN, fingerprints, plan_of, trained_together

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import evidence, nccl_settings, report, verdict
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding


def artifact(*findings: Finding, **changes: Any) -> dict[str, Any]:
    nodes = trained_together()
    found = evidence.summarise(evidence.recorded_plan(nodes), nodes, {node: node for node in nodes})
    plan = plan_of(2, overrides={"wandb_name": "a run; rm -rf"})
    return verdict.closed(verdict.merged(verdict.begun("launch", False, {}), findings, plan, {**found, **changes}))


def test_the_report_of_a_good_run() -> None:
    text = report.markdown(artifact())
    lines = text.splitlines()
    assert lines[0] == f"# Run {RUN}: PASS"
    assert "- Transport: TCP (gloo)" in lines
    assert "| node0 | 0 | 2026-01-01T00:00:00Z | 0.012 s | finished | 0 |" in lines
    assert "| node1 | 1 | 2026-01-01T00:00:00Z | 0.012 s | finished | 0 |" in lines
    assert "None." in lines
    assert "6.5, 6, 5.5" in lines
    assert text.endswith("\n")


def test_the_commands_can_be_pasted_into_a_shell() -> None:
    plan = artifact()["plan"]
    commands = [shlex.split(line) for line in report.markdown(artifact()).splitlines() if line.startswith("    /")]
    assert commands == [part["start"]["argv"] for part in plan["nodes"].values()]


def test_the_report_of_a_bad_run() -> None:
    finding = Finding("loss_not_finite", ("node0",), "finite losses", "loss 2 of 2", "lower learning_rate")
    text = report.markdown(artifact(finding, losses=[6.5, None], transport=None))
    assert f"# Run {RUN}: FAIL" in text
    assert "- **error loss_not_finite** on node0\n  - expected: finite losses\n  - found: loss 2 of 2" in text
    assert "6.5, not finite" in text
    assert "- Transport: not seen" in text


def test_the_plan_before_anything_starts() -> None:
    text = report.plan_text(plan_of(2))
    first, *rest = text.splitlines()
    assert f"Launch plan of run {RUN}: 2 nodes x 8 processes = world size 16" in first
    assert [line.split(":  ")[0] for line in rest] == ["  rank 0  node0 (node0)", "  rank 1  node1 (node1)"]
    assert "--node-rank 1 " in rest[1]


def test_notes_on_the_training_stand_in_plan_and_report() -> None:
    noted = artifact()
    noted["plan"]["notes"] = ["2 x 1 x 2 = 4 samples in each step (of ...)"]
    assert report.plan_text(noted["plan"]).splitlines()[1] == "  2 x 1 x 2 = 4 samples in each step (of ...)"
    assert "- 2 x 1 x 2 = 4 samples in each step (of ...)" in report.markdown(noted).splitlines()


def test_the_plan_says_what_was_derived() -> None:
    plan = plan_of(3)
    prints = fingerprints(plan)
    prints["node2"]["infiniband"]["hcas"].pop("mlx5_1")
    last = report.plan_text(nccl_settings.completed(plan, prints)).splitlines()[-2:]
    common = "GLOO_SOCKET_IFNAME=ib0 NCCL_IB_DISABLE=0 NCCL_IB_HCA==mlx5_0{} NCCL_SOCKET_IFNAME==ib0"
    assert last == [
        f"  derived on node0, node1:  {common.format(',mlx5_1')}",
        f"  derived on node2:  {common.format('')}",
    ]
