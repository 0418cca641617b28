# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a run starts and ends: the head's decision from what the nodes reported."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.watch_rules import (
    END,
    GO,
    LEAD,
    STRAGGLING,
    WAIT,
    NodeState,
    Order,
    WatchSettings,
    decide,
    describe_exit,
    first_failure,
)
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.watch import REPORT_INTERVAL

SETTINGS = WatchSettings(join_timeout=120, grace=60)
JOINING: dict[str, Any] = {"phase": "joining"}
RUNNING: dict[str, Any] = {"phase": "running"}
FINISHED: dict[str, Any] = {"phase": "ended", "outcome": "finished", "exit_code": 0}


def fleet(*reports: dict[str, Any] | None, at: float = 1.0) -> list[NodeState]:
    """Nodes in rank order, None for one that was never heard of."""
    nodes = [NodeState(f"node{rank}", rank) for rank in range(len(reports))]
    for node, report in zip(nodes, reports, strict=True):
        if report is not None:
            node.take(report, at)
    return nodes


def decided(nodes: list[NodeState], now: float = 2.0) -> Order:
    return decide(nodes, started_at=0.0, now=now, settings=SETTINGS)


def failed(**facts: Any) -> dict[str, Any]:
    return {"phase": "ended", "outcome": "failed", "exit_code": 1, **facts}


def test_it_waits_until_everybody_has_joined() -> None:
    assert decided(fleet(JOINING, None)).kind == WAIT
    assert decided(fleet(JOINING, JOINING)).kind == GO


def test_a_node_alone_goes_at_once() -> None:
    assert decided(fleet(JOINING)).kind == GO


def test_all_start_at_one_time_that_each_hears_of_before() -> None:
    assert decided(fleet(JOINING, JOINING)).start_in == LEAD > REPORT_INTERVAL
    assert decided(fleet(JOINING)).start_in == 0


def test_a_trainer_goes_on_after_the_heads_for_a_while_and_no_longer() -> None:
    nodes = fleet(FINISHED, RUNNING, FINISHED, at=10.0)
    nodes[1].take(RUNNING, 10.0 + STRAGGLING)
    assert decided(nodes, now=10.0 + STRAGGLING).kind == GO
    nodes[1].take(RUNNING, 10.1 + STRAGGLING)
    order = decided(nodes, now=10.1 + STRAGGLING)
    assert order.kind == END
    assert order.reason == "node1: its trainer has not ended within 300 s of that of node0, which finished"
    assert order.first_failure is not None
    assert order.first_failure["node"] == "node1"


def test_the_head_may_write_the_model_long_after_the_others_have_ended() -> None:
    nodes = fleet(RUNNING, FINISHED, at=10.0)
    nodes[0].take(RUNNING, 9000.0)
    assert decided(nodes, now=9000.0).kind == GO


def test_joining_has_its_time_and_no_more() -> None:
    nodes = [NodeState("node0", 0), NodeState("node1", 1), NodeState("node2", 2)]
    for now, kind in ((120.0, WAIT), (120.1, END)):
        nodes[0].take(JOINING, now)
        order = decided(nodes, now=now)
        assert order.kind == kind
    assert order.reason == "node1: node1, node2 did not join within 120 s"
    assert order.first_failure is not None
    assert order.first_failure["node"] == "node1"


def test_a_silent_node_has_its_grace_and_no_more() -> None:
    nodes = fleet(RUNNING, RUNNING, at=0.0)
    nodes[0].take(RUNNING, 60.0)
    assert decided(nodes, now=60.0).kind == GO
    nodes[0].take(RUNNING, 60.1)
    order = decided(nodes, now=60.1)
    assert order.kind == END
    assert "node1: nothing heard of it for 60 s" in order.reason
    assert order.first_failure is not None
    assert order.first_failure["node_rank"] == 1


def test_silence_while_others_still_join_counts_too() -> None:
    nodes = fleet(JOINING, JOINING, None, at=0.0)
    nodes[0].take(JOINING, 70.0)
    assert decided(nodes, now=70.0).reason.startswith("node1: nothing heard of it")


