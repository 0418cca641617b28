# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What machine this is and which devices it has to train on."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from typing import Any

from ..core import nvidia_smi
from . import commands

NVIDIA_SMI_TIMEOUT = 60.0
"""Seconds; without the persistence daemon the driver takes 1 to 3 s per GPU to wake up."""
SYSTEMCTL_TIMEOUT = 10.0

NO_GPUS: Mapping[str, Any] = {"driver": None, "cuda": None, "devices": [], "nvswitch": None, "fabric_manager": None}


def machine() -> dict[str, Any]:
    """Who this machine is.

    The identity is equal for two inventory names of one machine and differs between containers: it is made of the
    boot id and the process namespace.
    """
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        boot_id = stream.read().strip()
    namespace = os.readlink("/proc/self/ns/pid")
    identity = hashlib.sha256(f"{boot_id} {namespace}".encode()).hexdigest()[:16]
    return {"identity": identity, "hostname": socket.gethostname(), "uid": os.geteuid()}


def devices(accelerator: str, sysfs: str = "/sys") -> dict[str, Any]:
    """What there is to train on: GPUs, or this process's share of the processors for CPU runs.

    All GPUs of the machine are listed, whatever CUDA_VISIBLE_DEVICES leaves to the trainers.

    Returns:
        devices: kind, count, and error where the devices could not be counted (count is then 0).
        gpus: driver, cuda and devices (as `nvidia_smi.parse` returns them), nvswitch (whether the machine has
        NVSwitches), fabric_manager (what systemd says of it, None without NVSwitches or systemd), and error.
    """
    if accelerator == "cpu":
        return {
            "devices": {"kind": "cpu", "count": len(os.sched_getaffinity(0)), "error": None},
            "gpus": {**NO_GPUS, "error": None},
        }
    result = commands.run(["nvidia-smi", "-q", "-x"], NVIDIA_SMI_TIMEOUT, max_output=nvidia_smi.MAX_BYTES)
    if result.timed_out:
        found = {"error": f"nvidia-smi: no answer within {NVIDIA_SMI_TIMEOUT:.0f} s; {result.message()}"}
    elif result.rc != 0:
        found = {"error": f"nvidia-smi: {result.message(300)}"}
    else:
        found = nvidia_smi.parse(result.stdout)
    gpus = {**NO_GPUS, **found, "nvswitch": has_nvswitch(sysfs)}
    if gpus["nvswitch"]:
        gpus["fabric_manager"] = _fabric_manager()
    return {"devices": {"kind": "cuda", "count": len(gpus["devices"]), "error": gpus["error"]}, "gpus": gpus}


def has_nvswitch(sysfs: str = "/sys") -> bool:
    """Whether the machine has NVSwitches: PCI bridges of NVIDIA's of the class "other" (0680h)."""
    base = os.path.join(sysfs, "bus", "pci", "devices")
    try:
        names = os.listdir(base)
    except OSError:
        return False
    return any(_is_nvswitch(os.path.join(base, name)) for name in names)


def _is_nvswitch(device: str) -> bool:
    said = []
    for name in ("vendor", "class"):
        try:
            with open(os.path.join(device, name), encoding="ascii", errors="replace") as stream:
                said.append(stream.read(32).strip())
        except OSError:
            return False
    return said[0] == "0x10de" and said[1].startswith("0x0680")


def _fabric_manager() -> str | None:
    """``active``, ``inactive``, ``failed`` ...; is-active(systemctl(1)) prints the state whatever its exit code is."""
    state = commands.run(["systemctl", "is-active", "nvidia-fabricmanager"], SYSTEMCTL_TIMEOUT).stdout.strip()
    return state if state.isalpha() else None
