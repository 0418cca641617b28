# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the inventory and the controller's files into the launch plan; the decisions are in plugin_utils."""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import socket
import time
from collections.abc import Mapping
from typing import Any

import yaml

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.masking import mask_all
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.release_name import ReleaseNameError, lock_key
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import (
    launch_plan,
    plan_checks,
    rerun,
    settings,
    smoke_run,
    training_config,
)
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.artifact_store import KEPT, ArtifactError, ArtifactStore
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.config_difference import Unreadable
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.fleet_action import FleetAction
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.launch_plan import ControllerFiles
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.readings import limited
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.settings import Values

# These verbs deal with runs that are on record, so a mistake in today's inventory must not keep them from working.
RECORDED = {"status", "stop", "collect"}
WHOLE_FLEET = {"preflight", "launch"}
NEEDED_FOR_RECORDS = {
    "axolotl_root",
    "axolotl_machine",
    "axolotl_storage",
    "axolotl_user",
    "axolotl_follow_interval",
    "gpufleet_artifacts_dir",
}


class ActionModule(FleetAction):
    """Returns `plan` (None where there is none) and `findings`; never fails by itself, the verdict does."""

    _VALID_ARGS = frozenset({"verb"})

    def run(self, tmp: Any = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        verb = str(self._task.args["verb"])
        plan, findings = self._plan(verb, task_vars)
        if plan:
            plan["artifacts_dir"] = str(self.store(task_vars).folder)
        return {"changed": False, "plan": plan, "findings": [finding.as_dict() for finding in findings]}

    def _plan(self, verb: str, task_vars: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[Finding]]:
        nodes = self.nodes(task_vars)
        if not nodes:
            remedy = f"put the GPU hosts into the group {settings.GROUP} of the inventory"
            return None, [Finding("group_empty", (), f"at least one host in {settings.GROUP}", "none", remedy)]
        names = {setting.name for setting in settings.SETTINGS} | {"ansible_host", "inventory_dir"}
        needed = NEEDED_FOR_RECORDS if verb in RECORDED else None
        if needed:
            names &= needed | {"inventory_dir"}
        variables = {node: self.variables(task_vars, node, names) for node in nodes}
        for known in variables.values():
            known.setdefault("axolotl_address", known.get("ansible_host"))
        store = self.store(task_vars)
        record, findings = _recorded_run(variables, store) if not needed else ({}, [])
        values, wrong = settings.read(variables, needed)
        findings += wrong
        playing = set(task_vars.get("ansible_play_hosts_all", nodes))
        if not playing & set(nodes):
            findings.append(limited(nodes))
        if findings:
            return None, findings
        if needed:
            return _recorded_nodes(values), []
        findings = plan_checks.check(values)
        left_out = [node for node in nodes if node not in playing]
        if verb in WHOLE_FLEET and left_out:
            findings.append(limited(left_out))
        findings += _doca_key(values[nodes[0]])
        files, wrong = _controller_files(values[nodes[0]], str(store.folder), compiled=verb != "provision")
        findings += wrong
        if findings:
            return None, findings
        run_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(2)}" if verb == "launch" else ""
        writer = next(node for node in nodes if node in playing)
        plan = launch_plan.build(values, files, run_id, writer)
        plan["config"]["values"] = mask_all(plan["config"]["values"], self.secrets(task_vars))
        plan[rerun.SETTINGS] = rerun.defining(variables[nodes[0]])
        if verb == "launch":
            findings = smoke_run.demanded(plan, _smoke_runs(store), values[nodes[0]].require_smoke, time.time())
        if record:
            plan["rerun"] = {"run_id": record["run_id"], "data": record.get("data", {})}
            findings = [*findings, *rerun.differences(record, plan)]
        return (None if findings else plan), findings


def _smoke_runs(store: ArtifactStore) -> list[Mapping[str, Any]]:
    """Records of the smoke runs that passed; a damaged file counts as none."""
    try:
        runs = store.read(store.smoke_path()).get("passed") if store.smoke_path().exists() else None
    except ArtifactError:
        return []
    return [run for run in runs if isinstance(run, dict)] if isinstance(runs, list) else []


def _recorded_run(
    variables: dict[str, dict[str, Any]], store: ArtifactStore
) -> tuple[Mapping[str, Any], list[Finding]]:
    """The plan of the run that is to be run again; what defines that run then stands in `variables`."""
    run_id = str(next(iter(variables.values())).get("rerun") or "")
    if not run_id:
        return {}, []
    folder = store.run_folder(os.path.basename(run_id))
    try:
        record = store.read(folder / "plan.json")
        kept = folder / KEPT / os.path.basename(str(record.get(rerun.SETTINGS, {}).get("axolotl_config")))
        for node, known in variables.items():
            config = str(kept if kept.exists() else known.get("axolotl_config") or "")
            variables[node] = rerun.variables(known, record, config)
    except (ArtifactError, rerun.NoRecord) as error:
        remedy = "correct rerun, or gpufleet_artifacts_dir; status names the runs that nodes know"
        expected = f"the record of run {run_id}"
        return {}, [Finding("rerun_unknown", (), expected, str(error)[:300], remedy)]
    return record, []


