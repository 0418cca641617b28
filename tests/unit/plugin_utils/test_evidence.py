# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ranks really trained together, told from connections and from NCCL's own record."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from unit import fleets
from unit.fleets import RUN, link, trained_together

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import evidence

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def worlds(
    *connections: list[dict[str, Any]], nproc: int = 1, machines: Any = None, comms: Any = None
) -> list[list[int]]:
    """The worlds of nodes with these connections, each node on a machine of its own unless said otherwise."""
    fleet = [f"node{rank}" for rank in range(len(connections))]
    nodes = {node: fleets.evidence(node, rank, fleet, connections=connections[rank]) for rank, node in enumerate(fleet)}
    for rank, found in enumerate(nodes.values()):
        found["run"]["state"]["ranks"] = list(range(rank * nproc, (rank + 1) * nproc))
    for node, found in (comms or {}).items():
        nodes[node]["log"]["nccl_communicators"] = found
    plan = {**evidence.recorded_plan(nodes), "nproc_per_node": nproc}
    return evidence.joined_ranks(plan, nodes, machines or {node: node for node in fleet})


def test_a_connection_seen_from_both_ends_joins() -> None:
    assert worlds([link(0, (A, 4000), (B, 5000))], [link(1, (B, 5000), (A, 4000))]) == [[0, 1]]


def test_without_connections_everybody_is_alone() -> None:
    assert worlds([], []) == [[0], [1]]
    assert worlds([]) == [[0]]


def test_one_end_alone_proves_nothing() -> None:
    assert worlds([link(0, (A, 4000), (B, 5000))], []) == [[0], [1]]
    assert worlds([link(0, (A, 4000), (B, 5000))], [link(1, (B, 5001), (A, 4000))]) == [[0], [1]]
    assert worlds([link(0, (A, 4000), (B, 5000))], [link(1, (A, 4000), (B, 5000))]) == [[0], [1]]


def test_a_chain_is_one_world() -> None:
    first = link(0, (A, 4000), (B, 5000)), link(1, (B, 5000), (A, 4000))
    second = link(1, (B, 6000), (C, 7000)), link(2, (C, 7000), (B, 6000))
    assert worlds([first[0]], [first[1], second[0]], [second[1]]) == [[0, 1, 2]]
    assert worlds([first[0]], [first[1]], [second[1]]) == [[0, 1], [2]]


def test_loopback_joins_within_one_machine_only() -> None:
    ends = [link(0, ("127.0.0.1", 4000), ("127.0.0.1", 5000))], [link(1, ("127.0.0.1", 5000), ("127.0.0.1", 4000))]
    assert worlds(*ends) == [[0], [1]]
    assert worlds(*ends, machines={"node0": "one", "node1": "one"}) == [[0, 1]]
    assert worlds(*ends, machines={"node0": "one", "node1": "two"}) == [[0], [1]]
    ends = [link(0, ("::1", 4000), ("::1", 5000))], [link(1, ("::1", 5000), ("::1", 4000))]
    assert worlds(*ends) == [[0], [1]]


def test_agents_meet_at_the_rendezvous_even_where_each_node_trains_alone() -> None:
    for port in (29500, 29501):
        ends = [link(0, (A, port), (B, 5000))], [link(1, (B, 5000), (A, port))]
        assert worlds(*ends) == [[0], [1]]


def test_ranks_on_one_node_join_each_other() -> None:
    inside = [link(0, ("127.0.0.1", 1), ("127.0.0.1", 2)), link(1, ("127.0.0.1", 2), ("127.0.0.1", 1))]
    other = [link(2, ("127.0.0.1", 1), ("127.0.0.1", 2)), link(3, ("127.0.0.1", 2), ("127.0.0.1", 1))]
    assert worlds(inside, other, nproc=2) == [[0, 1], [2, 3]]
    across = link(1, (A, 4000), (B, 5000)), link(2, (B, 5000), (A, 4000))
    assert worlds([*inside, across[0]], [*other, across[1]], nproc=2) == [[0, 1, 2, 3]]


def test_ranks_that_are_not_of_the_plan_are_left_out() -> None:
    assert worlds([link(7, (A, 4000), (B, 5000))], [link(1, (B, 5000), (A, 4000))]) == [[0], [1]]


def test_the_largest_world_comes_first() -> None:
    later = link(1, (B, 4000), (C, 5000)), link(2, (C, 5000), (B, 4000))
    assert worlds([], [later[0]], [later[1]]) == [[1, 2], [0]]


def test_nccl_proves_a_world_when_all_its_ranks_are_there() -> None:
    def comm(*ranks: int, name: str = "0xa", nranks: int = 2) -> dict[str, Any]:
        return {name: {"nranks": nranks, "ranks": list(ranks)}}

    assert worlds([], [], comms={"node0": comm(0), "node1": comm(1)}) == [[0, 1]]
    assert worlds([], [], comms={"node0": comm(0), "node1": comm(1, name="0xb")}) == [[0], [1]]
    assert worlds([], [], comms={"node0": comm(0), "node1": comm(0)}) == [[0], [1]]
    assert worlds([], [], comms={"node0": comm(0, nranks=3), "node1": comm(1, nranks=3)}) == [[0], [1]]
    assert worlds([], [], comms={"node0": comm(0, nranks=1), "node1": comm(0, name="0xb", nranks=1)}) == [[0], [1]]


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(1, 4), st.sampled_from([29500, 4000, 5000])),
        max_size=12,
    )
)
def test_every_rank_is_in_exactly_one_world(rows: list[tuple[int, int, int, int]]) -> None:
    connections: list[list[dict[str, Any]]] = [[], [], [], []]
    for rank, one, other, port in rows:
        connections[rank].append(link(rank, (f"10.0.0.{one}", port), (f"10.0.0.{other}", 6000)))
        connections[rank].append(link(rank, (f"10.0.0.{other}", 6000), (f"10.0.0.{one}", port)))
    found = worlds(*connections)
    assert sorted(rank for world in found for rank in world) == [0, 1, 2, 3]
    assert found == worlds(*(links[::-1] for links in connections))


