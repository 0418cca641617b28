# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far apart trainers start that are to start together, whether any start is lost, and what a launch costs.

python -m tests.benchmarks.launch [--hosts N] [--starts N]

The hosts are this machine, many times: each has a real supervisor with a watch over loopback, and a trainer that ends
at once. So all of them share its processors, where real ones have their own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import processes, supervisor_start
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.run_directory import (
    RunDirectory,
    read_json,
    write_json,
)

from ..unit.helpers import free_port
from .ratios import Ratio, print_table

SPREAD = 0.15
"""Seconds between the first and the last start that are asked for."""
PATIENCE = 120.0
"""Seconds for a run to end."""
PROJECT = Path(__file__).resolve().parents[2]
PLAYBOOK = [
    {
        "hosts": "axolotl_nodes",
        "gather_facts": False,
        "tasks": [
            {
                "ansible.builtin.include_role": {
                    "name": "gpufleet.axolotl.run",
                    "tasks_from": "start",
                    "rolespec_validate": False,
                }
            }
        ],
    }
]
PING = [{"hosts": "axolotl_nodes", "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}]}]


def parts(folder: Path, hosts: int, run_id: str) -> dict[str, dict[str, Any]]:
    """What each node's supervisor gets."""
    names = [f"node{rank}" for rank in range(hosts)]
    common = {
        "fleet": names,
        "head_address": "127.0.0.1",
        "watch_port": free_port(),
        "join_timeout": PATIENCE,
        "watch_grace": PATIENCE,
        "stop_grace": 5,
        "environment": {"PATH": os.environ["PATH"]},
        "work_dir": str(folder),
        "argv": ["/bin/true"],
    }
    return {name: {**common, "node": name, "node_rank": rank} for rank, name in enumerate(names)}


def states(folder: Path, names: list[str], run_id: str) -> list[dict[str, Any]]:
    """What each supervisor left, when all have ended or the patience has."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = [read_json(RunDirectory(str(folder / name / run_id)).state_file) for name in names]
        if all(state.get("closed_at") for state in found) or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def started(folder: Path, hosts: int) -> list[dict[str, Any]]:
    """One run of so many hosts, started by the module's own function."""
    run_id = f"bench-{uuid.uuid4().hex[:8]}"
    known = parts(folder, hosts, run_id)
    for name, part in known.items():
        run = RunDirectory(str(folder / name / run_id))
        os.makedirs(run.path, mode=0o700)
        write_json(run.node_file, part)
        write_json(run.secrets_file, {"watch_key": "benchmark", "environment": {}}, mode=0o600)
        supervisor_start.pack(run.supervisor_archive)
        supervisor_start.start(run, "process", name, 5)
    return states(folder, list(known), run_id)


def playbook(folder: Path, inventory: Path, name: str, plays: list[dict[str, Any]]) -> float:
    """Seconds that a playbook takes, from the command to its end."""
    path = folder / f"{name}.yml"
    path.write_text(yaml.safe_dump(plays, sort_keys=False))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), str(path)]
    start = time.perf_counter()
    environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=folder)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return time.perf_counter() - start


def overhead(folder: Path, hosts: int) -> tuple[float, float]:
    """Seconds of one ping of the hosts, and from the command that starts a run until its trainers have started."""
    run_id = f"bench-{uuid.uuid4().hex[:8]}"
    known = parts(folder, hosts, run_id)
    nodes = {
        name: {
            "paths": {"run": str(folder / name / run_id), "runs": str(folder / name)},
            "start": part,
        }
        for name, part in known.items()
    }
    for name in known:
        (folder / name).mkdir(exist_ok=True)
    plan = {"run_id": run_id, "supervisor": "process", "head": "node0", "nodes": nodes}
    inventory = folder / "hosts.json"
    common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "run_plan": plan}
    inventory.write_text(json.dumps({"axolotl_nodes": {"hosts": {name: {} for name in known}, "vars": common}}))
    ping = playbook(folder, inventory, "ping", PING)
    begun = time.time()
    playbook(folder, inventory, "start", PLAYBOOK)
    found = states(folder, list(known), run_id)
    began = [os.stat(RunDirectory(str(folder / name / run_id)).trainer_log).st_ctime for name in known]
    if not all(state.get("outcome") == "finished" for state in found):
        raise SystemExit(f"not all parts finished: {found}")
    return ping, max(began) - begun


def main() -> None:
    parser = argparse.ArgumentParser(description="How trainers start together, and what that costs.")
    parser.add_argument("--hosts", type=int, default=64)
    parser.add_argument("--starts", type=int, default=1000, help="parts in all that are started, to see if one is lost")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpufleet-bench-") as name:
        folder = Path(name)
        spreads, lost, done = [], 0, 0
        while done < options.starts:
            found = started(folder, options.hosts)
            late = [state["started_late"] for state in found if state.get("started_late") is not None]
            lost += sum(state.get("outcome") != "finished" for state in found)
            spreads.append(max(late) - min(late))
            done += options.hosts
        ping, launch = overhead(folder, options.hosts)
    left = [run for run in processes.marked() if run.startswith("bench-")]
    spreads.sort()
    median = spreads[len(spreads) // 2]
    print_table(
        [
            Ratio(f"{options.hosts} hosts, spread of starts, to {SPREAD} s", median / SPREAD, "<=1", f"{median:.3f} s"),
            Ratio("the largest spread of all runs, to that", spreads[-1] / SPREAD, "", f"{spreads[-1]:.3f} s"),
            Ratio(f"lost of {done} starts", lost + len(left), "<=0", f"{len(spreads)} runs"),
            Ratio(
                "from the command to the last start, to a ping", launch / ping, "<=4", f"{launch:.1f} s, {ping:.1f} s"
            ),
        ]
    )


if __name__ == "__main__":
    main()
