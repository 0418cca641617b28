# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A manifest lists what a file tree holds; one digest over it makes two trees on two hosts comparable."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .digest_algorithms import hash_function

_LOOKS_ESCAPED = re.compile(r"\\(?=x(?:[89a-f][0-9a-f]|5c))")


class ManifestError(ValueError):
    """What was given as a manifest is none; the message says why."""


class Entry(NamedTuple):
    """One thing in a tree."""

    path: str
    """Relative, as `path_text` writes it; "" for the tree itself when it is one file."""
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


def path_text(name: bytes) -> str:
    """A path as text that JSON and terminals can carry, another one for each path.

    Bytes that are no UTF-8 are spelled out (`\\xff`). So that no two paths look the same, the backslash of a name that
    has those four characters itself is spelled out too (`\\x5cxff`); all other names stay what they are.
    """
    try:
        text = name.decode()
    except UnicodeDecodeError:
        # Piece by piece: what is spelled out must not be taken for a name that looks so.
        pieces = re.split("([\udc80-\udcff])", name.decode("utf-8", "surrogateescape"))
        return "".join(
            f"\\x{ord(piece) - 0xDC00:02x}" if number % 2 else _LOOKS_ESCAPED.sub(r"\\x5c", piece)
            for number, piece in enumerate(pieces)
        )
    return _LOOKS_ESCAPED.sub(r"\\x5c", text) if "\\" in text else text


def one_line(text: str, most: int = 400) -> str:
    """A path as a message may hold it: control characters are spelled out, and of a long one the middle is left out."""
    if len(text) > most:
        text = f"{text[: most // 2]} ... {text[-most // 2 :]}"
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def parse_entries(items: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Entries as another reading has given them.

    Raises:
        ManifestError: one of them is no entry, or two are for the same path.
    """
    entries = []
    for item in items:
        try:
            entry = Entry(str(item["path"]), str(item["kind"]), int(item["size"]), str(item["digest"]))
        except (KeyError, TypeError, ValueError):
            raise ManifestError("each entry needs path, kind, size and digest, as tree_digest gives them") from None
        entries.append(entry)
    if len({entry.path for entry in entries}) != len(entries):
        raise ManifestError("two entries have the same path, which no tree has")
    return entries


def root_digest(entries: Iterable[Entry], algorithm: str = "sha256") -> str:
    """One digest for the whole tree, independent of the order in which it was read.

    A tree that is one file has the file's own digest, so that it can be checked against any other tool's.
    Entries are hashed as JSON: a name with a line break in it can't pass for two entries.

    Raises:
        AlgorithmMissing: this Python can't compute it.
    """
    ordered = sorted(entries)
    if len(ordered) == 1 and ordered[0].path == "":
        return ordered[0].digest
    state = hash_function(algorithm)()
    quote = json.JSONEncoder().encode  # a list at a time would take it four times as long
    for path, kind, size, digest in ordered:
        state.update(f"[{quote(path)},{quote(kind)},{size},{quote(digest)}]\n".encode())
    return str(state.hexdigest())


def compare(expected: Iterable[Entry], found: Iterable[Entry]) -> ManifestDifference:
    """Name what is missing, what is there on top, and what has other content."""
    wanted = {entry.path: entry for entry in expected}
    present = {entry.path: entry for entry in found}
    return ManifestDifference(
        missing=sorted(wanted.keys() - present.keys()),
        extra=sorted(present.keys() - wanted.keys()),
        different=sorted(path for path in wanted.keys() & present.keys() if wanted[path] != present[path]),
    )
