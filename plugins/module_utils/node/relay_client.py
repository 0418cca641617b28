# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches a file or tree from another node. Each file appears in its place only when it is whole and has its digest."""

from __future__ import annotations

import glob
import hashlib
import hmac
import os
import secrets
import socket
from collections.abc import Sequence
from typing import Any

from ..core.manifest import Entry
from ..core.mutual_proof import proof
from ..core.relay_protocol import CHUNK, MAX_MESSAGE, RelayError, message, parse, place, word
from .file_digests import file_sha256

STALL_TIMEOUT = 120.0
"""Seconds without a byte of progress after which a source is given up."""


def lacking(path: str, entries: Sequence[Entry], *, read: bool) -> list[int]:
    """Places in the list of the files that are missing or differ: in size, and where they are to be read in content."""
    found = []
    for number, entry in enumerate(entries):
        name = place(path, entry)
        try:
            same = os.path.isfile(name) and os.stat(name).st_size == entry.size
            if not same or (read and file_sha256(name) != entry.digest):
                found.append(number)
        except OSError:
            found.append(number)
    return found


def bytes_to_come(path: str, entries: Sequence[Entry], missing: Sequence[int]) -> int:
    """How much room the missing files take beyond what has come already."""
    return sum(entries[number].size - _arrived(part_of(path, entries[number])) for number in missing)


class Source:
    """An authenticated connection to a node that offers the tree."""

    def __init__(self, address: str, port: int, key: str, timeout: float = 10.0) -> None:
        """Dial and prove.

        Raises:
            RelayError, OSError: nobody answers, or not the one who should.
        """
        self._connection = socket.create_connection((address, port), timeout)
        self._reader = self._connection.makefile("rb")
        try:
            self._prove(key)
        except BaseException:
            self.close()
            raise
        self._connection.settimeout(STALL_TIMEOUT)

    def close(self) -> None:
        self._reader.close()
        self._connection.close()

    def fetch(self, path: str, entries: Sequence[Entry], number: int) -> int:
        """Fetch one file into its place, going on where an earlier attempt was cut off; give the bytes that came.

        Raises:
            RelayError: the source has not got it, or not as it should be.
            OSError: the connection broke, or the file can't be written.
        """
        entry = entries[number]
        partial = part_of(path, entry)
        os.makedirs(os.path.dirname(partial), exist_ok=True)
        state = hashlib.sha256()
        with open(partial, "a+b") as stream:
            offset = _resume(stream, state, entry.size)
            self._connection.sendall(message({"file": number, "offset": offset}))
            answer = parse(self._reader.readline(MAX_MESSAGE))
            if answer.get("size") != entry.size - offset:
                raise RelayError(str(answer.get("error", "the source offers something else"))[:300])
            self._copy(entry.size - offset, stream, state)
            stream.flush()
            os.fsync(stream.fileno())
        settle(path, entry, state.hexdigest())
        return entry.size - offset

    def _copy(self, size: int, stream: Any, state: Any) -> None:
        while size:
            chunk = self._reader.read(min(size, CHUNK))
            if not chunk:
                raise RelayError("the source hung up")
            stream.write(chunk)
            state.update(chunk)
            size -= len(chunk)

    def _prove(self, key: str) -> None:
        theirs = word(parse(self._reader.readline(MAX_MESSAGE)), "nonce")
        nonce = secrets.token_hex(16)
        shown = proof(key, "client", "relay", theirs, nonce)
        self._connection.sendall(message({"nonce": nonce, "proof": shown}))
        answer = word(parse(self._reader.readline(MAX_MESSAGE)), "proof")
        if not hmac.compare_digest(proof(key, "server", "relay", theirs, nonce), answer):
            raise RelayError("what answers there does not know the key")


def part_of(path: str, entry: Entry) -> str:
    """Where a file grows: beside its place, under a name that holds what it is to become."""
    folder, name = os.path.split(place(path, entry))
    return os.path.join(folder, f".{name}.{entry.digest[:12]}.part")


def settle(path: str, entry: Entry, digest: str) -> None:
    """Put a part that has become the whole file in its place.

    Raises:
        RelayError: its `digest` is not the one that it should have; it is removed.
        OSError: it can't take its place.
    """
    part = part_of(path, entry)
    if digest != entry.digest:
        os.unlink(part)
        raise RelayError(f"{entry.path or os.path.basename(path)} came with another digest than the controller's")
    os.chmod(part, 0o644)
    os.replace(part, place(path, entry))
    _remove_older_parts(path, entry)


def _arrived(partial: str) -> int:
    try:
        return os.stat(partial).st_size
    except OSError:
        return 0


def _resume(stream: Any, state: Any, size: int) -> int:
    """Hash what has come already; begin anew where that can't be a part of the file."""
    stream.seek(0, os.SEEK_END)
    if stream.tell() > size:
        stream.truncate(0)
    stream.seek(0)
    for chunk in iter(lambda: stream.read(CHUNK), b""):
        state.update(chunk)
    return int(stream.tell())


def _remove_older_parts(path: str, entry: Entry) -> None:
    """What was left of another content of this file would count as a file too many."""
    folder, name = os.path.split(place(path, entry))
    pattern = os.path.join(glob.escape(folder), f".{glob.escape(name)}.{'[0-9a-f]' * 12}.part")
    for leftover in glob.glob(pattern):
        os.unlink(leftover)
