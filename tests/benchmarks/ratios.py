# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What benchmarks share. They print ratios of two times that were taken in turns: these hold on another machine too."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Ratio(NamedTuple):
    """One line of the table; `target` begins with `>=` or `<=`, and is empty where nothing is asked for."""

    what: str
    value: float
    target: str
    detail: str

    def met(self) -> str:
        if not self.target:
            return ""
        bound = float(self.target[2:])
        return "yes" if (self.value >= bound if self.target.startswith(">=") else self.value <= bound) else "NO"


class Cost(NamedTuple):
    """Seconds by the clock on the wall, and those that processors spent on this process."""

    wall: float
    processor: float


def cost(task: Callable[[], object]) -> Cost:
    """What it costs once."""
    wall, processor = time.perf_counter(), time.process_time()
    task()
    return Cost(time.perf_counter() - wall, time.process_time() - processor)


def best_of(repeat: int, tasks: dict[str, Callable[[], object]]) -> dict[str, Cost]:
    """The least of each task. They take turns, so that a slow minute of the machine falls upon all of them."""
    rounds = [{name: cost(task) for name, task in tasks.items()} for _round in range(repeat)]
    return {name: Cost(*map(min, *(costs[name] for costs in rounds), rounds[0][name])) for name in tasks}


def print_table(ratios: Sequence[Ratio]) -> None:
    head = ("what", "ratio", "target", "met", "measured")
    rows = [head, *((row.what, f"{row.value:.3f}", row.target, row.met(), row.detail) for row in ratios)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
