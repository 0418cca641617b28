# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real two-node trainings: the good one, and the ways in which one goes wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support.fleet import LOCAL, Fleet, alive, run_folder, state, wait_for, workers

pytestmark = [pytest.mark.training, pytest.mark.timeout(600)]

# tokens/total of the first step in one process, from `axolotl train configs/tiny.yml` alone; two ranks see twice that.
SINGLE_PROCESS_TOKENS = 280
LONG = {"max_steps": 2000, "save_steps": 5000}
HOSTILE = "a b; $(touch /tmp/pwned) \"quoted\" 'single' | > *"
ENDED_WITHIN = 10.0
"""Seconds for all nodes to be ended after one has failed."""


def test_two_nodes_train_as_one_world(fleet: Fleet) -> None:
    outcome = fleet.run("launch")
    assert outcome.rc == 0, outcome.stdout
    artifact = outcome.artifact
    assert (artifact["verdict"], artifact["unfinished"], artifact["check"]) == ("pass", False, False)
    evidence = artifact["evidence"]
    assert evidence["world_size"] == 2
    assert evidence["ranks_seen"] == [0, 1]
    assert evidence["nodes_with_losses"] == ["node0"]
    assert evidence["first_tokens_total"] == 2 * SINGLE_PROCESS_TOKENS
    assert len(evidence["losses"]) == 4
    assert evidence["losses"][-1] < evidence["losses"][0]
    assert evidence["checkpoints"]["node0"]["checkpoint-4"] == ["rng_state_0.pth"]
    assert evidence["checkpoints"]["node1"]["checkpoint-4"] == ["rng_state_1.pth"]
    assert alive(artifact["run_id"]) == []
    assert re.search(r"^ +\d\d:\d\d:\d\d .*2 of 2 nodes running", outcome.stdout, re.MULTILINE)
    assert re.search(r"step 4/4  loss 5\.\d+ ", outcome.stdout)
    report = fleet.folder / "project" / "artifacts" / artifact["run_id"] / "report.md"
    assert "PASS" in report.read_text()
    frozen = json.loads((report.parent / "plan.json").read_text())
    for node, part in frozen["nodes"].items():
        recorded = json.loads((run_folder(node, artifact["run_id"]) / "node.json").read_text())
        assert recorded["environment"]["GLOO_SOCKET_IFNAME"] == part["derived"]["GLOO_SOCKET_IFNAME"]["value"] == "lo"
    assert "derived on node0, node1:  GLOO_SOCKET_IFNAME=lo" in outcome.stdout

    status = fleet.run("status")
    assert status.rc == 0, status.stdout
    assert status.artifact["run_id"] == artifact["run_id"]
    assert status.artifact["evidence"]["losses"] == evidence["losses"]

    secret = "s3cr3t-value-of-nobody"
    for node in ("node0", "node1"):
        with (run_folder(node, artifact["run_id"]) / "trainer.log").open("a") as log:
            log.write(f"the trainer said {secret}\n")
    collected = fleet.run("collect", axolotl_secrets={"WANDB_API_KEY": secret})
    assert collected.rc == 0, collected.stdout
    folder = report.parent / "node1"
    names = {path.name for path in folder.iterdir()}
    assert {"trainer.log", "node.json", "state.json", "config.yml", "lock.txt", "release.json"} <= names
    assert "the trainer said ********" in (folder / "trainer.log").read_text()
    for path in [*report.parent.rglob("*"), *(report.parent.parent).glob("*.json")]:
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def test_nodes_that_train_alone_are_no_pass_though_both_exit_0(fleet: Fleet) -> None:
    environment = {"AXOLOTL_DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    outcome = fleet.run("launch", axolotl_environment=environment)
    assert outcome.rc != 0
    evidence = outcome.artifact["evidence"]
    assert evidence["exit_codes"] == {"node0": 0, "node1": 0}
    assert outcome.artifact["verdict"] == "fail"
    assert outcome.finding("no_world")["hosts"] == ["node0", "node1"]
    assert "no world formed: 2 separate ones" in outcome.finding("no_world")["found"]
    assert evidence["world_size"] == 1
    assert outcome.finding("checkpoint_alone")["hosts"] == ["node0", "node1"]


def test_killed_trainer_ends_the_other_node_and_is_named(fleet: Fleet) -> None:
    launch = fleet.start("launch", axolotl_overrides={**LONG, "wandb_name": HOSTILE})
    run_id = _training(fleet)
    victim = workers("node1", run_id)[0]
    assert f"--wandb-name={HOSTILE}" in Path(f"/proc/{victim.pid}/cmdline").read_text().split("\0")
    assert not Path("/tmp/pwned").exists()

    os.kill(victim.pid, signal.SIGKILL)
    wait_for("both nodes ended", lambda: _ended(run_id), ENDED_WITHIN)
    assert alive(run_id) == []
    assert launch.wait(timeout=60) != 0
    artifact = fleet.artifact("launch")
    assert (artifact["verdict"], artifact["unfinished"]) == ("fail", False)
    _assert_named(artifact, "node1")


def test_interrupted_controller_leaves_the_run_and_the_watch_alone(fleet: Fleet) -> None:
    launch = fleet.start("launch", axolotl_overrides=LONG)
    run_id = _training(fleet)
    os.killpg(launch.pid, signal.SIGINT)
    assert launch.wait(timeout=30) != 0
    assert (fleet.artifact("launch")["verdict"], fleet.artifact("launch")["unfinished"]) == ("fail", True)
    time.sleep(2)
    assert state("node0", run_id)["phase"] == state("node1", run_id)["phase"] == "running"

    status = fleet.run("status")
    assert status.rc == 0, status.stdout
    assert (status.artifact["run_id"], status.artifact["unfinished"]) == (run_id, True)
    assert {node["phase"] for node in status.artifact["evidence"]["nodes"].values()} == {"running"}

    # With no controller attached, the head's trainer is killed, and the watch alone ends the other.
    victim = workers("node0", run_id)[0]
    os.kill(victim.pid, signal.SIGKILL)
    wait_for("both nodes ended", lambda: _ended(run_id), ENDED_WITHIN)
    assert alive(run_id) == []
    status = fleet.run("status")
    assert status.rc != 0
    _assert_named(status.artifact, "node0")


def test_stop_ends_a_run_that_nobody_follows(fleet: Fleet) -> None:
    launch = fleet.run("launch", axolotl_overrides=LONG, axolotl_follow=False)
    assert launch.rc == 0, launch.stdout
    assert (launch.artifact["verdict"], launch.artifact["unfinished"]) == ("pass", True)
    run_id = launch.artifact["run_id"]

    second = fleet.run("launch")
    assert second.rc != 0
    assert second.finding("run_active")["found"].startswith(f"run {run_id}, started by ")
    assert {"node0", "node1"} == set(second.finding("run_active")["hosts"])

    # A damaged release that a run uses is left alone.
    stray = run_folder("node0", run_id).parents[1] / "current" / "source" / "stray.py"
    stray.write_text("")
    provision = fleet.run("provision", "--tags", "release")
    stray.unlink()
    assert provision.finding("provision_failed")["hosts"] == ["node0"]
    assert run_id in provision.finding("provision_failed")["found"]

    stop = fleet.run("stop")
    assert stop.rc == 0, stop.stdout
    assert stop.artifact["evidence"]["stopped"] == {"node0": [run_id], "node1": [run_id]}
    assert alive(run_id) == []
    assert _supervisors(run_id) == ""
    assert fleet.run("preflight").errors == []  # the ports are free again
    assert fleet.run("stop", gpufleet_run_id="20000101T000000Z-0000").errors == ["run_missing"]
    status = fleet.run("status", gpufleet_run_id=run_id)
    assert "stopped" in status.errors


def _training(fleet: Fleet) -> str:
    """Wait until both nodes train, and return the run's id."""

    def loss_is_logged() -> str | None:
        run_id = fleet.artifact("launch").get("run_id")
        watch = run_folder("node0", run_id) / "fleet.json" if run_id else None
        return run_id if watch and watch.exists() and '"loss"' in watch.read_text() else None

    try:
        return str(wait_for("a loss", loss_is_logged, 180))
    except AssertionError:
        raise AssertionError(fleet.log("launch")[-3000:]) from None


def _ended(run_id: str) -> bool:
    return all(state(node, run_id).get("phase") == "ended" for node in ("node0", "node1"))


def _supervisors(run_id: str) -> str:
    """Supervisors of the run that are still there."""
    pattern = f"supervisor.zip {LOCAL}/node[01]/runs/{run_id}"
    return subprocess.run(["pgrep", "-f", pattern], check=False, capture_output=True, text=True).stdout


def _assert_named(artifact: dict[str, Any], node: str) -> None:
    """The first failure is the killed node's, and its peer is no failure of its own."""
    failures = [finding for finding in artifact["findings"] if finding["id"] == "trainer_failed"]
    assert [finding["hosts"] for finding in failures] == [[node]], artifact["findings"]
    assert artifact["evidence"]["first_failure"]["node"] == node
    assert "signal 9" in failures[0]["found"], failures[0]
