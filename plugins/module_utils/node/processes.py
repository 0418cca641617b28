# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of one run, found and ended by identity, never by name.

A run's processes are the descendants of its supervisor (a child subreaper, so that torchrun's workers, which start
sessions of their own, stay below it) and, should the supervisor itself be gone, every process that carries the run's
mark in its environment. An identity is the pid together with its start time, so that a reused pid is never mistaken.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from typing import NamedTuple

RUN_MARK = "GPUFLEET_RUN"
"""Environment variable, set to ``<run id>/<node>``, that marks every process of a run."""


class Identity(NamedTuple):
    """One process for as long as it lives: start time is in clock ticks since boot (field 22 of /proc/PID/stat)."""

    pid: int
    start_time: int


class Process(NamedTuple):
    """A row of the process table; the wait status means something once the process is a zombie (state Z)."""

    identity: Identity
    parent: int
    state: str
    wait_status: int


def read_process(pid: int) -> Process | None:
    """Read one process, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            stat = stream.read().decode("utf-8", "replace")
    except OSError:
        return None
    # The command name is in parentheses and may hold any character, so the fields are counted after the last one.
    fields = stat[stat.rindex(")") + 2 :].split()
    return Process(Identity(pid, int(fields[19])), parent=int(fields[1]), state=fields[0], wait_status=int(fields[49]))


def all_processes() -> dict[int, Process]:
    """The process table by pid; processes that end meanwhile are left out."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = read_process(int(name))
            if process:
                table[process.identity.pid] = process
    return table


def environment_of(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty where it is gone or another user's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            raw = stream.read()
    except OSError:
        return {}
    items = raw.decode("utf-8", "replace").split("\0")
    return dict(item.split("=", 1) for item in items if "=" in item)


def is_alive(identity: Identity) -> bool:
    """Whether this very process still runs (a zombie does not)."""
    process = read_process(identity.pid)
    return process is not None and process.identity == identity and process.state not in "ZX"


def descendants(ancestor: int) -> list[Identity]:
    """Every living process below `ancestor`, itself not included."""
    table = all_processes()
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process)
    found, queue = [], [ancestor]
    while queue:
        for child in children.get(queue.pop(), []):
            queue.append(child.identity.pid)
            if child.state not in "ZX":
                found.append(child.identity)
    return found


def marked() -> dict[str, list[Identity]]:
    """Every living process that carries a run's mark, by mark (this process not included)."""
    found: dict[str, list[Identity]] = {}
    for pid, process in all_processes().items():
        mark = environment_of(pid).get(RUN_MARK) if pid != os.getpid() and process.state not in "ZX" else None
        if mark:
            found.setdefault(mark, []).append(process.identity)
    return found


def send_signal(identity: Identity, number: int) -> bool:
    """Signal this very process; False where it is gone.

    The pidfd is opened before the identity is checked, so the pid can't be reused between check and signal.
    """
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    except (OSError, AttributeError):  # a kernel or Python without pidfds: the check below is then the best there is
        descriptor = -1
    try:
        if not is_alive(identity):
            return False
        if descriptor >= 0:
            signal.pidfd_send_signal(descriptor, number)
        else:
            os.kill(identity.pid, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def signal_all(identities: Iterable[Identity], number: int) -> int:
    """Signal each; the count of those that were there."""
    return sum(send_signal(identity, number) for identity in identities)


def wait_until_gone(identities: Iterable[Identity], seconds: float) -> list[Identity]:
    """Wait up to `seconds`; return those still alive."""
    deadline = time.monotonic() + seconds
    alive = [identity for identity in identities if is_alive(identity)]
    while alive and time.monotonic() < deadline:
        time.sleep(0.05)
        alive = [identity for identity in alive if is_alive(identity)]
    return alive
