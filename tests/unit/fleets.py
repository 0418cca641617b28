# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Made-up fleets: settings, plans, fingerprints and evidence of healthy nodes, in which tests plant what is wrong."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import launch_plan, settings
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.launch_plan import ControllerFiles
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.settings import Values

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOCK = "a" * 64
CONFIG = "c" * 64
RUN = "20260101T000000Z-abcd"
PREPARED = "0" * 32
NO_MODEL: dict[str, list[str]] = {"model_types": [], "layers": [], "classes": []}
SETTINGS: dict[str, Any] = {
    "axolotl_root": "/opt/axolotl",
    "axolotl_repository": "https://example.org/axolotl.git",
    "axolotl_commit": COMMIT,
    "axolotl_config": "configs/train.yml",
    "axolotl_nproc_per_node": 8,
}
FILES = ControllerFiles(
    config_path="/project/configs/train.yml",
    config={"output_dir": "./out"},
    config_sha256=CONFIG,
    lock_path="/project/locks/x.txt",
    lock_sha256=LOCK,
    source_cache="/cache/x",
    base="/project",
)


def inventory(size: int = 2, **changes: Any) -> dict[str, dict[str, Any]]:
    """Node to its inventory variables; a change applies to all nodes."""
    known = {setting.name for setting in settings.SETTINGS}
    changes = {name if name in known else f"axolotl_{name}": value for name, value in changes.items()}
    return {f"node{number}": {**SETTINGS, **changes} for number in range(size)}


def with_each(name: str, *values: Any) -> dict[str, dict[str, Any]]:
    """A fleet with one value of a setting for each node; None for a node that has none."""
    variables = inventory(len(values))
    for node, value in zip(variables, values, strict=True):
        if value is not None:
            variables[node][f"axolotl_{name}"] = value
    return variables


def values_of(variables: dict[str, dict[str, Any]]) -> dict[str, Values]:
    """Settings that must be valid each by itself."""
    values, findings = settings.read(variables)
    assert findings == []
    return values


def plan_of(size: int = 2, files: ControllerFiles = FILES, **changes: Any) -> dict[str, Any]:
    """The plan of a fleet that passes `check`."""
    values = values_of(inventory(size, **changes))
    return launch_plan.build(values, files, RUN)


def fingerprint(plan: dict[str, Any], node: str) -> dict[str, Any]:
    """What node_fingerprint returns on a node that is as the plan wants it."""
    return {
        "machine": {"identity": f"id-of-{plan['nodes'][node]['machine']}", "hostname": node, "uid": 1000},
        "host_python": "3.11.7",
        "storage": None,
        "release": {
            "path": plan["nodes"][node]["paths"]["release"],
            "exists": True,
            "sealed": True,
            "complete": True,
            "problems": [],
            "commit": plan["commit"],
            "dirty": [],
            "dirty_count": 0,
            "untracked": False,
            "submodules": [],
            "lock_sha256": plan["lock_sha256"],
            "packages": {"count": 9, "missing": {}, "extra": {}, "different": {}, "damaged": {}, "edited": {}},
            "packages_sha256": "e" * 64,
            "project_version": "0.19.0",
            "python_version": "3.11.7",
            "torch_version": "2.13.0",
            "unknown_options": [],
            "error": None,
        },
        "config": {
            "path": plan["nodes"][node]["paths"]["config"],
            "sha256": plan["config"]["sha256"],
            "size": 100,
            "error": None,
            "content": None,
            "elsewhere": None,
        },
        "schema": {"keys": None, "refused": [], "foreign_plugins": [], "error": None},
        "base_model": {**dict.fromkeys(("folder", "bytes", "parameters")), **NO_MODEL, "error": None},
        "accelerate": {"default_config": None, "error": None},
        "devices": {"kind": "cuda", "count": 8, "error": None},
        "ports": {str(port): {"free": True, "holder": None} for port in (plan["master_port"], plan["watch_port"])}
        if node == plan["head"]
        else {},
        "active_runs": {},
        **training_data(plan, node),
        **data_network(plan, node),
        **machinery(plan, node),
        "errors": {},
        "seconds": {"release": 0.8, "gpus": 1.2},
    }


