# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs come from one call of nvidia-smi; what it can't say is an error, and a driver that hangs is not waited for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from unit import sysfs

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import commands, probe_hardware
from ansible_collections.gpufleet.axolotl.plugins.module_utils.node.commands import CommandResult

H100 = (Path(__file__).resolve().parents[2] / "captured" / "nvidia_smi_h100_575.xml").read_text()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "sys"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, CommandResult]:
    """What each tool answers; every call is counted in `calls`."""
    answers = {
        "nvidia-smi": CommandResult(0, H100, "", False),
        "systemctl": CommandResult(3, "inactive\n", "", False),
    }
    monkeypatch.setattr(commands, "run", lambda argv, timeout, **options: calls.append(argv) or answers[argv[0]])
    calls.clear()
    return answers


calls: list[list[str]] = []


def device(tree: Path, address: str, vendor: str, kind: str) -> None:
    sysfs.write(tree / "bus" / "pci" / "devices" / address, vendor=vendor, **{"class": kind})


def test_one_call_tells_the_gpus_and_counts_them(tree: Path, said: dict[str, CommandResult]) -> None:
    device(tree, "0000:03:00.0", "0x15b3", "0x068000")
    device(tree, "0000:19:00.0", "0x10de", "0x030200")
    found = probe_hardware.devices("cuda", str(tree))
    assert found["devices"] == {"kind": "cuda", "count": 2, "error": None}
    assert (found["gpus"]["driver"], len(found["gpus"]["devices"])) == ("575.51.02", 2)
    assert (found["gpus"]["nvswitch"], found["gpus"]["fabric_manager"]) == (False, None)
    assert calls == [["nvidia-smi", "-q", "-x"]]


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (CommandResult(3, "inactive\n", "", False), "inactive"),
        (CommandResult(0, "active\n", "", False), "active"),
        (CommandResult(127, "", "systemctl can't be started", False), None),
    ],
)
def test_nvswitches_need_their_fabric_manager(
    tree: Path, said: dict[str, CommandResult], answer: CommandResult, state: str | None
) -> None:
    device(tree, "0000:05:00.0", "0x10de", "0x068000")
    said["systemctl"] = answer
    gpus = probe_hardware.devices("cuda", str(tree))["gpus"]
    assert (gpus["nvswitch"], gpus["fabric_manager"]) == (True, state)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (CommandResult(9, "", "NVIDIA-SMI has failed\n", False), "nvidia-smi: NVIDIA-SMI has failed"),
        (
            CommandResult(-9, H100, "", True),
            "nvidia-smi: no answer within 60 s; it did not end in time and was stopped",
        ),
        (
            CommandResult(-9, "", "", True, left_behind=True),
            "nvidia-smi: no answer within 60 s; it did not end in time and can't be killed: it hangs in the kernel, "
            "dmesg may say where",
        ),
    ],
)
def test_a_driver_that_does_not_answer(
    tree: Path, said: dict[str, CommandResult], answer: CommandResult, error: str
) -> None:
    said["nvidia-smi"] = answer
    found = probe_hardware.devices("cuda", str(tree))
    assert found["devices"] == {"kind": "cuda", "count": 0, "error": error}
    assert found["gpus"] == {**probe_hardware.NO_GPUS, "nvswitch": False, "error": error}


def test_on_cpu_no_tool_is_asked(tree: Path, said: dict[str, CommandResult]) -> None:
    found = probe_hardware.devices("cpu", str(tree))
    nothing: dict[str, Any] = {"driver": None, "cuda": None, "devices": [], "nvswitch": None, "fabric_manager": None}
    assert found["gpus"] == {**nothing, "error": None}
    assert found["devices"]["count"] == len(os.sched_getaffinity(0))
    assert calls == []
