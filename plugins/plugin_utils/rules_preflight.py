# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must match between nodes, and what must hold on each, before a launch: one table of rules.

A rule is a function from the plan and the fingerprints to findings. It says what was expected and found, on which
nodes, and the remedy; whether it stops the launch is its severity.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from . import rules_data, rules_infiniband, rules_network, rules_prepared, rules_storage
from .comparison import outliers
from .findings import WARNING, Finding, names

Plan = Mapping[str, Any]
Fingerprints = Mapping[str, Mapping[str, Any]]
Rule = Callable[[Plan, Fingerprints], Iterator[Finding]]

PROVISION = "run provision: it puts the pinned release in its place"


def examine(plan: Plan, fingerprints: Fingerprints) -> list[Finding]:
    """Hold every rule against the fleet; the order of the table is the order of the findings."""
    return [finding for rule in RULES for finding in rule(plan, fingerprints)]


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
            found = "; ".join(release["problems"])[:300]
            yield Finding("release_damaged", (node,), "a release as it was completed", found, PROVISION)
        if not release["sealed"]:
            yield Finding(
                "release_unfinished", (node,), "a complete release", "; ".join(release["problems"])[:300], PROVISION
            )


def _releases(fingerprints: Fingerprints) -> dict[str, Mapping[str, Any]]:
    return {node: found["release"] for node, found in fingerprints.items() if found["release"]["exists"]}


def _known(fingerprints: Fingerprints, name: str) -> dict[str, str]:
    """One property of every release of which it could be read."""
    return {node: release[name] for node, release in _releases(fingerprints).items() if release[name] is not None}


def _commit(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    commits = _known(fingerprints, "commit")
    yield from _pinned("commit", "source at commit {}", plan["commit"], commits, PROVISION)


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


def _lock(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    digests = {
        node: release["lock_sha256"] for node, release in _releases(fingerprints).items() if release["lock_sha256"]
    }
    yield from _pinned("lock", "lock with sha256 {}", plan["lock_sha256"], digests, PROVISION)


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
            shown = "; ".join(differing[:5]) + (f"; and {len(differing) - 5} more" if len(differing) > 5 else "")
            yield Finding(
                "packages", (node,), "exactly the packages of the lock", shown, "run provision, which restores them"
            )


def _python(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    versions = _known(fingerprints, "python_version")
    yield from _equal("python", "Python {}", plan, versions, "give the nodes the same Python, and run provision")


def _torch(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    versions = _known(fingerprints, "torch_version")
    yield from _equal("torch", "torch {}", plan, versions, PROVISION)


def _config(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    remedy = "run provision, which copies the config; change it on the controller only"
    for node, found in fingerprints.items():
        if found["config"]["error"]:
            expected = f"the config at {found['config']['path']}"
            yield Finding("config_missing", (node,), expected, found["config"]["error"].lower(), remedy)
    digests = {node: found["config"]["sha256"] for node, found in fingerprints.items() if found["config"]["sha256"]}
    yield from _pinned("config", "config with sha256 {}", plan["config"]["sha256"], digests, remedy)


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
    nodes_of: dict[str, list[str]] = {}
    for node, fingerprint in fingerprints.items():
        for run_id in fingerprint["active_runs"]:
            nodes_of.setdefault(run_id, []).append(node)
    for run_id, nodes in nodes_of.items():
        remedy = f"wait for its end (status), or end it: stop -e gpufleet_run_id={run_id}"
        yield Finding("run_active", tuple(nodes), "no run is active on the nodes", f"run {run_id}", remedy)


def _override_options(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    unknown = fingerprints.get(plan["head"], {}).get("release", {}).get("unknown_options", [])
    for option in unknown:
        yield Finding(
            "override_unknown",
            (),
            "overrides that this commit's axolotl train knows",
            f"{option}, which it would hand to torchrun",
            "correct axolotl_overrides, or set the key in the config",
        )


def _root_user(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    nodes = [node for node, fingerprint in fingerprints.items() if fingerprint["machine"]["uid"] == 0]
    if nodes:
        remedy = "connect as an unprivileged user (ansible_user): training needs no root"
        yield Finding("runs_as_root", tuple(nodes), "trainers run as an unprivileged user", "root", remedy, WARNING)


def _pinned(rule: str, expected: str, value: str, found: Mapping[str, Hashable], remedy: str) -> Iterator[Finding]:
    """A value that the plan pins, so that even a fleet that agrees can be wrong."""
    for other, nodes in outliers(found, head="", pinned=value).found.items():
        yield Finding(rule, tuple(nodes), expected.format(value), expected.format(other), remedy)


def _equal(rule: str, expected: str, plan: Plan, found: Mapping[str, Hashable], remedy: str) -> Iterator[Finding]:
    """A value that must be the same everywhere; the majority, or in a tie the head, is taken to be right."""
    result = outliers(found, head=plan["head"])
    for other, nodes in result.found.items():
        yield Finding(rule, tuple(nodes), expected.format(result.expected), expected.format(other), remedy)


RULES: tuple[Rule, ...] = (
    _machine,
    _storage,
    _release,
    _commit,
    _source_edited,
    _lock,
    _packages,
    _python,
    _torch,
    _config,
    *rules_data.RULES,
    *rules_prepared.RULES,
    _devices,
    _ports,
    _active_runs,
    _override_options,
    *rules_network.RULES,
    rules_infiniband.examine,
    _root_user,
)
