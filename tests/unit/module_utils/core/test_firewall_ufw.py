# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ufw's rules, in the words of ufw 0.36.2."""

from __future__ import annotations

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import firewall_ufw as ufw
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.firewall_opening import Opening

ADDED = """Added user rules (see 'ufw status' for running firewall):
ufw allow out to 198.18.9.12/31 port 29500,29501,32768:60999 proto tcp comment 'gpufleet'
ufw allow from 198.18.9.12/31 to any port 29500,29501,32768:60999 proto tcp comment 'gpufleet'
ufw allow 22/tcp comment 'the owner'
ufw deny from 198.18.9.0/24 to any port 8080 proto tcp
ufw allow from 2001:db8::/64 to any port 29500,29501,32768:60999 proto tcp comment 'gpufleet'
"""
STATUS = """Status: active
Logging: on (low)
Default: deny (incoming), {outgoing} (outgoing), disabled (routed)
New profiles: skip

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW IN    Anywhere                   # the owner
{rule}"""
OPENING = Opening(("198.18.9.12/31", "2001:db8::/64"), ("29500", "29501", "32768-60999"))


def test_our_rules_are_told_from_the_owners() -> None:
    assert ufw.found(ADDED) == sorted(line for line in ADDED.splitlines() if line.endswith("'gpufleet'"))
    assert ufw.found("Added user rules (see 'ufw status' for running firewall):\n(None)\n") == []


def test_what_is_wanted_is_written_as_ufw_shows_it() -> None:
    both_ways = ufw.wanted(OPENING, outgoing=True, ipv6=True)
    assert set(ufw.found(ADDED)) <= set(both_ways)
    assert len(both_ways) == 4
    assert len(ufw.wanted(OPENING, outgoing=False, ipv6=True)) == 2


def test_a_rule_is_added_before_the_owners_and_deleted_without_its_comment() -> None:
    rule = ufw.found(ADDED)[0]
    words = ["allow", "from", "198.18.9.12/31", "to", "any", "port", "29500,29501,32768:60999", "proto", "tcp"]
    assert ufw.adding(rule) == ["ufw", "prepend", *words, "comment", "gpufleet"]
    assert ufw.deleting(rule) == ["ufw", "delete", *words]


def test_a_thousand_peers_never_become_a_thousand_rules() -> None:
    scattered = Opening(tuple(f"10.0.{number}.1" for number in range(ufw.MAX_NETWORKS + 1)), ("29500",))
    with pytest.raises(ufw.CannotOpen, match=r"the peers are 65 networks.*axolotl_peer_addresses"):
        ufw.wanted(scattered, outgoing=False, ipv6=True)
    assert ufw.wanted(Opening(scattered.peers[1:], scattered.ports), outgoing=False, ipv6=True)


def test_ipv6_peers_need_ufw_to_let_ipv6_in() -> None:
    with pytest.raises(ufw.CannotOpen, match="expected IPV6=yes in /etc/default/ufw, since 2001:db8::/64"):
        ufw.wanted(OPENING, outgoing=False, ipv6=False)
    assert ufw.wanted(Opening(("10.0.0.1",), ("29500",)), outgoing=False, ipv6=False)


@pytest.mark.parametrize(
    ("defaults", "takes"), [("IPV6=yes\n", True), ('IPV6="YES"\n', True), ("IPV6=no\n", False), ("#IPV6=yes\n", False)]
)
def test_whether_ipv6_is_let_in(defaults: str, takes: bool) -> None:
    assert ufw.takes_ipv6(f'# /etc/default/ufw\n{defaults}DEFAULT_INPUT_POLICY="DROP"\n') == takes


def test_whether_it_is_active() -> None:
    assert ufw.is_active(STATUS.format(outgoing="allow", rule=""))
    assert not ufw.is_active("Status: inactive\n")


@pytest.mark.parametrize(
    ("outgoing", "rule", "filters"),
    [
        ("allow", "", False),
        ("deny", "", True),
        ("reject", "", True),
        ("allow", "198.18.0.0/16              DENY OUT    Anywhere\n", True),
        ("allow", "8080/tcp                   DENY IN     Anywhere\n", False),
    ],
)
def test_whether_it_filters_what_the_host_sends(outgoing: str, rule: str, filters: bool) -> None:
    assert ufw.filters_outgoing(STATUS.format(outgoing=outgoing, rule=rule)) == filters
