# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict of a verb: the artifact that machines read, and the lines that people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .findings import WAIVED, WARNING, Finding, errors, names, table

PASS, FAIL = "pass", "fail"


def begun(verb: str, check: bool, controller: Mapping[str, Any]) -> dict[str, Any]:
    """The artifact before anything is done: an unfinished fail, which it stays if the verb is interrupted."""
    return {
        "verb": verb,
        "verdict": FAIL,
        "unfinished": True,
        "check": check,
        "run_id": None,
        "nodes": [],
        "plan": None,
        "findings": [],
        "evidence": {},
        "controller": dict(controller),
    }


def merged(
    artifact: Mapping[str, Any],
    findings: Sequence[Finding],
    plan: Mapping[str, Any] | None,
    evidence: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The artifact with what has become known; the same finding counts once."""
    known = [Finding.from_dict(finding) for finding in artifact["findings"]]
    every = dict.fromkeys((*known, *findings))
    result = {**artifact, "findings": [finding.as_dict() for finding in every]}
    if plan:
        result.update(plan=plan, nodes=list(plan["nodes"]), run_id=plan.get("run_id") or None)
    if evidence:
        result["run_id"] = evidence.get("run_id") or result["run_id"]
        result["evidence"] = {**artifact["evidence"], **evidence}
    return result


def closed(artifact: Mapping[str, Any], unfinished: bool = False) -> dict[str, Any]:
    """The artifact with its verdict: pass where no finding is an error."""
    findings = [Finding.from_dict(finding) for finding in artifact["findings"]]
    return {**artifact, "verdict": FAIL if errors(findings) else PASS, "unfinished": unfinished}


def is_go(artifact: Mapping[str, Any]) -> bool:
    """Whether it is the verdict of a smoke run that has shown that the training can be launched."""
    smoke = (artifact["plan"] or {}).get("smoke")
    return bool(smoke) and artifact["verdict"] == PASS and not (artifact["unfinished"] or artifact["check"])


def line(artifact: Mapping[str, Any]) -> str:
    """The verdict in one line."""
    findings = [Finding.from_dict(finding) for finding in artifact["findings"]]
    parts = [f"{artifact['verdict'].upper()} {artifact['verb']}{' (check mode)' if artifact['check'] else ''}"]
    if artifact["run_id"]:
        parts.append(f"run {artifact['run_id']}")
    parts.append(f"{len(artifact['nodes'])} nodes")
    evidence = artifact["evidence"]
    if evidence.get("world_size"):
        ranks = evidence["ranks_seen"]
        parts.append(f"world size {evidence['world_size']}, ranks {ranks[0]} to {ranks[-1]}")
    if evidence.get("losses"):
        parts.append("loss " + " > ".join(_loss(loss) for loss in _ends(evidence["losses"])))
    wrong = len(errors(findings))
    warnings = sum(finding.severity == WARNING for finding in findings)
    waived = sum(finding.severity == WAIVED for finding in findings)
    if wrong:
        first = errors(findings)[0]
        parts.append(
            f"{wrong} error{'s' if wrong > 1 else ''}, first {first.id}"
            + (f" on {names(first.hosts)}" if first.hosts else "")
        )
    if warnings:
        parts.append(f"{warnings} warning{'s' if warnings > 1 else ''}")
    if waived:
        parts.append(f"{waived} waived")
    if artifact["unfinished"]:
        parts.append("not finished")
    elif artifact["verb"] == "launch" and (artifact["plan"] or {}).get("smoke"):
        parts.append("smoke run: go" if is_go(artifact) else "smoke run: no-go")
    return "; ".join(parts)


def _loss(loss: float | None) -> str:
    return "not finite" if loss is None else f"{loss:g}"


def _ends(losses: Sequence[float | None]) -> list[float | None]:
    return list(losses) if len(losses) <= 6 else [losses[0], losses[-1]]


def text(artifact: Mapping[str, Any]) -> str:
    """The findings and the verdict for a terminal."""
    findings = table(Finding.from_dict(finding) for finding in artifact["findings"])
    return "\n".join(part for part in (*_nodes(artifact["evidence"]), findings, line(artifact)) if part)


def _nodes(evidence: Mapping[str, Any]) -> list[str]:
    """What runs where, for status."""
    rows = []
    for node, state in (evidence.get("nodes") or {}).items():
        loss = "" if state["loss"] is None else f"  loss {state['loss']:g}"
        step = f"  step {state['step']}/{state['total_steps']}" if state["total_steps"] else ""
        end = f"  {state['outcome']}: {state['reason']}" if state["outcome"] else f"  {state['processes']} processes"
        rows.append(f"{node}  rank {state['rank']}  {state['phase']}{step}{loss}{end}")
    return rows
