# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor end to end: real supervisors of one or two nodes on loopback, with small fake trainers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.helpers import free_port, wait_for

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import processes, supervisor_start
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.run_directory import (
    RunDirectory,
    read_json,
    write_json,
)
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.supervisor import record_loss

TRAINER = str(Path(__file__).with_name("fake_trainer.py"))
SECRET = "s3cr3t-hf-token"
KEY = "s3cr3t-watch-key"


class Node:
    """One node's part of a run."""

    def __init__(self, root: Path, run_id: str, plan: dict[str, Any]) -> None:
        self.folder = RunDirectory(str(root / run_id))
        self.plan = plan
        self.mark = f"{run_id}/{plan['node']}"
        self.supervisor: processes.Identity | None = None

    def start(self, *trainer: str, argv: list[str] | None = None) -> None:
        os.makedirs(self.folder.path, mode=0o700)
        write_json(self.folder.node_file, {**self.plan, "argv": argv or [sys.executable, TRAINER, *trainer]})
        secrets = {"watch_key": KEY, "environment": {"HF_TOKEN": SECRET}}
        write_json(self.folder.secrets_file, secrets, mode=0o600)
        supervisor_start.pack(self.folder.supervisor_archive)
        state = supervisor_start.start(self.folder, "process", self.plan["node"], self.plan["stop_grace"])
        self.supervisor = processes.Identity(*state["supervisor"])

    @property
    def state(self) -> dict[str, Any]:
        return read_json(self.folder.state_file)

    @property
    def log(self) -> str:
        path = Path(self.folder.trainer_log)
        return path.read_text() if path.exists() else ""

    def signal(self, number: int) -> None:
        assert self.supervisor is not None
        assert processes.send_signal(self.supervisor, number)

    def training(self) -> None:
        """Wait until the trainer has said its first words."""
        wait_for(lambda: "started" in self.log)

    def worker(self) -> int:
        """Wait until the supervisor can know of the worker; its pid."""
        found = wait_for(lambda: re.search(r"worker (\d+)", self.log))
        wait_for(lambda: self.state.get("phase") == "running")
        return int(found.group(1))

    def ended(self) -> dict[str, Any]:
        """Wait for the supervisor's end; the state it leaves."""
        assert self.supervisor is not None
        supervisor = self.supervisor
        wait_for(lambda: not processes.is_alive(supervisor))
        return self.state

    def alive(self) -> list[processes.Identity]:
        return processes.marked().get(self.mark, [])


class Fleet:
    """Nodes of one run, short of patience."""

    def __init__(self, folder: Path) -> None:
        self.base = folder
        self.run_id = f"test-{uuid.uuid4().hex[:8]}"
        self.nodes: list[Node] = []

    def of(self, size: int, **settings: Any) -> list[Node]:
        port = free_port()
        names = [f"node{rank}" for rank in range(size)]
        for rank, name in enumerate(names):
            plan = {
                "node": name,
                "node_rank": rank,
                "fleet": names,
                "head_address": "127.0.0.1",
                "watch_port": port,
                "join_timeout": 20,
                "watch_grace": 20,
                "stop_grace": 5,
                "environment": {"PATH": os.environ["PATH"], "NODE_RANK": str(rank)},
                "work_dir": str(self.base),
                **settings,
            }
            self.nodes.append(Node(self.base / name, self.run_id, plan))
        return self.nodes

    def end(self) -> None:
        for node in self.nodes:
            if node.supervisor:
                processes.send_signal(node.supervisor, signal.SIGKILL)
            left = node.alive()
            processes.signal_all(left, signal.SIGKILL)
            processes.wait_until_gone(left, 10)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.end()


def test_no_trainer_starts_before_the_agreed_time(fleet: Fleet) -> None:
    """How long after it they do is measured by tests/benchmarks/launch.py."""
    nodes = fleet.of(3)
    for node in nodes:
        node.start("exit", "0")
        time.sleep(0.3)
    assert all(node.ended()["started_late"] >= 0 for node in nodes)


def test_trainers_that_finish_make_a_finished_run(fleet: Fleet) -> None:
    nodes = fleet.of(2)
    for node in nodes:
        node.start("exit", "0")
    for node in nodes:
        state = node.ended()
        assert (state["phase"], state["outcome"], state["exit_code"], state["left"]) == ("ended", "finished", 0, 0)
        assert state["first_failure"] is None
        assert state["closed_at"]
        assert node.alive() == []
    watched = read_json(nodes[0].folder.fleet_file)
    assert {name: node["outcome"] for name, node in watched["nodes"].items()} == dict.fromkeys(
        ("node0", "node1"), "finished"
    )
    assert not os.path.exists(nodes[1].folder.fleet_file)


