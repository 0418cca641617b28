# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container engine that runs the test hosts: podman or docker, directly or in a lab of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .lab import Lab

# Ulimits: this machine may not be allowed to raise them. crun of Debian 12 can't start systemd in the lab, runc can.
# Without systemd on this machine neither its cgroup manager nor its journal are there.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
pids_limit = 0
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""


class EngineError(RuntimeError):
    """A command of the container engine failed."""


class Engine:
    """Runs the engine's commands; in a lab it is podman with storage of its own below the bed's folder."""

    def __init__(self, folder: Path, lab: Lab | None) -> None:
        self.kind = "podman" if lab or shutil.which("podman") else "docker"
        self._command = [self.kind]
        self._environment = dict(os.environ)
        if lab:
            storage = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]
            self._command = lab.command(self.kind, *storage)
            configuration = folder / "containers.conf"
            configuration.write_text(CONTAINERS_CONF.format(folder=folder))
            self._environment["CONTAINERS_CONF"] = str(configuration)

    def run(self, *arguments: str, timeout: float | None = None) -> str:
        """Run one command and give what it printed.

        Raises:
            EngineError: it failed; the message is what the engine said.
        """
        done = self._call(arguments, timeout)
        if done.returncode:
            raise EngineError(f"{self.kind} {' '.join(arguments)[:200]}: {done.stderr.strip()[-2000:]}")
        return done.stdout.strip()

    def succeeds(self, *arguments: str, timeout: float | None = None) -> bool:
        """Whether a command exits with 0; what it says is not shown."""
        return self._call(arguments, timeout).returncode == 0

    def remove(self, container: str) -> None:
        """End a container at once and take it away; one that is not there is no error."""
        at_once = ["--time=0"] if self.kind == "podman" else []  # docker's way of forcing it waits for nothing
        self.succeeds("rm", "--force", *at_once, container)

    def _call(self, arguments: tuple[str, ...], timeout: float | None) -> subprocess.CompletedProcess[str]:
        command = [*self._command, *arguments]
        return subprocess.run(
            command, check=False, env=self._environment, capture_output=True, text=True, timeout=timeout
        )
