# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a node by itself: each fault, planted alone in a healthy fleet, gives its finding and no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from unit.fleets import fingerprints, gpu, plan_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import rules_health
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding

Fingerprint = dict[str, Any]
Fingerprints = dict[str, Fingerprint]


def examine(plan: dict[str, Any], prints: Fingerprints) -> list[Finding]:
    return [finding for rule in rules_health.RULES for finding in rule(plan, prints)]


def only(plan: dict[str, Any], prints: Fingerprints) -> Finding:
    (finding,) = examine(plan, prints)
    return finding


def fleet(size: int = 3, **changes: Any) -> tuple[dict[str, Any], Fingerprints]:
    plan = plan_of(size, **changes)
    return plan, fingerprints(plan)


def put(*path: Any, value: Any) -> Callable[[Fingerprint], None]:
    def change(fingerprint: Fingerprint) -> None:
        place: Any = fingerprint
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value

    return change


def gpu_has(index: int = 3, **values: Any) -> Callable[[Fingerprint], None]:
    def change(fingerprint: Fingerprint) -> None:
        fingerprint["gpus"]["devices"][index].update(values)

    return change


def without_limits(fingerprint: dict[str, Any]) -> None:
    """Where there are adapters, memlock_low says it."""
    fingerprint["limits"]["error"] = "systemd-run: it failed"
    fingerprint["infiniband"]["hcas"] = {}


LATE = "no answer within 10 s"
STORAGE = {"exists": True, "seen": True, "writable": True, "owner": None, "uid": None, "file_system": "", "error": LATE}
PROGRAM = {"pid": 4242, "name": "/usr/bin/python3", "memory_mib": 400}
PCIE = {"width": 16, "width_max": 16, "generation": 5, "generation_max": 5}

PLANTED = [
    ("probe_failed", "warning", put("system", "error", value=LATE), f"system: {LATE}"),
    ("probe_failed", "warning", put("libraries", "error", value="libcudart.so.13: no such file"), "libcudart.so.13"),
    ("probe_failed", "warning", put("nccl", "error", value="/etc/nccl.conf: Permission denied"), "/etc/nccl.conf"),
    ("probe_failed", "warning", put("release", "error", value=LATE), f"release: {LATE}"),
    ("probe_failed", "warning", put("room", "error", value=LATE), f"room: {LATE}"),
    ("probe_failed", "warning", put("storage", value=STORAGE), f"storage: {LATE}"),
    ("probe_failed", "warning", put("network", "error", value=LATE), f"network: {LATE}"),
    (
        "probe_failed",
        "warning",
        without_limits,
        "limits: systemd-run: it failed",
    ),
    (
        "probe_failed",
        "warning",
        put("infiniband", "stack", "error", value="ofed_info: late"),
        "adapters: ofed_info: late",
    ),
    ("probe_failed", "warning", put("errors", "runs", value=LATE), f"runs and ports: {LATE}"),
    ("driver_too_old", "error", put("gpus", "driver", value="575.57.08"), "driver 575.57.08"),
    (
        "nccl_library",
        "warning",
        put("libraries", "nccl", "path", value="/usr/lib/libnccl.so.2"),
        "NCCL 2.28.9 from /usr",
    ),
    ("gpu_mig", "error", gpu_has(mig="Enabled"), "GPU 3: MIG mode is enabled"),
    ("fabric_manager", "error", put("gpus", "fabric_manager", value="failed"), "failed"),
    ("fabric_manager", "error", gpu_has(fabric="In Progress"), "GPU 3: fabric state In Progress"),
    ("fabric_manager", "error", gpu_has(fabric="Completed, Failure"), "GPU 3: fabric state Completed, Failure"),
    (
        "gpu_in_use",
        "error",
        gpu_has(memory_used_mib=60000, processes=[PROGRAM]),
        "node1: GPU 3: 60000 of 81559 MiB in use by pid 4242 (/usr/bin/python3)",
    ),
    ("gpu_in_use", "error", gpu_has(memory_used_mib=5000), "in use by a process that is not shown"),
    ("gpu_in_use", "warning", gpu_has(memory_used_mib=500, processes=[PROGRAM]), "500 of 81559 MiB in use, pid 4242"),
    ("gpu_row_remap", "error", gpu_has(remap_pending=True), "GPU 3: row remapping is pending"),
    ("gpu_row_remap", "error", gpu_has(remap_failed=True, remap_pending=True), "GPU 3: row remapping has failed"),
    ("gpu_pcie", "warning", gpu_has(pcie={**PCIE, "width": 8}), "GPU 3: x8 of x16"),
    ("gpu_pcie", "warning", gpu_has(pcie={**PCIE, "generation": 4}), "GPU 3: generation 4 of 5"),
    (
        "gpu_throttle",
        "warning",
        gpu_has(throttle=["hw_slowdown", "hw_thermal_slowdown"]),
        "GPU 3: hw_slowdown, hw_thermal_slowdown",
    ),
    ("gpu_persistence", "warning", gpu_has(persistence="Disabled"), "GPU 3: persistence mode is disabled"),
    ("neighbour_table", "warning", put("room", "neighbours", "ipv4", value=3), "gc_thresh3 is 3"),
]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_healthy_fleet_has_no_findings(size: int) -> None:
    assert examine(*fleet(size)) == []


