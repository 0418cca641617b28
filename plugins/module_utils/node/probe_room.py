# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much room a node has: on its disks, in its memory, between its processes, and for what it knows of neighbours."""

from __future__ import annotations

import os
import re
from typing import Any

from .disk_room import existing_folder

SHM = "/dev/shm"  # noqa: S108 - where glibc's shm_open and NCCL put their segments


def read(output_dir: str, root: str, shm: str = SHM, proc: str = "/proc") -> dict[str, Any]:
    """Everything of which there can be too little.

    Args:
        output_dir: where the run writes its checkpoints; it need not exist yet. Empty where the config names none.
        root: the node's axolotl_root.

    Returns:
        output_dir and root (path as asked for, free_bytes for this account, total_bytes), shm (size_bytes,
        free_bytes), memory (total_bytes, available_bytes, of the machine), neighbours (ipv4 and ipv6: gc_thresh3, the
        most entries of the kernel's neighbour table), each None where there is none, and error, which names what could
        not be asked.
    """
    errors: list[str] = []
    found: dict[str, Any] = {}
    for name, path in (("output_dir", output_dir), ("root", root)):
        found[name] = _disk(path, errors) if path else None
    size = _size(shm, errors) if os.path.isdir(shm) else None
    found["shm"] = {"size_bytes": size[1], "free_bytes": size[0]} if size else None
    found["memory"] = _memory(os.path.join(proc, "meminfo"))
    # In a network namespace of its own these files do not exist: the table is the host's.
    found["neighbours"] = {
        family: _number(os.path.join(proc, "sys/net", family, "neigh/default/gc_thresh3"))
        for family in ("ipv4", "ipv6")
    }
    return {**found, "error": "; ".join(errors) or None}


def _disk(path: str, errors: list[str]) -> dict[str, Any] | None:
    size = _size(existing_folder(path), errors)
    return {"path": path, "free_bytes": size[0], "total_bytes": size[1]} if size else None


def _size(folder: str, errors: list[str]) -> tuple[int, int] | None:
    try:
        status = os.statvfs(folder)
    except OSError as error:
        errors.append(f"{folder}: {error.strerror}")
        return None
    return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize


def _memory(path: str) -> dict[str, int] | None:
    """The machine's main memory, as the kernel counts it (proc(5), meminfo: in KiB)."""
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            known = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", stream.read(1 << 16), re.MULTILINE))
        return {"total_bytes": int(known["MemTotal"]) << 10, "available_bytes": int(known["MemAvailable"]) << 10}
    except (OSError, KeyError):
        return None


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return int(stream.read(32))
    except (OSError, ValueError):
        return None
