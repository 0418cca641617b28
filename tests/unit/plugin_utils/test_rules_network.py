# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each rule of the interfaces, planted alone in a clean fleet, gives exactly its finding on exactly its nodes."""

from __future__ import annotations

from typing import Any

import pytest
from unit.fleets import fingerprints, plan_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import rules_preflight
from ansible_collections.gpufleet.axolotl.plugins.plugin_utils.findings import Finding

Plan = dict[str, Any]
Fingerprints = dict[str, dict[str, Any]]


def fleet(size: int = 3, **changes: Any) -> tuple[Plan, Fingerprints]:
    plan = plan_of(size, **changes)
    return plan, fingerprints(plan)


def interfaces(prints: Fingerprints, node: str) -> dict[str, Any]:
    known: dict[str, Any] = prints[node]["network"]["interfaces"]
    return known


def one(plan: Plan, prints: Fingerprints) -> Finding:
    (finding,) = rules_preflight.examine(plan, prints)
    assert finding.expected
    assert finding.remedy
    return finding


def without(prints: Fingerprints, node: str, name: str) -> None:
    del interfaces(prints, node)[name]
    prints[node]["network"]["address"].update(interface=None)
    prints[node]["network"]["head"].update(interface=None)


@pytest.mark.parametrize(
    ("changes", "source"),
    [
        ({"interface": "ib0"}, "axolotl_interface"),
        ({"environment": {"NCCL_SOCKET_IFNAME": "=ib0"}}, "NCCL_SOCKET_IFNAME"),
        ({"environment": {"NCCL_SOCKET_IFNAME": "ib"}}, "NCCL_SOCKET_IFNAME"),
        ({"environment": {"GLOO_SOCKET_IFNAME": "ib0"}}, "GLOO_SOCKET_IFNAME"),
        (
            {"environment": {"GLOO_SOCKET_IFNAME": "ib0", "NCCL_SOCKET_IFNAME": "=ib0"}, "interface": "ib0"},
            "GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME, axolotl_interface",
        ),
    ],
)
def test_an_interface_that_one_node_lacks_is_one_finding(changes: dict[str, Any], source: str) -> None:
    plan, prints = fleet(**changes)
    assert rules_preflight.examine(plan, prints) == []
    without(prints, "node1", "ib0")
    finding = one(plan, prints)
    assert (finding.id, finding.hosts, finding.severity) == ("interface_missing", ("node1",), "error")
    assert finding.expected in (f"interface ib0 ({source})", f"interface ib ({source})")
    assert finding.found == "no such interface; there are eth0, lo"
    assert source in finding.remedy


def test_an_interface_that_no_node_has_is_one_finding() -> None:
    plan, prints = fleet(interface="ib7")
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("interface_missing", ("node0", "node1", "node2"))


@pytest.mark.parametrize(("change", "found"), [({"up": False}, "administratively down"), ({"state": "down"}, "down")])
@pytest.mark.parametrize("changes", [{}, {"interface": "ib0"}])
def test_an_interface_that_is_down(changes: dict[str, Any], change: dict[str, Any], found: str) -> None:
    plan, prints = fleet(**changes)
    interfaces(prints, "node2")["ib0"].update(change)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts, finding.found) == ("interface_down", ("node2",), found)
    assert "ib0" in finding.expected


def test_a_loopback_among_several_machines() -> None:
    plan, prints = fleet(environment={"GLOO_SOCKET_IFNAME": "lo"})
    for fingerprint in prints.values():
        fingerprint["network"]["address"].update(resolved=[], interface=None)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("interface_loopback", ("node0", "node1", "node2"))
    assert "GLOO_SOCKET_IFNAME" in finding.remedy


@pytest.mark.parametrize("by_hand", [{"GLOO_SOCKET_IFNAME": "eth0"}, {"NCCL_SOCKET_IFNAME": "=eth0"}])
def test_what_is_derived_is_checked_beside_what_is_set_by_hand(by_hand: dict[str, str]) -> None:
    plan, prints = fleet(environment=by_hand)
    interfaces(prints, "node1")["ib0"]["up"] = False
    assert "interface_down" in [finding.id for finding in rules_preflight.examine(plan, prints)]


def test_a_loopback_is_right_where_there_is_one_machine() -> None:
    plan, prints = fleet(2, machine="one", nproc_per_node=4, interface="lo", address="127.0.0.1")
    for fingerprint in prints.values():
        fingerprint["network"]["address"] = {"name": "x", "resolved": ["127.0.0.1"], "error": None, "interface": "lo"}
        fingerprint["network"]["head"].update(resolved=["127.0.0.1"], interface="lo")
    assert rules_preflight.examine(plan, prints) == []


def test_an_address_of_another_host() -> None:
    plan, prints = fleet(address="203.0.113.5")
    for node in ("node0", "node2"):
        prints[node]["network"]["address"].update(resolved=["203.0.113.5"], interface="ib0")
    prints["node1"]["network"]["address"].update(resolved=["203.0.113.5"], interface=None)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("address_not_here", ("node1",))
    assert finding.found == "node1: 203.0.113.5 is none of 192.0.2.2 on eth0, 198.51.100.2 on ib0"
    assert "axolotl_address" in finding.remedy


