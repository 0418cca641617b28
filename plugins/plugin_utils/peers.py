# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who the peers are and on which ports they meet: computed once on the controller, the same for every node."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from .settings import Values

LAUNCHER_PORTS: Mapping[str, tuple[str, ...]] = {
    # The GCS and the range of the workers' gRPC servers, Ray's defaults: docs.ray.io/en/latest/ray-core/configure.html
    "ray": ("6379", "10002-19999"),
}
"""TCP ports that a launcher needs on every node beside the rendezvous. What it lets the kernel choose is not here."""


def addresses(values: Mapping[str, Values]) -> tuple[list[str], list[str]]:
    """The addresses of all nodes as one small set.

    Returns:
        addresses and networks in CIDR form, collapsed and in order, IPv4 first, without the loopback's; and the names
        among the nodes' addresses, sorted. A name is not resolved here: the controller may see another address than
        the nodes do, and a firewall that follows a name server trusts whoever answers for it.
    """
    networks, names = [], []
    for node, known in values.items():
        own = known.address or node
        try:
            networks.append(_network(own))
        except ValueError:
            names.append(own)
        networks += [_network(further) for further in known.peer_addresses]
    return _collapsed(networks), sorted(set(names) - {"localhost"})


def ports(fleet: Values) -> list[str]:
    """The TCP ports that the fleet's settings fix; the range from which the kernel chooses is each node's own."""
    return [str(fleet.master_port), str(fleet.watch_port), *LAUNCHER_PORTS.get(fleet.launcher, ())]


def _network(text: str) -> Any:
    network = ipaddress.ip_network(text)
    if getattr(network.network_address, "scope_id", None):
        raise ValueError("an address with a zone means another machine on every node")
    return network


def _collapsed(networks: Iterable[Any]) -> list[str]:
    found = []
    for version in (4, 6):
        kept = {network for network in networks if network.version == version and not network.is_loopback}
        for network in ipaddress.collapse_addresses(kept):
            single = network.num_addresses == 1
            found.append(str(network.network_address) if single else str(network))
    return found
