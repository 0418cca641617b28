# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left to do on a node until it has the wanted InfiniBand stack, and what must not be done to it.

Names of packages are data of the role (vars/main): here they are taken as given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from . import doca_repository
from .doca_repository import PROFILE, DocaError
from .operating_system import OperatingSystem

INBOX, DOCA = "inbox", "doca"
Installed = Mapping[str, str]
"""Package to version; on RHEL and its rebuilds to epoch:version-release."""
Offered = Mapping[str, Sequence[str]]
"""Package to the versions that a repository has of it."""


def unknown_system(system: OperatingSystem, known: Iterable[str]) -> str:
    """The problem where the role has no package names for a system; empty where it has."""
    if system.family in known:
        return ""
    return (
        f"This node runs {system.name}, for which the packages are not known. "
        f"Known are the families {', '.join(sorted(known))}: set infiniband_provider to none, and install the stack "
        "yourself."
    )


def stack(ofed_info: str | None) -> dict[str, str | None]:
    """Which stack a node has: ``OFED-internal-25.01-0.6.0:`` is DOCA's, ``MLNX_OFED_LINUX-24.10-0.7.0.0:`` is not.

    Args:
        ofed_info: what `ofed_info -s` says, None where there is no such tool, which only NVIDIA's stacks bring.

    Returns:
        name (inbox, doca or mlnx_ofed) and version, None for inbox, whose drivers are the kernel's.
    """
    if ofed_info is None:
        return {"name": INBOX, "version": None}
    said = re.match(r"(MLNX_OFED_LINUX|OFED-internal)-([0-9][0-9A-Za-z.-]{0,40}?):?\s*$", ofed_info)
    if not said:
        return {"name": None, "version": None}
    return {"name": "mlnx_ofed" if said.group(1) == "MLNX_OFED_LINUX" else DOCA, "version": said.group(2)}


def matching(patterns: Iterable[str], installed: Iterable[str]) -> list[str]:
    """Installed packages whose names match one of the patterns (those of fnmatch)."""
    patterns = list(patterns)
    return sorted(name for name in installed if any(fnmatchcase(name, pattern) for pattern in patterns))


def other_stack(provider: str, names: Mapping[str, Sequence[str]], installed: Installed, offered: Offered) -> list[str]:
    """Packages of the stack that is not wanted.

    The two stacks share names (DOCA has an infiniband-diags too), so where DOCA is wanted, what its repository offers
    in that very version is its own. An installed DOCA of another version is upgraded by the package manager and is no
    other stack; what has no doca-ofed is MLNX_OFED, or the rest of something.

    Args:
        provider: inbox or doca.
        names: ``signs_of_inbox`` and ``signs_of_doca``: patterns of names by which each is known.
        installed: all packages of the node.
        offered: DOCA's repository; empty for inbox.
    """
    if provider == INBOX:
        return matching(names["signs_of_doca"], installed)
    if PROFILE in installed:
        return []
    suspects = matching([*names["signs_of_inbox"], *names["signs_of_doca"]], installed)
    return [name for name in suspects if installed[name] not in offered.get(name, ())]


def refusal(provider: str, found: Sequence[str], installed: Installed, steps: Sequence[str]) -> str:
    """What is said where the other stack is installed: two drivers for one adapter do not go together."""
    other = "DOCA-OFED or MLNX_OFED" if provider == INBOX else "the distribution's InfiniBand stack or MLNX_OFED"
    shown = ", ".join(f"{name} {installed[name]}" for name in found[:6]) + (" ..." if len(found) > 6 else "")
    return (
        f"infiniband_provider is {provider}, but {other} is installed on this node: {shown}. Nothing was changed. "
        "To take it out is for you to do, since it takes the fabric down: end the node's runs, then run as root: "
        f"{'; '.join(steps)}; reboot; and provision again. Or keep it, and correct infiniband_provider."
    )


def downgrade(version: str, installed: Installed, steps: Sequence[str]) -> str:
    """The problem where a newer DOCA is installed than is wanted; empty where not."""
    present = installed.get(PROFILE, "")
    if not present or doca_repository.same_version(version, present):
        return ""
    try:
        numbers = doca_repository.parse_version(present.rpartition(":")[2].partition("-")[0])
    except DocaError:
        numbers = (0, 0, 0)
    if numbers < doca_repository.parse_version(version):
        return ""
    return (
        f"infiniband_doca_version is {version}, but {PROFILE} {present} is installed, which is newer. Nothing was "
        f"changed. DOCA can't be downgraded in place: end the node's runs, then run as root: {'; '.join(steps)}; "
        "reboot; and provision again. Or set infiniband_doca_version to what is installed."
    )


def missing(wanted: Iterable[str], installed: Installed) -> list[str]:
    """Wanted packages that are not installed, in their order."""
    return [name for name in wanted if name not in installed]


def with_kernel(names: Iterable[str], kernel: str) -> list[str]:
    """Package names in which {kernel} stands for the release of the running kernel."""
    return [name.replace("{kernel}", kernel) for name in names]


def unheld(installed: Installed, offered: Offered, held: Iterable[str]) -> list[str]:
    """Installed packages that came from DOCA's repository and are not held yet."""
    kept = set(held)
    own = (name for name, version in installed.items() if version in offered.get(name, ()))
    return sorted(name for name in own if name not in kept)


def dkms_unbuilt(status: str, kernel: str) -> list[str]:
    """Modules of `dkms status` that are not installed for a kernel.

    A line is ``mlnx-ofed-kernel/25.10, 6.8.0-40-generic, x86_64: installed`` (dkms 3) or has a comma in the place of
    the slash (dkms 2); one that was only added has neither kernel nor architecture.
    """
    modules: dict[str, bool] = {}
    for line in status.splitlines():
        what, separator, state = line.rpartition(": ")
        if not separator:
            continue
        parts = [part.strip() for part in what.replace("/", ",", 1).split(",")]
        built = len(parts) > 2 and parts[2] == kernel and state.split()[0].startswith("installed")
        modules[parts[0]] = modules.get(parts[0], False) or built
    return sorted(name for name, built in modules.items() if not built)


def stale_drivers(loaded: Mapping[str, str], on_disk: Mapping[str, str]) -> list[str]:
    """Loaded modules whose source is another than that of the file which would be loaded now (srcversion)."""
    return sorted(name for name, source in loaded.items() if on_disk.get(name) not in (None, "", source))
