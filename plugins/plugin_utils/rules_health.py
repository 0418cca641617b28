# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a node even where all nodes are alike: a table of rules, each node held against itself.

A fingerprint comes from a node, so nothing is taken for granted of the sections that are read here: a value of another
kind than it should be counts as one that could not be read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import library_versions, nvidia_smi

from . import data_network
from .data_network import Fingerprint, Fingerprints, Plan
from .findings import WARNING, Finding, amount, examples

Rule = Callable[[Plan, Fingerprints], Iterator[Finding]]

GIB = 1 << 30
LEAST_DRIVER: Mapping[int, str] = {11: "450.80.02", 12: "525", 13: "580"}
"""Major version of the CUDA that torch was built for, to the oldest driver that runs it, whatever the minor version.

Source: NVIDIA, CUDA Compatibility, "Minor Version Compatibility", table 1.
"""
LEAST_SHM = GIB
"""Bytes of /dev/shm. NCCL passes data between the GPUs of a node through it, PyTorch's data loaders between processes;
NCCL's guide ("Troubleshooting", "Docker") asks for --shm-size=1g, where Docker gives 64 MiB, and Linux itself half of
the memory."""
LEAST_DISK: Mapping[str, int] = {"cuda": 10 * GIB, "cpu": GIB}
"""Accelerator to bytes free where checkpoints are written, where the plan has no disk_min_bytes: on GPUs one checkpoint
of a model of 1 B parameters, with the states of its optimiser (12 to 16 bytes for each); on CPU some of a toy."""
MOST_MEMORY_USED = 5
"""Percent of a GPU's memory that may be in use before a run. A driver keeps some hundred MiB of 24 to 192 GiB."""

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


# What a fingerprint says, if it says it


def _map(value: Any, *path: str) -> Mapping[str, Any]:
    """The mapping at a path; empty where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else None


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _all_gpus(fingerprint: Fingerprint) -> list[Mapping[str, Any]]:
    return [gpu for gpu in _list(_map(fingerprint, "gpus").get("devices")) if isinstance(gpu, Mapping)]


def _gpus(plan: Plan, node: str, fingerprint: Fingerprint) -> list[Mapping[str, Any]]:
    """The GPUs that the node's trainers will use: as many as there are trainers, of those that they see."""
    seen = nvidia_smi.visible(_all_gpus(fingerprint), _visible_devices(plan, node))
    return seen[: plan["nproc_per_node"]] if plan["accelerator"] == "cuda" else []


def _visible_devices(plan: Plan, node: str) -> str | None:
    return data_network.environment(plan, node).get("CUDA_VISIBLE_DEVICES")


Said = Callable[[Mapping[str, Any]], "str | None"]


def _by_gpu(plan: Plan, fingerprints: Fingerprints, say: Said) -> dict[str, list[str]]:
    """What is said of the GPUs of each node, ``GPU 0, 3: ...``, to the nodes of which it is said."""
    found: dict[str, list[str]] = {}
    for node, fingerprint in fingerprints.items():
        indices: dict[str, list[str]] = {}
        for gpu in _gpus(plan, node, fingerprint):
            said = say(gpu)
            if said:
                indices.setdefault(said, []).append(str(_count(gpu.get("index"))))
        if indices:
            text = "; ".join(f"GPU {', '.join(numbers)}: {said}" for said, numbers in indices.items())
            found.setdefault(text, []).append(node)
    return found


def _by_value(found: Iterable[tuple[str, Hashable]]) -> dict[Any, tuple[str, ...]]:
    """Each value with the nodes that have it."""
    nodes_of: dict[Hashable, list[str]] = {}
    for node, value in found:
        nodes_of.setdefault(value, []).append(node)
    return {value: tuple(nodes) for value, nodes in nodes_of.items()}


# The rules


