# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewalls of this node: what filters, what of ours is open in it, and opening exactly what is wanted.

Each firewall is changed by its own tools alone, and none is ever started, enabled, stopped or flushed.
"""

from __future__ import annotations

from typing import Protocol

from ..core import firewall_iptables
from ..core.firewall_opening import Opening
from . import commands, firewall_firewalld, firewall_nftables, firewall_ufw
from .firewall_tools import SECONDS, environment, has, read


class Firewall(Protocol):
    """One backend. `found` and `wanted` are texts by what shows or holds them: equal texts are an equal state."""

    name: str

    def active(self) -> bool:
        """Whether it filters what is to be open."""

    def found(self) -> dict[str, str]:
        """What of ours is open."""

    def wanted(self, opening: Opening | None) -> dict[str, str]:
        """What has to be open; None for nothing."""

    def apply(self, opening: Opening | None) -> None:
        """Open that and close everything else that is ours."""


def backends(opening: Opening) -> list[Firewall]:
    """Every firewall whose tools this node has."""
    found: list[Firewall] = []
    if has("firewall-cmd"):
        found.append(firewall_firewalld.Firewalld())
    if has("ufw"):
        found.append(firewall_ufw.Ufw())
    if has("nft"):
        found.append(firewall_nftables.Nftables(opening))
    return found


def iptables_filtering() -> list[str]:
    """The iptables chains that drop whatever no rule accepts, each with the tool that shows it."""
    found = []
    for tool, proc in (("iptables", "ip_tables_names"), ("ip6tables", "ip6_tables_names")):
        # Where the old tables are not in use, their tool would load the kernel modules for them.
        legacy = read(f"/proc/net/{proc}").split()
        tools = [f"{tool}-save", *([f"{tool}-legacy-save"] if "filter" in legacy else [])]
        for saver in tools:
            unused = saver == f"{tool}-save" and not legacy and _is_legacy(tool)
            if has(saver) and not unused:
                saved = commands.run([saver, "-t", "filter"], SECONDS, environment()).stdout
                found += [f"{chain} of {saver}" for chain in firewall_iptables.filtering(saved)]
    return found


def local_port_range() -> str:
    """The ports from which the kernel chooses where a program leaves it to the kernel, as NCCL and gloo do: ip(7)."""
    return "-".join(read("/proc/sys/net/ipv4/ip_local_port_range").split())


def _is_legacy(tool: str) -> bool:
    return "legacy" in commands.run([tool, "--version"], SECONDS, environment()).stdout
