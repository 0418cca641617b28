# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launch plan: for each node its rank, paths and command; one frozen answer to "what runs where".

Pure: what was read from files (the config, the lock) is handed in. Everything wrong is a finding; all come at once.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.masking import is_secret_name
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.node_paths import NodePaths
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.release_name import release_id

from . import launcher_torchrun, peers
from .comparison import outliers
from .findings import Finding
from .settings import Values

TRAINER_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ControllerFiles(NamedTuple):
    """What the controller's files say.

    Attributes:
        config_path: absolute path of the Axolotl YAML on the controller.
        config: its content, an empty mapping where it could not be read.
        config_sha256: digest of its bytes.
        lock_path: absolute path of the lock for the release's inputs.
        lock_sha256: digest of the lock, or None where it has not been compiled yet.
        source_cache: absolute folder for a checkout of the repository at the commit.
        base: absolute folder from which relative `src` are meant.
        delivery_cache: absolute folder for what is packed for nodes without internet.
    """

    config_path: str
    config: Mapping[str, Any]
    config_sha256: str
    lock_path: str
    lock_sha256: str | None
    source_cache: str
    base: str
    delivery_cache: str = ""


def ranks(values: Mapping[str, Values]) -> dict[str, int]:
    """Node to rank: `axolotl_node_rank` where every node has one, else the position in the group."""
    declared = {node: known.get("axolotl_node_rank") for node, known in values.items()}
    if all(rank is None for rank in declared.values()):
        return {node: position for position, node in enumerate(values)}
    return {node: rank for node, rank in declared.items() if rank is not None}


def build(values: Mapping[str, Values], files: ControllerFiles, run_id: str, writer: str = "") -> dict[str, Any]:
    """Build the plan of a fleet whose settings have passed `check`.

    Args:
        values: every node's settings, in the order of the group.
        files: what lies on the controller.
        run_id: the run that the plan is for, if it is for one.
        writer: the node that writes what all nodes share; default: the first one.

    Returns:
        JSON-able: the fleet's part, and ``nodes`` in rank order; no secret is in it.
    """
    rank_of = ranks(values)
    order = sorted(values, key=rank_of.__getitem__)
    head = order[0]
    fleet = values[head]
    release = files.lock_sha256 and release_id(
        fleet.commit,
        files.lock_sha256,
        fleet.extras,
        fleet.python_version,
        fleet.python_platform,
        fleet.torch_backend,
    )
    peer_addresses, peer_names = peers.addresses(values)
    plan: dict[str, Any] = {
        "run_id": run_id,
        "user": fleet.user,
        "root_for": _root_for(fleet),
        "storage": fleet.storage,
        "writer": writer or next(iter(values)),
        "repository": fleet.repository,
        "commit": fleet.commit,
        "extras": fleet.extras,
        "requirements": fleet.requirements,
        "python_version": fleet.python_version,
        "python_platform": fleet.python_platform,
        "torch_backend": fleet.torch_backend,
        "uv_version": fleet.uv_version,
        "uv_cache_dir": fleet.uv_cache_dir,
        "lock_path": files.lock_path,
        "lock_sha256": files.lock_sha256,
        "release_id": release,
        "source_cache": files.source_cache,
        "delivery": fleet.delivery,
        "delivery_cache": files.delivery_cache,
        "config": {"src": files.config_path, "sha256": files.config_sha256},
        "training_files": [_training_file(entry, fleet, files) for entry in fleet.training_files],
        "accelerator": fleet.accelerator,
        "launcher": fleet.launcher,
        "rendezvous": "static",
        "head": head,
        "head_address": address(head, fleet),
        "master_port": fleet.master_port,
        "watch_port": fleet.watch_port,
        "firewall": fleet.firewall,
        "peers": peer_addresses,
        "peer_names": peer_names,
        "peer_ports": peers.ports(fleet),
        "nnodes": len(order),
        "nproc_per_node": fleet.nproc_per_node,
        "world_size": len(order) * fleet.nproc_per_node,
        "overrides": fleet.overrides,
        "train_options": [option.partition("=")[0] for option in launcher_torchrun.override_options(fleet.overrides)],
        "expected_tokens": fleet.expected_tokens,
        "management_networks": fleet.management_networks,
        "supervisor": fleet.supervisor,
        "follow": fleet.follow,
        "follow_interval": fleet.follow_interval,
        "infiniband": _infiniband(fleet, files),
        "nodes": {},
    }
    for node in order:
        plan["nodes"][node] = _node(node, values[node], plan, files, rank_of[node], order)
    return plan