def test_no_trainer_starts_before_everybody_has_joined(fleet: Fleet) -> None:
    first, second = fleet.of(2)
    second.start("exit", "0")
    first.start("exit", "0")
    assert first.ended()["outcome"] == second.ended()["outcome"] == "finished"

    alone = Fleet(fleet.base / "alone")
    try:
        first, second = alone.of(2)
        first.start("exit", "0")
        wait_for(lambda: read_json(first.folder.fleet_file))
        time.sleep(1.5)
        assert first.log == ""
        assert first.state["phase"] == "joining"
    finally:
        alone.end()


def test_one_failure_ends_the_run_everywhere_and_is_named(fleet: Fleet) -> None:
    nodes = fleet.of(2)
    go = fleet.base / "end"
    nodes[0].start("train", str(fleet.base / "never"))
    nodes[1].start("train", str(go))
    for node in nodes:
        node.training()
    begin = time.monotonic()
    go.write_text("3")
    failed, called_off = nodes[1].ended(), nodes[0].ended()
    assert time.monotonic() - begin < 10
    assert (failed["outcome"], failed["exit_code"]) == ("failed", 3)
    assert (called_off["outcome"], called_off["left"]) == ("called_off", 0)
    for state in (failed, called_off):
        assert state["first_failure"]["node"] == "node1"
        assert state["first_failure"]["exit_code"] == 3
    assert called_off["reason"] == "node1: trainer exited with 3"
    assert "got SIGTERM" in nodes[0].log
    assert nodes[0].alive() == nodes[1].alive() == []


def test_a_trainer_killed_by_a_signal_says_so(fleet: Fleet) -> None:
    (node,) = fleet.of(1)
    node.start("stubborn")
    wait_for(lambda: "deaf" in node.log)
    assert processes.send_signal(processes.Identity(*node.state["trainer"]), signal.SIGKILL)
    state = node.ended()
    assert (state["outcome"], state["exit_code"], state["signal"]) == ("failed", None, signal.SIGKILL)
    assert state["reason"] == "trainer killed by signal 9"


def test_what_a_trainer_leaves_behind_is_ended(fleet: Fleet) -> None:
    (node,) = fleet.of(1, stop_grace=1)
    node.start("abandon", "2.5")
    worker = node.worker()
    assert len(wait_for(lambda: len(node.alive()) > 2 and node.alive())) == 3  # launcher, worker and its fork
    state = node.ended()
    assert (state["outcome"], state["exit_code"], state["left"]) == ("finished", 0, 0)
    assert processes.read_process(worker) is None
    assert node.alive() == []


def test_a_supervisor_that_is_asked_to_stop_ends_the_run(fleet: Fleet) -> None:
    nodes = fleet.of(2)
    for node in nodes:
        node.start("train", str(fleet.base / "never"))
    for node in nodes:
        node.training()
    nodes[1].signal(signal.SIGTERM)
    stopped, peer = nodes[1].ended(), nodes[0].ended()
    assert (stopped["outcome"], stopped["left"]) == ("stopped", 0)
    assert stopped["reason"] == "stopped on request on node1"
    assert (peer["outcome"], peer["reason"]) == ("called_off", "stopped on request on node1")
    assert peer["first_failure"] is None
    assert nodes[0].alive() == nodes[1].alive() == []


def test_stopping_while_others_still_join_starts_nothing(fleet: Fleet) -> None:
    head, _unused = fleet.of(2, watch_grace=1)
    head.start("exit", "0")
    wait_for(lambda: read_json(head.folder.fleet_file))
    head.signal(signal.SIGTERM)
    assert head.ended()["outcome"] == "stopped"
    assert head.log == ""


def test_a_trainer_that_does_not_listen_is_killed_after_the_grace(fleet: Fleet) -> None:
    (node,) = fleet.of(1, stop_grace=1)
    node.start("stubborn")
    wait_for(lambda: "deaf" in node.log)
    begin = time.monotonic()
    node.signal(signal.SIGTERM)
    state = node.ended()
    assert 1 <= time.monotonic() - begin < 10
    assert (state["outcome"], state["left"]) == ("stopped", 0)
    assert node.alive() == []


