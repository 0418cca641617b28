# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that are rows of a table: what is read, how it is compared over the nodes, and what to do where it differs.

Each row is held against the whole fleet once, in time linear in the number of nodes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from typing import Any

from .comparison import outliers
from .findings import ERROR, Finding, examples, names

Plan = Mapping[str, Any]
Fingerprint = Mapping[str, Any]
Fingerprints = Mapping[str, Fingerprint]
Agreed = dict[str, dict[str, Any]]
"""Group of nodes to what all of its nodes have, by the rows' ids; the group "" holds what is equal on all nodes."""

EQUAL = "equal"
"""The same on all nodes."""
EQUAL_IN_GROUP = "equal in group"
"""The same on all nodes of one `parity_group`: what may differ where the hardware does."""
AT_LEAST = "at least"
"""A number that is no smaller than the wanted one."""


def plainly(subject: str, expected: Any, found: Any, _fingerprint: Fingerprint) -> tuple[str, str]:
    """What was expected and what was found, in words; the fingerprint is that of a node where it was found."""
    return f"{subject} {expected}", f"{subject} {found}"


@dataclasses.dataclass(frozen=True)
class Row:
    """One rule.

    Attributes:
        id: of its findings.
        subject: what the value is, for people.
        read: a node's value, from its fingerprint; None where there is nothing to compare. That is not this rule's
            business: what should be there and can't be read is a finding of its own.
        remedy: what to do where it does not hold.
        compare: EQUAL, EQUAL_IN_GROUP or AT_LEAST.
        severity: of its findings.
        wanted: the value that the plan calls for; without it `parity_pinned` or `parity_reference` decides.
        behind: ids of findings that explain this one: a node that has such a one is left out.
        shown: its values in words, as `plainly` gives them.
    """

    id: str
    subject: str
    read: Callable[[Fingerprint], Any]
    remedy: str
    compare: str = EQUAL
    severity: str = ERROR
    wanted: Callable[[Plan], Any] | None = None
    behind: tuple[str, ...] = ()
    shown: Callable[[str, Any, Any, Fingerprint], tuple[str, str]] = plainly


def examine(
    rows: Iterable[Row],
    plan: Plan,
    fingerprints: Fingerprints,
    earlier: Collection[Finding] = (),
    recorded: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[list[Finding], Agreed]:
    """Hold every row against the fleet.

    Args:
        rows: the table.
        plan: the launch plan; its `parity` says what is taken to be right.
        fingerprints: what was read, by node.
        earlier: findings that rows may stand behind.
        recorded: what the fleet agreed on before, as Agreed; it breaks a tie.

    Returns:
        The findings, and what the nodes agree on.
    """
    findings: list[Finding] = []
    agreed: Agreed = {}
    for row in rows:
        explained = {node for finding in (*earlier, *findings) if finding.id in row.behind for node in finding.hosts}
        read = {node: row.read(found) for node, found in fingerprints.items() if node not in explained}
        known = {node: value for node, value in read.items() if value is not None}
        if row.compare == AT_LEAST:
            findings += _at_least(row, plan, known, fingerprints)
            continue
        for group, values in _grouped(row, plan, known).items():
            before = (recorded or {}).get(group, {}).get(row.id)
            differing = list(_equal(row, plan, values, before, fingerprints))
            findings += differing
            if not differing:
                agreed.setdefault(group, {})[row.id] = next(iter(values.values()))
    return findings, agreed


def _grouped(row: Row, plan: Plan, values: Mapping[str, Hashable]) -> dict[str, dict[str, Hashable]]:
    if row.compare == EQUAL:
        return {"": dict(values)} if values else {}
    groups: dict[str, dict[str, Hashable]] = {}
    for node, value in values.items():
        groups.setdefault(plan["nodes"][node]["group"], {})[node] = value
    return groups


def _equal(
    row: Row, plan: Plan, values: Mapping[str, Hashable], before: Any, fingerprints: Fingerprints
) -> Iterator[Finding]:
    policy, distinct = plan["parity"], set(values.values())
    wanted = row.wanted(plan) if row.wanted else policy["pinned"].get(row.id)
    result = outliers(
        values,
        head=plan["head"],
        pinned=_one_of(distinct, wanted),
        favoured=_one_of(distinct, before),
        follow_head=policy["reference"] == "head",
    )
    right = [node for node, value in values.items() if value == result.expected] if wanted is None else []
    where = f", as on {names(right, limit=3)}" if right else ""
    for value, nodes in result.found.items():
        expected, found = row.shown(row.subject, result.expected, value, fingerprints[nodes[0]])
        yield Finding(row.id, tuple(nodes), expected + where, found, row.remedy, row.severity)


def _at_least(row: Row, plan: Plan, values: Mapping[str, Any], fingerprints: Fingerprints) -> Iterator[Finding]:
    """One finding for all nodes: each may have a value of its own."""
    pinned = plan["parity"]["pinned"].get(row.id)
    wanted = row.wanted(plan) if row.wanted and pinned is None else pinned
    low = {node: value for node, value in values.items() if wanted is not None and value < wanted}
    if low:
        shown = {node: row.shown(row.subject, wanted, value, fingerprints[node]) for node, value in low.items()}
        (expected,) = {expected for expected, _found in shown.values()}
        found = {node: found for node, (_expected, found) in shown.items()}
        said = examples(found) if len(set(found.values())) > 1 else min(found.values())
        yield Finding(row.id, tuple(low), f"at least {expected}", said, row.remedy, row.severity)


def _one_of(values: Collection[Hashable], wanted: Any) -> Any:
    """The value that is meant by one from an inventory or a record, where YAML and JSON have changed its type."""
    if wanted is None:
        return None
    return next((value for value in values if _spelled(value) == _spelled(wanted)), _hashable(wanted))


def _spelled(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str) if isinstance(value, (list, tuple, Mapping)) else str(value)


def _hashable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple(sorted((str(name), _hashable(item)) for name, item in value.items()))
    return tuple(_hashable(item) for item in value) if isinstance(value, (list, tuple)) else value
