# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is derived is what the node is made of; what is set by hand stays."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from unit.fleets import data_network, fingerprints, infiniband_port, plan_of, roce_port

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import nccl_settings

ON_INFINIBAND = {
    "GLOO_SOCKET_IFNAME": "ib0",
    "NCCL_SOCKET_IFNAME": "=ib0",
    "NCCL_IB_HCA": "=mlx5_0,mlx5_1",
    "NCCL_IB_DISABLE": "0",
}


def values(plan: dict[str, Any], prints: dict[str, Any], node: str = "node1") -> dict[str, str]:
    return {name: found.value for name, found in nccl_settings.derive(plan, prints)[node].items()}


def fleet(size: int = 2, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    plan = plan_of(size, **changes)
    return plan, fingerprints(plan)


def test_a_node_on_infiniband() -> None:
    plan, prints = fleet()
    assert values(plan, prints) == values(plan, prints, "node0") == ON_INFINIBAND
    derived = nccl_settings.derive(plan, prints)["node1"]
    assert derived["GLOO_SOCKET_IFNAME"].reason == "it carries node1, the node's address"
    assert derived["NCCL_IB_HCA"].reason == "active InfiniBand ports, 400 Gb/sec (4X NDR)"


def test_each_node_has_its_own_names() -> None:
    plan, prints = fleet()
    network = prints["node1"]["network"]
    network["interfaces"]["ibs9"] = network["interfaces"].pop("ib0")
    network["address"]["interface"] = network["head"]["interface"] = "ibs9"
    known = prints["node1"]["infiniband"]["hcas"]
    known["ibp1s0"] = known.pop("mlx5_0")
    assert values(plan, prints, "node0") == ON_INFINIBAND
    assert values(plan, prints)["NCCL_SOCKET_IFNAME"] == "=ibs9"
    assert values(plan, prints)["NCCL_IB_HCA"] == "=ibp1s0,mlx5_1"


def test_adapters_are_in_their_order() -> None:
    plan, prints = fleet()
    prints["node1"].update(data_network(plan, "node1", hcas=12))
    assert values(plan, prints)["NCCL_IB_HCA"] == "=" + ",".join(f"mlx5_{index}" for index in range(12))


def test_only_active_ports_with_the_fleets_link_layer_are_named() -> None:
    plan, prints = fleet()
    for fingerprint in prints.values():
        known = fingerprint["infiniband"]["hcas"]
        known["mlx5_2"] = {**known["mlx5_0"], "ports": {"1": infiniband_port(state="DOWN")}}
        known["mlx5_3"] = {**known["mlx5_0"], "ports": {"1": roce_port("203.0.113.9", netdev="storage0")}}
        known["mlx5_4"] = {**known["mlx5_0"], "ports": {"1": infiniband_port(state="DOWN"), "2": infiniband_port()}}
    assert values(plan, prints)["NCCL_IB_HCA"] == "=mlx5_0,mlx5_1,mlx5_4:2"


def test_on_cpu_the_trainers_meet_over_gloo_alone() -> None:
    plan, prints = fleet(accelerator="cpu")
    assert values(plan, prints) == {"GLOO_SOCKET_IFNAME": "ib0"}


def test_a_node_without_adapters() -> None:
    plan, prints = fleet()
    for fingerprint in prints.values():
        fingerprint["infiniband"]["hcas"] = {}
    assert values(plan, prints) == {"GLOO_SOCKET_IFNAME": "ib0", "NCCL_SOCKET_IFNAME": "=ib0"}


def test_nodes_that_share_a_machine_meet_on_the_loopback() -> None:
    plan, prints = fleet(machine="one", accelerator="cpu", nproc_per_node=4, address="127.0.0.1")
    for fingerprint in prints.values():
        fingerprint["network"]["address"].update(resolved=["127.0.0.1"], interface="lo")
    assert values(plan, prints) == {"GLOO_SOCKET_IFNAME": "lo"}


def test_a_name_that_leads_to_the_loopback_leaves_the_way_to_the_head() -> None:
    plan, prints = fleet()
    for fingerprint in prints.values():
        fingerprint["network"]["address"].update(resolved=["127.0.1.1"], interface="lo")
    derived = nccl_settings.derive(plan, prints)
    assert derived["node1"]["GLOO_SOCKET_IFNAME"] == ("ib0", "it leads to the head, node0")
    assert "GLOO_SOCKET_IFNAME" not in derived["node0"]  # the head itself: preflight has said why


def test_what_is_set_by_hand_stays() -> None:
    by_hand = {"NCCL_IB_HCA": "mlx5", "GLOO_SOCKET_IFNAME": "eth0", "NCCL_IB_DISABLE": "0"}
    plan, prints = fleet(environment=by_hand)
    assert values(plan, prints) == {"NCCL_SOCKET_IFNAME": "=ib0"}
    environment = nccl_settings.completed(plan, prints)["nodes"]["node1"]["start"]["environment"]
    assert by_hand.items() <= environment.items()


@pytest.mark.parametrize("by_hand", [{"NCCL_IB_DISABLE": "1"}, {"NCCL_NET": "Socket"}])
def test_where_infiniband_is_switched_off_by_hand_no_adapter_is_named(by_hand: dict[str, str]) -> None:
    plan, prints = fleet(environment=by_hand)
    assert values(plan, prints) == {"GLOO_SOCKET_IFNAME": "ib0", "NCCL_SOCKET_IFNAME": "=ib0"}


def test_the_settings_of_a_node() -> None:
    plan, prints = fleet(interface="eth0", hcas=["mlx5_1:1"])
    assert values(plan, prints) == {
        "GLOO_SOCKET_IFNAME": "eth0",
        "NCCL_SOCKET_IFNAME": "=eth0",
        "NCCL_IB_HCA": "=mlx5_1:1",
        "NCCL_IB_DISABLE": "0",
    }
    derived = nccl_settings.derive(plan, prints)["node1"]
    assert derived["NCCL_IB_HCA"].reason == "axolotl_hcas names them"
    assert derived["GLOO_SOCKET_IFNAME"].reason == "axolotl_interface names it"


def test_an_empty_list_of_adapters_switches_them_off() -> None:
    plan, prints = fleet(hcas=[])
    assert values(plan, prints)["NCCL_IB_DISABLE"] == "1"
    assert "NCCL_IB_HCA" not in values(plan, prints)


# RoCE


def on_roce(**rails: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two nodes whose data address is on eth1 of mlx5_0, each with these ports instead of those on InfiniBand."""
    plan, prints = fleet()
    for fingerprint in prints.values():
        network = fingerprint["network"]
        network["interfaces"]["eth1"] = network["interfaces"].pop("ib0")
        network["address"]["interface"] = "eth1"
        known = fingerprint["infiniband"]["hcas"]
        template = known["mlx5_0"]
        known.clear()
        known.update({name: {**template, "ports": {"1": facts}} for name, facts in rails.items()})
    return plan, prints


def test_the_gid_that_carries_the_data_address() -> None:
    plan, prints = on_roce(mlx5_0=roce_port("203.0.113.7", "198.51.100.2", netdev="eth1"))
    found = values(plan, prints)
    assert (found["NCCL_IB_HCA"], found["NCCL_IB_GID_INDEX"]) == ("=mlx5_0", "5")
    reason = nccl_settings.derive(plan, prints)["node1"]["NCCL_IB_GID_INDEX"].reason
    assert reason == "the RoCE v2 GID that carries 198.51.100.2"


def test_one_index_must_serve_all_ports() -> None:
    rail = roce_port("198.51.100.2", netdev="eth1")
    plan, prints = on_roce(mlx5_0=rail, mlx5_1=roce_port("203.0.113.2", netdev="eth2"))
    assert values(plan, prints)["NCCL_IB_HCA"] == "=mlx5_0,mlx5_1"
    assert values(plan, prints)["NCCL_IB_GID_INDEX"] == "3"
    plan, prints = on_roce(mlx5_0=rail, mlx5_1=roce_port("203.0.113.2", netdev="eth2", first=7))
    assert values(plan, prints)["NCCL_IB_HCA"] == "=mlx5_0,mlx5_1"
    assert "NCCL_IB_GID_INDEX" not in values(plan, prints)


def test_an_ipv6_address() -> None:
    plan, prints = on_roce(mlx5_0=roce_port("203.0.113.7", "2001:db8::2", netdev="eth1"))
    for fingerprint in prints.values():
        fingerprint["network"]["interfaces"]["eth1"]["addresses"] = ["2001:db8::2/64", "fe80::1/64"]
    assert values(plan, prints)["NCCL_IB_GID_INDEX"] == "5"


@pytest.mark.parametrize("netdev", ["eth0", "eth5"])
def test_an_adapter_of_the_login_or_without_an_address_is_left_out(netdev: str) -> None:
    other = roce_port("192.0.2.2", netdev="eth0") if netdev == "eth0" else roce_port(netdev=netdev)
    plan, prints = on_roce(mlx5_0=roce_port("198.51.100.2", netdev="eth1"), mlx5_1=other)
    assert values(plan, prints)["NCCL_IB_HCA"] == "=mlx5_0"


def test_an_adapter_of_the_default_route_is_left_out_unless_it_has_the_data_address() -> None:
    rail, frontend = roce_port("198.51.100.2", netdev="eth1"), roce_port("203.0.113.2", netdev="eth2")
    plan, prints = on_roce(mlx5_0=rail, mlx5_1=frontend)
    for fingerprint in prints.values():
        fingerprint["network"].update(login=None, default_route="eth2")
    assert values(plan, prints)["NCCL_IB_HCA"] == "=mlx5_0"
    for fingerprint in prints.values():
        fingerprint["network"].update(login=None, default_route="eth1")
    assert values(plan, prints)["NCCL_IB_HCA"] == "=mlx5_0,mlx5_1"


def test_an_adapter_of_a_management_network_is_left_out() -> None:
    plan, prints = on_roce(
        mlx5_0=roce_port("198.51.100.2", netdev="eth1"), mlx5_1=roce_port("203.0.113.2", netdev="eth2")
    )
    plan["management_networks"] = ["203.0.113.0/24"]
    assert values(plan, prints)["NCCL_IB_HCA"] == "=mlx5_0"


def test_the_only_adapter_carries_the_training_though_it_carries_the_login() -> None:
    plan, prints = on_roce(mlx5_0=roce_port("198.51.100.2", netdev="eth1"))
    for fingerprint in prints.values():
        fingerprint["network"].update(login="eth1", default_route="eth1")
    assert values(plan, prints)["NCCL_IB_HCA"] == "=mlx5_0"


# The plan


def test_the_completed_plan_has_it_all() -> None:
    plan, prints = fleet()
    before = copy.deepcopy(plan)
    complete = nccl_settings.completed(plan, prints)
    assert plan == before
    for node in plan["nodes"]:
        part = complete["nodes"][node]
        assert {name: found["value"] for name, found in part["derived"].items()} == ON_INFINIBAND
        assert ON_INFINIBAND.items() <= part["start"]["environment"].items()
        assert part["start"]["environment"].items() >= plan["nodes"][node]["start"]["environment"].items()
        assert part["start"]["argv"] == plan["nodes"][node]["start"]["argv"]


def test_a_node_that_could_not_be_read_stays_as_it_was() -> None:
    plan, prints = fleet()
    del prints["node1"]
    complete = nccl_settings.completed(plan, prints)
    assert complete["nodes"]["node1"] == plan["nodes"]["node1"]
    assert complete["nodes"]["node0"]["derived"]
