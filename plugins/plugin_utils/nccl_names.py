# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lists of names that NCCL_SOCKET_IFNAME and NCCL_IB_HCA hold, read and matched as NCCL does it.

Source: parseStringList and matchIfList in NCCL's src/misc/utils.cc.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class NameList(NamedTuple):
    """One such list.

    Attributes:
        entries: names, each with a port, None standing for every port.
        exact: it began with ``=``; else each name stands for all that begin with it, mlx5_1 for mlx5_10 too.
        exclude: it began with ``^``, and names what must not be taken. Both signs are of the whole list.
    """

    entries: tuple[tuple[str, int | None], ...]
    exact: bool
    exclude: bool

    @classmethod
    def parse(cls, text: str) -> NameList:
        """Read the value of one of the two variables."""
        exclude = text.startswith("^")
        text = text[1:] if exclude else text
        exact = text.startswith("=")
        text = text[1:] if exact else text
        entries = []
        for item in text.split(","):
            name, colon, port = item.partition(":")
            number = re.match(r"\s*[+-]?\d+", port)  # atoi: 0 where there is none
            if name:
                entries.append((name, int(number.group()) if number else 0) if colon else (name, None))
        return cls(tuple(entries), exact, exclude)

    @classmethod
    def of(cls, names: list[str]) -> NameList:
        """Exactly these names, each with or without a port."""
        return cls.parse("=" + ",".join(names))

    @property
    def names_each(self) -> bool:
        """Whether it names exactly what is wanted, so that each of it must be there."""
        return self.exact and not self.exclude

    def matches(self, name: str, port: int | None = None) -> bool:
        """Whether NCCL would take this interface, or this port of this adapter."""
        found = not self.entries or any(
            (name == wanted if self.exact else name.startswith(wanted)) and (number in (None, -1, port) or port is None)
            for wanted, number in self.entries
        )
        return found != self.exclude
