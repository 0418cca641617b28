# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's InfiniBand and RoCE adapters, read from sysfs: no tool need be installed.

The files are those of the kernel's Documentation/ABI/stable/sysfs-class-infiniband.
"""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Mapping
from typing import Any

from . import bounded

PATIENCE = 20.0
"""Seconds for all of sysfs; an adapter whose firmware does not answer can keep a reader for a minute."""

ERROR_COUNTERS = (
    # ports/<n>/counters: what a bad cable, connector or transceiver raises. Left out: counters of congestion
    # (port_xmit_wait, port_xmit_discards) and of ordinary multicast traffic (port_rcv_switch_relay_errors).
    "symbol_error",
    "link_error_recovery",
    "link_downed",
    "port_rcv_errors",
    "port_rcv_remote_physical_errors",
    "local_link_integrity_errors",
    "excessive_buffer_overrun_errors",
)
HW_ERROR_COUNTERS = ("local_ack_timeout_err", "packet_seq_err", "rx_icrc_encapsulated")
"""Of ports/<n>/hw_counters, which mlx5 has: lost and damaged packets, on RoCE too."""

MODULES = ("mlx5_core", "mlx5_ib", "ib_uverbs", "ib_umad", "rdma_cm", "ib_ipoib", "nvidia_peermem")
PEERMEM = ("kernel/mm/memory_peers/nv_mem", "kernel/mm/memory_peers/nv_mem_nc", "module/nvidia_peermem")
"""Below sysfs, where NCCL looks for a peer memory client (src/transport/net_ib/gdr.cc: each with /version)."""

NOTHING: Mapping[str, Any] = {"hcas": {}, "modules": {}, "verbs": False, "unclaimed": [], "gpudirect": None}

INFINIBAND_CONTROLLER = "0x0207"
"""The start of the PCI class of an InfiniBand controller (PCI Code and ID Assignment: class 02h, subclass 07h)."""


def read(sysfs: str = "/sys", proc: str = "/proc") -> dict[str, Any]:
    """Everything about the adapters.

    Returns:
        hcas (name to firmware, kind, numa_node, pci, netdevs and ports), modules (name to whether it is loaded),
        verbs (whether programs can open adapters), unclaimed (PCI addresses of InfiniBand controllers without a
        driver that makes an adapter of them), gpudirect (peermem, dmabuf, open_driver; None without an adapter), and
        error where sysfs did not answer in time, in which case the rest is empty.
    """
    try:
        found: dict[str, Any] = bounded.within(PATIENCE, _read, sysfs, proc)
        return found
    except (bounded.TookTooLong, OSError, ValueError) as error:
        return {**NOTHING, "error": f"{sysfs}/class/infiniband: {error}"}


def _read(sysfs: str, proc: str) -> dict[str, Any]:
    base = os.path.join(sysfs, "class", "infiniband")
    hcas = {name: _hca(os.path.join(base, name)) for name in _names(base)}
    return {
        "hcas": hcas,
        "modules": {name: os.path.isdir(os.path.join(sysfs, "module", name)) for name in MODULES},
        "verbs": bool(_names(os.path.join(sysfs, "class", "infiniband_verbs"))),
        "unclaimed": _unclaimed(os.path.join(sysfs, "bus", "pci", "devices")),
        "gpudirect": _gpudirect(sysfs, proc) if hcas else None,
        "error": None,
    }


def _hca(path: str) -> dict[str, Any]:
    device = os.path.join(path, "device")
    numa_node = _number(os.path.join(device, "numa_node"))
    ports = os.path.join(path, "ports")
    return {
        "firmware": _text(os.path.join(path, "fw_ver")),
        "kind": _text(os.path.join(path, "hca_type")),
        "numa_node": None if numa_node is None or numa_node < 0 else numa_node,  # -1: the machine has but one
        "pci": os.path.basename(os.path.realpath(device)) if os.path.exists(device) else None,
        "netdevs": _names(os.path.join(device, "net")),
        "ports": {number: _port(os.path.join(ports, number)) for number in _names(ports)},
    }


def _port(path: str) -> dict[str, Any]:
    rate = _text(os.path.join(path, "rate")) or ""
    number = re.match(r"\d+(?:\.\d+)?", rate)
    link_layer = _text(os.path.join(path, "link_layer"))
    return {
        "state": _meaning(os.path.join(path, "state")),
        "phys_state": _meaning(os.path.join(path, "phys_state")),
        "rate": rate or None,
        "gbits": float(number.group()) if number else None,
        "link_layer": link_layer,
        # The table of an InfiniBand port says nothing that is needed here, and both can have 256 entries.
        "gids": _gids(path) if link_layer == "Ethernet" else [],
    }


def _gids(path: str) -> list[dict[str, Any]]:
    """The GIDs in use; the address that a RoCE v2 GID carries is an IP address, IPv4 in its IPv4-mapped form."""
    found = []
    for index in _names(os.path.join(path, "gids")):
        try:
            gid = ipaddress.IPv6Address(_text(os.path.join(path, "gids", index)) or "::")
        except ValueError:
            continue
        if not int(gid):
            continue
        attributes = os.path.join(path, "gid_attrs")
        found.append(
            {
                "index": int(index),
                "address": str(gid.ipv4_mapped or gid),
                "type": _text(os.path.join(attributes, "types", index)),
                "netdev": _text(os.path.join(attributes, "ndevs", index)),
            }
        )
    return sorted(found, key=lambda entry: int(entry["index"]))


def _unclaimed(base: str) -> list[str]:
    found = []
    for address in _names(base):
        device = os.path.join(base, address)
        kind = _text(os.path.join(device, "class")) or ""
        driver = os.path.basename(os.path.realpath(os.path.join(device, "driver")))
        # A virtual function, or a device that vfio holds, is for a virtual machine.
        passed_on = driver == "vfio-pci" or os.path.exists(os.path.join(device, "physfn"))
        claimed = passed_on or os.path.isdir(os.path.join(device, "infiniband"))
        if kind.startswith(INFINIBAND_CONTROLLER) and not claimed:
            found.append(address)
    return found


def _gpudirect(sysfs: str, proc: str) -> dict[str, Any]:
    """By which way an adapter could reach the memory of a GPU.

    The way by DMA-BUF needs a kernel whose RDMA core can take one (5.12 has it) and NVIDIA's open kernel module; by
    nvidia-peermem it needs that module. What a program would get can only be told by trying, which takes a GPU.

    Returns:
        peermem and dmabuf as true or false; open_driver as such, or None where no NVIDIA driver is loaded.
    """
    driver = _text(os.path.join(proc, "driver", "nvidia", "version"))
    return {
        "peermem": any(os.path.exists(os.path.join(sysfs, path, "version")) for path in PEERMEM),
        "dmabuf": _has_symbol(os.path.join(proc, "kallsyms"), b" ib_umem_dmabuf_get"),
        "open_driver": "Open Kernel Module" in driver if driver else None,
    }


def _has_symbol(path: str, name: bytes) -> bool:
    """Whether the running kernel has it, built in or in a module; names are shown to everybody, addresses are not."""
    try:
        with open(path, "rb") as stream:
            return any(name in line for line in stream)
    except OSError:
        return False


# Counters


class ErrorWatch:
    """Reads the error counters at two times, while other things are read, and says which have risen."""

    def __init__(self, sysfs: str = "/sys") -> None:
        self._sysfs = sysfs
        self._started = time.monotonic()
        self._before = self._counters()

    def close(self) -> dict[str, Any]:
        """The counters that are not zero, and by how much any has risen meanwhile.

        Returns:
            seconds between the two readings, total and rising; each of these has the adapter, the port and the
            counter's name as keys.
        """
        after = self._counters()
        total: dict[str, Any] = {}
        rising: dict[str, Any] = {}
        for (hca, port, name), value in after.items():
            if value:
                total.setdefault(hca, {}).setdefault(port, {})[name] = value
            before = self._before.get((hca, port, name))
            if before is not None and value > before:
                rising.setdefault(hca, {}).setdefault(port, {})[name] = value - before
        return {"seconds": round(time.monotonic() - self._started, 3), "total": total, "rising": rising}

    def _counters(self) -> dict[tuple[str, str, str], int]:
        try:
            found: dict[tuple[str, str, str], int] = bounded.within(PATIENCE, _counters, self._sysfs)
            return found
        except (bounded.TookTooLong, OSError):
            return {}


def _counters(sysfs: str) -> dict[tuple[str, str, str], int]:
    base = os.path.join(sysfs, "class", "infiniband")
    found = {}
    for hca in _names(base):
        for port in _names(os.path.join(base, hca, "ports")):
            for folder, names in (("counters", ERROR_COUNTERS), ("hw_counters", HW_ERROR_COUNTERS)):
                for name in names:
                    value = _number(os.path.join(base, hca, "ports", port, folder, name))
                    if value is not None:
                        found[hca, port, name] = value
    return found


# Files of sysfs; one that is not there, or has no value, is None


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(4096).strip() or None
    except OSError:
        return None


def _number(path: str) -> int | None:
    try:
        return int(_text(path) or "")
    except ValueError:  # "N/A (no PMA)"
        return None


def _meaning(path: str) -> str | None:
    """``4: ACTIVE`` is ACTIVE."""
    return (_text(path) or "").partition(":")[2].strip() or None
