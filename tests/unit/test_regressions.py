# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bugs that were there once: hostile input, damaged releases, untried ports, wrong blame, exposed secrets."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from unit import meshes
from unit.fleets import SETTINGS, fingerprints, inventory, plan_of, trained_together, values_of
from unit.helpers import free_port, run_module

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import log_lines, masking, watch_rules
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.evidence_summary import LogSummary
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.watch_rules import END, NodeState, WatchSettings
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import watch
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.watch import NodeEnd, WatchError
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import (
    evidence,
    plan_checks,
    preflight,
    rules_preflight,
    rules_run,
    settings,
    verdict,
)
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.artifact_store import ArtifactError, ArtifactStore
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.override_options import (
    InvalidOverride,
    override_options,
)


# log_lines
@pytest.mark.parametrize("line", ["{'loss': '1.2.3'}", "{'loss': 1.0, 'x': '0.19.0'}"])
def test_a_number_with_two_dots_does_not_raise(line: str) -> None:
    log_lines.read_line(line)


# evidence_summary
def test_tokens_that_are_no_number_are_null() -> None:
    summary = LogSummary()
    summary.add("{'loss': '1.0', 'tokens/total': nan}")
    json.dumps(summary.as_dict(), allow_nan=False)


# masking: quadratic
def test_masking_a_long_word_takes_no_time() -> None:
    begin = time.process_time()
    masking.mask("a" * 20_000, [])
    masking.mask("-" * 20_000, [])
    assert time.process_time() - begin < 2


# watch_rules
def test_a_node_that_finished_is_not_blamed_for_a_later_failure() -> None:
    nodes = [NodeState("node0", 0), NodeState("node1", 1)]
    nodes[1].take({"phase": "ended", "outcome": "finished", "exit_code": 0, "worker_end": {"rank": 1, "pid": 6}}, 5.0)
    failed = {"phase": "ended", "outcome": "failed", "exit_code": 1, "worker_end": {"rank": 0, "pid": 5}}
    nodes[0].take({**failed, "error": "OSError: No space left on device"}, 9.0)
    order = watch_rules.decide(nodes, 0.0, 9.0, WatchSettings(120, 60))
    assert order.kind == END
    assert order.first_failure is not None
    assert order.first_failure["node"] == "node0"


# watch: what a stranger says must not end a supervisor (it catches WatchError, OSError, TimeoutError)
@pytest.mark.parametrize(
    "lines",
    [
        [b'{"nonce": "00"}', '{"proof": "é"}'.encode()],
        [b'{"nonce": "\\ud800"}'],
        [b"[" * 60_000],
    ],
)
def test_a_strangers_answer_is_a_watch_error(lines: list[bytes]) -> None:
    async def talk() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for line in lines:
                writer.write(line + b"\n")
            await writer.drain()
            await reader.read()
            writer.close()

        port = free_port()
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        try:
            with pytest.raises((WatchError, OSError)):
                await NodeEnd("key", "node1").exchange("127.0.0.1", port, {})
        finally:
            server.close()

    asyncio.run(talk())


@pytest.mark.parametrize(
    "hello", ['{"node": "node1", "nonce": "1", "proof": "é"}', '{"node": "\\ud800", "nonce": "1"}', "[" * 60_000]
)
def test_a_strangers_hello_is_refused_without_an_unhandled_error(hello: str) -> None:
    unhandled: list[Any] = []

    async def talk() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))
        port = free_port()
        head = watch.HeadEnd("key", {"node1"}, lambda node, report: watch_rules.Order("go"))
        await head.listen("127.0.0.1", port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        await reader.readline()
        writer.write(hello.encode() + b"\n")
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        head.close()
        await asyncio.sleep(0.1)

    asyncio.run(talk())
    import gc

    gc.collect()
    assert unhandled == []


# settings
def invalid(name: str, value: Any) -> list[str]:
    return [finding.id for finding in settings.read({"node0": {**SETTINGS, name: value}})[1]]


def test_the_root_folder_is_no_root() -> None:
    assert invalid("axolotl_root", "/") == ["setting_invalid"]


@pytest.mark.parametrize("name", ["axolotl_environment", "axolotl_secrets"])
def test_a_variable_can_not_hold_nul(name: str) -> None:
    assert invalid(name, {"A": "x\0y"}) == ["setting_invalid"]


def test_an_invalid_environment_does_not_show_what_is_secret_in_it() -> None:
    _unused, findings = settings.read({"node0": {**SETTINGS, "axolotl_environment": {"HF_TOKEN": "s3cr3t", "B": [1]}}})
    assert "s3cr3t" not in str(findings)


def test_a_mapping_in_another_order_is_equal() -> None:
    variables = inventory(2, environment={"A": "1", "B": "2"})
    variables["node1"]["axolotl_environment"] = {"B": "2", "A": "1"}
    assert settings.read(variables)[1] == []


def test_all_nodes_outside_the_majority_are_named() -> None:
    variables = inventory(5)
    for node, value in (("node1", 4), ("node3", 2)):
        variables[node]["axolotl_nproc_per_node"] = value
    (finding,) = settings.read(variables)[1]
    assert finding.hosts == ("node1", "node3")


def test_in_a_tie_the_head_is_right() -> None:
    variables = inventory(2)
    variables["node1"]["axolotl_nproc_per_node"] = 4
    (finding,) = settings.read(variables)[1]
    assert finding.hosts == ("node1",)


# launch plan: secrets that get into plan, artifacts and report
def test_credentials_in_the_repository_url_are_refused_or_left_out_of_the_plan() -> None:
    values = values_of(inventory(1, repository="https://me:s3cr3t@example.org/a.git"))
    assert plan_checks.check(values) or "s3cr3t" not in json.dumps(plan_of(1, repository=values["node0"].repository))


def test_a_secret_among_the_overrides_is_refused() -> None:
    assert plan_checks.check(values_of(inventory(1, overrides={"hub_token": "s3cr3t"})))


def test_an_empty_mapping_is_no_override() -> None:
    with pytest.raises(InvalidOverride):
        override_options({"fsdp_config": {}})


# rules_preflight: what can't be read passes
@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("commit", "source/ holds no git checkout"),
        ("lock_sha256", "lock.txt can't be read: no such file"),
        ("python_version", "the interpreter of venv/ does not start"),
    ],
)
@pytest.mark.parametrize("nodes", [("node1",), ("node0", "node1")])
def test_a_release_that_is_damaged_does_not_pass(field: str, problem: str, nodes: tuple[str, ...]) -> None:
    plan = plan_of(2)
    prints = fingerprints(plan)
    for node in nodes:
        prints[node]["release"].update({field: None, "complete": False, "problems": [problem]})
    found = {host for finding in rules_preflight.examine(plan, prints) for host in finding.hosts}
    assert found == set(nodes)


