# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derives the variables by which NCCL and gloo find the data network, for each node from what it is made of.

What axolotl_environment sets by hand is never touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from . import data_network
from .data_network import ETHERNET, Fabric, Fingerprints, Plan, Port


class Derived(NamedTuple):
    """The value of a variable, and why it is this one."""

    value: str
    reason: str


def completed(plan: Plan, fingerprints: Fingerprints) -> dict[str, Any]:
    """The plan with what the nodes told: `derived` of each node, which is then in its environment too."""
    nodes = dict(plan["nodes"])
    for node, variables in derive(plan, fingerprints).items():
        part = nodes[node]
        environment = {**part["start"]["environment"], **{name: found.value for name, found in variables.items()}}
        nodes[node] = {
            **part,
            "derived": {name: found._asdict() for name, found in variables.items()},
            "start": {**part["start"], "environment": environment},
        }
    return {**plan, "nodes": nodes}


def derive(plan: Plan, fingerprints: Fingerprints) -> dict[str, dict[str, Derived]]:
    """For each node that was read and can start: variable to what it should be."""
    fabric = data_network.fabric(plan, fingerprints)
    found = {}
    for node, part in plan["nodes"].items():
        if node in fingerprints and part["start"]:
            by_hand = part["start"]["environment"]
            variables = _interface(plan, node, fingerprints[node])
            if plan["accelerator"] == "cuda":
                variables |= _adapters(plan, node, fingerprints[node], fabric)
            found[node] = {name: value for name, value in variables.items() if name not in by_hand}
    return found


def _interface(plan: Plan, node: str, fingerprint: Mapping[str, Any]) -> dict[str, Derived]:
    interface, reason = data_network.data_interface(plan, node, fingerprint)
    if not interface:
        return {}
    values = {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": f"={interface}"}
    return {name: Derived(values[name], reason) for name in data_network.DERIVED[plan["accelerator"]]}


def _adapters(plan: Plan, node: str, fingerprint: Mapping[str, Any], fabric: Fabric) -> dict[str, Derived]:
    if plan["nodes"][node]["hcas"] == []:
        return {"NCCL_IB_DISABLE": Derived("1", "axolotl_hcas is empty")}
    ports = fabric.usable.get(node)
    if not ports:
        return {}
    several = {hca for hca, number in fabric.ports[node] if number > 1}
    names = [f"{port.hca}:{port.number}" if port.hca in several else port.hca for port in ports]
    reason = f"active {fabric.name} ports, {_rates(ports)}"
    said = fabric.selections[node]
    if said.source == "axolotl_hcas":
        names, reason = plan["nodes"][node]["hcas"], "axolotl_hcas names them"
    variables = {
        "NCCL_IB_HCA": Derived("=" + ",".join(names), reason),
        "NCCL_IB_DISABLE": Derived("0", "undoes a 1 that /etc/nccl.conf may have"),
    }
    if fabric.link_layer == ETHERNET:
        variables |= _gid(plan, node, fingerprint, ports)
    return variables


def _rates(ports: Sequence[Port]) -> str:
    return ", ".join(sorted({str(port.facts["rate"]) for port in ports}))


def _gid(plan: Plan, node: str, fingerprint: Mapping[str, Any], ports: Sequence[Port]) -> dict[str, Derived]:
    """One index holds for all ports; where they need different ones, NCCL is left to choose (it does since 2.21)."""
    interface = data_network.data_interface(plan, node, fingerprint).interface
    addresses = data_network.addresses_of(fingerprint["network"], interface)
    indexes = {gid["index"] if gid else None for gid in (gid_of(port, addresses) for port in ports)}
    if len(indexes) > 1 or None in indexes:
        return {}
    carried = sorted({str(gid["address"]) for port in ports if (gid := gid_of(port, addresses))})
    reason = f"the RoCE v2 GID that carries {', '.join(carried[:8])}"
    return {"NCCL_IB_GID_INDEX": Derived(str(indexes.pop()), reason)}


def gid_of(port: Port, addresses: Sequence[str]) -> Mapping[str, Any] | None:
    """The RoCE v2 GID with one of the node's data addresses; of a port with other addresses, its first."""
    carrying = [gid for gid in port.gids if gid["address"] in addresses]
    return next(iter(carrying + port.gids), None)
