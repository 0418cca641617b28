# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who the peers are: one small set for every node, from addresses alone."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from unit.fleets import inventory, plan_of, values_of

from ansible_collections.gpufleet.axolotl.plugins.plugin_utils import peers, plan_checks


def of(*addresses: str, **changes: Any) -> tuple[list[str], list[str]]:
    variables = inventory(len(addresses), **changes)
    for known, address in zip(variables.values(), addresses, strict=True):
        known["axolotl_address"] = address
    return peers.addresses(values_of(variables))


def test_neighbours_are_joined_and_nobody_else_is_let_in() -> None:
    assert of("10.0.0.1", "10.0.0.3", "10.0.0.2") == (["10.0.0.1", "10.0.0.2/31"], [])
    assert of("10.0.0.9", "10.0.0.1")[0] == ["10.0.0.1", "10.0.0.9"]


def test_a_thousand_peers_are_a_handful_of_networks() -> None:
    fleet = [str(ipaddress.IPv4Address("10.0.0.11") + number) for number in range(1000)]
    found, _names = of(*fleet)
    assert len(found) == 14
    assert {str(address) for network in found for address in ipaddress.ip_network(network)} == set(fleet)


def test_both_ip_versions_and_further_addresses_of_a_node_belong_to_it() -> None:
    assert of("10.0.0.1", "2001:db8::1", peer_addresses=["10.1.0.0/24", "2001:db8::/64"]) == (
        ["10.0.0.1", "10.1.0.0/24", "2001:db8::/64"],
        [],
    )


def test_the_order_of_the_group_does_not_matter() -> None:
    assert of("10.0.0.1", "2001:db8::1", "10.0.0.9") == of("10.0.0.9", "10.0.0.1", "2001:db8::1")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.1.1", "::1", "localhost"])
def test_the_loopback_is_no_peer(address: str) -> None:
    assert of(address) == ([], [])


@pytest.mark.parametrize("address", ["gpu-b.example.org", "fe80::1%ib0"])
def test_what_means_another_machine_elsewhere_is_not_guessed(address: str) -> None:
    assert of("10.0.0.1", address) == (["10.0.0.1"], [address])


def test_the_plan_holds_the_peers_and_their_ports() -> None:
    plan = plan_of(2, address="10.0.0.1", peer_addresses=["10.0.1.0/24"])
    assert (plan["firewall"], plan["peers"]) == ("auto", ["10.0.0.1", "10.0.1.0/24"])
    assert (plan["peer_names"], plan["peer_ports"]) == ([], ["29500", "29501"])
    assert plan_of(1)["peer_names"] == ["node0"]


def test_ray_gets_its_ports_only_when_it_is_the_launcher() -> None:
    fleet = values_of(inventory(1))["node0"]
    fleet["axolotl_launcher"] = "ray"
    assert peers.ports(fleet) == ["29500", "29501", "6379", "10002-19999"]


def test_a_name_is_a_finding_only_where_a_firewall_is_named() -> None:
    variables = inventory(2, firewall="ufw")
    variables["node0"]["axolotl_address"] = "10.0.0.1"
    (finding,) = plan_checks.check(values_of(variables))
    assert (finding.id, finding.hosts, finding.found) == ("peer_unresolved", ("node1",), "node1")
    for backend in ("auto", "none"):
        assert plan_checks.check(values_of(inventory(2, firewall=backend))) == []


def test_root_is_needed_unless_the_firewall_is_left_alone() -> None:
    assert plan_of(1)["root_for"] == ["axolotl_firewall is auto"]
    assert plan_of(1, firewall="none")["root_for"] == []
