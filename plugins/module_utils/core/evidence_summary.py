# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one node's trainer log proves, summed up in bounded memory so that only the summary travels."""

from __future__ import annotations

import math
from typing import Any

from . import log_lines

MAX_LOSSES = 500
MAX_ERRORS = 20
MAX_RANKS = 16384


class LogSummary:
    """Takes a log line by line; ``as_dict()`` is the summary.

    Kept: the first and the newest MAX_LOSSES losses, the first MAX_ERRORS errors (the earliest is the cause),
    up to MAX_RANKS joined NCCL ranks.
    """

    def __init__(self) -> None:
        self.step = 0
        self.total_steps = 0
        self.loss_count = 0
        self.losses: list[float] = []
        self.newest_losses: list[float] = []
        self.first_tokens_total: float | None = None
        self.newest: dict[str, float] = {}
        self.first_not_finite = 0
        self.completed = False
        self.errors: list[str] = []
        self.worker_failures: list[dict[str, Any]] = []
        self.networks: set[str] = set()
        self.nccl_ranks: set[log_lines.NcclRank] = set()

    def add(self, line: str) -> None:
        """Take one line."""
        event = log_lines.read_line(line)
        if isinstance(event, log_lines.LossLine):
            self._add_loss(event)
        elif isinstance(event, log_lines.StepLine):
            self.step, self.total_steps = event.step, event.total
        elif isinstance(event, log_lines.CompletedLine):
            self.completed = True
        elif isinstance(event, log_lines.ErrorLine) and len(self.errors) < MAX_ERRORS:
            self.errors.append(event.text)
        elif isinstance(event, log_lines.WorkerFailure) and len(self.worker_failures) < MAX_ERRORS:
            self.worker_failures.append(event._asdict())
        elif isinstance(event, log_lines.NcclNetwork) and len(self.networks) < MAX_ERRORS:
            self.networks.add(event.name)
        elif isinstance(event, log_lines.NcclRank) and len(self.nccl_ranks) < MAX_RANKS:
            self.nccl_ranks.add(event)

    def _add_loss(self, event: log_lines.LossLine) -> None:
        self.loss_count += 1
        self.newest = event.values
        # transformers may replace a loss that is no number by 0 before it logs it; the gradient then tells.
        trouble = [value for value in (event.loss, event.values.get("grad_norm", 0.0)) if not math.isfinite(value)]
        if trouble and not self.first_not_finite:
            self.first_not_finite = self.loss_count
        if self.first_tokens_total is None:
            self.first_tokens_total = event.values.get("tokens/total")
        if len(self.losses) < MAX_LOSSES:
            self.losses.append(event.loss)
        else:
            self.newest_losses = [*self.newest_losses[-(MAX_LOSSES - 1) :], event.loss]

    @property
    def loss(self) -> float | None:
        """The newest loss."""
        return self.newest.get("loss")

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON-able data."""
        communicators: dict[str, dict[str, Any]] = {}
        for comm_id, rank, nranks in sorted(self.nccl_ranks):
            communicator = communicators.setdefault(comm_id, {"nranks": nranks, "ranks": []})
            communicator["ranks"].append(rank)
        return {
            "step": self.step,
            "total_steps": self.total_steps,
            "loss_count": self.loss_count,
            # JSON has no NaN: a loss that is not finite is null.
            "losses": [_finite(loss) for loss in self.losses + self.newest_losses],
            "first_not_finite": self.first_not_finite,
            "first_tokens_total": _finite(self.first_tokens_total),
            "completed": self.completed,
            "errors": self.errors,
            "worker_failures": self.worker_failures,
            "networks": sorted(self.networks),
            "nccl_communicators": communicators,
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
