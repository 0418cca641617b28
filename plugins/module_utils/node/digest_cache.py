# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remembers digests of large files between two readings, in a folder that is the caller's own.

It saves time and nothing else: whatever is wrong with the store costs a reading of the file, and never a wrong digest.
"""

from __future__ import annotations

import os
import stat

from ..core.digest_record import MAX_BYTES, MAX_RECORDS, Record, Stamp, is_settled, parse, render
from .files import replace_file

STORE = "gpufleet-digests"
"""The file's name in the folder."""
_Key = tuple[str, int, int]


class DigestCache:
    """The digests that are kept in one folder. `note` says why the folder can't be trusted; else it is empty.

    Not for several threads at once. Of several processes, each with the folder as its own, the last one's records stay.
    """

    def __init__(self, folder: str, *, look_up: bool = True, write: bool = True) -> None:
        """Without `look_up` every file is read again, and its digest kept; without `write` nothing is kept."""
        self.note = ""
        self._folder = folder
        self._write = write
        self._added = False
        self._used: dict[_Key, Record] = {}
        self._known = self._load() if look_up else {}

    def find(self, algorithm: str, stamp: Stamp) -> str:
        """The digest of the file with this stamp, or nothing."""
        key = (algorithm, stamp.device, stamp.inode)
        record = self._known.get(key)
        if record is None or record.stamp != stamp:
            return ""
        self._used[key] = record
        return record.digest

    def add(self, record: Record) -> None:
        """Keep a digest, if the file's stamp proves anything."""
        if is_settled(record.stamp, record.hashed_ns):
            self._used[(record.algorithm, record.stamp.device, record.stamp.inode)] = record
            self._added = True

    def save(self) -> None:
        """Write what is new, in one step; what was used longest ago is dropped where it gets too much.

        A folder that can't be written to (read-only, full, somebody else's) is left as it is: the next reading takes
        longer, and that is all.
        """
        if not self._write or not self._added:
            return
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            records = self._load()  # once more: another process may have added to it
            if self.note:
                return
            for key, record in self._used.items():
                records.pop(key, None)
                records[key] = record
            kept = list(records.values())[-MAX_RECORDS:]
            replace_file(os.path.join(self._folder, STORE), render(kept), 0o600)
        except (OSError, ValueError):
            return
        self._added = False

    def _load(self) -> dict[_Key, Record]:
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        except (OSError, ValueError):
            return {}
        try:
            self.note = self._mistrust(self._folder, os.fstat(folder))
            content = b"" if self.note else self._content(folder)
        except OSError:  # there is none, or it is a link
            return {}
        finally:
            os.close(folder)
        return {(record.algorithm, record.stamp.device, record.stamp.inode): record for record in parse(content)}

    def _content(self, folder: int) -> bytes:
        store = os.open(STORE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        with open(store, "rb") as stream:
            status = os.fstat(store)
            self.note = self._mistrust(os.path.join(self._folder, STORE), status)
            if self.note or not stat.S_ISREG(status.st_mode):
                return b""
            return stream.read(MAX_BYTES + 1)

    @staticmethod
    def _mistrust(path: str, status: os.stat_result) -> str:
        """Whoever can write a store can hide a change of a file from those who believe it."""
        if status.st_uid != os.geteuid():
            return f"the digests in {path} are not used: it belongs to uid {status.st_uid}, and not to {os.geteuid()}"
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            mode = stat.S_IMODE(status.st_mode)
            return f"the digests in {path} are not used: others may write to it (mode {mode:04o})"
        return ""
