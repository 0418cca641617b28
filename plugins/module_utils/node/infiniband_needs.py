# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a node still needs for the wanted InfiniBand stack; what is decided from it is in core."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Union

from ..core import doca_repository, infiniband_state
from ..core.doca_repository import PROFILE, DocaError
from ..core.infiniband_state import DOCA
from ..core.operating_system import REDHAT, OperatingSystem
from . import infiniband_stack
from .packages import Dpkg, RepositoryError, Rpm

PackageManager = Union[Dpkg, Rpm]


class Obstacle(Exception):
    """Something stands in the way; the message says what, and how to remove it."""


class Wanted(NamedTuple):
    """What the fleet's settings ask for.

    Attributes:
        provider: inbox or doca.
        names: the role's data for this node's family of systems.
        modules: kernel modules that are to be loaded.
        version: of DOCA.
        base: URL under which DOCA's versions lie.
        key: of DOCA's repository, armored.
        source: the files in which the package manager keeps address and key of that repository.
    """

    provider: str
    names: Mapping[str, Sequence[str]]
    modules: Sequence[str]
    version: str
    base: str
    key: str
    source: Sequence[str]


def needs(wanted: Wanted, system: OperatingSystem) -> dict[str, Any]:
    """What is left to install, hold and build.

    Returns:
        prepare, headers, install, hold, build and repository, as the module infiniband_info documents them.

    Raises:
        Obstacle: nothing may be done.
    """
    manager = Rpm() if system.family == REDHAT else Dpkg()
    installed = manager.installed()
    if wanted.provider == DOCA:
        return _doca(wanted, system, manager, installed)
    _refuse_other_stack(wanted, installed, {})
    return {
        "prepare": [],
        "headers": [],
        "install": _missing(_inbox_packages(wanted), manager, installed),
        "hold": {},
        "build": [],
        "repository": {"url": "", "configured": False},
    }


def _inbox_packages(wanted: Wanted) -> list[str]:
    """Kernels for clouds leave drivers to a package of their own; in a container the kernel is not ours to complete."""
    kernel = infiniband_stack.kernel()
    packages = list(wanted.names["inbox"])
    if not kernel.is_guest and infiniband_stack.not_in_kernel(wanted.modules, kernel.release):
        packages += infiniband_state.with_kernel(wanted.names["more_modules"], kernel.release)
    return packages


def _doca(
    wanted: Wanted, system: OperatingSystem, manager: PackageManager, installed: Mapping[str, str]
) -> dict[str, Any]:
    kernel = infiniband_stack.kernel()
    url = _url(wanted, system)
    newer = infiniband_state.downgrade(wanted.version, installed, wanted.names["uninstall_doca"])
    if newer:
        raise Obstacle(newer)
    configured = _is_configured(wanted, url)
    held = manager.held()
    present = installed.get(PROFILE, "")
    offered: dict[str, list[str]] = {}
    install: list[str] = []
    # A node that has all of it does not ask again, so that it needs no network.
    if not (configured and PROFILE in held and doca_repository.same_version(wanted.version, present)):
        offered = _ask(wanted, manager, url)
        profile = _chosen(wanted, offered)
        if present != profile:
            install = [f"{PROFILE}{'-' if system.family == REDHAT else '='}{profile}"]
    _refuse_other_stack(wanted, installed, offered)
    headers: list[str] = []
    if doca_repository.uses_dkms(wanted.version, system) and not infiniband_stack.has_headers(kernel.release):
        headers = infiniband_state.with_kernel(wanted.names["headers"], kernel.release)
    unheld = infiniband_state.unheld(installed, offered, held) if present and not install else []
    if unheld and isinstance(manager, Rpm):
        unheld = infiniband_state.unheld(installed, offered, [])  # its list is written as a whole
    return {
        "prepare": _missing(wanted.names["doca_needs"], manager, installed),
        "headers": _missing(headers, manager, installed),
        "install": install,
        "hold": {name: installed[name] for name in unheld},
        "build": _unbuilt(wanted, kernel.release) if present else [],
        "repository": {"url": url, "configured": configured},
    }


def _missing(packages: Sequence[str], manager: PackageManager, installed: Mapping[str, str]) -> list[str]:
    missing = infiniband_state.missing(packages, installed)
    return [name for name in missing if not (isinstance(manager, Rpm) and manager.provides(name))]


def _url(wanted: Wanted, system: OperatingSystem) -> str:
    try:
        return doca_repository.url(wanted.base, wanted.version, system, os.uname().machine)
    except DocaError as error:
        raise Obstacle(
            f"{error}. Set infiniband_doca_version to one that serves it, or infiniband_provider to inbox."
        ) from None


def _is_configured(wanted: Wanted, url: str) -> bool:
    """Whether the package manager already knows the repository with this address and this key."""
    lines: set[str] = set()
    for path in wanted.source:
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                lines.update(line.strip() for line in stream)
        except OSError:
            return False
    key = {line.strip() for line in wanted.key.splitlines() if line.strip()}
    return key <= lines and any(line.endswith(url) for line in lines)


def _ask(wanted: Wanted, manager: PackageManager, url: str) -> dict[str, list[str]]:
    """What the repository has, once it has proven to be signed with the key."""
    try:
        if isinstance(manager, Rpm):
            return manager.offered(url, wanted.key, PROFILE)
        return manager.offered(url, wanted.key)
    except RepositoryError as error:
        raise Obstacle(
            f"The repository {url} can't be used with the key of infiniband_doca_key; nothing was changed. Check that "
            "infiniband_doca_version and infiniband_doca_repository lead there (NVIDIA does not publish every version "
            f"for every system), that this node reaches it, and that the key is the repository's. It was said: {error}"
        ) from None


def _chosen(wanted: Wanted, offered: Mapping[str, Sequence[str]]) -> str:
    try:
        return doca_repository.matching(wanted.version, offered.get(PROFILE, ()))
    except DocaError as error:
        raise Obstacle(f"{error}. Nothing was changed: correct infiniband_doca_version.") from None


def _refuse_other_stack(wanted: Wanted, installed: Mapping[str, str], offered: Mapping[str, Sequence[str]]) -> None:
    found = infiniband_state.other_stack(wanted.provider, wanted.names, installed, offered)
    if found:
        steps = wanted.names["uninstall_inbox" if wanted.provider == DOCA else "uninstall_doca"]
        raise Obstacle(infiniband_state.refusal(wanted.provider, found, installed, steps))


def _unbuilt(wanted: Wanted, release: str) -> list[str]:
    """DOCA's own modules among those that DKMS has not built for this kernel."""
    unbuilt = infiniband_state.dkms_unbuilt(infiniband_stack.dkms_status(), release)
    return [name for name in unbuilt if name in wanted.names["dkms"]]