def test_a_peer_that_never_joins_ends_the_run_in_time(fleet: Fleet) -> None:
    head, _unused = fleet.of(2, join_timeout=2, watch_grace=1)
    begin = time.monotonic()
    head.start("exit", "0")
    state = head.ended()
    assert 2 <= time.monotonic() - begin < 15
    assert state["outcome"] == "called_off"
    assert state["reason"] == "node1: node1 did not join within 2 s"
    assert state["first_failure"]["node"] == "node1"
    assert head.log == ""


def test_a_head_that_never_comes_ends_the_nodes_wait(fleet: Fleet) -> None:
    _unused, node = fleet.of(2, join_timeout=2, watch_grace=1)
    node.start("exit", "0")
    state = node.ended()
    assert state["outcome"] == "called_off"
    assert state["reason"].startswith("no contact with the head's supervisor for ")
    assert node.log == ""


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_supervisor_takes_its_trainer_and_then_its_peer_along(fleet: Fleet, lost: int) -> None:
    nodes = fleet.of(2, watch_grace=3)
    for node in nodes:
        node.start("train", str(fleet.base / "never"))
    for node in nodes:
        node.training()
    gone, peer = nodes[lost], nodes[1 - lost]
    begin = time.monotonic()
    gone.signal(signal.SIGKILL)
    wait_for(lambda: not gone.alive())
    assert "got SIGTERM" in gone.log
    assert peer.state["phase"] == "running"
    state = peer.ended()
    assert 2 < time.monotonic() - begin < 15
    assert (state["outcome"], state["left"]) == ("called_off", 0)
    assert peer.alive() == []
    if lost == 1:
        assert state["first_failure"]["node"] == "node1"
        assert state["reason"].startswith("node1: nothing heard of it for 3 s")
    else:
        assert state["reason"].startswith("no contact with the head's supervisor for ")


@pytest.mark.parametrize(("argv", "named"), [(["/nowhere/axolotl", "train"], "/nowhere/axolotl"), ([TRAINER], TRAINER)])
def test_a_trainer_that_can_not_be_started_is_a_failure(fleet: Fleet, argv: list[str], named: str) -> None:
    nodes = fleet.of(2)
    nodes[0].start("train", str(fleet.base / "never"))
    nodes[1].start(argv=argv)
    state, peer = nodes[1].ended(), nodes[0].ended()
    assert (state["outcome"], state["exit_code"]) == ("failed", None)
    assert state["start_error"].startswith(named)
    assert state["reason"] == f"the trainer could not be started: {state['start_error']}"
    assert peer["outcome"] == "called_off"
    assert peer["first_failure"]["what"] == state["reason"]


def test_a_work_folder_that_is_missing_is_named(fleet: Fleet) -> None:
    (node,) = fleet.of(1, work_dir="/nowhere/work")
    node.start("exit", "0")
    state = node.ended()
    assert state["outcome"] == "failed"
    assert state["start_error"] == "/nowhere/work: No such file or directory"


def test_the_secrets_reach_the_trainer_and_no_file(fleet: Fleet) -> None:
    (node,) = fleet.of(1)
    node.start("train", str(fleet.base / "end"))
    node.training()
    assert not os.path.exists(node.folder.secrets_file)
    environment = processes.environment_of(node.state["trainer"][0])
    assert environment["HF_TOKEN"] == SECRET
    assert environment[processes.RUN_MARK] == node.mark
    assert not any(name.startswith("PYTEST") for name in environment)  # nothing of ours is inherited
    (fleet.base / "end").write_text("0")
    node.ended()
    names = os.listdir(node.folder.path)
    assert {"node.json", "state.json", "fleet.json", "trainer.log", "supervisor.zip"} <= set(names)
    for name in names:
        content = Path(node.folder.path, name).read_bytes()
        assert SECRET.encode() not in content
        assert KEY.encode() not in content


def test_the_blame_is_the_nodes_whose_worker_ended_first(fleet: Fleet) -> None:
    nodes = fleet.of(2)
    nodes[0].start("launch", "0")  # gives up at once when its worker ends
    nodes[1].start("launch", "2")  # slower to notice
    workers = [node.worker() for node in nodes]
    time.sleep(1.5)  # the supervisors look for workers every second
    os.kill(workers[1], signal.SIGKILL)
    wait_for(lambda: nodes[1].state.get("worker_end"))
    wait_for(lambda: "worker_end" in read_json(nodes[0].folder.fleet_file)["nodes"]["node1"])
    os.kill(workers[0], signal.SIGKILL)  # as the collective breaks
    states = [node.ended() for node in nodes]
    for state in states:
        assert state["first_failure"]["node"] == "node1"
        assert state["first_failure"]["rank"] == 1
    assert states[0]["outcome"] == "failed"
    # The launcher of the culprit got the time to say what became of its worker.
    assert (states[1]["outcome"], states[1]["exit_code"]) == ("failed", 1)
    assert nodes[0].alive() == nodes[1].alive() == []


