# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a step of a verb succeeded on every node, told from what it returned there.

Each function takes the plan and node -> registered result (None where the step was not run) and returns the
findings together with what is worth keeping as evidence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from . import readings
from .findings import WARNING, Finding

Results = Mapping[str, Mapping[str, Any] | None]
STORAGE_GATE = "Go on only where the storage is as declared"
"""The task that keeps provision from building anything on storage that is not what the inventory says."""
Judgement = tuple[list[Finding], dict[str, Any]]


def reached(plan: Mapping[str, Any], results: Results, root: Results) -> Judgement:
    """Before anything is changed: every node that takes part answers, and gives root where the settings need it."""
    taking_part = {node: result for node, result in results.items() if result is not None}
    answers = readings.read(taking_part, "ping", "connecting")
    denied: dict[str, list[str]] = {}
    for node in answers.values:
        result = root.get(node) or {"skipped": True}
        if not result.get("skipped") and result.get("ping") != "pong":
            denied.setdefault(readings.first_line(result), []).append(node)
    remedy = (
        "let the account that connects (ansible_user) use sudo, with ansible_become_password in a vault where it asks "
        "for one; or do by hand what root is needed for, and take the setting back"
    )
    expected = f"root by become, since {' and '.join(plan['root_for'])}" if denied else ""
    refusals = [Finding("root_denied", tuple(nodes), expected, found, remedy) for found, nodes in denied.items()]
    return [*answers.findings, *refusals], {}


def provisioned(
    plan: Mapping[str, Any],
    results: Results,
    reached: Results,
    infiniband: Results | None = None,
    storage: Results | None = None,
) -> Judgement:
    """Every node that takes part went through all of provision."""
    findings = _of_storage(storage or {})
    stopped = STORAGE_GATE if findings else None  # what stopped the nodes there is said by these findings
    failures: dict[tuple[str, str], list[str]] = {}
    for node, result in results.items():
        if result and result.get("failed_task") and result["failed_task"] != stopped:
            failures.setdefault((str(result["failed_task"]), str(result["message"])[:2000]), []).append(node)
    for (task, message), nodes in failures.items():
        remedy = "see the message; provision goes on from where it stopped"
        findings.append(Finding("provision_failed", tuple(nodes), f"{task} works", message.strip(), remedy))
    lost = [node for node, result in results.items() if result is None and reached.get(node)]
    # A task that runs once for all stops all when it fails, and only the node in whose name it ran keeps a result.
    if lost and not any(result and result.get("for_all") for result in results.values()):
        remedy = "see to the node or its connection, and provision again: it goes on from where it stopped"
        findings.append(Finding("unreachable", tuple(lost), "the node answers to the end", "lost on the way", remedy))
    left_out = [node for node, result in results.items() if result is None and not reached.get(node)]
    if left_out:
        finding = readings.limited(left_out)
        findings.append(dataclasses.replace(finding, severity=WARNING))
    return [*findings, *_reboots(infiniband or {})], {}


def _of_storage(judgements: Results) -> list[Finding]:
    """What the proof of the storage found, which was registered alike for all nodes."""
    found = next((judgement for judgement in judgements.values() if judgement and "findings" in judgement), {})
    return [Finding.from_dict(dict(finding)) for finding in found.get("findings", [])]


def _reboots(infiniband: Results) -> list[Finding]:
    """Nodes on which drivers were installed that are not at work yet."""
    nodes_of: dict[str, list[str]] = {}
    for node, result in infiniband.items():
        if result and result.get("reboot"):
            nodes_of.setdefault(str(result["reboot"]), []).append(node)
    remedy = (
        "reboot them when no run is active, a few at a time; with infiniband_reboot: true provision does it, one by one"
    )
    return [
        Finding("reboot_needed", tuple(nodes), "the installed InfiniBand drivers are at work", reason, remedy, WARNING)
        for reason, nodes in nodes_of.items()
    ]


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
    fleets = {str(node) for result in results.values() if result for node in result.get("fleet", [])}
    findings += absent(fleets - set(results))
    runs = {node: list(result.get("stopped", [])) for node, result in results.items() if result}
    return findings, {"stopped": runs, "run_id": _only({run_id for ended in runs.values() for run_id in ended})}


def collected(plan: Mapping[str, Any], results: Results, arrived: Results) -> Judgement:
    """Every node's bundle is here."""
    read = readings.read(results, "run_id", "bundling the run")
    findings = list(read.findings)
    without = [node for node, run_id in read.values.items() if run_id is None]
    if without:
        remedy = "see what runs there are with status; name one with -e gpufleet_run_id=..."
        findings.append(Finding("run_missing", tuple(without), "the run's folder on the node", "no such run", remedy))
    bundled = {node: str(run_id) for node, run_id in read.values.items() if run_id}
    if len(set(bundled.values())) > 1:
        found = "; ".join(f"{run_id} on {node}" for node, run_id in list(bundled.items())[:8])
        remedy = "name the run: collect -e gpufleet_run_id=..."
        findings.append(Finding("runs_differ", tuple(bundled), "one run on all nodes", found, remedy))
    if not plan.get("check"):
        transfers = {node: arrived.get(node) or {"msg": "the bundle was not fetched"} for node in bundled}
        findings += readings.read(transfers, "dest", "fetching and unpacking the bundle").findings
    fleets = {str(node) for result in results.values() if result for node in result.get("fleet", [])}
    findings += absent(fleets - set(results))
    return findings, {"collected": bundled, "run_id": _only(set(bundled.values()))}


def absent(nodes: Iterable[str]) -> list[Finding]:
    """Nodes that took part in a run and are not in the inventory any more, so that nobody asked them."""
    if not nodes:
        return []
    remedy = "put them back into axolotl_nodes, under the names that they had, and repeat this"
    gone = tuple(sorted(nodes))
    return [Finding("node_absent", gone, "every node of the run is in the inventory", "not in axolotl_nodes", remedy)]


def _only(run_ids: set[Any]) -> str | None:
    return str(run_ids.pop()) if len(run_ids) == 1 else None
