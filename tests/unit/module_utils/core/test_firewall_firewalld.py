# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""firewalld's files and what is in its memory, in the words of firewalld 1.3.3."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import firewall_firewalld as firewalld
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.firewall_firewalld import Runtime
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.firewall_opening import Opening

OPENING = Opening(("198.18.9.12/31", "198.18.9.20", "2001:db8::1"), ("29500", "32768-60999"))
POLICIES = (Path(__file__).parents[2] / "captured" / "firewalld_policies.txt").read_text()
ENTRIES = {"gpufleet4": "198.18.9.12/31\n198.18.9.20\n", "gpufleet6": "2001:db8::1\n"}
SEALED = """
sealed (active)
  priority: -1
  target: DROP
  ingress-zones: HOST
  egress-zones: ANY
  rich rules:
"""
ZONE = """public{state}
  target: default
  icmp-block-inversion: no
  interfaces: {interfaces}
  sources: {sources}
  services: dhcpv6-client ssh
  ports: {ports}
  forward: yes
  masquerade: no
  rich rules:
{rich}
"""


def zones(state: str = " (active)", interfaces: str = "", sources: str = "", ports: str = "", rich: str = "") -> str:
    return ZONE.format(state=state, interfaces=interfaces, sources=sources, ports=ports, rich=rich)


def test_what_is_wanted_is_what_firewalld_prints_of_it() -> None:
    found = firewalld.read_runtime(POLICIES, ENTRIES)
    wanted = firewalld.runtime(OPENING, found.outgoing)
    assert firewalld.text(found) == firewalld.text(wanted) != ""
    assert not firewalld.needs_reload(found, wanted)
    assert firewalld.changes(found, wanted) == []


def test_a_policy_on_what_the_host_sends_is_seen_and_opened() -> None:
    found = firewalld.read_runtime(POLICIES + SEALED, ENTRIES)
    assert found.outgoing
    wanted = firewalld.runtime(OPENING, found.outgoing)
    assert wanted.policies["gpufleet_out"][0] == (
        'rule family="ipv4" destination ipset="gpufleet4" port port="29500" protocol="tcp" accept'
    )
    assert firewalld.needs_reload(found, wanted)


def test_our_own_outgoing_policy_is_no_reason_for_itself() -> None:
    assert not firewalld.read_runtime(POLICIES + SEALED.replace("sealed", "gpufleet_out"), ENTRIES).outgoing


def test_the_files_are_xml_that_says_the_same() -> None:
    files = firewalld.files(OPENING, outgoing=False)
    assert files["/etc/firewalld/policies/gpufleet_out.xml"] == ""
    ipset = ET.fromstring(files["/etc/firewalld/ipsets/gpufleet4.xml"].encode())  # noqa: S314 - our own text
    assert [entry.text for entry in ipset.iter("entry")] == ["198.18.9.12/31", "198.18.9.20"]
    policy = ET.fromstring(files["/etc/firewalld/policies/gpufleet_in.xml"].encode())  # noqa: S314 - our own text
    assert (policy.attrib["priority"], policy.find("ingress-zone").attrib["name"]) == ("-14000", "ANY")  # type: ignore[union-attr]
    ports = [(rule.find("source").attrib["ipset"], rule.find("port").attrib["port"]) for rule in policy.iter("rule")]  # type: ignore[union-attr]
    assert ports == [(name, port) for name in ("gpufleet4", "gpufleet6") for port in OPENING.ports]


def test_nothing_is_wanted_where_nothing_is_to_be_open() -> None:
    assert set(firewalld.files(None, outgoing=True).values()) == {""}
    assert firewalld.text(firewalld.runtime(None, outgoing=True)) == ""
    assert len(firewalld.files(None, outgoing=True)) == 4


def test_memory_is_changed_by_the_difference_alone() -> None:
    found = firewalld.read_runtime(POLICIES, ENTRIES)
    wanted = firewalld.runtime(Opening(("198.18.9.13", "198.18.9.20"), ("29600", "32768-60999")), outgoing=False)
    rule = 'rule family="ipv4" source ipset="gpufleet4" port port="29500" protocol="tcp" accept'
    rules = [rule, rule.replace("ipv4", "ipv6").replace("gpufleet4", "gpufleet6")]
    steps = {option: (remove, add) for option, remove, add in firewalld.changes(found, wanted)}
    assert steps["--ipset=gpufleet4"] == (["198.18.9.12/31"], ["198.18.9.13"])
    assert steps["--ipset=gpufleet6"] == (["2001:db8::1"], [])
    assert steps["--policy=gpufleet_in"] == (rules, [rule.replace("29500", "29600") for rule in rules])


def test_all_is_removed_without_a_reload() -> None:
    found = firewalld.read_runtime(POLICIES, ENTRIES)
    nothing = firewalld.runtime(None, outgoing=False)
    assert not firewalld.needs_reload(found, nothing)
    assert [add for _option, _remove, add in firewalld.changes(found, nothing)] == [[], [], []]


def test_a_first_time_needs_a_reload() -> None:
    assert firewalld.needs_reload(Runtime({}, {}, False), firewalld.runtime(OPENING, outgoing=False))


@pytest.mark.parametrize(
    ("memory", "lost"),
    [
        (zones(), []),
        (zones(state=" (default, active)", interfaces="eth0"), []),
        (zones(ports="8080/tcp"), ["public"]),
        (zones(sources="10.88.0.0/16"), ["public"]),
        (zones(rich='\trule family="ipv4" source address="203.0.113.9" reject'), ["public"]),
        (zones() + zones().replace("public", "lab"), ["lab"]),
    ],
)
def test_what_a_reload_would_undo_is_named(memory: str, lost: list[str]) -> None:
    assert firewalld.only_in_memory(memory, zones(state="")) == lost


def test_our_own_policies_are_not_lost_by_a_reload() -> None:
    assert firewalld.only_in_memory(POLICIES, POLICIES.partition("gpufleet_in")[0]) == []
