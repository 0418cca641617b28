# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where NVIDIA keeps DOCA-OFED for an operating system, and which of what is there is the wanted version.

The layout is ``<base>/<version>/<system>/<architecture>/``. Up to 3.1 there was a folder for each minor release of RHEL
and of Debian, with drivers built for its kernels; from 3.2 on there is one per major release, and DKMS builds the
drivers on the node (NVIDIA's DOCA-Host Installation and DKMS Management Guide).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .operating_system import DEBIAN, REDHAT, UBUNTU, OperatingSystem

PROFILE = "doca-ofed"
"""The package that stands for the whole: drivers, libraries and tools, without the rest of DOCA."""

OLDEST = (2, 9)
"""The long-term release before 3; what is older has other profiles."""
DKMS_SINCE = (3, 2)

_ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64-sbsa"}
_SERVED = {
    DEBIAN: {"12": (2, 9), "13": (3, 2)},
    UBUNTU: {"22.04": (2, 9), "24.04": (2, 9), "26.04": (3, 4)},
    REDHAT: {"8": (2, 9), "9": (2, 9), "10": (3, 2)},
}
"""Major release to the first version of DOCA that has a folder for it."""
_REBUILDS_OF_RHEL = {"rhel", "rocky", "almalinux"}
"""They have RHEL's kernels. CentOS Stream runs ahead of it and Oracle Linux has a kernel of its own."""
_DEBIAN_12_BEFORE_DKMS = "debian12.5"


class DocaError(ValueError):
    """There is no DOCA-OFED for what is asked; the message says what there is."""


def parse_version(version: str) -> tuple[int, int, int]:
    """The three numbers of a version such as 3.2.1.

    Raises:
        DocaError: it is none, or older than OLDEST.
    """
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version)
    if not match:
        raise DocaError("an exact version of DOCA, such as 3.2.1")
    numbers = (int(match.group(1)), int(match.group(2)), int(match.group(3)))
    if numbers < OLDEST:
        raise DocaError(f"a version of DOCA from {OLDEST[0]}.{OLDEST[1]}.0 on")
    return numbers


def uses_dkms(version: str, system: OperatingSystem) -> bool:
    """Whether the drivers are built on the node: always on Debian and Ubuntu, on RHEL from 3.2 on."""
    return system.family != REDHAT or parse_version(version) >= DKMS_SINCE


def url(base: str, version: str, system: OperatingSystem, machine: str) -> str:
    """The repository for one operating system and one architecture (as uname has it).

    Raises:
        DocaError: NVIDIA has none; the message says for what it has.
    """
    numbers = parse_version(version)
    first = _SERVED.get(system.family, {}).get(system.major)
    foreign = system.family == REDHAT and system.id not in _REBUILDS_OF_RHEL
    if first is None or foreign or numbers < first:
        raise DocaError(f"DOCA {version} has no repository for {system.name}; it has for {_served(numbers)}")
    if machine not in _ARCHITECTURES:
        raise DocaError(f"DOCA has no repository for {machine}; it has for {', '.join(_ARCHITECTURES)}")
    return f"{base.rstrip('/')}/{version}/{_folder(numbers, system)}/{_ARCHITECTURES[machine]}/"


def _folder(numbers: tuple[int, int, int], system: OperatingSystem) -> str:
    if system.family == UBUNTU:
        return f"ubuntu{system.version}"
    if system.family == DEBIAN:
        return f"debian{system.major}" if numbers >= DKMS_SINCE else _DEBIAN_12_BEFORE_DKMS
    return f"rhel{system.major if numbers >= DKMS_SINCE else system.version}"


def _served(numbers: tuple[int, int, int]) -> str:
    names = {DEBIAN: "Debian", UBUNTU: "Ubuntu", REDHAT: "RHEL, Rocky and AlmaLinux"}
    return "; ".join(
        f"{names[family]} {', '.join(release for release, first in releases.items() if numbers >= first)}"
        for family, releases in _SERVED.items()
    )


def matching(version: str, offered: Iterable[str]) -> str:
    """The offered package version that is the wanted DOCA: the same, or with the packager's revision behind a dash.

    Raises:
        DocaError: none is, or several are.
    """
    there = sorted(set(offered))
    found = [candidate for candidate in there if same_version(version, candidate)]
    if len(found) == 1:
        return found[0]
    how_often = "more than once" if found else "not"
    raise DocaError(f"{PROFILE} {version} is {how_often} in the repository; it has {', '.join(there) or 'none'}")


def same_version(version: str, package_version: str) -> bool:
    """Whether 1:3.2.1-0.1.8 is 3.2.1: an epoch ends at a colon, a revision begins at a dash, in deb and rpm alike."""
    return package_version.rpartition(":")[2].partition("-")[0] == version
