# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a file or a tree into a manifest. What can't be read is a problem by name, never silently left out."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any, NamedTuple

from ..core.manifest import Entry, root_digest
from .folder_lock import LOCK_FILE

ALGORITHMS = ("sha256", "md5")
_CHUNK = 1 << 20


class TreeReading(NamedTuple):
    """What was found at a path. The digest is empty when something could not be read: half a digest proves nothing."""

    exists: bool
    digest: str
    files: int
    links: int
    size: int
    entries: list[Entry]
    problems: list[str]


def read_tree(path: str, *, algorithm: str = "sha256", follow: bool = False) -> TreeReading:
    """Digest the file or the tree at `path`, following `path` itself when it is a link.

    Links inside the tree count as their target's text; with `follow`, as what they point to.
    """
    reader = _Reader(algorithm, follow)
    exists = os.path.lexists(path)
    if exists:
        reader.read(os.fsencode(os.path.realpath(path)), b"", ())
    else:
        reader.problems.append(f"{path}: there is nothing")
    entries = sorted(reader.entries)
    return TreeReading(
        exists=exists,
        digest="" if reader.problems else root_digest(entries, algorithm),
        files=sum(entry.kind == "file" for entry in entries),
        links=sum(entry.kind == "link" for entry in entries),
        size=sum(entry.size for entry in entries),
        entries=entries,
        problems=sorted(reader.problems),
    )


def file_sha256(path: str) -> str:
    """SHA-256 of one file's content.

    Raises:
        OSError: it can't be read.
    """
    state = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            state.update(chunk)
    return state.hexdigest()


def readable(name: bytes) -> str:
    """A name as text; bytes that are no UTF-8 are spelled out, because JSON and terminals can't carry them."""
    return name.decode("utf-8", "backslashreplace")


class _Reader:
    def __init__(self, algorithm: str, follow: bool) -> None:
        self._algorithm = algorithm
        self._follow = follow
        self.entries: list[Entry] = []
        self.problems: list[str] = []

    def read(self, path: bytes, relative: bytes, above: tuple[tuple[int, int], ...]) -> None:
        try:
            status = os.stat(path) if self._follow else os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                self._folder(path, relative, above, status)
            elif stat.S_ISREG(status.st_mode):
                self._file(path, relative)
            elif stat.S_ISLNK(status.st_mode):
                target = os.readlink(path)
                self._add(relative, "link", len(target), self._hash(target))
            else:
                self.problems.append(f"{readable(path)}: neither file, folder nor link ({_kind(status.st_mode)})")
        except OSError as error:
            self.problems.append(f"{readable(path)}: {error.strerror or error}")

    def _folder(self, path: bytes, relative: bytes, above: tuple[tuple[int, int], ...], status: os.stat_result) -> None:
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            self.problems.append(f"{readable(path)}: a link leads back to a folder above it")
            return
        for name in sorted(set(os.listdir(path)) - {os.fsencode(LOCK_FILE)}):
            self.read(os.path.join(path, name), os.path.join(relative, name), (*above, identity))
        if os.stat(path).st_mtime_ns != status.st_mtime_ns:
            self.problems.append(f"{readable(path)}: its list of files changed while it was read")

    def _file(self, path: bytes, relative: bytes) -> None:
        # Non-blocking, so that a pipe that took the file's place meanwhile can't hold this up for ever.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as stream:
            before = os.fstat(stream.fileno())
            state: Any = hashlib.new(self._algorithm, usedforsecurity=False)
            while True:
                chunk = stream.read(_CHUNK)
                if not chunk:
                    break
                state.update(chunk)
            after = os.fstat(stream.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            self.problems.append(f"{readable(path)}: it changed while it was read")
        else:
            self._add(relative, "file", after.st_size, state.hexdigest())

    def _hash(self, content: bytes) -> str:
        return str(hashlib.new(self._algorithm, content, usedforsecurity=False).hexdigest())

    def _add(self, relative: bytes, kind: str, size: int, digest: str) -> None:
        self.entries.append(Entry(readable(relative), kind, size, digest))


def _kind(mode: int) -> str:
    kinds = {stat.S_IFSOCK: "socket", stat.S_IFIFO: "pipe", stat.S_IFBLK: "block device", stat.S_IFCHR: "device"}
    return kinds.get(stat.S_IFMT(mode), "unknown kind")