@pytest.mark.parametrize(("rule", "severity", "plant", "said"), PLANTED)
def test_what_is_planted_on_one_node_is_found_there_alone(
    rule: str, severity: str, plant: Callable[[Fingerprint], None], said: str
) -> None:
    plan, prints = fleet()
    plant(prints["node1"])
    finding = only(plan, prints)
    assert (finding.id, finding.severity, finding.hosts) == (rule, severity, ("node1",))
    assert said in finding.found
    assert finding.expected
    assert finding.remedy


@pytest.mark.parametrize(("rule", "severity", "plant", "said"), PLANTED)
def test_a_fault_that_several_nodes_have_is_one_finding(
    rule: str, severity: str, plant: Callable[[Fingerprint], None], said: str
) -> None:
    plan, prints = fleet(4)
    for node in ("node1", "node3"):
        plant(prints[node])
    assert only(plan, prints).hosts == ("node1", "node3")


def test_a_fault_of_several_gpus_is_one_finding() -> None:
    plan, prints = fleet()
    for index in (2, 5):
        gpu_has(index, persistence="Disabled")(prints["node0"])
    gpu_has(2, persistence="Disabled")(prints["node1"])
    assert [(finding.hosts, finding.found) for finding in examine(plan, prints)] == [
        (("node0",), "GPU 2, 5: persistence mode is disabled"),
        (("node1",), "GPU 2: persistence mode is disabled"),
    ]


@pytest.mark.parametrize("section", ["config", "devices", "gpus", "infiniband"])
def test_what_another_rule_states_is_not_said_twice(section: str) -> None:
    plan, prints = fleet()
    prints["node1"][section]["error"] = LATE
    assert examine(plan, prints) == []


# The driver and the libraries


@pytest.mark.parametrize(
    ("driver", "highest", "built_for", "lack"),
    [
        ("580.65.06", "13.0", "13.0", None),
        ("580", "13.0", "13.1", None),  # any minor version of the same major one
        ("575.57.08", "12.9", "13.0", "NVIDIA driver 580 or newer"),
        ("525.60.13", "12.0", "12.8", None),
        ("520.61.05", "11.8", "12.1", "NVIDIA driver 525 or newer"),
        ("450.80.02", "11.0", "11.8", None),
        ("450.51.06", "11.0", "11.8", "NVIDIA driver 450.80.02 or newer"),
        ("610.10", "14.0", "14.2", None),  # newer than the table
        ("580.95.05", "13.0", "14.0", "a driver that supports CUDA 14"),
        ("580.95.05", None, "14.0", None),
        ("575.57.08", "12.9", None, None),  # a torch without CUDA
        (None, None, "13.0", None),
    ],
)
def test_the_driver_must_know_the_cuda_of_torch(
    driver: str | None, highest: str | None, built_for: str | None, lack: str | None
) -> None:
    plan, prints = fleet(2)
    for fingerprint in prints.values():
        fingerprint["gpus"].update(driver=driver, cuda=highest)
        fingerprint["libraries"]["torch_cuda"] = built_for
    found = examine(plan, prints)
    assert [finding.id for finding in found] == (["driver_too_old"] if lack else [])
    assert all(
        finding.expected == f"{lack}, since the release's torch is built for CUDA {built_for}" for finding in found
    )


