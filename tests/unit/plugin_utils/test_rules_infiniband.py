# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each rule of the adapters, planted alone in a clean fleet, gives exactly its finding on exactly its nodes."""

from __future__ import annotations

from typing import Any

import pytest
from unit.fleets import data_network, fingerprints, infiniband_port, plan_of, roce_port

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import rules_preflight
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding

Plan = dict[str, Any]
Fingerprints = dict[str, dict[str, Any]]
DOWN = {"state": "DOWN", "phys_state": "Polling", "rate": "10 Gb/sec (4X SDR)", "gbits": 10.0}
NDR200 = {"rate": "200 Gb/sec (2X NDR)", "gbits": 200.0}


def fleet(size: int = 3, hcas: int = 2, **changes: Any) -> tuple[Plan, Fingerprints]:
    plan = plan_of(size, **changes)
    prints = fingerprints(plan)
    for node in prints:
        prints[node].update(data_network(plan, node, hcas))
    return plan, prints


def adapters(prints: Fingerprints, node: str) -> dict[str, Any]:
    known: dict[str, Any] = prints[node]["infiniband"]["hcas"]
    return known


def port(prints: Fingerprints, node: str, hca: str = "mlx5_0", number: str = "1") -> dict[str, Any]:
    facts: dict[str, Any] = adapters(prints, node)[hca]["ports"][number]
    return facts


def every_port(prints: Fingerprints, **changes: Any) -> None:
    for node in prints:
        for hca in adapters(prints, node):
            port(prints, node, hca).update(changes)


def one(plan: Plan, prints: Fingerprints) -> Finding:
    (finding,) = rules_preflight.examine(plan, prints)
    assert finding.expected
    assert finding.remedy
    return finding


# Ports that are down


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("accelerator", ["cuda", "cpu"])
def test_the_port_that_goes_down_is_named_and_no_other(size: int, accelerator: str) -> None:
    plan, prints = fleet(size, hcas=8, accelerator=accelerator)
    assert rules_preflight.examine(plan, prints) == []
    port(prints, "node1", "mlx5_3").update(DOWN)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts, finding.severity) == ("ib_port_down", ("node1",), "error")
    assert finding.expected == "mlx5_3 port 1 is ACTIVE"
    assert finding.found == "state DOWN, physical state Polling"
    assert "cable" in finding.remedy


def test_the_only_port_of_a_node() -> None:
    plan, prints = fleet(4, hcas=1)
    port(prints, "node2").update(DOWN)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("ib_port_down", ("node2",))


def test_one_port_that_is_down_on_several_nodes_is_one_finding() -> None:
    plan, prints = fleet(5)
    for node in ("node1", "node3"):
        port(prints, node, "mlx5_1").update(DOWN)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("ib_port_down", ("node1", "node3"))


@pytest.mark.parametrize(
    ("state", "phys_state", "remedy"),
    [("INIT", "LinkUp", "subnet manager"), ("DOWN", "Disabled", "switched off"), ("DOWN", "Polling", "cable")],
)
def test_the_remedy_depends_on_the_state(state: str, phys_state: str, remedy: str) -> None:
    plan, prints = fleet()
    port(prints, "node1").update(state=state, phys_state=phys_state)
    assert remedy in one(plan, prints).remedy


def test_ports_that_no_node_uses_are_no_matter() -> None:
    plan, prints = fleet()
    for node in prints:
        adapters(prints, node)["mlx5_0"]["ports"]["2"] = infiniband_port(**DOWN)
        adapters(prints, node)["mlx5_9"] = {**adapters(prints, node)["mlx5_0"], "ports": {"1": infiniband_port(**DOWN)}}
    assert rules_preflight.examine(plan, prints) == []


def test_a_port_that_few_nodes_use_is_no_matter_either() -> None:
    plan, prints = fleet(5)
    for node in prints:
        state = {} if node in ("node0", "node4") else DOWN
        adapters(prints, node)["mlx5_9"] = {
            **adapters(prints, node)["mlx5_0"],
            "ports": {"1": infiniband_port(**state)},
        }
    assert rules_preflight.examine(plan, prints) == []


def test_adapters_that_are_all_down_are_named_though_no_peer_is_better() -> None:
    plan, prints = fleet(2)
    every_port(prints, state="INIT")
    findings = rules_preflight.examine(plan, prints)
    assert [(finding.id, finding.hosts) for finding in findings] == [("ib_port_down", ("node0", "node1"))] * 2
    assert all("subnet manager" in finding.remedy for finding in findings)


