# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Supervises one node's part of a run, from joining the watch to the record of how it ended.

Runs on the node as ``python3 supervisor.zip RUN_DIRECTORY``, detached from whoever started it, with the standard
library alone. It joins the watch, starts the trainer when every node has joined, reports, and ends the whole process
tree when the trainer fails, a peer fails, contact is lost for too long, or it is told to stop (SIGTERM).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import os
import resource
import signal
import sys
import time
from typing import Any

from ..core import watch_rules
from ..core.evidence_summary import LogSummary
from ..core.watch_rules import (
    CALLED_OFF,
    END,
    ENDED,
    ENDING,
    FAILED,
    FINISHED,
    GO,
    JOINING,
    RUNNING,
    STOPPED,
    WAIT,
    NodeState,
    Order,
    WatchSettings,
)
from . import processes
from .log_reader import LogReader
from .run_directory import RunDirectory, read_json, write_json
from .trainer import Trainer, Worker, become_subreaper
from .watch import REPORT_INTERVAL, HeadEnd, NodeEnd, WatchError

ORDERS = (WAIT, GO, END)
LINGER = 5.0
"""Seconds that a stopped head waits for a silent peer before it leaves; whoever stops it stops the others too."""
SCAN_INTERVAL = 15.0
EAGER = 300.0
"""Seconds in which a started trainer's processes are looked at every second; later every SCAN_INTERVAL, because
reading a large host's process table each second would cost a share of a core for weeks."""
REPORTED = (
    *("phase", "outcome", "exit_code", "signal", "reason", "start_error"),
    *("worker_end", "stop_requested", "processes", "ranks", "restarts", "at"),
)
SETTLE = 3.0
"""Seconds that the launcher gets to say what became of a worker that died here, before it is ended itself:
torchrun looks at its workers every 0.1 s and then ends the others."""


