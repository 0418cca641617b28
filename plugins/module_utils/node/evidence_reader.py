# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what one node's part of a run proves: its log, its connections, its checkpoints, what is still alive."""

from __future__ import annotations

import os
from typing import Any

from ..core.evidence_summary import LogSummary
from . import run_reader
from .log_reader import LogReader
from .run_directory import RunDirectory, read_json


def read_evidence(folder: RunDirectory) -> dict[str, Any]:
    """Read the evidence.

    Returns:
        ``run`` (see run_reader.read_run), ``log`` (see LogSummary.as_dict), ``connections`` (rank, local and
        remote endpoint), ``checkpoints`` (name to sorted rng_state files, of checkpoints that this run wrote) and
        ``log_tail`` (the newest 20 lines).
    """
    summary, reader = LogSummary(), LogReader(folder.trainer_log)
    tail: list[str] = []
    for line in reader.new_lines():
        summary.add(line)
        tail = [*tail[-19:], line[:500]]
    rest = reader.rest()
    summary.add(rest)
    output_dir = str(read_json(folder.node_file).get("output_dir") or "")
    return {
        "run": run_reader.read_run(folder),
        "log": summary.as_dict(),
        "log_tail": [*tail, rest[:500]] if rest else tail,
        "connections": read_json(folder.connections_file).get("connections", []),
        "checkpoints": _checkpoints(output_dir, since=os.stat(folder.node_file).st_mtime),
    }


def _checkpoints(output_dir: str, since: float) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    try:
        names = sorted(os.listdir(output_dir)) if output_dir else []
    except OSError:
        return found
    for name in names:
        path = os.path.join(output_dir, name)
        if name.startswith("checkpoint-") and os.path.isdir(path):
            # A folder that an earlier run made keeps its time when its files are written anew.
            states = [item for item in sorted(os.listdir(path)) if item.startswith("rng_state")]
            written = [item for item in states if os.stat(os.path.join(path, item)).st_mtime >= since]
            if written:
                found[name] = written
    return found
