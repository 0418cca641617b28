# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a run through its modules: run_start, run_state, run_evidence, run_bundle, run_stop."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.helpers import free_port, run_module, wait_for

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import processes

SECRET = "s3cr3t-hf-token"
KEY = "s3cr3t-watch-key"
TRAINER = (
    "import os, subprocess, sys, time\n"
    "print('HF_TOKEN is', os.environ['HF_TOKEN'], flush=True)\n"
    "print({'loss': '6.5', 'tokens/total': 9}, flush=True)\n"
    "code = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(120)'\n"
    "subprocess.Popen([sys.executable, '-c', code], start_new_session=True).wait()\n"
)


class Run:
    """One run of a node alone under a root of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs = root / "runs"
        self.id = f"test-{os.getpid()}-{root.parent.name}"
        self.folder = self.runs / self.id
        self.config = root / "work" / "train.yml"
        self.release = root / "releases" / "r1"
        for folder in (self.runs, self.config.parent, self.release):
            folder.mkdir(parents=True)
        self.config.write_text("hub_token: hf_0123456789abcdef01\npad_token: <pad>\nlearning_rate: 0.001\n")
        (self.release / "lock.txt").write_text("torch==2.13.0\n")
        self.node: dict[str, Any] = {
            "node": "node0",
            "node_rank": 0,
            "fleet": ["node0"],
            "machine": "here",
            "release_id": "r1",
            "nproc_per_node": 1,
            "head_address": "127.0.0.1",
            "master_port": free_port(),
            "watch_port": free_port(),
            "join_timeout": 20,
            "watch_grace": 20,
            "stop_grace": 1,
            "expected_tokens": 0,
            "work_dir": str(self.config.parent),
            "output_dir": str(root / "work" / "out"),
            "config": str(self.config),
            "argv": [sys.executable, "-c", TRAINER],
            "environment": {"PATH": os.environ["PATH"], "NCCL_DEBUG": "INFO"},
        }

    def start(self, **special: Any) -> dict[str, Any]:
        arguments = {
            "run_directory": str(self.folder),
            "node": self.node,
            "watch_key": KEY,
            "secrets": {"HF_TOKEN": SECRET},
            "supervisor": "process",
        }
        return run_module("run_start", arguments, **special)

    def module(self, name: str, check: bool = False, **arguments: Any) -> dict[str, Any]:
        result = run_module(name, {"runs": str(self.runs), **arguments}, check=check)
        del result["invocation"]
        return result

    def training(self) -> None:
        wait_for(lambda: len(self.alive()) >= 3)  # supervisor's children: launcher and worker, and what they started
        wait_for(lambda: "loss" in (self.folder / "trainer.log").read_text())

    def alive(self) -> list[int]:
        """Every living process of the run, its supervisor included."""
        state = json.loads((self.folder / "state.json").read_text())
        supervisor = processes.Identity(*state["supervisor"])
        marked = processes.marked().get(f"{self.id}/node0", [])
        return [identity.pid for identity in (supervisor, *marked) if processes.is_alive(identity)]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path / "root")
    yield run
    if (run.folder / "state.json").exists():
        for pid in run.alive():
            os.kill(pid, signal.SIGKILL)


def test_check_mode_shows_the_command_and_starts_nothing(run: Run) -> None:
    result = run.start(check=True)
    assert result["changed"] is True
    assert result["supervisor"] == "process"
    assert result["diff"]["after"].splitlines()[0] == sys.executable
    assert not run.folder.exists()
    assert SECRET not in json.dumps(result)


def test_the_life_of_a_run(run: Run) -> None:
    started = run.start()
    assert started["changed"] is True
    assert started["state"]["node"] == "node0"
    assert SECRET not in json.dumps(started)
    assert KEY not in json.dumps(started)
    assert stat.S_IMODE(run.folder.stat().st_mode) == 0o700
    run.training()
    assert not (run.folder / "secrets.json").exists()

    state = run.module("run_state")
    assert state["changed"] is False
    assert set(state) == {"changed", "run"}
    assert state["run"]["supervisor_alive"] is True
    assert (state["run"]["run_id"], state["run"]["node"], state["run"]["fleet"]) == (run.id, "node0", ["node0"])
    assert len(state["run"]["processes"]) == 2
    assert run.module("run_state", run_id="another") == {**state, "run": None}

    again = run.start()
    assert again["failed"] is True
    assert f"run {run.id} is active on this node" in again["msg"]

    evidence = run.module("run_evidence")["evidence"]
    assert evidence["log"]["losses"] == [6.5]
    assert evidence["run"]["run_id"] == run.id

    seen = run.module("run_stop", check=True)
    assert (seen["changed"], seen["stopped"], seen["left"]) == (True, [run.id], [])
    assert seen["fleet"] == ["node0"]
    assert len(run.alive()) == 3
    other = run.module("run_stop", run_id="another")
    assert (other["changed"], other["stopped"], other["left"]) == (False, [], [])
    assert len(run.alive()) == 3

    stopped = run.module("run_stop")
    assert (stopped["changed"], stopped["stopped"], stopped["left"]) == (True, [run.id], [])
    assert run.alive() == []
    assert run.module("run_state")["run"]["state"]["outcome"] == "stopped"
    assert run.module("run_stop")["changed"] is False

    again = run.start()
    assert again["failed"] is True
    assert "a run id is used once" in again["msg"]


def test_stop_ends_what_lost_its_supervisor(run: Run) -> None:
    run.node["argv"] = [sys.executable, "-c", "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(120)"]
    run.start()
    wait_for(lambda: len(run.alive()) == 2)
    wait_for(lambda: _ignores_sigterm(run.module("run_state")["run"]["state"].get("trainer")))
    supervisor = json.loads((run.folder / "state.json").read_text())["supervisor"]
    os.kill(supervisor[0], signal.SIGKILL)
    wait_for(lambda: len(run.alive()) == 1)
    state = run.module("run_state")
    assert state["run"]["supervisor_alive"] is False
    assert len(state["run"]["processes"]) == 1
    stopped = run.module("run_stop", run_id=run.id)
    assert (stopped["stopped"], stopped["left"]) == ([run.id], [])
    assert run.alive() == []


def _ignores_sigterm(trainer: list[int] | None) -> bool:
    if not trainer:
        return False
    text = Path(f"/proc/{trainer[0]}/status").read_text()
    ignored = next(line for line in text.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored.split()[1], 16) & 1 << signal.SIGTERM - 1)


def test_a_node_without_runs(run: Run) -> None:
    assert run.module("run_state")["run"] is None
    assert run.module("run_evidence")["evidence"] is None
    assert run.module("run_bundle")["run_id"] is None
    assert run.module("run_stop")["stopped"] == []


def staged(run: Run, run_id: str, **files: str) -> Path:
    """The folder of a run that has ended."""
    folder = run.runs / run_id
    folder.mkdir()
    (folder / "node.json").write_text(json.dumps(run.node))
    (folder / "state.json").write_text(json.dumps({"phase": "ended", "outcome": "finished"}))
    for name, text in files.items():
        (folder / f"{name}.log").write_text(text)
    return folder


def test_the_newest_run_is_meant_where_none_is_named(run: Run) -> None:
    staged(run, "20260102T000000Z-aa")
    staged(run, "20260101T000000Z-zz")
    assert run.module("run_state")["run"]["run_id"] == "20260102T000000Z-aa"
    assert run.module("run_state", run_id="20260101T000000Z-zz")["run"]["run_id"] == "20260101T000000Z-zz"


def test_only_checkpoints_of_this_run_are_evidence(run: Run) -> None:
    out = Path(run.node["output_dir"])
    for name in ("checkpoint-1", "checkpoint-2"):
        (out / name).mkdir(parents=True)
        (out / name / "rng_state_0.pth").write_text("")
        (out / name / "optimizer.pt").write_text("")
    folder = staged(run, "run1", trainer="{'loss': '1.5'}\nlast words")
    os.utime(folder / "node.json", (1_000_000, 1_000_000))
    for path in (out / "checkpoint-1", out / "checkpoint-1" / "rng_state_0.pth"):
        os.utime(path, (999_000, 999_000))
    evidence = run.module("run_evidence")["evidence"]
    assert evidence["checkpoints"] == {"checkpoint-2": ["rng_state_0.pth"]}
    assert evidence["log_tail"] == ["{'loss': '1.5'}", "last words"]
    assert evidence["log"]["losses"] == [1.5]


def test_evidence_of_a_run_that_never_logged(run: Run) -> None:
    staged(run, "run1")
    evidence = run.module("run_evidence")["evidence"]
    assert (evidence["log"]["loss_count"], evidence["connections"], evidence["checkpoints"]) == (0, [], {})
    assert evidence["log_tail"] == []


def unpacked(bundle: dict[str, Any]) -> dict[str, str]:
    with tarfile.open(bundle["path"]) as archive:
        return {member.name: archive.extractfile(member).read().decode() for member in archive}  # type: ignore[union-attr]


def test_the_bundle_holds_the_record_without_secrets(run: Run) -> None:
    run.node["environment"]["WANDB_API_KEY"] = "0123456789"
    run.node["environment"]["NOTE"] = SECRET
    log = f"login with {SECRET}\nHF_TOKEN={SECRET}x\nhttps://me:pw12345@example.org/a.git\n{{'tokens/total': 560}}\n"
    staged(run, "run1", trainer=log, supervisor="")
    bundle = run.module("run_bundle", secrets=[SECRET])
    assert (bundle["changed"], bundle["run_id"], bundle["fleet"]) == (False, "run1", ["node0"])
    assert stat.S_IMODE(os.stat(bundle["path"]).st_mode) == 0o600
    files = unpacked(bundle)
    assert sorted(files) == bundle["members"]
    assert set(files) == {"trainer.log", "supervisor.log", "node.json", "state.json", "config.yml", "lock.txt"}
    everything = "".join(files.values())
    for secret in (SECRET, '0123456789"', "pw12345", "hf_0123456789abcdef01"):
        assert secret not in everything
    assert "{'tokens/total': 560}" in files["trainer.log"]
    assert "pad_token: <pad>\nlearning_rate: 0.001\n" in files["config.yml"]
    assert json.loads(files["node.json"])["environment"]["NCCL_DEBUG"] == "INFO"
    assert json.loads(files["node.json"])["argv"] == run.node["argv"]
    assert files["lock.txt"] == "torch==2.13.0\n"


def test_a_long_log_is_bundled_by_its_ends(run: Run) -> None:
    lines = [f"line {number}" for number in range(100_000)]
    staged(run, "run1", trainer="\n".join(lines) + "\n")
    text = unpacked(run.module("run_bundle", max_bytes=10_000))["trainer.log"]
    assert len(text) < 10_200
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 99999\n")
    size = len("\n".join(lines)) + 1
    assert f"\n... about {size - 10_000} bytes left out here ...\n" in text


def test_check_mode_names_the_bundle_and_writes_nothing(run: Run) -> None:
    folder = staged(run, "run1", trainer="x")
    bundle = run.module("run_bundle", check=True)
    assert bundle["path"] == str(folder / "bundle.tar.gz")
    assert "trainer.log" in bundle["members"]
    assert not (folder / "bundle.tar.gz").exists()
