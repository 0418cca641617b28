# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A finding: one thing that is not as it must be, on which hosts, and what to do about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ERROR, WARNING, WAIVED = "error", "warning", "waived"
SEVERITIES = (ERROR, WARNING, WAIVED)
GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Finding:
    """One row of a verdict.

    Attributes:
        id: the rule's stable name, to search for.
        hosts: the nodes concerned; empty where it concerns the inventory as a whole.
        expected: what must be.
        found: what is.
        remedy: what to do, and where.
        severity: ``error`` fails the verdict, ``warning`` does not; nor does ``waived``, which the owner accepts.
        reason: why the owner accepts it (`parity_exceptions`); empty where nobody has said so.
    """

    id: str
    hosts: tuple[str, ...]
    expected: str
    found: str
    remedy: str
    severity: str = ERROR
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The form in which findings stand in artifacts."""
        return {**dataclasses.asdict(self), "hosts": list(self.hosts)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Finding:
        """The inverse of as_dict."""
        return cls(**{**data, "hosts": tuple(data["hosts"])})


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Those that fail a verdict."""
    return [finding for finding in findings if finding.severity == ERROR]


def names(hosts: Sequence[str], limit: int = 8) -> str:
    """Hosts for people: all of a few, the first of many."""
    if len(hosts) <= limit:
        return ", ".join(hosts)
    return ", ".join(hosts[:limit]) + f" and {len(hosts) - limit} more"


def some(sentences: Sequence[str], limit: int = 5) -> str:
    """Sentences for people: all of a few, the first of many."""
    more = f"; and {len(sentences) - limit} more" if len(sentences) > limit else ""
    return "; ".join(sentences[:limit]) + more


def examples(found: Mapping[str, str], limit: int = 3) -> str:
    """What is said of each node, for a few of them."""
    return some([f"{node}: {said}" for node, said in found.items()], limit)


def amount(size: int) -> str:
    """Bytes for people."""
    return f"{size / GIB:.1f} GiB" if size >= GIB // 10 else f"{size >> 20} MiB"


def table(findings: Iterable[Finding]) -> str:
    """Findings as text, the errors first."""
    blocks = []
    for finding in sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)):
        where = f" on {names(finding.hosts)}" if finding.hosts else ""
        reason = f"\n    accepted: {finding.reason}" if finding.reason else ""
        blocks.append(
            f"{finding.severity.upper()} {finding.id}{where}\n"
            f"    expected: {finding.expected}\n"
            f"    found:    {finding.found}\n"
            f"    remedy:   {finding.remedy}{reason}"
        )
    return "\n".join(blocks)