# 8b the mesh: a probe or listener that failed proves nothing, and must not pass
@pytest.mark.parametrize("step", ["listener", "probe"])
@pytest.mark.parametrize("result", [{"failed": True, "msg": "no python"}, {"unreachable": True, "msg": "gone"}, None])
def test_a_mesh_that_was_not_tried_does_not_pass(step: str, result: dict[str, Any] | None) -> None:
    plan = plan_of(2)
    results: dict[str, dict[str, Any]] = {
        "fingerprint": {node: {"fingerprint": value} for node, value in fingerprints(plan).items()},
        "listener": dict(meshes.listeners(plan)),
        "probe": {node: {"mesh": value} for node, value in meshes.probes(plan).items()},
    }
    assert preflight.judge(plan, results, "", None).findings == []
    results[step]["node1"] = result
    assert preflight.judge(plan, results, "", None).findings != []


# rules_run
def test_a_run_that_was_stopped_before_it_formed_a_world_did_not_train_alone() -> None:
    nodes = trained_together()
    for node in nodes.values():
        node["connections"] = []
        node["log"].update(losses=[], loss_count=0)
        node["run"]["state"]["outcome"] = "stopped"
    plan = evidence.recorded_plan(nodes)
    findings = rules_run.judge(plan, evidence.summarise(plan, nodes, {node: node for node in nodes}))
    assert [finding.id for finding in findings] == ["stopped"]


# verdict
def test_the_same_finding_counts_once() -> None:
    finding = Finding("commit", ("node1",), "a", "b", "c")
    assert len(verdict.merged(verdict.begun("x", False, {}), [finding, finding], None, None)["findings"]) == 1


# artifact_store
def test_a_failed_write_leaves_no_rubbish(tmp_path: Path) -> None:
    (tmp_path / "launch.json").mkdir()
    store = ArtifactStore(str(tmp_path))
    with pytest.raises(ArtifactError):
        store.write_json(store.verdict_path("launch"), {})
    assert os.listdir(tmp_path) == ["launch.json"]


# run_bundle
@pytest.mark.parametrize(
    ("content", "limit"), [(json.dumps({"fleet": ["n"] * 5000}), 1000), ('{"node": "node0', 1 << 20)]
)
def test_a_bundle_of_a_long_or_torn_plan(tmp_path: Path, content: str, limit: int) -> None:
    folder = tmp_path / "runs" / "run1"
    folder.mkdir(parents=True)
    (folder / "node.json").write_text(content)
    result = run_module("run_bundle", {"runs": str(tmp_path / "runs"), "max_bytes": limit})
    assert result.get("run_id") == "run1"


# run_start: secrets stay on disk when the supervisor could not be started
def test_secrets_do_not_stay_when_the_start_fails(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "run1"
    node = {"node": "node0", "argv": ["x"], "stop_grace": 1}
    (tmp_path / "runs").mkdir()
    arguments = {"run_directory": str(folder), "node": node, "watch_key": "k3y", "secrets": {"HF_TOKEN": "s3cr3t"}}
    result = run_module("run_start", {**arguments, "supervisor": "systemd"})
    assert result["failed"] is True
    assert not (folder / "secrets.json").exists()
