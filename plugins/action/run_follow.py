# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stays with a run until every node's part has ended, one line of progress per interval.

Only the head is asked, whose supervisor knows the state of all nodes, so following costs the same at any size.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import progress

display = Display()
PROMPT = 1.0
"""Seconds between two looks at the head; a line is shown when the interval is over or something changed."""


class ActionModule(ActionBase):
    """Returns `ended`, the last `watch` and, should contact be lost for longer than the grace time, `lost`."""

    BYPASS_HOST_LOOP = True
    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"runs", "run_id", "interval", "grace"})

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = self._task.args
        interval, grace = float(arguments["interval"]), float(arguments["grace"])
        begin = contact = time.monotonic()
        shown_at, shown = -interval, None
        watch: dict[str, Any] = {}
        while True:
            now = time.monotonic()
            run, trouble = self._look(arguments, task_vars)
            if run is None:
                if now - contact > grace:
                    return self._lost(watch, trouble)
                display.display(f"  {trouble}; trying again", color="yellow")
            else:
                contact, watch = now, run["watch"] or watch
                phases = {name: (node["phase"], watch["order"]) for name, node in watch.get("nodes", {}).items()}
                if watch and (now - begin - shown_at >= interval or phases != shown):
                    shown_at, shown = now - begin, phases
                    display.display("  " + progress.line(watch, now - begin))
                # Once the head has left, a peer that it lost will never have an end on record.
                if progress.has_ended(watch) or run["state"].get("closed_at"):
                    return {"changed": False, "ended": True, "watch": watch, "lost": None}
                if not run["supervisor_alive"]:
                    return self._lost(watch, "the head's supervisor is gone")
            time.sleep(min(interval, PROMPT + (now - begin) / 60))

    @staticmethod
    def _lost(watch: Mapping[str, Any], why: str) -> dict[str, Any]:
        display.warning(f"{why}: following ends here, the run may go on; see status")
        return {"changed": False, "ended": False, "watch": watch, "lost": why}

    def _look(self, arguments: Mapping[str, Any], task_vars: Any) -> tuple[dict[str, Any] | None, str]:
        options = {"runs": arguments["runs"], "run_id": arguments["run_id"]}
        try:
            result = self._execute_module("gpufleet.axolotl.run_state", options, task_vars=task_vars)
        except AnsibleConnectionFailure as error:
            return None, f"the head does not answer ({str(error).splitlines()[0][:200]})"
        if result.get("failed") or result.get("unreachable") or not result.get("run"):
            return None, f"the head's state can't be read ({str(result.get('msg'))[:200]})"
        return result["run"], ""
