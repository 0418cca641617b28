# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One node's trainer: the process tree that a launcher starts, with its workers and their connections."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import signal
import subprocess
from typing import Any, Callable, NamedTuple

from . import processes, sockets

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # include/uapi/linux/prctl.h
KILL_SECONDS = 5.0
MAX_LINKS = 64
"""Connections kept per worker. Which ones must not depend on the end from which they are seen, or two nodes would keep
different ones and share none: those with the smallest digests are."""


_libc = ctypes.CDLL(None, use_errno=True)  # loaded before any fork: a child must not import


def become_subreaper() -> None:
    """Orphans below this process become its children, so that a worker can't slip away by outliving its launcher."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_with_parent() -> None:
    # Should the supervisor be killed, the launcher gets SIGTERM, which torchrun hands on to its workers.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Worker(NamedTuple):
    """A process that trains: one that torchrun gave a rank.

    Attributes:
        identity: the process.
        rank: its rank in the world, as torchrun gave it: only with a static rendezvous can it be told before.
        local_rank: its place on the node, which keeps its number when torchrun restarts what is in it.
        store_port: where the trainers' store listens (MASTER_PORT), at which even strangers meet; None if not known.
    """

    identity: processes.Identity
    rank: int
    local_rank: int
    store_port: int | None


class Trainer:
    """Starts the launcher, knows its workers, and ends the whole tree."""

    def __init__(self, argv: list[str], environment: dict[str, str], folder: str, log: str) -> None:
        # Straight into the file, without a pipe: the log goes on whatever becomes of the supervisor.
        with open(log, "ab", buffering=0) as output:
            self._process = subprocess.Popen(
                argv,
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o022,  # what the trainer writes is no secret; the supervisor's own files are stricter
                preexec_fn=_end_with_parent,
            )
        self.pid = self._process.pid
        self.status: int | None = None
        self.workers: dict[int, Worker] = {}
        self.restarts = 0
        self._links: dict[int, dict[str, tuple[sockets.Endpoint, sockets.Endpoint]]] = {}

    @property
    def ranks(self) -> list[int]:
        """The global ranks of the workers that were found, in the order of their places on the node."""
        return [worker.rank for worker in sorted(self.workers.values(), key=lambda worker: worker.local_rank)]

    def reap(self) -> None:
        """Collect every child that has ended: the launcher, whose status is kept, and orphans that came to us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.status = status
                self._process.returncode = os.waitstatus_to_exitcode(status)

    @property
    def exit_code(self) -> int | None:
        """The launcher's exit code; None while it runs or when a signal ended it."""
        return None if self.status is None or os.WIFSIGNALED(self.status) else os.waitstatus_to_exitcode(self.status)

    @property
    def signal(self) -> int | None:
        """The signal that ended the launcher, if one did."""
        return os.WTERMSIG(self.status) if self.status is not None and os.WIFSIGNALED(self.status) else None

    def tree(self) -> list[processes.Identity]:
        """Every living process of the run on this node."""
        return processes.descendants(os.getpid())

    def find_workers(self, on_end: Callable[[Worker, int | None], None]) -> int:
        """Look for workers that started since the last call; `on_end` is called the moment one of them ends.

        It gets the worker and its wait status, None where somebody else has collected that already. A worker in the
        place of one that has ended is a restart: what is known of the one before is forgotten, since the new one may
        have another rank.

        Returns:
            how many processes the trainer has.
        """
        tree = self.tree()
        alive = {identity.pid for identity in tree}
        # The oldest first: a worker's helpers inherit its rank, and one that was orphaned comes before it in the tree.
        for identity in sorted(tree, key=lambda found: (found.start_time, found.pid)):
            if identity.pid in self.workers:
                continue
            environment = processes.environment_of(identity.pid)
            if environment.get("LOCAL_RANK", "").isdigit() and environment.get("RANK", "").isdigit():
                worker = _worker(identity, environment)
                before = next((pid for pid, known in self.workers.items() if known.local_rank == worker.local_rank), 0)
                # A worker's own helpers (data loaders, compilers) inherit its environment: the first one is it.
                # Once it has ended they are orphans, and only what the launcher itself has started takes its place.
                if not before or (before not in alive and self._has_started(identity)):
                    self._replace(before, worker)
                    _call_at_end(worker, on_end)
        return len(tree)

    def _has_started(self, identity: processes.Identity) -> bool:
        process = processes.read_process(identity.pid)
        return process is not None and process.parent == self.pid

    def _replace(self, before: int, worker: Worker) -> None:
        """Put a worker into its place, where there may have been one with the pid `before`."""
        if self.workers.pop(before, None):
            self._links.pop(before, None)
            self.restarts += worker.local_rank == 0  # torchrun restarts all workers of a node together
        self.workers[worker.identity.pid] = worker

    def sample_connections(self) -> bool:
        """Add the workers' established connections to those seen so far; True where there was a new one.

        Those to the trainers' store are left out: they prove nothing.
        """
        changed = False
        for pid, rows in sockets.connections_of(self.workers).items():
            links, store = self._links.setdefault(pid, {}), self.workers[pid].store_port
            new = {_digest(row): (row.local, row.remote) for row in rows if store not in (row.local[1], row.remote[1])}
            if not new.keys() <= links.keys():
                kept = sorted({**links, **new}.items())[:MAX_LINKS]
                changed |= dict(kept) != links
                self._links[pid] = dict(kept)
        return changed

    def connections(self) -> list[dict[str, Any]]:
        """What was seen: which rank held a connection from where to where."""
        return [
            {"rank": self.workers[pid].rank, "local": list(local), "remote": list(remote)}
            for pid, links in self._links.items()
            for local, remote in links.values()
        ]

    async def end(self, grace: float) -> int:
        """End the whole tree: SIGTERM, and SIGKILL for what is left after `grace` seconds.

        Returns:
            how many processes outlived even that (in uninterruptible sleep, say).
        """
        clock = asyncio.get_running_loop().time
        processes.signal_all(self.tree(), signal.SIGTERM)
        deadline = clock() + grace
        while clock() < deadline + KILL_SECONDS:
            self.reap()
            tree = self.tree()
            if not tree:
                return 0
            if clock() > deadline:  # again and again, for what is forked meanwhile
                processes.signal_all(tree, signal.SIGKILL)
            await asyncio.sleep(0.05)
        return len(self.tree())


def _worker(identity: processes.Identity, environment: dict[str, str]) -> Worker:
    port = environment.get("MASTER_PORT", "")
    store = int(port) if port.isdigit() else None
    return Worker(identity, int(environment["RANK"]), int(environment["LOCAL_RANK"]), store)


def _digest(row: sockets.TcpSocket) -> str:
    """The same for both ends of a connection."""
    return hashlib.sha256(repr(sorted((row.local, row.remote))).encode()).hexdigest()


def _call_at_end(worker: Worker, on_end: Callable[[Worker, int | None], None]) -> None:
    """Have the event loop call back when the process ends."""
    try:
        descriptor = os.pidfd_open(worker.identity.pid)
    except (OSError, AttributeError):  # without pidfds (kernel < 5.3) the end of a worker goes unnoticed
        return
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        # Its launcher collects it, but looks only every tenth of a second: until then it is a zombie and can be read.
        process = processes.read_process(worker.identity.pid)
        zombie = process and process.identity == worker.identity and process.state == "Z"
        on_end(worker, process.wait_status if process and zombie else None)

    loop.add_reader(descriptor, ended)
