# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which operating system a node has, from os-release(5)."""

from __future__ import annotations

import re
from typing import NamedTuple

DEBIAN, UBUNTU, REDHAT = "debian", "ubuntu", "redhat"

_FAMILY_OF = {
    "debian": DEBIAN,
    "ubuntu": UBUNTU,
    "rhel": REDHAT,
    "rocky": REDHAT,
    "almalinux": REDHAT,
    "centos": REDHAT,
    "ol": REDHAT,
}
"""ID of os-release to the family whose package names and tools it shares."""


class OperatingSystem(NamedTuple):
    """A node's operating system.

    Attributes:
        id: as os-release has it (``debian``, ``rocky`` ...).
        version: VERSION_ID (``12``, ``24.04``, ``9.4``), empty where there is none (Debian testing).
        family: debian, ubuntu or redhat; empty for one that is not known here.
    """

    id: str
    version: str
    family: str

    @property
    def major(self) -> str:
        """The part of the version that tells what goes together: all of Ubuntu's, else what stands before the dot."""
        return self.version if self.family == UBUNTU else self.version.partition(".")[0]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.id} {self.version}".strip() or "an unknown system"


def read_os_release(text: str) -> OperatingSystem:
    """Parse os-release: shell-like assignments, quoted or not; what can't be parsed is left out."""
    found = _assignments(text)
    identity = found.get("ID", "").lower()
    return OperatingSystem(identity, found.get("VERSION_ID", ""), _FAMILY_OF.get(identity, ""))


def pretty_name(text: str) -> str | None:
    """How os-release names the system for people (``Debian GNU/Linux 12 (bookworm)``); None where it does not."""
    return _assignments(text).get("PRETTY_NAME", "")[:120] or None


def _assignments(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r"""\s*([A-Z_]+)=(["']?)(.*?)\2\s*""", line)
        if match:
            found[match.group(1)] = match.group(3)
    return found
