# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of one run on one node, and how they are read and written.

``node.json`` is this node's part of the launch plan, frozen; ``state.json`` what became of it; ``fleet.json`` (on
the head alone) what the head knows of every node; ``connections.json`` which sockets the trainers held.
"""

from __future__ import annotations

import json
import os
from typing import Any

from .files import replace_file


class RunDirectory:
    """The folder ``<axolotl_root>/runs/<run id>``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.node_file = os.path.join(path, "node.json")
        self.secrets_file = os.path.join(path, "secrets.json")
        self.state_file = os.path.join(path, "state.json")
        self.fleet_file = os.path.join(path, "fleet.json")
        self.connections_file = os.path.join(path, "connections.json")
        self.trainer_log = os.path.join(path, "trainer.log")
        self.supervisor_log = os.path.join(path, "supervisor.log")
        self.supervisor_archive = os.path.join(path, "supervisor.zip")

    @property
    def run_id(self) -> str:
        return os.path.basename(self.path)


def read_json(path: str) -> dict[str, Any]:
    """Read a JSON object; an empty one where the file is missing or torn."""
    try:
        with open(path, encoding="utf-8") as stream:
            value = json.load(stream)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: str, value: Any, mode: int = 0o644) -> None:
    """Replace the file in one step, so that a reader never sees half of it."""
    replace_file(path, json.dumps(value, indent=1, sort_keys=True), mode)


def run_directories(runs: str) -> list[RunDirectory]:
    """Every run of this node, the newest last (a run id begins with its time)."""
    try:
        names = sorted(os.listdir(runs))
    except OSError:
        return []
    folders = [RunDirectory(os.path.join(runs, name)) for name in names]
    return [folder for folder in folders if os.path.exists(folder.node_file)]
