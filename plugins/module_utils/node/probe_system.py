# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel, the distribution and the C library below everything else."""

from __future__ import annotations

import os
from typing import Any

from ..core import operating_system


def read() -> dict[str, Any]:
    """What the node runs on.

    Returns:
        kernel (uname -r), os (PRETTY_NAME of os-release), glibc (its version, None with another C library),
        architecture (uname -m) and error.
    """
    system = os.uname()
    return {
        "kernel": system.release,
        "os": operating_system.pretty_name(os_release()),
        "glibc": _glibc(),
        "architecture": system.machine,
        "error": None,
    }


def os_release() -> str:
    """The text of os-release(5); empty where it can't be read."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                return stream.read(1 << 16)
        except OSError:
            continue
    return ""


def _glibc() -> str | None:
    try:
        words = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()  # "glibc 2.36"
    except (OSError, ValueError):
        return None
    return words[1] if len(words) == 2 else None
