# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the actions that look at the whole fleet share: they run once, on the controller, and see every host.

The fleet is the inventory group, not the play's hosts, which `--limit` has already cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from . import settings
from .artifact_store import ArtifactStore


class FleetAction(ActionBase):
    """An action that runs once for the whole group."""

    BYPASS_HOST_LOOP = True
    TRANSFERS_FILES = False
    _requires_connection = False

    def nodes(self, task_vars: Mapping[str, Any]) -> list[str]:
        """Every node of the group, in its order."""
        return [str(node) for node in task_vars["groups"].get(settings.GROUP, [])]

    def variables(self, task_vars: Mapping[str, Any], node: str, names: set[str]) -> dict[str, Any]:
        """The named variables of a node; one that is not defined is left out."""
        known = task_vars["hostvars"][node]
        found = {}
        for name in names:
            try:
                if name in known:
                    found[name] = known[name]
            except AnsibleError as error:  # it refers to something that is not defined
                found[name] = settings.Unreadable(str(error).splitlines()[0])
        return found

    def results(self, task_vars: Mapping[str, Any], variable: str) -> dict[str, Any]:
        """What a task registered on each node; None where it did not run."""
        hostvars = task_vars["hostvars"]
        return {node: hostvars[node].get(variable) for node in self.nodes(task_vars)}

    def store(self, task_vars: Mapping[str, Any]) -> ArtifactStore:
        """The folder of artifacts, relative to where the command is run."""
        for node in self.nodes(task_vars):
            folder = task_vars["hostvars"][node].get("gpufleet_artifacts_dir")
            if folder:
                return ArtifactStore(str(folder))
        return ArtifactStore(str(task_vars.get("gpufleet_artifacts_dir") or "artifacts"))

    def secrets(self, task_vars: Mapping[str, Any]) -> list[str]:
        """Values that must not be shown."""
        found: set[str] = set()
        for node in self.nodes(task_vars)[:1]:
            secrets = task_vars["hostvars"][node].get("axolotl_secrets")
            if isinstance(secrets, Mapping):
                found.update(str(value) for value in secrets.values())
        return sorted(found)
