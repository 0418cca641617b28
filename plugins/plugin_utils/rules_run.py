# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the evidence of a run must show: one table of rules, from the evidence to findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .findings import WARNING, Finding, names, some
from .smoke_run import STEPS

Plan = Mapping[str, Any]
Evidence = Mapping[str, Any]
Rule = Callable[[Plan, Evidence], Iterator[Finding]]


def judge(plan: Plan, evidence: Evidence) -> list[Finding]:
    """Hold every rule against a run that has ended."""
    return [finding for rule in RULES for finding in rule(plan, evidence)]


def _ended_well(plan: Plan, evidence: Evidence) -> Iterator[Finding]:
    failure = evidence["first_failure"]
    if evidence["unmet"]:
        yield _never_met(plan, evidence["unmet"])
        return
    if failure:
        where = f"logs are in runs/{plan['run_id']} on the node; collect brings them here"
        rank = f" (rank {failure['rank']})" if failure.get("rank") is not None else ""
        found = f"first failure: {failure['what']}{rank}"
        yield Finding("trainer_failed", (failure["node"],), "every trainer ends by itself with 0", found, where)
        return
    for outcome in sorted({str(value) for value in evidence["outcomes"].values()} - {"finished"}):
        nodes = [node for node, value in evidence["outcomes"].items() if str(value) == outcome]
        if outcome == "stopped":
            remedy = "launch again when it is wanted; auto_resume_from_checkpoints goes on from the last checkpoint"
            yield Finding("stopped", tuple(nodes), "the run ends by itself", "it was stopped on request", remedy)
        elif outcome == "None":
            remedy = "run status again; if the supervisor is gone, run stop, which ends what it left"
            yield Finding(
                "not_ended", tuple(nodes), "the trainer has ended and its end is on record", "no end on record", remedy
            )
        else:
            found = f"its part was ended ({outcome})"
            yield Finding(
                "trainer_failed", tuple(nodes), "every trainer ends by itself with 0", found, "see the run's state.json"
            )


def _never_met(plan: Plan, unmet: Mapping[str, str]) -> Finding:
    points: dict[str, list[str]] = {}
    for node, point in unmet.items():
        points.setdefault(point, []).append(node)
    found = some([f"{names(nodes)} waited at {point}" for point, nodes in points.items()])
    remedy = "see their logs (collect) and that the head can be reached; launch gives all nodes one endpoint and one id"
    return Finding(
        "rendezvous_failed",
        tuple(unmet),
        f"the launchers of all nodes meet within {plan['rendezvous_timeout']} s, at one endpoint and with one id",
        found,
        remedy,
    )


def _one_world(plan: Plan, evidence: Evidence) -> Iterator[Finding]:
    cut_short = evidence["first_failure"] or "stopped" in evidence["outcomes"].values()
    if evidence["world_size"] == plan["world_size"] or (cut_short and not evidence["losses"]):
        return
    speaking = evidence["nodes_with_losses"]
    worlds = evidence["worlds"]
    alone = "; ".join("ranks " + _listed(world) for world in worlds[:4])
    proof = f"losses are logged on {names(speaking)}" if len(speaking) > 1 else "their processes are not connected"
    what = f"no world formed: {len(worlds)} separate ones ({alone}), for {proof}; exit codes don't show it"
    if len(worlds) == 1:
        what = f"one world of another size ({alone}); exit codes don't show it"
    yield Finding(
        "no_world",
        tuple(speaking) if len(speaking) > 1 else (),
        f"one world of {plan['world_size']} ranks, connected to each other, of which rank 0 alone logs losses",
        what,
        "see axolotl_environment: on CPU the trainers join only with ACCELERATE_USE_CPU=true",
    )


def _listed(ranks: Sequence[int]) -> str:
    return names([str(rank) for rank in ranks])


def _ranks(plan: Plan, evidence: Evidence) -> Iterator[Finding]:
    """Each rank is somewhere, and once: a launcher that was told something else may look well all the same."""
    if evidence["first_failure"] or "stopped" in evidence["outcomes"].values():
        return
    found = evidence["ranks"]
    size = plan["nproc_per_node"]
    wrong = [node for node, ranks in found.items() if len(ranks) != size]
    if plan["rendezvous"] != "c10d":
        wrong += [node for node, ranks in found.items() if ranks[:1] != [plan["nodes"][node]["rank"] * size]]
    nodes_of: dict[int, list[str]] = {}
    for node, ranks in found.items():
        for rank in ranks:
            nodes_of.setdefault(rank, []).append(node)
    wrong += [node for nodes in nodes_of.values() if len(nodes) > 1 for node in nodes]
    hosts = tuple(node for node in found if node in wrong)
    if hosts:
        yield Finding(
            "ranks",
            hosts,
            f"{size} trainers on each node, with the ranks 0 to {plan['world_size'] - 1}, each once",
            some([f"{node} had {'rank ' + _listed(found[node]) if found[node] else 'none'}" for node in hosts]),
            "see argv in the node.json of these nodes: processes per node and node rank are the launch plan's to set",
        )