def summary(nodes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return evidence.summarise(evidence.recorded_plan(nodes), nodes, {node: node for node in nodes})


def test_the_summary_of_a_good_run() -> None:
    found = summary(trained_together())
    assert (found["world_size"], found["ranks_seen"], found["worlds"]) == (2, [0, 1], [[0, 1]])
    assert found["losses"] == [6.5, 6.0, 5.5]
    assert found["nodes_with_losses"] == ["node0"]
    assert (found["step"], found["total_steps"], found["first_tokens_total"]) == (3, 3, 568)
    assert found["transport"] == "TCP (gloo)"
    assert found["outcomes"] == {"node0": "finished", "node1": "finished"}
    assert found["exit_codes"] == {"node0": 0, "node1": 0}
    assert found["first_failure"] is None
    assert found["checkpoints"] == found["alive"] == {}


def test_nccl_names_the_transport() -> None:
    nodes = trained_together()
    for number, name in enumerate(("IB", "Socket")):
        nodes[f"node{number}"]["log"]["networks"] = [name]
    assert summary(nodes)["transport"] == "NCCL IB, NCCL Socket"


def test_connections_on_gpus_are_no_transport_of_gradients() -> None:
    nodes = trained_together()
    for node in nodes.values():
        node["run"]["plan"]["accelerator"] = "cuda"
    assert summary(nodes)["transport"] is None
    nodes = trained_together()
    nodes["node1"]["connections"] = []
    assert summary(nodes)["transport"] is None


def test_what_is_alive_is_listed_by_node() -> None:
    nodes = trained_together()
    nodes["node1"]["run"]["processes"] = [5, 6]
    assert summary(nodes)["alive"] == {"node1": [5, 6]}


def test_a_node_that_could_not_be_read_is_absent_not_assumed() -> None:
    nodes = trained_together()
    del nodes["node1"]
    found = summary(nodes)
    assert (found["world_size"], found["ranks_seen"]) == (1, [0])


def test_the_plan_is_read_from_the_records() -> None:
    plan = evidence.recorded_plan(trained_together())
    assert (plan["run_id"], plan["head"], plan["nnodes"], plan["world_size"]) == (RUN, "node0", 2, 2)
    assert plan["nodes"] == {"node0": {"rank": 0}, "node1": {"rank": 1}}


def test_the_first_failure_is_the_heads_and_its_node_says_how_it_ended() -> None:
    nodes = trained_together()
    assert evidence.first_failure(nodes) is None
    named = {"node": "node1", "rank": 1, "what": "trainer process of rank 1 (pid 5) ended first"}
    nodes["node0"]["run"]["watch"] = {"first_failure": named}
    nodes["node1"]["run"]["state"]["first_failure"] = {"node": "node0", "what": "another"}
    assert evidence.first_failure(nodes) == named
    nodes["node1"]["run"]["state"].update(outcome="failed", reason="trainer exited with 1", exit_code=1, signal=None)
    failure = evidence.first_failure(nodes)
    assert failure is not None
    assert (failure["node"], failure["what"], failure["exit_code"]) == ("node1", "trainer exited with 1", 1)


def test_a_failure_on_record_of_one_node_is_enough() -> None:
    nodes = trained_together()
    nodes["node1"]["run"]["state"]["first_failure"] = {"node": "node9", "what": "gone"}
    assert evidence.first_failure(nodes) == {"node": "node9", "what": "gone"}


def test_the_run_to_speak_of() -> None:
    nodes = trained_together()
    nodes["node1"]["run"]["run_id"] = "20270101T000000Z-ffff"
    assert evidence.newest_run(nodes) == "20270101T000000Z-ffff"
    nodes["node0"]["run"]["processes"] = [1]
    assert evidence.newest_run(nodes) == RUN
    assert evidence.newest_run({}) is None


def test_active_is_what_lives() -> None:
    nodes = trained_together()
    assert not evidence.is_active(nodes)
    nodes["node1"]["run"]["supervisor_alive"] = True
    assert not evidence.is_active(nodes)  # its part has ended: it only tells the others so
    nodes["node1"]["run"]["state"]["phase"] = "running"
    assert evidence.is_active(nodes)


def test_a_row_per_node() -> None:
    rows = evidence.node_states(trained_together())
    assert rows["node0"] == {
        "rank": 0,
        "ranks": [0],
        "phase": "ended",
        "outcome": "finished",
        "reason": "trainer exited with 0",
        "step": 3,
        "total_steps": 3,
        "loss": 5.5,
        "processes": 0,
    }
    assert rows["node1"]["loss"] is None
