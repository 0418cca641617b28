# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of an InfiniBand stack is at work on a node: tools, kernel modules, and the limits of the account's manager."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import NamedTuple

from ..core import infiniband_state, operating_system
from ..core.operating_system import OperatingSystem
from . import commands, probe_system

TOOLS = ("ibstat", "ibhosts", "ibqueryerrors", "perfquery", "ib_write_bw")
"""What looks after a fabric, and what measures it."""

TOOL_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
"""Where stacks install; the PATH of a login that became root may lack sbin."""

DRIVERS = ("mlx5_core", "mlx5_ib", "ib_core")
"""The modules that tell whether the loaded stack is the installed one."""

_TIMEOUT = 30.0
OFED_INFO_TIMEOUT = 10.0
"""Seconds; it prints a line of a file."""


class Kernel(NamedTuple):
    """The running kernel.

    Attributes:
        release: as uname has it.
        is_guest: whether this is a container, whose kernel and modules are the host's.
    """

    release: str
    is_guest: bool


def system() -> OperatingSystem:
    """The node's operating system; empty where os-release can't be read."""
    return operating_system.read_os_release(probe_system.os_release())


def kernel() -> Kernel:
    """systemd leaves the kind of container in a file (sd_notify: container interface)."""
    return Kernel(os.uname().release, os.path.exists("/run/systemd/container"))


def stack() -> dict[str, str | None]:
    """Which stack is installed: name (inbox, doca or mlnx_ofed), version, and error where its own tool fails."""
    tool = shutil.which("ofed_info", path=TOOL_PATH)
    if not tool:
        return {**infiniband_state.stack(None), "error": None}
    result = commands.run([tool, "-s"], OFED_INFO_TIMEOUT)
    late = f"no answer within {OFED_INFO_TIMEOUT:.0f} s" if result.timed_out else result.message(300)
    return {**infiniband_state.stack(result.stdout), "error": f"ofed_info: {late}" if result.rc else None}


def missing_tools() -> list[str]:
    return [tool for tool in TOOLS if not shutil.which(tool, path=TOOL_PATH)]


def unloaded(modules: Sequence[str]) -> list[str]:
    """Modules that are neither loaded nor built in; the kernel shows both kinds under /sys/module."""
    return [name for name in modules if not os.path.isdir(f"/sys/module/{name}")]


def not_in_kernel(modules: Sequence[str], release: str) -> list[str]:
    """Modules that this kernel's packages do not have: not loaded, and no file to load."""
    return [name for name in unloaded(modules) if not _modinfo(name, "filename", release)]


def loaded_sources() -> dict[str, str]:
    """Loaded driver to the srcversion that it was built with."""
    return {name: _first_line(f"/sys/module/{name}/srcversion") for name in DRIVERS if not unloaded([name])}


def sources_on_disk(release: str) -> dict[str, str]:
    """Driver to the srcversion of the file that would be loaded now; empty where there is none."""
    return {name: _modinfo(name, "srcversion", release) for name in DRIVERS}


def dkms_status() -> str:
    return commands.run(["dkms", "status"], _TIMEOUT).stdout


def has_headers(release: str) -> bool:
    """Whether modules can be built for this kernel; the link dangles where its package was removed."""
    return os.path.exists(f"/lib/modules/{release}/build/Makefile")


def user_manager(uid: int) -> dict[str, object] | None:
    """The running systemd manager of an account, and the most memory that its units may lock.

    Returns:
        pid, and memlock in bytes (-1: unlimited); None where none runs.
    """
    show = ["systemctl", "show", "--property=MainPID", "--value", f"user@{uid}.service"]
    pid = commands.run(show, _TIMEOUT).stdout.strip()
    limit = _memlock(pid) if pid not in ("", "0") else None
    return None if limit is None else {"pid": int(pid), "memlock": limit}


def _memlock(pid: str) -> int | None:
    """The hard limit: what the manager's units can raise their own to."""
    try:
        with open(f"/proc/{pid}/limits", encoding="ascii", errors="replace") as stream:
            for line in stream:
                if line.startswith("Max locked memory"):
                    hard = line.split()[-2]
                    return -1 if hard == "unlimited" else int(hard)
    except (OSError, ValueError):
        pass
    return None


def _modinfo(name: str, field: str, release: str) -> str:
    result = commands.run(["modinfo", "-k", release, "-F", field, name], _TIMEOUT)
    return result.stdout.strip() if result.rc == 0 else ""


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.readline().strip()
    except OSError:
        return ""