def _root_for(fleet: Values) -> list[str]:
    """The settings for which provision needs root on the nodes."""
    idle = {"axolotl_user": "", "axolotl_firewall": "none", "infiniband_provider": "none"}
    return [f"{name} is {fleet[name]}" for name, value in idle.items() if fleet[name] != value]


def _training_file(entry: Mapping[str, Any], fleet: Values, files: ControllerFiles) -> dict[str, Any]:
    """An entry with what the roles need to know of it.

    Returns:
        The entry; its `src` is an absolute path on the controller, or empty where the nodes have it or fetch it. `once`
        says whether its place is one for all nodes, so that one of them writes it.
    """
    src, source = entry["src"], entry["source"]
    if src:
        src = os.path.join(files.base, os.path.expanduser(src))
    elif source and fleet.delivery == "push" and entry["storage"] == "copy":
        key = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:16]
        src = os.path.join(files.delivery_cache, "sources", key)
    place = os.path.normpath(os.path.join(NodePaths.under(fleet.root).work, entry["dest"]))
    return {**entry, "src": src, "once": fleet.storage == "shared" and place.startswith(f"{fleet.root}/")}


def _infiniband(fleet: Values, files: ControllerFiles) -> dict[str, Any]:
    """What the role infiniband gets."""
    key = fleet["infiniband_doca_key"]
    return {
        "provider": fleet["infiniband_provider"],
        "doca_version": fleet["infiniband_doca_version"],
        "doca_repository": fleet["infiniband_doca_repository"],
        "doca_key": os.path.join(files.base, os.path.expanduser(key)) if key else "",
        "reboot": fleet["infiniband_reboot"],
    }


def node_paths(node: str, known: Values) -> NodePaths:
    """Where everything lies for a node, whose own records must not meet another's on shared storage."""
    return NodePaths.under(known.root, node if known.storage == "shared" else "")


def address(node: str, known: Values) -> str:
    """Where peers reach a node."""
    return known.address or node


def _node(
    node: str, known: Values, plan: dict[str, Any], files: ControllerFiles, rank: int, order: list[str]
) -> dict[str, Any]:
    paths = node_paths(node, known)
    release = paths.release(plan["release_id"]) if plan["release_id"] else None
    config = os.path.join(paths.work, os.path.basename(files.config_path))
    output_dir = plan["overrides"].get("output_dir") or files.config.get("output_dir")
    part: dict[str, Any] = {
        "rank": rank,
        "machine": known.machine or node,
        "address": address(node, known),
        "interface": known.interface,
        "hcas": known.hcas,
        "root": known.root,
        # What all nodes see is written by one of them, and the others verify it.
        "writes": known.storage == "local" or node == plan["writer"],
        "paths": {
            **paths._asdict(),
            "release": release,
            "config": config,
            "output_dir": os.path.normpath(os.path.join(paths.work, str(output_dir))) if output_dir else "",
            "run": paths.run(plan["run_id"]),
        },
        "derived": {},  # by preflight, from what the node is made of (nccl_settings.py)
        "start": None,
    }
    if release:
        part["start"] = _start(node, known, plan, part, order)
    return part