def machinery(plan: dict[str, Any], node: str) -> dict[str, Any]:
    """Its system, its eight GPUs, and what they are used through and with."""
    paths = plan["nodes"][node]["paths"]
    disk = {"free_bytes": 3 << 40, "total_bytes": 7 << 40}
    return {
        "system": {
            "kernel": "6.8.0-60-generic",
            "os": "Ubuntu 24.04.2 LTS",
            "glibc": "2.39",
            "architecture": "x86_64",
            "error": None,
        },
        "gpus": {
            "driver": "580.95.05",
            "cuda": "13.0",
            "devices": [gpu(index, node) for index in range(8)],
            "nvswitch": True,
            "fabric_manager": "active",
            "error": None,
        },
        "libraries": {
            "torch_cuda": "13.0",
            "cuda_runtime": "13.0",
            "cudnn": "9.15.1",
            "nccl": {
                "version": "2.28.9",
                "path": f"{paths['release']}/venv/lib/python3.11/site-packages/nvidia/nccl/lib/libnccl.so.2",
            },
            "error": None,
        },
        "nccl": {
            "files": [
                {"path": "/home/trainer/.nccl.conf", "exists": False, "error": None},
                {"path": "/etc/nccl.conf", "exists": False, "error": None},
            ],
            "settings": {},
            "error": None,
        },
        "room": {
            "output_dir": {"path": paths["output_dir"], **disk},
            "root": {"path": plan["nodes"][node]["root"], **disk},
            "shm": {"size_bytes": 1 << 40, "free_bytes": 1 << 40},
            "memory": {"total_bytes": 2 << 40, "available_bytes": (2 << 40) - (9 << 30)},
            "neighbours": {"ipv4": 1024, "ipv6": 1024},
            "error": None,
        },
    }


def gpu(index: int = 0, node: str = "node0", **changes: Any) -> dict[str, Any]:
    """A GPU that is idle and well."""
    return {
        "index": index,
        "name": "NVIDIA H100 80GB HBM3",
        "uuid": f"GPU-{index}0000000-{node}",
        "memory_mib": 81559,
        "memory_used_mib": 4,
        "ecc": "Enabled",
        "mig": "Disabled",
        "persistence": "Enabled",
        "performance_state": "P0",
        "pcie": {"width": 16, "width_max": 16, "generation": 5, "generation_max": 5},
        "remap_pending": False,
        "remap_failed": False,
        "throttle": [],
        "fabric": "Completed",
        "processes": [],
        **changes,
    }


def training_data(plan: dict[str, Any], node: str) -> dict[str, Any]:
    """What it holds of all that the training reads, and the dataset that Axolotl has prepared from that."""
    part = plan["nodes"][node]
    read = {}
    for entry in part["inputs"]:
        digest = hashlib.sha256(entry["name"].encode()).hexdigest()
        hub = entry["kind"] == "hub"
        read[entry["name"]] = {
            "path": entry["repository"] if hub else entry["path"],
            "kind": entry["kind"],
            "exists": True,
            "digest": "" if hub else digest,
            "data_digest": "" if hub else digest,
            "files": 0 if hub else 1,
            "size": 0 if hub else 12_300_000,
            "problems": [],
            "newest_ns": 1_000,
            "revision": COMMIT if hub else "",
        }
    prepared = {"path": part["prepared"], "exists": True, "folders": {}, "record": {}, "error": None}
    if read:
        rows = {"digest": "e" * 64, "files": 1, "size": 5_000, "newest_ns": 2_000, "record": "", "problems": []}
        prepared["folders"] = {PREPARED: rows}
    return {"inputs": read, "prepared": prepared if part["prepared"] else None}


def data_network(plan: dict[str, Any], node: str, hcas: int = 2) -> dict[str, Any]:
    """Its network (the login on eth0, the training on ib0), its adapters, one port each, and its limits."""
    number = list(plan["nodes"]).index(node) + 1
    address, login = (str(ipaddress.ip_address(network) + number) for network in ("198.51.100.0", "192.0.2.0"))
    facts = {"mtu": 1500, "speed": 10000, "state": "up", "up": True, "loopback": False, "kind": "physical"}
    unlimited = {"soft": "unlimited", "hard": "unlimited"}
    return {
        "network": {
            "interfaces": {
                "eth0": {**facts, "addresses": [f"{login}/24", "fe80::1/64"]},
                "ib0": {**facts, "addresses": [f"{address}/24"], "mtu": 2044, "kind": "infiniband"},
                "lo": {
                    **facts,
                    "addresses": ["127.0.0.1/8", "::1/128"],
                    "mtu": 65536,
                    "state": "unknown",
                    "loopback": True,
                    "kind": "loopback",
                },
            },
            "left_out": 0,
            "default_route": "eth0",
            "login": "eth0",
            "address": {"name": node, "resolved": [address], "error": None, "interface": "ib0"},
            "head": {
                "name": plan["head_address"],
                "resolved": ["198.51.100.1"],
                "error": None,
                "interface": "lo" if node == plan["head"] else "ib0",
            },
            "error": None,
        },
        "limits": {
            "context": "systemd",
            "memlock": unlimited,
            "open_files": {"soft": 1 << 19, "hard": 1 << 19},
            "processes": None,
            "error": None,
        },
        "infiniband": {
            "hcas": {
                f"mlx5_{index}": {
                    "firmware": "28.41.1000",
                    "kind": "MT4129",
                    "numa_node": 0,
                    "pci": f"0000:{index:02x}:00.0",
                    "netdevs": [f"ib{index}"],
                    "ports": {"1": infiniband_port()},
                }
                for index in range(hcas)
            },
            "modules": {"mlx5_ib": True, "ib_uverbs": True},
            "verbs": True,
            "unclaimed": [],
            "gpudirect": {"peermem": False, "dmabuf": True, "open_driver": True},
            "stack": {"name": "doca", "version": "25.10-1.7.1", "error": None},
            "error": None,
            "counters": {"seconds": 1.2, "total": {}, "rising": {}},
        },
    }


