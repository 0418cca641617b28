# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens an owner's own nftables ruleset: which chains filter the peers' traffic, and what has to stand in them.

An accept in a table of our own would decide nothing, since a packet must pass every base chain of a hook. So the rule
stands in each chain that filters, before the first rule that could drop what it lets through, and the peers are a named
set beside it. Reads what ``nft --json`` prints: libnftables-json(5).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .firewall_opening import NAME, Opening, port_range

HOOKS = {"input": "saddr", "output": "daddr"}
"""The hooks of a host's own traffic, each with the address in it that is the peer's."""
FIREWALLD = "firewalld"  # the table is firewalld's own, in every family
IPTABLES = {"filter", "mangle", "nat", "raw", "security"}
PROTOCOLS = {"tcp", "th"}


class Chain(NamedTuple):
    """A chain of the ruleset."""

    family: str
    table: str
    name: str

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


class Ruleset:
    """What ``nft --json list`` printed, in order."""

    def __init__(self, objects: Iterable[Mapping[str, Any]]) -> None:
        self.bases: dict[Chain, Mapping[str, Any]] = {}
        self.rules: dict[Chain, list[Mapping[str, Any]]] = {}
        self.sets: dict[tuple[str, str, str], Mapping[str, Any]] = {}
        for item in objects:
            kind, found = next(iter(item.items()))
            if kind == "chain":
                chain = Chain(found["family"], found["table"], found["name"])
                self.rules.setdefault(chain, [])
                if "hook" in found:
                    self.bases[chain] = found
            elif kind == "rule":
                self.rules.setdefault(Chain(found["family"], found["table"], found["chain"]), []).append(found)
            elif kind in ("set", "map"):
                self.sets[found["family"], found["table"], found["name"]] = found

    def is_owners(self, chain: Chain) -> bool:
        """Whether the chain belongs neither to firewalld nor to iptables, which can't read a table with sets in it."""
        if chain.table == FIREWALLD or chain.family not in ("ip", "ip6", "inet"):
            return False
        if chain.family == "inet" or chain.table not in IPTABLES:
            return True
        table = chain[:2]
        return any(key[:2] == table for key in self.sets) or not any(
            other[:2] == table and other.name.isupper() for other in self.bases
        )

    def filtering(self, opening: Opening) -> list[Chain]:
        """The owner's base chains that could drop what is to be open."""
        return [
            chain
            for chain, base in self.bases.items()
            if base.get("type") == "filter" and base["hook"] in HOOKS and self.is_owners(chain)
            if base.get("policy") == "drop" or self._may_drop(chain, self.rules[chain], base["hook"], opening, set())
        ]

    def _may_drop(
        self, chain: Chain, rules: Sequence[Mapping[str, Any]], hook: str, opening: Opening, seen: set[Chain]
    ) -> bool:
        """Whether one of the rules, or of the chains that they lead to, could drop what is to be open.

        Matches that are not understood are taken for ones that hold: a rule too many does no harm, one too few does.
        """
        for rule in rules:
            for statement in rule.get("expr", []):
                kind, content = next(iter(statement.items()))
                if kind == "match" and _excludes(content, hook, opening):
                    break
                if kind in ("drop", "reject") or (kind == "vmap" and _map_may_drop(content)):
                    return True
                target = Chain(chain.family, chain.table, str(content["target"])) if kind in ("jump", "goto") else None
                if target and target not in seen:
                    seen.add(target)
                    if self._may_drop(target, self.rules.get(target, []), hook, opening, seen):
                        return True
        return False

    def ours(self) -> list[tuple[Chain, Mapping[str, Any]]]:
        """Every rule that carries our name."""
        return [(chain, rule) for chain, rules in self.rules.items() for rule in rules if rule.get("comment") == NAME]

    def found(self, opening: Opening) -> list[str]:
        """What of ours is there, one line each, in the words of `wanted`."""
        lines = [line for key, found in self.sets.items() for line in _set_lines(key, found)]
        for chain, rules in self.rules.items():
            for position, rule in enumerate(rules):
                if rule.get("comment") == NAME:
                    hook = str(self.bases.get(chain, {}).get("hook"))
                    shadowed = hook in HOOKS and self._may_drop(chain, rules[:position], hook, opening, set())
                    lines.append(f"{chain}: {_rule_text(rule)}" + (" (behind a rule that drops)" if shadowed else ""))
        return sorted(lines)

    def removal(self) -> str:
        """The commands that remove all that is ours; sets only after the rules that name them."""
        lines = [f"delete rule {chain} handle {rule['handle']}" for chain, rule in self.ours()]
        lines += [
            f"delete set {family} {table} {name}" for family, table, name in self.sets if name in _SET_NAMES.values()
        ]
        return "".join(f"{line}\n" for line in lines)


_SET_NAMES = {4: f"{NAME}_peers4", 6: f"{NAME}_peers6"}
_SET_TYPES = {4: "ipv4_addr", 6: "ipv6_addr"}
_PROTOCOL_OF = {4: "ip", 6: "ip6"}


def wanted(chains: Iterable[Chain], hooks: Mapping[Chain, str], opening: Opening) -> list[str]:
    """What has to be there, one line each."""
    lines: set[str] = set()
    for chain in chains:
        for version in _versions(chain, opening):
            name = f"{chain.family} {chain.table} {_SET_NAMES[version]}"
            lines.update(f"{name}: {peer}" for peer in opening.of_version(version))
            lines.add(f"{chain}: {_rule(version, hooks[chain], opening)}")
    return sorted(lines)


