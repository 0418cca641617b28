# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans one round of a relay from what the last one did, once for the whole fleet; the rules are in plugin_utils."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.manifest import root_digest
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.relay_protocol import RelayError, read_entries
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import relay_rounds
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.fleet_action import FleetAction


class ActionModule(FleetAction):
    """Returns `relay`, which the next call gets as `last`, and `serve`: whether who fetches now is to offer it then."""

    _VALID_ARGS = frozenset({"entries", "last", "offered", "fetched"})

    def run(self, tmp: Any = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = self._task.args
        try:
            digest = root_digest(read_entries(arguments["entries"]))
        except RelayError as error:
            return {"failed": True, "msg": str(error)}
        offers = self._of_this_relay(task_vars, "offered", digest)
        if arguments.get("last"):
            last = relay_rounds.Relay(**arguments["last"])
            relay = relay_rounds.proceed(last, offers, self._of_this_relay(task_vars, "fetched", digest))
        else:
            relay = relay_rounds.begin(self.nodes(task_vars), offers)
        serve = len(relay.tries) > len(relay.fetches)
        return {"changed": False, "relay": dataclasses.asdict(relay), "serve": serve}

    def _of_this_relay(self, task_vars: Mapping[str, Any], name: str, digest: str) -> dict[str, Mapping[str, Any]]:
        """Results of a task about this content: a node that drops out keeps the one of an earlier relay."""
        found = {}
        for node, result in self.results(task_vars, str(self._task.args[name])).items():
            if result and (result.get("failed") or result.get("digest") == digest):
                found[node] = result
        return found