def test_connections_between_workers_are_recorded(fleet: Fleet) -> None:
    (node,) = fleet.of(1)
    code = (
        "import os, socket, subprocess, sys, time\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "talk = 'import socket, time; s = socket.create_connection((\"127.0.0.1\", %d)); time.sleep(120)'\n"
        "environment = {**os.environ, 'RANK': '5', 'LOCAL_RANK': '0'}\n"
        "child = subprocess.Popen([sys.executable, '-c', talk % server.getsockname()[1]], env=environment)\n"
        "connection = server.accept()[0]\n"
        "print('started', server.getsockname()[1], flush=True)\n"
        "time.sleep(120)\n"
    )
    node.start(argv=[sys.executable, "-c", code])
    node.training()
    port = int(node.log.split()[1])
    found = wait_for(lambda: read_json(node.folder.connections_file).get("connections"))
    assert [(entry["rank"], entry["remote"]) for entry in found] == [(5, ["127.0.0.1", port])]
    node.signal(signal.SIGTERM)
    node.ended()


def test_a_taken_watch_port_is_named(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (node,) = fleet.of(1, watch_port=port)
        node.start("exit", "0")
        state = node.ended()
    assert state["outcome"] == "called_off"
    assert state["reason"].startswith(f"the watch can't listen on port {port}: ")


def test_progress_is_reported_to_the_head(fleet: Fleet) -> None:
    nodes = fleet.of(2)
    code = (
        "import os, time\n"
        "if os.environ['NODE_RANK'] == '1':\n"
        "    print('\\r 25%|x| 1/4 [00:00<00:00]\\r', {'loss': '6.5', 'tokens/total': 9}, sep='', flush=True)\n"
        "time.sleep(120)\n"
    )
    for node in nodes:
        node.start(argv=[sys.executable, "-c", code])
    seen = wait_for(lambda: _if(read_json(nodes[0].folder.fleet_file).get("nodes", {}).get("node1", {}), "loss"))
    assert (seen["loss"], seen["tokens"], seen["step"], seen["total_steps"]) == (6.5, 9, 1, 4)
    nodes[0].signal(signal.SIGTERM)
    for node in nodes:
        node.ended()


def _if(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return mapping if key in mapping else {}


def test_a_supervisor_that_dies_at_once_is_reported_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_start, "STARTED_WITHIN", 1.0)
    folder = RunDirectory(str(tmp_path))
    write_json(folder.secrets_file, {"watch_key": KEY})
    write_json(folder.node_file, {"node": "node0"})
    supervisor_start.pack(folder.supervisor_archive)
    with pytest.raises(supervisor_start.StartError, match="join_timeout"):
        supervisor_start.start(folder, "process", "node0", 1)


def test_the_archive_runs_by_itself(tmp_path: Path) -> None:
    """Nothing of the collection or of the virtual environment is needed on the node."""
    archive = str(tmp_path / "supervisor.zip")
    supervisor_start.pack(archive)
    (tmp_path / "state.json").write_text(json.dumps({"phase": "running"}))
    command = [sys.executable, "-I", "-S", archive, "--record-loss", str(tmp_path)]
    environment = {"SERVICE_RESULT": "oom-kill", "EXIT_STATUS": "9"}
    subprocess.run(command, check=True, env=environment, timeout=30)
    state = json.loads((tmp_path / "state.json").read_text())
    assert (state["phase"], state["outcome"]) == ("ended", "failed")
    assert state["reason"] == "the supervisor ended with oom-kill (9)"


def test_the_loss_of_a_closed_run_is_none(tmp_path: Path) -> None:
    closed = {"phase": "ended", "outcome": "finished", "closed_at": "2026-01-01T00:00:00Z"}
    write_json(str(tmp_path / "state.json"), closed)
    record_loss(RunDirectory(str(tmp_path)))
    assert read_json(str(tmp_path / "state.json")) == closed


def test_a_unit_name_is_made_of_run_and_node() -> None:
    assert supervisor_start.unit_name("20260101T000000Z", "gpu 1/x") == "gpufleet-20260101T000000Z-gpu_1_x.service"


def test_the_unit_ends_as_a_whole_and_has_its_memory_unlocked(tmp_path: Path) -> None:
    folder = RunDirectory(str(tmp_path / "run1"))
    argv = supervisor_start.systemd_argv(folder, "node0", 5)
    assert argv[0] == "systemd-run"
    assert "--unit=gpufleet-run1-node0.service" in argv
    assert "--property=KillMode=mixed" in argv
    assert "--property=LimitMEMLOCK=infinity" in argv
    assert argv[-3:] == [sys.executable, folder.supervisor_archive, folder.path]
    assert ("--user" in argv) == (os.geteuid() != 0)


def test_auto_means_systemd_only_where_it_is_the_init(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert supervisor_start.choose("process") == "process"
    assert supervisor_start.choose("systemd") == "systemd"
    monkeypatch.setattr(supervisor_start, "SYSTEMD_RUNS", str(tmp_path / "none"))
    assert supervisor_start.choose("auto") == "process"
    monkeypatch.setattr(supervisor_start, "SYSTEMD_RUNS", str(tmp_path))
    monkeypatch.setattr(supervisor_start, "_systemd_version", lambda: 239)
    assert supervisor_start.choose("auto") == "process"
    monkeypatch.setattr(supervisor_start, "_systemd_version", lambda: 243)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert supervisor_start.choose("auto") == "systemd"


def test_the_loss_of_a_supervisor_keeps_the_outcome_on_record(tmp_path: Path) -> None:
    ended = {"phase": "ended", "outcome": "finished", "reason": "trainer exited with 0", "at": "2026-01-01T00:00:00Z"}
    write_json(str(tmp_path / "state.json"), ended)
    record_loss(RunDirectory(str(tmp_path)))
    state = read_json(str(tmp_path / "state.json"))
    assert state.pop("closed_at")
    assert state == ended


def test_a_record_that_can_not_be_written_does_not_end_the_supervisor(fleet: Fleet) -> None:
    (node,) = fleet.of(1)
    node.start("train", str(fleet.base / "end"))
    node.training()
    os.unlink(node.folder.fleet_file)
    os.mkdir(node.folder.fleet_file)  # nothing can be renamed to it
    log = Path(node.folder.supervisor_log)
    wait_for(lambda: f"{node.folder.fleet_file}: " in log.read_text())
    assert node.state["phase"] == "running"
    (fleet.base / "end").write_text("0")
    assert node.ended()["outcome"] == "finished"


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("/a b", '"/a b"'),
        ("/50%", '"/50%"'),
        ("/$HOME", '"/$$HOME"'),
        ('/"x"', '"/\\"x\\""'),
        ("/a\\b", '"/a\\\\b"'),
        ("/it's", '"/it\'s"'),
    ],
)
def test_a_units_command_line_takes_any_path(word: str, quoted: str) -> None:
    folder = RunDirectory(word)
    (stop_post,) = [
        item
        for item in supervisor_start.systemd_argv(folder, "node0", 5)
        if item.startswith("--property=ExecStopPost=")
    ]
    assert stop_post.endswith(f' "--record-loss" {quoted}')


