# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a file or a tree into a manifest. What can't be read is a problem by name, never silently left out."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, NamedTuple

from ..core.digest_record import Record, stamp_of
from ..core.manifest import Entry, one_line, path_text, root_digest
from .digest_cache import DigestCache
from .file_hash import CHUNK, FileHasher, Unreadable, neither
from .folder_lock import LOCK_FILE

LARGE = 128 << 10
"""Bytes from which on a file is worth a thread, and a line in the cache. Measured on two cores: two threads take 0.7
times as long as one for files of 128 KiB, 0.53 times for 1 MiB, but 1.1 times for 64 KiB and 2.5 times for 16 KiB."""
MAX_ENTRIES = 10_000_000
"""Links that are followed can make a small tree look endless. An entry takes about 0.3 KB of memory."""
MAX_PROBLEMS = 100
"""As many are named; of the others it is said how many they are."""
_MOST_WORKERS = 16
"""Sixteen cores hash about 20 GB/s, more than a node's storage gives."""
_MOST_WAITING = 256
_LOCK = os.fsencode(LOCK_FILE)


class TreeReading(NamedTuple):
    """What was found at a path. The digest is empty when something could not be read: half a digest proves nothing.

    `cached_files` and `cached_size` (bytes) say how much of it was not read, because its digest was known.
    """

    exists: bool
    digest: str
    files: int
    links: int
    size: int
    entries: list[Entry]
    problems: list[str]
    cached_files: int = 0
    cached_size: int = 0


def read_tree(
    path: str,
    *,
    algorithm: str = "sha256",
    follow: bool = False,
    cache: DigestCache | None = None,
    workers: int | None = None,
) -> TreeReading:
    """Digest the file or the tree at `path`, following `path` itself when it is a link.

    Links inside the tree count as their target's text; with `follow`, as what they point to. Large files are read by
    `workers` threads, by default by one for each processor that this process may use.

    Raises:
        AlgorithmMissing: this Python can't compute it.
    """
    reader = _Reader(algorithm, follow, cache, workers or _processors())
    exists = os.path.lexists(path)
    try:
        reader.read(os.fsencode(os.path.realpath(path)), os.stat(path))
    except (OSError, ValueError) as error:  # ValueError: a NUL, which no path has
        nothing = isinstance(error, FileNotFoundError) and not exists
        reader.problem(_bytes(path), "there is nothing" if nothing else error)
    if cache is not None:
        cache.save()
    entries = sorted(reader.entries, key=lambda entry: entry.path)
    links = sum(entry.kind == "link" for entry in entries)
    return TreeReading(
        exists=exists,
        digest="" if reader.problems else root_digest(entries, algorithm),
        files=len(entries) - links,
        links=links,
        size=sum(entry.size for entry in entries),
        entries=entries,
        problems=_bounded(sorted(reader.problems)),
        cached_files=reader.cached_files,
        cached_size=reader.cached_size,
    )


def file_sha256(path: str) -> str:
    """SHA-256 of one file's content.

    Raises:
        OSError: it can't be read.
    """
    state = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        for chunk in iter(lambda: stream.read(CHUNK), b""):
            state.update(chunk)
    return state.hexdigest()


class _Folder(NamedTuple):
    """A folder as it was before it was listed, and the one that it was found in."""

    path: bytes
    identity: tuple[int, int]
    mtime_ns: int
    above: _Folder | None


class _Hashed(NamedTuple):
    """What a thread made of one file."""

    path: bytes
    relative: str
    outcome: Record | OSError | Unreadable


