# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A log's summary: what it keeps, and that neither a long log nor a hostile one makes it large."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.evidence_summary import (
    MAX_ERRORS,
    MAX_LOSSES,
    LogSummary,
)


def summary_of(*lines: str) -> dict[str, Any]:
    summary = LogSummary()
    for line in lines:
        summary.add(line)
    return summary.as_dict()


def test_an_empty_log_proves_nothing() -> None:
    found = summary_of()
    assert found["losses"] == []
    assert found["loss_count"] == 0
    assert found["completed"] is False
    assert found["first_tokens_total"] is None
    assert found["nccl_communicators"] == {}


def test_a_training_is_summed_up() -> None:
    found = summary_of(
        "  0%|          | 0/4 [00:00<?, ?it/s]",
        "{'loss': '6.075', 'tokens/total': 560}",
        " 25%|██▌       | 1/4 [00:00<00:00,  4.99it/s]",
        "{'loss': '6.018', 'tokens/total': 1120}",
        "[INFO] Training completed! Saving trained model to ./out.",
    )
    assert found["losses"] == [6.075, 6.018]
    assert found["loss_count"] == 2
    assert (found["step"], found["total_steps"]) == (1, 4)
    assert found["first_tokens_total"] == 560
    assert found["completed"] is True


def test_the_newest_values_are_for_progress() -> None:
    summary = LogSummary()
    assert summary.loss is None
    for line in ("{'loss': '6.0', 'tokens/total': 1}", "{'loss': '5.0', 'tokens/total': 2}"):
        summary.add(line)
    assert summary.loss == 5.0
    assert summary.newest["tokens/total"] == 2


def test_a_loss_that_is_not_finite_is_null() -> None:
    found = summary_of("{'loss': 'nan'}", "{'loss': 'inf'}", "{'loss': '1.5'}")
    assert found["losses"] == [None, None, 1.5]


def test_of_many_losses_the_first_and_the_newest_are_kept() -> None:
    total = 3 * MAX_LOSSES
    found = summary_of(*(f"{{'loss': '{number}'}}" for number in range(total)))
    assert found["loss_count"] == total
    assert found["losses"] == [*range(MAX_LOSSES), *range(total - MAX_LOSSES, total)]


def test_the_earliest_errors_are_kept_since_they_are_the_cause() -> None:
    found = summary_of(*(f"RuntimeError: number {number}" for number in range(3 * MAX_ERRORS)))
    assert found["errors"] == [f"RuntimeError: number {number}" for number in range(MAX_ERRORS)]
    line = "failed (exitcode: 1) local_rank: {} (pid: 7)"
    failures = summary_of(*(line.format(number) for number in range(3 * MAX_ERRORS)))["worker_failures"]
    assert [failure["local_rank"] for failure in failures] == list(range(MAX_ERRORS))
    networks = summary_of(*(f"NCCL INFO Using network N{number}" for number in range(3 * MAX_ERRORS)))["networks"]
    assert len(networks) == MAX_ERRORS


def test_nccl_ranks_are_grouped_by_communicator() -> None:
    line = "NCCL INFO comm 0x1 rank {} nranks 2 cudaDev 0 commId {} - Init COMPLETE"
    found = summary_of(line.format(1, "0xa"), line.format(0, "0xa"), line.format(0, "0xa"), line.format(0, "0xb"))
    assert found["nccl_communicators"] == {
        "0xa": {"nranks": 2, "ranks": [0, 1]},
        "0xb": {"nranks": 2, "ranks": [0]},
    }


def test_joined_ranks_are_bounded() -> None:
    summary = LogSummary()
    for number in range(17_000):
        summary.add(f"NCCL INFO comm 0x1 rank {number} nranks 99999 commId 0xa - Init COMPLETE")
    assert len(summary.nccl_ranks) == 16_384


@given(st.lists(st.one_of(st.text(max_size=80), st.floats().map(lambda loss: f"{{'loss': {loss}}}")), max_size=30))
def test_whatever_the_log_says_the_summary_is_strict_json(lines: list[str]) -> None:
    found = summary_of(*lines)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_first_entry_that_is_not_finite_is_counted() -> None:
    good = "{'loss': '1.5', 'grad_norm': '2.0'}"
    assert summary_of(good, good)["first_not_finite"] == 0
    assert summary_of(good, "{'loss': 'nan'}", "{'loss': 'nan'}")["first_not_finite"] == 2
    # transformers may log 0 for a loss that is none; the gradient tells
    for norm in ("nan", "inf"):
        assert summary_of(good, good, f"{{'loss': '0.0', 'grad_norm': '{norm}'}}")["first_not_finite"] == 3


def test_the_first_entry_that_is_not_finite_is_known_even_when_it_is_left_out() -> None:
    lines = [f"{{'loss': '{number}'}}" for number in range(3 * MAX_LOSSES)]
    lines[MAX_LOSSES + 7] = "{'loss': 'nan'}"
    found = summary_of(*lines)
    assert None not in found["losses"]
    assert found["first_not_finite"] == MAX_LOSSES + 8
