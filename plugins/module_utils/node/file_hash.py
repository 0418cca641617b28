# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests one open file, and notices when it changes meanwhile."""

from __future__ import annotations

import os
import stat
import threading

from ..core.digest_algorithms import hash_function

CHUNK = 1 << 20
"""Bytes at a time. sha256 is as fast with 256 KiB; blake3 loses a tenth with it (measured)."""


class Unreadable(Exception):
    """Why something has no digest, where the kernel has no word for it."""


class FileHasher:
    """Makes digests of files, in any number of threads: each has a buffer of its own, and uses it again."""

    def __init__(self, algorithm: str) -> None:
        """Raise AlgorithmMissing where this Python can't compute it."""
        self.new_state = hash_function(algorithm)
        self._own = threading.local()

    def digest(self, handle: int, before: os.stat_result) -> str:
        """Digest what is open at `handle`, which was `before` when it was opened.

        Raises:
            OSError: it can't be read.
            Unreadable: it is no file, changed while it was read, or is not as long as its file system says.
        """
        if not stat.S_ISREG(before.st_mode):
            raise Unreadable(neither(before.st_mode))
        try:
            buffer = self._own.buffer
        except AttributeError:
            buffer = self._own.buffer = memoryview(bytearray(CHUNK))
        state = self.new_state()
        length = 0
        # hashlib and blake3 let other threads run while they hash, and the kernel does while it reads.
        while True:
            count = os.readv(handle, (buffer,))
            if not count:
                break
            state.update(buffer[:count])
            length += count
            if length == before.st_size:  # if it has grown meanwhile, its size shows that below
                break
        after = os.fstat(handle)
        # One name less: another file has taken its place.
        if (
            after.st_mtime_ns != before.st_mtime_ns
            or after.st_ctime_ns != before.st_ctime_ns
            or after.st_size != before.st_size
            or after.st_nlink != before.st_nlink
        ):
            raise Unreadable("it changed while it was read")
        if length != after.st_size:
            raise Unreadable(f"it should have {after.st_size} bytes, and {length} could be read")
        return str(state.hexdigest())


def neither(mode: int) -> str:
    """Say what it is instead of something that has a digest."""
    kinds = {stat.S_IFSOCK: "socket", stat.S_IFIFO: "pipe", stat.S_IFBLK: "block device", stat.S_IFCHR: "device"}
    return f"neither file, folder nor link ({kinds.get(stat.S_IFMT(mode), 'unknown kind')})"
