# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the runs on this node: their records, held against the processes that really are there."""

from __future__ import annotations

import os
import time
from typing import Any

from . import processes
from .run_directory import RunDirectory, read_json, run_directories

_PLAN = (
    "argv",
    "launcher",
    "rendezvous",
    "rendezvous_timeout",
    "release_id",
    "nproc_per_node",
    "master_port",
    "watch_port",
    "expected_tokens",
    "config",
    "machine",
    "accelerator",
    "smoke",
)


def mark_of(folder: RunDirectory) -> str:
    """What this node's processes of the run carry in their environment."""
    return f"{folder.run_id}/{read_json(folder.node_file).get('node')}"


def supervisor_of(folder: RunDirectory) -> processes.Identity | None:
    """The supervisor's identity while it lives."""
    recorded = read_json(folder.state_file).get("supervisor")
    identity = processes.Identity(*recorded) if recorded else None
    return identity if identity and processes.is_alive(identity) else None


def processes_of(folder: RunDirectory) -> list[processes.Identity]:
    """The run's living processes on this node, the supervisor left out.

    Both ways of finding them are used: below the supervisor while it lives, and by mark, which outlives it.
    """
    supervisor = supervisor_of(folder)
    below = processes.descendants(supervisor.pid) if supervisor else []
    return sorted({*below, *processes.marked().get(mark_of(folder), [])})


def read_run(folder: RunDirectory) -> dict[str, Any]:
    """The run's state on this node as it really is."""
    node = read_json(folder.node_file)
    state = read_json(folder.state_file)
    tree = processes_of(folder)
    return {
        "run_id": folder.run_id,
        "path": folder.path,
        "node": node.get("node"),
        "node_rank": node.get("node_rank"),
        "fleet": node.get("fleet", []),
        "plan": {name: node.get(name) for name in _PLAN},
        "state": state,
        "supervisor_alive": supervisor_of(folder) is not None,
        "processes": [identity.pid for identity in tree],
        "watch": read_json(folder.fleet_file),
    }


def active_runs(runs: str) -> list[RunDirectory]:
    """Every run of which something is alive on this node, the newest last; the process table is read once for all."""
    marks = processes.marked()
    folders = run_directories(runs)
    return [folder for folder in folders if supervisor_of(folder) is not None or mark_of(folder) in marks]


def launched_by(folder: RunDirectory) -> str:
    """Who started a run, and with which config, for people; empty where its record does not say."""
    node = read_json(folder.node_file)
    said = (str(node.get("launched_by") or ""), str(node.get("config") or ""))
    return ", ".join(filter(None, said))


def starting_runs(runs: str, within: float) -> list[str]:
    """Ids of runs whose folder was made less than `within` seconds ago and whose supervisor is not on record yet."""
    found = []
    try:
        for entry in os.scandir(runs):
            young = time.time() - entry.stat().st_mtime < within
            if young and not read_json(RunDirectory(entry.path).state_file).get("supervisor"):
                found.append(entry.name)
    except OSError:  # no runs yet, or one was removed meanwhile
        return found
    return found


def find_run(runs: str, run_id: str) -> RunDirectory | None:
    """The named run; without a name the newest active one, else the newest."""
    if run_id:
        return next((folder for folder in run_directories(runs) if folder.run_id == run_id), None)
    candidates = active_runs(runs) or run_directories(runs)
    return candidates[-1] if candidates else None
