# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins what every node's logs, connections and checkpoints say into one answer: did they train as one world?

Exit codes prove nothing: nodes that never joined train alone, print losses and exit 0. What is asked instead is
whether the trainer processes of different nodes really held connections to each other, and whether exactly one of
them spoke for all.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

Node = Mapping[str, Any]

_GAVE_UP = "torch.distributed.elastic.rendezvous."
"""What the errors of torchrun's rendezvous are called (torch/distributed/elastic/rendezvous/api.py)."""


def joined_ranks(plan: Mapping[str, Any], nodes: Mapping[str, Node], machines: Mapping[str, str]) -> list[list[int]]:
    """The worlds that really existed: ranks grouped by the connections between their processes.

    Connections over the rendezvous port are left out: torchrun's agents and the trainers' store meet there even
    where every node then trains alone.

    Args:
        plan: the launch plan (rendezvous, master_port, watch_port, nproc_per_node, nodes).
        nodes: node to its evidence.
        machines: node to the machine it is on; loopback addresses mean something within one machine only.

    Returns:
        Groups of global ranks, the largest first.
    """
    ignored = {plan["master_port"], plan["watch_port"]}
    group_of = {rank: {rank} for rank in _all_ranks(plan, nodes)}
    ends: dict[tuple[Any, ...], set[int]] = {}
    for node, evidence in nodes.items():
        for connection in evidence.get("connections", []):
            local, remote, rank = tuple(connection["local"]), tuple(connection["remote"]), connection["rank"]
            if local[1] in ignored or remote[1] in ignored or rank not in group_of:
                continue
            scope = machines.get(node, node) if _is_loopback(local[0]) else ""
            ends.setdefault((scope, local, remote), set()).add(rank)
    for (scope, local, remote), ranks in ends.items():
        for other in ends.get((scope, remote, local), ()):
            for rank in ranks:
                _join(group_of, rank, other)
    for communicator in _nccl_worlds(nodes):
        for rank in communicator:
            if rank in group_of and communicator[0] in group_of:
                _join(group_of, communicator[0], rank)
    groups = {id(group): sorted(group) for group in group_of.values()}
    return sorted(groups.values(), key=lambda group: (-len(group), group))


def _gloo(plan: Mapping[str, Any], worlds: list[list[int]]) -> str | None:
    """On CPU the connections that were seen are gloo's; on GPUs they may be NCCL's bootstrap and carry no gradients."""
    return "TCP (gloo)" if plan["accelerator"] == "cpu" and worlds and len(worlds[0]) > 1 else None


def separate_worlds(plan: Mapping[str, Any], nodes: Mapping[str, Node]) -> list[list[int]]:
    """The worlds of nodes that each log losses: every one of them has a rank 0 of its own, and so a model of its own.

    They may be connected all the same: on CPU the launcher's settings alone make Axolotl open a process group, which
    the trainer then does not use.
    """
    return [_all_ranks(plan, {node: evidence}) for node, evidence in nodes.items()]


def ranks_of(plan: Mapping[str, Any], node: str, evidence: Node) -> list[int]:
    """The global ranks of a node's trainers: as read from them, and not as planned, where that could be done.

    With c10d nothing else tells them, since torchrun gives the ranks out as it likes.
    """
    seen = evidence["run"]["state"].get("ranks")
    if seen or plan["rendezvous"] == "c10d":
        return list(seen or [])
    size = plan["nproc_per_node"]
    return [plan["nodes"][node]["rank"] * size + local for local in range(size)]


def _all_ranks(plan: Mapping[str, Any], nodes: Mapping[str, Node]) -> list[int]:
    return [rank for node, evidence in nodes.items() for rank in ranks_of(plan, node, evidence)]


def _join(group_of: dict[int, set[int]], one: int, other: int) -> None:
    if group_of[one] is not group_of[other]:
        small, large = sorted((group_of[one], group_of[other]), key=len)
        large |= small
        for rank in small:
            group_of[rank] = large