def _restarts(plan: Plan, evidence: Evidence) -> Iterator[Finding]:
    if evidence["restarts"]:
        found = some([f"{node}: {count} times" for node, count in evidence["restarts"].items()])
        remedy = "see the logs for why; each time the trainers began anew, or went on from the last checkpoint"
        yield Finding(
            "restarted", tuple(evidence["restarts"]), "trainers that run to their end at once", found, remedy, WARNING
        )


def _losses(plan: Plan, evidence: Evidence) -> Iterator[Finding]:
    losses = evidence["losses"]
    if evidence["first_failure"] or "stopped" in evidence["outcomes"].values():
        return
    if not losses:
        remedy = "see the trainer's log; logging_steps above the number of steps logs none"
        yield Finding("loss_missing", (), "losses in the log", "none", remedy)
    elif evidence["first_not_finite"]:
        found = f"from log entry {evidence['first_not_finite']} on, the loss or its gradient is no finite number"
        remedy = "lower learning_rate, check the data and the precision"
        yield Finding("loss_not_finite", tuple(evidence["nodes_with_losses"][:1]), "finite losses", found, remedy)


def _tokens(plan: Plan, evidence: Evidence) -> Iterator[Finding]:
    wanted, found = plan["expected_tokens"], evidence["first_tokens_total"]
    if wanted and evidence["losses"] and found != wanted:
        remedy = (
            "a smaller number means that fewer ranks fed the step; correct axolotl_expected_tokens if the data changed"
        )
        yield Finding("tokens", (), f"tokens/total of {wanted} at the first step", f"{found}", remedy)


def _rng_states(plan: Plan, evidence: Evidence) -> Iterator[Finding]:
    """A world writes one random state per rank; a process that believes itself alone writes one without a rank."""
    if plan["world_size"] == 1:
        return
    alone = [
        node
        for node, found in evidence["checkpoints"].items()
        if any("rng_state.pth" in files for files in found.values())
    ]
    if alone:
        remedy = "these nodes trained separately: see no_world; don't use these checkpoints"
        yield Finding(
            "checkpoint_alone",
            tuple(alone),
            "rng_state_<rank>.pth in checkpoints",
            "rng_state.pth, as one process writes it",
            remedy,
        )
    if evidence["first_failure"] or not evidence["checkpoints"]:
        return
    newest = max((name for found in evidence["checkpoints"].values() for name in found), key=_number)
    written = {file for found in evidence["checkpoints"].values() for file in found.get(newest, [])}
    missing = [str(rank) for rank in range(plan["world_size"]) if f"rng_state_{rank}.pth" not in written]
    if missing and not alone:
        found = f"none of rank {names(missing)}"
        remedy = "the checkpoint can't be resumed in full; see the logs of these ranks"
        yield Finding("checkpoint_partial", (), f"{newest} has a random state of every rank", found, remedy, WARNING)


def _smoke(plan: Plan, evidence: Evidence) -> Iterator[Finding]:
    """A smoke run is to show that checkpoints are written, too."""
    if not plan.get("smoke") or evidence["first_failure"] or "stopped" in evidence["outcomes"].values():
        return
    wanted = f"checkpoint-{STEPS}"
    if not any(wanted in found for found in evidence["checkpoints"].values()):
        remedy = "see the end of the trainers' logs; a config with save_strategy: no writes none"
        yield Finding("smoke_checkpoint", (), f"{wanted} of the smoke run", "no node has it", remedy)


def _number(checkpoint: str) -> int:
    digits = checkpoint.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def _orphans(plan: Plan, evidence: Evidence) -> Iterator[Finding]:
    for node, pids in evidence["alive"].items():
        found = f"pids {names([str(pid) for pid in pids])}"
        yield Finding("processes_left", (node,), "no process of the run is left", found, "run stop")


RULES: tuple[Rule, ...] = (
    _ended_well,
    _one_world,
    _ranks,
    _restarts,
    _losses,
    _tokens,
    _rng_states,
    _smoke,
    _orphans,
)


def supervised(nodes: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Of a run that is under way: whether each node's part is still supervised."""
    lost = {
        node: evidence["run"]["processes"]
        for node, evidence in nodes.items()
        if evidence["run"]["state"].get("phase") != "ended" and not evidence["run"]["supervisor_alive"]
    }
    remedy = "run stop: it ends what was left behind"
    return [
        Finding(
            "supervisor_lost",
            (node,),
            "the supervisor lives until the run's end",
            f"it is gone; {len(pids)} processes are left",
            remedy,
        )
        for node, pids in lost.items()
    ]


def without_record(nodes: list[str]) -> list[Finding]:
    """Nodes that took part in the run and answered, but speak of another run or of none."""
    if not nodes:
        return []
    remedy = "name the run (-e gpufleet_run_id=...); if it is not there, its folder or axolotl_root has changed"
    return [Finding("run_missing", tuple(nodes), "the run's folder on the node", "no such run", remedy)]