def test_the_main_command_of_a_unit_takes_a_dollar() -> None:
    assert supervisor_start.systemd_argv(RunDirectory("/$x 5%"), "node0", 5)[-1] == "/$$x 5%"


def test_what_torchrun_restarts_is_counted_and_no_failure(fleet: Fleet) -> None:
    (node,) = fleet.of(1)
    node.start("restart", str(fleet.base / "end"))
    first = node.worker()
    wait_for(lambda: node.state.get("ranks") == [0])
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: node.state.get("restarts") == 1)
    assert node.state["ranks"] == [7]  # c10d may give another rank
    assert node.state["worker_end"] is None
    (fleet.base / "end").write_text("0")
    state = node.ended()
    assert (state["outcome"], state["restarts"]) == ("finished", 1)


def test_what_a_dead_worker_leaves_is_not_its_restart(fleet: Fleet) -> None:
    """Data loaders and the like have its ranks in their environment."""
    (node,) = fleet.of(1)
    node.start("orphan", "4")
    worker = node.worker()
    wait_for(lambda: node.state.get("ranks") == [0])
    wait_for(lambda: "helper" in node.log)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: node.state.get("worker_end"))
    time.sleep(2.5)  # two more looks
    assert node.state["worker_end"]["rank"] == 0
    assert "restarts" not in node.state
    assert node.ended()["outcome"] == "failed"