def test_a_node_that_has_ended_may_be_silent() -> None:
    nodes = fleet(RUNNING, FINISHED, at=0.0)
    nodes[0].take(RUNNING, 500.0)
    assert decided(nodes, now=500.0).kind == GO


def test_all_finished_is_no_reason_to_end() -> None:
    assert decided(fleet(FINISHED, FINISHED)).kind == GO


def test_a_failure_ends_the_run_and_is_named() -> None:
    order = decided(fleet(RUNNING, failed(exit_code=3, at="2026-01-01T00:00:00Z")))
    assert order.kind == END
    assert order.reason == "node1: trainer exited with 3"
    assert order.first_failure == {
        "node": "node1",
        "node_rank": 1,
        "rank": None,
        "what": "trainer exited with 3",
        "exit_code": 3,
        "signal": None,
        "at": "2026-01-01T00:00:00Z",
    }


def test_blame_goes_to_the_node_where_a_worker_ended_first() -> None:
    nodes = fleet(RUNNING, RUNNING, RUNNING)
    nodes[2].take({**RUNNING, "worker_end": {"rank": 2, "pid": 77}}, 5.0)
    nodes[1].take({**RUNNING, "worker_end": {"rank": 1, "pid": 66}}, 5.5)
    nodes[0].take(failed(worker_end={"rank": 0, "pid": 55}), 6.0)
    order = decided(nodes, now=6.0)
    assert order.first_failure is not None
    assert order.first_failure["node"] == "node2"
    assert order.first_failure["rank"] == 2
    assert order.reason == "node2: trainer process of rank 2 (pid 77) ended first"


def test_the_culprits_own_words_are_used_when_it_has_some() -> None:
    nodes = fleet(RUNNING, RUNNING)
    nodes[1].take({**RUNNING, "worker_end": {"rank": 1, "pid": 66}}, 5.0)
    nodes[0].take(failed(worker_end={"rank": 0, "pid": 55}), 6.0)
    nodes[1].take(failed(exit_code=1, error="ValueError: x", worker_end={"rank": 1, "pid": 66}), 6.0)
    assert decided(nodes, now=6.0).reason == "node1: trainer exited with 1 (ValueError: x)"


def test_only_the_first_report_of_a_workers_end_counts() -> None:
    node = NodeState("node0", 0)
    node.take(RUNNING, 1.0)
    assert node.worker_ended_at is None
    node.take({**RUNNING, "worker_end": {"rank": 0, "pid": 1}}, 2.0)
    node.take({**RUNNING, "worker_end": {"rank": 0, "pid": 1}}, 3.0)
    assert (node.worker_ended_at, node.seen_at) == (2.0, 3.0)


def test_a_workers_end_alone_is_no_failure() -> None:
    assert decided(fleet(RUNNING, {**RUNNING, "worker_end": {"rank": 1, "pid": 66}})).kind == GO


def test_a_stop_ends_the_run_without_a_failure() -> None:
    order = decided(fleet(failed(), {"phase": "ended", "outcome": "stopped"}))
    assert order == Order(END, "stopped on request on node1")


def test_a_part_that_was_called_off_ends_the_others() -> None:
    order = decided(fleet(RUNNING, {"phase": "ended", "outcome": "called_off", "reason": "no contact for 60 s"}))
    assert order.kind == END
    assert order.reason == "node1: no contact for 60 s"


def test_the_decision_has_no_memory_the_latch_is_the_callers() -> None:
    nodes = fleet(RUNNING, RUNNING, at=0.0)
    nodes[0].take(RUNNING, 70.0)
    assert decided(nodes, now=70.0).kind == END
    nodes[1].take(RUNNING, 71.0)
    assert decided(nodes, now=71.0).kind == GO


@pytest.mark.parametrize(
    ("report", "text"),
    [
        ({"exit_code": 3}, "trainer exited with 3"),
        ({"signal": 9}, "trainer killed by signal 9"),
        ({"start_error": "/x: No such file"}, "the trainer could not be started: /x: No such file"),
        ({"exit_code": 1, "error": "ValueError: x"}, "trainer exited with 1 (ValueError: x)"),
        (
            {"exit_code": 1, "worker_failure": {"exit_code": -9, "local_rank": 3, "pid": 5}},
            "trainer exited with 1; its worker with local rank 3 was killed by signal 9",
        ),
        ({"exit_code": 1, "worker_failure": {"exit_code": 1, "local_rank": 3, "pid": 5}}, "trainer exited with 1"),
    ],
)
def test_how_a_trainer_ended_in_words(report: dict[str, Any], text: str) -> None:
    assert describe_exit(report) == text


