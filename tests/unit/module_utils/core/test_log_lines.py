# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What single lines of real logs mean, and that no text whatever makes the reader raise."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.log_lines import (
    MAX_LINE,
    CompletedLine,
    ErrorLine,
    LossLine,
    NcclNetwork,
    NcclRank,
    StepLine,
    WorkerFailure,
    read_line,
)

# As Axolotl 0.19.0 with transformers 5 printed it
LOSS = (
    "{'loss': '6.018', 'grad_norm': '1.391', 'learning_rate': '0.001', 'ppl': '410.8', 'memory/max_active (GiB)': '0',"
    " 'tokens/train_per_sec_per_gpu': '470.5', 'tokens/trainable': 88, 'tokens/total': 1120, 'epoch': '0.125'}"
)


def test_a_loss_line_of_transformers_5_holds_quoted_numbers() -> None:
    event = read_line(LOSS)
    assert isinstance(event, LossLine)
    assert event.loss == 6.018
    assert event.values["tokens/total"] == 1120
    assert event.values["tokens/trainable"] == 88
    assert event.values["epoch"] == 0.125
    assert event.values["learning_rate"] == 0.001


def test_a_loss_line_of_transformers_4_holds_plain_numbers() -> None:
    event = read_line("{'loss': 5.847, 'grad_norm': 1.388, 'learning_rate': 1e-05, 'epoch': 0.06}")
    assert isinstance(event, LossLine)
    assert event.values == {"loss": 5.847, "grad_norm": 1.388, "learning_rate": 1e-05, "epoch": 0.06}


def test_a_loss_line_is_found_behind_other_text() -> None:
    event = read_line("node0: " + LOSS + " and more")
    assert isinstance(event, LossLine)
    assert event.loss == 6.018


@pytest.mark.parametrize("written", ["nan", "'nan'", "NaN"])
def test_a_loss_that_is_no_number_is_still_a_loss(written: str) -> None:
    event = read_line(f"{{'loss': {written}, 'tokens/total': 5}}")
    assert isinstance(event, LossLine)
    assert math.isnan(event.loss)
    assert event.values["tokens/total"] == 5


@pytest.mark.parametrize(("written", "loss"), [("inf", math.inf), ("'-inf'", -math.inf), ("'1e400'", math.inf)])
def test_an_infinite_loss_is_still_a_loss(written: str, loss: float) -> None:
    event = read_line(f"{{'loss': {written}}}")
    assert isinstance(event, LossLine)
    assert event.loss == loss


@pytest.mark.parametrize(
    "line",
    [
        "{'eval_loss': '5.1', 'epoch': 1.0}",
        "{'train_runtime': '1.867', 'train_loss': '6.011', 'epoch': '0.25'}",
        "{'loss': 'none'}",
        "{'loss': }",
        "'loss': 5.0",
        "{'loss': 5.0",
    ],
)
def test_what_is_no_training_loss(line: str) -> None:
    assert read_line(line) is None


def test_the_trainers_bar_tells_the_step() -> None:
    assert read_line(" 25%|██▌       | 1/4 [00:00<00:00,  4.99it/s]") == StepLine(1, 4)
    assert read_line(
        "  0%|          | 0/4 [00:00<?, ?it/s][2026-11-23 20:04:58,748] [WARNING] [py.warnings] x"
    ) == StepLine(0, 4)
    assert read_line("100%|██████████| 12000/12000 [9:59:59<00:00,  2.14it/s]") == StepLine(12000, 12000)


@pytest.mark.parametrize(
    "line",
    [
        "Tokenizing Prompts (num_proc=2):  50%|█████     | 32/64 [00:00<00:00, 139.21 examples/s]",
        "Loading weights: 100%|██████████| 21/21 [00:00<00:00, 23179.05it/s]",
        "Writing model shards: 100%|██████████| 1/1 [00:00<00:00, 384.90it/s]",
        "Generating train split: 64 examples [00:00, 22517.86 examples/s]",
        "50%|",
    ],
)
def test_other_bars_are_no_steps(line: str) -> None:
    assert read_line(line) is None


def test_nccl_tells_who_joined_which_communicator() -> None:
    new = (
        "gpu01:4242:4303 [4] NCCL INFO ncclCommInitRank comm 0x55d0 rank 4 nranks 16 cudaDev 4 nvmlDev 4 busId c8000"
        " commId 0xc0ffee - Init COMPLETE"
    )
    assert read_line(new) == NcclRank("0xc0ffee", 4, 16)
    assert read_line(new.replace("ncclCommInitRank ", "")) == NcclRank("0xc0ffee", 4, 16)
    split = new.replace("commId 0xc0ffee", "parent 0x55aa splitCount 1")
    assert read_line(split) is None


