# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only one command at a time writes a verb's verdict in a folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from unit.fleets import fingerprints, plan_of

from ansible_collections.gpufleet.axolotl.plugins.action.verdict import ActionModule
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import processes
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import nccl_settings
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.artifact_store import ArtifactError, ArtifactStore


def begin(store: ArtifactStore, verb: str = "launch") -> dict[str, Any]:
    action = object.__new__(ActionModule)
    action._task = SimpleNamespace(check_mode=False)
    result: dict[str, Any] = action._run(store, {"verb": verb, "state": "begun"}, ["node0"])
    return result


def pass_gate(store: ArtifactStore, **arguments: Any) -> None:
    action = object.__new__(ActionModule)
    action._task = SimpleNamespace(check_mode=False)
    action._run(store, {"verb": "launch", "state": "gate", **arguments}, ["node0"])


def test_the_plan_is_frozen_when_the_fleet_has_been_examined(store: ArtifactStore) -> None:
    plan = plan_of(2)
    frozen = store.run_folder(plan["run_id"]) / "plan.json"
    begin(store)
    pass_gate(store, plan=plan)
    assert not frozen.exists()
    complete = nccl_settings.completed(plan, fingerprints(plan))
    pass_gate(store, plan=complete, evidence={"fingerprints": {}})
    assert store.read(frozen) == store.read(store.verdict_path("launch"))["plan"] == complete


def identity(pid: int) -> list[int]:
    process = processes.read_process(pid)
    assert process is not None
    return list(process.identity)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path))


def written_by(store: ArtifactStore, process: list[int], host: str = "") -> None:
    controller = {"host": host or socket.gethostname(), "process": process}
    store.write_json(store.verdict_path("launch"), {"controller": controller})


def test_a_command_names_itself_and_may_begin_again(store: ArtifactStore) -> None:
    for _unused in range(2):
        begin(store)
    assert store.read(store.verdict_path("launch"))["controller"] == {
        "host": socket.gethostname(),
        "process": identity(os.getppid()),
    }


def test_what_another_living_command_writes_is_left_alone(store: ArtifactStore) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        written_by(store, identity(other.pid))
        before = store.read(store.verdict_path("launch"))
        with pytest.raises(ArtifactError, match=f"pid {other.pid} is at work on "):
            begin(store)
        assert store.read(store.verdict_path("launch")) == before
        begin(store, "status")  # another verb is another verdict
        other.kill()
    begin(store)


def test_who_is_gone_holds_nothing(store: ArtifactStore) -> None:
    pid, start_time = identity(os.getpid())
    for process, host in (([pid, start_time + 1], ""), ([], ""), ([pid, start_time], "another-host")):
        written_by(store, process, host)
        begin(store)
