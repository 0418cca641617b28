# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much room there is where something is to be written, and how to say that it is too little."""

from __future__ import annotations

import os

GIB = 1 << 30


def free_bytes(path: str) -> int:
    """Bytes that this account may still write at `path`, which need not exist yet.

    Raises:
        OSError: its file system can't be asked.
    """
    status = os.statvfs(existing_folder(path))
    return status.f_bavail * status.f_frsize


def existing_folder(path: str) -> str:
    """The path, or the nearest folder above it that exists."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def too_small(path: str, needed: int, free: int, what: str) -> str:
    """Say that a disk is too small, with what to do."""
    return (
        f"the disk is too small for {path}: {what} takes {needed / GIB:.2f} GiB, free are {free / GIB:.2f} GiB. "
        "Make room there (old releases under axolotl_root are yours to remove), or set axolotl_root to a larger disk"
    )