@pytest.mark.parametrize("network", ["IB", "Socket", "IBext", "AWS Libfabric"])
def test_nccl_tells_its_network(network: str) -> None:
    assert read_line(f"gpu01:4242:4303 [0] NCCL INFO Using network {network}  ") == NcclNetwork(network)


def test_other_nccl_lines_are_nothing() -> None:
    assert read_line("gpu01:1:1 [0] NCCL INFO Bootstrap: Using ib0:10.0.0.1<0>") is None
    assert read_line("gpu01:1:1 [0] NCCL INFO NET/IB : No device found.") is None


def test_the_last_line_of_a_traceback_is_the_error() -> None:
    assert read_line("ValueError: Could not find the transformer layer class X") == ErrorLine(
        "ValueError: Could not find the transformer layer class X"
    )
    assert read_line("[rank3]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB") == ErrorLine(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    )
    assert read_line("KeyboardInterrupt") == ErrorLine("KeyboardInterrupt")
    assert read_line("  raise ValueError('x')") is None
    assert read_line("[2026-11-23] [WARNING] an Error: of sorts") is None


def test_a_long_error_is_cut() -> None:
    event = read_line("RuntimeError: " + "x" * 10_000)
    assert isinstance(event, ErrorLine)
    assert len(event.text) == 500


def test_torchrun_tells_which_worker_failed() -> None:
    line = (
        "E1123 20:04:43.368000 24470 torch/distributed/elastic/multiprocessing/api.py:1034] failed (exitcode: -9)"
        " local_rank: 0 (pid: 24471) of binary: /opt/venv/bin/python"
    )
    assert read_line(line) == WorkerFailure(exit_code=-9, local_rank=0, pid=24471)
    assert read_line(line.replace("-9", "1")) == WorkerFailure(1, 0, 24471)
    assert read_line("  exitcode: 1") is None


def test_axolotl_says_that_training_is_complete() -> None:
    line = "[2026-11-23 20:05:00,616] [INFO] [axolotl.train] Training completed! Saving trained model to ./out."
    assert read_line(line) == CompletedLine(line)
    assert read_line("[INFO] [axolotl.train] Starting trainer...") is None


def test_a_huge_line_is_looked_at_in_its_beginning_only() -> None:
    assert read_line("x" * MAX_LINE + LOSS) is None
    event = read_line(LOSS + "x" * 5_000_000)
    assert isinstance(event, LossLine)


@pytest.mark.parametrize(
    "unit",
    [
        "NCCL INFO comm 0xa rank 1 nranks 1 commId 0xa ",
        "NCCL INFO Using network a ",
        "{'loss': '1",
        "Error: ",
        "a.",
        "25%| | 1",
    ],
)
def test_a_hostile_line_costs_little(unit: str) -> None:
    begin = time.process_time()
    read_line(unit * 5000)
    assert time.process_time() - begin < 2


_PIECES = st.sampled_from(
    [
        "{'loss': ",
        "'loss': '",
        "}",
        "nan",
        "'tokens/total': ",
        "25%|",
        "| 1/4 [",
        "NCCL INFO ",
        "comm 0xa rank 1 nranks 2 commId 0xb - Init COMPLETE",
        "Using network ",
        "failed (exitcode: -9) local_rank: 0 (pid: 1)",
        "[rank0]: ",
        "RuntimeError: ",
        "Training completed! Saving trained model to",
        " ",
        "١٢",
    ]
)


@given(st.text(max_size=300))
def test_no_text_raises(line: str) -> None:
    read_line(line)


@given(st.lists(st.one_of(_PIECES, st.text(alphabet="0123456789+e-',:x", max_size=6)), max_size=12).map("".join))
def test_nothing_that_resembles_a_known_line_raises(line: str) -> None:
    read_line(line)


@given(st.floats(), st.booleans())
def test_every_number_that_python_prints_is_read_back(loss: float, quoted: bool) -> None:
    event = read_line(f"{{'loss': {str(loss)!r}}}" if quoted else f"{{'loss': {loss}}}")
    assert isinstance(event, LossLine)
    assert event.loss == loss or math.isnan(loss)


def test_nccl_is_read_behind_a_progress_bar() -> None:
    progress = "  0%|          | 0/4 [00:00<?, ?it/s]"
    assert read_line(
        progress + "gpu1:7:9 [0] NCCL INFO comm 0x1 rank 1 nranks 2 cudaDev 0 commId 0xa - Init COMPLETE"
    ) == (NcclRank("0xa", 1, 2))
    assert read_line(progress + "gpu1:7:9 [0] NCCL INFO Using network IB") == NcclNetwork("IB")
