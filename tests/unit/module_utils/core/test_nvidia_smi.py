# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia-smi's XML is read as drivers of different ages write it, and nothing that it could hold makes reading fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import nvidia_smi

# Elements and values as drivers 470 and 575 have them, cut down, with serial numbers and UUIDs made up.
CAPTURED = Path(__file__).resolve().parents[2] / "captured"
H100 = (CAPTURED / "nvidia_smi_h100_575.xml").read_text()
A100 = (CAPTURED / "nvidia_smi_a100_470.xml").read_text()
NOTHING = {"driver": None, "cuda": None, "devices": []}


def test_a_host_with_two_h100() -> None:
    found = nvidia_smi.parse(H100)
    first, second = found.pop("devices")
    assert found == {"driver": "575.51.02", "cuda": "12.9", "error": None}
    assert first == {
        "index": 0,
        "name": "NVIDIA H100 80GB HBM3",
        "uuid": "GPU-0a11ce00-0000-4000-8000-000000000000",
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
    }
    assert second == {
        **first,
        "index": 1,
        "uuid": "GPU-1a11ce00-0000-4000-8000-000000000001",
        "memory_used_mib": 70020,
        "persistence": "Disabled",
        "pcie": {"width": 8, "width_max": 16, "generation": 5, "generation_max": 5},
        "remap_pending": True,
        "throttle": ["hw_slowdown", "hw_thermal_slowdown"],  # a power cap is no fault
        "processes": [{"pid": 200870, "name": "/opt/serve/bin/python3", "memory_mib": 70012}],  # Xorg only draws
    }


def test_an_a100_with_a_driver_whose_tags_are_named_otherwise() -> None:
    found = nvidia_smi.parse(A100)
    (gpu,) = found["devices"]
    assert (found["driver"], found["cuda"], found["error"]) == ("470.82.01", "11.4", None)
    assert gpu["throttle"] == ["hw_slowdown", "hw_power_brake_slowdown"]
    assert (gpu["memory_mib"], gpu["memory_used_mib"]) == (40536, 0)  # its own, not that of its part
    assert (gpu["mig"], gpu["ecc"], gpu["fabric"]) == ("Enabled", "Disabled", None)
    assert (gpu["remap_pending"], gpu["remap_failed"]) == (False, False)
    assert gpu["pcie"]["generation"] == 1


@pytest.mark.parametrize(
    ("old", "new", "path", "value"),
    [
        ("<remapped_row_failure>No", "<remapped_row_failure>Yes", ("remap_failed",), True),
        ("<state>Completed", "<state>In Progress", ("fabric",), "In Progress"),
        ("<status>Success", "<status>Failure", ("fabric",), "Completed, Failure"),
        ("<state>Completed</state>\n\t\t\t<status>Success", "<state>N/A</state>\n\t\t\t<status>N/A", ("fabric",), None),
        ("<current_ecc>Enabled", "<current_ecc>N/A", ("ecc",), None),
        ("<current_mig>Disabled", "<current_mig>[N/A]", ("mig",), None),
        ("<persistence_mode>Enabled", "<persistence_mode>Unknown Error", ("persistence",), None),
        ("<performance_state>P0", "<performance_state>Requested functionality has been deprecated",
         ("performance_state",), None),
        ("<used>4 MiB", "<used>N/A", ("memory_used_mib",), None),
        ("<current_link_width>16x", "<current_link_width>N/A", ("pcie", "width"), None),
    ],
)  # fmt: skip
def test_what_a_gpu_says_or_does_not_say(old: str, new: str, path: tuple[str, ...], value: Any) -> None:
    assert H100.count(old) >= 1
    found = nvidia_smi.parse(H100.replace(old, new))["devices"][0]
    for name in path:
        found = found[name]
    assert found == value


def test_a_process_name_keeps_no_secret_and_is_short() -> None:
    name = "serve --token=hf_abcdefghijklmnopqrstuvwxyz " + "x" * 500
    text = H100.replace("/opt/serve/bin/python3", name)
    (process,) = nvidia_smi.parse(text)["devices"][1]["processes"]
    assert "hf_abc" not in process["name"]
    assert len(process["name"]) <= nvidia_smi.MAX_NAME


def test_warnings_of_the_driver_may_stand_before() -> None:
    assert nvidia_smi.parse(f"WARNING: infoROM is corrupted at gpu 0000:19:00.0\n{H100}") == nvidia_smi.parse(H100)


BOMB = '<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "can't be read"),
        ("No devices were found\n", "can't be read"),
        (H100[: len(H100) // 2], "can't be read"),
        (H100.replace("<uuid>", "<uuid>\x00", 1), "can't be read"),
        ("<html></html>", "not its XML but <html>"),
        (f"<?xml version='1.0'?><!DOCTYPE x [{BOMB}]><nvidia_smi_log>&b;</nvidia_smi_log>", "declarations of its own"),
        (f"<?xml version='1.0'?><!DOCTYPE x SYSTEM 'y' [\n{BOMB}]><nvidia_smi_log/>", "declarations of its own"),
        ("<nvidia_smi_log>&unknown;</nvidia_smi_log>", "can't be read"),
        ("<nvidia_smi_log>\ud800</nvidia_smi_log>", "can't be read"),
        ("<a>" * 5000, "can't be read"),
    ],
)
def test_output_that_is_none_gives_an_error(text: str, said: str) -> None:
    found = nvidia_smi.parse(text)
    assert said in found.pop("error")
    assert found == NOTHING


def test_output_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia_smi, "MAX_BYTES", 1 << 20)
    assert nvidia_smi.parse(H100 + " " * (1 << 20))["error"] == "nvidia-smi: more than 1 MiB of output"


@given(st.integers(0, len(H100)), st.integers(0, 40), st.text(max_size=20))
def test_whatever_is_damaged_reading_does_not_fail(start: int, length: int, text: str) -> None:
    found = nvidia_smi.parse(H100[:start] + text + H100[start + length :])
    assert found.keys() == {"driver", "cuda", "devices", "error"}


# What CUDA_VISIBLE_DEVICES leaves

DEVICES = [{"index": index, "uuid": f"GPU-{letter}111-{letter}"} for index, letter in enumerate("aabc")]
DEVICES[1]["uuid"] = "GPU-a222-a"


@pytest.mark.parametrize(
    ("variable", "seen"),
    [
        (None, [0, 1, 2, 3]),
        ("2,0", [2, 0]),
        (" 1 , 3 ", [1, 3]),
        ("", []),
        ("-1", []),
        ("0,-1,1", [0]),
        ("0,4,1", [0]),  # what stands behind an invalid one does not count
        ("1,1", []),
        ("GPU-b111-b,0", [2, 0]),
        ("GPU-b", [2]),
        ("GPU-a1", [0]),
        ("GPU-a", []),  # of two
        ("GPU-", []),
        ("MIG-1", []),
        ("all", []),
    ],
)
def test_the_environment_hides_gpus(variable: str | None, seen: list[int]) -> None:
    assert [device["index"] for device in nvidia_smi.visible(DEVICES, variable)] == seen