def test_adapters_may_have_other_names_on_other_nodes() -> None:
    plan, prints = fleet(2)
    known = adapters(prints, "node1")
    known["ibp1s0"], known["ibp2s0"] = known.pop("mlx5_0"), known.pop("mlx5_1")
    assert rules_preflight.examine(plan, prints) == []
    port(prints, "node1", "ibp2s0").update(DOWN)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("ib_port_down", ("node1",))
    assert finding.expected == "ibp2s0 port 1 is ACTIVE"


# Adapters that are named


@pytest.mark.parametrize(
    "changes",
    [
        {"hcas": ["mlx5_0"]},
        {"environment": {"NCCL_IB_HCA": "=mlx5_0"}},
        {"environment": {"NCCL_IB_HCA": "mlx5_0"}},
        {"environment": {"NCCL_IB_HCA": "^mlx5_1"}},
    ],
)
def test_only_adapters_that_are_named_must_be_up(changes: dict[str, Any]) -> None:
    wanted = changes.pop("hcas", None)
    plan, prints = fleet(**changes)
    for part in plan["nodes"].values():
        part["hcas"] = wanted
    for node in prints:
        port(prints, node, "mlx5_1").update(DOWN)
    assert rules_preflight.examine(plan, prints) == []
    port(prints, "node1", "mlx5_0").update(DOWN)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("ib_port_down", ("node1",))
    assert finding.expected == "mlx5_0 port 1 is ACTIVE"


def test_what_is_named_must_be_up_even_where_it_is_up_nowhere() -> None:
    plan, prints = fleet(environment={"NCCL_IB_HCA": "=mlx5_0,mlx5_1"})
    for node in prints:
        port(prints, node, "mlx5_1").update(DOWN)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("ib_port_down", tuple(prints))


@pytest.mark.parametrize(("named", "found"), [("mlx5_0", []), ("mlx5_0:1", []), ("mlx5_0:2", ["ib_port_down"])])
def test_of_an_adapter_without_a_port_one_port_is_enough(named: str, found: list[str]) -> None:
    plan, prints = fleet(environment={"NCCL_IB_HCA": f"={named}"})
    for node in prints:
        adapters(prints, node)["mlx5_0"]["ports"]["2"] = infiniband_port(**DOWN)
    assert [finding.id for finding in rules_preflight.examine(plan, prints)] == found


@pytest.mark.parametrize("named", ["=mlx5_7", "=mlx5_0:2", "roce"])
def test_an_adapter_that_is_named_and_not_there(named: str) -> None:
    plan, prints = fleet(environment={"NCCL_IB_HCA": named})
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("ib_hca_missing", tuple(prints))
    assert finding.found == "adapters: mlx5_0, mlx5_1"


@pytest.mark.parametrize(
    "changes",
    [
        {"hcas": []},
        {"environment": {"NCCL_IB_DISABLE": "1"}},
        {"environment": {"NCCL_NET": "Socket"}},
        {"environment": {"NCCL_IB_DISABLE": " 01"}},
    ],
)
def test_where_infiniband_is_switched_off_nothing_of_it_matters(changes: dict[str, Any]) -> None:
    wanted = changes.pop("hcas", None)
    plan, prints = fleet(**changes)
    for part in plan["nodes"].values():
        part["hcas"] = wanted
    port(prints, "node1").update(DOWN)
    prints["node0"]["infiniband"]["unclaimed"] = ["0000:19:00.0"]
    prints["node2"]["limits"]["memlock"] = {"soft": 65536, "hard": 65536}
    assert rules_preflight.examine(plan, prints) == []


@pytest.mark.parametrize("value", ["0", "", "no", "00"])
def test_what_does_not_switch_infiniband_off(value: str) -> None:
    plan, prints = fleet(environment={"NCCL_IB_DISABLE": value})
    port(prints, "node1").update(DOWN)
    assert one(plan, prints).id == "ib_port_down"


# Adapters that are missing


@pytest.mark.parametrize("size", [2, 3])
def test_a_node_with_fewer_adapters(size: int) -> None:
    plan, prints = fleet(size)
    del adapters(prints, "node1")["mlx5_1"]
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("ib_hca_missing", ("node1",))
    assert (finding.expected, finding.found) == ("adapters for mlx5_1 port 1", "adapters: mlx5_0")


def test_a_node_without_any() -> None:
    plan, prints = fleet()
    adapters(prints, "node1").clear()
    finding = one(plan, prints)
    assert (finding.id, finding.hosts, finding.found) == ("ib_hca_missing", ("node1",), "adapters: none")


