# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes on the node itself that its firewall is open to peers, for its owner and for when nothing is to be open."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.firewall_opening import Opening
from .firewall_tools import RECORD, read, store


class Record:
    """The note. Without it, axolotl_firewall none has nothing to remove and needs no root."""

    name = "record"
    PATH = f"{RECORD}/firewall"

    def __init__(self, opened: Sequence[str]) -> None:
        self._text = (
            f"gpufleet.axolotl opened {' and '.join(opened)} to the peers of this node. To close it again, set\n"
            "axolotl_firewall to none in the inventory, and provision.\n"
            if opened
            else ""
        )

    def active(self) -> bool:
        """A note filters nothing."""
        return False

    def found(self) -> dict[str, str]:
        """What the note says now."""
        return {self.PATH: read(self.PATH)}

    def wanted(self, _opening: Opening | None) -> dict[str, str]:
        """What it has to say."""
        return {self.PATH: self._text}

    def apply(self, _opening: Opening | None) -> None:
        """Say it."""
        store({self.PATH: self._text})
