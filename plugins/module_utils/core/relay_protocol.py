# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said between a node that offers a file or a tree and one that fetches it. Pure.

Both know the list of files with their digests, from the controller; so a file is asked for by its place in that list,
and whatever comes is held against its digest. Each message is JSON on one line; a file's bytes follow the answer.

    server  {"nonce": ...}
    client  {"nonce": ..., "proof": ...}
    server  {"proof": ...}
    client  {"file": 3, "offset": 0}
    server  {"size": 1048576}  and that many bytes, or {"error": "..."}
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .manifest import Entry, ManifestError, parse_entries

MAX_MESSAGE = 4096
CHUNK = 1 << 20


class RelayError(Exception):
    """The other side is not who it should be, or does not give what it should."""


def read_entries(entries: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """The files of a tree, as `tree_digest` lists them.

    Raises:
        RelayError: an entry is no file, would lie outside the tree, or is there twice.
    """
    try:
        found = parse_entries(entries)
    except ManifestError as error:
        raise RelayError(str(error)) from None
    for entry in found:
        parts = entry.path.split("/")
        if entry.kind != "file" or entry.path.startswith("/") or ".." in parts or (entry.path and "" in parts):
            raise RelayError(f"{entry.path!r} can't be relayed: it is no file inside the tree")
    return found


def place(root: str, entry: Entry) -> str:
    """Where a file of the tree lies; the tree itself may be that file."""
    return os.path.join(root, entry.path) if entry.path else root


def message(fields: Mapping[str, Any]) -> bytes:
    """One message as it is sent."""
    return json.dumps(fields).encode() + b"\n"


def parse(line: bytes) -> dict[str, Any]:
    """Read one message.

    Raises:
        RelayError: it is none.
    """
    try:
        fields = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise RelayError("the connection was closed" if not line else "what answers there speaks something else")
    return fields


def word(fields: Mapping[str, Any], name: str) -> str:
    """A nonce or a proof as a stranger sent it.

    Raises:
        RelayError: it is none.
    """
    value = fields.get(name)
    if not isinstance(value, str) or not 16 <= len(value) <= 64 or not set(value) <= set("0123456789abcdef"):
        raise RelayError("what answers there speaks something else")
    return value


def requested(fields: Mapping[str, Any], entries: Sequence[Entry]) -> tuple[Entry, int]:
    """The file that is asked for, and from which byte on.

    Raises:
        RelayError: there is no such file, or it is not that long.
    """
    number, offset = fields.get("file"), fields.get("offset")
    if not isinstance(number, int) or not isinstance(offset, int) or not 0 <= number < len(entries):
        raise RelayError("no such file")
    if not 0 <= offset <= entries[number].size:
        raise RelayError("no such part of the file")
    return entries[number], offset