class _Reader:
    """Walks the tree, digests small files as it comes to them, and has large ones digested by threads.

    The folders to come are in a list, since a tree may be deeper than Python may call itself. The paths are whole ones,
    so that what lies deeper than PATH_MAX (4,096 bytes on Linux) is a problem by the kernel's word.
    """

    def __init__(self, algorithm: str, follow: bool, cache: DigestCache | None, workers: int) -> None:
        self.entries: list[Entry] = []
        self.problems: list[str] = []
        self.cached_files = 0
        self.cached_size = 0
        self._algorithm = algorithm
        self._hasher = FileHasher(algorithm)
        self._follow = follow
        self._stat: Callable[[bytes], os.stat_result] = os.stat if follow else os.lstat
        # Non-blocking, so that a pipe that took the file's place meanwhile can't hold this up for ever.
        self._flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
        self._cache = cache
        self._pool = ThreadPoolExecutor(workers)  # has no thread before the first large file
        self._hashing: deque[Future[_Hashed]] = deque()
        self._folders: list[_Folder] = []

    def read(self, path: bytes, status: os.stat_result) -> None:
        """Read what is at a path, which is no link."""
        try:
            if stat.S_ISDIR(status.st_mode):
                self._walk(path)
            elif stat.S_ISREG(status.st_mode):
                self._attempt(path, self._file, path, "")
            else:
                self.problem(path, neither(status.st_mode))
            while self._hashing:
                self._collect()
        finally:
            self._pool.shutdown(cancel_futures=True)
        # After all files were read: each was still there, and none had come.
        for folder in self._folders:
            self._attempt(folder.path, self._look_again, folder)

    def problem(self, path: bytes, what: Exception | str) -> None:
        """Name what could not be read, and why."""
        reason = what.strerror or what if isinstance(what, OSError) else what
        self.problems.append(f"{one_line(path_text(path))}: {reason}")

    def _attempt(self, path: bytes, step: Callable[..., None], *arguments: Any) -> None:
        try:
            step(*arguments)
        except (OSError, Unreadable) as error:
            self.problem(path, error)

    def _walk(self, top: bytes) -> None:
        to_come: list[tuple[bytes, str, _Folder | None]] = [(top, "", None)]
        while to_come:
            path, prefix, above = to_come.pop()
            self._attempt(path, self._list, path, prefix, above, to_come)
            if len(self.entries) + len(self._folders) > MAX_ENTRIES:
                self.problem(top, f"it holds more than {MAX_ENTRIES:,} files, links and folders")
                return

    def _list(
        self, path: bytes, prefix: str, above: _Folder | None, to_come: list[tuple[bytes, str, _Folder | None]]
    ) -> None:
        status = self._stat(path)
        folder = _Folder(path, (status.st_dev, status.st_ino), status.st_mtime_ns, above)
        if self._follow and _is_in_itself(folder):
            raise Unreadable("a link leads back to a folder above it")
        self._folders.append(folder)
        with os.scandir(path) as listing:
            for item in listing:
                if item.name == _LOCK:
                    continue
                relative = prefix + path_text(item.name)
                try:
                    if item.is_file(follow_symlinks=self._follow):
                        self._file(item.path, relative)
                    elif item.is_dir(follow_symlinks=self._follow):
                        to_come.append((item.path, f"{relative}/", folder))
                    elif item.is_symlink() and not self._follow:
                        self._link(item.path, relative)
                    else:
                        raise Unreadable(neither(self._stat(item.path).st_mode))
                except (OSError, Unreadable) as error:
                    self.problem(item.path, error)

    def _look_again(self, folder: _Folder) -> None:
        status = self._stat(folder.path)
        if ((status.st_dev, status.st_ino), status.st_mtime_ns) != (folder.identity, folder.mtime_ns):
            raise Unreadable("its list of files changed while it was read")

    def _link(self, path: bytes, relative: str) -> None:
        target = os.readlink(path)
        state = self._hasher.new_state()
        state.update(target)
        self.entries.append(Entry(relative, "link", len(target), state.hexdigest()))

    def _file(self, path: bytes, relative: str) -> None:
        handle = os.open(path, self._flags)
        try:
            status = os.fstat(handle)
            if status.st_size < LARGE:
                self.entries.append(Entry(relative, "file", status.st_size, self._hasher.digest(handle, status)))
                return
        finally:
            os.close(handle)
        known = self._cache.find(self._algorithm, stamp_of(status)) if self._cache is not None else ""
        if known:
            self.entries.append(Entry(relative, "file", status.st_size, known))
            self.cached_files += 1
            self.cached_size += status.st_size
            return
        if len(self._hashing) >= _MOST_WAITING:
            self._collect()
        self._hashing.append(self._pool.submit(self._hash, path, relative))

    def _hash(self, path: bytes, relative: str) -> _Hashed:
        """Runs in a thread, and changes nothing of this object."""
        try:
            hashed_ns = time.time_ns()
            handle = os.open(path, self._flags)
            try:
                status = os.fstat(handle)
                digest = self._hasher.digest(handle, status)
            finally:
                os.close(handle)
        except (OSError, Unreadable) as error:
            return _Hashed(path, relative, error)
        return _Hashed(path, relative, Record(self._algorithm, stamp_of(status), hashed_ns, digest))

    def _collect(self) -> None:
        path, relative, outcome = self._hashing.popleft().result()
        if not isinstance(outcome, Record):
            self.problem(path, outcome)
            return
        self.entries.append(Entry(relative, "file", outcome.stamp.size, outcome.digest))
        if self._cache is not None:
            self._cache.add(outcome)


def _is_in_itself(folder: _Folder) -> bool:
    above = folder.above
    while above is not None and above.identity != folder.identity:
        above = above.above
    return above is not None


def _bytes(path: str) -> bytes:
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:  # no path at all
        return path.encode("utf-8", "backslashreplace")


def _bounded(problems: list[str]) -> list[str]:
    more = len(problems) - MAX_PROBLEMS
    return [*problems[:MAX_PROBLEMS], f"{more} more can't be read"] if more > 0 else problems


def _processors() -> int:
    """Processors that this process may use; a container or a batch system may have given it a few of all."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, as a controller
        allowed = os.cpu_count() or 1
    return min(allowed, _MOST_WORKERS)
