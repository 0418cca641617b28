# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens firewalld: the peers are ipsets, and policies of our own accept them whatever zone a packet comes through.

A zone with the peers as sources would take them out of the zone in which they are now, and close there what is open to
them. Policies need firewalld 0.9: firewalld.policies(5), firewalld.ipset(5), firewalld.richlanguage(5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .firewall_opening import NAME, Opening

CONFIG = "/etc/firewalld"
FAMILY_OF = {4: "ipv4", 6: "ipv6"}
SETS = {4: f"{NAME}4", 6: f"{NAME}6"}
POLICIES = {"in": f"{NAME}_in", "out": f"{NAME}_out"}
PRIORITY = -14000
"""Negative: before the zones. Behind -15000, at which firewalld's own policy keeps IPv6 neighbour discovery open."""


class Runtime(NamedTuple):
    """What firewalld holds in memory, as far as it concerns us.

    Attributes:
        policies: the rich rules of each of our policies.
        sets: the entries of each of our ipsets.
        outgoing: whether a policy of the owner's judges what this host sends.
    """

    policies: dict[str, list[str]]
    sets: dict[str, list[str]]
    outgoing: bool


NOTHING = Runtime({}, {}, False)


def files(opening: Opening | None, outgoing: bool) -> dict[str, str]:
    """The permanent configuration: each of our files by its path; one that must not be there has no text."""
    wanted = {f"{CONFIG}/ipsets/{name}.xml": "" for name in SETS.values()}
    wanted.update({f"{CONFIG}/policies/{name}.xml": "" for name in POLICIES.values()})
    if opening:
        for version, name in SETS.items():
            wanted[f"{CONFIG}/ipsets/{name}.xml"] = _set_file(version, opening)
        for direction in directions(outgoing):
            wanted[f"{CONFIG}/policies/{POLICIES[direction]}.xml"] = _policy_file(direction, opening)
    return wanted


def runtime(opening: Opening | None, outgoing: bool) -> Runtime:
    """What has to be in memory; nothing where nothing is to be open."""
    if not opening:
        return Runtime({}, {}, outgoing)
    policies = {POLICIES[way]: [_rich_rule(*rule) for rule in _rules(way, opening)] for way in directions(outgoing)}
    return Runtime(policies, {name: list(opening.of_version(version)) for version, name in SETS.items()}, outgoing)


def directions(outgoing: bool) -> list[str]:
    """firewalld filters what the host sends only where the owner made a policy for that."""
    return ["in", "out"] if outgoing else ["in"]


def text(memory: Runtime) -> str:
    """What of ours is in memory, line by line, to compare and to show."""
    lines = []
    for kind, held in (("policy", memory.policies), ("ipset", memory.sets)):
        lines += [f"{kind} {name}: {value}\n" for name, values in sorted(held.items()) for value in sorted(values)]
    return "".join(lines)


def _rules(direction: str, opening: Opening) -> list[tuple[str, str, str, str]]:
    """IP family, direction's word, set and port of each rule: a rich rule takes one port or range."""
    side = {"in": "source", "out": "destination"}[direction]
    return [(FAMILY_OF[version], side, name, port) for version, name in SETS.items() for port in opening.ports]


def _rich_rule(family: str, side: str, name: str, port: str) -> str:
    """As firewalld itself prints it."""
    return f'rule family="{family}" {side} ipset="{name}" port port="{port}" protocol="tcp" accept'


def _set_file(version: int, opening: Opening) -> str:
    entries = "".join(f"  <entry>{peer}</entry>\n" for peer in opening.of_version(version))
    family = {4: "inet", 6: "inet6"}[version]
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<ipset type="hash:net">\n'
        f"  <description>Peers of this node, kept by gpufleet.axolotl</description>\n"
        f'  <option name="family" value="{family}"/>\n{entries}</ipset>\n'
    )


def _policy_file(direction: str, opening: Opening) -> str:
    ingress, egress = {"in": ("ANY", "HOST"), "out": ("HOST", "ANY")}[direction]
    rules = "".join(
        f'  <rule family="{family}">\n    <{side} ipset="{name}"/>\n    <port port="{port}" protocol="tcp"/>\n'
        "    <accept/>\n  </rule>\n"
        for family, side, name, port in _rules(direction, opening)
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<policy priority="{PRIORITY}" target="CONTINUE">\n'
        f"  <description>Training traffic between this node and its peers, kept by gpufleet.axolotl</description>\n"
        f'  <ingress-zone name="{ingress}"/>\n  <egress-zone name="{egress}"/>\n{rules}</policy>\n'
    )


# What firewall-cmd prints

Blocks = dict[str, dict[str, list[str]]]


def blocks(text: str) -> Blocks:
    """Parse ``--list-all-zones`` or ``--list-all-policies``: name to each key's values."""
    found: Blocks = {}
    name = key = ""
    for line in text.splitlines():
        if line and not line[0].isspace():
            name = line.split(" ", 1)[0]
            found[name] = {}
        elif line.startswith("\t"):  # a rich rule or a forward port, one a line
            found[name][key].append(line.strip())
        elif ":" in line:
            key, _colon, values = line.strip().partition(":")
            found[name][key] = values.split()
    return found


def read_runtime(policies: str, sets: Mapping[str, str]) -> Runtime:
    """What of ours is in memory.

    Args:
        policies: what ``--list-all-policies`` printed.
        sets: what ``--ipset=NAME --get-entries`` printed, for each set that exists.
    """
    found = blocks(policies)
    ours = {name: sorted(found[name]["rich rules"]) for name in POLICIES.values() if name in found}
    outgoing = any("HOST" in block["ingress-zones"] for name, block in found.items() if name not in POLICIES.values())
    return Runtime(ours, {name: text.split() for name, text in sets.items()}, outgoing)


def only_in_memory(memory: str, permanent: str) -> list[str]:
    """The zones or policies whose owner changed them in memory alone: a reload would undo that.

    Interfaces don't count: firewalld keeps them over a reload.
    """
    now, stored = blocks(memory), blocks(permanent)
    names = sorted((set(now) | set(stored)) - set(POLICIES.values()))
    return [name for name in names if _settings(now.get(name)) != _settings(stored.get(name))]


def _settings(block: Mapping[str, list[str]] | None) -> dict[str, list[str]]:
    return {key: sorted(values) for key, values in (block or {}).items() if key != "interfaces" and values}


def changes(found: Runtime, wanted: Runtime) -> list[tuple[str, list[str], list[str]]]:
    """What to change in memory where policies and sets exist: option, values to remove, values to add."""
    steps = []
    for name in sorted(found.sets):
        old, new = set(found.sets[name]), set(wanted.sets.get(name, ()))
        steps.append((f"--ipset={name}", sorted(old - new), sorted(new - old)))
    for name in sorted(found.policies):
        before, after = set(found.policies[name]), set(wanted.policies.get(name, ()))
        steps.append((f"--policy={name}", sorted(before - after), sorted(after - before)))
    return [step for step in steps if step[1] or step[2]]


def needs_reload(found: Runtime, wanted: Runtime) -> bool:
    """Policies and ipsets themselves come into being by a reload alone; all else is changed in memory."""
    return not (set(wanted.policies) <= set(found.policies) and set(wanted.sets) <= set(found.sets))
