# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's firewall is to let through between the fleet's nodes: some TCP ports, from and to the peers alone."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

NAME = "gpufleet"
"""Everything that is opened carries this name, by which it is found again, changed and removed."""


class Opening(NamedTuple):
    """What is to be open.

    Attributes:
        peers: addresses and networks in CIDR form that do not overlap; a single address has no prefix length.
        ports: TCP ports and ranges (``32768-60999``) that do not overlap, ascending.
    """

    peers: tuple[str, ...]
    ports: tuple[str, ...]

    def of_version(self, version: int) -> tuple[str, ...]:
        """The peers of one IP version, 4 or 6."""
        return tuple(peer for peer in self.peers if ipaddress.ip_network(peer).version == version)


class NotActive(ValueError):
    """A backend that was asked for by name, but filters nothing; the message says what was expected and found."""


def merged_ports(*ports: str) -> tuple[str, ...]:
    """Join single ports and ranges, so that none overlaps: nftables refuses sets in which some do."""
    merged: list[list[int]] = []
    for first, last in sorted(port_range(port) for port in ports):
        if merged and first <= merged[-1][1] + 1:
            merged[-1][1] = max(last, merged[-1][1])
        else:
            merged.append([first, last])
    return tuple(str(first) if first == last else f"{first}-{last}" for first, last in merged)


def port_range(port: str) -> tuple[int, int]:
    """The first and the last port of ``29500`` or ``32768-60999``.

    Raises:
        ValueError: it is neither.
    """
    first, _dash, last = port.partition("-")
    return int(first), int(last or first)


def to_open(backend: str, active: Iterable[str]) -> list[str]:
    """Decide in which firewalls to open.

    Packets must pass every firewall that filters them, so `auto` is all that are active, and usually that is one.

    Args:
        backend: a firewall's name, ``auto`` or ``none``.
        active: names of the firewalls that filter on the node.

    Raises:
        NotActive: the one that is asked for does not filter.
    """
    found = sorted(active)
    if backend == "auto":
        return found
    if backend == "none":
        return []
    if backend not in found:
        raise NotActive(
            f"expected {backend} to be active, as axolotl_firewall says, and found {', '.join(found) or 'no'} "
            f"active firewall: start {backend} yourself, or set axolotl_firewall to auto. It is never started or "
            "enabled by this collection."
        )
    return [backend]
