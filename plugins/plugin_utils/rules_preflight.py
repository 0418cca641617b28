# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must match between nodes, and what must hold on each, before a launch: one table of rules.

A rule is a function from the plan and the fingerprints to findings. It says what was expected and found, on which
nodes, and the remedy; whether it stops the launch is its severity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from . import (
    config_difference,
    launchers,
    rule_table,
    rules_config,
    rules_data,
    rules_fsdp,
    rules_health,
    rules_infiniband,
    rules_nccl,
    rules_network,
    rules_parity,
    rules_prepared,
    rules_storage,
)
from .findings import WARNING, Finding, names, some
from .rule_table import Agreed
from .rules_parity import PROVISION

Plan = Mapping[str, Any]
Fingerprints = Mapping[str, Mapping[str, Any]]
Rule = Callable[[Plan, Fingerprints], Iterator[Finding]]

RESTORE = "run provision, which restores them"


def examine(plan: Plan, fingerprints: Fingerprints, config: str = "") -> list[Finding]:
    """Hold every rule against the fleet; see `compare`."""
    return compare(plan, fingerprints, config)[0]


def compare(
    plan: Plan, fingerprints: Fingerprints, config: str = "", recorded: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[list[Finding], Agreed]:
    """Hold every rule against the fleet, what explains the most first.

    Args:
        plan: the launch plan.
        fingerprints: what was read, by node.
        config: text of the controller's config, its secrets masked, to say which keys differ.
        recorded: what the fleet agreed on when it was recorded.

    Returns:
        The findings, and what the nodes agree on.
    """
    fingerprints = {node: fingerprints[node] for node in plan["nodes"] if node in fingerprints}
    first = [finding for rule in FIRST for finding in rule(plan, fingerprints)]
    table, agreed = rule_table.examine(rules_parity.ROWS, plan, fingerprints, first, recorded)
    data = {f"input {name}": value for name, value in rules_data.agreed(fingerprints).items()}
    agreed = {**agreed, "": {**agreed.get("", {}), **data}}
    last = [finding for rule in LAST for finding in rule(plan, fingerprints)]
    return [*first, *table, *_config(plan, fingerprints, config), *last], agreed


def _machine(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    nodes_of: dict[str, list[str]] = {}
    for node, fingerprint in fingerprints.items():
        nodes_of.setdefault(fingerprint["machine"]["identity"], []).append(node)
    for nodes in nodes_of.values():
        if len({plan["nodes"][node]["machine"] for node in nodes}) > 1:
            yield Finding(
                "machine_twice",
                tuple(nodes),
                "each node is a machine of its own, or says which one it shares (axolotl_machine)",
                f"{names(nodes)} are the same machine",
                "correct ansible_host, or set one axolotl_machine for nodes that share a machine on purpose",
            )
    declared: dict[str, dict[str, list[str]]] = {}
    for node, fingerprint in fingerprints.items():
        by_identity = declared.setdefault(plan["nodes"][node]["machine"], {})
        by_identity.setdefault(fingerprint["machine"]["identity"], []).append(node)
    for machine, by_identity in declared.items():
        if len(by_identity) > 1:
            nodes = [node for group in by_identity.values() for node in group]
            remedy = "set axolotl_machine only for nodes that share a machine"
            found = f"{len(by_identity)} different machines"
            yield Finding("machine_differs", tuple(nodes), f"nodes of {machine} are one machine", found, remedy)


def _storage(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    seen = {node: fingerprint["storage"] for node, fingerprint in fingerprints.items() if fingerprint.get("storage")}
    yield from rules_storage.examine(plan, seen)


def _release(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    missing = [node for node, found in fingerprints.items() if not found["release"]["exists"]]
    if missing:
        yield Finding("release_missing", tuple(missing), f"release {plan['release_id']}", "no such folder", PROVISION)
    for node, release in _releases(fingerprints).items():
        unreadable = [name for name in ("commit", "lock_sha256", "python_version") if release[name] is None]
        if release["sealed"] and unreadable:
            found = "; ".join(release["problems"])[:300] or f"{' and '.join(unreadable)} can't be read"
            yield Finding("release_damaged", (node,), "a release as it was completed", found, PROVISION)
        if not release["sealed"]:
            found = "; ".join(release["problems"])[:300] or "it was never completed"
            yield Finding("release_unfinished", (node,), "a complete release", found, PROVISION)


def _releases(fingerprints: Fingerprints) -> dict[str, Mapping[str, Any]]:
    return {node: found["release"] for node, found in fingerprints.items() if found["release"]["exists"]}


def _source_edited(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    for node, release in _releases(fingerprints).items():
        if release["dirty_count"]:
            listed = ", ".join(line[3:] for line in release["dirty"][:5])
            yield Finding(
                "source_edited",
                (node,),
                "the files of the commit, unedited",
                f"{release['dirty_count']} file(s) differ: {listed}",
                "commit the change and pin that commit, or run provision, which restores the files",
            )


def _packages(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    for node, release in _releases(fingerprints).items():
        packages = release["packages"]
        if not release["lock_sha256"]:
            continue
        differing = [
            *(
                f"{name} {pair['installed']} instead of {pair['locked']}"
                for name, pair in packages["different"].items()
            ),
            *(f"{name} {version} is missing" for name, version in packages["missing"].items()),
            *(f"{name} {version} is not in the lock" for name, version in packages["extra"].items()),
        ]
        if differing:
            yield Finding("packages", (node,), "exactly the packages of the lock", some(differing), RESTORE)
        replaced = {*packages["different"], *packages["missing"], *packages["extra"]}  # and so are their files
        files = {**packages["damaged"], **packages["edited"]}
        touched = [f"{name}: {path}" for name, path in files.items() if name not in replaced]
        if touched:
            yield Finding("package_edited", (node,), "the files of each package as installed", some(touched), RESTORE)


def _config(plan: Plan, fingerprints: Fingerprints, expected: str) -> Iterator[Finding]:
    remedy = "run provision, which copies the config; change it on the controller only"
    nodes_of: dict[str, list[str]] = {}
    for node, fingerprint in fingerprints.items():
        config = fingerprint["config"]
        if config["error"]:
            found = config["error"].lower()
            if config["elsewhere"]:
                found += f"; it lies in {config['elsewhere']}"
            yield Finding("config_missing", (node,), f"the config at {config['path']}", found, remedy)
        elif config["sha256"] != plan["config"]["sha256"]:
            nodes_of.setdefault(config["sha256"], []).append(node)
    for digest, nodes in nodes_of.items():
        yield _config_differs(plan, tuple(nodes), digest, expected, fingerprints[nodes[0]]["config"]["content"], remedy)


def _config_differs(
    plan: Plan, nodes: tuple[str, ...], digest: str, expected: str, content: str | None, remedy: str
) -> Finding:
    """Which keys differ, where both texts are there to tell."""
    wanted, found = f"config with sha256 {plan['config']['sha256']}", f"config with sha256 {digest}"
    if not expected or content is None:
        return Finding("config", nodes, wanted, found, remedy)
    try:
        differing = config_difference.differences(expected, content)
    except config_difference.Unreadable as error:
        return Finding("config", nodes, wanted, str(error), remedy)
    if not differing:
        found = "the same keys and values in another form: comments, spaces, or a value that is masked"
        return Finding("config_form", nodes, "the config, byte for byte", found, remedy, WARNING)
    wanted, found = (
        some([f"{item.key}: {getattr(item, side)[:80]}" for item in differing]) for side in ("expected", "found")
    )
    return Finding("config", nodes, wanted, found, remedy)


def _devices(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    wanted: dict[str, int] = {}
    for node in fingerprints:
        identity = fingerprints[node]["machine"]["identity"]
        wanted[identity] = wanted.get(identity, 0) + plan["nproc_per_node"]
    for node, fingerprint in fingerprints.items():
        devices, need = fingerprint["devices"], wanted[fingerprint["machine"]["identity"]]
        if devices["count"] < need:
            kind = "GPUs" if devices["kind"] == "cuda" else "processors"
            found = devices["error"] or f"{devices['count']} {kind}"
            remedy = "lower axolotl_nproc_per_node, or see to the node's devices"
            yield Finding("devices", (node,), f"at least {need} {kind} for its trainer processes", found, remedy)


def _ports(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    head = plan["head"]
    for port, state in fingerprints.get(head, {}).get("ports", {}).items():
        if state["free"]:
            continue
        holder = state["holder"] or {}
        found = (
            f"held by pid {holder['pid']} ({holder['command']})"
            if holder.get("pid")
            else "held by a process of another user"
        )
        if not state["holder"]:
            found = "it can't be listened on"
        name = "axolotl_master_port" if int(port) == plan["master_port"] else "axolotl_watch_port"
        remedy = f"end that process, or set {name} to a free port"
        yield Finding("port_taken", (head,), f"port {port} is free on the head", found, remedy)


def _active_runs(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    nodes_of: dict[str, dict[str, str]] = {}
    for node, fingerprint in fingerprints.items():
        for run_id, launched_by in fingerprint["active_runs"].items():
            nodes_of.setdefault(run_id, {})[node] = launched_by
    for run_id, nodes in nodes_of.items():
        owners = sorted(set(filter(None, nodes.values())))
        found = f"run {run_id}" + (f", started by {names(owners, limit=2)}" if owners else "")
        remedy = f"wait for its end (status), or end it: stop -e gpufleet_run_id={run_id}"
        yield Finding("run_active", tuple(nodes), "no run is active on the nodes", found, remedy)


def _override_options(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    unknown = fingerprints.get(plan["head"], {}).get("release", {}).get("unknown_options", [])
    for option in unknown:
        if option == launchers.OPTION and plan["launcher"] == launchers.AUTO:
            continue  # which takes another launcher then
        if option == launchers.OPTION:
            expected = "an axolotl train that starts its launcher itself (--launcher, since 0.12.0)"
            remedy = "set axolotl_launcher to torchrun_legacy, or pin a newer commit"
            yield Finding("launcher_unknown", (), expected, "this commit's does not know the option", remedy)
            continue
        yield Finding(
            "override_unknown",
            (),
            "overrides that this commit's axolotl train knows",
            f"{option}, which it would hand to the launcher",
            "correct axolotl_overrides, or set the key in the config",
        )


def _root_user(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    nodes = [node for node, fingerprint in fingerprints.items() if fingerprint["machine"]["uid"] == 0]
    if nodes:
        remedy = "connect as an unprivileged user (ansible_user): training needs no root"
        yield Finding("runs_as_root", tuple(nodes), "trainers run as an unprivileged user", "root", remedy, WARNING)


FIRST: tuple[Rule, ...] = (_machine, _storage, _release, _source_edited, _packages, _devices)
"""What explains differences in the table."""

LAST: tuple[Rule, ...] = (
    *rules_data.RULES,
    *rules_prepared.RULES,
    _ports,
    _active_runs,
    _override_options,
    *rules_config.RULES,
    *rules_fsdp.RULES,
    *rules_network.RULES,
    rules_infiniband.examine,
    rules_nccl.examine,
    *rules_health.RULES,
    _root_user,
)
