# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders that look like sysfs and procfs, with the files that the kernel documents for adapters and interfaces.

Documentation/ABI/stable/sysfs-class-infiniband, Documentation/ABI/testing/sysfs-class-net, sysfs-bus-pci.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

COUNTERS = (
    "symbol_error",
    "link_error_recovery",
    "link_downed",
    "port_rcv_errors",
    "port_rcv_remote_physical_errors",
    "local_link_integrity_errors",
    "excessive_buffer_overrun_errors",
    "port_rcv_switch_relay_errors",
    "port_xmit_wait",
    "port_xmit_discards",
    "port_rcv_packets",
)


def write(folder: Path, **files: Any) -> Path:
    """Files with one line each; `__` in a name stands for a folder."""
    for name, content in files.items():
        path = folder.joinpath(*name.split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return folder


def adapter(sysfs: Path, name: str, address: str = "0000:19:00.0", numa_node: int = 0, netdev: str = "") -> Path:
    """An adapter without ports, beneath the PCI device that it is."""
    device = write(sysfs / "devices" / address, numa_node=numa_node, **{"class": "0x020700"}, vendor="0x15b3")
    folder = write(device / "infiniband" / name, fw_ver="28.41.1000", hca_type="MT4129", node_type="1: CA")
    (folder / "ports").mkdir()
    for kind, target in (("class/infiniband", folder), ("bus/pci/devices", device)):
        link = sysfs / kind / target.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    (folder / "device").symlink_to(device)
    if netdev:
        (device / "net" / netdev).mkdir(parents=True)
    return folder


def port(folder: Path, number: int = 1, **changes: Any) -> Path:
    """A port of an adapter, active unless a change says otherwise; `counters` maps names to counts."""
    counters = dict.fromkeys(COUNTERS, 0) | changes.pop("counters", {})
    files = {
        "state": "4: ACTIVE",
        "phys_state": "5: LinkUp",
        "rate": "400 Gb/sec (4X NDR)",
        "link_layer": "InfiniBand",
        **changes,
    }
    path = write(folder / "ports" / str(number), **files)
    write(path / "counters", **counters)
    return path


def gid(path: Path, index: int, address: str = "::", kind: str = "", netdev: str = "") -> None:
    """An entry of a port's GID table; one that is not in use has no type and no interface."""
    packed = ipaddress.ip_address(address)
    whole = ipaddress.IPv6Address(f"::ffff:{packed}") if packed.version == 4 else packed
    write(path / "gids", **{str(index): whole.exploded})
    if kind:
        write(path / "gid_attrs", **{f"types__{index}": kind, f"ndevs__{index}": netdev})


def interface(sysfs: Path, name: str, kind: str = "physical", **changes: Any) -> Path:
    """A network interface."""
    files = {
        "flags": "0x1003",
        "mtu": 1500,
        "operstate": "up",
        "speed": 100000,
        "type": 1,
        "uevent": f"INTERFACE={name}",
    }
    if kind == "loopback":
        files |= {"flags": "0x9", "mtu": 65536, "operstate": "unknown", "type": 772}
    elif kind == "infiniband":
        files |= {"type": 32, "mtu": 2044}
    elif kind == "tun":
        files["tun_flags"] = "0x1002"
    elif kind == "physical":
        (sysfs / "class" / "net" / name / "device").mkdir(parents=True)
    elif kind != "virtual":
        files["uevent"] = f"DEVTYPE={kind}\nINTERFACE={name}"
    return write(sysfs / "class" / "net" / name, **{**files, **changes})
