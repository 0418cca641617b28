# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmarks run, judge by their targets and clean up. What they measure is no test's business."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.ratios import Ratio, best_of

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("value", "target", "met"),
    [(1.2, "<= 1.2", "yes"), (1.21, "<= 1.2", "NO"), (3.5, ">= 3.5", "yes"), (3.49, ">= 3.5", "NO"), (9, "", "")],
)
def test_a_ratio_is_held_against_its_target(value: float, target: str, met: str) -> None:
    assert Ratio("", value, target, "").met() == met


def test_tasks_take_turns() -> None:
    done: list[str] = []
    times = best_of(2, {"one": lambda: done.append("one"), "two": lambda: done.append("two")})
    assert done == ["one", "two", "one", "two"]
    assert list(times) == ["one", "two"]


def test_the_benchmark_of_digests_prints_each_ratio_and_leaves_nothing(tmp_path: Path) -> None:
    options = ["--size", "0.001", "--files", "20", "--repeat", "1", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.digest", *options],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["what", "ratio", "target", "met", "measured"]
    assert [line.partition(":")[0] for line in lines[1:]] == ["20 small files"] + ["shards"] * 5
    assert list(tmp_path.iterdir()) == []