@pytest.mark.parametrize(
    ("path", "wrong"),
    [("/usr/local/cuda-13.0/compat", 0), ("/opt/a:/usr/local/cuda/compat:/b", 0), ("/opt/compatible/lib", 1)],
)
def test_a_user_mode_driver_of_cuda_compat_may_be_newer(path: str, wrong: int) -> None:
    plan, prints = fleet(2, environment={"LD_LIBRARY_PATH": path})
    for fingerprint in prints.values():
        fingerprint["gpus"]["driver"] = "535.183.01"
    assert len(examine(plan, prints)) == wrong


def test_a_folder_whose_name_begins_like_the_release_is_not_the_release() -> None:
    plan, prints = fleet(1)
    prints["node0"]["libraries"]["nccl"]["path"] = f"{plan['nodes']['node0']['paths']['release']}-old/libnccl.so.2"
    assert only(plan, prints).id == "nccl_library"


def test_without_nccl_there_is_nothing_to_say_of_it() -> None:
    plan, prints = fleet(1)
    prints["node0"]["libraries"].update(torch_cuda=None, nccl=None)
    assert examine(plan, prints) == []


# Which GPUs count


def test_gpus_that_no_trainer_uses_do_not_count() -> None:
    plan, prints = fleet(2, nproc_per_node=4)
    gpu_has(4, memory_used_mib=80000, processes=[PROGRAM], remap_failed=True, mig="Enabled")(prints["node1"])
    assert {finding.id for finding in examine(plan, prints)} == {"gpu_unused"}
    gpu_has(3, remap_failed=True)(prints["node1"])
    (other,) = [finding for finding in examine(plan, prints) if finding.id != "gpu_unused"]
    assert other.found == "GPU 3: row remapping has failed"


def test_gpus_without_a_trainer_are_named_once_for_the_nodes_that_have_them() -> None:
    plan, prints = fleet(3)
    assert examine(plan, prints) == []
    prints["node2"]["gpus"]["devices"] += [gpu(8, "node2"), gpu(9, "node2")]
    finding = only(plan, prints)
    assert (finding.id, finding.severity, finding.hosts) == ("gpu_unused", "warning", ("node2",))
    assert finding.found == "8 of 10 GPUs get one"


def test_nodes_that_share_a_machine_share_its_gpus() -> None:
    plan, prints = fleet(2, machine="one", nproc_per_node=4)
    assert examine(plan, prints) == []
    plan, prints = fleet(2, machine="one", nproc_per_node=3)
    assert only(plan, prints).found == "6 of 8 GPUs get one"


@pytest.mark.parametrize("value", ["0,1,2,3", "MIG-1/2/3,MIG-4/5/6"])
def test_gpus_that_are_named_are_the_ones_that_are_meant(value: str) -> None:
    plan, prints = fleet(2, nproc_per_node=4, environment={"CUDA_VISIBLE_DEVICES": value})
    assert examine(plan, prints) == []


def test_those_that_the_environment_names_are_used() -> None:
    plan, prints = fleet(2, nproc_per_node=2, environment={"CUDA_VISIBLE_DEVICES": "6,7"})
    gpu_has(0, remap_failed=True)(prints["node0"])
    gpu_has(7, remap_failed=True)(prints["node1"])
    finding = only(plan, prints)
    assert (finding.hosts, finding.found) == (("node1",), "GPU 7: row remapping has failed")


