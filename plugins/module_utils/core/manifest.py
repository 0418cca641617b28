# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A manifest lists what a file tree holds; one digest over it makes two trees on two hosts comparable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import NamedTuple


class Entry(NamedTuple):
    """One thing in a tree: `path` is relative ("" for the tree itself when it is one file)."""

    path: str
    kind: str
    """`file`, or `link`, whose digest is the digest of its target's text."""
    size: int
    digest: str


class ManifestDifference(NamedTuple):
    """Paths by how they differ, each list sorted."""

    missing: list[str]
    extra: list[str]
    different: list[str]

    def __bool__(self) -> bool:
        return any(self)


def root_digest(entries: Iterable[Entry], algorithm: str = "sha256") -> str:
    """One digest for the whole tree, independent of the order in which it was read.

    A tree that is one file has the file's own digest, so that it can be checked against any other tool's.
    Entries are hashed as JSON: a name with a line break in it can't pass for two entries.
    """
    ordered = sorted(entries)
    if len(ordered) == 1 and ordered[0].path == "":
        return ordered[0].digest
    state = hashlib.new(algorithm, usedforsecurity=False)
    for entry in ordered:
        state.update(json.dumps(list(entry), separators=(",", ":")).encode() + b"\n")
    return state.hexdigest()


def compare(expected: Iterable[Entry], found: Iterable[Entry]) -> ManifestDifference:
    """Name what is missing, what is there on top, and what has other content."""
    wanted = {entry.path: entry for entry in expected}
    present = {entry.path: entry for entry in found}
    return ManifestDifference(
        missing=sorted(wanted.keys() - present.keys()),
        extra=sorted(present.keys() - wanted.keys()),
        different=sorted(path for path in wanted.keys() & present.keys() if wanted[path] != present[path]),
    )
