# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The golden record: what the fleet agreed on when it was last found fit, kept for version control.

It is written where there is none, and never replaced by itself: to accept what is new, its owner removes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .findings import WARNING, Finding
from .rule_table import Agreed

VERSION = 1
"""Of the form of the file."""


class InvalidRecord(ValueError):
    """A text that is no record; the message says why."""


def written(agreed: Agreed) -> str:
    """The text of a record: sorted, a line per value, so that its history reads well."""
    return json.dumps({"version": VERSION, "agreed": agreed}, indent=2, sort_keys=True) + "\n"


def read(text: str) -> Agreed:
    """What a record says.

    Raises:
        InvalidRecord: it is none, or has another form.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRecord(f"no JSON: {error}") from None
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise InvalidRecord(f"no record of version {VERSION}")
    groups = record.get("agreed")
    if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
        raise InvalidRecord("its groups are no mappings of values")
    return groups


def drift(plan: Mapping[str, Any], path: str, recorded: Agreed, agreed: Agreed) -> Iterator[Finding]:
    """What all nodes of a group have, but not what they had; where they differ from each other, a rule says so.

    Args:
        plan: the launch plan, for the nodes of each group.
        path: of the record, for the remedy.
        recorded: what they had.
        agreed: what they have.
    """
    remedy = f"if that is wanted, remove {path}, run preflight, which writes it anew, and commit it"
    for group, values in sorted(agreed.items()):
        nodes = tuple(node for node, part in plan["nodes"].items() if not group or part["group"] == group)
        known = recorded.get(group, {})
        for name, value in sorted(values.items()):
            if name in known and _plain(known[name]) != _plain(value):
                before, now = (f"{name} {_plain(side)[:200]}" for side in (known[name], value))
                yield Finding("drift", nodes, f"{before}, as recorded", now, remedy, WARNING)


def _plain(value: Any) -> str:
    """A value as JSON has it: what was a tuple is a list in the file."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
