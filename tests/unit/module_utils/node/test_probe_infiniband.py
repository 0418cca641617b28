# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adapters are read as the kernel shows them; what is not there is no error."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from unit import sysfs

from ansible_collections.gpufleet.axolotl.plugins.module_utils.node import bounded, probe_infiniband

KERNEL = "0000000000000000 T ib_dereg_mr_user\t[ib_core]\n0000000000000000 T ib_umem_dmabuf_get\t[ib_uverbs]\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build"
PROPRIETARY = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2025"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "sys"


def read(tree: Path) -> dict[str, Any]:
    return probe_infiniband.read(str(tree), str(tree.parent / "proc"))


def test_a_host_without_adapters(tree: Path) -> None:
    found = read(tree)
    assert (found["hcas"], found["verbs"], found["unclaimed"], found["gpudirect"], found["error"]) == (
        {},
        False,
        [],
        None,
        None,
    )
    assert not any(found["modules"].values())


def test_an_infiniband_adapter(tree: Path) -> None:
    hca = sysfs.adapter(tree, "mlx5_0", address="0000:19:00.0", numa_node=1, netdev="ib0")
    sysfs.gid(sysfs.port(hca), 0, "fe80::e8eb:d303:ad:1")
    sysfs.port(hca, 2, state="1: DOWN", phys_state="3: Disabled", rate="10 Gb/sec (4X SDR)")
    (adapter,) = read(tree)["hcas"].values()
    ports = adapter.pop("ports")
    assert adapter == {
        "firmware": "28.41.1000",
        "kind": "MT4129",
        "numa_node": 1,
        "pci": "0000:19:00.0",
        "netdevs": ["ib0"],
    }
    assert ports == {
        "1": {
            "state": "ACTIVE",
            "phys_state": "LinkUp",
            "rate": "400 Gb/sec (4X NDR)",
            "gbits": 400.0,
            "link_layer": "InfiniBand",
            "gids": [],
        },
        "2": {
            "state": "DOWN",
            "phys_state": "Disabled",
            "rate": "10 Gb/sec (4X SDR)",
            "gbits": 10.0,
            "link_layer": "InfiniBand",
            "gids": [],
        },
    }


def test_the_gids_of_a_roce_adapter(tree: Path) -> None:
    port = sysfs.port(sysfs.adapter(tree, "mlx5_0"), link_layer="Ethernet", rate="2.5 Gb/sec (1X SDR)")
    sysfs.gid(port, 0, "fe80::1", "IB/RoCE v1", "ens1f0")
    sysfs.gid(port, 10, "198.51.100.11", "RoCE v2", "ens1f0.7")
    sysfs.gid(port, 3, "198.51.100.11", "IB/RoCE v1", "ens1f0.7")
    sysfs.gid(port, 11)
    sysfs.gid(port, 12, "2001:db8::5", "RoCE v2", "ens1f0")
    (adapter,) = read(tree)["hcas"].values()
    assert adapter["ports"]["1"]["gbits"] == 2.5
    assert adapter["ports"]["1"]["gids"] == [
        {"index": 0, "address": "fe80::1", "type": "IB/RoCE v1", "netdev": "ens1f0"},
        {"index": 3, "address": "198.51.100.11", "type": "IB/RoCE v1", "netdev": "ens1f0.7"},
        {"index": 10, "address": "198.51.100.11", "type": "RoCE v2", "netdev": "ens1f0.7"},
        {"index": 12, "address": "2001:db8::5", "type": "RoCE v2", "netdev": "ens1f0"},
    ]


def test_what_is_missing_or_odd_is_none(tree: Path) -> None:
    port = sysfs.port(
        sysfs.adapter(tree, "odd0", numa_node=-1), state="?", rate="unknown", counters={"link_downed": "N/A"}
    )
    (port / "phys_state").unlink()
    (tree / "class/infiniband/odd0/fw_ver").unlink()
    (tree / "class/infiniband/odd0/device").unlink()
    (adapter,) = read(tree)["hcas"].values()
    assert (adapter["firmware"], adapter["numa_node"], adapter["pci"]) == (None, None, None)
    facts = adapter["ports"]["1"]
    assert (facts["state"], facts["phys_state"], facts["gbits"]) == (None, None, None)
    assert probe_infiniband.ErrorWatch(str(tree)).close()["total"] == {}