def _recorded_nodes(values: Mapping[str, Values]) -> dict[str, Any]:
    nodes = {node: {"paths": launch_plan.node_paths(node, known)._asdict()} for node, known in values.items()}
    interval = next(iter(values.values())).get("axolotl_follow_interval")
    return {"nodes": nodes, "follow_interval": interval}


def _controller_files(fleet: Values, cache: str, compiled: bool) -> tuple[ControllerFiles, list[Finding]]:
    """Read what lies on the controller.

    Args:
        fleet: the fleet's settings.
        cache: folder for checkouts of the source and for what is packed.
        compiled: whether the release's lock must be there already.
    """
    findings: list[Finding] = []
    path = os.path.abspath(os.path.expanduser(fleet.config))
    config, content = _read_config(path, findings)
    release = (
        fleet.commit,
        fleet.extras,
        fleet.requirements,
        fleet.python_version,
        fleet.python_platform,
        fleet.torch_backend,
    )
    try:
        key = lock_key(*release)
    except ReleaseNameError as error:
        findings.append(
            Finding(
                "setting_invalid", (), "settings that can name a release", str(error), "correct it in the inventory"
            )
        )
        key = "none"
    lock_path = os.path.join(os.path.abspath(os.path.expanduser(fleet.lock_dir)), f"{key}.txt")
    lock_sha256 = None
    try:
        with open(lock_path, "rb") as stream:
            lock_sha256 = hashlib.sha256(stream.read()).hexdigest()
    except OSError as error:
        if compiled and key != "none":
            remedy = "run provision, which compiles it, or bring it from where that was done (axolotl_lock_dir)"
            findings.append(
                Finding("lock_missing", (), f"the release's lock {lock_path}", str(error.strerror).lower(), remedy)
            )
    for entry in fleet.training_files:
        if entry["src"] and not os.path.exists(os.path.abspath(os.path.expanduser(entry["src"]))):
            remedy = "correct src in axolotl_training_files"
            findings.append(
                Finding("training_file_missing", (), f"{entry['src']} on the controller", "no such file", remedy)
            )
    digest = hashlib.sha256(content).hexdigest()
    return ControllerFiles(
        path,
        config,
        digest,
        lock_path,
        lock_sha256,
        source_cache=os.path.join(cache, "source", fleet.commit),
        base=os.getcwd(),
        delivery_cache=os.path.join(cache, "delivery"),
        account=f"{getpass.getuser()}@{socket.gethostname()}",
    ), findings


def _doca_key(fleet: Values) -> list[Finding]:
    """Whether the key that is to be trusted on every node is one: what else lies there must not get that far."""
    if fleet["infiniband_provider"] != "doca" or not fleet["infiniband_doca_key"]:
        return []
    path = os.path.abspath(os.path.expanduser(fleet["infiniband_doca_key"]))
    try:
        with open(path, "rb") as stream:
            found = "" if b"-----BEGIN PGP PUBLIC KEY BLOCK-----" in stream.read(1 << 20) else "something else"
    except OSError as error:
        found = str(error.strerror).lower()
    remedy = "fetch it from where DOCA's repository lies, compare its fingerprint, and correct infiniband_doca_key"
    expected = f"an armored OpenPGP public key in {path}"
    return [Finding("doca_key_missing", (), expected, found, remedy)] if found else []


def _read_config(path: str, findings: list[Finding]) -> tuple[Mapping[str, Any], bytes]:
    remedy = "correct axolotl_config, or the file"
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except OSError as error:
        findings.append(
            Finding("config_missing", (), f"the Axolotl config {path}", str(error.strerror).lower(), remedy)
        )
        return {}, b""
    try:
        config = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        found = " ".join(str(error).split())
        findings.append(Finding("config_invalid", (), f"valid YAML in {path}", found[:300], remedy))
        return {}, content
    if not isinstance(config, dict):
        found = f"a {type(config).__name__}"
        findings.append(Finding("config_invalid", (), f"a mapping of config keys in {path}", found, remedy))
        return {}, content
    try:
        training_config.effective(config, {})
    except Unreadable as error:
        findings.append(Finding("config_invalid", (), f"a config of a sensible size in {path}", str(error), remedy))
        return {}, content
    return config, content