def test_a_fleet_without_adapters_is_fine_unless_it_asks_for_them() -> None:
    plan, prints = fleet(hcas=0)
    assert rules_preflight.examine(plan, prints) == []
    plan, prints = fleet(hcas=0, environment={"NCCL_NET": "IB"})
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("ib_hca_missing", tuple(prints))
    assert "NCCL_NET" in finding.expected


def test_a_driver_that_is_missing_is_the_cause_and_the_only_finding() -> None:
    plan, prints = fleet()
    adapters(prints, "node1").clear()
    prints["node1"]["infiniband"]["unclaimed"] = ["0000:19:00.0"]
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("ib_module_missing", ("node1",))
    assert "0000:19:00.0" in finding.found
    assert "modprobe mlx5_ib" in finding.remedy


def test_adapters_that_programs_can_not_open() -> None:
    plan, prints = fleet()
    prints["node1"]["infiniband"]["verbs"] = False
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("ib_module_missing", ("node1",))
    assert "ib_uverbs" in finding.expected


def test_adapters_that_do_not_answer() -> None:
    plan, prints = fleet(hcas=0)
    prints["node1"]["infiniband"]["error"] = "/sys/class/infiniband: no answer within 20 s"
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("ib_unreadable", ("node1",))


# Link layer, rate, errors


@pytest.mark.parametrize("size", [2, 3])
def test_a_port_with_the_other_link_layer(size: int) -> None:
    plan, prints = fleet(size)
    adapters(prints, "node1")["mlx5_1"]["ports"]["1"] = roce_port("203.0.113.2")
    finding = one(plan, prints)
    assert (finding.id, finding.hosts, finding.found) == ("ib_link_layer", ("node1",), "Ethernet")
    assert "mlx5_1 port 1" in finding.expected
    assert "LINK_TYPE_P1" in finding.remedy


def test_a_node_with_the_other_link_layer_altogether() -> None:
    plan, prints = fleet(2, hcas=1)
    adapters(prints, "node0")["mlx5_0"]["ports"]["1"] = roce_port("198.51.100.1", netdev="ib0")
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("ib_link_layer", ("node0",))


def test_a_rate_below_that_of_most() -> None:
    plan, prints = fleet()
    port(prints, "node1", "mlx5_1").update(NDR200)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts, finding.severity) == ("ib_rate_low", ("node1",), "error")
    assert finding.expected == "mlx5_1 port 1 runs at 400 Gb/sec, as most ports do"
    assert finding.found == "200 Gb/sec (2X NDR)"


def test_the_higher_rate_wins_a_tie_and_a_faster_port_is_no_matter() -> None:
    plan, prints = fleet(2, hcas=1)
    port(prints, "node0").update(NDR200)
    assert one(plan, prints).hosts == ("node0",)
    plan, prints = fleet(3, hcas=1)
    port(prints, "node0").update(rate="800 Gb/sec (4X XDR)", gbits=800.0)
    assert rules_preflight.examine(plan, prints) == []


def test_slower_adapters_that_are_named_are_meant() -> None:
    plan, prints = fleet()
    plan["nodes"]["node1"]["hcas"] = ["mlx5_0", "mlx5_1"]
    port(prints, "node1", "mlx5_1").update(NDR200)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts, finding.severity) == ("ib_rate_low", ("node1",), "warning")


@pytest.mark.parametrize(("counter", "severity"), [("symbol_error", "warning"), ("link_downed", "error")])
def test_errors_that_rise(counter: str, severity: str) -> None:
    plan, prints = fleet()
    prints["node1"]["infiniband"]["counters"]["rising"] = {"mlx5_1": {"1": {counter: 12}}}
    finding = one(plan, prints)
    assert (finding.id, finding.hosts, finding.severity) == ("ib_errors", ("node1",), severity)
    assert "mlx5_1 port 1" in finding.expected
    assert finding.found == f"{counter} by 12 within 1.2 s"


def test_errors_of_other_ports_and_of_old_are_no_matter() -> None:
    plan, prints = fleet()
    prints["node1"]["infiniband"]["counters"].update(
        rising={"mlx5_9": {"1": {"symbol_error": 1}}}, total={"mlx5_0": {"1": {"link_downed": 7}}}
    )
    assert rules_preflight.examine(plan, prints) == []


# RoCE


