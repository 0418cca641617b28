# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a node even where all nodes are alike: a table of rules, each node held against itself."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import library_versions, nvidia_smi

from . import data_network
from .comparison import by_value
from .data_network import Fingerprint, Fingerprints, Plan
from .findings import ERROR, WARNING, Finding, examples

Rule = Callable[[Plan, Fingerprints], Iterator[Finding]]

LEAST_DRIVER: Mapping[int, str] = {11: "450.80.02", 12: "525", 13: "580"}
"""Major version of the CUDA that torch was built for, to the oldest driver that runs it, whatever the minor version.

Source: NVIDIA, CUDA Compatibility, "Minor Version Compatibility", table 1.
"""
MOST_MEMORY_USED = 5
"""Percent of a GPU's memory that may be in use before a run. A driver keeps some hundred MiB of 24 to 192 GiB."""

START_FABRIC_MANAGER = (
    "install the nvidia-fabricmanager of the driver's very version, systemctl enable --now nvidia-fabricmanager, and "
    "see its log"
)

UNREAD = {
    "system": "",
    "release": "see that the disk or the network file system under axolotl_root answers",
    "libraries": "see what LD_LIBRARY_PATH, LD_PRELOAD and ld.so.conf put before the release's own libraries",
    "nccl": "let the account that trains read this file, or take it away",
    "schema": "see what the release's Python says of it, or of axolotl preprocess",
    "base_model": "let the account that trains read the model's files",
    "accelerate": "see that the folder of HF_HOME answers",
    "room": "see that the file systems of axolotl_root and output_dir answer",
    "storage": "see that the network file system under axolotl_root answers",
    "network": "see that the name servers answer",
    "limits": "see what systemd says on these nodes (systemctl --failed)",
}
"""Section to what helps where it could not be read. Not here are those whose error another rule states anyway: config
(config_missing), devices and gpus (devices), infiniband (ib_unreadable)."""


# The GPUs that a node's trainers will use


def _gpus(plan: Plan, node: str, fingerprint: Fingerprint) -> list[Mapping[str, Any]]:
    """The GPUs that the node's trainers will use: as many as there are trainers, of those that they see."""
    seen = nvidia_smi.visible(fingerprint["gpus"]["devices"], _visible_devices(plan, node))
    return seen[: plan["nproc_per_node"]] if plan["accelerator"] == "cuda" else []


def _visible_devices(plan: Plan, node: str) -> str | None:
    return data_network.environment(plan, node).get("CUDA_VISIBLE_DEVICES")


def _names_mig(variable: str | None) -> bool:
    """Whether parts of GPUs are handed out on purpose."""
    return variable is not None and "MIG-" in variable


# The rules


