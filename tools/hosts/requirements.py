# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bed needs of this machine, and the one line that says what is missing."""

from __future__ import annotations

import os
import shutil

from .lab import is_needed

# Program to the Debian package that brings it.
EVERYWHERE = {"ssh": "openssh-client", "ssh-keygen": "openssh-client", "ip": "iproute2"}
IN_A_LAB = {
    "podman": "podman",
    "runc": "runc",
    "/usr/lib/podman/netavark": "netavark",
    "nft": "nftables",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "sysctl": "procps",
}


def missing_packages() -> list[str]:
    """Debian packages without which this machine can't have a bed."""
    needed = {**EVERYWHERE, **(IN_A_LAB if is_needed() else {})}
    packages = {package for program, package in needed.items() if not shutil.which(program)}
    if not is_needed() and not (shutil.which("podman") or shutil.which("docker")):
        packages.add("podman")
    return sorted(packages)


def missing() -> str:
    """What stands in the way of a bed on this machine, with the command that helps; empty when nothing does."""
    packages = missing_packages()
    if packages:
        return f"test hosts need more packages: sudo apt-get install --no-install-recommends {' '.join(packages)}"
    if os.geteuid() != 0 and (is_needed() or not shutil.which("docker")):
        return (
            "test hosts need root, since their addresses must be reachable from here: run this with sudo. "
            "The other tests need none: .venv/bin/pytest tests/unit tests/integration"
        )
    return ""


if __name__ == "__main__":  # for what runs before there is a virtual environment
    print(*missing_packages())
