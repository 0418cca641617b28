# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each row of the table, planted alone on one node, is named there with both values, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.fleets import fingerprints, plan_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import rule_table, rules_parity, rules_preflight
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import WARNING
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.setting_types import InvalidValue

Fingerprint = dict[str, Any]
Change = Callable[[Fingerprint], None]
GIB = 1 << 30


def put(*path: str, value: Any) -> Change:
    def change(fingerprint: Fingerprint) -> None:
        for name in path[:-1]:
            fingerprint = fingerprint[name]
        fingerprint[path[-1]] = value

    return change


def each_gpu(name: str, value: Any) -> Change:
    def change(fingerprint: Fingerprint) -> None:
        for gpu in fingerprint["gpus"]["devices"]:
            gpu[name] = value

    return change


def one_gpu(name: str, value: Any) -> Change:
    return lambda fingerprint: fingerprint["gpus"]["devices"][3].update({name: value})


EIGHT_GPUS = {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}
"""Those that are meant, so that a GPU more is none that somebody forgot."""


def two_more_gpus(fingerprint: Fingerprint) -> None:
    fingerprint["gpus"]["devices"] += fingerprint["gpus"]["devices"][:2]


def nccl(name: str, value: str, source: str) -> Change:
    return lambda fingerprint: fingerprint["nccl"]["settings"].update({name: {"value": value, "source": source}})


def shm(size: int, free: int) -> Change:
    return put("room", "shm", value={"size_bytes": size, "free_bytes": free})


PLANTED: list[tuple[str, Change, str, str]] = [
    ("commit", put("release", "commit", value="f" * 40), "0123456789", "f" * 40),
    (
        "submodules",
        put("release", "submodules", value=[{"path": "kernels", "commit": "abc", "state": " "}]),
        "kernels not set",
        "kernels=abc",
    ),
    ("lock", put("release", "lock_sha256", value="b" * 64), "a" * 64, "b" * 64),
    ("python", put("release", "python_version", value="3.11.9"), "Python 3.11.7", "Python 3.11.9"),
    ("torch", put("release", "torch_version", value="2.12.0"), "torch 2.13.0", "torch 2.12.0"),
    ("torch_cuda", put("libraries", "torch_cuda", value="12.8"), "CUDA 13.0", "CUDA 12.8"),
    ("cuda_runtime", put("libraries", "cuda_runtime", value="12.8"), "runtime 13.0", "runtime 12.8"),
    ("cudnn", put("libraries", "cudnn", value="9.8.0"), "cuDNN 9.15.1", "cuDNN 9.8.0"),
    ("nccl", put("libraries", "nccl", "version", value="2.21.5"), "NCCL 2.28.9", "NCCL 2.21.5"),
    (
        "nccl_settings",
        nccl("NCCL_ALGO", "Ring", "/etc/nccl.conf"),
        "NCCL_ALGO not set",
        "NCCL_ALGO=Ring (/etc/nccl.conf)",
    ),
    ("architecture", put("system", "architecture", value="aarch64"), "x86_64", "aarch64"),
    ("os", put("system", "os", value="Debian GNU/Linux 12"), "Ubuntu 24.04.2 LTS", "Debian GNU/Linux 12"),
    ("kernel", put("system", "kernel", value="6.8.0-99"), "6.8.0-60-generic", "6.8.0-99"),
    ("glibc", put("system", "glibc", value="2.36"), "2.39", "2.36"),
    ("driver", put("gpus", "driver", value="580.65.06"), "580.95.05", "580.65.06"),
    ("gpu_model", each_gpu("name", "NVIDIA H200"), "NVIDIA H100 80GB HBM3", "NVIDIA H200"),
    ("gpu_model", one_gpu("name", "NVIDIA H200"), "NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3, NVIDIA H200"),
    ("gpu_count", two_more_gpus, "8 x NVIDIA H100", "10 x NVIDIA H100 80GB HBM3"),
    ("gpu_memory", one_gpu("memory_mib", 40000), "81559", "40000, 81559"),
    ("gpu_ecc", one_gpu("ecc", "Disabled"), "Enabled", "Disabled, Enabled"),
    (
        "fabric_stack",
        put("infiniband", "stack", value={"name": "doca", "version": "3.2.0", "error": None}),
        "doca 25.10-1.7.1",
        "doca 3.2.0",
    ),
    (
        "hca_firmware",
        put("infiniband", "hcas", "mlx5_0", "firmware", value="28.39.1002"),
        "MT4129 28.41.1000",
        "adapter firmware MT4129 28.39.1002, MT4129 28.41.1000",
    ),
    ("open_files", put("limits", "open_files", value={"soft": 1024, "hard": 1024}), "open files", "open files 1024"),
    ("shm_small", shm(64 << 20, 64 << 20), "at least 1.0 GiB free in /dev/shm", "64 MiB, 64 MiB free"),
    ("shm_small", shm(8 * GIB, 0), "at least 1.0 GiB free in /dev/shm", "8.0 GiB, 0 MiB free"),
    (
        "disk_low",
        put("room", "output_dir", "free_bytes", value=3 * GIB),
        "at least 10.0 GiB free where the run writes its checkpoints",
        "3.0 GiB at /opt/axolotl/work/out",
    ),
    (
        "disk_low",
        lambda fingerprint: fingerprint["room"].update(output_dir=None, root={"path": "/opt/axolotl", "free_bytes": 0}),
        "at least 10.0 GiB free",
        "0 MiB at /opt/axolotl",
    ),
]
WARNINGS = {"os", "kernel", "glibc", "fabric_stack", "hca_firmware", "open_files", "shm_small"}


