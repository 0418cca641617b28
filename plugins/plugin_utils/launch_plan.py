# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launch plan: for each node its rank, paths and command; one frozen answer to "what runs where".

Pure: what was read from files (the config, the lock) is handed in.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.node_paths import NodePaths
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.release_name import release_id

from . import launchers, peers, smoke_run, training_config, training_inputs
from .launcher_job import Job
from .override_options import override_options
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
        account: who runs the command, and where: user@host.
    """

    config_path: str
    config: Mapping[str, Any]
    config_sha256: str
    lock_path: str
    lock_sha256: str | None
    source_cache: str
    base: str
    delivery_cache: str = ""
    account: str = ""


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
    overrides = smoke_run.overrides(fleet.overrides, run_id) if fleet["smoke"] else fleet.overrides
    options = override_options(overrides)
    plan: dict[str, Any] = {
        "run_id": run_id,
        "launched_by": files.account,
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
        "config": {
            "src": files.config_path,
            "sha256": files.config_sha256,
            "values": training_config.effective(files.config, fleet.overrides),
        },
        "training_files": [_training_file(entry, fleet, files) for entry in fleet.training_files],
        "preprocess": fleet["training_files_preprocess"],
        "accelerator": fleet.accelerator,
        "launcher": fleet.launcher,
        "rendezvous": fleet.rendezvous,
        "rendezvous_timeout": fleet.rendezvous_timeout,
        "max_restarts": fleet.max_restarts,
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
        "overrides": overrides,
        "smoke": fleet["smoke"],
        "secrets": sorted(fleet.secrets),
        # What one node's Axolotl is asked about the config
        "schema": {
            "overrides": training_config.flattened(overrides),
            "world_size": len(order) * fleet.nproc_per_node,
        },
        "override_options": options,
        "train_options": _train_options(fleet, options),
        "expected_tokens": fleet.expected_tokens,
        "management_networks": fleet.management_networks,
        "supervisor": fleet.supervisor,
        "follow": fleet.follow,
        "follow_interval": fleet.follow_interval,
        "infiniband": _infiniband(fleet, files),
        "parity": _parity(fleet, files),
        "nodes": {},
    }
    for node in order:
        plan["nodes"][node] = _node(node, values[node], plan, files, rank_of[node], order)
    plan["prepared_once"] = _is_once(plan["nodes"][head]["prepared"], fleet)
    return plan


def _train_options(fleet: Values, options: list[str]) -> list[str]:
    """The options of ``axolotl train`` that the launch relies on."""
    asked = [launchers.OPTION] if fleet.launcher in launchers.ASKED_OF_AXOLOTL else []
    return [*asked, *(option.partition("=")[0] for option in options)]


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
        src = _on_controller(src, files)
    elif source and fleet.delivery == "push" and entry["storage"] == "copy":
        key = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:16]
        src = os.path.join(files.delivery_cache, "sources", key)
    place = os.path.normpath(os.path.join(NodePaths.under(fleet.root).work, entry["dest"]))
    return {**entry, "src": src, "once": _is_once(place, fleet)}


def _on_controller(path: str, files: ControllerFiles) -> str:
    """A path of the inventory as an absolute one on the controller; empty where it names none."""
    return os.path.join(files.base, os.path.expanduser(path)) if path else ""


def _is_once(place: str, fleet: Values) -> bool:
    """Whether a path on the nodes is one place for all of them."""
    return fleet.storage == "shared" and place.startswith(f"{fleet.root}/")


def _infiniband(fleet: Values, files: ControllerFiles) -> dict[str, Any]:
    """What the role infiniband gets."""
    return {
        "provider": fleet["infiniband_provider"],
        "doca_version": fleet["infiniband_doca_version"],
        "doca_repository": fleet["infiniband_doca_repository"],
        "doca_key": _on_controller(fleet["infiniband_doca_key"], files),
        "reboot": fleet["infiniband_reboot"],
    }


def _parity(fleet: Values, files: ControllerFiles) -> dict[str, Any]:
    """How nodes are compared: what is taken to be right, what is accepted, and where it is kept."""
    return {
        "reference": fleet["parity_reference"],
        "pinned": fleet["parity_pinned"],
        "exceptions": fleet["parity_exceptions"],
        "record": _on_controller(fleet["parity_record"], files),
        "rehash": fleet["parity_rehash"],
        "timeout": fleet["parity_timeout"],
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
    environment = _environment(known, paths)
    part: dict[str, Any] = {
        "rank": rank,
        "machine": known.machine or node,
        "group": known["parity_group"],
        "address": address(node, known),
        "interface": known.interface,
        "hcas": known.hcas,
        "environment": environment,
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
        **_data(environment, paths, plan, files),
        "derived": {},  # by preflight, from what the node is made of (nccl_settings.py)
        "start": None,
    }
    if release:
        part["start"] = _start(node, known, plan, part, order)
    return part


def _environment(known: Values, paths: NodePaths) -> dict[str, str]:
    """What a node's trainers get. Nothing of the session that starts them is inherited, so that all see the same."""
    return {
        "HOME": paths.work,
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PATH": TRAINER_PATH,
        **(smoke_run.VERBOSE if known["smoke"] and known.accelerator == "cuda" else {}),
        **known.environment,
    }


def _data(
    environment: dict[str, str], paths: NodePaths, plan: dict[str, Any], files: ControllerFiles
) -> dict[str, Any]:
    """What the training reads on a node, and where it keeps what it makes of that."""
    return {
        "inputs": training_inputs.inputs(files.config, plan["overrides"], plan["training_files"], environment),
        "prepared": training_inputs.prepared_path(files.config, plan["overrides"], paths.work),
        "base_model": training_inputs.base_model(files.config, plan["overrides"], plan["training_files"], environment),
    }


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
        "launched_by": plan["launched_by"],
        "smoke": plan["smoke"],
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
        "launcher": plan["launcher"],
        "rendezvous": plan["rendezvous"],
        "rendezvous_timeout": plan["rendezvous_timeout"],
        **launchers.start(plan["launcher"], job(plan, part)),
        # Axolotl finds torchrun through PATH: the release's own comes first, whatever else is wanted.
        "environment": {**part["environment"], "PATH": f"{release}/venv/bin:{part['environment']['PATH']}"},
    }


def job(plan: Mapping[str, Any], part: Mapping[str, Any]) -> Job:
    """What a node's launcher has to start.

    Args:
        plan: the launch plan.
        part: the node's part of it.
    """
    shared = ("overrides", "run_id", "nnodes", "nproc_per_node", "head_address", "master_port", "rendezvous")
    return Job(
        release=part["paths"]["release"],
        config=part["paths"]["config"],
        run=part["paths"]["run"],
        node_rank=part["rank"],
        address=part["address"],
        rendezvous_timeout=plan["rendezvous_timeout"],
        max_restarts=plan["max_restarts"],
        **{name: plan[name] for name in shared},
    )