def infiniband_port(**changes: Any) -> dict[str, Any]:
    """A port at work."""
    return {
        "state": "ACTIVE",
        "phys_state": "LinkUp",
        "rate": "400 Gb/sec (4X NDR)",
        "gbits": 400.0,
        "link_layer": "InfiniBand",
        "gids": [],
        **changes,
    }


def roce_port(*addresses: str, netdev: str = "rail0", first: int = 3, **changes: Any) -> dict[str, Any]:
    """A RoCE port at work, with a RoCE v1 and a RoCE v2 GID for each address, as mlx5 has them."""
    gids = [{"index": 1, "address": "fe80::1", "type": "RoCE v2", "netdev": netdev}]
    for position, address in enumerate(addresses):
        index = first - 1 + 2 * position
        gids.append({"index": index, "address": address, "type": "IB/RoCE v1", "netdev": netdev})
        gids.append({"index": index + 1, "address": address, "type": "RoCE v2", "netdev": netdev})
    return infiniband_port(link_layer="Ethernet", gids=gids, **changes)


def fingerprints(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {node: fingerprint(plan, node) for node in plan["nodes"]}


def link(rank: int, local: tuple[str, int], remote: tuple[str, int]) -> dict[str, Any]:
    """One end of a connection as the supervisor recorded it."""
    return {"rank": rank, "local": list(local), "remote": list(remote)}


def evidence(node: str, rank: int, fleet: list[str], **changes: Any) -> dict[str, Any]:
    """What run_evidence returns on a node whose trainer finished well; rank 0 speaks."""
    speaks = rank == 0
    found: dict[str, Any] = {
        "run": {
            "run_id": RUN,
            "node": node,
            "node_rank": rank,
            "fleet": fleet,
            "plan": {
                "release_id": "0123-abcd",
                "nproc_per_node": 1,
                "master_port": 29500,
                "watch_port": 29501,
                "expected_tokens": 0,
                "machine": node,
                "accelerator": "cpu",
                "argv": [],
                "rendezvous": "static",
                "rendezvous_timeout": 600,
            },
            "state": {
                "ranks": [rank],
                "phase": "ended",
                "outcome": "finished",
                "reason": "trainer exited with 0",
                "exit_code": 0,
                "started_at": "2026-01-01T00:00:00Z",
                "started_late": 0.012,
            },
            "supervisor_alive": False,
            "processes": [],
            "watch": {},
        },
        "log": {
            "step": 3 if speaks else 0,
            "total_steps": 3 if speaks else 0,
            "loss_count": 3 if speaks else 0,
            "losses": [6.5, 6.0, 5.5] if speaks else [],
            "first_not_finite": 0,
            "first_tokens_total": 568 if speaks else None,
            "completed": True,
            "errors": [],
            "worker_failures": [],
            "networks": [],
            "nccl_communicators": {},
        },
        "log_tail": [],
        "connections": [],
        "checkpoints": {},
    }
    for name, value in changes.items():
        found[name] = {**found[name], **value} if isinstance(value, dict) else value
    return found


def trained_together() -> dict[str, dict[str, Any]]:
    """Two nodes whose processes held a connection to each other."""
    ends = ("10.0.0.1", 40000), ("10.0.0.2", 41000)
    fleet = ["node0", "node1"]
    return {
        "node0": evidence("node0", 0, fleet, connections=[link(0, ends[0], ends[1])]),
        "node1": evidence("node1", 1, fleet, connections=[link(1, ends[1], ends[0])]),
    }