@pytest.mark.parametrize(("rule", "plant", "expected", "said"), PLANTED)
def test_a_difference_is_found_alone(rule: str, plant: Change, expected: str, said: str) -> None:
    plan = plan_of(3, environment=EIGHT_GPUS)
    prints = fingerprints(plan)
    plant(prints["node1"])
    (finding,) = rules_preflight.examine(plan, prints)
    assert (finding.id, finding.hosts) == (rule, ("node1",))
    assert expected in finding.expected
    assert finding.found.endswith(said)
    assert finding.remedy
    assert (finding.severity == WARNING) == (rule in WARNINGS)


def test_every_row_is_planted() -> None:
    assert {rule for rule, *_rest in PLANTED} == {row.id for row in rules_parity.ROWS}


@pytest.mark.parametrize("rule", ["driver", "gpu_model", "kernel", "gpu_memory"])
def test_what_belongs_to_hardware_may_differ_between_groups(rule: str) -> None:
    plan = plan_of(4)
    prints = fingerprints(plan)
    (plant,) = [plant for name, plant, *_rest in PLANTED if name == rule][:1]
    for node in ("node2", "node3"):
        plan["nodes"][node]["group"] = "h200"
        plant(prints[node])
    assert rules_preflight.examine(plan, prints) == []
    plan["nodes"]["node3"]["group"] = ""
    assert {finding.hosts for finding in rules_preflight.examine(plan, prints)} == {("node3",)}


@pytest.mark.parametrize("name", sorted(rules_parity.PER_NODE))
def test_what_names_a_nodes_own_things_may_differ(name: str) -> None:
    plan = plan_of(3)
    prints = fingerprints(plan)
    nccl(name, "x", "environment")(prints["node1"])
    assert rule_table.examine(rules_parity.ROWS, plan, prints)[0] == []


def test_many_variables_are_counted() -> None:
    plan = plan_of(3)
    prints = fingerprints(plan)
    for number in range(8):
        nccl(f"NCCL_V{number}", "1", "/etc/nccl.conf")(prints["node1"])
    (finding,) = rules_preflight.examine(plan, prints)
    assert finding.found.endswith("NCCL_V4=1 (/etc/nccl.conf) and 3 more")


@pytest.mark.parametrize(
    "value", [{"drivers": "580"}, {"commit": "f" * 40}, [], "driver", {"disk_low": "5 GiB"}, {"disk_low": None}]
)
def test_what_can_not_be_pinned(value: Any) -> None:
    with pytest.raises(InvalidValue):
        rules_parity.pinned(value)


def test_what_can_be_pinned() -> None:
    assert rules_parity.pinned({"driver": "580.65.06"}) == {"driver": "580.65.06"}


def test_more_room_can_be_asked_for_and_less() -> None:
    plan = plan_of(3)
    prints = fingerprints(plan)
    prints["node1"]["room"]["output_dir"]["free_bytes"] = 5 * GIB
    plan["parity"]["pinned"] = rules_parity.pinned({"disk_low": 4 * GIB})
    assert rules_preflight.examine(plan, prints) == []
    plan["parity"]["pinned"] = rules_parity.pinned({"disk_low": 4 << 40})
    (finding,) = rules_preflight.examine(plan, prints)
    assert (finding.id, finding.hosts) == ("disk_low", ("node0", "node1", "node2"))
    assert finding.found.startswith("node0: 3072.0 GiB at /opt/axolotl/work/out; node1: 5.0 GiB")


def test_a_cpu_run_needs_no_shm() -> None:
    plan = plan_of(2, accelerator="cpu", nproc_per_node=1)
    prints = fingerprints(plan)
    shm(64 << 20, 64 << 20)(prints["node1"])
    assert rule_table.examine(rules_parity.ROWS, plan, prints)[0] == []


@given(st.permutations(range(4)))
def test_the_order_of_the_nodes_does_not_matter(order: list[int]) -> None:
    plan = plan_of(4)
    prints = fingerprints(plan)
    for node, (_rule, plant, *_rest) in zip(prints, PLANTED[3:], strict=False):
        plant(prints[node])
    nodes = list(prints)
    shuffled = {nodes[position]: prints[nodes[position]] for position in order}
    assert set(rules_preflight.examine(plan, shuffled)) == set(rules_preflight.examine(plan, prints))
