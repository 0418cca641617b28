# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be open, and in which of the firewalls of a node."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.firewall_opening import (
    NotActive,
    Opening,
    merged_ports,
    to_open,
)


@pytest.mark.parametrize(
    ("ports", "merged"),
    [
        (("29500", "29501", "32768-60999"), ("29500-29501", "32768-60999")),
        (("40000", "32768-60999"), ("32768-60999",)),
        (("60000-61000", "32768-60999", "80"), ("80", "32768-61000")),
        (("6379", "6379"), ("6379",)),
    ],
)
def test_ports_never_overlap(ports: tuple[str, ...], merged: tuple[str, ...]) -> None:
    assert merged_ports(*ports) == merged


def test_peers_are_told_apart_by_ip_version() -> None:
    opening = Opening(("10.0.0.1", "10.0.0.4/31", "2001:db8::/64"), ("80",))
    assert opening.of_version(4) == ("10.0.0.1", "10.0.0.4/31")
    assert opening.of_version(6) == ("2001:db8::/64",)


def test_auto_opens_all_that_a_packet_must_pass() -> None:
    assert to_open("auto", ["ufw", "nftables"]) == ["nftables", "ufw"]
    assert to_open("auto", []) == []


def test_one_that_is_named_must_be_active() -> None:
    assert to_open("ufw", ["nftables", "ufw"]) == ["ufw"]
    assert to_open("none", ["ufw"]) == []
    with pytest.raises(NotActive, match=r"expected firewalld to be active.*found nftables, ufw active firewall"):
        to_open("firewalld", ["ufw", "nftables"])
    with pytest.raises(NotActive, match="found no active firewall"):
        to_open("ufw", [])