def utc_now() -> str:
    """The wall clock, for people."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Supervisor:
    """One node's part of one run."""

    def __init__(self, folder: RunDirectory) -> None:
        self.folder = folder
        self.node: dict[str, Any] = read_json(folder.node_file)
        secrets = read_json(folder.secrets_file)
        os.unlink(folder.secrets_file)  # from here on they are in this process's memory alone
        self.key = str(secrets["watch_key"])
        self.secret_environment: dict[str, str] = secrets.get("environment", {})
        self.settings = WatchSettings(float(self.node["join_timeout"]), float(self.node["watch_grace"]))
        self.is_head = self.node["node_rank"] == 0
        self.started_at = time.monotonic()
        self.order = Order(WAIT)
        self.start_at = 0.0  # of the monotonic clock, known with the order to go
        self.stop_requested = False
        self.trainer: Trainer | None = None
        self.trainer_started = self.scanned = 0.0
        self.summary = LogSummary()
        self.log = LogReader(folder.trainer_log)
        self.changed = asyncio.Event()
        self.peers = {
            name: NodeState(name, rank) for rank, name in enumerate(self.node["fleet"])
        }  # the head alone fills it
        self.state: dict[str, Any] = {
            "run_id": folder.run_id,
            "node": self.node["node"],
            "node_rank": self.node["node_rank"],
            "phase": JOINING,
            "outcome": None,
            "supervisor": list(_identity(os.getpid())),
            "joining_at": utc_now(),
        }

    # What is known, and to whom it is told

    def record(self, **facts: Any) -> None:
        """Note facts in the state, keep them on disk, and have them reported at once."""
        self.state.update(facts)
        self.keep(self.folder.state_file, self.state)
        self.changed.set()

    @staticmethod
    def keep(path: str, value: dict[str, Any]) -> None:
        """Write a record; a full disk must not end a run that could go on."""
        try:
            write_json(path, value)
        except OSError as error:
            sys.stderr.write(f"{utc_now()} {path}: {error}\n")
            sys.stderr.flush()

    def report(self) -> dict[str, Any]:
        """What the head needs to know of this node."""
        facts: dict[str, Any] = {name: self.state[name] for name in REPORTED if self.state.get(name) is not None}
        facts.update(step=self.summary.step, total_steps=self.summary.total_steps, loss=self.summary.loss)
        facts["tokens"] = self.summary.newest.get("tokens/total")
        facts["error"] = self.summary.errors[0] if self.summary.errors else None
        facts["worker_failure"] = self.summary.worker_failures[0] if self.summary.worker_failures else None
        # JSON knows no NaN
        nan = {name for name, value in facts.items() if isinstance(value, float) and not math.isfinite(value)}
        return {name: value for name, value in facts.items() if value is not None and name not in nan}

    def take(self, node: str, report: dict[str, Any]) -> Order:
        """The head takes a report (its own too) and answers with the order for everybody."""
        now = time.monotonic()
        # A look at all nodes for each report would cost N x N a second; time alone is looked at once a second.
        if self.peers[node].take(report, now) or node == self.node["node"]:
            self.obey(watch_rules.decide(self.peers.values(), self.started_at, now, self.settings))
        return dataclasses.replace(self.order, start_in=max(0.0, self.start_at - now))

    def obey(self, order: Order) -> None:
        """Take an order over; the main task acts on it. There is no way back, and the first reason to end stays."""
        if ORDERS.index(order.kind) > ORDERS.index(self.order.kind):
            self.order = order
            self.start_at = time.monotonic() + order.start_in
            self.changed.set()

    def stop(self) -> None:
        """Somebody asks for this run's end; the head hears it before any trainer has ended for it."""
        self.stop_requested = self.state["stop_requested"] = True
        self.obey(Order(END, f"stopped on request on {self.node['node']}"))

    # The watch

    async def watch_as_head(self) -> None:
        """Listen to the others and decide, until all of them have ended or fallen silent."""
        head = HeadEnd(self.key, set(self.peers) - {self.node["node"]}, self.take)
        try:
            await head.listen(self.node["head_address"], self.node["watch_port"])
        except OSError as error:
            self.obey(Order(END, f"the watch can't listen on port {self.node['watch_port']}: {error.strerror}"))
            await self._until_ended()
            return
        while True:
            self.take(self.node["node"], self.report())
            self.write_fleet()
            now = time.monotonic()
            patience = LINGER if self.stop_requested else self.settings.grace
            unheard = [
                peer
                for peer in self.peers.values()
                if peer.phase != ENDED and now - (peer.seen_at or self.started_at) <= patience
            ]
            if self.state["phase"] == ENDED and not unheard:
                break
            await self._pause(REPORT_INTERVAL)
        await asyncio.sleep(REPORT_INTERVAL)  # the last report is being answered
        head.close()

    def write_fleet(self) -> None:
        """Keep what the head knows of everybody, for whoever follows the run."""
        now = time.monotonic()
        nodes = {
            peer.name: {
                **peer.report,
                "node_rank": peer.rank,
                "phase": peer.phase,
                "silent_for": None if peer.seen_at is None else round(now - peer.seen_at, 1),
            }
            for peer in self.peers.values()
        }
        order = {"order": self.order.kind, "reason": self.order.reason, "first_failure": self.order.first_failure}
        self.keep(self.folder.fleet_file, {"at": utc_now(), **order, "nodes": nodes})

    async def watch_as_node(self) -> None:
        """Report to the head and follow its orders, until it has heard that this part has ended."""
        head = NodeEnd(self.key, self.node["node"])
        last_contact = time.monotonic()
        while True:
            try:
                report = self.report()
                order, taken = await head.exchange(self.node["head_address"], self.node["watch_port"], report)
                last_contact = time.monotonic()
                self.obey(order)
                if taken == ENDED:
                    break
            except (WatchError, OSError, asyncio.TimeoutError) as error:
                silent = time.monotonic() - last_contact
                limit = self.settings.join_timeout if self.state["phase"] == JOINING else self.settings.grace
                limit = LINGER if self.stop_requested else limit
                if silent > limit:
                    self.obey(Order(END, f"no contact with the head's supervisor for {silent:.0f} s ({error})"))
                    if self.state["phase"] == ENDED:
                        break
            await self._pause(REPORT_INTERVAL)
        head.close()

    # The trainer

    async def supervise(self) -> None:
        """Wait for the order to go, run the trainer, and see it ended."""
        while self.order.kind == WAIT:
            await self._pause(REPORT_INTERVAL)
        while self.order.kind == GO and time.monotonic() < self.start_at:
            await self._pause(self.start_at - time.monotonic())
        if self.order.kind == GO:
            self.start_trainer()
            while self.trainer and self.trainer.status is None and self.order.kind != END:
                self.observe()
                await self._pause(REPORT_INTERVAL)
        await self.end_trainer()

    def start_trainer(self) -> None:
        """Start it; a trainer that can't be started is a failed one."""
        environment = {**self.node["environment"], **self.secret_environment}
        environment[processes.RUN_MARK] = f"{self.folder.run_id}/{self.node['node']}"
        try:
            self.trainer = Trainer(self.node["argv"], environment, self.node["work_dir"], self.folder.trainer_log)
        except OSError as error:
            self.record(start_error=f"{error.filename or self.node['argv'][0]}: {error.strerror}", at=utc_now())
            return
        except ValueError as error:  # a NUL where the system takes none
            self.record(start_error=str(error), at=utc_now())
            return
        self.trainer_started = time.monotonic()
        late = round(self.trainer_started - self.start_at, 3)
        self.record(phase=RUNNING, started_at=utc_now(), started_late=late, trainer=list(_identity(self.trainer.pid)))

    def observe(self) -> None:
        """Look at the trainer's log, workers and connections."""
        for line in self.log.new_lines():
            self.summary.add(line)
        now = time.monotonic()
        if self.trainer and (now - self.trainer_started < EAGER or now - self.scanned > SCAN_INTERVAL):
            self.scanned = now
            self.state["processes"] = self.trainer.find_workers(self.worker_ended)
            self._record_ranks(self.trainer)
            if self.trainer.sample_connections():
                self.keep(self.folder.connections_file, {"connections": self.trainer.connections()})

    def _record_ranks(self, trainer: Trainer) -> None:
        """Keep which ranks are here, and that torchrun has restarted them; the end that it got over is no failure."""
        if trainer.ranks != self.state.get("ranks", []):
            self.record(ranks=trainer.ranks)
        if trainer.restarts != self.state.get("restarts", 0):
            self.record(restarts=trainer.restarts, worker_end=None)

    def worker_ended(self, worker: Worker, wait_status: int | None) -> None:
        """Note the first trainer process that did not end well: if the run fails, that is where it began."""
        ending = self.order.kind == END or self.state["phase"] == ENDING  # then it is our own doing
        if wait_status == 0 or ending or self.state.get("worker_end"):
            return
        end: dict[str, Any] = {"rank": worker.rank, "pid": worker.identity.pid, "exit_code": None, "signal": None}
        if wait_status is not None:
            end["signal"] = os.WTERMSIG(wait_status) if os.WIFSIGNALED(wait_status) else None
            end["exit_code"] = os.WEXITSTATUS(wait_status) if os.WIFEXITED(wait_status) else None
        self.record(worker_end={**end, "at": utc_now()}, at=utc_now())

    async def end_trainer(self) -> None:
        """End what is left of the tree, and record how it went and why."""
        trainer = self.trainer
        ended_itself = trainer is not None and trainer.status is not None
        if trainer and self.order.kind == END and self.state.get("worker_end") and not ended_itself:
            deadline = time.monotonic() + SETTLE
            while trainer.status is None and time.monotonic() < deadline:
                await asyncio.sleep(0.1)
            ended_itself = trainer.status is not None
        self.record(phase=ENDING)
        left = await trainer.end(float(self.node["stop_grace"])) if trainer else 0
        self.observe()
        self.summary.add(self.log.rest())
        exit_code, number = (trainer.exit_code, trainer.signal) if trainer else (None, None)
        if self.stop_requested and not ended_itself:
            outcome, reason = STOPPED, self.order.reason
        elif self.state.get("start_error") or (ended_itself and exit_code != 0):
            outcome = FAILED
            facts = {**self.report(), "exit_code": exit_code, "signal": number}
            reason = watch_rules.describe_exit(facts)
        elif ended_itself:
            outcome, reason = FINISHED, "trainer exited with 0"
        else:
            outcome, reason = CALLED_OFF, self.order.reason
        self.record(
            phase=ENDED, outcome=outcome, reason=reason, exit_code=exit_code, signal=number, left=left, at=utc_now()
        )

    # The whole

    async def run(self) -> None:
        """Do it all; returns when this part has ended and the head knows."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._child_ended)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        become_subreaper()
        self.record()
        watch = self.watch_as_head() if self.is_head else self.watch_as_node()
        try:
            await asyncio.gather(self.supervise(), watch)
        except Exception as error:
            # Whatever went wrong here, no trainer is left without its supervisor, and the record says why.
            self.obey(Order(END, f"{self.node['node']}: the supervisor failed: {error!r}"))
            await self.end_trainer()
            self.record(closed_at=utc_now())
            raise
        self.record(first_failure=self.order.first_failure, end_reason=self.order.reason, closed_at=utc_now())

    def _child_ended(self) -> None:
        if self.trainer:
            self.trainer.reap()
            self.changed.set()

    async def _pause(self, seconds: float) -> None:
        """Sleep, but wake up when something has happened."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.changed.wait(), seconds)
        self.changed.clear()

    async def _until_ended(self) -> None:
        while self.state["phase"] != ENDED:
            await asyncio.sleep(0.1)


