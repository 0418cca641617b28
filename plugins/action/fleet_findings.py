# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds what the nodes returned against the rules, once for the whole fleet; the rules are in plugin_utils."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.masking import mask, mask_all, mask_document
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.files import replace_file
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import (
    evidence,
    fingerprint_shape,
    launcher_choice,
    nccl_settings,
    plan_notes,
    preflight,
    readings,
    rules_data,
    rules_run,
    rules_steps,
    rules_storage,
)
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import WARNING, Finding
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.fleet_action import FleetAction

display = Display()
Results = Mapping[str, Mapping[str, Any]]
Judgement = tuple[list[Finding], dict[str, Any]]


class ActionModule(FleetAction):
    """Returns `findings` and `evidence`; never fails by itself, the verdict does."""

    _VALID_ARGS = frozenset({"rules", "results", "plan"})

    def run(self, tmp: Any = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        # Ansible's worker is a fork that ends with this task: what it came with is no garbage, and to look for some
        # in what a thousand nodes returned takes longer than a rule.
        gc.freeze()
        task_vars = task_vars or {}
        registered = self._task.args["results"]
        results = {name: self.results(task_vars, str(variable)) for name, variable in registered.items()}
        rules, plan = str(self._task.args["rules"]), self._task.args.get("plan") or {}
        secrets = self.secrets(task_vars)
        if rules == "preflight":
            return self._preflight(plan, results, secrets)
        findings, found = JUDGES[rules](plan, results)
        return judgement(findings, found, secrets)

    def _preflight(self, plan: Mapping[str, Any], results: Mapping[str, Results], secrets: list[str]) -> dict[str, Any]:
        """Beside the nodes' results there is what lies on the controller: the config, and the record of the fleet."""
        record = plan["parity"]["record"]
        judged = preflight.judge(plan, results, _config(plan), _text(record) if record else None)
        if self._task.diff and judged.diff:
            display.display(mask(judged.diff, secrets))
        findings = list(judged.findings)
        if judged.record and not self._task.check_mode:
            findings += _keep(Path(record), judged.record)
        return {
            **judgement(findings, judged.evidence, secrets),
            "changed": bool(judged.record),
            "plan": {
                **_completed(plan, judged.evidence["fingerprints"]),
                "data": rules_data.agreed(judged.evidence["fingerprints"]),
            },
        }


def _completed(plan: Mapping[str, Any], fingerprints: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The plan with what only the nodes could tell."""
    completed = launcher_choice.chosen(nccl_settings.completed(plan, fingerprints), fingerprints)
    return {**completed, "notes": plan_notes.notes(completed, fingerprints)}


def _text(path: str) -> str | None:
    """The record's text; None where there is none yet, empty where it can't be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def _keep(path: Path, record: str) -> list[Finding]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(str(path), record)
    except OSError as error:
        remedy = "correct parity_record, or let this account write there"
        return [Finding("record_invalid", (), f"{path} can be written", str(error.strerror).lower(), remedy, WARNING)]
    return []


def judgement(findings: list[Finding], evidence: Mapping[str, Any], secrets: list[str]) -> dict[str, Any]:
    shown = {"findings": [finding.as_dict() for finding in findings], "evidence": evidence}
    return {"changed": False, **mask_all(shown, secrets)}


def _config(plan: Mapping[str, Any]) -> str:
    """The controller's config as it was planned with, its secrets masked; empty where it is no longer that."""
    try:
        content = Path(plan["config"]["src"]).read_bytes()
    except OSError:
        return ""
    if hashlib.sha256(content).hexdigest() != plan["config"]["sha256"]:
        return ""
    return mask_document(content.decode("utf-8", "replace"))


def _data(plan: Mapping[str, Any], results: Mapping[str, Results]) -> Judgement:
    """What has to be looked at file by file, so that the judgement can name the files; it judges nothing itself."""
    fingerprints = fingerprint_shape.fingerprints(results["fingerprint"]).values
    informed = rules_data.informed(plan, readings.once(results, "controller_inputs"), {})
    return [], {"compare": rules_data.to_compare(informed, fingerprints)}


def _run(plan: Mapping[str, Any], results: Mapping[str, Results]) -> Judgement:
    read = readings.read(results["evidence"], "evidence", "reading the evidence")
    nodes = _by_recorded_name(read.values)
    findings, found = _judged(nodes, set(results["evidence"]), set(read.values))
    return [*read.findings, *findings], found


def _status(plan: Mapping[str, Any], results: Mapping[str, Results]) -> Judgement:
    read = readings.read(results["evidence"], "evidence", "reading the run")
    known = _by_recorded_name(read.values)
    run_id = evidence.newest_run(known)
    nodes = {node: value for node, value in known.items() if value["run"]["run_id"] == run_id}
    if not nodes:
        return read.findings, {"nodes": {}}
    found = {"run_id": run_id, "nodes": evidence.node_states(nodes), "active": evidence.is_active(nodes)}
    if found["active"]:
        return [*read.findings, *rules_run.supervised(nodes)], found
    findings, summary = _judged(nodes, set(results["evidence"]), set(read.values))
    return [*read.findings, *findings], {**found, **summary}


def _by_recorded_name(values: Results) -> dict[str, Mapping[str, Any]]:
    """Evidence by the names that the nodes had when the run started: the inventory may have changed since."""
    return {str(value["run"]["node"]): value for value in values.values() if value}


def _judged(nodes: Mapping[str, Mapping[str, Any]], asked: set[str], answered: set[str]) -> Judgement:
    """Judge a run by the evidence of its nodes; one that nobody asked, or that knows nothing of it, is a finding."""
    if not nodes:
        return [], {}
    plan = evidence.recorded_plan(nodes)
    machines = {node: str(value["run"]["plan"]["machine"]) for node, value in nodes.items()}
    summary = evidence.summarise(plan, nodes, machines)
    without = sorted((set(plan["nodes"]) & answered) - set(nodes))
    absent = rules_steps.absent(set(plan["nodes"]) - asked - set(nodes))
    return [*absent, *rules_run.without_record(without), *rules_run.judge(plan, summary)], summary


def _steps(which: str) -> Callable[[Mapping[str, Any], Mapping[str, Results]], Judgement]:
    """A rule of rules_steps; results beside the step's own go to it by their names."""
    rule = getattr(rules_steps, which)

    def judge(plan: Mapping[str, Any], results: Mapping[str, Results]) -> Judgement:
        beside = {name: result for name, result in results.items() if name != "step"}
        findings, found = rule(plan, results["step"], **beside)
        return findings, found

    return judge


JUDGES: dict[str, Callable[[Mapping[str, Any], Mapping[str, Results]], Judgement]] = {
    "data": _data,
    "run": _run,
    "status": _status,
    "storage": lambda plan, results: rules_storage.proven(plan, results["step"], results["marker"]),
    **{name: _steps(name) for name in ("reached", "provisioned", "started", "stopped", "collected")},
}
