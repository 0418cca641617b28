# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which chains of an owner's ruleset are opened, and how; what nft prints was captured from nft 1.0.6."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.firewall_nftables import (
    Chain,
    Ruleset,
    addition,
    wanted,
)
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core.firewall_opening import Opening

CAPTURED = Path(__file__).parents[2] / "captured"
RULES: dict[str, list[dict[str, Any]]] = json.loads((CAPTURED / "nft_rules.json").read_text())
OPENING = Opening(("10.0.0.1", "10.0.0.2/31", "2001:db8::1", "2001:db8:1::/64"), ("29500-29501", "32768-60999"))
INPUT = Chain("inet", "filter", "input")
GUARD = Chain("ip6", "guard", "in6")
HOOKS = {INPUT: "input", GUARD: "input"}

# Rules that no connection of a peer to one of the ports can meet, or that do not drop it
HARMLESS = {
    "tcp dport 22 drop",
    "tcp dport { 22, 80 } reject",
    "udp dport 29500 drop",
    "udp sport 53 drop",
    "meta l4proto udp drop",
    "ip protocol icmp drop",
    "ip saddr 203.0.113.0/24 drop",
    "ip saddr { 203.0.113.1, 203.0.113.2 } drop",
    "ct state invalid drop",
    "ct state vmap { established : accept, related : accept, invalid : drop }",
    'iif "lo" drop',
    "ip saddr 203.0.113.9 jump blocked_chain",
    "jump harmless_chain",
    "accept",
    'log prefix "seen "',
}


def captured(name: str) -> list[dict[str, Any]]:
    objects = [json.loads(line) for line in (CAPTURED / name).read_text().splitlines()]
    return [item for item in objects if not {"metainfo", "table"} & set(item)]


def ruleset(rule: list[dict[str, Any]], policy: str = "accept", **base: Any) -> Ruleset:
    """One chain with one rule, beside the chains that the captured rules lead to."""
    place = {"family": "inet", "table": "t"}
    chains = [{"chain": {**place, "name": name}} for name in ("blocked_chain", "harmless_chain")]
    hook = {"type": "filter", "hook": "input", "prio": 0, "policy": policy, **base}
    inner = [("blocked_chain", [{"log": {}}, {"drop": None}]), ("harmless_chain", [{"return": None}]), ("c", rule)]
    rules = [{"rule": {**place, "chain": name, "handle": 1, "expr": expr}} for name, expr in inner]
    return Ruleset([*chains, {"chain": {**place, "name": "c", **hook}}, *rules])


@pytest.mark.parametrize("text", RULES)
def test_a_chain_filters_when_a_rule_could_drop_a_peer(text: str) -> None:
    found = ruleset(RULES[text]).filtering(OPENING)
    assert found == ([] if text in HARMLESS else [Chain("inet", "t", "c")])


def test_a_peers_address_is_the_other_one_on_the_way_out() -> None:
    away = RULES["ip saddr 203.0.113.0/24 drop"]
    assert ruleset(away, hook="output").filtering(OPENING)
    assert not ruleset(away).filtering(OPENING)


def test_a_policy_filters_whatever_the_rules_say() -> None:
    assert ruleset(RULES["accept"], policy="drop").filtering(OPENING)


@pytest.mark.parametrize("base", [{"hook": "forward"}, {"type": "nat"}, {"hook": "prerouting"}])
def test_only_what_filters_the_hosts_own_traffic_counts(base: dict[str, str]) -> None:
    assert not ruleset(RULES["drop"], policy="drop", **base).filtering(OPENING)


def test_loops_of_chains_end() -> None:
    place = {"family": "inet", "table": "t", "handle": 1}
    chains = [{"chain": {**place, "name": "a", "type": "filter", "hook": "input", "policy": "accept"}}]
    rules = [{"rule": {**place, "chain": one, "expr": [{"goto": {"target": two}}]}} for one, two in ("ab", "ba")]
    assert Ruleset([*chains, *rules]).filtering(OPENING) == []


def test_firewalld_and_iptables_tables_are_not_the_owners_own() -> None:
    assert Ruleset(captured("nft_ruleset.json")).filtering(OPENING) == [INPUT, GUARD]


def test_a_table_with_sets_is_no_iptables_table() -> None:
    objects = captured("nft_ruleset.json")
    objects.append({"set": {"family": "ip", "table": "filter", "name": "owners", "type": "ipv4_addr"}})
    assert Chain("ip", "filter", "INPUT") in Ruleset(objects).filtering(OPENING)


def test_what_is_added_is_found_again_and_is_what_is_wanted() -> None:
    opened = Ruleset(captured("nft_opened.json"))
    assert opened.found(OPENING) == wanted([INPUT, GUARD], HOOKS, OPENING)
    assert opened.filtering(OPENING) == [INPUT, GUARD]
    assert Ruleset(captured("nft_ruleset.json")).found(OPENING) == []


def test_the_commands_add_sets_before_rules() -> None:
    lines = addition([GUARD], HOOKS, OPENING).splitlines()
    assert lines == [
        "add set ip6 guard gpufleet_peers6 { type ipv6_addr; flags interval; }",
        "flush set ip6 guard gpufleet_peers6",
        "add element ip6 guard gpufleet_peers6 { 2001:db8::1, 2001:db8:1::/64 }",
        "insert rule ip6 guard in6 ip6 saddr @gpufleet_peers6 tcp dport { 29500-29501, 32768-60999 } accept "
        'comment "gpufleet"',
    ]


def test_only_what_is_ours_is_removed() -> None:
    lines = Ruleset(captured("nft_opened.json")).removal().splitlines()
    assert [line.rpartition(" handle")[0] for line in lines[:3]] == [
        f"delete rule {chain}" for chain in (INPUT, INPUT, GUARD)
    ]
    assert lines[3:] == [
        "delete set inet filter gpufleet_peers4",
        "delete set inet filter gpufleet_peers6",
        "delete set ip6 guard gpufleet_peers6",
    ]
    assert Ruleset(captured("nft_ruleset.json")).removal() == ""


def test_a_drop_before_our_rule_and_a_second_copy_are_differences() -> None:
    objects = captured("nft_opened.json")
    rules = [item for item in objects if item.get("rule", {}).get("comment") == "gpufleet"]
    assert Ruleset([*objects, rules[0]]).found(OPENING) != wanted([INPUT, GUARD], HOOKS, OPENING)
    place = {"family": "inet", "table": "filter", "chain": "input", "handle": 99}
    first = objects.index(rules[0])
    for text, shadowed in (("drop", True), ("tcp dport 22 drop", False)):
        changed = [*objects[:first], {"rule": {**place, "expr": RULES[text]}}, *objects[first:]]
        found = Ruleset(changed).found(OPENING)
        assert any(line.endswith("(behind a rule that drops)") for line in found) == shadowed
        assert (found == wanted([INPUT, GUARD], HOOKS, OPENING)) != shadowed


def test_another_port_or_peer_is_a_difference() -> None:
    found = Ruleset(captured("nft_opened.json")).found(OPENING)
    assert found != wanted([INPUT, GUARD], HOOKS, OPENING._replace(ports=("29600", "32768-60999")))
    assert found != wanted([INPUT, GUARD], HOOKS, OPENING._replace(peers=OPENING.peers[1:]))
