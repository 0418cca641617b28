# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens ufw on this node."""

from __future__ import annotations

from ..core import firewall_ufw as rules
from ..core.firewall_opening import Opening
from .firewall_tools import FirewallError, read, run


class Ufw:
    """ufw, by its own command, which changes the files and the kernel together."""

    name = "ufw"
    DEFAULTS = "/etc/default/ufw"

    def __init__(self) -> None:
        self._status = run(["ufw", "status", "verbose"])
        self._added = run(["ufw", "show", "added"])

    def active(self) -> bool:
        return rules.is_active(self._status)

    def found(self) -> dict[str, str]:
        return {"ufw show added": "".join(f"{rule}\n" for rule in rules.found(self._added))}

    def wanted(self, opening: Opening | None) -> dict[str, str]:
        return {"ufw show added": "".join(f"{rule}\n" for rule in self._wanted(opening))}

    def _wanted(self, opening: Opening | None) -> list[str]:
        if not opening:
            return []
        outgoing = rules.filters_outgoing(self._status)
        try:
            return rules.wanted(opening, outgoing, rules.takes_ipv6(read(self.DEFAULTS)))
        except rules.CannotOpen as error:
            raise FirewallError(str(error)) from None

    def apply(self, opening: Opening | None) -> None:
        found, wanted = rules.found(self._added), self._wanted(opening)
        for rule in wanted:
            if rule not in found:
                run(rules.adding(rule))
        for rule in found:
            if rule not in wanted:
                run(rules.deleting(rule))
        self._added = run(["ufw", "show", "added"])
