# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold of the interface that carries the training, on each node: a table of rules.

Held against what is set by hand (axolotl_interface, NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME) and what is derived alike.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from . import data_network
from .comparison import outliers
from .data_network import Fingerprint, Fingerprints, Plan
from .findings import WARNING, Finding, names
from .nccl_names import NameList

Rule = Callable[[Plan, Fingerprints], Iterator[Finding]]
DOWN = ("down", "lowerlayerdown", "notpresent")
"""States in which nothing is carried (the kernel's Documentation/networking/operstates.rst)."""
HOST_ONLY = ("bridge", "tun", "loopback")
"""Kinds of interface that lead to containers and virtual machines of the host itself, or nowhere."""


class Use(NamedTuple):
    """An interface that the training uses on a node.

    Attributes:
        source: the setting or variable that says so.
        name: the interface, or a pattern of NCCL's.
        matched: the interfaces of the node that are meant.
    """

    source: str
    name: str
    matched: tuple[str, ...]

    @property
    def by_hand(self) -> bool:
        return self.source != "axolotl_address"


def uses(plan: Plan, node: str, fingerprint: Fingerprint) -> list[Use]:
    """Every interface that the training uses on a node."""
    part, variables = plan["nodes"][node], data_network.environment(plan, node)
    known = fingerprint["network"]["interfaces"]
    found = [Use("axolotl_interface", part["interface"], _those(known, part["interface"]))] if part["interface"] else []
    for name in filter(None, variables.get("GLOO_SOCKET_IFNAME", "").split(",")):  # gloo takes names as they are
        found.append(Use("GLOO_SOCKET_IFNAME", name, _those(known, name)))
    pattern = variables.get("NCCL_SOCKET_IFNAME", "")
    if len(pattern) > 1:  # NCCL takes a single character for nothing
        listed = NameList.parse(pattern)
        if listed.names_each:
            found += [Use("NCCL_SOCKET_IFNAME", name, _those(known, name)) for name, _port in listed.entries]
        else:
            matched = tuple(name for name in known if known[name]["addresses"] and listed.matches(name))
            found.append(Use("NCCL_SOCKET_IFNAME", pattern, matched))
    derived = data_network.data_interface(plan, node, fingerprint).interface
    if derived and not found:
        found.append(Use("axolotl_address", derived, _those(known, derived)))
    return found


