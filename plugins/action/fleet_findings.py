# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds what the nodes returned against the rules, once for the whole fleet; the rules are in plugin_utils."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.masking import mask
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import (
    evidence,
    nccl_settings,
    readings,
    rules_data,
    rules_mesh,
    rules_preflight,
    rules_run,
    rules_steps,
    rules_storage,
)
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.fleet_action import FleetAction

Results = Mapping[str, Mapping[str, Any]]
Judgement = tuple[list[Finding], dict[str, Any]]


class ActionModule(FleetAction):
    """Returns `findings` and `evidence`; never fails by itself, the verdict does."""

    _VALID_ARGS = frozenset({"rules", "results", "plan"})

    def run(self, tmp: Any = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        registered = self._task.args["results"]
        results = {name: self.results(task_vars, str(variable)) for name, variable in registered.items()}
        rules, plan = str(self._task.args["rules"]), self._task.args.get("plan") or {}
        findings, found = JUDGES[rules](plan, results)
        secrets = self.secrets(task_vars)
        judgement = {
            "changed": False,
            "findings": _masked([finding.as_dict() for finding in findings], secrets),
            "evidence": _masked(found, secrets),
        }
        if rules == "preflight":
            judgement["plan"] = nccl_settings.completed(plan, found["fingerprints"])
        return judgement


def _preflight(plan: Mapping[str, Any], results: Mapping[str, Results]) -> Judgement:
    fingerprints = readings.read(results["fingerprint"], "fingerprint", "reading the node")
    findings = [*fingerprints.findings, *rules_storage.marked(plan, results.get("marker", {}))]
    informed = rules_data.informed(plan, _once(results, "controller_inputs"), _once(results, "differences"))
    findings += rules_preflight.examine(informed, fingerprints.values)
    listening = readings.read(_not_skipped(results["listener"]), "listening", "listening")
    probes = readings.read(_not_skipped(results["probe"]), "mesh", "dialling the others")
    listeners = {node: results["listener"][node] for node in listening.values}
    findings += [*listening.findings, *probes.findings]
    findings += rules_mesh.examine(plan, fingerprints.values, listeners, probes.values)
    return findings, {"fingerprints": fingerprints.values, "mesh": probes.values}


def _data(plan: Mapping[str, Any], results: Mapping[str, Results]) -> Judgement:
    """What has to be looked at file by file, so that the judgement can name the files; it judges nothing itself."""
    fingerprints = readings.read(results["fingerprint"], "fingerprint", "reading the node").values
    informed = rules_data.informed(plan, _once(results, "controller_inputs"), {})
    return [], {"compare": rules_data.to_compare(informed, fingerprints)}


def _once(results: Mapping[str, Results], name: str) -> Mapping[str, Any]:
    """The result of a task that ran once for all."""
    return next((result for result in results.get(name, {}).values() if result), {})


def _not_skipped(results: Results) -> Results:
    """A step that was left out on purpose says nothing; what made it superfluous is a finding already."""
    return {node: result for node, result in results.items() if not (result and result.get("skipped"))}


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
    "preflight": _preflight,
    "data": _data,
    "run": _run,
    "status": _status,
    "storage": lambda plan, results: rules_storage.proven(plan, results["step"], results["marker"]),
    **{name: _steps(name) for name in ("reached", "provisioned", "started", "stopped", "collected")},
}


def _masked(value: Any, secrets: list[str]) -> Any:
    """Log text may repeat a secret."""
    if isinstance(value, str):
        return mask(value, secrets)
    if isinstance(value, Mapping):
        return {str(key): _masked(item, secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(item, secrets) for item in value]
    return value
