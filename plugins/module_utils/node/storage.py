# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells by a marker whether two nodes see one folder: one node makes it, and the others look for it."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from typing import Any

_PREFIX = ".gpufleet-marker-"
_FORGOTTEN = 3600.0
"""Seconds after which a marker belongs to nobody: its proof was cut off."""


def make_marker(root: str) -> str:
    """Put a marker into the folder and give its name, which no client of a network file system can remember.

    Raises:
        OSError: it can't be written.
    """
    for name in os.listdir(root):
        with contextlib.suppress(OSError):
            path = os.path.join(root, name)
            if name.startswith(_PREFIX) and time.time() - os.stat(path).st_mtime > _FORGOTTEN:
                os.unlink(path)
    name = _PREFIX + secrets.token_hex(16)
    os.close(os.open(os.path.join(root, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    return name


def remove_marker(root: str, name: str) -> None:
    """Take a marker away again; nothing else can be meant by its name.

    Raises:
        OSError: it can't be removed.
    """
    if name.startswith(_PREFIX) and "/" not in name:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(root, name))


def look(root: str, name: str) -> dict[str, Any]:
    """What this machine sees of the folder: exists, seen (the marker), writable, owner and own uid, file_system."""
    for folder in (os.path.dirname(root), root):
        # Opening a folder has NFS ask its server anew, where it may still remember that something is missing.
        with contextlib.suppress(OSError):
            os.listdir(folder)
    try:
        owner = os.stat(root).st_uid
    except OSError:
        owner = None
    return {
        "root": root,
        "exists": owner is not None,
        "seen": os.path.exists(os.path.join(root, name)),
        "writable": os.access(root, os.W_OK | os.X_OK),
        "owner": owner,
        "uid": os.geteuid(),
        "file_system": _file_system(root),
    }


def _file_system(path: str) -> str:
    """Kind and source of what is mounted at the path or above it: `nfs4 server:/export`, say; empty where unknown."""
    path, best, found = os.path.realpath(path), "", ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return ""
    for line in lines:  # the last one that fits covers those before it; see proc_pid_mountinfo(5)
        left, _dash, right = line.partition(" - ")
        point = left.split()[4]
        above = point == "/" or path == point or path.startswith(f"{point}/")
        if above and len(point) >= len(best):
            best, found = point, " ".join(right.split()[:2])
    return found