def _identity(pid: int) -> processes.Identity:
    process = processes.read_process(pid)
    return process.identity if process else processes.Identity(pid, 0)


def record_loss(folder: RunDirectory) -> None:
    """Record that the supervisor itself was ended (ExecStopPost of its unit, when all its processes are gone)."""
    state = read_json(folder.state_file)
    if not state.get("closed_at"):
        reason = f"the supervisor ended with {os.environ.get('SERVICE_RESULT')} ({os.environ.get('EXIT_STATUS')})"
        if not state.get("outcome"):
            state.update(phase=ENDED, outcome=FAILED, reason=reason, at=utc_now())
            names = ("node", "node_rank", "exit_code", "signal", "at")
            failure = {name: state.get(name) for name in names}
            state.setdefault("first_failure", {**failure, "rank": None, "what": reason})
        state["closed_at"] = utc_now()
        write_json(folder.state_file, state)


def main(arguments: list[str]) -> int:
    """Entry point of supervisor.zip: ``[--record-loss] RUN_DIRECTORY``."""
    os.umask(0o027)
    # The head holds a connection to each node, and a login's soft limit is usually 1,024.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = RunDirectory(arguments[-1])
    if arguments[0] == "--record-loss":
        record_loss(folder)
    else:
        asyncio.run(Supervisor(folder).run())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