@pytest.mark.parametrize(("value", "left"), [("0,1,2", 3), ("", 0), ("0,9,1,2,3", 1), ("1,1,2,3", 0), ("-1", 0)])
def test_an_environment_that_hides_too_many_gpus(value: str, left: int) -> None:
    plan, prints = fleet(2, nproc_per_node=4, environment={"CUDA_VISIBLE_DEVICES": value})
    finding = only(plan, prints)
    assert (finding.id, finding.severity, finding.hosts) == ("gpu_hidden", "error", ("node0", "node1"))
    assert finding.found == f"CUDA_VISIBLE_DEVICES={value} leaves {left} of 8 GPUs"


def test_parts_of_gpus_may_be_handed_out_on_purpose() -> None:
    plan, prints = fleet(1, nproc_per_node=1, environment={"CUDA_VISIBLE_DEVICES": "MIG-3f1"})
    gpu_has(0, mig="Enabled")(prints["node0"])
    assert examine(plan, prints) == []


def test_a_run_of_our_own_may_use_the_gpus() -> None:
    plan, prints = fleet()
    gpu_has(memory_used_mib=80000, processes=[PROGRAM])(prints["node1"])
    prints["node1"]["active_runs"] = {"20260101T000000Z-old": ""}
    assert examine(plan, prints) == []


def test_a_full_gpu_counts_more_than_one_that_is_shared() -> None:
    plan, prints = fleet()
    gpu_has(0, processes=[PROGRAM])(prints["node1"])
    gpu_has(5, memory_used_mib=80000)(prints["node1"])
    assert (only(plan, prints).severity, only(plan, prints).hosts) == ("error", ("node1",))


def test_an_idle_gpu_may_lower_its_link() -> None:
    plan, prints = fleet(1)
    gpu_has(pcie={**PCIE, "generation": 1}, performance_state="P8")(prints["node0"])
    assert examine(plan, prints) == []


def test_nvswitches_without_systemd_are_judged_by_the_gpus() -> None:
    plan, prints = fleet(2)
    for fingerprint in prints.values():
        fingerprint["gpus"]["fabric_manager"] = None
    assert examine(plan, prints) == []


def test_a_stopped_fabric_manager_is_not_said_twice() -> None:
    plan, prints = fleet(1)
    prints["node0"]["gpus"]["fabric_manager"] = "inactive"
    gpu_has(fabric="Not Started")(prints["node0"])
    assert only(plan, prints).found == "inactive"


# Room


@pytest.mark.parametrize(("size", "entries", "wrong"), [(513, 1024, False), (514, 1024, True), (514, 1026, False)])
def test_the_neighbour_table_must_hold_twice_the_peers(size: int, entries: int, wrong: bool) -> None:
    plan = plan_of(2)
    plan["nodes"] = dict.fromkeys((f"node{number}" for number in range(size)), plan["nodes"]["node0"])
    node = fingerprints(plan_of(1))["node0"]
    node["room"]["neighbours"]["ipv4"] = entries
    assert [finding.id for finding in examine(plan, {"node0": node})] == (["neighbour_table"] if wrong else [])


def test_the_table_of_the_addresses_in_use_counts() -> None:
    plan, prints = fleet(3)
    prints["node1"]["room"]["neighbours"] = {"ipv4": 2, "ipv6": 4096}
    prints["node1"]["network"]["address"]["resolved"] = ["2001:db8::2"]
    assert examine(plan, prints) == []
    prints["node1"]["room"]["neighbours"] = {"ipv4": 4096, "ipv6": 2}
    assert only(plan, prints).found == "net.ipv6.neigh.default.gc_thresh3 is 2"


def test_on_cpu_nothing_is_asked_of_gpus() -> None:
    plan, prints = fleet(2, accelerator="cpu", nproc_per_node=1)
    for fingerprint in prints.values():
        fingerprint["gpus"].update(driver=None, devices=[], nvswitch=None, fabric_manager=None)
        fingerprint["libraries"].update(torch_cuda=None, cuda_runtime=None, cudnn=None, nccl=None)
    assert examine(plan, prints) == []


def test_a_plan_without_a_release_can_be_examined() -> None:
    plan, prints = fleet(2)
    for part in plan["nodes"].values():
        part.update(start=None, paths={**part["paths"], "release": None})
    assert examine(plan, prints) == []
