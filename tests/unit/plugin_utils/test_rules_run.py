# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run's evidence must show: each rule planted alone in the evidence of a good run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from unit.fleets import trained_together

from ansible_collections.gpufleet.axolotl.plugins.action.fleet_findings import JUDGES
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import evidence, rules_run
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding

Nodes = dict[str, dict[str, Any]]


def judged(nodes: Nodes, **plan: Any) -> list[Finding]:
    recorded = {**evidence.recorded_plan(nodes), **plan}
    return rules_run.judge(recorded, evidence.summarise(recorded, nodes, {node: node for node in nodes}))


def found(nodes: Nodes, **plan: Any) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.id, finding.hosts) for finding in judged(nodes, **plan)]


def test_a_good_run_has_no_findings() -> None:
    assert found(trained_together()) == []
    assert found(trained_together(), expected_tokens=568) == []


def disconnected(nodes: Nodes) -> None:
    nodes["node1"]["connections"] = []


def no_losses(nodes: Nodes) -> None:
    nodes["node0"]["log"].update(losses=[], loss_count=0)


def bad_loss(nodes: Nodes) -> None:
    nodes["node0"]["log"].update(losses=[6.5, None, 5.5], first_not_finite=2)


def left(nodes: Nodes) -> None:
    nodes["node1"]["run"]["processes"] = [77, 78]


def ended(outcome: str | None) -> Callable[[Nodes], None]:
    def change(nodes: Nodes) -> None:
        nodes["node1"]["run"]["state"]["outcome"] = outcome

    return change


def partial(nodes: Nodes) -> None:
    nodes["node0"]["checkpoints"] = {"checkpoint-9": ["rng_state_0.pth", "rng_state_1.pth"]}
    nodes["node1"]["checkpoints"] = {"checkpoint-10": ["rng_state_0.pth"]}


def alone(nodes: Nodes) -> None:
    nodes["node1"]["checkpoints"] = {"checkpoint-4": ["rng_state.pth"]}


PLANTED: list[tuple[str, Callable[[Nodes], None], tuple[str, ...], str]] = [
    ("no_world", disconnected, (), "2 separate ones (ranks 0; ranks 1), for their processes are not connected"),
    ("loss_missing", no_losses, (), "none"),
    ("loss_not_finite", bad_loss, ("node0",), "from log entry 2 on, the loss or its gradient is no finite number"),
    ("processes_left", left, ("node1",), "pids 77, 78"),
    ("trainer_failed", ended("called_off"), ("node1",), "its part was ended (called_off)"),
    ("trainer_failed", ended("failed"), ("node1",), "its part was ended (failed)"),
    ("not_ended", ended(None), ("node1",), "no end on record"),
    ("stopped", ended("stopped"), ("node1",), "it was stopped on request"),
    ("checkpoint_partial", partial, (), "none of rank 1"),
    ("checkpoint_alone", alone, ("node1",), "rng_state.pth"),
]


@pytest.mark.parametrize(("rule", "plant", "hosts", "said"), PLANTED)
def test_what_is_planted_alone_is_found_alone(
    rule: str, plant: Callable[[Nodes], None], hosts: tuple[str, ...], said: str
) -> None:
    nodes = trained_together()
    plant(nodes)
    (finding,) = judged(nodes)
    assert (finding.id, finding.hosts) == (rule, hosts)
    assert said in finding.found
    assert finding.remedy
    assert finding.severity == ("warning" if rule == "checkpoint_partial" else "error")


def test_nodes_that_trained_alone_fail_although_both_exited_with_0() -> None:
    nodes = trained_together()
    for node in nodes.values():
        node["connections"] = []
        node["log"] = {**nodes["node0"]["log"]}
        node["checkpoints"] = {"checkpoint-4": ["rng_state.pth"]}
    assert found(nodes, expected_tokens=1136) == [
        ("no_world", ("node0", "node1")),
        ("tokens", ()),
        ("checkpoint_alone", ("node0", "node1")),
    ]


