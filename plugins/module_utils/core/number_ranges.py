# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of whole numbers as short texts: what a node says of a thousand others must stay small."""

from __future__ import annotations

from collections.abc import Iterable


def pack(numbers: Iterable[int]) -> str:
    """``{0, 1, 2, 7}`` as ``0-2,7``; an empty text for none."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in parts)


def unpack(text: str) -> list[int]:
    """The inverse of pack, in ascending order.

    Raises:
        ValueError: it is no such text.
    """
    numbers: list[int] = []
    for part in text.split(",") if text else []:
        first, dash, last = part.partition("-")
        numbers.extend(range(int(first), int(last if dash else first) + 1))
    return numbers
