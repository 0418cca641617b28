# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a run starts, and when it ends: the head's decision from what every node reported.

Pure: times are seconds of the head's monotonic clock, given by the caller. One node that fails ends the run on all,
because the others could only wait for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

# Phases of a node's part
JOINING, RUNNING, ENDING, ENDED = "joining", "running", "ending", "ended"
# Outcomes of a node's part, known once it has ended
FINISHED, FAILED, STOPPED, CALLED_OFF = "finished", "failed", "stopped", "called_off"
SILENT = 5.0
"""Seconds without a report, of which there is one a second, that make a node a suspect once another has failed."""
STRAGGLING = 300.0
"""Seconds that a trainer may go on when the head's has finished. The rendezvous has ended with that one, so nothing can
be computed together any more; what is left is to write files."""
LEAD = 2.0
"""Seconds from the decision to start until all start: each node reports once a second, and so hears of it before."""
# Orders of the head
WAIT, GO, END = "wait", "go", "end"


@dataclasses.dataclass(frozen=True)
class Order:
    """What the head tells every node: `wait` for the others, `go`, or `end` for a reason.

    `start_in` goes with `go`: the seconds from now until all start. So clocks need not agree.
    """

    kind: str
    reason: str = ""
    first_failure: dict[str, Any] | None = None
    start_in: float = 0.0


@dataclasses.dataclass
class NodeState:
    """What the head knows of one node."""

    name: str
    rank: int
    report: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The newest report: phase, outcome, exit_code, signal, step, total_steps, loss, error, worker_end."""
    seen_at: float | None = None
    """When the newest report came; None before the first."""
    worker_ended_at: float | None = None
    """When it was first reported that a trainer process of this node had ended, and was not restarted."""
    finished_at: float | None = None
    """When it was first reported that this node's part had ended well."""

    @property
    def phase(self) -> str:
        return str(self.report.get("phase", JOINING))

    def take(self, report: dict[str, Any], now: float) -> bool:
        """Take a report that came at `now`; True where it may change what is decided."""
        names = ("phase", "outcome", "stop_requested")
        changed = self.seen_at is None or any(report.get(name) != self.report.get(name) for name in names)
        self.report, self.seen_at = report, now
        if not report.get("worker_end"):  # none has ended, or torchrun has restarted it
            self.worker_ended_at = None
        elif self.worker_ended_at is None:
            self.worker_ended_at = now
        if report.get("outcome") == FINISHED and self.finished_at is None:
            self.finished_at = now
        return changed


@dataclasses.dataclass(frozen=True)
class WatchSettings:
    """Times in seconds: for all nodes to join, and how long a node may stay silent."""

    join_timeout: float
    grace: float


def decide(nodes: Iterable[NodeState], started_at: float, now: float, settings: WatchSettings) -> Order:
    """The order that follows from the nodes' states; the caller keeps the first `end`.

    Args:
        nodes: every node of the run, in rank order.
        started_at: when the head began to listen.
        now: the present.
        settings: how long to wait.
    """
    nodes = list(nodes)
    stopped = [node for node in nodes if node.report.get("stop_requested") or node.report.get("outcome") == STOPPED]
    if stopped:
        return Order(END, f"stopped on request on {stopped[0].name}")
    failed = [node for node in nodes if node.report.get("outcome") == FAILED]
    if failed:
        failure = first_failure(nodes, failed[0], now)
        return Order(END, f"{failure['node']}: {failure['what']}", failure)
    called_off = [node for node in nodes if node.report.get("outcome") == CALLED_OFF]
    if called_off:
        # A node that ended its own part for a reason of its own (it lost the head, say, and came back).
        return _end(called_off[0], str(called_off[0].report.get("reason", "it ended its part")))
    missing = [node for node in nodes if node.seen_at is None]
    if missing and now - started_at > settings.join_timeout:
        names = ", ".join(node.name for node in missing)
        return _end(missing[0], f"{names} did not join within {settings.join_timeout:.0f} s")
    for node in nodes:
        if node.phase != ENDED and node.seen_at is not None and now - node.seen_at > settings.grace:
            return _end(node, f"nothing heard of it for {settings.grace:.0f} s: node, network or supervisor is gone")
    head_finished = nodes[0].finished_at
    straggling = [node for node in nodes if node.phase == RUNNING]
    if head_finished is not None and straggling and now - head_finished > STRAGGLING:
        what = f"its trainer has not ended within {STRAGGLING:.0f} s of that of {nodes[0].name}, which finished"
        return _end(straggling[0], what)
    if missing:
        return Order(WAIT)
    return Order(GO, start_in=LEAD if len(nodes) > 1 else 0.0)


def first_failure(nodes: Iterable[NodeState], reported: NodeState, now: float) -> dict[str, Any]:
    """Name the first failure.

    The first node whose trainer gave up need not be the one that failed: when a process dies, its peers may notice
    and give up before its own launcher does. So blame goes to the node where a trainer process died first, or that
    had fallen silent before (a machine without power says nothing, and its peers fail long before the grace is over).
    A process that ended well is no suspect, and neither is a node whose part has finished.
    """
    suspects = []
    for node in nodes:
        if node.worker_ended_at is not None and node.report.get("outcome") != FINISHED:
            suspects.append((node.worker_ended_at, node))
        elif node.phase != ENDED and node.seen_at is not None and now - node.seen_at > SILENT:
            suspects.append((node.seen_at, node))
    culprit = min(suspects, key=lambda suspect: suspect[0], default=(now, reported))[1]
    if culprit.report.get("outcome") == FAILED:
        return _failure(culprit, describe_exit(culprit.report))
    if culprit.worker_ended_at is not None:
        return _failure(culprit, describe_worker(culprit.report))
    return _failure(
        culprit, f"nothing heard of it since {now - (culprit.seen_at or now):.0f} s before its peers failed"
    )


def describe_worker(report: dict[str, Any]) -> str:
    """Say how the first trainer process of a node died."""
    worker = report.get("worker_end") or {}
    name = f"trainer process of rank {worker.get('rank')} (pid {worker.get('pid')})"
    if worker.get("signal"):
        return f"{name} was killed by signal {worker['signal']}"
    if worker.get("exit_code"):
        return f"{name} exited with {worker['exit_code']}"
    return f"{name} ended first"


def describe_exit(report: dict[str, Any]) -> str:
    """Say how a trainer ended, with the last error of its log."""
    if report.get("start_error"):
        return f"the trainer could not be started: {report['start_error']}"
    code, number = report.get("exit_code"), report.get("signal")
    what = f"trainer killed by signal {number}" if number else f"trainer exited with {code}"
    worker = report.get("worker_failure") or {}
    if (report.get("worker_end") or {}).get("signal"):
        what += f"; {describe_worker(report)}"
    elif worker.get("exit_code", 0) < 0:
        what += f"; its worker with local rank {worker.get('local_rank')} was killed by signal {-worker['exit_code']}"
    detail = report.get("error")
    return f"{what} ({detail})" if detail else what


def _failure(node: NodeState, what: str) -> dict[str, Any]:
    rank = (node.report.get("worker_end") or {}).get("rank")
    return {
        "node": node.name,
        "node_rank": node.rank,
        "rank": rank,
        "what": what,
        "exit_code": node.report.get("exit_code"),
        "signal": node.report.get("signal"),
        "at": node.report.get("at"),
    }


def _end(node: NodeState, what: str) -> Order:
    return Order(END, f"{node.name}: {what}", _failure(node, what))