def test_nodes_that_each_speak_trained_alone_even_when_they_are_connected() -> None:
    nodes = trained_together()
    nodes["node1"]["log"] = {**nodes["node0"]["log"]}
    (finding,) = judged(nodes)
    assert (finding.id, finding.hosts) == ("no_world", ("node0", "node1"))
    assert "losses are logged on node0, node1" in finding.found


def test_fewer_tokens_than_expected() -> None:
    (finding,) = judged(trained_together(), expected_tokens=1136)
    assert (finding.id, finding.found) == ("tokens", "568")
    assert "1136" in finding.expected


def test_a_world_of_one_has_nobody_to_join() -> None:
    nodes = trained_together()
    del nodes["node1"]
    nodes["node0"]["run"]["fleet"] = ["node0"]
    nodes["node0"]["checkpoints"] = {"checkpoint-4": ["rng_state.pth"]}
    assert found(nodes) == []


def test_the_first_failure_is_the_only_thing_said_of_how_it_ended() -> None:
    nodes = trained_together()
    no_losses(nodes)
    for node in nodes.values():
        node["connections"] = []
        node["run"]["state"]["outcome"] = "called_off"
    failure = {"node": "node1", "rank": 1, "what": "trainer exited with 3"}
    nodes["node0"]["run"]["watch"]["first_failure"] = failure
    (finding,) = judged(nodes)
    assert (finding.id, finding.hosts) == ("trainer_failed", ("node1",))
    assert finding.found == "first failure: trainer exited with 3 (rank 1)"


def test_a_failed_run_that_had_never_been_one_world_says_so_too() -> None:
    nodes = trained_together()
    disconnected(nodes)
    nodes["node0"]["run"]["watch"]["first_failure"] = {"node": "node1", "rank": None, "what": "x"}
    assert found(nodes) == [("trainer_failed", ("node1",)), ("no_world", ())]


def test_the_newest_checkpoint_counts_by_number_not_by_name() -> None:
    nodes = trained_together()
    both = ["rng_state_0.pth", "rng_state_1.pth"]
    nodes["node0"]["checkpoints"] = {"checkpoint-10": ["rng_state_0.pth"], "checkpoint-9": []}
    nodes["node1"]["checkpoints"] = {"checkpoint-10": ["rng_state_1.pth"], "checkpoint-9": []}
    assert found(nodes) == []
    nodes["node1"]["checkpoints"] = {"checkpoint-10": [], "checkpoint-9": both}
    assert found(nodes) == [("checkpoint_partial", ())]


def test_of_a_running_run_only_the_supervision_is_judged() -> None:
    nodes = trained_together()
    for node in nodes.values():
        node["run"]["state"]["phase"] = "running"
        node["run"]["supervisor_alive"] = True
    assert rules_run.supervised(nodes) == []
    nodes["node1"]["run"].update(supervisor_alive=False, processes=[5, 6])
    (finding,) = rules_run.supervised(nodes)
    assert (finding.id, finding.hosts) == ("supervisor_lost", ("node1",))
    assert "2 processes are left" in finding.found
    nodes["node1"]["run"]["state"]["phase"] = "ended"
    assert rules_run.supervised(nodes) == []


def test_a_gradient_that_is_not_finite_is_found_behind_good_losses() -> None:
    nodes = trained_together()
    nodes["node0"]["log"].update(losses=[6.5, 0.0, 0.0], first_not_finite=2)
    assert found(nodes) == [("loss_not_finite", ("node0",))]


def judge(name: str, results: Nodes) -> list[tuple[str, tuple[str, ...]]]:
    findings, _unused = JUDGES[name]({}, {"evidence": results})
    return [(finding.id, finding.hosts) for finding in findings]


@pytest.mark.parametrize("name", ["run", "status"])
def test_a_node_that_left_the_inventory_is_named(name: str) -> None:
    nodes = trained_together()
    assert judge(name, {node: {"evidence": value} for node, value in nodes.items()}) == []
    assert ("node_absent", ("node1",)) in judge(name, {"node0": {"evidence": nodes["node0"]}})


def test_a_node_with_a_new_name_is_judged_by_its_old_one() -> None:
    nodes = trained_together()
    assert judge("run", {"node0": {"evidence": nodes["node0"]}, "renamed": {"evidence": nodes["node1"]}}) == []


