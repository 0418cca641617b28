# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a node's copy of the Axolotl config: whether it is the wanted one, and else what it is."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from ..core.masking import mask_document
from .file_digests import file_sha256

MOST_BYTES = 256 << 10
"""Of a config that differs; a real one has some kilobytes."""
MOST_FILES = 1000
"""That are looked at for a config that is not in its place."""


def read(path: str, wanted: str) -> dict[str, Any]:
    """Read the config at `path`.

    Args:
        path: where it should be.
        wanted: SHA-256 of its bytes as they should be; "" where that is not known.

    Returns:
        path, sha256 (None where there is none), size in bytes, error; content, its text with secrets masked, None
        where it is the wanted one or too large; and elsewhere, the path of a file beside it, or in a folder beside it,
        that is the wanted one, where it is missing.
    """
    found: dict[str, Any] = {"path": path, "sha256": None, "size": 0, "error": None, "content": None, "elsewhere": None}
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except OSError as error:
        return {**found, "error": error.strerror or str(error), "elsewhere": _elsewhere(path, wanted)}
    digest = hashlib.sha256(content).hexdigest()
    found.update(sha256=digest, size=len(content))
    if digest != wanted and len(content) <= MOST_BYTES:
        found["content"] = mask_document(content.decode("utf-8", "replace"))
    return found


def _elsewhere(path: str, wanted: str) -> str | None:
    """Where somebody may have put it by hand: under another name, or one folder up or down."""
    folder = os.path.dirname(path)
    looked_at = 0
    for place in (folder, os.path.dirname(folder), *_folders(folder)):
        for name in _names(place):
            looked_at += 1
            other = os.path.join(place, name)
            if looked_at > MOST_FILES:
                return None
            if name.endswith((".yml", ".yaml")) and _digest(other) == wanted:
                return other
    return None


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _folders(folder: str) -> list[str]:
    found = [os.path.join(folder, name) for name in _names(folder)]
    return [path for path in found if os.path.isdir(path) and not os.path.islink(path)]


def _digest(path: str) -> str | None:
    try:
        if os.path.isfile(path) and os.stat(path).st_size <= MOST_BYTES:
            return file_sha256(path)
    except OSError:
        pass
    return None
