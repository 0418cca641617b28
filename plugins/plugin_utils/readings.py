# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task returned on every node of the fleet; unreachable and failed are data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from .findings import Finding


@dataclasses.dataclass
class Readings:
    """One task's results over the whole group.

    Attributes:
        values: node to what it returned, for the nodes that answered.
        findings: one for the nodes that could not be reached, one per kind of failure, one for those left out.
    """

    values: dict[str, dict[str, Any]]
    findings: list[Finding]


def read(results: Mapping[str, Mapping[str, Any] | None], key: str, what: str) -> Readings:
    """Sort the results of a task.

    Args:
        results: node to the registered result, None where the task was not run for it (`--limit`).
        key: name of the value in a result.
        what: what the task does, for people.
    """
    values: dict[str, dict[str, Any]] = {}
    unreachable: dict[str, list[str]] = {}
    failed: dict[str, list[str]] = {}
    left_out: list[str] = []
    for node, result in results.items():
        if result is None:
            left_out.append(node)
        elif result.get("unreachable"):
            unreachable.setdefault(first_line(result), []).append(node)
        elif result.get("failed") or key not in result:
            failed.setdefault(first_line(result), []).append(node)
        else:
            values[node] = result[key]
    findings = [_unreachable(nodes, message) for message, nodes in unreachable.items()]
    remedy = "see the message; run with -vvv for the whole traceback"
    findings += [
        Finding("module_failed", tuple(nodes), f"{what} works", message, remedy) for message, nodes in failed.items()
    ]
    if left_out:
        findings.append(limited(left_out))
    return Readings(values, findings)


def once(results: Mapping[str, Mapping[str, Mapping[str, Any]]], name: str) -> Mapping[str, Any]:
    """The result of a task that ran once for all; empty where it did not run."""
    return next((result for result in results.get(name, {}).values() if result), {})


def limited(nodes: Iterable[str]) -> Finding:
    """The finding for nodes of the group that --limit left out."""
    remedy = "run without --limit; to leave a node out for good, take it out of the group axolotl_nodes"
    return Finding("limited", tuple(nodes), "every node of the group takes part", "left out by --limit", remedy)


def _unreachable(nodes: list[str], message: str) -> Finding:
    remedy = "see to the node, or take it out of axolotl_nodes: the fleet never gets smaller by itself"
    return Finding("unreachable", tuple(nodes), "the node answers over its connection", message, remedy)


def first_line(result: Mapping[str, Any]) -> str:
    """What a failed task said, in one line."""
    said = str(result.get("msg") or result.get("module_stderr") or "")
    # ssh frames the warning of a changed host key with lines of @.
    lines = [line.strip() for line in said.splitlines() if line.strip(" @") and not line.startswith("@@@")]
    return " ".join(lines)[:300] or "no message"
