# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packs the supervisor into one file on the node and starts it detached: under systemd, or as a process of its own."""

from __future__ import annotations

import importlib
import os
import pwd
import re
import shutil
import subprocess
import sys
import time
import zipfile
from typing import Any

from . import commands, processes
from . import supervisor as _supervisor  # noqa: F401 - read here, run there; AnsiballZ ships what is imported
from .run_directory import RunDirectory, read_json

SYSTEMD_RUNS = "/run/systemd/system"
"""Exists exactly where systemd is the init (sd_booted(3))."""
OLDEST_SYSTEMD = 243
"""The first that knows OOMPolicy for services; EL 8 has 239."""
STARTED_WITHIN = 15.0
"""Seconds for the supervisor to record itself."""
LIMITS = ("LimitMEMLOCK=infinity",)
"""Resource limits of the run's unit. RDMA needs pinned memory, and limits.conf does not apply to units."""

_PARTS = (
    "core",
    "core.evidence_summary",
    "core.log_lines",
    "core.mutual_proof",
    "core.watch_rules",
    "node",
    "node.files",
    "node.log_reader",
    "node.processes",
    "node.run_directory",
    "node.sockets",
    "node.supervisor",
    "node.trainer",
    "node.watch",
)
_MAIN = "import sys\nfrom supervision.node.supervisor import main\nsys.exit(main(sys.argv[1:]))\n"


class StartError(Exception):
    """The supervisor did not come up; the message says what was seen."""


def pack(path: str) -> None:
    """Write the supervisor with the modules it imports as one runnable archive.

    The source comes from wherever this very code was imported from, so what supervises is what was shipped.
    """
    base = __name__.rsplit(".", 2)[0]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", _MAIN)
        archive.writestr("supervision/__init__.py", "")
        for part in _PARTS:
            if "." in part:
                module = importlib.import_module(f"{base}.{part}")
                source = module.__loader__.get_source(module.__name__)  # type: ignore[union-attr]
                archive.writestr(f"supervision/{part.replace('.', '/')}.py", source)
            else:
                archive.writestr(f"supervision/{part}/__init__.py", "")


def choose(wanted: str) -> str:
    """``auto`` is systemd where it is the init and a unit of this user outlives the login, else a process."""
    if wanted != "auto":
        return wanted
    if not os.path.isdir(SYSTEMD_RUNS) or _systemd_version() < OLDEST_SYSTEMD:
        return "process"
    return "systemd" if os.geteuid() == 0 or _user_manager_lingers() else "process"


def _systemd_version() -> int:
    words = commands.run(["systemctl", "--version"], STARTED_WITHIN).stdout.split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def _user_manager_lingers() -> bool:
    """Whether this user has a manager of its own that stays when the last login ends (loginctl enable-linger)."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    manager = f"/run/user/{os.geteuid()}/systemd/private"
    return os.path.exists(manager) and os.path.exists(f"/var/lib/systemd/linger/{user}")


def unit_name(run_id: str, node: str) -> str:
    """The run's transient unit; two nodes may share a machine, so the node's name is part of it."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", f"gpufleet-{run_id}-{node}") + ".service"


def systemd_argv(folder: RunDirectory, node: str, stop_grace: float) -> list[str]:
    """The command that starts the supervisor as a transient unit.

    The unit's whole control group ends with it. Transient units vanish when they end, so ExecStopPost records an end
    that the supervisor could not.
    """
    command = [sys.executable, folder.supervisor_archive]
    properties = [
        "Type=exec",
        # SIGTERM goes to the supervisor alone, which ends the others in order; whatever outlives it is killed.
        "KillMode=mixed",
        "OOMPolicy=continue",  # a worker killed for memory is the trainer's failure to report, not a reason to stop
        *LIMITS,
        f"TimeoutStopSec={stop_grace + 15:.0f}",
        f"StandardOutput=append:{folder.supervisor_log}",
        f"StandardError=append:{folder.supervisor_log}",
        "ExecStopPost=" + " ".join(_quoted(word) for word in (*command, "--record-loss", folder.path)),
    ]
    options = [f"--unit={unit_name(folder.run_id, node)}", *(f"--property={item}" for item in properties)]
    if os.geteuid() != 0:
        options.append("--user")
    # systemd expands $ in commands; here, other than in a unit file, % means nothing to it.
    main_command = [word.replace("$", "$$") for word in (*command, folder.path)]
    return ["systemd-run", "--quiet", "--collect", *options, *main_command]


def limits_argv(command: list[str]) -> list[str]:
    """The command that runs another one with the limits of the run's unit, and hands on what it prints."""
    options = [f"--property={item}" for item in (*LIMITS, f"RuntimeMaxSec={STARTED_WITHIN:.0f}")]
    if os.geteuid() != 0:
        options.append("--user")
    return ["systemd-run", "--quiet", "--collect", "--wait", "--pipe", *options, *command]


def _quoted(word: str) -> str:
    """A word of a unit's command line: systemd knows quotes, backslashes and $ there (systemd.service(5))."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"'


def start(folder: RunDirectory, kind: str, node: str, stop_grace: float) -> dict[str, Any]:
    """Start the supervisor and prove that it runs by reading its own record back.

    Returns:
        The state as the supervisor recorded it.

    Raises:
        StartError: systemd refused, or the supervisor did not record itself within STARTED_WITHIN seconds.
    """
    if kind == "systemd":
        if not shutil.which("systemd-run"):
            raise StartError("systemd-run is not on this node's PATH: set axolotl_supervisor to process")
        result = commands.run(systemd_argv(folder, node, stop_grace), STARTED_WITHIN, env=manager_environment())
        if result.rc != 0:
            raise StartError(f"systemd-run failed: {result.stderr.strip()[-500:]}")
    else:
        with open(folder.supervisor_log, "ab") as log:
            subprocess.Popen(
                [sys.executable, folder.supervisor_archive, folder.path],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder.path,
                start_new_session=True,
            )
    return _wait_for_record(folder)


def manager_environment() -> dict[str, str]:
    """A session that is no login (Ansible's become, say) does not name the user's manager."""
    return {"XDG_RUNTIME_DIR": f"/run/user/{os.geteuid()}"}


def _wait_for_record(folder: RunDirectory) -> dict[str, Any]:
    deadline = time.monotonic() + STARTED_WITHIN
    while time.monotonic() < deadline:
        state = read_json(folder.state_file)
        if state.get("supervisor") and (
            processes.is_alive(processes.Identity(*state["supervisor"])) or state.get("closed_at")
        ):
            return state
        time.sleep(0.05)
    try:
        with open(folder.supervisor_log, encoding="utf-8", errors="replace") as stream:
            said = stream.read()[-1000:]
    except OSError:
        said = ""
    raise StartError(
        f"the supervisor did not come up within {STARTED_WITHIN:.0f} s; it said: {said.strip() or 'nothing'}"
    )
