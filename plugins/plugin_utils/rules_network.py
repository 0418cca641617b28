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
from .findings import WARNING, Finding, examples, names
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
    if derived and not part["interface"] and not data_network.DERIVED[plan["accelerator"]] <= set(variables):
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


def _not_here(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    found: dict[str, str] = {}
    for node, fingerprint in fingerprints.items():
        network = fingerprint["network"]
        lacking = not all(use.matched for use in uses(plan, node, fingerprint))  # with its address: that is said
        if _leading_away(network) and not network["address"]["interface"] and not lacking:
            own = [f"{address} on {name}" for name in network["interfaces"] for address in _own(network, name)]
            found[node] = f"{_name(plan, node, network)} is none of {', '.join(own[:8]) or 'no addresses'}"
    if found:
        remedy = "set axolotl_address of these nodes to their own addresses on the data network"
        yield Finding("address_not_here", tuple(found), "a node's address is one of its own", examples(found), remedy)


def _address(plan: Plan, fingerprints: Fingerprints) -> Iterator[Finding]:
    """Peers dial the node's address, so it must be on the interface that is named by hand."""
    bare: dict[str, list[str]] = {}
    elsewhere: dict[str, dict[str, tuple[str, str]]] = {}
    for node, fingerprint in fingerprints.items():
        network = fingerprint["network"]
        carrier = network["address"]["interface"]
        for use in uses(plan, node, fingerprint):
            own = [address for name in use.matched for address in _own(network, name)]
            if not use.by_hand or not use.matched or any(_loops(network, name) for name in use.matched):
                continue
            if not own:
                bare.setdefault(use.name, []).append(node)
            elif carrier and _leading_away(network) and carrier not in use.matched:
                said = f"{use.name} has {own[0]}, and {_name(plan, node, network)} is on {carrier}"
                elsewhere.setdefault(use.name, {})[node] = (said, own[0])
    for name, nodes in bare.items():
        remedy = f"give {name} an address, or name another interface"
        hosts = tuple(dict.fromkeys(nodes))
        yield Finding("interface_address", hosts, f"{name}, which is named by hand, has an address", "none", remedy)
    for name, cases in elsewhere.items():
        addresses = examples({node: address for node, (_said, address) in cases.items()})
        yield Finding(
            "interface_address",
            tuple(cases),
            f"{name}, which is named by hand, carries the address by which peers reach the node",
            examples({node: said for node, (said, _address) in cases.items()}),
            f"set axolotl_address ({addresses}), or leave the interface to be derived",
        )


def _loops(network: Mapping[str, Any], name: str) -> bool:
    return data_network.is_loopback(network, name)


def _own(network: Mapping[str, Any], name: str) -> list[str]:
    """The addresses of an interface that others can reach."""
    known = data_network.addresses_of(network, name) if not _loops(network, name) else []
    return [address for address in known if not ipaddress.ip_address(address).is_link_local]


def _leading_away(network: Mapping[str, Any]) -> list[str]:
    """What the node's address is on the node itself, the loopback left out."""
    return [item for item in network["address"]["resolved"] if not ipaddress.ip_address(item).is_loopback]


def _name(plan: Plan, node: str, network: Mapping[str, Any]) -> str:
    where, address = plan["nodes"][node]["address"], _leading_away(network)[0]
    return str(where) if where == address else f"{where} ({address})"


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
        and _own(network, other)
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


RULES: tuple[Rule, ...] = (_missing, _down, _loopback, _not_here, _address, _management, _head_name, _mtu)
