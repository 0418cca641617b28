# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What machine this is and which devices it has to train on."""

from __future__ import annotations

import hashlib
import os
import socket
from typing import Any

from . import commands

NVIDIA_SMI_TIMEOUT = 30.0
"""Seconds; without the persistence daemon the driver takes 1 to 3 s per GPU to wake up."""


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


def devices(accelerator: str) -> dict[str, Any]:
    """How many processes can train here: GPUs, or this process's share of the processors for CPU runs.

    Returns:
        kind, count, and error where the devices could not be counted (count is then 0).
    """
    if accelerator == "cpu":
        return {"kind": "cpu", "count": len(os.sched_getaffinity(0)), "error": None}
    result = commands.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], timeout=NVIDIA_SMI_TIMEOUT)
    if result.rc != 0:
        return {"kind": "cuda", "count": 0, "error": f"nvidia-smi: {result.message(300)}"}
    return {"kind": "cuda", "count": len(result.stdout.split("\n")) - 1, "error": None}
