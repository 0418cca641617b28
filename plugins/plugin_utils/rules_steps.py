# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a step of a verb succeeded on every node, told from what it returned there.

Each function takes the plan and node -> registered result (None where the step was not run) and returns the
findings together with what is worth keeping as evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import readings
from .findings import WARNING, Finding

Results = Mapping[str, Mapping[str, Any] | None]
Judgement = tuple[list[Finding], dict[str, Any]]


def reached(plan: Mapping[str, Any], results: Results) -> Judgement:
    """Before anything is changed: every node that takes part answers."""
    taking_part = {node: result for node, result in results.items() if result is not None}
    return readings.read(taking_part, "ping", "connecting").findings, {}


def provisioned(plan: Mapping[str, Any], results: Results) -> Judgement:
    """Every node that takes part went through all of provision."""
    findings: list[Finding] = []
    failures: dict[tuple[str, str], list[str]] = {}
    left_out = [node for node, result in results.items() if result is None]
    for node, result in results.items():
        if result and result.get("failed_task"):
            failures.setdefault((str(result["failed_task"]), str(result["message"])[:2000]), []).append(node)
    for (task, message), nodes in failures.items():
        remedy = "see the message; provision goes on from where it stopped"
        findings.append(Finding("provision_failed", tuple(nodes), f"{task} works", message.strip(), remedy))
    if left_out:
        finding = readings.limited(left_out)
        findings.append(
            Finding(
                finding.id,
                finding.hosts,
                finding.expected,
                "left out by --limit, or lost on the way",
                finding.remedy,
                WARNING,
            )
        )
    return findings, {"changed": {node: bool(result and result.get("changed")) for node, result in results.items()}}


def started(plan: Mapping[str, Any], results: Results) -> Judgement:
    """Every node's supervisor came up."""
    read = readings.read(results, "supervisor", "starting the run")
    return read.findings, {"supervisors": read.values}


def stopped(plan: Mapping[str, Any], results: Results) -> Judgement:
    """Nothing is left on any node that was asked."""
    findings = readings.read(
        {node: result for node, result in results.items() if result is not None}, "left", "stopping"
    ).findings
    left_out = [node for node, result in results.items() if result is None]
    if not any(result.get("known") for result in results.values() if result) and not findings:
        remedy = "see what runs there are with status"
        findings.append(Finding("run_missing", (), "the named run on at least one node", "no such run", remedy))
    for node, result in results.items():
        if result and result.get("left"):
            pids = ", ".join(str(pid) for pid in result["left"])
            remedy = "see ps -o pid,stat,wchan,user: state D ends with its I/O, another user's process needs that user"
            findings.append(Finding("processes_left", (node,), "no process of the run is left", f"pids {pids}", remedy))
    if left_out:
        remedy = "the watch ends the run there too, since it can't go on alone; stop without --limit proves it"
        findings.append(
            Finding("limited", tuple(left_out), "stop on every node", "left out by --limit", remedy, WARNING)
        )
    runs = {node: list(result.get("stopped", [])) for node, result in results.items() if result}
    return findings, {"stopped": runs, "run_id": _only({run_id for ended in runs.values() for run_id in ended})}


def collected(plan: Mapping[str, Any], results: Results) -> Judgement:
    """Every node's bundle is here."""
    read = readings.read(results, "run_id", "bundling the run")
    without = [node for node, run_id in read.values.items() if run_id is None]
    findings = list(read.findings)
    if without:
        remedy = "see what runs there are with status; name one with -e gpufleet_run_id=..."
        findings.append(Finding("run_missing", tuple(without), "the run's folder on the node", "no such run", remedy))
    if len(set(filter(None, read.values.values()))) > 1:
        found = "; ".join(f"{run_id} on {node}" for node, run_id in list(read.values.items())[:8])
        remedy = "name the run: collect -e gpufleet_run_id=..."
        findings.append(Finding("runs_differ", tuple(read.values), "one run on all nodes", found, remedy))
    bundled = {node: run_id for node, run_id in read.values.items() if run_id}
    return findings, {"collected": bundled, "run_id": _only(set(bundled.values()))}


def _only(run_ids: set[Any]) -> str | None:
    return str(run_ids.pop()) if len(run_ids) == 1 else None
