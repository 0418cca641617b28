# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the verdict of a verb, shows it, and fails the play when it is a fail; the only writer of these artifacts."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import processes
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import report, smoke_run, verdict
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.artifact_store import ArtifactError, ArtifactStore
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.fleet_action import FleetAction

display = Display()
MOST_SMOKE_RUNS = 100
"""That are remembered: of as many fleets, configs and releases."""
COLOURS = {verdict.PASS: "bright green", verdict.FAIL: "bright red"}


class ActionModule(FleetAction):
    """`state` is begun (an unfinished fail), gate (go on unless there are errors) or final."""

    _VALID_ARGS = frozenset({"verb", "state", "findings", "plan", "evidence", "unfinished"})

    def run(self, tmp: Any = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        store = self.store(task_vars)
        try:
            return self._run(store, self._task.args, self.nodes(task_vars))
        except ArtifactError as error:
            return {"failed": True, "msg": str(error)}

    def _run(self, store: ArtifactStore, arguments: Mapping[str, Any], nodes: list[str]) -> dict[str, Any]:
        verb, state = str(arguments["verb"]), str(arguments["state"])
        path = store.verdict_path(verb)
        # The process that forks all of one command's tasks tells this command from another one.
        command = processes.read_process(os.getppid())
        controller = {"host": socket.gethostname(), "process": list(command.identity) if command else []}
        if state == "begun":
            self._refuse_second(store, path, controller)
            store.write_json(path, {**verdict.begun(verb, bool(self._task.check_mode), controller), "nodes": nodes})
            return {"changed": False, "artifact": str(path)}
        artifact = store.read(path)
        if artifact.get("controller") != controller:
            raise ArtifactError(f"another {verb} has written {path} meanwhile: run them in folders of their own")
        findings = [Finding.from_dict(dict(finding)) for finding in arguments.get("findings") or []]
        artifact = verdict.merged(artifact, findings, arguments.get("plan"), arguments.get("evidence"))
        outcome = verdict.closed(artifact, unfinished=bool(arguments.get("unfinished")))
        if state == "gate" and outcome["verdict"] == verdict.PASS:
            store.write_json(path, artifact)
            if verb == "launch" and arguments.get("evidence"):  # the fleet has been examined: the plan stands
                self._announce(store, artifact)
            return {"changed": False, "artifact": str(path)}
        return self._close(store, path, outcome)

    @staticmethod
    def _refuse_second(store: ArtifactStore, path: Path, controller: Mapping[str, Any]) -> None:
        """Two commands of one verb in one folder would spoil each other's verdict."""
        other = store.read(path).get("controller", {}) if path.exists() else {}
        if other == controller or other.get("host") != controller["host"] or not other.get("process"):
            return
        if processes.is_alive(processes.Identity(*other["process"])):
            pid = other["process"][0]
            raise ArtifactError(f"pid {pid} is at work on {path}: run this in another folder, or wait for it")

    def _announce(self, store: ArtifactStore, artifact: Mapping[str, Any]) -> None:
        """Show the plan before anything starts, and freeze it in the run's record."""
        display.display(report.plan_text(artifact["plan"]))
        plan, run_id = artifact["plan"], artifact["run_id"]
        if not artifact["check"]:
            store.keep(run_id, plan["config"]["src"], plan["config"]["sha256"])
            store.keep(run_id, plan["lock_path"], plan["lock_sha256"])
            store.write_json(store.run_folder(run_id) / "plan.json", plan)

    def _close(self, store: ArtifactStore, path: Any, outcome: dict[str, Any]) -> dict[str, Any]:
        store.write_json(path, outcome)
        if outcome["verb"] == "launch" and outcome["evidence"].get("outcomes"):
            store.write(store.run_folder(outcome["run_id"]) / "report.md", report.markdown(outcome))
        if outcome["verb"] == "launch" and verdict.is_go(outcome):
            known = store.read(store.smoke_path()).get("passed", []) if store.smoke_path().exists() else []
            passed = [*known[-MOST_SMOKE_RUNS:], smoke_run.passed(outcome["plan"], time.time())]
            store.write_json(store.smoke_path(), {"passed": passed})
        display.display(verdict.text(outcome), color=COLOURS[outcome["verdict"]])
        failed = outcome["verdict"] == verdict.FAIL
        return {"changed": False, "failed": failed, "msg": verdict.line(outcome), "artifact": str(path)}
