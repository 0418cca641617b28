# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which interface of each node, and which ports of its adapters, carry the training.

What axolotl_environment sets by hand comes first, then axolotl_interface and axolotl_hcas, then what can be derived.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from .nccl_names import NameList

INFINIBAND, ETHERNET = "InfiniBand", "Ethernet"
"""Link layers that NCCL takes; a port with another one does not count (src/transport/net_ib/init.cc)."""
DERIVED = {"cpu": {"GLOO_SOCKET_IFNAME"}, "cuda": {"GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"}}
"""Accelerator to the variables that name the interface; on CPU the trainers meet over gloo alone."""
ACTIVE = "ACTIVE"
ROCE_V2 = "RoCE v2"

Plan = Mapping[str, Any]
Fingerprint = Mapping[str, Any]
Fingerprints = Mapping[str, Fingerprint]


def environment(plan: Plan, node: str) -> Mapping[str, str]:
    """The environment of a node's trainers as the plan has it."""
    start = plan["nodes"][node]["start"]
    return start["environment"] if start else {}


def on_one_machine(plan: Plan) -> bool:
    """Whether all nodes share one machine, where the loopback is a network like any other."""
    return len({part["machine"] for part in plan["nodes"].values()}) == 1


# The interface


class Chosen(NamedTuple):
    """An interface, None where there is none to be told, and why it is this one."""

    interface: str | None
    reason: str


def data_interface(plan: Plan, node: str, fingerprint: Fingerprint) -> Chosen:
    """The interface on which a node's peers reach it."""
    part, network = plan["nodes"][node], fingerprint["network"]
    if part["interface"]:
        return Chosen(part["interface"], "axolotl_interface names it")
    carrier = network["address"]["interface"]
    if carrier and (not is_loopback(network, carrier) or on_one_machine(plan)):
        return Chosen(carrier, f"it carries {part['address']}, the node's address")
    # A host's own name often leads to the loopback on the host itself; the way to the head tells all the same.
    way = network["head"]["interface"]
    if node != plan["head"] and way and not is_loopback(network, way):
        return Chosen(way, f"it leads to the head, {plan['head_address']}")
    return Chosen(None, "no interface carries the node's address")


def is_loopback(network: Mapping[str, Any], interface: str) -> bool:
    """Whether an interface is the loopback; one that does not exist is none."""
    return bool(network["interfaces"].get(interface, {}).get("loopback"))


def addresses_of(network: Mapping[str, Any], interface: str | None) -> list[str]:
    """The addresses of an interface, without their prefix."""
    known = network["interfaces"].get(interface or "", {}).get("addresses", [])
    return [address.partition("/")[0] for address in known]


# The adapters


class Port(NamedTuple):
    """One port of an adapter and what its node said of it."""

    hca: str
    number: int
    facts: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, int]:
        return self.hca, self.number

    @property
    def label(self) -> str:
        return f"{self.hca} port {self.number}"

    @property
    def active(self) -> bool:
        return bool(self.facts["state"] == ACTIVE)

    @property
    def gids(self) -> list[Mapping[str, Any]]:
        """The RoCE v2 GIDs that carry an address which others can reach."""
        return [
            gid
            for gid in self.facts["gids"]
            if gid["type"] == ROCE_V2 and not ipaddress.ip_address(gid["address"]).is_link_local
        ]


class Selection(NamedTuple):
    """What the inventory says about the adapters of a node.

    Attributes:
        names: the adapters that are wanted, None where nothing is said.
        source: the setting or variable that says so.
        off: whether InfiniBand and RoCE are switched off.
        required: whether training without them was excluded by hand.
    """

    names: NameList | None
    source: str
    off: bool = False
    required: bool = False


def selection(plan: Plan, node: str) -> Selection:
    """What the inventory says about the adapters of a node."""
    variables, hcas = environment(plan, node), plan["nodes"][node]["hcas"]
    network = variables.get("NCCL_NET", "")
    if re.fullmatch(r"\s*[+-]?0*[1-9]\d*\s*", variables.get("NCCL_IB_DISABLE", "")):  # a number that is not 0
        return Selection(None, "NCCL_IB_DISABLE", off=True)
    if network.lower() == "socket":
        return Selection(None, "NCCL_NET", off=True)
    required = network.lower() == "ib"
    if "NCCL_IB_HCA" in variables:
        return Selection(NameList.parse(variables["NCCL_IB_HCA"]), "NCCL_IB_HCA", required=True)
    if hcas is not None:
        return Selection(NameList.of(hcas), "axolotl_hcas", off=not hcas, required=bool(hcas))
    return Selection(None, "NCCL_NET" if required else "", required=required)