def on_roce(prints: Fingerprints, first: int = 3) -> None:
    """A frontend card that carries the login, and two rails of their own; the data address is on the first."""
    for number, node in enumerate(prints, start=1):
        network = prints[node]["network"]
        network["interfaces"]["rail0"] = network["interfaces"].pop("ib0")
        network["address"]["interface"] = "rail0"
        if network["head"]["interface"] == "ib0":
            network["head"]["interface"] = "rail0"
        known = adapters(prints, node)
        known["mlx5_0"]["ports"]["1"] = roce_port(f"198.51.100.{number}", netdev="rail0", first=first)
        known["mlx5_1"]["ports"]["1"] = roce_port(f"203.0.113.{number}", netdev="rail1", first=first)
        known["mlx5_2"] = {**known["mlx5_1"], "ports": {"1": roce_port(f"192.0.2.{number}", netdev="eth0", **NDR200)}}


def test_a_clean_fleet_on_roce() -> None:
    plan, prints = fleet()
    on_roce(prints)
    assert rules_preflight.examine(plan, prints) == []


def test_a_rail_that_is_down() -> None:
    plan, prints = fleet()
    on_roce(prints)
    adapters(prints, "node1")["mlx5_1"]["ports"]["1"] = infiniband_port(link_layer="Ethernet", **DOWN)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("ib_port_down", ("node1",))
    assert finding.expected == "mlx5_1 port 1 is ACTIVE"


def test_a_rail_without_an_address() -> None:
    plan, prints = fleet()
    on_roce(prints)
    adapters(prints, "node1")["mlx5_1"]["ports"]["1"] = roce_port()
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("roce_gid_missing", ("node1",))
    assert "mlx5_1 port 1" in finding.expected


def test_a_gid_index_by_hand_must_be_one_of_roce_v2() -> None:
    plan, prints = fleet(environment={"NCCL_IB_GID_INDEX": "3"})
    on_roce(prints)
    assert rules_preflight.examine(plan, prints) == []
    adapters(prints, "node1")["mlx5_1"]["ports"]["1"] = roce_port("203.0.113.2", netdev="rail1", first=5)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("roce_gid_missing", ("node1",))
    assert finding.expected == "mlx5_1 port 1 has RoCE v2 GID 3 (NCCL_IB_GID_INDEX)"


# What they need


@pytest.mark.parametrize(
    ("memlock", "severity", "found"),
    [
        ({"soft": 65536, "hard": 65536}, "error", "64 KiB"),
        ({"soft": 8388608, "hard": "unlimited"}, "error", "8192 KiB"),
        ({"soft": 64 << 30, "hard": 64 << 30}, "warning", "64 GiB"),
        (None, "error", "systemd-run: refused"),
    ],
)
def test_a_memlock_limit_where_trainers_start(memlock: Any, severity: str, found: str) -> None:
    plan, prints = fleet()
    prints["node1"]["limits"].update(memlock=memlock, error=None if memlock else "systemd-run: refused")
    finding = one(plan, prints)
    assert (finding.id, finding.hosts, finding.severity, finding.found) == ("memlock_low", ("node1",), severity, found)
    assert "user@.service" in finding.remedy
    prints["node1"]["limits"]["context"] = "process"
    assert "limits.d" in one(plan, prints).remedy


def test_memlock_is_no_matter_without_rdma() -> None:
    limit = {"soft": 65536, "hard": 65536}
    for changes in ({"accelerator": "cpu"}, {"hcas": 0}):
        plan, prints = fleet(**changes)
        for node in prints:
            prints[node]["limits"]["memlock"] = limit
        assert rules_preflight.examine(plan, prints) == []


@pytest.mark.parametrize(
    ("way", "found"),
    [
        ({"peermem": False, "dmabuf": False, "open_driver": True}, "kernel"),
        ({"peermem": False, "dmabuf": True, "open_driver": False}, "driver"),
        ({"peermem": True, "dmabuf": False, "open_driver": False}, None),
        ({"peermem": False, "dmabuf": True, "open_driver": True}, None),
        ({"peermem": False, "dmabuf": True, "open_driver": None}, None),  # without a driver, devices says so
    ],
)
def test_the_way_between_gpu_and_adapter(way: dict[str, Any], found: str | None) -> None:
    plan, prints = fleet()
    prints["node1"]["infiniband"]["gpudirect"] = way
    if not found:
        assert rules_preflight.examine(plan, prints) == []
        return
    finding = one(plan, prints)
    assert (finding.id, finding.hosts, finding.severity) == ("gpudirect_missing", ("node1",), "warning")
    assert found in finding.found


def test_nodes_that_could_not_be_read_do_not_disturb_the_others() -> None:
    plan, prints = fleet()
    del prints["node0"]
    assert rules_preflight.examine(plan, prints) == []
    assert rules_preflight.examine(plan, {}) == []
