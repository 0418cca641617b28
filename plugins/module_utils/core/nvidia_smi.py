# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the output of `nvidia-smi -q -x`, whatever the driver's version calls things."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from .masking import mask

MAX_BYTES = 32 << 20
"""A GPU with a long table of clocks takes 120 KiB (RTX PRO 6000, driver 590); a host has 16 of them at most."""
MAX_NAME = 120
"""Characters kept of a name."""

HARMFUL = ("hw_slowdown", "hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake_slowdown")
"""Reasons for lower clocks that tell of heat or of the power supply. Idleness, limits and settings are left out."""
_REASONS = {
    # Renamed in driver 535; the older ones are those of NVML's clocks throttle reasons.
    "clocks_event_reasons": "clocks_event_reason_",
    "clocks_throttle_reasons": "clocks_throttle_reason_",
}

_INTERNAL_SUBSET = re.compile(r"<!ENTITY|<!DOCTYPE[^>\[]*\[")
_MODES = ("Enabled", "Disabled")
_GRAPHICS = "G"
"""Type of a process that only draws; what computes is C, C+G, or M+C below an MPS server."""


def parse(text: str) -> dict[str, Any]:
    """Parse the output. It never raises.

    Returns:
        driver, cuda (the highest CUDA that it supports), devices (a list, see the module node_fingerprint) and error,
        a sentence where the output could not be read; the rest is empty then. What a GPU does not say is None.
    """
    nothing: dict[str, Any] = {"driver": None, "cuda": None, "devices": []}
    if len(text) > MAX_BYTES:
        return {**nothing, "error": f"nvidia-smi: more than {MAX_BYTES >> 20} MiB of output"}
    # Warnings of the driver can stand before it. nvidia-smi names a DTD but brings none: entities would be an attack.
    text = text[max(text.find("<?xml"), 0) :]
    if _INTERNAL_SUBSET.search(text):
        return {**nothing, "error": "nvidia-smi: its XML brings declarations of its own, which are refused"}
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - without declarations there is nothing to expand
    except (ElementTree.ParseError, ValueError) as error:
        return {**nothing, "error": f"nvidia-smi: its XML can't be read: {error}"[:300]}
    if root.tag != "nvidia_smi_log":
        return {**nothing, "error": f"nvidia-smi: not its XML but <{root.tag[:MAX_NAME]}>"}
    return {
        "driver": _version(root, "driver_version"),
        "cuda": _version(root, "cuda_version"),
        "devices": [_device(index, gpu) for index, gpu in enumerate(root.findall("gpu"))],
        "error": None,
    }


def _device(index: int, gpu: ElementTree.Element) -> dict[str, Any]:
    link = "pci/pci_gpu_link_info/"
    return {
        "index": index,
        "name": _text(gpu, "product_name"),
        "uuid": _text(gpu, "uuid"),
        "memory_mib": _number(gpu, "fb_memory_usage/total"),
        "memory_used_mib": _number(gpu, "fb_memory_usage/used"),
        "ecc": _mode(gpu, "ecc_mode/current_ecc"),
        "mig": _mode(gpu, "mig_mode/current_mig"),
        "persistence": _mode(gpu, "persistence_mode"),
        "performance_state": _text(gpu, "performance_state"),
        "pcie": {
            "width": _number(gpu, f"{link}link_widths/current_link_width"),
            "width_max": _number(gpu, f"{link}link_widths/max_link_width"),
            "generation": _number(gpu, f"{link}pcie_gen/current_link_gen"),
            "generation_max": _number(gpu, f"{link}pcie_gen/max_link_gen"),
        },
        "remap_pending": _text(gpu, "remapped_rows/remapped_row_pending") == "Yes",
        "remap_failed": _text(gpu, "remapped_rows/remapped_row_failure") == "Yes",
        "throttle": _throttle(gpu),
        "fabric": _fabric(gpu),
        "processes": _processes(gpu),
    }


def _throttle(gpu: ElementTree.Element) -> list[str]:
    active = {
        element.tag[len(prefix) :]
        for tag, prefix in _REASONS.items()
        for element in gpu.iterfind(f"{tag}/*")
        if element.tag.startswith(prefix) and (element.text or "").strip() == "Active"
    }
    return [reason for reason in HARMFUL if reason in active]


def _fabric(gpu: ElementTree.Element) -> str | None:
    """The state of the GPU's registration with the NVLink fabric, with its status where that is not success."""
    state, status = _text(gpu, "fabric/state"), _text(gpu, "fabric/status")
    return f"{state}, {status}" if state == "Completed" and status not in (None, "Success") else state


def _processes(gpu: ElementTree.Element) -> list[dict[str, Any]]:
    found = []
    for process in gpu.iterfind("processes/process_info"):
        pid = _number(process, "pid")
        if pid is not None and _text(process, "type") != _GRAPHICS:
            name = mask(" ".join((process.findtext("process_name") or "").split()), ())[:MAX_NAME]
            found.append({"pid": pid, "name": name or None, "memory_mib": _number(process, "used_memory")})
    return found


def _text(element: ElementTree.Element, path: str) -> str | None:
    """A value; what stands for none is None: N/A, [N/A], [Not Supported], Unknown Error, a deprecated function."""
    value = (element.findtext(path) or "").strip()
    absent = value.startswith(("N/A", "[", "Unknown", "Requested functionality", "Not Found", "ERR!"))
    return value[:MAX_NAME] if value and not absent else None


def _number(element: ElementTree.Element, path: str) -> int | None:
    """``81559 MiB`` and ``16x`` without their unit."""
    match = re.match(r"[0-9]{1,15}", _text(element, path) or "")
    return int(match.group()) if match else None


def _version(element: ElementTree.Element, path: str) -> str | None:
    value = _text(element, path)
    return value if value and re.fullmatch(r"[0-9]+(\.[0-9]+)*", value) else None


def _mode(element: ElementTree.Element, path: str) -> str | None:
    value = _text(element, path)
    return value if value in _MODES else None


def visible(devices: Sequence[Mapping[str, Any]], variable: str | None) -> list[Mapping[str, Any]]:
    """The devices that a CUDA program sees, in its order; nvidia-smi itself shows all of them.

    Args:
        devices: as `parse` returns them.
        variable: CUDA_VISIBLE_DEVICES, None where it is not set. It holds indices, or UUIDs that may be cut short. What
            stands behind the first invalid one does not count, and a device that is named twice leaves none (CUDA C++
            Programming Guide, CUDA Environment Variables).
    """
    if variable is None:
        return list(devices)
    found: list[Mapping[str, Any]] = []
    for entry in variable.split(","):
        name = entry.strip()
        if re.fullmatch(r"[0-9]{1,6}", name):
            meant = list(devices[int(name) : int(name) + 1])
        else:
            meant = [device for device in devices if len(name) > 4 and str(device.get("uuid")).startswith(name)]
        if len(meant) != 1:
            break
        if meant[0] in found:
            return []
        found += meant
    return found