_REPORTS = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {"phase": st.sampled_from(["joining", "running", "ending", "ended"])},
        optional={
            "outcome": st.sampled_from(["finished", "failed", "stopped", "called_off"]),
            "exit_code": st.integers(-1, 3),
            "worker_end": st.just({"rank": 0, "pid": 1}),
        },
    ),
)


@given(st.lists(_REPORTS, min_size=1, max_size=6), st.floats(1, 1000))
def test_it_goes_only_when_all_joined_and_ends_only_for_a_reason(reports: list[Any], now: float) -> None:
    order = decided(fleet(*reports), now=now)
    if order.kind == GO:
        assert None not in reports
    if order.kind == END:
        assert order.reason
    if any(report and report.get("outcome") in ("failed", "stopped", "called_off") for report in reports):
        assert order.kind == END


def test_a_worker_that_was_killed_is_named_before_its_launcher_says_so() -> None:
    nodes = fleet(RUNNING, RUNNING)
    nodes[1].take({**RUNNING, "worker_end": {"rank": 1, "pid": 66, "signal": 9}}, 5.0)
    nodes[0].take(failed(worker_end={"rank": 0, "pid": 55, "exit_code": 1}), 6.0)
    assert decided(nodes, now=6.0).reason == "node1: trainer process of rank 1 (pid 66) was killed by signal 9"


def test_a_node_that_fell_silent_before_is_blamed() -> None:
    for silent, named in ((5.0, "node0"), (5.1, "node1")):
        nodes = fleet(RUNNING, RUNNING, at=10.0)
        nodes[0].take(failed(worker_end={"rank": 0, "pid": 55}), 10.0 + silent)
        assert first_failure(nodes, nodes[0], 10.0 + silent)["node"] == named
    order = decided(nodes, now=20.0)
    assert order.reason == "node1: nothing heard of it since 10 s before its peers failed"


def test_neither_who_has_ended_nor_who_never_came_is_silent() -> None:
    nodes = fleet(RUNNING, FINISHED, None, at=1.0)
    nodes[0].take(failed(), 90.0)
    assert first_failure(nodes, nodes[0], 90.0)["node"] == "node0"


def test_silence_after_a_workers_end_is_not_the_first_failure() -> None:
    nodes = fleet(RUNNING, RUNNING, at=4.0)
    nodes[1].seen_at = 8.0
    nodes[0].take(failed(worker_end={"rank": 0, "pid": 55}), 7.0)
    assert first_failure(nodes, nodes[0], 20.0)["node"] == "node0"


def test_a_report_matters_when_it_may_change_the_decision() -> None:
    node = NodeState("node0", 0)
    assert node.take(JOINING, 1.0)
    assert not node.take({**JOINING, "step": 5}, 2.0)
    assert node.take(RUNNING, 3.0)
    assert not node.take({**RUNNING, "worker_end": {"rank": 0, "pid": 1}}, 4.0)
    assert node.take({**RUNNING, "stop_requested": True}, 5.0)
    assert node.take(FINISHED, 6.0)
    assert not node.take(FINISHED, 7.0)


def test_a_stop_that_is_asked_for_is_no_failure_of_the_trainer_that_it_ends() -> None:
    nodes = fleet(failed(), {**RUNNING, "stop_requested": True})
    assert decided(nodes) == Order(END, "stopped on request on node1")


def test_a_worker_that_was_restarted_is_no_suspect() -> None:
    nodes = fleet(RUNNING, RUNNING)
    ended = {**RUNNING, "worker_end": {"rank": 0, "pid": 5, "signal": 9}}
    nodes[0].take(ended, 2.0)
    assert nodes[0].worker_ended_at == 2.0
    nodes[0].take(RUNNING, 3.0)
    nodes[1].take(failed(), 4.0)
    assert first_failure(nodes, nodes[1], 4.0)["node"] == "node1"
