# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts together, once for all nodes, what each gets to dial; the decision is in plugin_utils."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import readings, rules_mesh
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.fleet_action import FleetAction


class ActionModule(FleetAction):
    """Returns `mesh` as text: as a list of a thousand rows, Ansible would template each of them for each node."""

    _VALID_ARGS = frozenset({"plan", "listener"})

    def run(self, tmp: Any = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        registered = self.results(task_vars or {}, str(self._task.args["listener"]))
        answered = readings.read(registered, "listening", "listening").values
        listeners = {node: registered[node] for node in answered}
        mesh = rules_mesh.targets(self._task.args["plan"], listeners)
        return {"changed": False, "mesh": json.dumps(mesh), "nodes": len(mesh["targets"])}