def test_modules_and_verbs(tree: Path) -> None:
    for name in ("module/mlx5_ib", "module/ib_uverbs", "class/infiniband_verbs/uverbs0"):
        (tree / name).mkdir(parents=True)
    found = read(tree)
    assert {name for name, loaded in found["modules"].items() if loaded} == {"mlx5_ib", "ib_uverbs"}
    assert found["verbs"]


def test_a_controller_whose_driver_is_missing(tree: Path) -> None:
    sysfs.adapter(tree, "mlx5_0", address="0000:19:00.0")
    sysfs.adapter(tree, "mlx5_1", address="0000:3b:00.0")
    assert read(tree)["unclaimed"] == []
    shutil.rmtree(tree / "devices/0000:3b:00.0/infiniband")  # as when mlx5_core is loaded and mlx5_ib is not
    (tree / "class/infiniband/mlx5_1").unlink()
    sysfs.write(tree / "bus/pci/devices/0000:5e:00.0", **{"class": "0x020000"})  # a plain network card
    # Two that are passed on to virtual machines
    sysfs.write(tree / "bus/pci/devices/0000:3b:00.1", **{"class": "0x020700"}, physfn__class="0x020700")
    vfio = sysfs.write(tree / "bus/pci/devices/0000:3b:00.2", **{"class": "0x020700"})
    (tree / "bus/pci/drivers/vfio-pci").mkdir(parents=True)
    (vfio / "driver").symlink_to(tree / "bus/pci/drivers/vfio-pci")
    assert read(tree)["unclaimed"] == ["0000:3b:00.0"]


@pytest.mark.parametrize(
    ("peermem", "kernel", "driver", "expected"),
    [
        ("", "", "", {"peermem": False, "dmabuf": False, "open_driver": None}),
        ("", KERNEL, OPEN, {"peermem": False, "dmabuf": True, "open_driver": True}),
        ("", KERNEL, PROPRIETARY, {"peermem": False, "dmabuf": True, "open_driver": False}),
        ("module__nvidia_peermem__version", "", OPEN, {"peermem": True, "dmabuf": False, "open_driver": True}),
        ("kernel__mm__memory_peers__nv_mem__version", "", "", {"peermem": True, "dmabuf": False, "open_driver": None}),
    ],
)
def test_ways_between_gpu_and_adapter(
    tree: Path, peermem: str, kernel: str, driver: str, expected: dict[str, Any]
) -> None:
    sysfs.adapter(tree, "mlx5_0")
    proc = tree.parent / "proc"
    if peermem:
        sysfs.write(tree, **{peermem: "580.95.05"})
    if kernel:
        sysfs.write(proc, kallsyms=kernel)
    if driver:
        sysfs.write(proc, driver__nvidia__version=driver)
    assert read(tree)["gpudirect"] == expected


def test_counters_that_rise_meanwhile(tree: Path) -> None:
    hca = sysfs.adapter(tree, "mlx5_0")
    port = sysfs.port(hca, counters={"symbol_error": 7, "link_downed": 2, "port_xmit_wait": 10**9})
    sysfs.write(port / "hw_counters", packet_seq_err=1)
    watch = probe_infiniband.ErrorWatch(str(tree))
    sysfs.write(port / "counters", symbol_error=19, port_xmit_wait=2 * 10**9, link_downed=0)  # one was reset
    sysfs.write(port / "hw_counters", packet_seq_err=4)
    found = watch.close()
    assert found["seconds"] >= 0
    assert found["total"] == {"mlx5_0": {"1": {"symbol_error": 19, "packet_seq_err": 4}}}
    assert found["rising"] == {"mlx5_0": {"1": {"symbol_error": 12, "packet_seq_err": 3}}}


def test_an_adapter_that_does_not_answer(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sysfs.port(sysfs.adapter(tree, "mlx5_0")) / "rate"
    path.unlink()
    os.mkfifo(path)  # whose reader waits for ever
    monkeypatch.setattr(probe_infiniband, "PATIENCE", 0.2)
    found = read(tree)
    assert found["hcas"] == {}
    assert "no answer within" in found["error"]


def test_a_call_that_is_limited_hands_on_what_happens() -> None:
    assert bounded.within(5, max, 1, 2) == 2
    with pytest.raises(ValueError, match="invalid literal"):
        bounded.within(5, int, "x")
    with pytest.raises(bounded.TookTooLong):
        bounded.within(0.05, threading.Event().wait)