def _unread(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    def errors(fingerprint: Fingerprint) -> Iterator[tuple[str, str | None]]:
        for name in UNREAD:
            if name != "limits" or not fingerprint["infiniband"]["hcas"]:  # with adapters memlock_low says it
                yield name, (fingerprint[name] or {}).get("error")
        yield "adapters", fingerprint["infiniband"]["stack"]["error"]
        yield from (("runs and ports", error) for error in fingerprint["errors"].values())

    found = [
        (node, (name, error))
        for node, fingerprint in fingerprints.items()
        for name, error in errors(fingerprint)
        if error
    ]
    for (name, error), nodes in by_value(found).items():
        help_ = UNREAD.get(name) or "see what hangs or fails on these nodes; dmesg often says it"
        remedy = f"{help_}; what could not be read was not checked"
        yield Finding("probe_failed", nodes, "an answer from every probe", f"{name}: {error}", remedy, WARNING)


def _driver(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    found = []
    for node, fingerprint in fingerprints.items():
        gpus, built_for = fingerprint["gpus"], fingerprint["libraries"]["torch_cuda"]
        lack = _driver_lack(built_for, gpus["driver"], gpus["cuda"])
        # NVIDIA's package cuda-compat brings a newer user-mode driver; it takes effect through this variable alone.
        libraries = data_network.environment(plan, node).get("LD_LIBRARY_PATH", "")
        if lack and not re.search(r"/compat(?:[/:]|$)", libraries):
            found.append((node, (built_for, lack, gpus["driver"])))
    for (built_for, lack, driver), nodes in by_value(found).items():
        yield Finding(
            "driver_too_old",
            nodes,
            f"{lack}, since the release's torch is built for CUDA {built_for}",
            f"driver {driver}",
            "update the driver; or set axolotl_torch_backend to a CUDA that it supports, and run provision",
        )


def _driver_lack(built_for: Any, driver: Any, supported: Any) -> str | None:
    """What driver would be needed for a torch; None where this one will do, or where it can't be told."""
    wanted, have, highest = (library_versions.parts(version) for version in (built_for, driver, supported))
    if not wanted or not have:
        return None
    least = LEAST_DRIVER.get(wanted[0])
    if least:
        return f"NVIDIA driver {least} or newer" if have < library_versions.parts(least) else None
    # A CUDA that the table does not know yet: the driver itself says up to which it goes.
    return f"a driver that supports CUDA {wanted[0]}" if highest and highest[0] < wanted[0] else None


def _nccl_library(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    found = []
    for node, fingerprint in fingerprints.items():
        nccl, release = fingerprint["libraries"]["nccl"], plan["nodes"][node]["paths"]["release"]
        if nccl and nccl["path"] and release and not nccl["path"].startswith(f"{release}/"):
            found.append((node, f"NCCL {nccl['version'] or 'of an unknown version'} from {nccl['path']}"))
    for said, nodes in by_value(found).items():
        remedy = (
            "take the library's folder out of LD_LIBRARY_PATH and LD_PRELOAD in axolotl_environment, and out of "
            "/etc/ld.so.conf.d on these nodes"
        )
        expected = "the NCCL that the lock names, from the release's own environment"
        yield Finding("nccl_library", nodes, expected, said, remedy, WARNING)


def _hidden(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    found = []
    for node, fingerprint in fingerprints.items():
        variable, gpus = _visible_devices(plan, node), fingerprint["gpus"]["devices"]
        if plan["accelerator"] != "cuda" or variable is None or not gpus or _names_mig(variable):
            continue
        seen = len(nvidia_smi.visible(gpus, variable))
        if seen < plan["nproc_per_node"]:
            found.append((node, f"CUDA_VISIBLE_DEVICES={variable[:200]} leaves {seen} of {len(gpus)} GPUs"))
    for said, nodes in by_value(found).items():
        expected = f"trainers that see {plan['nproc_per_node']} GPUs"
        remedy = "correct CUDA_VISIBLE_DEVICES in axolotl_environment, or take it out; or lower axolotl_nproc_per_node"
        yield Finding("gpu_hidden", nodes, expected, said, remedy)


def _unused(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """GPUs that are there, that the trainers may use, and for which no trainer is started: a whole node runs slower."""
    identities = {node: fingerprint["machine"]["identity"] for node, fingerprint in fingerprints.items()}
    sharing, found = Counter(identities.values()), []
    for node, fingerprint in fingerprints.items():
        variable, gpus = _visible_devices(plan, node), fingerprint["gpus"]["devices"]
        if plan["accelerator"] != "cuda" or _names_mig(variable):
            continue
        seen = len(nvidia_smi.visible(gpus, variable))
        used = plan["nproc_per_node"] * sharing[identities[node]]
        if used < seen:
            found.append((node, f"{used} of {seen} GPUs get one"))
    for said, nodes in by_value(found).items():
        remedy = "raise axolotl_nproc_per_node; or name the GPUs that are meant in CUDA_VISIBLE_DEVICES"
        yield Finding("gpu_unused", nodes, "a trainer process for each GPU", said, remedy, WARNING)


def _fabric(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    stopped = [
        (node, state)
        for node, fingerprint in fingerprints.items()
        if plan["accelerator"] == "cuda" and fingerprint["gpus"]["nvswitch"]
        for state in [fingerprint["gpus"]["fabric_manager"]]
        if state and state != "active"
    ]
    for state, nodes in by_value(stopped).items():
        expected = "an active nvidia-fabricmanager, since the machine has NVSwitches"
        yield Finding("fabric_manager", nodes, expected, state, START_FABRIC_MANAGER)


def _in_use(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    full: dict[str, str] = {}
    shared: dict[str, str] = {}
    for node, fingerprint in fingerprints.items():
        if fingerprint["active_runs"]:  # it is its own, and a finding already (run_active)
            continue
        for gpu in _gpus(plan, node, fingerprint):
            used, total = gpu["memory_used_mib"], gpu["memory_mib"]
            programs = [f"pid {process['pid']} ({process['name'] or 'unknown'})" for process in gpu["processes"]]
            said = f"GPU {gpu['index']}: {used} of {total} MiB in use"
            if used is not None and total and used * 100 > total * MOST_MEMORY_USED:
                full.setdefault(node, f"{said} by {', '.join(programs[:3]) or 'a process that is not shown'}")
            elif programs:
                shared.setdefault(node, f"{said}, {', '.join(programs[:3])}")
    expected = "GPUs that nobody else computes on"
    remedy = "see who owns these processes (nvidia-smi; ps -o user,args -p PID), and have them ended"
    if full:
        yield Finding("gpu_in_use", tuple(full), expected, examples(full), remedy)
    light = {node: said for node, said in shared.items() if node not in full}
    if light:
        yield Finding("gpu_in_use", tuple(light), expected, examples(light), remedy, WARNING)


def _neighbours(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """A full neighbour table drops packets to peers, so that large fleets fail to connect at random."""
    peers = len(plan["nodes"]) - 1
    found = []
    for node, fingerprint in fingerprints.items():
        resolved = fingerprint["network"]["address"]["resolved"]
        family = "ipv6" if resolved and all(":" in item for item in resolved) else "ipv4"
        most = fingerprint["room"]["neighbours"][family]
        if most is not None and most < 2 * peers:
            found.append((node, (family, most)))
    for (family, most), nodes in by_value(found).items():
        setting = f"net.{family}.neigh.default.gc_thresh3"
        remedy = (
            f"sysctl -w {setting}={max(4096, 4 * peers)}, and in /etc/sysctl.d; gc_thresh1 and gc_thresh2 to half of it"
        )
        expected = f"a neighbour table with room for twice the {peers} peers"
        yield Finding("neighbour_table", nodes, expected, f"{setting} is {most}", remedy, WARNING)


@dataclasses.dataclass(frozen=True)
class GpuRule:
    """What must hold of each GPU that a trainer will use.

    Attributes:
        id: of its findings.
        lack: what is wrong with a GPU, in words; None where nothing is.
        expected: what must be, for people.
        remedy: what to do where it is not.
        severity: of its findings.
    """

    id: str
    lack: Callable[[Mapping[str, Any]], str | None]
    expected: str
    remedy: str
    severity: str = WARNING


def _mig(gpu: Mapping[str, Any]) -> str | None:
    return "MIG mode is enabled" if gpu["mig"] == "Enabled" else None


def _fabric_state(gpu: Mapping[str, Any]) -> str | None:
    state = gpu["fabric"]
    return f"fabric state {state}" if state and state != "Completed" else None


def _row_remap(gpu: Mapping[str, Any]) -> str | None:
    if gpu["remap_failed"]:
        return "row remapping has failed"
    return "row remapping is pending" if gpu["remap_pending"] else None


def _pcie(gpu: Mapping[str, Any]) -> str | None:
    link = gpu["pcie"]
    if link["width"] and link["width_max"] and link["width"] < link["width_max"]:
        return f"x{link['width']} of x{link['width_max']}"
    generation, most = link["generation"], link["generation_max"]
    # An idle GPU lowers its link to save power.
    if gpu["performance_state"] == "P0" and generation and most and generation < most:
        return f"generation {generation} of {most}"
    return None


def _throttle(gpu: Mapping[str, Any]) -> str | None:
    return ", ".join(reason for reason in nvidia_smi.HARMFUL if reason in gpu["throttle"]) or None


def _persistence(gpu: Mapping[str, Any]) -> str | None:
    return "persistence mode is disabled" if gpu["persistence"] == "Disabled" else None


GPU_RULES: tuple[GpuRule, ...] = (
    # On a GPU in MIG mode a program sees one part at most, and parts can't reach each other.
    GpuRule(
        "gpu_mig",
        _mig,
        "whole GPUs, since each trainer takes one",
        "nvidia-smi -i INDEX -mig 0, and reset the GPU; or name its parts in CUDA_VISIBLE_DEVICES",
        ERROR,
    ),
    GpuRule(
        "fabric_manager",
        _fabric_state,
        "GPUs that have joined the NVLink fabric (state Completed)",
        START_FABRIC_MANAGER,
        ERROR,
    ),
    GpuRule(
        "gpu_row_remap",
        _row_remap,
        "GPU memory without rows that wait for repair or can't be repaired",
        "pending: end what uses the GPU and nvidia-smi --gpu-reset, or restart the host; failed: replace the GPU",
        ERROR,
    ),
    GpuRule(
        "gpu_pcie",
        _pcie,
        "PCIe links of full width, and at work of full speed",
        "reseat the GPU or its riser, and see the BIOS' settings of the slot; lspci -vv names the bridge above it",
    ),
    GpuRule(
        "gpu_throttle",
        _throttle,
        "GPUs that are not slowed down by heat or by their power supply",
        "see to the cooling and the power supply of these hosts (nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER)",
    ),
    GpuRule(
        "gpu_persistence",
        _persistence,
        "a driver that stays loaded between programs (persistence mode)",
        "systemctl enable --now nvidia-persistenced, or nvidia-smi -pm 1",
    ),
)


def _each_gpu(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """Hold the table against every GPU; nodes of which the same is said (``GPU 0, 3: ...``) share a finding."""
    nodes_of: dict[tuple[int, str], list[str]] = {}
    for node, fingerprint in fingerprints.items():
        found: dict[int, dict[str, list[str]]] = {}
        for gpu in _gpus(plan, node, fingerprint):
            for position, rule in enumerate(GPU_RULES):
                lack = rule.lack(gpu)
                if lack:
                    found.setdefault(position, {}).setdefault(lack, []).append(str(gpu["index"]))
        for position, lacks in found.items():
            said = "; ".join(f"GPU {', '.join(indices)}: {lack}" for lack, indices in lacks.items())
            if not _explained(GPU_RULES[position].id, plan, node, fingerprint):
                nodes_of.setdefault((position, said), []).append(node)
    for (position, said), nodes in sorted(nodes_of.items(), key=lambda item: item[0][0]):
        rule = GPU_RULES[position]
        yield Finding(rule.id, tuple(nodes), rule.expected, said, rule.remedy, rule.severity)


def _explained(rule: str, plan: Plan, node: str, fingerprint: Fingerprint) -> bool:
    """Whether what a GPU lacks is meant to be so, or has a cause that is said already."""
    if rule == "gpu_mig":
        return _names_mig(_visible_devices(plan, node))
    stopped = fingerprint["gpus"]["nvswitch"] and fingerprint["gpus"]["fabric_manager"] not in (None, "active")
    return rule == "fabric_manager" and bool(stopped)


RULES: tuple[Rule, ...] = (
    _unread,
    _driver,
    _nccl_library,
    _hidden,
    _unused,
    _fabric,
    _in_use,
    _each_gpu,
    _neighbours,
)
