# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens ufw: one rule for each network of peers, made by ufw itself, so that it stands in ``ufw status`` and persists.

ufw knows no sets. An ipset in its before.rules would keep the whole firewall from starting on the day that the set
can't be made; a rule too few only closes something.
"""

from __future__ import annotations

import re
import shlex

from .firewall_opening import NAME, Opening

MAX_NETWORKS = 64
"""Each is a rule, which takes ufw a fifth of a second to make and the kernel a comparison per new connection."""
_COMMENT = f" comment '{NAME}'"


class CannotOpen(ValueError):
    """ufw can't let these peers in; the message says what to do."""


def found(added: str) -> list[str]:
    """Our rules, as ``ufw show added`` prints them, whether ufw is active or not."""
    return sorted(line for line in added.splitlines() if line.startswith("ufw ") and line.endswith(_COMMENT))


def wanted(opening: Opening, outgoing: bool, ipv6: bool) -> list[str]:
    """The rules that have to be there, in the same form.

    Args:
        opening: what is to be open.
        outgoing: whether ufw filters what the host sends.
        ipv6: whether ufw takes rules for IPv6; where it does not, it drops all of it.

    Raises:
        CannotOpen: there would be more than MAX_NETWORKS of a kind, or IPv6 is closed.
    """
    peers = opening.peers
    if opening.of_version(6) and not ipv6:
        raise CannotOpen(
            f"expected IPV6=yes in /etc/default/ufw, since {opening.of_version(6)[0]} is among the peers, and found "
            "ufw dropping all of IPv6: set it there and run ufw reload, or give the nodes IPv4 addresses"
        )
    if len(peers) > MAX_NETWORKS:
        raise CannotOpen(
            f"the peers are {len(peers)} networks, and ufw, which knows no sets, would need a rule for each: expected "
            f"at most {MAX_NETWORKS}. Give nodes consecutive addresses, or name the networks that hold only them once "
            "in axolotl_peer_addresses, which swallows the addresses in them; or use firewalld or nftables."
        )
    ports = ",".join(opening.ports).replace("-", ":")
    rules = [f"ufw allow from {peer} to any port {ports} proto tcp{_COMMENT}" for peer in peers]
    if outgoing:
        rules += [f"ufw allow out to {peer} port {ports} proto tcp{_COMMENT}" for peer in peers]
    return sorted(rules)


def is_active(status: str) -> bool:
    """Read ``ufw status verbose``."""
    return re.search(r"^Status: active$", status, re.MULTILINE) is not None


def filters_outgoing(status: str) -> bool:
    """Whether ``ufw status verbose`` tells of a default or a rule that keeps the host from sending."""
    default = re.search(r"^Default: .*\b(?:deny|reject) \(outgoing\)", status, re.MULTILINE)
    rule = re.search(r"\s(?:DENY|REJECT) OUT\s", status)
    return bool(default or rule)


def takes_ipv6(defaults: str) -> bool:
    """Read /etc/default/ufw: without IPV6=yes ufw drops all of IPv6 and takes no rule for it."""
    return re.search(r"""^IPV6=["']?yes["']?\s*$""", defaults, re.MULTILINE | re.IGNORECASE) is not None


def adding(rule: str) -> list[str]:
    """The command that makes a rule the first one, before whatever the owner denies."""
    return ["ufw", "prepend", *shlex.split(rule)[1:]]


def deleting(rule: str) -> list[str]:
    """The command that deletes it."""
    return ["ufw", "delete", *shlex.split(rule[: -len(_COMMENT)])[1:]]