def _start(node: str, known: Values, plan: dict[str, Any], part: dict[str, Any], order: list[str]) -> dict[str, Any]:
    """What the node's supervisor gets: its part of the plan, frozen in the run's record."""
    release = part["paths"]["release"]
    return {
        "node": node,
        "accelerator": plan["accelerator"],
        "machine": part["machine"],
        "node_rank": part["rank"],
        "fleet": order,
        "release_id": plan["release_id"],
        "nproc_per_node": plan["nproc_per_node"],
        "head_address": plan["head_address"],
        "master_port": plan["master_port"],
        "watch_port": plan["watch_port"],
        # The controller starts the nodes one after the other, several a second.
        "join_timeout": known.join_timeout + len(order),
        "watch_grace": known.watch_grace,
        "stop_grace": known.stop_grace,
        "work_dir": part["paths"]["work"],
        "output_dir": part["paths"]["output_dir"],
        "config": part["paths"]["config"],
        "expected_tokens": plan["expected_tokens"],
        "argv": launcher_torchrun.command(
            release,
            part["paths"]["config"],
            plan["overrides"],
            nnodes=plan["nnodes"],
            node_rank=part["rank"],
            nproc_per_node=plan["nproc_per_node"],
            head_address=plan["head_address"],
            master_port=plan["master_port"],
        ),
        # Nothing of the session that starts it is inherited, so that every node's trainer sees the same.
        "environment": {
            "HOME": part["paths"]["work"],
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            **known.environment,
            # Axolotl finds torchrun through PATH: the release's own comes first, whatever else is wanted.
            "PATH": f"{release}/venv/bin:{known.environment.get('PATH', TRAINER_PATH)}",
        },
    }


def check(values: Mapping[str, Values]) -> list[Finding]:
    """What is wrong with settings that are each valid by itself."""
    return [
        *_check_ranks(values),
        *_check_roots(values),
        *_check_ports(values),
        *_check_secrets(values),
        *_check_overrides(values),
        *_check_head(values),
        *_check_peers(values),
        *_check_infiniband(values),
    ]


def _check_ranks(values: Mapping[str, Values]) -> list[Finding]:
    rank_of = ranks(values)
    remedy = "give every node an axolotl_node_rank, each once and from 0 without a gap; or give none of them one"
    without = [node for node in values if node not in rank_of]
    if without:
        return [
            Finding(
                "rank_missing", tuple(without), "axolotl_node_rank on all nodes or on none", "some have one", remedy
            )
        ]
    wanted = set(range(len(values)))
    nodes_of: dict[int, list[str]] = {}
    for node, rank in rank_of.items():
        nodes_of.setdefault(rank, []).append(node)
    wrong = [node for rank, nodes in nodes_of.items() if len(nodes) > 1 or rank not in wanted for node in nodes]
    if not wrong:
        return []
    found = ", ".join(f"{node}: {rank_of[node]}" for node in wrong[:8])
    return [Finding("rank_invalid", tuple(wrong), f"each rank from 0 to {len(values) - 1} exactly once", found, remedy)]


def _check_roots(values: Mapping[str, Values]) -> list[Finding]:
    if next(iter(values.values())).storage == "shared":
        return _check_shared_root(values)
    machines: dict[str, list[str]] = {}
    for node, known in values.items():
        machines.setdefault(known.machine or node, []).append(node)
    findings = []
    for machine, nodes in machines.items():
        roots = [values[node].root for node in nodes]
        if len(set(roots)) < len(roots):
            findings.append(
                Finding(
                    "root_shared",
                    tuple(nodes),
                    f"nodes on one machine ({machine}) have a root each",
                    f"axolotl_root: {', '.join(roots[:4])}",
                    "set another axolotl_root in the host_vars of each node that shares the machine",
                )
            )
    alone = {nodes[0]: values[nodes[0]].root for nodes in machines.values() if len(nodes) == 1}
    if len(set(alone.values())) > 1:
        found = "; ".join(f"{node}: {root}" for node, root in list(alone.items())[:8])
        remedy = (
            "set axolotl_root once, in group_vars; only nodes that share a machine (axolotl_machine) may differ in it"
        )
        findings.append(Finding("root_differs", tuple(alone), "one axolotl_root on all machines", found, remedy))
    return findings


def _check_shared_root(values: Mapping[str, Values]) -> list[Finding]:
    roots = {node: known.root for node, known in values.items()}
    expected, others = outliers(roots, head=next(iter(roots)))
    nodes = tuple(node for group in others.values() for node in group)
    found = "; ".join(f"{node}: {roots[node]}" for node in nodes[:8])
    remedy = "mount the storage at the same path on all nodes, and set axolotl_root once, in group_vars"
    wanted = f"one axolotl_root on all nodes, as on most: {expected}, since axolotl_storage is shared"
    return [Finding("root_differs", nodes, wanted, found, remedy)] if nodes else []


