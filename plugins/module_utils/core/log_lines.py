# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What single lines of a trainer's log mean: Axolotl/transformers, torchrun and NCCL.

Log text is untrusted: a line that looks like nothing known is None, and nothing here raises.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Union

MAX_LINE = 4096
"""Characters of a line that are looked at; what a person needs of a longer one stands at its start."""


class LossLine(NamedTuple):
    """A log entry of transformers' Trainer, which prints on global rank 0 only."""

    loss: float
    values: dict[str, float]


class StepLine(NamedTuple):
    """The training progress bar: steps done and to do."""

    step: int
    total: int


class NcclRank(NamedTuple):
    """One rank that joined one NCCL communicator (``... commId 0x.. - Init COMPLETE``)."""

    comm_id: str
    rank: int
    nranks: int


class NcclNetwork(NamedTuple):
    """The network that NCCL chose (``Using network IB``)."""

    name: str


class ErrorLine(NamedTuple):
    """The last line of a traceback: exception and message."""

    text: str


class WorkerFailure(NamedTuple):
    """torchrun says that one of its node's workers failed; a negative exit code is a signal."""

    exit_code: int
    local_rank: int
    pid: int


class CompletedLine(NamedTuple):
    """Axolotl says that training is complete."""

    text: str


LogEvent = Union[LossLine, StepLine, NcclRank, NcclNetwork, ErrorLine, WorkerFailure, CompletedLine]

# transformers 4 prints numbers, 5 prints quoted strings: {'loss': '5.847', 'tokens/total': 568, ...}
_LOSS = re.compile(r"\{'loss': [^{}]*\}")
_PAIR = re.compile(
    r"'([\w/]{1,64})': '?([-+]?(?:\d{1,400}(?:\.\d{0,400})?(?:e[-+]?\d{1,4})?|nan|inf))(?=['\s,}])", re.IGNORECASE
)
# The Trainer's bar has no description, unlike those of dataset preparation.
_STEP = re.compile(r"^\s*\d{1,3}%\|[^|]*\|\s*(\d+)/(\d+) \[")
_NCCL_RANK = re.compile(
    r"NCCL INFO .*comm 0x[0-9a-f]+ rank (\d+) nranks (\d+) .*commId (0x[0-9a-f]+) .*- Init COMPLETE"
)
_NCCL_NETWORK = re.compile(r"NCCL INFO .*Using network (\S.*?)\s*$")
_ERROR = re.compile(r"^(?:\[rank\d+\]:\s*)?((?:\w+\.)*\w*(?:Error|Exception|Interrupt|Timeout)(?:: .*)?)$")
# How torchrun itself ends because a worker did, or because it was told to
_CONSEQUENCE = re.compile(r"^torch\.distributed\.elastic\.[\w.]*(?:ChildFailedError|SignalException)")
_WORKER_FAILURE = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+) \(pid: (\d+)\)")
_COMPLETED = re.compile(r"Training completed! Saving trained model to")


def read_line(line: str) -> LogEvent | None:
    """Tell what a line means.

    Args:
        line: one line without its end; a progress bar's carriage return counts as an end.

    Returns:
        The event, or None for a line that carries no evidence.
    """
    line = line[:MAX_LINE]
    # torchrun's and NCCL's words come first: they may stand behind an unfinished progress bar.
    if "exitcode: " in line:
        match = _WORKER_FAILURE.search(line)
        return WorkerFailure(*map(int, match.groups())) if match else None
    if "NCCL INFO" in line:
        match = _NCCL_RANK.search(line)
        if match:
            return NcclRank(match.group(3), int(match.group(1)), int(match.group(2)))
        match = _NCCL_NETWORK.search(line)
        return NcclNetwork(match.group(1)) if match else None
    if "'loss': " in line:
        match = _LOSS.search(line)
        values = {name: float(value) for name, value in _PAIR.findall(match.group())} if match else {}
        return LossLine(values["loss"], values) if "loss" in values else None
    if "%|" in line:
        match = _STEP.match(line)
        return StepLine(int(match.group(1)), int(match.group(2))) if match else None
    match = _ERROR.match(line)
    if match:
        return None if _CONSEQUENCE.search(match.group(1)) else ErrorLine(match.group(1)[:500])
    return CompletedLine(line.strip()) if _COMPLETED.search(line) else None
