# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock: the exact set of packages of a release, and how an installed set differs from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

_HEADER = "# inputs: "
_PINNED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*==\s*(?P<version>[^\s;\\]+)")
_DIRECT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*@\s*(?P<url>[^\s;\\]+)")


class LockFileError(ValueError):
    """A line that pins nothing; the message names it."""


class LockDifference(NamedTuple):
    """How an installed set of packages differs from the lock."""

    missing: dict[str, str]
    extra: dict[str, str]
    different: dict[str, tuple[str, str]]
    """Per package: (version in the lock, version installed)."""

    def __bool__(self) -> bool:
        return any(self)


def normalise_name(name: str) -> str:
    """A project's name as packaging compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def header(inputs: Mapping[str, Any]) -> str:
    """Says what the lock was compiled from, without paths or commands: they would change its digest for no reason."""
    return (
        "# The exact packages of one Axolotl release, for every node. Delete the file to compile it anew.\n"
        f"{_HEADER}{json.dumps(inputs, sort_keys=True)}\n"
    )


def inputs_of(text: str) -> dict[str, Any] | None:
    """Read back what a lock was compiled from; None for a lock that was written by other means."""
    for line in text.splitlines()[:5]:
        if line.startswith(_HEADER):
            try:
                inputs = json.loads(line[len(_HEADER) :])
            except ValueError:
                return None
            return inputs if isinstance(inputs, dict) else None
    return None


def parse_lock(text: str) -> dict[str, str]:
    """Give the version of every locked package by normalised name; a direct reference (`name @ URL`) has its URL."""
    versions: dict[str, str] = {}
    for line in text.replace("\\\n", " ").splitlines():
        requirement = re.sub(r"(^|\s)#.*", "", line).strip()
        if not requirement or requirement.startswith("-"):
            continue
        pinned = _PINNED.match(requirement)
        direct = _DIRECT.match(requirement)
        if pinned:
            versions[normalise_name(pinned["name"])] = pinned["version"]
        elif direct:
            versions[normalise_name(direct["name"])] = direct["url"]
        else:
            raise LockFileError(f"the lock has a line that pins no exact version: {requirement[:120]!r}")
    return versions


def compare_installed(locked: Mapping[str, str], installed: Mapping[str, str]) -> LockDifference:
    """Compare a lock with what is installed; of a direct reference only the presence can be compared."""
    different = {
        name: (version, installed[name])
        for name, version in sorted(locked.items())
        if name in installed and "://" not in version and installed[name] != version
    }
    return LockDifference(
        missing={name: version for name, version in sorted(locked.items()) if name not in installed},
        extra={name: version for name, version in sorted(installed.items()) if name not in locked},
        different=different,
    )