def addition(chains: Iterable[Chain], hooks: Mapping[Chain, str], opening: Opening) -> str:
    """The commands that open, to be run where nothing of ours is left: they also serve after a reload or a reboot."""
    lines, made = [], set()
    for chain in chains:
        for version in _versions(chain, opening):
            name = f"{chain.family} {chain.table} {_SET_NAMES[version]}"
            if name not in made:
                made.add(name)
                elements = ", ".join(opening.of_version(version))
                lines.append(f"add set {name} {{ type {_SET_TYPES[version]}; flags interval; }}")
                lines.append(f"flush set {name}")
                lines.append(f"add element {name} {{ {elements} }}")
            lines.append(f'insert rule {chain} {_rule(version, hooks[chain], opening)} comment "{NAME}"')
    return "".join(f"{line}\n" for line in lines)


def _versions(chain: Chain, opening: Opening) -> list[int]:
    """The IP versions that the chain sees and that peers have."""
    seen = {"ip": (4,), "ip6": (6,), "inet": (4, 6)}[chain.family]
    return [version for version in seen if opening.of_version(version)]


def _rule(version: int, hook: str, opening: Opening) -> str:
    protocol, field = _PROTOCOL_OF[version], HOOKS[hook]
    return f"{protocol} {field} @{_SET_NAMES[version]} tcp dport {{ {', '.join(opening.ports)} }} accept"


def _set_lines(key: tuple[str, str, str], found: Mapping[str, Any]) -> list[str]:
    family, table, name = key
    if name not in _SET_NAMES.values():
        return []
    lines = [f"{family} {table} {name}: {_element_text(element)}" for element in found.get("elem", [])]
    return lines or [f"{family} {table} {name}: empty"]


def _element_text(element: Any) -> str:
    if isinstance(element, Mapping) and "prefix" in element:
        return f"{element['prefix']['addr']}/{element['prefix']['len']}"
    return str(element)


def _rule_text(rule: Mapping[str, Any]) -> str:
    """A rule of ours as `_rule` writes it, or something else where it was changed."""
    words = []
    for statement in rule.get("expr", []):
        kind, content = next(iter(statement.items()))
        payload = content["left"].get("payload") if kind == "match" and content.get("op") == "==" else None
        if payload:
            words.append(f"{payload.get('protocol')} {payload.get('field')} {_right_text(content['right'])}")
        else:
            words.append(kind)
    return " ".join(words)


def _right_text(right: Any) -> str:
    if isinstance(right, str):
        return right
    return "{ " + ", ".join(f"{first}-{last}" if first != last else str(first) for first, last in _spans(right)) + " }"


def _spans(right: Any) -> list[tuple[int, int]]:
    """The numbers that a match allows, as first and last."""
    items = right["set"] if isinstance(right, Mapping) and "set" in right else [right]
    spans = []
    for item in items:
        if isinstance(item, Mapping) and "range" in item:
            spans.append((int(item["range"][0]), int(item["range"][1])))
        else:
            spans.append((int(item), int(item)))
    return spans


# What a match says of a peer's new TCP connection to one of our ports


def _excludes(match: Mapping[str, Any], hook: str, opening: Opening) -> bool:
    """Whether the match can't hold for what is to be open."""
    left, right = match.get("left"), match.get("right")
    if not isinstance(left, Mapping):
        return False
    kind, content = next(iter(left.items()))
    same = match.get("op") in ("==", "in")
    if kind == "payload" and isinstance(content, Mapping) and "protocol" in content:
        return _payload_excludes(str(content["protocol"]), str(content["field"]), right, same, hook, opening)
    if kind == "ct" and content.get("key") == "state":
        return same and "new" not in _texts(right)
    if kind == "meta" and content.get("key") == "l4proto":
        return same and not {"tcp", "6"} & _texts(right)
    if kind == "meta" and content.get("key") in ("iif", "iifname", "oif", "oifname"):
        return same and _texts(right) == {"lo"}
    return False


def _payload_excludes(protocol: str, field: str, right: Any, same: bool, hook: str, opening: Opening) -> bool:
    if protocol in ("ip", "ip6"):
        if field in ("protocol", "nexthdr"):
            return same and not {"tcp", "6"} & _texts(right)
        version = 4 if protocol == "ip" else 6
        if not opening.of_version(version):
            return True
        return same and field == HOOKS[hook] and _is_elsewhere(right, opening.of_version(version))
    if protocol not in PROTOCOLS:
        return True  # udp, icmp and the like: the match holds for that protocol alone
    if not same or field != "dport":
        return False
    try:
        spans = _spans(right)
    except (TypeError, ValueError):
        return False  # a named set or a service's name
    ours = [port_range(port) for port in opening.ports]
    return not any(first <= high and low <= last for low, high in ours for first, last in spans)


def _texts(right: Any) -> set[str]:
    if isinstance(right, Mapping) and "set" in right:
        right = right["set"]
    return {str(item) for item in right} if isinstance(right, list) else {str(right)}


def _is_elsewhere(right: Any, peers: Iterable[str]) -> bool:
    """Whether no peer is among the addresses; a named set or a range is not looked into."""
    items = right["set"] if isinstance(right, Mapping) and "set" in right else [right]
    try:
        listed = [ipaddress.ip_network(_element_text(item)) for item in items]
    except ValueError:
        return False
    ours = [ipaddress.ip_network(peer) for peer in peers]
    return not any(one.version == other.version and one.overlaps(other) for one in ours for other in listed)


def _map_may_drop(vmap: Mapping[str, Any]) -> bool:
    """Verdict maps: one on the connection's state drops new connections only where it says so."""
    data = vmap.get("data")
    if not isinstance(data, Mapping):
        return True  # a named map
    state = isinstance(vmap.get("key"), Mapping) and vmap["key"].get("ct", {}).get("key") == "state"
    for value, verdict in data.get("set", []):
        if state and value != "new":
            continue
        if next(iter(verdict)) != "accept":
            return True
    return False