def _nccl_worlds(nodes: Mapping[str, Node]) -> list[list[int]]:
    """Communicators that NCCL itself reported, over all nodes, when complete (ranks 0 to nranks - 1)."""
    ranks: dict[str, set[int]] = {}
    sizes: dict[str, int] = {}
    for evidence in nodes.values():
        for comm_id, communicator in evidence["log"]["nccl_communicators"].items():
            ranks.setdefault(comm_id, set()).update(communicator["ranks"])
            sizes[comm_id] = communicator["nranks"]
    return [sorted(found) for comm_id, found in ranks.items() if found == set(range(sizes[comm_id]))]


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def summarise(plan: Mapping[str, Any], nodes: Mapping[str, Node], machines: Mapping[str, str]) -> dict[str, Any]:
    """The run's evidence in one JSON-able mapping.

    Returns:
        world_size and ranks_seen (of the largest world), worlds, losses (as logged on the first node that has some),
        nodes_with_losses, step and total_steps, first_tokens_total, transport; per node ranks, restarts, outcomes,
        exit_codes, started_at and started_late (seconds after the time at which all were to start); unmet (nodes to
        where they waited for the others in vain), first_failure, checkpoints, alive (pids per node). Left out nodes are
        simply absent.
    """
    speaking = [node for node in plan["nodes"] if node in nodes and nodes[node]["log"]["loss_count"]]
    worlds = joined_ranks(plan, nodes, machines) if len(speaking) < 2 else separate_worlds(plan, nodes)
    log = nodes[speaking[0]]["log"] if speaking else {}
    states = {node: evidence["run"]["state"] for node, evidence in nodes.items()}
    networks = sorted({name for evidence in nodes.values() for name in evidence["log"]["networks"]})
    return {
        "world_size": len(worlds[0]) if worlds else 0,
        "ranks_seen": worlds[0] if worlds else [],
        "worlds": worlds,
        "ranks": {node: ranks_of(plan, node, evidence) for node, evidence in nodes.items()},
        "restarts": {node: state["restarts"] for node, state in states.items() if state.get("restarts")},
        "unmet": _unmet(nodes),
        "losses": log.get("losses", []),
        "first_not_finite": log.get("first_not_finite", 0),
        "nodes_with_losses": speaking,
        "step": log.get("step", 0),
        "total_steps": log.get("total_steps", 0),
        "first_tokens_total": log.get("first_tokens_total"),
        "transport": ", ".join(f"NCCL {name}" for name in networks) or _gloo(plan, worlds),
        "outcomes": {node: state.get("outcome") for node, state in states.items()},
        "exit_codes": {node: state.get("exit_code") for node, state in states.items()},
        "started_at": {node: state.get("started_at") for node, state in states.items()},
        "started_late": {node: state.get("started_late") for node, state in states.items()},
        "first_failure": first_failure(nodes),
        "checkpoints": {node: evidence["checkpoints"] for node, evidence in nodes.items() if evidence["checkpoints"]},
        "alive": {
            node: evidence["run"]["processes"] for node, evidence in nodes.items() if evidence["run"]["processes"]
        },
    }


def _unmet(nodes: Mapping[str, Node]) -> dict[str, str]:
    """Where nodes waited for each other in vain, by c10d: nodes without trainers, once one of them has given up."""
    waited = {node: evidence for node, evidence in nodes.items() if not evidence["run"]["state"].get("ranks")}
    said = [line for evidence in waited.values() for line in evidence["log"]["errors"]]
    if not any(_GAVE_UP in line for line in said):
        return {}
    return {node: _meeting_point(evidence["run"]["plan"]["argv"]) for node, evidence in waited.items()}


def _meeting_point(argv: Sequence[str]) -> str:
    """Endpoint and id of a command."""
    values = dict(itertools.pairwise(argv))
    return f"{values.get('--rdzv-endpoint')} with id {values.get('--rdzv-id')}"


def first_failure(nodes: Mapping[str, Node]) -> dict[str, Any] | None:
    """The first failure, as the head named it; the named node's own record has the last word on how it ended."""
    runs = [evidence["run"] for evidence in nodes.values()]
    named = [
        run[source]["first_failure"]
        for source in ("watch", "state")
        for run in runs
        if run[source].get("first_failure")
    ]
    if not named:
        return None
    failure = dict(named[0])
    state = nodes[failure["node"]]["run"]["state"] if failure["node"] in nodes else {}
    if state.get("outcome") == "failed":
        what = state.get("reason") or failure["what"]
        failure.update(what=what, exit_code=state.get("exit_code"), signal=state.get("signal"))
    return failure


def recorded_plan(nodes: Mapping[str, Node]) -> dict[str, Any]:
    """The part of the launch plan that judging a run needs, from the records on its nodes.

    The inventory may have changed since; who had which rank is read where it was frozen.
    """
    run = next(iter(nodes.values()))["run"]
    plan = run["plan"]
    return {
        "run_id": run["run_id"],
        "release_id": plan["release_id"],
        "rendezvous": plan.get("rendezvous"),
        "rendezvous_timeout": plan.get("rendezvous_timeout"),
        "master_port": plan["master_port"],
        "watch_port": plan["watch_port"],
        "expected_tokens": plan["expected_tokens"],
        "accelerator": plan["accelerator"],
        "smoke": bool(plan.get("smoke")),
        "nproc_per_node": plan["nproc_per_node"],
        "nnodes": len(run["fleet"]),
        "world_size": len(run["fleet"]) * plan["nproc_per_node"],
        "head": run["fleet"][0],
        "nodes": {node: {"rank": rank} for rank, node in enumerate(run["fleet"])},
    }


def newest_run(nodes: Mapping[str, Node]) -> str | None:
    """The run to speak of: the newest that is active anywhere, else the newest on record."""
    active = [evidence["run"]["run_id"] for evidence in nodes.values() if is_active({"": evidence})]
    return max(active or [evidence["run"]["run_id"] for evidence in nodes.values()], default=None)


def is_active(nodes: Mapping[str, Node]) -> bool:
    """Whether the run goes on on any of the nodes; a supervisor whose part has ended only tells the others so."""
    runs = [evidence["run"] for evidence in nodes.values()]
    return any(run["processes"] or (run["supervisor_alive"] and run["state"].get("phase") != "ended") for run in runs)


def node_states(nodes: Mapping[str, Node]) -> dict[str, dict[str, Any]]:
    """What runs where, a row per node."""
    return {
        node: {
            "rank": evidence["run"]["node_rank"],
            "ranks": evidence["run"]["state"].get("ranks", []),
            "phase": evidence["run"]["state"].get("phase"),
            "outcome": evidence["run"]["state"].get("outcome"),
            "reason": evidence["run"]["state"].get("reason"),
            "step": evidence["log"]["step"],
            "total_steps": evidence["log"]["total_steps"],
            "loss": (evidence["log"]["losses"] or [None])[-1],
            "processes": len(evidence["run"]["processes"]),
        }
        for node, evidence in nodes.items()
    }