def _check_ports(values: Mapping[str, Values]) -> list[Finding]:
    fleet = next(iter(values.values()))
    if fleet.master_port != fleet.watch_port:
        return []
    remedy = "set axolotl_watch_port to another port than axolotl_master_port"
    return [Finding("port_twice", (), "two different ports", f"both are {fleet.master_port}", remedy)]


def _check_secrets(values: Mapping[str, Values]) -> list[Finding]:
    fleet = next(iter(values.values()))
    exposed = [f"{name} in axolotl_environment" for name in sorted(fleet.environment) if is_secret_name(name)]
    exposed += [f"{name} in axolotl_overrides" for name in _key_names(fleet.overrides) if is_secret_name(name)]
    # ssh://git@host is no secret: a user name alone is one only where it stands for a token, as with https
    for name in ("repository", "requirements", "training_files"):
        if re.search(r"https?://[^/@\s]+@|[?&](?:\w+-)*sig(?:nature)?=", str(fleet[f"axolotl_{name}"]), re.IGNORECASE):
            exposed.append(f"a credential in axolotl_{name}")
    if not exposed:
        return []
    remedy = (
        "move it to axolotl_secrets, its value in Ansible Vault (a repository's to git's credential helper): "
        "plan, command line and reports are no place for it"
    )
    return [Finding("secret_exposed", (), "no secret outside axolotl_secrets", ", ".join(exposed), remedy)]


def _key_names(overrides: Mapping[str, Any]) -> list[str]:
    """Every key, at any depth."""
    found = []
    for name, value in overrides.items():
        found += [str(name), *(_key_names(value) if isinstance(value, Mapping) else [])]
    return found


def _check_overrides(values: Mapping[str, Values]) -> list[Finding]:
    fleet = next(iter(values.values()))
    findings = []
    for key, value in fleet.overrides.items():
        try:
            launcher_torchrun.override_options({key: value})
        except launcher_torchrun.InvalidOverride as error:
            remedy = "correct axolotl_overrides: it takes keys of the Axolotl config"
            findings.append(
                Finding("override_invalid", (), "overrides that Axolotl takes for config keys", str(error), remedy)
            )
    return findings


def _check_head(values: Mapping[str, Values]) -> list[Finding]:
    rank_of = ranks(values)
    head = min(rank_of, key=rank_of.__getitem__, default=next(iter(values)))
    machines = {known.machine or node for node, known in values.items()}
    where = address(head, values[head])
    try:
        loopback = ipaddress.ip_address(where).is_loopback
    except ValueError:
        loopback = where == "localhost"
    if not loopback or len(machines) < 2:
        return []
    expected = "an address by which the other machines reach the head"
    return [
        Finding(
            "head_loopback",
            (head,),
            expected,
            where,
            "set axolotl_address of the head to its address on the data network",
        )
    ]


def _check_peers(values: Mapping[str, Values]) -> list[Finding]:
    """With `auto` a name matters only on a node whose firewall is active, and is refused there."""
    fleet = next(iter(values.values()))
    names = peers.addresses(values)[1]
    if fleet.firewall in ("auto", "none") or not names:
        return []
    hosts = tuple(node for node, known in values.items() if address(node, known) in names)
    remedy = "set axolotl_address of these nodes to their IP address on the data network"
    expected = f"IP addresses, to open {fleet.firewall} to"
    return [Finding("peer_unresolved", hosts, expected, ", ".join(names[:8]), remedy)]


def _check_infiniband(values: Mapping[str, Values]) -> list[Finding]:
    fleet = next(iter(values.values()))
    if fleet["infiniband_provider"] != "doca":
        return []
    needed = {
        "infiniband_doca_version": "an exact version of DOCA, such as 3.2.1",
        "infiniband_doca_key": "the path of the key that signs DOCA's repository",
    }
    remedy = "set {} in the inventory (group_vars of axolotl_nodes), or infiniband_provider to inbox"
    return [
        Finding("setting_missing", (), f"{name}: {expected}", "not set", remedy.format(name))
        for name, expected in needed.items()
        if not fleet[name]
    ]