@dataclasses.dataclass(frozen=True)
class Fabric:
    """The adapters of the fleet.

    Attributes:
        link_layer: InfiniBand or Ethernet, what carries the training; None where no adapter does.
        selections: node to what the inventory says, for the nodes that were read and have them switched on.
        ports: node to all its ports, by adapter and number.
        chosen: node to those that are meant for the training, whatever state they are in.
        usable: node to those of them that NCCL will use: active, with the fleet's link layer.
    """

    link_layer: str | None
    selections: Mapping[str, Selection]
    ports: Mapping[str, Mapping[tuple[str, int], Port]]
    chosen: Mapping[str, list[Port]]
    usable: Mapping[str, list[Port]]

    @property
    def name(self) -> str:
        """What carries the training, as people call it."""
        return "RoCE" if self.link_layer == ETHERNET else "InfiniBand"

    @property
    def underived(self) -> list[str]:
        """Nodes whose adapters the inventory does not name one by one, so that only peers tell what is missing."""
        return [node for node, said in self.selections.items() if not (said.names and said.names.names_each)]

    def expected(self) -> tuple[list[tuple[str, int]], int]:
        """What such a node should have: the ports usable on at least half of them, and how many most have."""
        seen = Counter(port.key for node in self.underived for port in self.usable[node])
        keys = sorted(key for key, count in seen.items() if 2 * count >= len(self.underived))
        counts = Counter(len(self.usable[node]) for node in self.underived)
        most = max(counts, key=lambda count: (counts[count], count), default=0)
        return keys, most


def fabric(plan: Plan, fingerprints: Fingerprints) -> Fabric:
    """Find the adapters that carry the training."""
    selections, ports, chosen = {}, {}, {}
    for node in plan["nodes"]:
        said = selection(plan, node)
        if node in fingerprints and not said.off:
            selections[node] = said
            ports[node] = _ports(fingerprints[node])
            chosen[node] = _chosen(plan, node, fingerprints[node], said, list(ports[node].values()))
    link_layer = _link_layer(chosen)
    usable = {
        node: [port for port in found if port.active and port.facts["link_layer"] == link_layer]
        for node, found in chosen.items()
    }
    return Fabric(link_layer, selections, ports, chosen, usable)


def _ports(fingerprint: Fingerprint) -> dict[tuple[str, int], Port]:
    found = [
        Port(hca, int(number), facts)
        for hca, adapter in fingerprint["infiniband"]["hcas"].items()
        for number, facts in adapter["ports"].items()
        if facts["link_layer"] in (INFINIBAND, ETHERNET)
    ]
    return {port.key: port for port in sorted(found, key=lambda port: [*_natural(port.hca), port.number])}


def _natural(name: str) -> list[Any]:
    """A key by which mlx5_2 comes before mlx5_10."""
    stem = name.rstrip("0123456789")
    return [stem, int(name[len(stem) :] or -1)]


def _chosen(plan: Plan, node: str, fingerprint: Fingerprint, said: Selection, ports: list[Port]) -> list[Port]:
    if said.names:
        return [port for port in ports if said.names.matches(port.hca, port.number)]
    infiniband = [port for port in ports if port.facts["link_layer"] == INFINIBAND]
    ethernet = [port for port in ports if port.facts["link_layer"] == ETHERNET]
    interface = data_interface(plan, node, fingerprint).interface
    rails = [port for port in ethernet if _carries_data(plan, port, fingerprint["network"], interface)]
    # Where the only addressed adapter carries the login too, it carries the training as well.
    alone = [port for port in ethernet if any(gid["netdev"] == interface for gid in port.gids)]
    return infiniband + (rails or alone)


def _carries_data(plan: Plan, port: Port, network: Mapping[str, Any], interface: str | None) -> bool:
    """Whether a RoCE port has an address, and not that of a management network.

    Storage can't be told from training by what the node says: axolotl_hcas does.
    """
    gids = [gid for gid in port.gids if not in_networks(gid["address"], plan["management_networks"])]
    devices = {gid["netdev"] for gid in gids}
    if not gids or network["login"] in devices:
        return False
    return interface in devices or network["default_route"] not in devices


def in_networks(address: str, networks: list[str]) -> bool:
    """Whether an address lies in one of these networks."""
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in networks)


def _link_layer(chosen: Mapping[str, list[Port]]) -> str | None:
    """What most nodes have active, InfiniBand where a node has both or as many nodes have either."""
    counts: Counter[str] = Counter()
    for ports in chosen.values():
        layers = {port.facts["link_layer"] for port in ports if port.active}
        counts.update(sorted(layers, key=lambda layer: layer != INFINIBAND)[:1])
    if counts:
        return max(counts, key=lambda layer: (counts[layer], layer == INFINIBAND))
    present = {port.facts["link_layer"] for ports in chosen.values() for port in ports}
    return INFINIBAND if INFINIBAND in present else None
