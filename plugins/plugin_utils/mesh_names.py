# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the names in use mean the same on every node.

In use are the addresses of the plan that are names. The head's is dialled by torchrun, the trainers and the watch; the
others' by preflight alone. NCCL and gloo tell each other addresses of the interfaces that the plan names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import mesh_protocol as protocol
from ansible_collections.gpufleet.axolotl.plugins.module_utils.core import number_ranges

from .comparison import outliers
from .findings import WARNING, Finding
from .mesh_view import Plan, Results

Addresses = tuple[str, ...]

SHOWN = 5
REMEDY = "make it mean the same on all nodes (DNS, /etc/hosts), or set axolotl_address to an IP address"


def examine(plan: Plan, listeners: Results, probes: Results) -> list[Finding]:
    """Names that do not resolve, and names that differ."""
    return [*_unresolved(plan, listeners, probes), *_different(plan, listeners, probes)]


def readings(plan: Plan, listeners: Results, probes: Results) -> dict[str, dict[str, Addresses]]:
    """Name to node to the addresses that it means there, sorted; a node of which that is not known is left out."""
    reference = listeners.get(plan["head"], {}).get("names", {})
    found: dict[str, dict[str, Addresses]] = {}
    for name, addresses in reference.items():
        of_node = found[name] = {plan["head"]: tuple(sorted(addresses))}
        for node, probe in probes.items():
            different = probe["names"]["different"]
            if name in different:
                of_node[node] = tuple(sorted(different[name]))
            elif len(different) == probe["names"]["count"]:  # else it says no more than how many differ
                of_node[node] = tuple(sorted(addresses))
    return found


def unresolved(plan: Plan, listeners: Results, probes: Results) -> dict[str, list[str]]:
    """Name to the nodes on which it does not resolve, in rank order."""
    order = list(plan["nodes"])
    found: dict[str, set[str]] = {}
    for name, of_node in readings(plan, listeners, probes).items():
        without = {node for node, addresses in of_node.items() if not addresses}
        if without:
            found[name] = without
    for node, probe in probes.items():
        for position in number_ranges.unpack(probe["failed"].get(protocol.UNRESOLVED, "")):
            found.setdefault(plan["nodes"][order[position]]["address"], set()).add(node)
    return {name: [node for node in order if node in nodes] for name, nodes in found.items()}


def _unresolved(plan: Plan, listeners: Results, probes: Results) -> Iterator[Finding]:
    names_of: dict[tuple[str, ...], list[str]] = {}
    for name, nodes in unresolved(plan, listeners, probes).items():
        names_of.setdefault(tuple(nodes), []).append(name)
    for without, names in names_of.items():
        yield Finding("name_resolution", without, f"{_some(names)} resolves", "it does not resolve there", REMEDY)


def _different(plan: Plan, listeners: Results, probes: Results) -> Iterator[Finding]:
    errors: dict[tuple[str, ...], list[str]] = {}
    warnings: dict[tuple[str, ...], list[str]] = {}
    for name, of_node in readings(plan, listeners, probes).items():
        known = {
            node: addresses
            for node, addresses in of_node.items()
            # Debian and Ubuntu let a host's own name mean loopback, and listening there takes care of that.
            if addresses and not (plan["nodes"][node]["address"] == name and _is_loopback(addresses))
        }
        most = outliers(known, head=plan["head"])
        usual = tuple(map(str, most.expected)) if isinstance(most.expected, tuple) else ()
        for nodes in most.found.values():
            addresses = known[nodes[0]]
            apart = name == plan["head_address"] and not set(addresses) & set(usual)
            told = f"{name} is {', '.join(addresses)} instead of {', '.join(usual)}"
            (errors if apart else warnings).setdefault(tuple(nodes), []).append(told)
    expected = "names mean the same as on most nodes"
    for others, found in errors.items():
        yield Finding("name_resolution", others, expected, _some(found, "; "), REMEDY)
    for others, found in warnings.items():
        yield Finding("name_resolution", others, expected, _some(found, "; "), REMEDY, WARNING)


def _is_loopback(addresses: Addresses) -> bool:
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)


def _some(items: list[str], separator: str = ", ") -> str:
    return separator.join(items[:SHOWN]) + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")