def _unread(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    def errors(fingerprint: Fingerprint) -> Iterator[tuple[str, Any]]:
        for name in UNREAD:
            if name != "limits" or not _map(fingerprint, "infiniband", "hcas"):  # with adapters memlock_low says it
                yield name, _map(fingerprint, name).get("error")
        yield "adapters", _map(fingerprint, "infiniband", "stack").get("error")
        yield from (("runs and ports", error) for error in _map(fingerprint, "errors").values())

    found = [
        (node, (name, error))
        for node, fingerprint in fingerprints.items()
        for name, error in errors(fingerprint)
        if _word(error)
    ]
    for (name, error), nodes in _by_value(found).items():
        help_ = UNREAD.get(name) or "see what hangs or fails on these nodes; dmesg often says it"
        remedy = f"{help_}; what could not be read was not checked"
        yield Finding("probe_failed", nodes, "an answer from every probe", f"{name}: {error}", remedy, WARNING)


def _driver(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    found = []
    for node, fingerprint in fingerprints.items():
        gpus, built_for = _map(fingerprint, "gpus"), _map(fingerprint, "libraries").get("torch_cuda")
        lack = _driver_lack(built_for, gpus.get("driver"), gpus.get("cuda"))
        # NVIDIA's package cuda-compat brings a newer user-mode driver; it takes effect through this variable alone.
        libraries = data_network.environment(plan, node).get("LD_LIBRARY_PATH", "")
        if lack and not re.search(r"/compat(?:[/:]|$)", libraries):
            found.append((node, (built_for, lack, gpus["driver"])))
    for (built_for, lack, driver), nodes in _by_value(found).items():
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
        nccl, release = _map(fingerprint, "libraries", "nccl"), plan["nodes"][node]["paths"]["release"]
        path = _word(nccl.get("path"))
        if path and release and not path.startswith(f"{release}/"):
            found.append((node, f"NCCL {_word(nccl.get('version')) or 'of an unknown version'} from {path}"))
    for said, nodes in _by_value(found).items():
        remedy = (
            "take the library's folder out of LD_LIBRARY_PATH and LD_PRELOAD in axolotl_environment, and out of "
            "/etc/ld.so.conf.d on these nodes"
        )
        expected = "the NCCL that the lock names, from the release's own environment"
        yield Finding("nccl_library", nodes, expected, said, remedy, WARNING)


def _hidden(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    found = []
    for node, fingerprint in fingerprints.items():
        variable, gpus = _visible_devices(plan, node), _all_gpus(fingerprint)
        if plan["accelerator"] != "cuda" or variable is None or not gpus or _names_mig(variable):
            continue
        seen = len(nvidia_smi.visible(gpus, variable))
        if seen < plan["nproc_per_node"]:
            found.append((node, f"CUDA_VISIBLE_DEVICES={variable[:200]} leaves {seen} of {len(gpus)} GPUs"))
    for said, nodes in _by_value(found).items():
        expected = f"trainers that see {plan['nproc_per_node']} GPUs"
        remedy = "correct CUDA_VISIBLE_DEVICES in axolotl_environment, or take it out; or lower axolotl_nproc_per_node"
        yield Finding("gpu_hidden", nodes, expected, said, remedy)


def _unused(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """GPUs that are there, that the trainers may use, and for which no trainer is started: a whole node runs slower."""
    identities = {node: str(_map(fingerprint, "machine").get("identity")) for node, fingerprint in fingerprints.items()}
    sharing, found = Counter(identities.values()), []
    for node, fingerprint in fingerprints.items():
        variable, gpus = _visible_devices(plan, node), _all_gpus(fingerprint)
        if plan["accelerator"] != "cuda" or _names_mig(variable):
            continue
        seen = len(nvidia_smi.visible(gpus, variable))
        used = plan["nproc_per_node"] * sharing[identities[node]]
        if used < seen:
            found.append((node, f"{used} of {seen} GPUs get one"))
    for said, nodes in _by_value(found).items():
        remedy = "raise axolotl_nproc_per_node; or name the GPUs that are meant in CUDA_VISIBLE_DEVICES"
        yield Finding("gpu_unused", nodes, "a trainer process for each GPU", said, remedy, WARNING)


def _names_mig(variable: str | None) -> bool:
    """Whether parts of GPUs are handed out on purpose."""
    return variable is not None and "MIG-" in variable


def _mig(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    # On a GPU in MIG mode a program sees one part at most, and parts can't reach each other.
    whole = {node: found for node, found in fingerprints.items() if not _names_mig(_visible_devices(plan, node))}
    for said, nodes in _by_gpu(plan, whole, lambda gpu: "MIG" if gpu.get("mig") == "Enabled" else None).items():
        remedy = "nvidia-smi -i INDEX -mig 0, and reset the GPU; or name its parts in CUDA_VISIBLE_DEVICES"
        expected = "whole GPUs, since each trainer takes one"
        yield Finding("gpu_mig", tuple(nodes), expected, f"{said} mode is enabled", remedy)


def _fabric(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    stopped = [
        (node, state)
        for node, fingerprint in fingerprints.items()
        if plan["accelerator"] == "cuda" and _map(fingerprint, "gpus").get("nvswitch") is True
        for state in [_word(_map(fingerprint, "gpus").get("fabric_manager"))]
        if state and state != "active"
    ]
    remedy = (
        "install the nvidia-fabricmanager of the driver's very version, systemctl enable --now nvidia-fabricmanager, "
        "and see its log"
    )
    for state, nodes in _by_value(stopped).items():
        expected = "an active nvidia-fabricmanager, since the machine has NVSwitches"
        yield Finding("fabric_manager", nodes, expected, state, remedy)
    said_of = {node for node, _state in stopped}
    others = {node: found for node, found in fingerprints.items() if node not in said_of}
    for said, unready in _by_gpu(plan, others, _fabric_state).items():
        expected = "GPUs that have joined the NVLink fabric (state Completed)"
        yield Finding("fabric_manager", tuple(unready), expected, said, remedy)


def _fabric_state(gpu: Mapping[str, Any]) -> str | None:
    state = _word(gpu.get("fabric"))
    return f"fabric state {state}" if state and state != "Completed" else None


def _in_use(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    full: dict[str, str] = {}
    shared: dict[str, str] = {}
    for node, fingerprint in fingerprints.items():
        if fingerprint.get("active_runs"):  # it is its own, and a finding already (run_active)
            continue
        for gpu in _gpus(plan, node, fingerprint):
            used, total = _count(gpu.get("memory_used_mib")), _count(gpu.get("memory_mib"))
            programs = [_program(process) for process in _list(gpu.get("processes")) if isinstance(process, Mapping)]
            said = f"GPU {_count(gpu.get('index'))}: {used} of {total} MiB in use"
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


def _program(process: Mapping[str, Any]) -> str:
    return f"pid {_count(process.get('pid'))} ({_word(process.get('name')) or 'unknown'})"


def _row_remap(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    expected = "GPU memory without rows that wait for repair or can't be repaired"
    for said, nodes in _by_gpu(plan, fingerprints, _remap_state).items():
        remedy = (
            "pending: end what uses the GPU and nvidia-smi --gpu-reset, or restart the host; failed: replace the GPU"
        )
        yield Finding("gpu_row_remap", tuple(nodes), expected, said, remedy)


def _remap_state(gpu: Mapping[str, Any]) -> str | None:
    if gpu.get("remap_failed") is True:
        return "row remapping has failed"
    return "row remapping is pending" if gpu.get("remap_pending") is True else None


def _pcie(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    for said, nodes in _by_gpu(plan, fingerprints, _pcie_lack).items():
        remedy = (
            "reseat the GPU or its riser, and see the BIOS' settings of the slot; lspci -vv names the bridge above it"
        )
        expected = "PCIe links of full width, and at work of full speed"
        yield Finding("gpu_pcie", tuple(nodes), expected, said, remedy, WARNING)


def _pcie_lack(gpu: Mapping[str, Any]) -> str | None:
    link = {name: _count(value) for name, value in _map(gpu, "pcie").items()}
    width, width_max = link.get("width"), link.get("width_max")
    if width and width_max and width < width_max:
        return f"x{width} of x{width_max}"
    generation, generation_max = link.get("generation"), link.get("generation_max")
    # An idle GPU lowers its link to save power.
    if gpu.get("performance_state") == "P0" and generation and generation_max and generation < generation_max:
        return f"generation {generation} of {generation_max}"
    return None


def _throttled(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    for said, nodes in _by_gpu(plan, fingerprints, _throttle).items():
        remedy = (
            "see to the cooling and the power supply of these hosts (nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER)"
        )
        expected = "GPUs that are not slowed down by heat or by their power supply"
        yield Finding("gpu_throttle", tuple(nodes), expected, said, remedy, WARNING)


def _throttle(gpu: Mapping[str, Any]) -> str | None:
    said = gpu.get("throttle")
    return ", ".join(reason for reason in nvidia_smi.HARMFUL if isinstance(said, list) and reason in said) or None


def _persistence(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    def off(gpu: Mapping[str, Any]) -> str | None:
        return "persistence mode is disabled" if gpu.get("persistence") == "Disabled" else None

    for said, nodes in _by_gpu(plan, fingerprints, off).items():
        remedy = "systemctl enable --now nvidia-persistenced, or nvidia-smi -pm 1"
        expected = "a driver that stays loaded between programs (persistence mode)"
        yield Finding("gpu_persistence", tuple(nodes), expected, said, remedy, WARNING)


def _neighbours(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """A full neighbour table drops packets to peers, so that large fleets fail to connect at random."""
    peers = len(plan["nodes"]) - 1
    found = []
    for node, fingerprint in fingerprints.items():
        resolved = [item for item in _list(_map(fingerprint, "network", "address").get("resolved")) if _word(item)]
        family = "ipv6" if resolved and all(":" in item for item in resolved) else "ipv4"
        most = _count(_map(fingerprint, "room", "neighbours").get(family))
        if most is not None and most < 2 * peers:
            found.append((node, (family, most)))
    for (family, most), nodes in _by_value(found).items():
        setting = f"net.{family}.neigh.default.gc_thresh3"
        remedy = (
            f"sysctl -w {setting}={max(4096, 4 * peers)}, and in /etc/sysctl.d; gc_thresh1 and gc_thresh2 to half of it"
        )
        expected = f"a neighbour table with room for twice the {peers} peers"
        yield Finding("neighbour_table", nodes, expected, f"{setting} is {most}", remedy, WARNING)


def _shm(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    found = []
    for node, fingerprint in fingerprints.items():
        shm = _map(fingerprint, "room", "shm")
        size, free = _count(shm.get("size_bytes")), _count(shm.get("free_bytes"))
        if plan["accelerator"] == "cuda" and size is not None and min(size, size if free is None else free) < LEAST_SHM:
            found.append((node, f"{amount(size)}, of which {'?' if free is None else amount(free)} are free"))
    for said, nodes in _by_value(found).items():
        remedy = (
            "mount -o remount,size=50% /dev/shm (a container: --shm-size or --ipc=host); where it is full, remove what "
            "ended programs left there"
        )
        yield Finding("shm_small", nodes, f"at least {amount(LEAST_SHM)} free in /dev/shm", said, remedy, WARNING)


def _disk(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    least = plan.get("disk_min_bytes", LEAST_DISK[plan["accelerator"]])
    found = {}
    for node, fingerprint in fingerprints.items():
        disk = _map(fingerprint, "room", "output_dir") or _map(fingerprint, "room", "root")
        free = _count(disk.get("free_bytes"))
        if free is not None and free < least:
            found[node] = f"{amount(free)} at {_word(disk.get('path')) or 'axolotl_root'}"
    if found:
        expected = f"at least {amount(least)} free where the run writes its checkpoints"
        remedy = (
            "make room there (old runs and releases under axolotl_root are yours to remove), or set another output_dir"
        )
        yield Finding("disk_low", tuple(found), expected, examples(found), remedy)


RULES: tuple[Rule, ...] = (
    _unread,
    _driver,
    _nccl_library,
    _hidden,
    _unused,
    _mig,
    _fabric,
    _in_use,
    _row_remap,
    _pcie,
    _throttled,
    _persistence,
    _neighbours,
    _shm,
    _disk,
)
