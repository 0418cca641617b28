# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a verb as a user does and reads what a machine reads."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ansible_runner

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import processes

PROJECT = Path(__file__).resolve().parents[2]
INVENTORY = PROJECT / "inventories" / "local"
LOCAL = PROJECT / ".demo"


@dataclasses.dataclass
class Outcome:
    """What a verb left behind."""

    rc: int
    stdout: str
    artifact: dict[str, Any]
    changed: int

    def finding(self, rule: str) -> dict[str, Any]:
        """The one finding of a rule; fails the test where there is none or more."""
        found = [finding for finding in self.artifact["findings"] if finding["id"] == rule]
        assert len(found) == 1, f"{rule} is not found once: {self.artifact['findings']}\n{self.stdout[-3000:]}"
        return found[0]

    def found(self) -> list[tuple[str, list[str], str]]:
        """Id, hosts and severity of each finding, without those of a host that has not been provisioned."""
        return [
            (finding["id"], finding["hosts"], finding["severity"])
            for finding in self.artifact["findings"]
            if finding["id"] not in ("release_missing", "config_missing")
        ]

    @property
    def errors(self) -> list[str]:
        return [finding["id"] for finding in self.artifact["findings"] if finding["severity"] == "error"]


class Fleet:
    """The verbs in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.launched = False

    def run(
        self, verb: str, *options: str, inventory: Path = INVENTORY, playbook: str = "", **variables: Any
    ) -> Outcome:
        """Run a verb to its end; `options` are ansible-playbook's own, `playbook` another way to name the verb's."""
        self.launched |= verb == "launch"
        result = ansible_runner.run(
            # A folder of its own: ansible-runner keeps options and variables there and would use them again.
            private_data_dir=tempfile.mkdtemp(dir=self.folder),
            project_dir=str(self._project()),
            playbook=playbook or f"gpufleet.axolotl.{verb}",
            inventory=str(inventory),
            extravars=variables,
            cmdline=" ".join(options) or None,
            envvars=self.environment(),
            quiet=True,
        )
        stats = result.stats or {}
        return Outcome(
            rc=result.rc,
            stdout=result.stdout.read(),
            artifact=self.artifact(verb),
            changed=sum(stats.get("changed", {}).values()),
        )

    def start(self, verb: str, **variables: Any) -> subprocess.Popen[str]:
        """Start a verb in the background, in a session of its own like a terminal's."""
        self.launched = True
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(INVENTORY)]
        command += ["-e", json.dumps(variables), f"gpufleet.axolotl.{verb}"]
        return subprocess.Popen(
            command,
            cwd=self._project(),
            env={**os.environ, **self.environment()},
            stdout=(self._project() / f"{verb}.log").open("w"),
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def artifact(self, verb: str) -> dict[str, Any]:
        path = self._project() / "artifacts" / f"{verb}.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def log(self, verb: str) -> str:
        return (self._project() / f"{verb}.log").read_text()

    def _project(self) -> Path:
        folder = self.folder / "project"
        folder.mkdir(exist_ok=True)
        return folder

    @staticmethod
    def environment() -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "PATH": path}


def run_folder(node: str, run_id: str) -> Path:
    return LOCAL / node / "runs" / run_id


def state(node: str, run_id: str) -> dict[str, Any]:
    """A supervisor's own record."""
    path = run_folder(node, run_id) / "state.json"
    return json.loads(path.read_text()) if path.exists() else {}


def workers(node: str, run_id: str) -> list[processes.Identity]:
    """The trainer processes of a node: those that torchrun gave a rank, without the helpers that they start."""
    marked = processes.marked().get(f"{run_id}/{node}", [])
    ranked = {identity.pid: identity for identity in marked if "LOCAL_RANK" in processes.environment_of(identity.pid)}
    table = processes.all_processes()  # after them: a process without a line has ended meanwhile
    return [identity for pid, identity in ranked.items() if pid in table and table[pid].parent not in ranked]


def alive(run_id: str) -> list[processes.Identity]:
    """Whatever is left of a run on this machine."""
    marked = processes.marked()
    return [identity for node in ("node0", "node1") for identity in marked.get(f"{run_id}/{node}", [])]


def wait_for(what: str, condition: Callable[[], Any], seconds: float) -> Any:
    """Wait until the condition holds and return its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")