@pytest.mark.parametrize("name", ["run", "status"])
def test_a_node_that_did_not_answer_is_not_absent(name: str) -> None:
    gone = {"unreachable": True, "msg": "no route to host"}
    found = judge(name, {"node0": {"evidence": trained_together()["node0"]}, "node1": gone})
    assert ("unreachable", ("node1",)) in found
    assert "node_absent" not in dict(found)


@pytest.mark.parametrize("name", ["run", "status"])
def test_a_node_that_has_no_such_run_is_not_absent(name: str) -> None:
    found = judge(name, {"node0": {"evidence": trained_together()["node0"]}, "node1": {"evidence": None}})
    assert ("run_missing", ("node1",)) in found
    assert "node_absent" not in dict(found)


def with_ranks(first: list[int], second: list[int]) -> Nodes:
    """Two nodes that trained together and had these ranks."""
    nodes = trained_together()
    for node, ranks in zip(nodes.values(), (first, second), strict=True):
        node["run"]["state"]["ranks"] = ranks
        node["run"]["plan"]["nproc_per_node"] = 1
        for connection in node["connections"]:
            connection["rank"] = ranks[0]
    return nodes


def test_with_c10d_the_ranks_are_those_that_torchrun_gave() -> None:
    nodes = with_ranks([1], [0])
    assert found(nodes, rendezvous="c10d") == []
    # With a static rendezvous that is not what they were told.
    assert found(nodes) == [("ranks", ("node0", "node1"))]
    assert judged(nodes)[0].found == "node0 had rank 1; node1 had rank 0"


def test_with_c10d_a_rank_that_was_not_read_is_not_assumed() -> None:
    nodes = with_ranks([1], [0])
    del nodes["node1"]["run"]["state"]["ranks"]
    assert found(nodes, rendezvous="c10d") == [("no_world", ()), ("ranks", ("node1",))]


def test_a_rank_twice_is_no_pass() -> None:
    for rendezvous in ("static", "c10d"):
        findings = found(with_ranks([0], [0]), rendezvous=rendezvous)
        assert ("no_world", ()) in findings
        assert findings[-1][0] == "ranks"
    assert judged(with_ranks([0], [0]), rendezvous="c10d")[-1].hosts == ("node0", "node1")


def test_fewer_trainers_than_planned_are_no_pass_though_they_are_one_world() -> None:
    """Without --nproc-per-node torchrun starts one on each node."""
    nodes = with_ranks([0], [1])
    world, ranks = judged(nodes, nproc_per_node=4, world_size=8)
    assert (world.id, ranks.id, ranks.hosts) == ("no_world", "ranks", ("node0", "node1"))
    assert world.found.startswith("one world of another size (ranks 0, 1)")
    assert ranks.expected == "4 trainers on each node, with the ranks 0 to 7, each once"


def test_nodes_that_never_met() -> None:
    nodes = trained_together()
    for node, found_ in nodes.items():
        found_["run"]["state"].update(ranks=[], outcome="failed", exit_code=1)
        found_["run"]["plan"]["argv"] = ["torchrun", "--rdzv-endpoint", "h:1", "--rdzv-id", f"id-of-{node}"]
        found_["log"].update(losses=[], loss_count=0)
    error = "torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError"
    nodes["node1"]["log"]["errors"] = [error]
    nodes["node0"]["run"]["watch"] = {"first_failure": {"node": "node1", "what": f"trainer exited with 1 ({error})"}}
    (finding,) = judged(nodes, rendezvous="c10d", rendezvous_timeout=30)
    assert (finding.id, finding.hosts) == ("rendezvous_failed", ("node0", "node1"))
    assert finding.expected == "the launchers of all nodes meet within 30 s, at one endpoint and with one id"
    assert finding.found == "node0 waited at h:1 with id id-of-node0; node1 waited at h:1 with id id-of-node1"


def test_restarts_are_said() -> None:
    nodes = trained_together()
    nodes["node1"]["run"]["state"]["restarts"] = 2
    (finding,) = judged(nodes)
    assert (finding.id, finding.hosts, finding.severity) == ("restarted", ("node1",), "warning")
    assert finding.found == "node1: 2 times"
