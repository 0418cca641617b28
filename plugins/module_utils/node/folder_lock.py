# Copyright: gpufleet.axolotl contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets one process at a time work in a folder, also across the machines that share it.

The lock is on a file that says who holds it. Not on the folder itself: NFS locks only what is opened for writing, and
then for all its clients. The kernel lets go when the process or its machine ends, so nothing stale blocks.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator

LOCK_FILE = ".gpufleet.lock"
"""Stays only behind a process that was killed, and then locks nothing."""
_POLL = 0.2
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems without locks answer."""


class FolderBusy(Exception):
    """Another process has been at work there for all the time that one was ready to wait."""


@contextlib.contextmanager
def only_one_in(folder: str, timeout: float = 3600) -> Iterator[None]:
    """Wait until no other process is at work in the folder, which is made where it is missing.

    Where the file system has no locks, nobody waits.

    Raises:
        FolderBusy: it took longer than `timeout` seconds; the message says who is at work there, and where.
        OSError: the folder can't be made or written to.
    """
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, LOCK_FILE)
    handle = _acquire(path, folder, time.monotonic() + timeout)
    try:
        yield
    finally:
        # While it is still held: who waits for this file sees that it is gone, and makes a new one.
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(handle)


def _acquire(path: str, folder: str, deadline: float) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if _locked(handle) and _is_there(handle, path):
                _sign(handle)
                return handle
            owner = os.pread(handle, 500, 0).decode("utf-8", "replace").strip()
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if time.monotonic() > deadline:
            raise FolderBusy(f"another process is still at work in {folder} ({owner or 'unknown'}): wait for its end")
        time.sleep(_POLL)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _is_there(handle: int, path: str) -> bool:
    """Whether the locked file is still the folder's: who held it before may have removed it meanwhile."""
    try:
        mine, found = os.fstat(handle), os.stat(path)
    except OSError:  # FileNotFoundError, or ESTALE on NFS
        return False
    return mine.st_nlink > 0 and os.path.samestat(mine, found)


def _sign(handle: int) -> None:
    """Say who holds it; at once, so that the others' machines see it too."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{socket.gethostname()}, pid {os.getpid()}, since {since}\n".encode(), 0)
    os.fsync(handle)