@pytest.mark.parametrize(
    "changes", [{"interface": "eth0"}, {"environment": {"NCCL_SOCKET_IFNAME": "=eth0", "GLOO_SOCKET_IFNAME": "eth0"}}]
)
def test_an_interface_by_hand_that_does_not_carry_the_address(changes: dict[str, Any]) -> None:
    plan, prints = fleet(5, **changes)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts) == ("interface_address", tuple(prints))
    assert "; node1: eth0 has 192.0.2.2, and node1 (198.51.100.2) is on ib0; " in finding.found
    assert finding.found.endswith("; and 2 more")
    assert "node1: 192.0.2.2" in finding.remedy


def test_an_interface_by_hand_without_an_address() -> None:
    plan, prints = fleet(interface="ib0")
    interfaces(prints, "node1")["ib0"]["addresses"] = []
    prints["node1"]["network"]["address"].update(resolved=[], interface=None)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts, finding.found) == ("interface_address", ("node1",), "none")


def test_a_name_that_leads_to_the_loopback_on_its_own_host_is_no_matter() -> None:
    """Debian and Ubuntu resolve a host's own name to 127.0.1.1; nobody dials a node but the head by its name."""
    plan, prints = fleet(interface="ib0")
    prints["node1"]["network"]["address"].update(resolved=["127.0.1.1"], interface="lo")
    assert rules_preflight.examine(plan, prints) == []


def on_the_logins_interface(prints: Fingerprints, *nodes: str) -> None:
    for node in nodes:
        network = prints[node]["network"]
        own = network["interfaces"]["eth0"]["addresses"][0].partition("/")[0]
        network["address"].update(resolved=[own], interface="eth0")


def test_an_interface_that_carries_the_login_though_there_is_another() -> None:
    plan, prints = fleet()
    on_the_logins_interface(prints, *prints)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts, finding.severity) == (
        "interface_management",
        ("node0", "node1", "node2"),
        "warning",
    )
    assert finding.found == "it shares the interface of the login, eth0; there are also ib0"
    assert "axolotl_address" in finding.remedy


def test_without_a_login_the_default_route_tells() -> None:
    plan, prints = fleet()
    on_the_logins_interface(prints, *prints)
    for fingerprint in prints.values():
        fingerprint["network"].update(login=None)
    assert one(plan, prints).id == "interface_management"
    for fingerprint in prints.values():
        fingerprint["network"].update(default_route="ib0")
    assert rules_preflight.examine(plan, prints) == []


@pytest.mark.parametrize(
    "change",
    [
        {"up": False},
        {"state": "down"},
        {"addresses": []},
        {"addresses": ["fe80::7/64"]},
        {"kind": "bridge", "addresses": ["172.17.0.1/16"]},
    ],
)
def test_an_only_interface_carries_everything(change: dict[str, Any]) -> None:
    plan, prints = fleet()
    on_the_logins_interface(prints, *prints)
    for node in prints:
        interfaces(prints, node)["ib0"].update(change)
    assert rules_preflight.examine(plan, prints) == []


def test_an_interface_of_the_login_that_is_named_on_purpose() -> None:
    plan, prints = fleet(interface="eth0")
    on_the_logins_interface(prints, *prints)
    assert rules_preflight.examine(plan, prints) == []


@pytest.mark.parametrize("changes", [{}, {"interface": "eth0"}, {"environment": {"NCCL_SOCKET_IFNAME": "eth"}}])
def test_a_network_that_must_not_carry_the_training(changes: dict[str, Any]) -> None:
    plan, prints = fleet(management_networks=["192.0.2.0/24"], **changes)
    on_the_logins_interface(prints, *prints)
    finding = one(plan, prints)
    assert (finding.id, finding.hosts, finding.severity) == ("interface_management", tuple(prints), "error")
    assert "axolotl_management_networks" in finding.found


@pytest.mark.parametrize("node", ["node0", "node1"])
def test_the_heads_name_on_the_head(node: str) -> None:
    plan, prints = fleet()
    prints[node]["network"]["head"].update(resolved=["127.0.1.1"], interface="lo")
    if node != plan["head"]:  # elsewhere the way to the head is tried, and says so
        assert rules_preflight.examine(plan, prints) == []
        return
    finding = one(plan, prints)
    assert (finding.id, finding.hosts, finding.found) == (
        "head_resolves_loopback",
        ("node0",),
        "there it resolves to 127.0.1.1",
    )
    assert "/etc/hosts" in finding.remedy


def test_an_mtu_that_is_another() -> None:
    plan, prints = fleet()
    interfaces(prints, "node1")["ib0"]["mtu"] = 65520
    finding = one(plan, prints)
    assert (finding.id, finding.hosts, finding.severity) == ("mtu_differs", ("node1",), "warning")
    assert (finding.found, "2044" in finding.expected) == ("MTU 65520", True)


def test_the_mtu_of_other_interfaces_does_not_matter() -> None:
    plan, prints = fleet()
    interfaces(prints, "node1")["eth0"]["mtu"] = 9000
    assert rules_preflight.examine(plan, prints) == []


def test_a_node_of_which_nothing_is_known_is_no_matter_here() -> None:
    plan, prints = fleet()
    for fingerprint in prints.values():
        fingerprint["network"].update(interfaces={}, login=None, default_route=None)
        fingerprint["network"]["address"].update(resolved=[], interface=None, error="Name or service not known")
        fingerprint["network"]["head"].update(resolved=[], interface=None, error="Name or service not known")
    assert rules_preflight.examine(plan, prints) == []
