# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The resource limits that a trainer started now would have, read where it would run.

A login's limits are not a unit's: limits.conf does not apply to units, and a manager can't give more than it has. So
under systemd a unit with the run's own limits is started, prints what it got, and is gone.
"""

from __future__ import annotations

import re
from typing import Any

from . import commands, supervisor_start

UNLIMITED = "unlimited"
PATIENCE = 20.0
"""Seconds for the unit, which takes a few hundredths of one."""
NAMES = {"memlock": "Max locked memory", "open_files": "Max open files", "processes": "Max processes"}
"""Ours to the kernel's (fs/proc/base.c)."""


def read(supervisor: str) -> dict[str, Any]:
    """The limits in the context in which the run's supervisor starts.

    Args:
        supervisor: systemd, process or auto, as for a launch.

    Returns:
        context (systemd or process), memlock in bytes, open_files and processes, each with soft and hard as a number
        or "unlimited", and error, None where they could be read.
    """
    context = supervisor_start.choose(supervisor)
    if context == "systemd":
        argv = supervisor_start.limits_argv(["cat", "/proc/self/limits"])
        result = commands.run(argv, PATIENCE, env=supervisor_start.manager_environment())
        if result.rc != 0:
            return {"context": context, **dict.fromkeys(NAMES), "error": f"systemd-run: {result.message(300)}"}
        return {"context": context, **parse(result.stdout), "error": None}
    # A detached process has this very session's limits.
    with open("/proc/self/limits", encoding="ascii") as stream:
        return {"context": context, **parse(stream.read()), "error": None}


def parse(text: str) -> dict[str, Any]:
    """Parse /proc/<pid>/limits; a limit that is not in it is None."""
    found: dict[str, Any] = dict.fromkeys(NAMES)
    for name, title in NAMES.items():
        row = re.search(rf"^{title}\s+(\S+)\s+(\S+)", text, re.MULTILINE)
        if row:
            soft, hard = (UNLIMITED if value == UNLIMITED else int(value) for value in row.groups())
            found[name] = {"soft": soft, "hard": hard}
    return found
