# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it costs the controller to compare a fleet, in processor time, by the number of nodes.

python -m tests.benchmarks.comparison [--hosts N] [--repeat N]

The nodes are made up and one of them differs; the judgement is preflight's own, without the mesh.
"""

from __future__ import annotations

import argparse
import gc
import time
from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.action.fleet_findings import judgement
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import preflight

from ..unit.fleets import FILES, fingerprints, plan_of
from .ratios import Ratio, print_table

SECRETS = ["a-secret-of-the-fleet"]
"""Masking them is part of every judgement."""
CONFIG = {"base_model": "/srv/model", "datasets": [{"path": "/srv/data"}], "dataset_prepared_path": "prepared"}
"""What the made-up training reads and prepares."""
BUDGET = 1.0
"""Seconds of processor time for 3,000 nodes, on top of Ansible's own cost of the task."""
SIZES = (300, 1000, 3000, 10000)


def measured(size: int, repeat: int) -> float:
    """The least processor time of several judgements on a fleet of that size, in seconds."""
    plan = plan_of(size, FILES._replace(config=CONFIG))
    prints = fingerprints(plan)
    prints["node7"]["gpus"]["driver"] = "another"
    skipped = {node: {"skipped": True} for node in plan["nodes"]}
    read = {node: {"fingerprint": found} for node, found in prints.items()}
    results: dict[str, Any] = {"fingerprint": read, "listener": skipped, "probe": skipped}
    gc.freeze()  # as the action does
    times = []
    for _run in range(repeat):
        start = time.process_time()
        judged = preflight.judge(plan, results, "", None)
        found = judgement(judged.findings, judged.evidence, SECRETS)["findings"]
        times.append(time.process_time() - start)
        assert ("driver", ["node7"]) in [(finding["id"], finding["hosts"]) for finding in found]
    gc.unfreeze()
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="What it costs the controller to compare a fleet.")
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    times = {size: measured(size, repeat) for size in SIZES}
    each = {size: seconds / size for size, seconds in times.items()}
    rows = [
        Ratio(f"{size} nodes, per node, to {SIZES[0]}", each[size] / each[SIZES[0]], "<=1.5", f"{times[size]:.2f} s")
        for size in SIZES[1:]
    ]
    print_table([Ratio(f"3000 nodes, to {BUDGET:.0f} s", times[3000] / BUDGET, "<=1", f"{times[3000]:.2f} s"), *rows])


if __name__ == "__main__":
    main()
