# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launchers: how the trainers of one node are started, by the name in `axolotl_launcher`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from . import launcher_accelerate, launcher_torchrun
from .launcher_job import Job

Command = Callable[[Job], list[str]]
Files = Callable[[Job], dict[str, str]]

AUTO = "auto"
"""What becomes one of the others when preflight has read the nodes."""


def _no_files(_job: Job) -> dict[str, str]:
    return {}


LAUNCHERS: Mapping[str, tuple[Command, Files]] = {
    "torchrun": (launcher_torchrun.command, _no_files),
    "torchrun_legacy": (launcher_torchrun.legacy_command, _no_files),
    "accelerate": (launcher_accelerate.command, launcher_accelerate.files),
}
"""Name to what gives a node's argument list, and the files (name to text) that it finds in the run's folder."""

C10D = frozenset({"torchrun", "torchrun_legacy"})
"""Those that can meet by c10d; accelerate takes it for a static rendezvous with a rank all the same."""

OPTION = "--launcher"
"""Of ``axolotl train``, since 0.12.0."""
ASKED_OF_AXOLOTL = frozenset({"torchrun", "accelerate", AUTO})
"""Those that it starts itself, when it knows that option."""


def start(name: str, job: Job) -> dict[str, Any]:
    """What a node's part of the launch plan has of its launcher: argv and files."""
    command, files = LAUNCHERS[name if name != AUTO else "torchrun"]
    return {"argv": command(job), "files": files(job)}