def _those(known: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return (name,) if name in known else ()


def _missing(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    nodes_of: dict[tuple[str, str], dict[str, set[str]]] = {}
    for node, fingerprint in fingerprints.items():
        there = names(sorted(fingerprint["network"]["interfaces"]))
        for use in uses(plan, node, fingerprint):
            if not use.matched:
                nodes_of.setdefault((use.name, there), {}).setdefault(node, set()).add(use.source)
    for (name, there), nodes in nodes_of.items():
        source = ", ".join(sorted(set().union(*nodes.values())))
        yield Finding(
            "interface_missing",
            tuple(nodes),
            f"interface {name} ({source})",
            f"no such interface; there are {there}",
            f"bring {name} up on these nodes, or correct {source}; unset, it is derived on each node",
        )


def _down(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    nodes_of: dict[tuple[str, str], list[str]] = {}
    for node, fingerprint in fingerprints.items():
        for name in _meant(plan, node, fingerprint):
            facts = fingerprint["network"]["interfaces"][name]
            if not facts["up"] or facts["state"] in DOWN:
                state = "administratively down" if not facts["up"] else str(facts["state"])
                nodes_of.setdefault((name, state), []).append(node)
    for (name, state), nodes in nodes_of.items():
        remedy = f"ip link set {name} up; if it stays down, see to its cable, its switch or the adapter below it"
        yield Finding("interface_down", tuple(nodes), f"interface {name} is up", state, remedy)


def _loopback(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    if data_network.on_one_machine(plan):
        return
    nodes_of: dict[tuple[str, str], list[str]] = {}
    for node, fingerprint in fingerprints.items():
        for use in uses(plan, node, fingerprint):
            for name in use.matched:
                if data_network.is_loopback(fingerprint["network"], name):
                    nodes_of.setdefault((name, use.source), []).append(node)
    for (name, source), nodes in nodes_of.items():
        remedy = f"correct {source}, or leave it unset: then it is derived on each node"
        expected = "an interface that leads to the other machines"
        yield Finding("interface_loopback", tuple(nodes), expected, f"{name}, the loopback", remedy)


def _address(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """Peers dial the node's address, so it must be one of the node, on the interface that is named by hand."""
    for node, fingerprint in fingerprints.items():
        network, where = fingerprint["network"], plan["nodes"][node]["address"]
        reachable = [item for item in network["address"]["resolved"] if not ipaddress.ip_address(item).is_loopback]
        carrier = network["address"]["interface"]
        if reachable and not carrier:
            found = ", ".join(
                f"{address} on {name}"
                for name, facts in network["interfaces"].items()
                for address in data_network.addresses_of(network, name)
                if not facts["loopback"] and not ipaddress.ip_address(address).is_link_local
            )
            leads = f"{where} ({reachable[0]})" if where != reachable[0] else where
            remedy = "set axolotl_address of this node to its own address on the data network"
            yield Finding(
                "address_not_here", (node,), f"{leads} is an address of the node", f"it has {found or 'none'}", remedy
            )
            continue
        for use in dict.fromkeys(use._replace(source="") for use in uses(plan, node, fingerprint) if use.by_hand):
            if not use.matched:
                continue  # it is missing, which is said
            own = [address for name in use.matched for address in data_network.addresses_of(network, name)]
            if not own:
                remedy = "give it an address, or name another interface"
                yield Finding("interface_address", (node,), f"{use.name} has an address", "it has none", remedy)
            elif reachable and carrier not in use.matched:
                yield Finding(
                    "interface_address",
                    (node,),
                    f"the interface that is named by hand carries {where}, by which peers reach the node",
                    f"{use.name} has {names(own, 4)}; {where} is on {carrier}",
                    f"set axolotl_address of this node to {own[0]}, or leave the interface to be derived",
                )


def _management(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    if data_network.on_one_machine(plan):
        return
    declared: dict[str, list[str]] = {}
    likely: dict[str, list[str]] = {}
    for node, fingerprint in fingerprints.items():
        network = fingerprint["network"]
        login = network["login"] or network["default_route"]
        for use in uses(plan, node, fingerprint):
            for name in use.matched:
                own = data_network.addresses_of(network, name)
                if any(data_network.in_networks(address, plan["management_networks"]) for address in own):
                    declared.setdefault(name, []).append(node)
                elif name == login and not use.by_hand and _others(network, name):
                    likely.setdefault(f"{name}; there are also {names(_others(network, name))}", []).append(node)
    remedy = "set axolotl_address of these nodes to their addresses on the data network"
    expected = "the training has a network of its own"
    for name, nodes in declared.items():
        found = f"{name}, whose address is in axolotl_management_networks"
        yield Finding("interface_management", tuple(dict.fromkeys(nodes)), expected, found, remedy)
    for found, nodes in likely.items():
        meant = f"{remedy}; if this interface is meant, name it in axolotl_interface"
        what = f"it shares the interface of the login, {found}"
        yield Finding("interface_management", tuple(nodes), expected, what, meant, WARNING)


def _others(network: Mapping[str, Any], name: str) -> list[str]:
    """Interfaces that could carry the training as well."""
    return [
        other
        for other, facts in network["interfaces"].items()
        if other != name
        and facts["up"]
        and facts["state"] not in DOWN
        and facts["kind"] not in HOST_ONLY
        and any(
            not ipaddress.ip_address(address).is_link_local for address in data_network.addresses_of(network, other)
        )
    ]


def _head_name(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    head = plan["head"]
    known = fingerprints.get(head, {}).get("network", {}).get("head")
    if not known or data_network.on_one_machine(plan):
        return
    loopback = [item for item in known["resolved"] if ipaddress.ip_address(item).is_loopback]
    if loopback:
        yield Finding(
            "head_resolves_loopback",
            (head,),
            f"{known['name']} leads to an address on the data network, on the head itself too",
            f"there it resolves to {', '.join(loopback)}",
            f"take {known['name']} out of the line of {loopback[0]} in the head's /etc/hosts, or set axolotl_address "
            "of the head to an IP address",
        )


def _mtu(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """An MTU that differs within one network loses what is too large for the smaller one, without a word."""
    found = {}
    for node, fingerprint in fingerprints.items():
        interface = data_network.data_interface(plan, node, fingerprint).interface
        facts = fingerprint["network"]["interfaces"].get(interface, {})
        if facts.get("mtu"):
            found[node] = facts["mtu"]
    result = outliers(found, head=plan["head"])
    for mtu, nodes in result.found.items():
        remedy = "set one MTU on the interfaces of the data network, on these nodes and on the switches"
        expected = f"MTU {result.expected} on the interface that carries the training, as on most nodes"
        yield Finding("mtu_differs", tuple(nodes), expected, f"MTU {mtu}", remedy, WARNING)


def _meant(plan: Plan, node: str, fingerprint: Fingerprint) -> list[str]:
    """The interfaces that are named exactly, or derived; of a pattern the first match serves."""
    return list(
        dict.fromkeys(
            name for use in uses(plan, node, fingerprint) if use.matched == (use.name,) for name in use.matched
        )
    )


RULES: tuple[Rule, ...] = (_missing, _down, _loopback, _address, _management, _head_name, _mtu)
