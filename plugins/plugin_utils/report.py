# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a run, in Markdown: readable in ten seconds by somebody who did not run it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from . import verdict
from .findings import names

PER_NODE = ("started_at", "started_late", "outcomes", "exit_codes")
"""What the evidence has for each node, in the order of the columns."""


def markdown(artifact: Mapping[str, Any]) -> str:
    """Render a launch's artifact; everything in it has already been masked."""
    plan, evidence = artifact["plan"], artifact["evidence"]
    lines = [
        f"# Run {artifact['run_id']}: {artifact['verdict'].upper()}",
        "",
        verdict.line(artifact),
        "",
        f"- Axolotl `{plan['commit']}` from {plan['repository']}, release `{plan['release_id']}`",
        f"- Config `{plan['config']['src']}` (sha256 `{plan['config']['sha256']}`)",
        f"- {plan['nnodes']} nodes x {plan['nproc_per_node']} processes, {plan['launcher']}, "
        f"{plan['rendezvous']} rendezvous at {plan['head_address']}:{plan['master_port']}",
        *(f"- {note}" for note in plan.get("notes", [])),
        f"- Transport: {evidence.get('transport') or 'not seen'}",
        "",
        "| node | ranks | started | after the agreed start | outcome | exit code |",
        "|---|---|---|---|---|---|",
    ]
    for node in plan["nodes"]:
        said = {name: evidence.get(name, {}).get(node) for name in PER_NODE}
        if said["started_late"] is not None:
            said["started_late"] = f"{said['started_late']:.3f} s"
        cells = [_cell(value) for value in said.values()]
        ranks = names([str(rank) for rank in evidence.get("ranks", {}).get(node, [])])
        lines.append(f"| {node} | {ranks} | {' | '.join(cells)} |")
    lines += ["", "## Findings", ""]
    for finding in artifact["findings"]:
        where = f" on {', '.join(finding['hosts'])}" if finding["hosts"] else ""
        lines += [
            f"- **{finding['severity']} {finding['id']}**{where}",
            f"  - expected: {finding['expected']}",
            f"  - found: {finding['found']}",
            f"  - remedy: {finding['remedy']}",
            *([f"  - accepted: {finding['reason']}"] if finding["reason"] else []),
        ]
    if not artifact["findings"]:
        lines.append("None.")
    if evidence.get("losses"):
        lines += [
            "",
            "## Losses",
            "",
            ", ".join("not finite" if loss is None else f"{loss:g}" for loss in evidence["losses"]),
        ]
    lines += ["", "## Commands", ""]
    for node, part in plan["nodes"].items():
        if part["start"]:
            lines += [f"{node}:", "", "    " + shlex.join(part["start"]["argv"]), ""]
    return "\n".join(lines) + "\n"


def plan_text(plan: Mapping[str, Any]) -> str:
    """The launch plan for a terminal, before anything starts."""
    lines = [
        f"Launch plan of run {plan['run_id']}: {plan['nnodes']} nodes x {plan['nproc_per_node']} processes ="
        f" world size {plan['world_size']}; {plan['launcher']}, {plan['rendezvous']} rendezvous at"
        f" {plan['head_address']}:{plan['master_port']}; release {plan['release_id']}"
    ]
    if plan.get("smoke"):
        lines.append(f"  a smoke run of {plan['overrides']['max_steps']} steps, into {plan['overrides']['output_dir']}")
    if plan.get("launcher_reason"):
        lines.append(f"  {plan['launcher']}, {plan['launcher_reason']}")
    lines += [f"  {note}" for note in plan.get("notes", [])]
    for node, part in plan["nodes"].items():
        # With c10d torchrun gives the ranks out, whatever the order here.
        rank = "any rank" if plan["rendezvous"] == "c10d" else f"rank {part['rank']}"
        lines.append(f"  {rank}  {node} ({part['address']}):  {shlex.join(part['start']['argv'])}")
    nodes_of: dict[str, list[str]] = {}
    for node, part in plan["nodes"].items():
        variables = " ".join(f"{name}={found['value']}" for name, found in sorted(part["derived"].items()))
        nodes_of.setdefault(variables, []).append(node)
    lines += [f"  derived on {names(nodes)}:  {variables}" for variables, nodes in nodes_of.items() if variables]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
