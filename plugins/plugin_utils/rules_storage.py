# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether axolotl_root is what `axolotl_storage` says: one folder for all nodes, or one for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import readings
from .findings import Finding

Plan = Mapping[str, Any]
Seen = Mapping[str, Mapping[str, Any]]
Results = Mapping[str, Mapping[str, Any] | None]


def examine(plan: Plan, seen: Seen) -> Iterator[Finding]:
    """Judge what the nodes see of the folder into which the writing node has put a marker.

    Args:
        plan: the launch plan (storage, writer, and each node's root).
        seen: node to what `storage.look` returned there; empty where there was no marker.
    """
    others = {node: found for node, found in seen.items() if node != plan["writer"]}
    if plan["storage"] == "shared":
        yield from _not_shared(plan, seen, others)
        yield from _not_writable(seen)
        return
    nodes = tuple(node for node, found in others.items() if found["seen"])
    if nodes:
        root = plan["nodes"][plan["writer"]]["root"]
        yield Finding(
            "storage_is_shared",
            nodes,
            "each node has an axolotl_root of its own, since axolotl_storage is local",
            f"they see in theirs what {plan['writer']} writes into {root}, and would overwrite each other's files",
            "set axolotl_storage: shared; or set axolotl_root to a folder on each node's own disk",
        )


def _not_shared(plan: Plan, seen: Seen, others: Seen) -> Iterator[Finding]:
    writer = plan["writer"]
    nodes_of: dict[str, list[str]] = {}
    for node, found in others.items():
        if not found["seen"]:
            nodes_of.setdefault(_place(found) if found["exists"] else "no such folder", []).append(node)
    for place, nodes in nodes_of.items():
        root = plan["nodes"][writer]["root"]
        where = _place(seen[writer]) if writer in seen else "its storage"
        yield Finding(
            "storage_not_shared",
            tuple(nodes),
            f"{root} is the folder that {writer} sees ({where}), since axolotl_storage is shared",
            f"{place}, without the marker that {writer} has just put there",
            f"mount the storage there, at the path that {writer} has it; or set axolotl_storage: local",
        )


def _place(found: Mapping[str, Any]) -> str:
    return f"a folder on {found['file_system'] or 'an unknown file system'}"


def _not_writable(seen: Seen) -> Iterator[Finding]:
    nodes_of: dict[tuple[Any, Any], list[str]] = {}
    for node, found in seen.items():
        if found["seen"] and not found["writable"]:
            nodes_of.setdefault((found["owner"], found["uid"]), []).append(node)
    for (owner, uid), nodes in nodes_of.items():
        yield _unwritable(nodes, f"uid {uid} may not; it belongs to uid {owner}")


def _unwritable(nodes: list[str], found: str) -> Finding:
    expected = "the account that trains may write to axolotl_root"
    remedy = "give the account one uid on all nodes, and make it the owner; see that the mount is not read-only"
    return Finding("storage_not_writable", tuple(nodes), expected, found, remedy)


def marked(plan: Plan, results: Results) -> list[Finding]:
    """Whether the writing node could put a marker there; what was not tried proves nothing, and must not pass."""
    writer = plan["writer"]
    result = results.get(writer) or {}
    if not result or result.get("skipped"):
        return []
    if result.get("problem") and plan["storage"] == "shared":
        return [_unwritable([writer], str(result["problem"]))]
    return readings.read({writer: result}, "marker", "putting a marker into axolotl_root").findings


def proven(plan: Plan, results: Results, marker: Results) -> tuple[list[Finding], dict[str, Any]]:
    """Judge the proof that provision makes before it builds anything; a node that failed is judged elsewhere."""
    looked = {node: result for node, result in results.items() if result and "storage" in result}
    seen = readings.read(looked, "storage", "looking for the marker").values
    # On storage of its own a node that is lost keeps nobody else from going on.
    lost = marked(plan, marker) if plan["storage"] == "shared" else []
    return [*lost, *examine(plan, seen)], {}
